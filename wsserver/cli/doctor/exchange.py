"""HTTP for `wsserver doctor`: one request on a new connection, and its answer, bounded in size and time."""

import io
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse, IncompleteRead, parse_headers
from typing import Any

from wsserver.cli.doctor.stream import ANSWER_TIMEOUT, ConnectionEnded, Dialer, Stream
from wsserver.cli.urls import Target
from wsserver.wire.http11 import MAX_HEAD

__all__ = ["USER_AGENT", "NotHTTP", "Response", "decode_chunks", "get", "parse_json", "read_head", "request_head"]

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36"
"""That of a browser, because some proxies refuse others."""

MAX_BODY = 256 * 1024
"""Maximum number of bytes read of a body."""


class NotHTTP(OSError):
    """
    The answer is not HTTP.

    Args:
        data: its first bytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(f"the answer is not HTTP: {data[:40]!r}")
        self.data = data


@dataclass(frozen=True)
class Response:
    """An answer. The body of a successful handshake is empty: what follows is in the stream's buffer."""

    status: int
    phrase: str
    headers: Message
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return the value of a header; empty if it is missing."""
        return str(self.headers.get(name, "")).strip()

    @property
    def text(self) -> str:
        """The body if it is plain text, in one line, without the status that our refusals begin with."""
        if not self.header("Content-Type").startswith("text/plain"):
            return ""
        text = " ".join(self.body[:2000].decode("utf-8", "replace").split())
        return text.removeprefix(f"{self.status} {self.phrase}").strip()

    @property
    def is_page(self) -> bool:
        """Whether the body is an HTML page."""
        return self.header("Content-Type").startswith("text/html")


def request_head(target: Target, path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request with the headers that a browser sends."""
    fields = {"Host": target.host_header, "User-Agent": USER_AGENT, "Accept-Language": "en-US,en;q=0.9"} | headers
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def read_head(stream: Stream, deadline: float) -> Response:
    """
    Read a status line and headers.

    Raises:
        NotHTTP: the bytes are something else.
        OSError: the connection has ended, or the head is not there in time.
    """
    while (end := stream.buffer.find(b"\r\n\r\n")) < 0:
        if len(stream.buffer) > MAX_HEAD or (stream.buffer and not b"HTTP/1.".startswith(stream.buffer[:7])):
            raise NotHTTP(bytes(stream.buffer))
        stream.receive(deadline)
    line, _, fields = stream.take(end + 4).partition(b"\r\n")
    match = re.fullmatch(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: (.*))?", line)
    if match is None:
        raise NotHTTP(line)
    try:
        headers = parse_headers(io.BytesIO(fields))
    except HTTPException:
        raise NotHTTP(line) from None
    return Response(int(match[1]), (match[2] or b"").decode("latin-1"), headers)


def read_body(stream: Stream, response: Response, deadline: float) -> Response:
    """Return the response with its body, as far as it arrives in time."""
    length = response.header("Content-Length")
    wanted = min(int(length), MAX_BODY) if re.fullmatch("[0-9]{1,9}", length) else MAX_BODY
    with suppress(TimeoutError, ConnectionEnded):
        while len(stream.buffer) < wanted and not stream.buffer.endswith(b"0\r\n\r\n"):
            stream.receive(deadline)
    body = stream.take(wanted)
    if "chunked" in response.header("Transfer-Encoding").lower():
        body = decode_chunks(body)
    return Response(response.status, response.phrase, response.headers, body)


def decode_chunks(body: bytes) -> bytes:
    """Decode a chunked body, as far as it has arrived."""
    parser = HTTPResponse(_File(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))  # type: ignore[arg-type]
    try:
        parser.begin()
        return parser.read()
    except IncompleteRead as error:
        return error.partial
    # OverflowError: the size of a chunk is more than a computer can have.
    except (HTTPException, ValueError, OverflowError):
        return body


def parse_json(data: bytes) -> Any:
    """
    Parse JSON that a server has sent.

    Raises:
        OSError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(data)
    except ValueError:
        raise OSError(f"the answer is not JSON: {data[:40]!r}") from None
    except RecursionError:
        raise OSError("the answer is JSON that is nested too deeply") from None


class _File:
    """What `HTTPResponse` reads: the part of a socket that it uses."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        """Return the data as a file."""
        return io.BytesIO(self._data)


def get(dialer: Dialer, path: str, headers: dict[str, str]) -> Response:
    """
    Make a GET request on a new connection.

    Raises:
        OSError: no connection, or no answer that is HTTP.
    """
    stream = dialer.dial()
    deadline = time.monotonic() + ANSWER_TIMEOUT
    try:
        stream.send(request_head(dialer.target, path, {"Accept": "*/*", "Connection": "close"} | headers))
        return read_body(stream, read_head(stream, deadline), deadline)
    finally:
        stream.close()
