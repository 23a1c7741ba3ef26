"""Listening ports: TCP, TLS, UNIX sockets and the PROXY protocol."""
