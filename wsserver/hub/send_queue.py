"""
Send queues: the publications that wait until a slow subscriber reads, and the policy if there are too many of them.

If publications are dropped, the subscriber is notified before it receives later publications of the same channel.

This module does not use Twisted, a clock or a socket.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

import msgspec

from wsserver.typing import ChannelName

__all__ = ["OVERHEAD", "Batch", "Loss", "SendQueue", "SlowConsumerPolicy"]

# Measured in memory: the tuple, its numbers and its entry in the dict.
OVERHEAD: Final = 200
"""Bytes added to the size of each batch, because a small batch takes more memory than its frames alone."""


class SlowConsumerPolicy(StrEnum):
    """What to do with a channel's publications if a subscriber does not read fast enough; the values of `--slow`."""

    CLOSE = "close"
    """When the queue is full, close the connection with 1013."""
    DROP_OLDEST = "drop-oldest"
    """When the queue is full, drop the oldest publications in it."""
    LATEST = "latest"
    """While the subscriber does not read, queue only the channel's newest publication, even if the queue has room."""


# A struct, because creating one takes a fifth of the time that a frozen dataclass takes.
class Batch(msgspec.Struct, frozen=True, gc=False):
    """A channel's publications and presence events of one event-loop iteration, encoded for one kind of subscriber."""

    channel: ChannelName
    frames: bytes
    """The encoded publications and presence events, joined."""
    count: int
    """Number of publications and presence events in `frames`."""
    size: int
    """Total size in bytes of their data, without the framing."""
    newest: tuple[bytes, int] | None = None
    """The frame of the last publication, and the size of its data in bytes; None if there are only presence events."""
    plain: "Callable[[], Batch] | None" = None
    """
    Returns the same batch without deltas, for a queue that may drop publications; None if it never has deltas. It must
    not refer to the batch: the garbage collector does not find a cycle with an object that it does not visit.
    """


class Loss(NamedTuple):
    """What a call of `SendQueue.add` has dropped."""

    messages: int
    """Number of dropped publications and presence events."""
    channels: list[ChannelName]
    """The channels that now have a gap and no notice of it yet; the caller can set one with `set_notice`."""


class _Entry(NamedTuple):
    channel: ChannelName
    frames: bytes
    messages: int
    size: int
    droppable: bool
    """Whether the channel's policy permits dropping the entry."""


class SendQueue:
    """
    The send queue of one subscriber.

    Args:
        limit: maximum size in bytes of the queue: its frames, and `OVERHEAD` for each batch.
    """

    __slots__ = ("_dropped", "_entries", "_limit", "_notices", "_numbers", "_weight")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = self._dropped = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        """
        Key -> a queued entry, in the order of sending. The key is a running number, except for a channel with the
        policy `LATEST`: it has at most one entry, and the key is the channel's name.
        """
        self._notices: dict[ChannelName, tuple[bytes, int]] = {}
        """Channel with a gap before its queued entries -> the notice: its frame (b"" until set) and payload size."""
        self._numbers = count()

    @property
    def size(self) -> int:
        """The size of the queue in bytes, as it is compared with the limit."""
        return self._weight

    @property
    def full(self) -> bool:
        """Whether the queue exceeds its limit, even after `add` has dropped everything that may be dropped."""
        return self._weight > self._limit

    def add(self, batch: Batch, policy: SlowConsumerPolicy) -> Loss:
        """
        Append a batch to the queue, and drop entries as the channels' policies require.

        If `full` is True afterwards, the caller has to close the connection.

        Args:
            batch: the batch to queue.
            policy: the slow consumer policy of the batch's channel.

        Returns:
            What was dropped.
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
        Set the notice which tells the client that publications of a channel were dropped.

        The notice is sent before all queued entries. Nothing is done if no publication of the channel was dropped, or
        if the channel already has a notice in the queue.

        Args:
            channel: the channel with the gap.
            notice: the notice, encoded as a frame.
            size: the size of the frame's payload in bytes.
        """
        if self._notices.get(channel) == (b"", 0):
            self._notices[channel] = notice, size
            self._weight += len(notice)

    def drop_channel(self, channel: ChannelName) -> None:
        """Drop all entries and the notice of a channel that the subscriber has unsubscribed from."""
        for key in [key for key, entry in self._entries.items() if entry.channel == channel]:
            self._pop(key)
        if channel in self._notices:
            self._weight -= len(self._notices.pop(channel)[0])

    def take(self) -> tuple[bytes, int, int]:
        """
        Remove and return everything in the queue.

        Returns:
            The frames to send, joined; the number of messages in them; the total size of the messages' data in bytes.
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
