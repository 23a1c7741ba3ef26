"""
Publications: the data that is published to a channel, with its offset, sender and tags.

Pure: no Twisted, no clock, no socket.
"""

import base64
import json as jsonlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsserver.hub.clients import ClientInfo, read_info, write_info
from wsserver.jsonfields import decode_string, read_json, write
from wsserver.typing import JSONText
from wsserver.wire.frames import is_utf8

__all__ = ["Publication", "check_int", "check_text", "make_publication", "pack", "unpack"]


@dataclass(frozen=True, slots=True)
class Publication:
    """A message published to a channel."""

    data: bytes
    offset: int = 0
    """Its number in the channel's stream, from 1; 0 for none, as after a plain `PUBLISH` to Redis."""
    epoch: str = ""
    """The stream that the offset belongs to; when a stream is lost, the next one has another epoch."""
    json: bool = False
    """Whether `data` is a JSON text; otherwise it is bytes of unknown type, as after a plain `PUBLISH` to Redis."""
    info: ClientInfo | None = None
    """The client that published it; None if it was not published by a client."""
    tags: Mapping[str, str] | None = None
    """Names and values that are sent along with the data."""

    def as_bytes(self) -> bytes:
        """
        Return what a raw subscriber receives: the content of a JSON string, and any other data as it was published.

        A JSON string that contains half a surrogate pair cannot be encoded as UTF-8, and is returned as JSON.
        """
        if self.json and self.data[:1] == b'"':
            content = decode_string(JSONText(self.data))
            return self.data if content is None else content
        return self.data

    def as_json(self) -> JSONText | None:
        """
        Return the JSON text for subscribers that use the Centrifuge protocol, and for the HTTP API.

        Bytes of unknown type are returned as they are if they are valid JSON, and as a JSON string otherwise.

        Returns:
            The JSON text; None for bytes that are not UTF-8.
        """
        if self.json:
            return JSONText(self.data)
        try:
            return read_json(self.data)
        except ValueError:
            return JSONText(write(self.data.decode("utf-8"))) if is_utf8(self.data) else None

    def as_base64(self) -> JSONText:
        """Return the data as a JSON string in base64: JSON cannot hold bytes that are not UTF-8."""
        return JSONText(b'"%b"' % base64.b64encode(self.data))

    def json_fields(self) -> dict[str, JSONText]:
        """
        Return the publication's fields under the names of the Centrifuge protocol and the HTTP API.

        Returns:
            Field name -> JSON text: `data`, or `b64data` for bytes that are not UTF-8; then `info`, `offset` and `tags`
            if the publication has them.
        """
        data = self.as_json()
        fields = {"data": data} if data is not None else {"b64data": self.as_base64()}
        if self.info is not None:
            fields["info"] = JSONText(write_info(self.info))
        if self.offset:
            fields["offset"] = JSONText(b"%d" % self.offset)
        if self.tags:
            fields["tags"] = JSONText(write(dict(self.tags)))
        return fields


def make_publication(
    data: object,
    *,
    json: bool = False,
    info: ClientInfo | None = None,
    tags: Mapping[str, str] | None = None,
) -> Publication:
    """
    Make a publication from the arguments of an application, and check them.

    Args:
        data: text, or any bytes.
        json: whether `data` is a JSON text.
        info: the client that publishes.
        tags: names and values that are sent along with the data.

    Returns:
        The publication, without an offset. If `json` is False, text is stored as a JSON string.

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
        # As a JSON string: subscribers must receive text even if it is valid JSON, such as "42".
        content, json = write(data), True
    return Publication(content, json=json, info=info, tags=dict(tags) if tags else None)


def check_text(name: str, value: str) -> str:
    """
    Check a text argument of an application.

    Args:
        name: the argument's name, for the error message.
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
    Check an integer argument of an application; a bool is refused.

    Args:
        name: the argument's name, for the error message.
        value: the number.

    Returns:
        The number.

    Raises:
        TypeError: the value is not an int.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    return value


# The format of a publication in Redis: a JSON object with its type, sender and tags (empty if it has none), a line
# feed, and the data.


def pack(publication: Publication) -> bytes:
    """Serialize a publication for Redis, without its offset and epoch."""
    header: dict[str, Any] = {}
    if publication.json:
        header["json"] = True
    if publication.info is not None:
        header["info"] = publication.info.as_json()
    if publication.tags:
        header["tags"] = dict(publication.tags)
    line = jsonlib.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8") if header else b""
    return line + b"\n" + publication.data


def unpack(packed: bytes, offset: int, epoch: str) -> Publication:
    """
    Parse the result of `pack`.

    Args:
        packed: the bytes.
        offset: the publication's offset; 0 for none.
        epoch: the epoch of the offset.

    Raises:
        ValueError: the bytes are not a packed publication.
    """
    line, separator, data = packed.partition(b"\n")
    if not separator:
        raise ValueError(f"a packed publication must contain a line feed: {packed[:100]!r}")
    if not line:
        return Publication(data, offset, epoch)
    header = jsonlib.loads(line)
    info = read_info(jsonlib.dumps(header["info"])) if "info" in header else None
    return Publication(data, offset, epoch, bool(header.get("json")), info, header.get("tags"))
