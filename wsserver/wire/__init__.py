"""Convert bytes to messages and back: sockets, TLS, HTTP request heads and WebSocket frames; no application logic."""
