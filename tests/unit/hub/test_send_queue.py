"""What waits for a slow reader, and what is given up for it."""

import random

import pytest

from wsserver.hub.send_queue import OVERHEAD, Batch, SendQueue, SlowConsumerPolicy


def batch(channel, text):
    """Make a batch of messages of one byte each, their frames in brackets."""
    frames = [b"<%s%s>" % (channel.encode(), letter.encode()) for letter in text]
    return Batch(channel, b"".join(frames), len(frames), len(text), (frames[-1], 1))


def limit(batches, room=0):
    """The limit at which so many batches of one frame of four bytes fit."""
    return batches * (4 + OVERHEAD) + room


class OrderTests:
    """While there is room."""

    @pytest.mark.parametrize("slow", [SlowConsumerPolicy.CLOSE, SlowConsumerPolicy.DROP_OLDEST])
    def test_all_in_order(self, slow):
        """What waits leaves as it came."""
        queue = SendQueue(10_000)
        for each in (batch("a", "12"), batch("b", "3"), batch("a", "4")):
            assert queue.add(each, slow) == (0, [])
        assert queue.take() == (b"<a1><a2><b3><a4>", 4, 4)
        assert queue.take() == (b"", 0, 0)

    def test_newest_only(self):
        """With `latest` one of each channel waits, where the newest came."""
        queue = SendQueue(10_000)
        queue.add(batch("a", "1"), SlowConsumerPolicy.LATEST)
        queue.add(batch("b", "2"), SlowConsumerPolicy.LATEST)
        assert queue.add(batch("a", "345"), SlowConsumerPolicy.LATEST) == (3, ["a"])
        assert queue.add(batch("a", "6"), SlowConsumerPolicy.LATEST) == (1, [])
        assert queue.take() == (b"<b2><a6>", 2, 2)

    def test_newest_of_one_batch(self):
        """That holds within a batch, too."""
        queue = SendQueue(10_000)
        assert queue.add(batch("a", "123"), SlowConsumerPolicy.LATEST) == (2, ["a"])
        assert queue.take() == (b"<a3>", 1, 1)

    def test_events_take_no_publication_away(self):
        """With `latest` what is no publication is given up, not the publication that waits."""
        queue = SendQueue(10_000)
        queue.add(batch("a", "1"), SlowConsumerPolicy.LATEST)
        assert queue.add(Batch("a", b"(+)", 1, 3), SlowConsumerPolicy.LATEST) == (1, ["a"])
        assert queue.take() == (b"<a1>", 1, 1)


class FullTests:
    """More than there is room for."""

    def test_close(self):
        """Nothing is given up; it is full."""
        queue = SendQueue(limit(2))
        for text in "12":
            queue.add(batch("a", text), SlowConsumerPolicy.CLOSE)
        assert not queue.full
        assert queue.add(batch("a", "3"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.full

    def test_oldest(self):
        """The oldest is given up, and a gap is told before what is left."""
        queue = SendQueue(limit(2, room=10))
        for text in "12":
            queue.add(batch("a", text), SlowConsumerPolicy.DROP_OLDEST)
        assert queue.add(batch("a", "3"), SlowConsumerPolicy.DROP_OLDEST) == (1, ["a"])
        queue.set_notice("a", b"(gap)", 5)
        assert queue.add(batch("a", "4"), SlowConsumerPolicy.DROP_OLDEST) == (1, [])
        assert not queue.full
        assert queue.take() == (b"(gap)<a3><a4>", 3, 7)

    def test_one_that_fits_never(self):
        """One that is larger than the limit is given up itself."""
        queue = SendQueue(100)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST) == (1, ["a"])
        assert not queue.full
        assert queue.take() == (b"", 0, 0)

    def test_others_go_first(self):
        """What may be given up makes room for what may not, whichever came first."""
        queue = SendQueue(limit(2))
        queue.add(batch("k", "1"), SlowConsumerPolicy.CLOSE)
        queue.add(batch("a", "2"), SlowConsumerPolicy.DROP_OLDEST)
        assert queue.add(batch("k", "3"), SlowConsumerPolicy.CLOSE) == (1, ["a"])
        assert not queue.full
        queue.add(batch("k", "4"), SlowConsumerPolicy.CLOSE)
        assert queue.full

    def test_many_channels_with_latest(self):
        """There may be more channels than room."""
        queue = SendQueue(limit(3))
        for name in "abcde":
            queue.add(batch(name, "1"), SlowConsumerPolicy.LATEST)
        assert queue.take()[0] == b"<c1><d1><e1>"

    def test_untold_gap(self):
        """A gap that nobody says how to tell is none for the peer, and a new one after it was emptied is told again."""
        queue = SendQueue(100)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST).channels == ["a"]
        assert queue.take() == (b"", 0, 0)
        assert queue.add(batch("a", "1"), SlowConsumerPolicy.DROP_OLDEST).channels == ["a"]

    def test_tell_without_a_gap(self):
        """Where nothing is missing nothing is told."""
        queue = SendQueue(100)
        queue.set_notice("a", b"(gap)", 5)
        assert queue.take() == (b"", 0, 0)

    def test_forget(self):
        """Of a channel that was left nothing stays, and its room is free again."""
        queue = SendQueue(limit(3))
        for channel, text in (("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")):
            queue.add(batch(channel, text), SlowConsumerPolicy.DROP_OLDEST)
        queue.set_notice("a", b"(gap)", 5)
        queue.drop_channel("a")
        assert queue.add(batch("b", "5"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.add(batch("b", "6"), SlowConsumerPolicy.CLOSE) == (0, [])
        assert queue.take()[0] == b"<b2><b5><b6>"


class AnythingTests:
    """Whatever is put in."""

    @pytest.mark.parametrize("seed", range(40))
    def test_nothing_is_lost_in_silence(self, seed):
        """Of each channel what leaves is in order, and what is missing stands behind a notice."""
        dice = random.Random(seed)
        policies = {name: dice.choice(list(SlowConsumerPolicy)) for name in "abc"}
        queue, added, seen = (
            SendQueue(dice.choice([300, 1_000, 3_000])),
            dict.fromkeys("abc", 0),
            dict.fromkeys("abc", 0),
        )
        given_up = left = 0
        told = set()
        for _ in range(300):
            if dice.random() < 0.1:
                frames, count, _ = queue.take()
                items = frames.decode().split(";")[:-1]
                assert len(items) == count
                for item in items:
                    if item.startswith("gap"):
                        told.add(item[3:])
                        continue
                    name, number = item[0], int(item[1:])
                    assert number == seen[name] + 1 or (number > seen[name] and name in told)
                    seen[name] = number
                    told.discard(name)
                    left += 1
                continue
            name = dice.choice("abc")
            frames = [b"%s%d;" % (name.encode(), added[name] + k + 1) for k in range(dice.randint(1, 4))]
            added[name] += len(frames)
            loss = queue.add(Batch(name, b"".join(frames), len(frames), 0, (frames[-1], 0)), policies[name])
            if queue.full:
                assert SlowConsumerPolicy.CLOSE in policies.values()
                return
            given_up += loss.messages
            for channel in loss.channels:
                assert policies[channel] is not SlowConsumerPolicy.CLOSE
                queue.set_notice(channel, b"gap%s;" % channel.encode(), 0)
        rest = queue.take()[0]
        assert left + given_up + rest.count(b";") - rest.count(b"gap") == sum(added.values())
