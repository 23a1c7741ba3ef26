"""T9: messages and frames that are larger than the limit."""

import pytest
from arena import KIB, withstand
from attackers import flood, masked, open_all
from peers import BINARY, CONTINUATION, frame
from threat_server import MESSAGE_LIMIT

HUGE = 2**63 - 1
MESSAGES = {
    "limit - 1": (frame(BINARY, bytes(MESSAGE_LIMIT - 1)), None),
    "limit": (frame(BINARY, bytes(MESSAGE_LIMIT)), None),
    "limit + 1": (frame(BINARY, bytes(MESSAGE_LIMIT + 1)), 1009),
    "limit + 1, declared": (frame(BINARY, b"x", declared=MESSAGE_LIMIT + 1, length_bytes=8), 1009),
    "2^63 - 1, declared": (frame(BINARY, b"x", declared=HUGE, length_bytes=8), 1009),
    "limit, in two fragments": (
        frame(BINARY, bytes(MESSAGE_LIMIT - 1), fin=False) + frame(CONTINUATION, b"x"),
        None,
    ),
    "limit + 1, in two fragments": (frame(BINARY, bytes(MESSAGE_LIMIT), fin=False) + frame(CONTINUATION, b"x"), 1009),
    "2^63 - 1, declared in a fragment": (
        frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", declared=HUGE, length_bytes=8),
        1009,
    ),
}


@pytest.mark.parametrize(("data", "code"), MESSAGES.values(), ids=MESSAGES)
def test_t09_the_limit_is_exact(shared, data, code):
    """A message of the limit is echoed; a larger one closes with 1009, as soon as its size is declared."""
    with shared.open() as peer:
        peer.send(data)
        if code is None:
            assert len(peer.read_message()) in (MESSAGE_LIMIT, MESSAGE_LIMIT - 1)
            assert peer.echoes()
        else:
            close = peer.read_close()
            assert close.close_code == code
            assert "--max-message-size" in close.close_reason
            peer.send_frame(0x8, close.payload)
            assert peer.read_to_end() == b""


@pytest.fixture(scope="module")
def shared(start_module_server):
    # The peers in the middle of a frame cannot send a Close frame.
    return start_module_server("--close-timeout", "500ms")


def oversized(port, seconds, connections):
    """Send messages that are declared to be larger than the limit, without an end, in rounds of new connections."""
    import time

    end, codes = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        for first in (
            masked(BINARY, bytes(MESSAGE_LIMIT), fin=False),
            frame(BINARY, b"", declared=HUGE, length_bytes=8),
        ):
            sockets = open_all(port, connections)
            endings = flood(sockets, masked(CONTINUATION, bytes(1000), fin=False) * 60, 1, first=first)
            codes |= set(endings.codes + endings.codes_of_open)
            for sock in sockets:
                sock.close()
    return codes


def test_t09_oversized_messages_cost_at_most_the_limit(server, figures, full):
    """
    A message without an end costs at most twice the message limit, and the client reads close code 1009.

    The table demands the limit and 64 KiB for the growth of the process. With the message limit of these tests, 64 KiB,
    both are the same for each connection.
    """
    measured = withstand(
        server, figures, oversized, 8 if full else 1.5, 60, connections=60, memory=2 * MESSAGE_LIMIT / KIB
    )
    assert measured.result == {1009}, measured.result
