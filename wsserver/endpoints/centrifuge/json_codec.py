"""
The JSON form of the Centrifuge client protocol, version 2: one command, reply or push per line.

As in Centrifuge, fields with their zero value are omitted, except those that Centrifuge always writes. An invalid
command becomes a `Disconnect` or an `Error`; `parse` never raises.

Sources: `definitions/client.proto` of centrifugal/protocol, `client.go` of centrifugal/centrifuge.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from wsserver.centrifugecodes import BAD_REQUEST_ERROR, Error
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
    SubRefresh,
    Subscribe,
    Unsubscribe,
    invalid_command,
    make_command,
)
from wsserver.endpoints.centrifuge.replies import ConnectResult, Message, SubscribeResult
from wsserver.hub.clients import ClientInfo, write_info
from wsserver.hub.delta import cached_delta
from wsserver.hub.publication import Publication
from wsserver.jsonfields import HalfPairError, TooDeepError, decode, decode_replacing, write
from wsserver.typing import JSONText
from wsserver.wire.frames import FIN_TEXT

__all__ = ["JSON", "JSONCodec", "write_push"]

_encode: Final = msgspec.json.Encoder().encode

_quote: Final = lru_cache(maxsize=4096)(write)
"""Write the name of a channel or field as a JSON string. The names of most replies are the same."""


class JSONCodec:
    """The JSON form; see `wsserver.endpoints.centrifuge.codec.Codec`."""

    name: Final = "json"
    subprotocol: Final = "centrifuge-json"
    first_byte: Final = FIN_TEXT
    separator: Final = b"\n"
    ping: Final = b"{}"
    json: Final = True

    def parse(self, frame: bytes) -> list[Command]:
        """Parse the commands of a frame."""
        # The last command may end with a line feed.
        lines = frame.removesuffix(b"\n").split(b"\n")
        commands = [_parse_command(line) for line in lines[:MAX_COMMANDS]]
        if len(lines) > MAX_COMMANDS:
            commands.append(invalid_command(f"over {MAX_COMMANDS} commands in a frame"))
        return commands

    def reply(self, number: int, result: Message) -> bytes:
        """Write the reply to a command."""
        # The results of most commands, which are publications, have no fields.
        written = _write(result) if result.__struct_fields__ else b"{}"
        return b'{"id":%d,"%b":%b}' % (number, result.name, written)

    def error_reply(self, number: int, error: Error) -> bytes:
        """Write the error reply to a command."""
        return _obj(
            {"id": number, "error": _obj({"code": error.code, "message": error.message, "temporary": error.temporary})}
        )

    def push(self, channel: str, message: Message) -> bytes:
        """Write a push."""
        return self._push(channel, message.name, _write(message))

    def publication(self, channel: str, publication: Publication) -> bytes:
        """Write the push of a publication."""
        return self._push(channel, b"pub", _publication(publication))

    def delta_publication(self, channel: str, publication: Publication, base: Publication | None) -> bytes:
        """Write the push of a publication for a client that receives deltas."""
        return self._push(channel, b"pub", _delta_publication(publication, base))

    def presence_event(self, channel: str, info: ClientInfo, *, join: bool) -> bytes:
        """Write the push of a join or leave event."""
        return self._push(channel, b"join" if join else b"leave", b'{"info":%b}' % write_info(info))

    def publications(self, publications: Iterable[Publication]) -> bytes:
        """Write publications as a JSON array."""
        return b"[%b]" % b",".join(map(_publication, publications))

    def client(self, client: str, info: ClientInfo) -> bytes:
        """Write one field of the object that `clients` returns."""
        return b"%b:%b" % (write(client), write_info(info))

    def clients(self, clients: Iterable[bytes]) -> bytes:
        """Write the clients of a channel as a JSON object."""
        return b"{%b}" % b",".join(clients)

    def _push(self, channel: str, kind: bytes, content: bytes) -> bytes:
        return b'{"push":%b}' % write_push(channel, kind, content)


JSON: Final = JSONCodec()


def _write(message: Message) -> bytes:
    if type(message) is SubscribeResult:
        message = _with_publications(message)
    elif type(message) is ConnectResult and message.subs:
        subs = {channel: _with_publications(result) for channel, result in message.subs.items()}
        message = msgspec.structs.replace(message, subs=subs)
    return _on_one_line(_encode(message))


def _with_publications(result: SubscribeResult) -> SubscribeResult:
    """Replace the publications of a result by their JSON texts, as raw values."""
    if not result.publications:
        return result
    if result.delta:
        written = map(_delta_publication, result.publications, (None, *result.publications))
    else:
        written = map(_publication, result.publications)
    texts: Any = tuple(map(msgspec.Raw, written))
    return msgspec.structs.replace(result, publications=texts)


def write_push(channel: str, kind: bytes, content: bytes) -> bytes:
    """Write a push of a kind, such as `pub`, without the object around it."""
    if not channel:
        return b'{"%b":%b}' % (kind, content)
    return b'{"channel":%b,"%b":%b}' % (_quote(channel), kind, content)


def _obj(fields: Mapping[str, Any]) -> bytes:
    """
    Write a JSON object.

    Args:
        fields: name -> value. Bytes are JSON text and are inserted unchanged; any other value is encoded. Fields whose
            value is false, such as 0, "" or None, are omitted.
    """
    return b"{%b}" % b",".join([b"%b:%b" % (_quote(name), _value(value)) for name, value in fields.items() if value])


def _value(value: Any) -> bytes:
    return value if isinstance(value, bytes) else write(value)


def _publication(publication: Publication) -> bytes:
    """Write a publication as a JSON object."""
    data = publication.as_json()
    if data is None:
        data, publication = _data(publication)
    return publication.as_object(JSONText(_on_one_line(data)))


def _delta_publication(publication: Publication, base: Publication | None) -> bytes:
    """Write a publication, whose data is a string: its JSON text, or the delta of it and the JSON text of the base."""
    data, shown = _data(publication)
    delta = cached_delta(_data(base)[0], data) if base is not None else None
    if delta is None:
        return shown.as_object(JSONText(write(data.decode("utf-8"))))
    return shown.as_object(JSONText(write(delta.decode("utf-8"))), b',"delta":true')


def _data(publication: Publication) -> tuple[JSONText, Publication]:
    """
    Return the data of a publication as JSON text, and the publication with the tags to show.

    JSON cannot hold bytes, so data that is not valid UTF-8 is written as base64, with the tag `encoding`.
    """
    data = publication.as_json()
    if data is not None:
        return data, publication
    tags = {**(publication.tags or {}), "encoding": "base64"}
    return publication.as_base64(), msgspec.structs.replace(publication, tags=tags)


def _on_one_line(text: bytes) -> bytes:
    """
    Replace the line feeds of a JSON text by spaces, because a line feed ends a reply in a frame.

    This does not change the value: in JSON, a line feed is only allowed as white space between tokens.
    """
    return text.replace(b"\n", b" ")


class _Line(msgspec.Struct, frozen=True):
    """A command as written: an ID and a method. Of several methods, the first one below counts, as in Centrifuge."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    publish: Publish | None = None
    presence: Presence | None = None
    presence_stats: PresenceStats | None = None
    history: History | None = None
    rpc: RPC | None = None
    send: Send | None = None
    refresh: Refresh | None = None
    sub_refresh: SubRefresh | None = None


def _parse_command(line: bytes) -> Command:
    refused: Error | None = None
    try:
        parsed = decode(_Line, line)
    except TooDeepError as error:
        if number := _find_id(line):
            return Command(number, BAD_REQUEST_ERROR.because(_describe(error)), len(line))
        return invalid_command(_describe(error))
    except HalfPairError as error:
        # As in Centrifuge. But a channel is refused: an SDK drops publications to a channel with another name.
        parsed = decode_replacing(_Line, line)
        if error.field.endswith(".channel"):
            refused = BAD_REQUEST_ERROR.because(_describe(error))
    except ValueError as error:
        return invalid_command(_describe(error))
    # A struct is never false, so this is the first method that the command has.
    request = (
        parsed.connect
        or parsed.subscribe
        or parsed.unsubscribe
        or parsed.publish
        or parsed.presence
        or parsed.presence_stats
        or parsed.history
        or parsed.rpc
        or parsed.send
        or parsed.refresh
        or parsed.sub_refresh
    )
    command = make_command(parsed.id or 0, request, len(line))
    # An invalid command has no ID.
    return Command(command.id, refused, command.size) if refused is not None and command.id else command


def _find_id(line: bytes) -> int:
    """
    Find the ID of a command that is nested too deeply; 0 if there is none.

    SDKs write the ID before or after everything else. So everything between the first inner object or array and the end
    of the last one is replaced. Not with a regular expression, which would take quadratic time for some texts.
    """
    first, last = line.find(b"{"), line.rfind(b"}")
    starts = {line.find(b"{", first + 1), line.find(b"[", first + 1)} - {-1}
    end = max(line.rfind(b"}", 0, last), line.rfind(b"]", 0, last))
    if not starts or last < 0:
        return 0
    try:
        return decode(_Line, b"%bnull%b" % (line[: min(starts)], line[end + 1 :])).id or 0
    except ValueError:
        return 0


def _describe(error: ValueError) -> str:
    return str(error).replace("it is", "a command is")
