"""
Large replies: pages of history, recovered publications and presence.

The server does not serve other clients while it writes a reply, so the size of a reply is limited. Clients often
request the same data, so the last replies are cached, and reused while their content is unchanged.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.hub.clients import ClientInfo
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
        self._cache: OrderedDict[tuple[str, ...], tuple[object, bytes | None]] = OrderedDict()

    def write_history(self, codec: Codec, channel: str, publications: tuple[Publication, ...]) -> bytes:
        """Write the publications of a page of history."""
        key = ("history", codec.name, channel)
        written: bytes = self._cached(key, publications, lambda: codec.publications(publications))
        return written

    def write_presence(self, codec: Codec, channel: str, clients: Mapping[str, ClientInfo]) -> bytes | None:
        """Write the clients of a channel; None if there are too many for one reply."""
        if len(clients) > MAX_CLIENTS:
            return None
        key = ("presence", codec.name, channel)
        written: bytes | None = self._cached(key, clients, lambda: _write_clients(codec, clients, self.limit.size))
        return written

    def _cached(self, key: tuple[str, ...], content: object, write: Callable[[], bytes | None]) -> Any:
        known = self._cache.get(key)
        # The comparison is fast if both are the same object, as with the memory broker. From Redis, they are equal
        # objects.
        if known is not None and known[0] == content:
            return known[1]
        written = write()
        self._cache.pop(key, None)
        self._cache[key] = content, written
        if len(self._cache) > MAX_KEPT:
            self._cache.popitem(last=False)
        return written


def _write_clients(codec: Codec, clients: Mapping[str, ClientInfo], max_bytes: int) -> bytes | None:
    """Write the clients of a channel. Return None if they exceed `max_bytes`."""
    entries: list[bytes] = []
    size = 0
    for client, info in clients.items():
        entries.append(entry := codec.client(client, info))
        size += len(entry)
        if size > max_bytes:
            return None
    return codec.clients(entries)
