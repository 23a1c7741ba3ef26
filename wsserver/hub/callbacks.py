"""Subscriptions that the embedding application makes: a callback receives each publication of a channel."""

import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, NotPermitted, ServerNotPermitted
from wsserver.hub.broker import UNFRAMED
from wsserver.hub.deferreds import MaybeDeferred
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Position
from wsserver.typing import ChannelName

__all__ = ["CallbackSubscription", "OnGap", "OnPublication"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

OnPublication = Callable[[str, Publication], object]
"""A callback that receives a channel's publications; called with the channel's name and a publication."""

OnGap = Callable[[str], object]
"""A callback for gaps; called with the name of a channel if publications of the channel may be missing."""

RETRY_DELAY = 1.0
"""
Seconds until the next attempt to subscribe if the broker is up but refuses the subscription, for example because too
many requests to Redis are unanswered.
"""


class Channels(Protocol):
    """The methods of the hub that a `CallbackSubscription` needs."""

    def subscribe(
        self, channel: ChannelName, subscriber: Any, *, since: Position | None, rewind: int
    ) -> MaybeDeferred[Any]:
        """Subscribe to a channel; return a `Joined` or a Deferred of it. Both may fail with `BrokerDown`."""

    def unsubscribe(self, channel: ChannelName, subscriber: Any) -> None:
        """Unsubscribe a subscriber from a channel; do nothing if it is not subscribed."""

    def call_when_up(self, function: Callable[[], None]) -> bool:
        """
        Register a function to call once, when the broker comes up.

        Returns:
            False if the broker is already up; the function is then not registered.
        """


class CallbackSubscription:
    """
    A callback's subscription to a channel, as returned by `Hub.listen`.

    Args:
        hub: the hub.
        channel: the channel's name.
        callback: called with each publication.
        on_gap: called if publications may be missing; None to log a warning instead.
        since: first call the callback with the publications after this position; None for only new publications.
        rewind: first call the callback with up to this number of the last publications, unless `since` is used.
        reactor: schedules further attempts to subscribe.
    """

    kind: Hashable = UNFRAMED

    def __init__(
        self,
        hub: Channels,
        channel: ChannelName,
        callback: OnPublication,
        *,
        on_gap: OnGap | None,
        since: Position | None,
        rewind: int,
        reactor: IReactorTime,
    ) -> None:
        _check_callback("callback", callback)
        if on_gap is not None:
            _check_callback("on_gap", on_gap)
        self.channel = channel
        self._hub = hub
        self._callback = callback
        self._on_gap = on_gap
        self._since = since
        self._rewind = rewind
        self._reactor = reactor
        self._is_listening = False
        self._stopped: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        if since is None and not rewind:
            self._subscribe()
        else:
            # In the next event-loop iteration. The memory broker answers immediately, so the callback would be called
            # before this constructor returns. The callback may need this object, to stop the subscription.
            reactor.callLater(0, self._subscribe)

    @property
    def is_listening(self) -> bool:
        """Whether the subscription is established. True even in a Redis outage; `on_gap` reports what was lost."""
        return self._is_listening

    def when_ready(self) -> "Deferred[None]":
        """
        Wait until the subscription is established.

        Returns:
            A Deferred that fires with None once the subscription is established: the callback receives every
            publication from then on. It fails with `NotPermitted` if Redis does not permit the subscription, and with
            `CancelledError` if `stop` is called.
        """
        if self._stopped is not None:
            return fail(self._stopped)
        if self._is_listening:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def stop(self) -> None:
        """End the subscription: neither callback is called any more. May be called at any time, and more than once."""
        self._end(Failure(CancelledError()))

    def _subscribe(self) -> None:
        if self._stopped is None:
            done = maybeDeferred(self._hub.subscribe, self.channel, self, since=self._since, rewind=self._rewind)
            done.addCallbacks(self._subscribed, self._not_subscribed)
            done.addErrback(
                lambda failure: _log.failure("subscribing failed channel={channel}", failure, channel=self.channel)
            )

    def _subscribed(self, joined: Any) -> None:
        if self._stopped is not None:
            return
        self._is_listening = True
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
        if self._since is not None and not joined.recovered:
            self.missed(self.channel, True)
        self.receive(self.channel, joined.publications)

    def _not_subscribed(self, failure: Failure) -> None:
        if failure.check(NotPermitted) and not failure.check(ServerNotPermitted):
            self._log_refusal(failure)
            self._end(failure)
        elif failure.check(BrokerDown):
            if not self._hub.call_when_up(self._subscribe):
                self._reactor.callLater(RETRY_DELAY, self._subscribe)
        else:
            self._end(failure)
            failure.raiseException()

    def _end(self, reason: Failure) -> None:
        if self._stopped is not None:
            return
        self._stopped, self._is_listening = reason, False
        self._hub.unsubscribe(self.channel, self)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.errback(reason)

    # Called by the fan-out; see `wsserver.hub.broker.Subscriber`.

    def receive(self, channel: ChannelName, items: "Iterable[Publication | PresenceEvent]") -> None:
        """
        Call the callback with each publication, and skip presence events.

        If the callback raises an exception, the exception is logged, and the next publication follows.
        """
        for item in items:
            if self._stopped is None and isinstance(item, Publication):
                self._call(self._callback, channel, item)

    def missed(self, channel: ChannelName, stream: bool) -> None:  # noqa: ARG002
        """Call `on_gap`, or log a warning if the application passed no `on_gap`."""
        if self._stopped is not None:
            return
        if self._on_gap is None:
            _log.warn("publications may be missing channel={channel}", channel=channel)
        else:
            self._call(self._on_gap, channel)

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Report a gap and end the subscription, because Redis no longer permits the server to read the channel."""
        if self._stopped is None:
            failure = Failure(NotPermitted(f"Redis no longer permits the server to read channel {channel!r}"))
            self._log_refusal(failure)
            self.missed(channel, True)
            self._end(failure)

    def _log_refusal(self, failure: Failure) -> None:
        _log.error(
            "subscription refused channel={channel} reason={reason!r}", channel=self.channel, reason=str(failure.value)
        )

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:
            _log.failure("callback failed channel={channel}", channel=self.channel)


def _check_callback(name: str, function: object) -> None:
    if not callable(function):
        raise TypeError(f"{name} must be callable, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} must be a plain function, not async: its result would not be awaited")
