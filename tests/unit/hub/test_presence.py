"""Presence: the clients of a channel, and their join and leave events."""

import pytest
from deferreds import result
from hubs import make_hub

from wsserver.hub.clients import ClientInfo
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.presence import LEAVE_DELAY
from wsserver.hub.rules import Rules


class Watcher:
    """A subscriber that records join and leave events."""

    kind = "watcher"

    def __init__(self):
        self.events = []

    def frame(self, channel, publication):
        """Return no frame."""
        return b""

    def event_frame(self, channel, event):
        """Frame a join as `+client`, a leave as `-client`."""
        return b"%s%s " % (b"+" if event.join else b"-", event.info.client.encode())

    def deliver(self, batch):
        """Record the events."""
        self.events += batch.frames.decode().split()


@pytest.fixture
def hub(clock):
    """Make a hub that tracks presence in every channel except `quiet`."""
    rules = Rules(presence=["*"], overrides=[("quiet", {"presence": False})])
    return make_hub(MemoryBroker(clock), clock, rules)


@pytest.fixture
def watcher(hub):
    """Subscribe a watcher to `foo`."""
    watcher = Watcher()
    hub.subscribe("foo", watcher)
    return watcher


def present(hub, channel="foo"):
    """Return the ids of the clients that are present."""
    found = []
    hub.presence.clients(channel).addCallback(found.append)
    return set(found[0])


OLD, NEW, ANONYMOUS = ClientInfo("old", "ada"), ClientInfo("new", "ada"), ClientInfo("nobody")


class PresenceManagerTests:
    """Joins and leaves."""

    def test_sends_a_join_and_a_leave_on_purpose_at_once(self, hub, watcher, clock):
        hub.presence.join("foo", OLD)
        clock.advance(0)
        assert present(hub) == {"old"}
        hub.presence.leave("foo", OLD)
        clock.advance(0)
        assert (present(hub), watcher.events) == (set(), ["+old", "-old"])

    def test_a_user_who_reconnects_within_the_delay_stays_present(self, hub, watcher, clock):
        """The join of the new connection precedes the leave of the old one."""
        hub.presence.join("foo", OLD)
        hub.presence.leave("foo", OLD, may_reconnect=True)
        clock.advance(LEAVE_DELAY - 0.1)
        assert present(hub) == {"old"}
        hub.presence.join("foo", NEW)
        assert present(hub) == {"old", "new"}
        clock.advance(0.2)
        clock.advance(0)
        assert present(hub) == {"new"}
        assert watcher.events == ["+old", "+new", "-old"]

    def test_a_user_who_does_not_reconnect_leaves_after_the_delay(self, hub, watcher, clock):
        hub.presence.join("foo", OLD)
        hub.presence.leave("foo", OLD, may_reconnect=True)
        clock.advance(LEAVE_DELAY)
        clock.advance(0)
        assert (present(hub), watcher.events) == (set(), ["+old", "-old"])

    def test_an_anonymous_client_leaves_without_delay(self, hub, watcher, clock):
        """The server cannot recognize an anonymous client when it reconnects."""
        hub.presence.join("foo", ANONYMOUS)
        hub.presence.leave("foo", ANONYMOUS, may_reconnect=True)
        clock.advance(0)
        assert watcher.events == ["+nobody", "-nobody"]

    def test_a_client_with_unhashable_info_leaves_after_the_delay(self, hub, clock):
        """A token's info may be any JSON value."""
        info = ClientInfo("old", "ada", {"name": ["Ada"]}, [1])
        hub.presence.join("foo", info)
        hub.presence.leave("foo", info, may_reconnect=True)
        clock.advance(LEAVE_DELAY)
        assert present(hub) == set()

    def test_leaves_beyond_max_delayed_are_not_delayed(self, hub, clock, monkeypatch):
        """`stop` sends the leaves that are still delayed."""
        monkeypatch.setattr("wsserver.hub.presence.MAX_DELAYED", 3)
        for number in range(4):
            info = ClientInfo(str(number), "ada")
            hub.presence.join("foo", info)
            hub.presence.leave("foo", info, may_reconnect=True)
        assert present(hub) == {"0", "1", "2"}
        hub.presence.stop()
        assert (present(hub), clock.getDelayedCalls()) == (set(), [])

    def test_does_nothing_for_a_channel_without_presence(self, hub, clock):
        """Neither the join nor the leave reaches the broker."""
        hub.presence.join("quiet", OLD)
        assert result(hub.broker.members("quiet")) == {}
        hub.broker.join("quiet", NEW)
        for may_reconnect in (False, True):
            hub.presence.leave("quiet", NEW, may_reconnect=may_reconnect)
        clock.advance(LEAVE_DELAY)
        assert result(hub.broker.members("quiet")) == {"new": NEW}
        assert present(hub, "quiet") == set()
