"""
Send queues: the publications that wait for a slow subscriber, and the policy that drops some if there are too many.

This module does not use Twisted, a clock or a socket.
The subscriber is notified of dropped publications before it receives later ones of the same channel.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

from wsserver.typing import ChannelName

__all__ = ["OVERHEAD", "Batch", "Loss", "SendQueue", "SlowConsumerPolicy"]

# Measured: the tuple, its numbers and its entry in the table.
OVERHEAD: Final = 200
"""Bytes that every batch counts in addition to its frames. Small batches take more memory than their frames."""


class SlowConsumerPolicy(StrEnum):
    """What to do with a channel's publications if a subscriber does not read fast enough and its queue is full."""

    CLOSE = "close"
    """Drop nothing; close the connection with 1013."""
    DROP_OLDEST = "drop-oldest"
    """Drop the oldest publications in the queue."""
    LATEST = "latest"
    """Keep only the channel's newest publication whenever the subscriber does not read, even if the queue has room."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The publications and presence events of a channel in one turn, framed for one kind of subscriber."""

    channel: ChannelName
    frames: bytes
    """The frames, joined."""
    count: int
    """Number of messages in the frames."""
    size: int
    """Total size of the messages' data in bytes."""
    newest: tuple[bytes, int] | None = None
    """The frame of the last publication alone, and the size of its data in bytes; None if there is no publication."""


class Loss(NamedTuple):
    """The messages that a call of `SendQueue.add` has dropped."""

    messages: int
    """Number of dropped messages."""
    channels: list[ChannelName]
    """Channels with a new gap, for which the caller can set a notice with `SendQueue.set_notice`."""


class _Entry(NamedTuple):
    channel: ChannelName
    frames: bytes
    messages: int
    size: int
    droppable: bool
    """Whether the entry may be dropped."""


class SendQueue:
    """
    The send queue of one subscriber.

    Args:
        limit: maximum size in bytes: the frames, and `OVERHEAD` for each batch.
    """

    __slots__ = ("_dropped", "_entries", "_limit", "_notices", "_numbers", "_weight")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = self._dropped = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        """
        The queued entries, in the order of sending. The key is a running number; for a channel with the policy
        `LATEST`, which has at most one entry, it is the channel's name.
        """
        self._notices: dict[ChannelName, tuple[bytes, int]] = {}
        """Channels with a gap before their queued entries -> the notice of the gap: a frame, and its payload's size."""
        self._numbers = count()

    @property
    def full(self) -> bool:
        """Whether the queue exceeds its limit although everything that may be dropped was dropped."""
        return self._weight > self._limit

    def add(self, batch: Batch, policy: SlowConsumerPolicy) -> Loss:
        """
        Append a batch, and drop messages as the policies require. Check `full` afterwards.

        Args:
            batch: the messages to queue.
            policy: the policy of the batch's channel.

        Returns:
            The messages that were dropped.
        """
        before, channel = self._dropped, batch.channel
        new_gaps: list[ChannelName] = []
        if policy is not SlowConsumerPolicy.LATEST:
            droppable = policy is not SlowConsumerPolicy.CLOSE
            self._put(next(self._numbers), _Entry(channel, batch.frames, batch.count, batch.size, droppable))
        else:
            dropped = batch.count
            if channel in self._entries and batch.newest is not None:
                dropped += self._pop(channel).messages
            if batch.newest is not None:
                dropped -= 1
                self._put(channel, _Entry(channel, batch.newest[0], 1, batch.newest[1], True))
            self._count_dropped(channel, dropped, new_gaps)
        while self.full:
            # The search is short: the entry is nearly always the first one.
            oldest = next((key for key, entry in self._entries.items() if entry.droppable), None)
            if oldest is None:
                break
            entry = self._pop(oldest)
            self._count_dropped(entry.channel, entry.messages, new_gaps)
        return Loss(self._dropped - before, new_gaps)

    def _count_dropped(self, channel: ChannelName, number: int, new_gaps: list[ChannelName]) -> None:
        self._dropped += number
        if number and channel not in self._notices:
            self._notices[channel] = b"", 0
            new_gaps.append(channel)

    def set_notice(self, channel: ChannelName, notice: bytes, size: int) -> None:
        """
        Set the notice of a channel's gap, which is sent before all queued entries.

        A channel has one notice at a time: the call does nothing if the channel has no gap, or already has a notice.

        Args:
            channel: the channel with the gap.
            notice: the frame to send.
            size: size of its payload in bytes.
        """
        if self._notices.get(channel) == (b"", 0):
            self._notices[channel] = notice, size
            self._weight += len(notice)

    def drop_channel(self, channel: ChannelName) -> None:
        """Drop all entries and the notice of a channel that the subscriber has left."""
        for key in [key for key, entry in self._entries.items() if entry.channel == channel]:
            self._pop(key)
        if channel in self._notices:
            self._weight -= len(self._notices.pop(channel)[0])

    def take(self) -> tuple[bytes, int, int]:
        """
        Remove everything from the queue.

        Returns:
            The frames in the order of sending, joined; the number of messages; the total size of their data in bytes.
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
