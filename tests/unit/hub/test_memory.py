"""The memory broker: idempotency keys, and the size of its streams."""

import pytest

from wsserver.hub import memory
from wsserver.hub.broker import IDEMPOTENT_FOR
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep

KEEP = Keep(100, 60.0)


class Listener:
    """Records what is published."""

    def __init__(self):
        self.received = []

    def on_publication(self, channel, publication):
        """Record a publication."""
        self.received.append((channel, publication.data))


@pytest.fixture
def broker(clock):
    """Make a memory broker with a listener."""
    broker = MemoryBroker(clock)
    broker.deliver_to(Listener())
    return broker


class IdempotencyTests:
    """Idempotency keys of publications."""

    def test_a_repeated_key_is_ignored_until_it_expires(self, broker, clock):
        """A publication after the expiry starts a new lifetime of the key."""
        for number in range(10):
            broker.publish("c", Publication(b"1"), None, f"key {number}")
        clock.advance(IDEMPOTENT_FOR - 1)
        broker.publish("c", Publication(b"2"), None, "key 7")
        assert len(broker.listener.received) == 10
        clock.advance(1)
        broker.publish("c", Publication(b"3"), None, "key 7")
        clock.advance(IDEMPOTENT_FOR - 1)
        broker.publish("c", Publication(b"4"), None, "key 7")
        assert broker.listener.received[10:] == [("c", b"3")]

    def test_forgets_the_oldest_key_beyond_max_keys(self, broker, monkeypatch):
        monkeypatch.setattr(memory, "MAX_KEYS", 3)
        for key in ("a", "b", "c", "d"):
            broker.publish("c", Publication(key.encode()), None, key)
        assert [key for _, key in broker._idempotency_keys] == ["b", "c", "d"]
        broker.publish("c", Publication(b"again"), None, "d")
        broker.publish("c", Publication(b"again"), None, "a")
        assert [data for _, data in broker.listener.received] == [b"a", b"b", b"c", b"d", b"again"]

    def test_a_key_that_is_used_again_after_its_expiry_is_the_youngest(self, broker, clock, monkeypatch):
        """Older keys are forgotten before it."""
        for key in "abcdef":
            broker.publish("c", Publication(b"1"), None, key)
        clock.advance(IDEMPOTENT_FOR)
        broker.publish("c", Publication(b"2"), None, "c")
        monkeypatch.setattr(memory, "MAX_KEYS", 4)
        broker.publish("c", Publication(b"3"), None, "g")
        broker.publish("c", Publication(b"4"), None, "c")
        assert broker.listener.received[6:] == [("c", b"2"), ("c", b"3")]


class MemoryTests:
    """The size of all streams."""

    def test_streams_of_empty_publications_are_deleted_beyond_the_limit(self, broker, monkeypatch):
        """A publication without data uses memory, too."""
        monkeypatch.setattr(memory, "MAX_BYTES", 100_000)
        publication = Publication(b"", tags={"a": "b"})
        positions = [broker.publish(f"c{number}", publication, KEEP, "") for number in range(2000)]
        pages = [broker.history(f"c{number}", KEEP, None, -1, reverse=False) for number in range(2000)]
        assert 100 < sum(len(page.publications) for page in pages) < 1000
        assert pages[0].position.epoch != positions[0].epoch
        assert (pages[-1].position, len(pages[-1].publications)) == (positions[-1], 1)

    def test_deletes_the_stream_with_the_oldest_publication_beyond_max_streams(self, broker, monkeypatch):
        monkeypatch.setattr(memory, "MAX_STREAMS", 2)
        for channel in ("a", "b", "a", "c"):
            broker.publish(channel, Publication(channel.encode()), KEEP, "")
        pages = [broker.history(channel, KEEP, None, -1, reverse=False) for channel in ("a", "b", "c")]
        assert [[one.data for one in page.publications] for page in pages] == [[b"a", b"a"], [], [b"c"]]
        assert broker.metrics() == {"history_evictions_total": 1.0}

    def test_trimmed_removed_and_expired_publications_no_longer_count(self, broker, clock):
        for number in range(300):
            broker.publish("c", Publication(b"x" * number, tags={"a": "b" * number}), KEEP, "")
        broker.remove_history("c")
        assert broker._bytes == 0
        broker.publish("c", Publication(b"x"), KEEP, "")
        clock.advance(KEEP.ttl)
        broker.history("c", KEEP, None, -1, reverse=False)
        assert broker._bytes == 0


class ExpiryTests:
    """Expired publications are freed even if nobody uses their channel again."""

    def test_frees_the_publications_of_2500_channels_within_3_checks_after_their_expiry(self, broker, clock):
        broker.start()
        for number in range(2500):
            broker.publish(f"c{number}", Publication(b"x" * 100), Keep(10, 60.0), "")
        size = broker._bytes
        assert size > 250_000
        clock.advance(59)
        assert broker._bytes == size
        for _ in range(6):
            clock.advance(memory.CHECK_INTERVAL)
        assert broker._bytes == 0
        assert clock.calls == []

    def test_keeps_publications_that_have_not_expired_and_the_numbering(self, broker, clock):
        broker.start()
        broker.publish("short", Publication(b"a"), Keep(10, 5.0), "")
        broker.publish("long", Publication(b"b"), Keep(10, 500.0), "")
        for _ in range(10):
            clock.advance(1)
        assert len(broker.history("long", KEEP, None, -1, reverse=False).publications) == 1
        assert broker.publish("short", Publication(b"c"), Keep(10, 5.0), "").offset == 2

    def test_leaves_no_timer_behind_when_it_stops(self, broker, clock):
        broker.start()
        broker.publish("c", Publication(b"a"), KEEP, "")
        assert len(clock.calls) == 1
        broker.stop()
        assert clock.calls == []
