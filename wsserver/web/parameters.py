"""
The parameters of the API's methods, and their results, as JSON: Centrifugo's names and shapes.

Source: https://centrifugal.dev/docs/server/server_api. As there, unknown parameters are ignored; those of Centrifugo
that would change what is done, and cannot be honoured here, are refused.

Rule 1: no Twisted, no clock, no socket.
Rule 2: what is wrong with a parameter is a `ValueError` that says so.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Final

from wsserver.hub.names import MAX_NAME, parse_name
from wsserver.hub.publication import Publication
from wsserver.hub.stream import Page, Position
from wsserver.jsonfields import Fields, take, take_string_map, take_text, take_time, take_value, write
from wsserver.typing import ChannelName, JSONText
from wsserver.wire.http11 import Refusal

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
"""Most bytes of data in an answer to `history`; the publications after those are left out."""

_MAX_KEY: Final = 255
"""Most bytes of an idempotency key."""

_MAX_REASON: Final = 123
"""Most bytes of a reason in a Close frame (RFC 6455 section 5.5)."""

_UNSUPPORTED: Final = {
    "version": "this server does not compare versions of publications",
    "session": "this server has no sessions; name a client",
    "expression": "this server knows no expressions; name a user",
    "b64info": "give it as info, in JSON",
}
"""Parameters of Centrifugo's that would do something else here than there."""


_EMPTY: Final = (b"null", b"0", b'""', b"false", b"[]", b"{}")
"""Values that ask for nothing."""


def check_unsupported(parameters: Fields) -> None:
    """Refuse what cannot be honoured."""
    for name, why in _UNSUPPORTED.items():
        if parameters.get(name, _EMPTY[0]) not in _EMPTY:
            raise ValueError(f"{name}: {why}")


def read_channel(parameters: Fields) -> ChannelName:
    """Read the name of a channel."""
    name = parse_name(take(parameters, "channel", str, ""))
    if isinstance(name, Refusal):
        raise ValueError(f"channel: {name.reason}")
    return name


def read_pattern(parameters: Fields) -> str:
    """Read a pattern of names, `*` where there is none."""
    pattern: str = take(parameters, "pattern", str, "") or "*"
    if len(pattern) > MAX_NAME:
        raise ValueError(f"pattern: over {MAX_NAME} characters")
    return pattern


def read_data(parameters: Fields) -> tuple[bytes, bool]:
    """
    Read what is to be published.

    Returns:
        The JSON text of `data`, as it was written, and True; or the bytes of `b64data`, and False.
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
    """Read the names and texts that go along with a publication."""
    return take_string_map(parameters, "tags") or None


def read_key(parameters: Fields) -> str:
    """Read an idempotency key; empty for none."""
    key: str = take(parameters, "idempotency_key", str, "")
    if len(key.encode("utf-8")) > _MAX_KEY:
        raise ValueError(f"idempotency_key: over {_MAX_KEY} bytes")
    return key


def read_limit(parameters: Fields) -> int:
    """Read how many publications are wanted: 0 for the position only, negative for all."""
    limit: int = take(parameters, "limit", int, 0)
    return max(-1, min(limit, 2**31))


def read_since(parameters: Fields, name: str = "since") -> Position | None:
    """Read a position."""
    since = take(parameters, name, dict, None)
    if since is None:
        return None
    offset = take(since, "offset", int, 0)
    if not 0 <= offset < 2**53:
        raise ValueError(f"{name}: expected an offset from 0 to 2**53")
    return Position(offset, take(since, "epoch", str, ""))


def read_who(parameters: Fields, *, anybody: bool = False) -> tuple[str, str]:
    """
    Read whom something is to be done with.

    Args:
        parameters: of the method.
        anybody: whether nobody needs to be named.

    Returns:
        User and client, either perhaps empty.
    """
    user, client = take(parameters, "user", str, ""), take(parameters, "client", str, "")
    if not anybody and not user and not client:
        raise ValueError("user: name a user, or a client")
    return user, client


def read_disconnect(parameters: Fields, default: tuple[int, str]) -> tuple[int, str]:
    """
    Read how a connection is to be ended.

    Args:
        parameters: of the method.
        default: code and reason where none is given.
    """
    disconnect = take(parameters, "disconnect", dict, {})
    code, reason = take(disconnect, "code", int, 0), take(disconnect, "reason", str, "")
    if not code:
        return default
    if not 3000 <= code <= 4999:
        raise ValueError("disconnect: expected a code from 3000 to 4999")
    if len(reason.encode("utf-8")) > _MAX_REASON:
        raise ValueError(f"disconnect: the reason is over {_MAX_REASON} bytes")
    return code, reason


def read_options(parameters: Fields) -> dict[str, Any]:
    """Read how a client is to be subscribed: those of `info`, `data`, `expire_at`, `recover_since` that are there."""
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
    """Write the result of `history`, up to `MAX_BYTES` of data."""
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
    more: dict[str, object] = {"offset": publication.offset}
    if publication.tags:
        more["tags"] = dict(publication.tags)
    if publication.info is not None:
        more["info"] = publication.info.as_json()
    value = publication.as_json()
    if value is None:
        # Libraries take a publication without data for none.
        value = JSONText(b"null")
        more["b64data"] = base64.b64encode(publication.data).decode("ascii")
    return b'{"data":%s,%s' % (value, write(more)[1:])
