"""Which channels have subscribers, and the events for the backend: the store in memory, and the reporter."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from wsserver.errors import BrokerDown
from wsserver.hub import occupancy
from wsserver.hub.hub import Hub
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.occupancy import VACATE_DELAY, MemoryOccupancy, Tick
from wsserver.hub.occupancy_reporter import EVENTS_AT_ONCE, MAX_BACKOFF, OccupancyReporter


class Backend:
    """Records the events that it gets, and accepts or refuses them."""

    def __init__(self):
        self.requests = []
        self.accepts = True
        self.waiting = None
        """A Deferred that the next request returns; None to answer at once."""

    def __call__(self, events):
        self.requests.append([(event.channel, event.occupied) for event in events])
        if self.waiting is not None:
            return self.waiting
        return succeed(self.accepts)

    @property
    def events(self):
        """All events in order, `+` for occupied and `-` for vacated."""
        return [("+" if occupied else "-") + channel for request in self.requests for channel, occupied in request]


class Process:
    """A process with a reporter; its channels are changed by hand."""

    def __init__(self, clock, store=None):
        self.clock, self.backend = clock, Backend()
        self.store = store or MemoryOccupancy(clock, lambda: 1_000 + clock.seconds())
        self.channels, self.is_up = set(), True
        self.reporter = OccupancyReporter(
            self.store,
            has_subscribers=self.channels.__contains__,
            channels=lambda: self.channels,
            is_up=lambda: self.is_up,
            send=self.backend,
            reactor=clock,
        )
        self.reporter.start()

    def occupy(self, *channels):
        """Add the first subscriber of channels."""
        self.channels.update(channels)
        for channel in channels:
            self.reporter.changed(channel)

    def leave(self, *channels):
        """Remove the last subscriber of channels."""
        self.channels.difference_update(channels)
        for channel in channels:
            self.reporter.changed(channel)

    def wait(self, seconds):
        """Let time pass."""
        self.clock.pump([0.1] * round(seconds * 10))

    def stop(self):
        """Stop the reporter; check that it has left no timer."""
        done = []
        self.reporter.stop(2.0).addCallback(done.append)
        assert done
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def clock():
    """Return a clock."""
    return Clock()


@pytest.fixture
def process(clock):
    """Return a process with a store in memory."""
    return Process(clock)


class EventTests:
    """Events of channels in one process."""

    def test_a_channel_is_occupied_at_once_and_vacated_after_the_delay(self, process):
        process.occupy("a", "b")
        process.wait(0.2)
        assert process.backend.events == ["+a", "+b"]
        process.leave("a")
        process.wait(VACATE_DELAY - 0.2)
        assert process.backend.events == ["+a", "+b"]
        process.wait(3)
        assert process.backend.events == ["+a", "+b", "-a"]
        process.occupy("a")
        process.wait(0.2)
        assert process.backend.events == ["+a", "+b", "-a", "+a"]
        assert process.reporter.sent == 4

    def test_a_subscriber_within_the_delay_prevents_both_events(self, process):
        process.occupy("a")
        process.wait(1)
        process.leave("a")
        process.wait(VACATE_DELAY - 0.5)
        process.occupy("a")
        process.wait(20)
        assert process.backend.events == ["+a"]

    def test_a_channel_that_is_left_before_the_update_has_no_events(self, process):
        """The broker may refuse the subscription within this time."""
        process.occupy("a")
        process.leave("a")
        process.wait(20)
        assert process.backend.events == []

    def test_an_event_has_the_time_at_which_it_was_queued(self, clock):
        process = Process(clock)
        seen = []
        process.reporter._send = lambda events: seen.extend(events) or succeed(True)
        process.occupy("a")
        process.wait(1)
        assert [event.time_ms for event in seen] == [1_000_100]

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 80)), max_size=30), st.data())
    def test_the_events_of_a_channel_alternate_and_the_last_one_is_the_truth(self, changes, data):
        """Whatever the changes and the failures of the backend."""
        process = Process(Clock())
        for channel, tenths in changes:
            (process.leave if channel in process.channels else process.occupy)(channel)
            process.backend.accepts = data.draw(st.booleans())
            process.wait(tenths / 10)
        process.backend.accepts = True
        process.wait(VACATE_DELAY + 2 * MAX_BACKOFF + 5)
        process.stop()
        seen = {}
        for request, accepted in pairwise([*process.backend.requests, None]):
            if accepted is not None and accepted[: len(request)] == request:
                continue  # Sent again.
            for channel, occupied in request:
                assert seen.get(channel, False) is not occupied
                seen[channel] = occupied


class DeliveryTests:
    """Requests to the backend."""

    def test_one_request_at_a_time_has_at_most_100_events(self, process):
        process.backend.waiting = waiting = Deferred()
        process.occupy(*(f"c{number}" for number in range(250)))
        process.wait(1)
        assert [len(request) for request in process.backend.requests] == [EVENTS_AT_ONCE]
        process.backend.waiting = None
        waiting.callback(True)
        assert [len(request) for request in process.backend.requests] == [EVENTS_AT_ONCE, EVENTS_AT_ONCE, 50]

    def test_failed_requests_are_repeated_with_growing_waits_until_the_backend_accepts(self, process):
        process.backend.accepts = False
        process.occupy("a")
        process.wait(16)
        # At 0.1, 1.1, 3.1, 7.1, 15.1 and every 10 s from then on.
        assert len(process.backend.requests) == 5
        process.wait(60)
        assert len(process.backend.requests) == 11
        assert (process.reporter.failed, process.reporter.sent) == (11, 0)
        process.leave("a")
        process.wait(10)
        process.backend.accepts = True
        process.wait(MAX_BACKOFF + 1)
        assert process.backend.requests[-1] == [("a", True), ("a", False)]
        assert process.reporter.sent == 2
        process.occupy("b")
        process.wait(0.2)
        assert process.backend.events[-1] == "+b"

    def test_a_full_queue_loses_nothing_but_the_events_of_channels_that_were_vacated_meanwhile(
        self, process, monkeypatch
    ):
        monkeypatch.setattr(occupancy, "MAX_EVENTS", 3)
        process.backend.accepts = False
        process.occupy("a", "b", "c", "d", "e")
        process.wait(1)
        process.leave("a", "d")
        process.wait(60)
        assert len(process.store.take(100)) == 3
        process.backend.accepts = True
        process.wait(60)
        assert process.backend.events[-5:] == ["+a", "+b", "+c", "-a", "+e"]

    def test_stop_vacates_all_channels_and_sends_the_events(self, process):
        """Once the process is gone, nothing else could."""
        process.occupy("a", "b")
        process.wait(1)
        process.leave("a", "b")
        process.stop()
        assert process.backend.events == ["+a", "+b", "-a", "-b"]

    def test_stop_waits_for_the_request_in_progress_and_sends_what_follows(self, process, clock):
        process.backend.waiting = waiting = Deferred()
        process.occupy("a")
        process.wait(1)
        process.leave("a")
        done = []
        process.reporter.stop(2.0).addCallback(done.append)
        assert (process.backend.events, done) == (["+a"], [])
        process.backend.waiting = None
        waiting.callback(True)
        assert process.backend.events == ["+a", "-a"]
        assert done
        assert clock.getDelayedCalls() == []

    @pytest.mark.parametrize("answers", [False, None])
    def test_stop_does_not_wait_longer_than_its_timeout_for_a_backend_that_fails(self, process, clock, answers):
        process.backend.accepts = answers
        if answers is None:
            process.backend.waiting = Deferred(lambda waiting: waiting.callback(False))
        process.occupy("a")
        process.wait(0.5)
        done = []
        process.reporter.stop(2.0).addCallback(done.append)
        process.wait(2.1)
        assert done
        assert clock.getDelayedCalls() == []

    def test_it_can_be_started_again(self, process):
        process.occupy("a")
        process.wait(1)
        process.leave("a")
        process.stop()
        process.reporter.start()
        process.occupy("a")
        process.wait(1)
        assert process.backend.events == ["+a", "-a", "+a"]


class Store(MemoryOccupancy):
    """A store that fails while it is `down`, or knows no process when it is `forgetful`."""

    down = forgetful = False

    def update(self, occupied, left):
        """Fail, or update."""
        if self.down:
            raise BrokerDown("Redis is unavailable")
        return super().update(occupied, left)

    def tick(self):
        """Fail, or report that the process is not known."""
        if self.down:
            raise BrokerDown("Redis is unavailable")
        tick = super().tick()
        known, self.forgetful = not self.forgetful, False
        return Tick(known, tick.events)

    def take(self, limit):
        """Fail, or return events."""
        if self.down:
            raise BrokerDown("Redis is unavailable")
        return super().take(limit)


class OutageTests:
    """The store is unavailable, or has lost its data."""

    def test_changes_during_an_outage_are_reported_afterwards(self, clock):
        process = Process(clock, Store(clock))
        process.occupy("a", "b")
        process.wait(1)
        process.store.down = True
        process.leave("a")
        process.occupy("c")
        process.wait(30)
        assert process.backend.events == ["+a", "+b"]
        process.store.down = False
        process.wait(15)
        assert process.backend.events == ["+a", "+b", "+c", "-a"]

    def test_a_store_that_has_lost_the_process_gets_all_its_channels(self, clock):
        store = Store(clock)
        process = Process(clock, store)
        process.occupy("a", "b")
        process.wait(1)
        store._occupied.clear()
        store.forgetful = True
        process.wait(5)
        assert sorted(process.backend.events) == ["+a", "+a", "+b", "+b"]

    @pytest.mark.parametrize("is_up", [True, False])
    def test_a_store_that_fails_is_logged_once_unless_the_broker_itself_is_down(self, clock, is_up):
        """The broker logs its own outage."""
        lines = []

        def observe(event):
            if event.get("log_namespace") == "wsserver.occupancy":
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        try:
            process = Process(clock, Store(clock))
            process.store.down, process.is_up = True, is_up
            process.occupy("a")
            process.wait(30)
        finally:
            globalLogPublisher.removeObserver(observe)
        assert lines == ["channel events are delayed reason='Redis is unavailable'"] * is_up
        process.store.down, process.is_up = False, True
        process.wait(5)
        assert process.backend.events == ["+a"]

    def test_what_exceeds_one_call_is_done_without_waiting(self, clock):
        """Otherwise, 50,000 vacated channels would take minutes."""
        store, calls = Store(clock), []
        process = Process(clock, store)

        def tick():
            calls.append(round(clock.seconds()))
            return Tick(True, 0, len(calls) % 4 != 0)

        store.tick = tick
        process.wait(6)
        assert calls == [*[calls[0]] * 4, *[calls[4]] * 4]
        assert calls[4] > calls[0]

    def test_events_stay_queued_while_the_store_is_down(self, clock):
        process = Process(clock, Store(clock))
        process.backend.accepts = False
        process.occupy("a")
        process.wait(0.5)
        process.store.down = True
        process.wait(5)
        process.store.down, process.backend.accepts = False, True
        process.wait(5)
        assert process.backend.events == ["+a", "+a"]


class Subscriber:
    """A subscriber that is never sent anything."""

    kind = "test"


class HubTests:
    """The hub notices the first and the last subscriber of a channel in this process."""

    def test_calls_the_function_for_the_first_and_the_last_subscriber_only(self, clock):
        broker = MemoryBroker(clock)
        hub = Hub(broker, clock)
        broker.deliver_to(hub)
        seen = []
        hub.watch_occupancy(seen.append)
        one, other = Subscriber(), Subscriber()
        for subscriber in (one, other):
            hub.subscribe("a", subscriber)
        assert (seen, hub.is_occupied("a")) == (["a"], True)
        hub.unsubscribe("a", one)
        assert (seen, hub.is_occupied("a")) == (["a"], True)
        hub.unsubscribe("a", other)
        assert (seen, hub.is_occupied("a")) == (["a", "a"], False)

    def test_a_channel_is_not_occupied_until_the_broker_has_confirmed_it(self, clock, monkeypatch):
        broker = MemoryBroker(clock)
        hub = Hub(broker, clock)
        broker.deliver_to(hub)
        seen = []
        hub.watch_occupancy(seen.append)
        confirmed = Deferred()
        monkeypatch.setattr(broker, "subscribe", lambda _: confirmed)
        hub.subscribe("a", Subscriber())
        assert (seen, hub.is_occupied("a")) == ([], False)
        confirmed.callback(None)
        assert (seen, hub.is_occupied("a")) == (["a"], True)
