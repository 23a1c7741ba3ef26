"""T20: the closing handshake."""

import contextlib
import socket
import time

import pytest
from peers import CLOSE, TEXT, close_payload

pytestmark = pytest.mark.waits

CLOSE_TIMEOUT = 2
CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999]


@pytest.fixture(scope="module")
def shared(start_module_server):
    return start_module_server("--catch-all", "on", "--log-max-rate", "0", "--close-timeout", f"{CLOSE_TIMEOUT}s")


def test_t20_every_code_comes_back(shared, figures):
    """The server answers a Close frame with the same code and reason."""
    wrong = []
    for code in CODES:
        with shared.open() as peer:
            peer.send_frame(CLOSE, close_payload(code, "a reason"))
            close = peer.read_close()
            if (close.close_code, close.close_reason) != (code, "a reason") or peer.read_to_end():
                wrong.append((code, close))
    figures.at_most(0, len(wrong), f"wrong answers to {len(CODES)} codes", "", wrong)


def test_t20_normal_closes_are_never_reset(shared, figures, full):
    """After a closing handshake the client sees the end of the connection, not a reset."""
    resets, count = 0, 10_000 if full else 500
    for number in range(count):
        with shared.open() as peer:
            peer.send_frame(TEXT, b"x")
            peer.send_frame(CLOSE, close_payload(CODES[number % len(CODES)]))
            try:
                peer.read_to_end()
            except ConnectionResetError:
                resets += 1
    figures.at_most(0, resets, f"resets in {count:,} closes")


def test_t20_a_silent_peer_is_dropped_after_the_close_timeout(shared, figures):
    """A peer that does not answer a Close frame is dropped after `--close-timeout`."""
    with shared.open("/ws") as peer:
        peer.send_frame(TEXT, b"bye")
        while peer.read_frame().opcode != CLOSE:
            pass
        begin = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            peer.read_to_end()
        figures.at_most(1, abs(time.monotonic() - begin - CLOSE_TIMEOUT), "difference from the timeout", "s")


def test_t20_a_late_peer_closes_cleanly(shared):
    """A peer that answers a Close frame after 900 ms closes cleanly."""
    with shared.open("/ws") as peer:
        peer.send_frame(TEXT, b"bye")
        while (close := peer.read_frame()).opcode != CLOSE:
            pass
        time.sleep(0.9)
        peer.send_frame(CLOSE, close.payload)
        assert peer.read_to_end() == b""
        assert peer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    shared.wait_for(lambda: "code=1000 by=server clean=True" in shared.log(), "a clean close in the log")
