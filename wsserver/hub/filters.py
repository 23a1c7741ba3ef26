"""
Filters: conditions on the tags of a channel's publications, which decide what a subscriber receives.

A filter is a tree of `FilterNode`s, as in the Centrifuge protocol. It is checked and compiled once, when the client
subscribes. All subscriptions with an equal filter share one `Filter`.

Sources: `FilterNode` in `definitions/client.proto` of centrifugal/protocol, `internal/filter` of
centrifugal/centrifuge, and the number format of quagmt/udecimal, with which the latter compares.

This module does not use Twisted, a clock or a socket.
"""

import operator
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from wsserver.errors import InvalidFilter
from wsserver.jsonfields import HalfPairError, decode, decode_replacing
from wsserver.text import quote
from wsserver.typing import JSONText

__all__ = [
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_SIZE",
    "MAX_TEXT",
    "Filter",
    "FilterNode",
    "FilteredKind",
    "compile_filter",
    "parse_conditions",
    "read_filter",
    "with_filter",
]

MAX_NODES: Final = 100
"""Maximum number of nodes in a filter: comparisons, and nodes that combine them."""

MAX_DEPTH: Final = 10
"""Maximum depth of a filter; a single comparison has depth 1."""

MAX_SIZE: Final = 8192
"""Maximum size of a filter in bytes, as JSON without white space and without fields that have their default."""

MAX_TEXT: Final = 65_536
"""Maximum size in bytes of a filter as it is written. Centrifugo accepts no command that is larger."""


# Not a `JSONStruct`, whose Python code would take a second for the nodes that fit into a megabyte.
class FilterNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A node of a filter, as a client sends it: a comparison of one tag, or a combination of other nodes.

    As in Centrifuge, a field that is null counts as missing.
    """

    op: str | None = ""
    """`and`, `or` or `not`, for a node that combines `nodes`; empty for a comparison."""
    key: str | None = ""
    """The name of the tag."""
    cmp: str | None = ""
    """The comparison: `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `gt`, `gte`, `lt` or `lte`."""
    val: str | None = ""
    """The value that the tag is compared with."""
    vals: list[str | None] | None = []
    """The values of `in` and `nin`; null counts as an empty text."""
    nodes: list["FilterNode"] | None = []
    """The nodes that `op` combines."""


def read_filter(text: JSONText, where: str) -> FilterNode:
    """
    Decode the outermost node of a filter.

    Args:
        text: the node as JSON.
        where: the name of the filter in error messages.

    Raises:
        ValueError: the text is longer than `MAX_TEXT`, or a field has the wrong type.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{where}: {len(text)} bytes, expected at most {MAX_TEXT}")
    try:
        return decode(FilterNode, text, where)
    except HalfPairError:
        return decode_replacing(FilterNode, text)


Tags = Mapping[str, str]
_Predicate = Callable[[Tags], bool]

_NO_TAGS: Final[Tags] = {}


class Filter:
    """
    A compiled filter. Filters are equal if their nodes are.

    Args:
        text: the filter's nodes as JSON, without white space and without fields that have their default.
        predicate: returns whether tags match.
    """

    __slots__ = ("__weakref__", "_hash", "_predicate", "text")

    def __init__(self, text: bytes, predicate: _Predicate) -> None:
        self.text = text
        self._predicate = predicate
        self._hash = hash(text)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Filter) and self.text == other.text)

    def __hash__(self) -> int:
        return self._hash

    @property
    def cost(self) -> int:
        """How long an evaluation takes, in units of about 0.3 us. It depends on the number of nodes."""
        return 1 + len(self.text) // 128

    def matches(self, tags: Tags | None) -> bool:
        """Return whether a subscriber with this filter receives a publication with these tags; None for no tags."""
        return self._predicate(tags or _NO_TAGS)


class FilteredKind(NamedTuple):
    """The `Subscriber.kind` of a subscriber with a filter."""

    kind: Hashable
    """The kind that the subscriber would have without the filter. It determines the frames."""
    filter: Filter


def with_filter(kind: Hashable, filter_: Filter | None) -> Hashable:
    """Return the kind of a subscriber: a `FilteredKind` if it has a filter, else the kind unchanged."""
    return kind if filter_ is None else FilteredKind(kind, filter_)


# Comparisons. A missing tag equals no value, but counts as an empty text for `in` and `nin`.


def _never(_: Tags) -> bool:
    return False


_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]{1,19})?")
_MAX_DIGITS: Final = 200
"""Maximum length of a number; a longer text is not a number, as in Centrifugo."""


@lru_cache(maxsize=4096)
def _parse_number(text: str) -> Decimal | None:
    """Parse a decimal number, without an exponent; return None if the text is not one."""
    # The comparison of two Decimals is exact, whatever the precision of the context.
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _compare_numbers(key: str, val: str, compare: Callable[[Decimal, Decimal], bool]) -> _Predicate:
    """Return a predicate that compares a tag with a number. It is never true if one of them is not a number."""
    bound = _parse_number(val) if len(val) <= _MAX_DIGITS else None
    if bound is None:
        return _never

    def matches(tags: Tags) -> bool:
        text = tags.get(key, "")
        number = _parse_number(text) if len(text) <= _MAX_DIGITS else None
        return number is not None and compare(number, bound)

    return matches


_WITH_VALUE: Final[Mapping[str, Callable[[str, str], _Predicate]]] = {
    "eq": lambda key, val: lambda tags: tags.get(key) == val,
    "neq": lambda key, val: lambda tags: tags.get(key) != val,
    "sw": lambda key, val: lambda tags: tags.get(key, "").startswith(val),
    "ew": lambda key, val: lambda tags: tags.get(key, "").endswith(val),
    "ct": lambda key, val: lambda tags: val in tags.get(key, ""),
    "gt": lambda key, val: _compare_numbers(key, val, operator.gt),
    "gte": lambda key, val: _compare_numbers(key, val, operator.ge),
    "lt": lambda key, val: _compare_numbers(key, val, operator.lt),
    "lte": lambda key, val: _compare_numbers(key, val, operator.le),
}
"""Comparison -> a function that takes the name of a tag and a value that is not empty, and returns a predicate."""

_WITH_VALUES: Final[Mapping[str, Callable[[str, frozenset[str]], _Predicate]]] = {
    "in": lambda key, vals: lambda tags: tags.get(key, "") in vals,
    "nin": lambda key, vals: lambda tags: tags.get(key, "") not in vals,
}

_WITHOUT_VALUE: Final[Mapping[str, Callable[[str], _Predicate]]] = {
    "ex": lambda key: lambda tags: key in tags,
    "nex": lambda key: lambda tags: key not in tags,
}

_ALL: Final = (*_WITH_VALUE, *_WITH_VALUES, *_WITHOUT_VALUE)


# Combinations.


def _all_of(parts: Sequence[_Predicate]) -> _Predicate:
    def matches(tags: Tags) -> bool:
        for part in parts:  # noqa: SIM110 (a generator takes three times as long)
            if not part(tags):
                return False
        return True

    return matches


def _any_of(parts: Sequence[_Predicate]) -> _Predicate:
    def matches(tags: Tags) -> bool:
        for part in parts:  # noqa: SIM110
            if part(tags):
                return True
        return False

    return matches


def _not(part: _Predicate) -> _Predicate:
    return lambda tags: not part(tags)


# Compiling.

_shared: Final[WeakValueDictionary[bytes, Filter]] = WeakValueDictionary()
"""The filters that are in use, by their text: 10,000 subscribers with the same filter need only one."""


def compile_filter(node: FilterNode, where: str) -> Filter:
    """
    Check and compile a filter.

    Args:
        node: the outermost node.
        where: the name of the filter in error messages.

    Returns:
        The filter; the same object for equal nodes, as long as it is in use.

    Raises:
        InvalidFilter: the filter is invalid or exceeds a limit. The message starts with the name of the field.
    """
    text = msgspec.json.encode(node)
    if len(text) > MAX_SIZE:
        raise InvalidFilter(f"{where}: {len(text)} bytes, expected at most {MAX_SIZE}")
    found = _shared.get(text)
    if found is None:
        found = _shared[text] = Filter(text, _Compiler().compile(node, where, 1))
    return found


class _Compiler:
    """Compiles the nodes of one filter, and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def compile(self, node: FilterNode, where: str, depth: int) -> _Predicate:
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidFilter(f"{where}: expected a filter with at most {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"{where}: expected a filter with at most {MAX_DEPTH} levels")
        if not node.op:
            return _compile_comparison(node, where)
        if node.op not in ("and", "or", "not"):
            raise InvalidFilter(f"{where}.op: expected and, or, not, or an empty text, not {quote(node.op)}")
        nodes = node.nodes or []
        if not nodes or (node.op == "not" and len(nodes) > 1):
            number = "one node" if node.op == "not" else "at least one node"
            raise InvalidFilter(f"{where}.nodes: expected {number} for {node.op}, not {len(nodes)}")
        parts = [self.compile(part, f"{where}.nodes[{place}]", depth + 1) for place, part in enumerate(nodes)]
        if node.op == "not":
            return _not(parts[0])
        return _all_of(parts) if node.op == "and" else _any_of(parts)


def _compile_comparison(node: FilterNode, where: str) -> _Predicate:
    key, cmp, val, vals = node.key or "", node.cmp or "", node.val or "", [one or "" for one in node.vals or []]
    if cmp not in _ALL:
        raise InvalidFilter(f"{where}.cmp: expected one of {', '.join(_ALL)}, not {quote(cmp)}")
    if bool(val) != (cmp in _WITH_VALUE):
        raise InvalidFilter(f"{where}.val: {'missing' if cmp in _WITH_VALUE else 'unexpected'} for {cmp}")
    if bool(vals) != (cmp in _WITH_VALUES):
        raise InvalidFilter(f"{where}.vals: {'missing' if cmp in _WITH_VALUES else 'unexpected'} for {cmp}")
    if cmp in _WITHOUT_VALUE:
        return _WITHOUT_VALUE[cmp](key)
    if not key:
        raise InvalidFilter(f"{where}.key: missing")
    return _WITH_VALUE[cmp](key, val) if cmp in _WITH_VALUE else _WITH_VALUES[cmp](key, frozenset(vals))


def parse_conditions(texts: Sequence[str], where: str) -> Filter:
    """
    Parse and compile a filter from the parameters of a URL.

    Args:
        texts: the conditions, at least one; a publication must match all of them. Each is `KEY:CMP:VALUE`, such as
            `ticker:eq:BTC`; `KEY:CMP:VALUE,VALUE` for `in` and `nin`; `KEY:CMP` for `ex` and `nex`; or a `FilterNode`
            as JSON.
        where: the name of the parameter, for error messages.

    Returns:
        The filter.

    Raises:
        InvalidFilter: a condition is invalid, or the filter exceeds a limit. The message starts with the name.
    """
    nodes = [_parse_condition(text, where) for text in texts]
    return compile_filter(nodes[0] if len(nodes) == 1 else FilterNode(op="and", nodes=nodes), where)


def _parse_condition(text: str, where: str) -> FilterNode:
    if text.startswith("{"):
        try:
            return read_filter(JSONText(text.encode("utf-8")), where)
        except ValueError as error:
            raise InvalidFilter(str(error)) from None
    key, *more = text.split(":", 2)
    if not more:
        raise InvalidFilter(f"{where}: expected KEY:CMP:VALUE, such as ticker:eq:BTC, or JSON, not {quote(text)}")
    cmp, value = more[0], ":".join(more[1:])
    if cmp in _WITH_VALUES:
        return FilterNode(key=key, cmp=cmp, vals=[*value.split(",")] if value else [])
    return FilterNode(key=key, cmp=cmp, val=value)
