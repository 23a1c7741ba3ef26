"""
A small WebSocket client that runs conformance cases, with a flaw on request: python broken.py SERVER FLAW [CASE...].

Without a flaw (`none`), it follows RFC 6455. It does not offer compression. Without the names of cases, it runs all.
"""

import base64
import os
import re
import socket
import sys
from urllib.parse import urlsplit

FLAWS = (
    "none",
    "accepts-invalid-utf8",
    "ignores-pings",
    "echoes-as-binary",
    "sends-without-mask",
    "ignores-close",
    "uses-one-mask",
    "accepts-masked-frames",
    "accepts-reserved-bits",
    "loses-fragments",
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = base64.b64encode(bytes(16)).decode()
UNSENDABLE = {1004, 1005, 1006, 1015}


class FailedError(Exception):
    """The connection fails with a close code."""


class Client:
    """One connection."""

    def __init__(self, url, flaw):
        self.flaw = flaw
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.message = None
        self.received = None
        target = f"{address.path}?{address.query}"
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if not re.match(rb"HTTP/1.1 101 ", head):
            raise ConnectionError(head.decode())

    def read(self):
        """Read more bytes."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self.buffer += data

    def take(self, size):
        """Return the next bytes."""
        while len(self.buffer) < size:
            self.read()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def send(self, opcode, payload):
        """Send a frame."""
        mask = b"" if self.flaw == "sends-without-mask" else b"mask" if self.flaw == "uses-one-mask" else os.urandom(4)
        size, bit = len(payload), 0x80 if mask else 0
        if size < 126:
            length = bytes([bit | size])
        elif size < 65536:
            length = bytes([bit | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([bit | 127]) + size.to_bytes(8, "big")
        if mask:
            pad = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + payload)

    def run(self):
        """Echo until the connection ends."""
        try:
            while self.step():
                pass
        except FailedError as error:
            self.send(CLOSE, error.args[0].to_bytes(2, "big"))
        except OSError:
            pass
        self.socket.close()

    def step(self):
        """Process a frame; return whether the connection goes on."""
        first, second = self.take(2)
        opcode, size = first & 15, second & 127
        if (first & 0x70 and self.flaw != "accepts-reserved-bits") or opcode not in (0, 1, 2, 8, 9, 10):
            raise FailedError(1002)
        if opcode >= CLOSE and (size > 125 or not first & 0x80):
            raise FailedError(1002)
        if size >= 126:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        if size > 16 * 1024**2:
            raise FailedError(1009)
        if second & 0x80:
            if self.flaw != "accepts-masked-frames":
                raise FailedError(1002)
            self.take(4)
        payload = self.take(size)
        if opcode == CLOSE:
            return self.close(payload)
        if opcode == PING and self.flaw != "ignores-pings":
            self.send(PONG, payload)
        if opcode < CLOSE:
            self.receive(opcode, payload, is_last=bool(first & 0x80))
        return True

    def receive(self, opcode, payload, *, is_last):
        """Append a fragment; echo the message after the last one."""
        if (opcode == CONTINUATION) == (self.message is None):
            raise FailedError(1002)
        if self.message is None:
            self.opcode, self.message = opcode, b""
        elif self.flaw == "loses-fragments" and not is_last:
            return
        self.message += payload
        if not is_last:
            return
        message, self.message = self.message, None
        if self.opcode == TEXT and self.flaw != "accepts-invalid-utf8":
            try:
                message.decode("utf-8")
            except UnicodeDecodeError:
                raise FailedError(1007) from None
        self.send(BINARY if self.flaw == "echoes-as-binary" else self.opcode, message)

    def close(self, payload):
        """Answer a Close frame."""
        if self.flaw == "ignores-close":
            return True
        code = int.from_bytes(payload[:2], "big") if payload else 1000
        if len(payload) == 1 or code in UNSENDABLE or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
            raise FailedError(1002)
        try:
            payload[2:].decode("utf-8")
        except UnicodeDecodeError:
            raise FailedError(1007) from None
        self.send(CLOSE, payload[:2])
        while self.socket.recv(65536):
            pass
        return False


def count_cases(server):
    """Return the number of cases."""
    counter = Client(f"{server}/case/count?", "none")
    size = counter.take(2)[1]
    return int(counter.take(size))


def main():
    """Run the cases one after the other."""
    server, flaw, *cases = sys.argv[1:]
    assert flaw in FLAWS
    for case in cases or range(1, count_cases(server) + 1):
        try:
            Client(f"{server}/case/{case}?agent={flaw}", flaw).run()
        except OSError as error:
            print(case, error)


main()
