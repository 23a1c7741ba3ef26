"""The drain of a stopping server: when each connection is closed, and what it waits for."""

import pytest
from twisted.internet.task import Clock

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.drain import AT_ONCE, INTERVAL, MAX_PER_STEP, PER_SECOND, Drain, Wait, must_wait


class FakeConnection:
    """A connection that records when it is drained."""

    def __init__(self, clock, connections):
        self.clock, self.connections = clock, connections
        self.waits_for = Wait.NOTHING
        """What the connection waits for; nothing closes it at once."""
        self.asked = []
        self.closed_at = None
        connections.add(self)

    def drain(self, code, reason, wait):
        self.asked.append(wait)
        if self.waits_for and wait >= self.waits_for:
            return False
        self.closed_at, self.how = self.clock.seconds(), (code, reason)
        self.connections.discard(self)
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(clock):
    """Return a function that drains a number of connections, and returns the connections and the drain."""

    def start(count, jitter=5.0, patience=5.0, prepare=lambda connections: None):
        connections = ConnectionSet()
        found = [FakeConnection(clock, connections) for _ in range(count)]
        prepare(found)
        drain = Drain(connections, clock, code=1012, reason="stop", jitter=jitter, patience=patience)
        return found, drain

    return start


def pump(clock, seconds):
    clock.pump([INTERVAL / 2] * int(seconds / INTERVAL * 2))


class SpreadingTests:
    """The time over which the closes are spread."""

    def test_closes_few_connections_at_once(self, start, clock):
        found, _ = start(AT_ONCE)
        assert all(one.closed_at == 0 for one in found)
        assert found[0].how == (1012, "stop")
        assert not clock.getDelayedCalls()

    def test_spreads_some_hundred_over_a_time_that_grows_with_their_number(self, start, clock):
        found, _ = start(AT_ONCE + PER_SECOND)
        pump(clock, 1.1)
        times = [one.closed_at for one in found]
        assert times.count(0) == AT_ONCE
        assert 0.9 < max(times) < 1.1

    def test_spreads_thousands_evenly_over_the_jitter_in_random_order(self, start, clock):
        found, _ = start(10_000)
        pump(clock, 5.1)
        times = [one.closed_at for one in found]
        assert 4.8 < max(times) <= 5.02
        per_second = [sum(second <= time < second + 1 for time in times) for second in range(5)]
        assert all(1900 <= count <= 2100 for count in per_second)
        assert times != sorted(times)

    def test_closes_all_at_once_without_jitter_but_not_in_one_turn(self, start, clock):
        """The server serves its other clients between the turns."""
        found, _ = start(MAX_PER_STEP + 1, jitter=0)
        assert sum(one.closed_at is not None for one in found) == MAX_PER_STEP
        clock.advance(0)
        assert all(one.closed_at == 0 for one in found)


class WaitingTests:
    """What a connection waits for before it is closed."""

    @pytest.mark.parametrize(
        ("wait", "is_answering", "is_blocked", "waits"),
        [
            (Wait.PEER, False, False, False),
            (Wait.PEER, True, False, True),
            (Wait.PEER, False, True, True),
            (Wait.ANSWERS, True, False, True),
            (Wait.ANSWERS, True, True, False),
            (Wait.NOTHING, True, True, False),
            (Wait.NOTHING, True, False, False),
        ],
    )
    def test_waits_for_answers_and_for_a_limited_time_for_the_peer(self, wait, is_answering, is_blocked, waits):
        assert must_wait(wait, is_answering=is_answering, is_blocked=is_blocked) is waits

    def test_waits_for_a_peer_that_does_not_read_only_as_long_as_its_patience(self, start, clock):
        (one,), _ = start(1, patience=2.0, prepare=lambda found: setattr(found[0], "waits_for", Wait.PEER))
        pump(clock, 1.9)
        assert one.closed_at is None
        pump(clock, 0.2)
        assert one.closed_at == pytest.approx(2.0, abs=0.05)

    def test_waits_for_pending_answers_until_it_is_finished(self, start, clock):
        (one,), drain = start(1, patience=1.0, prepare=lambda found: setattr(found[0], "waits_for", Wait.ANSWERS))
        pump(clock, 20)
        assert one.closed_at is None
        drain.finish()
        assert one.asked[-1] is Wait.NOTHING
        assert one.closed_at is not None
        assert not clock.getDelayedCalls()

    def test_closes_a_connection_that_is_added_later(self, start, clock):
        _, drain = start(0)
        late = FakeConnection(clock, drain._connections)
        drain.add(late)
        clock.advance(0)
        assert late.closed_at == 0


class ConnectionTests:
    """WebSocket connections of a stopping server."""

    def test_answers_the_bytes_that_exceeded_the_turn_before_the_close_frame(self):
        """A client has sent more messages in one write than the server processes in one turn."""
        server = MemoryServer()
        client = server.connect()
        client.open("/echo")
        client.send(b"".join(bytes([0x81, 0x81, 0, 0, 0, 0]) + b"x" for _ in range(1000)))
        server.service.stopService()
        server.clock.pump([INTERVAL] * 20)
        written = bytes(client.transport.written)
        assert written.count(b"\x81\x01x") == 1000
        assert written.endswith(b"\x88\x18\x03\xf4the server is stopping")

    def test_reads_nothing_more_while_it_answers_except_the_close_frame(self):
        server = MemoryServer()
        client = server.connect()
        client.open("/echo")
        client.send(b"".join(bytes([0x81, 0x81, 0, 0, 0, 0]) + b"x" for _ in range(1000)))
        server.service.stopService()
        assert client.transport.paused
        server.clock.pump([INTERVAL] * 20)
        assert not client.transport.paused

    def test_sends_the_close_code_of_the_option(self):
        server = MemoryServer(Settings(drain_code=4321))
        client = server.connect()
        client.open("/echo")
        server.service.stopService()
        assert client.close_frame() == (4321, "the server is stopping")

    def test_sends_3001_to_centrifuge_clients_whatever_the_option_is(self):
        server = MemoryServer(Settings(drain_code=4321))
        client = server.connect()
        client.open("/connection/websocket")
        server.service.stopService()
        assert client.close_frame() == (3001, "shutdown: the server is stopping")


class DeadlineTests:
    """The end of the drain: `--drain-timeout`, or `abort`."""

    def test_drops_a_peer_that_does_not_answer_its_close_frame_at_the_timeout(self):
        server = MemoryServer(Settings(close_timeout=300, drain_timeout=30))
        client = server.connect()
        client.open("/echo")
        stopped = []
        server.service.stopService().addCallback(stopped.append)
        server.clock.advance(27.9)
        assert not stopped
        server.clock.pump([0.1] * 25)
        assert stopped
        assert client.transport.lost

    def test_abort_drops_all_connections_after_a_quarter_of_a_second(self):
        server = MemoryServer(Settings(close_timeout=300))
        client = server.connect()
        client.open("/echo")
        stopped = []
        server.service.stopService().addCallback(stopped.append)
        server.service.abort()
        server.clock.pump([0.05] * 6)
        assert stopped
        assert client.transport.lost
        assert server.clock.getDelayedCalls() == []

    def test_abort_of_a_running_server_does_nothing(self):
        server = MemoryServer()
        client = server.connect()
        client.open("/echo")
        server.service.abort()
        server.clock.pump([1] * 3)
        assert not client.transport.lost
