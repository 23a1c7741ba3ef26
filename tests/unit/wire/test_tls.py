"""
Tests for wsserver/wire/tls.py: the fast path, and where it falls back to Twisted's own code.

Tests with both classes, ours and Twisted's, check that a client and a protocol see the same behaviour. Ours has a
compiled fast path and one in Python.
"""

import datetime
import inspect
import random
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from twins import TLS
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.wire import frames, tls

CHANGED = "Twisted or pyOpenSSL has changed: "
VERSIONS = {"TLS 1.2": SSL.TLS1_2_VERSION, "TLS 1.3": SSL.TLS1_3_VERSION}


@implementer(IPushProducer)
class Application(Protocol):
    """A protocol that records its calls, and answers as the test wants."""

    def __init__(self):
        self.deliveries, self.lost, self.paused = [], [], []
        self.answer = lambda data: None

    @property
    def received(self):
        return b"".join(self.deliveries)

    def dataReceived(self, data):
        assert not self.lost, "data after the end"
        self.deliveries.append(data)
        self.answer(data)

    def connectionLost(self, reason):
        self.lost.append(reason)

    def pauseProducing(self):
        self.paused.append(True)

    def resumeProducing(self):
        self.paused.append(False)

    def stopProducing(self):
        pass


class Wire(StringTransport):
    """A transport that records each write; the test ends it."""

    aborted = False

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, data):
        assert isinstance(data, bytes)
        assert data
        self.writes.append(data)

    def abortConnection(self):
        self.aborted = self.disconnecting = True


@pytest.fixture(scope="module")
def options():
    """Return Twisted's certificate options with a new certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return CertificateOptions(crypto.PKey.from_cryptography_key(key), crypto.X509.from_cryptography(made))


class Pair:
    """A server's TLS over a transport, and a pyOpenSSL client driven by hand."""

    def __init__(self, kind, options, version):
        self.application, self.wire = Application(), Wire()
        factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(lambda: self.application), Clock())
        factory.protocol = kind
        self.server = factory.buildProtocol(None)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(version)
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        self.server.makeConnection(self.wire)

    def sent(self):
        """Return the ciphertext that the client has to send."""
        try:
            return self.client.bio_read(2**24)
        except SSL.WantReadError:
            return b""

    def take(self):
        """Pass the server's writes to the client and return the plaintext."""
        writes, self.wire.writes = self.wire.writes, []
        plain = b""
        for data in writes:
            self.client.bio_write(data)
            while True:
                try:
                    plain += self.client.recv(2**16)
                except SSL.WantReadError:
                    break
        return plain

    def seal(self, *messages):
        """Encrypt each message to a record of its own and return the client's ciphertext."""
        for message in messages:
            assert self.client.send(message) == len(message)
        return self.sent()

    def shake(self):
        """Do the handshake, except for the client's last flight; return that."""
        while True:
            try:
                self.client.do_handshake()
            except SSL.WantReadError:
                self.server.dataReceived(self.sent())
                for data in self.wire.writes:
                    self.client.bio_write(data)
                self.wire.writes.clear()
            else:
                return self.sent()

    def establish(self):
        """Do the handshake."""
        last = self.shake()
        if last:
            self.server.dataReceived(last)
        assert self.take() == b""
        return self

    def lose(self, reason=None):
        """End the transport."""
        self.server.connectionLost(Failure(reason or ConnectionDone()))


@pytest.fixture(params=VERSIONS)
def version(request):
    """Run the test with each version of TLS."""
    return VERSIONS[request.param]


@pytest.fixture(
    params=[*(module.TLSProtocol for module in TLS.values()), TLSMemoryBIOProtocol], ids=[*TLS, "Twisted's"]
)
def pair(request, options, version):
    """Return both sides, before the handshake."""
    return Pair(request.param, options, version)


@pytest.fixture
def established(pair):
    """Return both sides, after the handshake."""
    return pair.establish()


@pytest.fixture(params=TLS)
def module(request):
    """Return the module of TLS of a twin; each test runs with both twins."""
    return TLS[request.param]


@pytest.fixture
def ours(module, options, version):
    """Return both sides with our class, after the handshake."""
    pair = Pair(module.TLSProtocol, options, version).establish()
    assert pair.server._ssl is not None
    return pair


@pytest.fixture
def replace_write(module, monkeypatch):
    """Return a context manager that replaces OpenSSL's function `SSL_write` for one of the twins."""

    @contextmanager
    def replace(function):
        callback = SSL._ffi.callback("int(SSL *, void *, int)", function)
        if module is TLS.get("compiled"):
            share(ssl_write=tls._address(callback))
        with monkeypatch.context() as patch:
            patch.setattr(module, "_ssl_write", function)
            yield
        share()

    def share(**replaced):
        if frames.COMPILED:
            addresses = tls._find_addresses() | replaced
            frames.SPEEDUPS.use_openssl(tls._address, tls._address(tls._PLAINTEXT), **addresses)

    return replace


class ReceivingTests:
    """From ciphertext to the protocol."""

    def test_delivers_each_record(self, established):
        for message in (b"a", b"b" * 100, b"c" * tls.RECORD):
            established.server.dataReceived(established.seal(message))
        assert established.application.received == b"a" + b"b" * 100 + b"c" * tls.RECORD

    def test_delivers_the_records_of_one_read_in_one_call(self, ours):
        """With one call, the protocol can send its answers in one write."""
        ours.server.dataReceived(ours.seal(*(b"%d," % number for number in range(50))))
        assert ours.application.deliveries == [b"".join(b"%d," % number for number in range(50))]

    def test_delivers_records_that_arrive_byte_by_byte(self, established):
        for byte in established.seal(b"one", b"two"):
            established.server.dataReceived(bytes([byte]))
        assert established.application.deliveries == [b"one", b"two"]

    @pytest.mark.parametrize("seed", range(10))
    def test_delivers_records_that_arrive_in_pieces_of_any_size(self, established, seed):
        """Each piece contains a part of a record, a whole record, or several records."""
        chance = random.Random(seed)
        messages = [chance.randbytes(chance.choice([1, 64, 1000, tls.RECORD])) for _ in range(60)]
        data = established.seal(*messages)
        while data:
            size = chance.choice([1, 5, 6, 300, tls.RECORD, tls.PIECE, 3 * tls.PIECE])
            established.server.dataReceived(data[:size])
            data = data[size:]
        assert established.application.received == b"".join(messages)

    def test_delivers_a_read_of_one_and_a_half_megabytes(self, established):
        message = random.Random(1).randbytes(1_500_000)
        data = b"".join(established.seal(message[at : at + tls.RECORD]) for at in range(0, len(message), tls.RECORD))
        established.server.dataReceived(data)
        assert established.application.received == message

    def test_delivers_data_that_arrives_with_the_last_flight(self, pair):
        """Data that follows is delivered, too, and the server can write."""
        last = pair.shake()
        pair.server.dataReceived(last + pair.seal(b"early"))
        pair.server.dataReceived(pair.seal(b"later"))
        assert pair.application.received == b"earlylater"
        pair.server.write(b"answer")
        assert pair.take() == b"answer"

    def test_writes_the_answer_to_a_record_in_the_same_turn(self, ours):
        """The transport gets one write."""
        ours.application.answer = ours.server.write
        ours.server.dataReceived(ours.seal(b"echo"))
        assert len(ours.wire.writes) == 1
        assert ours.take() == b"echo"

    @pytest.mark.parametrize("together", [False, True])
    def test_a_forged_record_ends_the_connection_with_bad_record_mac(self, established, together):
        """Data before the forged record is delivered."""
        established.application.answer = established.server.write
        good, bad = established.seal(b"good"), bytearray(established.seal(b"bad"))
        bad[-1] ^= 1
        for data in [good + bytes(bad)] if together else [good, bytes(bad)]:
            established.server.dataReceived(data)
        assert established.application.deliveries == [b"good"]
        assert established.wire.disconnecting
        established.client.bio_write(b"".join(established.wire.writes))
        # Ours drops the answer to data in the read of the forged record: nothing can follow the alert.
        if not together:
            assert established.client.recv(100) == b"good"
        established.server.dataReceived(bytes(bad))
        established.server.write(b"more")
        established.lose()
        assert established.application.deliveries == [b"good"]
        (reason,) = established.application.lost
        assert reason.check(SSL.Error), reason
        assert "bad record mac" in str(reason.value)

    def test_an_openssl_error_does_not_affect_another_connection(self, module, options):
        """OpenSSL keeps its error queue per thread, not per connection."""
        pairs = [Pair(module.TLSProtocol, options, SSL.TLS1_3_VERSION).establish() for _ in range(2)]
        half = pairs[1].seal(b"half")

        def answer(data):
            pairs[1].server.dataReceived(half[:10])
            pairs[1].server.write(b"fine")

        pairs[0].application.answer = answer
        pairs[0].server.dataReceived(pairs[0].seal(b"x") + b"\x17\x03\x03\x00\x20" + bytes(32))
        assert pairs[0].wire.disconnecting
        pairs[1].server.dataReceived(half[10:])
        assert pairs[1].application.deliveries == [b"half"]
        assert pairs[1].take() == b"fine"

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\0" * 100])
    def test_bytes_other_than_a_handshake_end_the_connection(self, pair, garbage):
        """The protocol receives no data."""
        pair.server.dataReceived(garbage)
        pair.lose()
        assert pair.application.deliveries == []
        assert len(pair.application.lost) == 1

    def test_plaintext_after_the_handshake_ends_the_connection(self, established):
        established.server.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        assert established.wire.disconnecting
        established.lose()
        assert established.application.deliveries == []
        assert len(established.application.lost) == 1

    def test_refuses_renegotiation_with_an_alert(self, module, options):
        """The alert is sent although the server writes nothing else (RFC 5746 section 4.5)."""
        pair = Pair(module.TLSProtocol, options, SSL.TLS1_2_VERSION).establish()
        pair.client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            pair.client.do_handshake()
        pair.server.dataReceived(pair.sent())
        assert pair.wire.writes
        assert pair.wire.writes[0][0] == 21


class SendingTests:
    """From the protocol to ciphertext."""

    def test_sends_small_writes_at_once_and_in_order(self, ours):
        for number in range(300):
            ours.server.write(b"%d," % number)
            assert len(ours.wire.writes) == number + 1
        assert ours.take() == b"".join(b"%d," % number for number in range(300))

    @pytest.mark.parametrize("size", [0, 1, tls.RECORD - 1, tls.RECORD, tls.RECORD + 1, tls.PIECE, 1_500_000])
    def test_the_client_receives_a_message_of_any_size(self, established, size):
        message = random.Random(size).randbytes(size)
        established.server.write(message)
        established.server.writeSequence([b"a", b"b"])
        assert established.take() == message + b"ab"

    def test_sends_a_large_message_in_one_write(self, ours):
        """A write per record would let a paused producer run in between."""
        ours.server.write(bytes(20 * tls.RECORD))
        assert len(ours.wire.writes) == 1

    def test_sends_early_writes_after_the_handshake_in_order(self, pair):
        pair.server.write(b"first,")
        last = pair.shake()
        pair.server.write(b"second,")
        if last:
            pair.server.dataReceived(last)
        pair.server.write(b"third")
        assert pair.take() == b"first,second,third"

    @pytest.mark.parametrize("data", ["text", 7, None])
    @pytest.mark.parametrize("done", [False, True])
    def test_raises_type_error_for_anything_but_bytes(self, module, options, data, done):
        """The test writes both before and after the handshake."""
        pair = Pair(module.TLSProtocol, options, SSL.TLS1_3_VERSION)
        if done:
            pair.establish()
        with pytest.raises(TypeError):
            pair.server.write(data)

    def test_falls_back_to_twisted_if_openssl_refuses_a_write(self, ours, replace_write):
        """Twisted's code writes again and handles the error."""
        with replace_write(lambda *arguments: -1):
            ours.server.write(b"small")
            ours.server.write(b"x" * 100_000)
        assert ours.take() == b"small" + b"x" * 100_000

    def test_sends_the_rest_if_openssl_writes_only_a_part(self, ours, replace_write):
        """OpenSSL does so if the client has negotiated smaller records (RFC 6066 section 4, RFC 8449)."""
        write = tls._ssl_write
        message = random.Random(2).randbytes(100_000)
        with replace_write(lambda ssl, data, size: write(ssl, data, min(size, 512))):
            ours.server.write(message[:5000])
            ours.server.write(message[5000:])
        assert ours.take() == message

    def test_a_blocked_write_blocks_later_writes_and_pauses_the_producer(self, ours, replace_write):
        """Later writes keep their order."""
        server = ours.server
        connection = server.getHandle()
        send = connection.send
        server.registerProducer(ours.application, True)

        def refuse(data):
            raise SSL.WantReadError

        connection.send = refuse
        with replace_write(lambda *arguments: -1):
            server.write(b"first,")
        assert ours.application.paused == [True]
        server.write(b"second,")
        assert not ours.wire.writes
        connection.send = send
        server.dataReceived(ours.seal(b"go on"))
        assert ours.application.paused == [True, False]
        assert ours.application.deliveries == [b"go on"]
        server.write(b"third")
        assert ours.take() == b"first,second,third"

    def test_passes_each_pause_of_the_transport_to_the_protocol_once(self, ours):
        """A large write that fills the transport stays whole."""
        server, wire, application = ours.server, ours.wire, ours.application
        server.registerProducer(application, True)
        write = wire.write

        def fill(data):
            write(data)
            wire.producer.pauseProducing()

        wire.write = fill
        server.write(bytes(300_000))
        assert application.paused == [True]
        wire.producer.resumeProducing()
        assert application.paused == [True, False]
        assert ours.take() == bytes(300_000)
        server.unregisterProducer()

    def test_writes_nothing_more_after_a_producer_aborts_in_a_large_write(self, ours):
        """The producer aborts when it is paused."""
        server, wire = ours.server, ours.wire
        server.registerProducer(ours.application, True)
        ours.application.pauseProducing = server.abortConnection
        write = wire.write

        def fill(data):
            write(data)
            wire.producer.pauseProducing()

        wire.write = fill
        server.write(bytes(1_000_000))
        assert wire.aborted
        assert len(wire.writes) <= 2, "more than the message, and perhaps an alert"
        ours.lose(ConnectionAborted())
        assert len(ours.application.lost) == 1


class ClosingTests:
    """The end of a connection."""

    def test_delivers_data_before_close_notify_and_ends_with_connection_done(self, established):
        """The protocol can still answer the data."""
        established.application.answer = established.server.write
        data = established.seal(b"last words")
        established.client.shutdown()
        established.server.dataReceived(data + established.sent())
        assert established.application.deliveries == [b"last words"]
        assert established.wire.disconnecting
        writes = b"".join(established.wire.writes)
        established.client.bio_write(writes)
        assert established.client.recv(100) == b"last words"
        established.lose()
        (reason,) = established.application.lost
        assert reason.check(ConnectionDone)

    def test_lose_connection_sends_close_notify_and_waits_for_the_reply(self, established):
        """Data that the client sends until then is delivered."""
        established.server.loseConnection()
        established.server.loseConnection()
        established.server.write(b"too late")
        established.server.dataReceived(established.seal(b"on its way"))
        assert established.application.deliveries == [b"on its way"]
        established.client.bio_write(b"".join(established.wire.writes))
        with pytest.raises(SSL.ZeroReturnError):
            established.client.recv(100)
        established.client.shutdown()
        established.server.dataReceived(established.sent())
        assert established.wire.disconnecting
        established.lose()
        assert established.application.lost[0].check(ConnectionDone)

    def test_a_registered_producer_may_write_after_lose_connection(self, established):
        """The close_notify follows when the producer is unregistered."""
        established.server.registerProducer(established.application, True)
        established.server.loseConnection()
        established.server.write(b"more")
        assert established.take() == b"more"
        established.server.unregisterProducer()
        assert established.wire.writes

    def test_an_end_without_close_notify_is_connection_lost(self, established):
        """The client's data may be truncated (RFC 8446 section 6.1)."""
        established.server.dataReceived(established.seal(b"then nothing")[:-1])
        established.lose()
        assert established.application.deliveries == []
        (reason,) = established.application.lost
        assert reason.check(ConnectionLost)

    def test_delivers_nothing_after_an_abort_during_a_delivery(self, established):
        """The protocol receives neither the remaining data of this read nor that of later reads."""
        established.application.answer = lambda data: established.server.abortConnection()
        records = [established.seal(bytes([65 + number]) * tls.RECORD) for number in range(12)]
        established.server.dataReceived(b"".join(records))
        delivered = len(established.application.deliveries)
        assert delivered == 1
        assert established.wire.aborted
        established.server.dataReceived(established.seal(b"more"))
        established.server.write(b"more")
        established.lose(ConnectionAborted())
        assert len(established.application.deliveries) == 1
        assert len(established.application.lost) == 1

    def test_releases_openssl_if_the_transport_ends_during_a_delivery(self, ours):
        ours.application.answer = lambda data: ours.lose() if not ours.application.lost else None
        ours.server.dataReceived(ours.seal(b"x"))
        assert len(ours.application.lost) == 1
        assert ours.server.getHandle() is None

    def test_delivers_the_rest_after_lose_connection_during_a_delivery(self, established):
        established.application.answer = lambda data: established.server.loseConnection()
        established.server.dataReceived(established.seal(b"a", b"b"))
        assert established.application.received == b"ab"
        assert len(established.wire.writes) == 1

    def test_releases_the_object_of_openssl_when_the_connection_ends(self, ours):
        ours.lose()
        assert ours.server._ssl is None


class AdoptingTests:
    """Which factories use our protocol."""

    def test_sets_our_protocol_in_a_factory_of_twisted(self, options):
        """Twisted's class stays unchanged."""
        factory = TLSMemoryBIOFactory(options, False, Factory(), Clock())
        tls.adopt_factory(factory)
        assert factory.protocol is tls.TLSProtocol
        assert TLSMemoryBIOFactory.protocol is BufferingTLSTransport

    def test_leaves_other_protocols_and_factories_without_tls_unchanged(self, options):
        factory = TLSMemoryBIOFactory(options, False, Factory(), Clock())
        factory.protocol = TLSMemoryBIOProtocol
        tls.adopt_factory(factory)
        assert factory.protocol is TLSMemoryBIOProtocol
        plain = Factory()
        tls.adopt_factory(plain)
        assert plain.protocol is None

    def test_uses_the_methods_of_a_subclass_of_connection(self, module, options):
        """The fast path would skip an application's own `send`."""
        calls = []

        class Counting(SSL.Connection):
            def send(self, *arguments):
                calls.append(arguments)
                return super().send(*arguments)

        class Creator:
            def getContext(self):
                return options.getContext()

        pair = Pair(module.TLSProtocol, options, SSL.TLS1_3_VERSION)
        pair.server._tlsConnection = Counting(options.getContext(), None)
        pair.server._tlsConnection.set_accept_state()
        pair.establish()
        pair.server.write(b"x")
        assert len(calls) == 1
        assert pair.take() == b"x"


class ContractTests:
    """Private names of Twisted and pyOpenSSL that the module uses."""

    NAMES = {
        "_appSendBuffer",
        "_flushReceiveBIO",
        "_handshakeDone",
        "_tlsShutdownFinished",
        "_ffi",
        "_lib",
        "_from_ssl",
        "_into_ssl",
        "_ssl",
    }

    def test_the_docstring_of_the_module_lists_every_private_name(self):
        for name in self.NAMES:
            assert f"{name}`" in tls.__doc__, name

    def test_private_methods_of_twisted_have_the_expected_parameters(self):
        for name, parameters in (("_flushReceiveBIO", ["self"]), ("_tlsShutdownFinished", ["self", "reason"])):
            method = getattr(TLSMemoryBIOProtocol, name, None)
            assert method is not None, CHANGED + name
            assert list(inspect.signature(method).parameters) == parameters, CHANGED + name

    def test_handshake_done_and_app_send_buffer_have_the_expected_values(self, options):
        """`_handshakeDone` is set by the handshake, `_appSendBuffer` holds writes until then."""
        pair = Pair(TLSMemoryBIOProtocol, options, SSL.TLS1_3_VERSION)
        assert pair.server._handshakeDone is False, CHANGED + "_handshakeDone"
        pair.server.write(b"x")
        assert pair.server._appSendBuffer == [b"x"], CHANGED + "_appSendBuffer"
        pair.server.dataReceived(pair.shake())
        assert pair.server._handshakeDone is True, CHANGED + "_handshakeDone"
        assert pair.server._appSendBuffer == [], CHANGED + "_appSendBuffer"

    def test_twisted_ends_tls_with_tls_shutdown_finished(self):
        for method in (TLSMemoryBIOProtocol._write, TLSMemoryBIOProtocol._flushReceiveBIO):
            assert "self._tlsShutdownFinished(" in inspect.getsource(method), CHANGED + method.__name__

    def test_a_connection_without_a_socket_has_ssl_and_memory_bios(self):
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        for name in ("_ssl", "_into_ssl", "_from_ssl"):
            assert isinstance(getattr(connection, name, None), SSL._ffi.CData), CHANGED + name
        assert isinstance(connection._ssl, SSL._ffi.CData)

    def test_bio_functions_count_write_and_read_the_bytes(self):
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        into = connection._into_ssl
        assert tls._bio_size(into, SSL._ffi.NULL) == 0
        assert tls._bio_write(into, b"abc", 3) == 3
        assert tls._bio_size(into, SSL._ffi.NULL) == 3
        place = SSL._ffi.new("char[]", 10)
        assert tls._bio_read(into, place, 2) == 2
        assert SSL._ffi.string(place) == b"ab"
        assert tls._bio_size(into, SSL._ffi.NULL) == 1

    def test_cffi_has_addresses_of_the_functions_with_the_expected_types(self):
        addresses = tls._find_addresses()
        assert addresses is not None, CHANGED + "addresses"
        assert all(addresses.values())
        assert issubclass(tls.TLSProtocol, tls.PyTLSFastPath) != frames.COMPILED

    @pytest.mark.parametrize("other", [tls._ssl_get_error, len, None])
    def test_finds_no_addresses_if_a_function_is_of_another_kind(self, monkeypatch, other):
        """The server then uses the fast path in Python."""
        monkeypatch.setattr(tls, "_ssl_write", other)
        assert tls._find_addresses() is None

    def test_pyopenssl_methods_call_the_functions_that_the_module_calls(self):
        """Calling OpenSSL directly skips nothing else."""
        for name, function in (("send", "SSL_write"), ("recv", "SSL_read"), ("bio_read", "BIO_read")):
            assert f"_lib.{function}(self._" in inspect.getsource(getattr(SSL.Connection, name)), CHANGED + name
