"""Rejects: the last refused requests, which the HTTP API returns to the operator."""

import re
from collections import OrderedDict
from time import time
from typing import Any, Final

from wsserver.config.settings import TABLE

__all__ = ["MAX_REJECTS", "Rejects"]

MAX_REJECTS: Final = 1000
"""Maximum number of refusals that are kept. Equal refusals of the same address are one, with their number."""

_QUOTED = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"")
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")

_Key = tuple[str, str | None, int | None, str, str]


class Rejects:
    """
    The last refused requests of this process.

    A client that repeats a refused request, as browsers do every few seconds, does not displace those of others.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[_Key, list[Any]] = OrderedDict()
        """Address, path, status, cause and reason -> time of the first and of the last refusal, number, last peer."""

    def add(self, *, peer: str, path: str | None, status: int | None, cause: str, reason: str) -> None:
        """
        Keep a refusal.

        Args:
            peer: the client's address, as `wsserver.wire.access_log.show_peer` formats it.
            path: the request path, without its query; None if it could not be read.
            status: the HTTP status; None if the client closed the connection before.
            cause: the cause, see `wsserver.wire.access_log.cause_of`.
            reason: the reason, without secrets.
        """
        key = _host_of(peer), path, status, cause, reason
        now = time()
        known = self._found.get(key)
        if known is not None:
            known[1:] = now, known[2] + 1, peer
            self._found.move_to_end(key)
            return
        self._found[key] = [now, now, 1, peer]
        if len(self._found) > MAX_REJECTS:
            self._found.popitem(last=False)

    def describe(self) -> list[dict[str, Any]]:
        """Return the refusals as JSON objects, the last one first."""
        return [
            {
                "time": round(last, 3),
                "first_time": round(first, 3),
                "count": count,
                "peer": peer,
                "path": path,
                "status": status,
                "cause": cause,
                "reason": reason,
                "options": _find_options(reason),
            }
            for (_, path, status, cause, reason), (first, last, count, peer) in reversed(self._found.items())
        ]


def _host_of(peer: str) -> str:
    """Return an address without its port, which a proxy may have left out."""
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    host, _, port = peer.partition(":")
    return peer if ":" in port else host


def _find_options(reason: str) -> list[str]:
    """Return the options that a reason names; what it quotes was sent by the client."""
    flags = {option.flag for option in TABLE.values()}
    return [flag for flag in dict.fromkeys(_FLAG.findall(_QUOTED.sub("", reason))) if flag in flags]
