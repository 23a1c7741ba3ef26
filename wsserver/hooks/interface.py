"""The interface through which the endpoints use the backend's hooks."""

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from wsserver.hooks.messages import Answered, Caller, Connected, HookDisconnect, HookError, Published, Subscribed
from wsserver.hub.channel_events import ChannelEvent
from wsserver.typing import ChannelName

__all__ = ["Hooks"]


class Hooks(Protocol):
    """
    Ask the backend what clients may do, pass their calls and messages on, and report disconnected clients to it.

    The methods that return a Deferred of an answer never fail. The Deferred fires within
    `--hook-timeout`: with the backend's answer, or with `TEMPORARY` if there is no valid answer.
    """

    @property
    def events(self) -> frozenset[str]:
        """
        The events among `EVENTS` that have a hook.

        The methods for other events must not be called; only `disconnected` may always be called.
        """

    def connect(
        self, caller: Caller, *, data: bytes | None = None, name: str = "", version: str = ""
    ) -> "Deferred[Connected | HookError | HookDisconnect]":
        """Ask whether a client without a token may connect, and which user the client is."""

    def subscribe(
        self, caller: Caller, channel: ChannelName, *, data: bytes | None = None
    ) -> "Deferred[Subscribed | HookError | HookDisconnect]":
        """Ask whether a client may subscribe to a channel."""

    def publish(
        self, caller: Caller, channel: ChannelName, *, data: bytes
    ) -> "Deferred[Published | HookError | HookDisconnect]":
        """Ask whether a client may publish this data to a channel; the answer may replace the data."""

    def rpc(
        self, caller: Caller, method: str, *, data: bytes | None = None
    ) -> "Deferred[Answered | HookError | HookDisconnect]":
        """Pass a client's call to the backend."""

    def message(
        self,
        caller: Caller,
        *,
        data: bytes | None = None,
        b64data: str | None = None,
        channels: Sequence[ChannelName] | None = None,
    ) -> "Deferred[Answered | HookError | HookDisconnect]":
        """Pass a client's message to the backend."""

    def disconnected(self, caller: Caller, *, code: int, reason: str) -> None:
        """Report that a client has disconnected. Do nothing if there is no disconnect hook."""

    def channel_events(self, events: Sequence[ChannelEvent]) -> "Deferred[bool]":
        """
        Report that channels were occupied or vacated.

        Returns:
            A Deferred that fires within `--hook-timeout` with whether the backend has taken the events. It never fails.
        """

    def stop(self) -> "Deferred[None]":
        """Reject further requests. Return a Deferred that fires when every open request has ended."""
