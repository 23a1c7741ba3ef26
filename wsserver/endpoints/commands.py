"""
The commands: a client sends a command's name as a text message, and the server answers with the command's reply.

This module does not use Twisted, a clock or a socket. A command learns about its connection through its `Session` only.
A message that is not exactly a command is echoed, so that the server can also be used as an echo server.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from zope.interface import Attribute, Interface, implementer

from wsserver.errors import CommandError

__all__ = ["BUILT_IN", "CACHEABLE", "Command", "ICommand", "Session", "collect", "common_spellings", "parse"]


class ICommand(Interface):
    """
    A command, as a Twisted plugin.

    An object that provides this interface, in a module under `twisted/plugins/`, adds the command to every server.
    """

    name = Attribute("The command's name: one word in lower case.")
    help = Attribute("One line that describes the command.")
    takes_argument = Attribute("Whether more words may follow the name; if not, a message with more words is echoed.")

    def reply(session: "Session", argument: str) -> str:
        """Return the reply. An exception closes the connection with 1011."""


@runtime_checkable
class Command(Protocol):
    """A command: the interface `ICommand` in a form that type checkers understand."""

    @property
    def name(self) -> str:
        """The command's name: one word in lower case."""

    @property
    def help(self) -> str:
        """One line that describes the command."""

    @property
    def takes_argument(self) -> bool:
        """Whether more words may follow the name; if not, a message with more words is echoed."""

    def reply(self, session: "Session", argument: str) -> str:
        """
        Return the reply.

        Args:
            session: the connection that sent the command.
            argument: the text after the name; empty if there is none.

        Returns:
            The text to send back.
        """


class Session(Protocol):
    """A command's view of its connection: what it may read and do."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """Name -> command, in the order in which `help` lists them."""

    @property
    def peer(self) -> str:
        """The client's address, as `127.0.0.1:51234`; `client on a UNIX socket` if it has none."""

    @property
    def uptime(self) -> float:
        """Seconds since the server started."""

    def now(self) -> datetime:
        """Return the current time in the server's time zone."""

    def describe(self) -> dict[str, Any]:
        """Return a description of the connection that can be encoded as JSON."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection after the reply has been sent."""


@dataclass(frozen=True, slots=True)
class _FixedReply:
    """A command with a fixed reply."""

    name: str
    answer: str
    help: str
    takes_argument: bool = False

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return self.answer


@dataclass(frozen=True, slots=True)
class _Greet:
    """A command that greets the client by its address. This differs from an echo, so it shows that commands work."""

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
    help = "show how long the server has been running"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return str(timedelta(seconds=int(session.uptime)))


class _Date(_Simple):
    name = "date"
    help = "show the date, as 2026-11-21"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return session.now().date().isoformat()


class _Time(_Simple):
    name = "time"
    help = "show the local time with its UTC offset, as 14:03:22+01:00"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return session.now().isoformat(timespec="seconds").partition("T")[2]


class _Bye(_Simple):
    name = "bye"
    help = 'reply "Goodbye!", then close the connection with 1000'

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        session.close(1000, "bye")
        return "Goodbye!"


class _Help(_Simple):
    name = "help"
    help = "list the commands"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return "\n".join(f"{command.name}: {command.help}" for command in session.commands.values())


class _WhoAmI(_Simple):
    name = "whoami"
    help = "describe this connection as JSON"

    def reply(self, session: Session, argument: str) -> str:  # noqa: ARG002
        return json.dumps(session.describe(), ensure_ascii=False)


BUILT_IN: tuple[Command, ...] = (
    _Greet("hello", "Hello", "greet the client by its address"),
    _Greet("hi", "Hi", "greet the client by its address"),
    _FixedReply("name", "my name is wsserver", "show the server's name"),
    _Age(),
    _Date(),
    _Time(),
    _FixedReply("thanks", "you're welcome", "reply politely"),
    _Bye(),
    _Help(),
    _WhoAmI(),
)
"""The commands that every server has."""

CACHEABLE = frozenset({"date", "time"})
"""Names of the commands whose reply is the same for all connections within a second. Both are built-in commands."""

implementer(ICommand)(_FixedReply)
implementer(ICommand)(_Greet)
implementer(ICommand)(_Simple)


def collect(added: Iterable[Command]) -> Mapping[str, Command]:
    """
    Combine the built-in commands with further ones.

    Args:
        added: further commands; they cannot replace built-in ones.

    Returns:
        Name -> command, in the order in which `help` lists them.

    Raises:
        CommandError: a name is not one lower-case word, or is already used; or a help line or reply method is missing.
    """
    table: dict[str, Command] = {}
    for command in (*BUILT_IN, *added):
        name = getattr(command, "name", None)
        if not isinstance(name, str) or name.split() != [name] or name != name.lower():
            raise CommandError(f"command {command!r}: invalid name {name!r}: expected one lower-case word")
        if not isinstance(getattr(command, "help", None), str) or not callable(getattr(command, "reply", None)):
            raise CommandError(f"command {command!r}: it has no help line or no reply method")
        if name in table:
            raise CommandError(f"command {command!r}: the name {name!r} is already used by {table[name]!r}")
        table[name] = command
    return table


def parse(text: str, commands: Mapping[str, Command]) -> tuple[Command, str] | None:
    """
    Parse a message as a command. Case and surrounding white space do not matter.

    Args:
        text: the message.
        commands: name -> command.

    Returns:
        The command and its argument; None if the message is not a command.
    """
    word, _, argument = text.strip().partition(" ")
    command = commands.get(word.lower())
    if command is None or (argument and not getattr(command, "takes_argument", False)):
        return None
    return command, argument.strip()


def common_spellings(commands: Mapping[str, Command]) -> dict[bytes, tuple[Command, str]]:
    """
    Return the most common messages that are commands: each name in lower case, in upper case and capitalized.

    Looking up a message in this table is faster than calling `parse`.

    Args:
        commands: name -> command.

    Returns:
        Message in UTF-8 -> the result of `parse` for it.
    """
    spellings = {}
    for name in commands:
        for word in (name, name.upper(), name.capitalize()):
            found = parse(word, commands)
            if found is not None:
                # A name with a lone surrogate cannot be encoded in strict UTF-8.
                spellings[word.encode("utf-8", "surrogatepass")] = found
    return spellings
