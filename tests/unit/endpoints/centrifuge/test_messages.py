"""Calls (`rpc`) and messages (`send`) of Centrifuge clients: what the backend answers, in memory."""

import json

import pytest
from centrifuge_client import PATH, Client
from hook_answers import URL, answered
from peers import BINARY
from protobuf_messages import decode_replies, encode_commands
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import TEMPORARY, HookDisconnect, HookError, read_answered
from wsserver.testing import MemoryServer


class Backend:
    """Records the calls of the two hooks, and answers them."""

    def __init__(self):
        self.calls = []
        self.answer = answered()

    def rpc(self, caller, method, *, data=None):
        """Record a call."""
        return self._record("rpc", caller, method, data)

    def message(self, caller, *, data=None):
        """Record a message."""
        return self._record("message", caller, data)

    def _record(self, *call):
        self.calls.append(call)
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)


@pytest.fixture
def backend():
    """Return a backend."""
    return Backend()


@pytest.fixture
def server(backend, monkeypatch):
    """Start a server with both hooks, on which clients may subscribe to every channel."""
    server = MemoryServer(Settings(hook_rpc=URL, hook_message=URL, channel_allow=("*",)))
    monkeypatch.setattr(server.service.hooks, "rpc", backend.rpc)
    monkeypatch.setattr(server.service.hooks, "message", backend.message)
    return server


@pytest.fixture
def client(server):
    """Connect a client."""
    return Client(server).connected()


class CallTests:
    """`rpc` with a hook."""

    @pytest.mark.parametrize("data", [{"a": [1, "ü"]}, "text", 42, 0, False, None, []])
    def test_the_backend_receives_the_data_and_the_client_its_answer(self, client, backend, data):
        backend.answer = answered(data=data)
        assert client.request("rpc", method="add", data=data) == {"data": data}
        ((event, caller, method, sent),) = backend.calls
        assert (event, caller.protocol, method) == ("rpc", "json", "add")
        assert json.loads(sent) == data

    def test_a_call_without_a_method_and_data_is_passed_on_as_such(self, client, backend):
        assert client.request("rpc") == {}
        assert backend.calls[0][2:] == ("", None)

    @pytest.mark.parametrize(
        ("b64data", "expected"), [("eyJhIjoxfQ==", {"a": 1}), ("aGVsbG8=", "hello"), ("/wA=", "/wA=")]
    )
    def test_a_json_client_gets_bytes_as_json_as_text_or_as_base64(self, client, backend, b64data, expected):
        backend.answer = answered(b64data=b64data)
        assert client.request("rpc", method="m") == {"data": expected}

    def test_line_feeds_in_the_answer_do_not_end_the_reply(self, client, backend):
        backend.answer = read_answered(b'{"result":{"data":{\n"a":\n1}}}')
        assert client.request("rpc", method="m") == {"data": {"a": 1}}

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (HookError(404, "no such method"), {"code": 404, "message": "no such method"}),
            (TEMPORARY, {"code": 100, "message": "the backend is unavailable", "temporary": True}),
        ],
    )
    def test_an_error_of_the_backend_is_the_error_of_the_call(self, client, backend, answer, expected):
        backend.answer = answer
        assert client.request("rpc", method="m") == expected

    def test_a_disconnect_of_the_backend_closes_the_connection_with_its_code(self, client, backend):
        backend.answer = HookDisconnect(4501, "banned")
        client.send({"id": 2, "rpc": {"method": "m"}})
        assert client.closed() == (4501, "banned")

    def test_without_a_hook_a_call_gets_108_and_a_message_closes_with_3508(self):
        client = Client(MemoryServer()).connected()
        reply = client.request("rpc", method="m", data={})
        assert (reply["code"], "--hook-rpc" in reply["message"]) == (108, True)
        client.send({"send": {"data": 1}})
        code, reason = client.closed()
        assert (code, "--hook-message" in reason) == (3508, True)


class PublishTests:
    """Publications in the backend's answer."""

    def test_they_are_made_in_order_before_the_reply(self, server, client, backend):
        """A subscriber receives them without info: their publisher is the backend, not the client that called."""
        client.request("subscribe", channel="c")
        backend.answer = answered(
            data="done",
            publish=[
                {"channel": "c", "data": {"n": 1}, "tags": {"by": "rpc"}},
                {"channel": "c", "b64data": "aGVsbG8=", "skip_history": True},
                {"channel": "d", "data": None},
            ],
        )
        client.send({"id": 9, "rpc": {"method": "m"}})
        received = client.receive()
        first, second = (one["push"]["pub"] for one in received if "push" in one)
        assert (first, second["data"]) == ({"data": {"n": 1}, "offset": 1, "tags": {"by": "rpc"}}, "hello")
        assert {"id": 9, "rpc": {"data": "done"}} in received
        assert client.request("history", channel="c", limit=9)["offset"] == 1

    def test_one_that_the_broker_does_not_accept_is_a_temporary_error_of_the_call(
        self, server, client, backend, monkeypatch
    ):
        backend.answer = answered(publish=[{"channel": "c", "data": 1}])
        monkeypatch.setattr(server.service.hub.broker, "publish", lambda *_: fail(BrokerDown("Redis is unavailable")))
        assert client.request("rpc", method="m")["code"] == 100
        client.send({"send": {"data": 1}})
        assert client.request("rpc", method="m")["code"] == 100

    def test_an_idempotency_key_prevents_a_second_publication(self, client, backend):
        backend.answer = answered(publish=[{"channel": "c", "data": 1, "idempotency_key": "k"}])
        client.request("subscribe", channel="c")
        for _ in range(2):
            client.request("rpc", method="m")
        assert client.request("history", channel="c", limit=9)["offset"] == 1


class MessageTests:
    """`send` with a hook."""

    def test_the_backend_receives_the_data_and_the_client_no_reply(self, client, backend):
        client.receive()
        client.send({"send": {"data": {"a": 1}}}, {"id": 7, "send": {}})
        assert client.receive() == []
        assert [call[0] for call in backend.calls] == ["message", "message"]
        assert [call[2] for call in backend.calls] == [b'{"a": 1}', None]
        assert client.closed() is None

    def test_data_in_the_answer_reaches_the_client_as_a_message(self, client, backend):
        backend.answer = answered(data={"ok": True}, publish=[{"channel": "c", "data": 1}])
        client.request("subscribe", channel="c")
        client.send({"send": {"data": 1}})
        pushes = [one["push"] for one in client.receive()]
        assert {"message": {"data": {"ok": True}}} in pushes
        assert [one["pub"]["data"] for one in pushes if "pub" in one] == [1]

    @pytest.mark.parametrize("answer", [HookError(403, "no"), TEMPORARY])
    def test_the_client_is_not_told_about_an_error(self, client, backend, answer):
        """A reply without an ID would be a ping for the SDK."""
        backend.answer = answer
        client.receive()
        client.send({"send": {"data": 1}})
        assert client.receive() == []
        assert client.closed() is None

    def test_a_disconnect_of_the_backend_closes_the_connection_with_its_code(self, client, backend):
        backend.answer = HookDisconnect(4000, "slow down")
        client.send({"send": {"data": 1}})
        assert client.closed() == (4000, "slow down")

    def test_before_connect_it_closes_the_connection_and_the_backend_is_not_asked(self, server, backend):
        client = Client(server)
        client.send({"send": {"data": 1}})
        assert client.closed()[0] == 3501
        assert backend.calls == []


class ProtobufTests:
    """Clients that speak Protobuf."""

    @pytest.fixture
    def client(self, server):
        """Connect a client; return a function that sends commands and returns the replies and pushes."""
        client = Client(server, PATH + "?format=protobuf")

        def ask(*commands):
            client.peer.send_frame(BINARY, encode_commands(*commands))
            client.turn()
            return [reply for frame in client.peer.messages() for reply in decode_replies(frame)]

        assert ask({"id": 1, "connect": {}})[0]["connect"]["client"]
        return ask

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (answered(b64data="/wA="), {"data": b"\xff\x00"}),
            (answered(data={"a": 1}), {"data": b'{"a": 1}'}),
            (answered(data=None), {"data": b"null"}),
            (answered(), {}),
        ],
    )
    def test_bytes_reach_the_backend_and_the_client_unchanged(self, client, backend, answer, expected):
        backend.answer = answer
        assert client({"id": 2, "rpc": {"method": "m", "data": b"\xff"}}) == [{"id": 2, "rpc": expected}]
        assert client({"send": {"data": b"\x00"}}) == ([{"push": {"message": expected}}] if expected else [])
        assert [call[-1] for call in backend.calls] == [b"\xff", b"\x00"]
        assert {call[1].protocol for call in backend.calls} == {"protobuf"}


class OrderTests:
    """Commands of one client, in the order received, also while the backend is slow."""

    def test_a_command_waits_for_the_answer_to_the_one_before(self, client, backend):
        answers = [Deferred() for _ in range(3)]
        backend.answer = answers[0]
        client.receive()
        client.send({"send": {"data": 0}}, {"id": 2, "rpc": {"data": 1}}, {"id": 3, "subscribe": {"channel": "c"}})
        client.turn()
        assert [call[0] for call in backend.calls] == ["message"]
        assert client.receive() == []
        backend.answer = answers[1]
        answers[0].callback(answered())
        client.turn()
        assert [call[0] for call in backend.calls] == ["message", "rpc"]
        assert client.receive() == []
        answers[1].callback(answered(data="late"))
        assert [one["id"] for one in client.receive()] == [2, 3]

    def test_an_answer_after_the_connection_has_closed_still_publishes(self, server, client, backend):
        backend.answer = Deferred()
        client.send({"id": 2, "rpc": {"method": "m"}})
        client.turn()
        client.peer.transport.lose()
        client.turn()
        backend.answer.callback(answered(data=1, publish=[{"channel": "c", "data": 1}]))
        other = Client(server).connected()
        other.request("subscribe", channel="c")
        assert other.request("history", channel="c", limit=9)["offset"] == 1

    def test_messages_beyond_the_queue_close_the_connection_with_3013_so_that_the_client_reconnects(
        self, client, backend
    ):
        """The messages that were queued before are sent to the backend."""
        backend.answer = waiting = Deferred()
        for _ in range(3):
            client.send(*({"send": {"data": number}} for number in range(999)))
        client.turn()
        assert len(backend.calls) == 1
        backend.answer = answered()
        waiting.callback(answered())
        assert client.closed()[0] == 3013
        assert [json.loads(call[2]) for call in backend.calls] == [*range(999), *range(2)][: len(backend.calls)]
        assert 1000 <= len(backend.calls) <= 1001

    def test_pings_are_answered_while_the_backend_is_slow(self, server, client, backend):
        backend.answer = Deferred()
        client.send({"id": 2, "rpc": {"method": "m"}})
        for _ in range(4):
            server.clock.advance(25)
            if {} in client.receive():
                client.send({})
        assert client.closed() is None
