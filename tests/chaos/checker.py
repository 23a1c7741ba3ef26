"""
The checker of a run: was any publication lost silently, delivered twice, or delivered out of order?

It finds missing publications in two independent ways.

By position: consecutive publications of a subscriber must have consecutive offsets and the same epoch.

By time: assume that a subscriber received publication B, and that publication A was acknowledged before B was sent. The
subscriber must then have received A as well, unless it subscribed after A was sent, or got a gap notice since. This
check needs no offsets, so it applies to plain publications, and to subscribers that receive no offsets.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from accounts import Accounts, Disconnected, GapNotice, Log, Position, Publication, Received, Recovered, Subscribed

__all__ = ["Verdict", "check", "percentile"]

MAX_SHOWN = 50
"""Maximum number of faults that are described; all are counted."""


@dataclass
class Verdict:
    """The findings of the checker."""

    counts: Counter[str] = field(default_factory=Counter)
    """`acked`, `delivered`, ...: see docs/reference/chaos.md."""
    faults: list[str] = field(default_factory=list)
    """Descriptions of the first faults."""
    recoveries: list[float] = field(default_factory=list)
    """
    For each fault and subscriber, the seconds from the end of the fault until the subscriber received a publication
    sent after it.
    """

    BAD = ("silently lost", "out of order", "duplicates", "misplaced", "last missing")

    @property
    def passed(self) -> bool:
        """Whether no fault was found."""
        return not any(self.counts[name] for name in self.BAD)

    def blame(self, what: str, words: str, number: int = 1) -> None:
        """Record a fault."""
        self.counts[what] += number
        if len(self.faults) < MAX_SHOWN:
            self.faults.append(f"{what}: {words}")


def check(accounts: Accounts) -> Verdict:
    """
    Check a run.

    Args:
        accounts: the complete records of the run.
    """
    verdict = Verdict()
    verdict.counts.update(acked=0, maybe=0, delivered=0, recovered=0, reported_missing=0)
    channels: dict[str, list[Publication]] = defaultdict(list)
    for one in sorted(accounts.sent.values(), key=lambda one: one.sent):
        channels[one.channel].append(one)
        verdict.counts["maybe" if one.acked is None else "acked"] += 1
    _learn_positions(accounts)
    for name, sent in channels.items():
        _check_channel(name, sent, verdict)
    for log in accounts.logs:
        _LogCheck(accounts, log, channels[log.channel], verdict).run()
    for _, healed in accounts.healed:
        verdict.recoveries += _recoveries(accounts, healed)
    return verdict


def percentile(values: Iterable[float], part: float) -> float:
    """Return the value below which this part of the values lies; 0 if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _learn_positions(accounts: Accounts) -> None:
    """Add the positions that subscribers received, since publishers over the Centrifuge protocol get none."""
    for log in accounts.logs:
        # A Centrifuge client keeps the epoch of its subscription, so only its offsets are reliable.
        if log.kind == "centrifuge":
            continue
        for event in log.events:
            if isinstance(event, Received) and event.position is not None:
                accounts.sent[event.number].positions.add(event.position)


def _check_channel(name: str, sent: list[Publication], verdict: Verdict) -> None:
    """Check that each position was assigned once, and that offsets have the order of the publications."""
    taken: dict[Position, Publication] = {}
    for one in sent:
        for position in one.positions:
            if taken.setdefault(position, one) is not one:
                verdict.blame(
                    "misplaced", f"{name}: {position} was assigned to {taken[position].number} and to {one.number}"
                )
    acked_first = {}
    for position in sorted(taken, reverse=True):
        one = taken[position]
        later = acked_first.get(position.epoch)
        if later is not None and later.acked is not None and later.acked < one.sent:
            words = (
                f"{name}: {one.number} has a position before {later.number}, which was acknowledged before it was sent"
            )
            verdict.blame("out of order", words)
        if one.acked is not None and len(one.positions) == 1 and (later is None or one.acked < (later.acked or 0)):
            acked_first[position.epoch] = one


class _LogCheck:
    """The check of what one subscriber received in one channel."""

    def __init__(self, accounts: Accounts, log: Log, sent: list[Publication], verdict: Verdict) -> None:
        self._sent = accounts.sent
        self._markers = accounts.markers.get(log.channel, [])
        self._log = log
        self._name = f"{log.subscriber} on {log.channel}"
        self._verdict = verdict
        self._made = {plain: [one for one in sent if one.plain is plain] for plain in (False, True)}
        self._received = {event.number for event in log.events if isinstance(event, Received)}
        self._silent: set[int] = set()
        self._seen: set[Position | int] = set()
        """The received positions, and the numbers of received plain publications."""
        self._highest: dict[str, int] = {}
        """Epoch -> the highest received offset. The epochs are in the order in which they first occurred."""

    def run(self) -> None:
        """Check everything."""
        self._check_positions()
        for plain in (False, True):
            for segment in self._segments(plain):
                self._check_times(plain, *segment)
        for number in self._markers:
            if number not in self._received:
                self._verdict.blame("last missing", f"{self._name}: the last publication, {number}, never came")
        began = next((event.at for event in self._log.events if isinstance(event, Subscribed)), None)
        if began is not None:
            known = self._received | self._silent
            for made in self._made.values():
                for one in made:
                    if one.acked and one.sent > began and one.number not in known:
                        self._verdict.counts["reported_missing"] += 1
                        self._verdict.counts["reported_recoverable"] += not one.plain and self._log.kind != "raw"

    # By position.

    def _true_position(self, event: Received) -> Position | None:
        """Return the position of a publication; a Centrifuge client may not know that the epoch has changed."""
        positions = self._sent[event.number].positions
        if event.position is None:
            return next(iter(positions)) if len(positions) == 1 else None
        if not positions or event.position in positions:
            return event.position
        alike = [position for position in positions if position.offset == event.position.offset]
        if self._log.kind == "centrifuge" and alike:
            return alike[0]
        self._verdict.blame("misplaced", f"{self._name}: {event.number} came as {event.position}, but is {positions}")
        return event.position

    def _check_positions(self) -> None:
        last: Position | None = None
        """The last received position; None if the next one need not follow it."""
        resumed = 0.0
        for event in self._log.events:
            if isinstance(event, Subscribed):
                last = event.position
            elif isinstance(event, GapNotice):
                last = None if event.stream else last
            elif isinstance(event, Recovered):
                resumed = event.at
            elif isinstance(event, Received):
                sent = self._sent[event.number]
                self._verdict.counts["delivered"] += 1
                self._verdict.counts["deltas"] += event.was_delta
                if sent.plain:
                    self._check_once(event.number, f"{event.number}, a plain one,")
                    continue
                self._verdict.counts["recovered"] += sent.sent < resumed
                # If the position is unknown, nothing is known about the next one either.
                last = self._check_next(last, self._true_position(event))

    def _check_once(self, what: Position | int, words: str) -> bool:
        known = what in self._seen
        self._seen.add(what)
        if known:
            self._verdict.blame("duplicates", f"{self._name}: {words} came twice")
        return not known

    def _check_next(self, last: Position | None, position: Position | None) -> Position | None:
        """Check the position of a publication; return the position that the next one must follow."""
        if position is None:
            return None
        if not self._check_once(position, str(position)):
            return last
        newest = next(reversed(self._highest), position.epoch)
        if position.offset < self._highest.get(position.epoch, 0) or (
            position.epoch in self._highest and position.epoch != newest
        ):
            words = f"{self._name}: {position} came after {Position(newest, self._highest[newest])}"
            self._verdict.blame("out of order", words)
        elif last is not None:
            self._check_step(last, position)
        self._highest[position.epoch] = max(position.offset, self._highest.get(position.epoch, 0))
        return position

    def _check_step(self, last: Position, position: Position) -> None:
        if position.epoch == last.epoch:
            if position.offset > last.offset + 1:
                words = f"{self._name}: after {last} came {position}"
                self._verdict.blame("silently lost", words, position.offset - last.offset - 1)
        elif (last.offset, position.offset) != (0, 1):
            # Offset 0 of an empty stream may be followed by offset 1 of another stream.
            self._verdict.blame("silently lost", f"{self._name}: after {last} came {position}, another stream")

    # By time.

    def _segments(self, plain: bool) -> Iterator[tuple[float, list[Received]]]:
        """
        Yield the segments within which nothing may be missing.

        A segment has the time of its start, and the received events.
        """
        begin: float | None = None
        received: list[Received] = []
        for event in self._log.events:
            if isinstance(event, Received):
                if self._sent[event.number].plain is plain:
                    received.append(event)
            elif isinstance(event, Subscribed) or (isinstance(event, GapNotice) and (plain or event.stream)):
                if begin is not None:
                    yield begin, received
                begin, received = event.at, []
            elif plain and isinstance(event, Recovered | Disconnected):
                if begin is not None:
                    yield begin, received
                begin, received = (event.at if isinstance(event, Recovered) else None), []
        if begin is not None:
            yield begin, received

    def _check_times(self, plain: bool, begin: float, received: list[Received]) -> None:
        made = self._made[plain]
        if not received:
            return
        last = max(self._sent[event.number].sent for event in received)
        for index in range(bisect_left(made, begin, key=lambda one: one.sent), len(made)):
            one = made[index]
            if one.sent >= last:
                break
            if one.acked is not None and one.acked < last and one.number not in self._received:
                self._silent.add(one.number)
                words = f"{self._name}: {one.number} {sorted(one.positions)}, sent at {one.sent:.3f}, never came"
                self._verdict.blame("silently lost", words)


def _recoveries(accounts: Accounts, healed: float) -> Iterator[float]:
    """Yield how long each subscriber waited for the first publication that was sent after the end of a fault."""
    for log in accounts.logs:
        for index in range(bisect_left(log.events, healed, key=lambda event: event.at), len(log.events)):
            event = log.events[index]
            if isinstance(event, Received) and accounts.sent[event.number].sent >= healed:
                yield event.at - healed
                break
