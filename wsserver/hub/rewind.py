"""
Rewinds: a new subscriber first receives the last publications of the stream.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from wsserver.hub.filters import Filter
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position

__all__ = ["Rewind"]


class Rewind:
    """
    The rewind of one subscriber.

    Args:
        count: maximum number of publications.
        filter_: the subscriber's filter; only publications that match it count. None if all do.
    """

    __slots__ = ("_filter", "_left", "count", "end", "search")

    def __init__(self, count: int, filter_: Filter | None) -> None:
        self.count = count
        """Maximum number of publications; 0 if there is no rewind, and once the first of them have been read."""
        self.end: Position | None = None
        """The top of the stream when the rewind began: later publications are new. None if no rewind has begun."""
        self.search: Position | None = None
        """
        The position before which the stream is searched for the first publication of the rewind, because there is a
        filter; None if no search is in progress.
        """
        self._filter = filter_
        self._left = 0
        """Number of matching publications that the search has yet to find."""

    def begin(self, top: Position) -> Position:
        """
        Begin the rewind of a subscriber that reads pages.

        Args:
            top: the top of the stream.

        Returns:
            The position from which the subscriber reads the stream, unless `search` is set.
        """
        self.end = top
        if self._filter is None:
            return Position(max(top.offset - self.count, 0), top.epoch)
        self.search, self._left = Position(top.offset + 1, top.epoch), self.count
        return top

    def continue_search(self, page: Page) -> Position:
        """
        Search a page for the first publication of the rewind.

        Args:
            page: the page before `search`, from newer to older publications, in the same epoch.

        Returns:
            The position in front of the oldest publication that was searched. It is that of the rewind if `search` is
            None now: the first publication was found, or there are no older ones.
        """
        search = self.search
        assert search is not None
        assert self._filter is not None
        for one in page.publications:
            search = Position(one.offset, search.epoch)
            self._left -= self._filter.matches(one.tags)
            if not self._left:
                break
        self.search = search if self._left and page.publications else None
        return Position(search.offset - 1, search.epoch)

    def begin_of(self, page: Page, position: Position) -> Position:
        """
        Return the position after which a page must begin, so that no publication is missing before it.

        This is the subscriber's position. But a rewind delivers as many publications as the stream still has, so its
        first page may begin later: up to the first publication that is newer than the rewind.

        Args:
            page: the page that was read after the subscriber's position.
            position: the subscriber's position.
        """
        end = self.end
        if not self.count or end is None or page.position.epoch != end.epoch:
            return position
        first = page.publications[0].offset if page.publications else page.position.offset + 1
        if first > end.offset + 1:
            return position
        self.count = 0
        return Position(first - 1, end.epoch)

    def mark(self, publications: Iterable[Publication]) -> tuple[Publication, ...]:
        """Set `rewound` of the publications that are not newer than the rewind."""
        end = self.end
        if end is None:
            return tuple(publications)
        return tuple(
            replace(one, rewound=True) if one.epoch == end.epoch and one.offset <= end.offset else one
            for one in publications
        )
