"""Tests for wsserver/cli/doctor/websocket.py, stream.py and idle.py: a connection, and how it ends."""

import socket
import ssl
import struct
import time
from email.message import Message

import pytest

from wsserver.cli.doctor.exchange import NotHTTP, Response, read_body, read_head
from wsserver.cli.doctor.idle import check_idle
from wsserver.cli.doctor.stream import ConnectionEnded, Stream
from wsserver.cli.doctor.websocket import Frame, Opcode, ServerClosed, WebSocket, parse_frame
from wsserver.testing import build_frame
from wsserver.wire.frames import parse


@pytest.fixture
def pair():
    """Return a connection and the socket of its server."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    yield client, server
    for one in (listener, client, server):
        one.close()


def opened(client, **headers):
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return WebSocket(Stream(client), Response(101, "", message), "accept")


def server_frame(opcode, payload, **options):
    return build_frame(opcode, payload, mask=b"", **options)


def soon():
    return time.monotonic() + 10


class FrameTests:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_a_frame_is_parsed_when_it_is_whole(self, size):
        data = server_frame(2, bytes(size))
        assert parse_frame(data + b"more") == (Frame(2, bytes(size)), len(data))
        assert [parse_frame(data[:-1]), parse_frame(data[:1])] == [None, None]

    @pytest.mark.parametrize(
        "data", [b"\xa1\x00", b"\x81\x80mask", b"\x83\x00", b"\x82\x7f" + struct.pack("!Q", 2**40)]
    )
    def test_other_bytes_are_an_error(self, data):
        with pytest.raises(OSError, match="frame"):
            parse_frame(data)

    @pytest.mark.parametrize("size", [0, 5, 125, 126, 60000])
    def test_a_sent_frame_is_one_that_the_server_parses(self, pair, size):
        opened(pair[0]).send(Opcode.BINARY, b"x" * size)
        data = pair[1].recv(99999)
        while len(data) < size:
            data += pair[1].recv(99999)
        assert parse(data, 0, 2**20, 9, False)[0] == [(b"x" * size, 0x82)]

    def test_a_ping_is_answered_and_a_fragmented_message_is_joined(self, pair):
        client, server = pair
        server.sendall(server_frame(9, b"p") + server_frame(1, b"a", fin=False) + server_frame(0, b"b"))
        websocket = opened(client)
        assert websocket.read_message(soon()).payload == b"ab"
        assert websocket.pings == 1
        assert server.recv(99)[0] == 0x8A


class EndTests:
    """How a connection ends."""

    def test_a_close_frame_has_a_code_and_a_reason(self, pair):
        client, server = pair
        server.sendall(server_frame(8, struct.pack("!H", 1013) + b"later"))
        step = check_idle(opened(client), 10)
        assert (step.status, "with 1013: later" in step.finding) == ("warn", True)
        server.sendall(server_frame(8, b""))
        with pytest.raises(ServerClosed) as caught:
            opened(client).read_frame(soon())
        assert caught.value.code == 1005

    def test_a_reset_differs_from_an_orderly_end(self, pair):
        client, server = pair
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        step = check_idle(opened(client), 10)
        assert (step.status, step.step) == ("fail", "idle")
        assert "was cut with RST after 0.0 s of silence" in step.finding

    def test_a_tls_end_without_its_alert_is_an_orderly_end_of_tcp(self):
        class Broken:
            def settimeout(self, _):
                pass

            def recv(self, _):
                raise ssl.SSLEOFError

        with pytest.raises(ConnectionEnded) as caught:
            Stream(Broken()).receive(soon())
        assert caught.value.how == "FIN"

    @pytest.mark.parametrize(
        ("silence", "known"), [(60.2, "proxy_read_timeout in nginx"), (99.8, "Cloudflare"), (50, "HAProxy")]
    )
    def test_known_timeouts_are_named(self, pair, silence, known, monkeypatch):
        client, server = pair
        server.close()
        times = iter([0.0, 0.0, silence])
        monkeypatch.setattr("wsserver.cli.doctor.idle.time.monotonic", lambda: next(times, silence))
        assert known in check_idle(opened(client), 1000).finding

    def test_a_message_of_the_server_keeps_the_connection_open(self, pair):
        pair[1].sendall(server_frame(1, b"news"))
        assert "1 messages of the server" in check_idle(opened(pair[0]), 0.2).finding


class HTTPTests:
    """Responses."""

    @pytest.mark.parametrize(
        "data", [b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"]
    )
    def test_what_is_not_http_is_reported_at_once(self, pair, data):
        pair[1].sendall(data)
        with pytest.raises(NotHTTP):
            read_head(Stream(pair[0]), soon())

    def test_a_chunked_body_is_decoded_as_far_as_it_has_arrived(self, pair):
        pair[1].sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nd")
        stream = Stream(pair[0])
        head = read_head(stream, soon())
        assert read_body(stream, head, time.monotonic() + 0.1).body == b"abc"

    def test_no_answer_in_time_is_a_timeout(self, pair):
        with pytest.raises(TimeoutError):
            read_head(Stream(pair[0]), time.monotonic() + 0.05)
