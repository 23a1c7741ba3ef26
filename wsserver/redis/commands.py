"""
Send commands to Redis, with a limit on how many wait for their reply. Every command gets a reply or an error.

Pure: no clock, no socket; it uses only the connection it is given.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, ServerNotPermitted
from wsserver.redis.connection import RedisError, ResponseError
from wsserver.redis.errors import describe_reply

__all__ = ["MAX_BYTES_IN_FLIGHT", "MAX_IN_FLIGHT", "UNAVAILABLE", "Commands", "Script"]

UNAVAILABLE = "Redis is unavailable"
"""The error message for requests made while the link to Redis is down."""

MAX_IN_FLIGHT = 10_000
"""Maximum number of commands that wait for their reply; further ones are refused."""

MAX_BYTES_IN_FLIGHT = 8 * 1024**2
"""Maximum total size of these commands; one that would exceed it is refused, unless no other is waiting."""


class Commands:
    """
    Send commands on the current connection, and turn their errors into `BrokerDown` or `ServerNotPermitted`.

    Args:
        demoted: called when Redis refuses a write because it is a replica.
    """

    def __init__(self, demoted: Callable[[], None]) -> None:
        self._demoted = demoted
        self._connection: Any = None
        self.replies = 0
        """How many commands have ended, with a reply or an error."""
        self._waiting = 0
        self._bytes_waiting = 0

    def begin(self, connection: Any) -> None:
        """Send commands on this connection from now on."""
        self._connection = connection

    def end(self) -> None:
        """Drop the connection; txredisapi fails the commands that wait for their reply."""
        self._connection = None

    def send(self, *arguments: Any, limited: bool = True) -> "Deferred[Any]":
        """
        Send a command.

        Args:
            arguments: the command and its arguments: bytes, strings (sent as UTF-8) and numbers.
            limited: whether to refuse the command if too many are waiting.

        Returns:
            A Deferred that fires with the reply. It fails with a `RedisError` of txredisapi, or with `BrokerDown` if
            there is no connection or too many commands are waiting.
        """
        if self._connection is None:
            return fail(BrokerDown(UNAVAILABLE))
        size = sum(len(one) if isinstance(one, bytes | str) else 8 for one in arguments)
        too_long = self._waiting and self._bytes_waiting + size > MAX_BYTES_IN_FLIGHT
        if limited and (too_long or self._waiting >= MAX_IN_FLIGHT):
            return fail(BrokerDown("too many commands are waiting for Redis"))
        self._waiting += 1
        self._bytes_waiting += size

        def answered(result: Any) -> Any:
            self.replies += 1
            self._waiting -= 1
            self._bytes_waiting -= size
            return result

        done: Deferred[Any] = self._connection.execute_command(*arguments)
        return done.addBoth(answered)

    def explain(self, failure: Failure) -> Failure:
        """
        Errback: turn a command's failure into one with a message for operators.

        Raises:
            ServerNotPermitted: the server's Redis user may not run the command.
            BrokerDown: any other error of Redis or of the connection.
        """
        if failure.check(BrokerDown):
            return failure
        failure.trap(RedisError)
        why = failure.getErrorMessage()
        if why.startswith("NOPERM"):
            raise ServerNotPermitted(f"Redis does not permit the server to run the command: {why}")
        if why.startswith("READONLY"):
            self._demoted()
        raise BrokerDown(describe_reply(why) if failure.check(ResponseError) else f"no answer from Redis: {why}")


class Script:
    """
    A Lua script, called by its hash.

    If Redis does not know the hash, as after a restart or a SCRIPT FLUSH, the whole script is sent instead.

    Args:
        text: the script.
        send: sends a command and returns a Deferred with the reply.
        explain: the errback for its failures.
    """

    def __init__(self, text: str, send: Callable[..., "Deferred[Any]"], explain: Callable[[Failure], Any]) -> None:
        self.text = text
        # Redis identifies scripts by their SHA-1 (https://redis.io/docs/latest/commands/evalsha/); it is not a secret.
        self._hash = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
        self._send = send
        self._explain = explain

    def call(self, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> "Deferred[Any]":
        """
        Run the script.

        Args:
            keys: the script's `KEYS`.
            arguments: the script's `ARGV`: bytes, strings and numbers.

        Returns:
            A Deferred that fires with the script's result. It fails as `RedisLink.command` does.
        """
        rest = (len(keys), *keys, *arguments)

        def whole(failure: Failure) -> Any:
            if failure.getErrorMessage().startswith("NOSCRIPT"):
                return self._send("EVAL", self.text, *rest)
            return failure

        return self._send("EVALSHA", self._hash, *rest).addErrback(whole).addErrback(self._explain)
