"""The WebSocket connection: callbacks, close codes, deadlines and flow control, in memory and on a test clock."""

import gc
import struct
import weakref
from http import HTTPStatus

import pytest
from turns import end_turn
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from wsserver.config.settings import Settings
from wsserver.testing import Frame, MemoryServer, build_frame
from wsserver.wire.fastpath import FRAMES_PER_TURN
from wsserver.wire.limits import PIECES_PER_TURN
from wsserver.wire.protocol import ConnectionDeny, ServerProtocol
from wsserver.wire.slowpath import SLOW_FRAME

PINGS_PER_TURN = FRAMES_PER_TURN // SLOW_FRAME


class FragmentingEcho(ServerProtocol):
    """Echo; fragment every third message into frames of 10 bytes."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary, fragmentSize=10 if self.messages_in % 3 == 1 else None)


class Recorder(ServerProtocol):
    """Record every callback, in a list that the test makes; raise in the callbacks that the query names."""

    def onConnect(self, request):
        self.events = self.recorded
        self.record("connect", request.path)
        return super().onConnect(request)

    def onOpen(self):
        self.record("open")

    def onMessage(self, payload, isBinary):
        self.record("message", payload, isBinary)

    def onClose(self, wasClean, code, reason):
        self.record("close", wasClean, code, reason)

    def record(self, *event):
        self.events.append(event)
        if event[0] in (self.request.query or {}):
            raise RuntimeError(f"asked to fail in {event[0]}")


@pytest.fixture
def recorded():
    Recorder.recorded = []
    return Recorder.recorded


@pytest.fixture
def log():
    """Collect the log events of the test."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def serve(settings=None, endpoint=Recorder):
    return MemoryServer(settings or Settings(), endpoints={"/endpoint": endpoint})


def failures(log):
    return [event for event in log if "log_failure" in event]


def close_events(log):
    return [event for event in log if "messages_in" in event]


class CallbackTests:
    """Callbacks that an endpoint gets."""

    def test_calls_on_connect_on_open_on_message_and_on_close_in_order(self, recorded):
        client = serve().connect()
        assert client.open("/endpoint").startswith(b"HTTP/1.1 101 ")
        client.send_text("é")
        client.send_frame(2, b"\x00")
        client.send_close(1000, "done")
        assert recorded == [
            ("connect", "/endpoint"),
            ("open",),
            ("message", "é".encode(), False),
            ("message", b"\x00", True),
            ("close", True, 1000, "done"),
        ]

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_delivers_the_same_messages_however_the_network_splits_the_bytes(self, recorded, size):
        client = serve().connect()
        client.send(client.head("/endpoint") + build_frame(1, b"one") + build_frame(2, b"2" * 200), size)
        assert recorded[2:] == [("message", b"one", False), ("message", b"2" * 200, True)]

    def test_delivers_a_fragmented_message_whole_and_answers_a_ping_within_it(self, recorded):
        """RFC 6455 section 5.4: control frames may come between the fragments of a message."""
        client = serve().connect()
        client.open("/endpoint")
        client.send_frame(1, b"one ", fin=False)
        client.send_frame(9, b"now")
        assert client.frames() == [Frame(10, b"now")]
        client.send_frame(0, b"", fin=False)
        client.send_frame(0, b"two")
        assert recorded[-1] == ("message", b"one two", False)

    def test_drops_a_message_that_arrives_after_the_servers_close_frame(self, recorded):
        server = serve()
        client = server.connect()
        client.open("/endpoint")
        (connection,) = server.service.connections.connections
        connection.close(4000, "enough")
        client.send_text("late")
        client.send_close(4000, "enough")
        assert recorded[2:] == [("close", True, 4000, "enough")]

    def test_reports_a_connection_lost_without_a_close_frame_as_1006(self, recorded, log):
        """The log names neither side as the one that closed it."""
        client = serve().connect()
        client.open("/endpoint")
        client.transport.lose()
        assert recorded[-1][:3] == ("close", False, 1006)
        assert [(event["code"], event["by"]) for event in close_events(log)] == [(1006, "none")]


class FailingEndpointTests:
    """An exception of an endpoint ends its own connection only, and is logged once."""

    def test_answers_500_without_details_if_on_connect_raises(self, recorded, log):
        server = serve()
        client = server.connect()
        assert client.open("/endpoint?connect").startswith(b"HTTP/1.1 500 ")
        assert b"asked to fail" not in client.transport.written
        assert client.transport.write_closed
        assert len(failures(log)) == 1
        assert recorded == [("connect", "/endpoint")]

    @pytest.mark.parametrize("callback", ["open", "message"])
    def test_closes_with_1011_if_on_open_or_on_message_raises(self, recorded, log, callback):
        """The server still accepts other clients."""
        server = serve()
        client = server.connect()
        client.open(f"/endpoint?{callback}")
        client.send_text("hello")
        client.send_text("again")
        assert client.close_frame() == (1011, "the server failed")
        assert len(failures(log)) == 1
        client.send_close(1011)
        assert client.transport.lost
        other = server.connect()
        assert other.open("/echo").startswith(b"HTTP/1.1 101 ")

    def test_logs_an_exception_of_on_close_and_unregisters_the_connection(self, recorded, log):
        server = serve()
        client = server.connect()
        client.open("/endpoint?close")
        client.send_close(1000)
        assert len(failures(log)) == 1
        assert not server.service.connections.connections
        assert not server.service.frontend.sockets

    def test_closes_with_1011_if_another_callback_of_autobahn_raises(self, log):
        """`onPing` is a callback of Autobahn that `ServerProtocol` does not define."""

        class FailingPing(ServerProtocol):
            def onPing(self, payload):
                raise RuntimeError("no pings")

        client = serve(endpoint=FailingPing).connect()
        client.open("/endpoint")
        client.send_frame(9)
        assert client.close_frame() == (1011, "the server failed")
        assert len(failures(log)) == 1


class HandshakeAnswerTests:
    """Return values and exceptions of `onConnect`."""

    def test_connection_deny_refuses_with_its_status_and_its_reason(self, log):
        """The response body has the reason, and the log has one line with both."""

        class Closed(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(403, "closed on Sundays")

        client = serve(endpoint=Closed).connect()
        assert client.open("/endpoint").startswith(b"HTTP/1.1 403 Forbidden")
        assert client.transport.written == b"403 Forbidden\nclosed on Sundays\n"
        lines = [event for event in log if "refused " in event.get("line", "")]
        assert [(event["status"], event["reason"]) for event in lines] == [(403, "closed on Sundays")]

    def test_a_pair_selects_the_subprotocol_and_adds_response_headers(self):
        class WithHeader(ServerProtocol):
            def onConnect(self, request):
                return "chat", {"X-Room": "7"}

        client = serve(endpoint=WithHeader).connect()
        head = client.open("/endpoint", {"Sec-WebSocket-Protocol": "superchat, chat"})
        assert b"\r\nX-Room: 7" in head
        assert b"\r\nSec-WebSocket-Protocol: chat" in head

    def test_a_subprotocol_that_the_client_did_not_offer_is_answered_with_500(self, log):
        class Wrong(ServerProtocol):
            def onConnect(self, request):
                return "chat"

        client = serve(endpoint=Wrong).connect()
        assert client.open("/endpoint").startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1

    def test_none_selects_the_first_configured_subprotocol_of_the_clients_list(self):
        """The client's order counts, not the order of `--subprotocol`."""
        client = MemoryServer(Settings(subprotocol=("chat", "superchat"))).connect()
        head = client.open("/ws", {"Sec-WebSocket-Protocol": "x, superchat, chat"})
        assert b"\r\nSec-WebSocket-Protocol: superchat" in head


class DeferredAnswer(ServerProtocol):
    """Let the test answer the handshake."""

    def onConnect(self, request):
        DeferredAnswer.answer = Deferred()
        return DeferredAnswer.answer

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


class DeferredHandshakeTests:
    """`onConnect` returns a Deferred."""

    def test_frames_sent_with_the_handshake_are_processed_after_the_answer(self):
        """Reading is paused until the Deferred fires."""
        client = serve(endpoint=DeferredAnswer).connect()
        client.send(client.head("/endpoint") + build_frame(1, b"early"))
        assert client.transport.written == b""
        assert client.transport.paused
        DeferredAnswer.answer.callback(None)
        assert not client.transport.paused
        assert client.response().startswith(b"HTTP/1.1 101 ")
        assert client.messages() == ["early"]

    def test_answers_503_if_the_deferred_does_not_fire_within_10_seconds(self):
        """A result that comes later is ignored."""
        server = serve(endpoint=DeferredAnswer)
        client = server.connect()
        client.open("/endpoint")
        server.clock.advance(9.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        response = client.response()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in response
        DeferredAnswer.answer.callback(None)
        assert client.transport.written == b"503 Service Unavailable\nthe server did not decide within 10s\n"
        assert server.service.connections.counters.limits == {"open_timeout": 1}

    def test_a_second_request_is_parsed_as_a_frame_and_closed_with_1002(self):
        """The client sends it while the first request is pending."""
        client = serve(endpoint=DeferredAnswer).connect()
        client.send(client.head("/endpoint"))
        client.send(client.head("/echo"))
        DeferredAnswer.answer.callback(None)
        assert client.response().startswith(b"HTTP/1.1 101 ")
        # "GE" parsed as a frame header: RSV bits set, reserved opcode, not masked.
        assert client.close_frame()[0] == 1002

    def test_unregisters_a_client_that_disconnects_before_the_deferred_fires(self):
        server = serve(endpoint=DeferredAnswer)
        client = server.connect()
        client.open("/endpoint")
        client.transport.lose()
        DeferredAnswer.answer.callback(None)
        assert not server.service.connections.connections
        assert not server.service.frontend.sockets

    def test_answers_500_and_logs_the_failure_if_the_deferred_fails(self, log):
        client = serve(endpoint=DeferredAnswer).connect()
        client.open("/endpoint")
        DeferredAnswer.answer.errback(RuntimeError("no database"))
        assert client.response().startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1

    @pytest.mark.parametrize("failure", [ConnectionDeny(403, "no"), RuntimeError("no database")], ids=["403", "500"])
    def test_reads_again_after_a_refusal(self, failure):
        """Only so does the server notice that the refused client has closed, and free its connection."""
        client = serve(endpoint=DeferredAnswer).connect()
        client.open("/endpoint")
        DeferredAnswer.answer.errback(failure)
        assert not client.transport.paused

    def test_reads_again_after_the_server_has_started_to_stop(self):
        server = serve(endpoint=DeferredAnswer)
        client = server.connect()
        client.open("/endpoint")
        server.service.connections.drain()
        assert client.response().startswith(b"HTTP/1.1 503 ")
        assert not client.transport.paused
        DeferredAnswer.answer.callback(None)
        assert client.transport.written == b"503 Service Unavailable\nthe server is stopping\n"


class CloseCodeTests:
    """Close codes of protocol errors, size limits and closing handshakes (RFC 6455 section 7.4.1)."""

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
    def test_an_invalid_message_closes_with_1002_1007_or_1009(self, recorded, code, data):
        """Neither the invalid message nor a later one is delivered."""
        client = serve(Settings(max_message_size=1000)).connect()
        client.open("/endpoint")
        client.send(data)
        client.send_text("after")
        assert client.close_frame()[0] == code
        assert [event for event in recorded if event[0] == "message"] == []

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
    def test_the_reason_of_1009_names_the_limit_and_its_option(self, recorded, data):
        """The reason omits the number of bytes received so far, which is neither the message's size nor the limit."""
        for size in (0, 1):
            client = serve(Settings(max_message_size=1024)).connect()
            client.open("/endpoint")
            client.send(data, size)
            assert client.close_frame() == (
                1009,
                "the message is over the limit of 1KiB (server option --max-message-size)",
            )

    def test_accepts_a_message_as_large_as_the_limit_whole_or_fragmented(self, recorded):
        client = serve(Settings(max_message_size=1000)).connect()
        client.open("/endpoint")
        client.send_frame(2, b"x" * 1000)
        for n in range(1000):
            client.send_frame(0 if n else 2, b"y", fin=n == 999)
        assert [event[1] for event in recorded[2:]] == [b"x" * 1000, b"y" * 1000]

    def test_the_limit_does_not_apply_to_replies(self):
        """The prefix makes the reply longer than the limit."""
        client = MemoryServer(Settings(max_message_size=1000, reply_prefix="Received: ")).connect()
        client.open("/")
        client.send_text("x" * 1000)
        assert client.messages() == ["Received: " + "x" * 1000]

    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 3999, 4000, 4999])
    def test_answers_a_close_frame_with_the_same_code_and_reason(self, recorded, code):
        client = serve().connect()
        client.open("/endpoint")
        client.send_close(code, "bye")
        assert client.close_frame() == (code, "bye")
        assert client.transport.lost
        assert not client.transport.aborted
        assert recorded[-1] == ("close", True, code, "bye")

    def test_answers_an_empty_close_frame_with_an_empty_one_and_logs_1005(self, recorded, log):
        client = serve().connect()
        client.open("/endpoint")
        client.send_frame(8)
        assert client.close_frame() == (None, "")
        assert [(event["code"], event["by"]) for event in close_events(log)] == [(1005, "peer")]

    @pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
    def test_closes_with_the_given_code_and_at_most_123_bytes_of_the_reason(self, log, code):
        """The reason is cut between characters, a second `close` does nothing, and the connection is not aborted."""
        server = serve(endpoint=DeferredAnswer)
        client = server.connect()
        client.open("/endpoint")
        DeferredAnswer.answer.callback(None)
        client.response()
        (connection,) = server.service.connections.connections
        connection.close(code, "é" * 100)
        # 61 characters are 122 bytes; byte 123 would be half of the next one.
        assert client.close_frame() == (code, "é" * 61)
        connection.close(1000, "twice does nothing")
        client.send_close(code)
        assert client.transport.lost
        assert not client.transport.aborted
        assert [(event["code"], event["by"], event["clean"]) for event in close_events(log)] == [(code, "server", True)]


class ClosedConnectionTests:
    """References and notifications after a connection has ended."""

    HOW = ["the peer drops it", "the peer closes it", "we close it", "the peer is gone"]

    def open(self):
        opened = []

        class Known(ServerProtocol):
            def onOpen(self):
                opened.append(self)

        client = serve(endpoint=Known).connect()
        client.open("/endpoint")
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
    def test_is_closed_fires_with_the_connection(self, how):
        """Each access returns the same Deferred."""
        client, endpoint = self.open()
        fired = []
        endpoint.is_closed.addCallback(fired.append)
        self.end(client, endpoint, how)
        assert fired == [endpoint]
        assert endpoint.is_closed is endpoint.is_closed

    @pytest.mark.parametrize("how", HOW)
    def test_is_closed_has_fired_if_first_accessed_afterwards(self, how):
        client, endpoint = self.open()
        self.end(client, endpoint, how)
        assert endpoint.is_closed.result is endpoint
        assert endpoint.is_closed is endpoint.is_closed

    @pytest.mark.parametrize("how", HOW)
    def test_memory_is_freed_without_the_garbage_collector(self, how):
        """No reference cycle includes the connection."""
        client, endpoint = self.open()
        kept = weakref.ref(endpoint)
        gc.disable()
        try:
            self.end(client, endpoint, how)
            # Twisted's transports do the same.
            client.transport.protocol = None
            del endpoint
            assert kept() is None
        finally:
            gc.enable()


class DeadlineTests:
    """No connection stays open for ever."""

    @pytest.mark.parametrize("code", [0, 99, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
    def test_close_raises_value_error_for_a_code_that_must_not_be_sent(self, code):
        """RFC 6455 section 7.4 either reserves these codes or does not define them."""
        server = serve(endpoint=ServerProtocol)
        server.connect().open("/endpoint")
        (connection,) = server.service.connections.connections
        with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
            connection.close(code)

    def test_aborts_a_client_that_does_not_answer_close_within_close_timeout(self, recorded):
        """The endpoint gets 1006."""
        server = serve(Settings(close_timeout=5))
        client = server.connect()
        client.open("/endpoint")
        (connection,) = server.service.connections.connections
        connection.close()
        server.clock.advance(4.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        assert client.transport.aborted
        assert recorded[-1][:3] == ("close", False, 1006)

    def test_aborts_a_client_that_closes_but_does_not_read_within_close_timeout(self):
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

    def test_a_client_that_answers_pings_stays_connected(self):
        server = serve(Settings(ping_interval=25, ping_timeout=10), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/endpoint")
        for _ in range(5):
            server.clock.advance(25)
            (ping,) = client.frames()
            assert ping.opcode == 9
            client.send_frame(10, ping.payload)
        assert not client.transport.lost

    def test_sends_the_first_ping_after_ping_interval_and_not_before(self):
        server = serve(Settings(ping_interval=25), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/endpoint")
        server.clock.advance(24.9)
        assert client.frames() == []
        server.clock.advance(0.1)
        assert [frame.opcode for frame in client.frames()] == [9]

    def test_closes_with_1011_if_no_pong_arrives_within_ping_timeout(self, recorded, log):
        """The server does not wait for a Close frame of the client, so the endpoint gets 1006."""
        server = serve(Settings(ping_interval=25, ping_timeout=10))
        client = server.connect()
        client.open("/endpoint")
        server.clock.advance(25)
        client.frames()
        server.clock.advance(9.9)
        assert not client.transport.lost
        server.clock.advance(0.2)
        assert client.close_frame() == (1011, "no pong within 10s")
        assert server.service.connections.counters.limits == {"ping_timeout": 1}
        assert client.transport.lost
        assert recorded[-1][:3] == ("close", False, 1006)
        assert [(event["code"], event["by"]) for event in close_events(log)] == [(1011, "server")]

    def test_aborts_a_client_that_neither_answers_pings_nor_reads(self):
        """The server waits for `close_timeout`, because unsent bytes are left."""
        server = serve(Settings(ping_interval=25, ping_timeout=10, close_timeout=5), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/endpoint")
        client.transport.reading = False
        server.clock.advance(25)
        server.clock.advance(10)
        assert not client.transport.lost
        server.clock.advance(5)
        assert client.transport.aborted

    def test_a_message_counts_as_a_pong(self):
        server = serve(Settings(ping_interval=25, ping_timeout=10))
        Recorder.recorded = []
        client = server.connect()
        client.open("/endpoint")
        server.clock.advance(25)
        client.send_text("busy")
        server.clock.advance(24)
        assert not client.transport.lost

    def test_sends_no_pings_if_ping_interval_is_0(self):
        server = serve(Settings(ping_interval=0), endpoint=ServerProtocol)
        client = server.connect()
        client.open("/endpoint")
        server.clock.advance(3600)
        assert client.frames() == []

    def test_no_timer_is_left_60_seconds_after_a_connection_closed(self):
        server = serve(endpoint=ServerProtocol)
        client = server.connect()
        client.open("/endpoint")
        client.send_close(1000)
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []


class FlowControlTests:
    """Output for a client that does not read is bounded, and so is memory for its messages."""

    def test_pauses_reading_while_the_client_does_not_read_the_replies(self):
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

    def test_a_connection_whose_endpoint_registers_a_producer_still_closes(self):
        """The endpoint's producer replaces the connection as the transport's producer."""
        calls = []

        class Producer:
            def pauseProducing(self):
                calls.append("pause")

            def resumeProducing(self):
                calls.append("resume")

        class Pushing(ServerProtocol):
            def onOpen(self):
                self.registerProducer(Producer(), True)

        client = serve(endpoint=Pushing).connect()
        client.open("/endpoint")
        (connection,) = client.transport.protocol.factory.connections
        client.transport.reading = False
        connection.sendMessage(b"x" * 70_000, True)
        assert calls == ["pause"]
        client.transport.read_again()
        assert calls == ["pause", "resume"]
        assert len(client.messages()[0]) == 70_000
        client.send_close(1000)
        assert client.close_frame() == (1000, "")
        assert client.transport.lost

    def test_many_clients_whose_frames_wait_share_the_budget_of_a_turn(self):
        """However many clients flood the server with pings, it continues with some of them in each turn, in order."""
        server = serve()
        clients = [server.connect() for _ in range(PIECES_PER_TURN + 10)]
        for client in clients:
            client.open("/echo")
        for client in clients:
            client.send(build_frame(9, b"x") * 3 * PINGS_PER_TURN)
        answered = [len(client.frames()) for client in clients]
        assert answered == [PINGS_PER_TURN] * len(clients)
        end_turn(server.clock)
        assert [len(client.frames()) > 0 for client in clients] == [True] * PIECES_PER_TURN + [False] * 10
        end_turn(server.clock)
        assert [len(client.frames()) > 0 for client in clients[-10:]] == [True] * 10

    def test_2000_empty_fragments_leave_the_message_buffer_empty(self):
        server = serve(Settings(max_fragments=3000))
        Recorder.recorded = []
        client = server.connect()
        client.open("/endpoint")
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
    def test_a_compressed_frame_counts_as_a_pong_if_it_is_valid_to_its_end(self, payload, alive):
        """As in Autobahn, a frame also counts if its inflated message then turns out to be incomplete."""
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

    def test_closes_every_client_with_1012_and_waits_for_the_answers(self, recorded):
        server = serve()
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            client.open("/endpoint")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        for client in clients:
            assert not stopped
            assert client.close_frame() == (1012, "the server is stopping")
            client.send_close(1012)
        assert stopped
        assert server.clock.getDelayedCalls() == []

    def test_answers_handshakes_with_503_while_stopping(self):
        """One handshake has a Deferred that fires during the shutdown. An idle kept-alive connection is closed."""
        server = serve(endpoint=DeferredAnswer)
        first, idle, kept, deciding = (server.connect() for _ in range(4))
        first.open("/echo")
        kept.send(b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n")
        kept.transport.written.clear()
        deciding.open("/endpoint")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        assert idle.open("/echo").startswith(b"HTTP/1.1 503 ")
        assert kept.transport.lost
        DeferredAnswer.answer.callback(None)
        assert deciding.response().startswith(b"HTTP/1.1 503 ")
        server.clock.advance(5)
        server.clock.advance(2)
        assert stopped

    def test_waits_at_most_5_seconds_for_a_client_that_does_not_answer(self):
        server = serve(endpoint=ServerProtocol)
        server.connect().open("/endpoint")
        stopped = []
        server.service.stopService().addCallback(lambda _: stopped.append(True))
        server.clock.advance(4.9)
        assert not stopped
        server.clock.advance(0.1)
        assert stopped


class CompressionTests:
    """permessage-deflate (RFC 7692)."""

    OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}

    def test_declines_permessage_deflate_by_default(self):
        assert b"Extensions" not in MemoryServer().connect().open("/echo", self.OFFER)

    def test_accepts_an_offer_and_compresses_replies_with_compression_on(self):
        client = MemoryServer(Settings(compression="on", compression_min_size=5)).connect()
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in client.open("/echo", self.OFFER)
        # RFC 7692 section 7.2.3.1: "Hello" compressed.
        client.send_frame(1, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)
        (frame,) = client.frames()
        assert frame.rsv == 4
        assert frame.payload == b"\xf2\x48\xcd\xc9\xc9\x07\x00"

    def test_a_reply_below_compression_min_size_is_not_compressed(self):
        """The frame of an uncompressed reply does not have RSV1 set."""
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
    def test_the_settings_determine_the_parameters_of_the_answer(self, settings, answer):
        client = MemoryServer(Settings(compression="on", **settings)).connect()
        head = client.open("/echo", self.OFFER)
        assert head.endswith(b"\r\nSec-WebSocket-Extensions: permessage-deflate" + answer)

    def test_whole_and_fragmented_messages_share_the_context_of_a_direction(self):
        """With context takeover, each message refers to earlier ones."""
        import zlib

        server = MemoryServer(
            Settings(compression="on", compression_context_takeover="on"), endpoints={"/": FragmentingEcho}
        )
        client = server.connect()
        client.open("/", self.OFFER)
        client_deflater, client_inflater = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        for n in range(6):
            text = b"A sentence that is said again and again, with a number: %d. " % n * 3
            packed = (client_deflater.compress(text) + client_deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            if n % 2:
                client.send_frame(1, packed, rsv=4)
            else:
                client.send_frame(1, packed[:7], rsv=4, fin=False)
                client.send_frame(0, packed[7:])
            frames = client.frames()
            assert [frame.rsv for frame in frames] == [4] + [0] * (len(frames) - 1)
            assert frames[-1].fin
            assert client_inflater.decompress(b"".join(frame.payload for frame in frames) + b"\0\0\xff\xff") == text

    @pytest.mark.parametrize("parameter", ["unknown=1", "client_max_window_bits=99", "server_no_context_takeover=1"])
    def test_declines_an_invalid_offer_and_accepts_the_next_one(self, parameter):
        """Without a next offer the connection opens uncompressed (RFC 7692 section 7)."""
        client = MemoryServer(Settings(compression="on")).connect()
        extensions = f"permessage-deflate; {parameter}, permessage-deflate; server_no_context_takeover"
        head = client.open("/echo", {"Sec-WebSocket-Extensions": extensions})
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover" in head
        other = MemoryServer(Settings(compression="on")).connect()
        head = other.open("/echo", {"Sec-WebSocket-Extensions": f"permessage-deflate; {parameter}"})
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Extensions" not in head

    def test_accepts_an_offer_with_client_max_window_bits_8(self):
        client = MemoryServer(Settings(compression="on")).connect()
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=8"}
        assert b"permessage-deflate" in client.open("/echo", offer)

    def test_a_message_that_inflates_beyond_the_limit_closes_with_1009(self):
        client = MemoryServer(Settings(compression="on", max_message_size=1000)).connect()
        client.open("/echo", self.OFFER)
        import zlib

        compressor = zlib.compressobj(wbits=-15)
        bomb = compressor.compress(b"\0" * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
        client.send_frame(2, bomb[:-4], rsv=4)
        reason = "the message is over the limit of 1000B (server option --max-message-size)"
        assert client.close_frame() == (1009, reason)

    def test_fragments_that_inflate_beyond_the_limit_close_with_the_same_reason(self):
        """Autobahn's state machine inflates fragments."""
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
        """A reason has at most 123 bytes (RFC 6455 section 5.5). No other limit is printed with as many characters."""
        client = MemoryServer(Settings(max_message_size=1024**3 - 1)).connect()
        client.open("/echo")
        client.send(b"\x82\xff" + struct.pack("!Q", 2**62) + b"mask")
        assert client.close_frame()[1].endswith("1073741823B (server option --max-message-size)")

    def test_a_message_that_cannot_be_inflated_closes_with_1007(self):
        client = MemoryServer(Settings(compression="on")).connect()
        client.open("/echo", self.OFFER)
        client.send_frame(1, b"\xff\xff\xff\xff", rsv=4)
        assert client.close_frame()[0] == 1007


class RefusalStatusTests:
    """An endpoint raises `ConnectionDeny`."""

    @pytest.mark.parametrize("status", [99, 101, 200, 302, 499, 600])
    def test_a_status_that_is_not_a_known_error_is_answered_with_500(self, status, log):
        """The log has an error of the endpoint."""

        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(status, "because")

        client = serve(endpoint=Denying).connect()
        assert client.open("/endpoint").startswith(b"HTTP/1.1 500 ")
        assert len(failures(log)) == 1

    def test_refusing_a_client_that_has_disconnected_logs_no_failure(self, log):
        waits = Deferred()

        class Denying(ServerProtocol):
            def onConnect(self, request):
                return waits

        client = serve(endpoint=Denying).connect()
        client.send(client.head("/endpoint"))
        client.transport.lose()
        waits.errback(ConnectionDeny(403, "because"))
        assert failures(log) == []

    def test_a_refusal_without_a_reason_has_a_default_reason(self):
        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(403)

        client = serve(endpoint=Denying).connect()
        client.open("/endpoint")
        assert client.transport.written == b"403 Forbidden\nrefused by the endpoint\n"

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
    def test_the_status_line_has_the_standard_phrase_instead_of_the_reason(self, status):
        """A line end in the reason does not add a header."""

        class Denying(ServerProtocol):
            def onConnect(self, request):
                raise ConnectionDeny(status, "because\r\nSet-Cookie: x")

        client = serve(endpoint=Denying).connect()
        head = client.open("/endpoint")
        assert head.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode())
        assert b"Set-Cookie" not in head


class RequestHeadTests:
    """The parser of request heads."""

    def test_autobahn_never_parses_a_request_head(self, monkeypatch):
        """Autobahn's parser splits Latin-1 at 0x85 and 0x1c-0x1e; `wsserver.wire.http11` parses all heads."""
        from autobahn.websocket import protocol

        monkeypatch.setattr(protocol, "parseHttpHeader", lambda data: pytest.fail("Autobahn parses a head"))
        client = MemoryServer().connect()
        head = client.head("/echo").replace(b"\r\n\r\n", b"\r\nCookie: a=\xc3\x85\r\n\r\n")
        for byte in head:
            client.send(bytes([byte]))
        assert client.response().startswith(b"HTTP/1.1 101 ")
        client.send_text("hello")
        assert client.messages() == ["hello"]
