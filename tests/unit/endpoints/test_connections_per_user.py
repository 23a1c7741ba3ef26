"""`--max-connections-per-user` on every transport. All in memory."""

import dataclasses
import json

import pytest
from peers import handshake_request
from tokens import SECRET, token
from twisted.internet.defer import Deferred

from wsserver.config.settings import Settings
from wsserver.hooks.messages import Subscribed
from wsserver.testing import MemoryServer

TRANSPORTS = ["websocket", "sse", "centrifuge", "http_stream", "uni_websocket"]


class User:
    """
    A server, and connections of its users.

    Args:
        most: the value of the option.
    """

    def __init__(self, most):
        settings = Settings(max_connections_per_user=most, token_secret=SECRET, anonymous=True, channel_allow=("news",))
        self.server = MemoryServer(settings)

    def connect(self, transport, user):
        """Connect a user; return the client, and the code with which the server has refused it: None if it has not."""
        client = self.server.connect()
        bearer = token({"sub": user, "exp": 4_000_000_000}) if user else ""
        query = f"&token={bearer}" if bearer else ""
        command = json.dumps({"connect": {"token": bearer}, "id": 1} if bearer else {"connect": {}, "id": 1}).encode()
        if transport == "websocket":
            return client, self._status(client.open(f"/ws?channel=news{query}"))
        if transport == "sse":
            client.send(f"GET /sse?channel=news{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return client, self._status(client.response())
        if transport == "http_stream":
            client.send(
                b"POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
                % (len(command), command)
            )
            return client, 3504 if b'"code":3504' in client.transport.written else None
        path = {"centrifuge": "/connection/websocket", "uni_websocket": "/connection/uni_websocket"}[transport]
        client.open(path)
        client.send_frame(1, command if transport == "centrifuge" else json.dumps({"token": bearer}).encode())
        codes = [int.from_bytes(frame.payload[:2], "big") for frame in client.frames() if frame.opcode == 8]
        return client, codes[0] if codes else None

    def _status(self, head):
        status = int(head.split()[1])
        return status if status >= 400 else None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_refuses_a_connection_of_a_user_over_the_limit_until_another_one_ends(transport):
    """A raw client gets 429, a Centrifuge client 3504 (connection limit), after which SDKs do not connect again."""
    user = User(2)
    first, code = user.connect(transport, "42")
    assert [code, user.connect("websocket", "42")[1], user.connect(transport, "43")[1]] == [None] * 3
    refused, code = user.connect(transport, "42")
    assert code == (429 if transport in {"websocket", "sse"} else 3504)
    if code == 429:
        assert b"--max-connections-per-user" in refused.transport.written
    assert user.server.service.connections.counters.limits == {"max_connections_per_user": 1}
    first.transport.lose()
    assert user.connect(transport, "42")[1] is None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_anonymous_clients_have_no_limit(transport):
    user = User(1)
    assert [user.connect(transport, "")[1] for _ in range(5)] == [None] * 5


def test_zero_disables_the_limit():
    user = User(0)
    assert [user.connect("websocket", "42")[1] for _ in range(200)] == [None] * 200


def test_all_transports_count_together():
    user = User(len(TRANSPORTS))
    clients = [user.connect(transport, "42") for transport in TRANSPORTS]
    assert [code for _, code in clients] == [None] * len(TRANSPORTS)
    assert [user.connect(transport, "42")[1] for transport in TRANSPORTS] == [429, 429, 3504, 3504, 3504]


class Backend:
    """A hook `subscribe` that answers when the test wants it; the other methods of the hooks are not called."""

    events = frozenset({"subscribe"})

    def __init__(self):
        self.waiting = []

    def subscribe(self, caller, channel, *, data=None):
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self):
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(Subscribed())


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_raw_clients_that_connect_at_the_same_moment_do_not_exceed_the_limit(transport):
    """All of them are admitted before any of them is registered, because the backend has to be asked."""
    user = User(3)
    authorizer, backend = user.server.service.authorizer, Backend()
    authorizer.hooks = backend
    authorizer.configure(authorizer.tokens, anonymous=True, insecure=False)
    clients, bearer = [], token({"sub": "42", "exp": 4_000_000_000})
    for _ in range(10):
        clients.append(client := user.server.connect())
        query = f"channel=asked&token={bearer}"
        if transport == "websocket":
            client.send(handshake_request(f"/ws?{query}"))
        else:
            client.send(f"GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert len(backend.waiting) == 10
    backend.answer()
    statuses = [int(client.transport.written.split()[1]) for client in clients]
    assert sorted(statuses) == [101 if transport == "websocket" else 200] * 3 + [429] * 7
    # Those that leave, open or not, make room.
    for client in clients:
        client.transport.lose()
    assert [user.connect("websocket", "42")[1] for _ in range(4)] == [None] * 3 + [429]


def test_a_client_that_leaves_before_it_is_admitted_does_not_count():
    user = User(1)
    authorizer, backend = user.server.service.authorizer, Backend()
    authorizer.hooks = backend
    authorizer.configure(authorizer.tokens, anonymous=True, insecure=False)
    bearer = token({"sub": "42", "exp": 4_000_000_000})
    for path in (f"/ws?channel=asked&token={bearer}", f"/sse?channel=asked&token={bearer}"):
        client = user.server.connect()
        client.send(
            handshake_request(path) if path.startswith("/ws") else f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        )
        client.transport.lose()
    backend.answer()
    assert [user.connect("websocket", "42")[1] for _ in range(2)] == [None, 429]


def test_a_reload_changes_the_limit_for_new_connections():
    user = User(1)
    assert [user.connect("websocket", "42")[1] for _ in range(2)] == [None, 429]
    service = user.server.service
    service.reload(dataclasses.replace(service.settings, max_connections_per_user=2))
    assert [user.connect("websocket", "42")[1] for _ in range(2)] == [None, 429]
