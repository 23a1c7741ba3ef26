"""Tests for wsserver/wire/addresses.py: the limits per client address."""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from wsserver.wire.addresses import BURST_SECONDS, AddressLimits, address_key, is_local
from wsserver.wire.counters import Counters


def address(host):
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 5000)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_the_key_is_the_ipv4_address_or_the_network_of_the_ipv6_address(host, key):
    assert address_key(address(host)) == key


def test_a_unix_socket_has_no_key():
    assert address_key(UNIXAddress(b"/run/ws.sock")) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("2001:db8::1", False),
        ("128.0.0.1", False),
    ],
)
def test_only_loopback_peers_and_unix_sockets_are_local(host, expected):
    assert is_local(address(host)) is expected
    assert is_local(UNIXAddress(None))


class LimitsTests:
    """`AddressLimits`."""

    def make(self, **options):
        self.time, self.counters = 0.0, Counters()
        options = {"max_connections": 0, "rate": 0, **options}
        return AddressLimits(**options, now=lambda: self.time, counters=self.counters)

    def test_refuses_a_connection_over_the_limit_until_another_one_of_the_address_ends(self):
        limits = self.make(max_connections=2)
        assert [limits.acquire("a"), limits.acquire("a"), limits.acquire("b")] == [None] * 3
        refusal = limits.acquire("a")
        assert (refusal.status, refusal.headers, refusal.cause) == (
            429,
            (("Retry-After", "5"),),
            "max_connections_per_address",
        )
        assert "--max-connections-per-address" in refusal.reason
        assert "--trusted-proxy" in refusal.reason
        assert self.counters.limits == {"max_connections_per_address": 1}
        limits.release("a")
        assert limits.acquire("a") is None

    def test_refuses_connections_over_the_rate(self):
        limits = self.make(rate=2)
        refusals = [limits.acquire("a") for _ in range(2 * BURST_SECONDS + 3)]
        assert [refusal is None for refusal in refusals] == [True] * 2 * BURST_SECONDS + [False] * 3
        assert (refusals[-1].status, refusals[-1].headers) == (429, (("Retry-After", "1"),))
        assert "--handshake-rate-per-address" in refusals[-1].reason
        assert "--trusted-proxy" in refusals[-1].reason
        assert self.counters.limits == {"handshake_rate_per_address": 3}
        assert limits.acquire("b") is None
        self.time = 0.5
        assert limits.acquire("a") is None

    def test_without_limits_refuses_nothing(self):
        limits = self.make()
        assert {limits.acquire("a") for _ in range(1000)} == {None}

    def test_forgets_addresses_without_connections(self):
        limits = self.make(max_connections=5)
        for index in range(100):
            limits.acquire(str(index))
        for index in range(100):
            limits.release(str(index))
        assert len(limits) == 0
