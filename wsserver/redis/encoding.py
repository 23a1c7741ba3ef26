"""
How channels, messages and streams are represented in Redis.

The keys and Redis channels for the channel `foo`:

| key or Redis channel | type and content |
|---|---|
| `foo` | pub/sub: messages that other programs publish |
| `wsserver:pub:{foo}` | pub/sub: the servers' publications with their offset, join and leave events |
| `wsserver:history:{foo}` | stream: the newest publications; the entry ID is the offset |
| `wsserver:meta:{foo}` | hash: epoch, offset of the newest publication, `dataset_id` (see `read_dataset_id`) |
| `wsserver:once:{foo}:HASH` | string: offset and epoch of the publication whose idempotency key has this SHA-256 |
| `wsserver:presence:{foo}` | hash: client id -> id of the client's server process, and client info |
| `wsserver:used:KEY` | string: exists if the one-time token that KEY identifies has been used |
| `wsserver:occupancy:{all}:...` | see `wsserver.redis.occupancy` |
| `wsserver:nodes` | sorted set: ids of the server processes, scored by the time of their last heartbeat |
| `wsserver:control` | pub/sub: control messages to all server processes |
| `wsserver:control:NODE` | pub/sub: control messages to the server process with the id NODE |
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from wsserver.errors import BrokerDown
from wsserver.hub.clients import read_info
from wsserver.hub.names import PRIVATE
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication, assemble, pack, unpack
from wsserver.hub.stream import Page, Position
from wsserver.redis.connection import pack_arguments
from wsserver.typing import ChannelName

__all__ = [
    "CONTROL",
    "MALFORMED",
    "PUB",
    "channel_of",
    "first_entry",
    "key_of",
    "milliseconds",
    "names_of",
    "parse_message",
    "parse_page",
    "redis_channels",
    "tag_of",
    "write_message",
]

PUB: Final = f"{PRIVATE}pub:".encode()
"""The beginning of the names of the Redis channels on which servers send publications and presence events."""

CONTROL: Final = f"{PRIVATE}control".encode()
"""The Redis channel for control messages to all processes."""

MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The exceptions that parsing can raise if the data is from another program, or a server of another version."""


def tag_of(channel: ChannelName) -> bytes:
    """Return the hash tag of a channel: in a Redis Cluster, all keys with the same hash tag are on the same node."""
    return b"{%s}" % channel.encode("utf-8")


def key_of(kind: str, tag: bytes) -> bytes:
    """Return the Redis key of one kind of a channel's data, such as `history`; `tag` is the channel's hash tag."""
    return f"{PRIVATE}{kind}:".encode() + tag


class ChannelNames(NamedTuple):
    """The names that publishing to a channel uses in Redis."""

    meta: bytes
    """Key of the stream's metadata."""
    history: bytes
    """Key of the stream."""
    pub: bytes
    """Redis channel of the servers' publications."""
    packed: bytes
    """The number of keys, `meta`, `history` and `pub`: the first four arguments of the script `PUBLISH`, encoded."""


@lru_cache(maxsize=16_384)
def names_of(channel: ChannelName) -> ChannelNames:
    """Return the names that publishing to a channel uses; those of the channels published to last are kept."""
    tag = tag_of(channel)
    meta, history, pub = key_of("meta", tag), key_of("history", tag), PUB + tag
    return ChannelNames(meta, history, pub, pack_arguments(2, meta, history, pub))


def redis_channels(channel: ChannelName) -> tuple[bytes, bytes]:
    """Return the two Redis channels of a channel: that of other programs, and that of the servers' publications."""
    return channel.encode("utf-8"), PUB + tag_of(channel)


def channel_of(key: bytes) -> ChannelName:
    """Return the channel that a Redis channel belongs to; `key` is either of those that `redis_channels` returns."""
    # Behind `PUB` is the hash tag, in braces.
    name = key[len(PUB) + 1 : -1] if key.startswith(PUB) else key
    return ChannelName(name.decode("utf-8"))


def milliseconds(seconds: float) -> int:
    """Convert seconds to whole milliseconds, the unit of the times in commands to Redis."""
    return round(seconds * 1000)


def write_message(publication: Publication) -> bytes:
    """Return the message of a publication without an offset, for the Redis channels whose names begin with `PUB`."""
    return b"p:0::" + pack(publication)


def parse_message(data: bytes) -> Publication | PresenceEvent:
    """
    Parse a message from a Redis channel whose name begins with `PUB`.

    Raises:
        Exception: one of the exceptions in `MALFORMED`, if the message is not in the format of the servers.
    """
    if not data.startswith(b"p:"):
        kind, _, info = data.partition(b":")
        return PresenceEvent(kind == b"j", read_info(info))
    # The first line feed is the one behind the header, so that no copy of the data is made to find the header.
    head, separator, content = data.partition(b"\n")
    _, offset, epoch, header = head.split(b":", 3)
    if not separator:
        raise ValueError("a packed publication must contain a line feed")
    return assemble(header, content, int(offset), epoch.decode("ascii"))


def first_entry(since: Position | None, *, reverse: bool) -> str:
    """
    Return the ID of the stream entry at which a read begins, for XRANGE or XREVRANGE.

    Args:
        since: the read begins after this position, or before it if `reverse` is True; None to begin at the first entry,
            or at the last entry if `reverse` is True.
        reverse: whether the read goes from newer to older entries.
    """
    if since is None:
        return "+" if reverse else "-"
    # The first part of an entry ID is an unsigned 64-bit number; a larger number would be an error.
    offset = min(since.offset, 2**63)
    return f"{max(offset - 1, 0)}-0" if reverse else f"{offset + 1}-0"


def parse_page(found: Sequence[Any]) -> Page:
    """
    Parse the result of the script `wsserver.redis.scripts.READ`.

    Raises:
        BrokerDown: an entry of the stream is not in the format of the servers.
    """
    try:
        top, epoch, entries = found[0], found[1].decode("ascii"), found[2]
        publications = (unpack(fields[1], int(place.split(b"-")[0]), epoch) for place, fields in entries)
        return Page(tuple(publications), Position(top, epoch))
    except MALFORMED:
        raise BrokerDown("the stream in Redis has an entry in an unknown format") from None
