"""Tokens: read, check and verify JSON Web Tokens, and fetch the keys for it."""
