"""
Tests for wsserver/wire/tls.py: the short way, and where it hands back to Twisted's own code.

What a peer can see and what a protocol is told is asked of Twisted's class as well: it is the same.
"""

import datetime
import inspect
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.wire import tls

CHANGED = "Twisted or pyOpenSSL has changed: "
VERSIONS = {"TLS 1.2": SSL.TLS1_2_VERSION, "TLS 1.3": SSL.TLS1_3_VERSION}


@implementer(IPushProducer)
class Application(Protocol):
    """Notes what it is told, and answers as the test wants."""

    def __init__(self):
        self.told, self.lost, self.paused = [], [], []
        self.answer = lambda data: None

    @property
    def received(self):
        return b"".join(self.told)

    def dataReceived(self, data):
        assert not self.lost, "data after the end"
        self.told.append(data)
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
    """What is written is collected write by write; the end comes when the test says so."""

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
    """Make a certificate, and Twisted's options with it."""
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
    """A server's TLS over a wire, and a client of pyOpenSSL driven by hand."""

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
        """Take what the client has to send."""
        try:
            return self.client.bio_read(2**24)
        except SSL.WantReadError:
            return b""

    def take(self):
        """Let the client take what has come, and return its plaintext."""
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
        """Let the client make a record of each message."""
        for message in messages:
            assert self.client.send(message) == len(message)
        return self.sent()

    def shake(self):
        """Do the handshake, but do not deliver the client's last flight; return it."""
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
        """Let the transport end."""
        self.server.connectionLost(Failure(reason or ConnectionDone()))


@pytest.fixture(params=VERSIONS)
def version(request):
    """Run the test with each version of TLS."""
    return VERSIONS[request.param]


@pytest.fixture(params=[tls.TLSProtocol, TLSMemoryBIOProtocol], ids=["ours", "Twisted's"])
def pair(request, options, version):
    """Make both sides, before the handshake."""
    return Pair(request.param, options, version)


@pytest.fixture
def established(pair):
    """Make both sides, after the handshake."""
    return pair.establish()


@pytest.fixture
def ours(options, version):
    """Make both sides with our class, after the handshake."""
    pair = Pair(tls.TLSProtocol, options, version).establish()
    assert pair.server._ssl is not None
    return pair


class ReceivingTests:
    """From ciphertext to the protocol."""

    def test_messages(self, established):
        """What the client sends arrives, record by record."""
        for message in (b"a", b"b" * 100, b"c" * tls.RECORD):
            established.server.dataReceived(established.seal(message))
        assert established.application.received == b"a" + b"b" * 100 + b"c" * tls.RECORD

    def test_several_records_in_one_read(self, ours):
        """Records that came together are delivered together, so that what is answered can leave together."""
        ours.server.dataReceived(ours.seal(*(b"%d," % number for number in range(50))))
        assert ours.application.told == [b"".join(b"%d," % number for number in range(50))]

    def test_byte_by_byte(self, established):
        """A record may come in any pieces."""
        for byte in established.seal(b"one", b"two"):
            established.server.dataReceived(bytes([byte]))
        assert established.application.told == [b"one", b"two"]

    @pytest.mark.parametrize("seed", range(10))
    def test_any_pieces(self, established, seed):
        """Half-arrived records, whole ones, and many at once."""
        chance = random.Random(seed)
        messages = [chance.randbytes(chance.choice([1, 64, 1000, tls.RECORD])) for _ in range(60)]
        data = established.seal(*messages)
        while data:
            size = chance.choice([1, 5, 6, 300, tls.RECORD, tls.PIECE, 3 * tls.PIECE])
            established.server.dataReceived(data[:size])
            data = data[size:]
        assert established.application.received == b"".join(messages)

    def test_large(self, established):
        """A megabyte and more in one read."""
        message = random.Random(1).randbytes(1_500_000)
        data = b"".join(established.seal(message[at : at + tls.RECORD]) for at in range(0, len(message), tls.RECORD))
        established.server.dataReceived(data)
        assert established.application.received == message

    def test_data_with_the_last_flight(self, pair):
        """Data that arrives with the end of the handshake is delivered, and what follows too."""
        last = pair.shake()
        pair.server.dataReceived(last + pair.seal(b"early"))
        pair.server.dataReceived(pair.seal(b"later"))
        assert pair.application.received == b"earlylater"
        pair.server.write(b"answer")
        assert pair.take() == b"answer"

    def test_the_answer_to_a_record_leaves_in_one_write(self, ours):
        """An answer is one write to the transport, in the same turn."""
        ours.application.answer = ours.server.write
        ours.server.dataReceived(ours.seal(b"echo"))
        assert len(ours.wire.writes) == 1
        assert ours.take() == b"echo"

    @pytest.mark.parametrize("together", [False, True])
    def test_a_record_that_is_not_genuine(self, established, together):
        """A forged record ends the connection with OpenSSL's error; what came before it is delivered."""
        established.application.answer = established.server.write
        good, bad = established.seal(b"good"), bytearray(established.seal(b"bad"))
        bad[-1] ^= 1
        for data in [good + bytes(bad)] if together else [good, bytes(bad)]:
            established.server.dataReceived(data)
        assert established.application.told == [b"good"]
        assert established.wire.disconnecting
        established.client.bio_write(b"".join(established.wire.writes))
        # No answer can follow the alert: ours drops the one to what came together with the forged record.
        if not together:
            assert established.client.recv(100) == b"good"
        established.server.dataReceived(bytes(bad))
        established.server.write(b"more")
        established.lose()
        assert established.application.told == [b"good"]
        (reason,) = established.application.lost
        assert reason.check(SSL.Error), reason
        assert "bad record mac" in str(reason.value)

    def test_an_error_does_not_spread(self, options):
        """OpenSSL keeps errors by thread: that of one connection is not taken for another's."""
        pairs = [Pair(tls.TLSProtocol, options, SSL.TLS1_3_VERSION).establish() for _ in range(2)]
        half = pairs[1].seal(b"half")

        def answer(data):
            pairs[1].server.dataReceived(half[:10])
            pairs[1].server.write(b"fine")

        pairs[0].application.answer = answer
        pairs[0].server.dataReceived(pairs[0].seal(b"x") + b"\x17\x03\x03\x00\x20" + bytes(32))
        assert pairs[0].wire.disconnecting
        pairs[1].server.dataReceived(half[10:])
        assert pairs[1].application.told == [b"half"]
        assert pairs[1].take() == b"fine"

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\0" * 100])
    def test_a_plaintext_client(self, pair, garbage):
        """What is no handshake ends the connection, and nothing is delivered."""
        pair.server.dataReceived(garbage)
        pair.lose()
        assert pair.application.told == []
        assert len(pair.application.lost) == 1

    def test_plaintext_after_the_handshake(self, established):
        """So does what is no record."""
        established.server.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        assert established.wire.disconnecting
        established.lose()
        assert established.application.told == []
        assert len(established.application.lost) == 1

    def test_a_renegotiation_the_client_asks_for(self, options):
        """It is refused by an alert, which leaves without anything else being written (RFC 5746 section 4.5)."""
        pair = Pair(tls.TLSProtocol, options, SSL.TLS1_2_VERSION).establish()
        pair.client.renegotiate()
        with pytest.raises(SSL.WantReadError):
            pair.client.do_handshake()
        pair.server.dataReceived(pair.sent())
        assert pair.wire.writes
        assert pair.wire.writes[0][0] == 21


class SendingTests:
    """From the protocol to ciphertext."""

    def test_small_writes_keep_their_order(self, ours):
        """Each leaves at once."""
        for number in range(300):
            ours.server.write(b"%d," % number)
            assert len(ours.wire.writes) == number + 1
        assert ours.take() == b"".join(b"%d," % number for number in range(300))

    @pytest.mark.parametrize("size", [0, 1, tls.RECORD - 1, tls.RECORD, tls.RECORD + 1, tls.PIECE, 1_500_000])
    def test_sizes(self, established, size):
        """Any size arrives whole."""
        message = random.Random(size).randbytes(size)
        established.server.write(message)
        established.server.writeSequence([b"a", b"b"])
        assert established.take() == message + b"ab"

    def test_a_large_one_leaves_in_one_write(self, ours):
        """Not in one for each record: nobody who is paused by it can come between."""
        ours.server.write(bytes(20 * tls.RECORD))
        assert len(ours.wire.writes) == 1

    def test_before_the_handshake(self, pair):
        """What is written before the handshake is done waits for it."""
        pair.server.write(b"first,")
        last = pair.shake()
        pair.server.write(b"second,")
        if last:
            pair.server.dataReceived(last)
        pair.server.write(b"third")
        assert pair.take() == b"first,second,third"

    @pytest.mark.parametrize("data", ["text", 7, None])
    @pytest.mark.parametrize("done", [False, True])
    def test_not_bytes(self, options, data, done):
        """Only bytes can be written."""
        pair = Pair(tls.TLSProtocol, options, SSL.TLS1_3_VERSION)
        if done:
            pair.establish()
        with pytest.raises(TypeError):
            pair.server.write(data)

    def test_openssl_refuses(self, ours, monkeypatch):
        """Where OpenSSL takes nothing, Twisted's code asks it again, and handles what it says."""
        monkeypatch.setattr(tls, "_ssl_write", lambda *arguments: -1)
        ours.server.write(b"small")
        ours.server.write(b"x" * 100_000)
        assert ours.take() == b"small" + b"x" * 100_000

    def test_openssl_takes_a_part(self, ours, monkeypatch):
        """Where it takes less than it is given (RFC 6066 section 4, RFC 8449), the rest follows."""
        write = tls._ssl_write
        monkeypatch.setattr(tls, "_ssl_write", lambda ssl, data, size: write(ssl, data, min(size, 512)))
        message = random.Random(2).randbytes(100_000)
        ours.server.write(message[:5000])
        ours.server.write(message[5000:])
        assert ours.take() == message

    def test_a_write_that_must_wait(self, ours, monkeypatch):
        """While a write waits for the peer, those after it wait too, and the producer is paused."""
        server = ours.server
        connection = server.getHandle()
        send = connection.send
        server.registerProducer(ours.application, True)

        def refuse(data):
            raise SSL.WantReadError

        connection.send = refuse
        with monkeypatch.context() as refusing:
            refusing.setattr(tls, "_ssl_write", lambda *arguments: -1)
            server.write(b"first,")
        assert ours.application.paused == [True]
        server.write(b"second,")
        assert not ours.wire.writes
        connection.send = send
        server.dataReceived(ours.seal(b"go on"))
        assert ours.application.paused == [True, False]
        assert ours.application.told == [b"go on"]
        server.write(b"third")
        assert ours.take() == b"first,second,third"

    def test_backpressure(self, ours):
        """The transport's pauses reach the protocol, each once; a large write that fills it stays whole."""
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

    def test_aborted_from_within_a_large_write(self, ours):
        """A producer that aborts when it is paused ends the connection; nothing more is written."""
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
    """How a connection ends."""

    def test_close_notify_with_data(self, established):
        """Data that came with the peer's close is delivered and answered; the connection ends, cleanly, once."""
        established.application.answer = established.server.write
        data = established.seal(b"last words")
        established.client.shutdown()
        established.server.dataReceived(data + established.sent())
        assert established.application.told == [b"last words"]
        assert established.wire.disconnecting
        writes = b"".join(established.wire.writes)
        established.client.bio_write(writes)
        assert established.client.recv(100) == b"last words"
        established.lose()
        (reason,) = established.application.lost
        assert reason.check(ConnectionDone)

    def test_we_close(self, established):
        """`loseConnection` sends close_notify; what the peer still sends is delivered; its answer ends it."""
        established.server.loseConnection()
        established.server.loseConnection()
        established.server.write(b"too late")
        established.server.dataReceived(established.seal(b"on its way"))
        assert established.application.told == [b"on its way"]
        established.client.bio_write(b"".join(established.wire.writes))
        with pytest.raises(SSL.ZeroReturnError):
            established.client.recv(100)
        established.client.shutdown()
        established.server.dataReceived(established.sent())
        assert established.wire.disconnecting
        established.lose()
        assert established.application.lost[0].check(ConnectionDone)

    def test_closed_with_a_producer(self, established):
        """While a producer is registered, it may write on after `loseConnection`."""
        established.server.registerProducer(established.application, True)
        established.server.loseConnection()
        established.server.write(b"more")
        assert established.take() == b"more"
        established.server.unregisterProducer()
        assert established.wire.writes

    def test_the_peer_vanishes(self, established):
        """Without close_notify the connection is lost, not done (RFC 8446 section 6.1)."""
        established.server.dataReceived(established.seal(b"then nothing")[:-1])
        established.lose()
        assert established.application.told == []
        (reason,) = established.application.lost
        assert reason.check(ConnectionLost)

    def test_aborted_from_within_a_delivery(self, established):
        """Nothing is delivered after an abort, of the same read or a later one."""
        established.application.answer = lambda data: established.server.abortConnection()
        records = [established.seal(bytes([65 + number]) * tls.RECORD) for number in range(12)]
        established.server.dataReceived(b"".join(records))
        delivered = len(established.application.told)
        assert delivered == 1
        assert established.wire.aborted
        established.server.dataReceived(established.seal(b"more"))
        established.server.write(b"more")
        established.lose(ConnectionAborted())
        assert len(established.application.told) == 1
        assert len(established.application.lost) == 1

    def test_lost_from_within_a_delivery(self, ours):
        """A transport that ends while it delivers: nothing follows, and no harm is done."""
        ours.application.answer = lambda data: ours.lose() if not ours.application.lost else None
        ours.server.dataReceived(ours.seal(b"x"))
        assert len(ours.application.lost) == 1
        assert ours.server.getHandle() is None

    def test_closed_from_within_a_delivery(self, established):
        """Closing while data is delivered lets the rest of it come."""
        established.application.answer = lambda data: established.server.loseConnection()
        established.server.dataReceived(established.seal(b"a", b"b"))
        assert established.application.received == b"ab"
        assert len(established.wire.writes) == 1

    def test_nothing_is_kept(self, ours):
        """The end lets go of OpenSSL's object."""
        ours.lose()
        assert ours.server._ssl is None


class AdoptingTests:
    """Where the class is put in."""

    def test_twisteds_factory(self, options):
        """A factory of Twisted's gets our protocol."""
        factory = TLSMemoryBIOFactory(options, False, Factory(), Clock())
        tls.adopt_factory(factory)
        assert factory.protocol is tls.TLSProtocol
        assert TLSMemoryBIOFactory.protocol is BufferingTLSTransport

    def test_others_stay(self, options):
        """An application's own protocol, and a factory without TLS, stay as they are."""
        factory = TLSMemoryBIOFactory(options, False, Factory(), Clock())
        factory.protocol = TLSMemoryBIOProtocol
        tls.adopt_factory(factory)
        assert factory.protocol is TLSMemoryBIOProtocol
        plain = Factory()
        tls.adopt_factory(plain)
        assert plain.protocol is None

    def test_an_applications_own_connection(self, options):
        """A connection that is not pyOpenSSL's own is served by its methods alone."""
        calls = []

        class Counting(SSL.Connection):
            def send(self, *arguments):
                calls.append(arguments)
                return super().send(*arguments)

        class Creator:
            def getContext(self):
                return options.getContext()

        pair = Pair(tls.TLSProtocol, options, SSL.TLS1_3_VERSION)
        pair.server._tlsConnection = Counting(options.getContext(), None)
        pair.server._tlsConnection.set_accept_state()
        pair.establish()
        pair.server.write(b"x")
        assert len(calls) == 1
        assert pair.take() == b"x"


class ContractTests:
    """The private names that the module uses."""

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

    def test_the_docstring_lists_them(self):
        """Each is named in the module's docstring."""
        for name in self.NAMES:
            assert f"{name}`" in tls.__doc__, name

    def test_twisteds_methods(self):
        """Twisted's private methods take what they took."""
        for name, parameters in (("_flushReceiveBIO", ["self"]), ("_tlsShutdownFinished", ["self", "reason"])):
            method = getattr(TLSMemoryBIOProtocol, name, None)
            assert method is not None, CHANGED + name
            assert list(inspect.signature(method).parameters) == parameters, CHANGED + name

    def test_twisteds_attributes(self, options):
        """`_handshakeDone` tells that the handshake is done, `_appSendBuffer` holds what waits."""
        pair = Pair(TLSMemoryBIOProtocol, options, SSL.TLS1_3_VERSION)
        assert pair.server._handshakeDone is False, CHANGED + "_handshakeDone"
        pair.server.write(b"x")
        assert pair.server._appSendBuffer == [b"x"], CHANGED + "_appSendBuffer"
        pair.server.dataReceived(pair.shake())
        assert pair.server._handshakeDone is True, CHANGED + "_handshakeDone"
        assert pair.server._appSendBuffer == [], CHANGED + "_appSendBuffer"

    def test_the_end_is_told_by_one_method(self):
        """Whatever ends TLS, `_tlsShutdownFinished` is called."""
        for method in (TLSMemoryBIOProtocol._write, TLSMemoryBIOProtocol._flushReceiveBIO):
            assert "self._tlsShutdownFinished(" in inspect.getsource(method), CHANGED + method.__name__

    def test_pyopenssls_attributes(self):
        """A connection without a socket has its SSL and two memory BIOs."""
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        for name in ("_ssl", "_into_ssl", "_from_ssl"):
            assert isinstance(getattr(connection, name, None), SSL._ffi.CData), CHANGED + name
        assert isinstance(connection._ssl, SSL._ffi.CData)

    def test_openssls_functions(self):
        """The functions do what we take them to do with a memory BIO."""
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        into = connection._into_ssl
        assert tls._bio_size(into, SSL._ffi.NULL) == 0
        assert tls._bio_write(into, b"abc", 3) == 3
        assert tls._bio_size(into, SSL._ffi.NULL) == 3
        place = SSL._ffi.new("char[]", 10)
        assert tls._bio_read(into, place, 2) == 2
        assert SSL._ffi.string(place) == b"ab"
        assert tls._bio_size(into, SSL._ffi.NULL) == 1

    def test_pyopenssl_calls_the_same(self):
        """`send`, `recv`, `bio_read` and `bio_write` are thin: nothing is left out by calling OpenSSL itself."""
        for name, function in (("send", "SSL_write"), ("recv", "SSL_read"), ("bio_read", "BIO_read")):
            assert f"_lib.{function}(self._" in inspect.getsource(getattr(SSL.Connection, name)), CHANGED + name
