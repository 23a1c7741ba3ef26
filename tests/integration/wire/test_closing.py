"""How WebSocket connections end: the close code that each client receives."""

import pytest
from peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, connect_autobahn, deflated, frame
from waiting import wait_until
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

LIMIT = 10_000


def finish(peer, close) -> None:
    """Answer the server's Close frame; the stream must then end without a reset."""
    peer.send_frame(CLOSE, close.payload)
    assert peer.read_to_end() == b""


BAD_FRAMES = {
    "an unmasked text": frame(TEXT, b"hello", masked=False),
    "an unmasked ping": frame(PING, b"", masked=False),
    "RSV1 without an extension": frame(TEXT, b"hello", rsv=4),
    "RSV2": frame(TEXT, b"hello", rsv=2),
    "RSV3": frame(BINARY, b"hello", rsv=1),
    "RSV1 on a ping": frame(PING, b"hello", rsv=4),
    **{f"the reserved opcode {n:#x}": frame(n, b"hello") for n in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)},
    "a fragmented ping": frame(PING, b"he", fin=False),
    "a fragmented pong": frame(PONG, b"he", fin=False),
    "a fragmented Close": frame(CLOSE, close_payload(1000), fin=False),
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a Close of 126 bytes": frame(CLOSE, close_payload(1000, "x" * 124)),
    "a continuation without a message": frame(CONTINUATION, b"hello"),
    "a final continuation after a complete message": frame(TEXT, b"one") + frame(CONTINUATION, b"two"),
    "a text inside a text": frame(TEXT, b"one", fin=False) + frame(TEXT, b"two"),
    "a binary message inside a text": frame(TEXT, b"one", fin=False) + frame(BINARY, b"two"),
    "5 bytes with a two-byte length": frame(TEXT, b"hello", length_bytes=2),
    "125 bytes with a two-byte length": frame(TEXT, b"x" * 125, length_bytes=2),
    "5 bytes with an eight-byte length": frame(TEXT, b"hello", length_bytes=8),
    "65535 bytes with an eight-byte length": frame(TEXT, b"x" * 65535, length_bytes=8),
    "a Close of one byte": frame(CLOSE, b"\x03"),
    **{
        f"a Close with {code}": frame(CLOSE, close_payload(code))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a second request after the handshake": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}

UNFINISHED_BAD_FRAMES = {
    "a ping that declares 2**63-1 bytes": frame(PING, declared=2**63 - 1),
    "a length with its highest bit set": frame(BINARY, length_bytes=8, declared=2**63),
    "TLS": bytes([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03]) + bytes(100),
}

BAD_TEXTS = {
    "a byte that is never in UTF-8": frame(TEXT, b"caf\xe9!"),
    "0xff": frame(TEXT, b"\xff"),
    "an overlong slash": frame(TEXT, b"\xc0\xaf"),
    "a surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "beyond U+10FFFF": frame(TEXT, b"\xf4\x90\x80\x80"),
    "a character cut off at the end": frame(TEXT, "🎉".encode()[:3]),
    "a character cut off at the end of the last fragment": frame(TEXT, b"a", fin=False)
    + frame(CONTINUATION, "🎉".encode()[:3]),
    "an invalid byte in a character split over fragments": frame(TEXT, b"\xf0\x9f", fin=False)
    + frame(CONTINUATION, b"ab"),
    "an invalid byte in the first fragment": frame(TEXT, b"\xff", fin=False),
    "an invalid byte in an incomplete frame": frame(TEXT, b"\xff" + b"x" * 99)[:20],
    "an invalid byte in the reason of a Close": frame(CLOSE, close_payload(1000, b"\xff")),
    "a character cut off in the reason of a Close": frame(CLOSE, close_payload(1000, "é".encode()[:1])),
}

TOO_BIG = {
    "one byte over the limit": frame(BINARY, b"x" * (LIMIT + 1)),
    "a text over the limit": frame(TEXT, b"x" * (LIMIT + 1)),
    "two fragments": frame(BINARY, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x"),
    "a thousand fragments": frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x" * 100, fin=False) * 1000,
}

UNFINISHED_TOO_BIG = {
    "the header of a frame one byte over the limit": frame(BINARY, b"x" * (LIMIT + 1))[:8],
    "the header of a frame of 2**63-1 bytes": frame(BINARY, declared=2**63 - 1),
    "the header of a frame of 4 GiB": frame(BINARY, declared=2**32),
    "the header of a final fragment of 2**62 bytes": frame(BINARY, b"x", fin=False)
    + frame(CONTINUATION, declared=2**62),
}


class ProtocolErrorTests:
    """The server closes with 1002 after frames that violate RFC 6455."""

    @pytest.mark.parametrize("data", BAD_FRAMES.values(), ids=BAD_FRAMES)
    def test_closes_with_1002_and_a_reason_after_an_invalid_frame(self, server, data):
        """The closing handshake is completed; other connections are not affected."""
        with server.open() as other, server.open() as peer:
            peer.send(data)
            first = peer.read_frame()
            if first.opcode == TEXT:
                assert first.payload == b"one", "a complete message before the invalid frame is echoed"
                first = peer.read_frame()
            assert first.opcode == CLOSE, first
            assert first.close_code == 1002
            assert first.close_reason
            finish(peer, first)
            assert other.echoes()
        assert server.serves_the_next()

    @pytest.mark.parametrize("data", UNFINISHED_BAD_FRAMES.values(), ids=UNFINISHED_BAD_FRAMES)
    def test_closes_with_1002_before_the_invalid_frame_is_complete(self, start_server, data):
        """A frame whose header is invalid is refused as soon as the header has arrived."""
        server = start_server(close_timeout=0.2)
        with server.open() as other, server.open() as peer:
            peer.send(data)
            assert peer.read_close().close_code == 1002
            # Whatever the client sends now is part of its frame's payload, so it cannot answer the Close.
            wait_until(peer.has_ended, "the end of the connection")
            assert other.echoes()

    def test_answers_no_frame_that_follows_an_invalid_one(self, server):
        with server.open() as peer:
            peer.send(frame(TEXT, b"hello", rsv=2) + frame(TEXT, b"more") + frame(PING, b"more"))
            finish(peer, peer.read_close())

    def test_drops_a_peer_that_does_not_answer_the_close_within_close_timeout(self, start_server):
        server = start_server(close_timeout=0.2)
        with server.open() as peer:
            peer.send(frame(TEXT, b"hello", rsv=2))
            assert peer.read_close().close_code == 1002
            wait_until(lambda: not server.count_sockets(), "the connection dropped")


class InvalidTextTests:
    """The server closes with 1007 after text messages that are not UTF-8."""

    @pytest.mark.parametrize("data", BAD_TEXTS.values(), ids=BAD_TEXTS)
    def test_closes_with_1007_after_bytes_that_are_not_utf8(self, server, data):
        """The server does not wait for the rest of the frame or message."""
        with server.open() as other, server.open() as peer:
            peer.send(data)
            close = peer.read_close()
            assert close.close_code == 1007
            finish(peer, close)
            assert other.echoes()

    def test_closes_with_1007_after_a_compressed_text_that_is_not_utf8(self, start_server):
        """The text is validated after inflating."""
        server = start_server(compression="on")
        with server.open("/echo", "Sec-WebSocket-Extensions: permessage-deflate") as peer:
            peer.send_frame(TEXT, deflated(b"good \xff bad"), rsv=4)
            close = peer.read_close()
            assert close.close_code == 1007
            finish(peer, close)

    def test_closes_with_1002_or_1007_after_data_that_cannot_be_inflated(self, start_server):
        """Invalid compressed data is a peer error; the server serves the next client."""
        server = start_server(compression="on")
        with server.open("/echo", "Sec-WebSocket-Extensions: permessage-deflate") as peer:
            peer.send_frame(TEXT, b"\xff\xff\xff\xff\xff\xff", rsv=4)
            close = peer.read_close()
            assert close.close_code in (1002, 1007)
            finish(peer, close)
        assert server.serves_the_next()


class TooBigTests:
    """The server closes with 1009 after messages over --max-message-size."""

    @pytest.mark.parametrize("data", TOO_BIG.values(), ids=TOO_BIG)
    def test_closes_with_1009_after_a_message_over_the_limit(self, start_server, data):
        server = start_server(max_message_size=LIMIT)
        with server.open() as other, server.open() as peer:
            peer.send(data)
            close = peer.read_close()
            assert close.close_code == 1009
            finish(peer, close)
            assert other.echoes()

    @pytest.mark.parametrize("data", UNFINISHED_TOO_BIG.values(), ids=UNFINISHED_TOO_BIG)
    def test_closes_with_1009_when_a_frame_header_declares_too_many_bytes(self, start_server, data):
        """The server does not wait for the payload; it drops the connection after --close-timeout."""
        server = start_server(max_message_size=LIMIT, close_timeout=0.2)
        with server.open() as other, server.open() as peer:
            peer.send(data)
            assert peer.read_close().close_code == 1009
            wait_until(peer.has_ended, "the end of the connection")
            assert other.echoes()

    def test_echoes_a_message_of_exactly_the_limit(self, start_server):
        """The message is sent in one frame, then in two fragments."""
        with start_server(max_message_size=LIMIT).open() as peer:
            peer.send_frame(BINARY, b"x" * LIMIT)
            assert peer.read_message() == b"x" * LIMIT
            peer.send(frame(BINARY, b"x" * (LIMIT - 1), fin=False) + frame(CONTINUATION, b"y"))
            assert peer.read_message() == b"x" * (LIMIT - 1) + b"y"

    def test_applies_the_limit_to_each_message_not_to_the_connection(self, start_server):
        with start_server(max_message_size=LIMIT).open() as peer:
            for _ in range(20):
                peer.send_frame(BINARY, b"x" * LIMIT)
                assert len(peer.read_message()) == LIMIT

    @pytest.mark.parametrize("parts", [1, 100])
    def test_closes_with_1009_after_a_message_that_inflates_over_the_limit(self, start_server, parts):
        """The limit applies to the inflated size, in one frame or in many."""
        server = start_server(compression="on", max_message_size=LIMIT)
        bomb = deflated(b"\0" * 5_000_000)
        step = len(bomb) // parts + 1
        pieces = [bomb[at : at + step] for at in range(0, len(bomb), step)]
        with (
            server.open() as other,
            server.open("/echo", "Sec-WebSocket-Extensions: permessage-deflate") as peer,
        ):
            for number, piece in enumerate(pieces):
                first, last = number == 0, number == len(pieces) - 1
                peer.send_frame(BINARY if first else CONTINUATION, piece, rsv=4 if first else 0, fin=last)
            close = peer.read_close()
            assert close.close_code == 1009
            finish(peer, close)
            assert other.echoes()

    def test_echoes_a_message_that_inflates_to_exactly_the_limit(self, start_server):
        server = start_server(compression="on", max_message_size=LIMIT)
        with connect(f"{server.url}/echo", proxy=None) as peer:
            peer.send("x" * LIMIT)
            assert peer.recv(timeout=15) == "x" * LIMIT

    def test_a_websockets_client_sees_1009_when_one_byte_over_the_limit(self, server):
        """A real client sees the close code, not a broken connection."""
        with connect(f"{server.url}/echo", proxy=None, compression=None) as peer:
            peer.send("x" * (1024**2 + 1))
            with pytest.raises(ConnectionClosedError) as caught:
                peer.recv(timeout=15)
            assert caught.value.rcvd.code == 1009

    def test_an_autobahn_client_sees_a_clean_close_with_1009(self, server):
        """A real client that sends 8 MiB sees the close code, not a broken connection."""
        peer = connect_autobahn(f"{server.url}/echo")
        peer.send(b"x" * (8 * 1024**2))
        closed = peer.wait_closed()
        assert (closed.clean, closed.code) == (True, 1009)


class ClosingByPeerTests:
    """The client starts the closing handshake."""

    @pytest.mark.parametrize(
        "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]
    )
    def test_echoes_the_clients_code_and_reason(self, server, code):
        """The stream then ends without a reset."""
        with server.open() as peer:
            peer.send_frame(CLOSE, close_payload(code, "that's it, tschüß"))
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (code, "that's it, tschüß")
            assert peer.read_to_end() == b""

    def test_echoes_the_longest_possible_reason(self, server):
        """A reason has at most 123 bytes (RFC 6455 section 5.5)."""
        with server.open() as peer:
            peer.send_frame(CLOSE, close_payload(4000, "x" * 123))
            assert peer.read_close().close_reason == "x" * 123

    def test_answers_a_close_without_a_code_with_no_code_or_1000(self, server):
        with server.open() as peer:
            peer.send_frame(CLOSE)
            assert peer.read_close().payload in (b"", close_payload(1000))
            assert peer.read_to_end() == b""

    def test_echoes_earlier_messages_before_the_close(self, server):
        with server.open() as peer:
            peer.send(frame(TEXT, b"last words") + frame(CLOSE, close_payload(1000)))
            assert peer.read_message() == "last words"
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_sends_an_echo_of_1_mib_whole_before_the_close(self, server):
        """The client sends its Close frame immediately after the message."""
        with server.open() as peer:
            peer.send(frame(BINARY, b"x" * 1024**2) + frame(CLOSE, close_payload(1000)))
            assert peer.read_message() == b"x" * 1024**2
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_ignores_frames_after_the_close(self, server):
        """The stream still ends without a reset."""
        with server.open() as peer:
            peer.send(frame(CLOSE, close_payload(1000)) + frame(TEXT, b"too late") + frame(PING, b"too late"))
            assert peer.read_close().close_code == 1000
            assert peer.read_to_end() == b""

    def test_logs_a_reset_connection_as_not_clean_with_1006(self, server, log):
        """The log has no traceback."""
        with server.open() as peer:
            assert peer.echoes()
            peer.reset()
        wait_until(lambda: not server.count_connections(), "the connection gone")
        [line] = [line for line in log.lines("wsserver.connection") if "connection closed" in line]
        assert "code=1006" in line
        assert "clean=False" in line

    def test_logs_the_end_in_one_line_with_code_and_counts(self, server, log):
        """The query string, which may hold a token, is not logged."""
        with server.open("/echo?token=secret") as peer:
            assert peer.echoes("twelve bytes")
            peer.send_frame(CLOSE, close_payload(4000, "a\r\nb"))
            peer.read_close()
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_connections(), "the connection gone")
        lines = log.lines("wsserver.connection")
        [line] = [line for line in lines if "connection closed" in line]
        for part in (
            "/echo ",
            "code=4000",
            "by=peer",
            "clean=True",
            "messages_in=1 bytes_in=12",
            "messages_out=1 bytes_out=12",
        ):
            assert part in line
        assert "\n" not in line
        assert not any("secret" in line for line in lines)


class PingTests:
    """The options --ping-interval and --ping-timeout."""

    def test_keeps_a_peer_that_answers_each_ping(self, start_server):
        """The payloads of all pings differ."""
        server = start_server(ping_interval=0.05, ping_timeout=5.0)
        with server.open() as peer:
            seen = set()
            for _ in range(5):
                ping = peer.read_frame()
                assert ping.opcode == PING
                seen.add(ping.payload)
                peer.send_frame(PONG, ping.payload)
            assert len(seen) == 5, "each ping has its own payload"
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_close().close_code == 1000

    def test_closes_a_peer_that_sends_no_pong_with_1011(self, start_server, log):
        server = start_server(ping_interval=0.1, ping_timeout=0.1)
        with server.open() as peer:
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (1011, "no pong within 100ms")
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_sockets(), "the connection gone")
        assert any("code=1011 by=server" in line for line in log.lines("wsserver.connection"))
        assert server.serves_the_next()

    def test_sends_no_pings_if_the_interval_is_zero(self, start_server):
        server = start_server(ping_interval=0, ping_timeout=0.1)
        with server.open("/ticker?every=100ms&count=5") as peer:
            assert [peer.read_frame().opcode for _ in range(6)] == [TEXT] * 5 + [CLOSE]


class StoppingTests:
    """The service stops."""

    def test_closes_every_websocket_connection_with_1012(self, start_server):
        """The stream ends without a reset."""
        server = start_server()
        peers = [server.open(path) for path in ("/", "/echo", "/ticker", "/ws")]
        autobahn = connect_autobahn(f"{server.url}/echo")
        server.begin_to_stop()
        for peer in peers:
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (1012, "the server is stopping")
            finish(peer, close)
            peer.socket.close()
        closed = autobahn.wait_closed()
        assert (closed.clean, closed.code) == (True, 1012)
        server.stop()

    def test_accepts_no_new_connections_while_it_waits_for_a_client(self, start_server):
        server = start_server()
        port = server.port
        with server.open() as peer:
            server.begin_to_stop()
            assert peer.read_close().close_code == 1012
            with pytest.raises(ConnectionError):
                type(peer)(port)
            peer.send_frame(CLOSE, close_payload(1012))
            assert peer.read_to_end() == b""

    def test_stops_although_a_peer_does_not_answer_the_close(self, start_server):
        """The peer gets 1012; the service stops after --close-timeout."""
        server = start_server(close_timeout=0.3)
        with server.open() as peer:
            server.stop()
            assert peer.read_close().close_code == 1012

    def test_closes_a_peer_in_the_middle_of_a_message_with_1012(self, start_server):
        server = start_server()
        with server.open() as peer:
            peer.send(frame(BINARY, b"x" * 100_000)[:50_000])
            server.begin_to_stop()
            assert peer.read_close().close_code == 1012

    def test_ends_idle_incomplete_and_silent_http_connections(self, start_server):
        server = start_server()
        with server.connect() as idle, server.connect() as half, server.connect() as silent:
            assert idle.request("/").status == 200
            half.send(b"GET / HTTP/1.1\r\nHo")
            wait_until(lambda: server.count_sockets() == 3, "all three accepted")
            server.stop()
            assert [peer.read_to_end() for peer in (idle, half, silent)] == [b"", b"", b""]

    def test_drops_a_peer_that_does_not_read_a_pending_response(self, start_server):
        """The server drops the peer after --close-timeout, although it still has 1 MiB to send."""
        server = start_server(close_timeout=0.3)
        server.shrink_send_buffers()
        with server.open("/", receive_buffer=4096) as peer:
            peer.send_frame(BINARY, b"x" * 1024**2)
            [connection] = server.ask(lambda: list(server.service.connections.connections))
            wait_until(lambda: connection.messages_out, "the answer under way")
            server.stop()
            wait_until(lambda: not server.count_sockets(), "the connection dropped")

    def test_five_services_can_start_and_stop_in_one_process(self, start_server):
        for _ in range(5):
            server = start_server()
            assert server.serves_the_next()
            server.stop()

    def test_a_stopped_service_can_be_started_again(self, start_server):
        server = start_server()
        assert server.serves_the_next()
        server.stop()
        server.ask(server.service.startService)
        try:
            assert server.serves_the_next()
            with server.open() as peer:
                peer.send_frame(CLOSE, close_payload(1000))
                assert peer.read_close().close_code == 1000
        finally:
            server.ask(server.service.stopService)
