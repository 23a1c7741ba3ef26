"""The connections of a test server, as a test sees them."""

import json
import os
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload

__all__ = ["Connection", "Connections", "Headers", "WaitError"]

MAX_EVENTS = 100_000
"""Maximum number of events of a connection that are kept."""

MAX_PAYLOADS = 256 * 1024**2
"""Maximum size in bytes of the payloads of a connection that are kept."""

TEXT, CLOSE = 1, 8
NO_STATUS, ABNORMAL = 1005, 1006


class WaitError(AssertionError):
    """Something that a test has waited for has not happened in time."""


class Headers(Mapping[str, str]):
    """The headers of a request or a response; their names are compared without regard to case."""

    def __init__(self, pairs: Sequence[Sequence[str]]) -> None:
        self.pairs = [(name, value) for name, value in pairs]
        """The names and the values, in order."""
        self._values: dict[str, str] = {}
        for name, value in self.pairs:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


class Server(Protocol):
    """The part of a `TestServer` that its connections use."""

    def sync(self) -> None:
        """Wait until everything is known that the server has done so far."""

    def wait(self, condition: Callable[[], object], what: Callable[[], str], timeout: float) -> None:
        """Wait until a condition is true."""

    def call(self, do: str, **arguments: Any) -> Any:
        """Send a request to the server, and wait for the result."""


class Connection:
    """
    A WebSocket handshake of the client, and the connection that follows.

    Args:
        server: the server.
        opened: the description of the request.
    """

    def __init__(self, server: Server, opened: Mapping[str, Any]) -> None:
        self._server = server
        self._number: int = opened["number"]
        self.id: str = opened["id"]
        """The ID of the connection, which its client gets in the header `WSServer-Connection-Id`."""
        self.path: str = opened["path"]
        """The path of the request, percent-decoded, without the query."""
        self.query: Mapping[str, list[str]] = opened["query"]
        """The parameters of the query: name -> values."""
        self.headers = Headers(opened["headers"])
        """The headers of the request."""
        self._status: int | None = None
        self._response = Headers(())
        self._events: list[Mapping[str, Any]] = []
        self._parts: dict[str, tuple[int, bytes]] = {}
        self._messages: dict[str, list[str | bytes]] = {"in": [], "out": []}
        self._codes: dict[str, tuple[int, str]] = {}
        self._end: Mapping[str, Any] | None = None
        self._size = 0
        """Size of the payloads in bytes."""
        self._has_too_many = False

    # What the client did.

    @property
    def status(self) -> int | None:
        """The status of the response to the handshake: 101 if it was accepted; None before the response."""
        self._server.sync()
        return self._status

    @property
    def response_headers(self) -> Headers:
        """The headers of the response."""
        self._server.sync()
        return self._response

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server has chosen."""
        return self.response_headers.get("sec-websocket-protocol")

    @property
    def messages(self) -> list[str | bytes]:
        """The messages that the client has sent."""
        return self._list("in")

    @property
    def sent(self) -> list[str | bytes]:
        """The messages that the server has sent."""
        return self._list("out")

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """All frames and other events, in both directions: those of a tap."""
        self._server.sync()
        self._check()
        return list(self._events)

    @property
    def is_open(self) -> bool:
        """Whether the TCP connection is open."""
        self._server.sync()
        return self._end is None

    @property
    def close_code(self) -> int | None:
        """
        The code of the client's Close frame.

        1005 for a frame without a code, 1006 if the connection ended without such a frame, and None before.
        """
        return self._code("in")

    @property
    def close_reason(self) -> str:
        """The reason of the client's Close frame; empty without one."""
        self._server.sync()
        return self._codes.get("in", (0, ""))[1]

    @property
    def server_close_code(self) -> int | None:
        """The code of the server's Close frame; otherwise as `close_code`."""
        return self._code("out")

    @property
    def closed_by(self) -> str:
        """Which side sent the first Close frame: `client`, `server`, or empty."""
        self._server.sync()
        return {"in": "client", "out": "server"}.get(next(iter(self._codes), ""), "")

    def _code(self, direction: str) -> int | None:
        self._server.sync()
        if direction in self._codes:
            return self._codes[direction][0]
        return None if self._end is None else ABNORMAL

    def _list(self, direction: str) -> list[str | bytes]:
        self._server.sync()
        self._check()
        return list(self._messages[direction])

    def _check(self) -> None:
        if self._has_too_many:
            limit = f"{MAX_EVENTS} frames or {MAX_PAYLOADS} bytes"
            raise RuntimeError(f"the connection has had over {limit}, which is too much to keep")

    # Waiting.

    def wait_for_messages(self, count: int = 1, timeout: float = 5.0) -> list[str | bytes]:
        """
        Wait until the client has sent a number of messages.

        Args:
            count: the number.
            timeout: maximum number of seconds.

        Returns:
            All messages of the client.

        Raises:
            WaitError: the client has sent fewer.
        """
        __tracebackhide__ = True
        self._server.wait(lambda: len(self._messages["in"]) >= count, lambda: f"{count} messages on {self}", timeout)
        return self.messages

    def wait_for_close(self, timeout: float = 5.0) -> int | None:
        """
        Wait until the connection has ended.

        Args:
            timeout: maximum number of seconds.

        Returns:
            `close_code`.

        Raises:
            WaitError: the connection is still open.
        """
        __tracebackhide__ = True
        self._server.wait(lambda: self._end is not None, lambda: f"the end of {self}", timeout)
        return self.close_code

    # What the server does.

    def send(self, message: str | bytes) -> None:
        """Send a message to the client, in addition to what the path sends."""
        binary = isinstance(message, bytes)
        payload = message.hex() if isinstance(message, bytes) else message
        self._server.call("send", number=self._number, binary=binary, payload=payload)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping to the client."""
        self._server.call("ping", number=self._number, payload=payload.hex())

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a Close frame to the client."""
        self._server.call("close", number=self._number, code=code, reason=reason)

    def drop(self) -> None:
        """Reset the TCP connection, without a Close frame."""
        self._server.call("drop", number=self._number)

    # Recording.

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Save the connection as a recording, which `TestServer.replay` and `wsserver replay` read.

        Args:
            path: the file to write.
        """
        Path(path).write_text("".join(json.dumps(event) + "\n" for event in self.events), "utf-8")

    # Called by the server.

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event of the tap."""
        kind, direction = event["type"], event.get("direction", "")
        if kind == "end":
            self._end = event
        elif kind == "handshake" and direction == "out":
            self._status, self._response = int(event["line"].split(" ")[1]), Headers(event["headers"])
        elif kind == "frame" and event["message"] is not None:
            self._add_frame(direction, event)
        elif kind == "frame" and event["opcode"] == CLOSE:
            code = event["code"] if event["code"] is not None else NO_STATUS
            self._codes.setdefault(direction, (code, event["reason"]))
        self._size += event.get("length") or 0
        self._has_too_many |= len(self._events) >= MAX_EVENTS or self._size > MAX_PAYLOADS
        if not self._has_too_many:
            self._events.append(event)

    def _add_frame(self, direction: str, event: Mapping[str, Any]) -> None:
        opcode, payload = self._parts.pop(direction, (event["opcode"], b""))
        payload += b64decode(event["payload"])
        if not event["fin"]:
            self._parts[direction] = opcode, payload
        elif not self._has_too_many:
            message = payload.decode("utf-8", "replace") if opcode == TEXT else payload
            self._messages[direction].append(message)

    def __repr__(self) -> str:
        state = "open" if self._end is None else f"ended, close code {self._codes.get('in', (ABNORMAL,))[0]}"
        if self._status not in (None, 101):
            state = f"refused with {self._status}"
        received, sent = len(self._messages["in"]), len(self._messages["out"])
        return f"<connection {self.id} to {self.path}: {state}; {received} messages received, {sent} sent>"


class Connections(Sequence[Connection]):
    """The connections of a server since the beginning of the test, in the order of their handshakes."""

    def __init__(self, found: Sequence[Connection]) -> None:
        self._found = list(found)

    @overload
    def __getitem__(self, index: int) -> Connection: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Connection]: ...

    def __getitem__(self, index: int | slice) -> Connection | Sequence[Connection]:
        """Return a connection."""
        __tracebackhide__ = True
        try:
            return self._found[index]
        except IndexError:
            hint = "wsserver.wait_for_connection() waits for one"
            raise IndexError(f"connections[{index}]: there have been {len(self)} connections; {hint}") from None

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return repr(self._found)
