"""
The JSON parameters of a publication, which callers of the HTTP API and the backend's answers to hooks use alike.

The names are those of Centrifugo. Unknown parameters are ignored, as Centrifugo does. Parameters of Centrifugo that
would change the effect of a call, but that this server does not support, are rejected.

This module does not use Twisted, a clock or a socket.
`wsserver.jsonfields.decode` raises a `ValueError` for an invalid parameter.

Source: https://centrifugal.dev/docs/server/server_api.
"""

import base64
import binascii
from typing import Any, Final, cast

import msgspec

from wsserver.errors import InvalidChannel
from wsserver.hub.names import parse_name
from wsserver.hub.publication import Publication
from wsserver.jsonfields import JSONStruct, Nullable, replace_nulls
from wsserver.typing import ChannelName

__all__ = ["MAX_CONNECTIONS", "MISSING", "Content", "Parameters", "Publish", "check_channel", "decode_base64"]

MAX_CONNECTIONS: Final = 1000
"""Maximum number of connections that one process returns for the method `connections`."""

_MAX_KEY: Final = 255
"""Maximum length of an idempotency key, in bytes."""

_UNSUPPORTED: Final = {
    "version": "this server does not compare versions of publications",
    "session": "this server has no sessions; use client",
    "expression": "this server has no expressions; use user",
    "b64info": "this server does not support it; use info, in JSON",
}
"""Parameters of Centrifugo that this server does not support -> what the error message says about them."""

MISSING: Final = cast("ChannelName", None)
"""The default of a channel's name, until `check_channel` raises an error for it."""


class Parameters(JSONStruct, frozen=True, kw_only=True):
    """The base of all parameters. It rejects parameters of Centrifugo that no method of this server supports."""

    version: Any = None
    session: Any = None
    expression: Any = None
    b64info: Any = None

    def __post_init__(self) -> None:
        """Raise a ValueError if the call contains an unsupported parameter."""
        JSONStruct.__post_init__(self)
        self.check_supported()

    def check_supported(self) -> None:
        """Raise a ValueError if the call contains an unsupported parameter."""
        # Null, 0, "", false, [] and {} mean the same as a missing parameter.
        if self.version or self.session or self.expression or self.b64info:
            name = next(name for name in _UNSUPPORTED if getattr(self, name))
            raise ValueError(f"{name}: {_UNSUPPORTED[name]}")


class Content(Parameters, frozen=True, kw_only=True):
    """The parameters that `publish` and `broadcast` have in common: the data to publish, and options."""

    data: msgspec.Raw = None  # type: ignore[assignment]
    """The data as a raw value, which may be `null`; None if it is missing."""
    b64data: Nullable[str] = ""
    tags: Nullable[dict[str, Nullable[str]]] = {}
    idempotency_key: Nullable[str] = ""
    skip_history: Nullable[bool] = False
    delta: Nullable[bool] = False
    """Whether subscribers may receive the publication as a delta."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a parameter is not supported, or if the idempotency key is too long."""
        # Not the method of `JSONStruct`, which would look at all parameters: publications must be fast.
        if None in (self.b64data, self.tags, self.idempotency_key, self.skip_history, self.delta):
            self.set_defaults()
        self.check_supported()
        if self.idempotency_key and len(self.idempotency_key.encode("utf-8")) > _MAX_KEY:
            raise ValueError(f"idempotency_key: expected at most {_MAX_KEY} bytes")

    def publication(self) -> Publication:
        """
        Return the publication: the decoded bytes of `b64data`, or the JSON text of `data` if `b64data` is missing.

        Tags that are null are replaced by empty ones, as Go's decoder does.

        Raises:
            ValueError: there is no data, or `b64data` is not base64.
        """
        tags = replace_nulls(self.tags, "") if self.tags else None
        if self.b64data:
            return Publication(decode_base64(self.b64data), tags=tags, delta=self.delta)
        if self.data is None:
            raise ValueError("data: expected data, or b64data")
        return Publication(bytes(self.data), json=True, tags=tags, delta=self.delta)


class Publish(Content, frozen=True, kw_only=True):
    """The parameters of `publish`."""

    channel: Nullable[ChannelName] = MISSING

    def __post_init__(self) -> None:
        """Raise a ValueError if the channel's name is invalid."""
        Content.__post_init__(self)
        check_channel(self.channel)


def check_channel(name: str) -> ChannelName:
    """Return a channel's name; raise a ValueError that names the parameter if it is missing or invalid."""
    if name is MISSING:
        raise ValueError("channel: missing: expected a channel name")
    try:
        return parse_name(name)
    except InvalidChannel as error:
        raise ValueError(f"channel: {error}") from None


def decode_base64(text: str) -> bytes:
    """
    Decode the base64 text of a field `b64data`.

    Line ends are ignored, as Go's decoder does: many encoders, such as the program `base64`, break their output into
    lines.

    Raises:
        ValueError: the text is not base64.
    """
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("b64data: expected base64") from None
