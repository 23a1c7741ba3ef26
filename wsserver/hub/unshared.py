"""The broker of a server with several processes that share no Redis: it refuses everything that concerns channels."""

from typing import Any

from twisted.internet.defer import Deferred, fail

from wsserver.errors import NotPermitted
from wsserver.hub.memory import MemoryBroker

__all__ = ["UnsharedBroker"]

_REASON = "channels, the HTTP API and /emulation need --redis on a server with several worker processes (--workers)"


def _refuse(*_: object, **__: object) -> "Deferred[Any]":
    return fail(NotPermitted(_REASON))


class UnsharedBroker(MemoryBroker):
    """
    A broker that carries nothing.

    A subscriber in one process would not get what is published in another one, and a one-time token could be used once
    in each process. So every operation fails with `NotPermitted`, after which clients do not retry.
    """

    subscribe = publish = history = remove_history = members = nodes = consume = _refuse  # type: ignore[assignment]
