"""Options: the table, the parsers of their values, and the sources they are read from."""
