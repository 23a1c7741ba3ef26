"""
Streams: the numbered publications of a channel, of which the newest are kept for a limited time.

A position is an offset and an epoch, as in Centrifugo. Offsets count from 1 within an epoch; a stream that was lost
starts again at 1 with a new epoch.

This module does not use Twisted, a socket or a clock: the time is an argument.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from wsserver.hub.publication import Publication

__all__ = [
    "Keep",
    "Page",
    "Position",
    "ReadLimit",
    "Stream",
    "parse_position",
    "parse_positions",
    "write_positions",
]


class Position(NamedTuple):
    """A position in a stream: after the publication with this offset."""

    offset: int
    epoch: str

    def __str__(self) -> str:
        """Return `epoch:offset`, as used in event ids."""
        return f"{self.epoch}:{self.offset}"


def parse_position(text: str) -> Position | None:
    """Parse `epoch:offset`; return None if the text is not a position."""
    found = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,18})", text)
    return Position(int(found[2]), found[1]) if found else None


def write_positions(positions: Iterable[Position | None]) -> str:
    """Return the positions as text: `epoch:offset` each, or a dash for None, separated by commas."""
    return ",".join("-" if position is None else str(position) for position in positions)


def parse_positions(text: str, count: int) -> list[Position | None] | None:
    """Parse the result of `write_positions` for `count` channels; return None if the text is invalid."""
    parts = text.split(",", count)
    positions = [parse_position(part) for part in parts]
    unparsed = {part for part, position in zip(parts, positions, strict=True) if position is None}
    return positions if len(parts) == count and unparsed <= {"-"} else None


class Keep(NamedTuple):
    """How much of a stream to keep."""

    size: int
    """Maximum number of publications."""
    ttl: float
    """Seconds to keep them after the last publication."""


class ReadLimit(NamedTuple):
    """The most to read from a stream at once."""

    publications: int
    """Maximum number of publications."""
    size: int
    """Maximum size of their data in bytes; a larger publication is read by itself."""

    def less(self, publications: int, size: int) -> "ReadLimit":
        """Return the rest of the limit after a read of this size; both parts are 0 if one of them is used up."""
        left = ReadLimit(self.publications - publications, self.size - size)
        return left if min(left) > 0 else ReadLimit(0, 0)


class Page(NamedTuple):
    """The result of reading a stream."""

    publications: tuple[Publication, ...]
    position: Position
    """The top of the stream: the position after its newest publication."""

    def end_after(self, since: Position) -> Position | None:
        """
        Return the position that a reader of this page has reached.

        Args:
            since: the position after which the page was read.

        Returns:
            The position after the page's last publication; `position` if it is the newest one of the stream. None if
            publications after `since` are lost: the epoch differs, or the stream no longer has the publication that
            follows `since`.
        """
        if self.position.epoch != since.epoch:
            return None
        if not self.publications:
            return since if self.position == since else None
        if self.publications[0].offset != since.offset + 1:
            return None
        return Position(self.publications[-1].offset, since.epoch)


# Bytes in memory besides the data, measured: the object, its numbers and its entry in the stream.
_OVERHEAD = 150


def _weight(publication: Publication) -> int:
    tags = publication.tags or {}
    return len(publication.data) + _OVERHEAD + sum(len(name) + len(text) + _OVERHEAD for name, text in tags.items())


class Stream:
    """
    A stream in memory.

    Args:
        epoch: the stream's epoch.
    """

    __slots__ = ("_expires", "_kept", "epoch", "offset", "size")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        self.size = 0
        """Approximate memory use in bytes. Small publications take more memory than their data."""
        self._kept: deque[Publication] = deque()
        self._expires = 0.0

    def append(self, publication: Publication, keep: Keep, now: float) -> Publication:
        """
        Assign the next offset to a publication, and store it.

        Args:
            publication: the publication, without an offset.
            keep: how much of the stream to keep from now on.
            now: the time in seconds.

        Returns:
            The publication with its offset and epoch.
        """
        self.expire(now)
        self.offset += 1
        publication = replace(publication, offset=self.offset, epoch=self.epoch)
        self._kept.append(publication)
        self.size += _weight(publication)
        self._expires = now + keep.ttl
        while len(self._kept) > keep.size:
            self.size -= _weight(self._kept.popleft())
        return publication

    def expire(self, now: float) -> None:
        """Delete the publications if their time to live has passed; the offset continues to count."""
        if self._kept and now >= self._expires:
            self.clear()

    def clear(self) -> None:
        """Delete all publications; the offset continues to count."""
        self._kept.clear()
        self.size = 0

    def page(
        self, since: Position | None, limit: int, *, reverse: bool, now: float, max_bytes: int | None = None
    ) -> Page:
        """
        Read a page.

        Args:
            since: return only publications after this position (in reverse: before it). The epoch is not compared; the
                caller does that.
            limit: maximum number of publications; negative for no limit.
            reverse: return the newest publication first.
            now: the time in seconds.
            max_bytes: maximum size of all data in bytes; one publication is returned even if it is larger. None for no
                limit.

        Returns:
            The publications, and the top of the stream.
        """
        self.expire(now)
        kept, end = self._kept, len(self._kept)
        # Offsets are consecutive, so a publication's index is computed; a search would start again for each page.
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
        return Page(publications, Position(self.offset, self.epoch))


def _up_to(publications: Iterable[Publication], max_bytes: int) -> Iterator[Publication]:
    """Yield publications until their data exceeds `max_bytes`; always yield the first."""
    size = 0
    for publication in publications:
        size += len(publication.data)
        if size > max_bytes and size > len(publication.data):
            return
        yield publication
