"""Tests for wsserver/process/channel.py: the messages between the supervisor and a worker."""

import json
import socket
import struct

import pytest
from twisted.internet.testing import StringTransport

from wsserver.process.channel import MAX_MESSAGE, Channel, read_first, write_last


@pytest.fixture
def side():
    """Return one side of a channel: the channel, its transport, and what it has reported."""

    class Side:
        def __init__(self):
            self.messages, self.ends = [], []
            self.channel = Channel(self.messages.append, lambda: self.ends.append(True))
            self.transport = StringTransport()
            self.channel.makeConnection(self.transport)

    return Side()


def encoded(message):
    data = json.dumps(message).encode()
    return struct.pack("!I", len(data)) + data


def test_sends_a_message_after_its_length(side):
    assert side.channel.send({"type": "beat"})
    assert side.transport.value() == encoded({"type": "beat"})


def test_receives_messages_in_any_pieces(side):
    data = encoded({"type": "one"}) + encoded({"type": "two"})
    for at in range(len(data)):
        side.channel.dataReceived(data[at : at + 1])
    assert side.messages == [{"type": "one"}, {"type": "two"}]


def test_drops_messages_while_the_other_side_does_not_read(side):
    side.transport.producer.pauseProducing()
    assert not side.channel.send({"type": "beat"})
    side.transport.producer.resumeProducing()
    assert side.channel.send({"type": "stop"})
    assert side.transport.value() == encoded({"type": "stop"})


def test_sends_nothing_after_the_other_side_has_ended(side):
    side.channel.connectionLost()
    assert side.ends == [True]
    assert not side.channel.send({"type": "beat"})


def test_closes_at_a_message_above_the_limit(side):
    side.channel.dataReceived(struct.pack("!I", MAX_MESSAGE + 1))
    assert side.transport.disconnecting


def test_reads_the_first_message_and_nothing_beyond_it():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encoded({"number": 1}) + b"more")
        assert read_first(theirs) == {"number": 1}
        assert theirs.recv(10) == b"more"


def test_a_supervisor_that_ends_before_the_first_message_is_an_eof_error():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError, match="the supervisor has ended"):
            read_first(theirs)


def test_writes_the_last_message_without_a_reactor():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        write_last(theirs, {"type": "failed"})
        assert ours.recv(100) == encoded({"type": "failed"})
