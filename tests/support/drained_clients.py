"""
Many clients that exchange messages with a server until it closes their connections.

They run in a process of their own, because client and server together would need too many descriptors. Half of them
send messages to `/echo`, the others publish with the Centrifuge protocol. Each sends its next message when the answer
has arrived, and then after a pause.
"""

import json
import multiprocessing
import random
import select
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Self

from peers import CLOSE, TEXT, close_payload, frame, handshake_request

__all__ = ["DrainedClients", "Ended"]

ECHO, PUBLISH = "/echo", "/connection/websocket"


@dataclass
class Ended:
    """What the clients saw."""

    codes: Counter[object] = field(default_factory=Counter)
    """(Path, close code) -> number of connections; the code is None if the connection ended without a Close frame."""
    sent: Counter[str] = field(default_factory=Counter)
    """Path -> number of messages that were sent."""
    answered: Counter[str] = field(default_factory=Counter)
    """Path -> number of answers that were received."""
    times: list[float] = field(default_factory=list)
    """When each Close frame arrived, in seconds of `time.monotonic`."""


class _Client:
    def __init__(self, port: int, number: int) -> None:
        self.path = PUBLISH if number % 2 else ECHO
        self.socket = socket.socket()
        # A source address for each 250 clients, so that limits per address do not apply.
        self.socket.bind((f"127.2.{number // 250}.1", 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(handshake_request(self.path))
        self.is_open = self.is_closed = False
        self.buffer = b""
        self.number = 0

    def message(self) -> bytes:
        self.number += 1
        if self.path == ECHO:
            return frame(TEXT, f"message {self.number}".encode())
        command = {"publish": {"channel": "drain", "data": 1}} if self.number > 1 else {"connect": {}}
        return frame(TEXT, json.dumps({"id": self.number, **command}).encode())


class _Loop:
    def __init__(self, port: int, count: int, pause: float, orders: Connection) -> None:
        self._pause = pause
        self._orders = orders
        self._poller = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._ended = Ended()
        self._due: list[tuple[float, _Client]] = []
        self._poller.register(orders.fileno(), select.EPOLLIN)
        for number in range(count):
            client = _Client(port, number)
            client.socket.setblocking(False)
            self._clients[client.socket.fileno()] = client
            self._poller.register(client.socket.fileno(), select.EPOLLIN)
            if number % 50 == 49:
                self._serve(0)
        while not all(client.is_open for client in self._clients.values()):
            self._serve(0.1)
        orders.send(len(self._clients))

    def run(self) -> None:
        """Exchange messages until all connections have ended, or the order to end comes."""
        position = 0
        while self._clients:
            self._due.sort(key=lambda one: one[0])
            now = time.monotonic()
            while position < len(self._due) and self._due[position][0] <= now:
                self._send(self._due[position][1])
                position += 1
            del self._due[:position]
            position = 0
            wait = self._due[0][0] - time.monotonic() if self._due else 1.0
            if not self._serve(min(max(wait, 0.01), 1.0)):
                break
        for client in list(self._clients.values()):
            self._end(client)
        self._orders.send(self._ended)

    def _serve(self, seconds: float) -> bool:
        for number, _ in self._poller.poll(seconds):
            if number == self._orders.fileno():
                return False
            self._receive(self._clients[number])
        return True

    def _send(self, client: _Client) -> None:
        if client.is_closed or client.socket.fileno() < 0:
            return
        try:
            client.socket.sendall(client.message())
        except OSError:
            return
        self._ended.sent[client.path] += 1

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(client)
            return
        client.buffer += data
        if not client.is_open:
            head, end, rest = client.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert b" 101 " in head[:16], head
            client.is_open, client.buffer = True, rest
            self._later(client, random.random() * self._pause)
        while len(client.buffer) >= 2:
            size, start = client.buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(client.buffer[2:4], "big"), 4
            if len(client.buffer) < start + size:
                return
            opcode, payload = client.buffer[0] & 15, client.buffer[start : start + size]
            client.buffer = client.buffer[start + size :]
            self._take(client, opcode, payload)

    def _take(self, client: _Client, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            code = struct.unpack("!H", payload[:2])[0]
            client.is_closed = True
            self._ended.codes[client.path, code] += 1
            self._ended.times.append(time.monotonic())
            client.socket.setblocking(True)
            client.socket.sendall(frame(CLOSE, close_payload(code)))
            client.socket.setblocking(False)
        elif opcode == TEXT and (client.path == ECHO or b'"id":' in payload):
            self._ended.answered[client.path] += payload.count(b'"id":') if client.path == PUBLISH else 1
            self._later(client, self._pause)

    def _later(self, client: _Client, seconds: float) -> None:
        self._due.append((time.monotonic() + seconds, client))

    def _end(self, client: _Client) -> None:
        if not client.is_closed:
            self._ended.codes[client.path, None] += 1
        number = client.socket.fileno()
        self._poller.unregister(number)
        client.socket.close()
        del self._clients[number]


def _run(port: int, count: int, pause: float, orders: Connection) -> None:
    _Loop(port, count, pause, orders).run()


class DrainedClients:
    """
    The process of the clients. Returns once all are connected.

    Args:
        port: the server's port.
        count: the number of clients.
        pause: seconds from an answer to the client's next message.
    """

    def __init__(self, port: int, count: int, pause: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(port, count, pause, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._orders.poll(120), "the clients did not connect"
        assert self._orders.recv() == count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._process.kill()
        self._process.join()

    def ended(self, seconds: float = 30.0) -> Ended:
        """Wait until all connections have ended, and return what the clients saw."""
        assert self._orders.poll(seconds), "connections are still open"
        found: Ended = self._orders.recv()
        return found

    def stop(self) -> Ended:
        """Close the connections that are still open, and return what the clients saw."""
        self._orders.send(None)
        return self.ended()
