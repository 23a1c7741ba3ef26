"""Channels: what is published to them, and who gets it."""
