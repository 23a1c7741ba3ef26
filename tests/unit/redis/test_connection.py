"""Connections to Redis: which answer belongs to which command, and why a connection was lost."""

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from wsserver.redis import subscriber as subscribers
from wsserver.redis.connection import CHECKED, SECONDS_PER_TURN, Connection, RedisError, ResponseError
from wsserver.redis.subscriber import BATCH, SubscriberConnection


class Subscriber:
    """A subscriber connection in memory, and the calls of its callbacks."""

    def __init__(self):
        self.messages, self.confirmed, self.refused = [], [], []
        self.transport = StringTransport()
        self.connection = SubscriberConnection(
            on_messages=self.on_messages,
            on_confirmed=self.confirmed.append,
            on_refused=lambda *refusal: self.refused.append(refusal),
        )
        self.connection.makeConnection(self.transport)

    def on_messages(self, messages):
        """Record messages."""
        self.messages += [(channel, data) for _, channel, data in messages]

    def answer(self, *replies):
        """Receive replies of Redis in one read."""
        for reply in replies:
            self.connection.receive(list(reply) if isinstance(reply, tuple) else reply)
        self.connection.dataReceived(b"")

    def take_commands(self):
        """Return the commands that were sent, and forget them."""
        sent, commands = self.transport.value().split(b"\r\n"), []
        self.transport.clear()
        while len(sent) > 1:
            count = int(sent[0][1:])
            commands.append(sent[2 : 2 * count + 1 : 2])
            sent = sent[2 * count + 1 :]
        return commands


@pytest.fixture
def subscriber():
    """Make a subscriber connection."""
    return Subscriber()


def confirmation(channel, command=b"subscribe"):
    """Return the confirmation of a command."""
    return (command, channel, 1)


REFUSAL = ResponseError("NOPERM not you")


class SubscribeTests:
    """SUBSCRIBE and UNSUBSCRIBE."""

    def test_subscribes_to_10000_channels_with_one_command_per_batch(self, subscriber):
        """Each channel is in exactly one of the commands."""
        channels = [b"%d" % number for number in range(10_000)]
        subscriber.connection.subscribe(channels)
        commands = subscriber.take_commands()
        assert [command[0] for command in commands] == [b"SUBSCRIBE"] * (10_000 // BATCH)
        assert [channel for command in commands for channel in command[1:]] == channels
        assert subscriber.connection.unanswered == 10_000
        subscriber.answer(*map(confirmation, channels))
        assert subscriber.confirmed == channels
        assert subscriber.connection.unanswered == 0

    def test_sends_no_command_for_an_empty_list_of_channels(self, subscriber):
        subscriber.connection.subscribe([])
        assert subscriber.take_commands() == []

    def test_passes_on_messages_that_arrive_between_confirmations(self, subscriber):
        subscriber.connection.subscribe([b"a", b"b"])
        subscriber.answer(confirmation(b"a"), (b"message", b"a", b"subscribe"), confirmation(b"b"))
        assert subscriber.confirmed == [b"a", b"b"]
        assert subscriber.messages == [(b"a", b"subscribe")]

    def test_only_the_last_confirmation_of_a_channel_counts(self, subscriber):
        """The first one does not count: Redis sends no messages between UNSUBSCRIBE and the second SUBSCRIBE."""
        subscriber.connection.subscribe([b"a"])
        subscriber.connection.unsubscribe(b"a")
        subscriber.connection.subscribe([b"a"])
        assert subscriber.take_commands() == [[b"SUBSCRIBE", b"a"], [b"UNSUBSCRIBE", b"a"], [b"SUBSCRIBE", b"a"]]
        subscriber.answer(confirmation(b"a"), confirmation(b"a", b"unsubscribe"))
        assert subscriber.confirmed == []
        subscriber.answer(confirmation(b"a"))
        assert subscriber.confirmed == [b"a"]

    def test_a_refusal_belongs_to_the_oldest_unanswered_command(self, subscriber):
        subscriber.connection.subscribe([b"a"])
        subscriber.connection.unsubscribe(b"a")
        subscriber.connection.subscribe([b"b", b"c"])
        subscriber.connection.subscribe([b"d"])
        subscriber.answer(confirmation(b"a"), confirmation(b"a", b"unsubscribe"), REFUSAL, REFUSAL)
        assert subscriber.confirmed == [b"a"]
        assert subscriber.refused == [([b"b", b"c"], "NOPERM not you", False), ([b"d"], "NOPERM not you", True)]
        assert subscriber.connection.unanswered == 0

    def test_a_channel_subscribed_again_meanwhile_is_not_reported_as_refused(self, subscriber):
        """The channel is still pending: the answer to its last subscription has not arrived."""
        subscriber.connection.subscribe([b"a", b"b"])
        subscriber.connection.unsubscribe(b"a")
        subscriber.connection.subscribe([b"a"])
        subscriber.answer(REFUSAL)
        assert subscriber.refused == [([b"b"], "NOPERM not you", False)]
        subscriber.answer(confirmation(b"a", b"unsubscribe"), confirmation(b"a"))
        assert subscriber.confirmed == [b"a"]

    def test_ignores_the_refusal_of_an_unsubscribe(self, subscriber):
        subscriber.connection.unsubscribe(b"a")
        subscriber.connection.subscribe([b"b"])
        subscriber.answer(REFUSAL, confirmation(b"b"))
        assert (subscriber.confirmed, subscriber.refused) == ([b"b"], [])

    def test_calls_no_callback_after_hang_up(self, subscriber):
        """Data that was read before `hang_up` may still contain replies."""
        subscriber.connection.subscribe([b"a"])
        subscriber.connection.subscribe([b"b"])
        subscriber.connection.hang_up()
        subscriber.answer(confirmation(b"a"), (b"message", b"a", b"x"), REFUSAL)
        assert (subscriber.messages, subscriber.confirmed, subscriber.refused) == ([], [], [])
        assert subscriber.transport.disconnected


class MessageTests:
    """Messages of Redis channels."""

    def _message(self, size):
        return b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (size, b"x" * size)

    def test_closes_the_connection_instead_of_reading_a_message_over_the_maximum(self, subscriber, monkeypatch):
        """What was received before it is delivered. The supervisor connects again, and reports a gap."""
        monkeypatch.setattr(subscribers, "MAX_MESSAGE", 10_000)
        data = self._message(10) + self._message(50_000)
        for start in range(0, len(data), 1000):
            if not subscriber.transport.disconnecting:
                subscriber.connection.dataReceived(data[start : start + 1000])
        assert subscriber.messages == [(b"c", b"x" * 10)]
        assert subscriber.transport.disconnecting
        assert subscriber.connection.why == "a message to channel 'c' is over 10000B"
        assert subscriber.connection.is_oversized
        assert start > 12_000

    @pytest.mark.parametrize("cut", [1, 20, 35, 40, 60])
    def test_names_the_channel_of_such_a_message_wherever_a_read_ends(self, subscriber, monkeypatch, cut):
        """The header of the message may arrive in two reads. A message before it has the form of a header."""
        monkeypatch.setattr(subscribers, "MAX_MESSAGE", 10_000)
        data = b"*3\r\n$7\r\nmessage\r\n$2\r\nok\r\n$3\r\n*3\r\r\n" + self._message(50_000)
        subscriber.connection.dataReceived(data[:cut])
        subscriber.connection.dataReceived(data[cut:5000])
        subscriber.connection.dataReceived(data[5000:20_000])
        assert "channel 'c' is over" in subscriber.connection.why

    def test_reads_any_number_of_messages_below_the_maximum(self, subscriber, monkeypatch):
        monkeypatch.setattr(subscribers, "MAX_MESSAGE", 10_000)
        data = self._message(8000) * 10
        for start in range(0, len(data), 1000):
            subscriber.connection.dataReceived(data[start : start + 1000])
        assert len(subscriber.messages) == 10
        assert not subscriber.transport.disconnecting


class TurnTests:
    """Each reply takes a quarter of the time of a turn."""

    REPLIES = 3 * CHECKED

    @pytest.fixture
    def clock(self):
        """Return the clock of the connection."""
        return Clock()

    @pytest.fixture
    def replies(self, clock):
        """Return a connection that has received replies to its commands in one read, and the list of the replies."""
        connection, replies = Connection(clock), []
        connection.makeConnection(StringTransport())

        def handle(reply):
            clock.rightNow += SECONDS_PER_TURN / 4
            replies.append(reply)

        for _ in range(self.REPLIES):
            connection.send(b"", handle)
        connection.dataReceived(b"".join(b":%d\r\n" % number for number in range(self.REPLIES)))
        return connection, replies

    def test_the_time_of_a_turn_limits_the_replies(self, clock, replies):
        """Meanwhile, nothing more is read from the socket."""
        connection, handled = replies
        assert handled == list(range(CHECKED))
        assert connection.transport.producerState == "paused"
        clock.advance(0)
        assert handled == list(range(self.REPLIES))
        assert connection.transport.producerState == "producing"

    def test_data_that_arrives_meanwhile_waits(self, clock, replies):
        connection, handled = replies
        connection.send(b"", handled.append)
        connection.dataReceived(b"+last\r\n")
        assert len(handled) == CHECKED
        clock.advance(0)
        assert handled == [*range(self.REPLIES), b"last"]

    def test_handles_the_rest_when_the_connection_is_lost(self, clock, replies):
        """These commands have been executed; only the others fail."""
        connection, handled = replies
        connection.send(b"", handled.append)
        connection.connectionLost(Failure(ConnectionDone()))
        assert handled[:-1] == list(range(self.REPLIES))
        assert isinstance(handled[-1], RedisError)
        assert clock.getDelayedCalls() == []


@pytest.fixture
def commands():
    """Make a connection for commands."""
    connection = Connection()
    connection.makeConnection(StringTransport())
    return connection


def outcome(done):
    """Return a list that receives the result or the exception."""
    found = []
    done.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


class CommandTests:
    """Commands and their replies."""

    def test_encodes_bytes_text_and_numbers_as_an_array_of_strings(self, commands):
        commands.execute("SET", b"\xff", "ü", 7)
        assert commands.transport.value() == b"*4\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$2\r\n\xc3\xbc\r\n$1\r\n7\r\n"

    def test_replies_complete_the_commands_in_order_even_if_they_arrive_in_parts(self, commands):
        first, second, third = (outcome(commands.execute("GET", key)) for key in "abc")
        commands.dataReceived(b"$1\r\nx\r\n*2\r\n:1\r\n$-")
        assert (first, second, third) == ([b"x"], [], [])
        commands.dataReceived(b"1\r\n-OOM full\r\n")
        assert second == [[1, None]]
        [error] = third
        assert (type(error), str(error)) == (ResponseError, "OOM full")
        assert (commands.waiting, commands.bytes_waiting, commands.replies) == (0, 0, 3)

    def test_counts_the_bytes_of_the_commands_that_wait(self, commands):
        commands.execute("PING")
        assert (commands.waiting, commands.bytes_waiting) == (1, len(b"*1\r\n$4\r\nPING\r\n"))

    def test_the_reply_to_a_cancelled_command_is_dropped(self, commands):
        cancelled = commands.execute("PING")
        second = outcome(commands.execute("ECHO", "x"))
        assert isinstance(outcome(cancelled), list)
        cancelled.cancel()
        commands.dataReceived(b"+PONG\r\n$1\r\nx\r\n")
        assert second == [b"x"]

    def test_waiting_commands_fail_after_when_lost_has_fired(self, commands):
        """So their callers find the link down already."""
        events = []
        commands.execute("PING").addErrback(lambda failure: events.append(str(failure.value)))
        commands.when_lost().addCallback(events.append)
        commands.connectionLost(Failure(ConnectionDone()))
        assert events == [commands, "Lost connection"]
        [error] = outcome(commands.execute("PING"))
        assert str(error) == "Not connected"


EXPLANATION = "Redis is in protected mode and refuses connections from other machines: "


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
            (b"-DENIED " + b"x" * 1000 + b"\r\n", EXPLANATION + "DENIED " + "x" * (193 - len(EXPLANATION))),
        ],
    )
    def test_the_reason_is_the_error_that_redis_sent_before_closing(self, data, why):
        """The error is cut to 200 characters. Without an error, the reason says only that the connection was lost."""
        connection = Connection()
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
    def test_closes_on_data_that_is_not_the_redis_protocol_with_a_hint(self, data, why):
        connection, transport = Connection(), StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(data)
        assert transport.disconnected
        assert connection.why == why
