"""
Unfinished messages: limit how long, and in how much memory, the server waits for the rest of a message.

A client could send the first part of a message on each of many connections, and never the rest. So each message has a
deadline, and all unfinished messages together have a limit.
"""

from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

__all__ = ["MAX_UNFINISHED", "MEASURE_INTERVAL", "Receiver", "UnfinishedMessages"]

MAX_UNFINISHED = 128 * 1024**2
"""Maximum size of the unfinished messages of all connections, in bytes. Beyond it, the oldest are given up."""

MEASURE_INTERVAL = 0.1
"""Seconds between two measurements of the unfinished messages, while they could exceed `MAX_UNFINISHED`."""


class Receiver(Protocol):
    """A connection that receives messages."""

    messages_in: int
    """Number of messages received."""

    @property
    def is_unfinished(self) -> bool:
        """Whether a message has begun and has not arrived completely."""

    @property
    def unfinished_size(self) -> int:
        """Size in bytes of the part of the message that has arrived."""

    @property
    def is_throttled(self) -> bool:
        """Whether the server itself delays the message, because the client sends faster than permitted."""

    def message_timed_out(self) -> None:
        """Fail the connection: the message did not arrive within the timeout."""

    def message_given_up(self) -> None:
        """Fail the connection: all unfinished messages together are too large."""


class UnfinishedMessages:
    """
    The messages of all connections that have begun and have not arrived completely.

    A message that is complete stays in the set until its deadline or until the next message of its connection begins,
    because removing it at once would cost time for every large message.

    Args:
        reactor: provides the clock and the timers.
        timeout: seconds within which a message must arrive; 0 for no limit.
        max_message: maximum size of a message in bytes.
    """

    def __init__(self, reactor: IReactorTime, timeout: float, max_message: int) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._max_message = max_message
        self._begun: dict[Receiver, tuple[float, int]] = {}
        """
        Connection -> the time when its message began, and the number of messages that it had received before. The
        oldest message comes first.
        """
        self._expiry: Any = None
        self._measurement: Any = None

    def configure(self, timeout: float, max_message: int) -> None:
        """Replace the limits; for the arguments see the constructor. A deadline that has begun stays."""
        self._timeout, self._max_message = timeout, max_message

    def begin(self, connection: Receiver) -> None:
        """Start the deadline of a message, of which the first part has arrived."""
        begun = self._begun
        begun.pop(connection, None)
        begun[connection] = self._reactor.seconds(), connection.messages_in
        if self._expiry is None and self._timeout:
            self._expiry = self._reactor.callLater(self._timeout, self._expire)
        if self._measurement is None and len(begun) * self._max_message > MAX_UNFINISHED:
            self._measurement = self._reactor.callLater(MEASURE_INTERVAL, self._measure)

    def discard(self, connection: Receiver) -> None:
        """Forget a connection, which is closed."""
        if self._begun.pop(connection, None) and not self._begun:
            for timer in (self._expiry, self._measurement):
                if timer is not None:
                    timer.cancel()
            self._expiry = self._measurement = None

    def _expire(self) -> None:
        self._expiry = None
        if not self._timeout:
            # The limit was removed after the timer had been started.
            return
        now = self._reactor.seconds()
        throttled = []
        for connection, (begun, number) in list(self._begun.items()):
            # The same sum as in the time of the timer: any other one could differ from it by a rounding error, and the
            # timer would then fire again and again at the same time.
            deadline = begun + self._timeout
            if deadline > now:
                self._expiry = self._reactor.callLater(deadline - now, self._expire)
                break
            self.discard(connection)
            if not self._is_waiting(connection, number):
                continue
            if connection.is_throttled:
                throttled.append(connection)
            else:
                connection.message_timed_out()
        for connection in throttled:
            self.begin(connection)

    def _is_waiting(self, connection: Receiver, number: int) -> bool:
        return connection.is_unfinished and connection.messages_in == number

    def _measure(self) -> None:
        self._measurement = None
        waiting = []
        for connection, (_, number) in list(self._begun.items()):
            if self._is_waiting(connection, number):
                waiting.append((connection, connection.unfinished_size))
            else:
                self.discard(connection)
        excess = sum(size for _, size in waiting) - MAX_UNFINISHED
        for connection, size in waiting:
            if excess <= 0:
                break
            self.discard(connection)
            connection.message_given_up()
            excess -= size
        if len(self._begun) * self._max_message > MAX_UNFINISHED:
            self._measurement = self._reactor.callLater(MEASURE_INTERVAL, self._measure)
