"""T10: small compressed messages that become very large (zip bombs)."""

import contextlib
import random
import time
import zlib

from arena import withstand
from attackers import flood, masked, open_all, open_websocket
from peers import BINARY, CLOSE, CONTINUATION
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


def closed(port, data, rounds):
    """Send messages and a close frame, each time on a new connection, and read until the server closes it."""
    for _ in range(rounds):
        sock = open_websocket(port, "/echo", OFFER)
        with sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(data + masked(CLOSE, b"\x03\xe8"))
            while sock.recv(65536):
                pass


def test_t10_a_bomb_costs_little_more_than_plain_bytes(start_server, figures, full):
    """A byte of a bomb takes at most 20 times as much CPU time as a byte of plain messages of the same length."""
    server, rounds, count = start_server("--compression", "on"), 800 if full else 200, 50
    plain = masked(BINARY, random.Random(1).randbytes(len(BOMB)))
    closed(server.port, ONE + plain, 5)
    times = []
    for data in (b"", plain * count, ONE):
        begin = server.cpu()
        closed(server.port, data, rounds)
        times.append(server.cpu() - begin)
    nothing, ordinary, bomb = times
    ratio = (bomb - nothing) * count / (ordinary - nothing)
    figures.at_most(20, ratio, "CPU time of a byte of a bomb, in that of a plain byte")


def test_t10_inflating_is_paid_for(start_server, figures, full):
    """
    Messages that inflate to the limit do not delay others, however small they are on the wire.

    One byte of such a message stands for 1,000 bytes, so a limit of CPU time for each received byte would forbid
    compression. The server limits the work of a turn instead: what counts is how long the others wait.
    """
    server = start_server("--compression", "on", "--catch-all", "on")
    data = masked(BINARY, compressed(bytes(MESSAGE_LIMIT)), rsv=4) * 50
    withstand(server, figures, within_limit, 6 if full else 1.5, 20, data)
