"""T25: clients that subscribe, publish, or read presence and history where they may not."""

import json
import time

import jwt
import pytest
from http_api import KEY
from peers import TEXT, RawPeer

SECRET = "a secret that is long enough to sign tokens with, for tests only"
PATH = "/connection/websocket"
TABLES = """
[[channel]]
pattern = "open:*"
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
presence = true
history_size = 10

[[channel]]
pattern = "secret:*"
allow_subscribe_for_client = false
presence = true
history_size = 10
"""


def token(ttl=600, **claims):
    return jwt.encode({"exp": int(time.time()) + ttl} | claims, SECRET, "HS256")


CAPS = [{"channels": ["secret:1"], "allow": ["sub", "pub", "prs", "hst"]}]
GLOB = [{"channels": ["secret:*"], "allow": ["sub"]}]
PEOPLE = {
    "anonymous": "",
    "other": token(sub="other"),
    "member": token(sub="member", caps=CAPS),
    "reader": token(sub="reader", subs={"secret:1": {}}),
    "glob in a name": token(sub="glob", caps=GLOB),
    "expired": token(ttl=-60, sub="expired", caps=CAPS),
}

# Person, method, channel, whether it is permitted.
ROWS = [
    ("anonymous", "subscribe", "open:1", True),
    ("anonymous", "subscribe", "secret:1", False),
    ("anonymous", "publish", "open:1", False),
    ("anonymous", "publish", "secret:1", False),
    ("anonymous", "history", "secret:1", False),
    ("anonymous", "presence", "secret:1", False),
    ("other", "subscribe", "open:1", True),
    ("other", "subscribe", "secret:1", False),
    ("other", "publish", "secret:1", False),
    ("other", "history", "secret:1", False),
    ("other", "presence", "secret:1", False),
    ("other", "presence_stats", "secret:1", False),
    ("other", "history", "open:1", False),
    ("other", "subscribe", "secret:*", False),
    ("other", "subscribe", "open:*", True),
    ("member", "subscribe", "secret:1", True),
    ("member", "publish", "secret:1", True),
    ("member", "history", "secret:1", True),
    ("member", "presence", "secret:1", True),
    ("member", "subscribe", "secret:2", False),
    ("member", "publish", "secret:2", False),
    ("member", "subscribe", "secret:1 ", False),
    ("reader", "publish", "secret:1", False),
    ("glob in a name", "subscribe", "secret:1", False),
    ("glob in a name", "subscribe", "secret:*", True),
    ("expired", "connect", "", False),
]


class Person:
    """A Centrifuge client on a connection."""

    def __init__(self, port, text):
        self.peer, self.number = RawPeer(port), 0
        self.peer.handshake(PATH)
        self.connected = self.ask("connect", **({"token": text} if text else {}))

    def ask(self, method, **fields):
        """Send a command; return its reply, or None if the server closes the connection."""
        self.number += 1
        self.peer.send_frame(TEXT, json.dumps({"id": self.number, method: fields}).encode())
        while (got := self.peer.read_frame()).opcode == TEXT:
            for line in got.payload.splitlines():
                reply = json.loads(line)
                if reply.get("id") == self.number:
                    return reply
        return None


@pytest.fixture(scope="module")
def guarded(start_module_server, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "wsserver.toml"
    path.write_text(TABLES)
    return start_module_server("--config", str(path), "--token-secret", SECRET, "--anonymous")


def permitted(server, person, method, channel):
    """Return whether a person may use a method on a channel."""
    client = Person(server.port, PEOPLE[person])
    try:
        if method == "connect":
            return client.connected is not None and "connect" in client.connected
        fields = {"channel": channel} | ({"data": 1} if method == "publish" else {})
        reply = client.ask(method, **fields)
        return reply is not None and method in reply
    finally:
        client.peer.socket.close()


def test_t25_everyone_may_do_exactly_what_is_granted(guarded, figures):
    """A client can subscribe, publish and read presence and history only where a rule or its token permits it."""
    wrong = [row for row in ROWS if permitted(guarded, *row[:3]) is not row[3]]
    figures.at_least(20, len(ROWS), "rows of the matrix")
    figures.at_most(0, len(wrong), "wrong permissions", "", wrong)


def test_t25_a_revoked_subscription_ends_at_once(guarded, figures):
    """When the backend unsubscribes a user, the user gets no further publication, at most 1 s later."""
    member = Person(guarded.port, PEOPLE["member"])
    member.ask("subscribe", channel="secret:1")
    begin = time.monotonic()
    with guarded.connect() as peer:
        body = json.dumps({"user": "member", "channel": "secret:1"}).encode()
        assert peer.request("/api/unsubscribe", f"X-API-Key: {KEY}", method="POST", body=body).status == 200
    while b'"unsubscribe"' not in member.peer.read_frame().payload:
        pass
    figures.at_most(1, time.monotonic() - begin, "time until the user is unsubscribed", "s")
    member.peer.socket.close()


def test_t25_wrong_keys_of_the_api_are_refused(guarded, figures):
    """
    Only the exact API key is accepted.

    That the comparison takes constant time cannot be measured through a socket; the code uses hmac.compare_digest.
    """
    keys = ["", KEY[:-1], KEY + "x", KEY.upper(), KEY[::-1], "x", "\xe9", f"{KEY}, {KEY}", "x" * 5000]
    statuses = {}
    for key in keys:
        with guarded.connect() as peer:
            statuses[key] = peer.request("/api/info", f"X-API-Key: {key}", method="POST", body=b"{}").status
    figures.at_most(0, sum(found != 401 for found in statuses.values()), "wrong keys accepted", "", statuses)
