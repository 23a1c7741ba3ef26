"""Configuration: the option table, the parsers for option values, and the loader for flags, environment and file."""
