"""The send queue of a slow subscriber: what is queued, and what is dropped."""

import random

import pytest

from wsserver.hub.send_queue import OVERHEAD, Batch, SendQueue, SlowConsumerPolicy


def batch(channel, text):
    """Make a batch of messages of one byte each, their frames in brackets."""
    frames = [b"<%s%s>" % (channel.encode(), letter.encode()) for letter in text]
    return Batch(channel, b"".join(frames), len(frames), len(text), (frames[-1], 1))


def limit(batches, space=0):
    """Return the limit at which this many batches of one frame of four bytes fit."""
    return batches * (4 + OVERHEAD) + space


class OrderTests:
    """The queue is not full."""

    @pytest.mark.parametrize("slow", [SlowConsumerPolicy.CLOSE, SlowConsumerPolicy.DROP_OLDEST])
    def test_frames_leave_in_the_order_in_which_they_were_added(self, slow):
        queue = SendQueue(10_000)
        for each in (batch("a", "12"), batch("b", "3"), batch("a", "4")):
            assert queue.add(each, slow) == (0, [])
        assert queue.take() == (b"<a1><a2><b3><a4>", 4, 4)
        assert queue.take() == (b"", 0, 0)

    def test_latest_keeps_the_newest_publication_of_each_channel(self):
        """The newest publication is queued where it was added, not in the place of the one that it replaces."""
        queue = SendQueue(10_000)
        queue.add(batch("a", "1"), SlowConsumerPolicy.LATEST)
        queue.add(batch("b", "2"), SlowConsumerPolicy.LATEST)
        assert queue.add(batch("a", "345"), SlowConsumerPolicy.LATEST) == (3, ["a"])
        assert queue.add(batch("a", "6"), SlowConsumerPolicy.LATEST) == (1, [])
        assert queue.take() == (b"<b2><a6>", 2, 2)

    def test_latest_keeps_the_newest_publication_of_a_batch(self):
        queue = SendQueue(10_000)
        assert queue.add(batch("a", "123"), SlowConsumerPolicy.LATEST) == (2, ["a"])
        assert queue.take() == (b"<a3>", 1, 1)

    def test_latest_drops_presence_events_instead_of_the_queued_publication(self):
        queue = SendQueue(10_000)
        queue.add(batch("a", "1"), SlowConsumerPolicy.LATEST)
        assert queue.add(Batch("a", b"(+)", 1, 3), SlowConsumerPolicy.LATEST) == (1, ["a"])
        assert queue.take() == (b"<a1>", 1, 1)


class FullTests:
    """More than the limit is added."""

    def test_close_drops_nothing_and_reports_a_full_queue(self):
        queue = SendQueue(limit(2))
        for text in "12":
            queue.add(batch("a", text), SlowConsumerPolicy.CLOSE)
        assert not queue.full
        assert queue.add(batch("a", "3"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.full

    def test_drop_oldest_drops_the_oldest_and_sends_the_notice_first(self):
        queue = SendQueue(limit(2, space=10))
        for text in "12":
            queue.add(batch("a", text), SlowConsumerPolicy.DROP_OLDEST)
        assert queue.add(batch("a", "3"), SlowConsumerPolicy.DROP_OLDEST) == (1, ["a"])
        queue.set_notice("a", b"(gap)", 5)
        assert queue.add(batch("a", "4"), SlowConsumerPolicy.DROP_OLDEST) == (1, [])
        assert not queue.full
        assert queue.take() == (b"(gap)<a3><a4>", 3, 7)

    def test_drop_oldest_drops_a_batch_that_is_larger_than_the_limit(self):
        queue = SendQueue(100)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST) == (1, ["a"])
        assert not queue.full
        assert queue.take() == (b"", 0, 0)

    def test_droppable_batches_make_room_for_those_that_must_not_be_dropped(self):
        queue = SendQueue(limit(2))
        queue.add(batch("k", "1"), SlowConsumerPolicy.CLOSE)
        queue.add(batch("a", "2"), SlowConsumerPolicy.DROP_OLDEST)
        assert queue.add(batch("k", "3"), SlowConsumerPolicy.CLOSE) == (1, ["a"])
        assert not queue.full
        queue.add(batch("k", "4"), SlowConsumerPolicy.CLOSE)
        assert queue.full

    def test_latest_drops_the_oldest_channels_if_there_are_too_many(self):
        queue = SendQueue(limit(3))
        for name in "abcde":
            queue.add(batch(name, "1"), SlowConsumerPolicy.LATEST)
        assert queue.take()[0] == b"<c1><d1><e1>"

    def test_a_gap_without_a_notice_ends_when_the_queue_is_taken(self):
        """Messages that are dropped after the queue was taken belong to a new gap."""
        queue = SendQueue(100)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST).channels == ["a"]
        assert queue.take() == (b"", 0, 0)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST).channels == ["a"]

    def test_ignores_a_notice_without_a_gap(self):
        queue = SendQueue(100)
        queue.set_notice("a", b"(gap)", 5)
        assert queue.take() == (b"", 0, 0)

    def test_drop_channel_drops_its_frames_and_notice_and_frees_their_space(self):
        queue = SendQueue(limit(3))
        for channel, text in (("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")):
            queue.add(batch(channel, text), SlowConsumerPolicy.DROP_OLDEST)
        queue.set_notice("a", b"(gap)", 5)
        queue.drop_channel("a")
        assert queue.add(batch("b", "5"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.add(batch("b", "6"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.take()[0] == b"<b2><b5><b6>"


class RandomTests:
    """Random batches, policies and limits."""

    @pytest.mark.parametrize("seed", range(40))
    def test_loses_nothing_without_a_notice(self, seed):
        """The frames of each channel leave in order, and after a notice if some before them are missing."""
        rng = random.Random(seed)
        policies = {name: rng.choice(list(SlowConsumerPolicy)) for name in "abc"}
        queue, added, seen = (
            SendQueue(rng.choice([300, 1_000, 3_000])),
            dict.fromkeys("abc", 0),
            dict.fromkeys("abc", 0),
        )
        dropped = sent = 0
        notified = set()
        for _ in range(300):
            if rng.random() < 0.1:
                frames, count, _ = queue.take()
                items = frames.decode().split(";")[:-1]
                assert len(items) == count
                for item in items:
                    if item.startswith("gap"):
                        notified.add(item[3:])
                        continue
                    name, number = item[0], int(item[1:])
                    assert number == seen[name] + 1 or (number > seen[name] and name in notified)
                    seen[name] = number
                    notified.discard(name)
                    sent += 1
                continue
            name = rng.choice("abc")
            frames = [b"%s%d;" % (name.encode(), added[name] + k + 1) for k in range(rng.randint(1, 4))]
            added[name] += len(frames)
            loss = queue.add(Batch(name, b"".join(frames), len(frames), 0, (frames[-1], 0)), policies[name])
            if queue.full:
                assert SlowConsumerPolicy.CLOSE in policies.values()
                return
            dropped += loss.messages
            for channel in loss.channels:
                assert policies[channel] is not SlowConsumerPolicy.CLOSE
                queue.set_notice(channel, b"gap%s;" % channel.encode(), 0)
        rest = queue.take()[0]
        assert sent + dropped + rest.count(b";") - rest.count(b"gap") == sum(added.values())
