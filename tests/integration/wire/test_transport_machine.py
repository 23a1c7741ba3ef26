"""
Tests for wsserver/wire/transport.py: random operations of a protocol, a producer, a peer and a kernel.

The transport and its poller are real; the socket and the epoll instance are fakes. A model knows the right result.
Each simulation of a connection has a seed of its own; a failure names it, and `Simulation(seed).run()` repeats it.
"""

import contextlib
import errno
import random
import select

import pytest
from fake_reactor import FakeReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from wsserver.wire.poller import Poller, py_serve
from wsserver.wire.transport import TCPTransport

pytestmark = pytest.mark.kernel

OPERATIONS = 100_000
"""Of all simulations together, without operations within callbacks and after the end of a connection."""

MAX_OPERATIONS = 300
"""Maximum number of operations of one simulation."""

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
FD = 1000
PAYLOAD = random.Random(0).randbytes(1 << 20)


@pytest.fixture(autouse=True)
def _read_events_from_the_fake(monkeypatch):
    """Use the Python twin of `serve`: the compiled one reads events from the kernel."""
    monkeypatch.setattr("wsserver.wire.poller.serve", py_serve)


class FakeEpoll:
    """
    An epoll instance with one descriptor, ready for whatever the simulation chooses.

    It refuses the calls that a real one refuses. It cannot simulate the order in which a kernel serves descriptors.
    """

    def __init__(self):
        self.closed = False
        self.interest = None
        self.ready = 0

    def fileno(self):
        return FD - 1

    def register(self, fd, events):
        assert fd == FD
        assert events
        assert self.interest is None, "registered twice"
        self.interest = events

    def modify(self, fd, events):
        assert fd == FD
        assert events
        assert self.interest is not None, "modified but not registered"
        self.interest = events

    def unregister(self, fd):
        assert fd == FD
        assert self.interest is not None, "unregistered twice"
        self.interest = None

    def poll(self, timeout, most):
        if self.interest is None:
            return []
        events = self.ready & (self.interest | ERR | HUP)
        return [(FD, events)] if events else []

    def close(self):
        self.closed = True


class FakeSocket:
    """
    A socket whose kernel accepts and returns random amounts.

    A broken socket stays broken, and reports a reset once, as a kernel does: then sending fails with EPIPE and reading
    returns an end. It cannot simulate how much a real kernel accepts.
    """

    def __init__(self, simulation):
        self.simulation = simulation
        self.dice = simulation.dice
        self.broken = self.ended = self.shut = self.closed = False
        self.pending = None
        """The error that the kernel will report, once."""

    def setblocking(self, flag):
        assert not flag

    def fileno(self):
        return -1 if self.closed else FD

    def break_off(self):
        """Reset the connection, as the peer."""
        if not self.broken:
            self.broken, self.pending = True, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def send(self, data):
        simulation, dice = self.simulation, self.dice
        assert not self.closed
        if self.pending:
            error, self.pending = self.pending, None
            raise error
        if self.broken or self.shut:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if not simulation.kind and dice.random() < 0.3:
            if dice.random() < 0.01:
                self.broken = True
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
            if dice.random() < 0.01:
                self.break_off()
                error, self.pending = self.pending, None
                raise error
            if dice.random() < 0.2:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        count = len(data)
        if not simulation.kind and count and dice.random() < 0.5:
            count = dice.randrange(count + 1)
        simulation.on_send(bytes(data[:count]))
        return count

    def recv_into(self, buffer, size):
        assert not self.closed
        if self.pending:
            error, self.pending = self.pending, None
            raise error
        if self.broken or self.ended:
            self.simulation.peer_gone = True
            return 0
        if self.dice.random() < 0.3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        count = self.dice.randrange(1, min(100, size))
        buffer[:count] = bytes(count)
        return count

    def setsockopt(self, *about):
        assert not self.closed

    def shutdown(self, how):
        assert not self.closed
        self.shut = True
        if self.broken or self.dice.random() < 0.01:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def close(self):
        assert not self.closed
        self.closed = True

    def events(self):
        """Return the events that the kernel would report."""
        if self.broken:
            return IN | OUT | ERR | HUP
        ready = OUT if self.simulation.kind or self.dice.random() < 0.7 else 0
        if self.ended:
            return ready | IN | (HUP if self.shut else 0)
        return ready | (IN if self.dice.random() < 0.5 else 0)


class SimulatedProtocol(Protocol):
    """Runs further operations within each of its callbacks."""

    def __init__(self, simulation):
        self.simulation = simulation

    def dataReceived(self, data):
        simulation = self.simulation
        assert not simulation.lost, "data after connectionLost"
        assert not simulation.aborted, "data after abortConnection"
        assert not simulation.losing, "data after loseConnection"
        simulation.within(0.3)

    def connectionLost(self, reason):
        simulation = self.simulation
        assert not simulation.lost, "connectionLost twice"
        # loseConnection calls connectionLost at once if nothing is left to send, as Twisted's transports do.
        assert not simulation.callback or (simulation.losing and simulation.transport._writeDisconnected), (
            "connectionLost within a callback"
        )
        simulation.lost.append(reason.type)
        simulation.within(0.5)

    def readConnectionLost(self):
        assert not self.simulation.lost
        assert self.simulation.peer_gone, "a half close that did not happen"
        self.simulation.halves.append("read")
        self.simulation.within(0.3)

    def writeConnectionLost(self):
        assert not self.simulation.lost
        assert self.simulation.halving, "a half close that did not happen"
        self.simulation.halves.append("write")
        self.simulation.within(0.3)


class SimulatedProducer:
    """Checks the order of its calls, and writes when it is resumed."""

    def __init__(self, simulation, streaming):
        self.simulation, self.streaming = simulation, streaming
        self.paused = self.stopped = False
        self.resumed = 0

    def pauseProducing(self):
        assert self.streaming, "a pull producer was paused"
        assert not self.stopped
        if self.paused:
            self.simulation.unpaired.append("paused twice")
        self.paused = True

    def resumeProducing(self):
        assert not self.stopped
        assert self.simulation.producer is self, "resumed after it was unregistered"
        if self.streaming and not self.paused:
            self.simulation.unpaired.append("resumed, but not paused")
        self.paused = False
        self.resumed += 1
        self.simulation.within(0.7)

    def stopProducing(self):
        assert not self.stopped, "stopped twice"
        self.stopped = True
        self.simulation.within(0.3)


class Simulation:
    """
    One connection from its beginning to its end, with a model of the right result.

    Args:
        seed: seed of the random operations.
        producers: the possible kinds of producers: "push", "pull".
    """

    def __init__(self, seed, producers=("push",)):
        self.seed = seed
        self.dice = random.Random(seed)
        self.kinds_of_producers = producers
        self.written = bytearray()
        """The bytes that must be sent unless the connection breaks."""
        self.left = 0
        """The number of bytes that have been sent."""
        self.lost, self.halves, self.unpaired, self.callback = [], [], [], 0
        self.aborted = self.losing = self.halving = self.peer_gone = self.kind = False
        self.producer = None
        self.had_producer = False
        self.history = []
        self.socket = FakeSocket(self)
        self.reactor = FakeReactor()
        with pytest.MonkeyPatch.context() as patch:
            self.epoll = FakeEpoll()
            patch.setattr(select, "epoll", lambda: self.epoll)
            self.poller = Poller(self.reactor)
        protocol = SimulatedProtocol(self)
        self.knows_halves = self.dice.random() < 0.5
        if self.knows_halves:
            directlyProvides(protocol, IHalfCloseableProtocol)
        self.transport = TCPTransport(self.socket, protocol, ("192.0.2.1", 1), None, 1, self.poller)
        self.transport.repstr = f"<simulation {seed}>"
        # A small limit, so that producers are paused often.
        self.transport.bufferSize = 1000
        protocol.makeConnection(self.transport)

    # Operations.

    def write(self):
        data = self.data()
        self.note_written(data)
        self.transport.write(data)

    def write_sequence(self):
        parts = [self.data() for _ in range(self.dice.randrange(4))]
        self.note_written(b"".join(parts))
        self.transport.writeSequence(parts)

    def serve(self):
        self.epoll.ready = self.socket.events()
        self.poller.doRead()

    def serve_write(self):
        self.epoll.ready = OUT
        self.poller.doRead()

    def serve_read(self):
        self.epoll.ready = self.socket.events() & ~OUT
        self.poller.doRead()

    def tick(self):
        self.reactor.advance(0)

    def pause(self):
        self.transport.pauseProducing()

    def resume(self):
        # Resuming after the peer's end reports the end again, as Twisted's transports do.
        self.transport.resumeProducing()

    def register(self):
        if self.producer is not None or self.lost:
            return
        kind = self.dice.choice(self.kinds_of_producers)
        self.had_producer = True
        self.producer = SimulatedProducer(self, kind == "push")
        self.transport.registerProducer(self.producer, kind == "push")

    def unregister(self):
        self.producer = None
        self.transport.unregisterProducer()

    def lose(self):
        self.losing = True
        self.transport.loseConnection()

    def lose_write(self):
        # Twisted's transports do not support a second call, or one after the end.
        if not (self.halving or self.losing or self.lost or self.aborted):
            self.halving = True
            self.transport.loseWriteConnection()

    def abort(self):
        if not self.lost:
            self.aborted = True
        self.transport.abortConnection()

    def peer_ends(self):
        self.socket.ended = True

    def peer_resets(self):
        self.socket.break_off()

    CALLS = [(write, 30), (write_sequence, 6), (pause, 4), (resume, 6), (register, 6), (unregister, 5)]
    ENDS = [(lose, 0.5), (lose_write, 0.4), (abort, 0.3)]
    WORLD = [(serve, 30), (serve_write, 10), (serve_read, 6), (tick, 3), (peer_ends, 0.3), (peer_resets, 0.2)]

    WITHIN = CALLS + ENDS
    ALL = CALLS + ENDS + WORLD

    def data(self):
        start = self.dice.randrange(len(PAYLOAD) // 2)
        return PAYLOAD[start : start + self.dice.choice((0, 1, 2, 10, 100, 1000, 3000))]

    def choose(self, table):
        return self.dice.choices([what for what, _ in table], [often for _, often in table])[0]

    def within(self, probability):
        """Run random operations within a callback of the transport."""
        if self.callback < 2:
            self.callback += 1
            while self.dice.random() < probability:
                operation = self.choose(self.WITHIN)
                self.history.append(f"within: {operation.__name__}")
                operation(self)
            self.callback -= 1

    # The model.

    def note_written(self, data):
        if not (self.lost or self.aborted or self.transport._writeDisconnected or self.transport.disconnected):
            self.written += data

    def on_send(self, data):
        """Check that the bytes accepted by the kernel are the next written ones."""
        assert not self.aborted or not data, "bytes sent after abortConnection"
        assert not self.lost, "bytes sent after connectionLost"
        end = self.left + len(data)
        assert self.written[self.left : end] == data, "sent bytes differ from the written ones"
        self.left = end

    def check(self):
        """Compare the transport with the model, between two operations."""
        transport = self.transport
        if self.lost:
            assert self.epoll.interest is None, "watched after its loss"
            assert self.socket.closed
            return
        # A broken connection is no longer watched, and is lost in the next turn.
        if self.aborted or transport._broken:
            return
        waiting = len(self.written) - self.left
        assert transport.queued == waiting
        writing = bool((self.epoll.interest or 0) & OUT)
        assert transport.watched == (self.epoll.interest or 0)
        if waiting:
            assert writing, "data is queued, but the poller does not watch for writing"
            return
        pending = (self.losing or self.halving) and not transport._writeDisconnected
        ending = writing or transport in self.poller._closing
        if self.losing and pending and self.producer is None:
            assert ending, "an end is pending, but the poller neither watches for writing nor closes later"
        # The interest in writing resumes a pull producer, and an end waits for any producer.
        if not self.had_producer or (self.producer is None and not pending and "pull" not in self.kinds_of_producers):
            assert ending == pending, "the poller must watch for writing only while an end is pending"

    def check_end(self):
        """Compare the final state with the model."""
        assert len(self.lost) == 1, f"connectionLost was called {len(self.lost)} times"
        assert self.epoll.interest is None
        assert self.socket.closed
        assert self.reactor.getDelayedCalls() == []
        reason = self.lost[0]
        if reason is ConnectionDone and not self.peer_gone and not self.socket.broken:
            assert self.losing
            assert self.left == len(self.written), "it ended in good order before all data was sent"
        if reason is ConnectionAborted:
            assert self.aborted
        if reason is ConnectionLost:
            assert self.socket.broken or self.socket.ended
        if self.socket.broken and not (self.losing or self.aborted or self.socket.ended):
            assert reason is ConnectionLost, "a reset was reported as an end in good order"

    def run(self):
        """Run random operations and end the connection; return the number of operations before the end."""
        done = after = 0
        try:
            while done < MAX_OPERATIONS and after < 10:
                operation = self.choose(self.ALL)
                self.history.append(operation.__name__)
                operation(self)
                self.check()
                done, after = (done, after + 1) if self.lost else (done + 1, 0)
            self.history.append("finish")
            self.finish()
            self.check_end()
            return done
        except BaseException as error:
            error.add_note(f"seed {self.seed}, the last of {len(self.history)} steps: {self.history[-40:]}")
            raise
        finally:
            self.poller.stop()

    def finish(self):
        """End the connection, with a kernel that accepts everything."""
        self.kind = True
        if self.producer is not None:
            self.unregister()
        if not (self.losing or self.aborted or self.lost):
            self.choose([(Simulation.lose, 2), (Simulation.abort, 1), (Simulation.peer_resets, 1)])(self)
        if not (self.losing or self.aborted or self.lost):
            self.transport.resumeProducing()
        for _ in range(300):
            if self.lost and not self.reactor.getDelayedCalls():
                return
            self.check()
            self.serve()
            self.tick()
            # A callback may have registered another producer.
            if self.producer is not None and not self.lost:
                self.unregister()


@pytest.fixture
def no_failures():
    """Return the list of logged failures: an assertion in a callback is logged."""
    failures = []

    def observe(event):
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            failures.append(failure)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


def run_all(operations, failures, first=0, **options):
    """Run simulations with this many operations; raise the first failure."""
    simulations = []
    while operations > 0:
        simulation = Simulation(first + len(simulations), **options)
        operations -= simulation.run()
        if failures:
            failures[0].value.add_note(
                f"{simulation.seed=}, the last of {len(simulation.history)} steps: {simulation.history[-40:]}"
            )
            failures[0].raiseException()
        simulations.append(simulation)
    return simulations


class SimulationTests:
    """Random simulations of connections."""

    def test_the_transport_agrees_with_the_model_in_100_000_operations(self, no_failures):
        """Transport and model agree on the order of bytes, the ends, the counts and the interests."""
        simulations = run_all(OPERATIONS, no_failures)
        # Every case has occurred.
        assert {kind for simulation in simulations for kind in simulation.lost} >= {
            ConnectionDone,
            ConnectionLost,
            ConnectionAborted,
        }
        assert {half for simulation in simulations for half in simulation.halves} == {"read", "write"}
        assert any(simulation.left < len(simulation.written) for simulation in simulations)
        assert sum(simulation.left for simulation in simulations) > 1_000_000

    def test_the_transport_agrees_with_the_model_with_pull_producers(self, no_failures):
        run_all(OPERATIONS // 5, no_failures, first=10**6, producers=("pull",))

    def test_pauses_and_resumes_of_a_producer_alternate(self, no_failures):
        """This holds whatever else is written while the producer is paused."""
        for simulation in run_all(OPERATIONS // 5, no_failures, first=2 * 10**6):
            assert simulation.unpaired == [], f"{simulation.seed=}"

    def test_a_pull_producer_that_writes_is_resumed_every_turn(self, no_failures):
        """The producer is resumed even though each write is sent immediately."""
        for seed in range(100):
            simulation = Simulation(seed)
            simulation.kind = True
            simulation.within = lambda probability, simulation=simulation: (
                simulation.note_written(b"x"),
                simulation.transport.write(b"x"),
            )
            simulation.producer = SimulatedProducer(simulation, streaming=False)
            simulation.transport.registerProducer(simulation.producer, streaming=False)
            for _ in range(20):
                simulation.serve_write()
            assert simulation.producer.resumed > 20, f"seed {seed}"
            simulation.within = lambda probability: None
            simulation.unregister()
            simulation.transport.connectionLost(Failure(CONNECTION_LOST))
            simulation.poller.stop()

    def test_the_model_fails_if_a_write_overtakes_the_queue(self, no_failures, monkeypatch):
        """This test checks the simulation, not the transport."""

        def overtake(self, data):
            if self.connected and self._direct:
                sent = 0
                with contextlib.suppress(OSError):
                    sent = self.socket.send(data)
                super(TCPTransport.__mro__[1], self).write(data[sent:])

        monkeypatch.setattr(TCPTransport, "write", overtake)
        with pytest.raises(AssertionError):
            run_all(OPERATIONS // 50, no_failures)
