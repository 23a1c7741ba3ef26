"""
Tests for wsserver/wire/transport.py: everything a protocol, a producer, a peer and a kernel may do, at random.

A transport and its poller are real; the socket and the epoll instance are not. A model beside them knows what must have
happened. Each life of a connection has a seed of its own, which a failure tells: `Life(seed).live()` repeats it.
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

from wsserver.wire.poller import Poller
from wsserver.wire.transport import TCPTransport

pytestmark = pytest.mark.kernel

OPERATIONS = 100_000
"""Of all lives together; what happens within callbacks, and after a connection's end, is not counted."""

LONGEST = 300
"""Operations of a life, at most."""

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
FD = 1000
PAYLOAD = random.Random(0).randbytes(1 << 20)


class FakeEpoll:
    """
    An epoll instance of one descriptor, ready for whatever the life rolls.

    It refuses what the real one refuses. It cannot show the order in which a kernel serves several.
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
    A socket whose kernel takes and gives what the life's dice say.

    Once broken it stays so, and like a kernel it tells of a reset once: then sending fails with EPIPE and reading gives
    an end. It cannot show how much a kernel takes in truth.
    """

    def __init__(self, life):
        self.life = life
        self.dice = life.dice
        self.broken = self.ended = self.shut = self.closed = False
        self.pending = None
        """The error that the kernel will tell, once."""

    def setblocking(self, flag):
        assert not flag

    def fileno(self):
        return -1 if self.closed else FD

    def break_off(self):
        """Let the peer reset the connection."""
        if not self.broken:
            self.broken, self.pending = True, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    def send(self, data):
        life, dice = self.life, self.dice
        assert not self.closed
        if self.pending:
            error, self.pending = self.pending, None
            raise error
        if self.broken or self.shut:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if not life.kind and dice.random() < 0.3:
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
        if not life.kind and count and dice.random() < 0.5:
            count = dice.randrange(count + 1)
        life.leaves(bytes(data[:count]))
        return count

    def recv_into(self, buffer):
        assert not self.closed
        if self.pending:
            error, self.pending = self.pending, None
            raise error
        if self.broken or self.ended:
            self.life.peer_gone = True
            return 0
        if self.dice.random() < 0.3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        count = self.dice.randrange(1, 100)
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
        """What the kernel would say is ready."""
        if self.broken:
            return IN | OUT | ERR | HUP
        ready = OUT if self.life.kind or self.dice.random() < 0.7 else 0
        if self.ended:
            return ready | IN | (HUP if self.shut else 0)
        return ready | (IN if self.dice.random() < 0.5 else 0)


class LifeProtocol(Protocol):
    """Lets the life go on within each of its callbacks."""

    def __init__(self, life):
        self.life = life

    def dataReceived(self, data):
        life = self.life
        assert not life.lost, "data after connectionLost"
        assert not life.aborted, "data after abortConnection"
        assert not life.losing, "data after loseConnection"
        life.within(0.3)

    def connectionLost(self, reason):
        life = self.life
        assert not life.lost, "connectionLost twice"
        # loseConnection tells at once when there is nothing left to send; that is Twisted's way.
        assert not life.callback or (life.losing and life.transport._writeDisconnected), "told from within a callback"
        life.lost.append(reason.type)
        life.within(0.5)

    def readConnectionLost(self):
        assert not self.life.lost
        assert self.life.peer_gone, "told of a half close that was none"
        self.life.halves.append("read")
        self.life.within(0.3)

    def writeConnectionLost(self):
        assert not self.life.lost
        assert self.life.halving, "told of a half close that was none"
        self.life.halves.append("write")
        self.life.within(0.3)


class LifeProducer:
    """Checks what it is asked, and writes when it may."""

    def __init__(self, life, streaming):
        self.life, self.streaming = life, streaming
        self.paused = self.stopped = False
        self.resumed = 0

    def pauseProducing(self):
        assert self.streaming, "a pull producer was paused"
        assert not self.stopped
        if self.paused:
            self.life.unpaired.append("paused twice")
        self.paused = True

    def resumeProducing(self):
        assert not self.stopped
        assert self.life.producer is self, "asked after it was unregistered"
        if self.streaming and not self.paused:
            self.life.unpaired.append("resumed, but not paused")
        self.paused = False
        self.resumed += 1
        self.life.within(0.7)

    def stopProducing(self):
        assert not self.stopped, "stopped twice"
        self.stopped = True
        self.life.within(0.3)


class Life:
    """
    One connection from its beginning to its end, with a model of what must be.

    Args:
        seed: of its dice.
        producers: the kinds of producers there may be: "push", "pull".
    """

    def __init__(self, seed, producers=("push",)):
        self.seed = seed
        self.dice = random.Random(seed)
        self.kinds_of_producers = producers
        self.written = bytearray()
        """What must leave unless something breaks."""
        self.left = 0
        """How much of it has."""
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
        protocol = LifeProtocol(self)
        self.knows_halves = self.dice.random() < 0.5
        if self.knows_halves:
            directlyProvides(protocol, IHalfCloseableProtocol)
        self.transport = TCPTransport(self.socket, protocol, ("192.0.2.1", 1), None, 1, self.poller)
        self.transport.repstr = f"<life {seed}>"
        # So that producers are paused often.
        self.transport.bufferSize = 1000
        protocol.makeConnection(self.transport)

    # What happens.

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
        # Who resumes after the peer's end is told of it again; that is Twisted's way.
        self.transport.resumeProducing()

    def register(self):
        if self.producer is not None or self.lost:
            return
        kind = self.dice.choice(self.kinds_of_producers)
        self.had_producer = True
        self.producer = LifeProducer(self, kind == "push")
        self.transport.registerProducer(self.producer, kind == "push")

    def unregister(self):
        self.producer = None
        self.transport.unregisterProducer()

    def lose(self):
        self.losing = True
        self.transport.loseConnection()

    def lose_write(self):
        # A second one, or one of a connection that is gone, is not Twisted's to bear.
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
        """Do something within a callback of the transport's."""
        if self.callback < 2:
            self.callback += 1
            while self.dice.random() < probability:
                operation = self.choose(self.WITHIN)
                self.history.append(f"within: {operation.__name__}")
                operation(self)
            self.callback -= 1

    # What must be.

    def note_written(self, data):
        if not (self.lost or self.aborted or self.transport._writeDisconnected or self.transport.disconnected):
            self.written += data

    def leaves(self, data):
        """Take note of bytes that the kernel takes; they are the next of those that were written, and no others."""
        assert not self.aborted or not data, "bytes left after abortConnection"
        assert not self.lost, "bytes left after connectionLost"
        end = self.left + len(data)
        assert self.written[self.left : end] == data, "other bytes left than were written, or not in order"
        self.left = end

    def check(self):
        """Compare the transport with the model, between two operations."""
        transport = self.transport
        if self.lost:
            assert self.epoll.interest is None, "watched after its loss"
            assert self.socket.closed
            return
        # A broken connection is not watched any more, and lost in the next turn.
        if self.aborted or transport._broken:
            return
        waiting = len(self.written) - self.left
        assert transport.queued == waiting
        writing = bool((self.epoll.interest or 0) & OUT)
        assert transport.watched == (self.epoll.interest or 0)
        if waiting:
            assert writing, "something waits and nobody asks when it can be sent"
            return
        pending = (self.losing or self.halving) and not transport._writeDisconnected
        if self.losing and pending and self.producer is None:
            assert writing, "an end is pending and nobody asks"
        # A pull producer is asked for more through the interest in writing, and an end waits for any producer.
        if not self.had_producer or (self.producer is None and not pending and "pull" not in self.kinds_of_producers):
            assert writing == pending, "the interest in writing is on exactly while there is something to do"

    def check_end(self):
        """Compare the whole life with the model."""
        assert len(self.lost) == 1, f"connectionLost was called {len(self.lost)} times"
        assert self.epoll.interest is None
        assert self.socket.closed
        assert self.reactor.getDelayedCalls() == []
        reason = self.lost[0]
        if reason is ConnectionDone and not self.peer_gone and not self.socket.broken:
            assert self.losing
            assert self.left == len(self.written), "it ended in good order, but not all has left"
        if reason is ConnectionAborted:
            assert self.aborted
        if reason is ConnectionLost:
            assert self.socket.broken or self.socket.ended
        if self.socket.broken and not (self.losing or self.aborted or self.socket.ended):
            assert reason is ConnectionLost, "a reset was taken for an end in good order"

    def live(self):
        """Live, and come to an end one way or another; return the number of operations before it."""
        done = after = 0
        try:
            while done < LONGEST and after < 10:
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
        """Let the connection end: the kernel gets kind, and someone ends it if nobody has."""
        self.kind = True
        if self.producer is not None:
            self.unregister()
        if not (self.losing or self.aborted or self.lost):
            self.choose([(Life.lose, 2), (Life.abort, 1), (Life.peer_resets, 1)])(self)
        if not (self.losing or self.aborted or self.lost):
            self.transport.resumeProducing()
        for _ in range(300):
            if self.lost and not self.reactor.getDelayedCalls():
                return
            self.check()
            self.serve()
            self.tick()
            # A callback may have registered one again.
            if self.producer is not None and not self.lost:
                self.unregister()


@pytest.fixture
def no_failures():
    """Fail on what is logged with a traceback: an assertion in a callback ends up there."""
    failures = []

    def observe(event):
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            failures.append(failure)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


def live_all(operations, failures, first=0, **options):
    """Live many lives; stop at the first in which something was wrong."""
    lives = []
    while operations > 0:
        life = Life(first + len(lives), **options)
        operations -= life.live()
        if failures:
            failures[0].value.add_note(f"{life.seed=}, the last of {len(life.history)} steps: {life.history[-40:]}")
            failures[0].raiseException()
        lives.append(life)
    return lives


class LifeTests:
    """Whole lives of connections."""

    def test_push_producers(self, no_failures):
        """Order, ends, numbers and interests are right, in thousands of lives with 10^5 operations."""
        lives = live_all(OPERATIONS, no_failures)
        # The dice have rolled everything.
        assert {kind for life in lives for kind in life.lost} >= {ConnectionDone, ConnectionLost, ConnectionAborted}
        assert {half for life in lives for half in life.halves} == {"read", "write"}
        assert any(life.left < len(life.written) for life in lives)
        assert sum(life.left for life in lives) > 1_000_000

    def test_pull_producers(self, no_failures):
        """The same with producers that are asked for each write."""
        live_all(OPERATIONS // 5, no_failures, first=10**6, producers=("pull",))

    def test_pauses_in_pairs(self, no_failures):
        """A producer is paused and resumed in turns, whatever else is written while it is paused."""
        for life in live_all(OPERATIONS // 5, no_failures, first=2 * 10**6):
            assert life.unpaired == [], f"{life.seed=}"

    def test_a_pull_producer_goes_on(self, no_failures):
        """A pull producer that writes each time is asked again and again, however much leaves at once."""
        for seed in range(100):
            life = Life(seed)
            life.kind = True
            life.within = lambda probability, life=life: (life.note_written(b"x"), life.transport.write(b"x"))
            life.producer = LifeProducer(life, streaming=False)
            life.transport.registerProducer(life.producer, streaming=False)
            for _ in range(20):
                life.serve_write()
            assert life.producer.resumed > 20, f"seed {seed}"
            life.within = lambda probability: None
            life.unregister()
            life.transport.connectionLost(Failure(CONNECTION_LOST))
            life.poller.stop()

    def test_it_would_notice(self, no_failures, monkeypatch):
        """The model is no rubber stamp: a transport that lets a write overtake the queue does not pass."""

        def overtake(self, data):
            if self.connected and self._direct:
                sent = 0
                with contextlib.suppress(OSError):
                    sent = self.socket.send(data)
                super(TCPTransport.__mro__[1], self).write(data[sent:])

        monkeypatch.setattr(TCPTransport, "write", overtake)
        with pytest.raises(AssertionError):
            live_all(OPERATIONS // 50, no_failures)
