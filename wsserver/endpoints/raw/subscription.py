"""
Raw subscriptions: the part that `/ws?channel=` and `/sse?channel=` have in common.

A raw subscriber names its channels in its URL, and only receives. If its URL or its headers contain the last event ID
that it received, the server first sends the publications that it missed. If its URL requests a rewind, the server first
sends the last publications of each channel. The server reads these publications from the broker in pages, and reads no
further page while the client does not read.

This module does not use a clock or a socket.
"""

from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Authorizer
from wsserver.endpoints.queued_output import QueuedOutput
from wsserver.endpoints.raw.client import RawClient
from wsserver.endpoints.raw.positions import Missed, Notice, StreamPositions
from wsserver.endpoints.raw.request import RawSubscribeRequest
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Caller
from wsserver.hub.hub import Joined
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import Batch
from wsserver.typing import ChannelName

__all__ = ["RawSubscription"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.raw")


class RawSubscription(QueuedOutput):
    """
    A base class of the connections of raw subscribers; implements `wsserver.hub.broker.Subscriber`.

    The subclass implements `encode` and `gap_frame`, which write messages, and the methods that `QueuedOutput` names.
    It calls, in this order: `set_client`, `subscribe`, `start`, and `unsubscribe` when the connection is closed.
    """

    authorizer: Authorizer
    close_on_gap: bool
    """Whether to close the connection, instead of sending a gap notice, if publications may be missing."""
    sends_event_ids: ClassVar[bool]
    """Whether messages contain event IDs, so that the server tracks the client's positions."""

    kind: Hashable = None
    subscribe_request: RawSubscribeRequest | None = None
    """The client's channels and format; None before `set_client`."""

    _positions: StreamPositions | None = None
    """None before `set_client`, after `unsubscribe`, and when the positions are not needed any longer."""
    _client: RawClient | None = None
    """The object through which the HTTP API and the expiry of the client's token act on the connection."""
    _is_reading_page = False

    # Implemented by the subclass.

    def encode(self, channel: ChannelName, publication: Publication, event_id: str) -> bytes:
        """
        Return the bytes of a publication for every subscriber with the same `kind`.

        Args:
            channel: the channel it was published to.
            publication: the publication.
            event_id: the client's positions after this publication; empty if they have not changed, or are not tracked.
        """
        raise NotImplementedError

    def gap_frame(self, channel: ChannelName, event_id: str = "") -> tuple[bytes, int]:
        """Return the bytes of a gap notice, and the size of its payload in bytes. `event_id` is as in `encode`."""
        raise NotImplementedError

    def position_frame(self, event_id: str) -> bytes:  # noqa: ARG002
        """
        Return bytes that set the client's last event ID, and are not a message.

        By default, the result is empty: the client has no last event ID. `event_id` is as in `encode`; if it is empty,
        the client sends no ID when it reconnects.
        """
        return b""

    def rewound_frame(self, channel: ChannelName, event_id: str) -> tuple[bytes, int]:  # noqa: ARG002
        """
        Return the bytes of the notice that a rewind has ended, and the size of its payload in bytes.

        By default, the result is empty: the server sends no notice. `event_id` is as in `encode`.
        """
        return b"", 0

    # Opening and closing.

    def set_client(self, admitted: Admitted, caller: Caller) -> None:
        """
        Set the client. After this, `unsubscribe` notifies the backend, even if the client is never subscribed.

        Args:
            admitted: the client's identity and channels.
            caller: the description of the client that the backend receives.
        """
        self.subscribe_request, self._positions = admitted.request, StreamPositions(admitted.request)
        self._client = RawClient(self.hub.clients, self.authorizer, admitted, caller, self.close)

    def subscribe(self) -> "Deferred[Any]":
        """
        Subscribe to the client's channels. Their publications are queued until `start`.

        Returns:
            A Deferred that fires when all channels are subscribed. If it fails with `BrokerDown`, no channel is.
        """
        assert self._positions is not None
        self.hold()
        return self._positions.subscribe(self.hub, self, positioned=self.sends_event_ids)

    def start(self) -> None:
        """
        Send a gap notice for each channel that cannot be recovered, then the queued publications. Start the recovery.

        To be called once the channels are subscribed and the connection is open.
        """
        assert self._client is not None
        assert self._positions is not None
        self._client.register()
        # Before what is queued: these are the gaps before it.
        self._send_missed(self._positions.begin(), self._send)
        self.release()
        self.read_page()

    def unsubscribe(self, code: int, reason: str) -> None:
        """
        Unsubscribe from all channels, and notify the backend of the disconnect. Further calls do nothing.

        Args:
            code: the close code that the backend receives.
            reason: the close reason that the backend receives.
        """
        self._positions = None
        client, self._client = self._client, None
        if client is not None:
            for channel in client.channels:
                self.hub.unsubscribe(channel, self)
            client.unregister(code, reason)

    # Recovery.

    @property
    def is_recovering(self) -> bool:
        """Whether the client has missed publications that have not been sent yet; valid after `start`."""
        return self._positions is not None and self._positions.behind is not None

    def read_page(self) -> None:
        """Read the next page of missed publications from the broker, if there is one and the client reads."""
        channel = self._positions.behind if self._positions is not None else None
        if channel is None or self._is_reading_page or self._send_queue is not None or self._has_ended():
            return
        self._is_reading_page = True
        self.hub.recover(channel, self).addCallback(self._page_read).addErrback(self._recovery_failed)

    def _page_read(self, page: Joined) -> None:
        self._is_reading_page = False
        if self._positions is not None and not self._has_ended():
            # In order, because the event IDs contain the positions of what is queued, too. A client that never receives
            # what is queued must not receive these IDs, or it would not recover what was queued.
            missed = self._positions.add_page(page)
            self._send_missed(missed, self.send_in_order)
            if not missed and page.position is not None and self._positions is not None and self.sends_event_ids:
                # No publication in the page matched the client's filter. After a reconnect, it need not be read again.
                self.send_in_order(self.position_frame(self._positions.write()), 0, 0)
            self.read_page()

    def _recovery_failed(self, failure: Failure) -> None:
        if self._positions is None or self._has_ended():
            return
        if not failure.check(BrokerDown):
            _log.failure("recovery failed", failure)
        self.close(CloseCode.TRY_AGAIN_LATER, "missed publications cannot be read; reconnect to recover them")

    def _send_missed(self, missed: list[Missed], send: Callable[[bytes, int, int], None]) -> None:
        frames, size = [], 0
        for channel, message, position in missed:
            event_id = position if self.sends_event_ids else ""
            if isinstance(message, Publication):
                frame, length = self.encode(channel, message, event_id), len(message.data)
            elif message is Notice.REWOUND:
                frame, length = self.rewound_frame(channel, event_id)
            elif self.close_on_gap:
                if frame := self.position_frame(event_id):
                    # Otherwise an EventSource would reconnect with the lost position again and again.
                    self._send(frame, 0, 0)
                self._close_after_gap(channel)
                return
            else:
                frame, length = self.gap_frame(channel, event_id)
            if frame:
                frames.append(frame)
                size += length
        if frames:
            send(b"".join(frames), len(frames), size)
        if not self.sends_event_ids and not self.is_recovering:
            # The positions are not needed any longer. Free their memory: a server may have very many idle connections.
            self._positions = None

    def _close_after_gap(self, channel: ChannelName) -> None:
        self.close(CloseCode.SERVICE_RESTART, f"publications to {channel} may be missing")

    # Called by the hub: the interface `Subscriber`.

    def frame(self, channel: ChannelName, publication: Publication) -> bytes:
        """Return the bytes of a publication for every subscriber with the same `kind`."""
        if self.sends_event_ids and self._positions is not None:
            return self.encode(channel, publication, self._positions.move(channel, publication))
        return self.encode(channel, publication, "")

    def event_frame(self, channel: ChannelName, event: PresenceEvent) -> bytes:  # noqa: ARG002
        """Return no bytes: raw subscribers receive no presence events."""
        return b""

    def missed(self, channel: ChannelName, stream: bool) -> None:
        """Send a gap notice for the channel, or close with 1012 if `close_on_gap` is set."""
        if self.close_on_gap:
            self._close_after_gap(channel)
            return
        event_id = ""
        if stream and self.sends_event_ids and self._positions is not None:
            # The ID moves past the gap, so that the client gets no second notice of it after a reconnect.
            event_id = self._positions.jump(channel, self.hub.position(channel))
        frame, size = self.gap_frame(channel, event_id)
        self.deliver(Batch(channel, frame, 1, size))

    def on_permission_revoked(self, channel: ChannelName) -> None:
        """Close with 1008: Redis no longer permits the server to subscribe to the channel."""
        self.close(CloseCode.POLICY_VIOLATION, f"Redis no longer permits the channel {channel}")
