"""Tests for wsserver/wire/forwarded.py: the client's address in the headers of trusted proxies."""

import pytest

from wsserver.wire.forwarded import MAX_HOPS, ForwardedError, Node, TrustedProxies, read_node
from wsserver.wire.http11 import parse

NETWORKS = ("127.0.0.1", "10.0.0.0/8", "2001:db8:f::/48")


def find(header, *values, networks=NETWORKS):
    lines = b"".join(b"\r\n%b: %b" % (header.encode(), value.encode()) for value in values)
    return TrustedProxies(networks, header).find_client(parse(b"GET / HTTP/1.1\r\nHost: a" + lines))


X_FORWARDED_FOR = {
    "no header": ((), None),
    "an empty header": (("",), None),
    "the client only": (("192.0.2.1",), "192.0.2.1"),
    "what the client sent is ignored": (("203.0.113.6, 192.0.2.1",), "192.0.2.1"),
    "the client claims to be a proxy": (("203.0.113.6, 10.0.0.1, 192.0.2.1",), "192.0.2.1"),
    "the client claims to be local": (("127.0.0.1, 192.0.2.1, 10.0.0.2",), "192.0.2.1"),
    "a trusted proxy behind another": (("203.0.113.6, 192.0.2.1, 10.0.0.1, 10.9.9.9",), "192.0.2.1"),
    "an untrusted proxy is the client": (("192.0.2.1, 203.0.113.6, 10.0.0.1",), "203.0.113.6"),
    "nonsense to the left is ignored": (("<script>, 999.1.1.1, 192.0.2.1",), "192.0.2.1"),
    "two headers are one list": (("203.0.113.6", "192.0.2.1, 10.0.0.1"), "192.0.2.1"),
    "the last header counts first": (("192.0.2.1", "203.0.113.6"), "203.0.113.6"),
    "empty elements": ((" , 192.0.2.1 ,, ",), "192.0.2.1"),
    "tabs": (("203.0.113.6,\t192.0.2.1\t",), "192.0.2.1"),
    "all hops are trusted": (("10.0.0.3, 10.0.0.2, 10.0.0.1",), "10.0.0.3"),
    "with a port": (("192.0.2.1:4711",), Node("192.0.2.1", 4711)),
    "IPv6": (("2001:db8::7",), "2001:db8::7"),
    "IPv6 in upper case": (("2001:DB8:0:0::7",), "2001:db8::7"),
    "IPv6 in brackets": (("[2001:db8::7]",), "2001:db8::7"),
    "IPv6 in brackets with a port": (("203.0.113.6, [2001:db8::7]:4711",), Node("2001:db8::7", 4711)),
    "a trusted IPv6 proxy": (("2001:db8::7, 2001:db8:f::1",), "2001:db8::7"),
    "IPv4-mapped IPv6": (("::ffff:192.0.2.1",), "192.0.2.1"),
    "an IPv4-mapped trusted proxy": (("192.0.2.1, ::ffff:10.0.0.1",), "192.0.2.1"),
    "unknown": (("192.0.2.1, unknown",), None),
    "hidden": (("192.0.2.1, _SEVKISEK",), None),
    "hidden with a port": (("_hidden:4711",), None),
    "nginx on a UNIX socket": (("192.0.2.1, unix:",), None),
    "a trusted proxy that does not know its peer": (("192.0.2.1, unknown, 10.0.0.1",), "10.0.0.1"),
    "50 hops": (("192.0.2.1, " + ", ".join(["10.0.0.1"] * 50),), "192.0.2.1"),
    "too many hops": (("192.0.2.1, " + ", ".join(["10.0.0.1"] * MAX_HOPS),), "10.0.0.1"),
}

FORWARDED = {
    "no header": ((), None),
    "the client only": (("for=192.0.2.1",), "192.0.2.1"),
    "the client's own element is ignored": (("for=203.0.113.6, for=192.0.2.1",), "192.0.2.1"),
    "the other parameters": (("proto=https;host=a.example;FOR=192.0.2.1;by=10.0.0.1",), "192.0.2.1"),
    "quoted": (('for="192.0.2.1:4711"',), Node("192.0.2.1", 4711)),
    "IPv6": (('for="[2001:db8::7]:4711", for=10.0.0.1',), Node("2001:db8::7", 4711)),
    "escaped": (('for="192\\.0.2.1"',), "192.0.2.1"),
    "a comma within quotation marks": (('for=192.0.2.1;host="a,b;for=203.0.113.6"',), "192.0.2.1"),
    "two headers are one list": (("for=203.0.113.6", "for=192.0.2.1"), "192.0.2.1"),
    "without for": (("for=192.0.2.1, proto=https",), None),
    "unknown": (("for=192.0.2.1, for=unknown",), None),
    "hidden": (('for=192.0.2.1, for="_gazonk"',), None),
    "an unmatched quotation mark of the client in a header of its own": (('for="', "for=192.0.2.1"), "192.0.2.1"),
}


@pytest.mark.parametrize(("values", "client"), X_FORWARDED_FOR.values(), ids=X_FORWARDED_FOR)
def test_the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy(values, client):
    assert find("x-forwarded-for", *values) == (Node(client, 0) if isinstance(client, str) else client)


@pytest.mark.parametrize(("values", "client"), FORWARDED.values(), ids=FORWARDED)
def test_finds_the_client_in_forwarded(values, client):
    """The header of RFC 7239."""
    assert find("forwarded", *values) == (Node(client, 0) if isinstance(client, str) else client)


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "192.0.2.1, garbage",
        "192.0.2.1:65536",
        "192.0.2.256",
        "127.1",
        "0x7f.0.0.1",
        "010.0.0.1",
        "[192.0.2.1]",
        "[2001:db8::7",
        "2001:db8::7]:80",
        "fe80::1%eth0",
        "192.0.2.1 10.0.0.1",
        "a.example",
        "for=192.0.2.1",
    ],
)
def test_a_malformed_address_where_the_clients_should_be_is_an_error(text):
    """If it were ignored, a client whose header the proxy passes on could evade the limits per address."""
    with pytest.raises(ForwardedError, match="expected an IP address in the header x-forwarded-for"):
        find("x-forwarded-for", text)


@pytest.mark.parametrize(
    "text", ['for=", for=192.0.2.1', 'for="192.0.2.1', "for = 192.0.2.1", "192.0.2.1", "for=[2001:db8::7]", "for="]
)
def test_a_malformed_forwarded_is_an_error(text):
    """In the first case, a client has sent `for="`, and the proxy has appended its element without checking."""
    with pytest.raises(ForwardedError):
        find("forwarded", text)


@pytest.mark.parametrize(
    ("header", "other"),
    [("x-forwarded-for", "forwarded: for=203.0.113.6"), ("forwarded", "x-forwarded-for: 203.0.113.6")],
)
def test_the_header_that_the_proxy_does_not_set_is_ignored(header, other):
    """A client could send it, and the proxy would pass it on."""
    value = "192.0.2.1" if header == "x-forwarded-for" else "for=192.0.2.1"
    request = parse(f"GET / HTTP/1.1\r\nHost: a\r\n{other}\r\n{header}: {value}".encode())
    assert TrustedProxies(NETWORKS, header).find_client(request) == ("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("10.255.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("11.0.0.1", False),
        ("2001:db8:f:1::1", True),
        ("2001:db8:e::1", False),
        ("fe80::1%eth0", False),
        (None, False),
    ],
)
def test_trusts_peers_of_the_networks_only(host, expected):
    assert TrustedProxies(NETWORKS, "x-forwarded-for").trusts(host) is expected


def test_trusts_peers_on_unix_sockets_only_if_the_option_says_so():
    proxies = TrustedProxies(("unix",), "x-forwarded-for")
    assert [bool(proxies), proxies.trusts(None), proxies.trusts("127.0.0.1")] == [True, True, False]
    assert not TrustedProxies((), "x-forwarded-for")


def test_reading_an_address_does_not_depend_on_earlier_ones():
    assert [read_node(text) for text in ("192.0.2.1", "x", "192.0.2.1")] == [("192.0.2.1", 0), None, ("192.0.2.1", 0)]
