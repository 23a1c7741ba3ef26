"""The Centrifuge protocol on `/connection/websocket`, message by message, in memory."""

import json
import time

import jwt
import pytest
from centrifuge_client import PATH, Client
from peers import BINARY, TEXT
from protobuf_messages import decode_replies, encode_commands
from turns import end_turn
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher

from wsserver.auth.claims import Identity, Opening
from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge import executor
from wsserver.endpoints.centrifuge import pages as centrifuge_pages
from wsserver.endpoints.centrifuge.executor import CONNECT_TIMEOUT, MAX_QUEUED_COMMANDS
from wsserver.endpoints.centrifuge.json_codec import JSONCodec
from wsserver.endpoints.centrifuge.pages import MAX_PUBLICATIONS
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Connected
from wsserver.hub.stream import Page, Position
from wsserver.testing import Frame, MemoryServer, build_frame
from wsserver.wire.fastpath import FRAMES_PER_TURN
from wsserver.wire.limits import BYTES_PER_TURN, PIECES_PER_TURN

SECRET = "secret " * 6
OPEN = {"channel_allow": ("*",), "channel_publish": ("*",), "channel_presence": ("*",)}


@pytest.fixture
def server():
    """Start a server that permits every client everything in every channel."""
    return MemoryServer(Settings(**OPEN))


@pytest.fixture
def log():
    """Collect log events."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def make_server(**settings):
    """Start a server that permits every client everything in every channel, with further settings."""
    return MemoryServer(Settings(**OPEN | settings))


def token(**claims):
    """Sign a token that expires in one hour."""
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


class HandshakeTests:
    """The opening handshake."""

    @pytest.mark.parametrize(
        ("target", "headers", "words"),
        [
            (PATH + "?format=xml", {}, "format='xml' is not supported: expected json or protobuf"),
            (PATH + "?cf_protocol_version=v1", {}, "cf_protocol_version='v1' is not supported: expected v2"),
            (PATH + "?token=a", {"Authorization": "Bearer b"}, "more than one token"),
        ],
    )
    def test_refuses_an_unknown_format_version_1_and_two_tokens_with_400(self, server, target, headers, words):
        """The body of the response names what is wrong."""
        peer = server.connect()
        head = peer.open(target, headers)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert words in peer.transport.written.decode()

    @pytest.mark.parametrize("offer", ["centrifuge-json", "x, centrifuge-json, centrifuge-protobuf"])
    def test_selects_the_subprotocol_centrifuge_json(self, server, offer):
        client = Client(server, headers={"Sec-WebSocket-Protocol": offer})
        assert b"Sec-WebSocket-Protocol: centrifuge-json" in client.head
        client.connected()

    @pytest.mark.parametrize(
        ("target", "offer", "selected"),
        [
            (PATH, "centrifuge-protobuf", "centrifuge-protobuf"),
            (PATH, "x, centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf"),
            (PATH + "?format=protobuf", "", ""),
            (PATH + "?cf_protocol=protobuf", "", ""),
            (PATH + "?format=json", "centrifuge-protobuf", "centrifuge-protobuf"),
        ],
    )
    def test_speaks_protobuf_if_the_url_or_the_first_offered_subprotocol_says_so(self, server, target, offer, selected):
        client = Client(server, target, {"Sec-WebSocket-Protocol": offer} if offer else {})
        line = f"Sec-WebSocket-Protocol: {selected}" if selected else "Upgrade: websocket"
        assert line.encode() in client.head
        client.peer.send_frame(BINARY, encode_commands({"id": 1, "connect": {}}))
        client.turn()
        (message,) = client.peer.messages()
        (reply,) = decode_replies(message)
        assert reply["connect"]["client"]

    def test_accepts_unknown_query_parameters(self, server):
        """Applications may add their own parameters to the URL."""
        Client(server, PATH + "?format=json&cf_protocol_version=v2&my=own").connected()


class ProtobufTests:
    """Clients that speak Protobuf."""

    @pytest.fixture
    def client(self, server):
        """Connect a client."""
        client = Client(server, PATH + "?format=protobuf")
        self.send(client, {"id": 1, "connect": {}})
        (reply,) = self.receive(client)
        assert reply["connect"]["client"]
        return client

    def send(self, client, *commands, opcode=BINARY):
        """Send commands in one frame."""
        client.peer.send_frame(opcode, encode_commands(*commands))

    def receive(self, client):
        """Return the messages since the last call."""
        client.turn()
        return [reply for frame in client.peer.messages() for reply in decode_replies(frame)]

    def test_a_publication_reaches_a_subscriber_of_each_form(self, server, client):
        """Data that is not JSON arrives byte for byte with a Protobuf client."""
        plain = Client(server).connected()
        plain.request("subscribe", channel="c")
        self.send(
            client, {"id": 2, "subscribe": {"channel": "c"}}, {"id": 3, "publish": {"channel": "c", "data": b"hi"}}
        )
        subscribed, *rest = self.receive(client)
        assert subscribed["subscribe"]["positioned"]
        assert {"id": 3, "publish": {}} in rest
        (push,) = [one["push"] for one in rest if "push" in one]
        assert (push["channel"], push["pub"]["data"], push["pub"]["offset"]) == ("c", b"hi", 1)
        (shown,) = plain.receive()
        assert shown["push"]["pub"]["data"] == "hi"
        plain.request("publish", channel="c", data="m-0")
        (push,) = self.receive(client)
        assert push["push"]["pub"]["data"] == b'"m-0"'

    def test_recovers_and_pages_through_the_history(self, server, client):
        for data in (b"\xff", b"{}", "text"):
            server.service.hub.publish("c", data)
        self.send(client, {"id": 2, "subscribe": {"channel": "c"}})
        epoch = self.receive(client)[0]["subscribe"]["epoch"]
        self.send(
            client, {"id": 3, "history": {"channel": "c", "limit": -1}}, {"id": 4, "unsubscribe": {"channel": "c"}}
        )
        page, left = self.receive(client)
        data = [b"\xff", b"{}", b'"text"']
        assert [one["data"] for one in page["history"]["publications"]] == data
        assert left == {"id": 4, "unsubscribe": {}}
        self.send(client, {"id": 5, "subscribe": {"channel": "c", "recover": True, "offset": 1, "epoch": epoch}})
        (reply,) = self.receive(client)
        assert [one["data"] for one in reply["subscribe"]["publications"]] == data[1:]
        assert reply["subscribe"]["recovered"]

    def test_accepts_commands_in_a_text_frame(self, client):
        self.send(client, {"id": 2, "presence_stats": {"channel": "c"}}, opcode=TEXT)
        assert self.receive(client)[0]["id"] == 2

    def test_a_ping_is_one_byte_and_a_pong_an_empty_command(self, server, client):
        server.clock.pump([1.0] * 26)
        assert client.peer.messages() == [b"\x00"]
        client.peer.send_frame(BINARY, b"\x00")
        server.clock.pump([1.0] * 20)
        assert client.closed() is None

    def test_publish_without_data_is_refused_with_107(self, client):
        self.send(client, {"id": 2, "publish": {"channel": "c"}})
        assert self.receive(client)[0]["error"]["code"] == 107

    def test_send_closes_with_3508(self, client):
        self.send(client, {"send": {"data": b"1"}})
        assert client.closed()[0] == 3508

    @pytest.mark.parametrize("frame", [b"", b"\x05\x08", b"\x80", b"\x02\x08\x09", b"garbage"])
    def test_an_invalid_frame_closes_with_3501(self, client, frame):
        """The commands before an invalid one are answered first."""
        good = encode_commands({"id": 2, "unsubscribe": {"channel": "c"}}) if frame else b""
        client.peer.send_frame(BINARY, good + frame)
        client.turn()
        *replies, close = client.peer.frames()
        assert [decode_replies(one.payload) for one in replies] == [[{"id": 2, "unsubscribe": {}}]] * bool(frame)
        assert int.from_bytes(close.payload[:2]) == 3501


class DepthTests:
    """Commands whose data is deeply nested."""

    @pytest.mark.parametrize(("levels", "accepted"), [(254, True), (255, False), (500, False), (10_000, False)])
    def test_over_256_levels_are_refused_with_107_and_the_connection_stays_open(self, server, levels, accepted):
        """The command itself counts for two of 256 levels."""
        client = Client(server).connected()
        data = "[" * levels + "]" * levels
        client.peer.send_text(f'{{"publish":{{"channel":"c","data":{data}}},"id":2}}')
        client.send({"id": 3, "unsubscribe": {"channel": "c"}})
        first, second = client.receive()
        assert second == {"id": 3, "unsubscribe": {}}
        if accepted:
            assert first == {"id": 2, "publish": {}}
        else:
            assert (first["id"], first["error"]["code"]) == (2, 107)
            assert "over 256 levels" in first["error"]["message"]


class DataTests:
    """Data that the client sends with its commands."""

    @pytest.mark.parametrize(
        "data", [r'"\ud83d"', r'{"\ude00":["\ud83d\ud83d\ude00"]}', "0.1e400", "9" * 5000, "[1.50, -0]", "null"]
    )
    @pytest.mark.parametrize("history_size", [0, 10])
    def test_delivers_the_exact_text_of_published_data(self, data, history_size):
        """This includes half a surrogate pair, and numbers that few decoders can represent."""
        client = Client(make_server(history_size=history_size))
        client.peer.send_text(f'{{"id":1,"connect":{{"data":{data}}}}}')
        client.peer.send_text(f'{{"id":2,"subscribe":{{"channel":"c","data":{data}}}}}')
        client.peer.send_text(f'{{"id":3,"publish":{{"channel":"c","data":{data}}}}}')
        client.turn()
        text = "\n".join(client.peer.messages())
        assert f'"pub":{{"data":{data},' in text
        assert '{"id":3,"publish":{}}' in text
        assert client.closed() is None
        if history_size:
            client.peer.send_text('{"id":4,"history":{"channel":"c","limit":1}}')
            client.turn()
            assert f'{{"data":{data},' in client.peer.messages()[0]

    @pytest.mark.parametrize(
        "command",
        [
            {"publish": {"channel": "c"}},
            {"sub_refresh": {"channel": "c"}},
            {"sub_refresh": {"channel": "c", "token": ""}},
            {"publish": {"channel": "\ud83d", "data": 1}},
            {"subscribe": {"channel": "\ud83d"}},
        ],
    )
    def test_refuses_a_command_with_a_missing_or_invalid_field_with_107(self, server, command):
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        client.send({"id": 9, **command})
        (reply,) = client.receive()
        assert (reply["id"], reply["error"]["code"]) == (9, 107)
        assert client.closed() is None


class OrderTests:
    """The order of commands and replies."""

    @pytest.mark.parametrize(
        "bad", ["{", "", "[]", "{}", '{"id":5}', '{"publish":{}}', '{"id":5,"publish":{"channel":1}}']
    )
    def test_answers_the_commands_in_front_of_an_invalid_one_and_then_closes_with_3501(self, server, bad):
        """They may be in the same frame. Nothing after it is executed."""
        client = Client(server)
        after = json.dumps({"id": 3, "publish": {"channel": "c", "data": 1}})
        client.peer.send_text("\n".join(['{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"c"}}', bad, after]))
        client.peer.send_text(after)
        client.turn()
        replies, closed = client.peer.frames()
        assert [json.loads(line)["id"] for line in replies.payload.split(b"\n")] == [1, 2]
        assert (closed.opcode, int.from_bytes(closed.payload[:2], "big")) == (8, 3501)
        assert server.service.hub.history("c").result.publications == ()

    @pytest.mark.parametrize("history_size", [0, 10])
    @pytest.mark.parametrize("bad", ["{", '{"id":4,"connect":{}}', '{"send":{}}'])
    def test_a_client_receives_its_publication_in_front_of_a_command_that_ends_the_connection(self, bad, history_size):
        server = make_server(history_size=history_size)
        client, other = Client(server).connected(), Client(server).connected()
        for one in (client, other):
            one.request("subscribe", channel="c")
        client.peer.send_text('{"id":3,"publish":{"channel":"c","data":1}}\n' + bad)
        assert [one["push"]["pub"]["data"] for one in other.receive()] == [1]
        *frames, closed = client.peer.frames()
        reply, push = (json.loads(line) for frame in frames for line in frame.payload.split(b"\n"))
        assert reply == {"id": 3, "publish": {}}
        assert push["push"]["pub"]["data"] == 1
        assert closed.opcode == 8

    def test_waits_for_the_replies_in_front_of_an_invalid_command(self, server, monkeypatch):
        """Frames that arrive meanwhile are dropped, so that they need no memory."""
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub, "forward", lambda *_, **__: waits)
        client.peer.send_text('{"id":2,"publish":{"channel":"c","data":1}}\n{')
        for _ in range(5):
            client.peer.send_text('{"id":3,"unsubscribe":{"channel":"c"}}\n{')
        assert client.receive() == []
        assert len(client.peer.transport.protocol._commands) == 1
        waits.callback(None)
        client.turn()
        reply, closed = client.peer.frames()
        assert json.loads(reply.payload) == {"id": 2, "publish": {}}
        assert int.from_bytes(closed.payload[:2], "big") == 3501

    def test_closes_with_3501_if_the_first_command_is_not_connect(self, server):
        client = Client(server)
        client.send({"id": 1, "subscribe": {"channel": "c"}})
        assert client.closed() == (3501, "bad request: connect must be the first command")

    def test_closes_with_3501_on_a_second_connect(self, server):
        client = Client(server).connected()
        client.send({"id": 2, "connect": {}})
        assert client.closed() == (3501, "bad request: already connected")

    def test_closes_with_3502_without_a_connect_within_10_s(self, server):
        client = Client(server)
        server.clock.advance(CONNECT_TIMEOUT - 0.1)
        assert client.closed() is None
        server.clock.advance(0.2)
        assert client.closed() == (3502, "stale: no connect within 10 s")

    def test_closes_with_3501_at_invalid_json_and_ignores_later_commands(self, server):
        """The command before the invalid JSON is answered."""
        client = Client(server).connected()
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        client.peer.send_text("{")
        client.send({"id": 3, "publish": {"channel": "c", "data": 1}})
        client.turn()
        frames = client.peer.frames()
        assert [frame.opcode for frame in frames] == [1, 8]
        assert int.from_bytes(frames[1].payload[:2], "big") == 3501
        assert frames[1].payload[2:].startswith(b"bad request: a command is not JSON")
        assert server.service.hub.history("c").result.publications == ()

    def test_sends_the_replies_to_connect_and_subscribe_in_one_frame(self, server):
        client = Client(server)
        client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "c"}})
        (text,) = client.peer.messages()
        assert [json.loads(line)["id"] for line in text.split("\n")] == [1, 2]

    def test_sends_all_replies_to_one_frame_in_one_frame(self, server):
        client = Client(server).connected()
        client.send(*({"id": number, "subscribe": {"channel": f"c{number}"}} for number in range(2, 50)))
        client.turn()
        (frame,) = client.peer.frames()
        assert [json.loads(line)["id"] for line in frame.payload.split(b"\n")] == list(range(2, 50))

    def test_queues_commands_behind_a_pending_one_and_refuses_more_with_111(self, server, monkeypatch):
        """The queue has room for `MAX_QUEUED_COMMANDS` commands."""
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub, "forward", lambda *_, **__: waits)
        client.send({"id": 2, "publish": {"channel": "c", "data": 1}})
        client.send(*({"id": number, "unsubscribe": {"channel": "c"}} for number in range(3, 3 + MAX_QUEUED_COMMANDS)))
        assert client.receive() == []
        client.send({"id": 5000, "unsubscribe": {"channel": "c"}})
        (refused,) = client.receive()
        assert (refused["id"], refused["error"]["code"], refused["error"]["temporary"]) == (5000, 111, True)
        assert server.service.connections.counters.limits["queued_commands"] == 1
        waits.callback(None)
        assert [one["id"] for one in client.receive()] == list(range(2, 3 + MAX_QUEUED_COMMANDS))

    def test_subscribes_no_client_that_disconnects_during_its_command(self, server, monkeypatch):
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}}, {"id": 3, "subscribe": {"channel": "d"}})
        client.peer.transport.lose()
        waits.callback(None)
        client.turn()
        assert server.service.hub.counts() == {}
        assert len(server.service.hub.clients) == 0


class BudgetTests:
    """Limits of the work per turn of the reactor for clients that send many commands at once."""

    HISTORY = {"history_size": 100, "history_ttl": 300, "channel_allow": ("*",)}

    def turns(self, client, received):
        """Call `received` after each turn of the reactor; return its results that are neither 0 nor empty."""
        results = [received(client)]
        while end_turn(client.clock):
            results.append(received(client))
        return [result for result in results if result]

    @staticmethod
    def replies(client):
        """Return the ids of the replies since the last call."""
        return [json.loads(line)["id"] for text in client.peer.messages() for line in text.split("\n")]

    def test_serves_at_most_64_commands_of_a_frame_per_turn(self, server):
        """The remaining commands are answered in later turns, in order."""
        client = Client(server).connected()
        client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 1002)))
        turns = self.turns(client, self.replies)
        assert max(map(len, turns)) <= 64
        assert [number for ids in turns for number in ids] == list(range(2, 1002))

    def test_ends_a_turn_after_1_mib_of_replies(self):
        """Each page of history has 800 KB, so a turn writes at most two."""
        server = make_server(**self.HISTORY)
        client = Client(server).connected()
        for _ in range(100):
            server.service.hub.publish("c", b"x" * 8000)
        client.request("subscribe", channel="c")
        client.send(*({"id": number, "history": {"channel": "c", "limit": 100}} for number in range(10, 16)))
        sizes = self.turns(client, lambda it: sum(len(text) for text in it.peer.messages()))
        assert max(sizes) < BYTES_PER_TURN + 900_000
        assert sum(sizes) > 6 * 800_000

    def test_shares_one_budget_among_all_clients(self, server):
        """Another client is served in the next turn, although 20 clients have many commands queued."""
        clients = [Client(server).connected() for _ in range(20)]
        other = Client(server).connected()
        for client in clients:
            client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 102)))
        other.send({"id": 2, "rpc": {"method": "no"}})
        for client in clients:
            client.peer.messages()
        end_turn(server.clock)
        assert self.replies(other) == [2]
        assert sum(len(self.replies(client)) for client in clients) <= PIECES_PER_TURN

    @pytest.mark.parametrize("history_size", [0, 100])
    def test_a_client_is_subscribed_before_it_receives_a_publication_of_the_same_turn(self, history_size):
        """The third client subscribes while the publication is still to be delivered."""
        server = make_server(history_size=history_size)
        busy, subscriber, publisher, late = (Client(server).connected() for _ in range(4))
        busy.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 102)))
        subscriber.send({"id": 2, "subscribe": {"channel": "c"}})
        publisher.send({"id": 2, "publish": {"channel": "c", "data": 1}})
        late.send({"id": 2, "subscribe": {"channel": "c"}})
        assert ["subscribe" if "id" in one else "push" for one in subscriber.receive()] == ["subscribe", "push"]
        assert [one["id"] for one in late.receive()] == [2]

    def test_pauses_reading_while_commands_are_queued(self, server):
        """Every command is carried out later; none is refused with 111."""
        client = Client(server).connected()
        numbers = iter(range(2, 100_000))
        for _ in range(4):
            client.send(*({"id": next(numbers), "rpc": {"method": "no"}} for _ in range(1000)))
        assert client.peer.transport.paused
        replies = client.receive()
        assert not client.peer.transport.paused
        assert [one["id"] for one in replies] == list(range(2, 4002))
        assert {one["error"]["code"] for one in replies} == {108}

    def test_parses_a_limited_number_of_frames_of_one_read(self, server):
        """The other frames stay unparsed bytes until the frames before them are served."""
        client = Client(server).connected()
        protocol = client.peer.transport.protocol
        client.peer.send(b"".join(build_frame(1, b'{"id":%d,"rpc":{}}' % number) for number in range(2, 8002)))
        assert len(protocol._frames) <= FRAMES_PER_TURN
        assert [one["id"] for one in client.receive()] == list(range(2, 8002))

    def test_serves_no_further_command_while_a_reply_is_unread(self):
        """All commands are answered, in order, once the client reads again."""
        server = make_server(**self.HISTORY)
        client = Client(server).connected()
        for _ in range(100):
            server.service.hub.publish("c", b"x" * 8000)
        client.request("subscribe", channel="c")
        client.peer.transport.reading = False
        client.send(*({"id": number, "history": {"channel": "c", "limit": 100}} for number in range(10, 26)))
        client.turn()
        assert 800_000 < len(client.peer.transport.unread) < 1_000_000
        client.peer.transport.read_again()
        assert [one["id"] for one in client.receive()] == list(range(10, 26))

    def test_limits_a_page_of_history_to_max_publications(self):
        """The client requests the next page with `since`."""
        server = make_server(history_size=5000, history_ttl=300)
        client = Client(server).connected()
        for number in range(MAX_PUBLICATIONS + 500):
            server.service.hub.publish("c", b"%d" % number)
        epoch = client.request("subscribe", channel="c")["epoch"]
        first = client.request("history", channel="c", limit=-1)["publications"]
        assert [one["offset"] for one in first] == list(range(1, MAX_PUBLICATIONS + 1))
        since = {"offset": MAX_PUBLICATIONS, "epoch": epoch}
        rest = client.request("history", channel="c", limit=10_000, since=since)["publications"]
        assert [one["offset"] for one in rest] == list(range(MAX_PUBLICATIONS + 1, MAX_PUBLICATIONS + 501))

    @pytest.mark.parametrize(("missed", "recovered"), [(MAX_PUBLICATIONS, True), (MAX_PUBLICATIONS + 1, False)])
    def test_recovers_at_most_max_publications(self, missed, recovered):
        """A client that missed more is not recovered, and gets none of them."""
        server = make_server(history_size=5000, history_ttl=300)
        for number in range(missed):
            server.service.hub.publish("c", b"%d" % number)
        answer = Client(server).connected().request("subscribe", channel="c", recover=True, offset=0)
        assert answer.get("recovered", False) is recovered
        assert len(answer.get("publications", ())) == (missed if recovered else 0)
        assert answer.get("offset", 0) == (0 if recovered else missed)

    @pytest.mark.parametrize(("size", "recovered"), [(24_000, True), (26_000, False)])
    def test_recovers_at_most_max_queued_bytes(self, size, recovered):
        """The limit is the same as for live publications. A client that missed more is not recovered."""
        server = make_server(max_queued_bytes=100_000)
        for _ in range(4):
            server.service.hub.publish("c", b"x" * size)
        client = Client(server).connected()
        answer = client.request("subscribe", channel="c", recover=True, offset=0)
        assert answer.get("recovered", False) is recovered
        assert answer["was_recovering"] is True

    def test_recovers_all_channels_of_a_connect_within_one_limit(self):
        """The other channels are subscribed but not recovered."""
        server = make_server(max_queued_bytes=100_000, token_secret=SECRET)
        names = [f"c{number}" for number in range(10)]
        for name in names:
            server.service.hub.publish(name, b"x" * 24_000)
        epochs = dict.fromkeys(names, server.service.hub.broker._epoch)
        client = Client(server)
        subs = {name: {"recover": True, "offset": 0, "epoch": epochs[name]} for name in names}
        answer = client.request("connect", token=token(channels=names), subs=subs)
        recovered = [name for name, one in answer["subs"].items() if one.get("recovered")]
        # The fifth channel begins within the limit, and no publication is split.
        assert recovered == names[:5]
        assert set(answer["subs"]) == set(names)

    def test_refuses_presence_of_more_than_max_clients_with_106(self, server, monkeypatch):
        """`presence_stats` still counts them."""
        monkeypatch.setattr(centrifuge_pages, "MAX_CLIENTS", 3)
        clients = [Client(server).connected() for _ in range(4)]
        for client in clients[:3]:
            client.request("subscribe", channel="room")
        assert len(clients[0].request("presence", channel="room")["presence"]) == 3
        clients[3].request("subscribe", channel="room")
        assert clients[0].request("presence", channel="room")["code"] == 106
        assert server.service.hub.limits["presence_reply"] == 1
        assert clients[0].request("presence_stats", channel="room")["num_clients"] == 4

    def test_refuses_presence_beyond_max_queued_bytes_with_106(self):
        """The info claims of the clients' tokens count."""
        server = make_server(max_queued_bytes=10_000, token_secret=SECRET)
        clients = [Client(server) for _ in range(3)]
        for client in clients:
            client.request("connect", token=token(info={"about": "x" * 4000}))
            client.request("subscribe", channel="room")
        assert clients[0].request("presence", channel="room")["code"] == 106

    def test_encodes_an_unchanged_page_of_history_once(self, server, monkeypatch):
        """A new publication or another limit gives another page."""
        written = []
        real = JSONCodec.publications
        monkeypatch.setattr(JSONCodec, "publications", lambda *args: written.append(args) or real(*args))
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        server.service.hub.publish("c", b"one")
        pages = [client.request("history", channel="c", limit=10) for _ in range(3)]
        assert pages[0] == pages[1] == pages[2]
        assert len(written) == 1
        server.service.hub.publish("c", b"two")
        assert [one["data"] for one in client.request("history", channel="c", limit=10)["publications"]] == [
            "one",
            "two",
        ]
        assert [one["data"] for one in client.request("history", channel="c", limit=1)["publications"]] == ["one"]

    def test_sends_current_presence_after_a_join_or_a_leave(self, server):
        """Encoded replies are cached only until the presence changes."""
        one, two = (Client(server).connected() for _ in range(2))
        one.request("subscribe", channel="room")
        assert len(one.request("presence", channel="room")["presence"]) == 1
        two.request("subscribe", channel="room")
        assert len(one.request("presence", channel="room")["presence"]) == 2
        two.request("unsubscribe", channel="room")
        assert len(one.request("presence", channel="room")["presence"]) == 1

    def test_accepts_a_pong_while_a_command_waits_for_the_broker(self, monkeypatch):
        """If the pong had to wait as well, the server would close the connection with 3012."""
        server = make_server(ping_interval=10, ping_timeout=5)
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub, "forward", lambda *_, **__: waits)
        client.send({"id": 2, "publish": {"channel": "c", "data": 1}}, {"id": 3, "rpc": {}})
        server.clock.advance(10)
        assert client.receive() == [{}]
        client.send({})
        server.clock.advance(6)
        assert client.closed() is None
        waits.callback(None)
        assert [one["id"] for one in client.receive() if one] == [2, 3]

    def test_a_close_frame_drops_the_commands_that_are_queued_before_it(self, server):
        """Only commands that were served in the turn in which they arrived are answered before the Close frame."""
        client = Client(server).connected()
        client.send(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 1002)))
        client.peer.send_close(1000)
        turns = self.turns(client, lambda it: it.peer.frames())
        ((replies, close),) = turns
        ids = [json.loads(line)["id"] for line in replies.payload.split(b"\n")]
        assert 1 < len(ids) <= 64
        assert ids == list(range(2, 2 + len(ids)))
        assert close == Frame(8, b"\x03\xe8")
        assert client.peer.transport.lost


class SubscribeTests:
    """Subscriptions."""

    def test_refuses_an_invalid_subscribe_with_the_code_of_centrifuge(self, server):
        """A refused channel can be subscribed to afterwards."""
        client = Client(server).connected()
        assert client.request("subscribe", channel="c")["recoverable"] is True
        for fields, code in (
            ({"channel": "c"}, 105),
            ({"channel": "x" * 256}, 107),
            ({"channel": "a\x00b"}, 107),
            ({"channel": "d", "type": 1}, 107),
            ({"channel": "d", "tf": {"op": "eq"}}, 107),
            ({"channel": "d", "token": "a.b.c"}, 103),
            ({"channel": "d", "recover": True, "offset": 5, "epoch": "other", "flag": 2}, 112),
        ):
            assert client.request("subscribe", **fields)["code"] == code
        assert client.request("subscribe", channel="d")["recoverable"] is True

    def test_refuses_a_129th_channel_with_106(self, server):
        """After the client has unsubscribed from a channel, it can subscribe to another."""
        client = Client(server).connected()
        for number in range(128):
            client.request("subscribe", channel=f"c{number}")
        assert client.request("subscribe", channel="more")["code"] == 106
        client.request("unsubscribe", channel="c0")
        assert "code" not in client.request("subscribe", channel="more")

    def test_refuses_more_channels_than_the_option_permits_and_counts_it(self):
        server = make_server(max_channels_per_client=2)
        client = Client(server).connected()
        codes = [client.request("subscribe", channel=name).get("code") for name in "abc"]
        assert codes == [None, None, 106]
        assert dict(server.service.connections.counters.limits) == {"max_channels_per_client": 1}

    def test_refuses_a_token_with_more_channels_than_the_option_permits_with_3505(self):
        server = make_server(max_channels_per_client=2, token_secret=SECRET)
        client = Client(server)
        client.peer.send_text(json.dumps({"id": 1, "connect": {"token": token(channels=["a", "b", "c"])}}))
        client.turn()
        code, reason = client.peer.close_frame()
        assert (code, "--max-channels-per-client" in reason) == (3505, True)

    def test_answers_commands_over_the_rate_with_the_temporary_error_111(self):
        server = make_server(command_rate=5)
        client = Client(server).connected()
        server.clock.advance(10)
        codes = [client.request("presence_stats", channel="a").get("code") for _ in range(12)]
        assert codes == [103] * 10 + [111] * 2
        server.clock.advance(0.3)
        assert client.request("presence_stats", channel="a")["code"] == 103
        assert dict(server.service.connections.counters.limits) == {"command_rate": 2}

    def test_closes_with_3013_over_the_rate_with_rate_action_close(self):
        server = make_server(command_rate=5, rate_action="close")
        client = Client(server).connected()
        for _ in range(12):
            client.peer.send_text('{"id":9,"presence_stats":{"channel":"a"}}')
            server.clock.advance(0)
        frames = client.peer.frames()
        assert frames[-1].payload[:2] == (3013).to_bytes(2, "big")
        assert b"--command-rate" in frames[-1].payload

    def test_closes_with_3013_over_the_message_rate_with_rate_action_close(self):
        server = make_server(message_rate=5, rate_action="close")
        client = Client(server).connected()
        for _ in range(30):
            client.peer.send_text('{"id":9,"presence_stats":{"channel":"a"}}')
        server.clock.advance(0)
        assert client.peer.frames()[-1].payload[:2] == (3013).to_bytes(2, "big")

    @pytest.mark.parametrize(
        "method", ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"]
    )
    def test_closes_with_3501_on_a_command_without_a_channel(self, server, method):
        client = Client(server).connected()
        client.send({"id": 2, method: {}})
        code, reason = client.closed()
        assert code == 3501
        assert "without a channel" in reason

    def test_refuses_reserved_and_too_long_channel_names_with_107(self, server):
        client = Client(server).connected()
        assert client.request("subscribe", channel="wsserver:control")["code"] == 107
        assert client.request("publish", channel="wsserver:control", data=1)["code"] == 107
        assert client.request("history", channel="wsserver:control")["code"] == 107
        assert client.request("presence", channel="x" * 256)["code"] == 107

    def test_sends_missed_publications_in_the_reply_to_a_recovery(self, server):
        """
        The reply to a recovery has the offset that the client sent.

        If the client sends another epoch, the reply contains no publications, and has the offset of the stream.
        """
        hub = server.service.hub
        for number in range(3):
            hub.publish("c", b"%d" % number, json=True)
        client = Client(server).connected()
        first = client.request("subscribe", channel="c")
        assert first["offset"] == 3
        client.request("unsubscribe", channel="c")
        again = client.request("subscribe", channel="c", recover=True, offset=1, epoch=first["epoch"])
        assert again["recovered"] is again["was_recovering"] is True
        assert again["offset"] == 1
        assert [(one["data"], one["offset"]) for one in again["publications"]] == [(1, 2), (2, 3)]
        client.request("unsubscribe", channel="c")
        other = client.request("subscribe", channel="c", recover=True, offset=1, epoch="other")
        assert other["was_recovering"] is True
        assert "recovered" not in other
        assert "publications" not in other
        assert other["offset"] == 3

    def test_accepts_a_position_without_an_epoch(self, server):
        """Centrifugo does the same."""
        for number in range(3):
            server.service.hub.publish("c", b"%d" % number)
        client = Client(server).connected()
        result = client.request("subscribe", channel="c", recover=True, offset=2)
        assert [one["data"] for one in result["publications"]] == [2]
        page = client.request("history", channel="c", limit=-1, since={"offset": 1})
        assert [one["data"] for one in page["publications"]] == [1, 2]

    def test_limits_the_bytes_of_a_history_page_and_of_a_recovery(self, server):
        """The client can read further pages. A client that missed more than the limit is not recovered."""
        client = Client(server).connected()
        epoch = client.request("subscribe", channel="c")["epoch"]
        for _ in range(20):
            server.service.hub.publish("c", b"x" * 100_000)
        client.receive()
        seen = []
        while page := client.request("history", channel="c", limit=-1, since={"offset": len(seen), "epoch": epoch}).get(
            "publications"
        ):
            seen += [one["offset"] for one in page]
            assert len(page) <= 10
        assert seen == list(range(1, 21))
        other = Client(server).connected()
        assert "recovered" not in other.request("subscribe", channel="c", recover=True, offset=0, epoch=epoch)
        other.request("unsubscribe", channel="c")
        assert other.request("subscribe", channel="c", recover=True, offset=10, epoch=epoch)["recovered"] is True

    def test_subscribes_without_offsets_if_the_channel_has_no_history(self):
        server = make_server(history_size=0)
        client = Client(server).connected()
        assert client.request("subscribe", channel="c", recover=True, offset=1, epoch="e") == {"was_recovering": True}
        server.service.hub.publish("c", b"x")
        assert client.receive() == [{"push": {"channel": "c", "pub": {"data": "x"}}}]

    def test_refuses_a_subscribe_with_temporary_100_while_the_broker_is_down(self, server, monkeypatch):
        """A later attempt succeeds."""
        client = Client(server).connected()

        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: fail(BrokerDown("Redis is away")))
        refused = client.request("subscribe", channel="c")
        assert refused == {"code": 100, "message": "internal server error: Redis is away", "temporary": True}
        monkeypatch.undo()
        assert "code" not in client.request("subscribe", channel="c")

    def test_unsubscribes_with_2500_at_a_gap_of_a_channel_with_offsets(self, server):
        """
        The client then subscribes again and recovers.

        In a channel without offsets, the client gets a gap message instead.
        """
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        (known,) = server.service.hub.clients.find()
        subscription = known.subscription("c")
        subscription.missed("c", stream=False)
        assert client.receive() == [{"push": {"message": {"data": {"event": "gap", "channel": "c"}}}}]
        subscription.missed("c", stream=True)
        unsubscribe = {"code": 2500, "reason": "insufficient state"}
        assert client.receive() == [{"push": {"channel": "c", "unsubscribe": unsubscribe}}]
        assert server.service.hub.counts() == {}

    def test_refuses_with_temporary_100_if_the_backend_unsubscribes_it_meanwhile(self, server, monkeypatch):
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        (known,) = server.service.hub.clients.find()
        known.unsubscribe("c")
        waits.callback(None)
        (reply,) = client.receive()
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}

    def test_refuses_with_temporary_100_if_a_gap_occurs_before_the_reply(self, server, monkeypatch):
        """The client subscribes again, and that reply says whether it missed publications."""
        client = Client(server).connected()
        waits = Deferred()
        monkeypatch.setattr(server.service.hub.broker, "subscribe", lambda _: waits)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        (known,) = server.service.hub.clients.find()
        known.subscription("c").missed("c", stream=True)
        waits.callback(None)
        (reply,) = client.receive()
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}

    def test_closes_with_3004_on_an_unexpected_error_and_logs_it(self, server, monkeypatch, log):
        """SDKs reconnect after this code."""
        client = Client(server).connected()
        monkeypatch.setattr(server.service.hub, "subscribe", lambda *_, **__: 1 / 0)
        client.send({"id": 2, "subscribe": {"channel": "c"}})
        assert client.closed() == (3004, "internal server error: the server failed")
        (failure,) = [event["log_failure"] for event in log if "log_failure" in event]
        assert failure.check(ZeroDivisionError)


class PingTests:
    """Pings and pongs of the Centrifuge protocol."""

    def test_pings_every_25_s_and_stays_open_while_pongs_arrive(self, server):
        client = Client(server)
        about = client.request("connect")
        assert (about["ping"], about["pong"]) == (25, True)
        for _ in range(3):
            server.clock.advance(25)
            assert client.receive() == [{}]
            client.send({})
        assert client.closed() is None

    def test_closes_with_3012_if_no_pong_arrives(self, server):
        client = Client(server).connected()
        server.clock.advance(25)
        assert client.receive() == [{}]
        server.clock.advance(10.1)
        assert client.closed() == (3012, "no pong")
        assert server.service.connections.counters.limits == {"ping_timeout": 1}

    def test_closes_with_3501_on_a_pong_without_a_ping(self, server):
        client = Client(server).connected()
        client.send({})
        assert client.closed()[0] == 3501

    def test_sends_the_first_ping_after_half_to_one_interval(self, monkeypatch):
        """The random delay spreads the pings of clients that connect together."""
        for pick, due in ((0.0, 12.5), (0.999, 25)):
            monkeypatch.setattr(executor.random, "random", lambda pick=pick: pick)
            server = make_server()
            client = Client(server).connected()
            server.clock.advance(due - 0.1)
            assert client.receive() == []
            server.clock.advance(0.2)
            assert client.receive() == [{}]

    def test_sends_no_pings_if_the_interval_is_0(self):
        """The reply to `connect` then announces no pings."""
        server = make_server(ping_interval=0.0)
        client = Client(server)
        assert not {"ping", "pong"} & client.request("connect").keys()
        server.clock.advance(3600)
        assert client.receive() == []

    def test_sends_no_websocket_pings(self, server):
        """The Centrifuge protocol has pings of its own."""
        client = Client(server).connected()
        server.clock.advance(60)
        assert [frame for frame in client.peer.frames() if frame.opcode == 9] == []


class CloseTests:
    """Why the server closes a connection."""

    def test_closes_with_3001_when_the_server_stops(self, server):
        """SDKs reconnect after this code."""
        client = Client(server).connected()
        server.service.stopService()
        assert client.closed() == (3001, "shutdown: the server is stopping")

    def test_closes_with_3508_on_a_send_command(self, server):
        """The server has no handler for messages without a reply."""
        client = Client(server).connected()
        client.send({"send": {"data": 1}})
        assert client.closed()[0] == 3508

    def test_closes_with_3008_when_the_queue_exceeds_max_queued_bytes(self):
        server = make_server(max_queued_bytes=100_000)
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        client.peer.transport.reading = False
        for _ in range(20):
            server.service.hub.publish("c", b"x" * 20_000)
            client.turn()
        client.peer.transport.read_again()
        assert client.closed() == (3008, "slow: the client reads too slowly (server option --max-queued-bytes)")

    def test_unsubscribes_with_2500_when_drop_oldest_drops_publications(self):
        """The client subscribes again and recovers them from the history."""
        server = make_server(max_queued_bytes=100_000, slow="drop-oldest")
        client = Client(server).connected()
        first = client.request("subscribe", channel="c")
        client.peer.transport.reading = False
        for number in range(9):
            server.service.hub.publish("c", b"%d," % number + b"x" * 19_950)
            client.turn()
        client.peer.transport.read_again()
        received = client.receive()
        assert received[-1] == {"push": {"channel": "c", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
        seen = [one["push"]["pub"]["offset"] for one in received[:-1]]
        assert seen == list(range(1, len(seen) + 1))
        again = client.request("subscribe", channel="c", recover=True, offset=len(seen), epoch=first["epoch"])
        assert [one["offset"] for one in again["publications"]] == list(range(len(seen) + 1, 10))

    @pytest.mark.parametrize(("code", "stays"), [(1000, False), (None, False), (1001, True)])
    def test_keeps_presence_briefly_after_1001_but_not_after_1000(self, code, stays):
        """The user may reconnect after 1001; 1000, or a close frame without a code, is a deliberate end."""
        server = make_server(token_secret=SECRET)
        client = Client(server).connected(token=token())
        client.request("subscribe", channel="c")
        client.peer.send_close(code) if code else client.peer.send_frame(8)
        client.peer.transport.lose()
        server.clock.advance(0.1)

        def present():
            found = []
            server.service.hub.presence.clients("c").addCallback(found.append)
            return len(found[0])

        assert present() == (1 if stays else 0)
        server.clock.advance(10)
        assert present() == 0


class TokenTests:
    """Tokens: the user's identity and permissions."""

    @pytest.fixture
    def server(self):
        """Start a server that requires a token, and has no channel that is open to clients without one."""
        return MemoryServer(Settings(token_secret=SECRET, channel_presence=("*",)))

    def test_closes_with_3501_on_a_connect_without_a_token(self, server):
        client = Client(server)
        client.send({"id": 1, "connect": {}})
        assert client.closed()[0] == 3501

    def test_anonymous_admits_a_client_without_a_token(self):
        server = MemoryServer(Settings(token_secret=SECRET, anonymous=True, channel_allow=("c",)))
        client = Client(server).connected()
        assert "code" not in client.request("subscribe", channel="c")

    @pytest.mark.parametrize("bad", ["x", "a.b.c", jwt.encode({"sub": "ann", "exp": 2**31}, "another" * 5, "HS256")])
    def test_closes_with_3500_on_an_invalid_token(self, server, bad):
        """SDKs do not reconnect after this code."""
        client = Client(server)
        client.send({"id": 1, "connect": {"token": bad}})
        assert client.closed()[0] == 3500

    def test_refuses_an_expired_token_with_109(self, server):
        """The client must reconnect with a new token, because a second `connect` on the same connection is ignored."""
        client = Client(server)
        assert client.request("connect", token=token(exp=int(time.time()) - 5))["code"] == 109
        client.send({"id": 2, "connect": {"token": token()}})
        assert client.receive() == []

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            (PATH + "?token={}", {}),
            (PATH, {"Authorization": "Bearer {}"}),
            (PATH, {"Sec-WebSocket-Protocol": "wsserver.v1, bearer.{}"}),
        ],
    )
    def test_accepts_a_token_of_the_request_and_refuses_a_second_one_with_3501(self, server, target, headers):
        good = token(subs={"c": {}})
        headers = {name: value.format(good) for name, value in headers.items()}
        client = Client(server, target.format(good), headers)
        assert client.request("connect")["subs"].keys() == {"c"}
        client = Client(server, target.format(good), headers)
        client.send({"id": 1, "connect": {"token": token()}})
        assert client.closed() == (3501, "bad request: more than one token")

    def test_grants_only_the_permissions_of_the_token(self, server):
        caps = [
            {"channels": ["news"], "allow": ["sub"]},
            {"channels": ["chat:*"], "match": "wildcard", "allow": ["sub", "pub"]},
            {"channels": ["looked at"], "allow": ["prs", "hst"]},
        ]
        client = Client(server).connected(token=token(caps=caps))
        assert "code" not in client.request("subscribe", channel="news")
        assert client.request("publish", channel="news", data=1)["code"] == 103
        assert client.request("publish", channel="chat:1", data=1) == {}
        assert client.request("subscribe", channel="other")["code"] == 103
        assert client.request("presence", channel="looked at") == {"presence": {}}
        assert "epoch" in client.request("history", channel="looked at")
        assert client.request("presence", channel="other")["code"] == 103

    def test_replies_to_connect_before_a_publication_that_was_queued_meanwhile(self, server):
        """A listener publishes to the client's first channel, and subscribes to it, while the second one is joined."""
        hub = server.service.hub
        hub.listen("b", lambda *_: (hub.publish("a", b"1"), hub.listen("a", lambda *_: None)))
        client = Client(server)
        hub.publish("b", b"1")
        client.send({"id": 1, "connect": {"token": token(channels=["a", "b"])}})
        assert ["connect" if "id" in one else "push" for one in client.receive()] == ["connect", "push"]

    def test_omits_the_subscriptions_if_no_earlier_one_is_still_allowed(self, server):
        assert "subs" not in Client(server).request("connect", token=token(), subs={"closed": {}})

    def test_subscribes_to_the_channels_of_the_token_and_recovers_them(self, server):
        """The client sends its positions with connect; a position of any other channel is ignored."""
        pages = []
        server.service.hub.history("c").addCallback(pages.append)
        server.service.hub.publish("c", b"1")
        server.service.hub.publish("c", b"2")
        good = token(subs={"c": {"info": {"role": "x"}, "data": [1]}, "d": {}}, info={"name": "Ann"})
        since = {"recover": True, "offset": 1, "epoch": pages[0].position.epoch}
        about = Client(server).request("connect", token=good, subs={"c": since, "closed": since})
        assert about["subs"].keys() == {"c", "d"}
        assert about["subs"]["c"]["data"] == [1]
        assert [one["data"] for one in about["subs"]["c"]["publications"]] == [2]
        assert about["expires"] is True
        assert 3590 < about["ttl"] <= 3600
        client = Client(server).connected(token=good)
        clients = client.request("presence", channel="c")["presence"].values()
        shown = {"user": "ann", "conn_info": {"name": "Ann"}, "chan_info": {"role": "x"}}
        assert len(clients) == 2
        assert all(shown.items() <= one.items() for one in clients)

    def test_replies_to_connect_before_it_sends_publications(self, monkeypatch):
        """SDKs drop publications of channels that they do not know yet."""
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
        assert client.receive() == []
        waits.callback(None)
        hub.publish("news", b"two")
        reply, *rest = client.receive()
        assert set(reply["connect"]["subs"]) == {"news", "slow"}
        assert [one["push"]["pub"]["data"] for one in rest] == ["one", "two"]

    def test_keeps_publications_queued_after_connect_until_the_client_reads(self, monkeypatch):
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
        assert [set(one) for one in client.receive()] == [{"id", "connect"}]
        client.peer.transport.protocol.resumeProducing()
        assert [one["push"]["pub"]["data"] for one in client.receive()] == ["one"]

    def test_refuses_connect_with_temporary_100_if_one_channel_fails(self, server, monkeypatch):
        """The client stays subscribed to no channel, and must reconnect."""
        real = server.service.hub.broker.subscribe

        def down(channel):
            return real(channel) if channel == "c" else fail(BrokerDown("Redis is away"))

        monkeypatch.setattr(server.service.hub.broker, "subscribe", down)
        client = Client(server)
        refused = client.request("connect", token=token(channels=["c", "d"]))
        assert (refused["code"], refused["temporary"]) == (100, True)
        assert server.service.hub.counts() == {}
        assert len(server.service.hub.clients) == 0
        client.send({"id": 2, "connect": {"token": token()}})
        assert client.receive() == []

    def test_accepts_a_subscription_token_only_for_its_channel_user_and_client(self, server):
        """A token without an expiry is answered with 103. One for another channel, user or client closes with 3500."""
        client = Client(server)
        number = client.request("connect", token=token())["client"]
        expired = token(channel="c", exp=int(time.time()) - 5)
        eternal = jwt.encode({"sub": "ann", "channel": "c"}, SECRET, "HS256")
        for bad, code in ((expired, 109), (eternal, 103), (token(), 103)):
            assert client.request("subscribe", channel="c", token=bad)["code"] == code
        good = token(channel="c", client=number, info={"n": 1}, data="d", allow=["pub"])
        result = client.request("subscribe", channel="c", token=good)
        assert (result["expires"], result["data"]) == (True, "d")
        assert client.request("publish", channel="c", data=1) == {}
        for claims in ({"channel": "other"}, {"channel": "d", "sub": "bob"}, {"channel": "d", "client": "another"}):
            other = Client(server).connected(token=token())
            other.send({"id": 2, "subscribe": {"channel": "d", "token": token(**claims)}})
            assert other.closed()[0] == 3500

    def test_a_permission_to_publish_ends_with_the_token_or_the_subscription_that_gave_it(self, server):
        caps = [{"channels": ["c"], "allow": ["pub"]}]
        client = Client(server).connected(token=token(caps=caps))
        assert client.request("publish", channel="c", data=1) == {}
        assert client.request("publish", channel="d", data=1)["code"] == 103
        assert client.request("publish", channel="c", data=1) == {}
        client.request("refresh", token=token())
        assert client.request("publish", channel="c", data=1)["code"] == 103
        granted = client.request("subscribe", channel="c", token=token(channel="c", allow=["pub"]))
        assert granted["expires"]
        assert client.request("publish", channel="c", data=1) == {}
        client.request("sub_refresh", channel="c", token=token(channel="c"))
        assert client.request("publish", channel="c", data=1)["code"] == 103
        client.request("sub_refresh", channel="c", token=token(channel="c", allow=["pub"]))
        assert client.request("publish", channel="c", data=1) == {}
        client.request("unsubscribe", channel="c")
        assert client.request("publish", channel="c", data=1)["code"] == 103

    def test_closes_with_3005_25_s_after_the_token_expired_unless_refreshed(self, monkeypatch):
        server = MemoryServer(Settings(token_secret=SECRET, ping_interval=0.0))
        now = time.time()
        monkeypatch.setattr(server.service.authorizer, "_now", lambda: now + server.clock.seconds())
        client = Client(server).connected(token=token(exp=int(now) + 100))
        other = Client(server).connected(token=token(exp=int(now) + 100))
        refreshed = client.request("refresh", token=token(exp=int(now) + 200))
        assert refreshed["expires"] is True
        assert 190 < refreshed["ttl"] <= 200
        server.clock.advance(124)
        assert other.closed() is None
        server.clock.advance(3)
        assert other.closed() == (3005, "connection expired")
        assert client.closed() is None

    def test_unsubscribes_with_2501_25_s_after_the_subscription_token_expired(self, monkeypatch):
        """A sub_refresh with a later token extends the subscription."""
        server, now = MemoryServer(Settings(token_secret=SECRET, ping_interval=0.0)), time.time()
        monkeypatch.setattr(server.service.authorizer, "_now", lambda: now + server.clock.seconds())
        client = Client(server).connected(token=token())
        for channel in ("c", "d"):
            client.request("subscribe", channel=channel, token=token(channel=channel, exp=int(now) + 100))
        client.request("sub_refresh", channel="d", token=token(channel="d", exp=int(now) + 200))
        server.clock.advance(124)
        assert client.receive() == []
        server.clock.advance(3)
        unsubscribe = {"code": 2501, "reason": "subscription expired"}
        assert client.receive() == [{"push": {"channel": "c", "unsubscribe": unsubscribe}}]

    def test_closes_on_a_refresh_with_an_expired_invalid_foreign_or_missing_token(self, server):
        """An expired token closes with 3005, an invalid or another user's token with 3500, no token with 3501."""
        for bad, code in ((token(exp=int(time.time()) - 5), 3005), ("x", 3500), (token(sub="bob"), 3500), ("", 3501)):
            client = Client(server).connected(token=token())
            client.send({"id": 2, "refresh": {"token": bad}})
            assert client.closed()[0] == code

    def test_refuses_a_sub_refresh_without_a_subscription_or_a_valid_token(self, server):
        """A token of another channel closes the connection with 3500."""
        client = Client(server).connected(token=token())
        assert client.request("sub_refresh", channel="c", token=token(channel="c"))["code"] == 103
        client.request("subscribe", channel="c", token=token(channel="c"))
        assert client.request("sub_refresh", channel="c", token=token(channel="c"))["expires"] is True
        assert client.request("sub_refresh", channel="c")["code"] == 107
        client.send({"id": 9, "sub_refresh": {"channel": "c", "token": token(channel="d")}})
        assert client.closed()[0] == 3500

    def test_keeps_half_a_surrogate_pair_in_the_info_of_a_token(self):
        """Other clients receive it with publications, with join events and in presence."""
        server = MemoryServer(Settings(**OPEN, token_secret=SECRET))
        other = Client(server).connected(token=token(sub="bob"))
        other.request("subscribe", channel="c", join_leave=True)
        client = Client(server).connected(token=token(info={"name": "\ud83d"}))
        client.request("subscribe", channel="c", token=token(channel="c", info=["\ude00"]))
        client.request("publish", channel="c", data=1)
        joined, published = (one["push"] for one in other.receive() if "push" in one)
        info = published["pub"]["info"]
        assert (info["conn_info"], info["chan_info"]) == ({"name": "\ud83d"}, ["\ude00"])
        assert joined["join"]["info"] == info
        assert info in other.request("presence", channel="c")["presence"].values()

    def test_accepts_a_sub_refresh_of_a_subscription_that_was_made_without_a_token(self):
        """As Centrifugo does. A subscription that the server made has no token to refresh."""
        server = make_server(token_secret=SECRET)
        client = Client(server).connected(token=token(channels=["own"]))
        client.request("subscribe", channel="c")
        assert client.request("sub_refresh", channel="c", token=token(channel="c"))["expires"] is True
        client.send({"id": 9, "sub_refresh": {"channel": "own", "token": token(channel="own")}})
        assert client.closed() == (3501, "bad request: sub_refresh of a subscription that the server made")

    def test_registers_no_client_that_disconnects_while_its_token_is_checked(self, server, monkeypatch):
        waits = Deferred()
        monkeypatch.setattr(server.service.authorizer.tokens, "connection", lambda _: waits)
        client = Client(server)
        client.send({"id": 1, "connect": {"token": "t"}})
        client.peer.transport.lose()
        waits.callback(Identity("ann", subs={"c": Opening()}))
        client.turn()
        assert len(server.service.hub.clients) == 0
        assert server.service.hub.counts() == {}

    def test_refuses_a_refresh_with_108_if_no_key_is_configured(self):
        client = Client(make_server()).connected()
        assert client.request("refresh", token="a.b.c")["code"] == 108


class ManagementTests:
    """Operations of the backend on a client."""

    @pytest.fixture
    def clients(self, server):
        """Return the function that finds clients of the server."""
        return server.service.hub.clients.find

    def test_finds_a_client_from_connect_until_it_disconnects(self, server, clients):
        client = Client(server)
        assert clients() == []
        number = client.request("connect")["client"]
        client.request("subscribe", channel="c")
        (known,) = clients()
        assert (known.client, known.user, list(known.channels)) == (number, "", ["c"])
        assert known.describe()["transport"] == "websocket"
        client.peer.transport.lose()
        assert clients() == []

    def test_disconnects_with_the_code_and_reason_of_the_backend(self, server, clients):
        client = Client(server).connected()
        clients()[0].disconnect(4501, "go away")
        assert client.closed() == (4501, "go away")

    def test_unsubscribe_sends_the_client_a_push_with_2000(self, server, clients):
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        clients()[0].unsubscribe("c")
        assert client.receive() == [
            {"push": {"channel": "c", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
        ]
        assert server.service.hub.counts() == {}

    def test_subscribe_sends_the_client_a_push_and_then_publications(self, server, clients):
        client = Client(server).connected()
        assert clients()[0].subscribe("c", {"info": {"a": 1}, "data": '{"b": 2}'}) is True
        (message,) = client.receive()
        assert message["push"]["channel"] == "c"
        assert message["push"]["subscribe"]["data"] == {"b": 2}
        assert message["push"]["subscribe"]["recoverable"] is True
        server.service.hub.publish("c", b"x")
        assert client.receive()[0]["push"]["pub"]["data"] == "x"

    def test_subscribe_sends_no_push_if_the_client_unsubscribes_meanwhile(self, server, clients, monkeypatch):
        client, waits = Client(server).connected(), Deferred()
        monkeypatch.setattr(server.service.hub.broker, "history", lambda *_, **__: waits)
        assert clients()[0].subscribe("c", {}) is True
        assert client.request("unsubscribe", channel="c") == {}
        waits.callback(Page((), Position(0, "e")))
        assert client.receive() == []
        assert list(clients()[0].channels) == []

    def test_logs_an_unexpected_failure_to_subscribe(self, server, clients, monkeypatch, log):
        """The failure occurs after the backend's call has succeeded, so the log is the only place to report it."""
        client = Client(server).connected()
        monkeypatch.setattr(server.service.hub.broker, "history", lambda *_, **__: fail(ZeroDivisionError()))
        assert clients()[0].subscribe("c", {}) is True
        assert client.receive() == []
        (event,) = [event for event in log if event["log_level"] is LogLevel.critical]
        assert (event["log_format"], event["channel"]) == ("subscribing a client failed channel={channel}", "c")

    def test_subscribe_recovers_publications_since_the_position_of_the_backend(self, server, clients):
        """The recovered publications precede later ones."""
        hub, receipts = server.service.hub, []
        for text in (b"1", b"2", b"3"):
            hub.publish("c", text).addCallback(receipts.append)
        client = Client(server).connected()
        since = {"offset": 1, "epoch": receipts[0].position.epoch}
        assert clients()[0].subscribe("c", {"recover_since": since}) is True
        hub.publish("c", b"4")
        message, *rest = client.receive()
        assert message["push"]["subscribe"]["offset"] == 1
        assert [one["push"]["pub"]["offset"] for one in rest] == [2, 3, 4]

    def test_refresh_sends_the_client_a_push_with_the_new_expiry(self, clients):
        server = make_server(token_secret=SECRET)
        client = Client(server).connected(token=token())
        (known,) = server.service.hub.clients.find()
        assert known.refresh(int(time.time()) + 60) is True
        (message,) = client.receive()
        assert message["push"]["refresh"]["expires"] is True

    def test_refresh_sends_no_ttl_to_a_client_without_a_token(self, monkeypatch):
        """A client that the connect hook admitted has no token to refresh; it is disconnected when it expires."""
        server = make_server(hook_connect="http://backend.invalid/")
        answer = Connected(user="ann", expire_at=int(time.time()) + 600)
        monkeypatch.setattr(server.service.hooks, "connect", lambda *_, **__: succeed(answer))
        client = Client(server).connected()
        (known,) = server.service.hub.clients.find()
        assert known.refresh(int(time.time()) + 60) is True
        assert client.receive() == [{"push": {"refresh": {}}}]

    def test_refresh_changes_nothing_without_an_expiry(self):
        """Such a connection never expires."""
        server = make_server()
        Client(server).connected()
        assert server.service.hub.clients.find()[0].refresh(1) is False
