"""
The link to Redis: a pair of connections to the same Redis, one for commands and one for pub/sub messages.

Both connections are opened and closed together. An open socket does not prove that messages arrive. Therefore the link
sends probes, which take the same path as publications: a probe is published on the command connection, and received on
the subscriber connection. If a probe does not come back, the link reconnects. While it is down, commands and
subscriptions fail with `BrokerDown`.
"""

import os
import random
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.config.redis_url import RedisURL
from wsserver.errors import BrokerDown
from wsserver.hub.names import PRIVATE
from wsserver.redis.commands import UNAVAILABLE, Commands, Script
from wsserver.redis.connection import (
    LOST,
    Connection,
    NotConnected,
    ResponseError,
    connect,
    endpoint,
    read_certificates,
)
from wsserver.redis.errors import describe_reply
from wsserver.redis.sentinel import find_master, prove_master, read_dataset_id
from wsserver.redis.subscriber import SubscriberConnection
from wsserver.redis.subscriptions import Subscriptions

__all__ = ["RedisLink"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.redis")

PROBE_INTERVAL = 2.0
"""Seconds between two probes. If a probe has not come back when the next one is due, the link reconnects."""

CONNECT_TIMEOUT = 5.0
"""Maximum seconds to open both connections; then the attempt is repeated."""

MAX_BUFFERED = 1000
"""Maximum number of messages that are buffered until the link is up; beyond it, the oldest message is dropped."""

MAX_REPORTED = 10
"""Maximum number of different reasons that are logged during one outage."""


class RedisLink:
    """
    Keeps a pair of connections to Redis open, and restores every subscription after an outage.

    Args:
        url: the address of Redis, or of the sentinels that know the address.
        reactor: opens connections and schedules calls.
        on_messages: called with the messages of each read, as by `SubscriberConnection`. They may include probes.
        on_up: called when the link is up: with True after an outage, when messages may be missing; otherwise False.
        on_down: called when the link is down after it was up.
        on_permission_revoked: called with a Redis channel that the server was subscribed to, if Redis no longer permits
            the subscription.

    Raises:
        SettingError: the file of CA certificates in `url` cannot be used.
    """

    def __init__(
        self,
        url: RedisURL,
        reactor: Any,
        *,
        on_messages: Callable[[list[list[bytes]]], None],
        on_up: Callable[[bool], None],
        on_down: Callable[[], None],
        on_permission_revoked: Callable[[bytes], None],
    ) -> None:
        self._url = url
        self._reactor = reactor
        self._trust = read_certificates(url.ca_file) if url.ca_file else None
        self._call_on_messages = on_messages
        self._call_on_up = on_up
        self._call_on_down = on_down
        self._call_on_permission_revoked = on_permission_revoked
        self._probe_channel = f"{PRIVATE}probe:{os.getpid()}-{random.getrandbits(64):016x}".encode()
        self._subscriptions = Subscriptions(always=self._probe_channel)
        self._commands = Commands(self._on_demoted)
        self._scripts: list[Script] = []
        self._pair: tuple[Any, Any] | None = None
        """The connection for commands and the subscriber connection; None while disconnected."""

        # Supervision of the connections.
        self._opening: Deferred[Any] = succeed(None)
        self._retry: Any = None
        self._attempts = 0
        self._address = url.hosts[0]
        self._was_up = False
        self._reported_problems: set[str] = set()
        self._logged_warnings: set[str] = set()
        self._probing = LoopingCall(self._check_probe)
        self._probing.clock = reactor

        # What has arrived since the last check: since the last probe was sent, or the connections were opened.
        self._checked_since = 0.0
        """The time of the last check, in seconds of the reactor's clock."""
        self._received = False
        """Whether the subscriber connection has received anything since the last check."""
        self._replies = 0
        """Number of commands answered before the last check; by the next check, the number must have grown."""
        self._probed = False
        """Whether a probe has come back on the current pair of connections."""
        self._buffered: deque[list[bytes]] = deque(maxlen=MAX_BUFFERED)
        """Messages received before the link is up. They are delivered after calling `on_up`, which reports the gap."""

        self.up = False
        """Whether the link is up: a probe has come back, and Redis has confirmed every subscription."""
        self.problem = "not connected yet"
        """Why the link is down; only meaningful while `up` is False."""
        self.reconnects = 0
        """How often the link came up again after it had been down."""
        self.oversized = 0
        """How often the link was lost because of a message over `wsserver.redis.subscriber.MAX_MESSAGE`."""
        self.dataset_id = ""
        """The dataset ID of the connected Redis, or an empty string; see `wsserver.redis.sentinel.read_dataset_id`."""

    # Connecting.

    def start(self) -> None:
        """Connect to Redis in the background, retrying until Redis is available."""
        self._probing.start(PROBE_INTERVAL, now=False)
        self._open()

    @inlineCallbacks
    def stop(self) -> Generator[Any, Any, None]:
        """Disconnect from Redis; return a Deferred that fires once both connections are closed."""
        if self._probing.running:
            self._probing.stop()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._opening.cancel()
        disconnected = [connection.when_lost() for connection in self._pair or ()]
        self._close_pair()
        yield gatherResults(disconnected)

    def _open(self) -> None:
        self._retry = None
        self._opening = self._connect().addTimeout(CONNECT_TIMEOUT, self._reactor)
        self._opening.addCallbacks(self._on_connected, self._on_connect_failed)

    @inlineCallbacks
    def _connect(self) -> Generator[Any, Any, Any]:
        url, opened = self._url, []
        try:
            address = url.hosts[0]
            if url.master:
                address = yield find_master(url, self._trust, self._reactor)
            where = endpoint(self._reactor, *address, tls=url.tls, trust=self._trust)
            subscriber = partial(
                SubscriberConnection,
                self._reactor,
                on_messages=self._on_messages,
                on_confirmed=self._on_confirmed,
                on_refused=self._on_refused,
            )
            for make in (partial(Connection, self._reactor), subscriber):
                connection = yield connect(
                    make, where, username=url.username, password=url.password, database=url.database
                )
                opened.append(connection)
            if url.master:
                yield prove_master(opened[0])
            dataset_id = yield read_dataset_id(opened[0], alone=not url.master, warn=self._warn_once)
        except Exception:
            for connection in opened:
                connection.hang_up()
            raise
        return *opened, address, dataset_id

    def _on_connect_failed(self, failure: Failure) -> None:
        if not self._probing.running:
            return
        if failure.check(defer.TimeoutError):
            self._report_problem(self._with_hint(f"no answer within {CONNECT_TIMEOUT:g} s"))
        elif failure.check(NotConnected):
            self._report_problem(self._with_hint(failure.getErrorMessage()))
        else:
            self.problem = "connecting failed, see the log"
            _log.failure("connecting to Redis failed", failure)
        self._try_again()

    def _try_again(self) -> None:
        # At most a second until the next attempt, with random jitter, so that servers do not reconnect all at once.
        delay = min(0.1 * 2 ** min(self._attempts, 3), 0.7) * random.uniform(0.7, 1.3)  # noqa: S311 (no secret)
        self._attempts += 1
        self._retry = self._reactor.callLater(delay, self._open)

    def _report_problem(self, problem: str) -> None:
        """Record why the link is down. Log each reason once per outage, up to `MAX_REPORTED` different reasons."""
        self.problem = problem
        if problem not in self._reported_problems and len(self._reported_problems) < MAX_REPORTED:
            self._reported_problems.add(problem)
            _log.warn(
                "Redis at {url} (--redis) is unavailable, retrying: {problem}", url=self._url.shown, problem=problem
            )

    def _warn_once(self, text: str) -> None:
        if text not in self._logged_warnings:
            self._logged_warnings.add(text)
            _log.warn("{text}", text=text)

    def _on_connected(self, opened: tuple[Any, Any, tuple[str, int], str]) -> None:
        commands, subscriber, self._address, self.dataset_id = opened
        self._pair = commands, subscriber
        self._checked_since, self._received, self._replies, self._probed = self._reactor.seconds(), False, -1, False
        for connection in self._pair:
            if not connection.connected:
                self._drop(connection.why)
                return
            connection.when_lost().addCallback(self._on_lost)
        self._commands.begin(commands)
        # Scripts are loaded in advance, to keep the order of calls: if Redis did not know a script, the first call
        # would fail with NOSCRIPT and be sent again, and a later call could overtake it.
        for script in self._scripts:
            self._commands.send("SCRIPT", "LOAD", script.text, limited=False).addErrback(lambda _: None)
        self._subscriptions.begin(subscriber)

    def _on_lost(self, connection: Any) -> None:
        if self._pair is not None and connection in self._pair:
            self.oversized += getattr(connection, "is_oversized", False)
            self._drop(connection.why)

    def _on_demoted(self) -> None:
        # Without sentinels, there is no other Redis to connect to.
        if self._url.master and self._pair is not None:
            self._drop("Redis is no longer the master")

    def _drop(self, why: str) -> None:
        """Close both connections and reconnect: if one is lost, the other may be dead or lead to another Redis."""
        if self.up:
            self.problem = why
            _log.warn("lost Redis at {url}, reconnecting: {why}", url=self._url.shown, why=why)
        else:
            self._report_problem(self._with_hint(why))
        self._close_pair()
        self._try_again()

    def _close_pair(self) -> None:
        pair, self._pair = self._pair, None
        was_up, self.up = self.up, False
        for connection in pair or ():
            connection.hang_up()
        self._commands.end()
        self._subscriptions.end()
        self._buffered.clear()
        if was_up:
            self._call_on_down()

    # Probing.

    def _check_probe(self) -> None:
        """Check that the last probe has come back, and send the next; called every `PROBE_INTERVAL` seconds."""
        # If the connections were opened, or the probe was sent, less than half an interval ago, check next time.
        if self._pair is None or self._reactor.seconds() - self._checked_since < PROBE_INTERVAL / 2:
            return
        if not (self._received and self._commands.replies > self._replies):
            self._drop(f"no probe came back within {PROBE_INTERVAL:g} s")
        elif self.up or self._subscriptions.complete:
            self._probe()
        else:
            # Redis has not confirmed all subscriptions yet. As long as confirmations arrive, the connection is alive.
            self._checked_since, self._received = self._reactor.seconds(), False
        if self.up and self._url.master:
            self._look_for_another_master()

    def _with_hint(self, why: str) -> str:
        """Append to a reason what to check in the option --redis, unless the link has been up before."""
        if self._was_up:
            return why
        # A Redis without TLS parses a TLS greeting as the beginning of a command, and waits for the rest. A Redis with
        # TLS closes a connection that does not begin with a TLS greeting.
        if self._url.tls and why.startswith("no answer"):
            return f"{why}; if Redis does not use TLS, write redis:// in --redis"
        if not self._url.tls and why == LOST:
            return f"{why}; if Redis uses TLS, write rediss:// in --redis"
        return why

    def _probe(self) -> None:
        self._checked_since, self._received, self._replies = self._reactor.seconds(), False, self._commands.replies
        # Not limited: when too many commands wait, it is most important to know whether Redis still answers.
        self._commands.send("PUBLISH", self._probe_channel, b"", limited=False).addErrback(self._on_probe_failed)

    def _on_probe_failed(self, failure: Failure) -> None:
        # Other failures mean that the connection was lost; `_on_lost` handles that.
        if failure.check(ResponseError) and self._pair is not None:
            self._drop(self._describe_need("PUBLISH", failure.getErrorMessage()))

    @staticmethod
    def _describe_need(command: str, reply: str) -> str:
        need = f"the user needs {command} for the channels {PRIVATE}*; " if reply.startswith("NOPERM") else ""
        return need + describe_reply(reply)

    def _look_for_another_master(self) -> None:
        pair = self._pair

        def found(address: tuple[str, int]) -> None:
            # A master that is cut off from the sentinels may still answer, although other clients use a new master.
            if address != self._address and self._pair is pair:
                self._drop("the sentinels name another master")

        self._opening = find_master(self._url, self._trust, self._reactor)
        # If no sentinel answers, the link keeps using the current master.
        self._opening.addCallbacks(found, lambda failure: failure.trap(NotConnected))

    def _on_messages(self, messages: list[list[bytes]]) -> None:
        self._received = True
        if self.up:
            self._call_on_messages(messages)
            return
        pair = self._pair
        for message in messages:
            # After the probe, the link is up; its callbacks may lose the connections.
            if self._pair is pair:
                self._on_early_message(message)

    def _on_early_message(self, message: list[bytes]) -> None:
        """Handle a message of a read that began while the link was down."""
        if self.up:
            self._call_on_messages([message])
        elif message[1] != self._probe_channel:
            self._buffered.append(message)
        elif not self._probed:
            self._probed = True
            self._go_up()

    def _on_confirmed(self, channel: bytes) -> None:
        self._received = True
        self._subscriptions.confirm(channel)
        if channel == self._probe_channel:
            self._probe()
        self._go_up()

    def _on_refused(self, channels: list[bytes], why: str, alone: bool) -> None:
        self._received = True
        if not why.startswith("NOPERM"):
            self._drop(describe_reply(why))
        elif alone and channels == [self._probe_channel]:
            self._drop(self._describe_need("SUBSCRIBE", why))
        else:
            for channel in self._subscriptions.refuse(channels, why, alone=alone):
                self._call_on_permission_revoked(channel)
            self._go_up()

    def _go_up(self) -> None:
        if self.up or not self._probed or not self._subscriptions.complete:
            return
        self.up = True
        self._attempts = 0
        self._reported_problems.clear()
        _log.info("connected to Redis at {url}", url=self._url.shown)
        again, self._was_up = self._was_up, True
        self.reconnects += again
        self._call_on_up(again)
        # A callback may lose the connections, which clears the buffer.
        while self._buffered:
            self._call_on_messages([self._buffered.popleft()])

    # Commands and subscriptions.

    def subscribe(self, channel: bytes) -> "Deferred[None]":
        """
        Subscribe to a Redis channel. After an outage, the link restores the subscription.

        Returns:
            A Deferred that fires once Redis has confirmed the subscription. It fails with `NotPermitted` if the
            server's Redis user may not subscribe to the channel, and with `BrokerDown` if Redis is unavailable or too
            many subscriptions are unconfirmed.
        """
        return self._subscriptions.subscribe(channel) if self.up else fail(BrokerDown(UNAVAILABLE))

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe from a Redis channel; do nothing if the link is not subscribed to it."""
        self._subscriptions.unsubscribe(channel)

    def command(self, *arguments: Any) -> "Deferred[Any]":
        """
        Send a command to Redis.

        Args:
            arguments: the command's name and its arguments: bytes, strings (sent as UTF-8) and numbers.

        Returns:
            A Deferred that fires with the reply: bytes, a number, a list or None. It fails with `ServerNotPermitted` if
            the server's Redis user may not run the command. It fails with `BrokerDown` if Redis replied with another
            error, the connection was lost, the link is down, or too many commands are waiting for their reply.
        """
        done = self._commands.send(*arguments) if self.up else fail(BrokerDown(UNAVAILABLE))
        return done.addErrback(self._commands.explain)

    def script(self, text: str) -> Script:
        """
        Register the source text of a Lua script, which the link loads into Redis; must be called before `start`.

        Returns:
            The script. Its calls fail for the same reasons as `command`.
        """
        script = Script(text, self._submit, self._commands.explain)
        self._scripts.append(script)
        return script

    def _submit(self, command: bytes, on_reply: Callable[[Any], None]) -> None:
        if self.up:
            self._commands.submit(command, on_reply)
        else:
            on_reply(BrokerDown(UNAVAILABLE))
