"""A WebSocket server based on Twisted and Autobahn|Python: `wsserver serve` or `twistd -n wsserver`."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("wsserver")
