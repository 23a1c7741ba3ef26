"""Channels: subscriptions, delivery of publications, history, recovery and presence."""
