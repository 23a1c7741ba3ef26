"""Tests for checker.py: it finds each kind of fault in invented histories, and none in correct ones."""

import pytest
from accounts import Accounts, Disconnected, GapNotice, Log, Position, Publication, Received, Recovered, Subscribed
from checker import check, percentile

CHANNEL = "news"


class History:
    """
    An invented run of one channel: publication `n` is sent at second `n`, and acknowledged 0.1 s later.

    Args:
        count: the number of publications.
        plain: whether the publications have no positions.
    """

    def __init__(self, count=9, *, plain=False):
        self.accounts = Accounts()
        for number in range(1, count + 1):
            positions = set() if plain else {Position("e", number)}
            self.accounts.sent[number] = Publication(number, CHANNEL, plain, float(number), number + 0.1, positions)

    def sent(self, number):
        return self.accounts.sent[number]

    def log(self, *events, kind="json"):
        """
        Add a subscriber.

        Args:
            events: its events in order; a number stands for that publication, received at its acknowledged position.
            kind: the kind of subscriber; a raw one sees no positions.
        """
        log = Log(f"{kind}-{len(self.accounts.logs)}", kind, CHANNEL)
        for event in events:
            if isinstance(event, int):
                positions = self.sent(event).positions
                position = next(iter(positions)) if positions and kind != "raw" else None
                log.events.append(Received(event + 0.2, event, position))
            else:
                log.events.append(event)
        self.accounts.logs.append(log)
        return self

    def counts(self, *names):
        """Return some counts of the verdict."""
        found = check(self.accounts).counts
        return tuple(found[name] for name in names)

    @property
    def passed(self):
        return check(self.accounts).passed


KINDS = pytest.mark.parametrize("kind", ["json", "raw", "centrifuge"])
PLAIN = pytest.mark.parametrize("plain", [False, True])


class CorrectHistoryTests:
    """Histories that pass."""

    @KINDS
    @PLAIN
    def test_passes_if_all_nine_publications_came_in_order(self, kind, plain):
        history = History(plain=plain).log(Subscribed(0.5), *range(1, 10), kind=kind)
        assert history.passed
        assert history.counts("acked", "delivered", "reported_missing") == (9, 9, 0)

    @KINDS
    @PLAIN
    def test_passes_without_publications_from_before_the_subscription(self, kind, plain):
        history = History(plain=plain).log(Subscribed(3.5), 4, 5, 6, 7, 8, 9, kind=kind)
        assert history.passed
        assert history.counts("reported_missing") == (0,)

    @KINDS
    @PLAIN
    def test_counts_three_publications_before_a_gap_notice_as_reported(self, kind, plain):
        history = History(plain=plain).log(Subscribed(0.5), 1, 2, GapNotice(5.5), 6, 7, 8, 9, kind=kind)
        assert history.passed
        assert history.counts("reported_missing", "delivered") == (3, 6)
        assert history.counts("reported_recoverable") == (0 if plain or kind == "raw" else 3,)

    @KINDS
    @PLAIN
    def test_counts_publications_missed_before_a_fresh_subscription_as_reported(self, kind, plain):
        """The client knows that publications may be missing, because it does not recover."""
        history = History(plain=plain).log(
            Subscribed(0.5), 1, 2, Disconnected(2.5), Subscribed(5.5), 6, 7, 8, 9, kind=kind
        )
        assert history.passed
        assert history.counts("reported_missing") == (3,)

    @KINDS
    def test_passes_if_missed_publications_are_recovered(self, kind):
        history = History().log(Subscribed(0.5), 1, 2, Disconnected(2.5), Recovered(5.5), *range(3, 10), kind=kind)
        assert history.passed
        assert history.counts("recovered", "reported_missing") == (3, 0)

    def test_passes_if_plain_publications_are_not_recovered(self):
        """As documented, plain publications are not kept."""
        history = History(plain=True).log(Subscribed(0.5), 1, 2, Disconnected(2.5), Recovered(5.5), 6, 7, 8, 9)
        assert history.passed

    def test_an_unacknowledged_publication_may_be_missing(self):
        history = History()
        history.sent(4).acked, history.sent(4).positions = None, set()
        for number in range(5, 10):
            history.sent(number).positions = {Position("e", number - 1)}
        assert history.log(Subscribed(0.5), 1, 2, 3, 5, 6, 7, 8, 9).passed
        assert history.counts("maybe", "acked") == (1, 8)

    def test_an_unacknowledged_publication_may_be_delivered(self):
        history = History()
        history.sent(4).acked = None
        assert history.log(Subscribed(0.5), *range(1, 10)).passed

    def test_a_new_epoch_after_a_gap_notice_passes(self):
        history = History()
        for number in range(5, 10):
            history.sent(number).positions = {Position("f", number - 4)}
        assert history.log(Subscribed(0.5), 1, 2, 3, 4, GapNotice(4.5), 5, 6, 7, 8, 9).passed

    def test_a_publication_stored_in_two_epochs_may_come_twice(self):
        """Redis lost its data before it answered, and the publisher retried."""
        history = History()
        history.sent(4).positions = {Position("e", 4), Position("f", 1)}
        for number in range(5, 10):
            history.sent(number).positions = {Position("f", number - 3)}
        again = Received(4.8, 4, Position("f", 1))
        assert history.log(
            Subscribed(0.5), 1, 2, 3, Received(4.1, 4, Position("e", 4)), GapNotice(4.5), again, 5, 6, 7, 8, 9
        ).passed

    def test_a_centrifuge_client_may_count_on_in_the_epoch_of_an_empty_stream(self):
        history = History(3).log(
            Subscribed(0.5, Position("old", 0)),
            *(Received(number + 0.2, number, Position("old", number)) for number in (1, 2, 3)),
            kind="centrifuge",
        )
        assert history.passed


class MissingPublicationTests:
    """Publications are missing without a notice."""

    @KINDS
    @PLAIN
    def test_finds_a_publication_missing_between_others(self, kind, plain):
        history = History(plain=plain).log(Subscribed(0.5), 1, 2, 3, 5, 6, 7, 8, 9, kind=kind)
        assert not history.passed

    @KINDS
    @PLAIN
    def test_finds_the_first_publication_after_the_subscription_missing(self, kind, plain):
        assert not History(plain=plain).log(Subscribed(3.5), 5, 6, 7, 8, 9, kind=kind).passed

    def test_finds_the_publication_after_the_initial_position_missing(self):
        """The publication was sent before the subscription, so only its position shows that it is missing."""
        assert not History().log(Subscribed(4.05, Position("e", 3)), 5, 6, 7, 8, 9, kind="centrifuge").passed

    @KINDS
    @PLAIN
    def test_finds_a_publication_missing_after_an_earlier_gap_notice(self, kind, plain):
        assert not History(plain=plain).log(Subscribed(0.5), 1, GapNotice(2.5), 3, 4, 6, 7, 8, 9, kind=kind).passed

    @KINDS
    @PLAIN
    def test_finds_a_publication_missing_that_was_sent_after_the_gap_notice(self, kind, plain):
        """The missing publication would have been the first one after the notice."""
        assert not History(plain=plain).log(Subscribed(0.5), 1, GapNotice(2.5), 5, 6, 7, 8, 9, kind=kind).passed

    def test_a_gap_notice_for_plain_publications_does_not_excuse_others(self):
        assert (
            not History()
            .log(Subscribed(0.5), 1, 2, GapNotice(4.5, stream=False), 5, 6, 7, 8, 9, kind="centrifuge")
            .passed
        )
        assert (
            History(plain=True)
            .log(Subscribed(0.5), 1, 2, GapNotice(4.5, stream=False), 5, 6, 7, 8, 9, kind="centrifuge")
            .passed
        )

    @KINDS
    def test_finds_publications_missing_after_a_recovery_without_notice(self, kind):
        assert not History().log(Subscribed(0.5), 1, 2, Disconnected(2.5), Recovered(5.5), 6, 7, 8, 9, kind=kind).passed

    @KINDS
    def test_finds_a_publication_missing_after_a_partial_recovery(self, kind):
        assert (
            not History()
            .log(Subscribed(0.5), 1, 2, Disconnected(2.5), Recovered(5.5), 4, 5, 6, 7, 8, 9, kind=kind)
            .passed
        )

    def test_finds_a_new_epoch_without_a_gap_notice(self):
        history = History()
        for number in range(5, 10):
            history.sent(number).positions = {Position("f", number - 4)}
        assert not history.log(Subscribed(0.5), *range(1, 10)).passed

    def test_finds_publications_lost_to_a_store_that_reused_their_positions(self):
        """
        A Redis restored from a snapshot assigns positions again.

        A subscriber drops these publications as already received.
        """
        history = History()
        for number in (5, 6, 7):
            history.sent(number).positions = {Position("e", number - 3)}
        for number in (8, 9):
            history.sent(number).positions = {Position("e", number - 3)}
        history.log(Subscribed(0.5), 1, 2, 3, 4, 8, 9)
        assert not history.passed
        assert history.counts("silently lost", "misplaced") == (3, 3)

    def test_finds_an_acknowledged_publication_that_was_never_stored(self):
        """No offset is missing, so only the acknowledgement shows the loss."""
        history = History()
        history.sent(4).positions = set()
        for number in range(5, 10):
            history.sent(number).positions = {Position("e", number - 1)}
        history.log(Subscribed(0.5), 1, 2, 3, 5, 6, 7, 8, 9)
        assert history.counts("silently lost") == (1,)

    def test_finds_a_missing_offset_even_if_no_publication_has_it(self):
        """The missing offset may be that of the unacknowledged publication."""
        history = History()
        history.sent(4).acked, history.sent(4).positions = None, set()
        assert not history.log(Subscribed(0.5), 1, 2, 3, 5, 6, 7, 8, 9).passed

    @KINDS
    def test_finds_a_subscriber_that_did_not_receive_the_last_publication(self, kind):
        history = History()
        history.accounts.markers[CHANNEL] = [9]
        history.log(Subscribed(0.5), *range(1, 10), kind=kind).log(Subscribed(0.5), 1, 2, 3, kind=kind)
        assert not history.passed
        assert history.counts("last missing") == (1,)

    def test_counts_a_publication_missing_for_three_subscribers_three_times(self):
        history = History(plain=True)
        for _ in range(3):
            history.log(Subscribed(0.5), 1, 2, 3, 5, 6, 7, 8, 9)
        assert history.counts("silently lost") == (3,)


class OrderAndDuplicateTests:
    """Publications came out of order or twice."""

    @KINDS
    def test_finds_two_swapped_publications(self, kind):
        assert History().log(Subscribed(0.5), 1, 2, 4, 3, 5, 6, 7, 8, 9, kind=kind).counts("out of order") != (0,)

    @KINDS
    @PLAIN
    def test_finds_a_publication_that_came_twice(self, kind, plain):
        history = History(plain=plain).log(Subscribed(0.5), 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, kind=kind)
        assert history.counts("duplicates") == (1,)

    @KINDS
    def test_finds_a_publication_that_came_again_in_a_recovery(self, kind):
        history = History().log(Subscribed(0.5), 1, 2, 3, Disconnected(3.5), Recovered(4.5), *range(3, 10), kind=kind)
        assert history.counts("duplicates") == (1,)

    def test_finds_publications_of_an_earlier_epoch_after_a_later_one(self):
        history = History()
        for number in (4, 5):
            history.sent(number).positions = {Position("f", number - 3)}
        history.log(Subscribed(0.5), 1, 2, 3, GapNotice(3.5), 4, 5, GapNotice(5.5), 6, 7, 8, 9)
        assert history.counts("out of order")[0] > 0

    def test_finds_two_publications_with_the_same_position(self):
        history = History()
        history.sent(5).positions = {Position("e", 4)}
        assert history.counts("misplaced") == (1,)

    def test_finds_a_publication_received_at_another_position_than_acknowledged(self):
        history = History().log(Subscribed(0.5), 1, 2, Received(3.2, 3, Position("e", 4)), kind="centrifuge")
        assert history.counts("misplaced") == (1,)

    def test_finds_a_later_publication_with_an_earlier_position(self):
        """The later publication was sent after the earlier one was acknowledged."""
        history = History()
        history.sent(3).positions, history.sent(7).positions = {Position("e", 7)}, {Position("e", 3)}
        assert history.counts("out of order")[0] > 0

    def test_concurrent_publications_may_have_either_order(self):
        history = History()
        history.sent(3).acked = history.sent(4).acked = 4.5
        history.sent(3).positions, history.sent(4).positions = {Position("e", 4)}, {Position("e", 3)}
        assert history.passed


class RecoveryTimeTests:
    """The time until deliveries resume after a fault."""

    def test_a_recovery_lasts_from_the_fault_to_the_first_later_publication(self):
        history = History().log(Subscribed(0.5), *range(1, 10)).log(Subscribed(0.5), 1, 2, 3, GapNotice(7.0), 7, 8, 9)
        history.accounts.healed = [("a fault", 3.9)]
        assert check(history.accounts).recoveries == pytest.approx([0.3, 3.3])

    def test_percentile_returns_the_value_at_that_part_or_0(self):
        assert percentile(range(100), 0.5) == 50
        assert percentile([1.0], 0.99) == 1.0
        assert percentile([], 0.99) == 0.0
