"""
Access log: a line when a WebSocket connection opens and when it closes, for each refused and each HTTP request.

Clients cause these lines, so their number is limited: of each kind, `AccessLog` writes at most `rate` lines per second,
then a line with the number of lines that it has suppressed. It also counts the refusals, and keeps the last ones.
"""

import json
from functools import lru_cache
from time import time
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger, LogLevel

from wsserver.logging import LINE
from wsserver.text import quote
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal
from wsserver.wire.rejects import Rejects
from wsserver.wire.timers import Deadlines

__all__ = ["MAX_LINES_PER_CONNECTION", "AccessLog", "LineLimit", "cause_of", "show_path", "show_peer"]

_log = Logger(namespace="wsserver.connection")
_http_log = Logger(namespace="wsserver.http")

MAX_LINES_PER_CONNECTION = 10
"""Maximum number of lines in a second about the HTTP requests of one connection."""


def show_peer(address: IAddress) -> str:
    """Format an address: `127.0.0.1:5000`, `[::1]:5000`, or `unix`; without the port if a proxy has not named it."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}" if address.port else address.host
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}" if address.port else address.host
    return "unix"


@lru_cache(maxsize=128)
def show_path(raw_path: str) -> str:
    """Format a path: shortened, with control characters escaped. The query is never logged."""
    if "/tap/" in raw_path:
        # What follows is the secret of a tap.
        raw_path = raw_path.partition("/tap/")[0] + "/tap/[secret]"
    return quote(raw_path, 256)[1:-1]


def cause_of(refusal: Refusal | None) -> str:
    """Return the cause of a refusal: its own, or the words of its status; `client_closed` if there is no refusal."""
    if refusal is None:
        return "client_closed"
    phrase = refusal.status.phrase.lower().replace(" ", "_").replace("-", "_")
    return refusal.cause or _RENAMED.get(refusal.status, phrase)


# As in RFC 9110 section 15.5. Before version 3.13, Python has the words of earlier RFCs.
_RENAMED: Final = {413: "content_too_large", 414: "uri_too_long", 416: "range_not_satisfiable"}


def _publish(log: Logger = _log, **event: Any) -> None:
    """Publish an event as `Logger.info` does, but without checking the log level: the check takes half of the time."""
    event["log_logger"] = log
    event["log_level"] = LogLevel.info
    event["log_namespace"] = log.namespace
    event["log_source"] = None
    event["log_format"] = LINE
    event["log_time"] = time()
    log.observer(event)


class LineLimit:
    """
    Limits the number of log lines of one kind: at most `rate` in a second, which begins with the first line.

    Args:
        kind: what the lines are about, such as `connections opened`; the line with the suppressed ones begins with it.
        rate: maximum number of lines in a second; 0 for no limit.
        deadlines: schedules the end of the second.
        log: logs the number of suppressed lines.
    """

    def __init__(self, kind: str, rate: int, deadlines: Deadlines, log: Logger = _log) -> None:
        self._kind, self._rate, self._deadlines, self._log = kind, rate, deadlines, log
        self._count = self._suppressed = 0
        """Lines of the current second that were written, and those that were not."""
        self._by_peer: dict[str, int] = {}
        """Peer -> number of its lines that were written in the current second."""

    def allows(self, peer: str = "") -> bool:
        """
        Count a line; return whether it may be written.

        Args:
            peer: the address of the connection, if it may have at most `MAX_LINES_PER_CONNECTION`; empty for no limit
                for the connection.
        """
        if not self._rate:
            return True
        if not self._count:
            self._deadlines.call_later(1.0, self.flush)
        if self._count >= self._rate or self._by_peer.get(peer, 0) >= MAX_LINES_PER_CONNECTION:
            self._suppressed += 1
            return False
        self._count += 1
        if peer:
            self._by_peer[peer] = self._by_peer.get(peer, 0) + 1
        return True

    def flush(self) -> None:
        """End the current second: log how many lines were suppressed in it."""
        suppressed, self._suppressed, self._count = self._suppressed, 0, 0
        self._by_peer.clear()
        if suppressed:
            _publish(self._log, line=f"{self._kind} suppressed={suppressed}", suppressed=suppressed)


class AccessLog:
    """
    The access log of a server.

    Args:
        counters: counts the refusals.
        deadlines: schedules the lines with the number of suppressed lines.
        rate: maximum number of lines of each kind in a second; 0 for no limit.
        is_enabled: whether to log opened and closed connections and answered requests.
        logs_refusals: whether to log refused requests and failed TLS handshakes.
    """

    def __init__(
        self,
        counters: Counters,
        deadlines: Deadlines,
        rate: int,
        *,
        is_enabled: bool = True,
        logs_refusals: bool = True,
    ) -> None:
        self._counters = counters
        self._is_enabled, self._logs_refusals = is_enabled, logs_refusals
        self.rejects = Rejects()
        """The last refused requests."""
        self._opened = LineLimit("connections opened", rate, deadlines)
        self._closed = LineLimit("connections closed", rate, deadlines)
        self._refused = LineLimit("connections refused", rate, deadlines)
        self._handshakes = LineLimit("tls handshakes failed", rate, deadlines)
        self._requests = LineLimit("http requests", rate, deadlines, _http_log)

    def flush(self) -> None:
        """Log how many lines were suppressed and not reported yet; called when the server stops."""
        for limit in (self._opened, self._closed, self._refused, self._handshakes, self._requests):
            limit.flush()

    def answered(self, *, method: str, path: str, status: int, size: int, peer: str, is_logged: bool = True) -> None:
        """
        Count and log that an HTTP request was answered.

        Args:
            method: the request method.
            path: the request path, formatted by `show_path`.
            status: the status of the response.
            size: size of the response's body as it was sent, in bytes.
            peer: the peer's address.
            is_logged: whether to log the request; it is counted in any case.
        """
        self._counters.requests[status] += 1
        if not is_logged or not self._is_enabled or not self._requests.allows(peer):
            return
        _publish(
            _http_log,
            line=f"{method} {path} {status} bytes={size} peer={peer}",
            method=method,
            path=path,
            status=status,
            bytes=size,
            peer=peer,
        )

    def streamed(self, *, method: str, path: str, peer: str, code: int, reason: str, seconds: float) -> None:
        """
        Log that the endless response to an HTTP request has ended.

        Args:
            method: the request method.
            path: the request path, formatted by `show_path`.
            peer: the peer's address.
            code: the code with which the client's session has ended.
            reason: the reason of that code.
            seconds: how long the response lasted.
        """
        if not self._is_enabled or not self._requests.allows():
            return
        _publish(
            _http_log,
            line=f"{method} {path} 200 code={code} reason={reason!r} seconds={seconds:.3f} peer={peer}",
            method=method,
            path=path,
            status=200,
            code=code,
            reason=reason,
            seconds=round(seconds, 3),
            peer=peer,
        )

    def opened(self, *, number: int, peer: str, path: str, subprotocol: str | None, extensions: str | None) -> None:
        """
        Log that a WebSocket connection has opened.

        Args:
            number: the connection's number.
            peer: the peer's address.
            path: the request path.
            subprotocol: the negotiated subprotocol.
            extensions: names of the negotiated extensions, separated by commas.
        """
        if not self._is_enabled or not self._opened.allows():
            return
        _publish(
            line=(
                f"connection opened number={number} peer={peer} path={path} "
                f"subprotocol={subprotocol} extensions={extensions}"
            ),
            number=number,
            peer=peer,
            path=path,
            subprotocol=subprotocol,
            extensions=extensions,
        )

    def closed(
        self,
        *,
        number: int,
        peer: str,
        path: str,
        code: int,
        by: str,
        clean: bool,
        reason: str,
        subprotocol: str | None,
        seconds: float,
        messages_in: int,
        bytes_in: int,
        messages_out: int,
        bytes_out: int,
    ) -> None:
        """
        Log that a WebSocket connection has closed.

        Args:
            number: the connection's number.
            peer: the peer's address.
            path: the request path.
            code: the code of the first Close frame; without one, 1005 or 1006 (RFC 6455 section 7.1.5).
            by: which side sent the first Close frame: `peer` or `server`; `none` if the connection ended without one.
            clean: whether both sides sent a Close frame.
            reason: the reason of that Close frame, or why there was none.
            subprotocol: the negotiated subprotocol.
            seconds: how long the connection was open.
            messages_in: number of messages received.
            bytes_in: total size of the received payloads, in bytes.
            messages_out: number of messages sent.
            bytes_out: total size of the sent payloads, in bytes.
        """
        if not self._is_enabled or not self._closed.allows():
            return
        _publish(
            line=(
                f"connection closed number={number} peer={peer} path={path} code={code} by={by} clean={clean} "
                f"reason={reason!r} subprotocol={subprotocol} seconds={seconds:.3f} messages_in={messages_in} "
                f"bytes_in={bytes_in} messages_out={messages_out} bytes_out={bytes_out}"
            ),
            number=number,
            peer=peer,
            path=path,
            code=code,
            by=by,
            clean=clean,
            reason=reason,
            subprotocol=subprotocol,
            seconds=round(seconds, 3),
            messages_in=messages_in,
            bytes_in=bytes_in,
            messages_out=messages_out,
            bytes_out=bytes_out,
        )

    def refused(self, refusal: Refusal | None, *, number: int | None, peer: str, path: str | None) -> None:
        """
        Count, keep and log that a request was refused.

        Args:
            refusal: status and reason; None if the peer disconnected before the server decided.
            number: the connection's number; None if the connection has no number.
            peer: the peer's address.
            path: the request path; None if it could not be read.
        """
        cause = cause_of(refusal)
        self._counters.refusals[cause] += 1
        status = refusal.status.value if refusal else None
        reason = refusal.reason if refusal else "the client closed the connection during the handshake"
        self.rejects.add(peer=peer, path=path, status=status, cause=cause, reason=reason)
        if not self._logs_refusals or not self._refused.allows():
            return
        shown_number = "" if number is None else f" number={number}"
        _publish(
            line=(
                f"connection refused{shown_number} status={status} reason={json.dumps(reason)} peer={peer} path={path}"
            ),
            number=number,
            peer=peer,
            path=path,
            status=status,
            reason=reason,
            cause=cause,
        )

    def handshake_failed(self, reason: str, *, peer: str) -> None:
        """
        Count and log that a TLS handshake failed.

        Args:
            reason: why the handshake failed.
            peer: the client's address.
        """
        self._counters.tls_handshakes_failed += 1
        if self._logs_refusals and self._handshakes.allows():
            _publish(line=f"tls handshake failed reason={json.dumps(reason)} peer={peer}", reason=reason, peer=peer)
