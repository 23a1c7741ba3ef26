"""
Options that limit what one client can make the server keep or do.

Each option is one field. The field is the only place that defines its default, its parser and its help text.
"""

from dataclasses import dataclass

from wsserver.config.endpoint_settings import EndpointSettings
from wsserver.config.options import option
from wsserver.config.parsers import a_choice, a_duration, a_size, an_integer, show_duration, show_size

__all__ = ["LimitSettings"]

_LIMITS = "Limits for each client"


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitSettings(EndpointSettings):
    """The options that limit each client; the third part of `Settings`."""

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
    message_rate: int = option(
        _LIMITS,
        an_integer(0, 10_000_000),
        0,
        "Maximum number of messages per second from a WebSocket, pings and pongs included; twice as many may arrive at "
        "once. Beyond it, --rate-action applies. 0 disables this limit.",
        metavar="N",
        reload=True,
    )
    byte_rate: int = option(
        _LIMITS,
        a_size(0, 1024**3),
        0,
        "Maximum number of bytes per second from a WebSocket; twice as many may arrive at once. Beyond it, "
        "--rate-action applies. 0 disables this limit.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
    rate_action: str = option(
        _LIMITS,
        a_choice("throttle", "close"),
        "throttle",
        "What to do if a client exceeds --message-rate, --byte-rate or --command-rate: read its messages more slowly, "
        "or close the connection with 1008 (3013 for Centrifuge clients). With throttle, the server answers Centrifuge "
        "commands over --command-rate with error 111, which is temporary.",
        metavar="throttle|close",
        reload=True,
    )
    command_rate: int = option(
        _LIMITS,
        an_integer(0, 10_000_000),
        0,
        "Maximum number of commands per second from a client: those of the Centrifuge protocol, and those such as "
        "whoami; twice as many may arrive at once. Beyond it, --rate-action applies. 0 disables this limit.",
        metavar="N",
        reload=True,
    )
    max_channels_per_client: int = option(
        _LIMITS,
        an_integer(1, 10_000),
        128,
        "Maximum number of channels that a client may be subscribed to; the server refuses more with 400, and with "
        "error 106 for Centrifuge clients.",
        metavar="N",
    )
    max_taps: int = option(
        _LIMITS,
        an_integer(0, 10_000),
        100,
        "Maximum number of connections with a tap, in each process, including those closed within the last minute; "
        "further connections have none.",
        metavar="N",
        reload=True,
    )
    # Precedent: NATS write_deadline 10 s, Centrifugo 1 s.
    max_queued_age: float = option(
        _LIMITS,
        a_duration(0, 3600),
        30.0,
        "Maximum time for which publications wait in the queue of a client that reads too slowly, on channels with "
        "--slow close; then the server closes the connection with 1013 (3008 for Centrifuge clients). 0 disables this "
        "limit.",
        metavar="TIME",
        show=show_duration,
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
