"""Unfinished messages: their deadline, the limit of all of them together, and the limit of fragments."""

from random import Random

import pytest
from twisted.internet.task import Clock

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame
from wsserver.wire import unfinished
from wsserver.wire.unfinished import MEASURE_INTERVAL, UnfinishedMessages

TEXT, CONTINUATION, PING = 1, 0, 9
FIRST = build_frame(TEXT, b"begin", fin=False)
HALF = build_frame(TEXT, b"x" * 1000)[:500]
"""The first half of a frame."""


def connect(server):
    client = server.connect()
    client.open("/echo")
    return client


def limits(server):
    return dict(server.service.connections.counters.limits)


@pytest.mark.parametrize("part", [FIRST, HALF], ids=["first fragment", "half of a frame"])
class DeadlineTests:
    """`--message-timeout`."""

    def test_closes_with_1008_and_names_the_option(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        client.send(part)
        server.clock.advance(4.9)
        assert client.frames() == []
        server.clock.advance(0.2)
        reason = "the message did not arrive within 5s (server option --message-timeout)"
        assert client.close_frame() == (1008, reason)
        assert limits(server) == {"message_timeout": 1}

    def test_is_not_extended_by_pongs_or_further_parts(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        client.send(part)
        for _ in range(4):
            server.clock.advance(1)
            client.send(build_frame(CONTINUATION, b"more", fin=False) if part == FIRST else b"x")
        server.clock.advance(1.1)
        assert client.close_frame()[0] == 1008

    def test_each_message_has_its_own_deadline(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        end = build_frame(CONTINUATION, b"end") if part == FIRST else build_frame(TEXT, b"x" * 1000)[500:]
        for _ in range(3):
            client.send(part)
            server.clock.advance(4)
            client.send(end)
        server.clock.advance(6)
        assert len(client.messages()) == 3
        assert limits(server) == {}

    def test_does_not_end_without_a_timeout(self, part):
        server = MemoryServer(Settings(message_timeout=0, ping_interval=0))
        client = connect(server)
        client.send(part)
        server.clock.advance(3600)
        assert client.frames() == []

    def test_forgets_a_closed_connection(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        client.send(part)
        before = len(server.clock.getDelayedCalls())
        client.transport.lose()
        server.clock.advance(6)
        assert limits(server) == {}
        assert len(server.clock.getDelayedCalls()) < before

    def test_frees_the_part_that_has_arrived(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        client.send(part)
        connection = next(iter(server.service.connections.connections))
        assert connection.unfinished_size > 0
        server.clock.advance(5.1)
        assert (connection.unfinished_size, connection._partial) == (0, None)

    def test_skips_the_rest_of_the_message_up_to_the_close_frame_of_the_client(self, part):
        server = MemoryServer(Settings(message_timeout=5))
        client = connect(server)
        client.send(part)
        server.clock.advance(5.1)
        client.frames()
        client.send(build_frame(CONTINUATION, b"end") if part == FIRST else build_frame(TEXT, b"x" * 1000)[500:])
        client.send_close(1000)
        assert client.transport.lost


class TotalTests:
    """The limit of the unfinished messages of all connections."""

    @pytest.fixture(autouse=True)
    def _total(self, monkeypatch):
        monkeypatch.setattr(unfinished, "MAX_UNFINISHED", 1000)

    def test_gives_up_the_oldest_messages_with_1013_until_the_others_fit(self):
        server = MemoryServer(Settings(max_message_size="1KiB"))
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.send(build_frame(TEXT, b"x" * 400, fin=False))
        server.clock.advance(MEASURE_INTERVAL)
        codes = [client.close_frame() for client in clients]
        assert codes == [(1013, "too many unfinished messages; retry")] * 2 + [None, None]
        assert limits(server) == {"unfinished_messages": 2}

    def test_keeps_messages_that_fit(self):
        server = MemoryServer(Settings(max_message_size="1KiB"))
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.send(build_frame(TEXT, b"x" * 250, fin=False))
        server.clock.advance(1)
        assert [client.close_frame() for client in clients] == [None] * 4

    def test_does_not_count_messages_that_are_complete(self):
        server = MemoryServer(Settings(max_message_size="1KiB"))
        clients = [connect(server) for _ in range(4)]
        for client in clients:
            client.send(build_frame(TEXT, b"x" * 400, fin=False) + build_frame(CONTINUATION))
        server.clock.advance(1)
        assert limits(server) == {}
        assert len(server.service.connections.unfinished._begun) == 0


class FragmentTests:
    """`--max-fragments`."""

    @pytest.mark.parametrize("content", [b"", b"x"])
    def test_closes_with_1008_after_the_maximum_and_names_the_option(self, content):
        server = MemoryServer(Settings(max_fragments=3))
        client = connect(server)
        client.send(build_frame(TEXT, content, fin=False) + build_frame(CONTINUATION, content, fin=False) * 9)
        assert client.close_frame() == (1008, "the message has over 3 fragments (server option --max-fragments)")
        assert limits(server) == {"max_fragments": 1}

    def test_accepts_a_message_with_the_maximum_again_and_again(self):
        """Control frames between the fragments do not count."""
        server = MemoryServer(Settings(max_fragments=3))
        client = connect(server)
        middle = build_frame(PING) + build_frame(CONTINUATION, b"b", fin=False)
        message = build_frame(TEXT, b"a", fin=False) + middle + build_frame(CONTINUATION, b"c")
        client.send(message * 3)
        while server.clock.getDelayedCalls() and len(client.transport.written) < 9:
            server.clock.advance(0)
        assert client.messages() == ["abc"] * 3


class BoundedClock(Clock):
    """A clock that fails instead of calling timers for ever without any time passing."""

    calls_left = 100

    def callLater(self, *arguments, **options):
        self.calls_left -= 1
        assert self.calls_left, "a timer is started again and again"
        return super().callLater(*arguments, **options)


@pytest.mark.parametrize("seed", range(20))
def test_the_timer_of_the_next_deadline_fires_once(seed):
    """Times with all their digits: a deadline must not differ from the time of its timer by a rounding error."""
    random, clock = Random(seed), BoundedClock()
    clock.advance(random.uniform(1, 100))
    messages = UnfinishedMessages(clock, 30.0, 2**20)
    ended = []
    for number in range(10):
        messages.begin(FakeReceiver(lambda number=number: ended.append(number)))
    for _ in range(31):
        clock.advance(1)
    assert ended == list(range(10))
    assert clock.getDelayedCalls() == []


class FakeReceiver:
    """A connection whose message never arrives."""

    messages_in, is_unfinished, is_throttled, unfinished_size = 0, True, False, 1

    def __init__(self, message_timed_out):
        self.message_timed_out = message_timed_out
