"""T13: text that is not UTF-8, cut at any position."""

import random

from attackers import Attacker
from peers import CLOSE, CONTINUATION, TEXT, RawPeer, close_payload, frame, handshake_request

BAD = [
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\x80",
    b"\xfe",
    b"\xff",
    b"\xc2",
    b"\xe1\x80",
    b"\xf0\x90\x80",
    b"\xc1\xbf",
    b"\xf8\x88\x80\x80\x80",
]
GOOD = ["a", "é", "\u07ff", "\u0800", "\uffff", "\ud7ff", "\ue000", "\U00010000", "\U0010ffff", "\0", "€", "😀"]


def text(rng):
    """Return random text: valid, or with an invalid part at a random position, or cut."""
    data = "".join(rng.choices(GOOD, k=rng.randrange(1, 40))).encode()
    kind = rng.randrange(30)
    if kind == 0:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(BAD) + data[at:]
    elif kind == 1:
        data = data[: rng.randrange(len(data) + 1)]
    elif kind == 2:
        data = bytearray(data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def is_valid(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def frames(rng, data):
    """Return the frames of a text message, cut at random positions."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 2, 5))))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return b"".join(
        frame(CONTINUATION if number else TEXT, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )


def compare(port, count, seed):
    """Send random texts, several on each connection; return those on which server and `bytes.decode` differ."""
    rng, wrong, done = random.Random(seed), [], 0
    while done < count:
        texts, valid = [], True
        while valid and len(texts) < 200:
            texts.append(text(rng))
            valid = is_valid(texts[-1])
        done += len(texts)
        with RawPeer(port) as peer:
            peer.send(handshake_request("/echo") + b"".join(frames(rng, one) for one in texts))
            assert peer.read_response().status == 101
            for one in texts if valid else texts[:-1]:
                got = peer.read_frame()
                if (got.opcode, got.payload) != (TEXT, one):
                    wrong.append((one, got))
                    break
            else:
                if not valid and (got := peer.read_frame()).payload[:2] != (1007).to_bytes(2, "big"):
                    wrong.append((texts[-1], got))
    return wrong


def test_t13_the_verdict_is_that_of_the_decoder(server, figures, full):
    """
    Text messages get the same verdict as by Python's decoder, wherever they are cut: an echo or close code 1007.

    The table demands a million strings. `make fuzz` compares the server with Autobahn on a million streams; this test
    sends its strings through a real connection.
    """
    count = 200_000 if full else 10_000
    with Attacker(compare, server.port, count, 13) as attacker:
        wrong = attacker.result(300)
    figures.at_most(0, len(wrong), f"different verdicts of {count:,}", "", wrong[:3])


def test_t13_the_reason_of_a_close_frame_is_checked_too(server):
    """An invalid reason of a Close frame gets 1007, a valid one the same code."""
    for reason in BAD:
        with server.open() as peer:
            peer.send_frame(CLOSE, close_payload(1000, reason))
            assert peer.read_close().close_code == 1007, reason
    with server.open() as peer:
        peer.send_frame(CLOSE, close_payload(1000, "".join(GOOD)[:30]))
        assert peer.read_close().close_code == 1000
