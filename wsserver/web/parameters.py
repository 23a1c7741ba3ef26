"""
The parameters of the API's methods, and the result of `history`, in Centrifugo's JSON format.

Source: https://centrifugal.dev/docs/server/server_api. `wsserver.hub.parameters` has the parameters of `publish`, and
the base of all parameters.

This module does not use Twisted, a clock or a socket.
Each method's parameters are a struct; `wsserver.jsonfields.decode` raises a `ValueError` for an invalid one.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.hub.names import MAX_NAME
from wsserver.hub.override import Override, forces_events
from wsserver.hub.parameters import MAX_CONNECTIONS, MISSING, Content, Parameters, Publish, check_channel
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position
from wsserver.jsonfields import JSONField, JSONStruct, Nullable, Seconds, write
from wsserver.typing import ChannelName, JSONText

__all__ = [
    "MAX_BYTES",
    "MAX_CHANNELS",
    "MAX_COMMANDS",
    "AnyBatch",
    "Broadcast",
    "Channel",
    "Channels",
    "Connections",
    "Content",
    "Disconnect",
    "History",
    "Parameters",
    "Publish",
    "PublishBatch",
    "PublishCommand",
    "Refresh",
    "Subscribe",
    "Unsubscribe",
    "check_channel",
    "write_page",
]

MAX_BYTES: Final = 8 * 1024**2
"""Maximum size of all data in a result of `history`, in bytes; later publications are omitted."""

MAX_CHANNELS: Final = 1000
"""Maximum number of channels in a broadcast."""

MAX_COMMANDS: Final = 1000
"""Maximum number of commands in a batch."""


class Channel(Parameters, frozen=True, kw_only=True):
    """The parameters of `presence`, `presence_stats` and `history_remove`; also the base class of `History`."""

    channel: Nullable[ChannelName] = MISSING

    def __post_init__(self) -> None:
        """Raise a ValueError if the channel's name is invalid."""
        Parameters.__post_init__(self)
        check_channel(self.channel)


class Broadcast(Content, frozen=True, kw_only=True):
    """The parameters of `broadcast`."""

    channels: Nullable[list[msgspec.Raw]] = []
    """The names of the channels as JSON texts. They are checked one by one, because each has its own result."""

    def __post_init__(self) -> None:
        """Raise a ValueError if there are no channels, or too many."""
        Content.__post_init__(self)
        if not 1 <= len(self.channels or ()) <= MAX_CHANNELS:
            raise ValueError(f"channels: expected an array of 1 to {MAX_CHANNELS} names")


class Since(JSONStruct, frozen=True):
    """The parameter `since` of `history`: the position in the stream from which to read."""

    offset: Nullable[Annotated[int, msgspec.Meta(ge=0, lt=2**53)]] = 0
    epoch: Nullable[str] = ""

    def position(self) -> Position:
        """Return the position."""
        return Position(self.offset, self.epoch)


class History(Channel, frozen=True, kw_only=True):
    """The parameters of `history`."""

    limit: Nullable[int] = 0
    """Maximum number of publications: 0 for the position only, negative for all."""
    since: Since | None = None
    reverse: Nullable[bool] = False

    def __post_init__(self) -> None:
        """Raise a ValueError if nothing can be before `since`."""
        Channel.__post_init__(self)
        if self.reverse and self.since is not None and not self.since.offset:
            raise ValueError("since: expected an offset above 0, because reverse is true")


class Target(Parameters, frozen=True, kw_only=True):
    """The user and the client whose connections a method changes. If one is empty, only the other counts."""

    user: Nullable[str] = ""
    client: Nullable[str] = ""

    def __post_init__(self) -> None:
        """Raise a ValueError if neither a user nor a client is given."""
        Parameters.__post_init__(self)
        if not self.user and not self.client:
            raise ValueError("user: expected a user, or a client")


class Unsubscribe(Target, frozen=True, kw_only=True):
    """The parameters of `unsubscribe`: a channel, and a user or a client."""

    channel: Nullable[ChannelName] = MISSING

    def __post_init__(self) -> None:
        """Raise a ValueError if the channel's name is invalid."""
        Target.__post_init__(self)
        check_channel(self.channel)


class Subscribe(Unsubscribe, frozen=True, kw_only=True):
    """The parameters of `subscribe`."""

    info: Any = None
    data: JSONField = None
    expire_at: Seconds = 0
    recover_since: Since | None = None
    override: Override | None = None

    def options(self) -> dict[str, Any]:
        """Return the options that the call contains, see `wsserver.hub.management.Management.subscribe`."""
        since = self.recover_since and {"offset": self.recover_since.offset, "epoch": self.recover_since.epoch}
        options = {
            "info": self.info,
            "data": self.data,
            "expire_at": self.expire_at or None,
            "recover_since": since,
            "force_push_join_leave": forces_events(self.override),
        }
        return {name: value for name, value in options.items() if value is not None}


class Code(JSONStruct, frozen=True):
    """The parameter `disconnect` of the method `disconnect`: a close code and reason."""

    code: Nullable[int] = 0
    """The close code; 0 for the default code and reason."""
    reason: Nullable[str] = ""

    def __post_init__(self) -> None:
        """Raise a ValueError if the code is not in the range 3000 to 4999, or the reason is too long."""
        JSONStruct.__post_init__(self)
        if self.code and not 3000 <= self.code <= 4999:
            raise ValueError(f"code: expected 3000 to 4999, got {self.code}")
        if self.code and len(self.reason.encode("utf-8")) > MAX_REASON_BYTES:
            raise ValueError(f"reason: expected at most {MAX_REASON_BYTES} bytes")


class Disconnect(Target, frozen=True, kw_only=True):
    """The parameters of `disconnect`."""

    disconnect: Code | None = None
    whitelist: Nullable[list[str]] = []
    """The IDs of clients that remain connected."""


class Refresh(Target, frozen=True, kw_only=True):
    """The parameters of `refresh`."""

    expired: Nullable[bool] = False
    expire_at: Seconds = 0


class Channels(Parameters, frozen=True, kw_only=True):
    """The parameters of `channels`."""

    pattern: Nullable[str] = ""
    """A pattern that channel names must match; empty for all channels."""

    def __post_init__(self) -> None:
        """Raise a ValueError if the pattern is too long."""
        Parameters.__post_init__(self)
        if len(self.pattern) > MAX_NAME:
            raise ValueError(f"pattern: expected at most {MAX_NAME} characters")


class Connections(Channels, frozen=True, kw_only=True):
    """The parameters of `connections`."""

    user: Nullable[str] = ""
    client: Nullable[str] = ""
    search: Nullable[str] = ""
    """A text that the client id, the user, the address or a channel contains; empty for all connections."""
    limit: Nullable[int] = 0
    """Maximum number of connections, in the order of their client ids; 0 for all that a process may return."""
    after: Nullable[str] = ""
    """Return only connections whose client id is greater; the result has the one for the next page."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a parameter is too long or out of range."""
        Channels.__post_init__(self)
        if len(self.search) > MAX_NAME:
            raise ValueError(f"search: expected at most {MAX_NAME} characters")
        if not 0 <= self.limit <= MAX_CONNECTIONS:
            raise ValueError(f"limit: expected 0 to {MAX_CONNECTIONS}, got {self.limit}")


class Batch(JSONStruct, frozen=True):
    """The parameters of `batch`: several commands in one request."""

    commands: Nullable[list[Any]] = []
    parallel: Nullable[bool] = False

    def __post_init__(self) -> None:
        """Raise a ValueError if there are no commands, or too many."""
        JSONStruct.__post_init__(self)
        if not 1 <= len(self.commands) <= MAX_COMMANDS:
            raise ValueError(f"commands: expected an array of 1 to {MAX_COMMANDS}")


class PublishCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command of a batch that calls `publish`."""

    publish: Publish


class PublishBatch(Batch, frozen=True):
    """A batch whose commands are valid calls of `publish`, as almost all are; decoded in one step."""

    commands: list[PublishCommand] = []


class AnyBatch(Batch, frozen=True):
    """A batch of any commands. They are decoded one by one, because each has its own result."""

    commands: Nullable[list[msgspec.Raw]] = []


def write_page(page: Page) -> bytes:
    """Write the result of `history` as JSON, with at most `MAX_BYTES` of data."""
    written = b",".join(_write_publications(page.publications))
    return b'{"publications":[%s],"offset":%d,"epoch":%s}' % (written, page.position.offset, write(page.position.epoch))


def _write_publications(publications: Iterable[Publication]) -> Iterable[bytes]:
    size = 0
    for one in publications:
        size += len(one.data)
        if size > MAX_BYTES:
            return
        yield _write_publication(one)


def _write_publication(publication: Publication) -> bytes:
    # Client libraries ignore a publication without the field `data`, so this field is present even for binary data.
    more = b"" if publication.offset else b',"offset":0'
    data = publication.as_json()
    if data is not None:
        return publication.as_object(data, more)
    return publication.as_object(JSONText(b"null"), more + b',"b64data":%b' % publication.as_base64())
