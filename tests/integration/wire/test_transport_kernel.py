"""
Tests for wsserver/wire/transport.py: a real kernel with tiny buffers, at random, for both twins.

The compiled twin calls the kernel by the descriptor's number alone. So these tests look at what a fake socket cannot
show: that all bytes arrive in order however little the kernel takes, and that a number that is not ours any more is
left alone. Each life of a pair of connections has a seed of its own, which a failure tells.
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
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from wsserver.testing import build_frame
from wsserver.wire import frames, poller
from wsserver.wire.fastpath import LARGE, PyFastPath
from wsserver.wire.poller import IN, Poller

pytestmark = pytest.mark.kernel

OPERATIONS = 50_000
"""Of all lives of a twin together; what happens within callbacks is not counted."""

LONGEST = 400
"""Operations of a life."""

WINDOWS = (10_000, 50_000, 1 << 20)
"""Sizes of receiving buffers; with smaller ones the kernel waits for its timers."""

PAYLOAD = random.Random(0).randbytes(2 << 20)
TRAFFIC = {"python": PyFastPath, "compiled": frames.COMPILED and frames.SPEEDUPS.FastPath}


class Stream(Protocol):
    """Takes bytes as they come."""

    def __init__(self, end):
        self.end = end

    def dataReceived(self, data):
        assert type(data) is bytes
        self.end.on_publication(data)

    def connectionLost(self, reason):
        self.end.gone(reason)


class Messages:
    """
    Takes messages: the other half of a `FastPath`, which a transport gives its bytes past `dataReceived`.

    In the place of the state machine it puts together what was cut within a header. It cannot show any control frame.
    """

    maxMessagePayloadSize = 2 << 20

    def __init__(self, end):
        super().__init__()
        self.end, self.rest = end, b""
        self.state, self._plain = 3, True

    def makeConnection(self, transport):
        self.transport = transport

    def connectionLost(self, reason):
        self.end.gone(reason)

    def onMessage(self, payload, isBinary):
        assert type(payload) is bytes
        # The frame, but for its mask: what the peer has sent.
        self.end.on_publication(build_frame(2 if isBinary else 1, payload, mask=bytes(4)))

    def _slow(self, data, budget):
        if self.end.aborted:
            return
        self._plain = True
        rest = self.rest + data
        self.rest = rest[self._fast(rest, 0, len(rest))[0] :]
        self._plain = not self.rest

    def _endpoint_failed(self):
        self.end.life.wrong.append(Failure())


def messages(twin, end):
    """Make such a protocol of a twin."""
    return type("Messages", (Messages, TRAFFIC[twin]), {})(end)


class End:
    """
    A connection of ours with its peer, and what must arrive at either.

    Args:
        life: it is part of.
        tcp: whether it is a TCP connection; else a UNIX socket's.
        talks: whether it speaks in messages; else in bytes.
        room: bytes that the kernel is to keep for each direction, at either side; None for any.
    """

    def __init__(self, life, tcp, talks, room=None):
        self.life, self.dice, self.talks = life, life.dice, talks
        self.written, self.read = bytearray(), 0
        """What must arrive at the peer, and how much has."""
        self.sent, self.came = bytearray(), 0
        """What the peer has sent, and how much has come."""
        self.waiting = b""
        """What the peer is about to send: it cannot take back the rest of a frame."""
        self.lost = []
        self.broken = self.aborted = self.losing = False
        protocol = messages(life.twin, self) if talks else Stream(self)
        module, reactor = TRANSPORTS[life.twin], life.poller
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, room or self.dice.choice((10_000, 50_000, 1 << 20))
                )
                self.peer = socket.socket()
                self.peer.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, room or self.dice.choice((10_000, 50_000, 1 << 20))
                )
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
        self.transport.repstr = f"<{life.seed}>"
        protocol.makeConnection(self.transport)
        self.transport.startReading()

    # What our side is told.

    def on_publication(self, data):
        assert not self.lost, "data after connectionLost"
        assert not self.aborted, "data after abortConnection"
        end = self.came + len(data)
        assert self.sent[self.came : end] == data, "other bytes came than were sent"
        self.came = end
        self.life.within(self)

    def gone(self, reason):
        self.lost.append(reason.type)

    # What happens.

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
        self.life.seen.add("all is queued" if queued == len(data) else "some is queued" if queued else "nothing queued")

    def peer_reads(self, most=None):
        most = most or self.dice.choice((1, 100, 10_000, 1 << 20))
        try:
            data = self.peer.recv(most)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            assert self.aborted or self.losing, "a reset out of the blue"
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
        """Let the peer break off."""
        self.broken = True
        if self.tcp:
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        for _ in range(self.dice.randrange(3)):
            self.write()

    def abort(self):
        self.aborted = True
        # As of a connection that is dropped: what is left of the read is nobody's.
        self.protocol._plain = False
        self.transport.abortConnection()

    def lose(self):
        self.losing = True
        self.transport.loseConnection()

    # The end.

    def finish(self):
        """End, if it has not; see that all has arrived that must, and that the number is let go."""
        if not (self.broken or self.aborted or self.losing):
            self.dice.choice((self.reset, self.abort, self.lose, self.lose))()
        # Who closes with something unread breaks off; the peer may lose what was on its way then.
        for _ in range(3000):
            self.life.turn()
            if self.broken:
                self.transport.resumeProducing()
            elif not self.peer_reads(1 << 20) and not self.lost:
                # The kernel takes its time where a window has been closed.
                select.select([self.peer, self.life.poller], [], [], 0.5)
            if self.lost and (self.broken or not self.peer_reads(1 << 20)):
                break
        assert len(self.lost) == 1, f"connectionLost was called {len(self.lost)} times"
        assert self.transport.watched == 0
        if self.losing and not self.broken and not self.aborted:
            assert self.lost == [ConnectionDone]
            if self.came == len(self.sent):
                assert self.read == len(self.written), "not all has arrived"
        self.life.ends |= set(self.lost)
        self.peer.close()
        self.use_number_again()

    def use_number_again(self):
        """Give the number to another socket, and see that nothing is read from it or written to it."""
        sock, other = socket.socketpair()
        if self.number not in {sock.fileno(), other.fileno()}:
            assert not os.path.exists(f"/proc/self/fd/{self.number}"), "the number was not let go"
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
            self.life.turn()
            with pytest.raises(BlockingIOError):
                other.recv(1)
            assert sock.recv(100) == b"for the new one"


class Life:
    """
    Two connections, so that one may have the other read from within its own read.

    Args:
        seed: of its dice.
        twin: "python" or "compiled".
    """

    def __init__(self, seed, twin):
        self.seed, self.twin, self.dice = seed, twin, random.Random(seed)
        self.seen, self.ends, self.wrong, self.reading = set(), set(), [], []
        self.reactor = FakeReactor()
        self.poller = Poller(self.reactor)
        kinds = [(self.dice.random() < 0.5, self.dice.random() < 0.6) for _ in range(2)]
        self.pair = [End(self, *kind) for kind in kinds]

    def turn(self):
        self.poller.doRead()
        self.reactor.advance(0)

    def within(self, end):
        """Do something within a read."""
        dice, other = self.dice, self.pair[end is self.pair[0]]
        self.reading.append(end)
        if dice.random() < 0.3:
            end.write()
        # Nothing reads from a connection again before its read is done.
        if dice.random() < 0.3 and other not in self.reading and other.transport.watched & IN:
            self.seen.add("nested")
            other.transport.doRead()
        if dice.random() < 0.001:
            dice.choice((end, other)).abort()
        self.reading.remove(end)

    CALLS = [(End.write, 30), (End.peer_reads, 30), (End.peer_sends, 30), (End.pause, 2), (End.resume, 4)]
    ENDS = [(End.reset, 0.05), (End.abort, 0.05), (End.lose, 0.05)]

    def live(self):
        """Live, and come to an end; return the number of operations."""
        done = 0
        try:
            calls, often = zip(*self.CALLS, *self.ENDS, strict=True)
            while done < LONGEST:
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
        """Let go of everything, however far it has come."""
        for end in self.pair:
            end.peer.close()
            end.transport.connectionLost(Failure(CONNECTION_LOST))
        self.poller.stop()


@pytest.fixture(params=TRANSPORTS)
def twin(request, monkeypatch):
    """Give the name of each twin; the loop that serves is that of the same."""
    monkeypatch.setattr(poller, "serve", SERVE[request.param])
    if request.param == "python":
        monkeypatch.setattr(frames, "parse", frames.py_parse)
        monkeypatch.setattr(frames, "build", frames.py_build)
        monkeypatch.setattr("wsserver.wire.fastpath.Partial", frames.PyPartial)
    return request.param


@pytest.fixture
def failures():
    """Give the list of failures that are logged: an assertion in a callback ends up there."""
    logged = []

    def observe(event):
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            logged.append(failure)

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


class KernelTests:
    """Whole lives of connections."""

    def test_lives(self, twin, failures):
        """All arrives in order, in hundreds of lives with 5 * 10^4 operations of each twin."""
        done, seed, seen, ends, before = 0, 0, set(), set(), len(os.listdir("/proc/self/fd"))
        while done < OPERATIONS:
            life = Life(seed, twin)
            done += life.live()
            for failure in life.wrong + failures:
                failure.value.add_note(f"seed {seed}, {twin}")
                failure.raiseException()
            seed, seen, ends = seed + 1, seen | life.seen, ends | life.ends
        # The dice have rolled everything.
        assert seen == {"all is queued", "some is queued", "nothing queued", "nested"}
        assert ends == {ConnectionDone, ConnectionLost, ConnectionAborted}
        assert len(os.listdir("/proc/self/fd")) == before

    def test_it_would_notice(self, twin, failures, monkeypatch):
        """The model is no rubber stamp: transports that lose a byte or keep a number do not pass."""
        both = [getattr(TRANSPORTS[twin], f"{kind}Transport") for kind in ("TCP", "UNIX")]
        for transport in both:
            right = transport._queue_rest
            with monkeypatch.context() as patch:
                patch.setattr(transport, "_queue_rest", lambda me, data, start, right=right: right(me, data, start + 1))
                with pytest.raises(AssertionError, match=r"other bytes arrived|not all has arrived"):
                    for seed in range(100):
                        Life(seed, twin).live()
        if twin == "compiled":
            for transport in both:
                monkeypatch.setattr(transport, "_drop_queue", lambda me: None)
            with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
                for seed in range(100):
                    Life(seed, twin).live()


@pytest.fixture
def life(twin):
    """Give a life of each twin, to be played by hand."""
    life = Life(0, twin)
    life.within = lambda end: None
    yield life
    life.close()


@pytest.fixture(params=["tcp", "unix"])
def end(request, life):
    """Give a connection of each kind; it speaks in messages."""
    life.pair.append(End(life, request.param == "tcp", talks=True, room=10_000))
    return life.pair[-1]


class ReadTests:
    """Reading."""

    @pytest.mark.parametrize("talks", [True, False])
    def test_within_a_read(self, life, end, talks):
        """Another connection may be read in the midst of a read; either gets what is its own."""
        other = End(life, tcp=False, talks=talks, room=10_000)
        life.pair.append(other)
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

        life.within = within
        assert end.transport.doRead() is None
        assert came == [len(first), len(second) * 5]
        assert end.came == len(first) * 3
        # And the other way round, and again: the buffer has been let go.
        other.sent += second
        other.peer.sendall(second)
        other.transport.doRead()
        assert other.came == len(other.sent)

    def test_a_read_that_fails(self, life, end):
        """After a read that raised the next one is as any other."""
        frame = build_frame(2, b"x", mask=bytes(4))
        end.sent += frame * 2

        def leave(one):
            raise SystemExit

        life.within = leave
        end.peer.sendall(frame)
        with pytest.raises(SystemExit):
            end.transport.doRead()
        life.within = lambda one: None
        end.peer.sendall(frame)
        assert end.transport.doRead() is None
        assert end.protocol.messages_in == 2

    def test_own_method(self, life, twin):
        """A protocol's own `dataReceived` is called."""

        class Own(Messages, TRAFFIC[twin]):
            def dataReceived(self, data):
                super().dataReceived(data[1:])

        end = End(life, tcp=False, talks=True)
        life.pair.append(end)
        end.transport.protocol = Own(end)
        frame = build_frame(2, b"x", mask=bytes(4))
        end.sent += frame
        end.peer.sendall(b"?" + frame)
        end.transport.doRead()
        assert end.came == len(frame)


class LargeTests:
    """Messages that are sent in two pieces."""

    @pytest.mark.parametrize("size", [LARGE, 65_535, 65_536, 1 << 20])
    def test_whole(self, end, size):
        """All arrives, though the kernel takes it in many parts; what follows comes behind it."""
        expected = b""
        for _ in range(3):
            for payload in (PAYLOAD[:size], b"small"):
                end.protocol.sendMessage(payload, True)
                expected += build_frame(2, payload, mask=b"")
        end.written += expected
        end.lose()
        end.finish()
        assert end.read == len(expected)

    def test_to_a_peer_that_broke_off(self, end):
        """Sending to a peer that is gone raises nothing; the loss is told by the reactor."""
        end.reset()
        for _ in range(3):
            end.protocol.sendMessage(bytes(LARGE))
        assert end.lost == []
        end.finish()
        assert len(end.lost) == 1

    def test_whoever_writes_when_the_queue_is_full(self, end):
        """Nothing gets between the header and the payload of a message, also if the header fills the queue."""

        class Late:
            stopProducing = resumeProducing = lambda self: None

            def pauseProducing(self):
                end.protocol.sendMessage(b"late")

        first, second = PAYLOAD[: 1 << 20], PAYLOAD[:LARGE]
        end.protocol.sendMessage(first, True)
        end.transport.bufferSize = end.transport.queued + 2
        end.transport.registerProducer(Late(), True)
        end.protocol.sendMessage(second, True)
        end.transport.unregisterProducer()
        end.written += build_frame(2, first, mask=b"") + build_frame(2, second, mask=b"") + b"\x81\x04late"
        end.lose()
        end.finish()
        assert end.read == len(end.written)


class NumberTests:
    """Descriptors that were let go."""

    @pytest.mark.parametrize("how", ["lose", "abort", "reset"])
    @pytest.mark.parametrize("full", [False, True])
    def test_used_again(self, end, how, full):
        """Once a connection is gone, its number may be another one's: that is neither read nor written."""
        if full:
            end.note(build_frame(2, PAYLOAD[: 1 << 20], mask=b""))
            end.protocol.sendMessage(PAYLOAD[: 1 << 20], True)
            assert end.transport.queued
        getattr(end, how)()
        end.finish()

    def test_after_an_abort(self, end):
        """After an abort nothing leaves, though the socket is still there."""
        end.abort()
        for size in (1, LARGE):
            end.protocol.sendMessage(bytes(size))
            end.transport.write(bytes(size))
        end.finish()
        assert end.read == 0
