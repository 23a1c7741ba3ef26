"""
Streams: the numbered publications of a channel. The newest ones are kept for a limited time.

The number of a publication is its offset, counted from 1. The identifier of a stream is its epoch. If a stream is lost,
the channel's next stream has another epoch, and its offsets start at 1 again. An offset and an epoch together are a
position. Centrifugo uses the same terms.

This module does not use Twisted, a socket or a clock: the time is an argument.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from wsserver.hub.publication import Publication

__all__ = [
    "Keep",
    "Page",
    "Position",
    "ReadLimit",
    "Stream",
    "lowest",
    "parse_position",
    "parse_positions",
    "write_positions",
]


class Position(NamedTuple):
    """A position in a channel's stream: directly after the publication with this offset."""

    offset: int
    epoch: str

    def __str__(self) -> str:
        """Return the position as `epoch:offset`, the format of the event ids of `/sse`."""
        return f"{self.epoch}:{self.offset}"


def parse_position(text: str) -> Position | None:
    """Parse a position in the format `epoch:offset`; return None if the text is not in this format."""
    found = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,18})", text)
    return Position(int(found[2]), found[1]) if found else None


def write_positions(positions: Iterable[Position | None]) -> str:
    """Return the positions as a comma-separated text; each is written as `epoch:offset`, and None as a dash."""
    return ",".join("-" if position is None else str(position) for position in positions)


def parse_positions(text: str, count: int) -> list[Position | None] | None:
    """Parse a result of `write_positions` that has `count` positions; return None if the text is invalid."""
    parts = text.split(",", count)
    positions = [parse_position(part) for part in parts]
    unparsed = {part for part, position in zip(parts, positions, strict=True) if position is None}
    return positions if len(parts) == count and unparsed <= {"-"} else None


def lowest(positions: Iterable[Position | None]) -> Position | None:
    """
    Return the lowest position of a channel's recovered subscribers.

    Subscribers that read the stream at different times have different positions. Publications after the lowest position
    are new to at least one of the subscribers.

    Args:
        positions: the subscribers' positions; None for a subscriber whose position is unknown.

    Returns:
        The lowest position. None if no position is known, or if the positions have different epochs. With None, the
        next publication sets the channel's position.
    """
    known = {position for position in positions if position is not None}
    return min(known) if len({position.epoch for position in known}) == 1 else None


class Keep(NamedTuple):
    """How much of a channel's stream to keep."""

    size: int
    """Maximum number of publications; the newest are kept."""
    ttl: float
    """Seconds after the last publication until all publications are deleted."""


class ReadLimit(NamedTuple):
    """How much to read from a stream at most, in one read."""

    publications: int
    """Maximum number of publications."""
    size: int
    """Maximum total size of the publications' data in bytes; a publication that is larger is read alone."""

    def less(self, publications: int, size: int) -> "ReadLimit":
        """Return what is left of the limit after a read of this size; both parts are 0 if one of them is used up."""
        left = ReadLimit(self.publications - publications, self.size - size)
        return left if min(left) > 0 else ReadLimit(0, 0)


class Page(NamedTuple):
    """The result of reading a stream: publications, and the position of the stream's end."""

    publications: tuple[Publication, ...]
    position: Position
    """The top of the stream: the position of its newest publication, whether or not the page contains it."""

    def end_after(self, since: Position) -> Position | None:
        """
        Return the position that a reader has reached after this page.

        Args:
            since: the position after which the page was read.

        Returns:
            The position of the page's last publication, or `since` if the page is empty. If there are no further pages,
            this position equals `self.position`. None if publications after `since` are lost: the stream has another
            epoch, or no longer has the publication that follows `since`.
        """
        if self.position.epoch != since.epoch:
            return None
        if not self.publications:
            return since if self.position == since else None
        if self.publications[0].offset != since.offset + 1:
            return None
        return Position(self.publications[-1].offset, since.epoch)


# Memory that a publication, or one of its tags, takes in addition to its data, in bytes, measured: the object, its
# numbers, its entry.
_OVERHEAD = 150


def _weigh_tags(tags: Mapping[str, str]) -> int:
    return sum(len(name) + len(text) + _OVERHEAD for name, text in tags.items())


class Stream:
    """
    The stream of one channel, in memory.

    Args:
        epoch: the identifier of the stream.
    """

    __slots__ = ("_expires", "_kept", "epoch", "offset", "size")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        self.size = 0
        """The approximate memory that the publications take, in bytes: their data and an overhead for each."""
        self._kept: deque[Publication] = deque()
        self._expires = 0.0

    @property
    def position(self) -> Position:
        """The position of the newest publication."""
        # As `Position` itself does, but in half of the time: this is called for each publication.
        return tuple.__new__(Position, (self.offset, self.epoch))

    def append(self, publication: Publication, keep: Keep, now: float) -> Publication:
        """
        Assign the next offset to a publication, store it, and delete the oldest publications beyond `keep.size`.

        Args:
            publication: the publication, without an offset.
            keep: how much of the stream to keep from now on.
            now: the current time in seconds, by any clock that does not go backwards.

        Returns:
            The publication with its offset and epoch.
        """
        kept = self._kept
        if kept and now >= self._expires:
            self.clear()
        self._expires = now + keep.ttl
        self.offset += 1
        publication = Publication(
            publication.data,
            self.offset,
            self.epoch,
            publication.json,
            publication.info,
            publication.tags,
            delta=publication.delta,
        )
        kept.append(publication)
        size = self.size + len(publication.data) + _OVERHEAD
        if publication.tags:
            size += _weigh_tags(publication.tags)
        while len(kept) > keep.size:
            oldest = kept.popleft()
            size -= len(oldest.data) + _OVERHEAD
            if oldest.tags:
                size -= _weigh_tags(oldest.tags)
        self.size = size
        return publication

    def expire(self, now: float) -> None:
        """Delete all publications if their time to live has passed; the next publication continues the numbering."""
        if self._kept and now >= self._expires:
            self.clear()

    def clear(self) -> None:
        """Delete all publications; the next publication continues the numbering."""
        self._kept.clear()
        self.size = 0

    def page(
        self, since: Position | None, limit: int, *, reverse: bool, now: float, max_bytes: int | None = None
    ) -> Page:
        """
        Read a page of the stream.

        Args:
            since: return only publications after this position, or before it if `reverse` is True; None for no
                restriction. Only the offset is used: the caller has to compare the epoch with the page's.
            limit: maximum number of publications; 0 for only the top of the stream; negative for no limit.
            reverse: whether to return the newest publication first.
            now: the current time in seconds, by the same clock as for `append`.
            max_bytes: maximum total size of the publications' data in bytes; None for no limit. The first publication
                is returned even if it is larger.

        Returns:
            The publications, and the top of the stream.
        """
        self.expire(now)
        kept, end = self._kept, len(self._kept)
        # Offsets are consecutive, so the index of the first publication is computed, which is faster than a search.
        first = kept[0].offset if kept else 0
        if reverse:
            start = 0 if since is None else end - min(max(since.offset - first, 0), end)
            found = islice(reversed(kept), start, None)
        else:
            start = 0 if since is None else min(max(since.offset + 1 - first, 0), end)
            found = islice(kept, start, None)
        if limit >= 0:
            found = islice(found, limit)
        publications = tuple(found if max_bytes is None else _up_to(found, max_bytes))
        return Page(publications, self.position)


def _up_to(publications: Iterable[Publication], max_bytes: int) -> Iterator[Publication]:
    """Yield publications as long as their total data is at most `max_bytes`; always yield the first."""
    size = 0
    for publication in publications:
        size += len(publication.data)
        if size > max_bytes and size > len(publication.data):
            return
        yield publication
