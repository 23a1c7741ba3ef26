"""Clients that do not read, clients that send endlessly, and the resources that closed connections leave behind."""

import os
import resource
import socket
from pathlib import Path

import pytest
from peers import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, deflated, frame, handshake_request
from twisted.internet import reactor
from waiting import wait_until

MIB = 1024**2
MOST = 64 * MIB
"""Bytes after which a flooding client stops."""


def memory() -> int:
    """Return the resident memory of this process in bytes: server and clients together."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def flood(peer, data: bytes, most: int = MOST) -> int:
    """Send the same bytes repeatedly until the server accepts none for half a second; return how many were sent."""
    peer.socket.settimeout(0.5)
    sent, at = 0, 0
    try:
        while sent < most:
            count = peer.socket.send(data[at:])
            sent, at = sent + count, (at + count) % len(data)
    except (TimeoutError, ConnectionError):
        pass
    return sent


def held_for(server) -> tuple[int, int]:
    """
    Return two maximums over all connections, in bytes.

    The first is of the data that waits to be sent, the second of the received data that waits to be processed.
    """

    def measure():
        transports = [frontend.transport for frontend in server.service.frontend.sockets]
        out = [len(t.dataBuffer) + sum(map(len, t._tempDataBuffer)) for t in transports]
        return max(out, default=0), max((len(c.data) for c in server.service.connections.connections), default=0)

    return server.ask(measure)


class NotReadingTests:
    """Clients that do not read the responses to what they send."""

    @pytest.mark.parametrize(
        "data",
        [
            frame(BINARY, b"x" * 65536),
            frame(BINARY, b"x" * MIB),
            frame(TEXT, b"x" * 100) * 500,
            frame(PING, b"x" * 125) * 500,
        ],
        ids=["messages of 64 KiB", "messages of 1 MiB", "messages of 100 bytes", "pings"],
    )
    def test_stops_reading_from_a_client_that_only_sends(self, start_server, data):
        """Memory stays bounded, and other clients are served."""
        server = start_server(ping_interval=0)
        server.shrink_send_buffers()
        with server.open() as other, server.open(receive_buffer=4096) as peer:
            before = memory()
            sent = flood(peer, data)
            assert sent < 24 * MIB, "most of it in the kernel's buffers"
            assert memory() - before < 32 * MIB
            assert max(held_for(server)) < 4 * MIB
            assert other.echoes("x" * 10_000)
            assert server.serves_the_next()

    def test_echoes_every_message_once_a_slow_client_reads(self, start_server):
        server = start_server(ping_interval=0)
        server.shrink_send_buffers()
        with server.open(receive_buffer=4096) as peer:
            message = frame(BINARY, bytes(range(256)) * 64)
            sent = flood(peer, message, 8 * MIB)
            peer.socket.settimeout(15)
            for _ in range(sent // len(message)):
                assert peer.read_message() == bytes(range(256)) * 64

    def test_drops_a_client_that_does_not_read_after_the_ping_timeout(self, start_server):
        """A client that reads nothing cannot answer a ping, so data that waits to be sent does not keep it."""
        server = start_server(ping_interval=0.2, ping_timeout=0.2, close_timeout=0.2)
        server.shrink_send_buffers()
        with server.open(receive_buffer=4096) as peer:
            flood(peer, frame(BINARY, b"x" * 65536))
            wait_until(lambda: not server.count_sockets() and not server.count_connections(), "the client dropped")
        assert server.serves_the_next()

    def test_drops_a_client_that_closes_but_does_not_read_after_close_timeout(self, start_server):
        server = start_server(ping_interval=0, close_timeout=0.3)
        server.shrink_send_buffers()
        with server.open(receive_buffer=4096) as peer:
            peer.send(frame(BINARY, b"x" * MIB) + frame(CLOSE, close_payload(1000)))
            wait_until(lambda: server.count_sockets() == 0, "the client dropped")

    def test_drops_a_client_that_sends_bye_but_does_not_read(self, start_server):
        """The server starts this closing handshake."""
        server = start_server(ping_interval=0, close_timeout=0.3)
        server.shrink_send_buffers()
        with server.open("/", receive_buffer=4096) as peer:
            peer.send(frame(BINARY, b"x" * MIB) + frame(TEXT, b"bye"))
            wait_until(lambda: server.count_sockets() == 0, "the client dropped")

    def test_stops_reading_pipelined_requests_while_responses_are_unread(self, start_server):
        server = start_server()
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            sent = flood(peer, b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, 16 * MIB)
            assert held_for(server)[0] < 4 * MIB, f"bytes to be sent, after {sent} bytes of requests"
            assert server.serves_the_next()

    def test_answers_300_pipelined_requests_and_a_handshake_once_the_client_reads(self, start_server):
        """The responses arrive in order."""
        server = start_server()
        server.shrink_send_buffers()
        with server.connect(receive_buffer=4096) as peer:
            pages = 300
            peer.send(b"GET /main.js HTTP/1.1\r\nHost: a\r\n\r\n" * pages)
            peer.send(handshake_request("/echo") + frame(TEXT, b"behind"))
            frontend = server.ask(lambda: next(iter(server.service.frontend.sockets)))
            wait_until(lambda: frontend._write_blocked, "the server waiting for the client to read")
            assert {peer.read_response().status for _ in range(pages)} == {200}
            assert peer.read_response().status == 101
            assert peer.read_message() == "behind"
            assert peer.echoes("x" * 100_000)

    def test_drops_a_client_closed_with_1002_that_does_not_read(self, start_server):
        server = start_server(ping_interval=0, close_timeout=0.3)
        server.shrink_send_buffers()
        with server.open(receive_buffer=4096) as peer:
            peer.send(frame(BINARY, b"x" * MIB) + frame(TEXT, b"x", rsv=1))
            wait_until(lambda: server.count_sockets() == 0, "the client dropped")


class SendingAfterCloseTests:
    """Clients that continue to send after the server has closed their connection: the data is discarded."""

    def _send_on(self, server, peer, start: bytes, data: bytes, code: int) -> None:
        before = memory()
        peer.send(start)
        assert peer.read_close().close_code == code
        flood(peer, data)
        assert memory() - before < 24 * MIB
        assert max(held_for(server)) < MIB
        assert server.serves_the_next()

    @pytest.mark.parametrize(
        ("start", "code"),
        [
            (frame(BINARY, declared=2**63 - 1), 1009),
            (frame(PING, declared=2**63 - 1), 1002),
            (frame(CLOSE, declared=2**63 - 1), 1002),
            (frame(TEXT, b"", rsv=1, declared=2**40), 1002),
            (frame(TEXT, b"\xff"), 1007),
            (frame(BINARY, b"x", fin=False) + frame(BINARY, declared=2**40), 1002),
        ],
        ids=[
            "a huge message",
            "a huge ping",
            "a huge Close",
            "a huge frame with RSV3",
            "invalid text",
            "a second message",
        ],
    )
    def test_discards_the_endless_payload_of_a_refused_frame(self, start_server, start, code):
        server = start_server(close_timeout=3.0)
        with server.open() as peer:
            self._send_on(server, peer, start, b"x" * 65536, code)

    def test_discards_endless_messages_after_a_close_with_1007(self, start_server):
        server = start_server(close_timeout=3.0)
        with server.open() as peer:
            self._send_on(server, peer, frame(TEXT, b"\xff"), frame(BINARY, b"x" * 65536), 1007)

    def test_discards_endless_fragments_after_a_close_with_1002(self, start_server):
        server = start_server(close_timeout=3.0)
        with server.open() as peer:
            start = frame(BINARY, b"x", fin=False) + frame(PING, b"x", fin=False)
            self._send_on(server, peer, start, frame(CONTINUATION, b"x" * 65536, fin=False), 1002)

    def test_discards_endless_messages_after_a_decompression_bomb(self, start_server):
        """The server closes with 1009 after the bomb."""
        server = start_server(close_timeout=3.0, compression="on", max_message_size=100_000)
        with server.open("/echo", "Sec-WebSocket-Extensions: permessage-deflate") as peer:
            bomb = frame(BINARY, deflated(b"\0" * MIB), rsv=4)
            self._send_on(server, peer, bomb, frame(BINARY, b"x" * 65536), 1009)

    def test_endless_empty_fragments_do_not_accumulate_in_memory(self, start_server):
        server = start_server()
        with server.open() as peer:
            before = memory()
            peer.send_frame(BINARY, b"", fin=False)
            flood(peer, frame(CONTINUATION, b"", fin=False) * 10_000, 6 * MIB)
            assert memory() - before < 24 * MIB
            peer.socket.settimeout(15)
            assert server.serves_the_next()

    def test_discards_an_endless_request_after_a_400_and_drops_the_connection(self, server):
        with server.connect() as peer:
            before = memory()
            peer.send(b"nonsense\r\n\r\n")
            assert peer.read_response().status == 400
            flood(peer, b"x" * 65536)
            assert memory() - before < 24 * MIB
            wait_until(lambda: not server.count_sockets(), "the connection dropped")


def close_normally(server) -> None:
    """Connect, exchange an echo, and close with 1000."""
    with server.open() as peer:
        assert peer.echoes()
        peer.send_frame(CLOSE, close_payload(1000))
        assert peer.read_close().close_code == 1000
        assert peer.read_to_end() == b""


def let_the_server_close(server) -> None:
    """Connect, and make the server close the connection."""
    with server.open("/") as peer:
        assert peer.echoes()
        peer.send_frame(TEXT, b"bye")
        assert peer.read_message() == "Goodbye!"
        peer.send_frame(CLOSE, peer.read_close().payload)
        assert peer.read_to_end() == b""


def drop(server) -> None:
    """Connect, exchange an echo, and reset the connection."""
    with server.open() as peer:
        assert peer.echoes()
        peer.reset()


def break_the_protocol(server) -> None:
    """Connect, exchange an echo, send an invalid frame, and answer the Close."""
    with server.open() as peer:
        assert peer.echoes()
        peer.send_frame(TEXT, b"x", rsv=1)
        peer.send_frame(CLOSE, peer.read_close().payload)
        assert peer.read_to_end() == b""


class CleanupTests:
    """A connection leaves nothing behind once it has ended."""

    def _held(self, server) -> tuple[int, int, int]:
        deadlines = server.service.connections.deadlines
        return server.ask(
            lambda: (
                len(server.service.frontend.sockets),
                len(server.service.connections.connections),
                sum(len(queue) for queue in deadlines._queues.values()),
            )
        )

    def test_no_connection_deadline_timer_or_file_is_left_after_200_connections(self, start_server):
        """This holds for every way in which a connection can end."""
        server = start_server(open_timeout=1, close_timeout=1, ping_interval=1, ping_timeout=1)
        calls = server.ask(lambda: set(reactor.getDelayedCalls()))
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            for end in (close_normally, let_the_server_close, drop, break_the_protocol):
                end(server)
        wait_until(lambda: self._held(server) == (0, 0, 0), "no connection and no deadline left")
        # A timer whose deadlines have all been cancelled fires once more and is not set again.
        wait_until(lambda: not server.ask(lambda: set(reactor.getDelayedCalls()) - calls), "no timer left")
        assert len(os.listdir("/proc/self/fd")) <= files
        assert server.serves_the_next()

    def test_no_connection_deadline_or_timer_is_left_after_50_http_connections(self, start_server):
        """Half of them end with a refused request, half become WebSocket connections."""
        server = start_server(open_timeout=1, close_timeout=1)
        calls = server.ask(lambda: set(reactor.getDelayedCalls()))
        for number in range(50):
            with server.connect() as peer:
                assert peer.request("/favicon.svg").status == 200
                if number % 2:
                    peer.send(b"nonsense\r\n\r\n")
                    assert peer.read_response().status == 400
                else:
                    peer.handshake("/echo")
        wait_until(lambda: self._held(server) == (0, 0, 0), "no connection and no deadline left")
        wait_until(
            lambda: (
                not [
                    c
                    for c in server.ask(lambda: set(reactor.getDelayedCalls()) - calls)
                    if c.time - reactor.seconds() < 5
                ]
            ),
            "no timer left",
        )

    def test_serves_200_simultaneous_connections_and_leaves_none(self, start_server):
        server = start_server()
        peers = [server.open() for _ in range(200)]
        try:
            assert server.count_connections() == 200
            for peer in peers:
                peer.send_frame(TEXT, b"hello")
            assert [peer.read_message() for peer in peers] == ["hello"] * 200
        finally:
            for peer in peers:
                peer.socket.close()
        wait_until(lambda: self._held(server)[:2] == (0, 0), "all connections gone")

    def test_drops_a_websocket_client_that_closes_its_sending_side(self, start_server):
        server = start_server()
        with server.open() as peer:
            assert peer.echoes()
            peer.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: not server.count_sockets(), "the connection gone")
