"""
Answers with many items: pages of history, recovered publications and presence, with their limits.

An answer is written in one piece of work, so what it may contain is limited. Clients often ask for the same: the last
answers are kept, and sent again while their content is the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from wsserver.endpoints.centrifuge.replies import array, obj, publication
from wsserver.hub.presence import ClientInfo, write_info
from wsserver.hub.publication import Publication
from wsserver.hub.recovery import ReadLimit

__all__ = ["MAX_CLIENTS", "MAX_PAGE_BYTES", "MAX_PUBLICATIONS", "Pages"]

MAX_PUBLICATIONS: Final = 2000
"""
Most publications in a page of history or in a recovery; Centrifugo's default for both is 300
(`client.history_max_publication_limit`, `client.recovery_max_publication_limit`).
"""

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Most bytes of their data, or of the clients in a presence answer; `--max-queued-bytes` may be less."""

MAX_CLIENTS: Final = 5000
"""Most clients in a presence answer; `presence_stats` counts any number."""

MAX_KEPT: Final = 8
"""Most answers that are kept to be sent again."""


class Pages:
    """
    Write large answers.

    Args:
        max_bytes: most bytes that may wait for a client (`--max-queued-bytes`).
    """

    def __init__(self, max_bytes: int) -> None:
        self.limit = ReadLimit(MAX_PUBLICATIONS, min(MAX_PAGE_BYTES, max_bytes))
        """What one answer may contain."""
        self._kept: OrderedDict[tuple[str, str], tuple[object, bytes]] = OrderedDict()

    def write_history(self, channel: str, publications: tuple[Publication, ...]) -> bytes:
        """Write a page of history as a JSON array; empty if there is none."""
        return self._once("history", channel, publications, lambda: array(map(publication, publications)))

    def write_presence(self, channel: str, clients: Mapping[str, ClientInfo]) -> bytes | None:
        """Write the clients of a channel as a JSON object; None if there are too many for one answer."""
        if len(clients) > MAX_CLIENTS:
            return None
        written = self._once("presence", channel, clients, lambda: _write_clients(clients, self.limit.size))
        return written or (None if clients else b"")

    def _once(self, kind: str, channel: str, content: object, write: Callable[[], bytes]) -> bytes:
        known = self._kept.get((kind, channel))
        # Equal where it is the same objects, which takes no time, or others that say the same, as from Redis.
        if known is not None and known[0] == content:
            return known[1]
        written = write()
        self._kept.pop((kind, channel), None)
        self._kept[kind, channel] = content, written
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return written


def _write_clients(clients: Mapping[str, ClientInfo], max_bytes: int) -> bytes:
    """Write clients; empty if that takes more than some bytes."""
    fields: dict[str, bytes] = {}
    size = 0
    for client, info in clients.items():
        fields[client] = written = write_info(info)
        size += len(client) + len(written)
        if size > max_bytes:
            return b""
    return obj(fields)
