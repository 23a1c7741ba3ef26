"""A WebSocket server on Twisted and Autobahn|Python: `twistd -n wsserver`."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("wsserver")
