"""Hooks: ask a backend over HTTP what a client may do."""
