"""
Messages that a raw subscriber sends: they are passed to the application's backend, one at a time, in order.

This module does not use a clock or a socket.
"""

import base64
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.closecodes import CloseCode
from wsserver.endpoints.backend_answers import carry_out
from wsserver.errors import BrokerDown
from wsserver.hooks.interface import Hooks
from wsserver.hooks.messages import Answered, Caller, HookDisconnect
from wsserver.hub.hub import Hub
from wsserver.hub.publication import Publication
from wsserver.jsonfields import write
from wsserver.typing import ChannelName, JSONText

__all__ = ["MAX_QUEUED_MESSAGES", "MessageQueue"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.raw")

MAX_QUEUED_MESSAGES = 1000
"""Maximum number of messages of a client that wait for the backend; the same as of commands of a Centrifuge client."""


class MessageQueue:
    """
    The messages of one raw subscriber to the backend.

    Args:
        hub: publishes what the backend's answers contain.
        hooks: passes the messages to the backend.
        caller: the client, with its user.
        channels: the channels that the client is subscribed to.
        max_size: maximum size of the waiting messages in bytes, unless there is only one.
        send: sends data to the client; called with a publication that has no channel.
        close: closes the connection; called with a close code and a reason.
    """

    __slots__ = (
        *("_busy", "_caller", "_channels", "_close", "_hooks", "_hub", "_max_size", "_send", "_size", "_waiting"),
    )

    def __init__(
        self,
        hub: Hub,
        hooks: Hooks,
        caller: Caller,
        channels: Sequence[ChannelName],
        *,
        max_size: int,
        send: Callable[[Publication], object],
        close: Callable[[int, str], object],
    ) -> None:
        self._hub, self._hooks, self._caller, self._channels = hub, hooks, caller, channels
        self._max_size, self._send, self._close = max_size, send, close
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._size = 0
        """Size of the waiting messages in bytes."""
        self._busy = False
        """Whether a message is being handled."""

    def add(self, payload: bytes, is_binary: bool) -> None:
        """Pass a message to the backend, after those before it. Close with 1013 if too many messages wait."""
        size = self._size + len(payload)
        if self._waiting and (size > self._max_size or len(self._waiting) >= MAX_QUEUED_MESSAGES):
            self._close(CloseCode.TRY_AGAIN_LATER, "too many messages wait for the backend")
            return
        self._waiting.append((payload, is_binary))
        self._size = size
        if not self._busy:
            self._handle_all().addErrback(self._failed)

    @property
    def is_busy(self) -> bool:
        """Whether a message is being handled or waits."""
        return self._busy

    def clear(self) -> None:
        """Drop the waiting messages, because the connection is closed."""
        self._waiting.clear()
        self._size = 0

    @inlineCallbacks
    def _handle_all(self) -> Generator[Any, Any, None]:
        self._busy = True
        while self._waiting:
            payload, is_binary = self._waiting.popleft()
            self._size -= len(payload)
            data, b64data = None, None
            if is_binary:
                b64data = base64.b64encode(payload).decode("ascii")
            else:
                # Always a JSON string, so that the type does not depend on what a client writes.
                data = JSONText(write(payload.decode("utf-8")))
            answer = yield self._hooks.message(self._caller, data=data, b64data=b64data, channels=self._channels)
            try:
                answer = yield carry_out(self._hub, answer)
            except BrokerDown as error:
                _log.warn("publishing for the message hook failed reason={reason!r}", reason=str(error))
                continue
            if isinstance(answer, HookDisconnect):
                self.clear()
                self._close(answer.code, answer.reason)
            elif isinstance(answer, Answered) and (content := answer.content()) is not None:
                self._send(content)
        self._busy = False

    def _failed(self, failure: Failure) -> None:
        _log.failure("handling a message failed", failure)
        self._close(CloseCode.INTERNAL_ERROR, "the server failed")
