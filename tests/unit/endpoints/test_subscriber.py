"""WebSocket subscribers: queued and dropped publications, gap notices, and shared compression."""

import zlib

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints.subscriber import SubscriberProtocol, Subscription
from wsserver.testing import HIGH_WATER, MemoryServer, parse_frames

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
FILLER = b"-" * HIGH_WATER


def serve(**options):
    """Start a server whose channels are open to all clients."""
    return MemoryServer(Settings(**{"channel_allow": ("*",)} | options))


def subscribe_raw(server, query="channel=foo", headers=()):
    """Connect a raw subscriber."""
    client = server.connect()
    assert b" 101 " in client.open(f"/ws?{query}", dict(headers))
    return client


def publish(server, *texts, channel="foo"):
    """Publish messages in one turn of the reactor, and run the next one."""
    for text in texts:
        server.service.hub.publish(channel, text if isinstance(text, bytes) else text.encode())
    server.clock.advance(0)


def fill(server, client):
    """Let a client stop reading, and send it a filler until its connection queues messages; return the connection."""
    client.transport.reading = False
    publish(server, FILLER + b"1", channel="filler")
    connection = next(iter(c for c in server.service.connections.connections if c.transport is client.transport))
    assert connection._send_queue is not None
    return connection


def rest(client):
    """Let a client read again; return its messages without the filler."""
    client.transport.read_again()
    return [message for message in client.messages() if not message.startswith("---")]


class SlowClientTests:
    """A client that does not read."""

    def test_sends_the_queued_publications_in_order_when_it_reads_again(self):
        """Messages and bytes are counted once, when they are sent."""
        server = serve()
        client = subscribe_raw(server, "channel=foo,filler")
        connection = fill(server, client)
        publish(server, "1", "22")
        publish(server, "333")
        assert connection.messages_out == 1
        assert rest(client) == ["1", "22", "333"]
        assert connection.messages_out == 4
        assert connection.bytes_out == HIGH_WATER + 7
        publish(server, "4")
        assert client.messages() == ["4"]

    def test_is_closed_with_1013_when_a_publication_waits_for_the_maximum_age(self):
        server = serve(max_queued_age=5, ping_interval=0)
        client = subscribe_raw(server, "channel=foo,filler")
        connection = fill(server, client)
        server.clock.advance(10)
        publish(server, "1")
        server.clock.advance(4.9)
        assert connection.state == 3
        server.clock.advance(0.2)
        assert rest(client) == []
        assert connection.ended == (1013, "the client reads too slowly (server option --max-queued-age)")
        assert dict(server.service.connections.counters.limits) == {"max_queued_age": 1}

    def test_is_not_closed_if_it_reads_before_the_maximum_age(self):
        server = serve(max_queued_age=5, ping_interval=0)
        client = subscribe_raw(server, "channel=foo,filler")
        for number in range(3):
            fill(server, client)
            publish(server, str(number))
            server.clock.advance(4)
            assert rest(client) == [str(number)]
        server.clock.advance(30)
        assert client.frames() == []

    def test_is_not_closed_for_the_age_of_publications_that_may_be_dropped(self):
        server = serve(max_queued_age=5, ping_interval=0, slow="drop-oldest")
        client = subscribe_raw(server, "channel=foo,filler")
        fill(server, client)
        publish(server, "1")
        server.clock.advance(60)
        assert rest(client) == ["1"]

    def test_is_closed_with_1013_when_its_queue_exceeds_the_limit(self):
        """The subscriber gets no further publications. Those in its queue do not count as dropped."""
        server = serve(max_queued_bytes=2000)
        client = subscribe_raw(server, "channel=foo,filler")
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

    def test_is_closed_with_1013_for_too_many_tiny_publications(self):
        """Each queued publication counts as more bytes than its payload."""
        server = serve(max_queued_bytes=20_000)
        client = subscribe_raw(server, "channel=foo,filler")
        fill(server, client)
        for _ in range(101):
            publish(server, "x")
        client.transport.read_again()
        assert client.close_frame() == (1013, "the client reads too slowly (server option --max-queued-bytes)")

    def test_gets_a_gap_notice_instead_of_the_oldest_with_drop_oldest(self):
        """The dropped publications are counted."""
        server = serve(slow="drop-oldest", max_queued_bytes=3700)
        client = subscribe_raw(server, "channel=foo,filler")
        fill(server, client)
        for number in range(10):
            publish(server, f"{number}" + "x" * 999)
        got = rest(client)
        assert got[0] == '{"event":"gap","channel":"foo"}'
        assert [message[0] for message in got[1:]] == ["7", "8", "9"]
        assert server.service.hub.dropped == 7
        publish(server, "next")
        assert client.messages() == ["next"]

    def test_gets_only_the_newest_publication_of_each_channel_with_latest(self):
        server = serve(slow="latest")
        client = subscribe_raw(server, "channel=foo,bar,filler")
        fill(server, client)
        publish(server, "1", "2")
        publish(server, "a", channel="bar")
        publish(server, "3")
        assert rest(client) == ['{"event":"gap","channel":"foo"}', "a", "3"]
        assert server.service.hub.dropped == 2

    def test_is_handled_by_the_slow_policy_of_each_channel(self):
        server = serve(channel=(("ticks:*", {"slow": "latest"}),))
        client = subscribe_raw(server, "channel=foo,ticks:1,filler")
        fill(server, client)
        for text in "12":
            publish(server, text)
            publish(server, text, channel="ticks:1")
        assert rest(client) == ['{"event":"gap","channel":"ticks:1"}', "1", "2", "2"]

    def test_gets_another_notice_for_a_second_gap(self):
        """A gap ends when the client reads again."""
        server = serve(slow="latest")
        client = subscribe_raw(server, "channel=foo,filler")
        for _ in range(2):
            fill(server, client)
            publish(server, "1", "2")
            assert rest(client) == ['{"event":"gap","channel":"foo"}', "2"]

    def test_does_not_delay_a_subscriber_that_reads(self):
        server = serve(slow="drop-oldest", max_queued_bytes=2000)
        slow, other = subscribe_raw(server, "channel=foo,filler"), subscribe_raw(server)
        fill(server, slow)
        for number in range(50):
            publish(server, f"{number}" * 100)
            assert other.messages() == [f"{number}" * 100]

    def test_is_not_read_from_until_it_reads_again(self):
        server = serve()
        client = subscribe_raw(server, "channel=foo,filler")
        fill(server, client)
        publish(server, "1")
        assert client.transport.paused
        client.transport.read_again()
        assert not client.transport.paused

    def test_loses_its_queue_and_subscriptions_when_the_connection_is_lost(self):
        server = serve()
        client = subscribe_raw(server, "channel=foo,filler")
        connection = fill(server, client)
        publish(server, "1")
        client.transport.lose()
        assert connection._send_queue is None
        assert server.service.hub.counts() == {}
        publish(server, "2")


class Chat(SubscriberProtocol):
    """An endpoint that keeps state per channel, like one with its own protocol."""

    def onOpen(self):
        """Subscribe to two channels."""
        self.dropped_channels = []
        self.subscriptions = [ChatSubscription(self, channel) for channel in ("foo", "filler")]
        for subscription in self.subscriptions:
            self.hub.subscribe(subscription.channel, subscription)

    def onMessage(self, payload, isBinary):
        """Answer, and publish the message in the same turn."""
        self.sendMessage(b"answer")
        self.hub.publish("foo", payload)
        self.hub._flush_all()

    def dropped(self, channel):
        """Unsubscribe from a channel whose publications were dropped, and send a notice."""
        self.dropped_channels.append(channel)
        self.hub.unsubscribe(channel, self.subscriptions[0])
        self.forget(channel)
        self.send_in_order(self.write_frame(0x81, b"left " + channel.encode()), 1, 8)

    def onClose(self, wasClean, code, reason):
        """Unsubscribe from all channels."""
        for subscription in self.subscriptions:
            self.hub.unsubscribe(subscription.channel, subscription)


class ChatSubscription(Subscription):
    """A subscription to one channel."""

    kind = "chat"

    def frame(self, channel, publication):
        """Return the frame of a publication."""
        return self.connection.write_frame(0x81, publication.data)


def chat(limit=1000, **options):
    """Start a server with the endpoint `Chat`, and connect to it."""
    server = MemoryServer(Settings(**options), endpoints={"/chat": Chat})
    bound = server.service.endpoints.find("/chat", {})
    bound.hub, bound.max_queued = server.service.hub, limit
    client = server.connect()
    client.open("/chat")
    return server, client


class SubscriptionTests:
    """An endpoint with one subscription object per channel."""

    def test_sends_the_publications_of_its_channels(self):
        server, client = chat()
        publish(server, "1")
        assert client.messages() == ["1"]

    def test_is_written_to_by_the_fan_out_without_a_call_of_deliver(self, monkeypatch):
        """This is true for every client that reads, with or without subscription objects."""
        server, client = chat()
        raw = MemoryServer(Settings(channel_allow=("*",)))
        raw_client = subscribe_raw(raw)
        # If it were called, nothing would arrive.
        monkeypatch.setattr(SubscriberProtocol, "deliver", lambda *_: None)
        for each, its_server in ((client, server), (raw_client, raw)):
            publish(its_server, "1")
            assert each.messages() == ["1"]

    def test_sends_a_publication_after_earlier_answers_of_the_same_turn(self):
        """The answers of one read are written together at its end, and a publication must not overtake them."""
        _, client = chat()
        client.send_text("x")
        assert client.messages() == ["answer", "x"]

    def test_send_in_order_keeps_the_order_among_publications(self):
        """The order is kept whether or not publications are queued."""
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

    def test_counts_dropped_publications_even_if_it_sends_no_notice(self):
        """By default there is no gap notice: `gap_frame` returns an empty frame."""
        server, client = chat(slow="latest")
        connection = fill(server, client)
        connection.dropped = lambda channel: SubscriberProtocol.dropped(connection, channel)
        publish(server, "1", "2")
        assert rest(client) == ["2"]
        assert server.service.hub.dropped == 1

    def test_forget_does_nothing_if_no_publication_is_queued(self):
        server, client = chat()
        next(iter(server.service.connections.connections)).forget("foo")
        publish(server, "1")
        assert client.messages() == ["1"]

    def test_calls_dropped_once_per_gap_and_sends_the_notice_of_the_endpoint(self):
        """The endpoint forgets the channel here, so none of its queued publications is sent."""
        server, client = chat(slow="drop-oldest")
        connection = fill(server, client)
        for number in range(5):
            publish(server, f"{number}" * 500)
        assert connection.dropped_channels == ["foo"]
        assert rest(client) == ["left foo"]

    def test_is_closed_with_1013_when_undroppable_messages_exceed_the_limit(self):
        server, client = chat(slow="drop-oldest")
        connection = fill(server, client)
        for _ in range(10):
            connection.send_in_order(connection.write_frame(0x81, b"x" * 200), 1, 200)
        client.transport.read_again()
        assert client.close_frame() == (1013, "the client reads too slowly (server option --max-queued-bytes)")


class CompressedTests:
    """Subscribers that negotiated permessage-deflate."""

    @pytest.fixture
    def server(self):
        """Start a server with compression."""
        return serve(compression="on", compression_context_takeover="on", compression_min_size=100)

    def inflate(self, frame, bits=15):
        """Decompress a message without the messages before it."""
        assert frame.rsv == 4
        stream = zlib.decompressobj(-bits)
        return stream.decompress(frame.payload + b"\x00\x00\xff\xff")

    def test_share_one_compressed_frame_per_window_size(self, server, monkeypatch):
        """A subscriber without compression gets the plain message."""
        made = []
        written = SubscriberProtocol.write_frame

        def write_frame(self, first, payload):
            made.append(self.window_bits)
            return written(self, first, payload)

        monkeypatch.setattr(SubscriberProtocol, "write_frame", write_frame)
        several = [subscribe_raw(server, headers=OFFER) for _ in range(5)]
        plain = subscribe_raw(server)
        for text in ("x" * 500, "y" * 500):
            publish(server, text)
            for client in several:
                (frame,) = client.frames()
                assert self.inflate(frame) == text.encode()
                assert len(frame.payload) < 50
            assert plain.messages() == [text]
        assert sorted(made) == [0, 0, 15, 15]

    def test_negotiate_server_no_context_takeover(self, server):
        """A frame that subscribers share must not refer to earlier messages; `/echo` compresses per connection."""
        client = server.connect()
        head = client.open("/ws?channel=foo", OFFER).decode()
        assert "server_no_context_takeover" in head
        head = server.connect().open("/echo", OFFER).decode()
        assert "server_no_context_takeover" not in head

    def test_get_messages_that_fit_into_a_smaller_window(self, server):
        """A message is compressed separately for each window size."""
        small = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=9"}
        one, two = subscribe_raw(server, headers=small), subscribe_raw(server, headers=OFFER)
        text = ("".join(chr(97 + number % 26) * 3 for number in range(700))) * 3
        publish(server, text)
        assert self.inflate(one.frames()[0], 9) == self.inflate(two.frames()[0]) == text.encode()

    def test_get_messages_below_the_minimum_size_uncompressed(self, server):
        client = subscribe_raw(server, headers=OFFER)
        publish(server, "x" * 99)
        frames, _ = parse_frames(bytes(client.transport.written))
        assert (frames[0].rsv, frames[0].payload) == (0, b"x" * 99)

    def test_count_the_bytes_before_compression(self, server):
        client = subscribe_raw(server, headers=OFFER)
        publish(server, "x" * 500)
        connection = next(iter(server.service.connections.connections))
        assert (connection.messages_out, connection.bytes_out) == (1, 500)
        assert len(client.transport.written) < 50
