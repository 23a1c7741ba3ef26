"""permessage-deflate (RFC 7692): the negotiation, and the streams with each installed library."""

import tracemalloc
import zlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.config.settings import Settings
from wsserver.wire import deflate
from wsserver.wire.deflate import (
    INFLATER,
    LIBRARIES,
    MAX_STREAMS,
    SMALL_WINDOW,
    Deflate,
    InflateCorrupt,
    InflateTooBig,
    Terms,
    agree,
)
from wsserver.wire.handshake import parse_extensions

TAIL = b"\0\0\xff\xff"
BIG = 1 << 20

# Libraries to inflate with. isal is slower at it.
INFLATERS = [library for name, library in LIBRARIES.items() if name != "isal"]
PAIRS = [(one, two) for one in LIBRARIES.values() for two in INFLATERS]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=[f"{one.name}/{two.name}" for one, two in PAIRS])
each_inflater = pytest.mark.parametrize("inflater", INFLATERS, ids=lambda library: library.name)
each_deflater = pytest.mark.parametrize("deflater", LIBRARIES.values(), ids=lambda library: library.name)
each_way = pytest.mark.parametrize("takeover", [False, True], ids=["no takeover", "takeover"])


def terms(takeover=True, bits=15):
    return Terms(takeover, takeover, bits, bits)


class Peer:
    """The client's side, with the standard library's zlib. Reading byte by byte, it is strict about the window."""

    def __init__(self, takeover=True, bits=15):
        self.takeover, self.bits = takeover, bits
        self.packer = self.unpacker = None

    def pack(self, message):
        if self.packer is None or not self.takeover:
            self.packer = zlib.compressobj(wbits=-self.bits)
        return (self.packer.compress(message) + self.packer.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def unpack(self, payload, step=0):
        if self.unpacker is None or not self.takeover:
            self.unpacker = zlib.decompressobj(-self.bits)
        message, rest = b"", payload + TAIL
        while rest:
            message += self.unpacker.decompress(rest, step)
            rest = self.unpacker.unconsumed_tail
        # With a step, read until zlib has no more output.
        while step and (more := self.unpacker.decompress(b"", step)):
            message += more
        return message


def inflate_in_pieces(one, payload, size, limit=BIG):
    """Inflate in pieces, like the state machine."""
    one.start_decompress_message()
    message = b""
    for at in range(0, len(payload), size):
        message += one.decompress_message_data(payload[at : at + size], limit - len(message))
    one.end_decompress_message()
    return message


def compress_in_pieces(one, message, size):
    """Compress in pieces, like the state machine."""
    one.start_compress_message()
    parts = [one.compress_message_data(message[at : at + size]) for at in range(0, len(message), size)]
    return b"".join(parts) + one.end_compress_message()


class NegotiationTests:
    """The negotiation of parameters (RFC 7692 section 7.1)."""

    @pytest.mark.parametrize(
        ("offer", "takeover", "bits", "answer"),
        [
            # A browser's offer.
            ("client_max_window_bits", "off", 15, "server_no_context_takeover; client_no_context_takeover"),
            ("client_max_window_bits", "on", 15, ""),
            ("client_max_window_bits", "on", 12, "server_max_window_bits=12; client_max_window_bits=12"),
            # The client's window is limited only if the client's offer allows it.
            ("", "on", 9, "server_max_window_bits=9"),
            ("", "on", 15, ""),
            # Section 7.1.1: a requested parameter is granted; the settings may add more.
            ("server_no_context_takeover", "on", 15, "server_no_context_takeover"),
            ("client_no_context_takeover", "on", 15, "client_no_context_takeover"),
            ("server_no_context_takeover", "off", 15, "server_no_context_takeover; client_no_context_takeover"),
            # Section 7.1.2.1: the same or a smaller value.
            ("server_max_window_bits=10", "on", 15, "server_max_window_bits=10"),
            ("server_max_window_bits=10", "on", 9, "server_max_window_bits=9"),
            ("server_max_window_bits=15", "on", 15, "server_max_window_bits=15"),
            # Section 7.1.2.2: a value is a hint.
            ("client_max_window_bits=10", "on", 15, "client_max_window_bits=10"),
            ("client_max_window_bits=10", "on", 9, "server_max_window_bits=9; client_max_window_bits=9"),
            ("client_max_window_bits=8", "on", 15, "client_max_window_bits=8"),
            ("client_max_window_bits=15", "on", 15, ""),
            # The offer of the client library `websockets`.
            (
                "server_max_window_bits=12; client_max_window_bits=12",
                "on",
                15,
                "server_max_window_bits=12; client_max_window_bits=12",
            ),
        ],
    )
    def test_the_answer_meets_the_offer_and_the_settings(self, offer, takeover, bits, answer):
        """The streams use exactly the parameters of the answer."""
        ((_, parameters),) = parse_extensions(f"permessage-deflate; {offer}" if offer else "permessage-deflate")
        got = agree(parameters, Settings(compression_context_takeover=takeover, compression_window_bits=bits))
        assert got.answer == "; ".join(["permessage-deflate", *([answer] if answer else [])])
        # The streams use the parameters of the answer.
        ((_, answered),) = parse_extensions(got.answer)
        assert got.server_takeover == ("server_no_context_takeover" not in answered)
        assert got.client_takeover == ("client_no_context_takeover" not in answered)
        assert got.server_bits == int(answered.get("server_max_window_bits", [15])[0])
        assert got.client_bits == int(answered.get("client_max_window_bits", [15])[0])

    def test_describe_returns_the_parameters_under_their_rfc_names(self):
        assert Deflate(Terms(False, True, 10, 15)).describe() == {
            "extension": "permessage-deflate",
            "server_no_context_takeover": True,
            "client_no_context_takeover": False,
            "server_max_window_bits": 10,
            "client_max_window_bits": 15,
        }


class Recorded:
    """A library's module that records the arguments of its objects, without the level."""

    def __init__(self, module, made):
        self._module, self._made, self.error = module, made, module.error

    def compressobj(self, level, *arguments):
        """Return a compressor."""
        self._made.append(arguments)
        return self._module.compressobj(level, *arguments)

    def decompressobj(self, *arguments):
        """Return a decompressor."""
        self._made.append(arguments)
        return self._module.decompressobj(*arguments)


class LibraryTests:
    """Which library compresses, and which one decompresses."""

    def test_deflates_with_isal_and_inflates_with_zlib_ng_if_installed(self):
        """docs/explanation/performance.md explains the choice."""
        assert deflate.DEFLATER.name == ("isal" if "isal" in LIBRARIES else "zlib")
        assert INFLATER.name == ("zlib-ng" if "zlib-ng" in LIBRARIES else "zlib")

    @pytest.mark.parametrize(
        ("bits", "takeover", "memory"),
        [(15, True, 8), (15, False, 8), (13, True, 6), (12, True, 3), (12, False, 5), (10, True, 2), (9, True, 2)],
    )
    def test_a_small_window_with_context_takeover_selects_zlib_with_little_memory(self, bits, takeover, memory):
        """The memory of the other libraries does not depend on the window."""
        made = []
        one = Deflate(terms(takeover, bits))
        small = takeover and bits <= SMALL_WINDOW
        for attribute, usual in (("_deflater", deflate.DEFLATER), ("_inflater", INFLATER)):
            chosen = getattr(one, attribute)
            assert chosen is (LIBRARIES["zlib"] if small else usual)
            setattr(one, attribute, replace(chosen, module=Recorded(chosen.module, made)))
        packed = one.deflate(b"text " * 100)
        assert one.inflate(packed, 1000) == b"text " * 100
        assert made == [(8, -bits, memory), (-bits,)]

    def test_only_zlib_is_listed_without_the_optional_packages(self, monkeypatch):
        def import_module(name):
            if name != "zlib":
                raise ImportError(name)
            return zlib

        monkeypatch.setattr(deflate, "import_module", import_module)
        assert list(deflate._installed()) == ["zlib"]


class RoundTripTests:
    """Messages from the server to the client and back."""

    @each_pair
    @each_way
    @pytest.mark.parametrize("bits", [9, 12, 15])
    def test_whole_and_fragmented_messages_use_the_same_streams(self, pair, takeover, bits):
        """Both the server's and the client's messages are tested."""
        one = Deflate(terms(takeover, bits), deflater=pair[0], inflater=pair[1])
        peer, rng = Peer(takeover, bits), Random(bits)
        for n in range(60):
            message = b"%d, again and again; " % (n % 7) * rng.choice((0, 1, 5, 200)) + rng.randbytes(
                rng.choice((0, 9))
            )
            payload, size = peer.pack(message), rng.choice((1, 7, 1000))
            assert (one.inflate(payload, BIG) if n % 2 else inflate_in_pieces(one, payload, size)) == message
            packed = one.deflate(message) if n % 3 else compress_in_pieces(one, message, size)
            assert packed, "a compressed message has at least one byte"
            assert peer.unpack(packed) == message

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        pair=st.sampled_from(PAIRS),
        messages=st.lists(st.binary(max_size=300).flatmap(lambda part: st.integers(1, 9).map(lambda n: part * n))),
        takeover=st.booleans(),
        bits=st.integers(9, 15),
        size=st.integers(1, 50),
    )
    def test_zlib_reads_all_messages_of_the_server_and_the_server_those_of_zlib(
        self, pair, messages, takeover, bits, size
    ):
        one, peer = Deflate(terms(takeover, bits), deflater=pair[0], inflater=pair[1]), Peer(takeover, bits)
        for message in messages:
            payload = peer.pack(message)
            assert inflate_in_pieces(one, payload, size, len(message)) == message
            assert peer.unpack(one.deflate(message)) == message
            assert one.inflate(peer.pack(message), len(message)) == message
            assert peer.unpack(compress_in_pieces(one, message, size)) == message

    @each_deflater
    def test_context_takeover_makes_a_repeated_message_10_times_smaller(self, deflater):
        """Without context takeover, the second message is as long as the first."""
        message = b"".join(b"%x" % Random(n).getrandbits(60) for n in range(50))
        kept, fresh = Deflate(terms(True), deflater=deflater), Deflate(terms(False), deflater=deflater)
        first, second = kept.deflate(message), kept.deflate(message)
        assert len(second) * 10 < len(first)
        assert fresh.deflate(message) == fresh.deflate(message)

    def test_inflates_hello_and_with_takeover_hello_again(self):
        """The messages are the examples of RFC 7692 sections 7.2.3.1 and 7.2.3.2."""
        one = Deflate(terms())
        assert one.inflate(bytes.fromhex("f248cdc9c90700"), 5) == b"Hello"
        assert one.inflate(bytes.fromhex("f200110000"), 5) == b"Hello"

    def test_inflates_a_stored_block(self):
        """The message is the example of RFC 7692 section 7.2.3.3."""
        assert Deflate(terms()).inflate(bytes.fromhex("000500faff48656c6c6f00"), 5) == b"Hello"

    @pytest.mark.parametrize("inner", ["f348cdc9c9070000", "f348cdc9c90700"], ids=["with the padding", "without"])
    @each_inflater
    @each_way
    def test_a_final_block_ends_its_stream_and_the_next_message_starts_a_new_one(self, inflater, takeover, inner):
        """RFC 7692 section 7.2.3.4 has an example of a final block."""
        for take in (
            lambda one, payload: one.inflate(payload, 5),
            lambda one, payload: inflate_in_pieces(one, payload, 1, 5),
        ):
            one = Deflate(terms(takeover), inflater=inflater)
            payload = bytes.fromhex(inner)
            for _ in range(3):
                assert take(one, payload) == b"Hello"
            assert take(one, bytes.fromhex("f248cdc9c90700")) == b"Hello"

    def test_inflates_two_blocks_in_one_message(self):
        """RFC 7692 section 7.2.3.5 has an example. The first block may be final; the limit applies to both together."""
        one = Deflate(terms())
        assert one.inflate(bytes.fromhex("f248050000 00ffff cac9c90700"), 5) == b"Hello"
        two = zlib.compressobj(wbits=-15)
        first = two.compress(b"Hello") + two.flush()
        assert one.inflate(first + bytes.fromhex("f248cdc9c90700"), 10) == b"HelloHello"
        with pytest.raises(InflateTooBig):
            one.inflate(first + bytes.fromhex("f248cdc9c90700"), 9)
        assert inflate_in_pieces(one, first + bytes.fromhex("f248cdc9c90700"), 3, 10) == b"HelloHello"

    def test_a_final_block_may_be_completed_by_the_four_restored_bytes(self):
        """The final block is a stored block. The restored bytes contain its length, and it ends the message."""
        one = Deflate(terms())
        for _ in range(3):
            assert one.inflate(bytes.fromhex("01"), 5) == b""
            assert inflate_in_pieces(one, bytes.fromhex("f248cdc9c90700"), 2) == b"Hello"

    def test_rejects_a_message_with_more_than_max_streams_final_blocks(self):
        """The server copies the rest of the message after each final block."""
        one = Deflate(terms())
        assert one.inflate(b"\x03\x00" * MAX_STREAMS, 5) == b""
        for take in (one.inflate, lambda payload, limit: inflate_in_pieces(one, payload, 1, limit)):
            with pytest.raises(InflateCorrupt, match=f"{MAX_STREAMS} final blocks"):
                take(b"\x03\x00" * 500_000 if take == one.inflate else b"\x03\x00" * (MAX_STREAMS + 1), 5)

    def test_streams_are_made_on_first_use_and_kept_only_with_takeover(self):
        kept, fresh = Deflate(terms(True)), Deflate(terms(False))
        for one in (kept, fresh):
            assert (one._deflating, one._inflating) == (None, None)
            payload = one.deflate(b"Hello")
            assert one.inflate(payload, 5) == b"Hello"
            compress_in_pieces(one, b"Hello", 2)
            inflate_in_pieces(one, payload, 2)
        assert None not in (kept._deflating, kept._inflating)
        assert (fresh._deflating, fresh._inflating) == (None, None)


class WindowTests:
    """Compressed messages refer no further back than the negotiated window."""

    @each_deflater
    @pytest.mark.parametrize("bits", [9, 10, 11])
    def test_no_distance_exceeds_the_negotiated_window(self, deflater, bits):
        """
        The message has repetitions at all distances around the window.

        zlib refuses longer distances if it reads byte by byte.
        """
        window, rng = 1 << bits, Random(bits)
        near = (*range(window - 5, window + 6), window - 262, window - 258, window + 258, window + 262, window // 2, 3)
        message = b"".join((block := rng.randbytes(distance)) + block[:300] for distance in near)
        for size in (len(message), 700):
            parts = [message[at : at + size] for at in range(0, len(message), size)]
            one, peer = Deflate(terms(True, bits), deflater=deflater), Peer(True, bits)
            assert b"".join(peer.unpack(one.deflate(part), step=1) for part in parts) == message

    def test_zlib_refuses_a_distance_beyond_the_window(self):
        """The test above relies on it."""
        message = Random(0).randbytes(600) * 2
        with pytest.raises(zlib.error, match="too far back"):
            Peer(True, 9).unpack(Peer(True, 10).pack(message), step=1)

    def test_inflates_9_bit_windows_of_a_client_that_negotiated_8(self):
        """Old versions of zlib use 9 bits if 8 are requested."""
        message = Random(0).randbytes(400) * 3
        assert Deflate(Terms(client_bits=8)).inflate(Peer(True, 9).pack(message), BIG) == message


class LimitTests:
    """Inflating is bounded while it is in progress."""

    @each_inflater
    @pytest.mark.parametrize("kind", ["zeros", "noise", "text"])
    @pytest.mark.parametrize("size", [1, 100, 16_384, 100_000])
    def test_inflates_a_message_of_exactly_the_limit_and_not_one_byte_more(self, inflater, kind, size):
        """The limit is the same for whole and for fragmented messages."""
        text = b" ".join(b"%d" % (n * n) for n in range(size))
        message = {"zeros": bytes(size), "noise": Random(size).randbytes(size), "text": text}[kind][:size]
        payload = Peer().pack(message)
        for piece in (1 if size < 1000 else 1009, len(payload)):
            assert inflate_in_pieces(Deflate(terms(), inflater=inflater), payload, piece, size) == message
            with pytest.raises(InflateTooBig):
                inflate_in_pieces(Deflate(terms(), inflater=inflater), payload, piece, size - 1)
        assert Deflate(terms(), inflater=inflater).inflate(payload, size) == message
        with pytest.raises(InflateTooBig, match=f"more than {size - 1} bytes"):
            Deflate(terms(), inflater=inflater).inflate(payload, size - 1)

    @each_inflater
    def test_inflating_a_bomb_of_50_mb_takes_less_than_600_kb(self, inflater):
        """The limit is 100 kB. The bomb may follow a final block."""
        packer = zlib.compressobj(9, wbits=-15)
        bomb = packer.compress(bytes(50_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
        for payload in (bomb, b"\x03\x00" + bomb):
            one = Deflate(terms(), inflater=inflater)
            tracemalloc.start()
            try:
                with pytest.raises(InflateTooBig):
                    one.inflate(payload, 100_000)
                assert tracemalloc.get_traced_memory()[1] < 600_000
            finally:
                tracemalloc.stop()


class CorruptTests:
    """Invalid DEFLATE data."""

    @each_inflater
    @pytest.mark.parametrize("payload", [b"\xff" * 4, b"\x07", b"\x04\x00\xfe", b"\x03\x00\xff\xff"])
    def test_invalid_blocks_and_bytes_after_a_final_block_raise_inflate_corrupt(self, inflater, payload):
        with pytest.raises(InflateCorrupt):
            Deflate(terms(), inflater=inflater).inflate(payload, BIG)
        with pytest.raises(InflateCorrupt):
            inflate_in_pieces(Deflate(terms(), inflater=inflater), payload, 1)

    @each_inflater
    def test_without_takeover_a_message_cannot_refer_to_an_earlier_one(self, inflater):
        """That could be a message of another connection."""
        one = Deflate(terms(False), inflater=inflater)
        assert one.inflate(bytes.fromhex("f248cdc9c90700"), 5) == b"Hello"
        with pytest.raises(InflateCorrupt):
            one.inflate(bytes.fromhex("f200110000"), 5)

    @each_inflater
    @each_way
    def test_a_message_that_ends_within_a_stored_block_raises_inflate_corrupt(self, inflater, takeover):
        """The exception has the bytes that were inflated."""
        one = Deflate(terms(takeover), inflater=inflater)
        with pytest.raises(InflateCorrupt, match="within a block") as caught:
            one.inflate(bytes.fromhex("000500faff48656c"), 5)
        assert caught.value.inflated == b"Hel"

    @settings(max_examples=400, deadline=None, database=None)
    @given(
        inflater=st.sampled_from(INFLATERS),
        payload=st.binary(max_size=60),
        takeover=st.booleans(),
        size=st.integers(1, 9),
    )
    def test_any_bytes_give_the_same_result_whole_and_in_pieces(self, inflater, payload, takeover, size):
        """Neither result is longer than the limit."""

        def outcome(take):
            one = Deflate(terms(takeover), inflater=inflater)
            try:
                message = take(one, payload)
            except (InflateCorrupt, InflateTooBig) as error:
                return type(error)
            assert len(message) <= 500
            return message

        whole, pieces = (
            outcome(lambda one, data: one.inflate(data, 500)),
            outcome(lambda one, d: inflate_in_pieces(one, d, size, 500)),
        )
        # If the data exceeds the limit before it is invalid, either error is correct.
        assert whole == pieces or {whole, pieces} == {InflateCorrupt, InflateTooBig}
