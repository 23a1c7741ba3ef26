"""Listening sockets: what the settings ask to listen on, opening it, and describing it to a person."""

import ipaddress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from wsserver.errors import ListenError
from wsserver.settings import Settings

__all__ = ["authority", "describe_error", "endpoint_strings", "is_loopback", "open_listener"]


def endpoint_strings(settings: Settings) -> tuple[str, ...]:
    """Return the Twisted endpoint strings to listen on."""
    if settings.listen:
        return settings.listen
    kind = "tcp6" if ":" in settings.interface else "tcp"
    return (f"{kind}:{settings.port}:interface={settings.interface.replace(':', chr(92) + ':')}",)


def open_listener(endpoint: str, factory: IProtocolFactory, reactor: Any) -> IListeningPort:
    """
    Listen on an endpoint.

    Args:
        endpoint: a Twisted endpoint string.
        factory: builds the protocols of accepted connections.
        reactor: the reactor to listen with.

    Returns:
        The listening port.

    Raises:
        ListenError: the endpoint string is invalid, or its address cannot be listened on.
    """
    results: list[Any] = []
    try:
        serverFromString(reactor, endpoint).listen(factory).addBoth(results.append)
    except Exception as error:
        # Endpoint parsers are plugins and raise any exception for a string they cannot parse.
        raise ListenError(endpoint, describe_error(error)) from error
    # Twisted's server endpoints fire at once. One that fires later could fail after "listening" was logged.
    if not results:
        raise ListenError(endpoint, "the endpoint does not listen at once")
    if isinstance(results[0], Failure):
        cause = results[0].value
        raise ListenError(endpoint, describe_error(getattr(cause, "socketError", cause))) from cause
    return results[0]  # type: ignore[no-any-return]


def describe_error(error: object) -> str:
    """Return an exception's message without its number or type, if it has a message."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def authority(port: IListeningPort) -> str | None:
    """Return the `host:port` to type into a browser; None if the port has none, as a UNIX socket."""
    address = port.getHost()
    if isinstance(address, IPv4Address):
        return f"{'127.0.0.1' if address.host == '0.0.0.0' else address.host}:{address.port}"  # noqa: S104
    if isinstance(address, IPv6Address):
        return f"[{'::1' if address.host == '::' else address.host}]:{address.port}"
    return None


def is_loopback(port: IListeningPort) -> bool:
    """Return whether only this machine can reach the port."""
    address = port.getHost()
    # A UNIX socket most likely belongs to a proxy, which anyone may reach.
    return isinstance(address, IPv4Address | IPv6Address) and ipaddress.ip_address(address.host).is_loopback
