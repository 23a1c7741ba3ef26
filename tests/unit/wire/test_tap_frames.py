"""Reading frames for a tap: any cuts, any header, compressed messages."""

import zlib

import pytest
from peers import BINARY, CLOSE, CONTINUATION, PING, TEXT, deflated, frame

from wsserver.wire.tap_frames import MAX_INFLATED, FrameReader, Inflater


def read(reader, *pieces):
    return [one for number, piece in enumerate(pieces) for one in reader.feed(piece, float(number))]


def reader(keep=1000, **inflate):
    made = FrameReader()
    made.keep = keep
    if inflate:
        made.inflater = Inflater(**inflate)
    return made


class FrameTests:
    """Frames without compression."""

    STREAM = (
        frame(TEXT, "grüße".encode())
        + frame(BINARY, b"\xff" * 300, masked=False)
        + frame(TEXT, b"a", fin=False)
        + frame(PING, b"")
        + frame(CONTINUATION, b"b" * 70_000)
    )

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000, 100_000])
    def test_frames_are_the_same_however_the_bytes_are_cut(self, size):
        pieces = [self.STREAM[start : start + size] for start in range(0, len(self.STREAM), size)]
        found = read(reader(), *pieces)
        assert [(one.opcode, one.fin, one.size, one.message, bool(one.mask)) for one in found] == [
            (1, True, 7, 1, True),
            (2, True, 300, 2, False),
            (1, False, 1, 3, True),
            (9, True, 0, None, True),
            (0, True, 70_000, 3, True),
        ]
        assert [bytes(one.payload[:4]) for one in found] == ["grü".encode(), b"\xff" * 4, b"a", b"", b"bbbb"]
        assert sum(one.header_size + one.size for one in found) == len(self.STREAM)

    def test_keeps_no_more_of_a_payload_than_needed(self):
        (found,) = read(reader(keep=3), frame(BINARY, bytes(range(200))))
        assert bytes(found.payload) == bytes([0, 1, 2])

    def test_reports_the_time_of_the_first_byte(self):
        data = frame(TEXT, b"hello")
        (found,) = read(reader(), data[:1], data[1:4], data[4:])
        assert found.began == 0.0

    @pytest.mark.parametrize("length", [1, 3, 7, 9])
    def test_rest_is_the_frame_that_has_not_passed(self, length):
        made = reader()
        assert read(made, frame(TEXT, b"hello")[:length]) == []
        rest = made.rest()
        assert (rest is not None) == (length >= 2)
        if rest is not None:
            assert (rest.size, rest.passed, rest.is_whole) == (5, max(0, length - 6), False)

    def test_skips_the_rest_of_a_frame_that_has_begun_before(self):
        made = FrameReader(skip=5)
        assert [one.opcode for one in read(made, b"xx", b"xxx" + frame(PING), frame(TEXT, b"a"))] == [PING, TEXT]

    def test_a_length_with_its_highest_bit_set_is_shown(self):
        made = reader()
        assert read(made, frame(BINARY, length_bytes=8, declared=2**63)) == []
        assert made.rest().size == 2**63


class FloodTests:
    """More frames at once than can be shown."""

    FLOOD = frame(TEXT, b"a") * 50

    def test_small_frames_beyond_the_limit_are_skipped_and_counted(self):
        made = reader()
        large = frame(TEXT, bytes(65_536))
        found = list(made.feed(self.FLOOD + large + frame(TEXT, b"cut")[:5], 0.0, most=10))
        assert [one.size for one in found] == [1] * 10 + [65_536]
        assert (made.skipped, found[-1].message) == (40, 51)
        assert [bytes(one.payload) for one in made.feed(b"\0" * 3, 0.0)] == []
        assert made.rest() is not None

    @pytest.mark.parametrize("masked", [True, False])
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 65_535])
    def test_a_skipped_frame_may_have_either_form_of_length(self, size, masked):
        made = reader()
        data = frame(BINARY, bytes(size), masked=masked) * 3
        (shown,) = made.feed(data, 0.0, most=1)
        assert (shown.size, made.skipped, made.rest()) == (size, 2, None)
        made.skipped = 0
        # The last frame is not complete at any of its bytes.
        for end in range(len(data) - 1, len(data) * 2 // 3, -max(1, size // 10)):
            list(made.feed(data[:end], 0.0, most=0))
            assert made.skipped == 2
            assert [one.size for one in made.feed(data[end:], 0.0)] == [size]
            made.skipped = 0

    def test_a_close_frame_is_shown(self):
        found = list(reader().feed(self.FLOOD + frame(CLOSE, b""), 0.0, most=10))
        assert [one.opcode for one in found] == [TEXT] * 10 + [CLOSE]

    def test_messages_after_a_skipped_one_cannot_be_inflated_with_context_takeover(self):
        made = reader(takeover=True)
        compressed = frame(TEXT, deflated(b"hello"), rsv=4)
        list(made.feed(compressed * 20, 0.0, most=10))
        (found,) = made.feed(compressed, 0.0)
        assert found.inflated is None


class CompressionTests:
    """Compressed messages."""

    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_shows_the_inflated_payload_and_its_size(self, size):
        data = frame(TEXT, deflated(b"hello" * 100), rsv=4) + frame(TEXT, b"plain") + frame(TEXT, deflated(b"x"), rsv=4)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        found = read(reader(takeover=False), *pieces)
        assert [(one.inflated, bytes(one.payload[:5])) for one in found] == [
            (500, b"hello"),
            (None, b"plain"),
            (1, b"x"),
        ]

    def test_follows_context_takeover(self):
        deflate = zlib.compressobj(wbits=-15)

        def compress(data):
            return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")

        data = b"".join(frame(TEXT, compress(b"the same text"), rsv=4) for _ in range(3))
        found = read(reader(takeover=True), data)
        assert [bytes(one.payload) for one in found] == [b"the same text"] * 3

    def test_inflates_a_fragmented_message(self):
        body = deflated(b"hello" * 100)
        data = frame(TEXT, body[:4], fin=False, rsv=4) + frame(PING, b"p") + frame(CONTINUATION, body[4:])
        found = read(reader(takeover=False), data)
        assert sum(one.inflated or 0 for one in found) == 500
        assert b"".join(bytes(one.payload) for one in found if one.opcode != PING) == b"hello" * 100

    def test_a_bomb_stops_at_the_limit_and_keeps_nothing(self):
        bomb = deflated(bytes(10_000_000))
        found = read(reader(keep=10, takeover=True, limit=100_000), frame(TEXT, bomb, rsv=4), frame(TEXT, b"a", rsv=4))
        assert [one.inflated for one in found] == [None, None]
        assert len(found[0].payload) == 10

    @pytest.mark.parametrize("count", [1, 6])
    def test_bytes_that_pass_at_once_are_inflated_up_to_a_limit(self, count):
        data = frame(TEXT, deflated(bytes(6_000_000 // count)), rsv=4) * count
        found = read(reader(takeover=False), data, frame(TEXT, deflated(b"ok"), rsv=4))
        assert sum(one.inflated or 0 for one in found) < MAX_INFLATED
        assert [one.inflated for one in found][-2:] == [None, 2]

    def test_a_corrupt_message_has_no_inflated_size(self):
        (found,) = read(reader(takeover=False), frame(TEXT, b"\xff\xff\xff", rsv=4))
        assert found.inflated is None

    def test_without_context_takeover_the_message_after_a_corrupt_one_is_inflated(self):
        data = frame(TEXT, b"\xff\xff\xff", rsv=4) + frame(TEXT, deflated(b"ok"), rsv=4)
        assert [one.inflated for one in read(reader(takeover=False), data)] == [None, 2]
