"""
Sending commands to Redis, with a limit on the number of commands that wait for their reply.

This module does not use a clock or a socket: the caller passes a connection.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wsserver.errors import BrokerDown, ServerNotPermitted
from wsserver.redis.connection import RedisError, ResponseError, fire, pack_arguments, pack_command
from wsserver.redis.errors import describe_reply

__all__ = ["MAX_BYTES_IN_FLIGHT", "MAX_IN_FLIGHT", "UNAVAILABLE", "Commands", "Script"]

UNAVAILABLE = "Redis is unavailable"
"""The error message of commands and subscriptions that are requested while Redis is unavailable."""

MAX_IN_FLIGHT = 10_000
"""Maximum number of commands that wait for their reply; further commands are refused."""

MAX_BYTES_IN_FLIGHT = 8 * 1024**2
"""
Maximum total size in bytes of the commands that wait for their reply. A command that would exceed it is refused, unless
no other command is waiting.
"""


class Commands:
    """
    Sends commands on the current connection, and converts errors into `BrokerDown` or `ServerNotPermitted`.

    Args:
        demoted: called if Redis refuses a write because it is a replica, as after it has lost the role of the master.
    """

    def __init__(self, demoted: Callable[[], None]) -> None:
        self._demoted = demoted
        self._connection: Any = None

    @property
    def replies(self) -> int:
        """Number of commands that have been completed on the current connection, with a reply or an error."""
        return self._connection.replies if self._connection is not None else 0

    def begin(self, connection: Any) -> None:
        """Set the connection to send commands on; called when a new connection to Redis is open."""
        self._connection = connection

    def end(self) -> None:
        """Forget the closed connection, which fails the commands that still wait for a reply."""
        self._connection = None

    def send(self, *arguments: Any, limited: bool = True) -> "Deferred[Any]":
        """
        Send a command to Redis.

        Args:
            arguments: the command's name and its arguments: bytes, strings (sent as UTF-8) and numbers.
            limited: whether to refuse the command if the maximum number or size of waiting commands is reached.

        Returns:
            A Deferred that fires with the reply. It fails with a `RedisError` if Redis replies with an error or the
            connection is lost, and with `BrokerDown` if there is no connection or the command is refused.
        """
        done: Deferred[Any] = Deferred()
        self.submit(pack_command(arguments), partial(fire, done), limited=limited)
        return done

    def submit(self, command: bytes, on_reply: Callable[[Any], None], *, limited: bool = True) -> None:
        """
        Send an encoded command to Redis; otherwise like `send`.

        Args:
            command: the command, as `wsserver.redis.connection.pack_command` returns it.
            on_reply: called with the reply, or with the exception that the Deferred of `send` would fail with.
            limited: as for `send`.
        """
        connection = self._connection
        if connection is None:
            on_reply(BrokerDown(UNAVAILABLE))
            return
        if limited:
            waiting = connection.waiting
            too_long = waiting and connection.bytes_waiting + len(command) > MAX_BYTES_IN_FLIGHT
            if too_long or waiting >= MAX_IN_FLIGHT:
                on_reply(BrokerDown("too many commands are waiting for Redis"))
                return
        connection.send(command, on_reply)

    def explain(self, failure: Failure) -> Failure:
        """
        Convert a command's failure into one with a message for operators; used as an errback of `send`.

        Args:
            failure: the failure. It is returned unchanged if it is a `BrokerDown`.

        Raises:
            ServerNotPermitted: the server's Redis user may not run the command.
            BrokerDown: Redis has replied with another error, or the connection was lost.
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


def _unchanged(result: Any) -> Any:
    return result


class Script:
    """
    A Lua script that runs inside Redis.

    The script is called by its hash, with EVALSHA. If Redis does not know the script, as after a restart or the command
    SCRIPT FLUSH, the whole script is sent, with EVAL.

    Args:
        text: the source text of the script.
        submit: sends an encoded command to Redis, and calls a function with the reply; see `Commands.submit`.
        explain: an errback that converts the failures of the call.
    """

    def __init__(
        self,
        text: str,
        submit: Callable[[bytes, Callable[[Any], None]], None],
        explain: Callable[[Failure], Any],
    ) -> None:
        self.text = text
        # Redis identifies scripts by their SHA-1 (https://redis.io/docs/latest/commands/evalsha/); it is not a secret.
        digest = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
        self._by_hash, self._whole = pack_arguments("EVALSHA", digest), pack_arguments("EVAL", text)
        self._submit = submit
        self._explain = explain

    def call(
        self, keys: Sequence[bytes], arguments: Sequence[Any] = (), parse: Callable[[Any], Any] = _unchanged
    ) -> "Deferred[Any]":
        """
        Run the script.

        Args:
            keys: the script's `KEYS`.
            arguments: the script's `ARGV`: bytes, strings and numbers.
            parse: converts the script's result.

        Returns:
            A Deferred that fires with the converted result. It fails with `ServerNotPermitted` or `BrokerDown`, for the
            reasons that `RedisLink.command` lists.
        """
        return self.call_packed(1 + len(keys) + len(arguments), pack_arguments(len(keys), *keys, *arguments), parse)

    def call_packed(self, count: int, packed: bytes, parse: Callable[[Any], Any]) -> "Deferred[Any]":
        """
        Run the script with arguments that are encoded already; otherwise like `call`.

        Args:
            count: number of arguments in `packed`.
            packed: the number of keys, `KEYS` and `ARGV`, as `pack_arguments` returns them.
            parse: as for `call`.
        """
        # No Deferred for each step, and no callbacks before the caller's: most commands of a server are publications.
        done: Deferred[Any] = Deferred()
        command = b"*%d\r\n%b%b" % (2 + count, self._by_hash, packed)
        self._submit(command, partial(self._on_reply, done, parse, count, packed))
        return done

    def _on_reply(
        self, done: "Deferred[Any]", parse: Callable[[Any], Any], count: int, packed: bytes, reply: Any
    ) -> None:
        if not isinstance(reply, Exception):
            try:
                result = parse(reply)
            except Exception:
                done.errback()
            else:
                done.callback(result)
        elif packed and str(reply).startswith("NOSCRIPT"):
            command = b"*%d\r\n%b%b" % (2 + count, self._whole, packed)
            self._submit(command, partial(self._on_reply, done, parse, 0, b""))
        else:
            try:
                failure = self._explain(Failure(reply))
            except Exception:
                failure = Failure()
            done.errback(failure)
