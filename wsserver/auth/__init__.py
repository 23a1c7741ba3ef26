"""JSON Web Tokens: verify them, read what they permit, and fetch the keys that verify them."""
