"""The state of a channel: its subscribers, their positions, and what is buffered while the stream is read."""

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown
from wsserver.hub.channel import (
    BufferBudget,
    ChannelState,
    PublicationBuffer,
    RecoveringSubscriber,
    StreamReader,
)
from wsserver.hub.clients import ClientInfo
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication
from wsserver.hub.send_queue import OVERHEAD
from wsserver.hub.stream import Position

JOIN = PresenceEvent(True, ClientInfo("c"))
PLAIN = Publication(b"xx")


def numbered(offset, epoch="e"):
    """Return a publication of two bytes with an offset."""
    return Publication(b"xx", offset, epoch)


class Subscriber:
    """A subscriber of some kind."""

    def __init__(self, kind="raw"):
        self.kind = kind


class BudgetTests:
    """The byte budget that several buffers of a connection share."""

    def test_counts_the_data_and_an_overhead_of_each_item(self):
        budget = BufferBudget(1000)
        PublicationBuffer(budget).add(PLAIN)
        assert budget.left == 1000 - 2 - OVERHEAD

    def test_an_overflow_drops_the_items_and_returns_their_bytes(self):
        budget = BufferBudget(2 * OVERHEAD)
        buffer = PublicationBuffer(budget)
        for _ in range(3):
            buffer.add(PLAIN)
        assert (buffer.items, buffer.overflowed, budget.left) == ([], True, 2 * OVERHEAD)

    def test_a_buffer_overflows_when_another_has_used_up_the_budget(self):
        budget = BufferBudget(2 * OVERHEAD)
        first, second = PublicationBuffer(budget), PublicationBuffer(budget)
        first.add(JOIN)
        second.add(JOIN)
        second.add(JOIN)
        assert (first.items, second.overflowed, budget.left) == ([JOIN], True, OVERHEAD)

    def test_dropping_the_stream_returns_its_bytes_and_counts_on(self):
        budget = BufferBudget(1000)
        buffer = PublicationBuffer(budget)
        for item in (numbered(1), PLAIN, numbered(2)):
            buffer.add(item)
        assert buffer.drop_stream() == (2, 4)
        assert (buffer.items, budget.left) == ([PLAIN], 1000 - 2 - OVERHEAD)
        buffer.add(PLAIN)
        assert budget.left == 1000 - 2 * (2 + OVERHEAD)

    def test_an_overflowed_buffer_keeps_items_again_after_dropping_the_stream(self):
        buffer = PublicationBuffer(BufferBudget(OVERHEAD + 2))
        for item in (PLAIN, PLAIN):
            buffer.add(item)
        assert (buffer.overflowed, buffer.has_plain) == (True, True)
        buffer.drop_stream()
        assert (buffer.overflowed, buffer.has_plain) == (False, False)
        buffer.add(JOIN)
        assert buffer.items == [JOIN]

    def test_a_released_buffer_returns_its_bytes_once_and_no_longer_counts(self):
        budget = BufferBudget(1000)
        buffer = PublicationBuffer(budget)
        buffer.add(PLAIN)
        buffer.release()
        buffer.add(PLAIN)
        buffer.release()
        assert (buffer.items, budget.left) == ([PLAIN, PLAIN], 1000)


class StreamReaderTests:
    """A position in a stream."""

    @pytest.mark.parametrize(
        ("position", "offset", "epoch", "is_new", "leaves_gap"),
        [
            (None, 7, "e", True, False),
            (Position(3, "e"), 3, "e", False, True),
            (Position(3, "e"), 4, "e", True, False),
            (Position(3, "e"), 5, "e", True, True),
            (Position(3, "e"), 1, "f", True, True),
            (Position(0, "e"), 1, "f", True, False),
            (Position(0, "e"), 2, "f", True, True),
        ],
    )
    def test_distinguishes_old_publications_the_next_one_and_gaps(self, position, offset, epoch, is_new, leaves_gap):
        reader = StreamReader()
        reader.position = position
        publication = numbered(offset, epoch)
        assert (reader.is_new(publication), reader.leaves_gap(publication)) == (is_new, leaves_gap)

    def test_knows_whether_a_new_subscriber_has_missed_nothing(self):
        """Only if the newest position is known, and the stream is not being read."""
        reader = StreamReader()
        assert not reader.is_at_top(None)
        reader.position = Position(3, "e")
        positions = (None, Position(3, "e"), Position(2, "e"), Position(3, "f"))
        assert [reader.is_at_top(since) for since in positions] == [True, True, False, False]
        reader.buffer = PublicationBuffer()
        assert not reader.is_at_top(None)

    def test_take_buffer_returns_the_buffer_and_stops_buffering(self):
        reader = StreamReader()
        buffer = reader.buffer = PublicationBuffer()
        assert reader.take_buffer() is buffer
        assert reader.buffer is None
        assert reader.take_buffer().items == []


class RecoveringSubscriberTests:
    """A subscriber that recovers on its own."""

    def test_a_paused_subscriber_buffers_only_what_the_stream_does_not_contain(self):
        one = RecoveringSubscriber(Subscriber(), BufferBudget(10_000))
        for item in (numbered(1), PLAIN):
            one.receive(item)
        one.pause(Position(0, "e"))
        for item in (numbered(2), JOIN):
            one.receive(item)
        assert (one.behind, one.position, one.buffer.items) == (True, Position(0, "e"), [PLAIN, JOIN])

    def test_buffers_publications_while_a_page_is_read(self):
        """The page may be the last one, and may have been read before they were published."""
        one = RecoveringSubscriber(Subscriber(), BufferBudget(10_000))
        one.pause(Position(0, "e"))
        one.reading = True
        one.receive(numbered(1))
        assert one.buffer.items == [numbered(1)]

    def test_an_overflow_in_pages_requires_another_page_and_remembers_lost_plain_publications(self):
        one = RecoveringSubscriber(Subscriber(), BufferBudget(OVERHEAD + 2))
        for item in (PLAIN, numbered(1)):
            one.receive(item)
        assert one.finish(Position(0, "e")) is False
        assert (one.behind, one.lost_plain, one.buffer.items) == (True, True, [])

    def test_an_overflow_of_numbered_publications_loses_no_plain_one(self):
        one = RecoveringSubscriber(Subscriber(), BufferBudget(OVERHEAD + 2))
        for offset in (1, 2):
            one.receive(numbered(offset))
        assert one.finish(Position(0, "e")) is False
        assert not one.lost_plain

    def test_a_finished_subscriber_no_longer_uses_the_budget(self):
        budget = BufferBudget(1000)
        one = RecoveringSubscriber(Subscriber(), budget)
        one.receive(PLAIN)
        assert one.finish(Position(0, "e")) is True
        assert (one.behind, one.buffer.items, budget.left) == (False, [PLAIN], 1000)

    @pytest.mark.parametrize(
        ("budget", "since", "expected"),
        [
            (BufferBudget(1), Position(1, "e"), True),
            (BufferBudget(1), Position(2, "e"), False),
            (BufferBudget(1), Position(1, "f"), False),
            (BufferBudget(1), None, False),
            (None, Position(1, "e"), False),
        ],
    )
    def test_reads_pages_only_with_a_budget_and_a_position_of_the_stream(self, budget, since, expected):
        one = RecoveringSubscriber(Subscriber(), budget)
        assert one.must_read_pages(since, Position(2, "e")) is expected


class ChannelStateTests:
    """The subscribers of a channel."""

    def test_counts_and_lists_subscribers_in_bulk_before_recovering_ones(self):
        state, a, b, c = ChannelState("foo"), Subscriber("x"), Subscriber("y"), Subscriber("x")
        state.recovering[c] = RecoveringSubscriber(c)
        state.add(a)
        state.add(b)
        assert (len(state), state.in_bulk(), state.subscribers()) == (3, [a, b], [a, b, c])

    def test_removes_a_subscriber_once_and_its_kind_with_the_last(self):
        state, a, b, c = ChannelState("foo"), Subscriber("x"), Subscriber("x"), Subscriber("y")
        state.add(a)
        state.add(b)
        state.recovering[c] = RecoveringSubscriber(c)
        assert [state.remove(one) for one in (a, a, c, c)] == [True, False, True, False]
        assert list(state.kinds) == ["x"]
        assert state.remove(b)
        assert (state.kinds, len(state)) == ({}, 0)

    def test_a_confirmation_fires_each_waiting_deferred_once(self):
        state, fired = ChannelState("foo"), []
        state.waiting = [Deferred().addCallback(fired.append) for _ in range(2)]
        state.confirm()
        assert (state.confirmed, fired, state.waiting) == (True, [None, None], [])

    def test_a_rejection_fails_each_waiting_deferred(self):
        state, failed = ChannelState("foo"), []
        state.waiting = [Deferred().addErrback(lambda failure: failed.append(failure.type)) for _ in range(2)]
        state.reject(Failure(BrokerDown("away")))
        assert (state.confirmed, failed, state.waiting) == (False, [BrokerDown, BrokerDown], [])
