"""
Options of connections: where to listen, which pages may connect, limits, how to stop, and WebSocket extensions.

Each option is one field. The field is the only place that defines its default, its parser and its help text.
"""

from dataclasses import dataclass
from typing import Literal

from wsserver.closecodes import CloseCode
from wsserver.config.options import option
from wsserver.config.parsers import (
    a_choice,
    a_close_code,
    a_duration,
    a_flag,
    a_network,
    a_size,
    a_text,
    a_token,
    a_worker_count,
    an_address,
    an_endpoint,
    an_integer,
    an_origin,
    show_duration,
    show_size,
)

__all__ = ["ConnectionSettings"]

_LISTEN, _PROXIES, _ORIGINS, _LIMITS, _STOP, _WEBSOCKET = (
    "Where to listen",
    "Proxies",
    "Allowed origins",
    "Limits",
    "Stop",
    "WebSocket",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionSettings:
    """The options that concern every connection; the first part of `Settings`."""

    port: int = option(
        _LISTEN, an_integer(0, 65535), 8080, "TCP port to listen on; 0 chooses a free port.", metavar="PORT"
    )
    interface: str = option(
        _LISTEN,
        an_address,
        "127.0.0.1",
        "IP address or host name to listen on. 0.0.0.0 (IPv4) or :: (IPv6) listens on all addresses, which makes the "
        "server reachable from other machines.",
        metavar="ADDRESS",
    )
    listen: tuple[str, ...] = option(
        _LISTEN,
        an_endpoint,
        (),
        "Twisted endpoint string to listen on, such as tcp:8080:interface=127.0.0.1, unix:/run/ws.sock or "
        "systemd:domain=INET:index=0. If it is set, --port and --interface are not used.",
        metavar="ENDPOINT",
        many=True,
    )
    workers: int | Literal["auto"] = option(
        _LISTEN,
        a_worker_count,
        1,
        "Number of server processes that share the listeners; auto starts one for each processor core. With more than "
        "one, channels need --redis, and limits such as --max-connections count in each process.",
        metavar="N|auto",
    )
    admin_listen: tuple[str, ...] = option(
        _LISTEN,
        an_endpoint,
        (),
        "Twisted endpoint string on which the server answers /metrics, /health, /ready, /api and /admin, such as "
        "tcp:9000:interface=127.0.0.1 or unix:/run/wsserver-admin.sock. The public port then answers these paths with "
        "404. Only the API needs a key there, so other machines should not reach it.",
        metavar="ENDPOINT",
        many=True,
    )
    tls_cert: str = option(
        _LISTEN,
        a_text,
        "",
        "PEM file with the server's TLS certificate and its chain, such as certbot's fullchain.pem. If it is set, the "
        "server serves https:// and wss:// on --port, instead of http:// and ws://.",
        metavar="FILE",
        reload=True,
    )
    tls_key: str = option(
        _LISTEN,
        a_text,
        "",
        "PEM file with the certificate's private key, such as certbot's privkey.pem. The key must not be encrypted. "
        "Without this option, the server reads the key from the file of --tls-cert.",
        metavar="FILE",
        reload=True,
    )
    trusted_proxy: tuple[str, ...] = option(
        _PROXIES,
        a_network,
        (),
        "Network or IP address of a proxy in front of the server, such as 10.0.0.0/8; unix stands for all proxies on "
        "UNIX sockets. If a request comes from a trusted proxy, the server reads the client's address from the header "
        "that --trusted-proxy-header names. A listener with haproxy: accepts connections from trusted proxies only, if "
        "there are any.",
        metavar="NETWORK",
        many=True,
        reload=True,
    )
    # Not both: a proxy sets one of them, and forwards the other one as the client has sent it.
    trusted_proxy_header: str = option(
        _PROXIES,
        a_choice("x-forwarded-for", "forwarded"),
        "x-forwarded-for",
        "Header in which trusted proxies append the address of their client: X-Forwarded-For, or Forwarded (RFC 7239).",
        metavar="x-forwarded-for|forwarded",
        reload=True,
    )
    origin: tuple[str, ...] = option(
        _ORIGINS,
        an_origin,
        (),
        "Origin of pages that may connect, such as https://app.example. Pages of the server's own host and port may "
        "always connect. Pages of loopback origins may also connect if only this machine can reach the server. "
        "Special values: null allows pages that the browser opened from a file; file:// allows WebViews and "
        "microcontrollers that send this origin; empty allows an Origin header without a value. Clients that send no "
        "Origin header may always connect.",
        metavar="ORIGIN",
        many=True,
        reload=True,
    )
    allow_any_origin_insecure: bool = option(
        _ORIGINS,
        a_flag,
        False,
        "Allow pages of every origin to connect. Use it only for servers without private data: any web page can then "
        "connect from the browsers of its visitors.",
        reload=True,
    )
    # Precedents: websockets, Daphne and websocketd 1 MiB, Centrifugo 64 KiB, uWebSockets 16 KiB, ws 100 MiB.
    max_message_size: int = option(
        _LIMITS,
        a_size(1, 1024**3),
        1024**2,
        "Maximum size of a received message after decompression; a larger message closes the connection with 1009.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
    max_connections: int = option(
        _LIMITS,
        an_integer(1, 1_000_000),
        10_000,
        "Maximum number of open connections, HTTP and WebSocket together. The server refuses further connections with "
        "503, or leaves them waiting. The operating system's limit of open files may be lower.",
        metavar="N",
        reload=True,
    )
    # The clients of an office or a mobile network may share an address.
    max_connections_per_address: int = option(
        _LIMITS,
        an_integer(0, 1_000_000),
        1000,
        "Maximum number of open connections of a client address, or of an IPv6 /64 network; 0 for no limit. The server "
        "refuses further ones with 429. Clients on the same machine have no limit. Behind a proxy, set "
        "--trusted-proxy too.",
        metavar="N",
        reload=True,
    )
    max_connections_per_user: int = option(
        _LIMITS,
        an_integer(0, 1_000_000),
        100,
        "Maximum number of open connections of a user to one server process; 0 for no limit. The user is that of the "
        "token or of the connect hook. The server refuses further ones with 429, and disconnects Centrifuge clients "
        "with 3504.",
        metavar="N",
        reload=True,
    )
    handshake_rate_per_address: int = option(
        _LIMITS,
        an_integer(0, 100_000),
        100,
        "Maximum number of new connections of a client address, or of an IPv6 /64 network, per second; after a pause, "
        "5 times as many at once; 0 for no limit. The server refuses further ones with 429. Clients on the same "
        "machine have no limit. Behind a trusted proxy, opening handshakes and event streams count instead.",
        metavar="N",
        reload=True,
    )
    open_timeout: float = option(
        _LIMITS,
        a_duration(0.1, 300),
        10.0,
        "Maximum time for a whole request to arrive, from the start of the connection or, for each further request, "
        "from its first byte. If it takes longer, the server answers 408.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    close_timeout: float = option(
        _LIMITS,
        a_duration(0.1, 300),
        5.0,
        "Maximum time to wait for a client's Close frame after the server has sent its own; then the server closes the "
        "TCP connection.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    # Longer than the 60 s of AWS and nginx. If the server closed first, a request that the proxy sends at that moment
    # would be lost.
    keepalive_timeout: float = option(
        _LIMITS,
        a_duration(0.1, 3600),
        75.0,
        "Time that an HTTP connection may be idle between two requests; then the server closes it. It should be longer "
        "than the idle timeout of a proxy in front of the server.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    # Less than the 60 s after which nginx and most load balancers drop an idle connection.
    ping_interval: float = option(
        _LIMITS,
        a_duration(0, 3600),
        25.0,
        "Time from the opening handshake, or from a client's answer to a ping, until the server sends the next ping; 0 "
        "disables pings.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    ping_timeout: float = option(
        _LIMITS,
        a_duration(0.1, 3600),
        10.0,
        "Maximum time for a client to answer a ping, with a pong or any message; then the server closes the connection "
        "with 1011 (3012 for Centrifuge clients).",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    # Precedents: uvicorn 1012, websockets 1001, Centrifugo 3001.
    drain_code: int = option(
        _STOP,
        a_close_code,
        int(CloseCode.SERVICE_RESTART),
        "Close code that WebSocket clients receive when the server stops. Clients of the Centrifuge protocol receive "
        "3001 instead, after which they reconnect.",
        metavar="CODE",
        reload=True,
    )
    drain_jitter: float = option(
        _STOP,
        a_duration(0, 300),
        5.0,
        "Maximum time over which a stopping server spreads the closing of its connections, in random order, so that "
        "not all clients reconnect at once. With fewer than a thousand connections, it takes less time: 200 are closed "
        "per second. 0 closes all at once.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    drain_timeout: float = option(
        _STOP,
        a_duration(0.1, 3600),
        30.0,
        "Maximum time for all connections to close when the server stops. Then the server drops those that are still "
        "open, even if a request is not answered.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    subprotocol: tuple[str, ...] = option(
        _WEBSOCKET,
        a_token,
        (),
        "Subprotocol that the server supports. If a client offers several supported ones, the server selects the first "
        "in the client's order.",
        metavar="NAME",
        many=True,
        reload=True,
    )
    compression: str = option(
        _WEBSOCKET,
        a_choice("off", "on"),
        "off",
        "Whether to accept compression (permessage-deflate) when a client offers it.",
        metavar="off|on",
        reload=True,
    )
    # Precedents: gorilla, uWebSockets and coder off, websockets and ws on. Memory per connection: see docs/reference.
    compression_context_takeover: str = option(
        _WEBSOCKET,
        a_choice("off", "on"),
        "off",
        "Whether a compressed message may refer to earlier messages of the connection. Similar small messages then "
        "become much smaller, but each connection needs 100 to 250 KiB more memory, or less with "
        "--compression-window-bits.",
        metavar="off|on",
        reload=True,
    )
    compression_window_bits: int = option(
        _WEBSOCKET,
        an_integer(9, 15),
        15,
        "Size of the compression window, as an exponent of 2: 9 is 512 bytes, 15 is 32 KiB. The server also asks "
        "clients to use this window, if they support that. With context takeover, 12 limits the memory of a connection "
        "to 40 KiB, and 9 to 20 KiB.",
        metavar="N",
        reload=True,
    )
    # Compressed by itself, a text of 64 bytes has 63 bytes, one of 128 has 108. Precedent: ws 1 KiB.
    compression_min_size: int = option(
        _WEBSOCKET,
        a_size(0, 1024**3),
        128,
        "Minimum size of a message that the server compresses; it sends smaller messages uncompressed.",
        metavar="SIZE",
        show=show_size,
        reload=True,
    )
