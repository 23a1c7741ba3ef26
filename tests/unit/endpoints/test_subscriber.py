"""A connection that is sent what is published: what waits, what is given up, and one compression for all."""

import zlib

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.subscriber import SubscriberProtocol, Subscription
from wsserver.testing import HIGH_WATER, MemoryServer, parse_frames

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
FILLER = b"-" * HIGH_WATER


def serve(**options):
    """Make a server."""
    return MemoryServer(Settings(**{"channel_allow": ("*",)} | options))


def listen(server, query="channel=foo", headers=()):
    """Connect a raw subscriber."""
    client = server.connect()
    assert b" 101 " in client.open(f"/ws?{query}", dict(headers))
    return client


def publish(server, *texts, channel="foo"):
    """Publish in one turn, and take the next."""
    for text in texts:
        server.service.hub.publish(channel, text if isinstance(text, bytes) else text.encode())
    server.clock.advance(0)


def fill(server, client):
    """Let a client not read until its connection is told so; takes what was sent for it."""
    client.transport.reading = False
    publish(server, FILLER + b"1", channel="filler")
    connection = next(iter(c for c in server.service.connections.connections if c.transport is client.transport))
    assert connection._send_queue is not None
    return connection


def rest(client):
    """Let a client read; returns its messages but for the filler."""
    client.transport.read_again()
    return [message for message in client.messages() if not message.startswith("---")]


class SlowTests:
    """A client that does not read."""

    def test_all_in_order(self):
        """What waits comes when it reads again, all of it, counted once."""
        server = serve()
        client = listen(server, "channel=foo,filler")
        connection = fill(server, client)
        publish(server, "1", "22")
        publish(server, "333")
        assert connection.messages_out == 1
        assert rest(client) == ["1", "22", "333"]
        assert connection.messages_out == 4
        assert connection.bytes_out == HIGH_WATER + 7
        publish(server, "4")
        assert client.messages() == ["4"]

    def test_close(self):
        """It is closed with 1013 where too much waits, and gets no more."""
        server = serve(max_queued_bytes=2000)
        client = listen(server, "channel=foo,filler")
        fill(server, client)
        for _ in range(3):
            publish(server, "x" * 1000)
        client.transport.read_again()
        frames = client.frames()
        assert [frame.opcode for frame in frames] == [1, 8]
        assert frames[1].payload == b"\x03\xf5the client reads too slowly (server option --max-queued-bytes)"
        publish(server, "more")
        assert client.frames() == []
        assert server.service.hub.dropped == 0

    def test_tiny_ones(self):
        """Tiny publications are bounded as well: each counts for more than it weighs."""
        server = serve(max_queued_bytes=20_000)
        client = listen(server, "channel=foo,filler")
        fill(server, client)
        for _ in range(101):
            publish(server, "x")
        client.transport.read_again()
        assert client.close_frame() == (1013, "the client reads too slowly (server option --max-queued-bytes)")

    def test_drop_oldest(self):
        """The oldest are given up; a notice stands in their place, and they are counted."""
        server = serve(slow="drop-oldest", max_queued_bytes=3700)
        client = listen(server, "channel=foo,filler")
        fill(server, client)
        for number in range(10):
            publish(server, f"{number}" + "x" * 999)
        got = rest(client)
        assert got[0] == '{"event":"gap","channel":"foo"}'
        assert [message[0] for message in got[1:]] == ["7", "8", "9"]
        assert server.service.hub.dropped == 7
        publish(server, "next")
        assert client.messages() == ["next"]

    def test_latest(self):
        """Only the newest of each channel waits."""
        server = serve(slow="latest")
        client = listen(server, "channel=foo,bar,filler")
        fill(server, client)
        publish(server, "1", "2")
        publish(server, "a", channel="bar")
        publish(server, "3")
        assert rest(client) == ['{"event":"gap","channel":"foo"}', "a", "3"]
        assert server.service.hub.dropped == 2

    def test_by_channel(self):
        """The policy is the channel's."""
        server = serve(channel=(("ticks:*", {"slow": "latest"}),))
        client = listen(server, "channel=foo,ticks:1,filler")
        fill(server, client)
        for text in "12":
            publish(server, text)
            publish(server, text, channel="ticks:1")
        assert rest(client) == ['{"event":"gap","channel":"ticks:1"}', "1", "2", "2"]

    def test_slow_again(self):
        """A second gap is told again, in its place."""
        server = serve(slow="latest")
        client = listen(server, "channel=foo,filler")
        for _ in range(2):
            fill(server, client)
            publish(server, "1", "2")
            assert rest(client) == ['{"event":"gap","channel":"foo"}', "2"]

    def test_others_do_not_wait(self):
        """Somebody who reads gets everything at once."""
        server = serve(slow="drop-oldest", max_queued_bytes=2000)
        slow, other = listen(server, "channel=foo,filler"), listen(server)
        fill(server, slow)
        for number in range(50):
            publish(server, f"{number}" * 100)
            assert other.messages() == [f"{number}" * 100]

    def test_nothing_is_read_meanwhile(self):
        """While it does not read what is sent, what it sends is not read."""
        server = serve()
        client = listen(server, "channel=foo,filler")
        fill(server, client)
        publish(server, "1")
        assert client.transport.paused
        client.transport.read_again()
        assert not client.transport.paused

    def test_closed_by_the_peer_meanwhile(self):
        """Nothing is left of a connection that is lost while something waits for it."""
        server = serve()
        client = listen(server, "channel=foo,filler")
        connection = fill(server, client)
        publish(server, "1")
        client.transport.lose()
        assert connection._send_queue is None
        assert server.service.hub.counts() == {}
        publish(server, "2")


class Chat(SubscriberProtocol):
    """An endpoint that keeps something about each channel, as one with a protocol of its own does."""

    def onOpen(self):
        """Subscribe."""
        self.told = []
        self.places = [Place(self, channel) for channel in ("foo", "filler")]
        for place in self.places:
            self.hub.subscribe(place.channel, place)

    def onMessage(self, payload, isBinary):
        """Answer, and publish in the same turn."""
        self.sendMessage(b"answer")
        self.hub.publish("foo", payload)
        self.hub._flush_all()

    def dropped(self, channel):
        """Leave a channel of which something was given up, and say so."""
        self.told.append(channel)
        self.hub.unsubscribe(channel, self.places[0])
        self.forget(channel)
        self.send_in_order(self.write_frame(0x81, b"left " + channel.encode()), 1, 8)

    def onClose(self, wasClean, code, reason):
        """Leave."""
        for place in self.places:
            self.hub.unsubscribe(place.channel, place)


class Place(Subscription):
    """A place in a channel."""

    kind = "chat"

    def frame(self, channel, publication):
        """Write a publication."""
        return self.connection.write_frame(0x81, publication.data)


def chat(limit=1000, **options):
    """Serve such an endpoint, and connect to it."""
    server = MemoryServer(Settings(**options), endpoints={"/chat": Chat})
    bound = server.service.endpoints.find("/chat", {})
    bound.hub, bound.max_queued = server.service.hub, limit
    client = server.connect()
    client.open("/chat")
    return server, client


class SubscriptionTests:
    """An endpoint with an object for each of its channels."""

    def test_delivered(self):
        """What is published arrives by them."""
        server, client = chat()
        publish(server, "1")
        assert client.messages() == ["1"]

    def test_past_the_endpoint(self, monkeypatch):
        """Whoever reads is written to by the loop itself, whichever sort of subscriber it is."""
        server, client = chat()
        raw = MemoryServer(Settings(channel_allow=("*",)))
        listener = listen(raw)
        # Were it called, nothing would arrive.
        monkeypatch.setattr(SubscriberProtocol, "deliver", lambda *_: None)
        for each, its_server in ((client, server), (listener, raw)):
            publish(its_server, "1")
            assert each.messages() == ["1"]

    def test_behind_answers(self):
        """What is published while a read is served does not overtake the answers to what came before it."""
        _, client = chat()
        client.send_text("x")
        assert client.messages() == ["answer", "x"]

    def test_in_its_order(self):
        """What an endpoint delivers stands in its order among the publications, whether or not they wait."""
        server, client = chat(limit=10_000)
        connection = fill(server, client)
        text = connection.write_frame(0x81, b"between")
        for _ in range(2):
            publish(server, "before")
            connection.send_in_order(text, 1, 7)
        publish(server, "after")
        assert rest(client) == ["before", "between", "before", "between", "after"]
        connection.send_in_order(text, 1, 7)
        publish(server, "last")
        assert client.messages() == ["between", "last"]

    def test_no_word_for_a_gap(self):
        """An endpoint that has no word for a gap tells none; what is given up is counted all the same."""
        server, client = chat(slow="latest")
        connection = fill(server, client)
        connection.dropped = lambda channel: SubscriberProtocol.dropped(connection, channel)
        publish(server, "1", "2")
        assert rest(client) == ["2"]
        assert server.service.hub.dropped == 1

    def test_forgetting_nothing(self):
        """To forget a channel of which nothing waits is no mistake."""
        server, client = chat()
        next(iter(server.service.connections.connections)).forget("foo")
        publish(server, "1")
        assert client.messages() == ["1"]

    def test_told_in_its_own_way(self):
        """The endpoint says what becomes of a gap; it is asked once, and what waits of the channel is gone."""
        server, client = chat(slow="drop-oldest")
        connection = fill(server, client)
        for number in range(5):
            publish(server, f"{number}" * 500)
        assert connection.told == ["foo"]
        assert rest(client) == ["left foo"]

    def test_nothing_undroppable_without_bound(self):
        """What is never given up is bounded too."""
        server, client = chat(slow="drop-oldest")
        connection = fill(server, client)
        for _ in range(10):
            connection.send_in_order(connection.write_frame(0x81, b"x" * 200), 1, 200)
        client.transport.read_again()
        assert client.close_frame() == (1013, "the client reads too slowly (server option --max-queued-bytes)")


class CompressedTests:
    """Subscribers that have agreed to permessage-deflate."""

    @pytest.fixture
    def server(self):
        """Serve, with compression."""
        return serve(compression="on", compression_context_takeover="on", compression_min_size=100)

    def inflate(self, frame, bits=15):
        """Inflate a message by itself."""
        assert frame.rsv == 4
        stream = zlib.decompressobj(-bits)
        return stream.decompress(frame.payload + b"\x00\x00\xff\xff")

    def test_shared(self, server, monkeypatch):
        """One compression does for all; those who have not agreed to it get the message as it is."""
        made = []
        written = SubscriberProtocol.write_frame

        def write_frame(self, first, payload):
            made.append(self.window_bits)
            return written(self, first, payload)

        monkeypatch.setattr(SubscriberProtocol, "write_frame", write_frame)
        several = [listen(server, headers=OFFER) for _ in range(5)]
        plain = listen(server)
        for text in ("x" * 500, "y" * 500):
            publish(server, text)
            for client in several:
                (frame,) = client.frames()
                assert self.inflate(frame) == text.encode()
                assert len(frame.payload) < 50
            assert plain.messages() == [text]
        assert sorted(made) == [0, 0, 15, 15]

    def test_takeover_is_never_agreed_to(self, server):
        """The answer says that no message refers to those before it."""
        client = server.connect()
        head = client.open("/ws?channel=foo", OFFER).decode()
        assert "server_no_context_takeover" in head
        head = server.connect().open("/echo", OFFER).decode()
        assert "server_no_context_takeover" not in head

    def test_small_windows(self, server):
        """Who asks for a small window gets messages that fit into it, compressed apart."""
        small = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"}
        one, two = listen(server, headers=small), listen(server, headers=OFFER)
        text = ("".join(chr(97 + number % 26) * 3 for number in range(700))) * 3
        publish(server, text)
        assert self.inflate(one.frames()[0], 9) == self.inflate(two.frames()[0]) == text.encode()

    def test_small_messages(self, server):
        """A small one leaves as it is."""
        client = listen(server, headers=OFFER)
        publish(server, "x" * 99)
        frames, _ = parse_frames(bytes(client.transport.written))
        assert (frames[0].rsv, frames[0].payload) == (0, b"x" * 99)

    def test_counted_as_they_are(self, server):
        """Bytes are counted as they were published."""
        client = listen(server, headers=OFFER)
        publish(server, "x" * 500)
        connection = next(iter(server.service.connections.connections))
        assert (connection.messages_out, connection.bytes_out) == (1, 500)
        assert len(client.transport.written) < 50
