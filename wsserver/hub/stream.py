"""
The stream of a channel: publications with a number each, the newest of which are kept for a while.

A position is an offset and an epoch, as in Centrifugo: offsets count from 1 within an epoch, and a stream that was lost
begins again under another epoch.

Rule 1: no Twisted, no clock (now is an argument), no socket.
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
    "Stream",
    "continues",
    "parse_position",
    "parse_positions",
    "write_positions",
]


class Position(NamedTuple):
    """A place in a stream: after the publication with this offset."""

    offset: int
    epoch: str

    def __str__(self) -> str:
        """Write it as `epoch:offset`, for an event's id."""
        return f"{self.epoch}:{self.offset}"


def parse_position(text: str) -> Position | None:
    """Read `epoch:offset`; None where it is none."""
    found = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,18})", text)
    return Position(int(found[2]), found[1]) if found else None


def write_positions(positions: Iterable[Position | None]) -> str:
    """Write where a client stands in several channels, in their order: `epoch:offset`, a dash for nowhere, commas."""
    return ",".join("-" if position is None else str(position) for position in positions)


def parse_positions(text: str, count: int) -> list[Position | None] | None:
    """Read what `write_positions` has written of as many channels; None where it is something else."""
    parts = text.split(",", count)
    found = [parse_position(part) for part in parts]
    right = len(parts) == count and all(one is not None or part == "-" for one, part in zip(found, parts, strict=True))
    return found if right else None


class Keep(NamedTuple):
    """How much of a stream is kept."""

    size: int
    """Publications; 0 for none, and then they have no offset."""
    ttl: float
    """Seconds after the last one."""


class Page(NamedTuple):
    """Some publications of a stream."""

    publications: tuple[Publication, ...]
    position: Position
    """The stream's top."""

    @property
    def reaches_top(self) -> bool:
        """Whether the last of the publications, if there are any, is the newest of the stream."""
        return not self.publications or self.publications[-1].offset == self.position.offset


def continues(since: Position, page: Page) -> bool:
    """
    Tell whether a page is all that was missed.

    Args:
        since: the last that is known.
        page: what the stream has after it.

    Returns:
        False where something between is not to be had any more.
    """
    if page.position.epoch != since.epoch:
        return False
    if not page.publications:
        return page.position.offset == since.offset
    return page.publications[0].offset == since.offset + 1


# Measured: the object, its numbers and its place in the stream.
_OVERHEAD = 150


def _weight(publication: Publication) -> int:
    tags = publication.tags or {}
    return len(publication.data) + _OVERHEAD + sum(len(name) + len(text) + _OVERHEAD for name, text in tags.items())


class Stream:
    """
    A stream in memory.

    Args:
        epoch: which.
    """

    __slots__ = ("_expires", "_kept", "epoch", "offset", "size")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        self.size = 0
        """Bytes that what it keeps takes in memory, about: tiny publications take more than they weigh."""
        self._kept: deque[Publication] = deque()
        self._expires = 0.0

    def append(self, publication: Publication, keep: Keep, now: float) -> Publication:
        """
        Give a publication its offset, and keep it.

        Args:
            publication: as published.
            keep: how much is kept from now on.
            now: in seconds.

        Returns:
            It, with offset and epoch.
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
        """Forget what is too old; the offset goes on."""
        if self._kept and now >= self._expires:
            self.clear()

    def clear(self) -> None:
        """Forget all publications; the offset goes on."""
        self._kept.clear()
        self.size = 0

    def page(
        self, since: Position | None, limit: int, *, reverse: bool, now: float, max_bytes: int | None = None
    ) -> Page:
        """
        Read.

        Args:
            since: only what comes after this (in reverse: before it); the epoch is the caller's to compare.
            limit: most publications; negative for all.
            reverse: newest first.
            now: in seconds.
            max_bytes: most bytes of data; one publication is returned though it is larger. None for no limit.
        """
        self.expire(now)
        kept, end = self._kept, len(self._kept)
        # Offsets follow each other: where a publication is needs no search, which each page would begin anew.
        first = kept[0].offset if kept else 0
        if reverse:
            start = 0 if since is None else end - min(max(since.offset - first, 0), end)
            found = islice(reversed(kept), start, None)
        else:
            start = 0 if since is None else min(max(since.offset + 1 - first, 0), end)
            found = islice(kept, start, None)
        if limit >= 0:
            found = islice(found, limit)
        publications = tuple(found if max_bytes is None else _within(found, max_bytes))
        return Page(publications, Position(self.offset, self.epoch))


def _within(publications: Iterable[Publication], max_bytes: int) -> Iterator[Publication]:
    """Yield publications up to a number of bytes of data, and one in any case."""
    size = 0
    for publication in publications:
        size += len(publication.data)
        if size > max_bytes and size > len(publication.data):
            return
        yield publication
