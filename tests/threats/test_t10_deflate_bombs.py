"""T10: small compressed messages that become very large (zip bombs)."""

import time
import zlib

from arena import withstand
from attackers import flood, masked, open_all
from peers import BINARY, CONTINUATION
from threat_server import MESSAGE_LIMIT

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
RATIO = 1000


def compressed(data, compressor=None):
    """Compress a message as RFC 7692 section 7.2.1 demands."""
    deflate = compressor or zlib.compressobj(9, wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


BOMB = compressed(bytes(RATIO * MESSAGE_LIMIT // 10))
ONE = masked(BINARY, BOMB, rsv=4)


def fragmented():
    """Return a bomb in 1,000 fragments."""
    size = max(1, len(BOMB) // 1000)
    pieces = [BOMB[at : at + size] for at in range(0, len(BOMB), size)]
    frames = [masked(BINARY, pieces[0], fin=False, rsv=4)]
    return b"".join([*frames, *(masked(CONTINUATION, piece, fin=piece is pieces[-1]) for piece in pieces[1:])])


def bombs(port, seconds, connections):
    """Send bombs, each on a new connection, and read the close codes."""
    end, codes = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        for data in (ONE, fragmented()):
            sockets = open_all(port, connections, "/echo", OFFER)
            endings = flood(sockets, data, 0.5)
            codes |= set(endings.codes + endings.codes_of_open)
            for sock in sockets:
                sock.close()
    return codes


def within_limit(port, seconds, connections, data):
    """Send messages of the limit, compressed or not, and read nothing of their content."""
    return flood(open_all(port, connections, "/ws", OFFER), data, seconds)


def test_t10_bombs_are_defused(start_server, figures, full):
    """Decompression stops at the message limit, with 1009, and holds at most the limit and 128 KiB."""
    server = start_server("--compression", "on")
    measured = withstand(server, figures, bombs, 8 if full else 1.5, 20, connections=20)
    assert measured.result == {1009}, measured.result
    with server.open("/echo", OFFER) as peer:
        first = zlib.compressobj(9, wbits=-15)
        peer.send(masked(BINARY, compressed(b"ordinary", first), rsv=4))
        assert peer.read_frame().payload


def test_t10_inflating_is_paid_for(start_server, figures, full):
    """
    Messages that inflate to the limit do not delay others, however small they are on the wire.

    The table demands at most 20 times the CPU time of plain bytes. One byte of such a message stands for 1,000 bytes,
    so a limit of CPU time for each received byte would forbid compression. The server limits the work of a turn
    instead: what counts is how long the others wait.
    """
    server = start_server("--compression", "on", "--catch-all", "on")
    data = masked(BINARY, compressed(bytes(MESSAGE_LIMIT)), rsv=4) * 50
    withstand(server, figures, within_limit, 6 if full else 1.5, 20, data)
