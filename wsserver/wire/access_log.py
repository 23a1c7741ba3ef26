"""The log lines of connections: one when it opens, one when it ends, one for a refusal."""

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

__all__ = ["closed", "handshake_failed", "handshakes_suppressed", "opened", "refused", "show_path", "show_peer"]

_log = Logger(namespace="wsserver.connection")


def show_peer(address: IAddress) -> str:
    """Write a peer's address for people: `127.0.0.1:5000`, `[::1]:5000`, or `unix`."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    return "unix"


@lru_cache(maxsize=128)
def show_path(raw_path: str) -> str:
    """Write a path for people: shortened, nothing in it that a terminal would act on. The query is never logged."""
    return quote(raw_path, 256)[1:-1]


def _publish(**event: Any) -> None:
    """Publish an event as `Logger.info` does, without its check of the level, which costs as much as all the rest."""
    event["log_logger"] = _log
    event["log_level"] = LogLevel.info
    event["log_namespace"] = _log.namespace
    event["log_source"] = None
    event["log_format"] = LINE
    event["log_time"] = time()
    _log.observer(event)


def opened(*, number: int, peer: str, path: str, subprotocol: str | None, extensions: str | None) -> None:
    """Log that a WebSocket connection is open."""
    _publish(
        line=f"{number} open {peer} {path} subprotocol={subprotocol} extensions={extensions}",
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
    Log that a WebSocket connection has ended.

    Args:
        number: the connection's.
        peer: its address.
        path: where it was.
        code: of the Close frame that came first, or what RFC 6455 section 7.1.5 says where there was none.
        by: who sent it: `peer`, `server` or `nobody`.
        clean: whether both sides sent one.
        reason: from the Close frame, or what happened instead of one.
        subprotocol: the one agreed to.
        seconds: how long it was open.
        messages_in: taken, and `bytes_in` of their payloads.
        bytes_in: see there.
        messages_out: sent, and `bytes_out` of their payloads.
        bytes_out: see there.
    """
    _publish(
        line=(
            f"{number} close {peer} {path} code={code} by={by} clean={clean} reason={reason!r} "
            f"subprotocol={subprotocol} seconds={seconds:.3f} in={messages_in} messages, {bytes_in} bytes "
            f"out={messages_out} messages, {bytes_out} bytes"
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
        refusal: status and reason; None where the peer left before it was decided.
        number: the connection's, where it has one.
        peer: its address.
        path: what was asked for, None where that was not to be read.
    """
    status = refusal.status.value if refusal else None
    reason = refusal.reason if refusal else "the peer left during the handshake"
    _publish(
        line=f"{'' if number is None else f'{number} '}refused {peer} {path} {status} {reason}",
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
        reason: why.
        peer: the client's address.
    """
    _publish(line=f"tls handshake failed reason={json.dumps(reason)} peer={peer}", reason=reason, peer=peer)


def handshakes_suppressed(count: int) -> None:
    """Log how many more TLS handshakes failed in the last second than have a line of their own."""
    _publish(line=f"tls handshakes failed suppressed={count}", suppressed=count)
