"""
Reports the occupancy of the channels: from the hub of this process to the store, and from the store to the backend.

`wsserver.hub.occupancy` says what the store does.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from itertools import filterfalse
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown
from wsserver.hub.channel_events import ChannelEvent
from wsserver.hub.deferreds import as_deferred
from wsserver.hub.occupancy import BATCH, OccupancyStore, Tick
from wsserver.typing import ChannelName

__all__ = ["MAX_BACKOFF", "OccupancyReporter"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.occupancy")

EVENTS_AT_ONCE = 100
"""Maximum number of events in one request to the backend."""

UPDATE_DELAY = 0.1
"""Seconds for which changes are collected before the store is updated."""

TICK_INTERVAL = 2.5
"""Seconds between two calls of `OccupancyStore.tick`."""

MIN_BACKOFF, MAX_BACKOFF = 1.0, 10.0
"""Seconds to wait before events are sent again; the wait doubles with each failure."""


class OccupancyReporter:
    """
    Reports to the store which channels have subscribers in this process, and sends the queued events to the backend.

    Args:
        store: the occupancy of all processes.
        has_subscribers: returns whether a channel has subscribers in this process.
        channels: returns the channels that have subscribers in this process.
        is_up: returns whether the broker is up. While it is down, nothing is reported or sent.
        send: sends events to the backend; returns a Deferred that fires with whether the backend has taken them, so
            that they are not sent again. It never fails.
        reactor: schedules the calls.
    """

    def __init__(
        self,
        store: OccupancyStore,
        *,
        has_subscribers: Callable[[ChannelName], bool],
        channels: Callable[[], Collection[ChannelName]],
        is_up: Callable[[], bool],
        send: "Callable[[Sequence[ChannelEvent]], Deferred[bool]]",
        reactor: Any,
    ) -> None:
        self.sent = 0
        """Number of events that the backend has taken."""
        self.failed = 0
        """Number of requests with events that the backend has not taken, and that are repeated."""
        self._store, self._has_subscribers, self._channels, self._send = store, has_subscribers, channels, send
        self._is_up, self._reactor = is_up, reactor
        self._changed: dict[ChannelName, None] = {}
        """Channels whose state the store does not know yet, the oldest change first."""
        self._timer: Any = None
        """The call of `_update` that is scheduled; None if there is none."""
        self._updating = self._sending = self._stopping = self._delayed = False
        self._sent: Deferred[None] | None = None
        """Fires when the events that are being sent have been sent; None if nothing waits for it."""
        self._backoff: Any = None
        """The call that sends events again after a failure; None if there is none."""
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor

    def metrics(self) -> Mapping[str, float]:
        """Return the counters for `/api/info`: metric name -> value."""
        return {
            "channel_events_sent_total": float(self.sent),
            "channel_events_failed_requests_total": float(self.failed),
        }

    def start(self) -> None:
        """Begin to update the store."""
        self._stopping = False
        self._ticks.start(TICK_INTERVAL).addErrback(_log_failure)

    def changed(self, channel: ChannelName) -> None:
        """Note that a channel has its first subscriber in this process, or has none any longer."""
        self._changed[channel] = None
        self._schedule_update()

    def _schedule_update(self) -> None:
        if self._timer is None and self._ticks.running:
            self._timer = self._reactor.callLater(UPDATE_DELAY, self._update_late)

    def _update_late(self) -> None:
        self._timer = None
        self._update().addErrback(_log_failure)

    @inlineCallbacks
    def _update(self) -> Generator[Any, Any, None]:
        if self._updating:
            self._schedule_update()
            return
        self._updating = True
        try:
            # What the store refuses, and what changes meanwhile, waits for the next tick or timer.
            for _ in range(len(self._changed) // BATCH + 1):
                batch = list(self._changed)[:BATCH]
                if not batch:
                    break
                for channel in batch:
                    del self._changed[channel]
                occupied = list(filter(self._has_subscribers, batch))
                left = list(filterfalse(self._has_subscribers, batch))
                try:
                    refused = yield as_deferred(self._store.update(occupied, left))
                except BrokerDown as error:
                    self._changed |= dict.fromkeys(batch)
                    self._log_delay(error)
                    return
                self._changed |= dict.fromkeys(refused)
        finally:
            self._updating = False
        self._deliver()

    @inlineCallbacks
    def _tick(self) -> Generator[Any, Any, None]:
        while self._is_up() and not self._stopping:
            # While Redis is down, the changes stay in `_changed`.
            try:
                tick = yield as_deferred(self._store.tick())
            except BrokerDown as error:
                self._log_delay(error)
                return
            yield self._ticked(tick)
            if not tick.more:
                return

    @inlineCallbacks
    def _ticked(self, tick: Tick) -> Generator[Any, Any, None]:
        self._delayed = False
        if not tick.known:
            self._changed |= dict.fromkeys(self._channels())
        if self._changed:
            yield self._update()
        elif tick.events:
            self._deliver()

    def _log_delay(self, error: BrokerDown) -> None:
        # Once until the next success. The broker itself logs that it is down.
        if not self._delayed and self._is_up():
            self._delayed = True
            _log.warn("channel events are delayed reason={reason!r}", reason=str(error))

    def _deliver(self) -> None:
        """Send the queued events, unless this is happening already, or waits after a failure."""
        if not self._sending and self._backoff is None and not self._stopping:
            self._sending = True
            self._send_all().addErrback(_log_failure)

    @inlineCallbacks
    def _send_all(self, backoff: float = MIN_BACKOFF) -> Generator[Any, Any, None]:
        self._backoff = None
        try:
            while events := (yield as_deferred(self._store.take(EVENTS_AT_ONCE))):
                if not (yield self._send(events)):
                    self.failed += 1
                    if not self._stopping:
                        again = min(2 * backoff, MAX_BACKOFF)
                        self._backoff = self._reactor.callLater(backoff, self._send_again, again)
                    return
                self.sent += len(events)
                backoff = MIN_BACKOFF
                yield as_deferred(self._store.accept(len(events)))
        except BrokerDown as error:
            # The broker keeps the events. They are sent after a later tick.
            self._log_delay(error)
        finally:
            self._sending = False
            sent, self._sent = self._sent, None
            if sent is not None:
                sent.callback(None)

    def _send_again(self, backoff: float) -> None:
        self._sending = True
        self._send_all(backoff).addErrback(_log_failure)

    @inlineCallbacks
    def stop(self, timeout: float) -> Generator[Any, Any, None]:
        """
        Stop: record that the process has no subscribers any longer, and send the events that are queued by then.

        Args:
            timeout: maximum seconds to spend on it. Events that are not sent then are lost with the store in memory;
                with that in Redis, another process sends them, or this one after its next start.

        Returns:
            A Deferred that fires when this is done, or the time is over.
        """
        self._stopping = True
        for call in (self._timer, self._backoff):
            if call is not None:
                call.cancel()
        self._timer = self._backoff = None
        if self._ticks.running:
            self._ticks.stop()
        done = self._finish()
        done.addTimeout(timeout, self._reactor).addErrback(lambda _: None)
        yield done

    @inlineCallbacks
    def _finish(self) -> Generator[Any, Any, None]:
        while self._changed and not self._updating:
            before = len(self._changed)
            yield self._update()
            if len(self._changed) >= before:
                break
        self._store.close()
        if self._sending:
            self._sent = Deferred()
            yield self._sent
        self._sending = True
        yield self._send_all()


def _log_failure(failure: Failure) -> None:
    _log.failure("channel events failed", failure)
