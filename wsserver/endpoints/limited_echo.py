"""`/websocket/echo?max_message_size=100&max_fragment_size=50`: an echo with limits, as in go-httpbin."""

from typing import Any, Final

from wsserver.config.parsers import an_integer
from wsserver.endpoints.echo import EchoProtocol
from wsserver.text import quote
from wsserver.wire.protocol import ConnectionDeny, ConnectionRequest

__all__ = ["LimitedEchoProtocol"]

_MESSAGE, _FRAGMENT = "max_message_size", "max_fragment_size"
_KNOWN: Final = frozenset({_MESSAGE, _FRAGMENT, "tap"})


class LimitedEchoProtocol(EchoProtocol):
    """
    Send back every message unchanged, and close with 1009 if a message or a fragment is over a limit of the query.

    Without the parameters, the limit is that of the server.
    """

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Set the limits of this connection.

        Raises:
            ConnectionDeny: 400, a parameter is unknown, repeated or invalid.
        """
        query = self.request.query or {}
        unknown = set(query) - _KNOWN
        if unknown:
            raise ConnectionDeny(400, f"unknown parameter {quote(min(unknown))}: expected {_MESSAGE} or {_FRAGMENT}")
        most = self.maxMessagePayloadSize
        message = _parse(query, _MESSAGE, most)
        self.maxMessagePayloadSize, self.maxFramePayloadSize = message, _parse(query, _FRAGMENT, message)
        # What is over a limit is left to the state machine.
        self._limit = min(message, self.maxFramePayloadSize)
        self._limits = (message, self.maxFramePayloadSize)
        return super().onConnect(request)

    def _describe_limit(self) -> str:
        message, fragment = self._limits
        if fragment == self.factory.settings.max_message_size:
            return super()._describe_limit()
        return f"the message is over a limit of the URL: {_MESSAGE}={message}, {_FRAGMENT}={fragment}"


def _parse(query: dict[str, list[str]], name: str, most: int) -> int:
    values = query.get(name)
    if values is None:
        return most
    try:
        return an_integer(1, most)(values[0] if len(values) == 1 else "")
    except ValueError as error:
        raise ConnectionDeny(400, f"{name}={quote(','.join(values))}: {error}") from None
