"""`Hub.listen` calls a function with each publication of a channel. All in memory."""

import pytest
from hubs import make_hub
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown, NotEnabled, NotPermitted
from wsserver.hub.clients import ClientInfo
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.rules import Rules
from wsserver.hub.stream import Keep, Position


class FlakyBroker(MemoryBroker):
    """A broker that is down, or fails, when a test says so."""

    def __init__(self, clock):
        super().__init__(clock)
        self.up = True
        self.answers, self.unsubscribed = [], []
        """The results of the next subscriptions, and the channels that were unsubscribed from."""

    def subscribe(self, channel):
        if self.answers:
            return self.answers.pop(0)
        return super().subscribe(channel) if self.up else fail(BrokerDown("Redis is unavailable"))

    def unsubscribe(self, channel):
        self.unsubscribed.append(channel)


@pytest.fixture
def broker(clock):
    return FlakyBroker(clock)


@pytest.fixture
def hub(broker, clock):
    return make_hub(broker, clock, Rules.from_settings(Settings(history_size=3)))


@pytest.fixture
def events():
    return []


@pytest.fixture
def listen(hub, events):
    """Listen to `news`, and append the arguments of each callback to `events`."""

    def start(**options):
        options.setdefault("on_gap", lambda channel: events.append(("gap", channel)))
        return hub.listen("news", lambda channel, one: events.append((channel, one.as_bytes())), **options)

    return start


class PublicationTests:
    def test_publications_of_one_turn_are_separate_calls_in_order(self, hub, clock, listen, events):
        handle = listen()
        assert handle.is_listening
        for data in (b"1", "2", b"\xff"):
            hub.publish("news", data)
        hub.publish("other", b"x")
        assert events == []
        clock.advance(0)
        assert events == [("news", b"1"), ("news", b"2"), ("news", b"\xff")]

    def test_the_publication_has_its_offset_epoch_info_and_tags(self, hub, clock):
        seen = []
        hub.listen("news", lambda channel, publication: seen.append(publication))
        info = ClientInfo("c1", "ada")
        hub.publish("news", b'{"n": 1.10}', json=True, info=info, tags={"a": "b"})
        hub.publish("news", b"x", skip_history=True)
        clock.advance(0)
        epoch = hub.position("news").epoch
        assert seen == [
            Publication(b'{"n": 1.10}', 1, epoch, json=True, info=info, tags={"a": "b"}),
            Publication(b"x"),
        ]

    def test_each_callback_of_a_channel_receives_each_publication(self, hub, clock):
        seen = []
        handles = [hub.listen("news", lambda channel, one, n=n: seen.append((n, one.data))) for n in range(3)]
        hub.publish("news", b"a")
        clock.advance(0)
        assert sorted(seen) == [(0, b"a"), (1, b"a"), (2, b"a")]
        assert hub.count("news") == 3
        handles[1].stop()
        assert hub.count("news") == 2

    def test_is_not_called_for_a_join_event(self, hub, clock, listen, events):
        listen()
        hub.on_presence("news", PresenceEvent(True, ClientInfo("c1")))
        hub.publish("news", b"a")
        clock.advance(0)
        assert events == [("news", b"a")]

    def test_a_publication_by_a_callback_is_delivered_after_it_returns(self, hub, clock):
        seen = []

        def callback(channel, publication):
            seen.append(publication.data)
            if len(seen) < 3:
                hub.publish(channel, publication.data + b"+")
                assert seen[-1] == publication.data

        hub.listen("news", callback)
        hub.publish("news", b"a")
        clock.advance(0)
        assert seen == [b"a", b"a+", b"a++"]

    def test_5000_publications_of_one_turn_arrive_in_order(self, hub, clock):
        seen = []
        hub.listen("news", lambda channel, one: seen.append(one.data))
        for number in range(5000):
            hub.publish("news", b"%d" % number)
        clock.pump([0] * 10)
        assert seen == [b"%d" % number for number in range(5000)]


class StopTests:
    def test_is_not_called_after_stop_even_for_pending_publications(self, hub, clock, listen, events, broker):
        handle = listen()
        hub.publish("news", b"a")
        handle.stop()
        handle.stop()
        clock.advance(0)
        hub.publish("news", b"b")
        clock.advance(0)
        assert (events, handle.is_listening, hub.count("news"), broker.unsubscribed) == ([], False, 0, ["news"])

    def test_stop_within_a_callback_drops_only_its_own_pending_publications(self, hub, clock):
        seen = []

        def once(channel, publication):
            seen.append(publication.data)
            handle.stop()

        handle = hub.listen("news", once)
        other = []
        hub.listen("news", lambda channel, publication: other.append(publication.data))
        for data in (b"a", b"b"):
            hub.publish("news", data)
        clock.advance(0)
        assert (seen, other) == ([b"a"], [b"a", b"b"])

    def test_a_callback_can_stop_another_before_its_call(self, hub, clock):
        seen = []
        hub.listen("news", lambda channel, publication: second.stop())
        second = hub.listen("news", lambda channel, publication: seen.append(publication))
        hub.publish("news", b"a")
        clock.advance(0)
        assert seen == []

    def test_stop_before_the_subscription_is_confirmed_cancels_when_ready(self, hub, clock, broker, listen, events):
        answer = Deferred()
        broker.answers = [answer]
        handle = listen()
        ready = handle.when_ready()
        assert not handle.is_listening
        handle.stop()
        ready.addErrback(lambda failure: events.append(failure.type))
        handle.when_ready().addErrback(lambda failure: events.append(failure.type))
        answer.callback(None)
        hub.publish("news", b"a")
        clock.advance(0)
        assert events == [CancelledError, CancelledError]
        assert (handle.is_listening, hub.count("news")) == (False, 0)

    def test_stop_while_redis_is_unavailable_prevents_a_later_subscription(self, hub, broker, listen):
        broker.up = False
        handle = listen()
        handle.stop()
        broker.up = True
        hub.on_up()
        assert hub.count("news") == 0


class OutageTests:
    def test_subscribes_once_redis_is_available_again(self, hub, clock, broker, listen, events):
        broker.up = False
        handle = listen()
        handle.when_ready().addCallback(lambda _: events.append("ready"))
        hub.on_up()
        assert (handle.is_listening, events) == (False, [])
        broker.up = True
        hub.on_up()
        assert (handle.is_listening, events) == (True, ["ready"])
        hub.publish("news", b"a")
        clock.advance(0)
        assert events == ["ready", ("news", b"a")]
        assert clock.getDelayedCalls() == []

    def test_retries_after_a_second_if_the_broker_is_too_busy(self, clock, broker, listen):
        broker.answers = [fail(BrokerDown("too many subscriptions wait for Redis"))]
        handle = listen()
        assert not handle.is_listening
        clock.advance(1)
        assert handle.is_listening

    def test_calls_on_gap_after_an_outage_and_recovers_from_the_history(self, hub, clock, broker, listen, events):
        handle = listen()
        hub.publish("news", b"1")
        clock.advance(0)
        keep = Keep(3, 60)
        missed = broker._streams["news"].append(Publication(b"2"), keep, clock.seconds())
        hub.on_reconnect()
        clock.advance(0)
        hub.publish("news", b"3")
        clock.advance(0)
        assert missed.offset == 2
        # The history has no plain publications, so some may still be missing.
        assert events == [("news", b"1"), ("gap", "news"), ("news", b"2"), ("news", b"3")]
        assert handle.is_listening

    def test_calls_on_gap_before_the_publication_that_follows_the_gap(self, hub, clock, broker, listen, events):
        listen()
        hub.publish("news", b"1")
        stream = broker._streams["news"]
        for data in (b"2", b"3", b"4", b"5"):
            stream.append(Publication(data), Keep(3, 60), clock.seconds())
        hub.publish("news", b"6")
        clock.advance(0)
        assert events == [("news", b"1"), ("gap", "news"), ("news", b"6")]

    def test_logs_a_warning_at_a_gap_if_on_gap_is_none(self, hub, listen, monkeypatch):
        lines = []
        monkeypatch.setattr(
            "wsserver.hub.callbacks._log.warn", lambda text, **fields: lines.append(text.format(**fields))
        )
        listen(on_gap=None)
        hub.on_reconnect()
        assert lines == ["publications may be missing channel=news"]


class SinceTests:
    def test_delivers_the_missed_publications_before_new_ones(self, hub, clock, listen, events):
        for data in (b"1", b"2", b"3"):
            hub.publish("news", data)
        page = hub.history("news").result
        handle = listen(since=Position(1, page.position.epoch))
        assert not handle.is_listening
        hub.publish("news", b"4")
        clock.advance(0)
        hub.publish("news", b"5")
        clock.advance(0)
        assert events == [("news", data) for data in (b"2", b"3", b"4", b"5")]

    @pytest.mark.parametrize("since", [Position(1, "another"), Position(0, "")])
    def test_calls_on_gap_for_a_position_of_another_epoch(self, hub, clock, listen, events, since):
        for data in (b"1", b"2", b"3", b"4"):
            hub.publish("news", data)
        listen(since=since)
        clock.advance(0)
        hub.publish("news", b"5")
        clock.advance(0)
        assert events == [("gap", "news"), ("news", b"5")]

    def test_calls_on_gap_if_the_channel_has_no_history(self, broker, clock, events):
        hub = make_hub(broker, clock, Rules.from_settings(Settings(history_size=0)))
        hub.listen("news", lambda *_: None, on_gap=events.append, since=Position(1, "x"))
        clock.advance(0)
        assert events == ["news"]

    def test_the_newest_position_recovers_nothing_and_leaves_no_gap(self, hub, clock, listen, events):
        hub.publish("news", b"1")
        listen(since=hub.history("news").result.position)
        clock.advance(0)
        assert events == []

    def test_stop_within_a_callback_drops_the_other_recovered_publications(self, hub, clock):
        for data in (b"1", b"2"):
            hub.publish("news", data)
        seen = []

        def once(channel, publication):
            seen.append(publication.data)
            handle.stop()

        handle = hub.listen("news", once, since=Position(0, hub.history("news").result.position.epoch))
        clock.advance(0)
        assert seen == [b"1"]


class RewindTests:
    """`listen(rewind=N)`: the last publications of the history come first."""

    def test_delivers_the_last_publications_marked_as_rewound_before_new_ones(self, hub, clock):
        for data in (b"1", b"2", b"3"):
            hub.publish("news", data)
        seen = []
        handle = hub.listen("news", lambda _, one: seen.append((one.data, one.offset, one.rewound)), rewind=2)
        hub.publish("news", b"4")
        clock.advance(0)
        assert handle.is_listening
        hub.publish("news", b"5")
        clock.advance(0)
        assert seen == [(b"3", 3, True), (b"4", 4, True), (b"5", 5, False)]

    def test_delivers_fewer_if_the_history_has_fewer(self, hub, clock, listen, events):
        listen(rewind=3)
        clock.advance(0)
        assert events == []
        hub.publish("news", b"1")
        clock.advance(0)
        assert events == [("news", b"1")]
        late = []
        hub.listen("news", lambda _, one: late.append(one.data), rewind=3)
        clock.advance(0)
        assert late == [b"1"]

    def test_a_recoverable_position_has_precedence(self, hub, clock, listen, events):
        for data in (b"1", b"2", b"3"):
            hub.publish("news", data)
        listen(since=Position(2, hub.history("news").result.position.epoch), rewind=3)
        clock.advance(0)
        assert events == [("news", b"3")]

    def test_rewinds_after_the_gap_if_the_position_is_lost(self, hub, clock, listen, events):
        for data in (b"1", b"2", b"3"):
            hub.publish("news", data)
        listen(since=Position(2, "another"), rewind=1)
        clock.advance(0)
        assert events == [("gap", "news"), ("news", b"3")]

    @pytest.mark.parametrize(
        ("rewind", "error", "reason"),
        [(-1, ValueError, "rewind must be from 0 to 100"), (101, ValueError, "101"), (True, TypeError, "int")],
    )
    def test_refuses_an_invalid_number(self, hub, rewind, error, reason):
        with pytest.raises(error, match=reason):
            hub.listen("news", lambda *_: None, rewind=rewind)

    def test_refuses_a_channel_without_a_history(self, broker, clock):
        hub = make_hub(broker, clock, Rules.from_settings(Settings(history_size=0)))
        with pytest.raises(NotEnabled, match="see --history-size"):
            hub.listen("news", lambda *_: None, rewind=1)
        assert hub.counts() == {}


class FailureTests(TestCase):
    def setUp(self):
        self.clock = Clock()
        self.broker = FlakyBroker(self.clock)
        self.hub = make_hub(self.broker, self.clock)
        self.seen = []

    def test_an_exception_of_a_callback_is_logged_and_others_are_called(self):
        def bad(channel, publication):
            self.seen.append(publication.data)
            raise KeyError(publication.data)

        self.hub.listen("news", bad, on_gap=bad)
        self.hub.listen("news", lambda channel, publication: self.seen.append(publication.data))
        for data in (b"1", b"2"):
            self.hub.publish("news", data)
        self.clock.advance(0)
        self.hub.on_reconnect()
        assert self.seen == [b"1", b"2"] * 2
        assert len(self.flushLoggedErrors(KeyError)) == 2
        # `bad` takes two arguments, and `on_gap` is called with one.
        assert len(self.flushLoggedErrors(TypeError)) == 1

    def test_a_refused_subscription_fails_with_not_permitted_and_no_retry(self):
        self.broker.answers = [fail(NotPermitted("no permission"))]
        with capturedLogs() as logged:
            handle = self.hub.listen("news", lambda *_: None)
        lines = [(event["log_level"], formatEvent(event)) for event in logged]
        assert lines == [(LogLevel.error, "subscription refused channel=news reason='no permission'")]
        self.failureResultOf(handle.when_ready(), NotPermitted)
        assert not handle.is_listening
        assert self.clock.getDelayedCalls() == []

    def test_a_revoked_permission_stops_it_and_calls_on_gap(self):
        handle = self.hub.listen("news", lambda *_: None, on_gap=self.seen.append)
        with capturedLogs() as logged:
            self.hub.on_permission_revoked("news")
        assert (self.seen, handle.is_listening) == (["news"], False)
        [line] = [formatEvent(event) for event in logged]
        assert line.startswith("subscription refused channel=news reason=")
        self.failureResultOf(handle.when_ready(), NotPermitted)

    def test_an_unexpected_error_of_the_broker_is_logged_and_ends_the_subscription(self):
        answer = Deferred()
        self.broker.answers = [answer]
        handle = self.hub.listen("news", lambda *_: None)
        waiting = handle.when_ready()
        answer.errback(ZeroDivisionError())
        assert not handle.is_listening
        for ready in (waiting, handle.when_ready()):
            self.failureResultOf(ready, ZeroDivisionError)
        assert self.clock.getDelayedCalls() == []
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


async def coroutine(channel, publication):
    """Do nothing: an async function is not a valid callback."""


class ArgumentTests:
    @pytest.mark.parametrize(
        ("arguments", "options", "error", "problem"),
        [
            (("news", None), {}, TypeError, "callback must be callable, not NoneType"),
            (("news", coroutine), {}, TypeError, "callback must be a plain function, not async"),
            (("news", print), {"on_gap": 5}, TypeError, "on_gap must be callable, not int"),
            (("news", print), {"on_gap": coroutine}, TypeError, "on_gap must be a plain function"),
            (("news", print), {"since": (1, "x")}, TypeError, "since must be Position, not tuple"),
            ((5, print), {}, TypeError, "channel must be str, not int"),
            (("", print), {}, ValueError, "channel"),
        ],
    )
    def test_wrong_arguments_raise_at_the_call_and_subscribe_nothing(self, hub, arguments, options, error, problem):
        with pytest.raises(error, match=problem):
            hub.listen(*arguments, **options)
        assert hub.counts() == {}
