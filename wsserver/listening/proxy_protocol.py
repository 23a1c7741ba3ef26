"""
PROXY protocol, versions 1 and 2: a proxy sends the addresses of the client's connection before its data.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2.

Twisted's own parser is not used: it closes connections that start with a bare `PROXY UNKNOWN`, as health checks send
it, or whose header arrives in two segments, and it does not validate the addresses.
"""

import re
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolFactory, ITransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from wsserver.wire.access_log import AccessLog, show_peer
from wsserver.wire.forwarded import TrustedProxies
from wsserver.wire.http11 import Refusal

__all__ = ["ProxyFactory", "ProxyHeader", "ProxyProtocol", "parse_proxy_header"]

_V1_PREFIX = b"PROXY "
_V1_MAX_LENGTH = 107
_V1_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?")

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = 16
_V2_LOCAL, _V2_PROXY = 0x20, 0x21
# Address family, the upper half of the header's 14th byte -> struct format of source and destination.
_V2_INET, _V2_INET6, _V2_UNIX = 0x1, 0x2, 0x3
_V2_FORMATS = {_V2_INET: "!4s4sHH", _V2_INET6: "!16s16sHH", _V2_UNIX: "!108s108s"}


@dataclass(frozen=True)
class ProxyHeader:
    """
    The addresses of the client's connection to the proxy.

    Both fields are None if the header names no addresses. The addresses of the proxy's own connection then apply.
    """

    source: IAddress | None = None
    destination: IAddress | None = None


def parse_proxy_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """
    Parse the header at the beginning of a connection.

    Args:
        data: the bytes received so far.

    Returns:
        The header and its length in bytes; None if it is not complete.

    Raises:
        ValueError: the data does not start with a valid header.
    """
    if data.startswith(_V2_SIGNATURE):
        return _parse_v2(data)
    if data.startswith(_V1_PREFIX):
        return _parse_v1(data)
    if _V2_SIGNATURE.startswith(data) or _V1_PREFIX.startswith(data):
        return None
    raise ValueError("the connection does not start with a PROXY protocol header")


def _parse_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    end = data.find(b"\r\n", 0, _V1_MAX_LENGTH)
    if end < 0:
        if len(data) >= _V1_MAX_LENGTH:
            raise ValueError(f"the PROXY line is longer than {_V1_MAX_LENGTH} bytes")
        return None
    line = data[:end]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(), end + 2
    match = _V1_LINE.fullmatch(line)
    if match is None:
        raise ValueError("invalid PROXY line")
    family, *texts = (group.decode("ascii") for group in match.groups())
    try:
        source, destination = (_address_v1(family, texts[index], int(texts[index + 2])) for index in (0, 1))
    except ValueError as error:
        raise ValueError(f"invalid PROXY line: {error}") from None
    return ProxyHeader(source, destination), end + 2


def _address_v1(family: str, host: str, port: int) -> IAddress:
    if port >= 2**16:
        raise ValueError(f"invalid port {port}")
    if family == "TCP4":
        return IPv4Address("TCP", str(IPv4(host)), port)
    return IPv6Address("TCP", str(IPv6(host)), port)


def _parse_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    if len(data) < _V2_HEAD:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise ValueError(f"unsupported PROXY version and command 0x{command:02x}")
    end = _V2_HEAD + length
    if len(data) < end:
        return None
    # The lower half of the byte is the transport protocol. If it is 0 (unspecified), so are the addresses.
    layout = _V2_FORMATS.get(family >> 4) if command == _V2_PROXY and family & 0x0F else None
    if layout is None:
        return ProxyHeader(), end
    if length < struct.calcsize(layout):
        raise ValueError("the PROXY header is too short for its addresses")
    return _header_v2(family >> 4, struct.unpack_from(layout, data, _V2_HEAD)), end


def _header_v2(family: int, fields: tuple[bytes | int, ...]) -> ProxyHeader:
    if family == _V2_UNIX:
        return ProxyHeader(*(UNIXAddress(field.rstrip(b"\x00")) for field in fields if isinstance(field, bytes)))
    source, destination, source_port, destination_port = fields
    kind, number = (IPv4Address, socket.AF_INET) if family == _V2_INET else (IPv6Address, socket.AF_INET6)
    return ProxyHeader(
        kind("TCP", socket.inet_ntop(number, source), source_port),  # type: ignore[arg-type]
        kind("TCP", socket.inet_ntop(number, destination), destination_port),  # type: ignore[arg-type]
    )


@implementer(IHalfCloseableProtocol)
class ProxyProtocol(ProtocolWrapper):
    """
    A protocol that reads the PROXY header of a connection, and passes the bytes after it to the wrapped protocol.

    The wrapped protocol uses this object as its transport.
    """

    factory: "ProxyFactory"
    _header: ProxyHeader | None = None
    _buffer = b""
    _refused = False

    @property
    def names_client(self) -> bool | None:
        """Whether the header contains the client's address; None until the header has arrived."""
        return None if self._header is None else self._header.source is not None

    def makeConnection(self, transport: ITransport) -> None:
        """Close the connection of a peer that is not trusted, whatever it sends."""
        super().makeConnection(transport)
        proxies = self.factory.proxies
        if proxies and not proxies.trusts(getattr(transport.getPeer(), "host", None)):
            self._refuse("a connection with the PROXY protocol from a peer that no --trusted-proxy names")

    def dataReceived(self, data: bytes) -> None:
        """Parse the header, then pass all further bytes to the wrapped protocol."""
        if self._header is not None:
            self.wrappedProtocol.dataReceived(data)
        elif not self._refused:
            self._buffer += data
            self._read_header()

    def _read_header(self) -> None:
        try:
            found = parse_proxy_header(self._buffer)
        except ValueError as error:
            self._refuse(str(error))
            return
        if found is None:
            return
        self._header, length = found
        rest, self._buffer = self._buffer[length:], b""
        if rest:
            self.wrappedProtocol.dataReceived(rest)

    def _refuse(self, reason: str) -> None:
        self._refused, self._buffer = True, b""
        # Close without a response: the proxy would not show it to the client.
        refusal = Refusal(HTTPStatus.BAD_REQUEST, reason)
        self.factory.access_log.refused(refusal, number=None, peer=show_peer(self.getPeer()), path=None)
        self.loseConnection()

    def readConnectionLost(self) -> None:
        """
        Notify the wrapped protocol that the client has closed its sending side.

        If the header is incomplete, or the wrapped protocol does not support half close, close the connection instead.
        """
        wrapped = self._half_closeable
        if self._header is not None and wrapped is not None:
            wrapped.readConnectionLost()
            return
        # While a producer is registered, the transport waits for more data before it closes.
        self.unregisterProducer()
        self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Notify the wrapped protocol that the server has closed its sending side."""
        if (wrapped := self._half_closeable) is not None:
            wrapped.writeConnectionLost()

    @property
    def _half_closeable(self) -> IHalfCloseableProtocol | None:
        # Ask the class: Twisted's TLS protocol provides each interface of its transport, which is this object,
        # and would call it back.
        wrapped: Any = self.wrappedProtocol
        return wrapped if IHalfCloseableProtocol.implementedBy(type(wrapped)) else None

    def getPeer(self) -> IAddress:
        """Return the client's address, if the header contains it, else the proxy's address."""
        source = self._header.source if self._header is not None else None
        return source or self.transport.getPeer()  # type: ignore[union-attr]

    def getHost(self) -> IAddress:
        """Return the address that the client connected to, if the header contains it, else the server's own address."""
        destination = self._header.destination if self._header is not None else None
        return destination or self.transport.getHost()  # type: ignore[union-attr]


class ProxyFactory(WrappingFactory):
    """
    Wraps the protocols of another factory in `ProxyProtocol`.

    Args:
        factory: the other factory.
        access_log: logs connections that are refused because of their header.
        proxies: the trusted proxies. If there are any, headers of other peers are refused.
    """

    protocol = ProxyProtocol
    noisy = False

    def __init__(self, factory: IProtocolFactory, access_log: AccessLog, proxies: TrustedProxies) -> None:
        super().__init__(factory)
        self.access_log = access_log
        self.proxies = proxies
