"""The broker of a server that stands alone."""

import pytest

from wsserver.hub import memory
from wsserver.hub.broker import IDEMPOTENT_FOR
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep

KEEP = Keep(100, 60.0)


class Listener:
    """Writes down what is published."""

    def __init__(self):
        self.came = []

    def on_publication(self, channel, publication):
        """Take a publication."""
        self.came.append((channel, publication.data))


@pytest.fixture
def broker(clock):
    """Make one that somebody listens to."""
    broker = MemoryBroker(clock)
    broker.deliver_to(Listener())
    return broker


class IdempotencyTests:
    """The keys of publications."""

    def test_as_long_as_it_is_known(self, broker, clock):
        """A key counts for its time, and no longer, however many others are older."""
        for number in range(10):
            broker.publish("c", Publication(b"1"), None, f"key {number}")
        clock.advance(IDEMPOTENT_FOR - 1)
        broker.publish("c", Publication(b"2"), None, "key 7")
        assert len(broker.listener.came) == 10
        clock.advance(1)
        broker.publish("c", Publication(b"3"), None, "key 7")
        clock.advance(IDEMPOTENT_FOR - 1)
        broker.publish("c", Publication(b"4"), None, "key 7")
        assert broker.listener.came[10:] == [("c", b"3")]


class MemoryTests:
    """What the streams take."""

    def test_tiny(self, broker, monkeypatch):
        """Publications without a byte take memory too: so those of many channels are forgotten one day."""
        monkeypatch.setattr(memory, "MAX_BYTES", 100_000)
        places = []
        for number in range(2000):
            done = broker.publish(f"c{number}", Publication(b"", tags={"a": "b"}), KEEP, "")
            done.addCallback(places.append)
        pages = []
        for number in range(2000):
            broker.history(f"c{number}", KEEP, None, -1, reverse=False).addCallback(pages.append)
        assert 100 < sum(len(page.publications) for page in pages) < 1000
        assert pages[0].position.epoch != places[0].epoch
        assert (pages[-1].position, len(pages[-1].publications)) == (places[-1], 1)

    def test_counted(self, broker, clock):
        """What is pushed out, removed or too old is not counted any more."""
        for number in range(300):
            broker.publish("c", Publication(b"x" * number, tags={"a": "b" * number}), KEEP, "")
        broker.remove_history("c")
        assert broker._bytes == 0
        broker.publish("c", Publication(b"x"), KEEP, "")
        clock.advance(KEEP.ttl)
        broker.history("c", KEEP, None, -1, reverse=False)
        assert broker._bytes == 0
