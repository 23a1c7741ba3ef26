"""The commands with which the broker publishes."""

import hashlib

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from wsserver.config.redis_url import parse_redis_url
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Keep, Position
from wsserver.redis import scripts
from wsserver.redis.broker import RedisBroker
from wsserver.redis.connection import Connection

KEEP = Keep(100, 60.0)
OPTIONS = [b"dataset", b"100", b"60000", b"2592000000", b"300000"]


class Publisher:
    """A broker whose command connection is in memory."""

    def __init__(self):
        self.broker = RedisBroker(parse_redis_url("redis://127.0.0.1"), Clock())
        self.broker._link.up, self.broker._link.dataset_id = True, "dataset"
        self.connection, self.transport = Connection(), StringTransport()
        self.connection.makeConnection(self.transport)
        self.broker._link._commands.begin(self.connection)

    def publish(self, *, keep=KEEP, idempotency_key="", reply=b"*2\r\n:7\r\n$1\r\ne\r\n"):
        """Publish `x`; return the arguments of the command, and the position that the reply contains."""
        found = []
        self.broker.publish("foo", Publication(b"x"), keep, idempotency_key).addCallback(found.append)
        command = self.transport.value().split(b"\r\n")
        self.transport.clear()
        assert command[0] == b"*%d" % (len(command) // 2 - 1)
        self.connection.dataReceived(reply)
        return command[2::2], found


@pytest.fixture
def publisher():
    """Make a publisher."""
    return Publisher()


class PublishTests:
    """`publish`."""

    def test_calls_the_script_with_the_streams_keys_and_options(self, publisher):
        command, found = publisher.publish()
        digest = hashlib.sha1(scripts.PUBLISH.encode()).hexdigest().encode()
        epoch = command[7]
        assert len(epoch) == 12
        names = [b"2", b"wsserver:meta:{foo}", b"wsserver:history:{foo}", b"wsserver:pub:{foo}"]
        assert command == [b"EVALSHA", digest, *names, b"\nx", epoch, *OPTIONS]
        assert found == [Position(7, "e")]

    def test_passes_the_hash_of_the_idempotency_key_as_the_third_key(self, publisher):
        command, _ = publisher.publish(idempotency_key="k")
        once = b"wsserver:once:{foo}:" + hashlib.sha256(b"k").hexdigest().encode()
        assert command[2:7] == [b"3", b"wsserver:meta:{foo}", b"wsserver:history:{foo}", once, b"wsserver:pub:{foo}"]
        assert (command[7], command[9:]) == (b"\nx", OPTIONS)

    def test_calls_no_script_if_nothing_is_stored(self, publisher):
        command, found = publisher.publish(keep=None, reply=b":1\r\n")
        assert command == [b"PUBLISH", b"wsserver:pub:{foo}", b"p:0::\nx"]
        assert found == [None]

    def test_calls_the_script_without_history_if_there_is_an_idempotency_key(self, publisher):
        command, found = publisher.publish(keep=None, idempotency_key="k", reply=b"*2\r\n:0\r\n$0\r\n\r\n")
        assert command[9:] == [b"dataset", b"0", b"0", b"2592000000", b"300000"]
        assert found == [None]
