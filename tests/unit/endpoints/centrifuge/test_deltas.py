"""Deltas: clients of both forms decode them as the SDKs do, whatever is lost, dropped, recovered or in between."""

import base64
import gc
import json
import random
import time

import jwt
import pytest
from centrifuge_client import PATH, Client
from fossil import apply_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from protobuf_messages import decode_replies, encode_commands

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

FORMS = ("json", "protobuf")
BINARY = 2
SECRET = "secret " * 6
TEXT = json.dumps({"orders": [[n, n * n] for n in range(40)]})
"""Large enough for deltas that save something."""


def make_server(*, delta="always", slow="close", **options):
    """Start a server whose channels permit deltas; those that begin with `plain` have no history."""
    table = {"delta": delta, "slow": slow, "allow_tags_filter": True}
    channels = (("plain*", {**table, "history_size": 0}), ("*", table))
    return MemoryServer(Settings(channel_allow=("*",), channel_publish=("*",), channel=channels, **options))


def value(number, size=0):
    """Return the JSON text of a value that differs little from that of another number."""
    return TEXT.replace("[20, 400]", f'[20, "{number}€"]').replace("[0, 0]", f'[0, "{"x" * size}"]')


def number_of(text):
    """Return the number that `value` was called with."""
    return int(json.loads(text)["orders"][20][1][:-1])


class Subscriber:
    """
    A client with one subscription. It decodes deltas as the SDKs do: each with the publication before as the base.

    Args:
        server: the server.
        form: the form of the protocol.
        channel: the channel to subscribe to.
    """

    def __init__(self, server, form, channel="c"):
        self.client = Client(server, f"{PATH}?format={form}")
        self.form, self.channel, self.base, self.id = form, channel, None, 0
        self.seen, self.deltas, self.offset, self.epoch = [], [], 0, ""
        self.subscribed = self.left = False
        """Whether the client is subscribed; whether it has ever unsubscribed."""
        self.others = []
        """Pushes that are not publications."""
        self.request("connect")

    def subscribe(self, **fields):
        """Subscribe; return the result."""
        result = self.request("subscribe", channel=self.channel, **{"delta": "fossil"} | fields)
        self.offset, self.epoch, self.subscribed = result.get("offset", 0), result.get("epoch", ""), True
        for one in result.get("publications", ()):
            self.read(one)
        return result

    def request(self, method, **fields):
        """Send a command and return its result or error."""
        self.id += 1
        self.left |= method == "unsubscribe"
        if self.form == "json":
            self.client.send({"id": self.id, method: fields})
        else:
            self.client.peer.send_frame(BINARY, encode_commands({"id": self.id, method: fields}))
        (reply,) = [one for one in self.receive() if one.get("id") == self.id]
        return reply.get(method, reply.get("error"))

    def receive(self):
        """Read all messages; decode the publications, and return the others."""
        self.client.turn()
        frames = self.client.peer.messages()
        if self.form == "json":
            messages = [json.loads(line) for frame in frames for line in frame.split("\n")]
        else:
            messages = [reply for frame in frames for reply in decode_replies(frame)]
        for one in messages:
            if one.get("push", {}).get("pub"):
                self.read(one["push"]["pub"])
            elif "push" in one:
                self.others.append(one["push"])
        return messages

    def read(self, publication):
        """Decode a publication."""
        data, is_delta = publication["data"], publication.get("delta", False)
        content = data.encode() if self.form == "json" else data
        self.base = apply_delta(self.base, content) if is_delta else content
        self.seen.append(self.base.decode())
        self.deltas.append(is_delta)
        self.offset = publication.get("offset", 0)

    def take(self):
        """Return the publications since the last call: whether they were deltas; the data must be as expected."""
        self.receive()
        deltas, self.deltas = self.deltas, []
        return deltas


def publish(server, data, channel="c", **options):
    """Publish a JSON text."""
    server.service.hub.publish(channel, data, json=True, **options)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


class NegotiationTests:
    """`delta` of the command `subscribe`, and of its result."""

    def test_the_first_publication_is_complete_and_the_next_ones_are_deltas(self, form):
        server = make_server()
        subscriber = Subscriber(server, form)
        assert subscriber.subscribe()["delta"] is True
        for n in range(4):
            publish(server, value(n))
            server.clock.advance(0)
        assert subscriber.take() == [False, True, True, True]
        assert subscriber.seen == [value(n) for n in range(4)]

    @pytest.mark.parametrize(("delta", "requested"), [("off", "fossil"), ("always", "")])
    def test_without_the_option_or_the_request_publications_are_as_always(self, delta, requested):
        server = make_server(delta=delta)
        client = Client(server).connected()
        assert "delta" not in client.request("subscribe", channel="c", delta=requested)
        publish(server, value(1))
        publish(server, value(2))
        assert [one["push"]["pub"]["data"] for one in client.receive()] == [json.loads(value(n)) for n in (1, 2)]

    def test_an_unknown_format_closes_with_3501(self, form):
        server = make_server()
        client = Subscriber(server, form).client
        if form == "json":
            client.send({"id": 2, "subscribe": {"channel": "c", "delta": "vcdiff"}})
        else:
            client.peer.send_frame(BINARY, encode_commands({"id": 2, "subscribe": {"channel": "c", "delta": "vcdiff"}}))
        client.turn()
        assert int.from_bytes(client.peer.frames()[-1].payload[:2]) == 3501

    def test_null_requests_no_delta(self):
        client = Client(make_server()).connected()
        assert "delta" not in client.request("subscribe", channel="c", delta=None)

    def test_a_server_side_subscription_has_deltas_if_the_client_requests_them_with_connect(self):
        server = make_server(token_secret=SECRET)
        token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 60, "channels": ["c"]}, SECRET, "HS256")
        client = Client(server)
        result = client.request("connect", token=token, subs={"c": {"delta": "fossil"}})
        assert result["subs"]["c"]["delta"] is True
        publish(server, value(1))
        publish(server, value(2))
        first, second = (one["push"]["pub"] for one in client.receive())
        assert first["data"] == value(1)
        assert apply_delta(value(1).encode(), second["data"].encode()) == value(2).encode()


class RequestedTests:
    """The channel option `delta = "requested"`: only publications made with `delta` are sent as deltas."""

    def test_only_publications_with_delta_are_sent_as_deltas(self, form):
        server = make_server(delta="requested")
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        for n, delta in enumerate([True, True, False, True]):
            publish(server, value(n), delta=delta)
            server.clock.advance(0)
        assert subscriber.take() == [False, True, False, True]
        assert subscriber.seen == [value(n) for n in range(4)]

    def test_two_publications_of_one_turn_are_a_chain(self, form):
        server = make_server(delta="requested")
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        for n in range(3):
            publish(server, value(n), delta=True)
        assert subscriber.take() == [False, True, True]


class DataTests:
    """What the data is."""

    def test_json_form_sends_the_text_as_it_was_published(self):
        server = make_server()
        subscriber = Subscriber(server, "json")
        subscriber.subscribe()
        texts = [
            '{ "a": 1.0,\n "b": "\\ud800" }',
            '"text"',
            "null",
            '{ "a": 2.0,\n "b": "\\ud800" }',
            "12345678901234567890",
        ]
        for text in texts:
            publish(server, text)
        assert subscriber.take() == [False] * 5
        assert subscriber.seen == texts

    def test_a_delta_that_would_not_be_smaller_is_not_sent(self, form):
        server = make_server()
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        for text in ('{"a":1}', '{"a":2}', json.dumps("€" * 100), json.dumps("x" * 100)):
            publish(server, text)
        assert subscriber.take() == [False] * 4

    def test_bytes_are_base64_in_json_and_bytes_in_protobuf(self):
        server = make_server()
        subscribers = [Subscriber(server, form) for form in FORMS]
        rng = random.Random(1)
        data = rng.randbytes(300)
        seen = []
        for subscriber in subscribers:
            subscriber.subscribe()
            subscriber.read = lambda pub, one=subscriber: seen.append((one.form, pub))
        server.service.hub.publish("c", data)
        server.service.hub.publish("c", data + b"\xff")
        for subscriber in subscribers:
            subscriber.receive()
        (_, first), (_, second), (_, third), (_, fourth) = seen
        assert first["tags"] == second["tags"] == {"encoding": "base64"}
        assert base64.b64decode(json.loads(first["data"])) == data
        text = apply_delta(first["data"].encode(), second["data"].encode())
        assert base64.b64decode(json.loads(text)) == data + b"\xff"
        assert third["data"] == data
        assert apply_delta(data, fourth["data"]) == data + b"\xff"

    def test_tags_info_and_offset_are_sent_with_a_delta(self, form):
        server = make_server()
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        shown = []
        publish(server, value(1), tags={"a": "b"})
        publish(server, value(2), tags={"a": "c"})
        subscriber.read = shown.append
        subscriber.receive()
        assert [(one["offset"], one["tags"]["a"], one.get("delta", False)) for one in shown] == [
            (1, "b", False),
            (2, "c", True),
        ]

    @pytest.mark.parametrize("form", FORMS)
    def test_with_a_filter_the_base_is_the_last_publication_that_matched(self, form):
        """Subscribers with another filter, with the same one, and without one have other bases."""
        server = make_server()
        filters = [{"tf": {"key": "odd", "cmp": "eq", "val": odd}} for odd in ("1", "1", "0")]
        clients = [Subscriber(server, form) for _ in range(4)]
        for client, fields in zip(clients, [*filters, {}], strict=True):
            client.subscribe(**fields)
        for turn in ([1], [2], [3, 4, 5], [7], [6, 8]):
            for number in turn:
                server.service.hub.publish("c", value(number), json=True, tags={"odd": str(number % 2)})
            server.clock.advance(0)
        expected = [[1, 3, 5, 7], [1, 3, 5, 7], [2, 4, 6, 8], [1, 2, 3, 4, 5, 7, 6, 8]]
        for client, numbers in zip(clients, expected, strict=True):
            assert client.take() == [False] + [True] * (len(numbers) - 1)
            assert [*map(number_of, client.seen)] == numbers

    def test_events_of_presence_are_sent_between_deltas(self):
        server = make_server(channel_presence=("*",))
        subscriber = Subscriber(server, "json")
        subscriber.subscribe(join_leave=True)
        publish(server, value(1))
        other = Subscriber(server, "json")
        other.subscribe()
        publish(server, value(2))
        other.request("unsubscribe", channel="c")
        publish(server, value(3))
        assert subscriber.take() == [False, True, True]
        assert [next(iter(one.keys() - {"channel"})) for one in subscriber.others] == ["join", "join", "leave"]


class RecoveryTests:
    """Recovered publications, and those that follow."""

    def test_recovered_publications_are_deltas_of_each_other_and_the_next_one_is_complete(self, form):
        server = make_server()
        first = Subscriber(server, form)
        result = first.subscribe()
        for n in range(4):
            publish(server, value(n))
        later = Subscriber(server, form)
        assert later.subscribe(recover=True, offset=1, epoch=result["epoch"])["recovered"]
        assert later.take() == [False, True, True]
        publish(server, value(4))
        publish(server, value(5))
        assert later.take() == [False, True]
        assert later.seen == [value(n) for n in range(1, 6)]

    def test_recovered_publications_are_plain_without_deltas(self, form):
        server = make_server()
        epoch = Subscriber(server, form).subscribe()["epoch"]
        publish(server, value(0))
        publish(server, value(1))
        later = Subscriber(server, form)
        later.read = lambda pub: later.seen.append(pub["data"])
        later.subscribe(recover=True, offset=0, epoch=epoch, delta="")
        expected = [json.loads(value(n)) if form == "json" else value(n).encode() for n in range(2)]
        assert later.seen == expected

    def test_a_new_subscription_of_the_same_client_begins_with_a_complete_publication(self, form):
        server = make_server()
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        publish(server, value(1))
        publish(server, value(2))
        subscriber.receive()
        subscriber.request("unsubscribe", channel="c")
        publish(server, value(3))
        subscriber.subscribe()
        publish(server, value(4))
        assert subscriber.take() == [False, True, False]


class SlowReaderTests:
    """A client that does not read."""

    def test_queued_publications_are_deltas_if_none_is_ever_dropped(self, form):
        server = make_server()
        subscriber = Subscriber(server, form)
        subscriber.subscribe()
        subscriber.client.peer.transport.reading = False
        for n in range(30):
            publish(server, value(n, size=70_000 if n == 0 else 69_990))
            server.clock.advance(0)
        subscriber.client.peer.transport.read_again()
        assert subscriber.take() == [False, *[True] * 29]
        assert [number_of(text) for text in subscriber.seen] == list(range(30))

    @pytest.mark.parametrize("slow", ["drop-oldest", "latest"])
    def test_queued_publications_are_complete_if_they_may_be_dropped(self, form, slow):
        server = make_server(slow=slow, max_queued_bytes=200_000)
        subscriber = Subscriber(server, form, "plain")
        subscriber.subscribe()
        publish(server, value(0), "plain")
        subscriber.receive()
        subscriber.client.peer.transport.reading = False
        for n in range(1, 30):
            publish(server, value(n, size=69_990), "plain")
            publish(server, value(n + 100, size=69_990), "plain")
            server.clock.advance(0)
        subscriber.client.peer.transport.read_again()
        publish(server, value(200), "plain")
        publish(server, value(201), "plain")
        deltas = subscriber.take()
        seen = [number_of(text) for text in subscriber.seen]
        # The first two, and what was queued and not dropped, then what was published while the client read again.
        assert seen[:3] == [0, 1, 101]
        assert seen[-3:] == [129, 200, 201]
        assert deltas[1:3] == [True, True]
        assert deltas[3:] == [*[False] * (len(deltas) - 4), True]
        assert [one["message"] for one in subscriber.others if "message" in one]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 3)),
        st.sampled_from([(name, n) for name in ("stop", "read", "leave", "recover", "join") for n in range(3)]),
        st.just(("turn", 0)),
    ),
    max_size=60,
)


class Run:
    """
    A server with subscribers of both forms, and what happens to them.

    Args:
        slow: the channel's slow consumer policy.
        channel: the channel that all clients subscribe to.
    """

    def __init__(self, slow, channel):
        self.server, self.channel, self.published = make_server(slow=slow, max_queued_bytes=60_000), channel, 0
        self.subscribers = [Subscriber(self.server, form, channel) for form in (*FORMS, "json")]
        for one in self.subscribers:
            one.subscribe()

    def publish(self, size):
        """Publish the next number, with one of four sizes."""
        self.published += 1
        publish(self.server, value(self.published, size=(0, 10, 9_000, 30_000)[size]), self.channel)

    def turn(self, _):
        """Let the server deliver."""
        self.server.clock.advance(0)

    def stop(self, number):
        """Let a client stop reading."""
        self.subscribers[number].client.peer.transport.reading = False

    def read(self, number):
        """Let a client read again."""
        self.subscribers[number].client.peer.transport.read_again()

    def leave(self, number):
        """Let a client unsubscribe."""
        one, transport = self.subscribers[number], self.subscribers[number].client.peer.transport
        if transport.reading and not transport.lost:
            one.request("unsubscribe", channel=self.channel)
            one.subscribed = False

    def join(self, number, *, recover=False):
        """Let a client subscribe if it is not subscribed, or if the server has ended its subscription."""
        one, transport = self.subscribers[number], self.subscribers[number].client.peer.transport
        if not transport.reading or transport.lost:
            return
        one.receive()
        if any("unsubscribe" in push for push in one.others):
            one.subscribed, one.left = False, True
        one.others.clear()
        if not one.subscribed:
            one.subscribe(**{"recover": True, "offset": one.offset, "epoch": one.epoch} if recover else {})

    def recover(self, number):
        """The same, but let the client recover what it missed."""
        self.join(number, recover=True)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.sampled_from(["close", "drop-oldest", "latest"]), st.sampled_from(["c", "plain"]))
def test_no_client_gets_a_delta_of_what_it_has_not_received(operations, slow, channel):
    """Every delta can be applied, and every client sees increasing numbers: all of them if none may be lost."""
    run = Run(slow, channel)
    for name, number in operations:
        getattr(run, name)(number)
    for one in run.subscribers:
        one.client.peer.transport.read_again()
        if not one.client.peer.transport.lost:
            one.receive()
            seen = [number_of(text) for text in one.seen]
            assert seen == sorted(set(seen))
            if slow == "close" and not one.left:
                assert seen == list(range(1, run.published + 1))


def test_nothing_of_a_delivery_stays_in_memory():
    """Of 20 publications, at most the last one does."""
    server = make_server()
    subscriber = Subscriber(server, "json")
    subscriber.subscribe()
    for number in range(20):
        server.service.hub.publish("c", value(number).encode(), json=True)
        subscriber.client.receive()
    gc.collect()
    kept = [type(one).__name__ for one in gc.get_objects()]
    assert kept.count("_DeltaDelivery") <= 1
    assert kept.count("_DeltaEncoder") <= 1
