"""/ticker: the server sends messages on its own."""

import pytest
from peers import BINARY, CLOSE, TEXT, close_payload, connect_autobahn, frame, handshake_request
from waiting import wait_until


class TickerTests:
    """The messages of /ticker?every=...&count=...&text=..., and the queries that it refuses."""

    def test_sends_count_ticks_and_closes_with_1000(self, server):
        """The client does not send anything."""
        with server.open("/ticker?every=10ms&count=3&text=tock") as peer:
            assert [peer.read_message() for _ in range(3)] == ["tock 1", "tock 2", "tock 3"]
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (1000, "3 of 3 sent")
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""

    def test_autobahn_gets_a_clean_close_with_1000_after_the_last_tick(self, server):
        peer = connect_autobahn(f"{server.url}/ticker?every=10ms&count=2")
        assert [peer.receive(), peer.receive()] == ["tick 1", "tick 2"]
        closed = peer.wait_closed()
        assert (closed.clean, closed.code) == (True, 1000)

    @pytest.mark.parametrize("every", ["10ms", "0.02", "0.02s", "20ms"])
    def test_accepts_every_with_a_unit_or_in_seconds(self, server, every):
        with server.open(f"/ticker?every={every}&count=1") as peer:
            assert peer.read_message() == "tick 1"

    def test_text_is_percent_decoded_and_may_be_empty(self, server):
        with server.open("/ticker?every=10ms&text=%C3%BC%20%F0%9F%8E%89+x") as peer:
            assert peer.read_message() == "ü 🎉 x 1"
        with server.open("/ticker?every=10ms&text=") as peer:
            assert peer.read_message() == " 1"

    def test_without_count_it_sends_until_the_client_closes(self, server):
        with server.open("/ticker?every=10ms") as peer:
            assert [peer.read_message() for _ in range(20)] == [f"tick {n}" for n in range(1, 21)]
            peer.send_frame(CLOSE, close_payload(1000))
            while (got := peer.read_frame()).opcode == TEXT:
                pass
            assert got.close_code == 1000
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_connections(), "the connection closed")

    def test_a_reset_connection_is_closed(self, server):
        with server.open("/ticker?every=10ms") as peer:
            peer.read_message()
            peer.reset()
        wait_until(lambda: not server.count_sockets(), "the connection closed")

    def test_ignores_messages_of_the_client(self, server):
        with server.open("/ticker?every=10ms&count=5") as peer:
            peer.send_frame(TEXT, b"bye")
            assert [peer.read_message() for _ in range(5)] == [f"tick {n}" for n in range(1, 6)]

    def test_pauses_while_the_client_does_not_read_and_skips_no_tick(self, start_server):
        server = start_server()
        server.shrink_send_buffers()
        with server.open(f"/ticker?every=10ms&text={'x' * 12_000}", receive_buffer=4096) as peer:
            [ticker] = server.ask(lambda: list(server.service.connections.connections))
            wait_until(lambda: ticker._write_blocked and ticker._call is None, "the ticker paused")
            sent = ticker._number
            assert sent * 12_000 < 4 * 1024**2
            assert [int(peer.read_message().split()[1]) for _ in range(sent + 5)] == list(range(1, sent + 6))

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("every=0", "every='0'"),
            ("every=1ms", "every='1ms'"),
            ("every=-1s", "every='-1s'"),
            ("every=2h", "every='2h'"),
            ("every=soon", "every='soon'"),
            ("every=", "every=''"),
            ("every=nan", "every='nan'"),
            ("every=1e3", "every='1e3'"),
            ("count=0", "count='0'"),
            ("count=-1", "count='-1'"),
            ("count=many", "count='many'"),
            ("count=1000001", "count='1000001'"),
            ("count=%D9%A3", "count="),
            ("count=" + "9" * 5000, "count="),
            ("speed=1", "'speed'"),
            ("every=1s&every=2s", "'every'"),
            ("%3Cscript%3E=1", "unknown parameter"),
            ("%0D%0AX-Evil:%201=1", "unknown parameter"),
        ],
    )
    def test_refuses_an_invalid_query_with_400_and_names_the_parameter(self, server, query, words):
        with server.connect() as peer:
            peer.send(handshake_request(f"/ticker?{query}"))
            response = peer.read_response()
            assert (response.status, response.phrase) == (400, "Bad Request")
            assert words in response.text
            assert response.header("x-evil") is None
            assert peer.read_to_end() == b""
        assert server.serves_the_next()

    def test_a_refused_client_that_sent_more_reads_400_without_a_tcp_reset(self, server):
        """The client sends 500 kB right behind its handshake."""
        with server.connect() as peer:
            peer.send(handshake_request("/ticker?count=0") + frame(BINARY, b"x" * 500_000))
            assert peer.read_response().status == 400
            assert peer.read_to_end() == b""
        assert server.serves_the_next()
