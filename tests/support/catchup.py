"""Raw subscribers that recover from a position, and numbers to publish to them."""

import json
import re

__all__ = ["SIZE", "RawSubscriber", "numbers", "publish"]

SIZE = 8000


class RawSubscriber:
    """A raw subscriber, over WebSocket or SSE, that recovers from a position."""

    def __init__(self, server, way, query, last_event_id, *, reading=False):
        self.client = server.connect()
        self.transport, self._way, self._clock = self.client.transport, way, server.clock
        if way == "ws":
            assert b" 101 " in self.client.open(f"/ws?{query}&last_event_id={last_event_id}")
            self.transport.reading = reading
        else:
            self.transport.reading = reading
            target = f"/sse?{query}&last_event_id={last_event_id}"
            self.client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def texts(self):
        """Return what has been received: the number of each publication, and `gap` or `rewound` for a notice."""
        if self._way == "ws":
            found = self.client.messages()
        else:
            data, self.transport.written[:] = bytes(self.transport.written), b""
            found = re.findall(r"^data: (.*)$", data.decode(), re.MULTILINE)
        return [json.loads(text)["event"] if text.startswith("{") else text.partition(" ")[0] for text in found]

    def read_all(self, turns=500):
        """Read continuously, for up to `turns` reactor turns; return everything received."""
        found = []
        for _ in range(turns):
            self.transport.read_again()
            found += self.texts()
            self._clock.advance(0)
        return found


def publish(server, count, *, channel="h", start=0, plain=False):
    """Publish numbers, each followed by padding."""
    for number in range(start, start + count):
        data = f"{number} {'x' * SIZE}"
        server.service.hub.publish(channel, data, skip_history=plain)
    server.clock.advance(0)


def numbers(*ranges):
    """Return the numbers of all ranges, as strings."""
    return [str(number) for numbers in ranges for number in numbers]
