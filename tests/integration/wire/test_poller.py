"""Tests for wsserver/wire/poller.py: one reader for all connections, by a real epoll and real sockets; both twins."""

import asyncio
import contextlib
import errno
import os
import resource
import select
import socket
import struct
import sys

import pytest
from twins import SERVE
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from wsserver.wire import frames
from wsserver.wire import poller as poller_module
from wsserver.wire.poller import IN, MAX_EVENTS, OUT, Poller
from wsserver.wire.transport import PyWriteThrough

pytestmark = pytest.mark.kernel


class FakeReactor(Clock):
    """A reactor that remembers its readers and watches none: the tests call the poller themselves."""

    def __init__(self):
        super().__init__()
        self.readers = []

    def addReader(self, reader):
        self.readers.append(reader)

    def removeReader(self, reader):
        if reader in self.readers:
            self.readers.remove(reader)


WriteThrough = frames.SPEEDUPS.WriteThrough if frames.COMPILED else PyWriteThrough


class Thing(WriteThrough):
    """
    What a poller watches: a socket and a list of what was asked of it.

    It is a transport by its base alone: the compiled loop reads from such without calling their `doRead`.

    Args:
        poller: watches it.
        sock: is watched.
        read: what doRead does, given the thing; None to take what has come, as a transport would.
        write: what doWrite does, given the thing; None for nothing.
        lost: what connectionLost does, given the thing, before it closes the socket.
    """

    def __init__(self, poller, sock, read=None, write=None, lost=None):
        self.watched, self._fd = 0, -1
        self.poller, self.socket = poller, sock
        self.read, self.write, self.lost = read, write, lost
        self.calls = []
        self.reasons = []
        sock.setblocking(False)

    def fileno(self):
        return self.socket.fileno()

    def logPrefix(self):
        return "thing"

    def doRead(self):
        self.calls.append("read")
        if self.read is not None:
            return self.read(self)
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        return None if data else CONNECTION_DONE

    def _read_by_socket(self):
        return self.doRead()

    def doWrite(self):
        self.calls.append("write")
        return self.write(self) if self.write is not None else None

    def readConnectionLost(self, reason):
        self.calls.append("half")
        self.reasons.append(reason)

    def connectionLost(self, reason):
        self.calls.append("lost")
        self.reasons.append(reason)
        self.close()
        if self.lost is not None:
            self.lost(self)

    def close(self):
        """End as a transport does: first unwatched, then closed."""
        self.poller.removeReader(self)
        self.poller.removeWriter(self)
        self.socket.close()


class Stranger:
    """
    One that is no transport of ours, as far as the poller sees: it has the methods, and another base.

    Args:
        poller: as of a thing.
        sock: likewise.
        options: likewise.
    """

    def __init__(self, poller, sock, **options):
        self.__dict__["thing"] = Thing(poller, sock, **options)
        self.thing.poller = poller

    def __getattr__(self, name):
        return getattr(self.thing, name)

    def __setattr__(self, name, value):
        setattr(self.thing, name, value)


@pytest.fixture(params=SERVE, autouse=True)
def twin(request, monkeypatch):
    """Let each twin serve."""
    monkeypatch.setattr(poller_module, "serve", SERVE[request.param])


@pytest.fixture
def reactor():
    """Give a reactor."""
    return FakeReactor()


@pytest.fixture
def poller(reactor):
    """Give a poller; afterwards nothing of it is left in the reactor."""
    poller = Poller(reactor)
    yield poller
    if poller.fileno() != -1:
        poller.stop()
    assert reactor.readers == []


@pytest.fixture
def opened():
    """Give a list of sockets to be closed."""
    sockets = []
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.fixture
def pair(opened):
    """Give a maker of connected UNIX sockets."""

    def make():
        two = socket.socketpair()
        opened.extend(two)
        return two

    return make


@pytest.fixture
def tcp_pair(opened):
    """Give a maker of connected TCP sockets: the accepted one and the client's."""

    def make():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        opened.extend((server, client))
        return server, client

    return make


@pytest.fixture
def thing(poller, pair):
    """Give a maker of things that are read, each with its peer's socket."""

    def make(sock=None, **handlers):
        peer = None
        if sock is None:
            sock, peer = pair()
        made = Thing(poller, sock, **handlers)
        poller.addReader(made)
        return made, peer

    return make


@pytest.fixture
def logged():
    """Give the list of failures that are logged."""
    failures = []

    def observe(event):
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


def reset(sock):
    """Close a TCP connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_ready(poller):
    """Whether the reactor would call the poller."""
    return bool(select.select([poller.fileno()], [], [], 0)[0])


def serve(poller, turns=1):
    """Let the poller serve what is ready, as a reactor would: only while it is readable."""
    for _ in range(turns):
        if is_ready(poller):
            poller.doRead()


def do_to_others(things, what):
    """Make a doRead that does something to all other things, and does not read."""

    def read(me):
        for one, _ in things:
            if one is not me:
                what(one)

    return read


class ReaderTests:
    """What the reactor sees."""

    def test_it_is_a_reader(self, poller, reactor):
        """It is one reader of the reactor, with a descriptor and a name."""
        assert reactor.readers == [poller]
        assert verifyObject(IReadDescriptor, poller)
        assert poller.fileno() >= 0
        assert poller.logPrefix() == "wsserver"

    def test_readable_while_something_is_ready(self, poller, thing):
        """Its descriptor is readable while one of its connections is ready, and at no other time."""
        one, peer = thing()
        assert not is_ready(poller)
        peer.send(b"x")
        assert is_ready(poller)
        serve(poller)
        assert one.calls == ["read"]
        assert not is_ready(poller)

    def test_nothing_is_ready(self, poller, thing):
        """Called without cause it does nothing, and does not wait."""
        one, _ = thing()
        poller.doRead()
        assert one.calls == []

    @pytest.mark.parametrize("outer", ["select", "poll", "epoll"])
    def test_every_way_of_waiting_sees_it(self, poller, thing, outer):
        """Reactors that wait by select, poll and epoll all see it."""
        _, peer = thing()
        fd = poller.fileno()

        def wait():
            if outer == "select":
                return select.select([fd], [], [], 0)[0]
            with contextlib.closing(select.epoll()) if outer == "epoll" else contextlib.nullcontext(select.poll()) as p:
                p.register(fd, select.POLLIN)
                return [fd for fd, events in p.poll(0) if events & select.POLLIN]

        assert wait() == []
        peer.send(b"x")
        assert wait() == [fd]

    def test_everything_else_is_the_reactors(self, poller, reactor):
        """Timers and whatever else a transport wants are the reactor's own; what there is not, there is not."""
        calls = []
        poller.callLater(1, calls.append, "called")
        reactor.advance(1)
        assert calls == ["called"]
        assert poller.seconds() == 1
        with pytest.raises(AttributeError):
            poller.no_such_thing  # noqa: B018

    def test_available(self):
        """It knows that this system has epoll."""
        assert Poller.available is hasattr(select, "epoll")

    def test_no_room_for_another(self, reactor, monkeypatch):
        """Where the system gives no epoll instance, that is said, and the reactor is not given half a poller."""

        def refuse():
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(select, "epoll", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            Poller(reactor)
        assert reactor.readers == []


class InterestTests:
    """Adding, changing and removing what is waited for."""

    def test_read(self, poller, thing):
        """Who is added as a reader is called when there is something to read, and as often as there is."""
        one, peer = thing()
        for _ in range(3):
            peer.send(b"x")
            serve(poller)
        assert one.calls == ["read"] * 3

    def test_write(self, poller, pair):
        """Who is added as a writer is called while it can write, until it is removed."""
        one = Thing(poller, pair()[0])
        poller.addWriter(one)
        serve(poller, 2)
        assert one.calls == ["write", "write"]
        poller.removeWriter(one)
        serve(poller)
        assert one.calls == ["write", "write"]

    def test_not_writable(self, poller, pair):
        """Who cannot write is not called before it can."""
        sock, peer = pair()
        one = Thing(poller, sock)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(65536))
        poller.addWriter(one)
        serve(poller)
        assert one.calls == []
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.recv(1 << 20)
        serve(poller)
        assert one.calls == ["write"]

    def test_read_and_write(self, poller, thing):
        """With both, it reads first and writes then, in one turn."""
        one, peer = thing()
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read", "write"]

    @pytest.mark.parametrize("removed", ["Reader", "Writer"])
    def test_one_of_two_removed(self, poller, thing, removed):
        """Removing one interest leaves the other."""
        one, peer = thing()
        poller.addWriter(one)
        getattr(poller, f"remove{removed}")(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["write" if removed == "Reader" else "read"]

    def test_adding_and_removing_twice(self, poller, thing):
        """What is added or removed a second time stays as it is; so does what was never added."""
        one, peer = thing()
        poller.addReader(one)
        poller.addWriter(one)
        poller.addWriter(one)
        poller.removeWriter(one)
        poller.removeWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read"]
        poller.removeReader(one)
        poller.removeReader(one)
        assert one.watched == 0
        other = Thing(poller, peer)
        poller.removeReader(other)
        poller.removeWriter(other)
        assert other.watched == 0

    def test_pause_and_resume(self, poller, thing):
        """Who pauses is not called, and keeps what came meanwhile until it resumes."""
        one, peer = thing()
        poller.removeReader(one)
        peer.send(b"x")
        assert not is_ready(poller)
        poller.addReader(one)
        serve(poller)
        assert one.calls == ["read"]

    def test_a_pause_hides_the_peers_end_too(self, poller, thing):
        """Who has paused learns of the peer's end when it resumes."""
        one, peer = thing()
        poller.removeReader(one)
        peer.close()
        serve(poller)
        assert one.calls == []
        poller.addReader(one)
        serve(poller)
        assert one.calls == ["read", "half"]

    def test_a_refused_registration_changes_nothing(self, poller, pair):
        """Where the kernel refuses to watch, that is raised, and the poller does not take it for watched."""
        sock, _ = pair()
        sock.close()
        one = Thing.__new__(Thing)
        one.socket, one.watched = sock, 0
        with pytest.raises((OSError, ValueError)):
            poller.addReader(one)
        assert one.watched == 0
        poller.removeReader(one)


class BatchTests:
    """Handlers that change what is watched while events are served."""

    def test_removing_oneself(self, poller, thing):
        """Who removes itself in its handler is called no more."""
        one, peer = thing(read=lambda me: me.poller.removeReader(me))
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read"]

    def test_write_interest_from_a_reader(self, poller, thing):
        """Who asks to write in its reading is called in the next turn at the latest."""
        one, peer = thing(read=lambda me: me.socket.recv(9) and me.poller.addWriter(me))
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "write"]

    def test_no_write_after_giving_it_up(self, poller, thing):
        """Who gives up writing while it reads is not called to write in that turn."""
        one, peer = thing(read=lambda me: me.poller.removeWriter(me))
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read"]

    def test_no_write_after_an_end(self, poller, thing):
        """Who was closed while it read is not called to write."""
        one, peer = thing(read=lambda me: me.close())
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read"]

    def test_closed_by_another(self, poller, thing):
        """Who is closed by another's handler gets no event, though it was ready in the same batch."""
        things = []
        for _ in range(3):
            things.append(thing(read=do_to_others(things, Thing.close)))
        for _, peer in things:
            peer.send(b"x")
        serve(poller)
        assert sorted(len(one.calls) for one, _ in things) == [0, 0, 1]

    def test_paused_by_another(self, poller, thing):
        """Who is paused by another's handler gets no event, though it was ready in the same batch."""
        things = []
        for _ in range(3):
            things.append(thing(read=do_to_others(things, poller.removeReader)))
        for _, peer in things:
            peer.send(b"x")
        serve(poller)
        assert sorted(len(one.calls) for one, _ in things) == [0, 0, 1]

    def test_paused_by_another_while_it_writes(self, poller, thing):
        """Who is paused by another's handler is not read in the same batch, even if it still waits to write."""
        things = []
        for _ in range(2):
            things.append(thing(read=do_to_others(things, poller.removeReader)))
        for one, peer in things:
            poller.addWriter(one)
            peer.send(b"x")
        serve(poller)
        assert sorted(one.calls.count("read") for one, _ in things) == [0, 1]

    def test_paused_and_resumed_by_another(self, poller, thing):
        """Who is paused and resumed by another's handler is served, once."""
        things = []

        def blink(me):
            me.socket.recv(9)
            for one, _ in things:
                if one is not me and not one.calls:
                    poller.removeReader(one)
                    poller.addReader(one)

        things.extend([thing(read=blink) for _ in range(3)])
        for _, peer in things:
            peer.send(b"x")
        serve(poller, 4)
        assert [one.calls for one, _ in things] == [["read"]] * 3

    def test_added_by_another(self, poller, thing, pair):
        """Who is added by a handler is served in the next turn, with nothing lost."""
        sock, peer = pair()
        peer.send(b"x")
        new = Thing(poller, sock)
        one, its_peer = thing(read=lambda me: me.socket.recv(9) and me.poller.addReader(new))
        its_peer.send(b"x")
        serve(poller)
        assert (one.calls, new.calls) == (["read"], [])
        serve(poller)
        assert new.calls == ["read"]

    def test_the_number_of_one_closed_in_the_same_batch(self, poller, thing, pair):
        """A new connection with the number of one that was closed in this batch does not get that one's event."""
        made = []

        def replace(me):
            me.socket.recv(9)
            for one, _ in things:
                if one is not me and not made:
                    number = one.fileno()
                    one.close()
                    sock, _ = pair()
                    # The kernel gives the lowest free number; make sure that it is this one.
                    if sock.fileno() != number:
                        os.dup2(sock.fileno(), number)
                        sock = socket.socket(fileno=number)
                    made.append(Thing(poller, sock))
                    poller.addReader(made[0])
                    assert made[0].fileno() == number

        things = [thing(read=replace) for _ in range(2)]
        for _, peer in things:
            peer.send(b"x")
        serve(poller)
        assert sorted(one.calls for one, _ in things) == [[], ["read"]]
        assert made[0].calls == []
        serve(poller, 2)
        assert made[0].calls == []
        made[0].close()

    def test_a_taken_number_is_served_later(self, poller, thing, pair, opened):
        """A new connection with the number of a closed one is served from the next batch on."""
        made = []

        def renew(me):
            number = me.fileno()
            me.close()
            sock, other = pair()
            opened.append(other)
            if sock.fileno() != number:
                os.dup2(sock.fileno(), number)
                sock = socket.socket(fileno=number)
                opened.append(sock)
            made.extend((Thing(poller, sock), other))
            poller.addReader(made[0])
            other.send(b"x")

        _, peer = thing(read=renew)
        peer.send(b"x")
        serve(poller)
        assert made[0].calls == []
        serve(poller)
        assert made[0].calls == ["read"]

    def test_more_ready_than_one_batch_takes(self, poller, opened):
        """With more than 1,024 ready at once all are served, each once, in as many turns as it takes."""
        count = MAX_EVENTS + 100
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        need = 2 * count + 200
        if hard != resource.RLIM_INFINITY and hard < need:
            pytest.skip(f"this needs {need} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
        try:
            things = []
            for _ in range(count):
                sock, peer = socket.socketpair()
                opened.extend((sock, peer))
                things.append(Thing(poller, sock))
                poller.addReader(things[-1])
                peer.send(b"x")
            poller.doRead()
            assert sum(len(one.calls) for one in things) == MAX_EVENTS
            poller.doRead()
            assert {tuple(one.calls) for one in things} == {("read",)}
            assert not is_ready(poller)
        finally:
            for sock in opened:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_strangers(self, poller, pair):
        """Who is watched without being a transport of ours is served the same way."""
        sock, peer = pair()
        one = Stranger(poller, sock)
        poller.addReader(one)
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read", "write"]
        poller.removeWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read", "write", "read"]
        peer.close()
        serve(poller, 2)
        assert one.calls == ["read", "write", "read", "read", "half"]
        poller.removeReader(one)

    def test_nobody_starves(self, poller, thing):
        """With more always ready than one batch takes, the rest are not forgotten."""
        # The kernel puts those it has told of at the end of its list.
        greedy = [thing(read=lambda me: None)[0] for _ in range(5)]
        modest, peer = thing()
        for one in greedy:
            poller.addWriter(one)
        peer.send(b"x")
        poller.doRead()
        assert modest.calls == ["read"]


class EndTests:
    """Ends of connections: by the peer, in whole or in half, and by error."""

    def test_end_of_stream(self, poller, tcp_pair, thing):
        """The peer's end of its stream is told as such, once, after what it sent; then it is not read any more."""
        server, client = tcp_pair()
        one, _ = thing(server)
        client.send(b"last words")
        client.close()
        serve(poller, 3)
        assert one.calls == ["read", "read", "half"]
        assert one.reasons[0].check(ConnectionDone)
        assert one.watched == 0

    def test_half_close_leaves_writing(self, poller, tcp_pair, thing):
        """After the peer's end of its stream one may go on writing."""
        server, client = tcp_pair()
        one, _ = thing(server)
        client.shutdown(socket.SHUT_WR)
        serve(poller)
        assert one.calls == ["read", "half"]
        poller.addWriter(one)
        serve(poller)
        assert one.calls == ["read", "half", "write"]

    def test_half_close_while_writing(self, poller, tcp_pair, thing):
        """The peer's half close does not take away the interest in writing."""
        server, client = tcp_pair()
        one, _ = thing(server)
        poller.addWriter(one)
        client.shutdown(socket.SHUT_WR)
        serve(poller, 2)
        assert one.calls == ["read", "half", "write"]

    def test_reset(self, poller, tcp_pair, thing):
        """A reset is told as a loss, once, and nothing is watched any more."""
        server, client = tcp_pair()
        one, _ = thing(server)
        reset(client)
        serve(poller, 3)
        assert one.calls == ["read", "lost"]
        assert one.reasons[0].check(ConnectionLost)
        assert one.watched == 0

    def test_reset_of_one_that_only_writes(self, poller, tcp_pair):
        """One that does not read learns of a reset too."""
        server, client = tcp_pair()
        one = Thing(poller, server)
        poller.addWriter(one)
        reset(client)
        serve(poller, 3)
        assert one.calls == ["lost"]
        assert one.reasons[0].check(ConnectionLost)

    def test_hang_up_with_something_to_read(self, poller, pair, thing):
        """When both directions have ended, what has come is read before the end is told."""
        sock, peer = pair()
        one, _ = thing(sock, read=lambda me: None if me.socket.recv(4) else CONNECTION_DONE)
        peer.send(b"12345678")
        peer.close()
        serve(poller, 4)
        assert one.calls == ["read", "read", "read", "half"]

    def test_hang_up_with_nothing_to_read(self, poller, pair):
        """When both directions have ended and it does not read, that is a loss."""
        sock, peer = pair()
        one = Thing(poller, sock)
        poller.addWriter(one)
        peer.close()
        serve(poller, 2)
        assert one.calls == ["lost"]
        assert one.reasons[0].check(ConnectionLost)

    @pytest.mark.parametrize("events", [select.EPOLLHUP, select.EPOLLERR, select.EPOLLHUP | select.EPOLLERR])
    @pytest.mark.parametrize(("interest", "kind"), [("Reader", ConnectionDone), ("Writer", ConnectionLost)])
    def test_events_of_an_end_alone(self, reactor, pair, monkeypatch, events, interest, kind):
        """A hang-up or an error with nothing to read ends the connection: cleanly for a reader, else as a loss."""

        class Events:
            """An epoll that gives events as no socket does at will; it cannot show when a kernel would give them."""

            closed = False

            def poll(self, timeout, most):
                return [(one.fileno(), events)] if one.watched else []

            def register(self, fd, interest=0):
                """Take no note: what is watched, the thing itself tells."""

            modify = unregister = register

            def close(self):
                self.closed = True

        with monkeypatch.context() as patch:
            patch.setattr(select, "epoll", Events)
            poller = Poller(reactor)
        one = Thing(poller, pair()[0])
        getattr(poller, f"add{interest}")(one)
        poller.doRead()
        poller.doRead()
        assert one.calls == ["lost"]
        assert one.reasons[0].check(kind)
        poller.stop()

    @pytest.mark.parametrize("interest", ["Reader", "Writer"])
    def test_a_connection_refused_late(self, poller, opened, interest):
        """A socket that never was connected hangs up; it is told so and not served for ever."""
        sock = socket.socket()
        opened.append(sock)
        one = Thing(poller, sock)
        getattr(poller, f"add{interest}")(one)
        serve(poller, 3)
        assert one.calls.count("lost") + one.calls.count("half") == 1
        assert one.watched == 0
        assert not is_ready(poller)

    def test_what_doread_returns_is_the_reason(self, poller, thing):
        """A loss that doRead returns is given to connectionLost."""
        one, peer = thing(read=lambda me: CONNECTION_LOST)
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "lost"]
        assert one.reasons[0].value is CONNECTION_LOST

    @pytest.mark.parametrize("why", [CONNECTION_DONE, CONNECTION_LOST])
    def test_what_dowrite_returns_ends_it(self, poller, pair, why):
        """An end that doWrite returns is a whole one, never a half close."""
        one = Thing(poller, pair()[0], write=lambda me: why)
        poller.addWriter(one)
        serve(poller, 2)
        assert one.calls == ["write", "lost"]
        assert one.reasons[0].value is why

    def test_an_end_after_writing_in_a_turn_that_also_read(self, poller, thing):
        """A connection that ends itself after its last write is lost in whole, also if something came in that turn."""
        one, peer = thing(read=lambda me: me.socket.recv(9) and None, write=lambda me: CONNECTION_DONE)
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "write", "lost"]

    def test_closing_oneself_and_telling(self, poller, thing):
        """Who closes itself in its handler and then returns an end as well is not a problem."""

        def close(me):
            me.close()
            return CONNECTION_LOST

        one, peer = thing(read=close)
        other, other_peer = thing()
        peer.send(b"x")
        other_peer.send(b"x")
        serve(poller, 2)
        assert one.calls[0] == "read"
        assert other.calls == ["read"]


class FailureTests:
    """Handlers that raise."""

    @pytest.mark.parametrize("handler", ["read", "write"])
    def test_it_is_disconnected(self, poller, pair, logged, handler):
        """Who raises is disconnected, which is logged once with its traceback."""

        def fail(me):
            raise ZeroDivisionError("a bug")

        sock, peer = pair()
        one = Thing(poller, sock, **{handler: fail})
        poller.addReader(one)
        if handler == "write":
            poller.addWriter(one)
        else:
            peer.send(b"x")
        serve(poller, 3)
        assert one.calls == [handler, "lost"]
        assert [failure.type for failure in logged] == [ZeroDivisionError]
        assert "a bug" in logged[0].getTraceback()
        assert not is_ready(poller)

    def test_others_are_served(self, poller, thing, logged):
        """Whoever raises, the others of the batch are served."""

        def fail(me):
            raise ZeroDivisionError

        things = [thing(read=fail if number % 2 else None) for number in range(6)]
        for _, peer in things:
            peer.send(b"x")
        poller.doRead()
        assert [one.calls for one, _ in things] == [["read"], ["read", "lost"]] * 3
        assert len(logged) == 3

    @pytest.mark.parametrize("half", [True, False])
    def test_connectionlost_raises(self, poller, thing, logged, half):
        """Who raises when it is told of its end is not watched any more; it is logged once, the others are served."""

        class Raising(Thing):
            def readConnectionLost(self, reason):
                raise ZeroDivisionError

            def connectionLost(self, reason):
                raise ZeroDivisionError

        things = [thing() for _ in range(3)]
        bad = things[1][0]
        bad.__class__ = Raising
        bad.read = lambda me: CONNECTION_DONE if half else CONNECTION_LOST
        for _, peer in things:
            peer.send(b"x")
        serve(poller, 3)
        assert [one.calls for one, _ in things] == [["read"]] * 3
        assert [failure.type for failure in logged] == [ZeroDivisionError]
        assert bad.watched == 0

    @pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_more_than_an_exception(self, poller, thing, logged, kind):
        """A `sys.exit()` or a cancelled task in a handler costs that connection, as in a reactor, not the others."""

        def fail(me):
            raise kind

        things = [thing(read=fail), thing()]
        for _, peer in things:
            peer.send(b"x")
        # What comes out here makes a reactor drop the poller, and with it every connection of the server.
        poller.doRead()
        serve(poller)
        assert [one.calls for one, _ in things] == [["read", "lost"], ["read"]]
        assert [failure.type for failure in logged] == [kind]

    def test_more_than_an_exception_in_connectionlost(self, poller, thing, logged):
        """The same where a connection is told of its end."""

        def fail(me):
            raise SystemExit

        things = [thing(lost=fail, read=lambda me: CONNECTION_LOST), thing()]
        for _, peer in things:
            peer.send(b"x")
        poller.doRead()
        assert [one.calls for one, _ in things] == [["read", "lost"], ["read"]]
        assert [failure.type for failure in logged] == [SystemExit]

    def test_the_socket_closed_behind_its_back(self, poller, thing, logged):
        """A handler that closes its own socket, and fails, does not take the others along."""

        def close(me):
            me.socket.close()
            raise ZeroDivisionError

        things = [thing(read=close), thing()]
        for _, peer in things:
            peer.send(b"x")
        poller.doRead()
        serve(poller)
        assert things[1][0].calls == ["read"]
        assert things[0][0].calls == ["read", "lost"]

    def test_a_number_reused_after_closing_behind_its_back(self, poller, thing, pair):
        """A socket closed without a word does not keep a new one with its number from being served."""
        one, _ = thing()
        number = one.fileno()
        one.socket.close()
        sock, peer = pair()
        if sock.fileno() != number:
            os.dup2(sock.fileno(), number)
            sock = socket.socket(fileno=number)
        new = Thing(poller, sock)
        poller.addReader(new)
        # Now the old one is told of its end by someone, as by a deadline.
        with contextlib.suppress(OSError, ValueError):
            one.connectionLost(Failure(CONNECTION_LOST))
        peer.send(b"x")
        serve(poller)
        assert new.calls == ["read"]
        new.close()


class Asked:
    """
    Takes what the loop calls for all that is more than reading; writes it down.

    Args:
        events: descriptor and what has happened there, as of an epoll.
        watched: descriptor -> thing.
        fresh: descriptors that were registered since.
    """

    def __init__(self, events, watched, fresh=()):
        self.calls = []
        poller_module.serve(events, watched, set(fresh), self.other, self.failed, self.disconnect)

    def other(self, one, what):
        self.calls.append(("other", one, what))

    def failed(self, one):
        self.calls.append(("failed", one, sys.exc_info()[0]))

    def disconnect(self, one, why, *, read):
        self.calls.append(("disconnect", one, why, read))


class LoopTests:
    """The loop over a batch of events, by itself."""

    @pytest.fixture
    def one(self, poller, pair):
        """Give a thing that waits to read, but is in no poller."""
        one = Thing(poller, pair()[0], read=lambda me: me.answer)
        one.watched, one.answer = IN, None
        yield one
        one.watched = 0

    def test_reading(self, one):
        """Something to read is read, and nobody else is asked."""
        assert Asked([(5, IN), (5, IN)], {5: one}).calls == []
        assert one.calls == ["read", "read"]

    @pytest.mark.parametrize("what", [0, OUT, IN | OUT, 8, 16, IN | 16, IN | 8 | 16, 2**31])
    def test_more_than_reading(self, one, what):
        """Everything else is for others to decide, whatever it is."""
        assert Asked([(5, what)], {5: one}).calls == [("other", one, what)]
        assert one.calls == []

    @pytest.mark.parametrize("watched", [0, OUT])
    def test_who_does_not_wait_to_read(self, one, watched):
        """One that has paused in this batch is not read; so it is for others to decide."""
        one.watched = watched
        assert Asked([(5, IN)], {5: one}).calls == [("other", one, IN)]

    def test_nobody(self, one):
        """An event of nobody, or of a number that is taken since, is dropped."""
        assert Asked([], {}).calls == []
        assert Asked([(6, IN), (5, IN), (7, OUT)], {5: one}, fresh=[5]).calls == []
        assert Asked([(-1, IN), (2**40, IN)], {5: one}).calls == []
        assert one.calls == []

    @pytest.mark.parametrize("why", [CONNECTION_DONE, CONNECTION_LOST])
    def test_an_end(self, one, why):
        """What a read returns is why it has ended."""
        one.answer = why
        assert Asked([(5, IN)], {5: one}).calls == [("disconnect", one, why, True)]

    @pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_a_failure(self, one, poller, pair, kind):
        """What a read raises is told while it is being handled; the next one is served."""

        def fail(me):
            raise kind

        bad = Thing(poller, pair()[0], read=fail)
        bad.watched = IN
        assert Asked([(4, IN), (5, IN)], {4: bad, 5: one}).calls == [("failed", bad, kind)]
        assert one.calls == ["read"]
        bad.watched = 0

    def test_changes_meanwhile(self, one, poller, pair):
        """What a handler adds or takes away counts from the next event on."""
        watched, fresh = {5: one}, set()

        def change(me):
            del watched[5]
            watched[6] = me
            fresh.add(6)
            watched[7] = me

        other = Thing(poller, pair()[0], read=lambda me: (me.calls.count("read") == 1 and change(me)) or None)
        other.watched, watched[4] = IN, other
        poller_module.serve([(4, IN), (5, IN), (6, IN), (7, IN)], watched, fresh, None, None, None)
        assert (other.calls, one.calls) == (["read", "read"], [])
        other.watched = 0

    def test_wrong_use(self, one):
        """What is no batch is refused."""
        with pytest.raises(TypeError):
            poller_module.serve(None, {}, set(), None, None, None)
        with pytest.raises((TypeError, ValueError)):
            poller_module.serve([(5,)], {5: one}, set(), None, None, None)


class StopTests:
    """Letting go."""

    def test_stop(self, poller, reactor):
        """A stopped poller is no reader of the reactor any more and has no descriptor."""
        poller.stop()
        assert reactor.readers == []
        assert poller.fileno() == -1

    def test_nothing_stays_open(self, reactor):
        """Its descriptor is closed with it."""
        before = len(os.listdir("/proc/self/fd"))
        poller = Poller(reactor)
        assert len(os.listdir("/proc/self/fd")) == before + 1
        poller.stop()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_nothing_stays_registered(self, poller, thing):
        """When all connections have ended, nothing is left of them."""
        things = [thing() for _ in range(5)]
        for one, _ in things:
            poller.addWriter(one)
        serve(poller)
        for one, _ in things:
            one.connectionLost(Failure(CONNECTION_DONE))
        assert {one.watched for one, _ in things} == {0}
        assert not poller._watched
        assert not is_ready(poller)
        poller.doRead()

    def test_a_connection_ends_after_it(self, poller, thing):
        """What is still watched when the poller stops can be ended afterwards."""
        one, _ = thing()
        poller.stop()
        one.connectionLost(Failure(CONNECTION_DONE))
        assert one.calls == ["lost"]
        assert one.socket.fileno() == -1

    @pytest.mark.parametrize("change", ["addWriter", "removeReader", "addReader", "removeWriter"])
    def test_changes_after_it(self, poller, thing, change):
        """Changes of interest after the stop do nothing: a transport's loseConnection must not raise."""
        one, _ = thing()
        poller.stop()
        getattr(poller, change)(one)
        one.socket.close()

    def test_stopped_by_a_handler(self, poller, thing, logged):
        """A handler may stop it; what is left of the batch makes no trouble."""
        things = [thing(read=lambda me: poller.stop() if poller.fileno() != -1 else CONNECTION_LOST) for _ in range(3)]
        for _, peer in things:
            peer.send(b"x")
        poller.doRead()
        assert poller.fileno() == -1
        assert logged == []

    def test_stopped_twice(self, poller, reactor):
        """Stopping a second time does nothing."""
        poller.stop()
        poller.stop()
        assert reactor.readers == []

    def test_the_reactor_stops(self, poller, thing):
        """A reactor that stops tells its readers of their end; each connection hears of it, as without a poller."""
        things = [thing()[0] for _ in range(3)]
        poller.connectionLost(Failure(CONNECTION_LOST))
        assert [one.calls for one in things] == [["lost"]] * 3
