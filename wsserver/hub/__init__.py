"""Channels: subscriptions, delivery of publications, history, recovery of missed publications, and presence."""
