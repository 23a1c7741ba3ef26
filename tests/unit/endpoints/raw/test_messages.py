"""Messages of raw subscribers to the backend, in memory."""

import json

import pytest
from hook_answers import URL, answered
from peers import BINARY, TEXT
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.config.settings import Settings
from wsserver.endpoints.raw.messages import MAX_QUEUED_MESSAGES
from wsserver.errors import BrokerDown, SettingError
from wsserver.hooks.messages import TEMPORARY, HookDisconnect, HookError
from wsserver.testing import MemoryServer


class Backend:
    """Records messages, and answers them."""

    def __init__(self):
        self.messages = []
        self.answer = answered()

    def message(self, caller, *, data=None, b64data=None, channels=None):
        """Record a message: its data, or the base64 text of a binary one in a list."""
        self.caller, self.channels = caller, channels
        self.messages.append([b64data] if data is None else json.loads(data))
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)


@pytest.fixture
def backend():
    """Return a backend."""
    return Backend()


@pytest.fixture
def server(backend, monkeypatch):
    """Start a server on which raw subscribers may send messages."""
    settings = Settings(hook_message=URL, hook_message_raw=True, channel_allow=("*",), max_message_size=2000)
    server = MemoryServer(settings)
    monkeypatch.setattr(server.service.hooks, "message", backend.message)
    return server


@pytest.fixture
def client(server):
    """Connect a raw subscriber of two channels."""
    client = server.connect()
    client.open("/ws?channel=a,b")
    return client


def turn(server):
    """Run the reactor."""
    for _ in range(3):
        server.clock.advance(0)


class MessageTests:
    """What the backend receives, and what the client gets."""

    @pytest.mark.parametrize("text", ["hello", "42", '{"a":1}', "", "grüße \x00"])
    def test_a_text_is_always_a_json_string(self, client, backend, text):
        client.send_text(text)
        assert backend.messages == [text]
        assert (backend.caller.protocol, backend.channels) == ("raw", ("a", "b"))
        assert client.frames() == []

    @pytest.mark.parametrize(("payload", "encoded"), [(b"\xff\x00", "/wA="), (b"42", "NDI="), (b"", "")])
    def test_a_binary_message_is_always_base64(self, client, backend, payload, encoded):
        client.send_frame(BINARY, payload)
        assert backend.messages == [[encoded]]

    @pytest.mark.parametrize(
        ("fields", "opcode", "payload"),
        [
            ({"data": "hello"}, TEXT, b"hello"),
            ({"data": {"a": 1}}, TEXT, b'{"a": 1}'),
            ({"data": None}, TEXT, b"null"),
            ({"b64data": "aGVsbG8="}, BINARY, b"hello"),
        ],
    )
    def test_data_in_the_answer_is_sent_to_the_client_alone(self, server, client, backend, fields, opcode, payload):
        backend.answer = answered(**fields)
        other = server.connect()
        other.open("/ws?channel=a")
        client.send_text("x")
        (frame,) = client.frames()
        assert (frame.opcode, frame.payload) == (opcode, payload)
        assert other.frames() == []

    def test_data_is_binary_for_a_client_that_wants_binary_messages(self, server, backend):
        backend.answer = answered(data="hello")
        client = server.connect()
        client.open("/ws?channel=a&binary=1")
        client.send_text("x")
        assert [frame.opcode for frame in client.frames()] == [BINARY]

    def test_publications_in_the_answer_reach_the_subscribers(self, server, client, backend):
        backend.answer = answered(publish=[{"channel": "a", "data": "one"}, {"channel": "b", "data": {"two": 2}}])
        client.send_text("x")
        turn(server)
        assert client.messages() == ["one", '{"two": 2}']

    def test_a_disconnect_closes_with_its_code_and_drops_what_waits(self, client, backend):
        backend.answer = waiting = Deferred()
        client.send_text("x")
        client.send_text("y")
        waiting.callback(HookDisconnect(4001, "bye"))
        assert client.close_frame() == (4001, "bye")
        assert backend.messages == ["x"]

    @pytest.mark.parametrize("answer", [HookError(403, "no"), TEMPORARY])
    def test_the_client_is_not_told_about_an_error(self, client, backend, answer):
        backend.answer = answer
        client.send_text("x")
        assert client.frames() == []
        client.send_text("y")
        assert backend.messages == ["x", "y"]

    def test_a_publication_that_the_broker_does_not_accept_is_logged_and_the_next_message_is_handled(
        self, server, client, backend, monkeypatch
    ):
        backend.answer = answered(data="x", publish=[{"channel": "a", "data": 1}])
        monkeypatch.setattr(server.service.hub.broker, "publish", lambda *_: fail(BrokerDown("Redis is unavailable")))
        client.send_text("x")
        assert client.frames() == []
        backend.answer = answered(data="again")
        client.send_text("y")
        assert client.messages() == ["again"]


class OrderTests:
    """Several messages of a client."""

    def test_one_message_at_a_time_is_passed_on_in_order(self, server, client, backend):
        """Another client does not wait for it."""
        backend.answer = waiting = Deferred()
        for text in ("one", "two", "three"):
            client.send_text(text)
        assert backend.messages == ["one"]
        backend.answer = answered()
        other = server.connect()
        other.open("/ws?channel=a")
        other.send_text("other")
        waiting.callback(answered())
        assert backend.messages == ["one", "other", "two", "three"]

    @pytest.mark.parametrize(("count", "size"), [(MAX_QUEUED_MESSAGES + 2, 1), (4, 800)])
    def test_too_many_messages_close_the_connection_with_1013(self, client, backend, count, size):
        """At most 1000 messages, and --max-message-size, wait."""
        backend.answer = Deferred()
        for _ in range(count):
            client.send_text("x" * size)
        assert client.close_frame() == (1013, "too many messages wait for the backend")
        assert len(backend.messages) == 1

    def test_messages_that_wait_are_dropped_when_the_connection_is_lost(self, client, backend):
        backend.answer = waiting = Deferred()
        client.send_text("x")
        client.send_text("y")
        client.transport.lose()
        waiting.callback(answered(data="late"))
        assert backend.messages == ["x"]

    def test_pings_are_answered_while_the_backend_is_slow(self, client, backend):
        backend.answer = Deferred()
        client.send_text("x")
        client.send_frame(9, b"ping")
        assert [(frame.opcode, frame.payload) for frame in client.frames()] == [(10, b"ping")]


class OptionTests:
    """The option --hook-message-raw."""

    @pytest.mark.parametrize("options", [{}, {"hook_message": URL}])
    def test_without_it_a_message_closes_with_1008(self, options):
        client = MemoryServer(Settings(channel_allow=("*",), **options)).connect()
        client.open("/ws?channel=a")
        client.send_text("x")
        code, reason = client.close_frame()
        assert (code, "receive-only" in reason) == (1008, True)

    def test_without_hook_message_it_is_refused(self):
        with pytest.raises(SettingError, match="--hook-message to be set"):
            MemoryServer(Settings(hook_message_raw=True))
