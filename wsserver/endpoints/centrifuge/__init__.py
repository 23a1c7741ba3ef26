"""The Centrifuge client protocol."""
