"""
The Protobuf form of the Centrifuge client protocol, version 2: a frame is a sequence of messages.

In a frame, the length of each message, a varint, precedes the message. An invalid command becomes a `Disconnect`;
`parse` never raises.

Sources: `definitions/client.proto` of centrifugal/protocol, `client.go` of centrifugal/centrifuge, and
https://protobuf.dev/programming-guides/encoding/.

This module does not use Twisted, a clock or a socket.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from wsserver.centrifugecodes import Error
from wsserver.endpoints.centrifuge.commands import (
    MAX_COMMANDS,
    RPC,
    Command,
    Connect,
    History,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Send,
    Since,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    check_subs,
    invalid_command,
    make_command,
)
from wsserver.endpoints.centrifuge.protobuf_schema import MESSAGES, message_class
from wsserver.endpoints.centrifuge.replies import HistoryResult, Message, PresenceResult, SubscribeResult
from wsserver.hub.clients import ClientInfo
from wsserver.hub.delta import cached_delta
from wsserver.hub.filters import MAX_TEXT, FilterNode
from wsserver.hub.publication import Publication
from wsserver.jsonfields import write
from wsserver.wire.frames import FIN_BINARY

__all__ = ["PROTOBUF", "ProtobufCodec", "read_emulation"]

MAX_VARINT_BYTES: Final = 5
"""Maximum size in bytes of the varint in front of a message, which is enough for 32 bits."""

_read_command: Final = message_class("Command").FromString
_PublicationMessage: Final = message_class("Publication")
_ClientInfoMessage: Final = message_class("ClientInfo")


def _numbers(container: str) -> dict[bytes, tuple[int, Any]]:
    """Return the number and the message class of the fields of a reply or push, by the name of the field."""
    fields = {number: text.split() for number, text in MESSAGES[container].items()}
    return {
        name.encode(): (number, message_class(kind)) for number, (kind, name) in fields.items() if kind[0].isupper()
    }


_REPLIES: Final = _numbers("Reply")
_PUSHES: Final = _numbers("Push")


class ProtobufCodec:
    """The Protobuf form; see `wsserver.endpoints.centrifuge.codec.Codec`."""

    name: Final = "protobuf"
    subprotocol: Final = "centrifuge-protobuf"
    first_byte: Final = FIN_BINARY
    separator: Final = b""
    ping: Final = b"\x00"
    json: Final = False

    def parse(self, frame: bytes) -> list[Command]:
        """Parse the commands of a frame."""
        if not frame:
            return [invalid_command("expected a command, got an empty frame")]
        commands: list[Command] = []
        start = 0
        try:
            while start < len(frame):
                start, end = _find_message(frame, start)
                if len(commands) == MAX_COMMANDS:
                    raise ValueError(f"over {MAX_COMMANDS} commands in a frame")
                commands.append(_parse_command(frame[start:end]))
                start = end
        except ValueError as error:
            commands.append(invalid_command(str(error)))
        return commands

    def reply(self, number: int, result: Message) -> bytes:
        """Write the reply to a command."""
        field, kind = _REPLIES[result.name]
        return _delimit(b"\x08" + _varint(number) + _field(field, _write(kind, result)))

    def error_reply(self, number: int, error: Error) -> bytes:
        """Write the error reply to a command."""
        field, kind = _REPLIES[b"error"]
        content = kind(code=error.code, message=error.message, temporary=error.temporary)
        return _delimit(b"\x08" + _varint(number) + _field(field, content.SerializeToString()))

    def push(self, channel: str, message: Message) -> bytes:
        """Write a push."""
        field, kind = _PUSHES[message.name]
        return _push(channel, _field(field, _write(kind, message)))

    def publication(self, channel: str, publication: Publication) -> bytes:
        """Write the push of a publication."""
        return _push(channel, _field(_PUSHES[b"pub"][0], _publication(publication).SerializeToString()))

    def delta_publication(self, channel: str, publication: Publication, base: Publication | None) -> bytes:
        """Write the push of a publication for a client that receives deltas."""
        return _push(channel, _field(_PUSHES[b"pub"][0], _delta_publication(publication, base).SerializeToString()))

    def presence_event(self, channel: str, info: ClientInfo, *, join: bool) -> bytes:
        """Write the push of a join or leave event."""
        field, kind = _PUSHES[b"join" if join else b"leave"]
        return _push(channel, _field(field, kind(info=_info(info)).SerializeToString()))

    def publications(self, publications: Iterable[Publication]) -> bytes:
        """Write publications as the field `publications` of a result of `history`."""
        return b"".join([_field(1, _publication(one).SerializeToString()) for one in publications])

    def client(self, client: str, info: ClientInfo) -> bytes:
        """Write one entry of the field `presence` of a result of `presence`."""
        entry = _field(1, client.encode("utf-8")) + _field(2, _info(info).SerializeToString())
        return _field(1, entry)

    def clients(self, clients: Iterable[bytes]) -> bytes:
        """Join the entries."""
        return b"".join(clients)


PROTOBUF: Final = ProtobufCodec()


# Commands.


def _find_message(frame: bytes, start: int) -> tuple[int, int]:
    """
    Read the varint in front of a message.

    Returns:
        The positions in the frame at which the message starts and ends.

    Raises:
        ValueError: the varint is cut off or too long, or the message is cut off.
    """
    size = shift = 0
    for position in range(start, min(len(frame), start + MAX_VARINT_BYTES)):
        size |= (frame[position] & 0x7F) << shift
        if frame[position] < 0x80:
            end = position + 1 + size
            if end > len(frame):
                raise ValueError(f"expected a command of {size} bytes, got {len(frame) - position - 1}")
            return position + 1, end
        shift += 7
    raise ValueError("expected the length of a command as a varint")


def _parse_command(data: bytes) -> Command:
    try:
        message = _read_command(data)
    except (DecodeError, UnicodeDecodeError):
        raise ValueError("expected a command of the Centrifuge protocol in Protobuf") from None
    method = next(filter(message.HasField, _REQUESTS), None)
    request = _REQUESTS[method](getattr(message, method)) if method is not None else None
    return make_command(message.id, request, len(data))


def _connect(message: Any) -> Connect:
    # Before the subscriptions are read, because that takes longer than to decode them.
    check_subs(len(message.subs))
    # The library returns the entries of a map in any order.
    subs = {channel: _subscribe(message.subs[channel]) for channel in sorted(message.subs)}
    return Connect(message.token, message.name, message.version, subs, data=message.data or None)


def _subscribe(message: Any) -> Subscribe:
    return Subscribe(
        message.channel,
        message.token,
        message.recover,
        message.epoch,
        message.offset,
        message.positioned,
        message.recoverable,
        message.join_leave,
        message.flag,
        message.type,
        tf=_filter(message.tf) if message.HasField("tf") else None,
        data=message.data or None,
        delta=message.delta,
    )


def _filter(message: Any) -> Any:
    """Return a filter as JSON, from which `Subscribe` reads it."""
    # Before the many small messages are read, because that takes longer than to decode them.
    if message.ByteSize() > MAX_TEXT:
        raise ValueError(f"tf: {message.ByteSize()} bytes, expected at most {MAX_TEXT}")
    return msgspec.json.encode(_filter_node(message))


def _filter_node(message: Any) -> FilterNode:
    nodes = [_filter_node(node) for node in message.nodes]
    return FilterNode(message.op, message.key, message.cmp, message.val, list(message.vals), nodes)


def _publish(message: Any) -> Publish:
    data = message.data
    kind = message.type
    return Publish(message.channel, msgspec.Raw(data), kind) if data else Publish(message.channel, type=kind)


def _data(message: Any) -> Any:
    return msgspec.Raw(message.data) if message.data else None


def _history(message: Any) -> History:
    since = Since(message.since.offset, message.since.epoch) if message.HasField("since") else None
    return History(message.channel, message.limit, since, message.reverse)


_REQUESTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda message: Unsubscribe(message.channel),
    "publish": _publish,
    "presence": lambda message: Presence(message.channel),
    "presence_stats": lambda message: PresenceStats(message.channel),
    "history": _history,
    "rpc": lambda message: RPC(message.method, _data(message)),
    "send": lambda message: Send(_data(message)),
    "refresh": lambda message: Refresh(message.token),
    "sub_refresh": lambda message: SubRefresh(message.channel, message.token),
}
"""Method -> a function that makes the request from its message. Of several methods, the first one counts."""


# Requests to `/emulation`.

_read_emulation: Final = message_class("EmulationRequest").FromString


def read_emulation(body: bytes) -> tuple[str, str, bytes]:
    """
    Read the body of a request to `/emulation`.

    Returns:
        The id of the session, the id of the server process, and the commands.

    Raises:
        ValueError: the body is not a request in Protobuf.
    """
    try:
        request = _read_emulation(body)
    except (DecodeError, UnicodeDecodeError):
        raise ValueError("expected an EmulationRequest of the Centrifuge protocol in Protobuf") from None
    return request.session, request.node, request.data


# Replies and pushes.


def _varint(number: int) -> bytes:
    """Encode an integer from 0 as a varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _delimit(message: bytes) -> bytes:
    return _varint(len(message)) + message


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of type string, bytes or message, whose number is at most 15."""
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _push(channel: str, content: bytes) -> bytes:
    name = _field(2, channel.encode("utf-8")) if channel else b""
    return _delimit(_field(_REPLIES[b"push"][0], name + content))


_ENCODED: Final[Mapping[type, str]] = {HistoryResult: "publications", PresenceResult: "presence"}
"""Result -> the name of the field whose value is encoded already; see `Pages`."""


def _write(kind: Any, content: Message) -> bytes:
    """Encode a result or push as a message of the class `kind`."""
    encoded = _ENCODED.get(type(content), "")
    message = kind()
    _fill(message, content, encoded)
    serialized: bytes = message.SerializeToString()
    # Concatenated encodings of a message are one encoding of the merged messages.
    return bytes(getattr(content, encoded)) + serialized if encoded else serialized


def _fill(message: Any, content: Message, encoded: str = "") -> None:
    """Set the fields of a Protobuf message, without the one that is encoded already."""
    for name in content.__struct_fields__:
        value = getattr(content, name)
        if not value or name == encoded:
            continue
        if name == "subs":
            for channel, result in value.items():
                # An empty result must be in the mapping, too.
                _fill(message.subs[channel], result)
        elif name == "publications":
            with_deltas = isinstance(content, SubscribeResult) and content.delta
            bases = (None, *value) if with_deltas else itertools.repeat(None)
            message.publications.extend(map(_delta_publication, value, bases))
        else:
            setattr(message, name, bytes(value) if isinstance(value, msgspec.Raw) else value)


def _publication(publication: Publication) -> Any:
    message = _PublicationMessage(data=publication.data, offset=publication.offset, tags=publication.tags)
    if publication.info is not None:
        message.info.CopyFrom(_info(publication.info))
    return message


def _delta_publication(publication: Publication, base: Publication | None) -> Any:
    """Write a publication, whose data may be the delta of it and the base."""
    message = _publication(publication)
    delta = cached_delta(base.data, publication.data) if base is not None else None
    if delta is not None:
        message.data, message.delta = delta, True
    return message


def _info(info: ClientInfo) -> Any:
    return _ClientInfoMessage(
        user=info.user,
        client=info.client,
        conn_info=_json(info.conn_info),
        chan_info=_json(info.chan_info),
    )


def _json(value: Any) -> bytes | None:
    return write(value) if value is not None else None
