"""Clients of both servers: over a WebSocket, and over `http_stream`. Both answer the server's pings."""

import json
import re
from collections.abc import Callable
from typing import Any

from canonical import close
from protobuf_form import decode, encode

from wsserver.testing import build_frame, parse_frames

__all__ = ["BINARY", "TEXT", "StreamClient", "WebSocketClient", "request"]

TEXT, BINARY, CLOSE = 1, 2, 8
SESSION = re.compile(r'"session":"([^"]+)","node":"([^"]+)"')
DISCONNECT = re.compile(r'\{"push":\{"disconnect":(\{.*\})\}\}')


class _Client:
    """What both kinds of clients share: the lines that were received, and the end."""

    def __init__(self) -> None:
        self.closed = False
        self.mute = False
        """Whether the client leaves the server's pings unanswered."""
        self._lines: list[str] = []

    def send(self, text: str, opcode: int | None = None) -> None:
        """Send commands."""
        raise NotImplementedError

    def pump(self) -> None:
        """Read what the server has sent."""
        raise NotImplementedError

    def drop(self) -> None:
        """Drop the connection."""
        raise NotImplementedError

    def _add(self, line: str) -> None:
        if line == "{}" and not self.mute:
            self.send("{}")
        elif line not in ("", "{}"):
            self._lines.append(line)

    def _end(self, how: str) -> None:
        if not self.closed:
            self.closed = True
            self._lines.append(how)

    def receive(self) -> list[str]:
        """Return the replies, pushes and the close since the last call."""
        self.pump()
        lines, self._lines = self._lines, []
        return lines


class WebSocketClient(_Client):
    """
    An open connection of a client.

    Args:
        peer: the connection, after the opening handshake.
        rest: bytes that were received after the response.
        protobuf: whether the client speaks Protobuf. Its replies are returned as JSON.
    """

    def __init__(self, peer: Any, rest: bytes, *, protobuf: bool) -> None:
        super().__init__()
        self.peer = peer
        self._protobuf = protobuf
        self._rest = rest

    def send(self, text: str, opcode: int | None = None) -> None:
        """Send commands, in a text or binary frame; None for the one that the form uses."""
        data = encode(text) if self._protobuf else text.encode("utf-8")
        usual = BINARY if self._protobuf else TEXT
        self.peer.send(build_frame(usual if opcode is None else opcode, data))

    def pump(self) -> None:
        """Read the frames that the server has sent."""
        frames, self._rest = parse_frames(self._rest + self.peer.read())
        for frame in frames:
            if frame.opcode == CLOSE:
                self._end(close(frame.payload))
                self.peer.send(build_frame(CLOSE, frame.payload[:2]))
            elif frame.opcode in (TEXT, BINARY):
                for line in self._lines_of(frame.payload):
                    self._add(line)
        if self.peer.ended:
            self._end("END")

    def _lines_of(self, payload: bytes) -> list[str]:
        return decode(payload) if self._protobuf else payload.decode("utf-8", "backslashreplace").split("\n")

    def drop(self) -> None:
        """Drop the connection."""
        self.peer.drop()


class StreamClient(_Client):
    """
    A client over `http_stream`: an endless response, and a request for each further frame.

    Args:
        connect: opens a connection to the server.
        text: the first frame.
    """

    def __init__(self, connect: Callable[[], Any], text: str) -> None:
        super().__init__()
        self._connect = connect
        self._session: tuple[str, str] | None = None
        self._stream = connect()
        head, self._chunks = request(self._stream, "/connection/http_stream", text.encode("utf-8"))
        self._text = ""
        status = int(head.split(b" ")[1])
        if status != 200:
            self._end(f"HTTP {status}")

    def send(self, text: str, opcode: int | None = None) -> None:
        """Send commands in a request; they are lost without a session."""
        self.pump()
        if self._session is not None:
            session, node = self._session
            body = json.dumps({"session": session, "node": node, "data": text}, ensure_ascii=False)
            request(self._connect(), "/emulation", body.encode("utf-8"), "Connection: close")

    def pump(self) -> None:
        """Read the lines of the response."""
        self._chunks += self._stream.read()
        while (found := re.match(rb"([0-9a-fA-F]+)\r\n", self._chunks)) is not None:
            start, size = found.end(), int(found[1], 16)
            if len(self._chunks) < start + size + 2:
                break
            self._text += self._chunks[start : start + size].decode("utf-8", "backslashreplace")
            self._chunks = self._chunks[start + size + 2 :]
        *lines, self._text = self._text.split("\n")
        for line in lines:
            if found := SESSION.search(line):
                self._session = found[1], found[2]
            if found := DISCONNECT.fullmatch(line):
                fields = json.loads(found[1])
                self._end(close(fields["code"].to_bytes(2, "big") + fields["reason"].encode("utf-8")))
            else:
                self._add(line)
        if self._stream.ended:
            self._end("END")

    def drop(self) -> None:
        """Drop the connection of the response."""
        self._stream.drop()


def request(peer: Any, target: str, body: bytes, *headers: str) -> tuple[bytes, bytes]:
    """Send a POST request; return the head of the response, and what has been received of its content."""
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}", "", ""]
    peer.send("\r\n".join(lines).encode() + body)
    head, _, content = peer.read(response=True).partition(b"\r\n\r\n")
    return head, content
