"""
The other end of a raw subscription: a WebSocket client for the command line.

Beside `wsserver.wire.protocol` the only module that imports Autobahn: there is its server, here its client.
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
"""Seconds for the TCP connection, and again for the opening handshake."""

CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake."""

MAX_MESSAGE = 512 * 1024 * 1024
"""Most bytes of a message: as much as Redis takes."""

_PING_INTERVAL, _PING_TIMEOUT = 25.0, 10.0

_MAX_REASON = 4096
"""Most bytes of a refusal's body that are read."""


class Connection(Protocol):
    """What can be done with a connection."""

    def sendClose(self, code: int) -> None:
        """Begin a closing handshake; it ends within `CLOSE_TIMEOUT`."""


class ClientListener(Protocol):
    """What hears of a connection. `refused`, `lost` and `closed` are the last word, and exactly one of them comes."""

    def opened(self, connection: "Connection") -> None:
        """The handshake is completed."""

    def heard(self, payload: bytes) -> None:
        """A message has come."""

    def refused(self, status: int, reason: str) -> None:
        """The server has answered the handshake with this status, and this sentence."""

    def lost(self, reason: str) -> None:
        """There is no connection, or no more."""

    def closed(self, code: int, reason: str) -> None:
        """The connection was closed by a closing handshake."""


class _Listener(WebSocketClientProtocol):  # type: ignore[misc]
    """A connection that listens."""

    factory: "_Factory"

    _refusal: tuple[int, str] | None = None
    _why = ""
    """Why there is no connection, where Autobahn does not tell."""

    def onConnecting(self, _: object) -> ConnectingRequest:
        """Say what to ask for; by itself Autobahn would write an IPv6 address without its brackets."""
        factory = self.factory
        return ConnectingRequest(
            host=factory.target.host_header,
            port=factory.target.port,
            resource=factory.resource,
            headers=factory.headers,
        )

    def processHandshake(self) -> Any:
        """Read the answer to the handshake, if it can be one."""
        head, end, _ = self.data.partition(b"\r\n\r\n")
        # Autobahn keeps a head of any size, and fails on one that is not UTF-8.
        if len(head) > MAX_HEAD or (end and not is_utf8(head)):
            return super().failHandshake("the answer is no HTTP response")
        return super().processHandshake()

    def failHandshake(self, reason: str) -> None:
        """Wait for the body of a refusal: the reason stands in it."""
        head, _, body = self.data.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 ([1-5][0-9]{2}) *([^\r\n]*)", head)
        if status is None or status[1] == b"101":
            super().failHandshake(reason)
            return
        told = b""
        if re.search(rb"\r\ncontent-type: *text/plain", head, re.IGNORECASE):
            told = body[:_MAX_REASON].strip()
        self._refusal = int(status[1]), (told or status[2]).decode("utf-8", "replace")
        length = re.search(rb"\r\ncontent-length: *([0-9]{1,9})", head, re.IGNORECASE)
        # Without a length the body ends with the connection. Until then Autobahn calls again whenever more comes.
        if len(body) >= min(int(length[1]) if length else _MAX_REASON, _MAX_REASON):
            super().failHandshake(reason)

    def onOpen(self) -> None:
        """Pass on."""
        self.factory.ear.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: ARG002
        """Pass on."""
        self.factory.ear.heard(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Pass on how it ended."""
        ear = self.factory.ear
        if self._refusal is not None:
            ear.refused(*self._refusal)
        elif wasClean:
            # RFC 6455 section 7.1.5: the code of a Close frame that has none.
            ear.closed(code or CloseCode.NO_STATUS_RECEIVED, reason or "")
        else:
            ear.lost(self._why or reason or "the connection was lost")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Keep what Autobahn does not tell: a certificate that is not trusted, an answer that is not HTTP."""
        if self.state == self.STATE_CONNECTING:
            done = reason.check(ConnectionDone)
            self._why = "the connection was closed before the handshake was answered" if done else _explain(reason)
        super().connectionLost(reason)


class _Factory(WebSocketClientFactory):  # type: ignore[misc]
    protocol = _Listener

    def __init__(
        self, target: ServerURL, path: str, headers: dict[str, str], ear: ClientListener, reactor: Any
    ) -> None:
        super().__init__(target.at("ws", path), headers=headers, reactor=reactor)
        self.setProtocolOptions(
            failByDrop=False,
            echoCloseCodeReason=True,
            maxMessagePayloadSize=MAX_MESSAGE,
            openHandshakeTimeout=CONNECT_TIMEOUT,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            # A server that is gone without a word is noticed.
            autoPingInterval=_PING_INTERVAL,
            autoPingTimeout=_PING_TIMEOUT,
        )
        self.target = target
        self.ear = ear


def connect(target: ServerURL, path: str, token: str, ear: ClientListener, reactor: Any) -> None:
    """
    Connect to a path of a server.

    Args:
        target: the server.
        path: with its query.
        token: sent as a Bearer token; empty for none.
        ear: hears what comes of it.
        reactor: connects.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    endpoint: Any = HostnameEndpoint(reactor, target.host, target.port, timeout=CONNECT_TIMEOUT)
    if target.tls:
        endpoint = wrapClientTLS(optionsForClientTLS(target.host), endpoint)
    connecting = endpoint.connect(_Factory(target, path, headers, ear, reactor))
    connecting.addErrback(lambda failure: ear.lost(_explain(failure)))


def _explain(failure: Failure) -> str:
    """Say in a few words why there is no connection."""
    error: Any = failure.value
    # OpenSSL's errors are lists of (library, function, reason).
    if error.args and isinstance(error.args[0], list):
        return "TLS: " + ", ".join(part[-1] for part in error.args[0])
    number = getattr(error, "osError", None)
    return os.strerror(number) if isinstance(number, int) else str(error).rstrip(".") or type(error).__name__
