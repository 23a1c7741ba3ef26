"""
Formats of the messages to raw subscribers: publications and gap notices.

This module does not use Twisted, a clock or a socket.
"""

from wsserver.endpoints.raw.request import Format
from wsserver.hub.publication import Publication
from wsserver.jsonfields import write
from wsserver.typing import ChannelName
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, is_utf8

__all__ = ["gap_notice", "rewound_notice", "write_publication"]


def write_publication(
    channel: ChannelName, publication: Publication, form: Format, *, binary: bool = False
) -> tuple[bytes, int]:
    """
    Write a publication as a message.

    Args:
        channel: the channel it was published to.
        publication: the publication.
        form: the format.
        binary: whether the message must be binary.

    Returns:
        The message's payload, and the first byte of its WebSocket frame. This byte is that of a binary frame if
        `binary` is set or the payload is not valid UTF-8, else that of a text frame.
    """
    data = publication.as_bytes()
    if form is Format.RAW:
        return data, FIN_BINARY if binary or not is_utf8(data) else FIN_TEXT
    first = FIN_BINARY if binary else FIN_TEXT
    if form is Format.REDIS:
        # Data that is not valid UTF-8 is written in base64, and the array has a fourth item, "base64".
        content = write(data.decode("utf-8")) if is_utf8(data) else publication.as_base64() + b',"base64"'
        return b'["message",%b,%b]' % (write(channel), content), first
    name, value = b"data", publication.data
    if not publication.json:
        name, value = (b"data", write(data.decode("utf-8"))) if is_utf8(data) else (b"b64data", publication.as_base64())
    position = (
        b',"offset":%d,"epoch":%b' % (publication.offset, write(publication.epoch)) if publication.offset else b""
    )
    rewound = b',"rewound":true' if publication.rewound else b""
    return b'{"channel":%b,"%b":%b%b%b}' % (write(channel), name, value, position, rewound), first


def gap_notice(channel: ChannelName) -> bytes:
    """Write a gap notice as JSON. It tells the client that publications of the channel may be missing before it."""
    return write({"event": "gap", "channel": channel})


def rewound_notice(channel: ChannelName) -> bytes:
    """Write the notice of the end of a rewind as JSON. It tells the client that all later publications are new."""
    return write({"event": "rewound", "channel": channel})
