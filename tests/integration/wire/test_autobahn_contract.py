"""
Tests of the internals of Autobahn that wsserver uses beyond its documentation.

If one of these tests fails after an upgrade of Autobahn, change `wsserver/wire/autobahn.py`.
"""

import ast
import inspect
import re
import textwrap

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import _maybe_tls_reason, encode_truncate
from autobahn.websocket import protocol as autobahn_protocol
from autobahn.websocket.types import ConnectionDeny
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.wire import autobahn as our_autobahn
from wsserver.wire import protocol as our_protocol
from wsserver.wire.fastpath import CLOSED, CLOSING, CONNECTING, OPEN
from wsserver.wire.handshake import Accept
from wsserver.wire.http11 import parse

CHANGED = "Autobahn has changed: "

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def source(function) -> str:
    """Return the source of a function."""
    return textwrap.dedent(inspect.getsource(function))


class NameTests:
    """The names in Autobahn that `wsserver/wire/autobahn.py` uses."""

    def test_the_docstring_of_the_module_lists_every_private_name(self):
        words = our_autobahn.__doc__
        for name in (
            "_batched_timer",
            "_cancelAutoPingTimeoutCall",
            "_dataReceived",
            "_max_message_size_exceeded",
            "_maybe_tls_reason",
            "_perMessageCompress",
            "_sendAutoPing",
        ):
            assert f"`{name}`" in words

    @pytest.mark.parametrize(
        "name",
        [
            "_onOpen",
            "_dataReceived",
            "_connectionMade",
            "succeedHandshake",
            "failHandshake",
            "sendCloseFrame",
            "sendMessage",
            "sendData",
            "dropConnection",
            "onMessageBegin",
            "onMessageFrameData",
            "onMessageFrameEnd",
            "onMessageEnd",
            "onAutoPingTimeout",
            "onOpenHandshakeTimeout",
        ],
    )
    def test_every_method_that_we_call_or_override_exists(self, name):
        assert callable(getattr(WebSocketServerProtocol, name, None)), f"{CHANGED}no method {name}"

    @pytest.mark.parametrize(
        ("method", "parameters"),
        [
            ("onMessageBegin", ["self", "isBinary"]),
            ("onMessageFrameData", ["self", "payload"]),
            ("onMessageFrameEnd", ["self"]),
            ("onMessageEnd", ["self"]),
            ("_onOpen", ["self"]),
            ("sendMessage", ["self", "payload", "isBinary", "fragmentSize", "sync", "doNotCompress"]),
            ("sendCloseFrame", ["self", "code", "reasonUtf8", "isReply"]),
            ("failHandshake", ["self", "reason", "code", "responseHeaders"]),
            ("succeedHandshake", ["self", "res"]),
            ("dropConnection", ["self", "abort"]),
            ("onAutoPingTimeout", ["self"]),
            ("onOpenHandshakeTimeout", ["self"]),
            ("_dataReceived", ["self", "data"]),
            ("_max_message_size_exceeded", ["self", "msg_size", "max_msg_size", "reason"]),
        ],
    )
    def test_every_method_has_the_expected_parameters(self, method, parameters):
        found = list(inspect.signature(getattr(WebSocketServerProtocol, method)).parameters)
        assert found == parameters, f"{CHANGED}{method} takes {found}"

    def test_the_connection_states_have_the_expected_numbers(self):
        for name, number in (("CONNECTING", CONNECTING), ("OPEN", OPEN), ("CLOSED", CLOSED), ("CLOSING", CLOSING)):
            assert getattr(WebSocketServerProtocol, f"STATE_{name}") == number, f"{CHANGED}{name}"

    @pytest.mark.parametrize(
        "name",
        [
            "failedByMe",
            "closedByMe",
            "wasClean",
            "wasNotCleanReason",
            "localCloseCode",
            "localCloseReason",
            "remoteCloseCode",
            "remoteCloseReason",
            "trafficStats",
            "autoPingTimeoutCall",
            "closeHandshakeTimeoutCall",
            "openHandshakeTimeoutCall",
            "data",
            "state",
            "peer",
        ],
    )
    def test_a_new_connection_has_every_attribute_that_we_read(self, name):
        protocol = WebSocketServerProtocol()
        protocol.factory = WebSocketServerFactory(reactor=Clock())
        protocol.makeConnection(StringTransport())
        try:
            assert hasattr(protocol, name), f"{CHANGED}a new connection has no {name}"
        finally:
            protocol.connectionLost(Failure(ConnectionDone()))

    @pytest.mark.parametrize(
        "name",
        [
            "incomingWebSocketMessages",
            "outgoingWebSocketMessages",
            "incomingOctetsAppLevel",
            "outgoingOctetsAppLevel",
        ],
    )
    def test_traffic_stats_has_every_counter_that_we_read(self, name):
        assert hasattr(autobahn_protocol.TrafficStats(), name), f"{CHANGED}no counter {name}"

    def test_our_factory_has_every_option_that_autobahn_copies(self):
        """Autobahn copies these options to each connection; wsserver sets them on the class."""
        factory = our_protocol.ServerFactory(Settings(), Clock())
        missing = [name for name in WebSocketServerProtocol.CONFIG_ATTRS if not hasattr(factory, name)]
        assert not missing, f"{CHANGED}options without a value: {missing}"


class TimerTests:
    """`factory._batched_timer`, which starts Autobahn's timers, and the replacement that wsserver sets."""

    def test_the_factory_of_autobahn_has_a_timer_with_call_later(self):
        timer = WebSocketServerFactory(reactor=Clock())._batched_timer
        assert list(inspect.signature(timer.call_later).parameters)[:2] == ["delay", "func"], CHANGED + "call_later"

    def test_autobahn_calls_only_call_later_with_a_delay_and_a_function(self):
        """Our replacement supports nothing else."""
        calls = 0
        for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("._batched_timer"):
                assert node.attr == "call_later", f"{CHANGED}_batched_timer.{node.attr} is used"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("._batched_timer.call_later"):
                calls += 1
                assert len(node.args) == 2, f"{CHANGED}line {node.lineno}: call_later with more arguments"
                assert not node.keywords, f"{CHANGED}line {node.lineno}: call_later with keywords"
        assert calls >= 3, f"{CHANGED}only {calls} uses of _batched_timer.call_later"

    def test_autobahn_only_cancels_the_calls_that_call_later_returns(self):
        for name in (
            "autoPingTimeoutCall",
            "autoPingPendingCall",
            "openHandshakeTimeoutCall",
            "closeHandshakeTimeoutCall",
        ):
            for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol))):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == f"self.{name}":
                    assert node.attr == "cancel", f"{CHANGED}{name}.{node.attr} is used"

    def test_every_timer_of_an_open_connection_is_one_of_our_deadlines(self):
        """No timer is started on the reactor directly."""
        clock = Clock()
        factory = our_protocol.ServerFactory(Settings(ping_interval=7.0, open_timeout=3.0), clock)
        protocol = our_protocol.bind(our_protocol.ServerProtocol, factory)()
        protocol.makeConnection(StringTransport())
        assert clock.getDelayedCalls() == []
        request = parse(b"GET / HTTP/1.1\r\nHost: a\r\n")
        protocol.begin(request, Accept(key=KEY, offered=(), subprotocol=None, extensions=()), b"")
        held = {delay: len(queue) for delay, queue in factory.deadlines._queues.items()}
        assert held[7.0] == 1, CHANGED + "the interval of pings"
        clock.advance(3.0)
        assert {round(call.getTime()) for call in clock.getDelayedCalls()} == {7}, CHANGED + "a timer besides ours"
        protocol.connectionLost(Failure(ConnectionDone()))
        # The access log counts its lines for a second.
        clock.advance(1.0)
        assert not any(factory.deadlines._queues.values()), CHANGED + "a deadline outlives its connection"


class HandshakeTests:
    """We answer the handshake ourselves; our class sets the attributes that Autobahn would set."""

    def _connection(self):
        clock = Clock()
        factory = our_protocol.ServerFactory(Settings(), clock)
        protocol = our_protocol.bind(our_protocol.ServerProtocol, factory)()
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    @pytest.mark.parametrize(
        "method",
        [
            autobahn_protocol.WebSocketProtocol.__init__,
            autobahn_protocol.WebSocketProtocol._connectionMade,
            WebSocketServerProtocol.succeedHandshake,
        ],
        ids=["__init__", "_connectionMade", "succeedHandshake"],
    )
    def test_our_class_has_every_attribute_that_skipped_methods_set(self, method):
        """We do not call these methods of Autobahn."""
        protocol, _ = self._connection()
        stored = {
            node.attr
            for node in ast.walk(ast.parse(source(method)))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
        }
        # Attributes of clients, and of Autobahn's own tests.
        stored -= {
            "serverConnectionDropTimeoutCall",
            "wasServerConnectionDropTimeout",
            "http_response_data",
            "_transport_details",
        }
        missing = {name for name in stored if not hasattr(protocol, name)}
        assert not missing, CHANGED + str(missing)

    def test_maybe_tls_reason_describes_only_errors_of_tls(self):
        error = SSL.Error([("SSL routines", "ssl_read", "bad record")])
        assert _maybe_tls_reason(error) == "SSL error: bad record (in ssl_read)", CHANGED + "_maybe_tls_reason"
        assert not _maybe_tls_reason(ConnectionDone()), CHANGED + "_maybe_tls_reason"
        assert not _maybe_tls_reason(None), CHANGED + "_maybe_tls_reason"

    def test_connection_lost_cancels_no_further_deadlines(self):
        """We cancel the same deadlines as Autobahn's `_connectionLost`, which is never called."""
        cancelled = re.findall(r"self\.(\w+)\.cancel\(\)", source(autobahn_protocol.WebSocketProtocol._connectionLost))
        assert set(cancelled) == {
            "autoPingPendingCall",
            "autoPingTimeoutCall",
            "openHandshakeTimeoutCall",
            "serverConnectionDropTimeoutCall",
        }, CHANGED + "_connectionLost"

    def test_send_auto_ping_starts_the_timeout_and_cancel_restarts_the_interval(self):
        assert "self.onAutoPingTimeout" in source(autobahn_protocol.WebSocketProtocol._sendAutoPing), CHANGED
        cancel = source(autobahn_protocol.WebSocketProtocol._cancelAutoPingTimeoutCall)
        assert "self._sendAutoPing" in cancel, CHANGED + "_cancelAutoPingTimeoutCall"

    def test_process_data_inflates_only_if_per_message_compress_is_set(self):
        assert "self._perMessageCompress is not None" in source(autobahn_protocol.WebSocketProtocol.processData), (
            CHANGED
        )

    def test_answers_with_the_accept_value_of_the_rfc_and_no_server_header(self):
        """The example of RFC 6455 section 1.3."""
        protocol, transport = self._connection()
        request = parse(b"GET / HTTP/1.1\r\nHost: a\r\n")
        accept = Accept(key=KEY, offered=(), subprotocol=None, extensions=())
        protocol.begin(request, accept, b"")
        answer = transport.value()
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert b"\r\nserver:" not in answer.lower()
        protocol.connectionLost(Failure(ConnectionDone()))


class MessageTests:
    """How Autobahn builds messages from frames."""

    def test_on_message_frame_begin_adds_the_declared_length(self):
        """Therefore a message over the limit is refused before any of its bytes is stored."""
        text = source(autobahn_protocol.WebSocketProtocol.onMessageFrameBegin)
        assert "message_data_total_length += length" in text, CHANGED + "message_data_total_length"

    def test_on_frame_data_limits_the_inflated_size(self):
        assert "max_output_len" in source(autobahn_protocol.WebSocketProtocol.onFrameData), CHANGED + "max_output_len"

    def test_private_callbacks_call_the_methods_that_we_override(self):
        """The private callbacks pass the same arguments, and do nothing else."""
        protocol = object.__new__(WebSocketServerProtocol)
        seen = []
        for name, arguments in (
            ("onMessageBegin", (True,)),
            ("onMessageFrameData", (b"x",)),
            ("onMessageFrameEnd", ()),
            ("onMessageEnd", ()),
        ):
            setattr(protocol, name, lambda *got, name=name: seen.append((name, got)))
            getattr(protocol, f"_{name}")(*arguments)
        assert seen == [
            ("onMessageBegin", (True,)),
            ("onMessageFrameData", (b"x",)),
            ("onMessageFrameEnd", ()),
            ("onMessageEnd", ()),
        ], CHANGED + "callbacks"

    def test_encode_truncate_cuts_to_bytes_at_a_character_boundary(self):
        assert encode_truncate("é" * 100, 123) == "é".encode() * 61

    def test_connection_deny_keeps_code_and_reason(self):
        denial = ConnectionDeny(403, "no")
        assert (denial.code, denial.reason) == (403, "no")

    def test_our_silent_log_has_every_method_that_autobahn_calls(self):
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol)))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "self.log"
        }
        missing = [name for name in called if not hasattr(our_autobahn._Silence(), name)]
        assert not missing, f"{CHANGED}self.log.{missing}"
