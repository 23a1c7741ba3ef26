"""`/whoami` and the command `whoami`: the connection as the server sees it."""

import json

import pytest
from twisted.internet.address import IPv4Address

from wsserver.config.settings import Settings
from wsserver.endpoints.whoami import PONG_TIMEOUT
from wsserver.testing import Frame, MemoryServer

SETTINGS = Settings(compression="on", compression_min_size="1GiB", subprotocol=("chat",), trusted_proxy=("192.0.2.7",))
HEADERS = {
    "X-Forwarded-For": "198.51.100.9",
    "Cookie": "session=hush",
    "Authorization": "Bearer hush",
    "Sec-WebSocket-Protocol": "chat, other",
    "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits, x-unknown; a=1",
}
PROXY = IPv4Address("TCP", "192.0.2.7", 4000)


class Visitor:
    """A client at `/whoami`, behind a proxy."""

    def __init__(self):
        self.server = MemoryServer(SETTINGS)
        self.client = self.server.connect(PROXY)
        self.head = self.client.open("/whoami?a=1&token=hush&tap=" + "a" * 32, HEADERS)

    def answer(self, seconds=0.25):
        """Answer the ping after some time, and return what the server says then."""
        (ping,) = self.client.frames()
        self.server.clock.advance(seconds)
        self.client.send_frame(10, ping.payload)
        self.server.clock.advance(0)
        (message,) = self.client.messages()
        return json.loads(message)


class EndpointTests:
    """The endpoint."""

    def test_describes_the_connection_after_a_pong(self):
        visitor = Visitor()
        about = visitor.answer()
        assert about["round_trip_ms"] == 250
        assert (about["address"], about["peer"]) == ("198.51.100.9", "192.0.2.7:4000")
        assert (about["http_version"], about["method"], about["path"]) == ("1.1", "GET", "/whoami")
        assert about["subprotocols_offered"] == ["chat", "other"]
        assert about["subprotocol"] == "chat"
        assert about["extensions_offered"] == [
            {"extension": "permessage-deflate", "client_max_window_bits": True},
            {"extension": "x-unknown", "a": "1"},
        ]
        assert about["extensions"][0]["extension"] == "permessage-deflate"
        assert about["tls"] is None

    def test_messages_that_arrive_before_the_pong_have_no_further_effect(self):
        visitor = Visitor()
        visitor.client.send_text("again")
        visitor.client.send_text("and again")
        assert visitor.answer()["path"] == "/whoami"
        visitor.server.clock.advance(PONG_TIMEOUT)
        assert visitor.client.frames() == []
        visitor.client.send_text("now")
        assert visitor.answer(0.5)["round_trip_ms"] == 500

    def test_a_pong_that_the_server_did_not_ask_for_is_no_answer(self):
        visitor = Visitor()
        visitor.client.send_frame(10, b"unasked")
        visitor.server.clock.advance(0)
        assert visitor.client.messages() == []

    def test_names_the_connection_as_the_response_header_does(self):
        visitor = Visitor()
        assert f"WSServer-Connection-Id: {visitor.answer()['connection_id']}".encode() in visitor.head

    def test_lists_the_headers_in_order(self):
        names = [name for name, _ in Visitor().answer()["headers"]]
        assert names[0] == "host"
        assert names[-5:] == [name.lower() for name in HEADERS]

    def test_shows_no_secret(self):
        about = Visitor().answer()
        assert "hush" not in json.dumps(about)
        assert about["query"] == {"a": ["1"], "token": ["[secret]"], "tap": ["[secret]"]}

    def test_describes_the_connection_again_for_each_message(self):
        visitor = Visitor()
        visitor.answer()
        visitor.client.send_text("again")
        assert visitor.answer(0.5)["round_trip_ms"] == 500

    def test_does_not_wait_forever_for_a_pong(self):
        visitor = Visitor()
        visitor.client.frames()
        visitor.server.clock.pump([PONG_TIMEOUT / 2] * 4)
        (message,) = visitor.client.messages()
        assert json.loads(message)["round_trip_ms"] is None

    def test_sends_one_ping_for_messages_that_arrive_together(self):
        visitor = Visitor()
        for _ in range(100):
            visitor.client.send_text("x")
        assert visitor.client.frames() == [Frame(9, b"whoami")]

    def test_leaves_no_timer(self):
        visitor = Visitor()
        visitor.client.transport.lose()
        visitor.server.clock.pump([1] * 60)
        assert visitor.server.clock.getDelayedCalls() == []


class CommandTests:
    """The command."""

    @pytest.mark.parametrize("path", ["/", "/ws"])
    def test_describes_the_connection_with_the_last_round_trip(self, path):
        server = MemoryServer(Settings(ping_interval="10s"))
        client = server.connect()
        client.open(path)
        server.clock.advance(10)
        (ping,) = client.frames()
        client.send_frame(10, ping.payload)
        client.send_text("whoami")
        server.clock.advance(0)
        about = json.loads(client.messages()[0])
        assert about["round_trip_ms"] is not None
        assert about["connection_id"]
