"""WebSocket over TLS, with clients whose TLS implementation is not the server's."""

import os
import shutil
import ssl
import subprocess

import pytest
from peers import BINARY, TEXT, RawPeer, close_payload, frame, handshake_request
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.wire.tls import TLSProtocol

MIB = 1024**2


@pytest.fixture
def server(start_server, tls_listen):
    """Start a server with a TLS listener."""
    return blockon(deferToThread(start_server, listen=tls_listen))


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def versioned(request, tls_client):
    """Return a client context limited to one TLS version."""
    tls_client.minimum_version = tls_client.maximum_version = ssl.TLSVersion[request.param]
    return tls_client


def read_until(pipe, end: bytes) -> bytes:
    """Read from a pipe until the data contains `end`."""
    data = b""
    while end not in data:
        more = os.read(pipe.fileno(), 65536)
        assert more, f"the client ended after {data!r}"
        data += more
    return data


class MessageTests:
    """Messages are echoed over TLS."""

    def test_an_ssl_endpoint_uses_our_tls_protocol(self, server):
        """The port's protocol is `TLSProtocol`, not Twisted's."""
        assert issubclass(server.service.ports[0].factory.protocol, TLSProtocol)

    @pytest.mark.parametrize("size", [0, 64, 16384, 65536, MIB])
    def test_echoes_messages_from_0_bytes_to_1_mib(self, server, versioned, size):
        payload = os.urandom(size)
        with server.open(tls=versioned) as peer:
            for _ in range(3):
                peer.send_frame(BINARY, payload)
                assert peer.read_message() == payload

    def test_echoes_500_messages_in_order_with_ten_in_each_record(self, server, versioned):
        """Many records are in flight at the same time."""
        with server.open(tls=versioned) as peer:
            for start in range(0, 500, 10):
                peer.send(b"".join(frame(TEXT, b"%d" % number) for number in range(start, start + 10)))
            assert [peer.read_message() for _ in range(500)] == [str(number) for number in range(500)]

    def test_echoes_a_frame_sent_with_one_byte_per_record(self, server, versioned):
        with server.open(tls=versioned) as peer:
            for byte in frame(TEXT, b"slow"):
                peer.send(bytes([byte]))
            assert peer.read_message() == "slow"

    def test_stops_reading_from_a_client_that_does_not_read(self, server, versioned):
        """The client gets all of its echoes once it reads."""
        server.shrink_send_buffers()
        with server.open(tls=versioned, receive_buffer=4096) as peer:
            payload, sent, at = frame(BINARY, b"x" * 65536), 0, 0
            peer.socket.settimeout(0.5)
            try:
                while sent < 64 * MIB:
                    count = peer.socket.send(payload[at:])
                    sent, at = sent + count, (at + count) % len(payload)
            except (TimeoutError, ssl.SSLWantWriteError):
                pass
            assert sent < 32 * MIB
            peer.socket.settimeout(10)
            for _ in range(sent // len(payload)):
                assert peer.read_message() == b"x" * 65536

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
    def test_echoes_messages_after_each_of_20_key_updates(self, server):
        """The client updates its keys, and asks the server to update the server's keys (RFC 8446 section 4.6.3)."""
        line = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_3"]
        client = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with client:
            client.stdin.write(handshake_request("/echo"))
            client.stdin.flush()
            read_until(client.stdout, b"Upgrade\r\n")
            for number in range(20):
                # A line that starts with K is a command to the client.
                client.stdin.write(b"K\n")
                client.stdin.flush()
                read_until(client.stdout, b"KEYUPDATE")
                client.stdin.write(frame(TEXT, b"after %02d" % number))
                client.stdin.flush()
                read_until(client.stdout, b"\x81\x08after %02d" % number)
            client.kill()


class EndTests:
    """How connections end."""

    def test_answers_a_close_with_1000_and_ends_the_connection(self, server, versioned):
        """TLS ends after the closing handshake, then TCP."""
        with server.open(tls=versioned) as peer:
            peer.send_frame(8, close_payload(1000))
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_sockets() == 0, "the connection gone")

    def test_removes_a_client_that_closes_without_close_notify(self, server, versioned):
        """The client sends no Close frame either."""
        with server.open(tls=versioned) as peer:
            assert peer.echoes()
        wait_until(lambda: server.count_sockets() == 0, "the connection gone")

    def test_removes_a_client_that_resets_the_connection(self, server, versioned):
        peer = server.open(tls=versioned)
        assert peer.echoes()
        peer.reset()
        wait_until(lambda: server.count_sockets() == 0, "the connection gone")

    def test_a_forged_record_ends_only_its_own_connection(self, server, tls_client):
        peer = RawPeer(server.port)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls_client.wrap_bio(into, out, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.send(out.read())
                into.write(peer.socket.recv(65536))
        peer.send(out.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
        wait_until(lambda: server.count_sockets() == 0, "the connection gone")
        with peer, server.open(tls=tls_client) as other:
            assert other.echoes()
