"""/echo returns every message unchanged; the tests use two independent clients."""

import zlib
from collections.abc import Callable
from typing import Any

import pytest
from peers import BINARY, CONTINUATION, PING, PONG, TEXT, connect_autobahn, frame
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

MESSAGES = {
    "a text": "hello, world",
    "an empty text": "",
    "an empty binary message": b"",
    "text beyond ASCII": "κόσμε, 你好, 🎉, \u0000 and \ufeff",
    "every byte": bytes(range(256)),
    "the longest message with a one-byte length": "x" * 125,
    "the shortest message with a two-byte length": "x" * 126,
    "the longest message with a two-byte length": b"x" * 65535,
    "the shortest message with an eight-byte length": b"x" * 65536,
    "a text of exactly the limit, 1 MiB": "0123456789abcdef" * 65536,
    "a binary message of exactly the limit, 1 MiB": bytes(range(256)) * 4096,
}


@pytest.fixture(params=["autobahn", "websockets"])
def exchange(request: pytest.FixtureRequest) -> Callable[..., list[str | bytes]]:
    """Return a function that sends messages over one connection and returns the answers, for each client in turn."""

    def with_autobahn(url: str, *messages: str | bytes) -> list[str | bytes]:
        peer = connect_autobahn(url)
        answers = []
        for message in messages:
            peer.send(message)
            answers.append(peer.receive())
        closed = peer.close(1000)
        assert (closed.clean, closed.code) == (True, 1000)
        return answers

    def with_websockets(url: str, *messages: str | bytes) -> list[str | bytes]:
        answers = []
        with connect(url, proxy=None, compression=None, max_size=None) as peer:
            for message in messages:
                peer.send(message)
                answers.append(peer.recv(timeout=15))
        assert peer.close_code == 1000
        return answers

    return with_autobahn if request.param == "autobahn" else with_websockets


def inflate(data: bytes) -> bytes:
    """Inflate a message's first and only frame (RFC 7692 section 7.2.2)."""
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


class EchoTests:
    """The endpoint /echo."""

    @pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
    def test_a_message_comes_back_with_the_same_bytes_and_type(self, server, exchange, message):
        assert exchange(f"{server.url}/echo", message) == [message]

    def test_200_messages_come_back_in_order(self, server, exchange):
        messages = [f"message {number}" for number in range(200)]
        assert exchange(f"{server.url}/echo", *messages) == messages

    def test_the_name_of_a_command_is_echoed(self, server, exchange):
        """Commands are answered on other paths only."""
        words = ["hello", "bye", "help", "whoami", " time "]
        assert exchange(f"{server.url}/echo", *words) == words

    def test_reply_prefix_does_not_change_an_echo(self, start_server, exchange):
        server = start_server(reply_prefix="server: ")
        assert exchange(f"{server.url}/echo", "text", b"bytes") == ["text", b"bytes"]

    def test_a_trailing_slash_leads_to_the_same_endpoint(self, server, exchange):
        assert exchange(f"{server.url}/echo/", "hello") == ["hello"]


class FragmentTests:
    """Fragmented messages (RFC 6455 section 5.4)."""

    def test_a_text_in_four_fragments_comes_back_as_one_message(self, server):
        """One of the fragments is empty."""
        with server.open() as peer:
            peer.send_frame(TEXT, b"one ", fin=False)
            peer.send_frame(CONTINUATION, b"", fin=False)
            peer.send_frame(CONTINUATION, b"two ", fin=False)
            peer.send_frame(CONTINUATION, b"three")
            assert peer.read_message() == "one two three"

    def test_a_text_in_one_byte_fragments_comes_back_whole(self, server):
        """Some fragments end within a character."""
        data = "κόσμε🎉".encode()
        with server.open() as peer:
            peer.send_frame(TEXT, data[:1], fin=False)
            for at in range(1, len(data)):
                peer.send_frame(CONTINUATION, data[at : at + 1], fin=at == len(data) - 1)
            assert peer.read_message() == "κόσμε🎉"

    def test_a_ping_between_fragments_is_answered_before_the_message_is_complete(self, server):
        with server.open() as peer:
            peer.send_frame(BINARY, b"be", fin=False)
            peer.send_frame(PING, b"in between")
            pong = peer.read_frame()
            assert (pong.opcode, pong.payload) == (PONG, b"in between")
            peer.send_frame(CONTINUATION, b"gin")
            assert peer.read_message() == b"begin"

    def test_a_frame_that_arrives_byte_by_byte_is_one_message(self, server):
        with server.open() as peer:
            for byte in frame(TEXT, b"byte by byte"):
                peer.send(bytes([byte]))
            assert peer.read_message() == "byte by byte"

    def test_a_message_in_ten_thousand_fragments_comes_back_whole(self, start_server):
        with start_server(max_fragments=10_000).open() as peer:
            parts = [frame(BINARY if n == 0 else CONTINUATION, b"x", fin=n == 9999) for n in range(10_000)]
            peer.send(b"".join(parts))
            assert peer.read_message() == b"x" * 10_000

    def test_an_unsolicited_pong_is_ignored(self, server):
        with server.open() as peer:
            peer.send_frame(PONG, b"heartbeat")
            assert peer.echoes()


class CompressionTests:
    """permessage-deflate (RFC 7692), with `websockets` as the client."""

    def _connect(self, url: str, **options: Any) -> Any:
        return connect(url, proxy=None, **options)

    def test_is_not_negotiated_by_default(self, server):
        with self._connect(f"{server.url}/echo") as peer:
            assert "Sec-WebSocket-Extensions" not in peer.response.headers
            peer.send("hello " * 100)
            assert peer.recv(timeout=15) == "hello " * 100

    @pytest.mark.parametrize("message", ["hello " * 1000, "", "x", b"\0" * 100_000, "κόσμε" * 50], ids=range(5))
    def test_compressed_messages_come_back_unchanged_with_compression_on(self, start_server, message):
        server = start_server(compression="on")
        with self._connect(f"{server.url}/echo") as peer:
            assert peer.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
            for _ in range(3):
                peer.send(message)
                assert peer.recv(timeout=15) == message

    @pytest.mark.parametrize("takeover", ["off", "on"])
    @pytest.mark.parametrize("bits", [9, 12, 15])
    def test_messages_come_back_unchanged_with_every_takeover_and_window_size(self, start_server, takeover, bits):
        server = start_server(
            compression="on",
            compression_context_takeover=takeover,
            compression_window_bits=bits,
            compression_min_size=0,
        )
        for offer in (None, {"server_no_context_takeover": True}, {"client_max_window_bits": 10}):
            extensions = None if offer is None else [ClientPerMessageDeflateFactory(**offer)]
            with self._connect(
                f"{server.url}/echo", extensions=extensions, compression=None if offer else "deflate"
            ) as peer:
                answer = peer.response.headers["Sec-WebSocket-Extensions"]
                assert ("client_no_context_takeover" in answer) == (takeover == "off")
                for size in (0, 1, 100, 1000, 5000, 40_000):
                    message = " ".join(str(n * n) for n in range(size))[:size]
                    for _ in range(3):
                        peer.send(message)
                        assert peer.recv(timeout=15) == message

    def test_a_message_of_127_bytes_is_not_compressed_and_one_of_128_is(self, start_server):
        with start_server(compression="on").open("/echo", "Sec-WebSocket-Extensions: permessage-deflate") as peer:
            for size in (127, 128):
                peer.send_frame(TEXT, b"x" * size)
                assert peer.read_frame().rsv == (4 if size == 128 else 0)

    def test_a_client_that_does_not_offer_compression_gets_none(self, start_server):
        server = start_server(compression="on")
        with self._connect(f"{server.url}/echo", compression=None) as peer:
            assert "Sec-WebSocket-Extensions" not in peer.response.headers
            peer.send("hello")
            assert peer.recv(timeout=15) == "hello"

    @pytest.mark.parametrize(
        "offer",
        [
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=9",
            'permessage-deflate; client_max_window_bits="10"',
            "x-unknown, permessage-deflate",
            "permessage-deflate; mistake=1, permessage-deflate",
        ],
    )
    def test_every_valid_offer_is_accepted_and_the_answer_compressed(self, start_server, offer):
        """An unknown or invalid offer in the same request does not matter."""
        server = start_server(compression="on", compression_min_size=0)
        with server.connect() as peer:
            answer = peer.handshake("/echo", f"Sec-WebSocket-Extensions: {offer}")
            assert (answer.header("sec-websocket-extensions") or "").startswith("permessage-deflate")
            peer.send_frame(TEXT, b"not every message need be compressed")
            answer = peer.read_frame()
            assert answer.rsv == 4, "the answer is compressed: RSV1"
            assert inflate(answer.payload) == b"not every message need be compressed"

    @pytest.mark.parametrize(
        "offer",
        [
            "permessage-deflate; mistake=1",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame",
        ],
    )
    def test_an_unsupported_offer_is_declined_and_the_connection_works_without(self, start_server, offer):
        server = start_server(compression="on")
        with server.connect() as peer:
            answer = peer.handshake("/echo", f"Sec-WebSocket-Extensions: {offer}")
            assert answer.header("sec-websocket-extensions") is None
            assert peer.echoes()
