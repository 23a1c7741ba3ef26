"""
The judge of a run: was anything lost without a word, given twice, or given in another order?

Two independent ways lead to a missing publication.

By places: between two publications that a subscriber took as following each other, no offset is missing, and the epoch
is the same.

By times: a publication that was acknowledged before another one was sent must have come where the other one did,
unless the subscriber has been told of a gap since, or had not begun to listen when it was sent. This needs no offsets,
so it holds for plain publications and for subscribers that see none.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from accounts import Accounts, Away, Began, Got, Log, Place, Resumed, Sent, Told

__all__ = ["Verdict", "check", "percentile"]

MAX_SHOWN = 50
"""Most faults that are described; all are counted."""


@dataclass
class Verdict:
    """What the checker has found."""

    counts: Counter[str] = field(default_factory=Counter)
    """`acked`, `delivered`, ...: see docs/reference/chaos.md."""
    faults: list[str] = field(default_factory=list)
    """What should not have been, in words; the first ones."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a fault until a subscriber was given something that was published since."""

    BAD = ("silently lost", "out of order", "duplicates", "misplaced", "deaf")

    @property
    def passed(self) -> bool:
        """Whether all was as it should be."""
        return not any(self.counts[name] for name in self.BAD)

    def blame(self, what: str, words: str, number: int = 1) -> None:
        """Write down a fault."""
        self.counts[what] += number
        if len(self.faults) < MAX_SHOWN:
            self.faults.append(f"{what}: {words}")


def check(accounts: Accounts) -> Verdict:
    """
    Judge a run.

    Args:
        accounts: of it, complete.
    """
    verdict = Verdict()
    verdict.counts.update(acked=0, maybe=0, delivered=0, recovered=0, told_as_lost=0)
    channels: dict[str, list[Sent]] = defaultdict(list)
    for one in sorted(accounts.sent.values(), key=lambda one: one.sent):
        channels[one.channel].append(one)
        verdict.counts["maybe" if one.acked is None else "acked"] += 1
    _learn_places(accounts)
    for name, sent in channels.items():
        _check_channel(name, sent, verdict)
    for log in accounts.logs:
        _LogCheck(accounts, log, channels[log.channel], verdict).run()
    for _, healed in accounts.healed:
        verdict.recoveries += _recoveries(accounts, healed)
    return verdict


def percentile(values: Iterable[float], part: float) -> float:
    """Give the value below which a part of them lie; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _learn_places(accounts: Accounts) -> None:
    """Learn from subscribers, who are told epoch and offset, what publishers over the Centrifuge protocol are not."""
    for log in accounts.logs:
        # A Centrifuge client counts on in its own epoch: it is a witness for the offset only.
        if log.kind == "centrifuge":
            continue
        for event in log.events:
            if isinstance(event, Got) and event.place is not None:
                accounts.sent[event.number].places.add(event.place)


def _check_channel(name: str, sent: list[Sent], verdict: Verdict) -> None:
    """See that no place was given twice, and that offsets have the order in which publications were made."""
    taken: dict[Place, Sent] = {}
    for one in sent:
        for place in one.places:
            if taken.setdefault(place, one) is not one:
                verdict.blame("misplaced", f"{name}: {place} is of {taken[place].number} and of {one.number}")
    acked_first = {}
    for place in sorted(taken, reverse=True):
        one = taken[place]
        later = acked_first.get(place.epoch)
        if later is not None and later.acked is not None and later.acked < one.sent:
            words = f"{name}: {one.number} stands before {later.number}, which was acknowledged before it was sent"
            verdict.blame("out of order", words)
        if one.acked is not None and len(one.places) == 1 and (later is None or one.acked < (later.acked or 0)):
            acked_first[place.epoch] = one


class _LogCheck:
    """The check of what one subscriber was given of one channel."""

    def __init__(self, accounts: Accounts, log: Log, sent: list[Sent], verdict: Verdict) -> None:
        self._sent = accounts.sent
        self._markers = accounts.markers.get(log.channel, [])
        self._log = log
        self._name = f"{log.subscriber} on {log.channel}"
        self._verdict = verdict
        self._made = {plain: [one for one in sent if one.plain is plain] for plain in (False, True)}
        self._got = {event.number for event in log.events if isinstance(event, Got)}
        self._silent: set[int] = set()
        self._seen: set[Place | int] = set()
        """Places that came, and numbers of plain publications."""
        self._highest: dict[str, int] = {}
        """Epoch -> the highest offset that came, of the epochs in the order in which they came."""

    def run(self) -> None:
        """Check everything."""
        self._check_places()
        for plain in (False, True):
            for segment in self._segments(plain):
                self._check_times(plain, *segment)
        for number in self._markers:
            if number not in self._got:
                self._verdict.blame("deaf", f"{self._name}: the last publication, {number}, never came")
        began = next((event.at for event in self._log.events if isinstance(event, Began)), None)
        if began is not None:
            known = self._got | self._silent
            for made in self._made.values():
                for one in made:
                    if one.acked and one.sent > began and one.number not in known:
                        self._verdict.counts["told_as_lost"] += 1
                        self._verdict.counts["told_kept"] += not one.plain and self._log.kind != "raw"

    # By places.

    def _true_place(self, event: Got) -> Place | None:
        """Say where a publication stands; a Centrifuge client may not know that its epoch is another one."""
        places = self._sent[event.number].places
        if event.place is None:
            return next(iter(places)) if len(places) == 1 else None
        if not places or event.place in places:
            return event.place
        alike = [place for place in places if place.offset == event.place.offset]
        if self._log.kind == "centrifuge" and alike:
            return alike[0]
        self._verdict.blame("misplaced", f"{self._name}: {event.number} came as {event.place}, but is {places}")
        return event.place

    def _check_places(self) -> None:
        last: Place | None = None
        """What came last; None where the next one need not follow it."""
        resumed = 0.0
        for event in self._log.events:
            if isinstance(event, Began):
                last = event.place
            elif isinstance(event, Told):
                last = None if event.stream else last
            elif isinstance(event, Resumed):
                resumed = event.at
            elif isinstance(event, Got):
                sent = self._sent[event.number]
                self._verdict.counts["delivered"] += 1
                if sent.plain:
                    self._check_once(event.number, f"{event.number}, a plain one,")
                    continue
                self._verdict.counts["recovered"] += sent.sent < resumed
                # Where nobody has told the place, the next one follows nothing that is known.
                last = self._check_next(last, self._true_place(event))

    def _check_once(self, what: Place | int, words: str) -> bool:
        known = what in self._seen
        self._seen.add(what)
        if known:
            self._verdict.blame("duplicates", f"{self._name}: {words} came twice")
        return not known

    def _check_next(self, last: Place | None, place: Place | None) -> Place | None:
        """Check where a publication stands; returns after what the next one must come."""
        if place is None:
            return None
        if not self._check_once(place, str(place)):
            return last
        newest = next(reversed(self._highest), place.epoch)
        if place.offset < self._highest.get(place.epoch, 0) or (place.epoch in self._highest and place.epoch != newest):
            words = f"{self._name}: {place} came after {Place(newest, self._highest[newest])}"
            self._verdict.blame("out of order", words)
        elif last is not None:
            self._check_step(last, place)
        self._highest[place.epoch] = max(place.offset, self._highest.get(place.epoch, 0))
        return place

    def _check_step(self, last: Place, place: Place) -> None:
        if place.epoch == last.epoch:
            if place.offset > last.offset + 1:
                words = f"{self._name}: after {last} came {place}"
                self._verdict.blame("silently lost", words, place.offset - last.offset - 1)
        elif (last.offset, place.offset) != (0, 1):
            # From the beginning of a stream that nobody has published to one gets to the beginning of another.
            self._verdict.blame("silently lost", f"{self._name}: after {last} came {place}, another stream")

    # By times.

    def _segments(self, plain: bool) -> Iterator[tuple[float, list[Got]]]:
        """Give the stretches within which nothing may be missing: since when, and what came."""
        begin: float | None = None
        got: list[Got] = []
        for event in self._log.events:
            if isinstance(event, Got):
                if self._sent[event.number].plain is plain:
                    got.append(event)
            elif isinstance(event, Began) or (isinstance(event, Told) and (plain or event.stream)):
                if begin is not None:
                    yield begin, got
                begin, got = event.at, []
            elif plain and isinstance(event, Resumed | Away):
                if begin is not None:
                    yield begin, got
                begin, got = (event.at if isinstance(event, Resumed) else None), []
        if begin is not None:
            yield begin, got

    def _check_times(self, plain: bool, begin: float, got: list[Got]) -> None:
        made = self._made[plain]
        if not got:
            return
        last = max(self._sent[event.number].sent for event in got)
        for index in range(bisect_left(made, begin, key=lambda one: one.sent), len(made)):
            one = made[index]
            if one.sent >= last:
                break
            if one.acked is not None and one.acked < last and one.number not in self._got:
                self._silent.add(one.number)
                words = f"{self._name}: {one.number} {sorted(one.places)}, sent at {one.sent:.3f}, never came"
                self._verdict.blame("silently lost", words)


def _recoveries(accounts: Accounts, healed: float) -> Iterator[float]:
    """Say how long each subscriber waited for the first publication that was made after the end of a fault."""
    for log in accounts.logs:
        for index in range(bisect_left(log.events, healed, key=lambda event: event.at), len(log.events)):
            event = log.events[index]
            if isinstance(event, Got) and accounts.sent[event.number].sent >= healed:
                yield event.at - healed
                break
