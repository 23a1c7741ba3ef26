"""Catching up: send a resuming subscriber the publications that it missed, as fast as it reads."""

from collections.abc import Callable

from twisted.python.failure import Failure

from wsserver.endpoints.raw.positions import Missed, StreamPositions
from wsserver.hub.broker import Subscriber
from wsserver.hub.hub import Hub, Joined

__all__ = ["CatchUp"]


class CatchUp:
    """
    Read the pages that a subscriber missed, one at a time: each after the subscriber has read the one before it.

    Args:
        hub: the hub of the channels.
        places: the subscriber's positions; `StreamPositions.begin` must have been called.
        subscriber: the subscriber.
        ready: returns whether the subscriber reads. When it starts to read again, the caller must call `advance`.
        send: sends the missed publications and gap notices; may close the connection.
        failed: called with the failure if a page cannot be read. Nothing more is sent after that.
    """

    __slots__ = ("_failed", "_hub", "_places", "_reading", "_ready", "_send", "_stopped", "_subscriber")

    def __init__(
        self,
        hub: Hub,
        places: StreamPositions,
        subscriber: Subscriber,
        *,
        ready: Callable[[], bool],
        send: Callable[[list[Missed]], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._hub = hub
        self._places = places
        self._subscriber = subscriber
        self._ready = ready
        self._send = send
        self._failed = failed
        self._reading = self._stopped = False

    def advance(self) -> None:
        """Start to read the next page, if there is one and the subscriber is ready for it."""
        channel = self._places.behind
        if self._reading or self._stopped or channel is None or not self._ready():
            return
        self._reading = True
        self._hub.recover(channel, self._subscriber).addCallback(self._read).addErrback(self._fail)

    def stop(self) -> None:
        """Stop: send nothing more."""
        self._stopped = True

    def _read(self, page: Joined) -> None:
        self._reading = False
        if not self._stopped:
            self._send(self._places.add_page(page))
            self.advance()

    def _fail(self, failure: Failure) -> None:
        if not self._stopped:
            self._stopped = True
            self._failed(failure)
