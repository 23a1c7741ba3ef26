"""Who is on a channel, and when that is told."""

import pytest
from hubs import make_hub

from wsserver.hub.clients import ClientInfo
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.presence import LEAVE_DELAY
from wsserver.hub.rules import Rules


class Watcher:
    """A subscriber that is told who comes and leaves."""

    kind = "watcher"

    def __init__(self):
        self.told = []

    def frame(self, channel, publication):
        """Write nothing."""
        return b""

    def event_frame(self, channel, event):
        """Write who it is."""
        return b"%s%s " % (b"+" if event.join else b"-", event.info.client.encode())

    def deliver(self, batch):
        """Take some."""
        self.told += batch.frames.decode().split()


@pytest.fixture
def hub(clock):
    """Make a hub whose channels know who is there, but for one."""
    rules = Rules(presence=["*"], overrides=[("quiet", {"presence": False})])
    return make_hub(MemoryBroker(clock), clock, rules)


@pytest.fixture
def watcher(hub):
    """Watch a channel."""
    watcher = Watcher()
    hub.subscribe("foo", watcher)
    return watcher


def present(hub, channel="foo"):
    """Tell who is there."""
    found = []
    hub.presence.clients(channel).addCallback(found.append)
    return set(found[0])


OLD, NEW, NOBODY = ClientInfo("old", "ada"), ClientInfo("new", "ada"), ClientInfo("nobody")


class MembersTests:
    """Coming and leaving."""

    def test_comes_and_leaves(self, hub, watcher, clock):
        """At once, where somebody leaves on purpose."""
        hub.presence.join("foo", OLD)
        clock.advance(0)
        assert present(hub) == {"old"}
        hub.presence.leave("foo", OLD)
        clock.advance(0)
        assert (present(hub), watcher.told) == (set(), ["+old", "-old"])

    def test_quick_reconnect(self, hub, watcher, clock):
        """A user whose connection was lost, and who is back soon, was at no time away."""
        hub.presence.join("foo", OLD)
        hub.presence.leave("foo", OLD, may_reconnect=True)
        clock.advance(LEAVE_DELAY - 0.1)
        assert present(hub) == {"old"}
        hub.presence.join("foo", NEW)
        assert present(hub) == {"old", "new"}
        clock.advance(0.2)
        clock.advance(0)
        assert present(hub) == {"new"}
        assert watcher.told == ["+old", "+new", "-old"]

    def test_stays_away(self, hub, watcher, clock):
        """Who does not come back leaves after the grace."""
        hub.presence.join("foo", OLD)
        hub.presence.leave("foo", OLD, may_reconnect=True)
        clock.advance(LEAVE_DELAY)
        clock.advance(0)
        assert (present(hub), watcher.told) == (set(), ["+old", "-old"])

    def test_nobody_in_particular(self, hub, watcher, clock):
        """Of somebody without a name nobody knows whether they are back."""
        hub.presence.join("foo", NOBODY)
        hub.presence.leave("foo", NOBODY, may_reconnect=True)
        clock.advance(0)
        assert watcher.told == ["+nobody", "-nobody"]

    def test_info_may_be_anything(self, hub, clock):
        """What a token says about somebody is any JSON."""
        info = ClientInfo("old", "ada", {"name": ["Ada"]}, [1])
        hub.presence.join("foo", info)
        hub.presence.leave("foo", info, may_reconnect=True)
        clock.advance(LEAVE_DELAY)
        assert present(hub) == set()

    def test_bounded(self, hub, clock, monkeypatch):
        """Only so many stay; of more each leaves at once."""
        monkeypatch.setattr("wsserver.hub.presence.MAX_DELAYED", 3)
        for number in range(4):
            info = ClientInfo(str(number), "ada")
            hub.presence.join("foo", info)
            hub.presence.leave("foo", info, may_reconnect=True)
        assert present(hub) == {"0", "1", "2"}
        hub.presence.stop()
        assert (present(hub), clock.getDelayedCalls()) == (set(), [])

    def test_not_kept(self, hub, clock):
        """Where presence is not kept, nobody is anywhere."""
        hub.presence.join("quiet", OLD)
        hub.presence.leave("quiet", OLD, may_reconnect=True)
        assert (present(hub, "quiet"), clock.getDelayedCalls()) == (set(), [])
