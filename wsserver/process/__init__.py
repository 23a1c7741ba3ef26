"""The server process: signals, pid file and memory allocation."""
