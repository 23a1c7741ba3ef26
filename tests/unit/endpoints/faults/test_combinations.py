"""Several faults on one connection: what it sends, in memory."""

import random

import pytest
from fault_bench import Bench

from wsserver.config.settings import Settings
from wsserver.endpoints.faults.table import TABLE
from wsserver.testing import build_frame


def numbers(frames):
    """Return the numbers of the messages that `push` has sent."""
    return [int(frame.payload.split()[0]) for frame in frames if frame.opcode in (1, 2)]


class CombinationTests:
    """`/faults/echo?one=&another=`."""

    def test_closes_after_three_messages_after_a_slow_handshake(self):
        bench = Bench("/faults/echo?slow-handshake=50&slow-handshake.every=100ms&close=1012&close.after=3")
        assert bench.head == b""
        assert bench.wait(3).sent.endswith(b"\r\n\r\n")
        for text in ("a", "b", "c"):
            bench.client.send_text(text)
        assert bench.wait().sent == b"\x81\x01a\x81\x01b\x81\x01c\x88\x02\x03\xf4"

    def test_counts_the_time_from_the_end_of_a_late_and_slow_handshake(self):
        bench = Bench("/faults/late-handshake?time=2s&slow-handshake=1000&drop.wait=1s").wait(2.9, 290)
        assert bench.sent.endswith(b"\r\n\r\n")
        assert not bench.transport.lost
        assert bench.wait().transport.lost

    @pytest.mark.parametrize("end", ["close=1012", "drop=", "reset=", "cut="])
    def test_sends_pings_and_messages_until_the_end(self, end):
        name = end.partition("=")[0]
        bench = Bench(f"/faults/echo?ping=10&push=binary&push.rate=10&push.size=8&{end}&{name}.wait=450ms")
        bench.wait(0.44, 44)
        frames = bench.client.frames()
        assert [frame.opcode for frame in frames] == [2, 9] * 4
        assert numbers(frames) == [1, 2, 3, 4]
        bench.wait()
        last = {"close": b"\x88\x02\x03\xf4", "cut": b"\x81\x7e\x03\xe8" + b"x" * 496}.get(name, b"")
        # Everything ends, although ten pings and ten messages were due.
        assert bench.sent == last
        assert bench.wait(5).transport.lost or name == "close"

    def test_echoes_between_the_messages_that_it_sends(self):
        bench = Bench("/faults/push?rate=10&count=3&drop.wait=1s").wait(0.15)
        bench.client.send_text("9 hello")
        bench.wait(0.25)
        assert numbers(bench.client.frames()) == [1, 9, 2, 3]

    def test_each_fault_has_its_own_trigger(self):
        bench = Bench("/faults/echo?mask.after=1&opcode.after=2&opcode.wait=0&not-utf8.after=2&not-utf8.wait=50ms")
        bench.client.send_text("a")
        assert bench.wait().sent[:5] == b"\x81\x01a\x81\x85"
        bench.client.send_text("b")
        assert bench.wait().sent == b"\x81\x01b" + b"\x83\x05hello" + b"\x81\x04caf\xe9"

    def test_changes_several_headers_of_the_response(self):
        head = Bench("/faults/wrong-accept?wrong-subprotocol=chat&http-1.0=").head
        assert head.startswith(b"HTTP/1.0 101 ")
        assert b"\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=" in head
        assert b"\r\nSec-WebSocket-Protocol: chat" in head

    def test_sends_early_data_slowly_with_the_response(self):
        bench = Bench("/faults/early-data?count=1&slow-handshake=1&every=10ms").wait(30, 3000)
        assert bench.sent.endswith(b"\r\n\r\n\x81\x101 " + b"x" * 14)

    def test_stops_writing_and_then_drops_the_connection(self):
        bench = Bench("/faults/no-write?no-write.after=1&no-write.wait=0&drop.wait=2s")
        bench.client.send_text("a")
        bench.wait()
        bench.client.send_text("b")
        assert bench.wait(1).sent == b"\x81\x01a"
        assert bench.wait(1).transport.lost

    def test_closes_and_never_drops_the_connection(self):
        """The client has answered the Close frame, and waits for the end of the TCP connection."""
        bench = Bench("/faults/close?code=1012&no-close=")
        assert bench.wait().sent == b"\x88\x02\x03\xf4"
        bench.client.send_close(1012)
        assert not bench.wait(60, 60).transport.lost

    def test_a_large_message_is_whole_although_everything_else_goes_on(self):
        query = "large.size=256KiB&large.wait=0&ping=1000&push=text&push.rate=1000&push.count=5&close.wait=10ms"
        bench = Bench(f"/faults/large?{query}")
        bench.transport.reading = False
        bench.wait()
        bench.transport.read_again()
        frames = bench.wait(2).client.frames()
        assert [len(frame.payload) for frame in frames if frame.opcode == 2] == [256 * 1024]
        assert frames[-1].opcode == 8
        assert not bench.counters.limits["fault_size"]

    def test_counts_every_fault(self):
        assert dict(Bench("/faults/echo?ping=&drop=").counters.faults) == {"ping": 1, "drop": 1}

    def test_ends_after_the_timeout_and_leaves_nothing(self):
        bench = Bench("/faults/push?ping=1&push.rate=1&push.count=1000000&no-close=&large=32MiB&late-handshake=1s")
        bench.transport.reading = False
        bench.wait(302, 604)
        assert bench.transport.lost
        assert bench.counters.open_faults == 0
        # The server's own timers of deadlines that were cancelled.
        bench.wait(31)
        assert bench.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        ("query", "problem"),
        [
            ("close=1012&drop=", "close and drop cannot be combined: each of them ends the connection"),
            ("ping=&close=1012&after=3", "after is a parameter of ping and close: expected ping.after or close.after"),
            ("close.code=x", "close.code='x': expected a whole number from 0 to 65535"),
        ],
    )
    def test_refuses_what_makes_no_sense_with_400(self, query, problem):
        bench = Bench(f"/faults/echo?{query}")
        assert bench.head.startswith(b"HTTP/1.1 400 ")
        assert problem in bench.sent.decode()


def choose_faults(chance):
    """Return a query with two to five faults."""
    values = {"after": (0, 0, 1, 2), "wait": ("0", "50ms", "5s"), "rate": (1, 1000), "count": (1, 1000)}
    query = []
    for name in chance.sample(sorted(TABLE.keys() - {"echo", "delay", "fragment"}), chance.randint(2, 5)):
        query.append("pong.payload=" if name == "pong" else f"{name}=")
        own = [one for one in TABLE[name].accepted if one in values and chance.random() < 0.4]
        query += [f"{name}.{one}={chance.choice(values[one])}" for one in own]
    common = ("delay=1s", "jitter=100ms", "chunk=100", "fragment=7", "pong=wrong", "compression=on")
    return "&".join([*query, *(one for one in common if chance.random() < 0.2)])


@pytest.mark.parametrize("seed", range(3))
def test_any_combination_ends_after_the_timeout_and_leaves_nothing(seed):
    chance = random.Random(seed)
    accepted = 0
    while accepted < 15:
        query = choose_faults(chance)
        bench = Bench(f"/faults/echo?{query}", settings=Settings(faults=True, fault_timeout=20))
        if bench.head.startswith(b"HTTP/1.1 400 "):
            continue
        accepted += 1
        bench.transport.reading = chance.random() < 0.7
        for frame in chance.choices([build_frame(1, b"hello"), build_frame(9, b"p"), build_frame(8, b"\x03\xe8")], k=4):
            if not bench.transport.lost:
                bench.client.send(frame)
                bench.wait(0.2, 4)
        bench.wait(22, 110)
        assert bench.transport.lost, query
        assert bench.counters.open_faults == 0
        # The server's own timers of deadlines that were cancelled.
        bench.wait(31, 31)
        assert bench.clock.getDelayedCalls() == [], query
