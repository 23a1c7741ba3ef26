"""Tests for wsserver/wire/chunked.py: chunked request bodies (RFC 9112 section 7.1)."""

import gc
import tracemalloc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsserver.wire.chunked import MAX_EXTENSIONS, MAX_LINE, MAX_TRAILERS, ChunkedBody
from wsserver.wire.http11 import MAX_BODY


def decode(raw, cuts=()):
    """Feed bytes cut at some indexes. Returns the status (0 while incomplete), the body and the remaining bytes."""
    body, buffer = ChunkedBody(), bytearray()
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, stop in zip(places, [*places[1:], len(raw)], strict=True):
        buffer += raw[start:stop]
        refusal = body.feed(buffer)
        if refusal is not None:
            return refusal.status.value, refusal.reason, b""
    return (200 if body.complete else 0), bytes(body.data), bytes(buffer)


ACCEPTED = {
    "nothing": (b"0\r\n\r\n", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "several chunks": (b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", b"hello world"),
    "hexadecimal in both cases": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "leading zeros": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "line ends in the data": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    "an extension": (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello"),
    "a quoted extension": (b'5;a="x; \\" y\xfc"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "trailers": (b"0\r\nX: y\r\nContent-Length: 5\r\nEmpty:\r\n\r\n", b""),
    "the largest body": (b"10000\r\n" + b"x" * MAX_BODY + b"\r\n0\r\n\r\n", b"x" * MAX_BODY),
    "the longest extension": (b"1;" + b"a" * (MAX_LINE - 2) + b"\r\nx\r\n0\r\n\r\n", b"x"),
    "the longest trailer": (b"0\r\nX:" + b"a" * (MAX_LINE - 2) + b"\r\n\r\n", b""),
}

REFUSED = {
    "no size": (b"\r\n", 400),
    "only an extension": (b";a\r\n", 400),
    "a sign": (b"+5\r\nhello\r\n", 400),
    "a negative size": (b"-5\r\n", 400),
    "0x": (b"0x5\r\nhello\r\n", 400),
    "an underscore": (b"1_0\r\n", 400),
    "a letter beyond F": (b"5g\r\n", 400),
    "a superscript": (b"\xb2\r\n", 400),
    "Arabic digits": ("\u0665\r\n".encode(), 400),
    "a space before": (b" 5\r\nhello\r\n", 400),
    "a space behind": (b"5 \r\nhello\r\n", 400),
    "a tab behind": (b"5\t\r\nhello\r\n", 400),
    "a space before an extension": (b"5 ;a\r\nhello\r\n", 400),
    "a space in an extension": (b"5; a\r\nhello\r\n", 400),
    "an empty extension": (b"5;\r\nhello\r\n", 400),
    "an extension without a value": (b"5;a=\r\nhello\r\n", 400),
    "an open quote": (b'5;a="x\r\nhello\r\n', 400),
    "a control character in an extension": (b"5;a\x00\r\nhello\r\n", 400),
    "a CR in an extension": (b"5;a\rb\r\nhello\r\n", 400),
    "two CRs": (b"5\r\r\nhello\r\n", 400),
    "LF alone behind the size": (b"5\nhello\r\n", 400),
    "LF alone in an extension (TERM.EXT)": (b"5;\nhello\r\n", 400),
    "LF alone behind the data": (b"5\r\nhello\n0\r\n\r\n", 400),
    "CR alone behind the data": (b"5\r\nhello\rx", 400),
    "nothing behind the data": (b"5\r\nhello0\r\n\r\n", 400),
    "data longer than its size": (b"4\r\nhello\r\n", 400),
    "LF alone at the end": (b"0\r\n\n", 400),
    "LF alone behind a trailer": (b"0\r\nX: y\n\r\n", 400),
    "a trailer without a colon": (b"0\r\nX\r\n\r\n", 400),
    "a trailer without a name": (b"0\r\n: y\r\n\r\n", 400),
    "a space before the colon of a trailer": (b"0\r\nX : y\r\n\r\n", 400),
    "a folded trailer": (b"0\r\nX: y\r\n z\r\n\r\n", 400),
    "a control character in a trailer": (b"0\r\nX: \x0b\r\n\r\n", 400),
    "the next request instead of an end": (b"0\r\nGET / HTTP/1.1\r\n\r\n", 400),
    "17 digits": (b"0" * 16 + b"5\r\nhello\r\n", 400),
    "2**64": (b"10000000000000000\r\n", 400),
    "2**64 - 1": (b"FFFFFFFFFFFFFFFF\r\n", 413),
    "2**63": (b"8000000000000000\r\n", 413),
    "2**32": (b"100000000\r\n", 413),
    "one byte too many": (b"10001\r\n", 413),
    "one byte too many in two chunks": (b"10000\r\n" + b"x" * MAX_BODY + b"\r\n1\r\n", 413),
    "a line without an end": (b"5;" + b"a" * MAX_LINE, 400),
    "too long an extension": (b"5;" + b"a" * MAX_LINE + b"\r\n", 400),
    "too many extensions": ((b"1;" + b"a" * 4000 + b"\r\nx\r\n") * (MAX_EXTENSIONS // 4000 + 1), 400),
    "too long a trailer": (b"0\r\nX:" + b"a" * MAX_LINE + b"\r\n", 400),
    "too many trailers": (b"0\r\n" + (b"X:" + b"a" * 4000 + b"\r\n") * (MAX_TRAILERS // 4000 + 1), 400),
}


class DecodingTests:
    """Complete request bodies."""

    @pytest.mark.parametrize(("raw", "expected"), ACCEPTED.values(), ids=ACCEPTED)
    def test_decodes_a_body_and_leaves_the_next_request_in_the_buffer(self, raw, expected):
        assert decode(raw) == (200, expected, b"")
        assert decode(raw + b"GET / HTTP/1.1\r\n\r\n") == (200, expected, b"GET / HTTP/1.1\r\n\r\n")

    @pytest.mark.parametrize(("raw", "expected"), ACCEPTED.values(), ids=ACCEPTED)
    def test_neither_completes_nor_refuses_a_body_that_is_cut_off(self, raw, expected):
        """The decoder waits for more data after every proper prefix of a valid body."""
        step = max(1, len(raw) // 200)
        assert {decode(raw[:size])[0] for size in range(0, len(raw), step)} == {0}
        assert decode(raw[:-1])[0] == 0
        assert expected.startswith(decode(raw[:-1])[1])

    @pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
    def test_refuses_an_invalid_body_with_400_and_a_too_long_one_with_413(self, raw, status):
        """
        A proxy and this server could read an ambiguous body differently.

        The result is the same if it arrives byte by byte.
        """
        assert decode(raw)[0] == status
        assert decode(raw, range(min(len(raw), 10_000))) == decode(raw)

    def test_takes_the_bytes_received_of_a_chunk_that_is_incomplete(self):
        body = ChunkedBody()
        buffer = bytearray(b"FFFF\r\nabc")
        assert body.feed(buffer) is None
        assert (bytes(body.data), bytes(buffer)) == (b"abc", b"")

    @pytest.mark.parametrize("size", [b"FFFF", b"FFFFFFFF", b"7FFFFFFFFFFFFFFF"])
    def test_a_declared_size_takes_no_memory_before_the_data_arrives(self, size):
        """If the decoder reserved the declared size, six bytes from each of many clients could use up all memory."""
        body, buffer = ChunkedBody(), bytearray(size + b"\r\n")
        tracemalloc.start()
        body.feed(buffer)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8192


PIECES = st.sampled_from(
    [
        b"0",
        b"5",
        b"a",
        b"hello",
        b"\r",
        b"\n",
        b"\r\n",
        b";",
        b"a=b",
        b'"',
        b"\\",
        b":",
        b"X: y",
        b" ",
        b"\x00",
        b"\xff",
    ]
)


def write_chunks(chunks, trailers):
    """Encode a chunked body."""
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    return b"".join([*parts, b"0\r\n", *(b"X: %d\r\n" % number for number in range(trailers)), b"\r\n"])


class SplitTests:
    """The network splits the bytes anywhere."""

    @given(
        chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
        trailers=st.integers(0, 3),
        cuts=st.lists(st.integers(0, 5000), max_size=30),
        rest=st.binary(max_size=20),
    )
    def test_a_body_is_the_same_however_it_is_split(self, chunks, trailers, cuts, rest):
        """What follows it stays in the buffer."""
        assert decode(write_chunks(chunks, trailers) + rest, cuts) == (200, b"".join(chunks), rest)

    @given(raw=st.lists(PIECES, max_size=40).map(b"".join), cuts=st.lists(st.integers(0, 200), max_size=30))
    def test_any_bytes_have_the_same_result_however_they_are_split(self, raw, cuts):
        """A refusal has the same reason as well."""
        assert decode(raw, cuts) == decode(raw)


@pytest.mark.parametrize("raw", [b"", b"5\r\nhel", b"5\r\nhello", b"10000\r\n" + b"x" * 60_000, b"x\r\n"])
def test_a_body_is_freed_without_garbage_collection(raw):
    """Thousands of refused bodies of 64 KiB would otherwise stay in memory until the next collection."""
    body = ChunkedBody()
    body.feed(bytearray(raw))
    gone = weakref.ref(body)
    gc.disable()
    try:
        del body
        assert gone() is None
    finally:
        gc.enable()
