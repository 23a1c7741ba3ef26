"""
WebSocket client for `wsserver subscribe`: connects to a raw subscription of a running server.

This module imports Autobahn's client, `wsserver.wire.autobahn` imports its server; no other module imports Autobahn.
"""

import os
import re
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectingRequest
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure

from wsserver.cli.urls import ServerURL
from wsserver.closecodes import CloseCode
from wsserver.wire.frames import is_utf8
from wsserver.wire.http11 import MAX_HEAD

__all__ = ["ClientListener", "Connection", "connect"]

CONNECT_TIMEOUT = 10.0
"""Seconds allowed for the TCP connection, and again for the opening handshake."""

CLOSE_TIMEOUT = 2.0
"""Seconds allowed for the closing handshake."""

MAX_MESSAGE = 512 * 1024 * 1024
"""Maximum size of a message in bytes: the largest value that Redis accepts (512 MB)."""

_PING_INTERVAL, _PING_TIMEOUT = 25.0, 10.0

_MAX_REASON = 4096
"""Maximum number of bytes read from the body of a response that refuses the handshake."""


class Connection(Protocol):
    """The part of an open connection that a `ClientListener` uses."""

    def sendClose(self, code: int) -> None:
        """Start a closing handshake; the connection ends within `CLOSE_TIMEOUT` seconds."""


class ClientListener(Protocol):
    """Receives the events of a connection. The last event is exactly one of `refused`, `lost` and `closed`."""

    def opened(self, connection: "Connection") -> None:
        """Called when the opening handshake is complete."""

    def on_message(self, payload: bytes) -> None:
        """Called for each message received."""

    def refused(self, status: int, reason: str) -> None:
        """Called when the server refuses the handshake, with its HTTP status and the reason it gives."""

    def lost(self, reason: str) -> None:
        """Called when connecting fails, or the connection ends without a closing handshake."""

    def closed(self, code: int, reason: str) -> None:
        """Called when the connection ends with a closing handshake, whichever side started it."""


class _Listener(WebSocketClientProtocol):  # type: ignore[misc]
    """One connection to the server; it passes its events to the factory's `ClientListener`."""

    factory: "_Factory"

    _refusal: tuple[int, str] | None = None
    _why = ""
    """Why the connection failed, if Autobahn does not report the reason."""

    def onConnecting(self, _: object) -> ConnectingRequest:
        """Return the opening handshake to send. Autobahn's default would write an IPv6 address without its brackets."""
        factory = self.factory
        return ConnectingRequest(
            host=factory.target.host_header,
            port=factory.target.port,
            resource=factory.resource,
            headers=factory.headers,
        )

    def processHandshake(self) -> Any:
        """Parse the response to the handshake, unless its head is too large or not UTF-8."""
        head, end, _ = self.data.partition(b"\r\n\r\n")
        # Autobahn buffers a head of any size, and raises on a head that is not UTF-8.
        if len(head) > MAX_HEAD or (end and not is_utf8(head)):
            return super().failHandshake("the response is not valid HTTP")
        return super().processHandshake()

    def failHandshake(self, reason: str) -> None:
        """Wait for the body of the refusal, which contains the server's reason, before failing."""
        head, _, body = self.data.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 ([1-5][0-9]{2}) *([^\r\n]*)", head)
        if status is None or status[1] == b"101":
            super().failHandshake(reason)
            return
        detail = b""
        if re.search(rb"\r\ncontent-type: *text/plain", head, re.IGNORECASE):
            detail = body[:_MAX_REASON].strip()
        self._refusal = int(status[1]), (detail or status[2]).decode("utf-8", "replace")
        length = re.search(rb"\r\ncontent-length: *([0-9]{1,9})", head, re.IGNORECASE)
        # Without a Content-Length the body ends with the connection. Until then, Autobahn calls this on each read.
        if len(body) >= min(int(length[1]) if length else _MAX_REASON, _MAX_REASON):
            super().failHandshake(reason)

    def onOpen(self) -> None:
        """Call `opened`."""
        self.factory.listener.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Call `on_message`."""
        self.factory.listener.on_message(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Call `refused`, `closed` or `lost`, depending on how the connection ended."""
        listener = self.factory.listener
        if self._refusal is not None:
            listener.refused(*self._refusal)
        elif wasClean:
            # RFC 6455 section 7.1.5: a Close frame without a code counts as 1005.
            listener.closed(code or CloseCode.NO_STATUS_RECEIVED, reason or "")
        else:
            listener.lost(self._why or reason or "the connection was lost")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Record why the connection ended if Autobahn does not report it, as for an untrusted certificate."""
        if self.state == self.STATE_CONNECTING:
            done = reason.check(ConnectionDone)
            self._why = (
                "the server closed the connection before it answered the handshake" if done else _explain(reason)
            )
        super().connectionLost(reason)


class _Factory(WebSocketClientFactory):  # type: ignore[misc]
    protocol = _Listener

    def __init__(
        self, target: ServerURL, path: str, headers: dict[str, str], listener: ClientListener, reactor: Any
    ) -> None:
        super().__init__(target.at("ws", path), headers=headers, reactor=reactor)
        self.setProtocolOptions(
            failByDrop=False,
            echoCloseCodeReason=True,
            maxMessagePayloadSize=MAX_MESSAGE,
            openHandshakeTimeout=CONNECT_TIMEOUT,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            # Pings detect a server that disappeared without closing the connection.
            autoPingInterval=_PING_INTERVAL,
            autoPingTimeout=_PING_TIMEOUT,
        )
        self.target = target
        self.listener = listener


def connect(target: ServerURL, path: str, token: str, listener: ClientListener, reactor: Any) -> None:
    """
    Open a WebSocket connection to a server.

    Args:
        target: the server to connect to.
        path: the path and query of the endpoint.
        token: the token to send in the Authorization header (Bearer); empty for none.
        listener: receives the events of the connection.
        reactor: the reactor to connect with.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    endpoint: Any = HostnameEndpoint(reactor, target.host, target.port, timeout=CONNECT_TIMEOUT)
    if target.tls:
        endpoint = wrapClientTLS(optionsForClientTLS(target.host), endpoint)
    connecting = endpoint.connect(_Factory(target, path, headers, listener, reactor))
    connecting.addErrback(lambda failure: listener.lost(_explain(failure)))


def _explain(failure: Failure) -> str:
    """Return a short reason why the connection failed."""
    error: Any = failure.value
    # OpenSSL's errors are lists of (library, function, reason).
    if error.args and isinstance(error.args[0], list):
        return "TLS: " + ", ".join(part[-1] for part in error.args[0])
    number = getattr(error, "osError", None)
    return os.strerror(number) if isinstance(number, int) else str(error).rstrip(".") or type(error).__name__
