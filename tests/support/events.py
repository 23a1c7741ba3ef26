"""A client of an event stream on a connection to a test server."""

__all__ = ["Events", "assert_ends_with_retry"]


class Events:
    """An event stream, parsed as a browser parses it."""

    def __init__(self, peer, target, *headers):
        self._peer = peer
        peer.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode())
        while b"\r\n\r\n" not in peer.buffer:
            assert peer._receive()
        head, _, peer.buffer = peer.buffer.partition(b"\r\n\r\n")
        self.head = head.decode()
        self._rest = b""
        self.last_event_id = ""
        assert "200 OK" in self.head, self.head
        comment, retry = self._lines()
        assert 1000 <= int(retry.removeprefix(b"retry: ")) <= 3000
        assert comment == b": listening"

    def _lines(self):
        while b"\n\n" not in self._rest:
            while b"\r\n" not in self._peer.buffer:
                assert self._peer._receive(), "the stream ended"
            size, _, self._peer.buffer = self._peer.buffer.partition(b"\r\n")
            self._rest += self._peer._read_bytes(int(size, 16) + 2)[:-2]
        event, _, self._rest = self._rest.partition(b"\n\n")
        return event.split(b"\n")

    def read(self):
        """Return the name and the data of the next event; events that only set an ID are skipped, as in a browser."""
        name, data = "message", []
        for line in self._lines():
            field, _, value = line.partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data.append(value)
            elif field == b"id":
                self.last_event_id = value.decode()
        return (name, b"\n".join(data)) if data else self.read()


def assert_ends_with_retry(peer, target="/sse?channel=foo"):
    """Connect as an EventSource does; the stream must set a retry time and end."""
    response = peer.request(target, "Accept: text/event-stream")
    assert response.status == 200
    assert response.header("content-type").startswith("text/event-stream")
    comment, retry, *rest = response.text.split("\n")
    assert 1000 <= int(retry.removeprefix("retry: ")) <= 3000
    assert comment.startswith(": 503 ")
    assert rest == ["", ""]
