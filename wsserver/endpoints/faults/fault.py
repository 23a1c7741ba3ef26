"""
Faults: a row of the table.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from functools import cached_property
from typing import Any, Final

from wsserver.config.parsers import a_token
from wsserver.endpoints.faults.parameters import Parameter, choice, duration, integer, text

__all__ = ["COMMON", "PREFIX", "TRIGGER", "Effect", "Fault", "Stage"]

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


class Effect(Flag):
    """The effect of a fault on those that it is combined with."""

    NONE = 0
    ENDS = auto()
    """It ends the connection."""
    ENDS_WITH_BYTES = auto()
    """It ends the connection with bytes, such as a Close frame."""
    STOPS_WRITING = auto()
    """The server sends nothing after it."""

    @property
    def ends(self) -> bool:
        """Whether it ends the connection, in any way."""
        return bool(self & (Effect.ENDS | Effect.ENDS_WITH_BYTES))


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


@dataclass(frozen=True)
class Fault:
    """A row of the table of faults."""

    name: str
    """The last segment of its path."""
    group: str
    summary: str
    right: str
    """The reaction of a client that follows RFC 6455."""
    run: Callable[..., Any] | None = None
    """The fault itself, see `Stage`; None if its `defaults` are the fault."""
    parameters: tuple[Parameter, ...] = ()
    """Its own parameters, the main one first."""
    stage: Stage = Stage.OPEN
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of parameters whose defaults differ from the usual ones."""
    examples: tuple[str, ...] = ()
    """Queries."""
    effect: Effect = Effect.NONE
    yields: Mapping[str, Any] = field(default_factory=dict)
    """Values of parameters if another fault ends the connection, or stops writing."""

    @property
    def path(self) -> str:
        """The path of its WebSocket."""
        return PREFIX + self.name

    @property
    def has_trigger(self) -> bool:
        """Whether it happens at a time: see the parameters `after` and `wait`."""
        return self.run is not None and self.stage is Stage.OPEN

    @cached_property
    def accepted(self) -> Mapping[str, Parameter]:
        """Its parameters without the common ones, by name."""
        return {one.name: one for one in (*self.parameters, *(TRIGGER if self.has_trigger else ()))}

    @property
    def main(self) -> Parameter | None:
        """The parameter whose value can be written after its name, as in `close=1012`."""
        return next(iter(self.parameters), None)

    def call(self, *arguments: Any, **values: Any) -> Any:
        """Call `run`."""
        assert self.run is not None
        return self.run(*arguments, **values)

    def describe(self) -> dict[str, Any]:
        """Return a description that can be encoded as JSON, with the fault's own parameters."""
        changed = [one for one in COMMON if one.name in self.defaults]
        return {
            "name": self.name,
            "path": self.path,
            "group": self.group,
            "summary": self.summary,
            "right": self.right,
            "stage": self.stage.value,
            "ends": self.effect.ends,
            "stops_writing": Effect.STOPS_WRITING in self.effect,
            "parameters": [
                one.describe(self.defaults.get(one.name, one.default)) for one in (*self.accepted.values(), *changed)
            ],
            "examples": [self.path, *(f"{self.path}?{query}" for query in self.examples)],
        }
