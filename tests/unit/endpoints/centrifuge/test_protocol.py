"""The Centrifuge protocol on `/connection/websocket`, message by message, in memory."""

import json
import time

import jwt
import pytest
from turns import end_turn
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher

from wsserver.auth.claims import Identity, Opening
from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge import pages as centrifuge_pages
from wsserver.endpoints.centrifuge import protocol
from wsserver.endpoints.centrifuge.pages import MAX_PUBLICATIONS
from wsserver.endpoints.centrifuge.protocol import CONNECT_TIMEOUT, MAX_QUEUED_COMMANDS
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Connected
from wsserver.hub.stream import Page, Position
from wsserver.testing import MemoryServer, build_frame
from wsserver.wire.fastpath import FRAMES_PER_TURN
from wsserver.wire.limits import BYTES_PER_TURN, PIECES_PER_TURN

PATH = "/connection/websocket"
SECRET = "secret " * 6
OPEN = {"channel_allow": ("*",), "channel_publish": ("*",), "channel_presence": ("*",)}


class Client:
    """The other end."""

    def __init__(self, server, target=PATH, headers=None):
        self.clock, self._id = server.clock, 0
        self.peer = server.connect()
        self.head = self.peer.open(target, headers or {})

    def turn(self):
        """Let the reactor's turn end."""
        for _ in range(3):
            self.clock.advance(0)

    def take(self):
        """Take what has come, one object a line."""
        self.turn()
        return [json.loads(line) for text in self.peer.messages() for line in text.split("\n")]

    def send(self, *commands):
        """Send commands in one frame, without waiting."""
        self.peer.send_text("\n".join(map(json.dumps, commands)))

    def say(self, method, **fields):
        """Send a command; give its reply, what came before it is lost."""
        self._id += 1
        self.send({"id": self._id, method: fields})
        replies = [one for one in self.take() if one.get("id") == self._id]
        assert len(replies) == 1
        return replies[0].get(method, replies[0].get("error"))

    def connected(self, **fields):
        """Connect."""
        assert self.say("connect", **fields)["client"]
        return self

    def closed(self):
        """Tell with what the server has closed."""
        self.turn()
        return self.peer.close_frame()


@pytest.fixture
def server():
    """Start a server on whose channels clients may do everything."""
    return MemoryServer(Settings(**OPEN))


@pytest.fixture
def log():
    """Collect the events of the log."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def make_server(**settings):
    """Start a server."""
    return MemoryServer(Settings(**OPEN | settings))


def token(**claims):
    """Sign a token that is good for an hour."""
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


class HandshakeTests:
    """The opening handshake."""

    @pytest.mark.parametrize(
        ("target", "headers", "words"),
        [
            (
                PATH,
                {"Sec-WebSocket-Protocol": "centrifuge-protobuf"},
                "Protobuf is not supported: expected",
            ),
            (PATH + "?format=protobuf", {}, "Protobuf is not supported: expected"),
            (PATH + "?cf_protocol=protobuf", {}, "Protobuf is not supported: expected"),
            (PATH + "?cf_protocol_version=v1", {}, "cf_protocol_version='v1' is not supported: expected v2"),
            (PATH + "?token=a", {"Authorization": "Bearer b"}, "more than one token"),
        ],
    )
    def test_refused(self, server, target, headers, words):
        """What asks for another form of the protocol is told which one is spoken."""
        peer = server.connect()
        head = peer.open(target, headers)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert words in peer.transport.written.decode()

    @pytest.mark.parametrize("offer", ["centrifuge-json", "centrifuge-json, centrifuge-protobuf"])
    def test_subprotocol(self, server, offer):
        """JSON is agreed to by its name."""
        client = Client(server, headers={"Sec-WebSocket-Protocol": offer})
        assert b"Sec-WebSocket-Protocol: centrifuge-json" in client.head
        client.connected()

    def test_harmless_query(self, server):
        """What an application puts into the URL is its own affair."""
        Client(server, PATH + "?format=json&cf_protocol_version=v2&my=own").connected()


class DepthTests:
    """What is nested too deeply."""

    @pytest.mark.parametrize(("levels", "taken"), [(254, True), (255, False), (500, False)])
    def test_the_connection_outlives_a_command_that_is_nested_too_deeply(self, server, levels, taken):
        """The command itself counts for two of 256 levels."""
        client = Client(server).connected()
        data = [1]
        for _ in range(levels - 1):
            data = [data]
        client.send({"id": 2, "publish": {"channel": "c", "data": data}}, {"id": 3, "unsubscribe": {"channel": "c"}})
        first, second = client.take()
        assert second == {"id": 3, "unsubscribe": {}}
        if taken:
            assert first == {"id": 2, "publish": {}}
        else:
            assert (first["id"], first["error"]["code"]) == (2, 107)
            assert "over 256 levels" in first["error"]["message"]


class OrderTests:
    """Which command may come when."""

    def test_before_connect(self, server):
        """Only connect may be the first."""
        client = Client(server)
        client.send({"id": 1, "subscribe": {"channel": "c"}})
        assert client.closed() == (3501, "bad request: connect must be the first command")

    def test_twice(self, server):
        """Connect comes once."""
        client = Client(server).connected()
        client.send({"id": 2, "connect": {}})
        assert client.closed() == (3501, "bad request: already connected")

    def test_never(self, server):
        """Who does not connect in time is closed."""
        client = Client(server)
        server.clock.advance(CONNECT_TIMEOUT - 0.1)
        assert client.closed() is None
        server.clock.advance(0.2)
        assert client.closed() == (3502, "stale: no connect within 10 s")

    def test_malformed(self, server):
        """What cannot be read ends the connection, and nothing after it is taken."""
        client = Client(server).connected()
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        client.peer.send_text("{")
        client.send({"id": 3, "publish": {"channel": "c", "data": 1}})
        client.turn()
        frames = client.peer.frames()
        assert [frame.opcode for frame in frames] == [1, 8]
        assert frames[1].payload[2:].startswith(b"bad request: a command is not JSON")

    def test_replies_are_joined(self, server):
        """The replies to one frame leave in one."""
        client = Client(server).connected()
        client.send(*({"id": number, "subscribe": {"channel": f"c{number}"}} for number in range(2, 50)))
        client.turn()
        (frame,) = client.peer.frames()
        assert [json.loads(line)["id"] for line in frame.payload.split(b"\n")] == list(range(2, 50))

    def test_one_after_the_other(self, server, monkeypatch):
        """While a command is being carried out, what follows it waits; beyond a limit it is refused."""
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub, "send", lambda *_, **__: waits)
        client.send({"id": 2, "publish": {"channel": "c", "data": 1}})
        client.send(*({"id": number, "unsubscribe": {"channel": "c"}} for number in range(3, 3 + MAX_QUEUED_COMMANDS)))
        assert client.take() == []
        client.send({"id": 5000, "unsubscribe": {"channel": "c"}})
        (refused,) = client.take()
        assert (refused["id"], refused["error"]["code"], refused["error"]["temporary"]) == (5000, 111, True)
        waits.callback(None)
        assert [one["id"] for one in client.take()] == list(range(2, 3 + MAX_QUEUED_COMMANDS))

    def test_gone_meanwhile(self, server, monkeypatch):
        """A client that goes while its command is being carried out is subscribed to nothing."""
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}}, {"id": 3, "subscribe": {"channel": "d"}})
        client.peer.transport.lose()
        waits.callback(None)
        client.turn()
        assert server.service.hub.counts() == {}
        assert len(server.service.hub.clients) == 0


class BudgetTests:
    """What one turn of the reactor does for clients that ask for much at once."""

    HISTORY = {"history_size": 100, "history_ttl": 300, "channel_allow": ("*",)}

    def turns(self, client, received):
        """Call `received` for what each turn of the reactor brings; returns its results."""
        counts = [received(client)]
        while end_turn(client.clock):
            counts.append(received(client))
        return [count for count in counts if count]

    @staticmethod
    def replies(client):
        """Count the replies that have come."""
        return sum(len(text.split("\n")) for text in client.peer.messages())

    def test_a_frame_of_cheap_commands_is_carried_out_over_many_turns(self, server):
        """However many commands a frame has, a turn carries out a bounded number; all are answered, in their order."""
        client = Client(server).connected()
        client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 1002)))
        counts = self.turns(client, self.replies)
        assert max(counts) <= PIECES_PER_TURN
        assert sum(counts) == 1000

    def test_large_answers_end_a_turn_by_their_bytes(self):
        """A turn writes two pages of history of 800 KB each, though a client that reads asks for more."""
        server = make_server(**self.HISTORY)
        client = Client(server).connected()
        for _ in range(100):
            server.service.hub.publish("c", b"x" * 8000)
        client.say("subscribe", channel="c")
        client.send(*({"id": number, "history": {"channel": "c", "limit": 100}} for number in range(10, 16)))
        sizes = self.turns(client, lambda it: sum(len(text) for text in it.peer.messages()))
        assert max(sizes) < BYTES_PER_TURN + 900_000
        assert sum(sizes) > 6 * 800_000

    def test_many_clients_share_one_budget(self, server):
        """Clients that flood together get no longer turn than one alone, and others are served meanwhile."""
        clients = [Client(server).connected() for _ in range(20)]
        other = Client(server).connected()
        for client in clients:
            client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 102)))
        other.send({"id": 2, "rpc": {"method": "no"}})
        for client in clients:
            client.peer.messages()
        end_turn(server.clock)
        assert self.replies(other) == 1
        assert sum(map(self.replies, clients)) <= PIECES_PER_TURN

    def test_a_client_whose_commands_wait_is_not_read(self, server):
        """While commands wait for their turn no more are read; then they are, and none of them is refused."""
        client = Client(server).connected()
        numbers = iter(range(2, 100_000))
        for _ in range(4):
            client.send(*({"id": next(numbers), "rpc": {"method": "no"}} for _ in range(1000)))
        assert client.peer.transport.paused
        replies = client.take()
        assert not client.peer.transport.paused
        assert [one["id"] for one in replies] == list(range(2, 4002))
        assert {one["error"]["code"] for one in replies} == {104}

    def test_one_read_of_many_small_frames_is_kept_as_bytes(self, server):
        """Frames behind those that wait are not even parsed: they stay the bytes that were read."""
        client = Client(server).connected()
        protocol = client.peer.transport.protocol
        client.peer.send(b"".join(build_frame(1, b'{"id":%d,"rpc":{}}' % number) for number in range(2, 8002)))
        assert len(protocol._frames) <= FRAMES_PER_TURN
        assert [one["id"] for one in client.take()] == list(range(2, 8002))

    def test_an_unread_answer_stops_the_commands_behind_it(self):
        """Nothing more is done for a client that does not read, whatever the budget would allow."""
        server = make_server(**self.HISTORY)
        client = Client(server).connected()
        for _ in range(100):
            server.service.hub.publish("c", b"x" * 8000)
        client.say("subscribe", channel="c")
        client.peer.transport.reading = False
        client.send(*({"id": number, "history": {"channel": "c", "limit": 100}} for number in range(10, 16)))
        client.turn()
        assert len(client.peer.transport.unread) < 1_000_000
        client.peer.transport.read_again()
        client.peer.transport.reading = True
        assert [one["id"] for one in client.take()] == list(range(10, 16))

    def test_a_page_of_history_has_a_limited_number_of_publications(self):
        """Many small publications do not come in one answer; the client asks for the rest from there on."""
        server = make_server(history_size=5000, history_ttl=300)
        client = Client(server).connected()
        for number in range(MAX_PUBLICATIONS + 500):
            server.service.hub.publish("c", b"%d" % number)
        epoch = client.say("subscribe", channel="c")["epoch"]
        first = client.say("history", channel="c", limit=-1)["publications"]
        assert [one["offset"] for one in first] == list(range(1, MAX_PUBLICATIONS + 1))
        since = {"offset": MAX_PUBLICATIONS, "epoch": epoch}
        rest = client.say("history", channel="c", limit=10_000, since=since)["publications"]
        assert [one["offset"] for one in rest] == list(range(MAX_PUBLICATIONS + 1, MAX_PUBLICATIONS + 501))

    @pytest.mark.parametrize(("missed", "recovered"), [(MAX_PUBLICATIONS, True), (MAX_PUBLICATIONS + 1, False)])
    def test_a_recovery_has_a_limited_number_of_publications(self, missed, recovered):
        """A client that has missed more than an answer may contain is told that it is not recovered."""
        server = make_server(history_size=5000, history_ttl=300)
        for number in range(missed):
            server.service.hub.publish("c", b"%d" % number)
        answer = Client(server).connected().say("subscribe", channel="c", recover=True, offset=0)
        assert answer.get("recovered", False) is recovered
        assert len(answer.get("publications", ())) == (missed if recovered else 0)
        assert answer.get("offset", 0) == (0 if recovered else missed)

    @pytest.mark.parametrize(("size", "recovered"), [(24_000, True), (26_000, False)])
    def test_a_recovery_stays_within_what_may_be_queued(self, size, recovered):
        """Recovered publications are bounded by --max-queued-bytes like live ones; else the client is not recovered."""
        server = make_server(max_queued_bytes=100_000)
        for _ in range(4):
            server.service.hub.publish("c", b"x" * size)
        client = Client(server).connected()
        answer = client.say("subscribe", channel="c", recover=True, offset=0)
        assert answer.get("recovered", False) is recovered
        assert answer["was_recovering"] is True

    def test_the_channels_of_a_connect_share_one_limit(self):
        """A reply to connect contains what was missed in all channels, up to what one answer may contain."""
        server = make_server(max_queued_bytes=100_000, token_secret=SECRET)
        names = [f"c{number}" for number in range(10)]
        for name in names:
            server.service.hub.publish(name, b"x" * 24_000)
        epochs = dict.fromkeys(names, server.service.hub.broker._epoch)
        client = Client(server)
        subs = {name: {"recover": True, "offset": 0, "epoch": epochs[name]} for name in names}
        answer = client.say("connect", token=token(channels=names), subs=subs)
        recovered = [name for name, one in answer["subs"].items() if one.get("recovered")]
        # The fifth begins within the limit, and a publication is not cut.
        assert recovered == names[:5]
        assert set(answer["subs"]) == set(names)

    def test_presence_of_very_many_is_refused_with_106(self, server, monkeypatch):
        """A channel with more clients than an answer may contain is only counted."""
        monkeypatch.setattr(centrifuge_pages, "MAX_CLIENTS", 3)
        clients = [Client(server).connected() for _ in range(4)]
        for client in clients[:3]:
            client.say("subscribe", channel="room")
        assert len(clients[0].say("presence", channel="room")["presence"]) == 3
        clients[3].say("subscribe", channel="room")
        assert clients[0].say("presence", channel="room")["code"] == 106
        assert clients[0].say("presence_stats", channel="room")["num_clients"] == 4

    def test_presence_of_many_bytes_is_refused_with_106(self):
        """What the clients' tokens say counts, too."""
        server = make_server(max_queued_bytes=10_000, token_secret=SECRET)
        clients = [Client(server) for _ in range(3)]
        for client in clients:
            client.say("connect", token=token(info={"about": "x" * 4000}))
            client.say("subscribe", channel="room")
        assert clients[0].say("presence", channel="room")["code"] == 106

    def test_equal_answers_are_written_once(self, server, monkeypatch):
        """A page that was asked for before is sent again as it was written; one that has changed is written anew."""
        written = []
        real = centrifuge_pages.publication
        monkeypatch.setattr(centrifuge_pages, "publication", lambda one: written.append(one) or real(one))
        client = Client(server).connected()
        client.say("subscribe", channel="c")
        server.service.hub.publish("c", b"one")
        pages = [client.say("history", channel="c", limit=10) for _ in range(3)]
        assert pages[0] == pages[1] == pages[2]
        assert len(written) == 1
        server.service.hub.publish("c", b"two")
        assert [one["data"] for one in client.say("history", channel="c", limit=10)["publications"]] == ["one", "two"]
        assert [one["data"] for one in client.say("history", channel="c", limit=1)["publications"]] == ["one"]

    def test_presence_that_has_changed_is_written_anew(self, server):
        """Who has come or left is in the next answer."""
        one, two = (Client(server).connected() for _ in range(2))
        one.say("subscribe", channel="room")
        assert len(one.say("presence", channel="room")["presence"]) == 1
        two.say("subscribe", channel="room")
        assert len(one.say("presence", channel="room")["presence"]) == 2
        two.say("unsubscribe", channel="room")
        assert len(one.say("presence", channel="room")["presence"]) == 1

    def test_a_pong_is_taken_while_a_command_waits_for_the_broker(self, monkeypatch):
        """A client whose command takes long is not taken for dead: its pong is read meanwhile."""
        server = make_server(ping_interval=10, ping_timeout=5)
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub, "send", lambda *_, **__: waits)
        client.send({"id": 2, "publish": {"channel": "c", "data": 1}}, {"id": 3, "rpc": {}})
        server.clock.advance(10)
        assert client.take() == [{}]
        client.send({})
        server.clock.advance(6)
        assert client.closed() is None
        waits.callback(None)
        assert [one["id"] for one in client.take() if one] == [2, 3]

    def test_a_close_behind_waiting_commands_is_answered(self, server):
        """A client that asks for much and closes is closed, once its commands are done."""
        client = Client(server).connected()
        client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 1002)))
        client.peer.send_close(1000)
        assert self.turns(client, self.replies)[0] <= PIECES_PER_TURN
        client.turn()
        assert client.peer.transport.lost


class SubscribeTests:
    """Subscriptions."""

    def test_refusals(self, server):
        """Each with Centrifuge's code."""
        client = Client(server).connected()
        assert client.say("subscribe", channel="c")["recoverable"] is True
        for fields, code in (
            ({"channel": "c"}, 105),
            ({"channel": "x" * 256}, 107),
            ({"channel": "a\x00b"}, 107),
            ({"channel": "d", "type": 1}, 107),
            ({"channel": "d", "tf": {"op": "eq"}}, 107),
            ({"channel": "d", "token": "a.b.c"}, 103),
            ({"channel": "d", "recover": True, "offset": 5, "epoch": "other", "flag": 2}, 112),
        ):
            assert client.say("subscribe", **fields)["code"] == code
        assert client.say("subscribe", channel="d")["recoverable"] is True

    def test_limit(self, server):
        """128 channels; one that was left makes room."""
        client = Client(server).connected()
        for number in range(128):
            client.say("subscribe", channel=f"c{number}")
        assert client.say("subscribe", channel="more")["code"] == 106
        client.say("unsubscribe", channel="c0")
        assert "code" not in client.say("subscribe", channel="more")

    @pytest.mark.parametrize(
        "method", ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"]
    )
    def test_no_channel(self, server, method):
        """A command without its channel is no command."""
        client = Client(server).connected()
        client.send({"id": 2, method: {}})
        code, reason = client.closed()
        assert code == 3501
        assert "without a channel" in reason

    def test_private(self, server):
        """The server's own keys are nobody else's."""
        client = Client(server).connected()
        assert client.say("subscribe", channel="wsserver:control")["code"] == 107
        assert client.say("publish", channel="wsserver:control", data=1)["code"] == 107
        assert client.say("history", channel="wsserver:control")["code"] == 107
        assert client.say("presence", channel="x" * 256)["code"] == 107

    def test_recovery(self, server):
        """After a recovery the offset is the client's own, and what it missed stands in the reply."""
        hub = server.service.hub
        for number in range(3):
            hub.publish("c", b"%d" % number, json=True)
        client = Client(server).connected()
        first = client.say("subscribe", channel="c")
        assert first["offset"] == 3
        client.say("unsubscribe", channel="c")
        again = client.say("subscribe", channel="c", recover=True, offset=1, epoch=first["epoch"])
        assert again["recovered"] is again["was_recovering"] is True
        assert again["offset"] == 1
        assert [(one["data"], one["offset"]) for one in again["publications"]] == [(1, 2), (2, 3)]
        client.say("unsubscribe", channel="c")
        other = client.say("subscribe", channel="c", recover=True, offset=1, epoch="other")
        assert other["was_recovering"] is True
        assert "recovered" not in other
        assert "publications" not in other
        assert other["offset"] == 3

    def test_any_epoch(self, server):
        """A position without an epoch is of any, as in Centrifugo."""
        for number in range(3):
            server.service.hub.publish("c", b"%d" % number)
        client = Client(server).connected()
        result = client.say("subscribe", channel="c", recover=True, offset=2)
        assert [one["data"] for one in result["publications"]] == [2]
        page = client.say("history", channel="c", limit=-1, since={"offset": 1})
        assert [one["data"] for one in page["publications"]] == [1, 2]

    def test_large_histories(self, server):
        """A page has a limit, from where the client goes on; so has a recovery, and then there is none."""
        client = Client(server).connected()
        epoch = client.say("subscribe", channel="c")["epoch"]
        for _ in range(20):
            server.service.hub.publish("c", b"x" * 100_000)
        client.take()
        seen = []
        while page := client.say("history", channel="c", limit=-1, since={"offset": len(seen), "epoch": epoch}).get(
            "publications"
        ):
            seen += [one["offset"] for one in page]
            assert len(page) <= 10
        assert seen == list(range(1, 21))
        other = Client(server).connected()
        assert "recovered" not in other.say("subscribe", channel="c", recover=True, offset=0, epoch=epoch)
        other.say("unsubscribe", channel="c")
        assert other.say("subscribe", channel="c", recover=True, offset=10, epoch=epoch)["recovered"] is True

    def test_reads_nothing(self, server):
        """For a client that does not read nothing more is done than it has asked for before that was noticed."""
        client = Client(server).connected()
        client.say("subscribe", channel="c")
        server.service.hub.publish("c", b"x" * 500_000)
        client.take()
        client.peer.transport.reading = False
        client.send(*({"id": number, "history": {"channel": "c", "limit": -1}} for number in range(10, 110)))
        client.turn()
        assert len(client.peer.transport.unread) < 1_000_000
        client.peer.transport.reading = True
        client.peer.transport.read_again()
        assert [one["id"] for one in client.take()] == list(range(10, 110))

    def test_without_history(self):
        """No offsets, no recovery."""
        server = make_server(history_size=0)
        client = Client(server).connected()
        assert client.say("subscribe", channel="c", recover=True, offset=1, epoch="e") == {"was_recovering": True}
        server.service.hub.publish("c", b"x")
        assert client.take() == [{"push": {"channel": "c", "pub": {"data": "x"}}}]

    def test_broker_down(self, server, monkeypatch):
        """The client may try again."""
        client = Client(server).connected()

        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: fail(BrokerDown("Redis is away")))
        refused = client.say("subscribe", channel="c")
        assert refused == {"code": 100, "message": "internal server error: Redis is away", "temporary": True}
        monkeypatch.undo()
        assert "code" not in client.say("subscribe", channel="c")

    def test_gaps(self, server):
        """With an offset the client is to subscribe again; without one it is told."""
        client = Client(server).connected()
        client.say("subscribe", channel="c")
        (known,) = server.service.hub.clients.find()
        subscription = known.subscription("c")
        subscription.missed("c", stream=False)
        assert client.take() == [{"push": {"message": {"data": {"event": "gap", "channel": "c"}}}}]
        subscription.missed("c", stream=True)
        unsubscribe = {"code": 2500, "reason": "insufficient state"}
        assert client.take() == [{"push": {"channel": "c", "unsubscribe": unsubscribe}}]
        assert server.service.hub.counts() == {}

    def test_ended_before_the_reply(self, server, monkeypatch):
        """So is a subscription that the backend ends while it is made."""
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        (known,) = server.service.hub.clients.find()
        known.unsubscribe("c")
        waits.callback(None)
        (reply,) = client.take()
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}

    def test_gap_before_the_reply(self, server, monkeypatch):
        """What was lost while a subscription was made is told by letting the client try again."""
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        (known,) = server.service.hub.clients.find()
        known.subscription("c").missed("c", stream=True)
        waits.callback(None)
        (reply,) = client.take()
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}

    def test_failure(self, server, monkeypatch, capsys):
        """What nobody has thought of ends this connection, and the client comes again."""
        client = Client(server).connected()
        monkeypatch.setattr(server.service.hub, "subscribe", lambda *_, **__: 1 / 0)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        assert client.closed() == (3004, "internal server error: the server failed")


class LifeSignTests:
    """Pings and pongs."""

    def test_pings(self, server):
        """They come at an interval, and are answered."""
        client = Client(server)
        about = client.say("connect")
        assert (about["ping"], about["pong"]) == (25, True)
        for _ in range(3):
            server.clock.advance(25)
            assert client.take() == [{}]
            client.send({})
        assert client.closed() is None

    def test_no_pong(self, server):
        """Who does not answer is gone."""
        client = Client(server).connected()
        server.clock.advance(25)
        assert client.take() == [{}]
        server.clock.advance(10.1)
        assert client.closed() == (3012, "no pong")

    def test_pong_without_a_ping(self, server):
        """An empty command that nobody has asked for."""
        client = Client(server).connected()
        client.send({})
        assert client.closed()[0] == 3501

    def test_spread(self, monkeypatch):
        """The first ping comes between half an interval and a whole one."""
        for pick, due in ((8, 12.5), (16, 25)):
            monkeypatch.setattr(protocol.random, "randrange", lambda *_, pick=pick: pick)
            server = make_server()
            client = Client(server).connected()
            server.clock.advance(due - 0.1)
            assert client.take() == []
            server.clock.advance(0.2)
            assert client.take() == [{}]

    def test_none(self):
        """Without an interval there are none, and the client is told so."""
        server = make_server(ping_interval=0.0)
        client = Client(server)
        assert not {"ping", "pong"} & client.say("connect").keys()
        server.clock.advance(3600)
        assert client.take() == []

    def test_no_pings_of_websocket(self, server):
        """The protocol has its own."""
        client = Client(server).connected()
        server.clock.advance(60)
        assert [frame for frame in client.peer.frames() if frame.opcode == 9] == []


class EndTests:
    """How a connection ends."""

    def test_stop(self, server):
        """The server stops: the client comes again."""
        client = Client(server).connected()
        server.service.stopService()
        assert client.closed() == (3001, "shutdown: the server is stopping")

    def test_messages_that_want_no_reply(self, server):
        """They are not taken."""
        client = Client(server).connected()
        client.send({"send": {"data": 1}})
        assert client.closed()[0] == 3508

    def test_slow(self):
        """Who does not read is closed as slow once too much waits."""
        server = make_server(max_queued_bytes=100_000)
        client = Client(server).connected()
        client.say("subscribe", channel="c")
        client.peer.transport.reading = False
        for _ in range(20):
            server.service.hub.publish("c", b"x" * 20_000)
            client.turn()
        client.peer.transport.read_again()
        assert client.closed() == (3008, "slow: the client reads too slowly (server option --max-queued-bytes)")

    def test_slow_with_policy(self):
        """Where its channel gives publications up, it subscribes again, and has them from the history."""
        server = make_server(max_queued_bytes=100_000, slow="drop-oldest")
        client = Client(server).connected()
        first = client.say("subscribe", channel="c")
        client.peer.transport.reading = False
        for number in range(9):
            server.service.hub.publish("c", b"%d," % number + b"x" * 19_950)
            client.turn()
        client.peer.transport.read_again()
        came = client.take()
        assert came[-1] == {"push": {"channel": "c", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
        seen = [one["push"]["pub"]["offset"] for one in came[:-1]]
        assert seen == list(range(1, len(seen) + 1))
        again = client.say("subscribe", channel="c", recover=True, offset=len(seen), epoch=first["epoch"])
        assert [one["offset"] for one in again["publications"]] == list(range(len(seen) + 1, 10))

    @pytest.mark.parametrize(("code", "stays"), [(1000, False), (None, False), (1001, True)])
    def test_presence_stays_for_a_moment(self, code, stays):
        """A user whose connection was lost stays on the channel for a while; who says goodbye does not."""
        server = make_server(token_secret=SECRET)
        client = Client(server).connected(token=token())
        client.say("subscribe", channel="c")
        client.peer.send_close(code) if code else client.peer.send_frame(8)
        client.peer.transport.lose()
        server.clock.advance(0.1)

        def present():
            told = []
            server.service.hub.presence.clients("c").addCallback(told.append)
            return len(told[0])

        assert present() == (1 if stays else 0)
        server.clock.advance(10)
        assert present() == 0


class TokenTests:
    """Who a client is, and what it may."""

    @pytest.fixture
    def server(self):
        """Start a server that wants tokens and opens nothing to everyone."""
        return MemoryServer(Settings(token_secret=SECRET, channel_presence=("*",)))

    def test_none(self, server):
        """Without a token nobody connects."""
        client = Client(server)
        client.send({"id": 1, "connect": {}})
        assert client.closed()[0] == 3501

    def test_anonymous(self):
        """Unless the server lets them."""
        server = MemoryServer(Settings(token_secret=SECRET, anonymous=True, channel_allow=("c",)))
        client = Client(server).connected()
        assert "code" not in client.say("subscribe", channel="c")

    @pytest.mark.parametrize("bad", ["x", "a.b.c", jwt.encode({"sub": "ann", "exp": 2**31}, "another" * 5, "HS256")])
    def test_invalid(self, server, bad):
        """A token that is not good ends the connection for good."""
        client = Client(server)
        client.send({"id": 1, "connect": {"token": bad}})
        assert client.closed()[0] == 3500

    def test_expired(self, server):
        """An expired one is an error: the client gets a new one, and connects again. This connection is of no use."""
        client = Client(server)
        assert client.say("connect", token=token(exp=int(time.time()) - 5))["code"] == 109
        client.send({"id": 2, "connect": {"token": token()}})
        assert client.closed() == (3501, "bad request: connect was refused")

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            (PATH + "?token={}", {}),
            (PATH, {"Authorization": "Bearer {}"}),
            (PATH, {"Sec-WebSocket-Protocol": "wsserver.v1, bearer.{}"}),
        ],
    )
    def test_carriers(self, server, target, headers):
        """The request may bring the token; two different ones are a mistake."""
        good = token(subs={"c": {}})
        headers = {name: value.format(good) for name, value in headers.items()}
        client = Client(server, target.format(good), headers)
        assert client.say("connect")["subs"].keys() == {"c"}
        client = Client(server, target.format(good), headers)
        client.send({"id": 1, "connect": {"token": token()}})
        assert client.closed() == (3501, "bad request: more than one token")

    def test_what_it_opens(self, server):
        """Channels and rights that the token names, and no others."""
        caps = [
            {"channels": ["news"], "allow": ["sub"]},
            {"channels": ["chat:*"], "match": "wildcard", "allow": ["sub", "pub"]},
            {"channels": ["looked at"], "allow": ["prs", "hst"]},
        ]
        client = Client(server).connected(token=token(caps=caps))
        assert "code" not in client.say("subscribe", channel="news")
        assert client.say("publish", channel="news", data=1)["code"] == 103
        assert client.say("publish", channel="chat:1", data=1) == {}
        assert client.say("subscribe", channel="other")["code"] == 103
        assert client.say("presence", channel="looked at") == {"presence": {}}
        assert "epoch" in client.say("history", channel="looked at")
        assert client.say("presence", channel="other")["code"] == 103

    def test_channels_of_the_token(self, server):
        """The client is subscribed to them without asking; what it knows of them is recovered."""
        told = []
        server.service.hub.history("c").addCallback(told.append)
        server.service.hub.publish("c", b"1")
        server.service.hub.publish("c", b"2")
        good = token(subs={"c": {"info": {"role": "x"}, "data": [1]}}, channels=["d"], info={"name": "Ann"})
        since = {"recover": True, "offset": 1, "epoch": told[0].position.epoch}
        about = Client(server).say("connect", token=good, subs={"c": since, "closed": since})
        assert about["subs"].keys() == {"c", "d"}
        assert about["subs"]["c"]["data"] == [1]
        assert [one["data"] for one in about["subs"]["c"]["publications"]] == [2]
        assert about["expires"] is True
        assert 3590 < about["ttl"] <= 3600
        client = Client(server).connected(token=good)
        clients = client.say("presence", channel="c")["presence"].values()
        shown = {"user": "ann", "conn_info": {"name": "Ann"}, "chan_info": {"role": "x"}}
        assert all(shown.items() <= one.items() for one in clients)

    def test_published_before_the_reply(self, monkeypatch):
        """An SDK drops what comes for channels that it does not know of: connect is answered first."""
        server = make_server(token_secret=SECRET)
        hub, waits = server.service.hub, Deferred()
        real = hub.broker.subscribe
        monkeypatch.setattr(hub.broker, "subscribe", lambda channel: waits if channel == "slow" else real(channel))
        client = Client(server)
        client.send({"id": 1, "connect": {"token": token(channels=["news", "slow"])}})
        client.turn()
        hub.publish("news", b"one")
        client.peer.transport.protocol.pauseProducing()
        client.peer.transport.protocol.resumeProducing()
        assert client.take() == []
        waits.callback(None)
        hub.publish("news", b"two")
        reply, *rest = client.take()
        assert set(reply["connect"]["subs"]) == {"news", "slow"}
        assert [one["push"]["pub"]["data"] for one in rest] == ["one", "two"]

    def test_connected_while_nothing_is_read(self, monkeypatch):
        """What waits for the reply to connect waits on where the client does not read."""
        server = make_server(token_secret=SECRET)
        hub, waits = server.service.hub, Deferred()
        real = hub.broker.subscribe
        monkeypatch.setattr(hub.broker, "subscribe", lambda channel: waits if channel == "slow" else real(channel))
        client = Client(server)
        client.send({"id": 1, "connect": {"token": token(channels=["news", "slow"])}})
        client.turn()
        hub.publish("news", b"one")
        client.turn()
        client.peer.transport.protocol.pauseProducing()
        waits.callback(None)
        assert [set(one) for one in client.take()] == [{"id", "connect"}]
        client.peer.transport.protocol.resumeProducing()
        assert [one["push"]["pub"]["data"] for one in client.take()] == ["one"]

    def test_channels_of_the_token_and_no_broker(self, server, monkeypatch):
        """Where one cannot be had, the client is to connect again, and is on none."""
        real = server.service.hub.broker.subscribe

        def down(channel):
            return real(channel) if channel == "c" else fail(BrokerDown("Redis is away"))

        monkeypatch.setattr(server.service.hub.broker, "subscribe", down)
        client = Client(server)
        refused = client.say("connect", token=token(channels=["c", "d"]))
        assert (refused["code"], refused["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}
        assert len(server.service.hub.clients) == 0
        client.send({"id": 2, "connect": {"token": token()}})
        assert client.closed() == (3501, "bad request: connect was refused")

    def test_subscription_tokens(self, server):
        """One opens its channel to its user, in this connection if it says so."""
        client = Client(server)
        number = client.say("connect", token=token())["client"]
        expired = token(channel="c", exp=int(time.time()) - 5)
        eternal = jwt.encode({"sub": "ann", "channel": "c"}, SECRET, "HS256")
        for bad, code in ((expired, 109), (eternal, 103), (token(), 103)):
            assert client.say("subscribe", channel="c", token=bad)["code"] == code
        good = token(channel="c", client=number, info={"n": 1}, data="d", allow=["pub"])
        result = client.say("subscribe", channel="c", token=good)
        assert (result["expires"], result["data"]) == (True, "d")
        assert client.say("publish", channel="c", data=1) == {}
        for claims in ({"channel": "other"}, {"channel": "d", "sub": "bob"}, {"channel": "d", "client": "another"}):
            other = Client(server).connected(token=token())
            other.send({"id": 2, "subscribe": {"channel": "d", "token": token(**claims)}})
            assert other.closed()[0] == 3500

    def test_refresh(self, monkeypatch):
        """A new token makes the connection live longer; without one it ends 25 s after its token."""
        server = MemoryServer(Settings(token_secret=SECRET, ping_interval=0.0))
        now = time.time()
        monkeypatch.setattr(server.service.authorizer, "_now", lambda: now + server.clock.seconds())
        client = Client(server).connected(token=token(exp=int(now) + 100))
        other = Client(server).connected(token=token(exp=int(now) + 100))
        refreshed = client.say("refresh", token=token(exp=int(now) + 200))
        assert refreshed["expires"] is True
        assert 190 < refreshed["ttl"] <= 200
        server.clock.advance(124)
        assert other.closed() is None
        server.clock.advance(3)
        assert other.closed() == (3005, "connection expired")
        assert client.closed() is None

    def test_end_of_a_subscription(self, monkeypatch):
        """A subscription ends 25 s after its token, and the client subscribes again."""
        server, now = MemoryServer(Settings(token_secret=SECRET, ping_interval=0.0)), time.time()
        monkeypatch.setattr(server.service.authorizer, "_now", lambda: now + server.clock.seconds())
        client = Client(server).connected(token=token())
        for channel in ("c", "d"):
            client.say("subscribe", channel=channel, token=token(channel=channel, exp=int(now) + 100))
        client.say("sub_refresh", channel="d", token=token(channel="d", exp=int(now) + 200))
        server.clock.advance(124)
        assert client.take() == []
        server.clock.advance(3)
        unsubscribe = {"code": 2501, "reason": "subscription expired"}
        assert client.take() == [{"push": {"channel": "c", "unsubscribe": unsubscribe}}]

    def test_refused_refresh(self, server):
        """A token that is expired, not good, or another user's ends the connection."""
        for bad, code in ((token(exp=int(time.time()) - 5), 3005), ("x", 3500), (token(sub="bob"), 3500), ("", 3501)):
            client = Client(server).connected(token=token())
            client.send({"id": 2, "refresh": {"token": bad}})
            assert client.closed()[0] == code

    def test_sub_refresh(self, server):
        """The same for a subscription."""
        client = Client(server).connected(token=token())
        assert client.say("sub_refresh", channel="c", token=token(channel="c"))["code"] == 103
        client.say("subscribe", channel="c", token=token(channel="c"))
        assert client.say("sub_refresh", channel="c", token=token(channel="c"))["expires"] is True
        assert client.say("sub_refresh", channel="c")["code"] == 107
        assert client.say("sub_refresh", channel="c", token=token(channel="c", exp=int(time.time()) - 5))["code"] == 109
        client.send({"id": 9, "sub_refresh": {"channel": "c", "token": token(channel="d")}})
        assert client.closed()[0] == 3500

    def test_gone_while_it_is_checked(self, server, monkeypatch):
        """A client that goes while keys are fetched is not known afterwards."""
        waits = Deferred()
        monkeypatch.setattr(server.service.authorizer.tokens, "connection", lambda _: waits)
        client = Client(server)
        client.send({"id": 1, "connect": {"token": "t"}})
        client.peer.transport.lose()
        waits.callback(Identity("ann", subs={"c": Opening()}))
        client.turn()
        assert len(server.service.hub.clients) == 0
        assert server.service.hub.counts() == {}

    def test_refresh_without_keys(self):
        """There is nothing to refresh."""
        client = Client(make_server()).connected()
        assert client.say("refresh", token="a.b.c")["code"] == 108


class ManagementTests:
    """What a backend can do with a client."""

    @pytest.fixture
    def clients(self, server):
        """Find the clients of the server."""
        return server.service.hub.clients.find

    def test_about(self, server, clients):
        """It is known from connect on until it goes."""
        client = Client(server)
        assert clients() == []
        number = client.say("connect")["client"]
        client.say("subscribe", channel="c")
        (known,) = clients()
        assert (known.client, known.user, list(known.channels)) == (number, "", ["c"])
        assert known.describe()["transport"] == "websocket"
        client.peer.transport.lose()
        assert clients() == []

    def test_disconnect(self, server, clients):
        """With the backend's own code."""
        client = Client(server).connected()
        clients()[0].disconnect(4501, "go away")
        assert client.closed() == (4501, "go away")

    def test_unsubscribe(self, server, clients):
        """It is told."""
        client = Client(server).connected()
        client.say("subscribe", channel="c")
        clients()[0].unsubscribe("c")
        assert client.take() == [
            {"push": {"channel": "c", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
        ]
        assert server.service.hub.counts() == {}

    def test_subscribe(self, server, clients):
        """It is told of its new subscription, and gets what is published."""
        client = Client(server).connected()
        assert clients()[0].subscribe("c", {"info": {"a": 1}, "data": '{"b": 2}'}) is True
        (told,) = client.take()
        assert told["push"]["channel"] == "c"
        assert told["push"]["subscribe"]["data"] == {"b": 2}
        assert told["push"]["subscribe"]["recoverable"] is True
        server.service.hub.publish("c", b"x")
        assert client.take()[0]["push"]["pub"]["data"] == "x"

    def test_left_while_it_was_made(self, server, clients, monkeypatch):
        """Whoever leaves before it is told of its new subscription is told of none."""
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub.broker, "history", lambda *_, **__: waits)
        assert clients()[0].subscribe("c", {}) is True
        assert client.say("unsubscribe", channel="c") == {}
        waits.callback(Page((), Position(0, "e")))
        assert client.take() == []
        assert list(clients()[0].channels) == []

    def test_logs_an_unexpected_failure_to_subscribe(self, server, clients, monkeypatch, log):
        """The backend has its answer already, so nobody else is told."""
        client = Client(server).connected()
        monkeypatch.setattr(server.service.hub.broker, "history", lambda *_, **__: fail(ZeroDivisionError()))
        assert clients()[0].subscribe("c", {}) is True
        assert client.take() == []
        (event,) = [event for event in log if event["log_level"] is LogLevel.critical]
        assert (event["log_format"], event["channel"]) == ("subscribing a client failed channel={channel}", "c")

    def test_subscribe_since(self, server, clients):
        """What was published since the position that the backend names comes as well, before what follows."""
        hub, receipts = server.service.hub, []
        for text in (b"1", b"2", b"3"):
            hub.publish("c", text).addCallback(receipts.append)
        client = Client(server).connected()
        since = {"offset": 1, "epoch": receipts[0].position.epoch}
        assert clients()[0].subscribe("c", {"recover_since": since}) is True
        hub.publish("c", b"4")
        told, *rest = client.take()
        assert told["push"]["subscribe"]["offset"] == 1
        assert [one["push"]["pub"]["offset"] for one in rest] == [2, 3, 4]

    def test_refresh(self, clients):
        """Where there is an end, it can be moved."""
        server = make_server(token_secret=SECRET)
        client = Client(server).connected(token=token())
        (known,) = server.service.hub.clients.find()
        assert known.refresh(int(time.time()) + 60) is True
        (told,) = client.take()
        assert told["push"]["refresh"]["expires"] is True

    def test_refresh_tells_no_ttl_to_a_client_without_a_token(self, monkeypatch):
        """A client that the backend has let in has nothing to refresh; it is disconnected when it expires."""
        server = make_server(hook_connect="http://backend.invalid/")
        answer = Connected(user="ann", expire_at=int(time.time()) + 600)
        monkeypatch.setattr(server.service.hooks, "connect", lambda *_, **__: succeed(answer))
        client = Client(server).connected()
        (known,) = server.service.hub.clients.find()
        assert known.refresh(int(time.time()) + 60) is True
        assert client.take() == [{"push": {"refresh": {}}}]

    def test_refresh_changes_nothing_without_an_expiry(self):
        """The connection never ends by itself."""
        anybody = make_server()
        Client(anybody).connected()
        assert anybody.service.hub.clients.find()[0].refresh(1) is False
