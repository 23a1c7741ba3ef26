"""
WebSocket paths without an endpoint: decide whether they answer commands, and create the refusals.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from http import HTTPStatus
from typing import Final
from urllib.parse import quote as percent_encode

from wsserver.config.settings import Settings
from wsserver.hooks.messages import EVENTS
from wsserver.text import quote
from wsserver.wire.http11 import Refusal

__all__ = [
    "CENTRIFUGE_HTTP",
    "CatchAll",
    "decide_catch_all",
    "find_nearest_path",
    "names_cases",
    "names_channel",
    "refuse_cases",
    "refuse_channel",
    "refuse_unknown_path",
]

MAX_COMPARED = 64
"""Maximum length of a path that is compared with known paths, in characters: difflib takes quadratic time."""

_EVENT_SOURCE = "/sse"
"""The path of the Server-Sent Events, which does not accept WebSocket."""

CENTRIFUGE_HTTP: Final = frozenset(
    {
        "/connection/http_stream",
        "/connection/sse",
        "/connection/uni_http_stream",
        "/connection/uni_sse",
        "/emulation",
    }
)
"""The paths of Centrifuge clients that do not accept WebSocket."""

_CASES_OF_AUTOBAHN = frozenset({"/runCase", "/getCaseCount", "/getCaseInfo", "/getCaseStatus", "/updateReports"})
"""The paths of Autobahn's fuzzing server, which the conformance cases have, too."""

_CHANNEL_OPTIONS = (
    "redis",
    "api_key",
    "api_insecure",
    "insecure",
    "token_secret",
    "token_public_key",
    "token_jwks_url",
    *(f"hook_{event}" for event in EVENTS),
)
"""Options that show that the server is meant to serve channels."""


@dataclass(frozen=True, slots=True)
class CatchAll:
    """The decision whether unknown WebSocket paths answer commands."""

    enabled: bool
    reason: str
    """The reason for the decision, for the log."""


def decide_catch_all(settings: Settings, *, loopback_only: bool) -> CatchAll:
    """
    Decide whether unknown WebSocket paths answer commands.

    With `--catch-all auto`, they answer commands on a developer's machine: if only it can reach the server, and
    no option shows that the server is meant to serve channels. On a server with channels, a misspelled path is refused,
    because its client would wait for publications forever.

    Args:
        settings: the server's options.
        loopback_only: whether only this machine can reach the server.

    Returns:
        The decision and its reason.
    """
    mode = settings.catch_all
    if mode != "auto":
        return CatchAll(mode == "on", f"--catch-all {mode}")
    if not loopback_only:
        return CatchAll(False, "--catch-all auto, and other machines can reach the server")
    for name in _CHANNEL_OPTIONS:
        if getattr(settings, name):
            return CatchAll(False, f"--catch-all auto, and --{name.replace('_', '-')} is set")
    return CatchAll(
        True, "--catch-all auto, only this machine can reach the server, and no Redis, API, token or hook is configured"
    )


def names_channel(names: Iterable[str], *, misspelled: bool = True) -> bool:
    """
    Return whether a query names a channel.

    Args:
        names: the names of the query parameters.
        misspelled: whether misspellings such as `chanel=` count.
    """
    lowered = [name.lower() for name in names]
    if "channel" in lowered:
        return True
    return misspelled and bool(get_close_matches("channel", lowered, n=1, cutoff=0.8))


def find_nearest_path(path: str, known: Iterable[str]) -> str | None:
    """
    Find the known path that a client most likely meant.

    Args:
        path: the unknown path, percent-decoded.
        known: paths that exist, such as `/connection/websocket`; `/` is never returned.

    Returns:
        The known path that differs only in case or slashes; else the longest known path whose segments are part of the
        path, such as `/ws` for `/app/ws`; else the known path with the most similar spelling. None if none is similar,
        or if the path is longer than `MAX_COMPARED`.
    """
    if len(path) > MAX_COMPARED:
        return None
    segments = [segment for segment in path.lower().split("/") if segment]
    known_segments = {each: each.lower().strip("/").split("/") for each in known if each != "/"}
    contained = [each for each, parts in known_segments.items() if _contains(segments, parts)]
    if contained:
        return max(contained, key=len)
    lowered = {each.lower(): each for each in known_segments}
    near = get_close_matches("/" + "/".join(segments), lowered, n=1, cutoff=0.7)
    return lowered[near[0]] if near else None


def _contains(segments: list[str], parts: list[str]) -> bool:
    starts = range(len(segments) - len(parts) + 1)
    return any(segments[start : start + len(parts)] == parts for start in starts)


def names_cases(path: str) -> bool:
    """Return whether a path belongs to the conformance cases, which need the option `cases`."""
    return path == "/case" or path.startswith("/case/") or path in _CASES_OF_AUTOBAHN


def refuse_cases(path: str) -> Refusal:
    """Refuse a request for a conformance case, with a 404 refusal that names the option."""
    return Refusal(HTTPStatus.NOT_FOUND, f"{_show(path)} needs the server option --cases, or is not one of its paths")


def refuse_unknown_path(path: str, nearest: str | None) -> Refusal:
    """
    Refuse a WebSocket handshake for a path without an endpoint.

    Args:
        path: the path, percent-decoded.
        nearest: the result of `find_nearest_path`, which the refusal suggests; None to name the option that serves
            unknown paths.

    Returns:
        A 404 refusal.
    """
    if path in CENTRIFUGE_HTTP:
        reason = f"{_show(path)} accepts no WebSocket: it is for HTTP requests of Centrifuge clients"
        return Refusal(HTTPStatus.NOT_FOUND, reason)
    hint = "; see --catch-all" if nearest is None else f"; did you mean {nearest}?"
    return Refusal(HTTPStatus.NOT_FOUND, f"no WebSocket endpoint at {_show(path)}{hint}")


def refuse_channel(path: str, serving: str | None, *, subscribes: bool = False) -> Refusal:
    """
    Refuse a WebSocket handshake that names a channel at a path that does not serve channels.

    Args:
        path: the path, percent-decoded.
        serving: the path that serves channels; None if there is none.
        subscribes: whether clients at this path subscribe to channels after connecting, as Centrifuge SDKs do.

    Returns:
        A 400 refusal.
    """
    what = "does not serve channels"
    if subscribes:
        what = "accepts no channel= in its URL; subscribe with an SDK"
    elif path == _EVENT_SOURCE:
        what = "sends Server-Sent Events over HTTP and accepts no WebSocket"
    hint = "" if serving is None else f"{', or' if subscribes else ';'} connect to {serving}?channel=NAME"
    return Refusal(HTTPStatus.BAD_REQUEST, f"{_show(path)} {what}{hint}")


def _show(path: str) -> str:
    return quote(percent_encode(path))
