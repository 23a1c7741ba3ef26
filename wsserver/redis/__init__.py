"""The Redis broker: carries publications between server processes, and stores histories and presence, in Redis."""
