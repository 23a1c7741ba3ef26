"""The management operations: connections and channels of a process."""

import pytest
from deferreds import result
from hubs import make_hub, make_management
from twisted.internet.task import Clock

from wsserver.hub import operations
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.names import MAX_CHANNELS, MAX_NAME
from wsserver.hub.operations import MAX_BYTES, MAX_CONNECTIONS


class Connection:
    """A connection that is subscribed to some channels."""

    user = ""

    def __init__(self, number, channels):
        self.client, self.channels = f"c{number}", channels

    def describe(self):
        """Return no further fields."""
        return {}


@pytest.fixture
def hub():
    """Make a hub."""
    clock = Clock()
    return make_hub(MemoryBroker(clock), clock)


class SizeTests:
    """The size of answers: they pass through Redis, which disconnects a client with too much queued output."""

    @pytest.mark.parametrize(("count", "listed"), [(900, 900), (1200, MAX_CONNECTIONS)])
    def test_connections_lists_at_most_max_connections(self, hub, count, listed):
        for number in range(count):
            hub.clients.add(Connection(number, ["news"]))
        assert len(result(make_management(hub, Clock()).connections()).connections) == listed

    def test_connections_stops_at_max_bytes_for_long_channel_names(self, hub):
        """Each connection has the maximum number of channels, with names of the maximum length."""
        channels = [f"{number:0{MAX_NAME}}" for number in range(MAX_CHANNELS)]
        for number in range(MAX_CONNECTIONS):
            hub.clients.add(Connection(number, channels))
        listed = result(make_management(hub, Clock()).connections()).connections
        assert 0.9 * MAX_BYTES < len(str(listed)) < 1.1 * MAX_BYTES

    def test_channels_stops_at_max_bytes_for_long_names(self, hub, monkeypatch):
        counts = {f"{number:0{MAX_NAME}}": 1 for number in range(5000)}
        monkeypatch.setattr(hub, "counts", lambda: counts)
        listed = result(make_management(hub, Clock()).channels())
        assert 0.9 * MAX_BYTES < len(str(listed)) < 1.1 * MAX_BYTES

    @pytest.mark.parametrize(("count", "listed"), [(9000, 9000), (10_001, operations.MAX_CHANNELS)])
    def test_channels_lists_at_most_max_channels(self, hub, monkeypatch, count, listed):
        monkeypatch.setattr(hub, "counts", lambda: {str(number): 1 for number in range(count)})
        assert len(result(make_management(hub, Clock()).channels())) == listed


class OperationTests:
    """Operations on the clients of a process."""

    def test_refresh_with_expired_expires_only_the_clients_of_the_user(self, hub):
        ann, bob = Connection(1, []), Connection(2, [])
        ann.user, bob.user, expired_clients = "ann", "bob", []
        for one in (ann, bob):
            one.expire = lambda one=one: expired_clients.append(one)
            hub.clients.add(one)
        assert result(make_management(hub, Clock()).refresh("ann", expired=True)) == 1
        assert expired_clients == [ann]

    def test_unsubscribe_counts_only_clients_that_are_subscribed(self, hub):
        unsubscribed = []
        for number, channels in enumerate((["news"], ["other"])):
            one = Connection(number, channels)
            one.user = "ann"
            one.unsubscribe = lambda channel, one=one: unsubscribed.append((one.client, channel))
            hub.clients.add(one)
        assert result(make_management(hub, Clock()).unsubscribe("news", "ann")) == 1
        assert unsubscribed == [("c0", "news")]

    def test_subscribe_skips_clients_that_are_already_subscribed(self, hub):
        subscribed = []
        for number, channels in enumerate((["news"], ["other"])):
            one = Connection(number, channels)
            one.user = "ann"
            one.subscribe = lambda channel, options, one=one: subscribed.append((one.client, channel)) or True
            hub.clients.add(one)
        assert result(make_management(hub, Clock()).subscribe("news", "ann")) == 1
        assert subscribed == [("c1", "news")]
