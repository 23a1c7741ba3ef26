"""Tests for wsserver/listening/proxy_protocol.py: complete, incomplete and invalid headers of the PROXY protocol."""

import socket
import struct

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from wsserver.listening.proxy_protocol import ProxyFactory, ProxyHeader, parse_proxy_header
from wsserver.wire.access_log import AccessLog
from wsserver.wire.counters import Counters
from wsserver.wire.forwarded import TrustedProxies
from wsserver.wire.timers import Deadlines

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
OWN = ProxyHeader()
IN = ProxyHeader(IPv4Address("TCP", "203.0.113.7", 40000), IPv4Address("TCP", "192.0.2.1", 443))
IN6 = ProxyHeader(IPv6Address("TCP", "2001:db8::7", 40000), IPv6Address("TCP", "2001:db8::1", 443))
UNIX = ProxyHeader(UNIXAddress(b"/client"), UNIXAddress(b"/server"))
PORTS = struct.pack("!HH", 40000, 443)
PACKED = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + PORTS
PACKED6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + PORTS
PATHS = struct.pack("108s108s", b"/client", b"/server")


def v2(command, family, body=b""):
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


VALID = {
    "v1 TCP4": (b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n", IN),
    "v1 TCP6": (b"PROXY TCP6 2001:db8:0:0::7 2001:db8::1 40000 443\r\n", IN6),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", OWN),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff:f:f:f ffff:f::f 65535 65535\r\n", OWN),
    "v1 UNKNOWN, longest": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", OWN),
    "v2 TCP4": (v2(0x21, 0x11, PACKED), IN),
    "v2 TCP4 with extensions": (v2(0x21, 0x11, PACKED + b"\x04\x00\x01x"), IN),
    "v2 TCP6": (v2(0x21, 0x21, PACKED6), IN6),
    "v2 UNIX": (v2(0x21, 0x31, PATHS), UNIX),
    "v2 LOCAL": (v2(0x20, 0x00), OWN),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, PACKED), OWN),
    "v2 AF_UNSPEC": (v2(0x21, 0x00), OWN),
    "v2 AF_UNSPEC with extensions": (v2(0x21, 0x00, b"\x04\x00\x01x"), OWN),
    "v2 transport unspecified": (v2(0x21, 0x10, PACKED), OWN),
    "v2 family of the future": (v2(0x21, 0x41, PACKED), OWN),
}

INVALID = {
    "no header": (b"GET / HTTP/1.1\r\n", "does not start with a PROXY"),
    "lower case": (b"proxy UNKNOWN\r\n", "does not start with a PROXY"),
    "no family": (b"PROXY \r\n", "invalid PROXY line$"),
    "family of the future": (b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "invalid PROXY line$"),
    "no addresses": (b"PROXY TCP4\r\n", "invalid PROXY line$"),
    "a name": (b"PROXY TCP4 example.com 192.0.2.1 1 1\r\n", "invalid PROXY line$"),
    "markup": (b"PROXY TCP4 <b> <b> 1 1\r\n", "invalid PROXY line$"),
    "no IPv4 address": (b"PROXY TCP4 256.0.0.1 192.0.2.1 1 1\r\n", "invalid PROXY line: .*'256.0.0.1'"),
    "IPv6 as IPv4": (b"PROXY TCP4 ::1 ::1 1 1\r\n", "invalid PROXY line: .*'::1'"),
    "no port": (b"PROXY TCP4 192.0.2.1 192.0.2.1 x 1\r\n", "invalid PROXY line$"),
    "port too large": (b"PROXY TCP4 192.0.2.1 192.0.2.1 65536 1\r\n", "invalid PROXY line: invalid port 65536$"),
    "too long": (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "PROXY line is longer than 107 bytes"),
    "never ends": (b"PROXY UNKNOWN " + b"f" * 93, "PROXY line is longer than 107 bytes"),
    "LF alone": (b"PROXY UNKNOWN\n" + b"f" * 93, "PROXY line is longer than 107 bytes"),
    "v2 version 1": (v2(0x11, 0x11, PACKED), "unsupported PROXY version and command 0x11"),
    "v2 unknown command": (v2(0x22, 0x11, PACKED), "unsupported PROXY version and command 0x22"),
    "v2 too short": (v2(0x21, 0x11, PACKED[:-1]), "PROXY header is too short"),
}


@pytest.mark.parametrize(("data", "expected"), VALID.values(), ids=VALID)
def test_parses_a_valid_header_and_waits_for_an_incomplete_one(data, expected):
    """Data after the header belongs to the next protocol."""
    assert parse_proxy_header(data + b"rest") == (expected, len(data))
    assert [parse_proxy_header(data[:end]) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(("data", "problem"), INVALID.values(), ids=INVALID)
def test_raises_value_error_for_an_invalid_header(data, problem):
    """Addresses are checked, because they are logged and passed to the backend."""
    with pytest.raises(ValueError, match=problem):
        parse_proxy_header(data)


@pytest.fixture
def connection():
    """Return a transport, the protocol that reads the header, and the data that it passes on."""
    received = []
    access_log = AccessLog(Counters(), Deadlines(Clock()), 100)
    factory = ProxyFactory(Factory.forProtocol(Protocol), access_log, TrustedProxies((), "x-forwarded-for"))
    protocol = factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1))
    protocol.wrappedProtocol.dataReceived = received.append
    transport = StringTransportWithDisconnection(peerAddress=IPv4Address("TCP", "10.0.0.1", 1))
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport, protocol, received


class ConnectionTests:
    """A connection that starts with a header."""

    def test_the_addresses_are_those_of_the_header_once_it_is_complete(self, connection):
        """Until then, the addresses are those of the proxy. A second header is passed on as data."""
        _, protocol, received = connection
        assert protocol.wrappedProtocol.transport.getPeer().host == "10.0.0.1"
        for byte in VALID["v1 TCP4"][0] + b"GET":
            protocol.dataReceived(bytes([byte]))
        assert b"".join(received) == b"GET"
        assert protocol.wrappedProtocol.transport.getPeer() == IN.source
        assert protocol.wrappedProtocol.transport.getHost() == IN.destination
        protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        assert received[-1] == b"PROXY UNKNOWN\r\n"

    def test_a_header_without_addresses_keeps_those_of_the_proxy(self, connection):
        """Proxies send such headers with their own health checks."""
        transport, protocol, received = connection
        protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        assert received == []
        assert protocol.getPeer() == transport.getPeer()
        assert protocol.getHost() == transport.getHost()

    def test_an_invalid_header_closes_the_connection(self, connection):
        """Neither the header nor later data is passed on."""
        transport, protocol, received = connection
        protocol.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        protocol.dataReceived(b"PROXY UNKNOWN\r\n\r\n")
        assert (received, transport.connected, transport.value()) == ([], False, b"")
