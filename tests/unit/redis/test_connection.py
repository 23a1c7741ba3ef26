"""A connection that listens: which answer belongs to which question."""

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from wsserver.redis.connection import BATCH, Connection, ResponseError, SubscriberConnection


class Listener:
    """A connection in memory, and what it tells."""

    def __init__(self):
        self.messages, self.confirmed, self.refused = [], [], []
        self.transport = StringTransport()
        self.connection = SubscriberConnection(
            charset=None,
            convertNumbers=False,
            on_message=lambda *message: self.messages.append(message),
            on_confirmed=self.confirmed.append,
            on_refused=lambda *refusal: self.refused.append(refusal),
        )
        self.connection.makeConnection(self.transport)

    def answer(self, *replies):
        """Let Redis answer."""
        for reply in replies:
            self.connection.replyReceived(list(reply) if isinstance(reply, tuple) else reply)

    def asked(self):
        """Tell the commands that were sent, and forget them."""
        sent, commands = self.transport.value().split(b"\r\n"), []
        self.transport.clear()
        while len(sent) > 1:
            count = int(sent[0][1:])
            commands.append(sent[2 : 2 * count + 1 : 2])
            sent = sent[2 * count + 1 :]
        return commands


@pytest.fixture
def listener():
    """Make one."""
    return Listener()


def yes(channel, command=b"subscribe"):
    """Make a confirmation."""
    return (command, channel, 1)


NO = ResponseError("NOPERM not you")


class SubscribeTests:
    """SUBSCRIBE and UNSUBSCRIBE."""

    def test_batches(self, listener):
        """Ten thousand channels are asked for by a few commands, each channel once."""
        channels = [b"%d" % number for number in range(10_000)]
        listener.connection.subscribe(channels)
        commands = listener.asked()
        assert [command[0] for command in commands] == [b"SUBSCRIBE"] * (10_000 // BATCH)
        assert [channel for command in commands for channel in command[1:]] == channels
        assert listener.connection.unanswered == 10_000
        listener.answer(*map(yes, channels))
        assert listener.confirmed == channels
        assert listener.connection.unanswered == 0

    def test_none(self, listener):
        """For no channel nothing is asked."""
        listener.connection.subscribe([])
        assert listener.asked() == []

    def test_messages_between(self, listener):
        """Messages may come between the confirmations."""
        listener.connection.subscribe([b"a", b"b"])
        listener.answer(yes(b"a"), (b"message", b"a", b"subscribe"), yes(b"b"))
        assert listener.confirmed == [b"a", b"b"]
        assert listener.messages == [(b"a", b"subscribe")]

    def test_left_and_wanted_again(self, listener):
        """Only the last confirmation counts: before it there is a time in which nothing comes."""
        listener.connection.subscribe([b"a"])
        listener.connection.unsubscribe(b"a")
        listener.connection.subscribe([b"a"])
        assert listener.asked() == [[b"SUBSCRIBE", b"a"], [b"UNSUBSCRIBE", b"a"], [b"SUBSCRIBE", b"a"]]
        listener.answer(yes(b"a"), yes(b"a", b"unsubscribe"))
        assert listener.confirmed == []
        listener.answer(yes(b"a"))
        assert listener.confirmed == [b"a"]

    def test_refused(self, listener):
        """A refusal concerns the first question that is not answered, and no other."""
        listener.connection.subscribe([b"a"])
        listener.connection.unsubscribe(b"a")
        listener.connection.subscribe([b"b", b"c"])
        listener.connection.subscribe([b"d"])
        listener.answer(yes(b"a"), yes(b"a", b"unsubscribe"), NO, NO)
        assert listener.confirmed == [b"a"]
        assert listener.refused == [([b"b", b"c"], "NOPERM not you", False), ([b"d"], "NOPERM not you", True)]
        assert listener.connection.unanswered == 0

    def test_refused_and_asked_again(self, listener):
        """One that was asked for again meanwhile is not among the refused: its last answer is still to come."""
        listener.connection.subscribe([b"a", b"b"])
        listener.connection.unsubscribe(b"a")
        listener.connection.subscribe([b"a"])
        listener.answer(NO)
        assert listener.refused == [([b"b"], "NOPERM not you", False)]
        listener.answer(yes(b"a", b"unsubscribe"), yes(b"a"))
        assert listener.confirmed == [b"a"]

    def test_unsubscribe_refused(self, listener):
        """An UNSUBSCRIBE that is refused is nobody's loss."""
        listener.connection.unsubscribe(b"a")
        listener.connection.subscribe([b"b"])
        listener.answer(NO, yes(b"b"))
        assert (listener.confirmed, listener.refused) == ([b"b"], [])

    def test_hung_up(self, listener):
        """Who has hung up is told nothing more, whatever has been read already."""
        listener.connection.subscribe([b"a"])
        listener.connection.subscribe([b"b"])
        listener.connection.hang_up()
        listener.answer(yes(b"a"), (b"message", b"a", b"x"), NO)
        assert (listener.messages, listener.confirmed, listener.refused) == ([], [], [])
        assert listener.transport.disconnected


MEANS = "Redis is in protected mode and refuses connections from other machines: "


class LostTests:
    """Why a connection was lost."""

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "the connection was lost"),
            (
                b"-ERR max number of clients reached\r\n",
                "Redis has too many clients (maxclients): ERR max number of clients reached",
            ),
            (b"-DENIED " + b"x" * 1000 + b"\r\n", MEANS + "DENIED " + "x" * (193 - len(MEANS))),
        ],
    )
    def test_said(self, data, why):
        """What Redis said before it closed is the reason."""
        connection = Connection(charset=None, convertNumbers=False)
        connection.makeConnection(StringTransport())
        connection.dataReceived(data)
        connection.connectionLost(Failure(ConnectionDone()))
        assert connection.why == why

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"*-9\r\n$\xff\r\n", "the server does not speak the Redis protocol; check host and port in --redis"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server answers there; check host and port in --redis"),
            (b"\x15\x03\x03\x00\x02\x02\x46", "Redis uses TLS; write rediss:// in --redis"),
        ],
    )
    def test_no_redis(self, data, why):
        """Whatever is no reply of a Redis ends the connection."""
        connection, transport = Connection(charset=None, convertNumbers=False), StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(data)
        assert transport.disconnected
        assert connection.why == why
