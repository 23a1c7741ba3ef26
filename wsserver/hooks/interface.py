"""What a backend that is asked about clients looks like to the endpoints."""

from typing import Protocol

from twisted.internet.defer import Deferred

from wsserver.hooks.messages import Caller, Connected, Dropped, Published, Refused, Subscribed
from wsserver.typing import ChannelName, JSONText

__all__ = ["Hooks"]


class Hooks(Protocol):
    """
    Ask the backend.

    No Deferred ever fails, and each fires within the time that `--hook-timeout` allows: where the backend does not
    answer, with `TEMPORARY`.
    """

    @property
    def events(self) -> frozenset[str]:
        """Which of `EVENTS` the backend wants; about others nothing is to be asked."""

    def connect(
        self, caller: Caller, *, data: JSONText | None = None, name: str = "", version: str = ""
    ) -> "Deferred[Connected | Refused | Dropped]":
        """Ask whether a client without a token may connect, and who it is."""

    def subscribe(
        self, caller: Caller, channel: ChannelName, *, data: JSONText | None = None
    ) -> "Deferred[Subscribed | Refused | Dropped]":
        """Ask whether a client may listen to a channel."""

    def publish(
        self, caller: Caller, channel: ChannelName, *, data: JSONText
    ) -> "Deferred[Published | Refused | Dropped]":
        """Ask whether a client may publish to a channel, and what."""

    def disconnected(self, caller: Caller, *, code: int, reason: str) -> None:
        """Tell that a client has gone, if the backend can be told."""

    def stop(self) -> "Deferred[None]":
        """Ask nothing more; fires when everything that was asked is answered or given up."""
