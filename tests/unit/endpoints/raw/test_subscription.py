"""Tests for wsserver/endpoints/raw/subscription.py and endpoints/queued_output.py, with a connection in memory."""

import pytest
from twisted.internet.defer import Deferred, fail

from wsserver.auth.claims import ANONYMOUS
from wsserver.config.settings import Settings
from wsserver.endpoints.authorization import Admitted
from wsserver.endpoints.raw.positions import refuse_subscription
from wsserver.endpoints.raw.request import Format, RawSubscribeRequest
from wsserver.endpoints.raw.subscription import RawSubscription
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Caller, Connected
from wsserver.hub.filters import FilterNode, compile_filter, parse_conditions, with_filter
from wsserver.testing import MemoryServer
from wsserver.wire.http11 import bad_request

CALLER = Caller(client="c1", transport="websocket", protocol="raw", address="127.0.0.1:1")


class RecordingHooks:
    """A backend that records disconnects, and answers a connect hook when the test fires `answer`."""

    events = frozenset({"connect", "disconnect"})

    def __init__(self):
        self.answer = Deferred()
        self.disconnects = []

    def connect(self, caller, **_):
        """Return the Deferred that the test fires."""
        return self.answer

    def disconnected(self, caller, *, code, reason):
        """Record a disconnect."""
        self.disconnects.append((caller.user, code, reason))


class Connection(RawSubscription):
    """A connection that is open from the start, and collects what it sends. It shows nothing about real transports."""

    def __init__(self, server, *, max_queued=10_000, close_on_gap=False, event_ids=False, condition=None):
        self.hub, self.authorizer = server.service.hub, server.service.authorizer
        self.max_queued, self.close_on_gap = max_queued, close_on_gap
        self.sends_event_ids = event_ids
        self.sent, self.closed = [], None
        self.kind = with_filter("memory", parse_conditions([condition], "filter") if condition else None)

    def encode(self, channel, publication, event_id):
        """Write a publication as `data@event ID`, with a `<` after the data if it is rewound; end it with a space."""
        mark = b"<" if publication.rewound else b""
        return publication.as_bytes() + mark + (b"@" + event_id.encode() if event_id else b"") + b" "

    def gap_frame(self, channel, event_id=""):
        """Write a gap notice in the same way."""
        return f"gap:{channel}{'@' + event_id if event_id else ''} ".encode(), 1

    def position_frame(self, event_id):
        """Write an event ID without a message."""
        return f"id@{event_id} ".encode() if self.sends_event_ids else b""

    def rewound_frame(self, channel, event_id):
        """Write the notice of the end of a rewind in the same way."""
        return f"rewound:{channel}{'@' + event_id if event_id else ''} ".encode(), 1

    def _send(self, frames, count, size):
        if self.closed is None:
            self.sent += frames.decode().split()
            assert count == len(frames.split()) - frames.count(b"id@")

    def _has_ended(self):
        return self.closed is not None

    def close(self, code, reason):
        """Record the first close."""
        self.closed = self.closed or (int(code), reason)


@pytest.fixture
def server():
    """Start a server that keeps three publications of each channel, and none of the channels `plain:*`."""
    settings = Settings(
        channel_allow=("*",),
        history_size=3,
        channel=(
            ("plain:*", {"history_size": 0, "allow_tags_filter": True}),
            ("oldest", {"slow": "drop-oldest", "allow_tags_filter": True}),
            ("latest", {"slow": "latest", "allow_tags_filter": True}),
            ("h", {"allow_tags_filter": True}),
            ("last", {"rewind": 1}),
            ("filtered", {"allow_tags_filter": True, "history_size": 100}),
        ),
    )
    server = MemoryServer(settings)
    server.service.authorizer.hooks = RecordingHooks()
    server.service.authorizer._hook_events = RecordingHooks.events
    return server


def connect(server, *channels, last_event_id="", rewind=None, filter_=None, **options):
    """Subscribe a connection without starting it."""
    connection = Connection(server, **options)
    if filter_ is not None:
        connection.kind = with_filter(connection.kind, compile_filter(filter_, "filter"))
    ask = RawSubscribeRequest(channels, Format.RAW, False, last_event_id=last_event_id, rewind=rewind)
    connection.set_client(Admitted(ask, ANONYMOUS), CALLER)
    failures = []
    connection.subscribe().addErrback(failures.append)
    connection.failures = failures
    return connection


def start(server, *channels, **options):
    """Subscribe and start a connection."""
    connection = connect(server, *channels, **options)
    connection.start()
    return connection


def publish(server, *texts, channel="h"):
    """Publish messages in one turn of the reactor, and run the next one."""
    for text in texts:
        server.service.hub.publish(channel, text)
    server.clock.advance(0)


def position(server, channel="h"):
    """Return the position of a channel's stream as an event ID."""
    pages = []
    server.service.hub.history(channel).addCallback(pages.append)
    return str(pages[0].position)


def turns(server, number=10):
    """Run several turns of the reactor."""
    for _ in range(number):
        server.clock.advance(0)


class StartTests:
    """From the subscription to the first message."""

    def test_queues_publications_until_the_start(self, server):
        """The connection cannot send before it is open."""
        connection = connect(server, "h")
        publish(server, "1", "2")
        assert connection.sent == []
        connection.start()
        assert connection.sent == ["1", "2"]
        publish(server, "3")
        assert connection.sent == ["1", "2", "3"]

    def test_registers_the_client_at_the_start_and_removes_it_at_the_end(self, server):
        """`hub.clients` contains open connections only."""
        hub = server.service.hub
        connection = connect(server, "h")
        assert len(hub.clients) == 0
        connection.start()
        assert [client.client for client in hub.clients.find(client="c1")] == ["c1"]
        connection.unsubscribe(3000, "left")
        assert len(hub.clients) == 0
        assert hub.counts() == {}

    def test_reports_one_disconnect_if_it_ends_twice(self, server):
        """The report has the code and reason of the first end."""
        connection = start(server, "h")
        connection.unsubscribe(3000, "left")
        connection.unsubscribe(1006, "lost")
        assert server.service.authorizer.hooks.disconnects == [("", 3000, "left")]

    def test_reports_the_disconnect_of_a_client_that_was_never_subscribed(self, server):
        """The backend may have admitted the client, so it must learn that the client has left."""
        connection = Connection(server)
        ask = RawSubscribeRequest(("h",), Format.RAW, False)
        connection.set_client(Admitted(ask, ANONYMOUS), CALLER)
        connection.unsubscribe(1006, "")
        assert server.service.authorizer.hooks.disconnects == [("", 1006, "")]

    def test_fails_to_subscribe_while_the_broker_is_down(self, server):
        """After the failure, the connection is subscribed to no channel."""
        server.service.hub.broker.subscribe = lambda channel: fail(BrokerDown("away"))
        connection = connect(server, "h", "i")
        assert connection.failures[0].check(BrokerDown)
        assert server.service.hub.counts() == {}


class RecoveryTests:
    """A client with a last event ID."""

    def test_sends_missed_publications_once_before_new_ones(self, server):
        publish(server, "1", "2", "3")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:1")
        assert connection.is_recovering
        publish(server, "4")
        turns(server)
        assert connection.sent == ["2", "3", "4"]
        assert not connection.is_recovering

    def test_reads_no_page_while_the_client_does_not_read(self, server):
        """The server reads the next page when the client reads again."""
        publish(server, "1", "2")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:0")
        connection.hold()
        turns(server)
        assert connection.sent == []
        # The first page was under way; a second one is not read.
        connection.release()
        assert connection.sent == ["1", "2"]
        connection.read_page()
        publish(server, "3")
        assert connection.sent == ["1", "2", "3"]

    def test_queues_a_page_that_is_read_after_the_client_has_stopped_reading(self, server):
        """The event IDs of the page contain the positions of what is queued before it, which may never be sent."""
        publish(server, "a1", channel="a")
        epoch = position(server, "a").partition(":")[0]
        connection = start(server, "a", "b", last_event_id=f"{epoch}:0,{epoch}:0", event_ids=True)
        broker, answered = server.service.hub.broker, Deferred()
        read = broker.history
        broker.history = lambda *arguments, **options: answered.addCallback(lambda _: read(*arguments, **options))
        turns(server)
        connection.hold()
        publish(server, "b1", channel="b")
        answered.callback(None)
        turns(server)
        assert connection.sent == []
        connection.release()
        assert connection.sent == [f"b1@{epoch}:0,{epoch}:1", f"a1@{epoch}:1,{epoch}:1"]

    def test_sends_a_gap_notice_if_the_stream_does_not_have_the_position(self, server):
        """The event ID of the notice is the position after the gap."""
        publish(server, "1")
        connection = start(server, "h", last_event_id="lost:7", event_ids=True)
        assert connection.sent == [f"gap:h@{position(server)}"]

    def test_does_not_count_a_failed_recovery_as_a_gap_of_the_hub(self, server):
        """`Hub.gaps` counts what the server lost, not how long clients were away."""
        publish(server, "1")
        connection = start(server, "h", last_event_id="lost:7")
        assert connection.sent == ["gap:h"]
        assert server.service.hub.gaps == 0

    def test_closes_with_1012_instead_of_a_gap_notice_if_configured(self, server):
        """Nothing is sent after the gap."""
        publish(server, "1")
        connection = start(server, "h", last_event_id="lost:7", close_on_gap=True)
        assert connection.closed == (1012, "publications to h may be missing")
        publish(server, "2")
        assert connection.sent == []

    @pytest.mark.parametrize("rewind", [0, 1])
    def test_sends_an_event_id_past_the_gap_before_it_closes(self, server, rewind):
        """The client reconnects automatically. With the same ID as before, it would be closed again."""
        publish(server, "1", "2")
        options = {"event_ids": True, "close_on_gap": True, "rewind": rewind}
        connection = start(server, "h", last_event_id="lost:7", **options)
        expected = "" if rewind else position(server)
        assert connection.sent == [f"id@{expected}"]
        again = start(server, "h", last_event_id=expected, **options)
        turns(server)
        assert again.closed is None
        assert again.sent == ([f"2<@{position(server)}", f"rewound:h@{position(server)}"] if rewind else [])

    @pytest.mark.parametrize("failure", [BrokerDown("away"), RuntimeError("a fault")])
    def test_closes_with_1013_if_a_page_cannot_be_read(self, server, failure):
        """The client can reconnect and recover from its last position."""
        publish(server, "1")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:0")
        server.service.hub.broker.history = lambda *_, **__: fail(failure)
        turns(server)
        assert connection.closed == (1013, "missed publications cannot be read; reconnect to recover them")

    def test_ignores_a_page_that_is_read_after_the_end(self, server):
        publish(server, "1")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:0")
        connection.unsubscribe(3000, "left")
        turns(server)
        assert connection.sent == []
        assert connection.closed is None


class RewindTests:
    """A client that requests the last publications of its channels."""

    def test_sends_the_last_publications_before_new_ones(self, server):
        publish(server, "1", "2", "3")
        connection = start(server, "h", rewind=2)
        publish(server, "4")
        turns(server)
        assert connection.sent == ["2<", "3<", "rewound:h", "4"]
        publish(server, "5")
        assert connection.sent[4:] == ["5"]

    @pytest.mark.parametrize(("rewind", "sent"), [(1, ["4<"]), (3, ["2<", "3<", "4<"]), (100, ["2<", "3<", "4<"])])
    def test_sends_as_many_as_the_history_has(self, server, rewind, sent):
        """The history keeps three publications."""
        publish(server, "1", "2", "3", "4")
        connection = start(server, "h", rewind=rewind)
        turns(server)
        assert connection.sent == [*sent, "rewound:h"]

    def test_rewinds_each_channel(self, server):
        publish(server, "a1", "a2", channel="a")
        publish(server, "b1", channel="b")
        connection = start(server, "a", "b", "c", rewind=1)
        publish(server, "c1", channel="c")
        turns(server)
        # Channel `c` has no publications when the client subscribes.
        assert connection.sent == ["a2<", "rewound:a", "b1<", "rewound:b", "rewound:c", "c1"]

    def test_gives_event_ids_without_positions_in_channels_that_are_not_rewound_yet(self, server):
        """A client that reconnects with such an ID gets the rewind of these channels again, and of no other."""
        publish(server, "a1", channel="a")
        publish(server, "b1", channel="b")
        connection = start(server, "a", "b", rewind=1, event_ids=True)
        turns(server)
        epoch = position(server, "a").partition(":")[0]
        a, b = f"{epoch}:1", f"{epoch}:1"
        assert connection.sent == [f"a1<@{a},-", f"rewound:a@{a},-", f"b1<@{a},{b}", f"rewound:b@{a},{b}"]
        again = start(server, "a", "b", rewind=1, last_event_id=f"{a},-")
        turns(server)
        assert again.sent == ["b1<", "rewound:b"]

    def test_the_notice_of_an_empty_rewind_has_the_position(self, server):
        """The history has expired, but the numbering continues: a client that reconnects has missed nothing."""
        publish(server, "1")
        server.clock.advance(61)
        connection = start(server, "h", rewind=1, event_ids=True)
        turns(server)
        assert connection.sent == [f"rewound:h@{position(server)}"]

    def test_a_recoverable_position_has_precedence(self, server):
        publish(server, "1", "2", "3")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", rewind=3, last_event_id=f"{epoch}:2")
        turns(server)
        assert connection.sent == ["3"]
        at_top = start(server, "h", rewind=3, last_event_id=f"{epoch}:3")
        turns(server)
        assert at_top.sent == []

    @pytest.mark.parametrize("last_event_id", ["lost:1", ":"])
    def test_rewinds_after_a_gap_notice_if_the_position_is_lost(self, server, last_event_id):
        publish(server, "1", "2")
        connection = start(server, "h", rewind=1, last_event_id=last_event_id)
        turns(server)
        assert connection.sent == ["gap:h", "2<", "rewound:h"]

    def test_rewinds_after_a_gap_notice_if_the_history_is_shorter_than_the_absence(self, server):
        """Whether the position is lost is found out when the first page is read."""
        publish(server, "1", "2", "3", "4", "5")
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", rewind=1, last_event_id=f"{epoch}:1", event_ids=True)
        turns(server)
        assert connection.sent == ["gap:h", f"5<@{epoch}:5", f"rewound:h@{epoch}:5"]

    def test_a_publication_that_is_trimmed_before_it_is_read_is_no_gap(self, server):
        """The client asked for the last ones that there are."""
        publish(server, "1", "2", "3")
        connection = connect(server, "h", rewind=3)
        publish(server, "4", "5")
        connection.start()
        turns(server)
        assert connection.sent == ["3<", "rewound:h", "4", "5"]

    def test_new_publications_that_are_trimmed_before_they_are_read_are_a_gap(self, server):
        publish(server, "1", "2", "3")
        connection = connect(server, "h", rewind=1)
        publish(server, "4", "5", "6", "7")
        connection.start()
        turns(server)
        # A second rewind follows the gap.
        assert connection.sent == ["gap:h", "7<", "rewound:h"]
        publish(server, "8")
        assert connection.sent[3:] == ["8"]

    def test_publications_without_an_offset_follow_the_rewind(self, server):
        publish(server, "1")
        connection = start(server, "h", rewind=1)
        server.service.hub.publish("h", "plain", skip_history=True)
        turns(server)
        assert connection.sent == ["1<", "rewound:h", "plain"]

    def test_the_option_of_a_channel_applies_if_the_client_requests_no_number(self, server):
        for channel in ("h", "last"):
            publish(server, "1", "2", channel=channel)
        for rewind, sent in ((None, ["2<", "rewound:last"]), (0, [])):
            connection = start(server, "h", "last", "plain:1", rewind=rewind)
            turns(server)
            assert connection.sent == sent
        connection = start(server, "last", rewind=2)
        turns(server)
        assert connection.sent == ["1<", "2<", "rewound:last"]

    @pytest.mark.parametrize(("rewind", "sent"), [(1, ["7<"]), (2, ["4<", "7<"]), (3, ["1<", "4<", "7<"]), (4, None)])
    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_counts_only_publications_that_match_the_filter(self, server, monkeypatch, rewind, sent, size):
        """They are searched for in pages, from newer to older ones."""
        monkeypatch.setattr("wsserver.hub.recovery.PAGE_SIZE", size)
        for number in range(1, 9):
            server.service.hub.publish("filtered", str(number), tags={"a": "x" if number % 3 == 1 else "y"})
        server.clock.advance(0)
        connection = start(server, "filtered", rewind=rewind, filter_=FilterNode(key="a", cmp="eq", val="x"))
        for number in range(9, 12):
            server.service.hub.publish("filtered", str(number), tags={"a": "x" if number % 3 == 1 else "y"})
        turns(server, 40)
        assert connection.sent == [*(sent or ["1<", "4<", "7<"]), "rewound:filtered", "10"]
        assert not connection.is_recovering

    def test_a_filter_that_nothing_matches_rewinds_nothing(self, server):
        for text in "123":
            server.service.hub.publish("filtered", text)
        server.clock.advance(0)
        connection = start(server, "filtered", rewind=1, filter_=FilterNode(key="a", cmp="eq", val="x"))
        turns(server)
        assert connection.sent == ["rewound:filtered"]

    def test_fails_for_a_channel_without_history_and_subscribes_to_none(self, server):
        """A client that silently received nothing would have to guess why."""
        connection = connect(server, "h", "plain:1", rewind=1)
        refusal = refuse_subscription(connection.failures[0])
        assert (refusal.status, refusal.reason) == (
            400,
            "rewind: history is not enabled for channel 'plain:1'; see --history-size",
        )
        assert server.service.hub.counts() == {}


class EventIDTests:
    """Connections that track the client's positions, and those that do not."""

    def test_gives_each_publication_the_position_after_it(self, server):
        """
        The event ID is the client's position after this publication.

        With one channel, that is the position of the publication itself.
        """
        connection = start(server, "h", event_ids=True)
        publish(server, "1", "2")
        epoch = position(server).partition(":")[0]
        assert connection.sent == [f"1@{epoch}:1", f"2@{epoch}:2"]

    def test_moves_past_a_gap_with_its_notice(self, server):
        """The event ID of the notice is the position after the gap, so a reconnect causes no second notice."""
        connection = start(server, "h", event_ids=True)
        publish(server, "1")
        connection.missed("h", True)
        assert connection.sent[1:] == [f"gap:h@{position(server)}"]

    def test_keeps_the_position_at_a_gap_without_offsets(self, server):
        """A channel without history has no position in a stream."""
        connection = start(server, "plain:1", event_ids=True)
        connection.missed("plain:1", False)
        assert connection.sent == ["gap:plain:1"]

    def test_sends_no_event_ids_if_they_are_not_tracked(self, server):
        """WebSocket clients need no event IDs, because each publication can contain its offset."""
        connection = start(server, "h")
        publish(server, "1")
        connection.missed("h", True)
        assert connection.sent == ["1", "gap:h"]


class OverflowTests:
    """Slow clients and `--slow`."""

    def test_closes_with_1013_and_counts_no_dropped_messages_with_close(self, server):
        """The policy drops nothing; the connection ends."""
        connection = start(server, "h", max_queued=1000)
        connection.hold()
        publish(server, "x" * 2000)
        assert connection.closed == (1013, "the client reads too slowly (server option --max-queued-bytes)")
        assert server.service.hub.dropped == 0

    def test_counts_the_messages_that_were_dropped_before_it_had_to_close(self, server):
        """
        The queued publication of `oldest` is dropped.

        That of `h` must not be dropped, and still exceeds the limit.
        """
        connection = start(server, "h", "oldest", max_queued=1000)
        connection.hold()
        publish(server, "old", channel="oldest")
        publish(server, "x" * 2000)
        assert connection.closed == (1013, "the client reads too slowly (server option --max-queued-bytes)")
        assert server.service.hub.dropped == 1

    def test_closes_with_1013_at_the_start_if_the_queue_has_overflowed(self, server):
        """A WebSocket connection cannot be closed while its opening handshake is not complete."""
        connection = connect(server, "h", max_queued=1000)
        publish(server, "x" * 2000)
        connection.closed = None
        connection.start()
        assert connection.closed == (1013, "the client reads too slowly (server option --max-queued-bytes)")
        assert connection.sent == []

    def test_sends_a_gap_notice_before_the_remaining_publications_with_drop_oldest(self, server):
        connection = start(server, "oldest", max_queued=700)
        connection.hold()
        for text in "1234":
            publish(server, text * 100, channel="oldest")
        connection.release()
        assert connection.sent[0] == "gap:oldest"
        assert [text[0] for text in connection.sent[1:]] == ["3", "4"]
        assert server.service.hub.dropped == 2

    def test_keeps_only_the_newest_publication_with_latest(self, server):
        """Older ones are dropped even if the queue has room."""
        connection = start(server, "latest")
        connection.hold()
        publish(server, "1", "2", channel="latest")
        connection.release()
        assert connection.sent == ["gap:latest", "2"]

    def test_never_drops_messages_of_send_in_order(self, server):
        """Messages of `send_in_order` belong to no channel."""
        connection = start(server, "latest")
        connection.hold()
        connection.send_in_order(b"one ", 1, 3)
        publish(server, "1", "2", channel="latest")
        connection.send_in_order(b"two ", 1, 3)
        connection.release()
        assert connection.sent == ["gap:latest", "one", "2", "two"]

    def test_queues_nothing_after_the_close(self, server):
        connection = start(server, "h")
        connection.hold()
        connection.close(3000, "left")
        publish(server, "1")
        assert connection._send_queue.take() == (b"", 0, 0)


class FilterTests:
    """Clients with a filter."""

    @staticmethod
    def publish(server, *numbers, channel="h"):
        """Publish numbers with a tag that says whether they are odd, in one turn of the reactor."""
        for number in numbers:
            server.service.hub.publish(channel, str(number), tags={"odd": str(number % 2)})
        server.clock.advance(0)

    def test_receives_only_publications_that_match_on_all_its_channels(self, server):
        connection = start(server, "h", "plain:1", condition="odd:eq:1")
        self.publish(server, 1, 2, 3)
        self.publish(server, 4, 5, channel="plain:1")
        assert connection.sent == ["1", "3", "5"]

    def test_recovers_only_publications_that_match_and_gets_no_gap_notice(self, server):
        """The event IDs are positions in the whole stream."""
        self.publish(server, 1, 2, 3)
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:0", event_ids=True, condition="odd:eq:1")
        turns(server)
        self.publish(server, 4, 5)
        assert connection.sent == [f"{number}@{epoch}:{number}" for number in (1, 3, 5)]

    def test_a_position_after_publications_that_did_not_match_is_a_position_before_them(self, server):
        """They are left out again, and the client gets the position after them."""
        connection = start(server, "h", event_ids=True, condition="odd:eq:1")
        self.publish(server, 1, 2)
        last = connection.sent[-1].partition("@")[2]
        connection.unsubscribe(3000, "left")
        self.publish(server, 4)
        again = start(server, "h", last_event_id=last, event_ids=True, condition="odd:eq:1")
        turns(server)
        assert again.sent == [f"id@{position(server)}"]
        self.publish(server, 5)
        assert [text.partition("@")[0] for text in again.sent] == ["id", "5"]

    def test_is_notified_of_a_gap_if_the_history_does_not_reach_back_to_its_position(self, server):
        """The server cannot know whether the earlier publications would have matched."""
        self.publish(server, 2, 4, 6, 8)
        epoch = position(server).partition(":")[0]
        connection = start(server, "h", last_event_id=f"{epoch}:0", condition="odd:eq:1")
        turns(server)
        assert connection.sent == ["gap:h"]

    def test_nothing_is_dropped_for_publications_that_do_not_match(self, server):
        """Nor does a gap notice report them."""
        connection = start(server, "oldest", "latest", max_queued=700, condition="odd:eq:1")
        connection.hold()
        for _ in range(10):
            self.publish(server, 2, 4, channel="oldest")
            self.publish(server, 2, 4, channel="latest")
        self.publish(server, 1, 2, channel="latest")
        connection.release()
        assert connection.sent == ["1"]
        assert server.service.hub.dropped == 0

    def test_keeps_only_the_newest_publication_that_matches_with_latest(self, server):
        connection = start(server, "latest", condition="odd:eq:1")
        connection.hold()
        self.publish(server, 1, 2, 3, 4, channel="latest")
        connection.release()
        assert connection.sent == ["gap:latest", "3"]

    def test_subscribes_to_no_channel_if_one_of_them_does_not_enable_filters(self, server):
        connection = connect(server, "h", "closed", condition="odd:eq:1")
        (failure,) = connection.failures
        assert refuse_subscription(failure) == bad_request(
            "filters are not enabled for channel 'closed'; set allow_tags_filter"
        )
        assert server.service.hub.counts() == {}


class RevocationTests:
    """A channel that Redis no longer permits the server to read."""

    def test_closes_with_1008_and_names_the_channel(self, server):
        connection = start(server, "h", "i")
        server.service.hub.on_permission_revoked("i")
        assert connection.closed == (1008, "Redis no longer permits the channel i")


@pytest.mark.parametrize("way", ["ws", "sse"])
class LateAnswerTests:
    """A client that disconnects before the backend has answered the connect hook."""

    def test_is_reported_as_disconnected_once_the_backend_has_admitted_it(self, server, way):
        """The backend would otherwise consider the client connected."""
        hooks = server.service.authorizer.hooks
        client = server.connect()
        if way == "ws":
            client.open("/ws?channel=h")
        else:
            client.send(b"GET /sse?channel=h HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.transport.lose()
        assert hooks.disconnects == []
        hooks.answer.callback(Connected(user="42"))
        assert [(user, code) for user, code, _ in hooks.disconnects] == [("42", 1006 if way == "ws" else 3000)]
        assert server.service.hub.counts() == {}
        assert len(server.service.hub.clients) == 0
