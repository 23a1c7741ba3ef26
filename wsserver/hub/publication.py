"""
Publications: the data that is published to a channel, with its type, offset, publisher and tags.

There are two types: a JSON text, and bytes whose type the publisher has not declared. A text is published as a JSON
string, so that no subscriber can take it for another JSON value.

This module does not use Twisted, a clock or a socket.
"""

import base64
import json as jsonlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from wsserver.hub.clients import ClientInfo, read_info, write_info
from wsserver.jsonfields import decode_string, read_json, write
from wsserver.typing import JSONText
from wsserver.wire.frames import is_utf8

__all__ = ["Publication", "assemble", "check_int", "check_text", "make_publication", "pack", "unpack"]


# A struct, because creating one takes a fifth of the time that a frozen dataclass takes. Nothing in it refers back to
# it, so the garbage collector need not visit it.
class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message published to a channel."""

    data: bytes
    """The published data: a JSON text if `json` is True, otherwise any bytes."""
    offset: int = 0
    """The publication's number in the channel's stream, from 1; 0 for none, as after a plain `PUBLISH` to Redis."""
    epoch: str = ""
    """The identifier of the stream that the offset belongs to; if a stream is lost, the next one has another epoch."""
    json: bool = False
    """Whether `data` is a JSON text. If False, it is bytes of unknown type, as after a plain `PUBLISH` to Redis."""
    info: ClientInfo | None = None
    """The client that published the data; None if the publisher is not a client."""
    tags: Mapping[str, str] | None = None
    """Names and values that are sent together with the data."""
    rewound: bool = False
    """Whether the subscriber receives the publication because of a rewind: it was published before it subscribed."""
    delta: bool = False
    """Whether the publisher requests that subscribers receive a delta; see the channel option `delta`."""

    def as_bytes(self) -> bytes:
        """
        Return the data for a raw subscriber: a client of `/ws?channel=` or `/sse`.

        If the data is a JSON string, return the string's content in UTF-8. If the content cannot be encoded as UTF-8,
        because it contains half a surrogate pair, or if the data is not a JSON string, return the data unchanged.
        """
        if self.json and self.data[:1] == b'"':
            content = decode_string(JSONText(self.data))
            return self.data if content is None else content
        return self.data

    def as_json(self) -> JSONText | None:
        """
        Return the data as a JSON text, for subscribers that use the Centrifuge protocol and for the HTTP API.

        Data of unknown type is returned unchanged if it is valid JSON. Otherwise, it is converted to a JSON string.

        Returns:
            The JSON text; None if the data is not UTF-8.
        """
        if self.json:
            return JSONText(self.data)
        try:
            return read_json(self.data)
        except ValueError:
            return JSONText(write(self.data.decode("utf-8"))) if is_utf8(self.data) else None

    def as_base64(self) -> JSONText:
        """Return the data in base64, as a JSON string; for data that is not UTF-8, which JSON cannot contain."""
        return JSONText(b'"%b"' % base64.b64encode(self.data))

    def as_object(self, data: JSONText, more: bytes = b"") -> JSONText:
        """
        Return the publication as a JSON object, with the names that the Centrifuge protocol and the HTTP API use.

        Args:
            data: the field `data`. The fields `info`, `offset` and `tags` follow if the publication has them.
            more: further fields, as they are written after a field: each with a comma in front of it.
        """
        if self.info is not None:
            more += b',"info":%b' % write_info(self.info)
        if self.offset:
            more += b',"offset":%d' % self.offset
        if self.tags:
            more += b',"tags":%b' % write(dict(self.tags))
        return JSONText(b'{"data":%b%b}' % (data, more))


def make_publication(
    data: object,
    *,
    json: bool = False,
    info: ClientInfo | None = None,
    tags: Mapping[str, str] | None = None,
    delta: bool = False,
) -> Publication:
    """
    Create a publication from the arguments that an embedding application has passed, after checking them.

    Args:
        data: the text or the bytes to publish. If `json` is False, a text (`str`) is converted to a JSON string.
        json: whether `data` is a JSON text.
        info: the client that publishes; None if the publisher is not a client.
        tags: names and values that are sent together with the data.
        delta: whether subscribers may receive a delta of it.

    Returns:
        The publication, without an offset.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a text cannot be encoded as UTF-8, or `json` is True and `data` is not a JSON text.
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
        # As a JSON string, because a text such as "42" is also valid JSON, and subscribers would receive a number.
        content, json = write(data), True
    return Publication(content, json=json, info=info, tags=dict(tags) if tags else None, delta=delta)


def check_text(name: str, value: str) -> str:
    """
    Check a text argument that an embedding application has passed.

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
    Check an integer argument that an embedding application has passed; a bool is refused.

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


# The format of a publication in Redis: a header, a line feed, and the data. The header is a JSON object with `json`,
# `delta`, `info` and `tags`, as far as the publication has them. If it has none of them, the header is empty.


MAX_CACHED_HEADER: Final = 512
"""Maximum size in bytes of a header that is cached after it was parsed."""


def pack(publication: Publication) -> bytes:
    """Serialize a publication for Redis, without its offset and epoch."""
    header = [b'"json":true'] if publication.json else []
    if publication.delta:
        header.append(b'"delta":true')
    if publication.info is not None:
        header.append(b'"info":' + write_info(publication.info))
    if publication.tags:
        header.append(b'"tags":' + write(dict(publication.tags)))
    return b"{%b}\n%b" % (b",".join(header), publication.data) if header else b"\n" + publication.data


def unpack(packed: bytes, offset: int, epoch: str) -> Publication:
    """
    Parse the result of `pack`.

    Args:
        packed: the bytes that `pack` has returned.
        offset: the publication's offset; 0 for none.
        epoch: the epoch that the offset belongs to.

    Raises:
        ValueError: the bytes are not a packed publication.
    """
    line, separator, data = packed.partition(b"\n")
    if not separator:
        raise ValueError(f"a packed publication must contain a line feed: {packed[:100]!r}")
    return assemble(line, data, offset, epoch)


def assemble(header: bytes, data: bytes, offset: int, epoch: str) -> Publication:
    """
    Create a publication from the two parts of a packed publication.

    Args:
        header: the header.
        data: the data, which follows the line feed.
        offset: as for `unpack`.
        epoch: as for `unpack`.

    Raises:
        ValueError: the header is not that of a packed publication.
    """
    if not header:
        return Publication(data, offset, epoch)
    found = _read_header(header) if len(header) > MAX_CACHED_HEADER else _read_cached_header(header)
    json, info, tags, delta = found
    return Publication(data, offset, epoch, json, info, dict(tags) if tags else None, delta=delta)


def _read_header(line: bytes) -> tuple[bool, ClientInfo | None, Mapping[str, str] | None, bool]:
    header = jsonlib.loads(line)
    info = read_info(jsonlib.dumps(header["info"])) if "info" in header else None
    return bool(header.get("json")), info, header.get("tags"), bool(header.get("delta"))


# A publisher's header rarely changes from one publication to the next.
_read_cached_header = lru_cache(maxsize=1024)(_read_header)
