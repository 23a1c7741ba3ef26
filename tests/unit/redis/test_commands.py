"""Commands that wait for Redis."""

import hashlib

import pytest
from twisted.internet.defer import Deferred

from wsserver.errors import BrokerDown, ServerNotPermitted
from wsserver.redis.commands import MAX_BYTES_IN_FLIGHT, MAX_IN_FLIGHT, Commands, Script
from wsserver.redis.connection import RedisError, ResponseError


class Connection:
    """A connection that writes down what it is to send."""

    def __init__(self):
        self.sent, self.answers = [], []

    def execute_command(self, *arguments):
        """Take a command."""
        self.sent.append(arguments)
        self.answers.append(Deferred())
        return self.answers[-1]


@pytest.fixture
def connection():
    """Make a connection."""
    return Connection()


@pytest.fixture
def demoted():
    """Count how often Redis has said that it is a replica."""
    return []


@pytest.fixture
def commands(connection, demoted):
    """Make commands by it."""
    commands = Commands(lambda: demoted.append(True))
    commands.begin(connection)
    return commands


def outcome(done):
    """Collect what comes of a Deferred."""
    found = []
    done.addBoth(found.append)
    return found


def problem(done, kind=BrokerDown):
    """Tell what a Deferred has failed with."""
    [failure] = outcome(done)
    assert failure.type is kind
    return failure.getErrorMessage()


class LimitTests:
    """Never too many."""

    def test_number(self, commands, connection):
        """One more than may wait is refused and not sent; when one is answered there is room again."""
        for _ in range(MAX_IN_FLIGHT):
            commands.send("PING")
        assert "too many" in problem(commands.send("PING"))
        assert len(connection.sent) == MAX_IN_FLIGHT
        assert outcome(commands.send("PROBE", limited=False)) == []
        assert connection.sent[-1] == ("PROBE",)
        connection.answers[-1].callback(b"OK")
        assert commands.replies == 1
        connection.answers[0].callback(b"PONG")
        assert outcome(commands.send("PING")) == []

    def test_bytes(self, commands, connection):
        """The same holds for their bytes; one that is as large by itself goes only if it is alone."""
        large = b"x" * MAX_BYTES_IN_FLIGHT
        alone = outcome(commands.send("PUBLISH", b"a", large))
        assert alone == []
        assert "too many" in problem(commands.send("PUBLISH", b"a", b"x"))
        connection.answers[0].errback(RedisError("lost"))
        assert alone[0].type is RedisError
        assert outcome(commands.send("PUBLISH", b"a", b"x")) == []
        assert "too many" in problem(commands.send("PUBLISH", b"a", large))

    def test_no_connection(self, commands, connection):
        """Without a connection nothing waits."""
        commands.end()
        assert "Redis is unavailable" in problem(commands.send("PING"))
        assert connection.sent == []


class ExplainTests:
    """What an error of Redis means to whoever has asked."""

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
    def test_words(self, commands, connection, demoted, error, kind, words):
        """Each is a `BrokerDown` with a reason; a missing right is one of its kind."""
        done = commands.send("PING").addErrback(commands.explain)
        connection.answers[0].errback(error)
        assert words in problem(done, kind)
        assert demoted == []

    def test_replica(self, commands, connection, demoted):
        """A Redis that takes no writes is a replica now."""
        done = commands.send("SET").addErrback(commands.explain)
        connection.answers[0].errback(ResponseError("READONLY You can't write against a read only replica."))
        assert "READONLY" in problem(done)
        assert demoted == [True]

    def test_mistakes_of_ours(self, commands, connection):
        """An error of another kind is not hidden."""
        done = commands.send("PING").addErrback(commands.explain)
        connection.answers[0].errback(KeyError("x"))
        problem(done, KeyError)


class ScriptTests:
    """Lua scripts."""

    TEXT = "return 1"
    HASH = hashlib.sha1(TEXT.encode()).hexdigest()

    def test_by_its_hash(self, commands, connection):
        """A script is sent by its hash alone."""
        done = outcome(Script(self.TEXT, commands.send, commands.explain).call([b"k"], (1, b"x")))
        assert connection.sent == [("EVALSHA", self.HASH, 1, b"k", 1, b"x")]
        connection.answers[0].callback(1)
        assert done == [1]

    def test_forgotten(self, commands, connection):
        """Where Redis does not know it, it is sent whole."""
        done = outcome(Script(self.TEXT, commands.send, commands.explain).call([], ("a",)))
        connection.answers[0].errback(ResponseError("NOSCRIPT No matching script."))
        assert connection.sent[1] == ("EVAL", self.TEXT, 0, "a")
        connection.answers[1].callback(1)
        assert done == [1]

    def test_fails(self, commands, connection):
        """Any other error is that of a command."""
        done = Script(self.TEXT, commands.send, commands.explain).call([])
        connection.answers[0].errback(ResponseError("NOPERM not you"))
        problem(done, ServerNotPermitted)
        assert len(connection.sent) == 1
