"""What a backend is told of connections and channels."""

import pytest
from deferreds import result
from hubs import make_hub, make_management
from twisted.internet.task import Clock

from wsserver.hub.memory import MemoryBroker
from wsserver.hub.names import MAX_CHANNELS, MAX_NAME
from wsserver.hub.operations import MAX_BYTES, MAX_CONNECTIONS


class Connection:
    """One that listens to some channels."""

    user = ""

    def __init__(self, number, channels):
        self.client, self.channels = f"c{number}", channels

    def describe(self):
        """Tell nothing more."""
        return {}


@pytest.fixture
def hub():
    """Make a hub."""
    clock = Clock()
    return make_hub(MemoryBroker(clock), clock)


class SizeTests:
    """An answer goes through Redis, which cuts off whom too much waits for."""

    @pytest.mark.parametrize(("count", "told"), [(900, 900), (1200, MAX_CONNECTIONS)])
    def test_connections(self, hub, count, told):
        """So many are told of."""
        for number in range(count):
            hub.clients.add(Connection(number, ["news"]))
        assert len(result(make_management(hub, Clock()).connections())) == told

    def test_long_names(self, hub):
        """Whoever listens to as much as may be has no answer made that takes the link to Redis down."""
        channels = [f"{number:0{MAX_NAME}}" for number in range(MAX_CHANNELS)]
        for number in range(MAX_CONNECTIONS):
            hub.clients.add(Connection(number, channels))
        told = result(make_management(hub, Clock()).connections())
        assert 0.9 * MAX_BYTES < len(str(told)) < 1.1 * MAX_BYTES

    def test_channels(self, hub, monkeypatch):
        """The same holds for the names of channels."""
        counts = {f"{number:0{MAX_NAME}}": 1 for number in range(5000)}
        monkeypatch.setattr(hub, "counts", lambda: counts)
        told = result(make_management(hub, Clock()).channels())
        assert 0.9 * MAX_BYTES < len(str(told)) < 1.1 * MAX_BYTES


class OperationTests:
    """What an operation does with the clients of a process."""

    def test_refresh_with_expired_expires_the_clients_of_the_user(self, hub):
        """Others stay."""
        ann, bob = Connection(1, []), Connection(2, [])
        ann.user, bob.user, ended = "ann", "bob", []
        for one in (ann, bob):
            one.expire = lambda one=one: ended.append(one)
            hub.clients.add(one)
        assert result(make_management(hub, Clock()).refresh("ann", expired=True)) == 1
        assert ended == [ann]

    def test_unsubscribe_concerns_only_clients_that_are_subscribed(self, hub):
        """The result counts them."""
        left = []
        for number, channels in enumerate((["news"], ["other"])):
            one = Connection(number, channels)
            one.user = "ann"
            one.unsubscribe = lambda channel, one=one: left.append((one.client, channel))
            hub.clients.add(one)
        assert result(make_management(hub, Clock()).unsubscribe("news", "ann")) == 1
        assert left == [("c0", "news")]
