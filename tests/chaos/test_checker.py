"""The checker finds what it is there to find, in histories that were made up; and nothing where there is nothing."""

import pytest
from accounts import Accounts, Away, Began, Got, Log, Place, Resumed, Sent, Told
from checker import check, percentile

CHANNEL = "news"


class History:
    """
    A run of one channel, made up: publication `n` is sent at second `n`, and acknowledged a moment later.

    Args:
        count: how many publications.
        plain: whether they have no places.
    """

    def __init__(self, count=9, *, plain=False):
        self.accounts = Accounts()
        for number in range(1, count + 1):
            places = set() if plain else {Place("e", number)}
            self.accounts.sent[number] = Sent(number, CHANNEL, plain, float(number), number + 0.1, places)

    def sent(self, number):
        return self.accounts.sent[number]

    def log(self, *events, kind="json"):
        """
        Add a subscriber.

        Args:
            events: in their order: a number for that publication, at the place that was acknowledged, or an event.
            kind: of the subscriber; a raw one sees no places.
        """
        log = Log(f"{kind}-{len(self.accounts.logs)}", kind, CHANNEL)
        for event in events:
            if isinstance(event, int):
                places = self.sent(event).places
                place = next(iter(places)) if places and kind != "raw" else None
                log.events.append(Got(event + 0.2, event, place))
            else:
                log.events.append(event)
        self.accounts.logs.append(log)
        return self

    def counts(self, *names):
        """Give some counts of the verdict."""
        found = check(self.accounts).counts
        return tuple(found[name] for name in names)

    @property
    def passed(self):
        return check(self.accounts).passed


KINDS = pytest.mark.parametrize("kind", ["json", "raw", "centrifuge"])
PLAIN = pytest.mark.parametrize("plain", [False, True])


class CleanTests:
    """Runs in which all is as it should be."""

    @KINDS
    @PLAIN
    def test_all(self, kind, plain):
        """Everything came, in its order."""
        history = History(plain=plain).log(Began(0.5), *range(1, 10), kind=kind)
        assert history.passed
        assert history.counts("acked", "delivered", "told_as_lost") == (9, 9, 0)

    @KINDS
    @PLAIN
    def test_before_the_beginning(self, kind, plain):
        """What was published before it listened is nobody's loss."""
        history = History(plain=plain).log(Began(3.5), 4, 5, 6, 7, 8, 9, kind=kind)
        assert history.passed
        assert history.counts("told_as_lost") == (0,)

    @KINDS
    @PLAIN
    def test_told(self, kind, plain):
        """What is missing where that was told is told as lost."""
        history = History(plain=plain).log(Began(0.5), 1, 2, Told(5.5), 6, 7, 8, 9, kind=kind)
        assert history.passed
        assert history.counts("told_as_lost", "delivered") == (3, 6)
        assert history.counts("told_kept") == (0 if plain or kind == "raw" else 3,)

    @KINDS
    @PLAIN
    def test_began_again(self, kind, plain):
        """Who comes back without saying where it was knows that something may be missing."""
        history = History(plain=plain).log(Began(0.5), 1, 2, Away(2.5), Began(5.5), 6, 7, 8, 9, kind=kind)
        assert history.passed
        assert history.counts("told_as_lost") == (3,)

    @KINDS
    def test_recovered(self, kind):
        """Who comes back and gets what it missed has lost nothing."""
        history = History().log(Began(0.5), 1, 2, Away(2.5), Resumed(5.5), *range(3, 10), kind=kind)
        assert history.passed
        assert history.counts("recovered", "told_as_lost") == (3, 0)

    def test_plain_not_recovered(self):
        """Plain publications of the time between are not kept, which is documented."""
        history = History(plain=True).log(Began(0.5), 1, 2, Away(2.5), Resumed(5.5), 6, 7, 8, 9)
        assert history.passed

    def test_maybe(self):
        """What was not acknowledged may be missing."""
        history = History()
        history.sent(4).acked, history.sent(4).places = None, set()
        for number in range(5, 10):
            history.sent(number).places = {Place("e", number - 1)}
        assert history.log(Began(0.5), 1, 2, 3, 5, 6, 7, 8, 9).passed
        assert history.counts("maybe", "acked") == (1, 8)

    def test_maybe_there(self):
        """Or be there."""
        history = History()
        history.sent(4).acked = None
        assert history.log(Began(0.5), *range(1, 10)).passed

    def test_another_stream_told(self):
        """A stream that begins again is told."""
        history = History()
        for number in range(5, 10):
            history.sent(number).places = {Place("f", number - 4)}
        assert history.log(Began(0.5), 1, 2, 3, 4, Told(4.5), 5, 6, 7, 8, 9).passed

    def test_stored_twice(self):
        """A store that is lost before it answers takes a publication again when it is empty."""
        history = History()
        history.sent(4).places = {Place("e", 4), Place("f", 1)}
        for number in range(5, 10):
            history.sent(number).places = {Place("f", number - 3)}
        again = Got(4.8, 4, Place("f", 1))
        assert history.log(Began(0.5), 1, 2, 3, Got(4.1, 4, Place("e", 4)), Told(4.5), again, 5, 6, 7, 8, 9).passed

    def test_epoch_of_an_empty_stream(self):
        """A Centrifuge client that began at the very beginning counts on in an epoch that is no more."""
        history = History(3).log(
            Began(0.5, Place("old", 0)),
            *(Got(number + 0.2, number, Place("old", number)) for number in (1, 2, 3)),
            kind="centrifuge",
        )
        assert history.passed


class LostTests:
    """Something is missing, and nothing was told."""

    @KINDS
    @PLAIN
    def test_in_the_middle(self, kind, plain):
        """Between others."""
        history = History(plain=plain).log(Began(0.5), 1, 2, 3, 5, 6, 7, 8, 9, kind=kind)
        assert not history.passed

    @KINDS
    @PLAIN
    def test_at_the_beginning(self, kind, plain):
        """The first one after it began to listen."""
        assert not History(plain=plain).log(Began(3.5), 5, 6, 7, 8, 9, kind=kind).passed

    def test_after_the_place(self):
        """The first one after the place where it was told that it stands, though it was sent before."""
        assert not History().log(Began(4.05, Place("e", 3)), 5, 6, 7, 8, 9, kind="centrifuge").passed

    @KINDS
    @PLAIN
    def test_after_a_gap(self, kind, plain):
        """That a gap was told does not excuse what is missing later."""
        assert not History(plain=plain).log(Began(0.5), 1, Told(2.5), 3, 4, 6, 7, 8, 9, kind=kind).passed

    @KINDS
    @PLAIN
    def test_sent_after_a_gap(self, kind, plain):
        """Nor what was sent after it was told, before the first that came."""
        assert not History(plain=plain).log(Began(0.5), 1, Told(2.5), 5, 6, 7, 8, 9, kind=kind).passed

    def test_gap_in_plain_only(self):
        """A gap among plain publications is none in the stream."""
        assert not History().log(Began(0.5), 1, 2, Told(4.5, stream=False), 5, 6, 7, 8, 9, kind="centrifuge").passed
        assert (
            History(plain=True).log(Began(0.5), 1, 2, Told(4.5, stream=False), 5, 6, 7, 8, 9, kind="centrifuge").passed
        )

    @KINDS
    def test_not_recovered(self, kind):
        """It came back and was not told that something is missing."""
        assert not History().log(Began(0.5), 1, 2, Away(2.5), Resumed(5.5), 6, 7, 8, 9, kind=kind).passed

    @KINDS
    def test_recovered_in_part(self, kind):
        """It got some of it."""
        assert not History().log(Began(0.5), 1, 2, Away(2.5), Resumed(5.5), 4, 5, 6, 7, 8, 9, kind=kind).passed

    def test_another_stream(self):
        """A stream began again in silence."""
        history = History()
        for number in range(5, 10):
            history.sent(number).places = {Place("f", number - 4)}
        assert not history.log(Began(0.5), *range(1, 10)).passed

    def test_set_back(self):
        """The store went back in time: it gave the same places once more, and a subscriber took them for old ones."""
        history = History()
        for number in (5, 6, 7):
            history.sent(number).places = {Place("e", number - 3)}
        for number in (8, 9):
            history.sent(number).places = {Place("e", number - 3)}
        history.log(Began(0.5), 1, 2, 3, 4, 8, 9)
        assert not history.passed
        assert history.counts("silently lost", "misplaced") == (3, 3)

    def test_never_stored(self):
        """It was acknowledged, but is nowhere: the offsets are complete without it."""
        history = History()
        history.sent(4).places = set()
        for number in range(5, 10):
            history.sent(number).places = {Place("e", number - 1)}
        history.log(Began(0.5), 1, 2, 3, 5, 6, 7, 8, 9)
        assert history.counts("silently lost") == (1,)

    def test_offset_missing(self):
        """An offset is missing of which no publisher knows: one that was not acknowledged."""
        history = History()
        history.sent(4).acked, history.sent(4).places = None, set()
        assert not history.log(Began(0.5), 1, 2, 3, 5, 6, 7, 8, 9).passed

    @KINDS
    def test_deaf(self, kind):
        """One hears nothing any more, though all is over."""
        history = History()
        history.accounts.markers[CHANNEL] = [9]
        history.log(Began(0.5), *range(1, 10), kind=kind).log(Began(0.5), 1, 2, 3, kind=kind)
        assert not history.passed
        assert history.counts("deaf") == (1,)

    def test_each_counts(self):
        """Everyone who lacks it counts."""
        history = History(plain=True)
        for _ in range(3):
            history.log(Began(0.5), 1, 2, 3, 5, 6, 7, 8, 9)
        assert history.counts("silently lost") == (3,)


class OrderTests:
    """Everything came, but not in its order, or not once."""

    @KINDS
    def test_swapped(self, kind):
        """Two came the other way round."""
        assert History().log(Began(0.5), 1, 2, 4, 3, 5, 6, 7, 8, 9, kind=kind).counts("out of order") != (0,)

    @KINDS
    @PLAIN
    def test_twice(self, kind, plain):
        """One came twice."""
        history = History(plain=plain).log(Began(0.5), 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, kind=kind)
        assert history.counts("duplicates") == (1,)

    @KINDS
    def test_again_after_coming_back(self, kind):
        """One came again in a recovery."""
        history = History().log(Began(0.5), 1, 2, 3, Away(3.5), Resumed(4.5), *range(3, 10), kind=kind)
        assert history.counts("duplicates") == (1,)

    def test_back_to_an_old_stream(self):
        """A stream that was no more comes again."""
        history = History()
        for number in (4, 5):
            history.sent(number).places = {Place("f", number - 3)}
        history.log(Began(0.5), 1, 2, 3, Told(3.5), 4, 5, Told(5.5), 6, 7, 8, 9)
        assert history.counts("out of order")[0] > 0

    def test_one_place_for_two(self):
        """Two publications were given the same place."""
        history = History()
        history.sent(5).places = {Place("e", 4)}
        assert history.counts("misplaced") == (1,)

    def test_another_place(self):
        """One came with another place than its publisher was told."""
        history = History().log(Began(0.5), 1, 2, Got(3.2, 3, Place("e", 4)), kind="centrifuge")
        assert history.counts("misplaced") == (1,)

    def test_later_before(self):
        """One that was sent after another one was acknowledged was given a place before it."""
        history = History()
        history.sent(3).places, history.sent(7).places = {Place("e", 7)}, {Place("e", 3)}
        assert history.counts("out of order")[0] > 0

    def test_at_the_same_time(self):
        """Of two that were under way at once, either may be first."""
        history = History()
        history.sent(3).acked = history.sent(4).acked = 4.5
        history.sent(3).places, history.sent(4).places = {Place("e", 4)}, {Place("e", 3)}
        assert history.passed


class RecoveryTests:
    """How long it takes after a fault."""

    def test_time(self):
        """It is the time from the end of the fault to the first publication that was made since."""
        history = History().log(Began(0.5), *range(1, 10)).log(Began(0.5), 1, 2, 3, Told(7.0), 7, 8, 9)
        history.accounts.healed = [("a fault", 3.9)]
        assert check(history.accounts).recoveries == pytest.approx([0.3, 3.3])

    def test_percentile(self):
        """A part of the values lie below."""
        assert percentile(range(100), 0.5) == 50
        assert percentile([1.0], 0.99) == 1.0
        assert percentile([], 0.99) == 0.0
