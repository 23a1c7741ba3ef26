"""
The connection that subscribes to Redis channels and receives their messages.

It does not know what the messages mean, and does not reconnect: see `wsserver.redis.supervisor`.
"""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from wsserver.config.parsers import show_size
from wsserver.redis.connection import Connection, ResponseError, pack_command
from wsserver.text import quote

__all__ = ["BATCH", "MAX_MESSAGE", "SubscriberConnection"]

BATCH = 1000
"""Maximum number of channels in one SUBSCRIBE command."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Maximum size in bytes of a message that the server reads from Redis. Centrifugo's limit for the API is 1 MiB."""

_HEADER = re.compile(rb"\*3\r\n\$7\r\nmessage\r\n\$(\d{1,9})\r\n")
_SIZE = re.compile(rb"\r\n\$(\d+)\r\n")


class SubscriberConnection(Connection):
    """
    A connection that subscribes to Redis channels and receives their messages.

    Redis answers a SUBSCRIBE command for several channels with one confirmation for each channel, or with a single
    error for all of them. Answers arrive in the order of the commands: each belongs to the oldest unanswered command.

    Args:
        reactor: as for `Connection`.
        on_messages: called with the messages of each read, in order: Redis sends a message as an array of the word
            `message`, the Redis channel and the data. It is called before `on_confirmed` or `on_refused` if a message
            was received before the answer.
        on_confirmed: called with a Redis channel when its subscription is confirmed. It is not called if a later
            SUBSCRIBE for the channel is still unanswered.
        on_refused: called when Redis refuses a SUBSCRIBE command, with three arguments: the channels of the command
            (without those for which a later SUBSCRIBE is unanswered), the error reply, and whether the command named
            only one channel.
    """

    def __init__(
        self,
        reactor: Any = None,
        *,
        on_messages: Callable[[list[list[bytes]]], None],
        on_confirmed: Callable[[bytes], None],
        on_refused: Callable[[list[bytes], str, bool], None],
    ) -> None:
        super().__init__(reactor)
        self._on_messages, self._on_confirmed, self._on_refused = on_messages, on_confirmed, on_refused
        self._messages: list[list[bytes]] = []
        """The messages of the current read that have not been passed to `on_messages` yet."""
        self._unanswered_commands: deque[tuple[bytes, list[bytes]]] = deque()
        self._answer_count = 0
        """Number of answers to the oldest unanswered command that have arrived."""
        self._pending_subscribes: Counter[bytes] = Counter()
        """Channel -> number of unanswered SUBSCRIBE commands, which is 2 after subscribe, unsubscribe, subscribe."""
        self._incomplete = 0
        """Number of bytes received since the last complete message or answer."""
        self._beginning: list[bytes] = []
        """The read with the last complete message or answer, and the one after it."""
        self.is_oversized = False
        """Whether the connection was closed because of a message over `MAX_MESSAGE`."""
        self.unanswered = 0
        """Number of answers that are outstanding: one for each channel of each unanswered command."""

    def hang_up(self) -> None:
        """
        Close the connection immediately.

        No callback is called after this, even for messages received before. Messages that have already been passed to
        `on_messages` are still processed.
        """
        self._on_messages = self._on_confirmed = self._on_refused = _ignore
        super().hang_up()

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Subscribe to Redis channels, with one SUBSCRIBE command for every `BATCH` channels."""
        rest = list(channels)
        for start in range(0, len(rest), BATCH):
            batch = rest[start : start + BATCH]
            self._pending_subscribes.update(batch)
            self._send_command(b"SUBSCRIBE", batch)

    def unsubscribe(self, channel: bytes) -> None:
        """Send UNSUBSCRIBE for a Redis channel."""
        self._send_command(b"UNSUBSCRIBE", [channel])

    def _send_command(self, command: bytes, channels: list[bytes]) -> None:
        self._unanswered_commands.append((command, channels))
        self.unanswered += len(channels)
        self.transport.write(pack_command((command, *channels)))

    def dataReceived(self, data: bytes) -> None:
        """Handle the messages and answers in the received data, like `Connection.dataReceived`."""
        self._incomplete += len(data)
        super().dataReceived(data)

    def turn_ended(self, data: bytes) -> None:
        """
        Pass on the messages of this turn.

        If a message is over `MAX_MESSAGE`, close the connection instead of reading the rest of it. The supervisor opens
        a new one, and subscribers are told what may be missing, as after any loss of the connection.
        """
        self._pass_messages()
        if data and not self._incomplete:
            self._beginning = [data]
        elif len(self._beginning) < 2:
            self._beginning.append(data)
        if self._incomplete > MAX_MESSAGE and not self.is_oversized:
            self.is_oversized = True
            self.why = f"{_describe_message(b''.join(self._beginning))} is over {show_size(MAX_MESSAGE)}"
            self.hang_up()

    def receive(self, reply: Any) -> None:
        """Handle a message, or the answer to a SUBSCRIBE or UNSUBSCRIBE command."""
        self._incomplete = 0
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"message":
            self._messages.append(reply)
            return
        self._pass_messages()
        if kind in (b"subscribe", b"unsubscribe"):
            self._on_answer(reply[1])
        elif isinstance(reply, ResponseError) and self._unanswered_commands:
            self._on_refusal(str(reply))
        else:
            super().receive(reply)

    def _pass_messages(self) -> None:
        if self._messages:
            messages, self._messages = self._messages, []
            self._on_messages(messages)

    def _on_answer(self, channel: bytes) -> None:
        command, channels = self._unanswered_commands[0]
        self.unanswered -= 1
        self._answer_count += 1
        if self._answer_count == len(channels):
            self._unanswered_commands.popleft()
            self._answer_count = 0
        if command == b"SUBSCRIBE" and self._is_last_answer(channel):
            self._on_confirmed(channel)

    def _on_refusal(self, why: str) -> None:
        command, channels = self._unanswered_commands.popleft()
        self.unanswered -= len(channels)
        if command == b"SUBSCRIBE":
            self._on_refused(
                [channel for channel in channels if self._is_last_answer(channel)], why, len(channels) == 1
            )

    def _is_last_answer(self, channel: bytes) -> bool:
        self._pending_subscribes[channel] -= 1
        if self._pending_subscribes[channel]:
            return False
        del self._pending_subscribes[channel]
        return True


def _describe_message(data: bytes) -> str:
    """
    Return "a message to channel NAME" for the first message over `MAX_MESSAGE` that begins in the data.

    The data may begin within another message. Its publisher could mislead the reader of the log, but nothing else.
    """
    for header in _HEADER.finditer(data):
        end = header.end() + int(header[1])
        size = _SIZE.match(data, end)
        if size is not None and int(size[1]) > MAX_MESSAGE:
            return f"a message to channel {quote(data[header.end() : end].decode('utf-8', 'replace'))}"
    return "a message"


def _ignore(*_: Any) -> None:
    """Do nothing."""
