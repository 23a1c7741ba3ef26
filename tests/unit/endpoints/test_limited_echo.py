"""The paths that people have in their scripts: `/raw`, `/.ws` and `/websocket/echo`."""

import pytest

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer


def connect(target, **settings):
    client = MemoryServer(Settings(**settings)).connect()
    return client, client.open(target) + b"\r\n\r\n" + bytes(client.transport.written)


class EchoTests:
    """Each of them is an echo without a greeting."""

    @pytest.mark.parametrize("path", ["/raw", "/.ws", "/websocket/echo"])
    def test_returns_every_message_and_sends_nothing_else(self, path):
        client, _ = connect(path, catch_all="off")
        assert client.frames() == []
        client.send_text("hello")
        client.send_frame(2, b"\0\1")
        assert client.messages() == ["hello", b"\0\1"]


class LimitTests:
    """`/websocket/echo` with limits."""

    LIMITS = "/websocket/echo?max_message_size=5&max_fragment_size=3"

    def test_returns_messages_and_fragments_up_to_the_limits(self):
        client, _ = connect(self.LIMITS)
        client.send_text("abc")
        client.send_frame(1, b"abc", fin=False)
        client.send_frame(0, b"de")
        assert client.messages() == ["abc", "abcde"]

    @pytest.mark.parametrize("parts", [[b"abcd"], [b"abc", b"abc"], [b"a", b"bcde"], [b"abcdef"]])
    def test_closes_with_1009_beyond_the_limits(self, parts):
        client, _ = connect(self.LIMITS)
        for number, part in enumerate(parts):
            client.send_frame(0 if number else 1, part, fin=number == len(parts) - 1)
        reason = "the message is over a limit of the URL: max_message_size=5, max_fragment_size=3"
        assert client.close_frame() == (1009, reason)

    def test_has_the_limit_of_the_server_without_parameters(self):
        client, _ = connect("/websocket/echo", max_message_size=10)
        client.send_text("x" * 10)
        assert client.messages() == ["x" * 10]
        client.send_text("x" * 11)
        assert "--max-message-size" in client.close_frame()[1]

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ("max_message_size=0", "max_message_size='0': expected a whole number from 1 to 10"),
            ("max_message_size=11", "max_message_size='11': expected a whole number from 1 to 10"),
            ("max_message_size=4&max_fragment_size=5", "max_fragment_size='5': expected a whole number from 1 to 4"),
            ("max_message_size=1&max_message_size=2", "max_message_size='1,2': expected a whole number from 1 to 10"),
            ("max_message_size=eyJhbGciOiJIUzI1NiJ9.e30.x", "max_message_size='[secret]': expected"),
            ("max_message_size=" + "9" * 5000, f"max_message_size='{'9' * 77}...': expected"),
            ("a" * 5000 + "=1", f"unknown parameter '{'a' * 77}...': expected"),
            ("size=1", "unknown parameter 'size': expected max_message_size or max_fragment_size"),
        ],
    )
    def test_refuses_invalid_limits_with_400(self, query, reason):
        _, answer = connect(f"/websocket/echo?{query}", max_message_size=10)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert reason in answer.decode()
