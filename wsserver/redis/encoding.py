"""
How channels, messages and streams are represented in Redis.

Keys and Redis channels, for channel `foo`:

| key | type and content |
|---|---|
| `wsserver:pub:{foo}` | pub/sub: publications with their offset, join and leave events |
| `wsserver:history:{foo}` | stream: the newest publications; the entry ID is the offset |
| `wsserver:meta:{foo}` | hash: epoch, offset of the newest publication, dataset ID (`dataset_id`) |
| `wsserver:once:{foo}:HASH` | string: offset and epoch of the publication whose idempotency key has this SHA-256 |
| `wsserver:presence:{foo}` | hash: client id -> process and client info |
| `wsserver:used:KEY` | string: exists if the one-time item KEY, such as a token, has been used |
| `wsserver:nodes` | sorted set: process names, scored by the time of the last heartbeat |
| `wsserver:control`, `wsserver:control:NODE` | pub/sub: control messages between processes |
"""

from collections.abc import Sequence
from typing import Any, Final

from wsserver.errors import BrokerDown
from wsserver.hub.clients import read_info
from wsserver.hub.names import PRIVATE
from wsserver.hub.presence import PresenceEvent
from wsserver.hub.publication import Publication, unpack
from wsserver.hub.stream import Page, Position
from wsserver.typing import ChannelName

__all__ = [
    "CONTROL",
    "MALFORMED",
    "PUB",
    "channel_of",
    "first_entry",
    "key_of",
    "milliseconds",
    "parse_message",
    "parse_page",
    "redis_channels",
    "tag_of",
]

PUB: Final = f"{PRIVATE}pub:".encode()
"""What the names of the Redis channels with publications with an offset begin with."""

CONTROL: Final = f"{PRIVATE}control".encode()
"""The Redis channel for control messages to all processes."""

MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions raised by parsing data from another program, or from a server of another version."""


def tag_of(channel: ChannelName) -> bytes:
    """Return the hash tag of a channel, which puts its keys on the same node of a Redis Cluster."""
    return b"{%s}" % channel.encode("utf-8")


def key_of(kind: str, tag: bytes) -> bytes:
    """Return the Redis key of one kind of a channel's data, such as `history`; `tag` is the channel's hash tag."""
    return f"{PRIVATE}{kind}:".encode() + tag


def redis_channels(channel: ChannelName) -> tuple[bytes, bytes]:
    """Return the two Redis channels of a channel: for other programs, and for publications of servers."""
    return channel.encode("utf-8"), PUB + tag_of(channel)


def channel_of(key: bytes) -> ChannelName:
    """Return the channel that a Redis channel belongs to; accepts both kinds that `redis_channels` returns."""
    name = key[len(PUB) :].removeprefix(b"{").removesuffix(b"}") if key.startswith(PUB) else key
    return ChannelName(name.decode("utf-8"))


def milliseconds(seconds: float) -> int:
    """Convert seconds to milliseconds, as Redis expects them."""
    return round(seconds * 1000)


def parse_message(data: bytes) -> Publication | PresenceEvent:
    """
    Parse a message from a Redis channel that begins with `PUB`.

    Raises:
        Exception: one of `MALFORMED`.
    """
    kind, _, rest = data.partition(b":")
    if kind != b"p":
        return PresenceEvent(kind == b"j", read_info(rest))
    offset, epoch, packed = rest.split(b":", 2)
    return unpack(packed, int(offset), epoch.decode("ascii"))


def first_entry(since: Position | None, *, reverse: bool) -> str:
    """
    Return the stream entry ID at which a read begins.

    A forward read begins after `since`, a reverse read before it; without `since`, at the first or the last entry.
    """
    if since is None:
        return "+" if reverse else "-"
    # An entry ID is a 64-bit number.
    offset = min(since.offset, 2**63)
    return f"{max(offset - 1, 0)}-0" if reverse else f"{offset + 1}-0"


def parse_page(found: Sequence[Any]) -> Page:
    """
    Parse the result of the script `READ`.

    Raises:
        BrokerDown: an entry of the stream has an unknown format.
    """
    try:
        top, epoch, entries = found[0], found[1].decode("ascii"), found[2]
        publications = (unpack(fields[1], int(place.split(b"-")[0]), epoch) for place, fields in entries)
        return Page(tuple(publications), Position(top, epoch))
    except MALFORMED:
        raise BrokerDown("the stream in Redis has an entry in an unknown format") from None
