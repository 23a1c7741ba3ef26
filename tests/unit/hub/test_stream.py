"""Streams: positions as text, pages, and the limits of a read."""

import pytest

from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position, ReadLimit, parse_position, parse_positions, write_positions


def page(offsets, top, epoch="e"):
    """Return a page of a stream whose newest publication has the offset `top`."""
    return Page(tuple(Publication(b"x", offset, epoch) for offset in offsets), Position(top, epoch))


class PageTests:
    """How far a page reaches."""

    @pytest.mark.parametrize(
        ("found", "since", "end"),
        [
            (page([3, 4], 4), Position(2, "e"), Position(4, "e")),
            (page([3, 4], 9), Position(2, "e"), Position(4, "e")),
            (page([], 2), Position(2, "e"), Position(2, "e")),
            # The publication after the position is lost.
            (page([4, 5], 5), Position(2, "e"), None),
            (page([], 5), Position(2, "e"), None),
            # The stream is shorter than the position, or it is another stream.
            (page([], 1), Position(2, "e"), None),
            (page([3], 3, "f"), Position(2, "e"), None),
            (page([], 2, "f"), Position(2, "e"), None),
        ],
    )
    def test_ends_at_its_last_publication_unless_earlier_ones_are_lost(self, found, since, end):
        assert found.end_after(since) == end


class ReadLimitTests:
    """What remains of a limit."""

    @pytest.mark.parametrize(
        ("publications", "size", "left"),
        [(3, 40, (7, 60)), (10, 1, (0, 0)), (1, 100, (0, 0)), (11, 101, (0, 0))],
    )
    def test_nothing_remains_once_either_part_is_used_up(self, publications, size, left):
        assert ReadLimit(10, 100).less(publications, size) == left


class PositionTests:
    """Positions in event ids."""

    @pytest.mark.parametrize("text", ["", "7", "e:", ":7", "e:-1", "e:7:8", "e e:7", "e:" + "1" * 19, "e:7\n"])
    def test_returns_none_for_text_that_is_not_a_position(self, text):
        assert parse_position(text) is None

    def test_parses_positions_as_they_were_written(self):
        positions = [Position(7, "abc"), None, Position(0, "x_-1")]
        assert write_positions(positions) == "abc:7,-,x_-1:0"
        assert parse_positions("abc:7,-,x_-1:0", 3) == positions

    @pytest.mark.parametrize(("text", "count"), [("a:1,b:2", 1), ("a:1", 2), ("a:1,", 2), ("a:1,?", 2)])
    def test_returns_none_for_a_wrong_number_of_positions(self, text, count):
        """An empty or invalid position counts as missing."""
        assert parse_positions(text, count) is None
