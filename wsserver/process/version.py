"""The version, and which of the optional fast parts this installation uses."""

from wsserver import __version__
from wsserver.wire import deflate, frames

__all__ = ["show_version"]


def show_version() -> str:
    """Return the version, whether the frame codec is compiled, and which libraries compress and inflate."""
    codec = "compiled" if frames.COMPILED else "Python"
    libraries = "/".join(dict.fromkeys([deflate.DEFLATER.name, deflate.INFLATER.name]))
    return f"wsserver {__version__} (frames: {codec}, deflate: {libraries})"
