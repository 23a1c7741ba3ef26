"""The taps of a server: IDs and secrets of connections, and what is forgotten when."""

import gc
import weakref
from collections import defaultdict
from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from wsserver.wire.taps import RETENTION, Taps
from wsserver.wire.timers import Deadlines

SECRET = "0123456789abcdef" * 2


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def taps(clock):
    made = Taps(lambda: SimpleNamespace(max_taps=2), defaultdict(int), Deadlines(clock))
    made.enabled = True
    return made


def ended(taps, secret=SECRET):
    tap = taps.open(secret)
    tap.begin(lambda: 0.0, 1000)
    tap.end()
    return tap


class IdentityTests:
    """IDs, and the secrets that are derived from them."""

    def test_an_id_is_that_of_this_process_only(self, taps):
        assert taps.number_of(taps.connection_id(17)) == 17
        assert taps.number_of("17") == 17
        assert [taps.number_of(text) for text in ("", "0", "-17", "00000000-17", "x", "1" * 30)] == [None] * 6

    def test_the_secret_in_the_response_belongs_to_its_id(self, taps):
        lines = taps.header_lines(17).decode().split("\r\n")
        name, secret = (line.partition(": ")[2] for line in lines[:2])
        assert name == taps.connection_id(17)
        assert taps.knows(name, secret)
        assert not taps.knows(taps.connection_id(18), secret)
        assert not taps.knows("17", secret)
        assert not taps.knows(name, "")
        assert not taps.knows(name, "é")

    def test_without_taps_the_response_has_no_secret(self, taps):
        taps.enabled = False
        assert taps.header_lines(17) == f"WSServer-Connection-Id: {taps.connection_id(17)}\r\n".encode()

    @pytest.mark.parametrize("text", ["", "a" * 31, "a" * 65, "g" * 32, "\uff41" * 32, SECRET + "\n"])
    def test_anything_else_is_not_a_secret(self, taps, text):
        assert not taps.is_secret(text)

    def test_upper_case_digits_are_the_same_secret(self, taps):
        tap = taps.open(SECRET)
        assert taps.find(SECRET.upper()) is tap
        assert taps.find(SECRET[::-1]) is None


class ForgettingTests:
    """A tap is forgotten after a while, or when it makes room."""

    def test_a_tap_is_found_for_a_while_after_its_connection_has_closed(self, taps, clock):
        tap = ended(taps)
        clock.advance(RETENTION - 1)
        assert taps.find(SECRET) is tap
        clock.advance(2)
        assert taps.find(SECRET) is None

    def test_the_newest_of_two_taps_with_a_secret_is_found(self, taps):
        ended(taps)
        newer = ended(taps)
        assert taps.find(SECRET) is newer

    def test_the_oldest_closed_connection_makes_room_and_nothing_keeps_its_tap(self, taps, clock):
        """A deadline that keeps it would let a client fill the memory with taps."""
        forgotten = weakref.ref(ended(taps))
        ended(taps)
        assert taps.open() is not None
        gc.collect()
        assert forgotten() is None
        assert len(taps._forgetting) == 1

    def test_open_connections_make_no_room_and_the_operator_needs_none(self, taps):
        assert [taps.open() is None for _ in range(3)] == [False, False, True]
        assert taps.limits["max_taps"] == 1
        assert taps.open(is_limited=False) is not None
