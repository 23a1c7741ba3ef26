"""Listeners: create them from the settings, open their ports, and describe the open ports."""

import ipaddress
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.errors import ListenError
from wsserver.listening.endpoint_strings import BEHIND_PROXY, parse_endpoint
from wsserver.listening.errors import describe_listen_error
from wsserver.listening.inherited import InheritedSockets
from wsserver.listening.proxy_protocol import ProxyFactory
from wsserver.listening.renewal import CertificateSource
from wsserver.listening.tls import parse_tls_endpoint, tls_of_settings
from wsserver.listening.unix_socket import SocketInUse, stale_socket_removed
from wsserver.logging import LINE
from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.tls_server import TLSServerFactory

__all__ = [
    "BACKLOG",
    "Listener",
    "authority",
    "count_public",
    "endpoint_strings",
    "is_loopback",
    "is_secure",
    "make_listeners",
    "tune",
]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver")

BACKLOG = 4096
"""Maximum number of connections that wait to be accepted; Linux limits it to net.core.somaxconn."""

USER_TIMEOUT = 60
"""
Seconds after which the operating system ends a connection whose peer acknowledges nothing (RFC 5482), or has accepted
nothing because its buffers are full. It ends event streams whose clients have vanished: those send nothing themselves,
so the pings of `/sse` get no answer. Linux would send the data again for up to 15 minutes.
"""

_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
"""The file with the system's limit of the backlog; only on Linux."""

_TWISTED_BACKLOG = 50
"""Twisted's default backlog. A burst of clients overflows it, and TCP then retries only after a second or more."""


def endpoint_strings(settings: Settings) -> tuple[str, ...]:
    """Return the Twisted endpoint strings to listen on: of the public ports, then of the admin endpoints."""
    if settings.listen:
        return (*settings.listen, *settings.admin_listen)
    kind = "tcp6" if ":" in settings.interface else "tcp"
    public = f"{kind}:{settings.port}:interface={settings.interface.replace(':', chr(92) + ':')}"
    return (public, *settings.admin_listen)


def count_public(settings: Settings) -> int:
    """Return the number of public ports: the first ones of `endpoint_strings`."""
    return len(settings.listen) or 1


class Listener:
    """
    One endpoint to listen on.

    With the prefix `haproxy:`, each connection must begin with a header of the PROXY protocol.

    Args:
        endpoint: a Twisted endpoint string.
        reactor: the reactor to listen with.
        certificates: the certificates if the endpoint is neither `ssl:` nor `tls:`; None to serve it without TLS.
        inherited: listens on a socket that this process has inherited, in place of the endpoint; None to open one.

    Raises:
        ListenError: the endpoint is `ssl:` or `tls:`, and its parameters or files are invalid.
    """

    def __init__(
        self,
        endpoint: str,
        reactor: Any,
        certificates: CertificateSource | None = None,
        inherited: IStreamServerEndpoint | None = None,
    ) -> None:
        self._text = endpoint
        self._reactor = reactor
        self._tls = parse_tls_endpoint(endpoint, reactor)
        self.certificates = self._tls[1] if self._tls is not None else certificates
        """The files of the certificates; None without TLS."""
        self._inherited = inherited

    def open(self, factory: FrontendFactory) -> IListeningPort:
        """
        Open the listening port.

        Args:
            factory: builds the protocols of accepted connections.

        Returns:
            The listening port.

        Raises:
            ListenError: the endpoint string is invalid, or the server cannot listen on its address.
        """
        text, results = self._text, list[Any]()
        inner = text.removeprefix(BEHIND_PROXY)
        try:
            with _ready_for(inner) if self._inherited is None else nullcontext():
                self._endpoint(inner).listen(self._wrap(factory)).addBoth(results.append)
        except (SocketInUse, _WrongDomain) as error:
            raise ListenError(text, str(error)) from error
        except Exception as error:
            # Endpoint parsers are plugins and raise any exception for a string they cannot parse.
            raise ListenError(text, describe_listen_error(inner, error)) from error
        # Twisted's server endpoints fire at once. One that fires later could fail after "listening" was logged.
        if not results:
            raise ListenError(text, "the endpoint did not open its port immediately, which the server requires")
        if isinstance(results[0], Failure):
            cause = results[0].value
            raise ListenError(text, describe_listen_error(inner, getattr(cause, "socketError", cause))) from cause
        tune(results[0], inner)
        return results[0]  # type: ignore[no-any-return]

    def _endpoint(self, inner: str) -> IStreamServerEndpoint:
        if self._inherited is not None:
            return self._inherited
        endpoint = self._tls[0] if self._tls is not None else serverFromString(self._reactor, inner)
        _check_domain(endpoint)
        return endpoint

    def _wrap(self, factory: FrontendFactory) -> IProtocolFactory:
        accepted: IProtocolFactory = factory
        if self.certificates is not None:
            creator = self.certificates.creator
            accepted = TLSServerFactory(creator, factory, self._reactor, factory.deadlines, factory.access_log)
        if self._text.startswith(BEHIND_PROXY):
            return ProxyFactory(accepted, factory.access_log, factory.proxies)
        return accepted


def make_listeners(settings: Settings, reactor: Any, inherited: InheritedSockets | None = None) -> list[Listener]:
    """
    Create the listeners that the settings configure, and read the certificate files of the TLS listeners.

    Args:
        settings: the server's options.
        reactor: the reactor to listen with.
        inherited: the sockets that this process has inherited, in the order of the endpoints; None to open them.

    Raises:
        SettingError: the TLS options are invalid.
        ListenError: an endpoint string with TLS is invalid.
    """
    certificates, public = tls_of_settings(settings), count_public(settings)
    return [
        Listener(
            text,
            reactor,
            certificates if index < public else None,
            inherited.endpoint(index) if inherited is not None else None,
        )
        for index, text in enumerate(endpoint_strings(settings))
    ]


def _ready_for(endpoint: str) -> AbstractContextManager[None]:
    where = parse_endpoint(endpoint)
    if where.kind != "unix":
        return nullcontext()
    path = where.get("address", 0)
    if not path:
        # Twisted would create the lock file `.lock` in the working directory, and leave it there.
        raise ValueError("unix: needs a value for 'address', as in unix:/run/ws.sock")
    return stale_socket_removed(path)


class _WrongDomain(Exception):
    """The socket that the process has inherited is of another address family than the endpoint string says."""


def _check_domain(endpoint: Any) -> None:
    """Refuse the wrong `domain` of a `systemd:` endpoint, for which Twisted could not read the clients' addresses."""
    if not isinstance(endpoint, AdoptedStreamServerEndpoint):
        return
    with socket.socket(fileno=os.dup(endpoint.fileno)) as inherited:
        actual = socket.AddressFamily(inherited.family)
    expected = socket.AddressFamily(endpoint.addressFamily)
    if actual != expected:
        names = [family.name.removeprefix("AF_") for family in (actual, expected)]
        raise _WrongDomain(f"domain: the socket that systemd passes is {names[0]}, not {names[1]}")


def tune(port: Any, endpoint: str) -> None:
    """
    Set a larger backlog for bursts, and options of TCP that accepted connections inherit; Twisted sets none of them.

    Args:
        port: the listening port.
        endpoint: its endpoint string, which may set the backlog.
    """
    sock = getattr(port, "socket", None)
    if not isinstance(sock, socket.socket):
        return
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Linux only.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT * 1000)
    if (
        "backlog" not in parse_endpoint(endpoint.removeprefix(BEHIND_PROXY)).options
        and port.backlog == _TWISTED_BACKLOG
    ):
        # A second call of listen() only changes the backlog.
        sock.listen(BACKLOG)
        _check_system_limit()


@cache
def _check_system_limit() -> None:
    """Log a warning, once, if the system reduces the backlog."""
    try:
        limit = int(_SOMAXCONN.read_text("ascii"))
    except (OSError, ValueError):
        return
    if limit < BACKLOG:
        line = f"backlog reduced limit={limit} wanted={BACKLOG}; see sysctl net.core.somaxconn"
        _log.warn(LINE, line=line, limit=limit, wanted=BACKLOG)


def authority(port: IListeningPort) -> str | None:
    """Return the `host:port` to type into a browser; None for ports without one, such as UNIX sockets."""
    address = port.getHost()
    if isinstance(address, IPv4Address):
        return f"{'127.0.0.1' if address.host == '0.0.0.0' else address.host}:{address.port}"  # noqa: S104
    if isinstance(address, IPv6Address):
        return f"[{'::1' if address.host == '::' else address.host}]:{address.port}"
    return None


def is_loopback(port: IListeningPort) -> bool:
    """Return whether only this machine can reach the port."""
    address = port.getHost()
    # A UNIX socket, or a port with the PROXY protocol, is behind a proxy, which other machines may reach.
    if isinstance(getattr(port, "factory", None), ProxyFactory):
        return False
    return isinstance(address, IPv4Address | IPv6Address) and ipaddress.ip_address(address.host).is_loopback


def is_secure(port: IListeningPort) -> bool:
    """Return whether the port serves TLS."""
    factory = getattr(port, "factory", None)
    while factory is not None and not isinstance(factory, TLSMemoryBIOFactory):
        factory = getattr(factory, "wrappedFactory", None)
    return factory is not None
