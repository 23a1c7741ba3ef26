"""
The link to a Redis. The only module that imports txredisapi.

Two connections, each supervised by Twisted's `ClientService`: one for commands, one that listens.

A healthy socket proves nothing: a probe goes the way of every publication, out by one connection and back by the other.
While it does not come back, the link is down: no command is sent and no subscription taken.
"""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import RedisError, RedisProtocol, SubscriberProtocol

from wsserver.errors import BrokerDown
from wsserver.hub.channels import PRIVATE
from wsserver.redisurl import RedisURL

__all__ = ["RedisLink", "Script"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.redis")

PROBE_INTERVAL = 2.0
"""Seconds between two probes; one that has not come back by the next means that the server is deaf."""

BATCH = 1000
"""Most channels of one SUBSCRIBE."""

MOST_IN_FLIGHT = 10_000
"""Most commands that wait for their answer; one more is refused."""

AWAY = "Redis is not there at the moment"
"""What whoever wants something meanwhile is told."""

REPLY_TIMEOUT = 4.0
"""Seconds for Redis to answer a command."""


class _Factory(Factory):
    """Makes a connection; txredisapi tells it when one cannot be used, and asks whether it is lazy."""

    noisy = False
    isLazy = False
    problem = ""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Any:  # noqa: ARG002
        """Make a connection."""
        connection = self._make()
        connection.factory = self
        return connection

    def stopTrying(self) -> None:
        """Go on trying: a password may be set right meanwhile."""

    def connectionError(self, why: object) -> None:
        """Say the reason, once."""
        if self.problem != str(why):
            self.problem = str(why)
            _log.warn("{why}", why=self.problem)


class _Commands(RedisProtocol):  # type: ignore[misc]
    """The connection for commands."""


class _Listening(SubscriberProtocol):  # type: ignore[misc]
    """The connection that listens."""

    told: Callable[[bytes, bytes], None]
    """Called with channel and data of every message."""
    acknowledged: Callable[[bytes], None]
    """Called with every channel that Redis has confirmed."""

    def replyReceived(self, reply: Any) -> None:
        """Take a message, or what answers a command."""
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"message":
            self.told(reply[1], reply[2])
        elif kind == b"subscribe":
            self.acknowledged(reply[1])
        elif kind != b"unsubscribe":
            super().replyReceived(reply)

    def tell(self, command: bytes, channels: Iterable[bytes]) -> None:
        """Subscribe or unsubscribe, in batches; each channel is answered by itself."""
        rest = list(channels)
        while rest:
            batch, rest = rest[:BATCH], rest[BATCH:]
            self.transport.write(self._build_command(command, *batch))


class RedisLink:
    """
    Keep two connections to a Redis, and every subscription through every outage.

    Args:
        url: where it is.
        reactor: what it runs on.
        told: called with key and data of every message.
        rose: called when the link is up; with True after an outage, when messages may have been missed.
        fell: called when it is not up any more.
    """

    def __init__(
        self,
        url: RedisURL,
        reactor: Any,
        *,
        told: Callable[[bytes, bytes], None],
        rose: Callable[[bool], None],
        fell: Callable[[], None],
    ) -> None:
        self._to_told, self._to_rose, self._to_fell = told, rose, fell
        self._url = url
        self._reactor = reactor
        self._probe_channel = f"{PRIVATE}probe:{os.getpid()}-{random.getrandbits(64):016x}".encode()
        self._wanted: dict[bytes, list[Deferred[None]]] = {self._probe_channel: []}
        """The channels to listen to, each with whoever waits for Redis to confirm it."""
        self._confirmed: set[bytes] = set()
        self._asked: Counter[bytes] = Counter()
        """How many confirmations of a channel are still to come: one that was left and wanted again has two."""
        self._commands: Any = None
        self._listening: Any = None
        self._in_flight = 0
        self._was_up = False
        self._probe_back = False
        self._probe_sent = 0.0
        """When, by the reactor; 0 while none is under way on these connections."""
        self._probing = LoopingCall(self._probe)
        self._probing.clock = reactor
        self._services = [
            # Without its `prepareConnection`: while that waits it does not notice that a connection is lost.
            ClientService(self._endpoint(), self._factory(kind, use), self._delay, reactor)
            for kind, use in ((_Commands, self._use_commands), (_Listening, self._use_listening))
        ]
        self.up = False
        """Whether messages arrive: a probe has come back lately."""
        self.lineage = ""
        """Which Redis this is: another text when another master was found, always empty where there is but one."""

    def _endpoint(self) -> Any:
        url = self._url
        endpoint = HostnameEndpoint(self._reactor, url.host.encode("ascii"), url.port, timeout=2)
        return wrapClientTLS(optionsForClientTLS(url.host), endpoint) if url.tls else endpoint

    def _factory(self, kind: type[Any], use: Callable[[Any], None]) -> Factory:
        url = self._url

        def make() -> Any:
            connection = kind(
                charset=None,
                convertNumbers=False,
                replyTimeout=REPLY_TIMEOUT,
                username=url.username,
                password=url.password,
                dbid=url.database or None,
            )
            connection.told, connection.acknowledged = self._told, self._acknowledged
            use(connection)
            return connection

        return _Factory(make)

    @staticmethod
    def _delay(attempt: int) -> float:
        # Within a second of its return Redis is found, and not by all servers at once.
        delay: float = min(0.1 * 2 ** min(attempt, 3), 0.7)
        return delay * random.uniform(0.7, 1.3)  # noqa: S311 (no secret)

    # Supervision.

    def start(self) -> None:
        """Connect; a Redis that is not there is waited for."""
        for service in self._services:
            service.startService()
        self._probing.start(PROBE_INTERVAL, now=False)

    def stop(self) -> "Deferred[Any]":
        """Disconnect."""
        if self._probing.running:
            self._probing.stop()
        self._go_down("the server stops", tell=False)
        return gatherResults([service.stopService() for service in self._services], consumeErrors=True)

    def _use_commands(self, connection: Any) -> None:
        def use(_: Any) -> None:
            self._commands = connection
            connection.whenDisconnected().addCallback(lambda _: self._lost("commands", connection))
            self._probe()

        connection.whenConnected().addCallback(use)

    def _use_listening(self, connection: Any) -> None:
        def use(_: Any) -> None:
            self._listening = connection
            self._confirmed.clear()
            self._asked = Counter(list(self._wanted))
            connection.whenDisconnected().addCallback(lambda _: self._lost("listening", connection))
            connection.tell(b"SUBSCRIBE", list(self._wanted))

        connection.whenConnected().addCallback(use)

    def _lost(self, which: str, connection: Any) -> None:
        if which == "commands" and self._commands is connection:
            self._commands = None
        elif which == "listening" and self._listening is connection:
            self._listening = None
            self._confirmed.clear()
        else:
            return
        self._go_down("the connection was lost")
        # The other one may be dead without a sign.
        self._abort()

    def _abort(self) -> None:
        for connection in (self._listening, self._commands):
            if connection is not None:
                connection.transport.abortConnection()

    def _probe(self) -> None:
        """Send a probe; the one before must have come back."""
        if (
            self._probe_sent
            and not self._probe_back
            and self._reactor.seconds() - self._probe_sent >= PROBE_INTERVAL / 2
        ):
            self._probe_sent = 0.0
            self._go_down(f"no probe came back within {PROBE_INTERVAL:g} s")
            self._abort()
            return
        if self._commands is not None and self._listening is not None:
            self._probe_back, self._probe_sent = False, self._reactor.seconds()
            self._send("PUBLISH", self._probe_channel, b"").addErrback(lambda _: None)

    def _told(self, channel: bytes, data: bytes) -> None:
        if channel == self._probe_channel:
            self._probe_back = True
            self._go_up()
            return
        self._to_told(channel, data)

    def _acknowledged(self, channel: bytes) -> None:
        self._asked[channel] -= 1
        if self._asked[channel] > 0:
            return
        del self._asked[channel]
        if channel not in self._wanted:
            return
        self._confirmed.add(channel)
        if channel == self._probe_channel:
            self._probe()
        if self.up:
            self._answer(channel)
        else:
            self._go_up()

    def _go_up(self) -> None:
        """Be up, if the probe has come back and every channel is confirmed."""
        if self.up or not self._probe_back or len(self._confirmed) < len(self._wanted):
            return
        if self._commands is None or self._listening is None:
            return
        self.up = True
        _log.info("listening to Redis at {url}", url=self._url.shown)
        again, self._was_up = self._was_up, True
        for channel in list(self._wanted):
            self._answer(channel)
        self._to_rose(again)

    def _go_down(self, reason: str, *, tell: bool = True) -> None:
        was_up, self.up, self._probe_back = self.up, False, False
        if was_up and tell:
            _log.warn("deaf to Redis at {url}: {reason}", url=self._url.shown, reason=reason)
        self._probe_sent = 0.0
        # Whoever still waits is refused, and its channel is not wanted any more.
        refused = {channel: waiting for channel, waiting in self._wanted.items() if waiting}
        for channel in refused:
            del self._wanted[channel]
        # Only now: whoever is refused leaves its other channels too.
        for waiting in refused.values():
            for done in waiting:
                done.errback(BrokerDown(AWAY))
        if was_up:
            self._to_fell()

    def _answer(self, channel: bytes) -> None:
        waiting = self._wanted.get(channel)
        if waiting:
            answered, waiting[:] = waiting[:], []
            for done in answered:
                done.callback(None)

    # Commands and subscriptions.

    def subscribe(self, key: bytes) -> "Deferred[None]":
        """Have a key's messages sent here; fires once Redis has confirmed it, fails with `BrokerDown`."""
        if not self.up:
            return fail(BrokerDown(AWAY))
        done: Deferred[None] = Deferred()
        known = key in self._wanted
        self._wanted.setdefault(key, []).append(done)
        if known and key in self._confirmed:
            self._answer(key)
        elif not known:
            self._asked[key] += 1
            self._listening.tell(b"SUBSCRIBE", [key])
        return done

    def unsubscribe(self, key: bytes) -> None:
        """Have them sent here no more; one that is not subscribed to is no mistake."""
        if self._wanted.pop(key, None) is None:
            return
        self._confirmed.discard(key)
        if self._listening is not None:
            self._listening.tell(b"UNSUBSCRIBE", [key])

    def command(self, *arguments: Any) -> "Deferred[Any]":
        """
        Send a command.

        Args:
            arguments: the command and its arguments: bytes, texts (sent as UTF-8) and numbers.

        Returns:
            Fires with the reply (bytes, numbers, lists, None); fails with `BrokerDown` where Redis has not done it, or
            messages do not arrive here, or too many commands wait.
        """
        return self._send_if_up(*arguments).addErrback(_as_broker_down)

    def script(self, text: str) -> "Script":
        """Take a Lua script, to be called as often as wanted."""
        return Script(text, self._send_if_up)

    def _send_if_up(self, *arguments: Any) -> "Deferred[Any]":
        return self._send(*arguments) if self.up else fail(BrokerDown(AWAY))

    def _send(self, *arguments: Any) -> "Deferred[Any]":
        connection = self._commands
        if connection is None:
            return fail(BrokerDown(AWAY))
        if self._in_flight >= MOST_IN_FLIGHT:
            return fail(BrokerDown("too many commands wait for Redis"))
        self._in_flight += 1
        done: Deferred[Any] = connection.execute_command(*arguments)
        return done.addBoth(self._answered)

    def _answered(self, result: Any) -> Any:
        self._in_flight -= 1
        return result


class Script:
    """
    A Lua script that is sent by its hash, and whole where Redis has forgotten it.

    Args:
        text: the script.
        send: sends a command; fails with what txredisapi raises.
    """

    def __init__(self, text: str, send: Callable[..., "Deferred[Any]"]) -> None:
        self._text = text
        # What Redis calls a script by (https://redis.io/docs/latest/commands/evalsha/); no secret.
        self._hash = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
        self._send = send

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

        def whole(failure: Failure) -> "Deferred[Any]":
            if not str(failure.value).startswith("NOSCRIPT"):
                failure.raiseException()
            return self._send("EVAL", self._text, *rest)

        return self._send("EVALSHA", self._hash, *rest).addErrback(whole).addErrback(_as_broker_down)


def _as_broker_down(failure: Failure) -> Failure:
    if failure.check(BrokerDown):
        return failure
    failure.trap(RedisError)
    raise BrokerDown(f"Redis has not taken it: {failure.getErrorMessage()}")
