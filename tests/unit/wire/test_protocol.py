"""The WebSocket connection: callbacks, close codes, deadlines, flow control. All in memory, on a clock of our own."""

import gc
import struct
import weakref
from http import HTTPStatus

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from wsserver.config.settings import Settings
from wsserver.testing import Frame, MemoryServer, build_frame
from wsserver.wire.protocol import ConnectionDeny, ServerProtocol


class Pieces(ServerProtocol):
    """Echo; every third message in frames of 10 bytes."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary, fragmentSize=10 if self.messages_in % 3 == 1 else None)


class Diary(ServerProtocol):
    """Write down every callback; fail in the one whose name is in the query."""

    def onConnect(self, request):
        self.events = self.diary
        self.note("connect", request.path)
        return super().onConnect(request)

    def onOpen(self):
        self.note("open")

    def onMessage(self, payload, isBinary):
        self.note("message", payload, isBinary)

    def onClose(self, wasClean, code, reason):
        self.note("close", wasClean, code, reason)

    def note(self, *event):
        self.events.append(event)
        if event[0] in (self.request.query or {}):
            raise RuntimeError(f"asked to fail in {event[0]}")


@pytest.fixture
def diary():
    Diary.diary = []
    return Diary.diary


@pytest.fixture
def log():
    """Collect the events of the log."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def serve(settings=None, endpoint=Diary):
    return MemoryServer(settings or Settings(), endpoints={"/diary": endpoint})


def failures(log):
    return [event for event in log if "log_failure" in event]


def ends(log):
    return [event for event in log if "messages_in" in event]


class CallbackTests:
    """What an endpoint is told."""

    def test_order(self, diary):
        """An endpoint hears of the handshake, the opening, each message and the end, in this order."""
        client = serve().connect()
        assert client.open("/diary").startswith(b"HTTP/1.1 101 ")
        client.send_text("é")
        client.send_frame(2, b"\x00")
        client.send_close(1000, "done")
        assert diary == [
            ("connect", "/diary"),
            ("open",),
            ("message", "é".encode(), False),
            ("message", b"\x00", True),
            ("close", True, 1000, "done"),
        ]

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_any_cut(self, diary, size):
        """It does not matter how the network cuts the bytes."""
        client = serve().connect()
        client.send(client.head("/diary") + build_frame(1, b"one") + build_frame(2, b"2" * 200), size)
        assert diary[2:] == [("message", b"one", False), ("message", b"2" * 200, True)]

    def test_fragments(self, diary):
        """A fragmented message comes whole, with a ping between its fragments answered at once."""
        client = serve().connect()
        client.open("/diary")
        client.send_frame(1, b"one ", fin=False)
        client.send_frame(9, b"now")
        assert client.frames() == [Frame(10, b"now")]
        client.send_frame(0, b"", fin=False)
        client.send_frame(0, b"two")
        assert diary[-1] == ("message", b"one two", False)

    def test_nothing_after_our_close(self, diary):
        """A message that comes after the server's Close frame is not delivered."""
        server = serve()
        client = server.connect()
        client.open("/diary")
        (connection,) = server.service.connections.connections
        connection.close(4000, "enough")
        client.send_text("late")
        client.send_close(4000, "enough")
        assert diary[2:] == [("close", True, 4000, "enough")]

    def test_dropped(self, diary, log):
        """A connection that just ends is 1006, and nobody closed it."""
        client = serve().connect()
        client.open("/diary")
        client.transport.lose()
        assert diary[-1][:3] == ("close", False, 1006)
        assert [(event["code"], event["by"]) for event in ends(log)] == [(1006, "nobody")]


class FailingEndpointTests:
    """What an endpoint raises ends its own connection only, and is logged once."""

    def test_in_on_connect(self, diary, log):
        """Failing in onConnect is 500 without details."""
        server = serve()
        client = server.connect()
        assert client.open("/diary?connect").startswith(b"HTTP/1.1 500 ")
        assert b"asked to fail" not in client.transport.written
        assert client.transport.write_closed
        assert len(failures(log)) == 1
        assert diary == [("connect", "/diary")]

    @pytest.mark.parametrize("callback", ["open", "message"])
    def test_in_an_open_connection(self, diary, log, callback):
        """Failing in onOpen or onMessage closes with 1011; the next client is served."""
        server = serve()
        client = server.connect()
        client.open(f"/diary?{callback}")
        client.send_text("hello")
        client.send_text("again")
        assert client.close_frame() == (1011, "the server failed")
        assert len(failures(log)) == 1
        client.send_close(1011)
        assert client.transport.lost
        other = server.connect()
        assert other.open("/echo").startswith(b"HTTP/1.1 101 ")

    def test_in_on_close(self, diary, log):
        """Failing in onClose is logged, and the connection is forgotten all the same."""
        server = serve()
        client = server.connect()
        client.open("/diary?close")
        client.send_close(1000)
        assert len(failures(log)) == 1
        assert not server.service.connections.connections
        assert not server.service.frontend.sockets

    def test_in_on_ping(self, log):
        """A callback of Autobahn's that we do not know of is guarded too."""

        class FailingPing(ServerProtocol):
            def onPing(self, payload):
                raise RuntimeError("no pings")

        client = serve(endpoint=FailingPing).connect()
        client.open("/diary")
        client.send_frame(9)
        assert client.close_frame() == (1011, "the server failed")
        assert len(failures(log)) == 1


class HandshakeAnswerTests:
    """What `onConnect` may answer."""

    def test_deny(self, log):
        """ConnectionDeny is a refusal with its status and its reason in the body, and one line in the log."""

        class Closed(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(403, "closed on Sundays")

        client = serve(endpoint=Closed).connect()
        assert client.open("/diary").startswith(b"HTTP/1.1 403 Forbidden")
        assert client.transport.written == b"403 Forbidden\nclosed on Sundays\n"
        lines = [event for event in log if "refused " in event.get("line", "")]
        assert [(event["status"], event["reason"]) for event in lines] == [(403, "closed on Sundays")]

    def test_headers(self):
        """A pair adds headers to the response."""

        class WithHeader(ServerProtocol):
            def onConnect(self, request):
                return "chat", {"X-Room": "7"}

        client = serve(endpoint=WithHeader).connect()
        head = client.open("/diary", {"Sec-WebSocket-Protocol": "superchat, chat"})
        assert b"\r\nX-Room: 7" in head
        assert b"\r\nSec-WebSocket-Protocol: chat" in head

    def test_subprotocol_not_offered(self, log):
        """An endpoint that answers with a subprotocol the client did not offer has failed: 500."""

        class Wrong(ServerProtocol):
            def onConnect(self, request):
                return "chat"

        client = serve(endpoint=Wrong).connect()
        assert client.open("/diary").startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1

    def test_default(self):
        """Without an opinion of the endpoint the server's subprotocols count, in the client's order."""
        client = MemoryServer(Settings(subprotocol=("chat", "superchat"))).connect()
        head = client.open("/ws", {"Sec-WebSocket-Protocol": "x, superchat, chat"})
        assert b"\r\nSec-WebSocket-Protocol: superchat" in head


class Patient(ServerProtocol):
    """Answer the handshake when told to."""

    def onConnect(self, request):
        Patient.answer = Deferred()
        return Patient.answer

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


class DeferredHandshakeTests:
    """A handshake that waits for an answer."""

    def test_waits(self):
        """No byte is read meanwhile; frames sent with the handshake come after it."""
        client = serve(endpoint=Patient).connect()
        client.send(client.head("/diary") + build_frame(1, b"early"))
        assert client.transport.written == b""
        assert client.transport.paused
        Patient.answer.callback(None)
        assert not client.transport.paused
        assert client.response().startswith(b"HTTP/1.1 101 ")
        assert client.messages() == ["early"]

    def test_too_late(self):
        """An answer that does not come in time is 503, and one that comes later changes nothing."""
        server = serve(endpoint=Patient)
        client = server.connect()
        client.open("/diary")
        server.clock.advance(9.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        response = client.response()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in response
        Patient.answer.callback(None)
        assert client.transport.written == b"503 Service Unavailable\nthe server did not decide within 10s\n"

    def test_second_request_waits(self):
        """A second request sent meanwhile is not mistaken for another handshake."""
        client = serve(endpoint=Patient).connect()
        client.send(client.head("/diary"))
        client.send(client.head("/echo"))
        Patient.answer.callback(None)
        assert client.response().startswith(b"HTTP/1.1 101 ")
        # "GE" read as a frame: RSV bits, reserved opcode, not masked.
        assert client.close_frame()[0] == 1002

    def test_gone_meanwhile(self):
        """A client that leaves while it waits is forgotten."""
        server = serve(endpoint=Patient)
        client = server.connect()
        client.open("/diary")
        client.transport.lose()
        Patient.answer.callback(None)
        assert not server.service.connections.connections
        assert not server.service.frontend.sockets

    def test_error(self, log):
        """A Deferred that fails is 500."""
        client = serve(endpoint=Patient).connect()
        client.open("/diary")
        Patient.answer.errback(RuntimeError("no database"))
        assert client.response().startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1


class CloseCodeTests:
    """RFC 6455 section 7.4.1: the code says what was wrong."""

    @pytest.mark.parametrize(
        ("code", "data"),
        [
            (1002, build_frame(1, b"x", mask=b"")),
            (1002, build_frame(1, b"x", rsv=4)),
            (1002, build_frame(3)),
            (1002, build_frame(11)),
            (1002, build_frame(9, fin=False)),
            (1002, build_frame(9, b"x" * 126)),
            (1002, build_frame(0, b"x")),
            (1002, build_frame(1, b"x", fin=False) + build_frame(1, b"y")),
            (1002, b"\x81\xfe\x00\x05maskhello"),
            (1002, b"\x81\xff" + struct.pack("!Q", 2**63) + b"mask"),
            (1002, build_frame(8, b"x")),
            (1002, build_frame(8, struct.pack("!H", 1006))),
            (1007, build_frame(1, b"\xff")),
            (1007, build_frame(1, "é".encode()[:1])),
            (1007, build_frame(1, "é".encode()[:1], fin=False) + build_frame(0, b"x")),
            (1007, build_frame(1, b"\xed\xa0\x80")),
            (1007, build_frame(8, b"\x03\xe8\xff")),
            (1009, build_frame(2, b"x" * 1001)),
            (1009, b"\x82\xff" + struct.pack("!Q", 2**62) + b"mask"),
            (1009, build_frame(2, b"x" * 600, fin=False) + build_frame(0, b"x" * 401)),
        ],
    )
    def test_broken_rule(self, diary, code, data):
        """A frame that breaks a rule closes with the code for it; nothing of it or after it is delivered."""
        client = serve(Settings(max_message_size=1000)).connect()
        client.open("/diary")
        client.send(data)
        client.send_text("after")
        assert client.close_frame()[0] == code
        assert [event for event in diary if event[0] == "message"] == []

    @pytest.mark.parametrize(
        "data",
        [
            build_frame(2, b"x" * 1025),
            build_frame(1, b"x" * 5000),
            b"\x82\xff" + struct.pack("!Q", 2**62) + b"mask",
            build_frame(2, b"x" * 600, fin=False) + build_frame(0, b"x" * 425),
            build_frame(2, b"x" * 1025, fin=False),
        ],
    )
    def test_the_reason_of_1009_is_the_limit_and_its_option(self, diary, data):
        """Not how much has come so far, which is neither the message's size nor the limit."""
        for size in (0, 1):
            client = serve(Settings(max_message_size=1024)).connect()
            client.open("/diary")
            client.send(data, size)
            assert client.close_frame() == (
                1009,
                "the message is over the limit of 1KiB (server option --max-message-size)",
            )

    def test_limit_itself_is_fine(self, diary):
        """A message as large as the limit is taken, in one frame or in many."""
        client = serve(Settings(max_message_size=1000)).connect()
        client.open("/diary")
        client.send_frame(2, b"x" * 1000)
        for n in range(1000):
            client.send_frame(0 if n else 2, b"y", fin=n == 999)
        assert [event[1] for event in diary[2:]] == [b"x" * 1000, b"y" * 1000]

    def test_limit_is_for_what_comes_in(self):
        """An answer may be longer than the limit: the prefix does not make a message too big."""
        client = MemoryServer(Settings(max_message_size=1000, reply_prefix="Received: ")).connect()
        client.open("/")
        client.send_text("x" * 1000)
        assert client.messages() == ["Received: " + "x" * 1000]

    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 3999, 4000, 4999])
    def test_echoed(self, diary, code):
        """The peer's code and reason come back to it."""
        client = serve().connect()
        client.open("/diary")
        client.send_close(code, "bye")
        assert client.close_frame() == (code, "bye")
        assert client.transport.lost
        assert not client.transport.aborted
        assert diary[-1] == ("close", True, code, "bye")

    def test_no_code(self, diary, log):
        """A Close frame without a code is answered by one without; the log calls it 1005."""
        client = serve().connect()
        client.open("/diary")
        client.send_frame(8)
        assert client.close_frame() == (None, "")
        assert [(event["code"], event["by"]) for event in ends(log)] == [(1005, "peer")]

    @pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
    def test_ours(self, log, code):
        """The server can close with every code, and does not reset a connection that was closed properly."""
        server = serve(endpoint=Patient)
        client = server.connect()
        client.open("/diary")
        Patient.answer.callback(None)
        client.response()
        (connection,) = server.service.connections.connections
        connection.close(code, "é" * 100)
        # 123 bytes would end within a character.
        assert client.close_frame() == (code, "é" * 61)
        connection.close(1000, "twice does nothing")
        client.send_close(code)
        assert client.transport.lost
        assert not client.transport.aborted
        assert [(event["code"], event["by"], event["clean"]) for event in ends(log)] == [(code, "server", True)]


class EndTests:
    """What is left of a connection that is closed."""

    HOW = ["the peer drops it", "the peer closes it", "we close it", "the peer is gone"]

    def open(self):
        opened = []

        class Known(ServerProtocol):
            def onOpen(self):
                opened.append(self)

        client = serve(endpoint=Known).connect()
        client.open("/diary")
        return client, opened.pop()

    def end(self, client, endpoint, how):
        if how == "we close it":
            endpoint.close(1000)
        if how in ("the peer closes it", "we close it"):
            client.send_close(1000)
        if how == "the peer is gone":
            endpoint.onAutoPingTimeout()
        client.transport.lose()

    @pytest.mark.parametrize("how", HOW)
    def test_is_closed(self, how):
        """`is_closed` fires with the connection, whenever it is asked for."""
        client, endpoint = self.open()
        fired = []
        endpoint.is_closed.addCallback(fired.append)
        self.end(client, endpoint, how)
        assert fired == [endpoint]
        assert endpoint.is_closed is endpoint.is_closed

    @pytest.mark.parametrize("how", HOW)
    def test_is_closed_asked_late(self, how):
        """It has fired where it is asked for only afterwards."""
        client, endpoint = self.open()
        self.end(client, endpoint, how)
        assert endpoint.is_closed.result is endpoint
        assert endpoint.is_closed is endpoint.is_closed

    @pytest.mark.parametrize("how", HOW)
    def test_memory(self, how):
        """Its memory is free at once: there is nothing for the garbage collector to find."""
        client, endpoint = self.open()
        kept = weakref.ref(endpoint)
        gc.disable()
        try:
            self.end(client, endpoint, how)
            # As Twisted's transports do.
            client.transport.protocol = None
            del endpoint
            assert kept() is None
        finally:
            gc.enable()


class DeadlineTests:
    """Nothing stays open for ever."""

    @pytest.mark.parametrize("code", [0, 99, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
    def test_no_such_code(self, code):
        """An endpoint cannot close with a code that must not be sent in a Close frame."""
        server = serve(endpoint=ServerProtocol)
        server.connect().open("/diary")
        (connection,) = server.service.connections.connections
        with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
            connection.close(code)

    def test_no_answer_to_close(self, diary):
        """A peer that does not answer a Close frame is dropped after the closing deadline."""
        server = serve(Settings(close_timeout=5))
        client = server.connect()
        client.open("/diary")
        (connection,) = server.service.connections.connections
        connection.close()
        server.clock.advance(4.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        assert client.transport.aborted
        assert diary[-1][:3] == ("close", False, 1006)

    def test_close_and_stop_reading(self):
        """A peer that sends Close and does not read what is left is dropped after the closing deadline."""
        server = serve(Settings(close_timeout=5), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/echo")
        client.transport.reading = False
        client.send_frame(2, b"x" * 1000)
        client.send_close(1000)
        server.clock.advance(4.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        assert client.transport.aborted

    def test_pong_in_time(self):
        """A peer that answers pings stays."""
        server = serve(Settings(ping_interval=25, ping_timeout=10), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/diary")
        for _ in range(5):
            server.clock.advance(25)
            (ping,) = client.frames()
            assert ping.opcode == 9
            client.send_frame(10, ping.payload)
        assert not client.transport.lost

    def test_pings_come_on_time(self):
        """A ping is sent after the interval, not before it."""
        server = serve(Settings(ping_interval=25), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/diary")
        server.clock.advance(24.9)
        assert client.frames() == []
        server.clock.advance(0.1)
        assert [frame.opcode for frame in client.frames()] == [9]

    def test_no_pong(self, diary, log):
        """A peer that does not answer is told 1011 and dropped at once."""
        server = serve(Settings(ping_interval=25, ping_timeout=10))
        client = server.connect()
        client.open("/diary")
        server.clock.advance(25)
        client.frames()
        server.clock.advance(9.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        assert client.close_frame() == (1011, "no pong within 10s")
        assert client.transport.lost
        assert diary[-1][:3] == ("close", False, 1006)
        assert [(event["code"], event["by"]) for event in ends(log)] == [(1011, "server")]

    def test_no_pong_and_not_reading(self):
        """A dead peer with unsent bytes is dropped by force."""
        server = serve(Settings(ping_interval=25, ping_timeout=10, close_timeout=5), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/diary")
        client.transport.reading = False
        server.clock.advance(25)
        server.clock.advance(10)
        assert not client.transport.lost
        server.clock.advance(5)
        assert client.transport.aborted

    def test_traffic_counts_as_life(self):
        """A message that comes instead of the pong is an answer."""
        server = serve(Settings(ping_interval=25, ping_timeout=10))
        Diary.diary = []
        client = server.connect()
        client.open("/diary")
        server.clock.advance(25)
        client.send_text("busy")
        server.clock.advance(24)
        assert not client.transport.lost

    def test_no_pings(self):
        """With an interval of 0 nothing is sent."""
        server = serve(Settings(ping_interval=0), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/diary")
        server.clock.advance(3600)
        assert client.frames() == []

    def test_nothing_left(self):
        """A connection leaves no timer behind."""
        server = serve(endpoint=ServerProtocol)
        client = server.connect()
        client.open("/diary")
        client.send_close(1000)
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []


class FlowControlTests:
    """What is written to a peer that does not read is bounded."""

    def test_echo_to_a_peer_that_does_not_read(self):
        """The server stops reading from a peer that does not read, and goes on when it does."""
        client = serve().connect()
        client.open("/echo")
        client.transport.reading = False
        client.send_frame(2, b"x" * 60000)
        assert not client.transport.paused
        client.send_frame(2, b"x" * 60000)
        assert client.transport.paused
        client.transport.read_again()
        assert not client.transport.paused
        assert [len(message) for message in client.messages()] == [60000, 60000]

    def test_producer_of_an_endpoint(self):
        """An endpoint's own producer takes the place of the connection."""

        class Pushing(ServerProtocol):
            def onOpen(self):
                self.registerProducer(self, True)

        client = serve(endpoint=Pushing).connect()
        client.open("/diary")
        client.send_close(1000)
        assert client.transport.lost

    def test_empty_fragments_weigh_nothing(self):
        """A message of very many empty fragments takes no memory for each."""
        server = serve()
        Diary.diary = []
        client = server.connect()
        client.open("/diary")
        client.send_frame(2, b"", fin=False)
        for _ in range(2000):
            client.send_frame(0, b"", fin=False)
        (connection,) = server.service.connections.connections
        assert len(connection.message_data) == 0
        assert connection.frame_data is None

    @pytest.mark.parametrize(
        ("payload", "alive"),
        [(b"\xff\xff\xff", False), (b"\xca\x48\xcd\xc9\xc9\x07\x00", True), (b"\x00\x05", True)],
        ids=["no DEFLATE data", "a message", "cut off at its end"],
    )
    def test_signs_of_life(self, payload, alive):
        """A frame that is right to its end is as good as the pong that is waited for; any other is not."""
        server = MemoryServer(Settings(compression="on"))
        client = server.connect()
        client.open("/echo", {"Sec-WebSocket-Extensions": "permessage-deflate"})
        server.clock.pump([25])
        (connection,) = server.service.connections.connections
        assert connection.autoPingTimeoutCall is not None
        client.send(build_frame(2, payload, rsv=4))
        assert (connection.autoPingTimeoutCall is None) is alive


class StoppingTests:
    """The service stops."""

    def test_clients_are_told(self, diary):
        """Every client gets 1001, and stopping waits for their answers."""
        server = serve()
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            client.open("/diary")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        for client in clients:
            assert not stopped
            assert client.close_frame() == (1001, "the server is stopping")
            client.send_close(1001)
        assert stopped
        assert server.clock.getDelayedCalls() == []

    def test_nothing_new_is_begun(self):
        """What comes while the server stops is refused with 503, on connections that were there before too."""
        server = serve(endpoint=Patient)
        first, idle, kept, deciding = (server.connect() for _ in range(4))
        first.open("/echo")
        kept.send(b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n")
        kept.transport.written.clear()
        deciding.open("/diary")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        assert idle.open("/echo").startswith(b"HTTP/1.1 503 ")
        assert kept.open("/echo").startswith(b"HTTP/1.1 503 ")
        Patient.answer.callback(None)
        assert deciding.response().startswith(b"HTTP/1.1 503 ")
        server.clock.advance(5)
        server.clock.advance(2)
        assert stopped

    def test_silent_client(self):
        """A client that does not answer holds it up for the closing deadline at most."""
        server = serve(endpoint=ServerProtocol)
        server.connect().open("/diary")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        server.clock.advance(5)
        assert stopped


class CompressionTests:
    """permessage-deflate, RFC 7692."""

    OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}

    def test_off(self):
        """An offer is not agreed to unless the server is told to."""
        assert b"Extensions" not in MemoryServer().connect().open("/echo", self.OFFER)

    def test_on(self):
        """An offer is agreed to, and what is echoed is compressed."""
        client = MemoryServer(Settings(compression="on", compression_min_size=5)).connect()
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in client.open("/echo", self.OFFER)
        # RFC 7692 section 7.2.3.1: "Hello" compressed.
        client.send_frame(1, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)
        (frame,) = client.frames()
        assert frame.rsv == 4
        assert frame.payload == b"\xf2\x48\xcd\xc9\xc9\x07\x00"

    def test_small(self):
        """What is smaller than the least size leaves as it is, and RSV1 says so."""
        client = MemoryServer(Settings(compression="on", compression_min_size=6)).connect()
        client.open("/echo", self.OFFER)
        client.send_frame(1, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)
        assert client.frames() == [Frame(1, b"Hello")]

    @pytest.mark.parametrize(
        ("settings", "answer"),
        [
            ({}, b"; server_no_context_takeover; client_no_context_takeover"),
            ({"compression_context_takeover": "on"}, b""),
            (
                {"compression_context_takeover": "on", "compression_window_bits": 10},
                b"; server_max_window_bits=10; client_max_window_bits=10",
            ),
        ],
    )
    def test_the_answer(self, settings, answer):
        """The settings decide what a browser's offer is answered with."""
        client = MemoryServer(Settings(compression="on", **settings)).connect()
        head = client.open("/echo", self.OFFER)
        assert head.endswith(b"\r\nSec-WebSocket-Extensions: permessage-deflate" + answer)

    def test_pieces_and_wholes(self):
        """Messages in frames and in one go, in and out, refer to each other with context takeover."""
        import zlib

        server = MemoryServer(Settings(compression="on", compression_context_takeover="on"), endpoints={"/": Pieces})
        client = server.connect()
        client.open("/", self.OFFER)
        theirs, ours = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        for n in range(6):
            text = b"A sentence that is said again and again, with a number: %d. " % n * 3
            packed = (theirs.compress(text) + theirs.flush(zlib.Z_SYNC_FLUSH))[:-4]
            if n % 2:
                client.send_frame(1, packed, rsv=4)
            else:
                client.send_frame(1, packed[:7], rsv=4, fin=False)
                client.send_frame(0, packed[7:])
            frames = client.frames()
            assert [frame.rsv for frame in frames] == [4] + [0] * (len(frames) - 1)
            assert frames[-1].fin
            assert ours.decompress(b"".join(frame.payload for frame in frames) + b"\0\0\xff\xff") == text

    @pytest.mark.parametrize("parameter", ["unknown=1", "client_max_window_bits=99", "server_no_context_takeover=1"])
    def test_declined(self, parameter):
        """An offer the RFC does not know is declined, and the handshake goes on; the next offer counts."""
        client = MemoryServer(Settings(compression="on")).connect()
        extensions = f"permessage-deflate; {parameter}, permessage-deflate; server_no_context_takeover"
        head = client.open("/echo", {"Sec-WebSocket-Extensions": extensions})
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover" in head
        other = MemoryServer(Settings(compression="on")).connect()
        head = other.open("/echo", {"Sec-WebSocket-Extensions": f"permessage-deflate; {parameter}"})
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Extensions" not in head

    def test_window_hint_of_8(self):
        """A client that says it uses a window of 8 bits is within its rights."""
        client = MemoryServer(Settings(compression="on")).connect()
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=8"}
        assert b"permessage-deflate" in client.open("/echo", offer)

    def test_bomb(self):
        """Inflating stops at the limit: 1009."""
        client = MemoryServer(Settings(compression="on", max_message_size=1000)).connect()
        client.open("/echo", self.OFFER)
        import zlib

        compressor = zlib.compressobj(wbits=-15)
        bomb = compressor.compress(b"\0" * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
        client.send_frame(2, bomb[:-4], rsv=4)
        reason = "the message is over the limit of 1000B (server option --max-message-size)"
        assert client.close_frame() == (1009, reason)

    def test_a_fragmented_message_over_the_limit_has_the_same_reason(self):
        """Inflated by the state machine, whichever fragment goes over the limit."""
        import zlib

        client = MemoryServer(Settings(compression="on", max_message_size=1000)).connect()
        client.open("/echo", self.OFFER)
        compressor = zlib.compressobj(wbits=-15)
        bomb = compressor.compress(b"\0" * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
        client.send_frame(2, bomb[:100], rsv=4, fin=False)
        client.send_frame(0, bomb[100:-4])
        reason = "the message is over the limit of 1000B (server option --max-message-size)"
        assert client.close_frame() == (1009, reason)

    def test_the_longest_reason_of_1009_fits_into_a_close_frame(self):
        """At most 123 bytes, with the largest limit there is."""
        client = MemoryServer(Settings(max_message_size=1024**3 - 1)).connect()
        client.open("/echo")
        client.send(b"\x82\xff" + struct.pack("!Q", 2**62) + b"mask")
        assert client.close_frame()[1].endswith("1073741823B (server option --max-message-size)")

    def test_corrupt(self):
        """What cannot be inflated is 1007."""
        client = MemoryServer(Settings(compression="on")).connect()
        client.open("/echo", self.OFFER)
        client.send_frame(1, b"\xff\xff\xff\xff", rsv=4)
        assert client.close_frame()[0] == 1007


class RefusalStatusTests:
    """Every status an endpoint may name."""

    @pytest.mark.parametrize("status", [99, 101, 200, 302, 499, 600])
    def test_no_refusal(self, status, log):
        """A status that refuses nothing, or that nobody knows, is the endpoint's failure: 500 at once."""

        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(status, "because")

        client = serve(endpoint=Denying).connect()
        assert client.open("/diary").startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1

    def test_gone_meanwhile(self, log):
        """Whoever has gone before it was refused is no failure."""
        waits = Deferred()

        class Denying(ServerProtocol):
            def onConnect(self, request):
                return waits

        client = serve(endpoint=Denying).connect()
        client.send(client.head("/diary"))
        client.transport.lose()
        waits.errback(ConnectionDeny(403, "because"))
        assert failures(log) == []

    def test_no_reason(self):
        """A refusal without a reason still says something."""

        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(403)

        client = serve(endpoint=Denying).connect()
        client.open("/diary")
        assert client.transport.written == b"403 Forbidden\nrefused by the endpoint\n"

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
    def test_status(self, status):
        """It is answered with its phrase."""

        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(status, "because\r\nSet-Cookie: x")

        client = serve(endpoint=Denying).connect()
        head = client.open("/diary")
        assert head.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode())
        assert b"Set-Cookie" not in head


class HeadTests:
    """Who parses the head of a request."""

    def test_autobahn_never_parses_one(self, monkeypatch):
        """Its parser splits Latin-1 at 0x85 and 0x1c-0x1e; every head is parsed by `wsserver.wire.http11` alone."""
        from autobahn.websocket import protocol

        monkeypatch.setattr(protocol, "parseHttpHeader", lambda data: pytest.fail("Autobahn parses a head"))
        client = MemoryServer().connect()
        head = client.head("/echo").replace(b"\r\n\r\n", b"\r\nCookie: a=\xc3\x85\r\n\r\n")
        for byte in head:
            client.send(bytes([byte]))
        assert client.response().startswith(b"HTTP/1.1 101 ")
        client.send_text("hello")
        assert client.messages() == ["hello"]
