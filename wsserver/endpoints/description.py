"""Describe a connection as the server sees it: addresses, request, TLS, subprotocols, extensions, round-trip time."""

from collections.abc import Mapping
from typing import Any

from wsserver.text import redact, redact_header
from wsserver.wire.access_log import show_peer
from wsserver.wire.description import describe_tls
from wsserver.wire.handshake import parse_extensions
from wsserver.wire.http11 import Request
from wsserver.wire.protocol import ServerProtocol

__all__ = ["describe_connection", "describe_request"]

_SECRETS = frozenset({"token", "access_token", "tap", "secret"})
"""Query parameters whose values are not shown."""


def describe_request(request: Request, address: str, transport: Any) -> dict[str, Any]:
    """
    Describe a request of any kind, as data that can be encoded as JSON.

    Args:
        request: the request head.
        address: the client's address, as in the log.
        transport: the connection's transport.
    """
    return {
        "address": address,
        "peer": show_peer(transport.getPeer()),
        "method": request.method,
        "http_version": f"{request.version[0]}.{request.version[1]}",
        "path": request.path,
        "query": _without_secrets(request.query),
        # A script on the page must not learn the cookies that browsers hide from scripts.
        "headers": [[name, redact_header(name, value)] for name, value in request.headers],
        "tls": describe_tls(transport),
    }


def describe_connection(connection: ServerProtocol) -> dict[str, Any]:
    """Describe a WebSocket connection, as data that can be encoded as JSON."""
    request = connection.request
    seconds = connection.round_trip_time
    return {
        "connection": connection.number,
        "connection_id": connection.connection_id,
        **describe_request(request, connection.client_address, connection.transport),
        "subprotocol": connection.websocket_protocol_in_use,
        "subprotocols_offered": [redact(one) for one in request.tokens("sec-websocket-protocol")],
        "extensions": connection.extensions,
        "extensions_offered": _offered_extensions(request),
        "round_trip_ms": None if seconds is None else round(seconds * 1000, 3),
    }


def _without_secrets(query: Mapping[str, list[str]] | None) -> dict[str, list[str]] | None:
    if query is None:
        return None
    return {name: ["[secret]"] * len(values) if name.lower() in _SECRETS else values for name, values in query.items()}


def _offered_extensions(request: Request) -> list[dict[str, Any]]:
    offers = parse_extensions(", ".join(request.all("sec-websocket-extensions"))) or []
    return [{"extension": name, **{key: _one_or_all(values) for key, values in more.items()}} for name, more in offers]


def _one_or_all(values: list[str | bool]) -> str | bool | list[str | bool]:
    return values[0] if len(values) == 1 else values
