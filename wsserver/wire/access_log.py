"""Access log: a line when a WebSocket connection opens and when it closes, for each refused and each HTTP request."""

import json
from functools import lru_cache
from time import time
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger, LogLevel

from wsserver.logging import LINE
from wsserver.text import quote
from wsserver.wire.http11 import Refusal

__all__ = [
    "answered",
    "closed",
    "handshake_failed",
    "handshakes_suppressed",
    "opened",
    "refused",
    "show_path",
    "show_peer",
    "streamed",
]

_log = Logger(namespace="wsserver.connection")
_http_log = Logger(namespace="wsserver.http")


def show_peer(address: IAddress) -> str:
    """Format a peer's address: `127.0.0.1:5000`, `[::1]:5000`, or `unix`."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix"


@lru_cache(maxsize=128)
def show_path(raw_path: str) -> str:
    """Format a path: shortened, with control characters escaped. The query is never logged."""
    return quote(raw_path, 256)[1:-1]


def _publish(log: Logger = _log, **event: Any) -> None:
    """Publish an event as `Logger.info` does, but without checking the log level: the check takes half of the time."""
    event["log_logger"] = log
    event["log_level"] = LogLevel.info
    event["log_namespace"] = log.namespace
    event["log_source"] = None
    event["log_format"] = LINE
    event["log_time"] = time()
    log.observer(event)


def answered(*, method: str, path: str, status: int, size: int, peer: str) -> None:
    """
    Log that an HTTP request was answered.

    Args:
        method: the request method.
        path: the request path, formatted by `show_path`.
        status: the status of the response.
        size: size of the response's body as it was sent, in bytes.
        peer: the peer's address.
    """
    _publish(
        _http_log,
        line=f"{method} {path} {status} bytes={size} peer={peer}",
        method=method,
        path=path,
        status=status,
        bytes=size,
        peer=peer,
    )


def streamed(*, method: str, path: str, peer: str, code: int, reason: str, seconds: float) -> None:
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


def opened(*, number: int, peer: str, path: str, subprotocol: str | None, extensions: str | None) -> None:
    """
    Log that a WebSocket connection has opened.

    Args:
        number: the connection's number.
        peer: the peer's address.
        path: the request path.
        subprotocol: the negotiated subprotocol.
        extensions: names of the negotiated extensions, separated by commas.
    """
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


def refused(refusal: Refusal | None, *, number: int | None, peer: str, path: str | None) -> None:
    """
    Log that a request was refused.

    Args:
        refusal: status and reason; None if the peer disconnected before the server decided.
        number: the connection's number; None if the connection has no number.
        peer: the peer's address.
        path: the request path; None if it could not be read.
    """
    status = refusal.status.value if refusal else None
    reason = refusal.reason if refusal else "the client closed the connection during the handshake"
    shown_number = "" if number is None else f" number={number}"
    _publish(
        line=f"connection refused{shown_number} status={status} reason={json.dumps(reason)} peer={peer} path={path}",
        number=number,
        peer=peer,
        path=path,
        status=status,
        reason=reason,
    )


def handshake_failed(reason: str, *, peer: str) -> None:
    """
    Log that a TLS handshake failed.

    Args:
        reason: why the handshake failed.
        peer: the client's address.
    """
    _publish(line=f"tls handshake failed reason={json.dumps(reason)} peer={peer}", reason=reason, peer=peer)


def handshakes_suppressed(count: int) -> None:
    """Log how many TLS handshakes failed in the last second without a log line of their own."""
    _publish(line=f"tls handshakes failed suppressed={count}", suppressed=count)
