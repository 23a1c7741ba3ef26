"""The ticker endpoint, on a simulated clock."""

import pytest

from wsserver.config.settings import Settings
from wsserver.testing import Frame, MemoryServer


class TickerTests:
    """`/ticker`."""

    def tick(self, query=""):
        server = MemoryServer(Settings(ping_interval=0))
        client = server.connect()
        head = client.open("/ticker" + query)
        return server, client, head

    def test_sends_numbered_ticks_at_the_interval_and_closes_after_the_last(self):
        """The client sends no message to start the ticks."""
        server, client, _ = self.tick("?every=2s&count=3&text=a%20b")
        assert client.messages() == []
        server.clock.advance(1.9)
        assert client.messages() == []
        server.clock.advance(0.1)
        assert client.messages() == ["a b 1"]
        server.clock.pump([2, 2])
        assert client.frames() == [Frame(1, b"a b 2"), Frame(1, b"a b 3"), Frame(8, b"\x03\xe83 of 3 sent")]

    def test_sends_ticks_without_a_count_until_the_client_closes(self):
        """Messages of the client are ignored."""
        server, client, _ = self.tick()
        for n in range(1, 100):
            client.send_text("hello")
            server.clock.advance(1)
            assert client.messages() == [f"tick {n}"]
        client.send_close(1000)
        assert client.transport.lost
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []

    def test_keeps_its_schedule_after_a_late_tick(self):
        """After a long stall, the server sends one tick, not all that were due."""
        server, client, _ = self.tick()
        server.clock.advance(1.5)
        assert client.messages() == ["tick 1"]
        server.clock.advance(0.5)
        assert client.messages() == ["tick 2"]
        server.clock.advance(60)
        assert client.messages() == ["tick 3"]
        server.clock.advance(0.9)
        assert client.messages() == []
        server.clock.advance(0.1)
        assert client.messages() == ["tick 4"]

    def test_makes_no_ticks_while_the_client_does_not_read(self):
        """When the client reads again, the numbers continue without a gap."""
        server, client, _ = self.tick("?every=10ms&text=" + "x" * 10000)
        client.transport.reading = False
        for _ in range(1000):
            server.clock.advance(0.01)
        assert len(client.transport.unread) < 100_000
        client.transport.read_again()
        server.clock.advance(0.01)
        numbers = [int(message.split()[1]) for message in client.messages()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert 7 <= len(numbers) <= 9

    @pytest.mark.parametrize(
        ("query", "word"),
        [
            ("?every=0s", "every"),
            ("?every=9ms", "every"),
            ("?every=2h", "every"),
            ("?every=soon", "every"),
            ("?count=0", "count"),
            ("?count=1000001", "count"),
            ("?count=-1", "count"),
            ("?count=", "count"),
            ("?count=%D9%A3", "count"),
            ("?interval=1s", "interval"),
            ("?every=1s&every=2s", "every"),
            ("?every=eyJhbGciOiJIUzI1NiJ9.e30.x", "every='[secret]': expected"),
            ("?count=" + "9" * 5000, f"count='{'9' * 77}...': expected"),
        ],
    )
    def test_refuses_an_invalid_parameter_with_400_and_names_it(self, query, word):
        server, client, head = self.tick(query)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert word.encode() in client.transport.written
        server.clock.advance(60)
        assert server.clock.getDelayedCalls() == []
