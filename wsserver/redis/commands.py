"""
Commands that wait for the answer of a Redis: never too many, and never without an answer.

Rule 1: no clock, and no socket but through the connection that is given.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, ServerNotPermitted
from wsserver.redis.connection import RedisError, ResponseError
from wsserver.redis.errors import describe_reply

__all__ = ["AWAY", "MAX_BYTES_IN_FLIGHT", "MAX_IN_FLIGHT", "Commands", "Script"]

AWAY = "Redis is unavailable"
"""What whoever wants something meanwhile is told."""

MAX_IN_FLIGHT = 10_000
"""Most commands that wait for their answer; one more is refused."""

MAX_BYTES_IN_FLIGHT = 8 * 1024**2
"""Most bytes of such commands; one that would be over it is refused, unless it is the only one."""


class Commands:
    """
    Commands to whichever connection there is.

    Args:
        demoted: called when Redis says that it is a replica, which takes no writes.
    """

    def __init__(self, demoted: Callable[[], None]) -> None:
        self._demoted = demoted
        self._connection: Any = None
        self.replies = 0
        """How many commands have been answered, in whatever way."""
        self._waiting = 0
        self._bytes_waiting = 0

    def begin(self, connection: Any) -> None:
        """Send them by a connection from now on."""
        self._connection = connection

    def end(self) -> None:
        """Take note that it is gone: txredisapi fails what waits for an answer."""
        self._connection = None

    def send(self, *arguments: Any, limited: bool = True) -> "Deferred[Any]":
        """
        Send a command.

        Args:
            arguments: the command and its arguments: bytes, texts (sent as UTF-8) and numbers.
            limited: whether it is refused where too many wait.

        Returns:
            Fires with the reply; fails with what txredisapi raises, or with `BrokerDown`.
        """
        if self._connection is None:
            return fail(BrokerDown(AWAY))
        size = sum(len(one) if isinstance(one, bytes | str) else 8 for one in arguments)
        too_long = self._waiting and self._bytes_waiting + size > MAX_BYTES_IN_FLIGHT
        if limited and (too_long or self._waiting >= MAX_IN_FLIGHT):
            return fail(BrokerDown("too many commands wait for Redis"))
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
        """Describe why a command failed: an errback that raises `ServerNotPermitted` or `BrokerDown`."""
        if failure.check(BrokerDown):
            return failure
        failure.trap(RedisError)
        why = failure.getErrorMessage()
        if why.startswith("NOPERM"):
            raise ServerNotPermitted(f"Redis does not permit the server to do it: {why}")
        if why.startswith("READONLY"):
            self._demoted()
        raise BrokerDown(describe_reply(why) if failure.check(ResponseError) else f"no answer from Redis: {why}")


class Script:
    """
    A Lua script that is sent by its hash, and whole where Redis has forgotten it: after a restart or a SCRIPT FLUSH.

    Args:
        text: the script.
        send: sends a command.
        explain: an errback for what it fails with.
    """

    def __init__(self, text: str, send: Callable[..., "Deferred[Any]"], explain: Callable[[Failure], Any]) -> None:
        self.text = text
        # What Redis calls a script by (https://redis.io/docs/latest/commands/evalsha/); no secret.
        self._hash = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
        self._send = send
        self._explain = explain

    def call(self, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> "Deferred[Any]":
        """
        Run it.

        Args:
            keys: `KEYS`.
            arguments: `ARGV`: bytes, texts and numbers.

        Returns:
            Fires with what it returns; fails as `RedisLink.command` does.
        """
        rest = (len(keys), *keys, *arguments)

        def whole(failure: Failure) -> Any:
            if failure.getErrorMessage().startswith("NOSCRIPT"):
                return self._send("EVAL", self.text, *rest)
            return failure

        return self._send("EVALSHA", self._hash, *rest).addErrback(whole).addErrback(self._explain)
