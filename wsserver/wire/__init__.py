"""Bytes to messages and back: sockets, HTTP heads and RFC 6455; nothing of the application."""
