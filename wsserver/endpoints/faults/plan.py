"""
Plans: the faults of a connection, read from the path and the query of its URL.

`/faults/close?code=1012` has one fault. A parameter that is the name of a fault adds it: `/faults/ping?close=1012`. So
does a parameter `FAULT.PARAMETER`, such as `close.after=3`, which is clear if several faults have the parameter.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from typing import Any, Final

from wsserver.endpoints.faults.fault import COMMON, Effect, Fault, Stage
from wsserver.endpoints.faults.parameters import Parameter, read
from wsserver.errors import InvalidFault
from wsserver.text import join_choices, quote

__all__ = ["Plan", "PlannedFault", "flatten", "make_plan"]

_ECHO: Final = "echo"

_COMMON: Final = {one.name: one for one in COMMON}

Key = tuple[str, str]
"""A fault and one of its parameters; the fault is empty for the common parameters."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault of a connection, with the values of its parameters."""

    fault: Fault
    own: Mapping[str, Any]
    """Name of a parameter of the fault -> value; what `Fault.run` receives."""
    after: int = 0
    """Number of answered messages before it."""
    wait: float = 0.0
    """Seconds from then on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of a connection, and the values of the common parameters."""

    names: tuple[str, ...]
    """The names of the faults."""
    response: PlannedFault | None
    """The fault in place of the 101 response."""
    heads: tuple[PlannedFault, ...]
    """Changes of the 101 response, in order."""
    timed: tuple[PlannedFault, ...]
    """Faults of the open connection; at the same time, in order."""
    values: Mapping[str, Any]
    """Name of a common parameter -> value."""


def flatten(parameters: Mapping[str, object]) -> dict[str, str]:
    """
    Return parameters as they are in a query.

    Args:
        parameters: name -> value. True stands for no value, False leaves a parameter out, and a mapping has the
            parameters of a fault: `{"close": {"code": 1012, "after": 3}}`.
    """
    found: dict[str, str] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            inner = flatten(value)
            found |= {f"{name}.{each}": inner[each] for each in inner} or {name: ""}
        elif value is not False:
            found[name] = "" if value is True else str(value)
    return found


def make_plan(table: Mapping[str, Fault], name: str, given: Mapping[str, str], wait: Mapping[str, float] = {}) -> Plan:
    """
    Return the plan for a path and its query.

    Args:
        table: name -> fault.
        name: the fault of the path; `_` may replace `-` in names of faults.
        given: name of a parameter -> text.
        wait: `{"wait": seconds}` to change the default of this parameter.

    Raises:
        InvalidFault: the fault is unknown; or a parameter is unknown, has an invalid value, or adds a fault that cannot
            be combined with the others.
    """
    first = name.replace("_", "-")
    if first not in table:
        raise InvalidFault(f"unknown fault {quote(first)}{_guess(first, table)}")
    asked = _Query(table, first, given)
    faults = [fault for each, fault in table.items() if each in asked.sources]
    _check(faults, asked.sources)
    common = _join_defaults(faults, asked)
    planned = [_plan(fault, faults, asked, wait) for fault in sorted(faults, key=lambda fault: fault.effect.ends)]
    return Plan(
        tuple(fault.name for fault in faults if fault.name != _ECHO or len(faults) == 1),
        next((one for one in planned if one.fault.stage is Stage.RESPONSE), None),
        tuple(one for one in planned if one.fault.stage is Stage.HEAD),
        tuple(one for one in planned if one.fault.has_trigger),
        common,
    )


class _Query:
    """
    The parameters of a query, assigned to faults.

    Args:
        table: name -> fault.
        first: the fault of the path.
        given: name of a parameter -> text.
    """

    def __init__(self, table: Mapping[str, Fault], first: str, given: Mapping[str, str]) -> None:
        self.sources = {first: ""}
        """Name of a fault -> the parameter that has added it; empty for that of the path."""
        self.texts: dict[Key, tuple[str, str]] = {}
        """Fault and parameter -> the name as it is in the query, and its text."""
        self._table = table
        bare = [(name, text) for name, text in given.items() if not self._take(first, name, text)]
        for name, text in bare:
            self._set((self._find_owner(name), name), name, text)

    def _take(self, first: str, name: str, text: str) -> bool:
        """Add a parameter that adds a fault, or that all faults have; return whether it is one of these."""
        if name in _COMMON:
            self._set(("", name), name, text)
            return True
        fault, dot, parameter = name.rpartition(".")
        hyphened = name.replace("_", "-")
        if hyphened in self._table and name not in self._table[first].accepted:
            self._add_switch(hyphened, name, text)
            return True
        if dot:
            self._add_dotted(fault.replace("_", "-"), parameter, name, text)
        return bool(dot)

    def _add_switch(self, fault: str, name: str, text: str) -> None:
        self.sources.setdefault(fault, name)
        main = self._table[fault].main
        if text and main is None:
            raise InvalidFault(f"{name}={quote(text)}: expected no value", parameter=name)
        if text and main is not None:
            self._set((fault, main.name), name, text)

    def _add_dotted(self, fault: str, parameter: str, name: str, text: str) -> None:
        if fault not in self._table:
            raise InvalidFault(
                f"unknown fault {quote(fault)} in {quote(name)}{_guess(fault, self._table)}", parameter=name
            )
        self.sources.setdefault(fault, name)
        known = self._table[fault].accepted
        if parameter in _COMMON:
            raise InvalidFault(
                f"{parameter} is a parameter of the whole connection: expected {parameter}", parameter=name
            )
        if parameter not in known:
            raise _unknown(name, [f"{fault}.{each}" for each in known])
        self._set((fault, parameter), name, text)

    def _find_owner(self, name: str) -> str:
        owners = [fault for fault in self.sources if name in self._table[fault].accepted]
        if len(owners) == 1:
            return owners[0]
        if owners:
            choices = join_choices([f"{fault}.{name}" for fault in owners])
            raise InvalidFault(f"{name} is a parameter of {' and '.join(owners)}: expected {choices}", parameter=name)
        known = [each for fault in self.sources for each in self._table[fault].accepted]
        raise _unknown(name, [*dict.fromkeys((*known, *_COMMON))], self._table)

    def _set(self, key: Key, name: str, text: str) -> None:
        if key in self.texts:
            raise InvalidFault(f"{self.texts[key][0]} and {name} are the same parameter", parameter=name)
        self.texts[key] = name, text

    def read(self, fault: str, parameter: Parameter) -> Any:
        """
        Return the value of a parameter of a fault, or None.

        Raises:
            InvalidFault: the value is invalid.
        """
        found = self.texts.get((fault, parameter.name))
        return None if found is None else read(parameter, *found)


def _guess(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name[:64], known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(name: str, known: list[str], more: Iterable[str] = ()) -> InvalidFault:
    hint = _guess(name, [*known, *more])
    if not hint:
        hint = f": expected {join_choices(known)}" if known else "; the fault has no parameters of its own"
    return InvalidFault(f"unknown parameter {quote(name)}{hint}", parameter=name)


def _plan(fault: Fault, faults: list[Fault], asked: _Query, wait: Mapping[str, float]) -> PlannedFault:
    others = [one for one in faults if one is not fault]
    is_cut_short = any(one.effect is not Effect.NONE for one in others)
    values: dict[str, Any] = {}
    for name, parameter in fault.accepted.items():
        value = asked.read(fault.name, parameter)
        if value is None:
            usual = fault.defaults.get(name, wait.get(name, parameter.default))
            value = fault.yields.get(name, usual) if is_cut_short else usual
        elif name in fault.yields and value != fault.yields[name]:
            _refuse_second_end(fault, f"{name}={value}", others, asked)
        values[name] = value
    own = {one.name: values[one.name] for one in fault.parameters}
    return PlannedFault(fault, own, values.get("after", 0), values.get("wait", 0.0))


def _refuse_second_end(fault: Fault, setting: str, others: list[Fault], asked: _Query) -> None:
    ends = next((one.name for one in others if one.effect.ends), None)
    if ends is not None:
        name = asked.texts[fault.name, setting.partition("=")[0]][0]
        raise InvalidFault(
            f"{fault.name} with {setting} cannot be combined with {ends}: each of them ends the connection",
            parameter=name,
        )


def _join_defaults(faults: list[Fault], asked: _Query) -> dict[str, Any]:
    """Return the values of the common parameters."""
    found: dict[str, Any] = {}
    for name, parameter in _COMMON.items():
        value = asked.read("", parameter)
        defaults = {fault.name: fault.defaults[name] for fault in faults if name in fault.defaults}
        if value is None and len(set(defaults.values())) > 1:
            one, other = list(defaults)[:2]
            raise _clash(one, other, f"each of them sets {name}", asked.sources)
        found[name] = next(iter(defaults.values()), parameter.default) if value is None else value
    return found


def _check(faults: list[Fault], sources: Mapping[str, str]) -> None:
    """Raise InvalidFault if two of the faults make no sense together."""
    for one, other in combinations(faults, 2):
        for why in _object(one, other):
            raise _clash(one.name, other.name, why, sources)


def _object(one: Fault, other: Fault) -> Iterator[str]:
    """Yield why two faults cannot be combined."""
    effects = one.effect, other.effect
    for fault in (one, other):
        if fault.stage is Stage.RESPONSE and _ECHO not in {one.name, other.name}:
            yield f"{fault.name} takes the place of the 101 response"
    if all(effect.ends for effect in effects):
        yield "each of them ends the connection"
    silent = [fault for fault in (one, other) if Effect.STOPS_WRITING in fault.effect]
    loud = Effect.STOPS_WRITING | Effect.ENDS_WITH_BYTES
    if silent and all(effect & loud for effect in effects):
        yield f"the server sends nothing after {silent[0].name}"


def _clash(one: str, other: str, why: str, sources: Mapping[str, str]) -> InvalidFault:
    # The path's fault comes first, so the parameter is that which has added the other one.
    if not sources[other]:
        one, other = other, one
    return InvalidFault(f"{one} and {other} cannot be combined: {why}", parameter=sources[other])
