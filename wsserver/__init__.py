"""A WebSocket server based on Twisted and Autobahn|Python: `wsserver serve` or `twistd -n wsserver`."""

__all__ = ["__version__"]

# Not read from the installed metadata: importing `importlib.metadata` takes a tenth of the time to start.
__version__ = "0.1.0"
