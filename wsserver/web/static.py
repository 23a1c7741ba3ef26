"""
The browser page: the files of `static/`, which the server reads once when it starts.

Requests are answered from a table of these files, without access to the file system. There are no directory listings.
Dotfiles and symbolic links are not in the table.

A file is sent in gzip format if the client accepts that. It is compressed once. Files contain no secrets and nothing of
the request, so their compressed size tells an eavesdropper nothing.
"""

import gzip
import hashlib
import mimetypes
import re
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = ["StaticFile", "read_directory", "send", "static_directory"]

MAX_FILE = 4 * 1024 * 1024
"""Maximum size of a file, in bytes: all files are kept in memory."""

_CODING = re.compile(rb"([^,;]+)(?:;q=([0-9.]*))?[^,]*")
"""A member of Accept-Encoding: the content coding, and its weight, which is empty if it is missing."""

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


class _Form(NamedTuple):
    """A form of a file: its content, compressed or not, with an ETag of its own (RFC 9110 section 8.8.3)."""

    body: bytes
    etag: bytes
    coding: bytes = b""
    """The value of Content-Encoding; empty if the body is not compressed."""


class StaticFile(Resource):
    """
    A resource that serves a file from memory, compressed for clients that accept gzip, with a strong ETag.

    Args:
        data: the file's content.
        content_type: the value of the Content-Type header.
    """

    isLeaf = True

    def __init__(self, data: bytes, content_type: str) -> None:
        super().__init__()
        self._type = content_type.encode("ascii")
        self._plain = _Form(data, _make_etag(data))

    @cached_property
    def _compressed(self) -> _Form | None:
        """The compressed form; None if it is not smaller. The files of the page take less than a millisecond each."""
        body = gzip.compress(self._plain.body, mtime=0)
        return _Form(body, _make_etag(body), b"gzip") if len(body) < len(self._plain.body) else None

    def render_GET(self, request: Request) -> bytes | int:
        """Send the file, or 304 if the browser already has it."""
        form = self._choose_form(request)
        request.setHeader(b"content-type", self._type)
        request.setHeader(b"cache-control", b"no-cache")
        request.setHeader(b"etag", form.etag)
        if _is_known(form.etag, request):
            request.setResponseCode(http.NOT_MODIFIED)
            # If this method returned an empty body, Twisted would send `Content-Length: 0`, which is not the file's
            # size.
            request.finish()
            return NOT_DONE_YET
        if form.coding:
            request.setHeader(b"content-encoding", form.coding)
        return send(request, form.body)

    def _choose_form(self, request: Request) -> _Form:
        if self._compressed is None:
            return self._plain
        # `PageRequest` may have named Origin.
        request.responseHeaders.addRawHeader(b"vary", b"Accept-Encoding")
        return self._compressed if _accepts_gzip(request) else self._plain


def _make_etag(body: bytes) -> bytes:
    return b'"' + hashlib.sha256(body).hexdigest()[:32].encode("ascii") + b'"'


def _is_known(etag: bytes, request: Request) -> bool:
    # RFC 9110 section 13.1.2: a list or *, with weak comparison. Twisted's setETag only compares one strong tag.
    known = b",".join(request.requestHeaders.getRawHeaders(b"if-none-match", []))
    return known.strip() == b"*" or etag in re.findall(rb'"[^"]*"', known)


def _accepts_gzip(request: Request) -> bool:
    """Return whether Accept-Encoding names gzip, or else `*`, with a weight above 0 (RFC 9110 section 12.5.3)."""
    accepted = b",".join(request.requestHeaders.getRawHeaders(b"accept-encoding", []))
    # Spaces may only stand around commas, semicolons and equals signs; "x-gzip" is an alias.
    weights: dict[bytes, bytes] = dict(_CODING.findall(accepted.lower().translate(None, b" \t")))
    weight = next((weights[name] for name in (b"gzip", b"x-gzip", b"*") if name in weights), b"0")
    return re.fullmatch(rb"0\.?0*", weight) is None


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
