"""
The browser page: the files of `static/`, read once at the start.

What is served is a table of names made from the files that were there. So no request ever touches the file system:
nothing is listed, no dotfile, no link and no path out of the directory has a name in the table (THREATS T26).
"""

import hashlib
import mimetypes
import re
from importlib.resources import files
from pathlib import Path

from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = ["StaticFile", "read_directory", "send", "static_directory"]

MAX_FILE = 4 * 1024 * 1024
"""Most bytes of a file: all of them are held in memory."""

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


def static_directory() -> Path:
    """Find `static/`: inside the installed package, or beside it where the package is used from its checkout."""
    package = Path(str(files("wsserver")))
    inside = package / "static"
    return inside if inside.is_dir() else package.parent / "static"


def send(request: Request, body: bytes) -> bytes:
    """
    Give a body to a GET request, and what is known about it to a HEAD request.

    Twisted would drop the body of an answer to HEAD too, but logs the request with its query as it does.

    Args:
        request: GET or HEAD, or one that is refused.
        body: of the response.

    Returns:
        What `render` is to return.
    """
    if request.method != b"HEAD":
        return body
    request.setHeader(b"content-length", b"%d" % len(body))
    return b""


class StaticFile(Resource):
    """
    A file's bytes, with a strong validator (RFC 9110 section 8.8.3).

    Args:
        data: the file's content.
        content_type: for the Content-Type header.
    """

    isLeaf = True

    def __init__(self, data: bytes, content_type: str) -> None:
        super().__init__()
        self._data = data
        self._type = content_type.encode("ascii")
        self._etag = b'"' + hashlib.sha256(data).hexdigest()[:32].encode("ascii") + b'"'

    def render_GET(self, request: Request) -> bytes | int:
        """Send the file, or 304 where the browser has it."""
        request.setHeader(b"content-type", self._type)
        request.setHeader(b"cache-control", b"no-cache")
        request.setHeader(b"etag", self._etag)
        if self._is_known(request):
            request.setResponseCode(http.NOT_MODIFIED)
            # Returned as a body, an empty one would be announced by a Content-Length of 0, which is not the file's.
            request.finish()
            return NOT_DONE_YET
        return send(request, self._data)

    def _is_known(self, request: Request) -> bool:
        # RFC 9110 section 13.1.2: a list, or *; compared weakly. Twisted's setETag knows one strong tag only.
        known = b",".join(request.requestHeaders.getRawHeaders(b"if-none-match", []))
        return known.strip() == b"*" or self._etag in re.findall(rb'"[^"]*"', known)


def read_directory(directory: Path) -> dict[bytes, StaticFile]:
    """
    Read the files directly inside a directory.

    Args:
        directory: what to read. Links, dotfiles, subdirectories and whatever is no regular file are left out.

    Returns:
        The name each file has in a URL -> the file. `index.html` has the name of the directory too: the empty one.

    Raises:
        OSError: the directory or a file cannot be read.
        ValueError: a file is over 4 MiB.
    """
    table = {}
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"{path} is over {MAX_FILE} bytes")
        kind, encoding = mimetypes.guess_type(path.name)
        if encoding is not None:
            kind = f"application/{encoding}"
        kind = _TYPES.get(path.suffix) or kind or "application/octet-stream"
        if kind.startswith("text/") or kind.endswith("+xml"):
            kind += "; charset=utf-8"
        table[path.name.encode("utf-8")] = StaticFile(path.read_bytes(), kind)
    if b"index.html" in table:
        table[b""] = table[b"index.html"]
    return table
