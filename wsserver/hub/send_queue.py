"""
What waits for a subscriber that does not read, and what is given up where too much waits.

Rule 1: no Twisted, no clock, no socket.
Rule 2: what is given up is told, before anything that follows it in its channel.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

from wsserver.typing import ChannelName

__all__ = ["OVERHEAD", "Batch", "Loss", "SendQueue", "SlowConsumerPolicy"]

# Measured: the tuple, its numbers and its place in the table.
OVERHEAD: Final = 200
"""What every batch counts for besides the bytes of its frames: tiny ones take more memory than they weigh."""


class SlowConsumerPolicy(StrEnum):
    """What becomes of publications that a subscriber does not read in time; by channel."""

    CLOSE = "close"
    """None is given up: the connection is closed with 1013."""
    DROP_OLDEST = "drop-oldest"
    """Those that have waited longest."""
    LATEST = "latest"
    """All but the newest of the channel, as soon as it does not read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one turn has brought to a channel, written as one kind of subscriber gets it."""

    channel: ChannelName
    frames: bytes
    """All of it, joined."""
    count: int
    """How many messages these are."""
    size: int
    """Bytes of their payloads."""
    newest: tuple[bytes, int] | None = None
    """The frame of the last publication by itself, and the bytes of its payload; None where there is none."""


class Loss(NamedTuple):
    """What was given up."""

    messages: int
    """How many."""
    channels: list[ChannelName]
    """Those with a gap that nobody has told yet: see `SendQueue.tell`."""


class _Entry(NamedTuple):
    channel: ChannelName
    frames: bytes
    messages: int
    size: int
    loose: bool
    """It may be given up."""


class SendQueue:
    """
    The queue of one subscriber.

    Args:
        limit: the most bytes that wait.
    """

    __slots__ = ("_entries", "_limit", "_lost", "_notices", "_numbers", "_weight")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = self._lost = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        """By number in the order in which they leave; a channel of which only the newest waits, by its name."""
        self._notices: dict[ChannelName, tuple[bytes, int]] = {}
        """Channels with a gap before all of theirs that waits, and how it is told: a frame, and its payload's size."""
        self._numbers = count()

    @property
    def full(self) -> bool:
        """Whether more waits than may, though all was given up that may be."""
        return self._weight > self._limit

    def add(self, batch: Batch, slow: SlowConsumerPolicy) -> Loss:
        """
        Let something wait.

        Args:
            batch: what.
            slow: what becomes of its channel's publications.

        Returns:
            What was given up for it.
        """
        before, channel = self._lost, batch.channel
        fresh: list[ChannelName] = []
        if slow is not SlowConsumerPolicy.LATEST:
            loose = slow is not SlowConsumerPolicy.CLOSE
            self._put(next(self._numbers), _Entry(channel, batch.frames, batch.count, batch.size, loose))
        else:
            given_up = batch.count
            if channel in self._entries and batch.newest is not None:
                given_up += self._pop(channel).messages
            if batch.newest is not None:
                given_up -= 1
                self._put(channel, _Entry(channel, batch.newest[0], 1, batch.newest[1], True))
            self._lose(channel, given_up, fresh)
        while self.full:
            # Nearly always the first one.
            oldest = next((key for key, entry in self._entries.items() if entry.loose), None)
            if oldest is None:
                break
            entry = self._pop(oldest)
            self._lose(entry.channel, entry.messages, fresh)
        return Loss(self._lost - before, fresh)

    def _lose(self, channel: ChannelName, number: int, fresh: list[ChannelName]) -> None:
        self._lost += number
        if number and channel not in self._notices:
            self._notices[channel] = b"", 0
            fresh.append(channel)

    def tell(self, channel: ChannelName, notice: bytes, size: int) -> None:
        """
        Say how a gap is told: by one message, before all that waits.

        Args:
            channel: where the gap is.
            notice: the frame.
            size: bytes of its payload.
        """
        if self._notices.get(channel) == (b"", 0):
            self._notices[channel] = notice, size
            self._weight += len(notice)

    def forget(self, channel: ChannelName) -> None:
        """Drop all of a channel that waits: the subscriber has left it."""
        for key in [key for key, entry in self._entries.items() if entry.channel == channel]:
            self._pop(key)
        if channel in self._notices:
            self._weight -= len(self._notices.pop(channel)[0])

    def take(self) -> tuple[bytes, int, int]:
        """
        Empty the queue.

        Returns:
            The frames in their order, how many messages they are, and the bytes of their payloads.
        """
        notices = [notice for notice in self._notices.values() if notice[0]]
        entries = list(self._entries.values())
        self._notices.clear()
        self._entries.clear()
        self._weight = 0
        frames = b"".join([*(frame for frame, _ in notices), *(entry.frames for entry in entries)])
        messages = len(notices) + sum(entry.messages for entry in entries)
        return frames, messages, sum(size for _, size in notices) + sum(entry.size for entry in entries)

    def _put(self, key: Hashable, entry: _Entry) -> None:
        self._entries[key] = entry
        self._weight += len(entry.frames) + OVERHEAD

    def _pop(self, key: Hashable) -> _Entry:
        entry = self._entries.pop(key)
        self._weight -= len(entry.frames) + OVERHEAD
        return entry
