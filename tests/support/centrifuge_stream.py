"""A Centrifuge client in memory whose connection is an endless HTTP response."""

import json
from urllib.parse import quote

__all__ = ["Stream", "send_request"]


def send_request(server, method, path, body=b"", headers=(), version="1.1"):
    """Send an HTTP request on a connection of its own; return the client."""
    client = server.connect()
    lines = [f"{method} {path} HTTP/{version}", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    client.send("\r\n".join(lines).encode() + body)
    server.clock.advance(0)
    return client


class Stream:
    """
    A Centrifuge client in memory.

    Args:
        server: the server.
        path: the path of the stream. The first message is the parameter `cf_connect` if the path is of event streams.
        connect: the content of the command `connect`; None to send `first` as it is.
        first: the first message, if it is not one command.
        headers: lines of the request's head.
        version: the version of HTTP.
    """

    def __init__(self, server, path="/connection/http_stream", connect=(), first="", headers=(), version="1.1"):
        self.server, self.headers = server, headers
        self.is_events, self.is_one_way = path.endswith("sse"), "uni_" in path
        if connect is not None:
            connect = dict(connect)
            first = json.dumps(connect if self.is_one_way else {"id": 1, "connect": connect})
        self.method, self.target, self.body = "POST", path, first.encode()
        if self.is_events:
            self.method, self.target, self.body = "GET", f"{path}?cf_connect={quote(first)}", b""
        self.client = send_request(server, self.method, self.target, self.body, headers, version)
        self.head = self.client.response().decode()
        self.ended = False
        """Whether the last chunk has been received."""
        self._is_chunked = "Transfer-Encoding: chunked" in self.head
        self._id = 1
        self.session = self.node = ""

    def turn(self):
        """Run three turns of the reactor."""
        for _ in range(3):
            self.server.clock.advance(0)

    def read(self):
        """Return the bytes of the body since the last call."""
        self.turn()
        written = self.client.transport.written
        data = bytes(written)
        written.clear()
        if not self._is_chunked:
            return data
        body = b""
        while data:
            size, _, data = data.partition(b"\r\n")
            length = int(size, 16)
            assert data[length : length + 2] == b"\r\n"
            body, data = body + data[:length], data[length + 2 :]
            self.ended = self.ended or not length
        return body

    def receive(self):
        """Return the replies and pushes since the last call."""
        body = self.read()
        if not self.is_events:
            assert body.endswith(b"\n") or not body
            return [json.loads(line) for line in body.split(b"\n") if line]
        body = body.removeprefix(b"\r\n")
        # In an event stream, CR ends a line, too.
        assert b"\r" not in body
        events = [event for event in body.split(b"\n\n") if event]
        return [json.loads(event.removeprefix(b"data: ")) for event in events]

    def connected(self):
        """Expect the reply to `connect`, and return the client itself."""
        found = self.receive()[0]["connect"]
        assert found["client"]
        self.session, self.node = found.get("session", ""), found.get("node", "")
        return self

    def send(self, *commands, headers=None, **fields):
        """Send commands in a request of their own; return the status of the response."""
        request = {"session": self.session, "node": self.node, "data": "\n".join(map(json.dumps, commands)), **fields}
        headers = self.headers if headers is None else headers
        client = send_request(self.server, "POST", "/emulation", json.dumps(request).encode(), headers)
        return int(client.response().split()[1])

    def request(self, method, /, **fields):
        """Send a command and return its reply; drop all other messages."""
        self._id += 1
        assert self.send({"id": self._id, method: fields}) == 204
        [reply] = [one for one in self.receive() if one.get("id") == self._id]
        return reply.get(method, reply.get("error"))
