"""`/faults`: the faults of this server, as a page and as JSON."""

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from html import escape
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from wsserver.web.documents import document_response, link, say
from wsserver.web.responses import Response, refusal_response
from wsserver.web.whoami import JSON_LINES, refuse_method
from wsserver.wire.http11 import Refusal, Request

__all__ = ["FaultsPage"]

_TITLES: Final = {
    "echo": "Echo",
    "flow": "Reading and writing",
    "messages": "Messages",
    "pings": "Pings and pongs",
    "closing": "Closing",
    "tcp": "TCP",
    "frames": "Frames",
    "compression": "Compression",
    "handshake": "Handshake",
}
"""Group of faults -> heading."""

_TRIGGER: Final = frozenset({"after", "wait"})
"""Parameters that the page describes once, for all faults of an open connection."""

_ALSO: Final = '<p class="hint"><a href="#common"><code>after</code>, <code>wait</code></a></p>\n'

_TEXTS: Final = "zh-server.json"

_DISABLED: Final = "this server has no faults; to serve them, start it with --faults"


class FaultsPage:
    """
    Answers requests for `/faults`.

    Args:
        is_enabled: returns whether the server has faults.
    """

    def __init__(self, is_enabled: Callable[[], bool]) -> None:
        self._is_enabled = is_enabled

    def answer(self, request: Request, body: bytes, peer: str) -> Response:  # noqa: ARG002
        """Answer a request: a browser gets the page, and other clients get JSON, as everyone with `?format=json`."""
        refused = refuse_method(request)
        if refused is not None:
            return refused
        wants_page = _wants_page(request)
        if not self._is_enabled():
            refusal = Refusal(HTTPStatus.NOT_FOUND, _DISABLED, cause="faults")
            if wants_page:
                return refusal_response(refusal)
            text = json.dumps({"enabled": False, "reason": _DISABLED})
            return Response(HTTPStatus.NOT_FOUND, JSON_LINES, f"{text}\n".encode())
        if wants_page:
            return self._page
        return Response(HTTPStatus.OK, JSON_LINES, self._json)

    @cached_property
    def _about(self) -> dict[str, Any]:
        from wsserver.endpoints.faults.table import describe  # noqa: PLC0415 (only with --faults)

        return {**describe(), "groups": _TITLES}

    @cached_property
    def _json(self) -> bytes:
        return json.dumps(self._about, ensure_ascii=False, indent=1).encode("utf-8")

    @cached_property
    def _page(self) -> Response:
        return document_response("/faults", _TEXTS, "Faults", "".join(_write_page(self._about)))


def _wants_page(request: Request) -> bool:
    if (request.query or {}).get("format") == ["json"]:
        return False
    return any("text/html" in value for value in request.all("accept"))


def _write_page(about: dict[str, Any]) -> Iterator[str]:
    groups = [(name, list(faults)) for name, faults in groupby(about["faults"], lambda fault: fault["group"])]
    yield say(
        "Each path is a WebSocket that misbehaves in one way, so that you can test what your client does. "
        "Everything else is an echo. Add parameters as a query:",
        "p",
    )
    yield "<p><code>/faults/close?code=1012&amp;after=3</code></p>\n"
    yield f"<p>{link('?format=json', 'The same as JSON')}</p>\n"
    yield '<nav aria-labelledby="groups">\n' + say("Groups", 'h2 id="groups" class="visually-hidden"') + "<ul>\n"
    yield from (f"<li>{link(f'#{name}', _TITLES[name])}</li>\n" for name, _ in groups)
    yield f"<li>{link('#combining', 'Combinations')}</li>\n<li>{link('#common', 'Parameters')}</li>\n</ul></nav>\n"
    for name, faults in groups:
        yield _begin_section(name, _TITLES[name])
        yield from map(_write_fault, faults)
        yield "</section>\n"
    yield _begin_section("combining", "Combinations") + "<article>\n"
    yield say(
        "A parameter with the name of a fault adds that fault; its value is that of the fault's first parameter. "
        "The other parameters of a fault are written with its name and a dot, or without them if only one of the "
        "faults has a parameter of that name. At most one fault can end the connection, and none can be combined with "
        "one that takes the place of the 101 response.",
        "p",
    )
    yield f"{_write_examples(about['combinations'])}</article>\n</section>\n"
    yield _begin_section("common", "Parameters of all faults")
    yield f"<article>\n{_write_parameters([*about['trigger'], *about['common']])}</article>\n</section>\n"


def _begin_section(name: str, title: str) -> str:
    heading = say(title, f'h2 id="{name}"')
    return f'<section aria-labelledby="{name}">\n{heading}\n'


def _write_fault(fault: dict[str, Any]) -> str:
    own = [one for one in fault["parameters"] if one["name"] not in _TRIGGER]
    also = _ALSO if len(own) < len(fault["parameters"]) else ""
    summary, right = say(fault["summary"], "p"), say(fault["right"], 'p class="hint"')
    return (
        f'<article id="fault-{fault["name"]}">\n<h3><code>{escape(fault["path"])}</code></h3>\n'
        f"{summary}\n{right}\n"
        f"{_write_parameters(own)}{also}"
        f"{_write_examples(fault['examples'][1:])}</article>\n"
    )


def _write_examples(examples: list[str]) -> str:
    items = "".join(f"<li><code>{escape(example)}</code></li>" for example in examples)
    return f'<ul class="examples">{items}</ul>\n' if items else ""


def _write_parameters(parameters: list[dict[str, Any]]) -> str:
    rows = "".join(f"<dt><code>{escape(one['name'])}</code></dt><dd>{_describe(one)}</dd>\n" for one in parameters)
    return f"<dl>\n{rows}</dl>\n" if rows else ""


def _describe(parameter: dict[str, Any]) -> str:
    parts = [say(parameter["description"])]
    if "minimum" in parameter:
        parts.append(f"{parameter['minimum']}&thinsp;&ndash;&thinsp;{parameter['maximum']}.")
    if "choices" in parameter:
        choices = (f"<code>{escape(one)}</code>" for one in parameter["choices"] if one)
        parts.append(f"{say('Values:')} {', '.join(choices)}.")
    if parameter["default"] != "":
        parts.append(f"{say('Default:')} <code>{escape(str(parameter['default']))}</code>.")
    return " ".join(parts)
