"""
Publish commands that the broker has received, but not confirmed yet.

Redis executes the commands of a server in the order in which they were sent. So a client's next publication need not
wait until Redis has confirmed the one before. The replies are still sent in the order of the commands.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from wsserver.centrifugecodes import Disconnect
from wsserver.endpoints.centrifuge.commands import Command, Publish

__all__ = ["MAX_BYTES", "MAX_PUBLISHES", "Sent", "UnconfirmedPublishes"]

MAX_PUBLISHES: Final = 64
"""Maximum number of unconfirmed publish commands of a client. A further one is executed after a confirmation."""

MAX_BYTES: Final = 64 * 1024
"""The same for the size of these commands in bytes, unless there is only one."""


class Sent(msgspec.Struct, frozen=True):
    """The result of a publish command whose publication the broker has received."""

    done: Any
    """A Deferred that fires when the broker has confirmed the publication, or fails."""


class _Entry(msgspec.Struct):
    """A command, and its answer; None until the broker has confirmed the publication."""

    command: Command
    answer: Any = None


class UnconfirmedPublishes:
    """The unconfirmed publish commands of one client, in order."""

    __slots__ = ("_entries", "_size")

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def admits(self, command: Command) -> bool:
        """Return whether a command may be executed before these publications, at least one, are confirmed."""
        fits = len(self._entries) < MAX_PUBLISHES and self._size + command.size <= MAX_BYTES
        # A command after one that is answered with a disconnect is ignored.
        return fits and isinstance(command.request, Publish) and not isinstance(self._entries[-1].answer, Disconnect)

    def add(self, command: Command, answer: Any = None) -> _Entry:
        """
        Append a command.

        Args:
            command: the command.
            answer: its answer; None if the broker has yet to confirm the publication.

        Returns:
            The entry to pass to `confirm`.
        """
        entry = _Entry(command, answer)
        self._entries.append(entry)
        self._size += command.size
        return entry

    def confirm(self, entry: _Entry, answer: Any) -> Iterator[tuple[Any, Command]]:
        """Set the answer to a command; iterate over the answers, with their commands, that can be sent now."""
        entry.answer = answer
        while self._entries and self._entries[0].answer is not None:
            first = self._entries.popleft()
            self._size -= first.command.size
            yield first.answer, first.command
