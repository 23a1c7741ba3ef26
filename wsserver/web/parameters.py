"""
Parse the parameters of the API's methods, and write the result of `history`, in Centrifugo's JSON format.

Source: https://centrifugal.dev/docs/server/server_api. Unknown parameters are ignored, as Centrifugo does. Parameters
of Centrifugo that would change the effect of a call, but that this server does not support, are rejected.

Rule 1: no Twisted, no clock, no socket.
Rule 2: an invalid parameter raises a `ValueError` that names the parameter and the reason.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Final

from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.errors import InvalidChannel
from wsserver.hub.names import MAX_NAME, parse_name
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position
from wsserver.jsonfields import Fields, take, take_string_map, take_text, take_time, take_value, write, write_object
from wsserver.typing import ChannelName

__all__ = [
    "MAX_BYTES",
    "check_unsupported",
    "read_channel",
    "read_data",
    "read_disconnect",
    "read_key",
    "read_limit",
    "read_options",
    "read_pattern",
    "read_since",
    "read_tags",
    "read_who",
    "write_page",
]

MAX_BYTES: Final = 8 * 1024**2
"""Maximum size of all data in a result of `history`, in bytes; later publications are omitted."""

_MAX_KEY: Final = 255
"""Maximum length of an idempotency key, in bytes."""

_UNSUPPORTED: Final = {
    "version": "this server does not compare versions of publications",
    "session": "this server has no sessions; name a client",
    "expression": "this server knows no expressions; name a user",
    "b64info": "give it as info, in JSON",
}
"""Parameters of Centrifugo that this server does not support -> what the error message says about them."""


_EMPTY: Final = (b"null", b"0", b'""', b"false", b"[]", b"{}")
"""JSON values that mean the same as a missing parameter."""


def check_unsupported(parameters: Fields) -> None:
    """Raise ValueError if a call has a parameter that this server does not support."""
    for name, why in _UNSUPPORTED.items():
        if parameters.get(name, _EMPTY[0]) not in _EMPTY:
            raise ValueError(f"{name}: {why}")


def read_channel(parameters: Fields) -> ChannelName:
    """Read and check `channel`, the name of a channel."""
    name = take(parameters, "channel", str, "")
    try:
        return parse_name(name)
    except InvalidChannel as error:
        raise ValueError(f"channel: {error}") from None


def read_pattern(parameters: Fields) -> str:
    """Read `pattern`, a pattern of channel names; the default is `*`."""
    pattern: str = take(parameters, "pattern", str, "") or "*"
    if len(pattern) > MAX_NAME:
        raise ValueError(f"pattern: over {MAX_NAME} characters")
    return pattern


def read_data(parameters: Fields) -> tuple[bytes, bool]:
    """
    Read the data of a publication from `b64data`, or from `data` if `b64data` is missing.

    Returns:
        The decoded bytes of `b64data` and False, or the unchanged JSON text of `data` and True.
    """
    coded = take(parameters, "b64data", str, "")
    if coded:
        try:
            return base64.b64decode(coded, validate=True), False
        except (binascii.Error, ValueError):
            raise ValueError("b64data: expected base64") from None
    if "data" not in parameters:
        raise ValueError("no data")
    return parameters["data"], True


def read_tags(parameters: Fields) -> dict[str, str] | None:
    """Read `tags`, the string map that is published along with the data; None if it is missing or empty."""
    return take_string_map(parameters, "tags") or None


def read_key(parameters: Fields) -> str:
    """Read `idempotency_key`; empty if it is missing."""
    key: str = take(parameters, "idempotency_key", str, "")
    if len(key.encode("utf-8")) > _MAX_KEY:
        raise ValueError(f"idempotency_key: over {_MAX_KEY} bytes")
    return key


def read_limit(parameters: Fields) -> int:
    """Read `limit`, the maximum number of publications: 0 for the position only, negative for all."""
    limit: int = take(parameters, "limit", int, 0)
    return max(-1, min(limit, 2**31))


def read_since(parameters: Fields, name: str = "since") -> Position | None:
    """Read a stream position, `offset` and `epoch`; None if it is missing."""
    since = take(parameters, name, dict, None)
    if since is None:
        return None
    offset = take(since, "offset", int, 0)
    if not 0 <= offset < 2**53:
        raise ValueError(f"{name}: expected an offset from 0 to 2**53")
    return Position(offset, take(since, "epoch", str, ""))


def read_who(parameters: Fields, *, anybody: bool = False) -> tuple[str, str]:
    """
    Read `user` and `client`, which select the connections to act on.

    Args:
        parameters: the method's parameters.
        anybody: whether both may be missing, which selects all connections.

    Returns:
        The user and the client; a missing one is empty.
    """
    user, client = take(parameters, "user", str, ""), take(parameters, "client", str, "")
    if not anybody and not user and not client:
        raise ValueError("user: name a user, or a client")
    return user, client


def read_disconnect(parameters: Fields, default: tuple[int, str]) -> tuple[int, str]:
    """
    Read `disconnect`, the close code and reason for a connection.

    Args:
        parameters: the method's parameters.
        default: the code and reason if no code is given.
    """
    disconnect = take(parameters, "disconnect", dict, {})
    code, reason = take(disconnect, "code", int, 0), take(disconnect, "reason", str, "")
    if not code:
        return default
    if not 3000 <= code <= 4999:
        raise ValueError("disconnect: expected a code from 3000 to 4999")
    if len(reason.encode("utf-8")) > MAX_REASON_BYTES:
        raise ValueError(f"disconnect: the reason is over {MAX_REASON_BYTES} bytes")
    return code, reason


def read_options(parameters: Fields) -> dict[str, Any]:
    """Read the options of a subscription that are given: `info`, `data`, `expire_at` and `recover_since`."""
    options: dict[str, Any] = {}
    if (info := take_value(parameters, "info")) is not None:
        options["info"] = info
    if (data := take_text(parameters, "data")) is not None:
        options["data"] = data
    if expire_at := take_time(parameters, "expire_at"):
        options["expire_at"] = expire_at
    if since := read_since(parameters, "recover_since"):
        options["recover_since"] = {"offset": since.offset, "epoch": since.epoch}
    return options


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
    # Client libraries treat a publication without `data` as missing, so it is present even for binary data.
    return write_object({"data": b"null", "offset": 0, **publication.json_fields()})
