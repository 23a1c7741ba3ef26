"""
Trusted proxies: find the client's address in the headers that they add to a request.

Each proxy appends the address of its own peer to `X-Forwarded-For`, or to `Forwarded` (RFC 7239). A client can send
these headers, too. So the list is read from the right, where the trusted proxy next to the server has appended: the
client is the first address that is not a trusted proxy itself. What the client has sent is further to the left.

This module does not use Twisted, a clock or a socket.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from wsserver.text import TOKEN
from wsserver.wire.http11 import Request

__all__ = ["MAX_HOPS", "ForwardedError", "Node", "TrustedProxies", "read_node"]

MAX_HOPS = 64
"""Maximum number of proxies that are passed on the way to the client's address."""

UNIX: Final = "unix"
"""The option's value for peers on UNIX sockets."""

_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
# RFC 7239 section 6.3, and what nginx writes for a peer on a UNIX socket.
_HIDDEN = re.compile(r"unix:|(?:unknown|_[A-Za-z0-9._-]+)(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?", re.IGNORECASE)
_PAIR = re.compile(rf'({TOKEN})=(?:({TOKEN})|"((?:[^"\\]|\\.)*)")')
# RFC 7239 section 4: a comma or a semicolon within quotation marks separates nothing.
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_PARAMETER = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*")+')


class Node(NamedTuple):
    """An address in a header."""

    host: str
    """An IP address in its usual form; an IPv4-mapped one as IPv4."""
    port: int
    """0 if the header has none."""


class ForwardedError(ValueError):
    """
    The header is malformed where the client's address should be.

    Only a trusted proxy can cause this, or a client whose header a trusted proxy passes on without checking it. If the
    server used the proxy's own address instead, such a client could evade the limits per address.
    """


class TrustedProxies:
    """
    The proxies whose headers the server reads.

    Args:
        networks: the values of `--trusted-proxy`: networks, addresses, or `unix`.
        header: the header that the proxies set: `x-forwarded-for` or `forwarded`.
    """

    def __init__(self, networks: Sequence[str], header: str) -> None:
        self.configure(networks, header)

    def configure(self, networks: Sequence[str], header: str) -> None:
        """Replace the proxies; for the arguments see the constructor."""
        self._networks = tuple(ipaddress.ip_network(text) for text in networks if text != UNIX)
        self._trusts_unix = UNIX in networks
        self.header = header
        self.trusts = lru_cache(maxsize=1024)(self._trusts)
        """Whether a peer is a trusted proxy, by its IP address; None for a peer on a UNIX socket."""

    def __bool__(self) -> bool:
        """Return whether there is any trusted proxy."""
        return bool(self._networks) or self._trusts_unix

    def _trusts(self, host: str | None) -> bool:
        if host is None:
            return self._trusts_unix
        address = _parse_address(host.partition("%")[0])
        return address is not None and any(address in network for network in self._networks)

    def find_client(self, request: Request) -> Node | None:
        """
        Find the client's address in the header of a request that a trusted proxy has sent.

        Returns:
            The address; None if the header is missing, or if a trusted proxy does not name its peer (`unknown` or
            `_hidden`, RFC 7239 section 6.3), so that only the proxy's own address is known.

        Raises:
            ForwardedError: the header is malformed. What is left of the client's address is not checked.
        """
        found = None
        for hop, text in enumerate(self._hops(request.all(self.header))):
            if _HIDDEN.fullmatch(text):
                return found
            found = read_node(text)
            if found is None:
                raise ForwardedError(f"expected an IP address in the header {self.header}")
            if hop + 1 >= MAX_HOPS or not self.trusts(found.host):
                return found
        return found

    def _hops(self, values: Sequence[str]) -> Iterator[str]:
        """Return the hops that the headers name, from right to left."""
        for value in reversed(values):
            if self.header == "forwarded":
                yield from map(_forwarded_for, reversed(_split(_ELEMENT, value, ",")))
            else:
                for item in reversed(value.split(",")):
                    # RFC 9110 section 5.6.1: empty elements are ignored.
                    if text := item.strip(" \t"):
                        yield text


def _split(pattern: re.Pattern[str], value: str, separator: str) -> list[str]:
    """Split a value at a separator, except within quotation marks; empty elements are left out."""
    found, end = [], 0
    for match in pattern.finditer(value):
        if value[end : match.start()].strip(separator):
            break
        end = match.end()
        if text := match[0].strip(" \t"):
            found.append(text)
    if value[end:].strip(separator):
        # An unmatched quotation mark: what separates the elements after it cannot be known.
        raise ForwardedError("the header forwarded has an unmatched quotation mark")
    return found


def _forwarded_for(element: str) -> str:
    """Return the value of the parameter `for` of an element of the header Forwarded; `unknown` without one."""
    for parameter in _split(_PARAMETER, element, ";"):
        match = _PAIR.fullmatch(parameter)
        if match is None:
            raise ForwardedError("expected name=value pairs in the header forwarded")
        if match[1].lower() == "for":
            return match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
    return "unknown"


@lru_cache(maxsize=4096)
def read_node(text: str) -> Node | None:
    """
    Parse an address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.

    Returns:
        The address; None if the text is not one.
    """
    host, port = text, ""
    if match := _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text):
        host, port = match[1], match[2] or ""
    address = _parse_address(host)
    if address is None or int(port or 0) > 65535 or (text.startswith("[") and ":" not in host):
        return None
    return Node(str(address), int(port or 0))


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else None if "%" in text else address
