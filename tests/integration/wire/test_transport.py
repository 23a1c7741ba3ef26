"""
Tests for wsserver/wire/transport.py: Twisted's own transport tests, and the guarantees of ours beyond them.

Twisted's tests run under the epoll, poll, select and asyncio reactors. Each reactor has a poller and adopts every port
it listens on, so accepted connections are ours and client connections are Twisted's. Tests of the client's side also
run in a mirror: there, the port accepts the connection that the test uses as its client.

Not run, because they do not use our transports:

- test_tcp: TCPPortTestsBuilder except for its addresses (the port is Twisted's own), TCP4/TCP6ConnectorTestsBuilder,
  TestBindAddressBuilder and the tests of host names and port numbers in TCP4ClientTestsBuilder (connectors),
  AdoptStreamConnectionTestsBuilder (the reactor makes those connections; we do not adopt them), the tests of
  file descriptor reservation and of name look-up (no connections).
- test_unix: the tests of modes, paths and datagrams; those that pass file descriptors between processes, which
  UNIXTransport does not support (a descriptor cannot be added to a write that the kernel already has).
- test_tls: the tests of bad contexts, which fail before there is a connection.
- connectionmixins.ConnectionTestsMixin.test_logPrefix: Twisted's reactors enter a logging context for each event; the
  poller enters one for a batch, on purpose.
- WriteSequenceTestsMixin.test_streamingProducer in the mirror, which expects a small write to be queued.
- StreamClientTestsMixin.test_interface and test_clientConnectionFailedStopsReactor: connectors again.
- twisted.test.test_tcp runs on the one global reactor of trial; its half-close tests are rewritten below.
"""

import contextlib
import gc
import os
import socket
import ssl
import struct
import tempfile
import weakref

import pytest
from fake_reactor import FakeReactor
from twins import SERVE, TRANSPORTS
from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.ssl import ClientContextFactory
from twisted.internet.task import Clock
from twisted.internet.test import connectionmixins, reactormixins, test_tcp, test_tls, test_unix
from twisted.protocols import tls
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wsserver.wire import poller as poller_module
from wsserver.wire.accepting import AcceptGate
from wsserver.wire.poller import BYTES_PER_BATCH, MIN_READ_SIZE, READ_SIZE, Poller
from wsserver.wire.transport import TCPTransport, UNIXTransport, adopt

pytestmark = pytest.mark.kernel

### Twisted's tests.


class Adopting(reactormixins.ReactorBuilder):
    """Builds reactors that adopt their ports. Their `getReaders`, `getWriters` and `removeAll` include the poller's."""

    _reactors = [
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.pollreactor.PollReactor",
        "twisted.internet.selectreactor.SelectReactor",
        "twisted.internet.test.reactormixins.AsyncioSelectorReactor",
    ]
    # Shorter than trial's two minutes.
    timeout = 5.0

    def getTimeout(self):
        return self.timeout

    def runReactor(self, reactor, timeout=None):
        super().runReactor(reactor, timeout)
        # asyncio's `stop` leaves a timer behind if a timer calls it; some tests check that there is none.
        for call in reactor.getDelayedCalls():
            if "AsyncioSelectorReactor.stop" in call.func.__qualname__:
                call.cancel()

    def buildReactor(self):
        """Build a reactor with a poller that adopts each port."""
        reactor = super().buildReactor()
        poller = Poller(reactor)
        self.accepted = []
        for method in ("listenTCP", "listenUNIX", "adoptStreamPort"):
            setattr(reactor, method, self._adopting(getattr(reactor, method), poller))

        def watched(events):
            return [one for one in poller._watched.values() if one.watched & events]

        get_readers, get_writers, remove_all = reactor.getReaders, reactor.getWriters, reactor.removeAll

        def removeAll():
            removed = [one for one in remove_all() if one is not poller]
            for one in watched(5):
                poller.removeReader(one)
                poller.removeWriter(one)
                removed.append(one)
            return removed

        reactor.getReaders = lambda: get_readers() + watched(1)
        reactor.getWriters = lambda: get_writers() + watched(4)
        reactor.removeAll = removeAll

        def stop():
            reactor.disconnectAll()
            poller.stop()
            for transport in self.accepted:
                assert isinstance(transport, TCPTransport | UNIXTransport), transport
                # Every transport is closed, however a test ends.
                assert not hasattr(transport, "socket"), transport

        self.addCleanup(stop)
        return reactor

    def _adopting(self, listen, poller):
        def listen_and_adopt(*arguments, **options):
            port = listen(*arguments, **options)
            adopt(port, poller, AcceptGate(Clock()))
            make = port.transport

            def make_and_note(*parts):
                self.accepted.append(make(*parts))
                return self.accepted[-1]

            port.transport = make_and_note
            return port

        return listen_and_adopt


class Mirror(connectionmixins.EndpointCreator):
    """
    Endpoints with swapped sides: the "server" connects, and the "client" is the accepted connection.

    Tests of a client's transport therefore test ours. A mirror cannot simulate a failed connection attempt.

    Args:
        creator: makes endpoints with the usual sides.
    """

    def __init__(self, creator):
        self._creator = creator

    def server(self, reactor):
        return _MirrorServer()

    def client(self, reactor, address):
        return _MirrorClient(self._creator, reactor, address)


class _MirrorServer:
    """Stores the factory; also serves as its own port and address."""

    def listen(self, factory):
        self.factory = factory
        return succeed(self)

    def getHost(self):
        return self


class _MirrorClient:
    """Listens for the client's protocol and connects the server's."""

    def __init__(self, creator, reactor, server):
        self._creator, self._reactor, self._server = creator, reactor, server

    def connect(self, factory):
        made = Deferred()
        waiting = [made]

        class Accepting(ServerFactory):
            def buildProtocol(self, address):
                protocol = factory.buildProtocol(address)
                connected = protocol.connectionMade

                def connectionMade():
                    del protocol.connectionMade
                    connected()
                    waiting.pop().callback(protocol)

                protocol.connectionMade = connectionMade
                return protocol

        def listening(port):
            return self._creator.client(self._reactor, port.getHost()).connect(self._server.factory)

        accepting = self._creator.server(self._reactor).listen(Accepting())
        return gatherResults([made, accepting.addCallback(listening)]).addCallback(lambda both: both[0])


class StartTLSServerCreator(connectionmixins.EndpointCreator, test_tls.ContextGeneratingMixin):
    """Servers that start TLS on an established connection, and clients that use TLS from the start."""

    def server(self, reactor):
        context = self.getServerContext()

        class Endpoint(TCP4ServerEndpoint):
            def listen(self, factory):
                class Wrapper(ServerFactory):
                    def buildProtocol(self, address):
                        protocol = factory.buildProtocol(address)
                        connected = protocol.connectionMade

                        def connectionMade():
                            protocol.transport.startTLS(context)
                            connected()

                        protocol.connectionMade = connectionMade
                        return protocol

                return super().listen(Wrapper())

        return Endpoint(reactor, 0, interface="127.0.0.1")

    def client(self, reactor, address):
        return SSL4ClientEndpoint(reactor, "127.0.0.1", address.port, ClientContextFactory())


class ConnectionsBuilder(Adopting, connectionmixins.ConnectionTestsMixin, test_tcp.AbortConnectionMixin):
    """Twisted's tests for every connection, and for abortConnection."""

    test_logPrefix = None


class TCPBuilder(ConnectionsBuilder):
    """TCP: the server's side."""

    endpoints = test_tcp.TCPCreator()


class TCPMirrorBuilder(ConnectionsBuilder):
    """TCP: the client's side."""

    endpoints = Mirror(test_tcp.TCPCreator())


class UNIXBuilder(ConnectionsBuilder):
    """UNIX sockets: the server's side."""

    # A UNIX socket has no reset: its peer sees an ordinary end, with Twisted's transports as well.
    test_serverAbortsConnectionTwice = None
    test_serverAbortsConnectionThenLosesConnection = None
    endpoints = test_unix.UNIXCreator()

    def setUp(self):
        super().setUp()
        _in_directory_of_its_own(self)


class UNIXMirrorBuilder(UNIXBuilder):
    """UNIX sockets: the client's side."""

    endpoints = Mirror(test_unix.UNIXCreator())


class TLSBuilder(ConnectionsBuilder):
    """TLS over TCP: the server's side."""

    endpoints = test_tls.SSLCreator()


class TLSMirrorBuilder(ConnectionsBuilder):
    """TLS over TCP: the client's side."""

    endpoints = Mirror(test_tls.SSLCreator())


class StartTLSBuilder(ConnectionsBuilder):
    """TLS started on a TCP connection: the server's side."""

    endpoints = StartTLSServerCreator()


class StartTLSMirrorBuilder(ConnectionsBuilder):
    """TLS started on a TCP connection: the client's side."""

    endpoints = Mirror(StartTLSServerCreator())


class StreamMirrorBuilder(Adopting, connectionmixins.StreamClientTestsMixin):
    """Producers on a client connection that uses our transport."""

    test_interface = None
    test_clientConnectionFailedStopsReactor = None

    def listen(self, reactor, factory):
        self._factory = factory

    def connect(self, reactor, factory):
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, _ClientSide(self._factory))


class _ClientSide(test_tcp.ClientFactory):
    """A client's factory that builds the protocols of a server's factory."""

    def __init__(self, factory):
        self.buildProtocol = factory.buildProtocol


class TCPConnectionBuilder(Adopting, test_tcp.TCPConnectionTestsBuilder):
    """Pausing, resuming and half close."""


class TCPTransportBuilder(Adopting, test_tcp.TCPTransportTestsBuilder):
    """Addresses, log prefix and writeSequence: the server's side."""


class TCPTransportMirrorBuilder(Adopting, test_tcp.WriteSequenceTestsMixin):
    """Log prefix and writeSequence: the client's side."""

    # It expects a write of 1,000 bytes to wait for the reactor's next turn; ours send it at once.
    test_streamingProducer = None

    def getConnectedClientAndServer(self, reactor, interface, family):
        both = test_tcp.TCPTransportTestsBuilder.getConnectedClientAndServer(self, reactor, interface, family)
        return both.addCallback(lambda three: (three[1], three[0], three[2]))


class TCPPortBuilder(Adopting, test_tcp.ListenTCPMixin, test_tcp.TCPPortTestsMixin):
    """Addresses of accepted connections."""


class TCPFDPortBuilder(Adopting, test_tcp.SocketTCPMixin, test_tcp.TCPPortTestsMixin):
    """Addresses of connections accepted by a listening socket that another process, such as systemd, opened."""


def _in_directory_of_its_own(case):
    # Twisted's UNIX tests listen on a relative path.
    directory = tempfile.TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    case.addCleanup(os.chdir, os.getcwd())
    os.chdir(directory.name)


for builder in (
    TCPBuilder,
    TCPMirrorBuilder,
    UNIXBuilder,
    UNIXMirrorBuilder,
    TLSBuilder,
    TLSMirrorBuilder,
    StartTLSBuilder,
    StartTLSMirrorBuilder,
    StreamMirrorBuilder,
    TCPConnectionBuilder,
    TCPTransportBuilder,
    TCPTransportMirrorBuilder,
    TCPPortBuilder,
    TCPFDPortBuilder,
):
    globals().update(builder.makeTestCaseClasses())
del builder


### Our own, with real sockets and without a reactor.

MUCH = 2 << 20
"""More bytes than the kernel's buffers of a connection hold."""


class Recorder(Protocol):
    """A protocol that records its calls; it calls `on_data` and `on_lost` with itself and the argument."""

    on_data = on_lost = None

    def __init__(self):
        self.received = []
        self.lost = []

    def dataReceived(self, data):
        self.received.append(data)
        if self.on_data is not None:
            self.on_data(self, data)

    def connectionLost(self, reason):
        self.lost.append(reason.type)
        if self.on_lost is not None:
            self.on_lost(self, reason)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """A recorder that supports half closes."""

    def __init__(self):
        super().__init__()
        self.halves = []

    def readConnectionLost(self):
        self.halves.append("read")

    def writeConnectionLost(self):
        self.halves.append("write")


@implementer(IPushProducer)
class Producer:
    """A producer that records its calls; it calls `on_resume` when it is resumed."""

    def __init__(self, on_resume=None):
        self.calls = []
        self.on_resume = on_resume

    def pauseProducing(self):
        self.calls.append("pause")

    def resumeProducing(self):
        self.calls.append("resume")
        if self.on_resume is not None:
            self.on_resume()

    def stopProducing(self):
        self.calls.append("stop")


class LateProducer(Producer):
    """A producer that writes `data` to `transport` when it is paused."""

    def __init__(self, transport, data):
        super().__init__()
        self.transport, self.data = transport, data

    def pauseProducing(self):
        super().pauseProducing()
        self.transport.write(self.data)


class Wire:
    """
    A transport of ours with its protocol, and the socket of its peer.

    Args:
        kind: "tcp" or "unix".
        protocol: the protocol to connect.
        twin: the module with the transports.
        poller: the poller of another wire, to share it; None for one of its own.
    """

    def __init__(self, kind, protocol, twin, poller=None):
        self.kind = kind
        self.reactor = FakeReactor()
        self.poller = poller or Poller(self.reactor)
        self.protocol = protocol
        if kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.peer = socket.create_connection(listener.getsockname())
                sock, address = listener.accept()
            # Otherwise Nagle's algorithm may delay small writes.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.transport = twin.TCPTransport(sock, protocol, address, None, 7, self.poller)
        else:
            sock, self.peer = socket.socketpair()
            self.transport = twin.UNIXTransport(sock, protocol, "", None, 7, self.poller)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.peer.setblocking(False)
        self.transport.repstr = f"<{kind}>"
        protocol.makeConnection(self.transport)

    def turn(self, turns=1):
        """Run turns of the reactor: serve ready descriptors and call due timers."""
        for _ in range(turns):
            if self.poller.fileno() != -1:
                self.poller.doRead()
            self.reactor.advance(0)

    def take(self, most=1 << 30):
        """Return the bytes that have arrived at the peer."""
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while len(data) < most and (more := self.peer.recv(min(1 << 20, most - len(data)))):
                data += more
        return bytes(data)

    def drain(self, until=None):
        """Run turns and return the peer's bytes, until no more arrive or `until` bytes have arrived."""
        data = b""
        idle = 0
        while idle < 20 and (until is None or len(data) < until):
            self.turn()
            more = self.take()
            data += more
            idle = 0 if more else idle + 1
        return data

    def ended(self):
        """Return the peer's view of the connection: None while it is open, "end" or "reset"."""
        try:
            return None if self.peer.recv(1 << 20) else "end"
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return "reset"

    def reset(self):
        """Close the peer's socket, with a reset if it is TCP."""
        if self.kind == "tcp":
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def close(self):
        """End the connection in any state."""
        self.protocol.on_data = self.protocol.on_lost = None
        self.transport.connectionLost(Failure(CONNECTION_LOST))
        self.peer.close()
        self.poller.stop()


@pytest.fixture(params=TRANSPORTS)
def twin(request, monkeypatch):
    """Return the module with the transports of a twin; each test runs with both twins and their loops."""
    monkeypatch.setattr(poller_module, "serve", SERVE[request.param])
    return TRANSPORTS[request.param]


@pytest.fixture
def connect(twin):
    """Return a function that makes connections."""
    wires = []

    def make(kind, protocol=None, poller=None):
        wires.append(Wire(kind, protocol or Recorder(), twin, poller))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture(params=["tcp", "unix"])
def wire(request, connect):
    """Return a connection; each test runs with TCP and with a UNIX socket."""
    return connect(request.param)


@pytest.fixture(params=["tcp", "unix"])
def half(request, connect):
    """Return a connection whose protocol supports half closes, over TCP and over a UNIX socket in turn."""
    return connect(request.param, HalfRecorder())


def pattern(size):
    """Return bytes of which no part equals its neighbours."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


class WriteTests:
    def test_sends_a_write_before_the_next_turn_of_the_reactor(self, wire):
        wire.transport.write(b"hello")
        assert wire.take() == b"hello"
        assert wire.transport.queued == 0
        assert wire.transport.watched == 1

    def test_an_empty_write_sends_nothing(self, wire):
        wire.transport.write(b"")
        wire.transport.writeSequence([])
        wire.transport.writeSequence([b"", b""])
        assert wire.take() == b""
        assert wire.transport.watched == 1

    def test_sends_the_parts_of_any_iterable_at_once_and_in_order(self, wire):
        wire.transport.writeSequence([b"one ", b"two ", b"three "])
        wire.transport.writeSequence(part for part in (b"four ", b"five"))
        assert wire.take() == b"one two three four five"

    def test_sends_the_rest_in_order_when_the_kernel_has_room_again(self, wire):
        data = pattern(MUCH)
        wire.transport.write(data)
        assert wire.drain(MUCH) == data
        assert wire.transport.queued == 0

    def test_later_writes_do_not_overtake_queued_data(self, wire):
        """This holds even if the kernel has room again before the poller runs."""
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.write(b"second")
        start = wire.take()
        # There is room now, and the poller has not run.
        wire.transport.write(b"third")
        wire.transport.writeSequence([b"four", b"th"])
        assert start + wire.drain() == data + b"secondthirdfourth"

    def test_sends_writes_at_once_again_when_the_queue_is_empty(self, wire):
        wire.transport.write(bytes(MUCH))
        wire.drain()
        assert wire.transport.watched == 1
        wire.transport.write(b"now")
        assert wire.take() == b"now"

    def test_queued_counts_the_bytes_that_the_kernel_has_not_accepted(self, wire):
        """The count stays exact while the kernel accepts more bytes."""
        assert wire.transport.queued == 0
        wire.transport.write(bytes(MUCH))
        before = wire.transport.queued
        assert 0 < before < MUCH
        wire.transport.write(bytes(1000))
        assert wire.transport.queued == before + 1000
        left = MUCH + 1000
        while wire.transport.queued:
            queued = wire.transport.queued
            # The sent bytes are in the kernel; the peer reads them without a turn of the reactor.
            left -= len(wire.take())
            assert left == queued
            wire.turn()
        assert left - len(wire.take()) == 0

    @pytest.mark.parametrize("kind", [str, bytearray, memoryview], ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("method", ["write", "writeSequence"])
    def test_sends_str_or_a_buffer_either_whole_or_not_at_all(self, wire, kind, method):
        """A TypeError, as from Twisted's transports, means that nothing is sent."""
        text = "x" * MUCH
        data = text if kind is str else kind(text.encode("ascii"))
        try:
            wire.transport.write(data) if method == "write" else wire.transport.writeSequence([data])
        except TypeError:
            refused = True
        else:
            refused = False
        left = len(wire.drain())
        assert left == (0 if refused else MUCH)

    def test_sends_subclasses_of_bytes(self, wire):
        """Twisted's transports do the same."""

        class Kind(bytes):
            pass

        wire.transport.write(Kind(b"one "))
        wire.transport.writeSequence([Kind(b"two"), b""])
        assert wire.take() == b"one two"

    @pytest.mark.parametrize("wrong", [None, 5, "text", ["x"]])
    def test_raises_type_error_for_no_bytes_and_stays_connected(self, wire, wrong):
        with pytest.raises(TypeError):
            wire.transport.write(wrong)
        wire.transport.write(b"still here")
        assert wire.take() == b"still here"

    def test_sends_the_written_bytes_if_the_buffer_is_changed_afterwards(self, wire):
        data = bytearray(pattern(MUCH))
        expected = bytes(data)
        try:
            wire.transport.write(data)
        except TypeError:
            expected = b""
        data[:] = bytes(MUCH)
        assert wire.drain() == expected

    def test_sends_an_answer_during_the_read(self, wire):
        wire.protocol.on_data = lambda me, data: me.transport.write(b"re: " + data)
        wire.peer.send(b"hello")
        wire.turn()
        assert wire.take() == b"re: hello"

    def test_a_write_to_a_closed_peer_raises_nothing_and_is_lost_a_turn_later(self, wire):
        """connectionLost is never called within a write."""
        wire.reset()
        for _ in range(3):
            wire.transport.write(b"anybody there?")
        assert wire.protocol.lost == []
        wire.turn(2)
        assert len(wire.protocol.lost) == 1

    def test_a_reset_that_a_write_meets_first_is_connection_lost(self, connect):
        wire = connect("tcp")
        wire.reset()
        wire.transport.write(b"x")
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionLost]

    def test_a_reset_that_a_write_meets_first_is_no_half_close(self, connect):
        wire = connect("tcp", HalfRecorder())
        wire.reset()
        wire.transport.write(b"x")
        wire.turn(2)
        assert wire.protocol.halves == []
        assert wire.protocol.lost == [ConnectionLost]

    def test_reads_the_last_data_of_a_closed_peer_after_a_failed_write(self, wire):
        wire.transport.write(b"never read")
        wire.turn()
        wire.peer.send(b"last words")
        wire.peer.close()
        for _ in range(3):
            wire.transport.write(b"anybody there?")
        wire.turn(3)
        assert b"".join(wire.protocol.received) == b"last words"
        assert len(wire.protocol.lost) == 1

    def test_a_reset_with_queued_data_is_connection_lost(self, connect):
        wire = connect("tcp")
        wire.transport.write(bytes(MUCH))
        wire.reset()
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionLost]


class ReadTests:
    def test_reads_at_most_read_size_bytes_per_turn(self, wire):
        wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ_SIZE)
        wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_SIZE)
        data, sent = pattern(MUCH), 0
        while sent < MUCH:
            with contextlib.suppress(BlockingIOError):
                while sent < MUCH:
                    sent += wire.peer.send(data[sent : sent + READ_SIZE])
            before = len(wire.protocol.received)
            wire.turn()
            assert len(wire.protocol.received) - before <= 1
        wire.turn(100)
        assert max(len(part) for part in wire.protocol.received) <= READ_SIZE
        assert b"".join(wire.protocol.received) == data

    @pytest.mark.parametrize(
        ("count", "waiting", "size"),
        [
            (8, 0, READ_SIZE),
            (64, 0, BYTES_PER_BATCH // 64),
            (8, 56, BYTES_PER_BATCH // 64),
            (400, 0, MIN_READ_SIZE),
        ],
    )
    def test_reads_less_of_each_connection_the_more_are_ready_or_wait(self, connect, count, waiting, size):
        """Neither a turn nor the received bytes that wait may grow with the connections that flood the server."""
        wires = [connect("tcp")]
        wires[0].poller._count_waiting = lambda: waiting
        wires += [connect("tcp", poller=wires[0].poller) for _ in range(count - 1)]
        for wire in wires:
            wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ_SIZE)
            wire.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_SIZE)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    wire.peer.send(bytes(8192))
        wires[0].turn()
        read = [sum(map(len, wire.protocol.received)) for wire in wires]
        assert max(read) == size
        assert min(read) > 0

    def test_received_data_is_unchanged_by_a_read_of_another_connection(self, wire, connect):
        """All connections share one read buffer."""
        other = connect(wire.kind)

        def let_other_read(me, data):
            other.peer.send(b"BBBBBBBB")
            other.turn()

        wire.protocol.on_data = let_other_read
        wire.peer.send(b"aaaa")
        wire.turn()
        assert wire.protocol.received == [b"aaaa"]
        assert other.protocol.received == [b"BBBBBBBB"]
        assert type(wire.protocol.received[0]) is bytes

    def test_do_read_without_data_returns_none(self, wire):
        assert wire.transport.doRead() is None
        assert wire.protocol.received == []

    def test_delivers_data_of_a_paused_connection_after_it_resumes(self, wire):
        wire.transport.pauseProducing()
        wire.peer.send(b"x")
        wire.turn(2)
        assert wire.protocol.received == []
        wire.transport.resumeProducing()
        wire.turn()
        assert wire.protocol.received == [b"x"]

    def test_reads_nothing_after_lose_connection(self, wire):
        """This holds even after resumeProducing."""
        wire.transport.write(bytes(MUCH))
        wire.transport.loseConnection()
        wire.peer.send(b"too late")
        wire.turn(3)
        wire.transport.resumeProducing()
        wire.turn(3)
        assert wire.protocol.received == []

    def test_closes_a_descriptor_received_over_a_unix_socket(self, connect):
        """The bytes that arrive with it are delivered."""
        wire = connect("unix")
        before = len(os.listdir("/proc/self/fd"))
        with open("/dev/null", "rb") as file:
            socket.send_fds(wire.peer, [b"x"], [file.fileno()])
        wire.turn()
        assert wire.protocol.received == [b"x"]
        assert len(os.listdir("/proc/self/fd")) == before


class EndTests:
    """The end of a connection. In every case, connectionLost is called exactly once."""

    def finish(self, wire, kind):
        """Run turns past the end; check that the end is reported once, and that nothing is left."""
        wire.turn(3)
        assert wire.protocol.lost == [kind]
        wire.transport.loseConnection()
        wire.transport.abortConnection()
        wire.transport.connectionLost(Failure(CONNECTION_LOST))
        wire.turn(3)
        assert wire.protocol.lost == [kind]
        assert wire.transport.watched == 0
        assert not wire.poller._watched
        assert not hasattr(wire.transport, "socket")

    def test_lose_connection_ends_with_connection_done(self, wire):
        wire.transport.loseConnection()
        assert wire.protocol.lost == []
        wire.turn()
        assert wire.ended() == "end"
        self.finish(wire, ConnectionDone)

    def test_a_second_lose_connection_has_no_effect(self, wire):
        wire.transport.loseConnection()
        wire.transport.loseConnection()
        self.finish(wire, ConnectionDone)

    def test_lose_connection_during_data_received_ends_after_it(self, wire):
        """connectionLost is not called within dataReceived."""

        def close(me, data):
            me.transport.write(b"bye")
            me.transport.loseConnection()
            assert me.lost == []

        wire.protocol.on_data = close
        wire.peer.send(b"x")
        wire.turn(2)
        assert wire.take() == b"bye"
        self.finish(wire, ConnectionDone)

    def test_lose_connection_as_the_queue_empties_is_no_half_close(self, half):
        """The protocol supports half closes, and closes in dataReceived."""
        half.transport.write(bytes(MUCH))
        half.protocol.on_data = lambda me, data: me.transport.loseConnection()
        # One more turn sends the rest; data arrives in the same turn.
        while half.transport.queued > 100_000:
            half.turn()
            half.take()
        half.take()
        half.peer.send(b"x")
        half.drain()
        assert half.protocol.halves == []
        self.finish(half, ConnectionDone)

    def test_lose_connection_sends_the_queued_data_first(self, wire):
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.loseConnection()
        assert wire.drain(MUCH) == data
        wire.turn(2)
        assert wire.ended() == "end"
        self.finish(wire, ConnectionDone)

    def test_sends_a_write_after_lose_connection_before_the_end(self, wire):
        """Twisted's transports do the same."""
        wire.transport.write(b"before")
        wire.transport.loseConnection()
        wire.transport.write(b", after")
        wire.turn(2)
        assert wire.take() == b"before, after"
        self.finish(wire, ConnectionDone)

    def test_abort_connection_resets_in_the_next_turn(self, wire):
        """A UNIX socket has no reset."""
        wire.transport.abortConnection()
        assert wire.protocol.lost == []
        wire.turn()
        assert wire.ended() == ("reset" if wire.kind == "tcp" else "end")
        self.finish(wire, ConnectionAborted)

    def test_abort_connection_drops_queued_data_and_later_writes(self, wire):
        wire.transport.write(b"a" * MUCH)
        before = MUCH - wire.transport.queued
        wire.transport.abortConnection()
        wire.transport.write(b"b" * 10)
        wire.transport.writeSequence([b"b", b"b"])
        got = b""
        with contextlib.suppress(ConnectionResetError):
            got = wire.take()
        with contextlib.suppress(ConnectionResetError):
            got += wire.drain()
        assert b"b" not in got
        assert len(got) <= before
        self.finish(wire, ConnectionAborted)

    def test_queued_is_zero_after_abort_connection(self, wire):
        wire.transport.write(bytes(MUCH))
        wire.transport.abortConnection()
        assert wire.transport.queued == 0
        wire.transport.write(b"more")
        assert wire.transport.queued == 0

    def test_queued_is_zero_after_a_loss(self, wire):
        """The bytes are released."""
        wire.transport.write(bytes(MUCH))
        wire.reset()
        wire.turn(2)
        assert len(wire.protocol.lost) == 1
        assert wire.transport.queued == 0

    def test_abort_connection_during_data_received_ends_after_it(self, wire):
        """The protocol receives nothing more."""

        def abort(me, data):
            me.transport.write(b"before")
            me.transport.abortConnection()
            me.transport.write(b"after")
            assert me.lost == []

        wire.protocol.on_data = abort
        wire.peer.send(b"x")
        wire.poller.doRead()
        assert wire.protocol.received == [b"x"]
        assert wire.take() == b"before"
        wire.peer.send(b"y")
        self.finish(wire, ConnectionAborted)
        assert wire.protocol.received == [b"x"]

    @pytest.mark.parametrize("first", ["loseConnection", "loseWriteConnection"])
    def test_abort_connection_overrides_an_unfinished_orderly_end(self, wire, first):
        """Queued data is dropped."""
        wire.transport.write(bytes(MUCH))
        sent = MUCH - wire.transport.queued
        getattr(wire.transport, first)()
        wire.transport.abortConnection()
        assert wire.protocol.lost == []
        # Now there is room in the kernel for queued data.
        got = len(wire.take())
        self.finish(wire, ConnectionAborted)
        with contextlib.suppress(ConnectionResetError):
            while data := wire.peer.recv(1 << 20):
                got += len(data)
        assert 0 < got <= sent < MUCH

    def test_abort_connection_overrides_lose_connection_in_the_same_read(self, wire):
        """A UNIX socket has no reset."""

        def end(me, data):
            me.transport.loseConnection()
            me.transport.abortConnection()

        wire.protocol.on_data = end
        wire.peer.send(b"x")
        wire.turn()
        assert wire.ended() == ("reset" if wire.kind == "tcp" else "end")
        self.finish(wire, ConnectionAborted)

    def test_the_peers_end_is_connection_done(self, wire):
        wire.peer.send(b"bye")
        wire.peer.close()
        self.finish(wire, ConnectionDone)
        assert wire.protocol.received == [b"bye"]

    def test_the_peers_reset_is_connection_lost(self, wire):
        """A UNIX socket has no reset."""
        wire.reset()
        self.finish(wire, ConnectionLost if wire.kind == "tcp" else ConnectionDone)

    def test_reports_the_peers_end_after_a_paused_connection_resumes(self, wire):
        """The data that arrived before the end is delivered."""
        wire.transport.pauseProducing()
        wire.peer.send(b"bye")
        wire.peer.close()
        wire.turn(2)
        assert wire.protocol.lost == []
        wire.transport.resumeProducing()
        self.finish(wire, ConnectionDone)
        assert wire.protocol.received == [b"bye"]

    def test_reports_a_reset_to_a_paused_connection_with_queued_data(self, connect):
        wire = connect("tcp")
        wire.transport.write(bytes(MUCH))
        wire.transport.pauseProducing()
        wire.reset()
        self.finish(wire, ConnectionLost)

    def test_an_exception_in_data_received_ends_the_connection_and_is_logged_once(self, wire, failures):
        def fail(me, data):
            raise ZeroDivisionError

        wire.protocol.on_data = fail
        wire.peer.send(b"x")
        self.finish(wire, ConnectionLost)
        assert [failure.type for failure in failures] == [ZeroDivisionError]

    def test_an_abort_and_an_exception_in_data_received_end_it_once(self, wire, failures):
        def fail(me, data):
            me.transport.abortConnection()
            raise ZeroDivisionError

        wire.protocol.on_data = fail
        wire.peer.send(b"x")
        self.finish(wire, ConnectionLost)
        assert [failure.type for failure in failures] == [ZeroDivisionError]

    def test_logs_an_exception_in_connection_lost_and_keeps_nothing(self, wire, failures):
        def fail(me, reason):
            raise ZeroDivisionError

        wire.protocol.on_lost = fail
        wire.peer.close()
        self.finish(wire, ConnectionDone)
        assert [failure.type for failure in failures] == [ZeroDivisionError]

    def test_any_call_on_the_transport_in_connection_lost_is_harmless(self, wire):
        """A producer registered there is stopped."""

        def do_everything(me, reason):
            me.transport.write(b"x")
            me.transport.writeSequence([b"x", b"y"])
            me.transport.loseConnection()
            me.transport.abortConnection()
            me.transport.pauseProducing()
            me.transport.resumeProducing()
            me.transport.unregisterProducer()
            me.transport.registerProducer(producer, True)

        producer = Producer()
        wire.protocol.on_lost = do_everything
        wire.transport.write(bytes(MUCH))
        wire.reset()
        self.finish(wire, ConnectionLost)
        assert producer.calls == ["stop"]

    def test_a_producer_can_write_when_it_is_stopped(self, wire):
        """The connection is lost already, so the write is harmless."""
        producer = Producer()
        producer.stopProducing = lambda: wire.transport.write(b"last words")
        wire.transport.registerProducer(producer, True)
        wire.peer.close()
        self.finish(wire, ConnectionDone)

    def test_a_lost_connection_does_not_keep_its_protocol_alive(self, wire):
        reference = weakref.ref(wire.protocol)
        wire.peer.close()
        wire.turn(2)
        transport, wire.protocol = wire.transport, Recorder()
        gc.collect()
        assert reference() is None
        assert getattr(transport, "protocol", None) is None


class HalfCloseTests:
    """The protocol or the peer closes one direction of the connection."""

    def test_lose_write_connection_ends_writing_and_keeps_reading(self, half):
        half.transport.write(b"last")
        half.transport.loseWriteConnection()
        half.turn()
        assert half.take() == b"last"
        assert half.ended() == "end"
        assert half.protocol.halves == ["write"]
        half.peer.send(b"answer")
        half.turn()
        assert half.protocol.received == [b"answer"]
        assert half.protocol.lost == []

    def test_lose_write_connection_sends_the_queued_data_first(self, half):
        data = pattern(MUCH)
        half.transport.write(data)
        half.transport.loseWriteConnection()
        half.transport.write(b"?")
        assert half.protocol.halves == []
        assert half.drain() == data + b"?"
        assert half.ended() == "end"
        assert half.protocol.halves == ["write"]

    def test_drops_writes_after_the_write_side_is_closed(self, half):
        """The connection stays open for reading."""
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.write(b"x")
        half.transport.writeSequence([b"y"])
        half.turn(3)
        assert half.take() == b""
        assert half.protocol.lost == []
        assert half.transport.queued == 0
        assert half.transport.watched == 1

    def test_lose_write_connection_lets_a_paused_producer_write_once_more(self, half):
        """The end follows that write at the latest."""
        half.transport.registerProducer(Producer(), True)
        half.transport.write(bytes(MUCH))
        half.transport.loseWriteConnection()
        assert half.drain(MUCH) == bytes(MUCH)
        half.turn(2)
        half.transport.write(b"end")
        half.turn(2)
        assert half.take() == b"end"
        assert half.ended() == "end"
        assert half.protocol.halves == ["write"]

    def test_lose_connection_after_lose_write_connection_ends_with_done(self, half):
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.loseConnection()
        half.turn()
        assert half.protocol.lost == [ConnectionDone]

    def test_reports_the_peers_half_close_once_and_can_still_write(self, half):
        half.peer.send(b"question")
        half.peer.shutdown(socket.SHUT_WR)
        half.turn(4)
        assert half.protocol.received == [b"question"]
        assert half.protocol.halves == ["read"]
        assert half.protocol.lost == []
        data = pattern(MUCH)
        half.transport.write(data)
        assert half.drain(MUCH) == data
        half.transport.loseConnection()
        half.turn()
        assert half.ended() == "end"
        assert half.protocol.lost == [ConnectionDone]

    def test_the_peers_half_close_loses_no_queued_data(self, half):
        data = pattern(MUCH)
        half.transport.write(data)
        half.peer.shutdown(socket.SHUT_WR)
        assert half.drain(MUCH) == data
        assert half.protocol.halves == ["read"]
        assert half.protocol.lost == []

    def test_lose_connection_ends_a_connection_half_closed_by_both(self, half):
        half.peer.shutdown(socket.SHUT_WR)
        half.turn(2)
        half.transport.loseWriteConnection()
        half.turn(2)
        assert half.protocol.halves == ["read", "write"]
        half.transport.loseConnection()
        half.turn(2)
        assert half.protocol.lost == [ConnectionDone]

    @pytest.mark.parametrize("which", ["read", "write"])
    def test_an_exception_in_a_half_close_ends_the_connection_and_is_logged_once(self, half, failures, which):
        def fail():
            raise ZeroDivisionError

        setattr(half.protocol, f"{which}ConnectionLost", fail)
        if which == "read":
            half.peer.shutdown(socket.SHUT_WR)
        else:
            half.transport.loseWriteConnection()
        half.turn(3)
        assert half.protocol.lost == [ZeroDivisionError]
        assert [failure.type for failure in failures] == [ZeroDivisionError]

    def test_the_peers_half_close_ends_other_protocols_with_done(self, wire):
        """The other protocols are those that do not implement IHalfCloseableProtocol."""
        wire.peer.shutdown(socket.SHUT_WR)
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionDone]


class ProducerTests:
    """Backpressure: a producer is paused while too much data waits to be sent."""

    def test_pauses_a_producer_over_the_limit_and_resumes_it_when_empty(self, wire):
        """The producer is also paused and resumed a second and a third time."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(3):
            wire.transport.write(bytes(MUCH))
            assert producer.calls[-1] == "pause"
            assert len(wire.drain(MUCH)) == MUCH
            wire.turn()
        assert producer.calls == ["pause", "resume"] * 3

    def test_pauses_a_producer_once_although_it_goes_on_writing(self, wire):
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(3):
            wire.transport.write(bytes(MUCH))
        wire.drain()
        assert producer.calls == ["pause", "resume"]

    def test_a_write_during_the_pause_follows_the_queued_data(self, wire):
        wire.transport.registerProducer(LateProducer(wire.transport, b"late"), True)
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.write(b"r")
        assert wire.drain() == data + b"later"

    def test_an_abort_during_the_pause_leaves_nothing_queued(self, wire):
        producer = Producer()
        producer.pauseProducing = wire.transport.abortConnection
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        assert (wire.transport.queued, wire.transport.watched) == (0, 0)
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionAborted]

    def test_the_next_producer_is_not_resumed_without_a_pause(self, wire):
        """The first one was unregistered while it was paused."""
        wire.transport.registerProducer(Producer(), True)
        wire.transport.write(bytes(MUCH))
        wire.transport.unregisterProducer()
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.drain()
        assert producer.calls in ([], ["pause", "resume"])

    def test_writes_that_are_sent_at_once_never_pause_a_producer(self, wire):
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(100):
            wire.transport.write(bytes(10_000))
            wire.take()
        assert producer.calls == []

    def test_lose_connection_resumes_a_paused_producer_and_waits_for_its_end(self, wire):
        producer = Producer(lambda: (wire.transport.write(b"end"), wire.transport.unregisterProducer()))
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        wire.transport.loseConnection()
        assert wire.drain() == bytes(MUCH) + b"end"
        wire.turn(2)
        assert producer.calls == ["pause", "resume"]
        assert wire.protocol.lost == [ConnectionDone]

    def test_a_loss_stops_the_producer_before_connection_lost(self, wire):
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.protocol.on_lost = lambda me, reason: producer.calls.append("lost")
        wire.peer.close()
        wire.turn(2)
        assert producer.calls == ["stop", "lost"]

    def test_raises_runtime_error_for_a_second_producer(self, wire):
        wire.transport.registerProducer(Producer(), True)
        with pytest.raises(RuntimeError):
            wire.transport.registerProducer(Producer(), True)

    @pytest.mark.parametrize("streaming", [True, False])
    def test_a_refused_second_producer_does_not_affect_the_first(self, wire, streaming):
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        with pytest.raises(RuntimeError):
            wire.transport.registerProducer(Producer(), streaming)
        wire.drain()
        assert producer.calls == ["pause", "resume"]
        wire.transport.write(b"at once")
        assert wire.take() == b"at once"

    def test_resumes_a_pull_producer_after_each_of_its_writes(self, wire):
        """The producer is resumed even though its writes are sent immediately."""
        parts = [b"one ", b"two ", b"three"]

        def produce():
            if parts:
                wire.transport.write(parts.pop(0))
            else:
                wire.transport.unregisterProducer()

        wire.transport.registerProducer(Producer(produce), False)
        wire.turn(10)
        assert wire.take() == b"one two three"
        assert parts == []

    def test_does_not_resume_a_pull_producer_within_its_own_write(self, wire):
        """The reactor resumes it."""
        depth = []

        def produce():
            assert depth == []
            depth.append(1)
            wire.transport.write(b"x")
            depth.clear()

        wire.transport.registerProducer(Producer(produce), False)
        wire.turn(5)
        wire.transport.unregisterProducer()
        assert len(wire.take()) > 1

    def test_a_closing_connection_with_a_pull_producer_ends_if_the_peer_does(self, wire):
        """The producer goes on writing."""
        wire.transport.registerProducer(Producer(lambda: wire.transport.write(b"x")), False)
        wire.transport.loseConnection()
        wire.turn()
        wire.reset()
        wire.turn(5)
        assert len(wire.protocol.lost) == 1

    def test_file_sender_sends_a_file_to_its_end(self, wire, tmp_path):
        data = pattern(300_000)
        (tmp_path / "file").write_bytes(data)
        done = []
        with (tmp_path / "file").open("rb") as file:
            FileSender().beginFileTransfer(file, wire.transport).addBoth(done.append)
            assert wire.drain() == data
        assert len(done) == 1


class TLSTests(test_tls.ContextGeneratingMixin):
    """startTLS on an established connection."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch, wire):
        """Run Twisted's TLS, which collects small writes for a turn, on our reactor, not on the global one."""
        monkeypatch.setattr(tls, "_get_default_clock", lambda: wire.reactor)

    def shake_hands(self, wire):
        """Do the client's handshake; return its TLS object and a function that exchanges bytes."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = context.wrap_bio(incoming, outgoing)

        def exchange():
            for _ in range(3):
                if outgoing.pending:
                    wire.peer.setblocking(True)
                    wire.peer.sendall(outgoing.read())
                    wire.peer.setblocking(False)
                wire.turn(2)
                incoming.write(wire.take())

        for _ in range(5):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            exchange()
        return client, exchange

    def test_encrypts_both_directions_after_start_tls(self, wire):
        """Data that is written before the handshake is encrypted too."""
        wire.transport.write(b"go ahead")
        assert wire.take() == b"go ahead"
        wire.transport.startTLS(self.getServerContext())
        wire.transport.write(b"secret")
        wire.transport.writeSequence([b" ", b"message"])
        client, exchange = self.shake_hands(wire)
        assert client.read() == b"secret message"
        client.write(b"answer")
        exchange()
        assert b"".join(wire.protocol.received) == b"answer"

    def test_sends_queued_plaintext_before_the_tls_records(self, wire):
        wire.transport.write(bytes(MUCH))
        wire.transport.startTLS(self.getServerContext())
        wire.transport.write(b"secret")
        assert wire.drain() == bytes(MUCH)
        client, _ = self.shake_hands(wire)
        assert client.read() == b"secret"

    @pytest.mark.parametrize("streaming", [True, False])
    def test_sends_no_plaintext_after_start_tls_whatever_the_producer(self, wire, streaming, monkeypatch):
        """A producer is registered before, unregistered, and registered again."""
        # Twisted wraps a pull producer as a push producer, but on the global reactor.
        monkeypatch.setattr(tls._PullToPush, "startStreaming", lambda self: None)
        monkeypatch.setattr(tls._PullToPush, "stopStreaming", lambda self: None)
        wire.transport.registerProducer(Producer(), streaming)
        wire.transport.startTLS(self.getServerContext())
        client, exchange = self.shake_hands(wire)
        for change in (
            lambda: None,
            wire.transport.unregisterProducer,
            lambda: wire.transport.registerProducer(Producer(), True),
            wire.transport.unregisterProducer,
        ):
            change()
            wire.transport.write(b"secret")
            # Plaintext would make the client's TLS fail here.
            exchange()
            assert client.read() == b"secret"

    def test_sends_two_mebibytes_through_tls_in_order(self, wire):
        wire.transport.startTLS(self.getServerContext())
        client, exchange = self.shake_hands(wire)
        data, got = pattern(MUCH), b""
        wire.transport.write(data)
        while len(got) < MUCH:
            exchange()
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    got += client.read(1 << 20)
        assert got == data

    def test_start_tls_accepts_the_arguments_of_itlstransport_by_name(self, wire):
        wire.transport.startTLS(ctx=self.getServerContext(), normal=True)
        assert wire.transport.TLS

    def test_raises_the_error_of_a_context_and_stays_in_plaintext(self, wire):
        with pytest.raises(ValueError, match="Some path was wrong maybe"):
            wire.transport.startTLS(connectionmixins.BrokenContextFactory())
        wire.transport.write(b"in the clear")
        wire.turn()
        assert wire.take() == b"in the clear"

    @pytest.mark.parametrize("end", ["loseConnection", "abortConnection"])
    def test_lose_connection_and_abort_connection_end_tls_once(self, wire, end):
        wire.transport.startTLS(self.getServerContext())
        client, exchange = self.shake_hands(wire)
        getattr(wire.transport, end)()
        wire.turn()
        with contextlib.suppress(OSError, ssl.SSLError):
            exchange()
            client.unwrap()
        with contextlib.suppress(OSError):
            exchange()
        assert len(wire.protocol.lost) == 1

    def test_sends_nothing_after_abort_connection_over_tls(self, wire):
        """The peer receives neither plaintext nor ciphertext."""
        wire.transport.startTLS(self.getServerContext())
        self.shake_hands(wire)
        wire.transport.abortConnection()
        wire.transport.write(b"x")
        wire.protocol.transport.write(b"y")
        got = b""
        with contextlib.suppress(ConnectionResetError):
            got = wire.take()
        assert got == b""


class AddressTests:
    """Addresses, interfaces and socket options."""

    def test_host_and_peer_are_the_addresses_of_both_ends(self, connect):
        wire = connect("tcp")
        assert wire.transport.getHost() == IPv4Address("TCP", *wire.peer.getpeername())
        assert wire.transport.getPeer() == IPv4Address("TCP", *wire.peer.getsockname())

    def test_host_and_peer_of_a_unix_socket_are_empty_paths(self, connect):
        wire = connect("unix")
        assert wire.transport.getHost() == UNIXAddress("")
        assert wire.transport.getPeer() == UNIXAddress(None)

    def test_the_peer_is_known_after_the_connection_is_lost(self, connect):
        """The log needs the peer's address."""
        wire = connect("tcp")
        peer = wire.transport.getPeer()
        wire.peer.close()
        wire.turn(2)
        assert wire.protocol.lost
        assert wire.transport.getPeer() == peer

    def test_provides_itcptransport_and_ihalfcloseabledescriptor(self, wire):
        assert verifyObject(ITCPTransport, wire.transport)
        assert IHalfCloseableDescriptor.providedBy(wire.transport)

    def test_sets_and_returns_tcp_nodelay_and_keepalive(self, connect):
        wire = connect("tcp")
        wire.transport.setTcpNoDelay(True)
        assert wire.transport.getTcpNoDelay()
        wire.transport.setTcpKeepAlive(True)
        assert wire.transport.getTcpKeepAlive()


class AdoptTests:
    """The ports whose accepted connections use our transports."""

    def test_tcp_and_unix_ports_of_twisted_make_our_transports(self):
        reactor = FakeReactor()
        poller = Poller(reactor)
        try:
            for port, kind in (
                (tcp.Port(0, Factory(), reactor=reactor), TCPTransport),
                (unix.Port("path", Factory(), reactor=reactor), UNIXTransport),
            ):
                adopt(port, poller, AcceptGate(Clock()))
                sock, peer = socket.socketpair()
                transport = port.transport(sock, Recorder(), ("127.0.0.1", 1), port, 3, reactor)
                try:
                    assert type(transport) is kind
                    assert transport.reactor is poller
                finally:
                    transport.connectionLost(Failure(CONNECTION_LOST))
                    peer.close()
        finally:
            poller.stop()

    def test_leaves_ports_with_another_transport_and_foreign_objects_unchanged(self):
        reactor = FakeReactor()
        poller = Poller(reactor)

        class OtherServer(tcp.Server):
            pass

        class OtherPort(tcp.Port):
            transport = OtherServer

        class Foreign:
            transport = tcp.Server

        for port in (OtherPort(0, Factory(), reactor=reactor), Foreign()):
            before = port.transport
            adopt(port, poller, AcceptGate(Clock()))
            assert port.transport is before
        poller.stop()
