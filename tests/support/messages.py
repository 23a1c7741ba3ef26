"""
The messages of wsserver: every text in its source code that a user may read, and its kind.

A text is classified by the call that it is an argument of, or by its statement. A sentence in a call that
`Collector` does not know has the kind `unknown`, so that a test notices new ways to send messages.
"""

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass

from paths import ROOT

__all__ = ["Message", "collect_docstrings", "collect_messages", "collect_strings"]

PACKAGE = ROOT / "wsserver"

NO_MESSAGES = {
    "redis/occupancy_scripts.py": "Lua",
    "redis/scripts.py": "Lua",
    "config/reference.py": "Markdown",
    "web/faults.py": "HTML",
    "web/asyncapi.py": "AsyncAPI",
    "web/asyncapi_faults.py": "AsyncAPI",
    "web/openapi.py": "OpenAPI",
    "config/genconfig.py": "comments of a TOML file",
    "testing.py": "errors in tests",
    "cli/centrifugo/toml.py": "TOML",
    "cli/quickstart.py": "sentences around commands to paste",
    **{
        f"endpoints/cases/{topic}.py": "titles of conformance cases"
        for topic in ("closing", "compression", "fragmentation", "framing", "handshakes", "limits", "pings", "text")
    },
    "endpoints/cases/factories.py": "phrases about what a client must do",
    "web/cases.py": "HTML",
}
"""Modules whose texts are not messages -> what the texts are."""

HELP_MODULES = re.compile(r"config/\w*settings\.py|tap\.py|cli/main\.py")
"""Modules in which texts outside of calls are help: sentences, and headings of option groups."""

LOGGING = frozenset({"debug", "info", "warn", "error", "critical", "failure", "failuresHandled"})
"""Methods of a Twisted logger."""

KINDS = {
    "_publish": "log",
    "LineLimit": "part",
    "wait": "part",
    "_send_state": "other",
    "Metric": "docstring",
    "GroupMetric": "docstring",
    "CounterMetricFamily": "docstring",
    "GaugeMetricFamily": "docstring",
    "warn": "log",
    "callFromThread": "log",
    "add_argument": "help",
    "add_parser": "help",
    "ArgumentParser": "help",
    "option": "option",
    "Option": "option",
    "_wrap": "option",
    **dict.fromkeys(("Fault", "integer", "duration", "size", "choice", "text"), "option"),
    "print": "output",
    "close": "close",
    "close_all": "close",
    "because": "close",
    "_close": "close",
    "_refuse_message": "close",
    "_refuse_rate": "close",
    "_closed": "close",
    "invalid_command": "close",
    "_finish": "text",
    "complain": "error",
    "_indent": "text",
    "_continued": "text",
    "SubElement": "text",
    "failHandshake": "error",
    "abort_handshake": "error",
    "fail": "error",
    "lost": "error",
    "corrupt": "error",
    "too_big": "error",
    "bad": "error",
    "error": "error",
    "unavailable": "error",
    "_drop": "error",
    "_end_without_close": "error",
    "_answer": "text",
    "note": "error",
    "_with_hint": "error",
    "_not_available": "error",
    "__init__": "error",
    "MappingProxyType": "text",
    "passed": "text",
    "warned": "text",
    "failed": "text",
    "skipped": "text",
    "CatchAll": "text",
    "_FixedReply": "text",
    "_Greet": "text",
    "Attribute": "docstring",
    # Patterns and parts of texts.
    "compile": "pattern",
    "fullmatch": "pattern",
    "search": "pattern",
    "startswith": "pattern",
    "replace": "pattern",
    "sub": "pattern",
    "get": "part",
    "join": "part",
    "check_text": "part",
    "_list": "part",
    "_take": "part",
    "_give_up": "part",
    "dumps": "part",
    "_rights": "part",
    "Origin": "part",
}
"""Function or class -> the kind of its text arguments; names of errors and refusals are found in the source code."""

STATEMENTS: dict[type[ast.AST], str] = {
    ast.Assign: "text",
    ast.AnnAssign: "text",
    ast.AugAssign: "text",
    ast.Return: "text",
    ast.Yield: "text",
    ast.Raise: "error",
    ast.Compare: "pattern",
    ast.arguments: "text",
    ast.Assert: "pattern",
}
"""Statement -> the kind of texts that are in no call."""

_SENTENCE = re.compile(r"[A-Za-z'{}-]+[,:;]? [A-Za-z'{}-]+[,:;]? [A-Za-z'{}-]")


@dataclass(frozen=True)
class Message:
    """A text, possibly with values: `{name}` stands for the value of an expression."""

    place: str
    kind: str
    context: str
    text: str
    values: tuple[ast.expr, ...] = ()

    def __str__(self) -> str:
        """Return the text with its place, for an assertion."""
        return f"{self.place}: {self.context}: {self.text!r}"


def _parse() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text("utf-8"))


def _find_error_names(trees: list[ast.Module]) -> set[str]:
    """Return the names of exceptions, of classes with a reason, and of functions that return one of these."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}
    found |= {"UsageError", "ConnectionDeny", "ArgumentTypeError"}
    for node in classes:
        fields = {
            each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and hasattr(each.target, "id")
        }
        if fields & {"reason", "message"}:
            found.add(node.name)
    before = -1
    while before != len(found):
        before = len(found)
        for node in classes:
            if any(_last_name(base) in found for base in node.bases):
                found.add(node.name)
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    returns = {"NoReturn", *found}
    for node in functions:
        if node.returns is not None and _last_name(node.returns) in returns and node.name not in KINDS:
            found.add(node.name)
    return found


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.AST) -> tuple[str, tuple[ast.expr, ...]] | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, ()
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else f"{{{_shown(part)}}}" for part in node.values]
        return "".join(parts), tuple(part.value for part in node.values if isinstance(part, ast.FormattedValue))
    return None


def _shown(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return _last_name(part.value) or "value"


class Collector:
    """Collects the texts of one module."""

    def __init__(self, name: str, tree: ast.Module, errors: set[str]) -> None:
        self._name, self._tree, self._errors = name, tree, errors
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def collect(self) -> Iterator[Message]:
        """Yield every text except docstrings and texts within the values of an f-string."""
        for node in ast.walk(self._tree):
            found = _text(node)
            if found is None or isinstance(self._parents[node], ast.Expr) or self._is_in_f_string(node):
                continue
            kind, context = self._classify(node)
            yield Message(f"wsserver/{self._name}:{node.lineno}", kind, context, *found)  # type: ignore[attr-defined]

    def _is_in_f_string(self, node: ast.AST) -> bool:
        while node in self._parents and not isinstance(node, ast.stmt):
            node = self._parents[node]
            if isinstance(node, ast.JoinedStr):
                return True
        return False

    def _classify(self, node: ast.AST) -> tuple[str, str]:
        if self._name in NO_MESSAGES:
            return "other", NO_MESSAGES[self._name]
        while node in self._parents:
            parent = self._parents[node]
            if isinstance(parent, ast.Call) and node is not parent.func:
                return self._classify_call(parent.func, None)
            if isinstance(parent, ast.keyword):
                call = self._parents[parent]
                assert isinstance(call, ast.Call)
                return self._classify_call(call.func, parent.arg)
            if isinstance(parent, ast.Dict) and node in parent.keys:
                return "pattern", "a key"
            for statement, kind in STATEMENTS.items():
                if isinstance(parent, statement):
                    is_help = kind == "text" and HELP_MODULES.fullmatch(self._name)
                    return "option" if is_help else kind, type(parent).__name__
            node = parent
        return "unknown", type(node).__name__

    def _classify_call(self, function: ast.expr, keyword: str | None) -> tuple[str, str]:
        name = _last_name(function)
        context = f"{name}({keyword + '=' if keyword else ''}...)"
        receiver = _last_name(function.value) if isinstance(function, ast.Attribute) else ""
        if name in LOGGING and "log" in receiver.lower():
            return ("part" if keyword else "log"), context
        if name in self._errors:
            return "error", context
        return KINDS.get(name, "unknown"), context


def collect_strings() -> list[Message]:
    """Return every text in the source code except docstrings, including single words."""
    trees = dict(_parse())
    errors = _find_error_names(list(trees.values()))
    return [message for name, tree in trees.items() for message in Collector(name, tree, errors).collect()]


def collect_messages() -> list[Message]:
    """Return the texts of at least three words."""
    return [message for message in collect_strings() if _SENTENCE.search(message.text)]


def collect_docstrings() -> list[Message]:
    """Return the docstrings, including those of attributes."""
    return [
        Message(f"wsserver/{name}:{node.lineno}", "docstring", "", node.value.value)
        for name, tree in _parse()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
