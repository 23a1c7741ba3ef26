"""A backend for hooks: a real HTTP server in threads, with valid or invalid responses."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Backend"]


class Backend:
    """
    A server that answers POST requests.

    Args:
        port: the port to listen on; 0 for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        """Path, headers (names in lower case) and body of each request."""
        self.peers: set[tuple[str, int]] = set()
        """Addresses that requests came from: one for each connection."""
        self.max_concurrent = 0
        """Maximum number of requests handled at the same time."""
        self.answer: Callable[[str, Any], Any] = lambda path, body: {"result": {}}
        """Returns a value to send as JSON, the bytes of a whole response, or None to close the connection."""
        self.before: tuple[bytes, threading.Event] | None = None
        """Bytes to send before the response, and the event to wait for after them."""
        self._running = 0
        self._lock = threading.Lock()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                backend._serve(self)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *arguments: object) -> None:
                pass  # The client has closed the connection.

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/") -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def _count(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
            self.max_concurrent = max(self.max_concurrent, self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        with self._count():
            body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
            self.peers.add(handler.client_address)
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self.requests.append((handler.path, headers, body))
            if self.before is not None:
                handler.wfile.write(self.before[0])
                self.before[1].wait(10)
            answer = self.answer(handler.path, body)
        if isinstance(answer, bytes):
            handler.wfile.write(answer)
            handler.close_connection = True
        elif answer is None:
            handler.close_connection = True
        else:
            data = json.dumps(answer).encode()
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
