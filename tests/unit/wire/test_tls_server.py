"""Tests for wsserver/wire/tls_server.py: logging failed handshakes, and detecting plain HTTP before TLS. In memory."""

import inspect

import pytest
from OpenSSL import SSL
from pki import make_authority
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer
from wsserver.wire import tls
from wsserver.wire.access_log import AccessLog
from wsserver.wire.certificates import read_server_certificate
from wsserver.wire.counters import Counters
from wsserver.wire.timers import Deadlines
from wsserver.wire.tls_server import (
    ConnectionCreator,
    NoSharedProtocol,
    TLSServerFactory,
    describe_failure,
    make_context,
)


@pytest.fixture
def lines():
    """Collect the log lines about TLS."""
    found = []

    def observe(event):
        line = formatEvent(event)
        if line.startswith("tls "):
            found.append(line)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


class DescribeTests:
    """Reasons for failed handshakes, as logged."""

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                SSL.Error([("SSL routines", "", "unsupported protocol")]),
                "no shared protocol version: the client offers ",
            ),
            (SSL.Error([("SSL routines", "", "no shared cipher")]), "no shared cipher suite"),
            (
                SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]),
                "the client does not trust the certificate: ",
            ),
            (SSL.Error([("SSL routines", "", "ssl/tls alert bad certificate")]), "the client does not trust the "),
            (
                SSL.Error([("SSL routines", "", "tlsv1 alert user cancelled")]),
                "the client ended the handshake: alert user",
            ),
            (SSL.Error([("SSL routines", "", "length mismatch")]), "length mismatch"),
            (SSL.Error([]), "Error"),
            (SSL.Error(), "Error"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "the client closed the connection"),
            (ConnectionLost(), "the client closed the connection"),
            (None, "the client closed the connection"),
            (
                NoSharedProtocol([b"h2", b"alert unknown ca"]),
                "no shared protocol by ALPN: the client offers 'h2', 'alert",
            ),
        ],
    )
    def test_describes_each_error_of_openssl_or_the_connection(self, error, words):
        assert describe_failure(error).startswith(words)


class Transport(StringTransport):
    """A transport that records an abort."""

    aborted = False

    def abortConnection(self):
        self.aborted = True


@pytest.fixture(scope="module")
def creator(tmp_path_factory):
    own = make_authority(tmp_path_factory.mktemp("authority")).issue(tmp_path_factory.mktemp("issued") / "own")
    return ConnectionCreator(make_context(read_server_certificate(str(own.fullchain), str(own.privkey))))


@pytest.fixture(params=["Twisted's", "fast"])
def connection(request, creator):
    """Return the TLS of a connection, of both classes: (clock, TLS protocol, transport)."""
    clock = Clock()
    deadlines = Deadlines(clock)
    access_log = AccessLog(Counters(), deadlines, 0)
    factory = TLSServerFactory(creator, Factory.forProtocol(Protocol), clock, deadlines, access_log)
    if request.param == "fast":
        tls.adopt_factory(factory)
        assert issubclass(factory.protocol, tls.TLSProtocol)
    protocol = factory.buildProtocol(None)
    transport = Transport()
    protocol.makeConnection(transport)
    return clock, protocol, transport


class GuardTests:
    """The first bytes of a connection, before TLS."""

    @pytest.mark.parametrize("cut", range(1, 20))
    def test_answers_plain_http_with_400_and_https_advice_at_any_cut(self, connection, lines, cut):
        clock, protocol, transport = connection
        for data in (b"GET / HTTP/1.1\r\n\r\n"[:cut], b"GET / HTTP/1.1\r\n\r\n"[cut:], b"more"):
            protocol.dataReceived(data)
        assert transport.value().startswith(b"HTTP/1.1 400 ")
        assert transport.value().count(b"use https:// or wss://") == 1
        clock.advance(60)
        assert clock.getDelayedCalls() == []
        assert len(lines) == 1

    @pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x05hello", b"\x00\x00\x00\x00\x00", b"\x80\x2e\x01\x03\x01"])
    def test_passes_other_bytes_to_openssl(self, connection, lines, data):
        """The other bytes are a damaged hello, zeros, and a hello of SSL 2."""
        _, protocol, transport = connection
        protocol.dataReceived(data)
        assert not transport.value().startswith(b"HTTP")
        assert len(lines) == 1

    def test_does_not_log_a_handshake_that_the_server_closes(self, connection, lines):
        """The server closes connections when it stops."""
        _, protocol, _ = connection
        protocol.dataReceived(b"\x16\x03\x01")
        protocol.loseConnection()
        protocol.connectionLost(Failure(ConnectionLost()))
        assert lines == []

    def test_abort_handshake_aborts_the_transport_and_logs_once(self, connection, lines):
        _, protocol, transport = connection
        assert protocol.handshaking
        protocol.abort_handshake("not finished within 10s")
        assert transport.aborted
        assert len(lines) == 1

    def test_does_not_log_a_connection_lost_without_a_byte(self, connection, lines):
        _, protocol, _ = connection
        protocol.connectionLost(Failure(ConnectionLost()))
        assert lines == []

    def test_aborts_an_unfinished_handshake_after_open_timeout(self, creator, lines):
        """The server sends nothing."""
        server = MemoryServer(Settings(open_timeout=10))
        frontend = server.service.frontend
        access_log, deadlines = frontend.access_log, frontend.deadlines
        protocol = TLSServerFactory(creator, frontend, server.clock, deadlines, access_log).buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"\x16\x03\x01")
        server.clock.advance(9.9)
        assert not transport.aborted
        server.clock.advance(0.2)
        assert transport.aborted
        assert transport.value() == b""
        (line,) = lines
        assert line.startswith('tls handshake failed reason="not finished within 10s" peer=')


class ContextTests:
    """The options of the OpenSSL context."""

    def test_every_cipher_suite_has_forward_secrecy_and_authenticated_encryption(self, creator):
        suites = creator.serverConnectionForTLS(None).get_cipher_list()
        assert len(suites) > 5
        for suite in suites:
            assert suite.startswith(("TLS_", "ECDHE-", "DHE-"))
            assert "GCM" in suite or "CHACHA20" in suite


class ContractTests:
    """Private names of Twisted that the module uses."""

    def test_twisted_ends_every_failed_handshake_with_tls_shutdown_finished(self):
        source = inspect.getsource(TLSMemoryBIOProtocol)
        assert source.count("self._tlsShutdownFinished(") == 4
        assert "except Error:\n            self._tlsShutdownFinished(Failure())" in source
        assert "self._handshakeDone = True" in source

    def test_the_factory_of_twisted_uses_buffering_tls_transport(self):
        assert TLSMemoryBIOFactory.protocol is BufferingTLSTransport
