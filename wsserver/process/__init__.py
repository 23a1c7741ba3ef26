"""The process: signals, the pid file, memory."""
