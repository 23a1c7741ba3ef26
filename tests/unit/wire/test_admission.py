"""Tests for wsserver/wire/admission.py and wire/identification.py: which connections a server serves. All in memory."""

import json
import weakref

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import formatEvent

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer
from wsserver.wire.addresses import BURST_SECONDS
from wsserver.wire.admission import MAX_TURNED_AWAY, TURNED_AWAY_PER_SECOND

GET = b"GET /server.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


def remote(host, port=5000):
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


def statuses(*clients):
    return [int(client.response().split()[1]) for client in clients]


class Port:
    """A listening port."""

    connected, disconnecting, reading = True, False, True

    def startReading(self):
        self.reading = True

    def stopReading(self):
        self.reading = False


@pytest.fixture
def make():
    """Return a function that makes a server with a port."""

    def make(**options):
        server = MemoryServer(Settings(**options))
        server.port = Port()
        server.service._gate.add(server.port)
        server.limits = server.service.connections.counters.limits
        return server

    return make


class FullTests:
    """`--max-connections`."""

    def test_answers_plain_requests_over_the_limit_and_closes(self, make):
        """So a probe of /health does not restart a server that is full."""
        server = make(max_connections=1)
        server.connect().open("/echo")
        for path in (b"/health", b"/ready", b"/server.json", b"/api/info"):
            client = server.connect()
            client.send(GET.replace(b"/server.json", path))
            head = client.response()
            assert not head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nconnection: close" in head.lower()
            assert client.transport.lost
        assert server.limits["max_connections"] == 4

    @pytest.mark.parametrize("path", ["/echo", "/ws", "/sse", "/connection/http_stream", "/connection/uni_sse"])
    def test_refuses_what_would_stay_open_with_503(self, make, path):
        server = make(max_connections=1)
        server.connect()
        client = server.connect()
        if path in {"/echo", "/ws"}:
            head = client.open(path)
        else:
            client.send(GET.replace(b"/server.json", path.encode()))
            head = client.response()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5" in head

    def test_stops_accepting_while_32_are_turned_away_and_resumes_when_one_leaves(self, make):
        server = make(max_connections=1)
        server.connect()
        clients = [server.connect() for _ in range(MAX_TURNED_AWAY)]
        assert not server.port.reading
        clients[0].transport.lose()
        assert server.port.reading
        server.connect()
        assert not server.port.reading
        server.clock.advance(2)
        server.clock.advance(2.1)
        assert all(client.transport.lost for client in clients)
        assert server.port.reading

    def test_a_flood_of_refused_connections_is_accepted_at_a_bounded_rate(self, make):
        """Each one costs a TLS handshake."""
        server = make(max_connections=1)
        first = server.connect()
        for _ in range(TURNED_AWAY_PER_SECOND + 1):
            assert server.port.reading
            client = server.connect()
            client.open("/echo")
            client.transport.lose()
        assert not server.port.reading
        server.clock.advance(0.1)
        assert server.port.reading
        server.connect()
        for _ in range(30):
            server.connect()
        assert not server.port.reading
        first.transport.lose()
        assert server.port.reading

    def test_closing_the_ports_ends_the_pause(self, make):
        server = make(max_connections=1)
        for _ in range(1 + MAX_TURNED_AWAY):
            server.connect()
        server.port.disconnecting = True
        server.service._gate.clear()
        assert not server.port.reading
        assert not server.service._gate.is_paused

    def test_forgets_closed_ports_when_another_one_opens(self, make):
        """A worker opens ports on the sockets of another one while that is replaced, and then closes them."""
        server = make()
        server.port.connected = False
        closed = weakref.ref(server.port)
        server.port = Port()
        server.service._gate.add(server.port)
        assert closed() is None


class AddressTests:
    """`--max-connections-per-address` and `--handshake-rate-per-address`."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [("192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:2::1"), ("::ffff:192.0.2.1", "::2")],
    )
    def test_refuses_a_connection_over_the_limit_with_429(self, make, one, other):
        """The limit counts WebSocket and HTTP connections, also silent ones."""
        server = make(max_connections_per_address=2)
        first, second = server.connect(remote(one)), server.connect(remote(one))
        third, stranger = server.connect(remote(one)), server.connect(remote(other))
        assert first.open("/echo").startswith(b"HTTP/1.1 101 ")
        second.send(GET)
        third.send(GET)
        stranger.send(GET)
        assert statuses(second, stranger) == [200, 200]
        head = third.response()
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 5" in head
        assert b"--max-connections-per-address" in third.transport.written
        assert b"--trusted-proxy" in third.transport.written
        assert server.limits == {"max_connections_per_address": 1}
        first.send_close(1000)
        assert server.connect(remote(one)).open("/echo").startswith(b"HTTP/1.1 101 ")

    def test_an_ipv6_network_and_mapped_addresses_count_as_one(self, make):
        server = make(max_connections_per_address=1)
        for first, second in (("2001:db8::1", "2001:db8::2"), ("192.0.2.1", "::ffff:192.0.2.1")):
            server.connect(remote(first))
            client = server.connect(remote(second))
            client.send(GET)
            assert statuses(client) == [429]

    @pytest.mark.parametrize("peer", [remote("127.0.0.1"), remote("127.9.9.9"), remote("::1"), UNIXAddress(None)])
    def test_clients_on_the_same_machine_have_no_limit(self, make, peer):
        server = make(max_connections_per_address=1, handshake_rate_per_address=1)
        clients = [server.connect(peer) for _ in range(50)]
        assert {client.open("/echo").split()[1] for client in clients} == {b"101"}

    def test_zero_disables_the_limits(self, make):
        server = make(max_connections_per_address=0, handshake_rate_per_address=0)
        clients = [server.connect(remote("192.0.2.1")) for _ in range(2000)]
        assert {client.open("/echo").split()[1] for client in clients} == {b"101"}

    def test_refuses_connections_over_the_rate_with_429(self, make):
        server = make(handshake_rate_per_address=2)
        clients = [server.connect(remote("192.0.2.1")) for _ in range(2 * BURST_SECONDS + 1)]
        found = [client.open("/echo") for client in clients]
        assert {head.split()[1] for head in found[:-1]} == {b"101"}
        assert found[-1].startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1" in found[-1]
        assert server.limits == {"handshake_rate_per_address": 1}
        server.clock.advance(0.5)
        assert server.connect(remote("192.0.2.1")).open("/echo").startswith(b"HTTP/1.1 101 ")

    def test_drops_refused_connections_beyond_a_bounded_number_and_serves_others(self, make):
        """The listener does not pause: other clients are not affected."""
        server = make(max_connections_per_address=1)
        clients = [server.connect(remote("192.0.2.1")) for _ in range(2 + MAX_TURNED_AWAY)]
        assert [client.transport.aborted for client in clients] == [False] * (1 + MAX_TURNED_AWAY) + [True]
        assert server.port.reading
        assert server.connect(remote("192.0.2.2")).open("/echo").startswith(b"HTTP/1.1 101 ")

    def test_an_event_source_over_a_limit_gets_200_and_retry(self, make):
        """It would never reconnect after a 429."""
        server = make(max_connections_per_address=1)
        server.connect(remote("192.0.2.1"))
        client = server.connect(remote("192.0.2.1"))
        client.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 200 ")
        assert client.transport.written.startswith(b": 429 the address 192.0.2.1 has too many connections")


PROXY = remote("10.0.0.1")


class ProxyTests:
    """`--trusted-proxy`: the address of the client, and the limits that apply to it."""

    def whoami(self, client, header="", **options):
        client.open("/", {"X-Forwarded-For": header} if header else {})
        client.send_frame(1, b"whoami")
        return json.loads(client.messages()[0])

    def test_whoami_shows_the_client_of_a_trusted_proxy(self, make):
        server = make(trusted_proxy=("10.0.0.0/8",))
        assert self.whoami(server.connect(PROXY), "203.0.113.6, 192.0.2.1")["address"] == "192.0.2.1"
        assert self.whoami(server.connect(PROXY))["address"] == "10.0.0.1:5000"

    @pytest.mark.parametrize("options", [{}, {"trusted_proxy": ("10.0.0.2",)}])
    def test_ignores_the_header_of_any_other_peer(self, make, options):
        assert self.whoami(make(**options).connect(PROXY), "192.0.2.1")["address"] == "10.0.0.1:5000"

    def test_a_peer_on_a_unix_socket_can_be_trusted(self, make):
        server = make(trusted_proxy=("unix",))
        assert self.whoami(server.connect(UNIXAddress(None)), "192.0.2.1")["address"] == "192.0.2.1"

    def test_each_request_of_a_kept_alive_connection_has_its_own_client(self, make, logged):
        server = make(trusted_proxy=("10.0.0.1",), api_key="k" * 32)
        client = server.connect(PROXY)
        for path in (b"/server.json", b"/api/info", b"/nothing"):
            for host in (b"192.0.2.1", b"2001:db8::7"):
                client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\n\r\n" % (path, host))
        peers = [formatEvent(event).rpartition("peer=")[2].partition(" ")[0] for event in logged]
        assert peers == ["192.0.2.1", "2001:db8::7"] * 3

    def test_refuses_a_malformed_address_with_400(self, make):
        client = make(trusted_proxy=("10.0.0.1",)).connect(PROXY)
        head = client.open("/echo", {"X-Forwarded-For": "nonsense"})
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"malformed address from the proxy: " in client.transport.written

    def test_the_limits_apply_to_the_clients_and_not_to_the_proxy(self, make):
        server = make(trusted_proxy=("10.0.0.1",), max_connections_per_address=2, handshake_rate_per_address=50)

        def open_from(host):
            return server.connect(PROXY).open("/echo", {"X-Forwarded-For": host}).split()[1]

        assert [open_from(f"192.0.2.{index}") for index in range(200)] == [b"101"] * 200
        assert [open_from("198.51.100.1") for _ in range(3)] == [b"101", b"101", b"429"]
        # An address from a header counts, even if it is a loopback address.
        assert [open_from("127.0.0.1") for _ in range(3)] == [b"101", b"101", b"429"]

    def test_plain_requests_of_a_proxys_client_count_only_while_they_last(self, make):
        server = make(trusted_proxy=("10.0.0.1",), max_connections_per_address=1)
        client = server.connect(PROXY)
        for _ in range(5):
            client.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"))
        assert bytes(client.transport.written).count(b"HTTP/1.1 200 ") == 5

    def test_an_event_stream_counts_until_it_ends(self, make):
        server = make(trusted_proxy=("10.0.0.1",), max_connections_per_address=1, channel_allow=("a",))
        stream = b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        first, second = server.connect(PROXY), server.connect(PROXY)
        first.send(stream)
        second.send(stream)
        assert statuses(first, second) == [200, 429]
        first.transport.lose()
        third = server.connect(PROXY)
        third.send(stream)
        assert statuses(third) == [200]

    def test_a_refused_stream_does_not_count(self, make):
        server = make(trusted_proxy=("10.0.0.1",), max_connections_per_address=1)
        client = server.connect(PROXY)
        for _ in range(3):
            client.send(b"GET /connection/sse HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        assert bytes(client.transport.written).count(b"HTTP/1.1 400 ") == 3
