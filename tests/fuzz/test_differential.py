"""The fast path has the same effects as Autobahn's own path, for valid and for invalid streams."""

import os
import struct
import zlib
from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from differential import CODECS, AutobahnPath, FastPath, StockPath, compare, run
from hypothesis import HealthCheck, Phase, given, settings
from streams import PLANS, Case, cases, make_case
from twisted.logger import globalLogBeginner

from wsserver.testing import build_frame

SEED = int(os.environ.get("WSSERVER_FUZZ_SEED", "20"))
"""The seed of the random cases; a failure names it."""


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Discard the errors that endpoints raise on purpose; their effects are compared."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def case(*pieces, plan="echo", limit=1000, **options):
    """Make a case whose cuts are between the given pieces."""
    cuts, at = [], 0
    for piece in pieces[:-1]:
        at += len(piece)
        cuts.append(at)
    return Case(b"".join(pieces), tuple(cuts), (), plan, limit, **options)


def compare_everywhere(stream, **options):
    """Compare a stream whole, byte by byte, and cut in two at every position."""
    compare(case(stream, **options))
    compare(case(*(bytes([byte]) for byte in stream), **options))
    for cut in range(1, len(stream)):
        compare(case(stream[:cut], stream[cut:], **options))


def deflated(*payloads, wbits=-15):
    """Make frames of text messages that are compressed one after the other in one context."""
    deflater = zlib.compressobj(wbits=wbits)
    parts = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4] for payload in payloads)
    return b"".join(build_frame(1, part, rsv=4) for part in parts)


def split(stream):
    """Split a stream into client frames, all with less than 126 bytes of payload."""
    parts = []
    while stream:
        size = 6 + (stream[1] & 127)
        parts.append(stream[:size])
        stream = stream[size:]
    return parts


def up_to_close(frames):
    """Return the frames up to and including the first Close frame."""
    ends = [number for number, frame in enumerate(frames) if frame[0] == 8]
    return frames[: ends[0] + 1] if ends else frames


def act(plan, payload):
    """Return what an endpoint does with a message."""
    return PLANS[plan][zlib.crc32(payload) % len(PLANS[plan])]


class SameEffectsTests:
    """The fast path compared to Autobahn's for random streams."""

    @pytest.mark.parametrize("part", range(10))
    def test_1000_random_conversations_have_the_same_effects_on_every_path(self, part):
        """The conversations are valid and invalid, and cut anywhere."""
        for number in range(part * 1000, part * 1000 + 1000):
            example = make_case(Random(f"{SEED}/{number}"))
            try:
                compare(example)
            except AssertionError as error:
                error.add_note(f"case {number} of seed {SEED}: {example}")
                raise

    @settings(
        max_examples=500,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def test_500_generated_conversations_have_the_same_effects(self, example):
        """Hypothesis shrinks a conversation that differs."""
        compare(example)

    def test_messages_and_frames_are_those_of_stock_autobahn_up_to_a_close(self):
        """Stock Autobahn contains no code of this project, so a bug here cannot affect both sides."""
        for number in range(2000):
            example = replace(make_case(Random(f"stock {SEED}/{number}")), plan="echo")
            ours, stock = run(example, FastPath), run(example, StockPath)
            messages = ([event for event in record.events if event[0] == "message"] for record in (ours, stock))
            assert len({repr(part) for part in messages}) == 1, f"case {number} of seed {SEED}: {example}"
            sent, expected = up_to_close(ours.frames), up_to_close(stock.frames)
            assert sent == expected, f"case {number} of seed {SEED}: {example}"

    def test_random_conversations_reach_every_plan_close_code_and_event(self):
        seen = Counter()
        for number in range(1500):
            example = make_case(Random(f"{SEED}/{number}"))
            record = run(example, FastPath)
            seen.update({example.plan, f"compressed {example.offer is not None}", f"stalled {example.stalled}"})
            seen.update(event[0] for event in record.events)
            seen.update(
                struct.unpack("!H", payload[:2])[0]
                for opcode, payload, *_ in record.frames
                if payload[1:] and opcode == 8
            )
        assert {1000, 1001, 1002, 1007, 1009, 1011, 4000, "message", "ping", "pong", "close", *PLANS} <= set(seen)
        assert min(seen[f"{what} {value}"] for what, value in product(("compressed", "stalled"), (False, True))) > 100

    def test_a_path_that_answers_pings_differently_is_detected(self):

        class Wrong(FastPath):
            def onPing(self, payload):
                super().onPing(payload + b"!")

        example = case(build_frame(9, b"x"))
        assert run(example, Wrong).frames != run(example, AutobahnPath).frames
        assert len(CODECS) >= 1


class EveryCutTests:
    """Conversations that once revealed a bug, cut at every position."""

    def test_text_binary_ping_empty_and_close_have_the_same_effects(self):
        text, binary = build_frame(1, "aé日😀".encode()), build_frame(2, bytes(130))
        compare_everywhere(text + build_frame(9, b"hi") + binary + build_frame(1) + build_frame(8, b"\x03\xe8bye"))

    def test_characters_split_across_fragments_have_the_same_effects(self):
        """The client sends a ping between the fragments."""
        euro = "€".encode()
        stream = build_frame(1, b"a" + euro[:1], fin=False) + build_frame(9) + build_frame(0, euro[1:2], fin=False)
        compare_everywhere(stream + build_frame(0, euro[2:] + b"b") + build_frame(1, b"after"))

    @pytest.mark.parametrize(
        "wrong", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f"]
    )
    def test_invalid_utf8_has_the_same_effects_within_and_at_the_end(self, wrong):
        """Both paths refuse the text at the same byte."""
        for payload in (b"good" + wrong + b"more text", "日".encode() + wrong):
            compare_everywhere(build_frame(2, b"first") + build_frame(1, payload) + build_frame(2, b"late"))

    def test_payloads_and_masks_that_look_like_frames_have_the_same_effects(self):
        inner = build_frame(2, b"in", mask=bytes(4)) * 2
        masked = build_frame(1, b"in", mask=b"\x81\x82\x81\x82") + inner
        compare_everywhere(build_frame(9) + masked + build_frame(1, b"after"))
        compare_everywhere(build_frame(9) + build_frame(2, inner, mask=bytes(4)) + build_frame(1, b"after"))
        compare_everywhere(build_frame(2, inner, fin=False, mask=bytes(4)) + build_frame(0, inner, mask=bytes(4)))
        compare_everywhere(build_frame(9, inner, mask=bytes(4)), offer="permessage-deflate")
        compare_everywhere(build_frame(2, inner, mask=bytes(4)), offer="permessage-deflate")

    def test_messages_over_the_limit_have_the_same_effects(self):
        """The message has one frame, two frames, or a header that announces more than the limit."""
        compare(case(build_frame(2, bytes(1001))))
        compare_everywhere(
            build_frame(2, bytes(120), fin=False) + build_frame(0, bytes(7)) + build_frame(1, b"x"), limit=126
        )
        for claim in (1001, 65536, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
            compare_everywhere(b"\x82\xff" + struct.pack("!Q", claim) + b"mask" + bytes(5))

    def test_compressed_messages_in_one_context_have_the_same_effects(self):
        """The stream is compared with the extension negotiated, and without it."""
        stream = deflated(b"hello hello hello", b"hello hello hello", "日本".encode())
        for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits"):
            compare_everywhere(stream + build_frame(1, b"plain"), offer=offer)
        compare_everywhere(stream)

    def test_invalid_compressed_messages_have_the_same_effects(self):
        """The payload is not deflate data, not UTF-8, or longer than the limit once inflated."""
        offer = "permessage-deflate"
        for wrong in (
            build_frame(1, b"\xff\xff\xff", rsv=4),
            deflated(b"\xff"),
            deflated("日".encode()[:2]),
            deflated(bytes(1000)) + deflated(bytes(1001)),
            build_frame(2, zlib.compress(b"x"), rsv=4),
        ):
            compare_everywhere(build_frame(1, b"first") + wrong + build_frame(2, b"late"), offer=offer)

    def test_a_text_cut_within_a_character_and_a_block_has_the_same_effects(self):
        """The server could refuse such a text for either of two reasons. Both paths must choose the same one."""
        stored = b"\x00\x04\x00\xfb\xff" + b"ab" + "日".encode()[:2] + b"\x00\x07"
        compare_everywhere(build_frame(1, stored, rsv=4), offer="permessage-deflate")

    @pytest.mark.parametrize("plan", list(PLANS))
    def test_every_plan_of_an_endpoint_has_the_same_effects(self, plan):
        """The effects on the other messages of the same read are compared, too."""
        stream = b"".join(build_frame(2, bytes([65 + n])) for n in range(24))
        compare(case(stream, plan=plan))
        compare(case(stream[:50], stream[50:], plan=plan, stalled=True))
        compare(case(stream[:52], stream[52:100], stream[100:], plan=plan, offer="permessage-deflate"))

    def test_compressed_messages_after_the_servers_close_do_not_end_the_handshake(self):
        stream, offer = (
            deflated(b"z", b"what follows refers to this", b"what follows refers to this"),
            "permessage-deflate",
        )
        messages = split(stream)
        assert act("closes", b"z") == "close"
        for pieces in ([*messages], [messages[0] + messages[1], messages[2]], [messages[0], messages[1] + messages[2]]):
            example = case(*pieces, build_frame(8, b"\x0f\xa0enough"), plan="closes", offer=offer)
            compare(example)
            assert run(example, FastPath).events[-1] == ("close", True, 4000, "enough")

    def test_an_endpoint_that_aborts_gets_no_call_after_on_close(self):
        assert act("aborts", b"e") == "abort"
        example = case(build_frame(2, b"e") + build_frame(2, b"late"), plan="aborts")
        compare(example)
        assert [event[0] for event in run(example, FastPath).events] == ["message", "close"]

    @pytest.mark.parametrize("count", [31, 32, 33, 255, 256, 257, 700])
    def test_more_frames_than_one_reactor_turn_serves_have_the_same_effects(self, count):
        for frame, impatient in product((build_frame(1, b"x"), build_frame(9, b"y")), (False, True)):
            compare(case(frame * count, frame[:3], frame[3:], impatient=impatient))

    def test_the_peers_close_is_answered_after_an_error_in_on_ping(self):
        """The error closes the connection with 1011. The peer's Close frame arrives after that."""
        stream = build_frame(9, b"ppppp") + build_frame(2, b"late") + build_frame(8, b"\x03\xf3")
        compare_everywhere(stream)
        assert run(case(stream), FastPath).events[-1] == ("close", True, 1011, None)
