"""
A publication: bytes, and what is known about them.

Pure: no Twisted, no clock, no socket.
"""

import json as jsonlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsserver.hub.presence import ClientInfo, read_info
from wsserver.jsonfields import decode_string, read_json, write
from wsserver.typing import JSONText
from wsserver.wire.frames import is_utf8

__all__ = ["Publication", "check_int", "check_text", "make_publication", "pack", "unpack"]


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published to a channel."""

    data: bytes
    offset: int = 0
    """Its number in the channel's stream, from 1 on; 0 where it has none, as a plain `PUBLISH` to Redis."""
    epoch: str = ""
    """Which stream the offset belongs to; a new one begins when the old one was lost."""
    json: bool = False
    """`data` is a JSON text; otherwise bytes that nobody has described, as those of a plain `PUBLISH`."""
    info: ClientInfo | None = None
    """The client that published it."""
    tags: Mapping[str, str] | None = None

    def as_bytes(self) -> bytes:
        """
        Return what a raw subscriber receives: a JSON string's characters, and everything else as it was published.

        A string that UTF-8 cannot encode, because it contains half a surrogate pair, stays JSON.
        """
        if self.json and self.data[:1] == b'"':
            content = decode_string(JSONText(self.data))
            return self.data if content is None else content
        return self.data

    def as_json(self) -> JSONText | None:
        """
        Return the JSON text that a subscriber of the Centrifuge protocol, and a reader of the API, receives.

        Bytes that nobody has described are the JSON value that they spell, or else a string.

        Returns:
            The text; None for bytes that are not UTF-8.
        """
        if self.json:
            return JSONText(self.data)
        try:
            return read_json(self.data)
        except ValueError:
            return JSONText(write(self.data.decode("utf-8"))) if is_utf8(self.data) else None


def make_publication(
    data: object,
    *,
    json: bool = False,
    info: ClientInfo | None = None,
    tags: Mapping[str, str] | None = None,
) -> Publication:
    """
    Make a publication of what an application has passed.

    Args:
        data: a text, or any bytes.
        json: `data` is a JSON text.
        info: the client that publishes.
        tags: names and texts that are sent along.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a text cannot be encoded as UTF-8, or `data` is not JSON.
    """
    if not isinstance(data, str | bytes | bytearray | memoryview):
        hint = "for a JSON value pass json.dumps(value) and json=True"
        raise TypeError(f"data must be str or bytes, not {type(data).__name__}; {hint}")
    if not isinstance(info, ClientInfo | None):
        raise TypeError(f"info must be ClientInfo, not {type(info).__name__}")
    if not isinstance(tags, Mapping | None):
        raise TypeError(f"tags must be a mapping of str to str, not {type(tags).__name__}")
    for name, text in (tags or {}).items():
        check_text("a tag's name", name)
        check_text(f"tag {name!r}", text)
    content = check_text("data", data).encode("utf-8") if isinstance(data, str) else bytes(data)
    if json:
        try:
            content = read_json(content)
        except ValueError as error:
            raise ValueError(f"data: {error}") from None
    elif isinstance(data, str):
        # A text stays a text, whatever it spells.
        content, json = write(data), True
    return Publication(content, json=json, info=info, tags=dict(tags) if tags else None)


def check_text(name: str, value: str) -> str:
    """
    Check a text that an application has passed.

    Args:
        name: what the text is, for the error message.
        value: the text.

    Returns:
        The text.

    Raises:
        TypeError: the value is not a str.
        ValueError: the text cannot be encoded as UTF-8.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} contains half a surrogate pair, which UTF-8 cannot encode") from None
    return value


def check_int(name: str, value: int) -> int:
    """
    Check a whole number that an application has passed.

    Args:
        name: what the number is, for the error message.
        value: the number.

    Returns:
        The number.

    Raises:
        TypeError: the value is not an int.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    return value


# How a publication stands in Redis: what is known about its data, as JSON, and the data after a line's end.


def pack(publication: Publication) -> bytes:
    """Write all but offset and epoch."""
    about: dict[str, Any] = {}
    if publication.json:
        about["json"] = True
    if publication.info is not None:
        about["info"] = publication.info.as_json()
    if publication.tags:
        about["tags"] = dict(publication.tags)
    head = jsonlib.dumps(about, ensure_ascii=False, separators=(",", ":")).encode("utf-8") if about else b""
    return head + b"\n" + publication.data


def unpack(packed: bytes, offset: int, epoch: str) -> Publication:
    """
    Read what `pack` has written.

    Raises:
        ValueError: it is something else.
    """
    head, line, data = packed.partition(b"\n")
    if not line:
        raise ValueError("no publication")
    if not head:
        return Publication(data, offset, epoch)
    about = jsonlib.loads(head)
    info = read_info(jsonlib.dumps(about["info"])) if "info" in about else None
    return Publication(data, offset, epoch, bool(about.get("json")), info, about.get("tags"))
