"""
The browser page: the files of `static/`, which the server reads once when it starts.

Requests are answered from a table of these files, without access to the file system. There are no directory listings.
Dotfiles and symbolic links are not in the table.
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
"""Maximum size of a file, in bytes: all files are kept in memory."""

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


def static_directory() -> Path:
    """Return the path of `static/`: inside the installed package, or next to the package in a source checkout."""
    package = Path(str(files("wsserver")))
    inside = package / "static"
    return inside if inside.is_dir() else package.parent / "static"


def send(request: Request, body: bytes) -> bytes:
    """
    Send a body, or only its Content-Length in response to HEAD.

    Twisted also drops the body of a response to HEAD, but then logs the request with its query, which may contain a
    token.

    Args:
        request: a GET or HEAD request, or any request that is refused.
        body: the body of the response.

    Returns:
        The value for `render` to return.
    """
    if request.method != b"HEAD":
        return body
    request.setHeader(b"content-length", b"%d" % len(body))
    return b""


class StaticFile(Resource):
    """
    A resource that serves a file from memory, with an ETag that is a strong validator (RFC 9110 section 8.8.3).

    Args:
        data: the file's content.
        content_type: the value of the Content-Type header.
    """

    isLeaf = True

    def __init__(self, data: bytes, content_type: str) -> None:
        super().__init__()
        self._data = data
        self._type = content_type.encode("ascii")
        self._etag = b'"' + hashlib.sha256(data).hexdigest()[:32].encode("ascii") + b'"'

    def render_GET(self, request: Request) -> bytes | int:
        """Send the file, or 304 if the browser already has it."""
        request.setHeader(b"content-type", self._type)
        request.setHeader(b"cache-control", b"no-cache")
        request.setHeader(b"etag", self._etag)
        if self._is_known(request):
            request.setResponseCode(http.NOT_MODIFIED)
            # If this method returned an empty body, Twisted would send `Content-Length: 0`, which is not the file's
            # size.
            request.finish()
            return NOT_DONE_YET
        return send(request, self._data)

    def _is_known(self, request: Request) -> bool:
        # RFC 9110 section 13.1.2: a list or *, with weak comparison. Twisted's setETag only compares one strong tag.
        known = b",".join(request.requestHeaders.getRawHeaders(b"if-none-match", []))
        return known.strip() == b"*" or self._etag in re.findall(rb'"[^"]*"', known)


def read_directory(directory: Path) -> dict[bytes, StaticFile]:
    """
    Read the files directly inside a directory.

    Args:
        directory: the directory. Symbolic links, dotfiles, subdirectories and other non-regular files are skipped.

    Returns:
        Name in the URL -> file. `index.html` is also listed under the empty name, which is the directory's own URL.

    Raises:
        OSError: the directory or a file cannot be read.
        ValueError: a file has more than `MAX_FILE` bytes.
    """
    table = {}
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        if (size := path.stat().st_size) > MAX_FILE:
            raise ValueError(f"{path} has {size} bytes: expected at most {MAX_FILE}")
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
