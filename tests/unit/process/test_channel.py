"""Tests for wsserver/process/channel.py: the messages between the supervisor and a worker."""

import json
import socket
import struct

import pytest
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from wsserver.process.channel import Channel, read_first, write_last


def encoded(message):
    data = json.dumps(message).encode()
    return struct.pack("!I", len(data)) + data


class Side:
    """One side of a channel: the channel, its transport, and what it has reported."""

    def __init__(self):
        self.messages, self.ends = [], []
        self.channel = Channel(self.process, lambda: self.ends.append(True))
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def process(self, message):
        self.messages.append(message)
        if message["type"] == "bad":
            raise RuntimeError("a fault")


@pytest.fixture
def side():
    return Side()


def test_sends_a_message_after_its_length(side):
    assert side.channel.send({"type": "beat"})
    assert side.transport.value() == encoded({"type": "beat"})


def test_receives_messages_in_any_pieces(side):
    data = encoded({"type": "one"}) + encoded({"type": "two"})
    for at in range(len(data)):
        side.channel.dataReceived(data[at : at + 1])
    assert side.messages == [{"type": "one"}, {"type": "two"}]


def test_sends_the_newest_message_of_each_kind_once_the_other_side_reads(side):
    side.transport.producer.pauseProducing()
    waiting = [
        {"type": "substitute", "number": 1},
        {"type": "substitute", "number": 2},
        {"type": "died", "node": "a"},
        {"type": "died", "node": "b"},
        {"type": "reload", "settings": {"port": "5"}},
        {"type": "leave"},
        {"type": "stop"},
    ]
    for port in range(5):
        assert not side.channel.send({"type": "reload", "settings": {"port": str(port)}})
        assert not side.channel.send({"type": "count"})
    for message in waiting:
        assert not side.channel.send(message)
    assert side.transport.value() == b""
    side.transport.producer.resumeProducing()
    assert side.transport.value() == b"".join(map(encoded, [{"type": "count"}, *waiting]))
    side.transport.clear()
    assert side.channel.send({"type": "count"})
    assert side.transport.value() == encoded({"type": "count"})


def test_the_last_of_opposite_messages_is_sent_last(side):
    side.transport.producer.pauseProducing()
    for kind in ("substitute", "stop_substituting", "substitute"):
        side.channel.send({"type": kind, "number": 1})
    side.transport.producer.resumeProducing()
    kinds = ("stop_substituting", "substitute")
    assert side.transport.value() == b"".join(encoded({"type": kind, "number": 1}) for kind in kinds)


def test_stops_sending_again_if_the_first_waiting_message_fills_the_queue(side):
    side.transport.producer.pauseProducing()
    for kind in ("reload", "stop"):
        side.channel.send({"type": kind})
    write = side.transport.write
    side.transport.write = lambda data: (write(data), side.channel.pauseProducing())
    side.transport.producer.resumeProducing()
    assert side.transport.value() == encoded({"type": "reload"})
    side.transport.producer.resumeProducing()
    assert side.transport.value() == encoded({"type": "reload"}) + encoded({"type": "stop"})


@pytest.mark.parametrize("bad", [encoded({"type": "bad"}), struct.pack("!I", 3) + b"{]}"], ids=["refused", "not JSON"])
def test_processes_the_next_messages_after_one_that_fails(side, bad):
    with capturedLogs() as events:
        side.channel.dataReceived(bad + encoded({"type": "one"}))
        side.channel.dataReceived(encoded({"type": "two"}))
    assert [message["type"] for message in side.messages if message["type"] != "bad"] == ["one", "two"]
    assert [event["log_level"].name for event in events] == ["critical"]
    assert not side.transport.disconnecting


def test_sends_nothing_after_the_other_side_has_ended(side):
    side.channel.connectionLost()
    assert side.ends == [True]
    assert not side.channel.send({"type": "beat"})


def test_passes_messages_of_any_size(side):
    """Settings with 20,000 tables have about 2 MB, and so have the numbers of 200 workers."""
    message = {"type": "reload", "settings": "x" * 5_000_000}
    assert side.channel.send(message)
    data = side.transport.value()
    for at in range(0, len(data), 65536):
        side.channel.dataReceived(data[at : at + 65536])
    assert side.messages == [message]


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
