"""permessage-deflate (RFC 7692): the negotiation, and the streams with every library that is installed."""

import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.config.settings import Settings
from wsserver.wire import deflate
from wsserver.wire.deflate import INFLATER, LIBRARIES, MAX_STREAMS, Deflate, InflateCorrupt, InflateTooBig, Terms, agree
from wsserver.wire.handshake import parse_extensions

TAIL = b"\0\0\xff\xff"
BIG = 1 << 20

# What this server inflates with: isal is slower at it.
INFLATERS = [library for name, library in LIBRARIES.items() if name != "isal"]
PAIRS = [(one, two) for one in LIBRARIES.values() for two in INFLATERS]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=[f"{one.name}/{two.name}" for one, two in PAIRS])
each_inflater = pytest.mark.parametrize("inflater", INFLATERS, ids=lambda library: library.name)
each_deflater = pytest.mark.parametrize("deflater", LIBRARIES.values(), ids=lambda library: library.name)
each_way = pytest.mark.parametrize("takeover", [False, True], ids=["no takeover", "takeover"])


def terms(takeover=True, bits=15):
    return Terms(takeover, takeover, bits, bits)


class Peer:
    """The client's side, by the standard library's zlib: strict about the window, which it reads byte by byte."""

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
        # With a step the end is read and nothing is left inside.
        while step and (more := self.unpacker.decompress(b"", step)):
            message += more
        return message


def in_pieces(one, payload, size, limit=BIG):
    """Inflate as the state machine does."""
    one.start_decompress_message()
    message = b""
    for at in range(0, len(payload), size):
        message += one.decompress_message_data(payload[at : at + size], limit - len(message))
    one.end_decompress_message()
    return message


def out_pieces(one, message, size):
    """Compress as the state machine does."""
    one.start_compress_message()
    parts = [one.compress_message_data(message[at : at + size]) for at in range(0, len(message), size)]
    return b"".join(parts) + one.end_compress_message()


class NegotiationTests:
    """RFC 7692 section 7.1."""

    @pytest.mark.parametrize(
        ("offer", "takeover", "bits", "answer"),
        [
            # A browser's offer.
            ("client_max_window_bits", "off", 15, "server_no_context_takeover; client_no_context_takeover"),
            ("client_max_window_bits", "on", 15, ""),
            ("client_max_window_bits", "on", 12, "server_max_window_bits=12; client_max_window_bits=12"),
            # The client's window is limited only where the client lets the server.
            ("", "on", 9, "server_max_window_bits=9"),
            ("", "on", 15, ""),
            # Section 7.1.1: what is asked for is granted; the default may ask for more.
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
            # What the client library `websockets` offers.
            (
                "server_max_window_bits=12; client_max_window_bits=12",
                "on",
                15,
                "server_max_window_bits=12; client_max_window_bits=12",
            ),
        ],
    )
    def test_answer(self, offer, takeover, bits, answer):
        """The answer has what the settings want, and never what the client did not allow."""
        ((_, parameters),) = parse_extensions(f"permessage-deflate; {offer}" if offer else "permessage-deflate")
        got = agree(parameters, Settings(compression_context_takeover=takeover, compression_window_bits=bits))
        assert got.answer == "; ".join(["permessage-deflate", *([answer] if answer else [])])
        # What holds is what was answered.
        ((_, told),) = parse_extensions(got.answer)
        assert got.server_takeover == ("server_no_context_takeover" not in told)
        assert got.client_takeover == ("client_no_context_takeover" not in told)
        assert got.server_bits == int(told.get("server_max_window_bits", [15])[0])
        assert got.client_bits == int(told.get("client_max_window_bits", [15])[0])

    def test_described(self):
        """The connection tells its parameters by their names in the RFC."""
        assert Deflate(Terms(False, True, 10, 15)).describe() == {
            "extension": "permessage-deflate",
            "server_no_context_takeover": True,
            "client_no_context_takeover": False,
            "server_max_window_bits": 10,
            "client_max_window_bits": 15,
        }


class LibraryTests:
    """Which library is taken."""

    def test_the_fastest_that_is_there(self):
        """The choice that docs/explanation/performance.md explains."""
        assert deflate.DEFLATER.name == ("isal" if "isal" in LIBRARIES else "zlib")
        assert INFLATER.name == ("zlib-ng" if "zlib-ng" in LIBRARIES else "zlib")

    def test_none_but_the_standard_one(self, monkeypatch):
        """Without the extra packages zlib does all."""

        def import_module(name):
            if name != "zlib":
                raise ImportError(name)
            return zlib

        monkeypatch.setattr(deflate, "import_module", import_module)
        assert list(deflate._installed()) == ["zlib"]


class RoundTripTests:
    """Messages there and back."""

    @each_pair
    @each_way
    @pytest.mark.parametrize("bits", [9, 12, 15])
    def test_wholes_and_pieces(self, pair, takeover, bits):
        """Whole messages and messages in pieces go through the same streams, in both directions."""
        one = Deflate(terms(takeover, bits), deflater=pair[0], inflater=pair[1])
        peer, rng = Peer(takeover, bits), Random(bits)
        for n in range(60):
            message = b"%d, again and again; " % (n % 7) * rng.choice((0, 1, 5, 200)) + rng.randbytes(
                rng.choice((0, 9))
            )
            payload, size = peer.pack(message), rng.choice((1, 7, 1000))
            assert (one.inflate(payload, BIG) if n % 2 else in_pieces(one, payload, size)) == message
            packed = one.deflate(message) if n % 3 else out_pieces(one, message, size)
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
    def test_against_zlib(self, pair, messages, takeover, bits, size):
        """Whatever the messages, the standard library reads what we write, and we read what it writes."""
        one, peer = Deflate(terms(takeover, bits), deflater=pair[0], inflater=pair[1]), Peer(takeover, bits)
        for message in messages:
            payload = peer.pack(message)
            assert in_pieces(one, payload, size, len(message)) == message
            assert peer.unpack(one.deflate(message)) == message
            assert one.inflate(peer.pack(message), len(message)) == message
            assert peer.unpack(out_pieces(one, message, size)) == message

    @each_deflater
    def test_takeover_pays(self, deflater):
        """With takeover the same message again is a few bytes; without, it is as long as before."""
        message = b"".join(b"%x" % Random(n).getrandbits(60) for n in range(50))
        kept, fresh = Deflate(terms(True), deflater=deflater), Deflate(terms(False), deflater=deflater)
        first, second = kept.deflate(message), kept.deflate(message)
        assert len(second) * 10 < len(first)
        assert fresh.deflate(message) == fresh.deflate(message)

    def test_the_example_of_the_rfc(self):
        """Sections 7.2.3.1 and 7.2.3.2: Hello, and with takeover Hello again."""
        one = Deflate(terms())
        assert one.inflate(bytes.fromhex("f248cdc9c90700"), 5) == b"Hello"
        assert one.inflate(bytes.fromhex("f200110000"), 5) == b"Hello"

    def test_no_compression(self):
        """Section 7.2.3.3: a stored block."""
        assert Deflate(terms()).inflate(bytes.fromhex("000500faff48656c6c6f00"), 5) == b"Hello"

    @pytest.mark.parametrize("inner", ["f348cdc9c9070000", "f348cdc9c90700"], ids=["with the padding", "without"])
    @each_inflater
    @each_way
    def test_final_blocks(self, inflater, takeover, inner):
        """Section 7.2.3.4: a block with the final bit ends its stream; the next message starts another."""
        for take in (lambda one, payload: one.inflate(payload, 5), lambda one, payload: in_pieces(one, payload, 1, 5)):
            one = Deflate(terms(takeover), inflater=inflater)
            payload = bytes.fromhex(inner)
            for _ in range(3):
                assert take(one, payload) == b"Hello"
            assert take(one, bytes.fromhex("f248cdc9c90700")) == b"Hello"

    def test_two_blocks(self):
        """Section 7.2.3.5: two blocks in one message; also where the first one is final."""
        one = Deflate(terms())
        assert one.inflate(bytes.fromhex("f248050000 00ffff cac9c90700"), 5) == b"Hello"
        two = zlib.compressobj(wbits=-15)
        first = two.compress(b"Hello") + two.flush()
        assert one.inflate(first + bytes.fromhex("f248cdc9c90700"), 10) == b"HelloHello"
        with pytest.raises(InflateTooBig):
            one.inflate(first + bytes.fromhex("f248cdc9c90700"), 9)
        assert in_pieces(one, first + bytes.fromhex("f248cdc9c90700"), 3, 10) == b"HelloHello"

    def test_a_final_block_that_ends_in_what_was_left_out(self):
        """A final stored block whose head is completed by the bytes put back ends the message."""
        one = Deflate(terms())
        for _ in range(3):
            assert one.inflate(bytes.fromhex("01"), 5) == b""
            assert in_pieces(one, bytes.fromhex("f248cdc9c90700"), 2) == b"Hello"

    def test_many_final_blocks(self):
        """Each costs a copy of what follows, so there is a limit to them."""
        one = Deflate(terms())
        assert one.inflate(b"\x03\x00" * MAX_STREAMS, 5) == b""
        for take in (one.inflate, lambda payload, limit: in_pieces(one, payload, 1, limit)):
            with pytest.raises(InflateCorrupt, match=f"{MAX_STREAMS} final blocks"):
                take(b"\x03\x00" * 500_000 if take == one.inflate else b"\x03\x00" * (MAX_STREAMS + 1), 5)

    def test_streams_are_made_when_needed(self):
        """An idle connection has none; without takeover none stays."""
        kept, fresh = Deflate(terms(True)), Deflate(terms(False))
        for one in (kept, fresh):
            assert (one._deflating, one._inflating) == (None, None)
            payload = one.deflate(b"Hello")
            assert one.inflate(payload, 5) == b"Hello"
            out_pieces(one, b"Hello", 2)
            in_pieces(one, payload, 2)
        assert None not in (kept._deflating, kept._inflating)
        assert (fresh._deflating, fresh._inflating) == (None, None)


class WindowTests:
    """The window agreed to is never left: a client may keep no more of what was before."""

    @each_deflater
    @pytest.mark.parametrize("bits", [9, 10, 11])
    def test_no_distance_is_longer(self, deflater, bits):
        """Repetitions at all distances around the window; zlib, reading byte by byte, refuses longer distances."""
        window, rng = 1 << bits, Random(bits)
        near = (*range(window - 5, window + 6), window - 262, window - 258, window + 258, window + 262, window // 2, 3)
        message = b"".join((block := rng.randbytes(distance)) + block[:300] for distance in near)
        for size in (len(message), 700):
            parts = [message[at : at + size] for at in range(0, len(message), size)]
            one, peer = Deflate(terms(True, bits), deflater=deflater), Peer(True, bits)
            assert b"".join(peer.unpack(one.deflate(part), step=1) for part in parts) == message

    def test_that_would_be_seen(self):
        """The check above does see a distance that is too long."""
        message = Random(0).randbytes(600) * 2
        with pytest.raises(zlib.error, match="too far back"):
            Peer(True, 9).unpack(Peer(True, 10).pack(message), step=1)

    def test_a_client_that_takes_9_for_8(self):
        """Old zlib makes a window of 9 bits when asked for 8; it is read all the same."""
        message = Random(0).randbytes(400) * 3
        assert Deflate(Terms(client_bits=8)).inflate(Peer(True, 9).pack(message), BIG) == message


class LimitTests:
    """Inflating is bounded while it goes on."""

    @each_inflater
    @pytest.mark.parametrize("kind", ["zeros", "noise", "text"])
    @pytest.mark.parametrize("size", [1, 100, 16_384, 100_000])
    def test_the_limit_itself(self, inflater, kind, size):
        """A message of exactly the limit is taken, whole and in pieces; one byte more is too big."""
        text = b" ".join(b"%d" % (n * n) for n in range(size))
        message = {"zeros": bytes(size), "noise": Random(size).randbytes(size), "text": text}[kind][:size]
        payload = Peer().pack(message)
        for piece in (1 if size < 1000 else 1009, len(payload)):
            assert in_pieces(Deflate(terms(), inflater=inflater), payload, piece, size) == message
            with pytest.raises(InflateTooBig):
                in_pieces(Deflate(terms(), inflater=inflater), payload, piece, size - 1)
        assert Deflate(terms(), inflater=inflater).inflate(payload, size) == message
        with pytest.raises(InflateTooBig, match=f"more than {size - 1} bytes"):
            Deflate(terms(), inflater=inflater).inflate(payload, size - 1)

    @each_inflater
    def test_memory(self, inflater):
        """A bomb of 50 MB costs no more than the limit, also after a final block."""
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
    """What is no DEFLATE data."""

    @each_inflater
    @pytest.mark.parametrize("payload", [b"\xff" * 4, b"\x07", b"\x04\x00\xfe", b"\x03\x00\xff\xff"])
    def test_refused(self, inflater, payload):
        """Blocks of no kind, bad codes, and garbage after a final block."""
        with pytest.raises(InflateCorrupt):
            Deflate(terms(), inflater=inflater).inflate(payload, BIG)
        with pytest.raises(InflateCorrupt):
            in_pieces(Deflate(terms(), inflater=inflater), payload, 1)

    @each_inflater
    def test_too_far_back(self, inflater):
        """Without takeover a message cannot read what was before it, be it of this connection or another."""
        one = Deflate(terms(False), inflater=inflater)
        assert one.inflate(bytes.fromhex("f248cdc9c90700"), 5) == b"Hello"
        with pytest.raises(InflateCorrupt):
            one.inflate(bytes.fromhex("f200110000"), 5)

    @each_inflater
    @each_way
    def test_cut(self, inflater, takeover):
        """A message that ends within a stored block is refused, and tells what had come."""
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
    def test_anything(self, inflater, payload, takeover, size):
        """Whatever comes: both ways say the same, and keep to the limit."""

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
            outcome(lambda one, d: in_pieces(one, d, size, 500)),
        )
        # Data that is too much before it is wrong may be called either.
        assert whole == pieces or {whole, pieces} == {InflateCorrupt, InflateTooBig}
