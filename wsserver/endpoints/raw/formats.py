"""
Formats of the messages to raw subscribers: publications and gap notices.

Rule 1: no Twisted, no clock, no socket.
"""

import base64
import json
from typing import Final

from wsserver.endpoints.raw.request import Format
from wsserver.hub.publication import Publication
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, is_utf8

__all__ = ["Publication", "gap_notice", "write"]


def write(channel: ChannelName, publication: Publication, form: Format, *, binary: bool = False) -> tuple[bytes, int]:
    """
    Write a publication as a message.

    Args:
        channel: the channel it was published to.
        publication: the publication.
        form: the format.
        binary: whether the message must be binary.

    Returns:
        The message's payload and the first byte of its frame: text if the payload is valid UTF-8, unless `binary` is
        set.
    """
    data = publication.as_bytes()
    if form is Format.RAW:
        return data, FIN_BINARY if binary or not is_utf8(data) else FIN_TEXT
    text = data.decode("utf-8") if is_utf8(data) else None
    if form is Format.REDIS:
        # JSON cannot hold bytes: data that is not valid UTF-8 is written as base64, and a fourth item says so.
        shown = ["message", channel, text] if text is not None else ["message", channel, _base64(data), "base64"]
        return _json(shown), FIN_BINARY if binary else FIN_TEXT
    if text is None:
        name, value = b"b64data", _json(_base64(data))
    else:
        name, value = b"data", publication.data if publication.json else _json(text)
    place = b',"offset":%d,"epoch":%s' % (publication.offset, _json(publication.epoch)) if publication.offset else b""
    return b'{"channel":%s,"%s":%s%s}' % (_json(channel), name, value, place), FIN_BINARY if binary else FIN_TEXT


_GAP: Final = "gap"


def gap_notice(channel: ChannelName) -> bytes:
    """Write a gap notice as JSON: publications of the channel may be missing before this message."""
    return _json({"event": _GAP, "channel": channel})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
