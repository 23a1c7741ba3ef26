"""Endpoints of an application: what they may do, and what happens when they fail."""

import pytest
from peers import BINARY, CLOSE, TEXT, close_payload, frame, handshake_request
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from waiting import wait_until

from wsserver.wire.protocol import ConnectionDeny, ServerProtocol


class MistakeError(Exception):
    """The exception that the endpoints of these tests raise."""


class FailsInOnConnect(ServerProtocol):
    def onConnect(self, request):
        raise MistakeError("in onConnect with a secret")


class FailsInOnConnectLater(ServerProtocol):
    def onConnect(self, request):
        return deferLater(reactor, 0.01, self._fail)

    def _fail(self):
        raise MistakeError("in onConnect with a secret")


class FailsInOnOpen(ServerProtocol):
    def onOpen(self):
        raise MistakeError("in onOpen with a secret")


class FailsInOnMessage(ServerProtocol):
    def onMessage(self, payload, isBinary):
        raise MistakeError("in onMessage with a secret")


class FailsInOnClose(ServerProtocol):
    def onClose(self, wasClean, code, reason):
        raise MistakeError("in onClose with a secret")


class AnswersTwice(ServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)
        self.sendMessage(payload, isBinary)
        raise MistakeError("after the answer")


class Denies(ServerProtocol):
    def onConnect(self, request):
        raise ConnectionDeny(403, "not you,\r\nX-Evil: 1")


class Decides(ServerProtocol):
    """An endpoint that accepts the connection once the test fires the Deferred in `waiting`."""

    waiting = []

    def onConnect(self, request):
        decision = Deferred()
        self.waiting.append(decision)
        return decision

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


class Chooses(ServerProtocol):
    def onConnect(self, request):
        return "chosen", {"X-Answer": "42"}

    def onOpen(self):
        self.sendMessage(b"welcome")


class ClosesWithWords(ServerProtocol):
    def onMessage(self, payload, isBinary):
        code, _, reason = payload.decode().partition(" ")
        self.close(int(code), reason)
        self.close(4999, "once more")


ENDPOINTS = {
    "/onconnect": FailsInOnConnect,
    "/onconnect-later": FailsInOnConnectLater,
    "/onopen": FailsInOnOpen,
    "/onmessage": FailsInOnMessage,
    "/onclose": FailsInOnClose,
    "/twice": AnswersTwice,
    "/denies": Denies,
    "/decides": Decides,
    "/chooses": Chooses,
    "/closes": ClosesWithWords,
}


@pytest.fixture
def failing_server(start_server):
    """Return a function that starts a server with all endpoints of this module."""
    Decides.waiting.clear()

    def start(**settings):
        return start_server(endpoints=ENDPOINTS, **settings)

    return start


def the_one_traceback(log) -> str:
    """Return the only traceback that was logged."""
    wait_until(lambda: any(event.get("log_failure") for event in log.events), "a traceback in the log")
    [failure] = log.take_failures(MistakeError)
    return failure.getTraceback()


class FailingTests:
    """An exception in an endpoint ends its own connection only."""

    @pytest.mark.parametrize("path", ["/onconnect", "/onconnect-later"])
    def test_a_failure_in_on_connect_is_500_without_details(self, failing_server, log, path):
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request(path))
            response = peer.read_response()
            assert (response.status, response.phrase) == (500, "Internal Server Error")
            assert "secret" not in response.text
            assert "MistakeError" not in response.text
            assert peer.read_to_end() == b""
        assert "in onConnect with a secret" in the_one_traceback(log)
        assert server.serves_the_next()

    def test_a_failure_in_on_open_closes_with_1011_without_details(self, failing_server, log):
        server = failing_server()
        with server.open("/onopen") as peer:
            close = peer.read_close()
            assert close.close_code == 1011
            assert "secret" not in close.close_reason
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""
        assert "in onOpen with a secret" in the_one_traceback(log)
        assert server.serves_the_next()

    def test_a_failure_in_on_message_closes_with_1011_and_skips_later_messages(self, failing_server, log):
        """Other connections are not affected."""
        server = failing_server()
        with server.open() as other, server.open("/onmessage") as peer:
            peer.send(frame(TEXT, b"first") + frame(TEXT, b"second") + frame(BINARY, b"third"))
            close = peer.read_close()
            assert close.close_code == 1011
            assert "secret" not in close.close_reason
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""
            assert other.echoes()
        assert "in onMessage with a secret" in the_one_traceback(log)
        assert server.serves_the_next()

    def test_a_failure_in_on_close_is_logged_and_leaves_the_close_code(self, failing_server, log):
        """The closing handshake is complete before onClose is called."""
        server = failing_server()
        with server.open("/onclose") as peer:
            peer.send_frame(CLOSE, close_payload(3001))
            assert peer.read_close().close_code == 3001
            assert peer.read_to_end() == b""
        assert "in onClose with a secret" in the_one_traceback(log)
        wait_until(lambda: not server.count_sockets(), "the connection closed")
        assert server.serves_the_next()

    def test_a_failure_in_on_close_after_a_reset_leaves_no_connection(self, failing_server, log):
        server = failing_server()
        with server.open("/onclose") as peer:
            peer.reset()
        assert "in onClose with a secret" in the_one_traceback(log)
        wait_until(lambda: not server.count_sockets() and not server.count_connections(), "the connection closed")

    def test_messages_sent_before_the_failure_arrive_and_then_1011(self, failing_server, log):
        server = failing_server()
        with server.open("/twice") as peer:
            peer.send_frame(TEXT, b"hello")
            assert [peer.read_message(), peer.read_message()] == ["hello", "hello"]
            assert peer.read_close().close_code == 1011
            peer.send_frame(CLOSE, close_payload(1011))
            assert peer.read_to_end() == b""
        the_one_traceback(log)

    def test_the_access_log_has_code_1011_by_the_server(self, failing_server, log):
        server = failing_server()
        with server.open("/onmessage") as peer:
            peer.send_frame(TEXT, b"first")
            peer.send_frame(CLOSE, peer.read_close().payload)
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_connections(), "the connection closed")
        assert any("code=1011 by=server clean=True" in line for line in log.lines("wsserver.connection"))
        the_one_traceback(log)


class DecidingTests:
    """onConnect decides whether and how to accept a connection."""

    def test_a_connection_deny_becomes_a_response_with_its_code_and_reason(self, failing_server):
        """A line feed in the reason cannot add a header."""
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request("/denies"))
            response = peer.read_response()
            assert (response.status, response.phrase, response.header("x-evil")) == (403, "Forbidden", None)
            assert "not you," in response.text
            assert peer.read_to_end() == b""

    def test_on_connect_may_choose_a_subprotocol_and_headers_and_on_open_may_send(self, failing_server):
        server = failing_server()
        with server.connect() as peer:
            answer = peer.handshake("/chooses", "Sec-WebSocket-Protocol: other, chosen")
            assert answer.header("sec-websocket-protocol") == "chosen"
            assert answer.header("x-answer") == "42"
            assert peer.read_message() == "welcome"

    def test_frames_that_arrive_before_a_late_decision_are_delivered_once(self, failing_server):
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request("/decides") + frame(TEXT, b"one"))
            wait_until(lambda: Decides.waiting, "onConnect called")
            peer.send(frame(TEXT, b"two"))
            peer.send(frame(TEXT, b"three"))
            server.ask(lambda: Decides.waiting[0].callback(None))
            assert peer.read_response().status == 101
            assert [peer.read_message() for _ in range(3)] == ["one", "two", "three"]
        assert len(Decides.waiting) == 1

    def test_no_decision_within_open_timeout_is_503_and_a_late_one_is_ignored(self, failing_server):
        server = failing_server(open_timeout=0.2)
        with server.connect() as peer:
            peer.send(handshake_request("/decides"))
            assert peer.read_response().status == 503
            assert peer.read_to_end() == b""
        wait_until(lambda: not server.count_sockets(), "the connection closed")
        server.ask(lambda: Decides.waiting[0].callback(None))
        assert server.serves_the_next()

    def test_a_decision_after_the_client_disconnected_leaves_no_connection(self, failing_server):
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request("/decides"))
            wait_until(lambda: Decides.waiting, "onConnect called")
            peer.reset()
        server.ask(lambda: Decides.waiting[0].callback(None))
        wait_until(lambda: not server.count_sockets() and not server.count_connections(), "the connection closed")
        assert server.serves_the_next()

    def test_a_pending_decision_does_not_delay_the_stop_of_the_server(self, failing_server):
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request("/decides"))
            wait_until(lambda: Decides.waiting, "onConnect called")
            server.begin_to_stop()
            assert peer.read_response().status == 503
        wait_until(lambda: not server.count_sockets(), "the connection closed")

    def test_a_pipelined_second_handshake_closes_with_1002(self, failing_server):
        """After the first handshake the server reads frames only."""
        server = failing_server()
        with server.connect() as peer:
            peer.send(handshake_request("/decides"))
            wait_until(lambda: Decides.waiting, "onConnect called")
            peer.send(handshake_request("/decides"))
            server.ask(lambda: Decides.waiting[0].callback(None))
            assert peer.read_response().status == 101
            assert peer.read_close().close_code == 1002
        assert len(Decides.waiting) == 1


class ClosingTests:
    """Endpoints that call `close`."""

    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4999])
    def test_closes_with_any_valid_code_and_ignores_a_second_close(self, failing_server, code):
        server = failing_server()
        with server.open("/closes") as peer:
            peer.send_frame(TEXT, f"{code} because".encode())
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (code, "because")
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""

    def test_a_reason_over_123_bytes_is_cut_between_characters(self, failing_server):
        server = failing_server()
        with server.open("/closes") as peer:
            peer.send_frame(TEXT, f"4000 {'é' * 100}".encode())
            assert peer.read_close().close_reason == "é" * 61
