"""Tests for wsserver/wire/poller.py: one reactor reader for all connections; real epoll and sockets, both twins."""

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
from twins import SERVE, SERVE_EVENT
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from wsserver.wire import frames
from wsserver.wire import poller as poller_module
from wsserver.wire.poller import IN, MAX_EVENTS, OUT, SECONDS_OF_ENDINGS, Poller
from wsserver.wire.transport import PyWriteThrough

pytestmark = pytest.mark.kernel


class FakeReactor(Clock):
    """A reactor that records its readers but does not watch them: the tests call the poller."""

    def __init__(self):
        super().__init__()
        self.readers = []

    def addReader(self, reader):
        self.readers.append(reader)

    def removeReader(self, reader):
        if reader in self.readers:
            self.readers.remove(reader)


WriteThrough = frames.SPEEDUPS.WriteThrough if frames.COMPILED else PyWriteThrough


class Connection(WriteThrough):
    """
    A connection as the poller sees it: a socket, and a list of the calls.

    Only its base class makes it a transport: the compiled loop reads from transports without calling `doRead`.

    Args:
        poller: watches the connection.
        sock: the watched socket.
        read: called by doRead with the connection; None to read the available data, as a transport does.
        write: called by doWrite with the connection; None to do nothing.
        lost: called by connectionLost with the connection, after the socket is closed.
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
        return "connection"

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


class OtherDescriptor:
    """
    A descriptor that is not one of our transports: it has their methods, but another base class.

    Args:
        poller: as for `Connection`.
        sock: as for `Connection`.
        options: further arguments of `Connection`.
    """

    def __init__(self, poller, sock, **options):
        self.__dict__["connection"] = Connection(poller, sock, **options)
        self.connection.poller = poller

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def __setattr__(self, name, value):
        setattr(self.connection, name, value)


@pytest.fixture(params=SERVE, autouse=True)
def twin(request, monkeypatch):
    """Run each test with both implementations of the loop; return the name of the implementation."""
    monkeypatch.setattr(poller_module, "serve", SERVE[request.param])
    return request.param


@pytest.fixture
def serve_event(twin):
    """Return the function of this implementation that processes the events of one descriptor."""
    return SERVE_EVENT[twin]


@pytest.fixture
def reactor():
    """Return a reactor."""
    return FakeReactor()


@pytest.fixture
def poller(reactor):
    """Return a poller; check afterwards that the reactor has no reader left."""
    poller = Poller(reactor)
    yield poller
    if poller.fileno() != -1:
        poller.stop()
    assert reactor.readers == []


@pytest.fixture
def opened():
    """Return a list of sockets to close afterwards."""
    sockets = []
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.fixture
def pair(opened):
    """Return a function that makes a pair of connected UNIX sockets."""

    def make():
        two = socket.socketpair()
        opened.extend(two)
        return two

    return make


@pytest.fixture
def tcp_pair(opened):
    """Return a function that makes connected TCP sockets: the accepted one and the client's."""

    def make():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        opened.extend((server, client))
        return server, client

    return make


@pytest.fixture
def connect(poller, pair):
    """Return a function that makes a watched connection and its peer's socket."""

    def make(sock=None, **handlers):
        peer = None
        if sock is None:
            sock, peer = pair()
        made = Connection(poller, sock, **handlers)
        poller.addReader(made)
        return made, peer

    return make


@pytest.fixture
def logged():
    """Return the list of logged failures."""
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
    """Return whether the reactor would call the poller."""
    return bool(select.select([poller.fileno()], [], [], 0)[0])


def serve(poller, turns=1):
    """Call the poller as a reactor would: only while it is readable."""
    for _ in range(turns):
        if is_ready(poller):
            poller.doRead()


def do_to_others(connections, what):
    """Return a doRead that applies `what` to all other connections, and does not read."""

    def read(me):
        for one, _ in connections:
            if one is not me:
                what(one)

    return read


class ReaderTests:
    """The poller as a reader of the reactor."""

    def test_is_one_reader_with_a_descriptor_and_a_name(self, poller, reactor):
        assert reactor.readers == [poller]
        assert verifyObject(IReadDescriptor, poller)
        assert poller.fileno() >= 0
        assert poller.logPrefix() == "wsserver"

    def test_is_readable_only_while_a_connection_is_ready(self, poller, connect):
        one, peer = connect()
        assert not is_ready(poller)
        peer.send(b"x")
        assert is_ready(poller)
        serve(poller)
        assert one.calls == ["read"]
        assert not is_ready(poller)

    def test_returns_without_waiting_if_no_connection_is_ready(self, poller, connect):
        one, _ = connect()
        poller.doRead()
        assert one.calls == []

    @pytest.mark.parametrize("outer", ["select", "poll", "epoll"])
    def test_select_poll_and_epoll_report_it_as_readable(self, poller, connect, outer):
        """Any reactor can watch it."""
        _, peer = connect()
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

    def test_delegates_other_attributes_to_the_reactor(self, poller, reactor):
        """Timers are an example. A name that the reactor lacks raises AttributeError."""
        calls = []
        poller.callLater(1, calls.append, "called")
        reactor.advance(1)
        assert calls == ["called"]
        assert poller.seconds() == 1
        with pytest.raises(AttributeError):
            poller.no_such_thing  # noqa: B018

    def test_is_available_if_the_system_has_epoll(self):
        assert Poller.available is hasattr(select, "epoll")

    def test_raises_os_error_without_adding_a_reader_if_epoll_fails(self, reactor, monkeypatch):
        def refuse():
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(select, "epoll", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            Poller(reactor)
        assert reactor.readers == []


class InterestTests:
    """Adding, changing and removing interests."""

    def test_calls_a_reader_each_time_data_arrives(self, poller, connect):
        one, peer = connect()
        for _ in range(3):
            peer.send(b"x")
            serve(poller)
        assert one.calls == ["read"] * 3

    def test_calls_a_writer_while_writable_until_it_is_removed(self, poller, pair):
        one = Connection(poller, pair()[0])
        poller.addWriter(one)
        serve(poller, 2)
        assert one.calls == ["write", "write"]
        poller.removeWriter(one)
        serve(poller)
        assert one.calls == ["write", "write"]

    def test_does_not_call_a_writer_while_the_buffer_is_full(self, poller, pair):
        sock, peer = pair()
        one = Connection(poller, sock)
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

    def test_reads_before_it_writes_in_one_turn(self, poller, connect):
        one, peer = connect()
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read", "write"]

    @pytest.mark.parametrize("removed", ["Reader", "Writer"])
    def test_removing_one_interest_leaves_the_other(self, poller, connect, removed):
        one, peer = connect()
        poller.addWriter(one)
        getattr(poller, f"remove{removed}")(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["write" if removed == "Reader" else "read"]

    def test_adding_or_removing_twice_has_no_further_effect(self, poller, connect):
        """Removing an interest that was never added has no effect, either."""
        one, peer = connect()
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
        other = Connection(poller, peer)
        poller.removeReader(other)
        poller.removeWriter(other)
        assert other.watched == 0

    def test_serves_data_of_a_paused_connection_after_it_resumes(self, poller, connect):
        one, peer = connect()
        poller.removeReader(one)
        peer.send(b"x")
        assert not is_ready(poller)
        poller.addReader(one)
        serve(poller)
        assert one.calls == ["read"]

    def test_reports_the_end_of_a_paused_connection_after_it_resumes(self, poller, connect):
        one, peer = connect()
        poller.removeReader(one)
        peer.close()
        serve(poller)
        assert one.calls == []
        poller.addReader(one)
        serve(poller)
        assert one.calls == ["read", "half"]

    def test_raises_and_watches_nothing_if_the_kernel_refuses_a_socket(self, poller, pair):
        sock, _ = pair()
        sock.close()
        one = Connection.__new__(Connection)
        one.socket, one.watched = sock, 0
        with pytest.raises((OSError, ValueError)):
            poller.addReader(one)
        assert one.watched == 0
        poller.removeReader(one)


class BatchTests:
    """Handlers that change interests while the events of a batch are served."""

    def test_does_not_call_a_connection_that_removed_itself(self, poller, connect):
        one, peer = connect(read=lambda me: me.poller.removeReader(me))
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read"]

    def test_calls_a_writer_added_during_its_read_by_the_next_turn(self, poller, connect):
        one, peer = connect(read=lambda me: me.socket.recv(9) and me.poller.addWriter(me))
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "write"]

    def test_does_not_call_a_writer_removed_during_its_read(self, poller, connect):
        one, peer = connect(read=lambda me: me.poller.removeWriter(me))
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read"]

    def test_does_not_call_a_writer_closed_during_its_read(self, poller, connect):
        one, peer = connect(read=lambda me: me.close())
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller)
        assert one.calls == ["read"]

    def test_does_not_call_a_connection_closed_by_another_in_the_batch(self, poller, connect):
        """The closed connection has an event in the same batch."""
        connections = []
        for _ in range(3):
            connections.append(connect(read=do_to_others(connections, Connection.close)))
        for _, peer in connections:
            peer.send(b"x")
        serve(poller)
        assert sorted(len(one.calls) for one, _ in connections) == [0, 0, 1]

    def test_does_not_call_a_connection_paused_by_another_in_the_batch(self, poller, connect):
        """The paused connection has an event in the same batch."""
        connections = []
        for _ in range(3):
            connections.append(connect(read=do_to_others(connections, poller.removeReader)))
        for _, peer in connections:
            peer.send(b"x")
        serve(poller)
        assert sorted(len(one.calls) for one, _ in connections) == [0, 0, 1]

    def test_does_not_read_a_writer_paused_by_another_in_the_batch(self, poller, connect):
        """The paused connection is still watched for writing."""
        connections = []
        for _ in range(2):
            connections.append(connect(read=do_to_others(connections, poller.removeReader)))
        for one, peer in connections:
            poller.addWriter(one)
            peer.send(b"x")
        serve(poller)
        assert sorted(one.calls.count("read") for one, _ in connections) == [0, 1]

    def test_reads_once_a_connection_paused_and_resumed_by_another(self, poller, connect):
        connections = []

        def blink(me):
            me.socket.recv(9)
            for one, _ in connections:
                if one is not me and not one.calls:
                    poller.removeReader(one)
                    poller.addReader(one)

        connections.extend([connect(read=blink) for _ in range(3)])
        for _, peer in connections:
            peer.send(b"x")
        serve(poller, 4)
        assert [one.calls for one, _ in connections] == [["read"]] * 3

    def test_serves_a_connection_added_by_a_handler_in_the_next_turn(self, poller, connect, pair):
        sock, peer = pair()
        peer.send(b"x")
        new = Connection(poller, sock)
        one, its_peer = connect(read=lambda me: me.socket.recv(9) and me.poller.addReader(new))
        its_peer.send(b"x")
        serve(poller)
        assert (one.calls, new.calls) == (["read"], [])
        serve(poller)
        assert new.calls == ["read"]

    def test_a_reused_descriptor_does_not_get_an_event_of_the_closed_one(self, poller, connect, pair):
        """The old connection was closed in the same batch."""
        made = []

        def replace(me):
            me.socket.recv(9)
            for one, _ in connections:
                if one is not me and not made:
                    number = one.fileno()
                    one.close()
                    sock, _ = pair()
                    # The kernel gives the lowest free number; make sure that it is this one.
                    if sock.fileno() != number:
                        os.dup2(sock.fileno(), number)
                        sock = socket.socket(fileno=number)
                    made.append(Connection(poller, sock))
                    poller.addReader(made[0])
                    assert made[0].fileno() == number

        connections = [connect(read=replace) for _ in range(2)]
        for _, peer in connections:
            peer.send(b"x")
        serve(poller)
        assert sorted(one.calls for one, _ in connections) == [[], ["read"]]
        assert made[0].calls == []
        serve(poller, 2)
        assert made[0].calls == []
        made[0].close()

    def test_serves_a_reused_descriptor_from_the_next_batch_on(self, poller, connect, pair, opened):
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
            made.extend((Connection(poller, sock), other))
            poller.addReader(made[0])
            other.send(b"x")

        _, peer = connect(read=renew)
        peer.send(b"x")
        serve(poller)
        assert made[0].calls == []
        serve(poller)
        assert made[0].calls == ["read"]

    def test_serves_more_than_1024_ready_connections_in_two_turns(self, poller, opened):
        """Each connection is served once."""
        count = MAX_EVENTS + 100
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        need = 2 * count + 200
        if hard != resource.RLIM_INFINITY and hard < need:
            pytest.skip(f"this needs {need} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
        try:
            connections = []
            for _ in range(count):
                sock, peer = socket.socketpair()
                opened.extend((sock, peer))
                connections.append(Connection(poller, sock))
                poller.addReader(connections[-1])
                peer.send(b"x")
            poller.doRead()
            assert sum(len(one.calls) for one in connections) == MAX_EVENTS
            poller.doRead()
            assert {tuple(one.calls) for one in connections} == {("read",)}
            assert not is_ready(poller)
        finally:
            for sock in opened:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_serves_descriptors_that_are_not_our_transports(self, poller, pair):
        sock, peer = pair()
        one = OtherDescriptor(poller, sock)
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

    def test_serves_a_new_event_although_more_others_are_always_ready_than_fit_in_a_turn(
        self, poller, connect, monkeypatch
    ):
        monkeypatch.setattr(poller_module, "MAX_EVENTS", 2)
        greedy = [connect()[0] for _ in range(5)]
        modest, peer = connect()
        for one in greedy:
            poller.addWriter(one)
        poller.doRead()
        peer.send(b"x")
        poller.doRead()
        assert sum(len(one.calls) for one in (*greedy, modest)) == 4
        # epoll moves the descriptors that it has reported to the end of its list.
        serve(poller, 2)
        assert modest.calls == ["read"]


class EndTests:
    """Connections that the peer closes, half-closes or resets, and connections that end by an error."""

    def test_reports_the_end_of_the_stream_once_after_the_data(self, poller, tcp_pair, connect):
        """The reason is ConnectionDone; nothing is watched afterwards."""
        server, client = tcp_pair()
        one, _ = connect(server)
        client.send(b"last words")
        client.close()
        serve(poller, 3)
        assert one.calls == ["read", "read", "half"]
        assert one.reasons[0].check(ConnectionDone)
        assert one.watched == 0

    def test_a_connection_can_write_after_the_peers_half_close(self, poller, tcp_pair, connect):
        server, client = tcp_pair()
        one, _ = connect(server)
        client.shutdown(socket.SHUT_WR)
        serve(poller)
        assert one.calls == ["read", "half"]
        poller.addWriter(one)
        serve(poller)
        assert one.calls == ["read", "half", "write"]

    def test_a_half_close_keeps_the_interest_in_writing(self, poller, tcp_pair, connect):
        server, client = tcp_pair()
        one, _ = connect(server)
        poller.addWriter(one)
        client.shutdown(socket.SHUT_WR)
        serve(poller, 2)
        assert one.calls == ["read", "half", "write"]

    def test_reports_a_reset_once_as_connection_lost(self, poller, tcp_pair, connect):
        """Nothing is watched afterwards."""
        server, client = tcp_pair()
        one, _ = connect(server)
        reset(client)
        serve(poller, 3)
        assert one.calls == ["read", "lost"]
        assert one.reasons[0].check(ConnectionLost)
        assert one.watched == 0

    def test_reports_a_reset_to_a_connection_that_only_writes(self, poller, tcp_pair):
        server, client = tcp_pair()
        one = Connection(poller, server)
        poller.addWriter(one)
        reset(client)
        serve(poller, 3)
        assert one.calls == ["lost"]
        assert one.reasons[0].check(ConnectionLost)

    def test_reads_remaining_data_before_it_reports_a_hang_up(self, poller, pair, connect):
        sock, peer = pair()
        one, _ = connect(sock, read=lambda me: None if me.socket.recv(4) else CONNECTION_DONE)
        peer.send(b"12345678")
        peer.close()
        serve(poller, 4)
        assert one.calls == ["read", "read", "read", "half"]

    def test_reports_a_hang_up_to_a_pure_writer_as_connection_lost(self, poller, pair):
        sock, peer = pair()
        one = Connection(poller, sock)
        poller.addWriter(one)
        peer.close()
        serve(poller, 2)
        assert one.calls == ["lost"]
        assert one.reasons[0].check(ConnectionLost)

    @pytest.mark.parametrize("events", [select.EPOLLHUP, select.EPOLLERR, select.EPOLLHUP | select.EPOLLERR])
    @pytest.mark.parametrize(("interest", "kind"), [("Reader", ConnectionDone), ("Writer", ConnectionLost)])
    def test_a_lone_hang_up_or_error_is_done_for_a_reader_and_lost_for_a_writer(
        self, poller, serve_event, pair, monkeypatch, events, interest, kind
    ):
        """The event has no flag for reading. The test makes the event; it does not show when a kernel would."""

        def serve(epoll, most, *arguments):
            if one.watched:
                serve_event(one.fileno(), events, *arguments[:-1])

        monkeypatch.setattr(poller_module, "serve", serve)
        one = Connection(poller, pair()[0])
        getattr(poller, f"add{interest}")(one)
        poller.doRead()
        poller.doRead()
        assert one.calls == ["lost"]
        assert one.reasons[0].check(kind)
        poller.stop()

    @pytest.mark.parametrize("interest", ["Reader", "Writer"])
    def test_ends_a_socket_that_was_never_connected_once(self, poller, opened, interest):
        """A socket that was never connected reports a hang-up; the poller must not serve it for ever."""
        sock = socket.socket()
        opened.append(sock)
        one = Connection(poller, sock)
        getattr(poller, f"add{interest}")(one)
        serve(poller, 3)
        assert one.calls.count("lost") + one.calls.count("half") == 1
        assert one.watched == 0
        assert not is_ready(poller)

    def test_passes_the_result_of_do_read_to_connection_lost(self, poller, connect):
        one, peer = connect(read=lambda me: CONNECTION_LOST)
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "lost"]
        assert one.reasons[0].value is CONNECTION_LOST

    @pytest.mark.parametrize("why", [CONNECTION_DONE, CONNECTION_LOST])
    def test_an_end_returned_by_do_write_is_never_a_half_close(self, poller, pair, why):
        one = Connection(poller, pair()[0], write=lambda me: why)
        poller.addWriter(one)
        serve(poller, 2)
        assert one.calls == ["write", "lost"]
        assert one.reasons[0].value is why

    def test_an_end_returned_by_do_write_after_a_read_is_no_half_close(self, poller, connect):
        """A connection may end itself after its last write."""
        one, peer = connect(read=lambda me: me.socket.recv(9) and None, write=lambda me: CONNECTION_DONE)
        poller.addWriter(one)
        peer.send(b"x")
        serve(poller, 2)
        assert one.calls == ["read", "write", "lost"]

    def test_serves_the_others_if_a_handler_closes_itself_and_returns_an_end(self, poller, connect):
        def close(me):
            me.close()
            return CONNECTION_LOST

        one, peer = connect(read=close)
        other, other_peer = connect()
        peer.send(b"x")
        other_peer.send(b"x")
        serve(poller, 2)
        assert one.calls[0] == "read"
        assert other.calls == ["read"]


class FailureTests:
    """Handlers that raise an exception."""

    @pytest.mark.parametrize("handler", ["read", "write"])
    def test_disconnects_a_connection_that_raises_and_logs_one_traceback(self, poller, pair, logged, handler):
        def fail(me):
            raise ZeroDivisionError("a bug")

        sock, peer = pair()
        one = Connection(poller, sock, **{handler: fail})
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

    def test_serves_the_others_of_the_batch_if_a_handler_raises(self, poller, connect, logged):
        def fail(me):
            raise ZeroDivisionError

        connections = [connect(read=fail if number % 2 else None) for number in range(6)]
        for _, peer in connections:
            peer.send(b"x")
        poller.doRead()
        assert [one.calls for one, _ in connections] == [["read"], ["read", "lost"]] * 3
        assert len(logged) == 3

    @pytest.mark.parametrize("half", [True, False])
    def test_stops_watching_a_connection_that_raises_in_connection_lost(self, poller, connect, logged, half):
        """The failure is logged once, and the other connections are served."""

        class Raising(Connection):
            def readConnectionLost(self, reason):
                raise ZeroDivisionError

            def connectionLost(self, reason):
                raise ZeroDivisionError

        connections = [connect() for _ in range(3)]
        bad = connections[1][0]
        bad.__class__ = Raising
        bad.read = lambda me: CONNECTION_DONE if half else CONNECTION_LOST
        for _, peer in connections:
            peer.send(b"x")
        serve(poller, 3)
        assert [one.calls for one, _ in connections] == [["read"]] * 3
        assert [failure.type for failure in logged] == [ZeroDivisionError]
        assert bad.watched == 0

    @pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_a_base_exception_ends_only_its_own_connection(self, poller, connect, logged, kind):
        """A handler may call `sys.exit()` or raise CancelledError. A reactor also ends only that connection."""

        def fail(me):
            raise kind

        connections = [connect(read=fail), connect()]
        for _, peer in connections:
            peer.send(b"x")
        # An exception from doRead makes a reactor drop the poller, and with it every connection of the server.
        poller.doRead()
        serve(poller)
        assert [one.calls for one, _ in connections] == [["read", "lost"], ["read"]]
        assert [failure.type for failure in logged] == [kind]

    def test_a_base_exception_in_connection_lost_does_not_affect_the_others(self, poller, connect, logged):
        def fail(me):
            raise SystemExit

        connections = [connect(lost=fail, read=lambda me: CONNECTION_LOST), connect()]
        for _, peer in connections:
            peer.send(b"x")
        poller.doRead()
        assert [one.calls for one, _ in connections] == [["read", "lost"], ["read"]]
        assert [failure.type for failure in logged] == [SystemExit]

    def test_serves_the_others_if_a_handler_closes_its_socket_and_raises(self, poller, connect, logged):
        def close(me):
            me.socket.close()
            raise ZeroDivisionError

        connections = [connect(read=close), connect()]
        for _, peer in connections:
            peer.send(b"x")
        poller.doRead()
        serve(poller)
        assert connections[1][0].calls == ["read"]
        assert connections[0][0].calls == ["read", "lost"]

    def test_serves_a_reused_descriptor_if_the_old_one_was_not_removed(self, poller, connect, pair):
        """The old connection closed its socket without telling the poller."""
        one, _ = connect()
        number = one.fileno()
        one.socket.close()
        sock, peer = pair()
        if sock.fileno() != number:
            os.dup2(sock.fileno(), number)
            sock = socket.socket(fileno=number)
        new = Connection(poller, sock)
        poller.addReader(new)
        # Now a deadline, for example, ends the old connection.
        with contextlib.suppress(OSError, ValueError):
            one.connectionLost(Failure(CONNECTION_LOST))
        peer.send(b"x")
        serve(poller)
        assert new.calls == ["read"]
        new.close()


class RecordedBatch:
    """
    Runs the loop over a batch, and records the callbacks for all events that need more than a read.

    Args:
        events: pairs of descriptor and events, as epoll returns them.
        watched: descriptor -> connection.
        fresh: descriptors that were registered during the batch.
    """

    def __init__(self, serve_event, events, watched, fresh=()):
        self.calls = []
        for fd, what in events:
            serve_event(fd, what, watched, set(fresh), self.other, self.failed, self.disconnect)

    def other(self, one, what):
        self.calls.append(("other", one, what))

    def failed(self, one):
        self.calls.append(("failed", one, sys.exc_info()[0]))

    def disconnect(self, one, why, *, read):
        self.calls.append(("disconnect", one, why, read))


class LoopTests:
    """The processing of events, tested without a poller."""

    @pytest.fixture
    def one(self, poller, pair):
        """Return a connection that waits to read, but is not in a poller."""
        one = Connection(poller, pair()[0], read=lambda me: me.answer)
        one.watched, one.answer = IN, None
        yield one
        one.watched = 0

    def test_reads_without_a_callback_for_a_plain_read_event(self, serve_event, one):
        assert RecordedBatch(serve_event, [(5, IN), (5, IN)], {5: one}).calls == []
        assert one.calls == ["read", "read"]

    @pytest.mark.parametrize("what", [0, OUT, IN | OUT, 8, 16, IN | 16, IN | 8 | 16, 2**31])
    def test_passes_every_other_event_to_the_callback(self, serve_event, one, what):
        assert RecordedBatch(serve_event, [(5, what)], {5: one}).calls == [("other", one, what)]
        assert one.calls == []

    @pytest.mark.parametrize("watched", [0, OUT])
    def test_passes_a_read_event_of_a_paused_connection_to_the_callback(self, serve_event, one, watched):
        """The connection was paused in this batch."""
        one.watched = watched
        assert RecordedBatch(serve_event, [(5, IN)], {5: one}).calls == [("other", one, IN)]

    def test_drops_events_of_unknown_or_reused_descriptors(self, serve_event, one):
        assert RecordedBatch(serve_event, [], {}).calls == []
        assert RecordedBatch(serve_event, [(6, IN), (5, IN), (7, OUT)], {5: one}, fresh=[5]).calls == []
        assert RecordedBatch(serve_event, [(-1, IN), (2**31 - 1, IN)], {5: one}).calls == []
        assert one.calls == []

    @pytest.mark.parametrize("why", [CONNECTION_DONE, CONNECTION_LOST])
    def test_disconnects_with_the_reason_that_a_read_returns(self, serve_event, one, why):
        one.answer = why
        assert RecordedBatch(serve_event, [(5, IN)], {5: one}).calls == [("disconnect", one, why, True)]

    @pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_reports_an_exception_of_a_read_while_it_is_handled(self, serve_event, one, poller, pair, kind):
        """The next connection is served."""

        def fail(me):
            raise kind

        bad = Connection(poller, pair()[0], read=fail)
        bad.watched = IN
        assert RecordedBatch(serve_event, [(4, IN), (5, IN)], {4: bad, 5: one}).calls == [("failed", bad, kind)]
        assert one.calls == ["read"]
        bad.watched = 0

    def test_changes_by_a_handler_apply_from_the_next_event_on(self, serve_event, one, poller, pair):
        watched, fresh = {5: one}, set()

        def change(me):
            del watched[5]
            watched[6] = me
            fresh.add(6)
            watched[7] = me

        other = Connection(poller, pair()[0], read=lambda me: (me.calls.count("read") == 1 and change(me)) or None)
        other.watched, watched[4] = IN, other
        for fd in (4, 5, 6, 7):
            serve_event(fd, IN, watched, fresh, None, None, None)
        assert (other.calls, one.calls) == (["read", "read"], [])
        other.watched = 0

    def test_raises_type_or_attribute_error_for_an_invalid_epoll(self):
        with pytest.raises((TypeError, AttributeError)):
            poller_module.serve(None, 1, {}, set(), None, None, None, 0)

    def test_raises_an_error_for_a_closed_epoll(self):
        epoll = select.epoll()
        epoll.close()
        with pytest.raises(ValueError, match="closed"):
            poller_module.serve(epoll, 1, {}, set(), None, None, None, 0)


class StopTests:
    def test_stop_removes_the_reader_and_the_descriptor(self, poller, reactor):
        poller.stop()
        assert reactor.readers == []
        assert poller.fileno() == -1

    def test_stop_closes_the_descriptor(self, reactor):
        before = len(os.listdir("/proc/self/fd"))
        poller = Poller(reactor)
        assert len(os.listdir("/proc/self/fd")) == before + 1
        poller.stop()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_keeps_no_connection_after_all_have_ended(self, poller, connect):
        connections = [connect() for _ in range(5)]
        for one, _ in connections:
            poller.addWriter(one)
        serve(poller)
        for one, _ in connections:
            one.connectionLost(Failure(CONNECTION_DONE))
        assert {one.watched for one, _ in connections} == {0}
        assert not poller._watched
        assert not is_ready(poller)
        poller.doRead()

    def test_a_watched_connection_can_end_after_the_stop(self, poller, connect):
        one, _ = connect()
        poller.stop()
        one.connectionLost(Failure(CONNECTION_DONE))
        assert one.calls == ["lost"]
        assert one.socket.fileno() == -1

    @pytest.mark.parametrize("change", ["addWriter", "removeReader", "addReader", "removeWriter"])
    def test_a_change_of_interest_after_the_stop_watches_nothing(self, poller, reactor, connect, change):
        """The change does not raise either, because a transport's loseConnection makes such changes."""
        one, peer = connect()
        opposite = {"addReader": "removeReader", "removeWriter": "addWriter"}.get(change)
        if opposite:
            getattr(poller, opposite)(one)
        before = one.watched
        poller.stop()
        getattr(poller, change)(one)
        assert one.watched != before
        assert (poller.fileno(), poller._watched, reactor.readers) == (-1, {}, [])
        peer.send(b"x")
        assert one.calls == []
        one.socket.close()

    def test_a_handler_can_stop_it_without_a_logged_failure(self, poller, connect, logged):
        connections = [
            connect(read=lambda me: poller.stop() if poller.fileno() != -1 else CONNECTION_LOST) for _ in range(3)
        ]
        for _, peer in connections:
            peer.send(b"x")
        poller.doRead()
        assert poller.fileno() == -1
        assert logged == []

    def test_stopping_twice_has_no_further_effect(self, poller, reactor):
        poller.stop()
        poller.stop()
        assert reactor.readers == []

    def test_a_stopping_reactor_ends_every_connection(self, poller, connect):
        """Each connection gets connectionLost, as it does without a poller."""
        connections = [connect()[0] for _ in range(3)]
        poller.connectionLost(Failure(CONNECTION_LOST))
        assert [one.calls for one in connections] == [["lost"]] * 3


class ManyEndingsTests:
    """Many connections end at once, and each takes a third of the time that a turn has for them."""

    @pytest.fixture
    def end(self, poller, reactor, connect):
        """Return a function that ends connections at the same time, and has the poller serve them once."""

        def take_time(_):
            reactor.rightNow += SECONDS_OF_ENDINGS / 3 + 1e-6

        def end(count):
            pairs = [connect(lost=take_time) for _ in range(count)]
            for one, peer in pairs:
                one.connected, one.aborting = True, False
                peer.send(b"x")
                # Data that is not read causes a reset, which the poller reports as an error.
                one.socket.send(b"y")
                peer.close()
            serve(poller, 2)
            return [one for one, _ in pairs]

        return end

    def count(self, connections):
        """Return how many of the protocols have been notified."""
        return sum("lost" in one.calls or "half" in one.calls for one in connections)

    def test_the_time_of_a_turn_limits_the_notifications(self, reactor, end):
        """Otherwise a process that exits with thousands of connections would stop the server for a time."""
        connections = end(10)
        counts = [self.count(connections)]
        while reactor.calls:
            due, reactor.calls = reactor.calls, []
            for call in due:
                call.func(*call.args, **call.kw)
            counts.append(self.count(connections))
        assert counts == [3, 6, 9, 10]

    def test_the_next_batch_begins_with_all_of_its_time(self, poller, reactor, end):
        assert self.count(end(2)) == 2
        serve(poller)
        poller.doRead()
        assert self.count(end(3)) == 3

    def test_a_connection_that_is_aborted_or_closed_meanwhile_is_not_notified(self, reactor, end):
        connections = end(6)
        waiting = [one for one in connections if not one.calls.count("lost")]
        waiting[0].aborting = True
        waiting[1].connected = False
        for _ in range(3):
            reactor.advance(0)
        assert self.count(connections) == 4
        for one in waiting[:2]:
            one.close()

    def test_one_whose_handler_raised_is_notified_even_if_it_has_something_to_send(self, poller, connect, reactor, end):
        """Its socket may be alive, so that `doWrite` would succeed, and nothing would end the connection."""

        def fail(me):
            raise ZeroDivisionError

        end(6)
        one, peer = connect(read=fail)
        one.connected, one.aborting = True, False
        peer.send(b"x")
        serve(poller)
        assert "lost" not in one.calls
        poller.addWriter(one)
        for _ in range(3):
            reactor.advance(0)
        assert "lost" in one.calls

    def test_the_waiting_ones_are_notified_when_the_reactor_stops(self, poller, end):
        connections = end(6)
        poller.connectionLost(Failure(CONNECTION_DONE))
        assert self.count(connections) == 6
