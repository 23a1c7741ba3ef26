"""
What wsserver relies on in Autobahn beyond its documentation.

When one of these tests fails after an upgrade of Autobahn, `wsserver/wire/autobahn.py` is the module to look at.
"""

import ast
import inspect
import textwrap

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from autobahn.websocket import protocol as autobahn_protocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.wire import autobahn as our_autobahn
from wsserver.wire import protocol as our_protocol
from wsserver.wire.fastpath import CLOSED, CONNECTING, OPEN
from wsserver.wire.handshake import Accept
from wsserver.wire.http11 import parse

CHANGED = "Autobahn has changed: "

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def source(function) -> str:
    """Return a function's source."""
    return textwrap.dedent(inspect.getsource(function))


class NameTests:
    """The names exist and mean what we take them to mean."""

    def test_the_docstring_names_what_is_tested_here(self):
        """The list of private names in the module is the list of this file."""
        words = our_autobahn.__doc__
        for name in (
            "_batched_timer",
            "_cancelAutoPingTimeoutCall",
            "_connectionLost",
            "_dataReceived",
            "_max_message_size_exceeded",
            "_onClose",
            "_perMessageCompress",
            "_sendAutoPing",
        ):
            assert f"`{name}`" in words

    @pytest.mark.parametrize(
        "name",
        [
            "_onOpen",
            "_onClose",
            "_dataReceived",
            "_connectionMade",
            "_connectionLost",
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
    def test_a_method_that_is_called_or_overridden_exists(self, name):
        """The method is there."""
        assert callable(getattr(WebSocketServerProtocol, name, None)), f"{CHANGED}no method {name}"

    @pytest.mark.parametrize(
        ("method", "parameters"),
        [
            ("onMessageBegin", ["self", "isBinary"]),
            ("onMessageFrameData", ["self", "payload"]),
            ("onMessageFrameEnd", ["self"]),
            ("onMessageEnd", ["self"]),
            ("_onOpen", ["self"]),
            ("_onClose", ["self", "wasClean", "code", "reason"]),
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
    def test_its_parameters_are_the_same(self, method, parameters):
        """The method takes what it took."""
        found = list(inspect.signature(getattr(WebSocketServerProtocol, method)).parameters)
        assert found == parameters, f"{CHANGED}{method} takes {found}"

    def test_the_states(self):
        """The states have their names and their numbers."""
        for name, number in (("CONNECTING", CONNECTING), ("OPEN", OPEN), ("CLOSED", CLOSED), ("CLOSING", 2)):
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
    def test_an_attribute_of_a_connection_exists_from_its_start(self, name):
        """A new connection has the attribute."""
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
    def test_a_counter_of_a_connection_exists(self, name):
        """The counter is there."""
        assert hasattr(autobahn_protocol.TrafficStats(), name), f"{CHANGED}no counter {name}"

    def test_what_bind_copies_are_options_of_the_factory(self):
        """Every option that Autobahn would copy to a connection is an attribute of our factory."""
        factory = our_protocol.ServerFactory(Settings(), Clock())
        missing = [name for name in WebSocketServerProtocol.CONFIG_ATTRS if not hasattr(factory, name)]
        assert not missing, f"{CHANGED}options without a value: {missing}"


class TimerTests:
    """`factory._batched_timer`: what Autobahn's timers run on, and what we put in its place."""

    def test_the_factory_has_it(self):
        """Autobahn's own factory has a `_batched_timer` with `call_later`."""
        timer = WebSocketServerFactory(reactor=Clock())._batched_timer
        assert list(inspect.signature(timer.call_later).parameters)[:2] == ["delay", "func"], CHANGED + "call_later"

    def test_it_is_used_as_ours_can_be(self):
        """Autobahn uses nothing of the timer but `call_later(delay, function)` without more arguments."""
        calls = 0
        for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("._batched_timer"):
                assert node.attr == "call_later", f"{CHANGED}_batched_timer.{node.attr} is used"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("._batched_timer.call_later"):
                calls += 1
                assert len(node.args) == 2, f"{CHANGED}line {node.lineno}: call_later with more arguments"
                assert not node.keywords, f"{CHANGED}line {node.lineno}: call_later with keywords"
        assert calls >= 3, f"{CHANGED}only {calls} uses of _batched_timer.call_later"

    def test_only_cancel_is_asked_of_what_it_returns(self):
        """The calls it returns are only ever cancelled."""
        for name in (
            "autoPingTimeoutCall",
            "autoPingPendingCall",
            "openHandshakeTimeoutCall",
            "closeHandshakeTimeoutCall",
        ):
            for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol))):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == f"self.{name}":
                    assert node.attr == "cancel", f"{CHANGED}{name}.{node.attr} is used"

    def test_the_deadlines_of_an_open_connection_are_all_on_it(self):
        """No timer of a connection goes past our deadlines to the reactor."""
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
        assert not any(factory.deadlines._queues.values()), CHANGED + "a deadline outlives its connection"


class HandshakeTests:
    """We answer the handshake ourselves; what Autobahn would have set up meanwhile is set up on the class."""

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
    def test_all_that_it_sets_is_on_the_class(self, method):
        """What Autobahn sets in these methods, which we do not call, our class has from the start."""
        protocol, _ = self._connection()
        stored = {
            node.attr
            for node in ast.walk(ast.parse(source(method)))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
        }
        # The client's alone, and what is only there for Autobahn's own tests.
        stored -= {
            "serverConnectionDropTimeoutCall",
            "wasServerConnectionDropTimeout",
            "http_response_data",
            "_transport_details",
        }
        missing = {name for name in stored if not hasattr(protocol, name)}
        assert not missing, CHANGED + str(missing)

    def test_on_close_is_called_when_the_connection_is_lost(self):
        """`_onClose` is how we learn of the end."""
        assert "self._onClose(" in source(autobahn_protocol.WebSocketProtocol._connectionLost), CHANGED + "_onClose"

    def test_the_timer_of_pings(self):
        """`_sendAutoPing` sends a ping and waits for its pong; `_cancelAutoPingTimeoutCall` stops the waiting."""
        assert "self.onAutoPingTimeout" in source(autobahn_protocol.WebSocketProtocol._sendAutoPing), CHANGED
        cancel = source(autobahn_protocol.WebSocketProtocol._cancelAutoPingTimeoutCall)
        assert "self._sendAutoPing" in cancel, CHANGED + "_cancelAutoPingTimeoutCall"

    def test_compression_is_read_from_the_same_place(self):
        """`_perMessageCompress` is what Autobahn inflates with, and `None` means that there is none."""
        assert "self._perMessageCompress is not None" in source(autobahn_protocol.WebSocketProtocol.processData), (
            CHANGED
        )

    def test_the_answer(self):
        """The accept value of RFC 6455 section 1.3, and no Server header where the name is empty."""
        protocol, transport = self._connection()
        request = parse(b"GET / HTTP/1.1\r\nHost: a\r\n")
        accept = Accept(key=KEY, offered=(), subprotocol=None, extensions=())
        protocol.begin(request, accept, b"")
        answer = transport.value()
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert b"server" not in answer.lower()
        protocol.connectionLost(Failure(ConnectionDone()))


class MessageTests:
    """How frames become messages."""

    def test_the_limit_is_judged_by_the_frame_head(self):
        """`onMessageFrameBegin` counts what is declared, before any byte of it is kept."""
        text = source(autobahn_protocol.WebSocketProtocol.onMessageFrameBegin)
        assert "message_data_total_length += length" in text, CHANGED + "message_data_total_length"

    def test_inflating_is_bounded_by_the_limit(self):
        """`onFrameData` hands what is left of the limit to the inflater."""
        assert "max_output_len" in source(autobahn_protocol.WebSocketProtocol.onFrameData), CHANGED + "max_output_len"

    def test_callbacks_are_called_through_the_private_names(self):
        """`_onMessageBegin` and the others of Twisted's side call the methods we override, and nothing between."""
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

    def test_a_reason_is_cut_to_bytes(self):
        """`encode_truncate` cuts to bytes and leaves whole characters."""
        assert encode_truncate("é" * 100, 123) == "é".encode() * 61

    def test_a_denial_carries_code_and_reason(self):
        """`ConnectionDeny(code, reason)` keeps both."""
        denial = ConnectionDeny(403, "no")
        assert (denial.code, denial.reason) == (403, "no")

    def test_a_log_needs_no_more_than_our_silence_has(self):
        """Every method that Autobahn calls on its log is there."""
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(inspect.getsource(autobahn_protocol)))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "self.log"
        }
        missing = [name for name in called if not hasattr(our_autobahn._Silence(), name)]
        assert not missing, f"{CHANGED}self.log.{missing}"
