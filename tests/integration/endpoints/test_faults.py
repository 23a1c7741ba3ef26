"""The faults on real sockets: TCP, TLS and UNIX sockets."""

import os
import socket
import ssl

import pytest
from peers import TEXT, RawPeer, handshake_request
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.endpoints.faults.table import TABLE

ECHO = b"\x81\x05hello"
MIB = 1024**2


@pytest.fixture
def server(start_server, tls_listen, tmp_path):
    """Start a server with faults that listens on TCP, with TLS and on a UNIX socket."""
    listen = ("tcp:0:interface=127.0.0.1", *tls_listen, f"unix:{tmp_path}/ws.sock")
    return blockon(deferToThread(start_server, listen=listen, faults=True, tap="on"))


@pytest.fixture(params=["tcp", "tls", "unix"])
def connect(request, server, tls_client, tmp_path):
    """Return a function that connects to the server, for each kind of listener in turn."""
    tls_port = server.service.ports[1].getHost().port
    kinds = {
        "tcp": lambda **more: RawPeer(server.port, **more),
        "tls": lambda **more: RawPeer(tls_port, tls=tls_client, **more),
        "unix": lambda **more: RawPeer(path=f"{tmp_path}/ws.sock", **more),
    }
    return kinds[request.param]


@pytest.fixture
def open_fault(connect):
    """Return a function that opens a connection with a fault, and sends `hello`."""

    def open_one(target, **more):
        peer = connect(**more)
        peer.handshake(f"/faults/{target}")
        peer.send_frame(TEXT, b"hello")
        return peer

    return open_one


def read_until_end(peer):
    """Read until the connection ends in any way; return the bytes and whether it was reset."""
    try:
        return peer.read_to_end(), False
    except ssl.SSLEOFError:
        return peer.buffer, False
    except ConnectionResetError:
        return peer.buffer, True


class TransportTests:
    """Each kind of transport."""

    @pytest.mark.parametrize(
        ("target", "sent"),
        [
            ("close?code=1012&reason=bye", b"\x88\x05\x03\xf4bye"),
            ("not-utf8", b"\x81\x04caf\xe9"),
            ("cut?sent=6&then=wait", b"\x81\x7e\x03\xe8xx"),
            ("echo?fragment=3", b""),
        ],
    )
    def test_sends_the_echo_and_then_the_fault(self, open_fault, target, sent):
        trigger = "&after=1&wait=0" if "echo" not in target and "?" in target else "?after=1&wait=0"
        with open_fault(target + ("" if "echo" in target else trigger)) as peer:
            echo = b"\x01\x03hel\x80\x02lo" if "echo" in target else ECHO
            assert peer._read_bytes(len(echo + sent)) == echo + sent

    def test_ends_the_connection_after_the_echo(self, open_fault):
        with open_fault("drop?after=1&wait=0") as peer:
            assert read_until_end(peer) == (ECHO, False)

    @pytest.mark.parametrize("tap", ["", "&tap=0123456789abcdef0123456789abcdef"])
    @pytest.mark.parametrize("fault", ["drop", "cut", "reset", "cut?then=reset"])
    def test_ends_tls_without_an_alert_with_and_without_a_tap(self, server, tls_client, fault, tap):
        separator = "&" if "?" in fault else "?"
        with RawPeer(server.service.ports[1].getHost().port, tls=tls_client) as peer:
            peer.handshake(f"/faults/{fault}{separator}wait=0{tap}")
            peer.socket.suppress_ragged_eofs = False
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                peer.read_to_end()
        if tap:
            found = server.ask(lambda: server.service.connections.taps.find(tap.partition("=")[2]))
            wait_until(lambda: found.has_ended, "the end")
            assert found._dropped_by == "server"

    def test_resets_the_connection(self, open_fault, request):
        with open_fault("reset?after=1&wait=200ms") as peer:
            assert peer._read_bytes(len(ECHO)) == ECHO
            # Below TLS, whose implementation need not distinguish a reset from the end. A UNIX socket has no reset.
            peer.socket.setblocking(True)
            if "unix" in request.node.name:
                assert os.read(peer.socket.fileno(), 1) == b""
                return
            with pytest.raises(ConnectionResetError):
                os.read(peer.socket.fileno(), 1)

    def test_ends_the_connection_in_the_middle_of_a_frame(self, open_fault):
        with open_fault("cut?after=1&wait=0") as peer:
            assert read_until_end(peer) == (ECHO + b"\x81\x7e\x03\xe8" + b"x" * 496, False)

    def test_sends_a_large_message_as_fast_as_the_client_reads(self, connect):
        with connect(receive_buffer=16384) as peer:
            peer.handshake("/faults/large?size=16MiB&wait=0")
            header = peer._read_bytes(10)
            assert header == b"\x82\x7f" + (16 * MIB).to_bytes(8, "big")
            for _ in range(16):
                assert peer._read_bytes(MIB) == b"x" * MIB

    def test_answers_after_a_large_message_what_comes_within_it(self, connect):
        with connect(receive_buffer=16384) as peer:
            peer.handshake("/faults/large?size=4MiB&wait=0")
            assert peer._read_bytes(10)[:1] == b"\x82"
            for _ in range(4):
                peer.send_frame(TEXT, b"hello")
                assert peer._read_bytes(MIB) == b"x" * MIB
            assert peer._read_bytes(4 * len(ECHO)) == ECHO * 4

    def test_several_faults_on_one_connection(self, connect):
        query = (
            "late-handshake=100ms&slow-handshake=50&early-data=1&ping.count=2&ping.rate=100&close=1012&close.after=1"
        )
        with connect() as peer:
            peer.handshake(f"/faults/echo?{query}")
            frames = [peer.read_frame() for _ in range(3)]
            assert [(frame.opcode, frame.payload[:2]) for frame in frames] == [(1, b"1 "), (9, b""), (9, b"")]
            peer.send_frame(TEXT, b"hello")
            assert peer._read_bytes(len(ECHO) + 4) == ECHO + b"\x88\x02\x03\xf4"

    def test_stops_reading(self, open_fault):
        with open_fault("no-read?after=1&wait=0") as peer:
            assert peer._read_bytes(len(ECHO)) == ECHO
            peer.socket.settimeout(1)
            with pytest.raises(TimeoutError):
                for _ in range(64):
                    peer.send_frame(TEXT, b"x" * MIB)

    def test_sends_many_messages_at_a_rate(self, connect):
        with connect() as peer:
            peer.handshake("/faults/push?count=2000&rate=5000&size=8&wait=0")
            assert [peer.read_message().split()[0] for _ in range(2000)] == [str(n) for n in range(1, 2001)]
            assert peer.read_close().close_code == 1000

    @pytest.mark.parametrize(
        ("target", "answer"),
        [
            ("status?code=503&retry_after=5", b"HTTP/1.1 503 Service Unavailable\r\n"),
            ("garbage", b"SSH-2.0"),
            ("redirect?to=/echo", b"HTTP/1.1 302 Found\r\n"),
        ],
    )
    def test_answers_the_handshake_otherwise_and_closes(self, connect, target, answer):
        with connect() as peer:
            peer.send(handshake_request(f"/faults/{target}"))
            data, was_reset = read_until_end(peer)
            assert data.startswith(answer)
            assert not was_reset

    def test_sends_the_head_byte_by_byte_and_then_echoes(self, connect):
        with connect() as peer:
            peer.handshake("/faults/slow-handshake?piece=20")
            assert peer.echoes()


class EndTests:
    """The end of connections with a fault."""

    def test_all_of_them_end_when_the_server_stops(self, server, connect):
        """The fixture of the server checks that no connection and no timer is left."""
        peers = []
        for name in TABLE:
            peers.append(connect())
            peers[-1].send(handshake_request(f"/faults/{name}"))
        wait_until(lambda: sum(server.service.connections.counters.faults.values()) == len(TABLE), "all handshakes")
        server.stop()
        assert server.count_sockets() == 0
        assert server.service.connections.counters.open_faults == 0
        for peer in peers:
            peer.socket.close()

    def test_a_connection_ends_after_the_timeout_although_its_client_is_silent(self, start_server):
        server = start_server(faults=True, fault_timeout=1.0)
        with server.connect() as peer:
            peer.send(handshake_request("/faults/hang"))
            assert read_until_end(peer)[0] == b""
        wait_until(lambda: not server.count_sockets(), "the connection gone")

    def test_the_server_serves_others_meanwhile(self, server, open_fault):
        with open_fault("push?count=1000000&rate=10000&size=1KiB&wait=0"), open_fault("no-read"):
            assert all(server.serves_the_next() for _ in range(20))

    def test_a_client_that_leaves_during_the_handshake_is_forgotten(self, server, connect):
        for name in ("hang", "endless", "slow-handshake", "status"):
            with connect() as peer:
                peer.send(handshake_request(f"/faults/{name}"))
                wait_until(lambda name=name: server.service.connections.counters.faults[name], "the handshake")
                if name == "hang":
                    peer.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not server.count_sockets(), "every connection gone")
