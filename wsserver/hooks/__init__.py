"""Hooks: HTTP requests that ask the application's backend what a client may do."""
