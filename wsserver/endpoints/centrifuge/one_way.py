"""
One-way connections: a client without an SDK connects, and from then on only receives.

Its first and only message is the content of a `connect` command. The server subscribes it to the channels of its token,
of the backend's answer to the connect hook, and to those that it names in `subs` and may subscribe to. It receives
pushes without the object `push` around them; the first one is `connect`, the last one `disconnect`.

Source: https://centrifugal.dev/docs/transports/overview, section "Unidirectional".
"""

from collections.abc import Hashable
from http import HTTPStatus
from typing import Any, ClassVar, Final

from wsserver.centrifugecodes import (
    BAD_REQUEST,
    CONNECTION_CLOSED,
    EXPIRED,
    EXPIRED_ERROR,
    FORBIDDEN,
    PERMISSION_DENIED,
    SERVER_ERROR,
    TOKEN_EXPIRED,
    TOO_MANY,
    TOO_MANY_REQUESTS,
    Disconnect,
    Error,
    centrifuge_code,
)
from wsserver.closecodes import CloseCode
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.commands import Command, Connect
from wsserver.endpoints.centrifuge.connection import Answer
from wsserver.endpoints.centrifuge.emulation import new_session_id
from wsserver.endpoints.centrifuge.executor import Executor
from wsserver.endpoints.centrifuge.http_stream import HTTPStream
from wsserver.endpoints.centrifuge.json_codec import JSONCodec, write_push
from wsserver.endpoints.centrifuge.protocol import CentrifugeProtocol
from wsserver.endpoints.centrifuge.replies import DisconnectPush, Message
from wsserver.jsonfields import decode
from wsserver.wire.fastpath import OPEN
from wsserver.wire.frames import build
from wsserver.wire.protocol import ConnectionDeny, ConnectionRequest

__all__ = ["ONE_WAY", "OneWayCodec", "OneWayProtocol", "OneWayStream", "find_problem"]

_DISCONNECTS: Final = {
    EXPIRED_ERROR.code: EXPIRED,
    TOKEN_EXPIRED.code: EXPIRED,
    TOO_MANY_REQUESTS.code: TOO_MANY,
    PERMISSION_DENIED.code: FORBIDDEN,
}
"""Code of an error reply to `connect` -> the disconnect that replaces it, as in Centrifuge; else `SERVER_ERROR`."""

_NULLABLE: Final[Any] = Connect | None


class OneWayCodec(JSONCodec):
    """The JSON form of pushes, without the object `push` around them."""

    def parse(self, frame: bytes) -> list[Command]:
        """Parse the content of a `connect` command."""
        try:
            # As in Centrifugo, null stands for a message without fields.
            return [Command(1, decode(_NULLABLE, frame) or Connect(), len(frame))]
        except ValueError as error:
            reason = str(error).replace("it is", "the message is").replace("the value:", "the message:")
            return [Command(0, BAD_REQUEST.because(reason), len(frame))]

    def reply(self, number: int, result: Message) -> bytes:  # noqa: ARG002
        """Write the result of `connect` as a push."""
        return self.push("", result)

    def _push(self, channel: str, kind: bytes, content: bytes) -> bytes:
        return write_push(channel, kind, content)


ONE_WAY: Final = OneWayCodec()


def find_problem(codec: Codec, frame: bytes) -> str | None:
    """Return why the first message of a client is invalid; None if it is valid."""
    request = codec.parse(frame)[0].request
    return request.reason if isinstance(request, Disconnect) else None


class _OneWay(Executor):
    """What both kinds of one-way connections have in common."""

    __slots__ = ()

    is_one_way: ClassVar[bool] = True

    def receive(self, frame: bytes) -> None:
        """Queue the client's first message. Further ones are ignored, as in Centrifugo."""
        if self.session is not None and not self._has_asked():
            super().receive(frame)

    def _has_asked(self) -> bool:
        """Return whether the client has sent its first message."""
        return self._connect_replied or self._busy or bool(self._frames) or bool(self._commands)

    def _reply(self, answer: Answer, command: Command) -> None:
        if isinstance(answer, Error):
            answer = _DISCONNECTS.get(answer.code, SERVER_ERROR).because(answer.message)
        super()._reply(answer, command)


class OneWayStream(_OneWay, HTTPStream):
    """`/connection/uni_http_stream` and `/connection/uni_sse`: the connection of a client with an endless response."""

    __slots__ = ()


class OneWayProtocol(_OneWay, CentrifugeProtocol):
    """
    `/connection/uni_websocket`: the WebSocket connection of a client that only receives.

    The first message may also be the parameter `cf_connect` of the URL. Each push is a message of its own.
    """

    __slots__ = ("session_id",)

    transport_name: ClassVar[str] = "uni_websocket"

    choose_codec = staticmethod(lambda query, offered: ONE_WAY)  # noqa: ARG005

    choose_subprotocol = staticmethod(lambda offered: ONE_WAY.subprotocol if ONE_WAY.subprotocol in offered else None)

    def __init__(self) -> None:
        super().__init__()
        self.codec = ONE_WAY
        self.session_id = new_session_id()

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Accept or refuse the opening handshake.

        Raises:
            ConnectionDeny: 400, also if the URL contains an invalid message.
        """
        frame = self._first_message()
        if frame is not None and (problem := find_problem(self.codec, frame)) is not None:
            raise ConnectionDeny(int(HTTPStatus.BAD_REQUEST), f"cf_connect: {problem}")
        return super().onConnect(request)

    def _first_message(self) -> bytes | None:
        """Return the first message if the URL contains it."""
        values = (self.request.query or {}).get("cf_connect")
        return values[0].encode("utf-8") if values else None

    def onOpen(self) -> None:
        """Wait for the first message, unless the URL contains it."""
        super().onOpen()
        frame = self._first_message()
        if frame is not None:
            self.onMessage(frame, isBinary=False)

    @property
    def form(self) -> Hashable:
        """What determines the bytes of a frame."""
        return self.transport_name, self.window_bits

    def write_reply(self, payload: bytes) -> bytes:
        """Return the frames of pushes to this client only."""
        return b"".join([build(self.codec.first_byte, push) for push in payload.split(self.codec.separator)])

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Send a `disconnect` push, then close the connection."""
        code, reason = centrifuge_code(code, reason)
        if self.state == OPEN and code >= CONNECTION_CLOSED.code:
            push = self.codec.push("", DisconnectPush(code, reason))
            self._send(self.write_reply(push), 1, len(push))
        super().close(code, reason)
