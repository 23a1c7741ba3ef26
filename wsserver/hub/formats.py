"""
How a publication is written to its subscribers.

Rule 1: no Twisted, no clock, no socket.
"""

import base64
import json
from dataclasses import dataclass
from typing import Final

from wsserver.hub.channels import Format
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, is_utf8

__all__ = ["Publication", "gap_notice", "write"]


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published to a channel."""

    data: bytes
    offset: int = 0
    """Its number in the channel's stream, from 1 on; 0 where it has none, as a plain `PUBLISH` to Redis."""
    epoch: str = ""
    """Which stream the offset belongs to; a new one begins when the old one was lost."""


def write(channel: ChannelName, publication: Publication, form: Format, *, binary: bool = False) -> tuple[bytes, int]:
    """
    Write a publication.

    Args:
        channel: where it was published.
        publication: what was.
        form: the format.
        binary: whether the message must be binary.

    Returns:
        The message's payload and the first byte of its frame: text where the payload is UTF-8.
    """
    data = publication.data
    if form is Format.RAW:
        return data, FIN_BINARY if binary or not is_utf8(data) else FIN_TEXT
    text = data.decode("utf-8") if is_utf8(data) else None
    if form is Format.REDIS:
        # JSON has no bytes: what is no UTF-8 stands there in base64, and says so.
        shown = ["message", channel, text] if text is not None else ["message", channel, _base64(data), "base64"]
        return _json(shown), FIN_BINARY if binary else FIN_TEXT
    envelope: dict[str, object] = {"channel": channel}
    if text is not None:
        envelope["data"] = text
    else:
        envelope["b64data"] = _base64(data)
    if publication.offset:
        envelope |= {"offset": publication.offset, "epoch": publication.epoch}
    return _json(envelope), FIN_BINARY if binary else FIN_TEXT


_GAP: Final = "gap"


def gap_notice(channel: ChannelName) -> bytes:
    """Write that publications of a channel may be missing before this place."""
    return _json({"event": _GAP, "channel": channel})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
