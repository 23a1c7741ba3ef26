"""Check an installed wheel: the fast path is compiled, and the server echoes a message and serves its page."""

import base64
import os
import re
import socket
import subprocess
import sys

from wsserver.wire import frames

KEY = base64.b64encode(os.urandom(16)).decode()
HANDSHAKE = (
    "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()
HELLO, MASKED_HELLO = b"\x81\x05hello", b"\x81\x85\0\0\0\0hello"
PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def exchange(port: int, data: bytes, end: bytes) -> bytes:
    """Send bytes, and receive until the answer contains its expected end."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(data)
        received = b""
        while end not in received and (part := sock.recv(65536)):
            received += part
    return received


def main() -> None:
    """Run the checks, and exit with an error if one fails."""
    if not frames.COMPILED and os.environ.get("WSSERVER_BUILD_EXTENSION") != "0":
        sys.exit("the fast path is not compiled")
    command = [os.path.join(os.path.dirname(sys.executable), "wsserver"), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stdout or ())
            port = int(next(found[1] for line in lines if (found := re.search(r"http://127.0.0.1:(\d+)/", line))))
            echo = exchange(port, HANDSHAKE + MASKED_HELLO, HELLO)
            page = exchange(port, PAGE, b"</html>")
        finally:
            server.terminate()
    if HELLO not in echo or b"</html>" not in page:
        sys.exit(f"unexpected answers: {echo!r} {page!r}")
    print("the fast path is", "compiled" if frames.COMPILED else "in Python", "and the server works")


main()
