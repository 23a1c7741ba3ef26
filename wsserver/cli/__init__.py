"""The `wsserver` command."""
