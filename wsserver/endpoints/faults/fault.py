"""
Faults: a row of the table, and the plan that a URL's query makes of it.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final

from wsserver.config.parsers import a_token
from wsserver.endpoints.faults.parameters import Parameter, choice, duration, integer, parse, text
from wsserver.errors import InvalidFault
from wsserver.text import quote

__all__ = ["COMMON", "PREFIX", "TRIGGER", "Fault", "Plan", "Stage", "make_plan"]

PREFIX: Final = "/faults/"
"""The prefix of the paths of all faults."""


class Stage(Enum):
    """When a fault happens."""

    HEAD = "head"
    """The client changes the head of the 101 response: `run(connection, head, **values)` returns the new head."""
    RESPONSE = "response"
    """Instead of the 101 response: `run(connection, head, **values)` sends something else."""
    OPEN = "open"
    """`run(connection, **values)` is called once: see the parameters `after` and `wait`."""


TRIGGER: Final = (
    integer(
        "after", 0, 0, 10_000, "Number of messages that the client sends, and the server answers, before the fault."
    ),
    duration("wait", "100ms", 0, 300, "Time until the fault, after the handshake or that message."),
)
"""The parameters of all faults of an open connection."""


def _a_subprotocol(given: str) -> str:
    return given and a_token(given)


COMMON: Final = (
    duration("delay", "0s", 0, 60, "Time by which the server delays each frame."),
    duration("jitter", "0s", 0, 60, "Up to this time is added to each delay, at random; frames keep their order."),
    integer("fragment", 0, 0, 1_000_000, "Maximum number of bytes in a frame of an echo; 0 sends it in one frame."),
    integer("chunk", 0, 0, 1_000_000, "Number of bytes that the server writes at a time; 0 writes all at once."),
    duration("pause", "10ms", 0.01, 60, "Time between two such writes."),
    choice("pong", ("right", "none", "wrong"), "How the server answers a ping."),
    text(
        "subprotocol",
        "",
        "The subprotocol that the server selects, if the client offers it; empty for that of --subprotocol.",
        _a_subprotocol,
        256,
    ),
    choice("compression", ("default", "on", "off"), "Whether the server accepts permessage-deflate."),
)
"""The parameters that every fault has. They can be combined with any fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table of faults."""

    name: str
    """The last segment of its path."""
    group: str
    summary: str
    right: str
    """What a client does that follows RFC 6455."""
    run: Callable[..., Any] | None = None
    """The fault itself, see `Stage`; None if its `defaults` are the fault."""
    parameters: tuple[Parameter, ...] = ()
    """Its own parameters, the main one first."""
    stage: Stage = Stage.OPEN
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of parameters whose defaults differ from the usual ones."""
    examples: tuple[str, ...] = ()
    """Queries."""

    @property
    def path(self) -> str:
        """The path of its WebSocket."""
        return PREFIX + self.name

    @property
    def accepted(self) -> tuple[Parameter, ...]:
        """All its parameters: its own, those of an open connection, and the common ones."""
        return (*self.parameters, *(TRIGGER if self.run and self.stage is Stage.OPEN else ()), *COMMON)

    def describe(self) -> dict[str, Any]:
        """Return a description that can be encoded as JSON, with the fault's own parameters."""
        changed = [one for one in self.accepted if one.name in self.defaults and one in COMMON]
        own = [one for one in self.accepted if one not in COMMON]
        return {
            "name": self.name,
            "path": self.path,
            "group": self.group,
            "summary": self.summary,
            "right": self.right,
            "parameters": [one.describe(self.defaults.get(one.name, one.default)) for one in (*own, *changed)],
            "examples": [self.path, *(f"{self.path}?{query}" for query in self.examples)],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fault connection does: a fault, and the values of its parameters."""

    fault: Fault
    own: Mapping[str, Any]
    """Name of a parameter of the fault -> value; what `Fault.run` receives."""
    values: Mapping[str, Any]
    """Name of a parameter -> value, for all parameters."""


def make_plan(table: Mapping[str, Fault], name: str, given: Mapping[str, str]) -> Plan:
    """
    Return the plan for a fault and its parameters.

    In place of the fault `echo`, a parameter may name a fault: `/faults/echo?close=1012&after=3` is the same as
    `/faults/close?code=1012&after=3`.

    Args:
        table: name -> fault.
        name: the fault's name; `_` may replace `-`.
        given: name of a parameter -> text.

    Raises:
        InvalidFault: the fault is unknown, or a parameter is unknown or has an invalid value.
    """
    name, given = _find_switch(table, name.replace("_", "-"), given)
    fault = table.get(name)
    if fault is None:
        near = get_close_matches(name[:64], table, n=1)
        raise InvalidFault(f"unknown fault {quote(name)}" + (f"; did you mean {near[0]}?" if near else ""))
    values = parse(fault.accepted, given, fault.defaults)
    return Plan(fault, {one.name: values[one.name] for one in fault.parameters}, values)


def _find_switch(table: Mapping[str, Fault], name: str, given: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    common = {one.name for one in COMMON}
    switches = [key for key in given if key.replace("_", "-") in table and key not in common] if name == "echo" else []
    if not switches:
        return name, given
    if len(switches) > 1:
        raise InvalidFault(f"{switches[0]} and {switches[1]} cannot be combined", parameter=switches[1])
    switch = switches[0].replace("_", "-")
    rest = {key: value for key, value in given.items() if key != switches[0]}
    value = given[switches[0]]
    if value:
        main = next(iter(table[switch].parameters), None)
        if main is None:
            raise InvalidFault(f"{switch}={quote(value)}: expected no value", parameter=switch)
        rest[main.name] = value
    return switch, rest
