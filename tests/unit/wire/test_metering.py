"""Rates and budgets of one connection: messages and bytes per second, and the work of compression."""

import itertools
import zlib

import pytest
from turns import end_turn

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame
from wsserver.wire.limits import BYTES_PER_TURN
from wsserver.wire.metering import Allowance, Meter

TEXT, BINARY, PING, PONG = 1, 2, 9, 10


def connect(server, headers=None):
    client = server.connect()
    assert b" 101 " in client.open("/echo", headers or {})
    return client


def run(server, seconds):
    """Let time pass in small steps."""
    for _ in range(int(seconds * 100)):
        server.clock.advance(0.01)


def limits(server):
    return {name: count > 0 for name, count in server.service.connections.counters.limits.items()}


class MeterTests:
    """`Allowance` and `Meter`, without a connection."""

    def test_permits_twice_the_rate_at_once_and_then_the_rate(self):
        rate, used = Allowance(10, 0.0), []
        for step in range(300):
            while rate.wait(step / 100) == 0:
                rate.use(1)
                used.append(step)
        assert used.count(0) == 20
        assert 48 <= len(used) <= 50

    def test_names_the_option_that_causes_the_longer_wait(self):
        meter = Meter(10, 1000, 0.0)
        meter.allow(30, 0, 256, 0.0)
        assert meter.wait(0.0) == (pytest.approx(1.1), "message_rate")
        meter.allow(30, 10_000, 256, 0.0)
        assert meter.wait(0.0) == (pytest.approx(8.001), "byte_rate")

    def test_counts_waiting_bytes_once(self):
        """They are counted when the first of them are processed."""
        meter = Meter(0, 1000, 0.0)
        assert meter.allow(0, 1500, 256, 0.0) == 256
        meter.keep_waiting(1000)
        assert meter.allow(0, 1700, 256, 0.0) == 256
        assert meter.allow(0, 100, 256, 0.0) == 0
        meter.keep_waiting(100)
        assert meter.wait(0.0)[0] == pytest.approx(0.201)
        assert meter.allow(0, 100, 256, 0.3) == 256
        assert meter.wait(0.3)[0] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"message_rate": 10}, "message_rate"), ({"byte_rate": 70}, "byte_rate")],
    ids=["messages", "bytes"],
)
class ThrottleTests:
    """`--message-rate` and `--byte-rate`."""

    def test_delays_messages_without_losing_any_and_reads_nothing_meanwhile(self, options, name):
        server = MemoryServer(Settings(**options))
        client = connect(server)
        texts = [str(number) for number in range(60)]
        for text in texts:
            client.send_text(text)
        assert client.transport.paused
        first = client.messages()
        assert 0 < len(first) < 25
        run(server, 10)
        assert first + client.messages() == texts
        assert not client.transport.paused
        assert limits(server) == {name: True}

    def test_closes_with_1008_and_names_the_option_with_rate_action_close(self, options, name):
        server = MemoryServer(Settings(**options, rate_action="close"))
        client = connect(server)
        for number in range(60):
            client.send_text(str(number))
        option = name.replace("_", "-")
        server.clock.advance(0)
        frames = client.frames()
        assert frames[-1].payload[2:].decode() == f"the client sends too fast (server option --{option})"
        assert int.from_bytes(frames[-1].payload[:2], "big") == 1008
        assert limits(server) == {name: True}

    def test_leaves_no_timer_behind_when_the_client_disconnects(self, options, name):
        server = MemoryServer(Settings(**options, ping_interval=0))
        client = connect(server)
        for number in range(60):
            client.send_text(str(number))
        client.transport.lose()
        server.clock.advance(0)
        assert "_end_throttle" not in [call.func.__name__ for call in server.clock.getDelayedCalls()]

    def test_a_steady_client_below_the_rate_is_never_delayed(self, options, name):
        server = MemoryServer(Settings(**options))
        client = connect(server)
        for number in range(50):
            client.send_text(str(number % 10))
            server.clock.advance(0.11)
            assert client.messages() == [str(number % 10)]
        assert limits(server) == {}


def test_processes_waiting_messages_at_the_rate():
    server = MemoryServer(Settings(message_rate=10))
    client = connect(server)
    client.send(build_frame(TEXT, b"x") * 60)
    counts = [len(client.messages())]
    for _ in range(4):
        run(server, 1)
        counts.append(len(client.messages()))
    assert counts[0] == 20
    assert all(9 <= count <= 11 for count in counts[1:])


def test_does_not_take_a_delayed_pong_for_a_dead_client():
    """The pong may be behind messages that the server has not processed yet."""
    server = MemoryServer(Settings(message_rate=10, ping_interval=1, ping_timeout=0.5))
    client = connect(server)
    client.send(build_frame(TEXT, b"x", fin=False) + build_frame(PING) * 200)
    run(server, 5)
    assert client.close_frame() is None


def test_does_not_count_its_own_delay_towards_the_message_timeout():
    server = MemoryServer(Settings(message_rate=10, message_timeout=1, ping_interval=0))
    client = connect(server)
    client.send(build_frame(TEXT, b"a", fin=False) + build_frame(PING) * 60 + build_frame(0, b"b"))
    run(server, 10)
    assert client.messages() == ["ab"]


def test_the_message_rate_counts_pings():
    server = MemoryServer(Settings(message_rate=10))
    client = connect(server)
    client.send(build_frame(PING) * 100)
    server.clock.advance(0)
    run(server, 0.5)
    assert 20 <= len([frame for frame in client.frames() if frame.opcode == PONG]) <= 40
    assert limits(server) == {"message_rate": True}


class CompressionBudgetTests:
    """The budget of a turn counts what compressed messages inflate to."""

    OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}

    def _message(self, size):
        stream = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = (stream.compress(b"x" * size) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
        return build_frame(BINARY, data, rsv=4)

    def test_inflates_about_two_budgets_of_bytes_in_a_turn_for_all_clients_together(self):
        server = MemoryServer(Settings(compression="on"))
        clients = [connect(server, self.OFFER) for _ in range(4)]
        connections = list(server.service.connections.connections)
        size = BYTES_PER_TURN // 2
        for client in clients:
            client.send(self._message(size) * 4)
        counts = []
        while (count := sum(connection.bytes_in for connection in connections)) < 16 * size:
            counts.append(count)
            assert end_turn(server.clock)
        steps = [after - before for before, after in itertools.pairwise(counts)]
        assert len(steps) >= 3
        # Each message is inflated and compressed again, and a turn ends after the message that uses up the budget.
        assert max(steps) <= 2 * BYTES_PER_TURN
        assert all(len(client.frames()) == 4 for client in clients)

    def test_answers_small_compressed_messages_at_once(self):
        server = MemoryServer(Settings(compression="on"))
        client = connect(server, self.OFFER)
        client.send(self._message(100) * 100)
        assert len(client.frames()) == 100

    def test_counts_compressed_fragments_too(self):
        server = MemoryServer(Settings(compression="on"))
        client = connect(server, self.OFFER)
        whole = self._message(BYTES_PER_TURN // 2)
        # The first byte without FIN, then an empty last fragment.
        client.send((bytes([whole[0] & 0x7F]) + whole[1:] + build_frame(0)) * 10)
        (connection,) = server.service.connections.connections
        assert connection.messages_in < 8
        while end_turn(server.clock):
            pass
        assert connection.messages_in == 10
