"""
Large replies: pages of history, recovered publications and presence.

The server does not serve other clients while it writes a reply, so the size of a reply is limited. Clients often
request the same data, so the last replies are cached, and reused while their content is unchanged.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from wsserver.endpoints.centrifuge.replies import array, obj, publication
from wsserver.hub.clients import ClientInfo, write_info
from wsserver.hub.publication import Publication
from wsserver.hub.stream import ReadLimit

__all__ = ["MAX_CLIENTS", "MAX_PAGE_BYTES", "MAX_PUBLICATIONS", "Pages"]

MAX_PUBLICATIONS: Final = 2000
"""
Maximum number of publications in a page of history or in a recovery; Centrifugo's default for both is 300
(`client.history_max_publication_limit`, `client.recovery_max_publication_limit`).
"""

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Maximum size of a reply's publications or clients, in bytes. `--max-queued-bytes` applies too, if it is less."""

MAX_CLIENTS: Final = 5000
"""Maximum number of clients in a presence reply; `presence_stats` counts any number."""

MAX_KEPT: Final = 8
"""Maximum number of cached replies."""


class Pages:
    """
    Write large replies, and cache the last ones.

    Args:
        max_bytes: maximum size of a client's send queue in bytes (`--max-queued-bytes`), which a reply must fit into.
    """

    def __init__(self, max_bytes: int) -> None:
        self.limit = ReadLimit(MAX_PUBLICATIONS, min(MAX_PAGE_BYTES, max_bytes))
        """The maximum number and size of the publications in one reply."""
        self._cache: OrderedDict[tuple[str, str], tuple[object, bytes]] = OrderedDict()

    def write_history(self, channel: str, publications: tuple[Publication, ...]) -> bytes:
        """Write a page of history as a JSON array."""
        return self._cached("history", channel, publications, lambda: array(map(publication, publications)))

    def write_presence(self, channel: str, clients: Mapping[str, ClientInfo]) -> bytes | None:
        """Write the clients of a channel as a JSON object; None if there are too many for one reply."""
        if len(clients) > MAX_CLIENTS:
            return None
        written = self._cached("presence", channel, clients, lambda: _write_clients(clients, self.limit.size))
        return written or (None if clients else b"")

    def _cached(self, kind: str, channel: str, content: object, write: Callable[[], bytes]) -> bytes:
        known = self._cache.get((kind, channel))
        # The comparison is fast if both are the same object, as with the memory broker. From Redis, they are equal
        # objects.
        if known is not None and known[0] == content:
            return known[1]
        written = write()
        self._cache.pop((kind, channel), None)
        self._cache[kind, channel] = content, written
        if len(self._cache) > MAX_KEPT:
            self._cache.popitem(last=False)
        return written


def _write_clients(clients: Mapping[str, ClientInfo], max_bytes: int) -> bytes:
    """Write clients as a JSON object: client ID -> info. Return empty bytes if they exceed `max_bytes`."""
    fields: dict[str, bytes] = {}
    size = 0
    for client, info in clients.items():
        fields[client] = written = write_info(info)
        size += len(client) + len(written)
        if size > max_bytes:
            return b""
    return obj(fields)
