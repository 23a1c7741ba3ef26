"""T12: frames that violate RFC 6455."""

import itertools
import random
import time

import pytest
from peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload, frame
from threat_server import ThreatServer

CLOSE_TIMEOUT = 1.0
OPCODES = (TEXT, BINARY, CLOSE, PING, PONG)
RESERVED = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
BAD_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def violations():
    """Return more than 300 sequences of frames, each of which violates the RFC in its last frame."""
    rows = [*heads(), *control_frames(), *lengths(), *sequences()]
    rng = random.Random(12)
    while len(rows) < 320:
        first, second = rng.randrange(256), rng.randrange(256)
        # A frame with RSV bits or a reserved opcode is a violation, whatever follows.
        if first & 0x70 or first & 0x0F in RESERVED:
            rows.append((f"random {first:02x} {second:02x}", bytes([first, second]) + rng.randbytes(20)))
    return rows


def heads():
    """Yield frames that are not masked, with RSV bits, or with a reserved opcode."""
    for opcode in OPCODES:
        yield from ((f"unmasked {opcode} of {n}", frame(opcode, b"x" * n, masked=False)) for n in (0, 1, 2, 50, 125))
        yield from ((f"RSV {rsv} on {opcode}", frame(opcode, b"xx", rsv=rsv)) for rsv in range(1, 8))
    for opcode in RESERVED:
        yield from ((f"opcode {opcode} of {size}", frame(opcode, bytes(size))) for size in (0, 1, 125, 126, 1000))


def control_frames():
    """Yield control frames that are fragmented or too long, and invalid Close frames."""
    for opcode in (CLOSE, PING, PONG):
        yield from ((f"fragmented {opcode} of {n}", frame(opcode, bytes(n), fin=False)) for n in (0, 2, 125))
        yield from ((f"{opcode} of {n} bytes", frame(opcode, bytes(n))) for n in (126, 127, 200, 65535, 65536))
    yield from ((f"close code {code}", frame(CLOSE, close_payload(code))) for code in BAD_CODES)
    yield "a close of one byte", frame(CLOSE, b"x")


def lengths():
    """Yield frames whose length is not encoded in the shortest way, or has its highest bit set."""
    for opcode in (TEXT, BINARY):
        for size, length in ((0, 2), (1, 2), (125, 2), (0, 8), (1, 8), (125, 8), (126, 8), (65535, 8)):
            yield f"length {size} of {opcode} in {length}", frame(opcode, b"x" * size, length_bytes=length)
    yield from ((f"length 2^63 + {n}", frame(BINARY, declared=2**63 + n, length_bytes=8)) for n in (0, 5))


def sequences():
    """Yield fragments without a message, and messages within a message."""
    yield "continuation of nothing", frame(CONTINUATION, b"x")
    yield "continuation of nothing, unfinished", frame(CONTINUATION, fin=False)
    for first, second, fin in itertools.product((TEXT, BINARY), (TEXT, BINARY), (True, False)):
        yield f"{second} within {first}, {fin}", frame(first, b"a", fin=False) + frame(second, b"b", fin=fin)


@pytest.fixture(scope="module")
def shared(start_module_server) -> ThreatServer:
    return start_module_server("--close-timeout", f"{CLOSE_TIMEOUT:g}s")


def verdict(server, data):
    """Send frames, then a valid message; return the close code, the messages delivered, and the seconds to the end."""
    begin = time.monotonic()
    with server.open() as peer:
        peer.send(data + frame(TEXT, b"after the violation"))
        messages = []
        while (got := peer.read_frame()).opcode != CLOSE:
            messages.append(got)
        peer.send_frame(CLOSE, got.payload)
        peer.read_to_end()
        return got.close_code, messages, time.monotonic() - begin


def test_t12_every_violation_closes_with_1002(shared, figures, full):
    """Each violation of RFC 6455 closes the connection with 1002, and nothing after it is delivered."""
    rows = violations()
    assert len(rows) >= 300
    results = {name: verdict(shared, data) for name, data in (rows if full else rows[::2])}
    wrong = {name: result[:2] for name, result in results.items() if result[:2] != (1002, [])}
    figures.at_most(0, len(wrong), f"wrong verdicts of {len(results)}", "", wrong)
    figures.at_most(CLOSE_TIMEOUT + 1, max(seconds for *_, seconds in results.values()), "longest time to the end", "s")
