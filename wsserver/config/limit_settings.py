"""
Options that limit what one client can make the server keep or do.

Each option is one field. The field is the only place that defines its default, its parser and its help text.
"""

from dataclasses import dataclass

from wsserver.config.connection_settings import ConnectionSettings
from wsserver.config.options import option
from wsserver.config.parsers import a_duration, a_size, an_integer, show_duration, show_size

__all__ = ["LimitSettings"]

_LIMITS = "Limits for each client"


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitSettings(ConnectionSettings):
    """The options that limit each client; the second part of `Settings`."""

    # Precedents: node.js 16 KiB, nginx 4 x 8 KiB, Apache 8 KiB a line and 100 headers, websockets 8 KiB a line and 128.
    max_request_head: int = option(
        _LIMITS,
        a_size(1024, 1024**2),
        16 * 1024,
        "Maximum size of the first line and the headers of an HTTP request; the server refuses a larger one with 431.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
    # Precedent: Centrifugo 64 KiB.
    max_request_body: int = option(
        _LIMITS,
        a_size(1024, 64 * 1024**2),
        64 * 1024,
        "Maximum size of the body of an HTTP request, such as a call of the API; the server refuses a larger one with "
        "413.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
    # Precedent: ws 8.21 closes with 1008, too (GHSA-96hv-2xvq-fx4p).
    max_fragments: int = option(
        _LIMITS,
        an_integer(1, 10_000_000),
        1024,
        "Maximum number of fragments (frames) of a received message; more close the connection with 1008.",
        metavar="N",
        reload=True,
    )
    message_timeout: float = option(
        _LIMITS,
        a_duration(0, 3600),
        30.0,
        "Maximum time for a message to arrive, from its first byte to its last; if it takes longer, the server closes "
        "the connection with 1008. 0 disables this limit.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
