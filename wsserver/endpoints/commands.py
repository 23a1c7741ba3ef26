"""
The commands: words a client sends as a text message, and what is answered.

Rule 1: no Twisted, no clock, no socket: what a command may know is its `Session`.
Rule 2: a message is a command only if it is one; everything else is echoed, so an echo client never meets a surprise.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from zope.interface import Attribute, Interface, implementer

from wsserver.errors import CommandError

__all__ = ["BUILT_IN", "STEADY", "Command", "ICommand", "Session", "collect", "parse", "spell"]


class ICommand(Interface):
    """A command, as a Twisted plugin: an object of it in a module under `twisted/plugins/` adds it to every server."""

    name = Attribute("The word that calls it: lower case, no white space.")
    help = Attribute("One line that says what it does.")
    takes_argument = Attribute("Whether more words may follow the name; without it such a message is echoed.")

    def reply(session: "Session", argument: str) -> str:
        """Answer; what it raises closes the connection with 1011."""


@runtime_checkable
class Command(Protocol):
    """The same for type checkers: what `ICommand` describes."""

    @property
    def name(self) -> str:
        """The word that calls it."""

    @property
    def help(self) -> str:
        """One line that says what it does."""

    @property
    def takes_argument(self) -> bool:
        """Whether more words may follow the name."""

    def reply(self, session: "Session", argument: str) -> str:
        """
        Answer.

        Args:
            session: the connection that asks.
            argument: what followed the name; empty where nothing did.

        Returns:
            The text to send back.
        """


class Session(Protocol):
    """What a command may know and do."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """All commands by name, in the order of `help`."""

    @property
    def peer(self) -> str:
        """The client's address, as `127.0.0.1:51234`; `client on a UNIX socket` if it has none."""

    @property
    def uptime(self) -> float:
        """Seconds since the server started."""

    def now(self) -> datetime:
        """Tell the time in the server's zone."""

    def describe(self) -> dict[str, Any]:
        """Tell what the server knows about the connection, ready for JSON."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection once the reply is sent."""


@dataclass(frozen=True, slots=True)
class _Say:
    """A command with one fixed answer."""

    name: str
    answer: str
    help: str
    takes_argument: bool = False

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return self.answer


@dataclass(frozen=True, slots=True)
class _Greet:
    """A command that greets the client by its address, which an echo could not."""

    name: str
    greeting: str
    help: str
    takes_argument: bool = False

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return f"{self.greeting}, {session.peer}!"


class _Simple:
    takes_argument = False


class _Age(_Simple):
    name = "age"
    help = "tells how long the server has been running"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return str(timedelta(seconds=int(session.uptime)))


class _Date(_Simple):
    name = "date"
    help = "tells the date, as in 2026-11-21"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return session.now().date().isoformat()


class _Time(_Simple):
    name = "time"
    help = "tells the local time with its distance from UTC, as in 14:03:22+01:00"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return session.now().isoformat(timespec="seconds").partition("T")[2]


class _Bye(_Simple):
    name = "bye"
    help = "says goodbye and closes the connection with 1000"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        session.close(1000, "bye")
        return "Goodbye!"


class _Help(_Simple):
    name = "help"
    help = "lists the commands"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return "\n".join(f"{command.name}: {command.help}" for command in session.commands.values())


class _WhoAmI(_Simple):
    name = "whoami"
    help = "tells as JSON what the server knows about this connection"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return json.dumps(session.describe(), ensure_ascii=False)


BUILT_IN: tuple[Command, ...] = (
    _Greet("hello", "Hello", "greets you by your address"),
    _Greet("hi", "Hi", "greets you by your address"),
    _Say("name", "my name is wsserver", "tells the server's name"),
    _Age(),
    _Date(),
    _Time(),
    _Say("thanks", "you're welcome", "answers politely"),
    _Bye(),
    _Help(),
    _WhoAmI(),
)
"""The commands of every server."""

STEADY = frozenset({"date", "time"})
"""Names of commands whose reply is the same on every connection until the next second. No other command has them."""

implementer(ICommand)(_Say)
implementer(ICommand)(_Greet)
implementer(ICommand)(_Simple)


def collect(more: Iterable[Command]) -> Mapping[str, Command]:
    """
    Put the commands of a server into one table.

    Args:
        more: commands besides the built-in ones, which they may not replace.

    Returns:
        Name -> command, in the order of `help`.

    Raises:
        CommandError: a name is no lower-case word, or is taken.
    """
    table: dict[str, Command] = {}
    for command in (*BUILT_IN, *more):
        name = getattr(command, "name", None)
        if not isinstance(name, str) or name.split() != [name] or name != name.lower():
            raise CommandError(f"the command {command!r}: its name {name!r} is not one lower-case word")
        if not isinstance(getattr(command, "help", None), str) or not callable(getattr(command, "reply", None)):
            raise CommandError(f"the command {command!r}: it lacks a help line or a reply method")
        if name in table:
            raise CommandError(f"the command {command!r}: the name {name!r} is taken by {table[name]!r}")
        table[name] = command
    return table


def parse(text: str, commands: Mapping[str, Command]) -> tuple[Command, str] | None:
    """
    Find the command in a message. Case and surrounding white space do not matter.

    Args:
        text: the message.
        commands: name -> command.

    Returns:
        The command and its argument; None where the message is no command.
    """
    word, _, argument = text.strip().partition(" ")
    command = commands.get(word.lower())
    if command is None or (argument and not getattr(command, "takes_argument", False)):
        return None
    return command, argument.strip()


def spell(commands: Mapping[str, Command]) -> dict[bytes, tuple[Command, str]]:
    """
    Spell the commands as they are most often sent, to be looked up before `parse` is asked.

    Args:
        commands: name -> command.

    Returns:
        Message as UTF-8 -> what `parse` finds in it.
    """
    words = {}
    for name in commands:
        for word in (name, name.upper(), name.capitalize()):
            found = parse(word, commands)
            if found is not None:
                # A name with half a surrogate pair in it is in no UTF-8.
                words[word.encode("utf-8", "surrogatepass")] = found
    return words
