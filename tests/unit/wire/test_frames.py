"""Frames: both implementations, which must return the same results, and reference implementations to compare with."""

import os
import random
import struct
import subprocess
import sys
import tracemalloc
from importlib import import_module
from itertools import product

import pytest

from wsserver.testing import build_frame
from wsserver.wire import frames
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1

ALL = 2**40
LIMITS = (0, 125, 1000, ALL)
EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536, 65537)
POINTS = (0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xCFFF, 0xD000, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x3FFFF)
POINTS += (0x40000, 0xFFFFF, 0x100000, 0x10FFFF)
INVALID_UTF8 = (
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
)
INVALID_UTF8 += (
    b"\xed\xad\xbf",
    b"\xed\xbf\xbf",
    b"\xed\xa0\xb4\xed\xb4\x9e",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
)
INVALID_UTF8 += (
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80",
)
INVALID_UTF8 += (
    b"\xfe",
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x28\xa1",
    b"\xe2\x82\x28",
    b"\xf0\x28\x8c\xbc",
    b"\xf0\x90\x28\xbc",
)
EDGE_BYTES = b"\x00\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"

# Valid ends of an incomplete text: the characters of RFC 3629 without their last bytes.
CUT_OFF = {
    chr(point).encode()[:size]
    for point in [*range(0x80, 0xD800, 64), *range(0xE000, 0x110000, 64)]
    for size in range(1, len(chr(point).encode()))
}


def reference_parse(data, start, max_size, max_frames, compressed):
    """Parse frames as plainly as possible (RFC 6455 section 5.2)."""
    messages = []
    while len(messages) < max_frames and start + 6 <= len(data):
        short, extra = data[start + 1] & 127, {126: 2, 127: 8}.get(data[start + 1] & 127, 0)
        size = int.from_bytes(data[start + 2 : start + 2 + extra], "big") if extra else short
        body = start + 2 + extra + 4
        payload = bytes(byte ^ data[body - 4 + n % 4] for n, byte in enumerate(data[body : body + min(size, 10**6)]))
        frame = build_frame(data[start] & 15, payload, mask=data[body - 4 : body], rsv=data[start] >> 4 & 7)
        kinds = (0x81, 0x82, 0xC1, 0xC2) if compressed else (0x81, 0x82)
        if data[start] not in kinds or size > max_size or data[start : body + size] != frame:
            break
        if data[start] == 0x81 and payload.decode("utf-8", "replace").encode() != payload:
            break
        messages.append((payload, data[start]))
        start = body + size
    return messages, start


def reference_whole_characters(payload):
    """Return where the first incomplete character starts; -1 if the payload is invalid UTF-8 whatever follows."""
    for cut in range(min(4, len(payload) + 1)):
        whole, rest = payload[: len(payload) - cut], payload[len(payload) - cut :]
        if whole.decode("utf-8", "replace").encode() == whole and (not rest or rest in CUT_OFF):
            return len(whole)
    return -1


def head(size, *, claim=None, first=FIN_BINARY):
    """Build the header of a masked frame; its `size` (0, 2 or 8) additional length bytes state `claim`."""
    claim = size if claim is None else claim
    length = {0: bytes([0x80 | claim & 127]), 2: b"\xfe" + struct.pack("!H", claim & 0xFFFF)}
    return bytes([first]) + length.get(size, b"\xff" + struct.pack("!Q", claim)) + b"mask"


class FrameTests:
    """Parse and build frames with the Python implementation."""

    parse, build = map(staticmethod, (frames.py_parse, frames.py_build))
    Partial = frames.PyPartial

    def parse_checked(self, data, start=0, max_size=ALL, max_frames=256, compressed=False):
        """Parse; check that the reference returns the same, and that the input is unchanged."""
        before = bytes(bytearray(data))
        got = self.parse(data, start, max_size, max_frames, compressed)
        assert got == reference_parse(data, start, max_size, max_frames, compressed)
        assert data == before
        assert all(type(payload) is bytes for payload, _ in got[0])
        return got

    def check_text(self, payload, mask=b"mask"):
        """Check a complete and an incomplete text against the reference. Returns the result of the reference."""
        frame, whole = build_frame(1, payload, mask=mask), reference_whole_characters(payload)
        body = len(frame) - len(payload)
        for size, valid in ((len(payload), whole == len(payload)), (len(payload) + 1, whole >= 0)):
            partial = self.Partial(frame[:body], size)
            assert partial.feed(frame, body) == len(frame)
            assert partial.valid is valid, payload
        return whole

    def partial(self, size, first=FIN_BINARY, mask=b"mask"):
        """Make a partial frame from its header."""
        length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack("!Q", size)
        return self.Partial(bytes([first]) + length + mask, size)

    # RFC 6455 section 5.7.

    def test_parses_the_masked_text_frame_of_rfc_6455(self):
        """RFC 6455 section 5.7 contains the frames of this test and of the next ones."""
        assert self.parse_checked(bytes.fromhex("818537fa213d7f9f4d5158")) == ([(b"Hello", FIN_TEXT)], 11)

    def test_builds_but_does_not_parse_the_unmasked_text_frame_of_rfc_6455(self):
        frame = bytes.fromhex("810548656c6c6f")
        assert self.build(FIN_TEXT, b"Hello") == frame
        assert self.parse_checked(frame) == ([], 0)

    def test_stops_before_each_fragment_of_rfc_6455(self):
        """The state machine processes all fragments, including the last one."""
        assert self.parse_checked(build_frame(1, b"Hel", fin=False)) == ([], 0)
        assert self.parse_checked(build_frame(0, b"lo")) == ([], 0)

    def test_stops_before_the_ping_and_the_pong_of_rfc_6455(self):
        """The state machine processes control frames."""
        assert self.parse_checked(bytes.fromhex("898548656c6c6f7f9f4d51")) == ([], 0)
        assert self.parse_checked(bytes.fromhex("8a8537fa213d7f9f4d5158")) == ([], 0)

    def test_builds_the_frame_of_256_bytes_of_rfc_6455(self):
        """The header has two additional bytes for the length."""
        assert self.build(FIN_BINARY, bytes(256)) == bytes.fromhex("827e0100") + bytes(256)

    def test_builds_the_frame_of_64_kib_of_rfc_6455(self):
        """The header has eight additional bytes for the length."""
        assert self.build(FIN_BINARY, bytes(65536)) == bytes.fromhex("827f0000000000010000") + bytes(65536)

    # Sizes and masks.

    @pytest.mark.parametrize("size", EDGES)
    def test_parses_and_builds_a_frame_of_any_payload_size(self, size):
        """What follows the frame is not parsed."""
        payload = bytes(n * 7 & 0xFF for n in range(size))
        frame = build_frame(2, payload)
        assert self.parse_checked(frame + b"\x82") == ([(payload, FIN_BINARY)], len(frame))
        assert self.build(FIN_BINARY, payload) == build_frame(2, payload, mask=b"")

    @pytest.mark.parametrize(
        "mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x04\x80", b"\x00\xff\x00\xff", b"mask"]
    )
    def test_unmasks_with_any_mask_at_any_alignment(self, mask):
        for size, start in product(range(40), range(9)):
            payload = bytes(255 - n for n in range(size))
            data = bytes(start) + build_frame(2, payload, mask=mask)
            assert self.parse_checked(data, start) == ([(payload, FIN_BINARY)], len(data))

    @pytest.mark.parametrize("first", [0, 1, 0x7F, 0x80, FIN_TEXT, FIN_BINARY, FIN_TEXT | RSV1, 0xFF])
    def test_builds_a_frame_with_the_given_first_byte(self, first):
        assert self.build(first, b"x") == bytes([first, 1]) + b"x"

    def test_parses_a_payload_of_exactly_the_limit_and_none_above(self):
        """If the limit is 0, only empty messages are parsed."""
        for size in (1, 125, 126, 1000, 65535, 65536):
            frame = build_frame(2, bytes(size))
            assert self.parse_checked(frame, max_size=size)[1] == len(frame)
            assert self.parse_checked(frame, max_size=size - 1) == ([], 0)
        assert self.parse_checked(build_frame(2), max_size=0) == ([(b"", FIN_BINARY)], 6)

    # Many frames.

    def test_parses_all_messages_of_a_read_in_order_with_their_types(self):
        data = build_frame(1, "é".encode()) + build_frame(2, b"\xff") + build_frame(1) + build_frame(2, bytes(300))
        expected = [("é".encode(), FIN_TEXT), (b"\xff", FIN_BINARY), (b"", FIN_TEXT), (bytes(300), FIN_BINARY)]
        assert self.parse_checked(data) == (expected, len(data))

    @pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, -1])
    def test_parses_at_most_max_frames_and_continues_from_there(self, most):
        data = build_frame(2, b"12") * 4
        messages, start = self.parse_checked(data, max_frames=most)
        assert (len(messages), start) == (min(4, max(0, most)), 8 * min(4, max(0, most)))
        assert len(self.parse_checked(data, start)[0]) == 4 - len(messages)

    def test_parses_from_the_given_start_index(self):
        """A start index at or after the end of the data returns no frames."""
        data = b"junk" + build_frame(2, b"12")
        assert self.parse_checked(data, 4) == ([(b"12", FIN_BINARY)], 12)
        for start in (*range(7, 14), 1000, 2**40):
            assert self.parse_checked(data, start) == ([], start)

    # Frames that are not parsed.

    @pytest.mark.parametrize("first", range(256))
    def test_stops_before_a_frame_that_is_not_a_whole_text_or_binary_message(self, first):
        good, data = build_frame(2, b"12"), bytes([first]) + build_frame(2, b"12")[1:]
        for compressed in (False, True):
            messages, start = self.parse_checked(good + data, compressed=compressed)
            taken = first in ((0x81, 0x82, 0xC1, 0xC2) if compressed else (0x81, 0x82))
            assert (len(messages), start) == ((2, 16) if taken else (1, 8))

    def test_stops_before_an_incomplete_frame_wherever_it_is_cut(self):
        for size in (0, 1, 5, 125, 126, 200, 65535, 65536):
            good, frame = build_frame(2, b"12"), build_frame(2, bytes(size))
            for cut in {*range(min(16, len(frame))), len(frame) // 2, len(frame) - 1}:
                assert self.parse_checked(good + frame[:cut]) == ([(b"12", FIN_BINARY)], 8)

    def test_stops_before_an_unmasked_frame(self):
        for size in (0, 4, 5, 125, 126, 65536):
            assert self.parse_checked(build_frame(2, bytes(size), mask=b"") + bytes(10)) == ([], 0)

    @pytest.mark.parametrize(("extra", "claim"), [(2, 0), (2, 1), (2, 125), (8, 0), (8, 125), (8, 126), (8, 65535)])
    def test_stops_before_a_length_that_fits_into_fewer_bytes(self, extra, claim):
        """RFC 6455 section 5.2 requires the shortest encoding."""
        assert self.parse_checked(head(extra, claim=claim) + bytes(70_000)) == ([], 0)

    @pytest.mark.parametrize(
        "claim",
        [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 15, 2**63 - 1, 2**63, 2**64 - 14, 2**64 - 2, 2**64 - 1],
    )
    @pytest.mark.parametrize("limit", [0, 1000, sys.maxsize])
    def test_stops_before_a_frame_that_claims_more_than_all_memory(self, claim, limit):
        """The test tries several size limits, and frames at several start indexes."""
        for start, length in product((0, 1, 14, 100), (0, 1, 13, 1000)):
            data = bytes(start) + head(8, claim=claim) + bytes(length)
            assert self.parse(data, start, limit, 256, False) == ([], start)

    def test_does_not_read_an_incomplete_length_beyond_the_end(self):
        for data in (
            b"\x82\xff" + bytes(4),
            b"\x82\xff" + b"\xff" * 11,
            b"\x82\xfe" + b"\xff" * 4,
            b"\x82\xfe\x00\x7emas",
        ):
            assert self.parse_checked(data) == ([], 0)

    # UTF-8.

    @pytest.mark.parametrize("point", POINTS)
    def test_accepts_the_first_and_last_character_of_each_utf_8_length(self, point):
        """Each character is tested at the offsets 0 to 9 of a text."""
        for before, after in product(range(10), range(10)):
            text = b"a" * before + chr(point).encode() + b"b" * after
            assert self.parse_checked(build_frame(1, text))[0] == [(text, FIN_TEXT)]
            assert self.check_text(text) == len(text)

    @pytest.mark.parametrize("wrong", INVALID_UTF8)
    def test_rejects_overlong_surrogate_and_too_large_characters_in_text_only(self, wrong):
        """Binary messages may contain these bytes."""
        for before, after in product(range(10), range(10)):
            payload = b"a" * before + wrong + b"b" * after
            assert self.parse_checked(build_frame(1, payload)) == ([], 0)
            assert self.parse_checked(build_frame(2, payload))[0] == [(payload, FIN_BINARY)]
            assert self.check_text(payload) == -1

    def test_rejects_complete_but_not_partial_text_that_ends_within_a_character(self):
        for point, before in product(POINTS, range(10)):
            text = b"a" * before + chr(point).encode()
            for cut in range(before + 1, len(text)):
                assert self.parse_checked(build_frame(1, text[:cut])) == ([], 0)
                assert self.check_text(text[:cut]) == before

    def test_validates_all_short_strings_of_utf_8_edge_bytes_like_rfc_3629(self):
        """Strings of four bytes start with one of six bytes that are edges of lead bytes."""
        for size in (1, 2, 3):
            for payload in map(bytes, product(EDGE_BYTES, repeat=size)):
                frame = b"\x81" + bytes([0x80 | size]) + bytes(4) + payload
                whole = self.check_text(payload, bytes(4))
                assert self.parse(frame, 0, ALL, 1, False)[1] == (len(frame) if whole == size else 0)
        for payload in map(
            bytes, product(b"\xe1\xed\xf0\xf1\xf4\xf5", EDGE_BYTES[2:8], EDGE_BYTES[1:9], EDGE_BYTES[1:9])
        ):
            assert self.check_text(payload, bytes(4)) == self.check_text(payload)

    def test_accepts_every_unicode_character(self):
        for plane in range(17):
            text = "".join(map(chr, range(plane << 16, plane + 1 << 16))).encode("utf-8", "ignore")
            assert self.parse(build_frame(1, text), 0, ALL, 1, False) == ([(text, FIN_TEXT)], len(text) + 14)

    def test_rejects_partial_text_at_its_first_invalid_byte(self):
        """Each check continues at the byte where the last check ended."""
        for text in (
            ("aé日😀\U0010ffffz" * 9).encode(),
            b"ab\xe2\x82\xacc\xed\xa0\x80d",
            b"a" * 20 + b"\xf4\x90\x80\x80",
        ):
            frame = build_frame(1, text)
            body = len(frame) - len(text)
            partial = self.Partial(frame[:body], len(text))
            for end in range(body, len(frame)):
                assert partial.feed(frame[: end + 1], end) == end + 1
                whole = reference_whole_characters(text[: end + 1 - body])
                # Complete text must end with a complete character; invalid text stays invalid.
                assert partial.valid is (whole == len(text) if end + 1 == len(frame) else whole >= 0)

    # permessage-deflate.

    def test_accepts_rsv1_only_if_compression_was_negotiated(self):
        """A compressed payload is checked for UTF-8 only after it is inflated (RFC 7692 section 6)."""
        frame = build_frame(1, b"\xff\xff", rsv=4)
        assert self.parse_checked(frame, compressed=True) == ([(b"\xff\xff", FIN_TEXT | RSV1)], 8)
        assert self.parse_checked(frame) == ([], 0)
        assert self.parse_checked(build_frame(1, b"\xff\xff"), compressed=True) == ([], 0)
        for rsv in (1, 2, 3, 5, 6, 7):
            assert self.parse_checked(build_frame(1, b"12", rsv=rsv), compressed=True) == ([], 0)

    # Partial frames.

    @pytest.mark.parametrize("size", [size for size in EDGES if size < 128] + [65536])
    def test_a_partial_frame_collects_pieces_of_any_size_up_to_its_end(self, size):
        """`raw` returns the bytes as they were received."""
        payload = bytes(n * 7 & 0xFF for n in range(size))
        frame = build_frame(2, payload)
        header = len(frame) - size
        for step in (1, 2, 3, 5, 7, 4096, 65535, 70_000) if size < 128 else (4095, 65535, 70_000):
            partial, start = self.Partial(frame[:header], size), header
            while start < len(frame):
                assert not partial.complete
                before, start = start, partial.feed((frame + b"\x82\x80more")[: start + step], start)
                assert start == min(before + step, len(frame))
                assert partial.raw() == frame[:start]
            assert (partial.complete, partial.valid, partial.first) == (True, True, FIN_BINARY)
            whole = partial.whole()
            assert (type(whole), whole) == (bytes, payload)

    def test_partial_text_is_valid_wherever_it_is_split(self):
        """The text is split at every byte, even within a character, and follows headers of all lengths."""
        text = "aé日😀\U0010ffffz\x80".encode()
        for header, first, second in product((6, 8, 14), range(len(text) + 1), range(len(text) + 1)):
            partial = self.Partial(b"\x81" + bytes(header - 5) + bytes(4), len(text))
            for piece in (text[:first], text[first : max(first, second)], text[max(first, second) :]):
                partial.feed(piece, 0)
                assert partial.valid
            assert partial.whole() == text

    def test_partial_text_is_invalid_if_it_is_completed_within_a_character(self):
        for character in ("é", "日", "😀"):
            for cut in range(1, len(character.encode())):
                text = b"a" + character.encode()[:cut]
                partial = self.partial(len(text), FIN_TEXT, bytes(4))
                assert partial.feed(text[:-1], 0) == len(text) - 1
                assert partial.valid
                partial.feed(text[-1:], 0)
                assert (partial.complete, partial.valid) == (True, False)
                assert partial.raw()[6:] == text

    @pytest.mark.parametrize("first", [FIN_BINARY, FIN_TEXT | RSV1, FIN_BINARY | RSV1])
    def test_a_partial_binary_or_compressed_frame_is_not_checked_for_utf_8(self, first):
        partial = self.partial(3, first)
        partial.feed(b"\xff\xff\xff", 0)
        assert (partial.valid, partial.first) == (True, first)

    def test_a_partial_frame_without_payload_is_complete_at_once(self):
        partial = self.partial(0, FIN_TEXT)
        assert (partial.complete, partial.valid, partial.raw()) == (True, True, b"\x81\x80mask")
        assert partial.feed(b"more", 1) == 1
        assert partial.whole() == b""

    @pytest.mark.parametrize("start", [-1, -(2**62), 4, 5, 2**62, 2**64])
    def test_feed_raises_for_a_start_index_out_of_range(self, start):
        """The frame is unchanged."""
        partial = self.partial(9)
        with pytest.raises((ValueError, OverflowError)):
            partial.feed(b"123", start)
        assert partial.raw() == b"\x82\x89mask"
        assert partial.feed(b"123", 3) == 3

    def test_partial_raises_value_error_for_an_invalid_header_length_or_size(self):
        """A header has 6 to 14 bytes."""
        for size in (*range(6), 15, 16, 1000):
            with pytest.raises(ValueError, match="invalid frame header or size"):
                self.Partial(bytes(size), 1)
        for size in (-1, -sys.maxsize):
            with pytest.raises(ValueError, match="invalid frame header or size"):
                self.Partial(b"\x82\x80mask", size)
        for header in range(6, 15):
            assert self.Partial(bytes(header), 1).raw() == bytes(header)

    def test_partial_and_feed_raise_type_error_for_none(self):
        partial = self.partial(3)
        for call in (lambda: self.Partial(None, 3), lambda: partial.feed(None, 0)):
            with pytest.raises(TypeError):
                call()
        assert partial.feed(b"123", 0) == 3

    def test_a_complete_partial_frame_consumes_no_more_bytes(self):
        partial = self.partial(3, mask=bytes(4))
        assert partial.feed(b"12345", 0) == 3
        assert partial.feed(b"12345", 3) == 3
        assert partial.feed(b"", 0) == 0
        assert partial.raw() == b"\x82\x83\0\0\0\x00123"
        assert partial.whole() == b"123"

    def test_whole_raises_value_error_before_completion_and_after_the_first_call(self):
        """After the first call of `whole`, `raw` and `feed` raise ValueError, too."""
        partial = self.partial(3, FIN_TEXT, bytes(4))
        for piece in (b"1", b"2"):
            partial.feed(piece, 0)
            with pytest.raises(ValueError, match="not complete"):
                partial.whole()
        partial.feed(b"3", 0)
        assert partial.whole() == b"123"
        for _ in range(2):
            for call in (partial.whole, partial.raw, lambda: partial.feed(b"4", 0), lambda: partial.feed(b"", 0)):
                with pytest.raises(ValueError):  # noqa: PT011 (the text depends on the implementation)
                    call()
            assert (partial.complete, partial.valid, partial.first) == (False, True, FIN_TEXT)

    @pytest.mark.parametrize("size", [2**31, 2**32, 2**62, sys.maxsize - 14, sys.maxsize])
    @pytest.mark.parametrize("first", [FIN_TEXT, FIN_BINARY])
    def test_allocates_memory_for_received_bytes_and_not_for_the_claimed_size(self, size, first):
        tracemalloc.start()
        try:
            partial = self.partial(size, first, bytes(4))
            for fed in range(1, 11):
                assert partial.feed(b"x", 0) == 1
                assert partial.raw()[14:] == b"x" * fed
            assert not partial.complete
            assert tracemalloc.get_traced_memory()[1] < 10_000
            partial.feed(bytes(100_000), 0)
            assert tracemalloc.get_traced_memory()[0] < 500_000
        finally:
            tracemalloc.stop()

    def test_copies_16_mib_received_in_small_pieces_less_than_12_times(self):
        """Copying the buffer at every piece would copy its final size about 1000 times."""
        size, step, copied, least = 1 << 24, bytes(8192), 0, 1000
        partial = self.partial(size, mask=bytes(4))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for fed in range(0, size, len(step)):
                partial.feed(step, 0)
                now = tracemalloc.get_traced_memory()[0]
                if abs(now - before) > least:
                    copied, before = copied + fed, now
            assert now < size * 9 // 8 + 100_000
        finally:
            tracemalloc.stop()
        assert copied < 12 * size
        assert partial.whole() == bytes(size)

    def test_parses_10_000_random_inputs_like_the_reference(self):
        rng = random.Random(6455)
        for _ in range(10_000):
            self.parse_checked(*random_input(rng))


class SpeedupsFrameTests(FrameTests):
    """Parse and build frames with the compiled implementation."""

    @pytest.fixture(autouse=True)
    def swap(self):
        """Replace the Python functions by the compiled ones."""
        speedups = compiled()
        self.parse, self.build, self.Partial = speedups.parse, speedups.build, speedups.Partial

    def test_returns_the_same_as_python_for_100_000_random_inputs(self):
        rng = random.Random(3629)
        for _ in range(60_000):
            arguments = random_input(rng)
            assert self.parse(*arguments) == frames.py_parse(*arguments), arguments
        for _ in range(40_000):
            header = rng.choice((FIN_TEXT, FIN_TEXT, FIN_TEXT, FIN_BINARY)).to_bytes() + b"\x80"
            header += rng.choice((bytes(4), rng.randbytes(4)))
            size, pieces = rng.choice((0, 1, 5, 9, 20, 2**62)), [random_payload(rng) for _ in range(3)]
            two = self.Partial(header, size), frames.PyPartial(header, size)
            for piece, start in product(pieces, (0, 1)):
                assert outcome(two[0].feed, piece, start) == outcome(two[1].feed, piece, start)
                assert visible_state(two[0]) == visible_state(two[1]), (header, size, pieces)
            assert outcome(two[0].whole) == outcome(two[1].whole)
            assert visible_state(two[0]) == visible_state(two[1])

    def test_builds_the_same_frames_as_python_for_every_size_up_to_1000(self):
        """Sizes around 64 KiB and of 1 MB are tested, too."""
        for size in (*range(1000), *range(65530, 65540), 10**6):
            payload, first = bytes([size & 0xFF]) * size, size & 0xFF
            assert self.build(first, payload) == frames.py_build(first, payload)

    def test_raises_value_error_for_a_negative_start_and_type_error_for_none(self):
        with pytest.raises(ValueError, match="start is negative"):
            self.parse(b"\x82\x80mask", -1, ALL, 1, False)
        for call in (lambda: self.parse(None, 0, 0, 0, False), lambda: self.build(0x81, None)):
            with pytest.raises(TypeError):
                call()


def random_input(rng):
    """Make arguments for `parse` from a generator: a few frames, most of them valid, some changed or cut off."""
    data = bytearray(start := rng.choice((0, 0, 0, 1, 3)))
    for _ in range(rng.randrange(4)):
        opcode, rsv = rng.choice((1, 1, 2, 2, 9)), rng.choice((0, 0, 0, 4, 1))
        data += build_frame(opcode, random_payload(rng), mask=rng.randbytes(4), rsv=rsv)
    if data and rng.random() < 0.3:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) + 1) :]
    return bytes(data), start, rng.choice(LIMITS), rng.choice((1, 2, 256)), rng.random() < 0.5


def random_payload(rng):
    """Make text, or almost text."""
    character = rng.choice((b"a", "é".encode(), "日".encode(), "😀".encode(), b"\xe2\x82", b"\xff"))
    return (character * 200)[: rng.choice((0, 1, 2, 3, 6, 9, 12, 24, 125, 126, 150))]


def outcome(call, *arguments):
    """Return what a call returns, or ValueError if it raises that."""
    try:
        return call(*arguments)
    except ValueError:
        return ValueError


def visible_state(partial):
    """Return the visible state of a partial frame."""
    return partial.complete, partial.valid, partial.first, outcome(partial.raw)


def compiled():
    """Return the compiled module. Without it the test fails, unless the environment disables it: then it is skipped."""
    try:
        return import_module("wsserver.wire._speedups")
    except ImportError as error:
        unwanted = os.environ.get("WSSERVER_BUILD_EXTENSION") == "0"
        if unwanted or os.environ.get("WSSERVER_PUREPYTHON", "") not in {"", "0"}:
            pytest.skip("the environment asks for the Python codec, and the extension is not built")
        pytest.fail(
            f"the extension is not built ({error}): install with a C compiler, "
            "or set WSSERVER_BUILD_EXTENSION=0 to install and test without it"
        )


class ExtentTests:
    """Where a frame ends."""

    @pytest.mark.parametrize("size", EDGES)
    @pytest.mark.parametrize("mask", [b"", b"mask"])
    def test_returns_the_ends_of_header_and_frame_once_the_header_is_complete(self, size, mask):
        """While the header is incomplete, it returns zeros. Frames may be masked or unmasked."""
        frame, start = build_frame(2, bytes(size), mask=mask), 3
        header = len(frame) - size
        for cut in {*range(header + 1), len(frame)}:
            expected = (0, 0) if cut < header else (start + header, start + len(frame))
            assert frames.extent(bytes(start) + frame[:cut], start) == expected

    def test_returns_the_claimed_end_of_a_frame_larger_than_all_memory(self):
        assert frames.extent(head(8, claim=2**64 - 1), 0) == (14, 2**64 + 13)


class ImplementationChoiceTests:
    """Which implementation is used."""

    @pytest.mark.parametrize(("value", "wanted"), [("1", False), ("yes", False), ("0", True), ("", True)])
    def test_wsserver_purepython_disables_the_compiled_implementation(self, value, wanted):
        """The values 0 and "" do not disable it."""
        if wanted:
            compiled()
        code = "from wsserver.wire import frames; print(frames.COMPILED, frames.parse is frames.py_parse)"
        environment = os.environ | {"WSSERVER_PUREPYTHON": value, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(wanted), str(not wanted)]

    def test_uses_python_silently_if_the_extension_cannot_be_loaded(self):
        code = (
            "import sys; sys.modules['wsserver.wire._speedups'] = None\n"
            "from wsserver.wire import frames; print(frames.COMPILED, frames.parse is frames.py_parse)"
        )
        environment = os.environ | {"WSSERVER_PUREPYTHON": "", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert (done.stdout.split(), done.stderr) == (["False", "True"], "")
