"""Clients that have stopped reading while data for them is queued: the server drops them."""

import socket
import time

import pytest
from peers import BINARY, CLOSE, RawPeer, close_payload
from waiting import wait_until

from wsserver.listening.ports import USER_TIMEOUT


@pytest.fixture(params=["tcp", "tls"])
def start(request, start_server, tls_listen, tls_client):
    """Return a function that starts a server with small timeouts, and one that connects a client that does not read."""

    def start(**options):
        if request.param == "tls":
            options["listen"] = tls_listen
        return start_server(close_timeout=1.0, max_message_size=8 * 1024**2, **options)

    def connect(server):
        return RawPeer(server.port, receive_buffer=4096, tls=tls_client if request.param == "tls" else None)

    return start, connect


def fill(peer):
    """Send messages to `/echo` until the server does not read any more."""
    peer.handshake("/echo")
    peer.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        for _ in range(1000):
            peer.send_frame(BINARY, bytes(60_000))


class WebSocketTests:
    """WebSocket connections. The pings would end them after half a minute."""

    def test_a_client_that_closes_but_does_not_read_is_dropped(self, start):
        """The server does not read the Close frame, because it reads nothing while the client does not read."""
        start, connect = start
        server = start()
        with connect(server) as peer:
            peer.handshake("/echo")
            for _ in range(4):
                peer.send_frame(BINARY, bytes(1_000_000))
            peer.send_frame(CLOSE, close_payload(1000))
            wait_until(lambda: server.count_sockets() == 0, "the connection dropped")

    def test_a_client_that_floods_and_does_not_read_is_dropped_and_counted(self, start, log):
        start, connect = start
        server = start()
        with connect(server) as peer:
            fill(peer)
            wait_until(lambda: server.count_sockets() == 0, "the connection dropped")
        [line] = [line for line in log.lines("wsserver.connection") if line.startswith("connection closed")]
        assert "has read nothing for 1s (server option --close-timeout)" in line
        assert server.ask(lambda: server.service.connections.counters.limits["close_timeout"]) == 1

    def test_a_client_that_reads_again_in_time_loses_nothing(self, start_server):
        server = start_server(max_message_size=8 * 1024**2, close_timeout=10.0)
        with RawPeer(server.port, receive_buffer=4096) as peer:
            peer.handshake("/echo")
            for number in range(8):
                peer.send_frame(BINARY, bytes([number]) * 500_000)
            time.sleep(1)
            assert [peer.read_message() for _ in range(8)] == [bytes([number]) * 500_000 for number in range(8)]


def test_a_client_that_does_not_read_its_last_http_response_is_dropped(start_server):
    server = start_server()
    with RawPeer(server.port, receive_buffer=4096) as peer:
        request = b"GET /client.js HTTP/1.1\r\nHost: a\r\n\r\n"
        peer.socket.settimeout(1)
        peer.send(request * 20 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        wait_until(lambda: server.count_sockets() == 0, "the connection dropped")


def test_connections_inherit_the_time_after_which_the_system_ends_those_without_acknowledgements(start_server):
    """So the client of an event stream that has vanished is noticed."""
    server = start_server()
    with server.open():
        [connection] = server.ask(lambda: list(server.service.connections.connections))
        sock = connection.transport.getHandle()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT * 1000
