"""
Tests for wsserver/wire/transport.py: random operations on a real kernel with small buffers, for both twins.

The compiled twin calls the kernel with the descriptor's number alone. These tests check what a fake socket cannot show:
that all bytes arrive in order however few the kernel accepts, and that the number of a closed descriptor is not used.
Each simulation of a pair of connections has a seed of its own; a failure names the seed.
"""

import contextlib
import os
import random
import select
import socket
import struct

import pytest
from fake_reactor import FakeReactor
from twins import SERVE, TRANSPORTS
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from wsserver.testing import build_frame
from wsserver.wire import frames, poller
from wsserver.wire.fastpath import LARGE, PyFastPath
from wsserver.wire.poller import IN, Poller

pytestmark = pytest.mark.kernel

OPERATIONS = 50_000
"""Number of operations of all simulations of a twin together; operations within callbacks are not counted."""

MAX_OPERATIONS = 400
"""Maximum number of operations of one simulation."""

WINDOWS = (10_000, 50_000, 1 << 20)
"""Sizes of receive buffers in bytes; with smaller ones the kernel waits for its timers."""

PAYLOAD = random.Random(0).randbytes(2 << 20)
TRAFFIC = {"python": PyFastPath, "compiled": frames.COMPILED and frames.SPEEDUPS.FastPath}


class Stream(Protocol):
    """A protocol that receives bytes."""

    def __init__(self, end):
        self.end = end

    def dataReceived(self, data):
        assert type(data) is bytes
        self.end.on_data(data)

    def connectionLost(self, reason):
        self.end.on_connection_lost(reason)


class Messages:
    """
    Receives messages: the other half of a `FastPath`, to which a transport passes bytes without `dataReceived`.

    It replaces the state machine, and joins headers that were split. It cannot simulate control frames.
    """

    maxMessagePayloadSize = 2 << 20

    def __init__(self, end):
        super().__init__()
        self.end, self.rest = end, b""
        self.state, self._plain = 3, True

    def makeConnection(self, transport):
        self.transport = transport

    def connectionLost(self, reason):
        self.end.on_connection_lost(reason)

    def onMessage(self, payload, isBinary):
        assert type(payload) is bytes
        # The frame as the peer has sent it, without its mask.
        self.end.on_data(build_frame(2 if isBinary else 1, payload, mask=bytes(4)))

    def _slow(self, data, budget):
        if self.end.aborted:
            return
        self._plain = True
        rest = self.rest + data
        self.rest = rest[self._fast(rest, 0, len(rest))[0] :]
        self._plain = not self.rest

    def _message_begun(self):
        """Start no deadline: there is no clock."""

    def _endpoint_failed(self):
        self.end.simulation.wrong.append(Failure())


def messages(twin, end):
    """Return a `Messages` protocol that uses the fast path of the given twin."""
    return type("Messages", (Messages, TRAFFIC[twin]), {})(end)


class Connection:
    """
    A connection of ours with its peer, and the bytes that must arrive at each side.

    Args:
        simulation: the simulation that it is part of.
        tcp: True for a TCP connection, False for a UNIX socket.
        talks: True to send messages, False to send bytes.
        room: size of each kernel buffer in bytes; None for random sizes.
    """

    def __init__(self, simulation, tcp, talks, room=None):
        self.simulation, self.dice, self.talks = simulation, simulation.dice, talks
        self.written, self.read = bytearray(), 0
        """The bytes that must arrive at the peer, and how many have."""
        self.sent, self.came = bytearray(), 0
        """The bytes that the peer has sent, and how many have arrived."""
        self.waiting = b""
        """The bytes that the peer has still to send: the rest of a frame."""
        self.lost = []
        self.broken = self.aborted = self.losing = False
        protocol = messages(simulation.twin, self) if talks else Stream(self)
        module, reactor = TRANSPORTS[simulation.twin], simulation.poller
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room or self.dice.choice(WINDOWS))
                self.peer = socket.socket()
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room or self.dice.choice(WINDOWS))
                self.peer.connect(listener.getsockname())
                sock, address = listener.accept()
            for one in (sock, self.peer):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.transport = module.TCPTransport(sock, protocol, address, None, 7, reactor)
        else:
            sock, self.peer = socket.socketpair()
            self.transport = module.UNIXTransport(sock, protocol, "", None, 7, reactor)
        for one in (sock, self.peer):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room or self.dice.choice((1, 20_000, 1 << 20)))
        self.peer.setblocking(False)
        self.tcp, self.protocol, self.number = tcp, protocol, sock.fileno()
        self.transport.repstr = f"<{simulation.seed}>"
        protocol.makeConnection(self.transport)
        self.transport.startReading()

    # Callbacks of our side.

    def on_data(self, data):
        assert not self.lost, "data after connectionLost"
        assert not self.aborted, "data after abortConnection"
        end = self.came + len(data)
        assert self.sent[self.came : end] == data, "received bytes differ from the sent ones"
        self.came = end
        self.simulation.within(self)

    def on_connection_lost(self, reason):
        self.lost.append(reason.type)

    # Operations.

    def size(self):
        dice = self.dice
        most = dice.choices((10, 200, 5000, LARGE + 10, 1 << 20), (40, 30, 20, 6, 2))[0]
        return dice.choice((most, dice.randrange(most + 1)))

    def data(self):
        start = self.dice.randrange(1 << 20)
        return PAYLOAD[start : start + self.size()]

    def note(self, data):
        if not (self.lost or self.aborted):
            self.written += data

    def write(self):
        data = self.data()
        if self.talks:
            self.note(build_frame(2, data, mask=b""))
            self.protocol.sendMessage(data, True)
        elif self.dice.random() < 0.2:
            self.note(data + data)
            self.transport.writeSequence([data, b"", data])
        else:
            self.note(data)
            self.transport.write(data)
        queued = self.transport.queued
        self.simulation.seen.add(
            "all is queued" if queued == len(data) else "some is queued" if queued else "nothing queued"
        )

    def peer_reads(self, most=None):
        most = most or self.dice.choice((1, 100, 10_000, 1 << 20))
        try:
            data = self.peer.recv(most)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            assert self.aborted or self.losing, "a reset without an abort or a close"
            data = b""
        end = self.read + len(data)
        assert self.written[self.read : end] == data, "other bytes arrived than were written"
        self.read = end
        return bool(data)

    def peer_sends(self):
        if len(self.waiting) < 100:
            self.waiting += build_frame(2, self.data(), mask=bytes(4)) if self.talks else self.data()
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            count = self.peer.send(self.waiting[: self.dice.choice((1, 7, 1000, 1 << 20))])
            self.sent += self.waiting[:count]
            self.waiting = self.waiting[count:]

    def pause(self):
        self.transport.pauseProducing()

    def resume(self):
        self.transport.resumeProducing()

    def reset(self):
        """Close the peer's socket, with a reset if it is TCP; then write a few times."""
        self.broken = True
        if self.tcp:
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        for _ in range(self.dice.randrange(3)):
            self.write()

    def abort(self):
        self.aborted = True
        # As when a connection is dropped: the rest of the read is ignored.
        self.protocol._plain = False
        self.transport.abortConnection()

    def lose(self):
        self.losing = True
        self.transport.loseConnection()

    # The end.

    def finish(self):
        """End the connection if it is open; check that all data has arrived, and that the number is free."""
        if not (self.broken or self.aborted or self.losing):
            self.dice.choice((self.reset, self.abort, self.lose, self.lose))()
        # Closing a socket with unread data resets the connection; the peer may lose data that was in flight.
        for _ in range(3000):
            self.simulation.turn()
            if self.broken:
                self.transport.resumeProducing()
            elif not self.peer_reads(1 << 20) and not self.lost:
                # The kernel may wait before it opens a closed window again.
                select.select([self.peer, self.simulation.poller], [], [], 0.5)
            if self.lost and (self.broken or not self.peer_reads(1 << 20)):
                break
        assert len(self.lost) == 1, f"connectionLost was called {len(self.lost)} times"
        assert self.transport.watched == 0
        if self.losing and not self.broken and not self.aborted:
            assert self.lost == [ConnectionDone]
            if self.came == len(self.sent):
                assert self.read == len(self.written), "not all has arrived"
        self.simulation.ends |= set(self.lost)
        self.peer.close()
        self.reuse_number()

    def reuse_number(self):
        """Give the descriptor's number to another socket; check that the transport does not use that socket."""
        sock, other = socket.socketpair()
        if self.number not in {sock.fileno(), other.fileno()}:
            assert not os.path.exists(f"/proc/self/fd/{self.number}"), "the number is still in use"
            os.dup2(sock.fileno(), self.number)
            sock.close()
            sock = socket.socket(fileno=self.number)
        if other.fileno() == self.number:
            sock, other = other, sock
        with sock, other:
            assert sock.fileno() == self.number
            other.send(b"for the new one")
            sock.setblocking(False)
            other.setblocking(False)
            self.transport.write(b"x")
            self.transport.writeSequence([b"x", bytes(LARGE)])
            if self.talks:
                self.protocol.sendMessage(b"x")
                self.protocol.sendMessage(bytes(LARGE))
            self.transport.pauseProducing()
            self.transport.resumeProducing()
            self.transport.loseConnection()
            self.transport.abortConnection()
            self.simulation.turn()
            with pytest.raises(BlockingIOError):
                other.recv(1)
            assert sock.recv(100) == b"for the new one"


class Simulation:
    """
    Two connections, so that a read of one can happen within a read of the other.

    Args:
        seed: seed of the random operations.
        twin: "python" or "compiled".
    """

    def __init__(self, seed, twin):
        self.seed, self.twin, self.dice = seed, twin, random.Random(seed)
        self.seen, self.ends, self.wrong, self.reading = set(), set(), [], []
        self.reactor = FakeReactor()
        self.poller = Poller(self.reactor)
        kinds = [(self.dice.random() < 0.5, self.dice.random() < 0.6) for _ in range(2)]
        self.pair = [Connection(self, *kind) for kind in kinds]

    def turn(self):
        self.poller.doRead()
        self.reactor.advance(0)

    def within(self, end):
        """Do something at random within a read."""
        dice, other = self.dice, self.pair[end is self.pair[0]]
        self.reading.append(end)
        if dice.random() < 0.3:
            end.write()
        # The poller never reads a connection within its own read.
        if dice.random() < 0.3 and other not in self.reading and other.transport.watched & IN:
            self.seen.add("nested")
            other.transport.doRead()
        if dice.random() < 0.001:
            dice.choice((end, other)).abort()
        self.reading.remove(end)

    CALLS = [
        (Connection.write, 30),
        (Connection.peer_reads, 30),
        (Connection.peer_sends, 30),
        (Connection.pause, 2),
        (Connection.resume, 4),
    ]
    ENDS = [(Connection.reset, 0.05), (Connection.abort, 0.05), (Connection.lose, 0.05)]

    def run(self):
        """Run random operations and end both connections; return the number of operations."""
        done = 0
        try:
            calls, often = zip(*self.CALLS, *self.ENDS, strict=True)
            while done < MAX_OPERATIONS:
                end = self.dice.choice(self.pair)
                if end.lost or end.broken or end.aborted or end.losing:
                    break
                self.dice.choices(calls, often)[0](end)
                if self.dice.random() < 0.4:
                    self.turn()
                done += 1
            for end in self.pair:
                end.finish()
            return done
        except BaseException as error:
            error.add_note(f"seed {self.seed}, {self.twin}")
            raise
        finally:
            self.close()

    def close(self):
        """Release everything, in any state."""
        for end in self.pair:
            end.peer.close()
            end.transport.connectionLost(Failure(CONNECTION_LOST))
        self.poller.stop()


@pytest.fixture(params=TRANSPORTS)
def twin(request, monkeypatch):
    """Return the name of each twin, served by its own loop."""
    monkeypatch.setattr(poller, "serve", SERVE[request.param])
    if request.param == "python":
        monkeypatch.setattr(frames, "parse", frames.py_parse)
        monkeypatch.setattr(frames, "build", frames.py_build)
        monkeypatch.setattr("wsserver.wire.fastpath.Partial", frames.PyPartial)
    return request.param


class KernelTests:
    """Random simulations of connections."""

    def test_all_bytes_arrive_in_order_in_fifty_thousand_random_operations(self, twin, failures):
        """Each twin performs this many operations; no descriptor remains open."""
        done, seed, seen, ends, before = 0, 0, set(), set(), len(os.listdir("/proc/self/fd"))
        while done < OPERATIONS:
            simulation = Simulation(seed, twin)
            done += simulation.run()
            for failure in simulation.wrong + failures:
                failure.value.add_note(f"seed {seed}, {twin}")
                failure.raiseException()
            seed, seen, ends = seed + 1, seen | simulation.seen, ends | simulation.ends
        # Every case has occurred.
        assert seen == {"all is queued", "some is queued", "nothing queued", "nested"}
        assert ends == {ConnectionDone, ConnectionLost, ConnectionAborted}
        assert len(os.listdir("/proc/self/fd")) == before

    def test_the_simulation_fails_if_a_transport_loses_a_byte(self, twin, failures, monkeypatch):
        """It also fails if the compiled twin keeps the queue, with its descriptor, after the end."""
        both = [getattr(TRANSPORTS[twin], f"{kind}Transport") for kind in ("TCP", "UNIX")]
        for transport in both:
            right = transport._queue_rest
            with monkeypatch.context() as patch:
                patch.setattr(transport, "_queue_rest", lambda me, data, start, right=right: right(me, data, start + 1))
                with pytest.raises(AssertionError, match=r"other bytes arrived|not all has arrived"):
                    for seed in range(100):
                        Simulation(seed, twin).run()
        if twin == "compiled":
            for transport in both:
                monkeypatch.setattr(transport, "_drop_queue", lambda me: None)
            with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
                for seed in range(100):
                    Simulation(seed, twin).run()


@pytest.fixture
def simulation(twin):
    """Return a simulation whose operations the test chooses; each test runs with both twins."""
    simulation = Simulation(0, twin)
    simulation.within = lambda end: None
    yield simulation
    simulation.close()


@pytest.fixture(params=["tcp", "unix"])
def end(request, simulation):
    """Return a connection that sends messages; each test runs with every kind of connection."""
    simulation.pair.append(Connection(simulation, request.param == "tcp", talks=True, room=10_000))
    return simulation.pair[-1]


class ReadTests:
    @pytest.mark.parametrize("talks", [True, False])
    def test_a_read_within_a_read_keeps_the_data_of_both_connections(self, simulation, end, talks):
        other = Connection(simulation, tcp=False, talks=talks, room=10_000)
        simulation.pair.append(other)
        first, second = (build_frame(2, bytes([number]) * 100, mask=bytes(4)) for number in (1, 2))
        end.sent += first * 3
        other.sent += second * 5
        end.peer.sendall(first * 3)
        other.peer.sendall(second * 5)
        came = []

        def within(one):
            if one is end and not came:
                came.append(end.came)
                assert other.transport.doRead() is None
                came.append(other.came)

        simulation.within = within
        assert end.transport.doRead() is None
        assert came == [len(first), len(second) * 5]
        assert end.came == len(first) * 3
        # The shared buffer is free again: another read works.
        other.sent += second
        other.peer.sendall(second)
        other.transport.doRead()
        assert other.came == len(other.sent)

    def test_reads_normally_after_a_read_that_raised(self, simulation, end):
        frame = build_frame(2, b"x", mask=bytes(4))
        end.sent += frame * 2

        def fail(one):
            raise SystemExit

        simulation.within = fail
        end.peer.sendall(frame)
        with pytest.raises(SystemExit):
            end.transport.doRead()
        simulation.within = lambda one: None
        end.peer.sendall(frame)
        assert end.transport.doRead() is None
        assert end.protocol.messages_in == 2

    def test_calls_the_data_received_of_a_subclass(self, simulation, twin):
        class Own(Messages, TRAFFIC[twin]):
            def dataReceived(self, data):
                super().dataReceived(data[1:])

        end = Connection(simulation, tcp=False, talks=True)
        simulation.pair.append(end)
        end.transport.protocol = Own(end)
        frame = build_frame(2, b"x", mask=bytes(4))
        end.sent += frame
        end.peer.sendall(b"?" + frame)
        end.transport.doRead()
        assert end.came == len(frame)


class LargeTests:
    """Messages that are sent as header and payload."""

    @pytest.mark.parametrize("size", [LARGE, 65_535, 65_536, 1 << 20])
    def test_a_large_message_arrives_whole_before_the_next_one(self, end, size):
        """The kernel accepts it in many parts."""
        expected = b""
        for _ in range(3):
            for payload in (PAYLOAD[:size], b"small"):
                end.protocol.sendMessage(payload, True)
                expected += build_frame(2, payload, mask=b"")
        end.written += expected
        end.lose()
        end.finish()
        assert end.read == len(expected)

    def test_sending_to_a_closed_peer_raises_nothing_and_is_lost_later(self, end):
        """The reactor reports the loss."""
        end.reset()
        for _ in range(3):
            end.protocol.sendMessage(bytes(LARGE))
        assert end.lost == []
        end.finish()
        assert len(end.lost) == 1

    def test_a_write_during_the_pause_does_not_split_header_and_payload(self, end):
        """The header fills the queue, and the paused producer writes."""

        class LateProducer:
            stopProducing = resumeProducing = lambda self: None

            def pauseProducing(self):
                end.protocol.sendMessage(b"late")

        first, second = PAYLOAD[: 1 << 20], PAYLOAD[:LARGE]
        end.protocol.sendMessage(first, True)
        end.transport.bufferSize = end.transport.queued + 2
        end.transport.registerProducer(LateProducer(), True)
        end.protocol.sendMessage(second, True)
        end.transport.unregisterProducer()
        end.written += build_frame(2, first, mask=b"") + build_frame(2, second, mask=b"") + b"\x81\x04late"
        end.lose()
        end.finish()
        assert end.read == len(end.written)


class NumberTests:
    """Descriptor numbers that the kernel gives to another socket after a connection has closed."""

    @pytest.mark.parametrize("how", ["lose", "abort", "reset"])
    @pytest.mark.parametrize("full", [False, True])
    def test_does_not_use_a_number_that_belongs_to_another_socket(self, end, how, full):
        """The test covers each way to end a connection, with an empty and with a full queue."""
        if full:
            end.note(build_frame(2, PAYLOAD[: 1 << 20], mask=b""))
            end.protocol.sendMessage(PAYLOAD[: 1 << 20], True)
            assert end.transport.queued
        getattr(end, how)()
        end.finish()

    def test_sends_nothing_after_abort_connection(self, end):
        """The socket is still open when the protocol sends."""
        end.abort()
        for size in (1, LARGE):
            end.protocol.sendMessage(bytes(size))
            end.transport.write(bytes(size))
        end.finish()
        assert end.read == 0
