"""A mock server that replays recordings, on a clock that only tests advance."""

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.recordings import Message, Recording, Step
from wsserver.endpoints.replay import replay_endpoints
from wsserver.testing import MemoryServer


def text(words):
    return Message(False, words.encode())


STEPS = (
    Step(0, 0.5, text("welcome")),
    Step(1, 0.25, text("first")),
    Step(1, 1.0, Message(True, b"second")),
    Step(2, 0.0, code=1012, reason="bye"),
)


@pytest.fixture
def play():
    """Return a function that starts a server with recordings."""

    def start(*recordings, speed=1.0, path=None):
        # The server makes the clock.
        server = MemoryServer(Settings())
        endpoints = replay_endpoints(recordings, server.clock, speed=speed, path=path)
        made = MemoryServer(Settings(), endpoints=endpoints)
        made.advance = lambda seconds: (server.clock.advance(seconds), made.clock.advance(seconds))
        return made

    return start


RECORDING = Recording("/feed", STEPS, (text("one"), text("two")))


def opened(server, path="/feed", headers=None):
    client = server.connect()
    client.head = client.open(path, headers or {})
    return client


class TimeTests:
    """When the server sends a message."""

    def test_waits_for_the_recorded_delay_and_for_the_client(self, play):
        server = play(RECORDING)
        client = opened(server)
        server.advance(0.4)
        assert client.messages() == []
        server.advance(0.1)
        assert client.messages() == ["welcome"]
        server.advance(100)
        assert client.messages() == []
        client.send_text("one")
        server.advance(0.25)
        assert client.messages() == ["first"]
        server.advance(1.0)
        assert client.messages() == [b"second"]
        client.send_text("two")
        (close,) = client.frames()
        assert (close.opcode, close.payload[:2], close.payload[2:]) == (8, (1012).to_bytes(2, "big"), b"bye")

    def test_speed_divides_the_delays(self, play):
        server = play(RECORDING, speed=10.0)
        client = opened(server)
        server.advance(0.051)
        assert client.messages() == ["welcome"]

    def test_speed_0_sends_at_once_what_needs_no_message_of_the_client(self, play):
        client = opened(play(RECORDING, speed=0.0))
        assert client.messages() == ["welcome"]
        client.send_text("one")
        assert client.messages() == ["first", b"second"]

    def test_a_client_that_is_ahead_gets_everything_in_order(self, play):
        client = opened(play(RECORDING, speed=0.0))
        client.send_text("one")
        client.send_text("two")
        assert [frame.opcode for frame in client.frames()] == [1, 1, 2, 8]

    def test_a_client_that_does_not_read_holds_the_replay(self, play):
        many = Recording("/feed", tuple(Step(0, 0, Message(True, bytes(50_000))) for _ in range(100)), ())
        server = play(many, speed=0.0)
        client = server.connect()
        client.transport.reading = False
        client.open("/feed")
        assert len(client.transport.unread) < 200_000
        while client.transport.unread:
            client.transport.read_again()
        assert len(client.transport.written) > 5_000_000

    def test_no_timer_is_left_when_the_client_leaves(self, play):
        server = play(RECORDING)
        client = opened(server)
        client.transport.lose()
        server.advance(1)

    @pytest.mark.parametrize("speed", [-1, float("nan"), float("inf")])
    def test_refuses_an_impossible_speed(self, play, speed):
        with pytest.raises(ValueError, match=f"speed {speed}: expected a number from 0"):
            play(RECORDING, speed=speed)


class ChoiceTests:
    """Which recording a client gets."""

    def test_each_connection_gets_the_next_recording_of_the_path_and_the_last_one_stays(self, play):
        server = play(
            *(Recording("/feed", (Step(0, 0, text(word)),), ()) for word in ("one", "two")),
            Recording("/other", (Step(0, 0, text("other")),), ()),
        )
        assert [opened(server).messages() for _ in range(3)] == [["one"], ["two"], ["two"]]
        assert opened(server, "/other").messages() == ["other"]

    def test_a_path_can_be_given(self, play):
        assert opened(play(RECORDING, speed=0.0, path="/echo"), "/echo").messages() == ["welcome"]

    def test_the_recorded_subprotocol_is_chosen_if_the_client_offers_it(self, play):
        server = play(Recording("/feed", (), (), subprotocol="chat"))
        client = opened(server, headers={"Sec-WebSocket-Protocol": "other, chat"})
        assert b"Sec-WebSocket-Protocol: chat\r\n" in client.head + b"\r\n"
        assert b"Sec-WebSocket-Protocol" not in opened(server).head

    def test_a_recorded_refusal_is_sent_again(self, play):
        server = play(Recording("/feed", (), (), status=403))
        assert opened(server).head.startswith(b"HTTP/1.1 403 ")

    def test_a_dropped_connection_is_dropped(self, play):
        client = opened(play(Recording("/feed", (Step(0, 0, drops=True),), ())))
        assert client.transport.aborted
