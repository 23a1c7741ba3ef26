"""Subscriptions of the application: a callback that is called with each publication of a channel."""

import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, NotPermitted, ServerNotPermitted
from wsserver.hub.broker import UNFRAMED
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Position
from wsserver.typing import ChannelName

__all__ = ["CallbackSubscription", "OnGap", "OnPublication"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

OnPublication = Callable[[str, Publication], object]
"""Called with the channel and a publication."""

OnGap = Callable[[str], object]
"""Called with the channel whose publications may be missing."""

RETRY_DELAY = 1.0
"""Seconds until the next attempt if the broker is up but rejects a subscription, for example because too many wait."""


class Channels(Protocol):
    """The methods of the hub that a subscription needs."""

    def subscribe(self, channel: ChannelName, subscriber: Any, *, since: Position | None) -> "Deferred[Any]":
        """Subscribe to a channel; the Deferred fires with a `Joined`, or fails with `BrokerDown`."""

    def unsubscribe(self, channel: ChannelName, subscriber: Any) -> None:
        """Unsubscribe from a channel; do nothing if the subscriber is not subscribed."""

    def call_when_up(self, function: Callable[[], None]) -> bool:
        """Call a function once, as soon as the broker is up; return False, without a call, if it is already up."""


class CallbackSubscription:
    """
    A callback's subscription to a channel, as returned by `Hub.listen`.

    Args:
        hub: the hub.
        channel: the channel's name.
        callback: called with each publication.
        on_gap: called if publications may be missing; None to log a warning instead.
        since: recover the publications after this position; None to receive only new ones.
        reactor: schedules the next attempt to subscribe.
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
        self._reactor = reactor
        self._is_listening = False
        self._stopped: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        if since is None:
            self._subscribe()
        else:
            # In the next turn: the memory broker answers at once, so that the callback would be called before the
            # caller has this object, which it may need to stop the subscription.
            reactor.callLater(0, self._subscribe)

    @property
    def is_listening(self) -> bool:
        """Whether the subscription is established. It stays True during a Redis outage; `on_gap` reports losses."""
        return self._is_listening

    def when_ready(self) -> "Deferred[None]":
        """
        Wait until the subscription is established.

        Returns:
            A Deferred that fires once every later publication reaches the callback. It fails with `NotPermitted` if
            Redis does not permit the subscription, and with `CancelledError` if `stop` was called.
        """
        if self._stopped is not None:
            return fail(self._stopped)
        if self._is_listening:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def stop(self) -> None:
        """End the subscription; the callbacks are no longer called. May be called at any time, and more than once."""
        self._end(Failure(CancelledError()))

    def _subscribe(self) -> None:
        if self._stopped is None:
            done = self._hub.subscribe(self.channel, self, since=self._since)
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
        """Call the callback with each publication. If a call raises an exception, log it and continue with the next."""
        for item in items:
            if self._stopped is None and isinstance(item, Publication):
                self._call(self._callback, channel, item)

    def missed(self, channel: ChannelName, stream: bool) -> None:  # noqa: ARG002
        """Call `on_gap`, or log a warning if there is none."""
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
