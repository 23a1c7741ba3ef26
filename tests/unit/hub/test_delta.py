"""Deltas: both implementations, which must return the same results, judged by a strict reader of the format."""

import json
import random
import time

import pytest
from fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from wsserver.hub import delta
from wsserver.hub.delta import MAX_INSERT, MAX_SIZE, MIN_SAVING, py_create_delta
from wsserver.wire import frames

IMPLEMENTATIONS = {"python": py_create_delta}
if frames.COMPILED:
    IMPLEMENTATIONS["compiled"] = frames.SPEEDUPS.create_delta

ALPHABETS = (b"ab", b'{"price": 0123456789, }', "aé€😀".encode(), bytes(range(256)))


@pytest.fixture(params=IMPLEMENTATIONS)
def create(request):
    return IMPLEMENTATIONS[request.param]


def records(rng, count):
    return [{"id": 1000 + n, "pair": rng.choice(["BTC-USD", "ETH-USD"]), "price": rng.random()} for n in range(count)]


def as_json(value):
    return json.dumps(value, ensure_ascii=False).encode()


@st.composite
def edited(draw):
    """A text, and one that results from copying, moving, replacing and inserting parts of it."""
    alphabet = draw(st.sampled_from(ALPHABETS))
    rng = random.Random(draw(st.integers(0, 2**32)))

    def content(size):
        return bytes(rng.choice(alphabet) for _ in range(size))

    base = content(draw(st.integers(0, 400)))
    parts = []
    for _ in range(draw(st.integers(0, 8))):
        start = rng.randrange(len(base) + 1)
        parts.append(base[start : start + rng.choice((3, 11, 12, 16, 31, 40, 200))])
        parts.append(content(rng.choice((0, 0, 1, 2, 20))))
    target = b"".join(parts)
    return base, draw(st.sampled_from((target, base + target, target + base, base[:100] + target + base[100:])))


@given(edited())
def test_a_delta_makes_the_text_that_it_was_made_for(texts):
    base, target = texts
    made = py_create_delta(base, target)
    if made is not None:
        assert apply_delta(base, made) == target
        assert len(made) <= len(target) - MIN_SAVING


@given(edited())
def test_both_implementations_return_the_same(texts):
    assert len({create(*texts) for create in IMPLEMENTATIONS.values()}) == 1


@given(st.text("aé€😀\U0010ffff", max_size=300), st.text("aé€😀\U0010ffff", max_size=40), st.integers(0, 300))
def test_a_delta_of_utf_8_is_utf_8(text, other, at):
    for create in IMPLEMENTATIONS.values():
        for new in (text[:at] + other + text[at:], other + text + other, text[at:] + text[:at]):
            made = create(text.encode(), new.encode())
            if made is not None:
                assert apply_delta(text.encode(), made.decode().encode()) == new.encode()


class CreateDeltaTests:
    """`create_delta`, in both implementations."""

    def test_copies_all_but_a_changed_value(self, create):
        base = as_json({"values": list(range(100)), "time": 1, "more": list(range(100))})
        target = base.replace(b'"time": 1', b'"time": 23456')
        made = create(base, target)
        assert apply_delta(base, made) == target
        assert len(made) < 40

    @pytest.mark.parametrize("count", [10, 100, 800])
    def test_finds_records_that_have_moved(self, create, count):
        rng = random.Random(count)
        before, more = records(rng, count), records(rng, 2)
        base, target = as_json(before), as_json([*before[5:], *more])
        made = create(base, target)
        assert apply_delta(base, made) == target
        assert len(made) < 160

    def test_copies_what_lies_between_changed_values(self, create):
        rng = random.Random(1)
        before = records(rng, 200)
        after = [{**one, "price": rng.random()} for one in before]
        made = create(as_json(before), as_json(after))
        assert apply_delta(as_json(before), made) == as_json(after)
        assert len(made) < len(as_json(after)) / 2

    def test_the_same_text_again_is_one_copy(self, create):
        text = bytes(range(256)) * 10
        assert create(text, text).startswith(b"d0\nd0@0,")

    @pytest.mark.parametrize("size", [0, 1, MIN_SAVING, 100, 1000])
    def test_an_unrelated_text_has_no_delta(self, create, size):
        rng = random.Random(size)
        assert create(rng.randbytes(1000), rng.randbytes(size)) is None
        assert create(b"", rng.randbytes(size)) is None

    def test_a_delta_that_saves_too_little_is_not_made(self, create):
        # Of equal texts of 28 bytes the delta is `S\nS@0,` with up to 6 digits and a semicolon: 13 bytes.
        sizes = [size for size in range(100) if create(b"x" * size, b"x" * size) is not None]
        assert sizes == list(range(min(sizes), 100))
        assert 28 <= min(sizes) <= 30

    @pytest.mark.parametrize("base", [b"a" * 65536, b"ab" * 32768, bytes(65536)])
    def test_repeated_content_takes_bounded_time(self, create, base):
        target = b"".join(base[: 20 + n % 7] + b"%d" % n for n in range(2000))
        made = create(base, target)
        assert made is None or apply_delta(base, made) == target

    def test_blocks_that_differ_only_in_their_last_byte_take_bounded_time(self, create):
        """If they shared a bucket of the index, each of 60,000 look-ups would compare 32,000 blocks."""
        known = b"0123456789ABCDEF"
        base = b"a" * 256 * 1024 + known + b"a" * 256 * 1024
        # What is known ends each part, so that the search does not stop after `MAX_INSERT`.
        target = (b"c" + (b"a" * 15 + b"b") * 3840 + known) * 8
        start = time.process_time()
        made = create(base, target)
        assert time.process_time() - start < 2
        assert made is None or apply_delta(base, made) == target

    @pytest.mark.parametrize("size", [MAX_INSERT, MAX_INSERT + 32])
    def test_what_follows_too_much_new_content_is_not_searched(self, create, size):
        rng = random.Random(size)
        old, new = rng.randbytes(3000), rng.randbytes(size)
        made = create(old, new + old[:2000])
        assert (made is not None) == (size == MAX_INSERT)

    def test_a_text_above_the_maximum_size_has_no_delta(self, create):
        large = bytes(MAX_SIZE + 1)
        assert create(large, large) is None
        assert create(large, bytes(100)) is None
        assert create(large[1:], large[1:]) is not None


def test_the_compiled_version_is_used_if_it_is_built():
    assert delta.create_delta is IMPLEMENTATIONS.get("compiled", py_create_delta)
