"""Conformance cases: what a WebSocket client does in situations of RFC 6455 and RFC 7692, and whether it may."""
