"""Publish commands of a Centrifuge client, with a broker that confirms them later."""

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge.unconfirmed import MAX_BYTES, MAX_PUBLISHES
from wsserver.errors import BrokerDown
from wsserver.testing import MemoryServer
from wsserver.wire.limits import WorkQueue


class Client:
    """A connected client, and the publications that the broker has received from it and not confirmed."""

    def __init__(self, server, monkeypatch):
        self.server, self.sent, self.unconfirmed = server, [], []
        monkeypatch.setattr(server.service.hub, "forward", self.forward)
        self.peer = server.connect()
        self.peer.open("/connection/websocket", {})
        self.send({"id": 1, "connect": {}})
        assert [one["id"] for one in self.receive()] == [1]

    def forward(self, channel, publication, *_, **__):
        """Receive a publication as the broker does."""
        self.sent.append(publication.data)
        self.unconfirmed.append(Deferred())
        return self.unconfirmed[-1]

    def send(self, *commands):
        """Send commands, each in a frame of its own."""
        for command in commands:
            self.peer.send_text(json.dumps(command))

    def publish(self, *numbers, data=None):
        """Publish; the IDs of the commands are the data, unless data is given."""
        self.send(*({"id": one, "publish": {"channel": "c", "data": data or one}} for one in numbers))

    def receive(self):
        """Return the replies since the last call."""
        for _ in range(6):
            self.server.clock.advance(0)
        return [json.loads(line) for text in self.peer.messages() for line in text.split("\n")]

    def confirm(self, number=1):
        """Confirm the oldest publications, in order."""
        for _ in range(number):
            self.unconfirmed.pop(0).callback(None)


@pytest.fixture
def client(monkeypatch):
    """Connect a client that may publish to every channel except `closed`."""
    return Client(MemoryServer(Settings(channel_allow=("c",), channel_publish=("c",))), monkeypatch)


class OrderTests:
    """The order of publications and of replies."""

    def test_the_broker_receives_publications_in_order_without_waiting_for_confirmations(self, client):
        client.publish(2, 3, 4)
        assert client.receive() == []
        assert client.sent == [b"2", b"3", b"4"]

    def test_replies_are_sent_in_the_order_of_the_commands(self, client):
        """Also if the broker confirms them in another order."""
        client.publish(2, 3, 4)
        second = client.unconfirmed.pop(1)
        second.callback(None)
        assert client.receive() == []
        client.confirm()
        assert [one["id"] for one in client.receive()] == [2, 3]
        client.confirm()
        assert [one["id"] for one in client.receive()] == [4]

    def test_confirmations_of_one_turn_are_answered_with_one_message(self, client):
        client.publish(2, 3, 4)
        client.confirm(3)
        client.server.clock.advance(0)
        assert [text.count("\n") for text in client.peer.messages()] == [2]

    def test_a_refused_publish_is_answered_after_the_unconfirmed_ones_before_it(self, client):
        client.publish(2)
        client.send({"id": 3, "publish": {"channel": "closed", "data": 1}})
        client.publish(4)
        assert client.receive() == []
        client.confirm(2)
        assert [(one["id"], "error" in one) for one in client.receive()] == [(2, False), (3, True), (4, False)]

    def test_a_failed_publish_gets_its_error_and_the_next_one_succeeds(self, client):
        client.publish(2, 3)
        client.unconfirmed.pop(0).errback(Failure(BrokerDown("away")))
        client.confirm()
        assert [(one["id"], "error" in one) for one in client.receive()] == [(2, True), (3, False)]

    def test_nothing_is_published_after_a_publish_that_ends_the_connection(self, client):
        """The connection is closed once the publications before it are confirmed."""
        client.publish(2)
        client.send({"id": 3, "publish": {"data": 3}})
        client.publish(4)
        client.receive()
        client.confirm()
        client.server.clock.advance(0)
        assert client.peer.close_frame() == (3501, "bad request: publish without a channel")
        assert client.sent == [b"2"]

    def test_another_command_waits_for_all_confirmations(self, client):
        client.publish(2, 3)
        client.send({"id": 4, "history": {"channel": "c"}}, {"id": 5, "publish": {"channel": "c", "data": 5}})
        client.confirm()
        assert [one["id"] for one in client.receive()] == [2]
        client.confirm()
        assert [one["id"] for one in client.receive()] == [3, 4]
        assert client.sent == [b"2", b"3", b"5"]


class LimitTests:
    """The limits of one client."""

    def test_at_most_64_publications_are_unconfirmed(self, client):
        client.publish(*range(2, 2 + MAX_PUBLISHES + 3))
        client.receive()
        assert len(client.unconfirmed) == MAX_PUBLISHES
        client.confirm(2)
        assert [one["id"] for one in client.receive()] == [2, 3]
        assert len(client.unconfirmed) == MAX_PUBLISHES
        client.confirm(MAX_PUBLISHES)
        client.receive()
        client.confirm()
        assert client.sent == [b"%d" % number for number in range(2, 2 + MAX_PUBLISHES + 3)]

    def test_large_publications_are_confirmed_one_after_the_other(self, client):
        client.publish(2, 3, data="x" * MAX_BYTES)
        client.receive()
        assert len(client.sent) == 1
        client.confirm()
        assert [one["id"] for one in client.receive()] == [2]
        assert len(client.sent) == 2

    def test_a_refused_publish_takes_a_piece_of_the_budget_although_its_reply_waits(self, client, monkeypatch):
        charged = []
        client.publish(2)
        monkeypatch.setattr(WorkQueue, "charge", lambda _, size: charged.append(size))
        client.send({"id": 3, "publish": {"channel": "closed", "data": 1}})
        assert client.receive() == []
        assert charged == [0]


class ClosedTests:
    """A connection that is closed before the confirmations."""

    def test_nothing_more_is_published_or_sent(self, client):
        client.publish(2)
        client.send({"id": 3, "history": {"channel": "c"}})
        client.publish(4)
        client.peer.transport.lose()
        client.confirm()
        assert client.receive() == []
        assert client.sent == [b"2"]
