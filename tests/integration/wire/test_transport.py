"""
Tests for wsserver/wire/transport.py: Twisted's own transport tests, and what ours promises besides.

Twisted's tests run under the epoll, poll, select and asyncio reactors. A reactor they build is given a poller, and
adopts every port it listens on, so each accepted connection is ours and each client's is Twisted's. Tests that look at
the client are run in a mirror as well: there the port accepts what the test takes for its client.

Not run, because they look at nothing of ours:

- test_tcp: TCPPortTestsBuilder but for its addresses (the port is Twisted's own), TCP4/TCP6ConnectorTestsBuilder,
  TestBindAddressBuilder and what TCP4ClientTestsBuilder has of host names and port numbers (connectors),
  AdoptStreamConnectionTestsBuilder (the reactor makes those connections itself; we leave them alone), the tests of
  file descriptor reservation and of name look-up (no connections).
- test_unix: the tests of modes, paths and datagrams; those that pass file descriptors between processes, which
  UNIXTransport does not offer (a write that has left cannot carry a descriptor any more).
- test_tls: the tests of bad contexts, which fail before there is a connection.
- connectionmixins.ConnectionTestsMixin.test_logPrefix: Twisted's reactors enter a logging context for each event, and
  the poller one for a batch; that is what it is for.
- WriteSequenceTestsMixin.test_streamingProducer in the mirror, which wants a small write to be queued.
- StreamClientTestsMixin.test_interface and test_clientConnectionFailedStopsReactor: connectors again.
- twisted.test.test_tcp runs on the one global reactor of trial; its half-close tests are written anew below.
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
from twisted.internet.test import connectionmixins, reactormixins, test_tcp, test_tls, test_unix
from twisted.logger import globalLogPublisher
from twisted.protocols import tls
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wsserver.wire import poller as poller_module
from wsserver.wire.poller import Poller
from wsserver.wire.transport import READ_SIZE, TCPTransport, UNIXTransport, adopt

pytestmark = pytest.mark.kernel

### Twisted's tests.


class Adopting(reactormixins.ReactorBuilder):
    """Builds reactors that adopt each port they listen on. Their `getReaders` and so on know the poller's, too."""

    _reactors = [
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.pollreactor.PollReactor",
        "twisted.internet.selectreactor.SelectReactor",
        "twisted.internet.test.reactormixins.AsyncioSelectorReactor",
    ]
    # Rather soon than after trial's two minutes.
    timeout = 5.0

    def getTimeout(self):
        return self.timeout

    def runReactor(self, reactor, timeout=None):
        super().runReactor(reactor, timeout)
        # What asyncio's `stop` leaves behind where it is called by a timer; some tests want to see no timer at all.
        for call in reactor.getDelayedCalls():
            if "AsyncioSelectorReactor.stop" in call.func.__qualname__:
                call.cancel()

    def buildReactor(self):
        """Build a reactor with a poller, and make it adopt."""
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
                # Nothing stays behind, however a test ends.
                assert not hasattr(transport, "socket"), transport

        self.addCleanup(stop)
        return reactor

    def _adopting(self, listen, poller):
        def listen_and_adopt(*arguments, **options):
            port = listen(*arguments, **options)
            adopt(port, poller)
            make = port.transport

            def make_and_note(*parts):
                self.accepted.append(make(*parts))
                return self.accepted[-1]

            port.transport = make_and_note
            return port

        return listen_and_adopt


class Mirror(connectionmixins.EndpointCreator):
    """
    Endpoints the wrong way round: the "server" connects, and the "client" is what the port accepts.

    So tests of what a client's transport does are tests of ours. It cannot show the failing of a connection attempt.

    Args:
        creator: makes endpoints the right way round.
    """

    def __init__(self, creator):
        self._creator = creator

    def server(self, reactor):
        return _MirrorServer()

    def client(self, reactor, address):
        return _MirrorClient(self._creator, reactor, address)


class _MirrorServer:
    """Keeps the factory for later; passes for its own port and address."""

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
    """Servers that start TLS when a connection has been made, and clients that speak it from the start."""

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
    """What holds for every connection, and abortConnection in every situation."""

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
    """The producers of a client that is ours."""

    test_interface = None
    test_clientConnectionFailedStopsReactor = None

    def listen(self, reactor, factory):
        self._factory = factory

    def connect(self, reactor, factory):
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, _ClientSide(self._factory))


class _ClientSide(test_tcp.ClientFactory):
    """A server's factory in the place of a client's."""

    def __init__(self, factory):
        self.buildProtocol = factory.buildProtocol


class TCPConnectionBuilder(Adopting, test_tcp.TCPConnectionTestsBuilder):
    """Pausing, resuming and half close."""


class TCPTransportBuilder(Adopting, test_tcp.TCPTransportTestsBuilder):
    """Addresses, log prefix and writeSequence: the server's side."""


class TCPTransportMirrorBuilder(Adopting, test_tcp.WriteSequenceTestsMixin):
    """The same, but for the addresses: the client's side."""

    # It wants a write of 1,000 bytes to wait for the reactor's next turn, which is just what ours do not.
    test_streamingProducer = None

    def getConnectedClientAndServer(self, reactor, interface, family):
        both = test_tcp.TCPTransportTestsBuilder.getConnectedClientAndServer(self, reactor, interface, family)
        return both.addCallback(lambda three: (three[1], three[0], three[2]))


class TCPPortBuilder(Adopting, test_tcp.ListenTCPMixin, test_tcp.TCPPortTestsMixin):
    """Addresses of accepted connections."""


class TCPFDPortBuilder(Adopting, test_tcp.SocketTCPMixin, test_tcp.TCPPortTestsMixin):
    """The same for listening sockets that someone else has opened, as systemd does."""


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
"""Bytes that no kernel's buffers of a connection take at once."""


class Recorder(Protocol):
    """Writes down what happens to it; `on_data` and `on_lost` are called with it and what came."""

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
    """One that knows of half closes."""

    def __init__(self):
        super().__init__()
        self.halves = []

    def readConnectionLost(self):
        self.halves.append("read")

    def writeConnectionLost(self):
        self.halves.append("write")


@implementer(IPushProducer)
class Producer:
    """Writes down what it is asked; `on_resume` is called when it may go on."""

    def __init__(self, on_resume=None):
        self.asked = []
        self.on_resume = on_resume

    def pauseProducing(self):
        self.asked.append("pause")

    def resumeProducing(self):
        self.asked.append("resume")
        if self.on_resume is not None:
            self.on_resume()

    def stopProducing(self):
        self.asked.append("stop")


class Late(Producer):
    """One that writes when it is paused, given a transport and what to write."""

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
        protocol: is connected.
        twin: has the transports.
    """

    def __init__(self, kind, protocol, twin):
        self.kind = kind
        self.reactor = FakeReactor()
        self.poller = Poller(self.reactor)
        self.protocol = protocol
        if kind == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.peer = socket.create_connection(listener.getsockname())
                sock, address = listener.accept()
            # Else the kernel may hold back small writes for its own reasons.
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
        """Let the reactor turn: what is ready is served, what is due is called."""
        for _ in range(turns):
            if self.poller.fileno() != -1:
                self.poller.doRead()
            self.reactor.advance(0)

    def take(self, most=1 << 30):
        """Return what has arrived at the peer."""
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while len(data) < most and (more := self.peer.recv(min(1 << 20, most - len(data)))):
                data += more
        return bytes(data)

    def drain(self, until=None):
        """Turn and take until nothing comes any more, or as many bytes as are waited for."""
        data = b""
        idle = 0
        while idle < 20 and (until is None or len(data) < until):
            self.turn()
            more = self.take()
            data += more
            idle = 0 if more else idle + 1
        return data

    def ended(self):
        """How the peer sees the connection: None while it is open, "end" or "reset"."""
        try:
            return None if self.peer.recv(1 << 20) else "end"
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return "reset"

    def reset(self):
        """Let the peer break off."""
        if self.kind == "tcp":
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def close(self):
        """End the test's connection, however far it has come."""
        self.protocol.on_data = self.protocol.on_lost = None
        self.transport.connectionLost(Failure(CONNECTION_LOST))
        self.peer.close()
        self.poller.stop()


@pytest.fixture(params=TRANSPORTS)
def twin(request, monkeypatch):
    """Give the transports of each twin, served by their own poller's loop."""
    monkeypatch.setattr(poller_module, "serve", SERVE[request.param])
    return TRANSPORTS[request.param]


@pytest.fixture
def connect(twin):
    """Give a maker of connections."""
    wires = []

    def make(kind, protocol=None):
        wires.append(Wire(kind, protocol or Recorder(), twin))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture(params=["tcp", "unix"])
def wire(request, connect):
    """Give a connection of each kind."""
    return connect(request.param)


@pytest.fixture(params=["tcp", "unix"])
def half(request, connect):
    """Give a connection whose protocol knows of half closes."""
    return connect(request.param, HalfRecorder())


@pytest.fixture
def failures():
    """Give the list of failures that are logged."""
    logged = []

    def observe(event):
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            logged.append(failure.type)

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


def pattern(size):
    """Return bytes of which no part equals its neighbours."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


class WriteTests:
    """Sending."""

    def test_at_once(self, wire):
        """A write leaves at once: the peer has it before the reactor turns."""
        wire.transport.write(b"hello")
        assert wire.take() == b"hello"
        assert wire.transport.queued == 0
        assert wire.transport.watched == 1

    def test_nothing(self, wire):
        """Writing nothing does nothing."""
        wire.transport.write(b"")
        wire.transport.writeSequence([])
        wire.transport.writeSequence([b"", b""])
        assert wire.take() == b""
        assert wire.transport.watched == 1

    def test_sequence(self, wire):
        """The parts of a sequence leave at once, in order; any iterable is one."""
        wire.transport.writeSequence([b"one ", b"two ", b"three "])
        wire.transport.writeSequence(part for part in (b"four ", b"five"))
        assert wire.take() == b"one two three four five"

    def test_more_than_the_kernel_takes(self, wire):
        """What the kernel does not take follows when there is room, whole and in order."""
        data = pattern(MUCH)
        wire.transport.write(data)
        assert wire.drain(MUCH) == data
        assert wire.transport.queued == 0

    def test_order(self, wire):
        """Nothing overtakes what is queued, not even when there is room again."""
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.write(b"second")
        start = wire.take()
        # There is room now, and the poller has not been asked.
        wire.transport.write(b"third")
        wire.transport.writeSequence([b"four", b"th"])
        assert start + wire.drain() == data + b"secondthirdfourth"

    def test_at_once_again(self, wire):
        """Once the queue is empty, writes leave at once again."""
        wire.transport.write(bytes(MUCH))
        wire.drain()
        assert wire.transport.watched == 1
        wire.transport.write(b"now")
        assert wire.take() == b"now"

    def test_queued(self, wire):
        """`queued` is what was written and the kernel has not taken, to the byte."""
        assert wire.transport.queued == 0
        wire.transport.write(bytes(MUCH))
        before = wire.transport.queued
        assert 0 < before < MUCH
        wire.transport.write(bytes(1000))
        assert wire.transport.queued == before + 1000
        left = MUCH + 1000
        while wire.transport.queued:
            queued = wire.transport.queued
            # All that left is in the kernel, and is taken from there without a turn.
            left -= len(wire.take())
            assert left == queued
            wire.turn()
        assert left - len(wire.take()) == 0

    @pytest.mark.parametrize("kind", [str, bytearray, memoryview], ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("method", ["write", "writeSequence"])
    def test_wrong_type(self, wire, kind, method):
        """What is no bytes is refused as by Twisted's transports, and then none of it leaves; or it leaves whole."""
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

    def test_a_kind_of_bytes(self, wire):
        """A subclass of bytes is as good as bytes, as with Twisted's transports."""

        class Kind(bytes):
            pass

        wire.transport.write(Kind(b"one "))
        wire.transport.writeSequence([Kind(b"two"), b""])
        assert wire.take() == b"one two"

    @pytest.mark.parametrize("wrong", [None, 5, "text", ["x"]])
    def test_no_data_at_all(self, wire, wrong):
        """What has no bytes in it is refused, and the connection goes on."""
        with pytest.raises(TypeError):
            wire.transport.write(wrong)
        wire.transport.write(b"still here")
        assert wire.take() == b"still here"

    def test_changed_afterwards(self, wire):
        """What is queued is what was written, whatever the writer does with it afterwards."""
        data = bytearray(pattern(MUCH))
        expected = bytes(data)
        try:
            wire.transport.write(data)
        except TypeError:
            expected = b""
        data[:] = bytes(MUCH)
        assert wire.drain() == expected

    def test_while_reading(self, wire):
        """An answer leaves while the question is being read."""
        wire.protocol.on_data = lambda me, data: me.transport.write(b"re: " + data)
        wire.peer.send(b"hello")
        wire.turn()
        assert wire.take() == b"re: hello"

    def test_to_a_peer_that_broke_off(self, wire):
        """Writing to a peer that is gone raises nothing; the loss is told by the reactor, not within the write."""
        wire.reset()
        for _ in range(3):
            wire.transport.write(b"anybody there?")
        assert wire.protocol.lost == []
        wire.turn(2)
        assert len(wire.protocol.lost) == 1

    def test_a_reset_met_by_a_write(self, connect):
        """A reset is told as a loss, not as an end in good order, also if a write met it first."""
        wire = connect("tcp")
        wire.reset()
        wire.transport.write(b"x")
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionLost]

    def test_a_reset_met_by_a_write_is_no_half_close(self, connect):
        """Nor is it told as the peer's half close."""
        wire = connect("tcp", HalfRecorder())
        wire.reset()
        wire.transport.write(b"x")
        wire.turn(2)
        assert wire.protocol.halves == []
        assert wire.protocol.lost == [ConnectionLost]

    def test_the_last_words_of_a_peer_that_is_gone(self, wire):
        """What a peer sent before it went is read, though a write meets the broken connection before that."""
        wire.transport.write(b"never read")
        wire.turn()
        wire.peer.send(b"last words")
        wire.peer.close()
        for _ in range(3):
            wire.transport.write(b"anybody there?")
        wire.turn(3)
        assert b"".join(wire.protocol.received) == b"last words"
        assert len(wire.protocol.lost) == 1

    def test_a_reset_while_much_is_queued(self, connect):
        """A reset while the peer still owes us the taking of what is queued is a loss."""
        wire = connect("tcp")
        wire.transport.write(bytes(MUCH))
        wire.reset()
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionLost]


class ReadTests:
    """Receiving."""

    def test_bounded(self, wire):
        """A turn reads at most READ_SIZE bytes; the rest is read in the next ones."""
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

    def test_kept(self, wire, connect):
        """What was received stays what it is, though others are read into the same buffer."""
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

    def test_nothing_to_read(self, wire):
        """A call without cause reads nothing and ends nothing."""
        assert wire.transport.doRead() is None
        assert wire.protocol.received == []

    def test_pause_and_resume(self, wire):
        """Who pauses gets nothing until it resumes, and then everything."""
        wire.transport.pauseProducing()
        wire.peer.send(b"x")
        wire.turn(2)
        assert wire.protocol.received == []
        wire.transport.resumeProducing()
        wire.turn()
        assert wire.protocol.received == [b"x"]

    def test_no_read_after_loseconnection(self, wire):
        """Nothing is read any more once the connection is being closed."""
        wire.transport.write(bytes(MUCH))
        wire.transport.loseConnection()
        wire.peer.send(b"too late")
        wire.turn(3)
        wire.transport.resumeProducing()
        wire.turn(3)
        assert wire.protocol.received == []

    def test_descriptors_sent_to_us(self, connect):
        """A descriptor sent over a UNIX socket is not kept open; the bytes that came with it are read."""
        wire = connect("unix")
        before = len(os.listdir("/proc/self/fd"))
        with open("/dev/null", "rb") as file:
            socket.send_fds(wire.peer, [b"x"], [file.fileno()])
        wire.turn()
        assert wire.protocol.received == [b"x"]
        assert len(os.listdir("/proc/self/fd")) == before


class EndTests:
    """Ends of connections. Whatever the way, connectionLost is called exactly once."""

    def finish(self, wire, kind):
        """Turn until the end has come and beyond it; check that it came once, and that nothing is left."""
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

    def test_loseconnection(self, wire):
        """loseConnection ends in good order."""
        wire.transport.loseConnection()
        assert wire.protocol.lost == []
        wire.turn()
        assert wire.ended() == "end"
        self.finish(wire, ConnectionDone)

    def test_loseconnection_twice(self, wire):
        """The second one does nothing."""
        wire.transport.loseConnection()
        wire.transport.loseConnection()
        self.finish(wire, ConnectionDone)

    def test_loseconnection_while_reading(self, wire):
        """A protocol may close in dataReceived; it is told afterwards, not within."""

        def close(me, data):
            me.transport.write(b"bye")
            me.transport.loseConnection()
            assert me.lost == []

        wire.protocol.on_data = close
        wire.peer.send(b"x")
        wire.turn(2)
        assert wire.take() == b"bye"
        self.finish(wire, ConnectionDone)

    def test_loseconnection_while_reading_with_a_queue(self, half):
        """A protocol that knows of half closes, and closes in dataReceived as its queue empties, is told of the end."""
        half.transport.write(bytes(MUCH))
        half.protocol.on_data = lambda me, data: me.transport.loseConnection()
        # One turn is left to send; in it something comes in, too.
        while half.transport.queued > 100_000:
            half.turn()
            half.take()
        half.take()
        half.peer.send(b"x")
        half.drain()
        assert half.protocol.halves == []
        self.finish(half, ConnectionDone)

    def test_loseconnection_sends_what_is_queued(self, wire):
        """All that was written before loseConnection arrives, and then the end."""
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.loseConnection()
        assert wire.drain(MUCH) == data
        wire.turn(2)
        assert wire.ended() == "end"
        self.finish(wire, ConnectionDone)

    def test_write_after_loseconnection(self, wire):
        """What is written after loseConnection, before the end, follows what was written before, as with Twisted."""
        wire.transport.write(b"before")
        wire.transport.loseConnection()
        wire.transport.write(b", after")
        wire.turn(2)
        assert wire.take() == b"before, after"
        self.finish(wire, ConnectionDone)

    def test_abort(self, wire):
        """abortConnection ends at the next turn, as a reset where there are resets."""
        wire.transport.abortConnection()
        assert wire.protocol.lost == []
        wire.turn()
        assert wire.ended() == ("reset" if wire.kind == "tcp" else "end")
        self.finish(wire, ConnectionAborted)

    def test_abort_drops_what_is_queued(self, wire):
        """What is queued does not leave after abortConnection, nor does what is written then."""
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

    def test_nothing_is_queued_after_an_abort(self, wire):
        """After abortConnection nothing waits for the kernel, whatever is written."""
        wire.transport.write(bytes(MUCH))
        wire.transport.abortConnection()
        assert wire.transport.queued == 0
        wire.transport.write(b"more")
        assert wire.transport.queued == 0

    def test_nothing_is_queued_after_a_loss(self, wire):
        """After a loss nothing waits for the kernel, and the bytes are not kept."""
        wire.transport.write(bytes(MUCH))
        wire.reset()
        wire.turn(2)
        assert len(wire.protocol.lost) == 1
        assert wire.transport.queued == 0

    def test_abort_while_reading(self, wire):
        """A protocol may abort in dataReceived; it is told afterwards, not within, and gets nothing more."""

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
    def test_abort_after_an_orderly_end(self, wire, first):
        """An abort goes before an orderly end that has not come yet, and drops what is queued."""
        wire.transport.write(bytes(MUCH))
        getattr(wire.transport, first)()
        wire.transport.abortConnection()
        self.finish(wire, ConnectionAborted)

    def test_peers_end(self, wire):
        """The peer's end is one in good order."""
        wire.peer.send(b"bye")
        wire.peer.close()
        self.finish(wire, ConnectionDone)
        assert wire.protocol.received == [b"bye"]

    def test_peers_reset(self, wire):
        """The peer's reset is a loss; a UNIX socket has none."""
        wire.reset()
        self.finish(wire, ConnectionLost if wire.kind == "tcp" else ConnectionDone)

    def test_peers_end_while_paused(self, wire):
        """Who has paused learns of the peer's end when it resumes, and reads what came before it."""
        wire.transport.pauseProducing()
        wire.peer.send(b"bye")
        wire.peer.close()
        wire.turn(2)
        assert wire.protocol.lost == []
        wire.transport.resumeProducing()
        self.finish(wire, ConnectionDone)
        assert wire.protocol.received == [b"bye"]

    def test_peers_reset_while_paused_and_sending(self, connect):
        """Who has paused reading but has something to send learns of a reset."""
        wire = connect("tcp")
        wire.transport.write(bytes(MUCH))
        wire.transport.pauseProducing()
        wire.reset()
        self.finish(wire, ConnectionLost)

    def test_a_protocol_that_raises(self, wire, failures):
        """A protocol that raises loses its connection; that is logged once."""

        def fail(me, data):
            raise ZeroDivisionError

        wire.protocol.on_data = fail
        wire.peer.send(b"x")
        self.finish(wire, ConnectionLost)
        assert failures == [ZeroDivisionError]

    def test_a_protocol_that_aborts_and_raises(self, wire, failures):
        """One that aborts and then raises is told once."""

        def fail(me, data):
            me.transport.abortConnection()
            raise ZeroDivisionError

        wire.protocol.on_data = fail
        wire.peer.send(b"x")
        self.finish(wire, ConnectionLost)
        assert failures == [ZeroDivisionError]

    def test_connectionlost_raises(self, wire, failures):
        """A protocol that raises in connectionLost is logged, and nothing is left of its connection."""

        def fail(me, reason):
            raise ZeroDivisionError

        wire.protocol.on_lost = fail
        wire.peer.close()
        self.finish(wire, ConnectionDone)
        assert failures == [ZeroDivisionError]

    def test_writing_in_connectionlost(self, wire):
        """Whatever a protocol does to its transport in connectionLost is harmless."""

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
        self.finish(wire, wire.protocol.lost[0] if wire.protocol.lost else self.loss_of(wire))
        assert producer.asked == ["stop"]

    def loss_of(self, wire):
        """How a connection ends whose peer has gone without reading."""
        wire.turn(2)
        return wire.protocol.lost[0]

    def test_writing_when_the_producer_is_stopped(self, wire):
        """A producer that writes when it is stopped does no harm."""
        producer = Producer()
        producer.stopProducing = lambda: wire.transport.write(b"last words")
        wire.transport.registerProducer(producer, True)
        wire.peer.close()
        self.finish(wire, ConnectionDone)

    def test_a_lost_connection_is_forgotten(self, wire):
        """Nothing keeps a protocol alive whose connection is gone."""
        gone = weakref.ref(wire.protocol)
        wire.peer.close()
        wire.turn(2)
        transport, wire.protocol = wire.transport, Recorder()
        gc.collect()
        assert gone() is None
        assert getattr(transport, "protocol", None) is None


class HalfCloseTests:
    """Closing one direction."""

    def test_ours(self, half):
        """After loseWriteConnection the peer sees our end, and we still read."""
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

    def test_ours_after_what_is_queued(self, half):
        """Our end comes behind everything that was written before it."""
        data = pattern(MUCH)
        half.transport.write(data)
        half.transport.loseWriteConnection()
        half.transport.write(b"?")
        assert half.protocol.halves == []
        assert half.drain() == data + b"?"
        assert half.ended() == "end"
        assert half.protocol.halves == ["write"]

    def test_no_write_after_ours(self, half):
        """What is written after our end is dropped, and does not end the connection."""
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.write(b"x")
        half.transport.writeSequence([b"y"])
        half.turn(3)
        assert half.take() == b""
        assert half.protocol.lost == []
        assert half.transport.queued == 0
        assert half.transport.watched == 1

    def test_ours_with_a_producer(self, half):
        """A producer that was paused may write once more; our end comes behind that write at the latest."""
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

    def test_loseconnection_after_ours(self, half):
        """After our half, loseConnection closes the rest."""
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.loseConnection()
        half.turn()
        assert half.protocol.lost == [ConnectionDone]

    def test_the_peers(self, half):
        """After the peer's end it is told once, and we may go on writing and then close."""
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

    def test_the_peers_while_we_send(self, half):
        """The peer's end while much is queued does not lose any of it."""
        data = pattern(MUCH)
        half.transport.write(data)
        half.peer.shutdown(socket.SHUT_WR)
        assert half.drain(MUCH) == data
        assert half.protocol.halves == ["read"]
        assert half.protocol.lost == []

    def test_both(self, half):
        """When both have ended their half, the rest is closed by loseConnection, once."""
        half.peer.shutdown(socket.SHUT_WR)
        half.turn(2)
        half.transport.loseWriteConnection()
        half.turn(2)
        assert half.protocol.halves == ["read", "write"]
        half.transport.loseConnection()
        half.turn(2)
        assert half.protocol.lost == [ConnectionDone]

    @pytest.mark.parametrize("which", ["read", "write"])
    def test_a_protocol_that_raises(self, half, failures, which):
        """A protocol that raises when it is told of a half close loses its connection; that is logged once."""

        def fail():
            raise ZeroDivisionError

        setattr(half.protocol, f"{which}ConnectionLost", fail)
        if which == "read":
            half.peer.shutdown(socket.SHUT_WR)
        else:
            half.transport.loseWriteConnection()
        half.turn(3)
        assert half.protocol.lost == [ZeroDivisionError]
        assert failures == [ZeroDivisionError]

    def test_for_a_protocol_that_does_not_know_of_it(self, wire):
        """For other protocols the peer's half close is an end."""
        wire.peer.shutdown(socket.SHUT_WR)
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionDone]


class ProducerTests:
    """Backpressure."""

    def test_pairs(self, wire):
        """A producer is paused when much is queued and resumed when all has left, again and again."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(3):
            wire.transport.write(bytes(MUCH))
            assert producer.asked[-1] == "pause"
            assert len(wire.drain(MUCH)) == MUCH
            wire.turn()
        assert producer.asked == ["pause", "resume"] * 3

    def test_one_that_goes_on(self, wire):
        """A producer that writes although it is paused is not told so again with each write."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(3):
            wire.transport.write(bytes(MUCH))
        wire.drain()
        assert producer.asked == ["pause", "resume"]

    def test_one_that_writes_when_it_is_paused(self, wire):
        """What a producer writes when it is paused follows what is queued."""
        wire.transport.registerProducer(Late(wire.transport, b"late"), True)
        data = pattern(MUCH)
        wire.transport.write(data)
        wire.transport.write(b"r")
        assert wire.drain() == data + b"later"

    def test_one_that_aborts_when_it_is_paused(self, wire):
        """A producer may abort when it is paused; nothing waits for the kernel then."""
        producer = Producer()
        producer.pauseProducing = wire.transport.abortConnection
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        assert (wire.transport.queued, wire.transport.watched) == (0, 0)
        wire.turn(2)
        assert wire.protocol.lost == [ConnectionAborted]

    def test_the_next_one(self, wire):
        """A producer that comes after a paused one is not resumed before it was paused."""
        wire.transport.registerProducer(Producer(), True)
        wire.transport.write(bytes(MUCH))
        wire.transport.unregisterProducer()
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.drain()
        assert producer.asked in ([], ["pause", "resume"])

    def test_small_writes(self, wire):
        """What leaves at once never pauses a producer."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        for _ in range(100):
            wire.transport.write(bytes(10_000))
            wire.take()
        assert producer.asked == []

    def test_loseconnection_waits_for_it(self, wire):
        """A paused producer is resumed before the connection closes, and may write its end."""
        producer = Producer(lambda: (wire.transport.write(b"end"), wire.transport.unregisterProducer()))
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        wire.transport.loseConnection()
        assert wire.drain() == bytes(MUCH) + b"end"
        wire.turn(2)
        assert producer.asked == ["pause", "resume"]
        assert wire.protocol.lost == [ConnectionDone]

    def test_stopped_by_a_loss(self, wire):
        """A loss stops the producer, once, before the protocol hears of it."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.protocol.on_lost = lambda me, reason: producer.asked.append("lost")
        wire.peer.close()
        wire.turn(2)
        assert producer.asked == ["stop", "lost"]

    def test_two(self, wire):
        """There is one producer at a time."""
        wire.transport.registerProducer(Producer(), True)
        with pytest.raises(RuntimeError):
            wire.transport.registerProducer(Producer(), True)

    @pytest.mark.parametrize("streaming", [True, False])
    def test_one_too_many(self, wire, streaming):
        """A producer that is refused, because there is one, changes nothing for that one."""
        producer = Producer()
        wire.transport.registerProducer(producer, True)
        wire.transport.write(bytes(MUCH))
        with pytest.raises(RuntimeError):
            wire.transport.registerProducer(Producer(), streaming)
        wire.drain()
        assert producer.asked == ["pause", "resume"]
        wire.transport.write(b"at once")
        assert wire.take() == b"at once"

    def test_pull(self, wire):
        """A pull producer is asked for more after each of its writes, though these leave at once."""
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

    def test_pull_is_not_asked_within_itself(self, wire):
        """It is asked by the reactor, not from within its own write."""
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

    def test_a_pull_producer_sees_its_peer_go(self, wire):
        """A connection that closes while a pull producer goes on writing learns that its peer is gone."""
        wire.transport.registerProducer(Producer(lambda: wire.transport.write(b"x")), False)
        wire.transport.loseConnection()
        wire.turn()
        wire.reset()
        wire.turn(5)
        assert len(wire.protocol.lost) == 1

    def test_sending_a_file(self, wire, tmp_path):
        """Twisted's FileSender sends a file to its end."""
        data = pattern(300_000)
        (tmp_path / "file").write_bytes(data)
        done = []
        with (tmp_path / "file").open("rb") as file:
            FileSender().beginFileTransfer(file, wire.transport).addBoth(done.append)
            assert wire.drain() == data
        assert len(done) == 1


class TLSTests(test_tls.ContextGeneratingMixin):
    """TLS on a connection that began without."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch, wire):
        """Let Twisted's TLS, which gathers small writes for a turn, ask our reactor and not the global one."""
        monkeypatch.setattr(tls, "_get_default_clock", lambda: wire.reactor)

    def shake_hands(self, wire):
        """Do the client's part of a handshake; return its TLS object and what to call to exchange bytes."""
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

    def test_what_is_written_is_encrypted(self, wire):
        """From startTLS on everything goes through TLS, both ways, also what is written at once."""
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

    def test_behind_what_is_queued(self, wire):
        """What was written in the clear arrives first, though it had to be queued."""
        wire.transport.write(bytes(MUCH))
        wire.transport.startTLS(self.getServerContext())
        wire.transport.write(b"secret")
        assert wire.drain() == bytes(MUCH)
        client, _ = self.shake_hands(wire)
        assert client.read() == b"secret"

    @pytest.mark.parametrize("streaming", [True, False])
    def test_with_a_producer(self, wire, streaming, monkeypatch):
        """Nothing leaves in the clear after startTLS, whether a producer is there, goes or comes."""
        # Twisted makes a push producer of a pull producer, but on the global reactor.
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
            # Bytes in the clear would make the client's TLS fail here.
            exchange()
            assert client.read() == b"secret"

    def test_much(self, wire):
        """Much goes through TLS whole and in order."""
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

    def test_arguments(self, wire):
        """The arguments are those of ITLSTransport, by name as well."""
        wire.transport.startTLS(ctx=self.getServerContext(), normal=True)
        assert wire.transport.TLS

    def test_a_bad_context(self, wire):
        """A context that cannot be made is raised, and the connection goes on as it was."""
        with pytest.raises(ValueError, match="Some path was wrong maybe"):
            wire.transport.startTLS(connectionmixins.BrokenContextFactory())
        wire.transport.write(b"in the clear")
        wire.turn()
        assert wire.take() == b"in the clear"

    @pytest.mark.parametrize("end", ["loseConnection", "abortConnection"])
    def test_an_end(self, wire, end):
        """A TLS connection ends once, by either way."""
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

    def test_no_byte_after_an_abort(self, wire):
        """What is written after an abort does not leave, encrypted or not."""
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
    """What a transport tells of itself."""

    def test_tcp(self, connect):
        """Host and peer are the two ends' addresses."""
        wire = connect("tcp")
        assert wire.transport.getHost() == IPv4Address("TCP", *wire.peer.getpeername())
        assert wire.transport.getPeer() == IPv4Address("TCP", *wire.peer.getsockname())

    def test_unix(self, connect):
        """A UNIX socket's are paths, here empty ones."""
        wire = connect("unix")
        assert wire.transport.getHost() == UNIXAddress("")
        assert wire.transport.getPeer() == UNIXAddress(None)

    def test_the_peer_of_a_lost_connection(self, connect):
        """The peer of a connection that is gone can still be told, for the log."""
        wire = connect("tcp")
        peer = wire.transport.getPeer()
        wire.peer.close()
        wire.turn(2)
        assert wire.protocol.lost
        assert wire.transport.getPeer() == peer

    def test_interfaces(self, wire):
        """It is a TCP transport and knows of half closes, to Twisted's other code."""
        assert verifyObject(ITCPTransport, wire.transport)
        assert IHalfCloseableDescriptor.providedBy(wire.transport)

    def test_options(self, connect):
        """Socket options are reached as usual."""
        wire = connect("tcp")
        wire.transport.setTcpNoDelay(True)
        assert wire.transport.getTcpNoDelay()
        wire.transport.setTcpKeepAlive(True)
        assert wire.transport.getTcpKeepAlive()


class AdoptTests:
    """Which ports make connections of ours."""

    def test_twisteds_own(self):
        """Twisted's TCP and UNIX ports."""
        reactor = FakeReactor()
        poller = Poller(reactor)
        try:
            for port, kind in (
                (tcp.Port(0, Factory(), reactor=reactor), TCPTransport),
                (unix.Port("path", Factory(), reactor=reactor), UNIXTransport),
            ):
                adopt(port, poller)
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

    def test_others(self):
        """A port with a transport of its own, and what is no port of Twisted's, stay as they are."""
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
            adopt(port, poller)
            assert port.transport is before
        poller.stop()
