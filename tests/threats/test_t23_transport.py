"""
T23: the transport writes to the socket itself, and must keep every byte in its place.

Here, the kernel decides how much it takes. tests/integration/wire/test_transport_machine.py injects what it can answer
besides: partial writes, EAGAIN, ENOBUFS, EPIPE and resets, in random sequences of operations.
"""

import contextlib
import random
import select
import socket
import struct
import time

from attackers import Attacker, open_websocket
from peers import BINARY, frame


class Echoed:
    """A connection that sends random messages, and checks each byte that comes back."""

    def __init__(self, port, rng):
        self.rng = rng
        self.socket = open_websocket(port, receive_buffer=rng.choice((2048, 8192, 65536)))
        self.socket.setblocking(False)
        self.out, self.expected, self.operations = b"", bytearray(), 0

    def send(self):
        if not self.out and len(self.expected) < 300_000:
            payload = self.rng.randbytes(self.rng.choice((0, 1, 125, 126, 5000, 60_000)))
            self.out = frame(BINARY, payload)
            size = len(payload)
            head = bytes([0x82, size]) if size < 126 else bytes([0x82, 126]) + struct.pack("!H", size)
            self.expected += head + payload
        with contextlib.suppress(BlockingIOError):
            self.out = self.out[self.socket.send(self.out[: self.rng.choice((1, 7, 1000, 70_000))]) :]

    def receive(self):
        try:
            data = self.socket.recv(self.rng.choice((1, 100, 4096, 65536)))
        except BlockingIOError:
            return
        assert data, "the connection ended"
        assert self.expected.startswith(data), "the bytes are not those that were sent"
        del self.expected[: len(data)]

    def turn(self):
        """Send or receive a piece of random size."""
        self.operations += 1
        (self.send if self.rng.random() < 0.5 else self.receive)()

    def finish(self):
        """Send the rest of a message that was begun, and receive everything."""
        end = time.monotonic() + 60
        while (self.out or self.expected) and time.monotonic() < end:
            if self.out:
                with contextlib.suppress(BlockingIOError):
                    self.out = self.out[self.socket.send(self.out) :]
            select.select([self.socket], [], [], 0.01)
            self.receive()
        assert not self.out
        assert not self.expected, f"{len(self.expected)} bytes are missing"


def exercise(port, operations, seed):
    """Send and receive random pieces on many connections, and reset some; return the number of operations."""
    rng = random.Random(seed)
    connections, done = [Echoed(port, rng) for _ in range(50)], 0
    while done < operations:
        one = rng.choice(connections)
        for _ in range(rng.randrange(1, 200)):
            one.turn()
            done += 1
        if rng.random() < 0.02:
            one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.socket.close()
            connections[connections.index(one)] = Echoed(port, rng)
    for one in connections:
        one.finish()
    return done


def test_t23_every_byte_arrives_in_its_place(start_server, figures, full):
    """Through a million random sends, receives and resets, with full buffers, no byte is lost, doubled or moved."""
    server = start_server("--log-max-rate", "0")
    before = server.descriptors()
    with Attacker(exercise, server.port, 1_000_000 if full else 100_000, 23) as attacker:
        done = attacker.result(300)
    figures.at_least(1_000_000 if full else 100_000, done, "random operations")
    server.wait_for(lambda: server.descriptors() <= before, "all connections released")
    opened, closed = server.log().count("connection opened"), server.log().count("connection closed")
    figures.at_most(0, abs(opened - closed), "connections not ended exactly once")
