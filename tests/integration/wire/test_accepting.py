"""Tests for wsserver/wire/accepting.py: accept the connections of a listening port; real sockets."""

import errno
import socket

import pytest
from fake_reactor import FakeReactor
from twisted.internet import tcp
from twisted.internet.protocol import Factory, Protocol

from wsserver.wire.accepting import EXHAUSTED, EXHAUSTED_PAUSE, LOG_INTERVAL, MORE, SECONDS_PER_TURN, AcceptGate
from wsserver.wire.poller import Poller
from wsserver.wire.transport import TCPTransport, adopt

pytestmark = pytest.mark.kernel


class Server(Factory):
    """Builds a protocol for each connection; None if `refusing` is set, and an exception if `failing` is set."""

    noisy = refusing = failing = False

    def __init__(self):
        self.connected = []

    def buildProtocol(self, addr):
        if self.failing:
            raise OSError(errno.EBADF, "not an error of accept")
        if self.refusing:
            return None
        protocol = Protocol()
        self.connected.append((addr, protocol))
        return protocol


class Listening:
    """
    A port that the tests serve themselves.

    Args:
        interface: the IP address to listen on.
    """

    def __init__(self, interface):
        self.server, self.reactor = Server(), FakeReactor()
        self.poller, self.gate = Poller(self.reactor), AcceptGate(self.reactor)
        self.port = tcp.Port(0, self.server, interface=interface, reactor=self.reactor)
        self.port.startListening()
        adopt(self.port, self.poller, self.gate)
        self.clients = []

    def dial(self, count=1):
        """Connect clients, and accept them."""
        number = self.port.getHost().port
        self.clients += [socket.create_connection((self.port.interface, number), 5) for _ in range(count)]
        self.port.doRead()

    def close(self):
        for client in self.clients:
            client.close()
        for _, protocol in self.server.connected:
            protocol.transport.abortConnection()
        self.port.stopListening()
        self.reactor.advance(0)
        self.poller.stop()


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request):
    """A port on the loopback interface, for IPv4 and IPv6."""
    found = Listening(request.param)
    yield found
    found.close()


class AcceptingTests:
    """Accepting connections."""

    def test_connects_each_client_with_its_address(self, listening):
        listening.dial(3)
        for client, (address, protocol) in zip(listening.clients, listening.server.connected, strict=True):
            assert (address.host, address.port) == client.getsockname()[:2]
            assert protocol.transport.getPeer() == address
            assert type(protocol.transport) is TCPTransport
            assert protocol.transport.getHost() == listening.port.getHost()

    def test_numbers_the_connections(self, listening):
        listening.dial(2)
        assert [protocol.transport.sessionno for _, protocol in listening.server.connected] == [0, 1]

    def test_a_connection_does_not_block(self, listening):
        listening.dial()
        sock = listening.server.connected[0][1].transport.socket
        assert sock.gettimeout() == 0
        with pytest.raises(BlockingIOError):
            sock.recv(1)

    def test_adapts_the_number_of_accepts_to_the_clients_of_the_last_turn(self, listening):
        listening.dial(3)
        assert listening.port.numberAccepts == 3
        listening.dial(3)
        assert listening.port.numberAccepts == 3 + MORE
        listening.dial(0)
        assert listening.port.numberAccepts == 1

    def test_accepts_clients_over_the_number_in_the_next_turn(self, listening):
        listening.dial(1)
        listening.dial(3)
        assert len(listening.server.connected) == 2
        listening.port.doRead()
        assert len(listening.server.connected) == 4

    def test_accepts_the_rest_in_the_next_turn_if_the_time_is_used_up(self, listening, monkeypatch):
        """Each connection takes 40 % of the time."""
        build, clock = listening.server.buildProtocol, listening.reactor

        def take_time(address):
            clock.rightNow += 0.4 * SECONDS_PER_TURN
            return build(address)

        monkeypatch.setattr(listening.server, "buildProtocol", take_time)
        listening.dial(4)
        assert len(listening.server.connected) == 3
        listening.port.doRead()
        assert len(listening.server.connected) == 4

    def test_closes_the_connection_if_the_factory_builds_no_protocol(self, listening):
        listening.server.refusing = True
        listening.dial()
        assert listening.clients[0].recv(1) == b""

    def test_logs_an_exception_of_the_factory_and_serves_the_next_client(self, listening, failures):
        listening.server.failing = True
        listening.dial()
        assert [failure.type for failure in failures] == [OSError]
        failures.clear()
        listening.server.failing = False
        listening.dial()
        assert len(listening.server.connected) == 1

    def test_a_socket_object_owns_the_descriptor_if_the_clients_address_cannot_be_written(self, failures, monkeypatch):
        """So the descriptor is closed with it. The name of an IPv6 address's network interface may be unknown."""
        listening, made = Listening("::1"), []
        listening.clients.append(socket.create_connection(("::1", listening.port.getHost().port), 5))

        class Recorded(socket.socket):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                made.append(self)

        def fail(*_):
            raise socket.gaierror(socket.EAI_NONAME, "unknown interface")

        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", Recorded)
            patched.setattr(socket, "getnameinfo", fail)
            listening.port.doRead()
        assert [failure.type for failure in failures] == [socket.gaierror]
        failures.clear()
        assert [sock.getpeername()[:2] for sock in made] == [listening.clients[0].getsockname()[:2]]
        made[0].close()
        listening.close()

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ECONNABORTED])
    def test_twisted_handles_an_error_of_accept(self, listening, number, monkeypatch):
        """The port accepts clients again afterwards."""

        class Failing(socket.socket):
            failures = 2

            def _accept(self):
                if Failing.failures:
                    Failing.failures -= 1
                    raise OSError(number, "accept failed")
                return super()._accept()

        failing = Failing(fileno=listening.port.socket.detach())
        failing.setblocking(False)
        listening.port.socket = failing
        listening.dial()
        assert not Failing.failures
        listening.port.doRead()
        assert len(listening.server.connected) == 1


class ExhaustedTests:
    """The process has no descriptor left."""

    @pytest.fixture
    def exhausted(self, listening, monkeypatch):
        """Return a function that sets the error with which `accept` fails; None for no failure."""
        error = []

        class Failing(socket.socket):
            def _accept(self):
                if error:
                    raise OSError(error[0], "accept failed")
                return super()._accept()

        listening.port.socket = Failing(fileno=listening.port.socket.detach())
        listening.port.socket.setblocking(False)
        listening.gate.add(listening.port)

        def fail(number):
            error[:] = [number] if number else []

        return fail

    @pytest.mark.parametrize("number", EXHAUSTED)
    def test_pauses_accepting_and_resumes_after_half_a_second(self, listening, exhausted, number):
        """The clients wait in the backlog meanwhile."""
        exhausted(number)
        listening.dial(2)
        assert listening.gate.is_paused
        assert listening.server.connected == []
        exhausted(None)
        listening.reactor.advance(EXHAUSTED_PAUSE)
        assert not listening.gate.is_paused
        listening.port.doRead()
        listening.port.doRead()
        assert len(listening.server.connected) == 2

    def test_logs_one_line_per_interval_with_the_number_suppressed(self, listening, exhausted, log):
        exhausted(errno.EMFILE)
        listening.dial()
        for _ in range(int(2 * LOG_INTERVAL / EXHAUSTED_PAUSE)):
            listening.reactor.advance(EXHAUSTED_PAUSE)
            listening.port.doRead()
        lines = log.lines("wsserver.accepting")
        assert [line.partition(" suppressed=")[0] for line in lines] == [
            "accepting paused reason='Too many open files'"
        ] * 3
        assert [int(line.partition("suppressed=")[2].split(";")[0]) for line in lines] == [0, 19, 19]


class GateTests:
    """Pausing and resuming all ports."""

    def test_accepts_nothing_while_paused_even_within_a_turn(self, listening):
        listening.gate.add(listening.port)
        listening.dial(1)
        listening.port.numberAccepts = 100
        build = listening.server.buildProtocol

        def build_and_pause(address):
            listening.gate.pause()
            return build(address)

        listening.server.buildProtocol = build_and_pause
        listening.dial(5)
        assert len(listening.server.connected) == 2
        listening.gate.resume()
        listening.port.doRead()
        assert len(listening.server.connected) == 3

    def test_a_port_added_while_paused_waits_too(self, listening):
        listening.gate.pause()
        listening.gate.add(listening.port)
        assert listening.gate.is_paused
        listening.gate.clear()
        assert not listening.gate.is_paused

    def test_a_pause_with_an_end_replaces_one_without_and_the_other_way_round(self, listening):
        gate = listening.gate
        gate.pause()
        gate.pause(1)
        assert gate.resumes_later
        listening.reactor.advance(1)
        assert not gate.is_paused
        gate.pause(1)
        gate.pause()
        listening.reactor.advance(1)
        assert gate.is_paused
        gate.clear()


def test_the_private_names_still_exist():
    """`socket._accept` returns a descriptor and an address; `_buildAddr` is replaced by UNIX ports."""
    assert callable(socket.socket._accept)
    assert callable(tcp.Port._buildAddr)
