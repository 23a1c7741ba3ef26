"""Commands that wait for Redis: limits, errors and scripts."""

import hashlib

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, ServerNotPermitted
from wsserver.redis.commands import MAX_BYTES_IN_FLIGHT, MAX_IN_FLIGHT, Commands, Script
from wsserver.redis.connection import RedisError, ResponseError


class Connection:
    """A connection that records commands; the test answers them."""

    def __init__(self):
        self.sent, self.answers = [], []
        self.waiting = self.bytes_waiting = self.replies = 0

    def send(self, command, on_reply):
        """Record a command."""
        self.sent.append(tuple(command.split(b"\r\n")[2::2]))
        self.answers.append(Deferred())
        self.waiting += 1
        self.bytes_waiting += len(command)

        def answered(result):
            self.waiting -= 1
            self.bytes_waiting -= len(command)
            self.replies += 1
            on_reply(result.value if isinstance(result, Failure) else result)

        self.answers[-1].addBoth(answered)


@pytest.fixture
def connection():
    """Make a connection."""
    return Connection()


@pytest.fixture
def demoted():
    """Return a list with one item for each time that Redis was found to be a replica."""
    return []


@pytest.fixture
def commands(connection, demoted):
    """Make commands on the connection."""
    commands = Commands(lambda: demoted.append(True))
    commands.begin(connection)
    return commands


def outcome(done):
    """Return a list that receives the result or the failure."""
    found = []
    done.addBoth(found.append)
    return found


def problem(done, kind=BrokerDown):
    """Return the message of the error that a Deferred has failed with."""
    [failure] = outcome(done)
    assert failure.type is kind
    return failure.getErrorMessage()


class LimitTests:
    """The limits of what waits for a reply."""

    def test_refuses_a_command_beyond_max_in_flight_until_a_reply(self, commands, connection):
        """A command with `limited=False` is sent even then."""
        for _ in range(MAX_IN_FLIGHT):
            commands.send("PING")
        assert "too many" in problem(commands.send("PING"))
        assert len(connection.sent) == MAX_IN_FLIGHT
        assert outcome(commands.send("PROBE", limited=False)) == []
        assert connection.sent[-1] == (b"PROBE",)
        connection.answers[-1].callback(b"OK")
        assert commands.replies == 1
        connection.answers[0].callback(b"PONG")
        assert outcome(commands.send("PING")) == []

    def test_refuses_a_command_beyond_max_bytes_in_flight_unless_it_is_alone(self, commands, connection):
        large = b"x" * MAX_BYTES_IN_FLIGHT
        alone = outcome(commands.send("PUBLISH", b"a", large))
        assert alone == []
        assert "too many" in problem(commands.send("PUBLISH", b"a", b"x"))
        connection.answers[0].errback(RedisError("lost"))
        assert alone[0].type is RedisError
        assert outcome(commands.send("PUBLISH", b"a", b"x")) == []
        assert outcome(commands.send("PUBLISH", b"a", b"x")) == []
        assert "too many" in problem(commands.send("PUBLISH", b"a", large))

    def test_fails_with_broker_down_without_a_connection(self, commands, connection):
        commands.end()
        assert "Redis is unavailable" in problem(commands.send("PING"))
        assert connection.sent == []


class ExplainTests:
    """The errors that callers receive."""

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (
                ResponseError("NOPERM not you"),
                ServerNotPermitted,
                "Redis does not permit the server to run the command: NOPERM not you",
            ),
            (ResponseError("OOM too much"), BrokerDown, "out of memory (maxmemory) and refuses writes: OOM too much"),
            (RedisError("Lost connection"), BrokerDown, "no answer from Redis: Lost connection"),
            (BrokerDown("away"), BrokerDown, "away"),
        ],
    )
    def test_an_error_of_redis_is_a_broker_down_with_an_explanation(
        self, commands, connection, demoted, error, kind, words
    ):
        """If Redis denies a permission, the error is `ServerNotPermitted`, a subclass of `BrokerDown`."""
        done = commands.send("PING").addErrback(commands.explain)
        connection.answers[0].errback(error)
        assert words in problem(done, kind)
        assert demoted == []

    def test_a_readonly_error_reports_that_redis_is_a_replica(self, commands, connection, demoted):
        done = commands.send("SET").addErrback(commands.explain)
        connection.answers[0].errback(ResponseError("READONLY You can't write against a read only replica."))
        assert "READONLY" in problem(done)
        assert demoted == [True]

    def test_an_unexpected_exception_is_passed_on_unchanged(self, commands, connection):
        done = commands.send("PING").addErrback(commands.explain)
        connection.answers[0].errback(KeyError("x"))
        problem(done, KeyError)


class ScriptTests:
    """Lua scripts."""

    TEXT = "return 1"
    HASH = hashlib.sha1(TEXT.encode()).hexdigest()

    def test_sends_only_the_hash_with_keys_and_arguments(self, commands, connection):
        done = outcome(Script(self.TEXT, commands.submit, commands.explain).call([b"k"], (1, b"x")))
        assert connection.sent == [(b"EVALSHA", self.HASH.encode(), b"1", b"k", b"1", b"x")]
        connection.answers[0].callback(1)
        assert done == [1]

    def test_sends_the_whole_script_if_redis_does_not_know_it(self, commands, connection):
        done = outcome(Script(self.TEXT, commands.submit, commands.explain).call([], ("a",)))
        connection.answers[0].errback(ResponseError("NOSCRIPT No matching script."))
        assert connection.sent[1] == (b"EVAL", self.TEXT.encode(), b"0", b"a")
        connection.answers[1].callback(1)
        assert done == [1]

    def test_another_error_is_explained_and_the_script_is_not_sent_again(self, commands, connection):
        done = Script(self.TEXT, commands.submit, commands.explain).call([])
        connection.answers[0].errback(ResponseError("NOPERM not you"))
        problem(done, ServerNotPermitted)
        assert len(connection.sent) == 1
