"""
Centrifuge's codes: errors, disconnects and unsubscriptions, with their standard messages.

Sources: `errors.go`, `disconnect.go` and `unsubscribe.go` of centrifugal/centrifuge, and
https://centrifugal.dev/docs/server/codes. The HTTP API and the hooks use the same error codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from wsserver.closecodes import CloseCode

__all__ = [
    "ALREADY_SUBSCRIBED",
    "BAD_REQUEST",
    "BAD_REQUEST_ERROR",
    "CHANNEL_LIMIT",
    "CLOSE_CODES",
    "CONNECTION_CLOSED",
    "EXPIRED",
    "EXPIRED_ELSEWHERE",
    "EXPIRED_ERROR",
    "EXPIRED_SUBSCRIPTION",
    "FORBIDDEN",
    "FORCE_DISCONNECT",
    "INSUFFICIENT_STATE",
    "INTERNAL",
    "INVALID_TOKEN",
    "LIMIT_EXCEEDED",
    "LOST_STATE",
    "METHOD_NOT_FOUND",
    "NOT_AVAILABLE",
    "NOT_AVAILABLE_ERROR",
    "NO_PONG",
    "PERMISSION_DENIED",
    "SERVER_ERROR",
    "SERVER_UNSUBSCRIBE",
    "SHUTDOWN",
    "SLOW",
    "STALE",
    "TOKEN_EXPIRED",
    "TOO_MANY",
    "TOO_MANY_REQUESTS",
    "UNAUTHORIZED",
    "UNRECOVERABLE_POSITION",
    "Disconnect",
    "Error",
    "Unsubscription",
    "centrifuge_code",
]


@dataclass(frozen=True, slots=True)
class Error:
    """An error reply to a command. The connection stays open."""

    code: int
    message: str
    temporary: bool = False
    """Whether the client may retry."""

    def because(self, reason: str) -> "Error":
        """Return a copy with a reason after the message. Clients act on the code; the message is for people."""
        return Error(self.code, f"{self.message}: {reason}", self.temporary)


# This server does not use 102 (unknown channel).
INTERNAL: Final = Error(100, "internal server error", temporary=True)
UNAUTHORIZED: Final = Error(101, "unauthorized")
PERMISSION_DENIED: Final = Error(103, "permission denied")
METHOD_NOT_FOUND: Final = Error(104, "method not found")
ALREADY_SUBSCRIBED: Final = Error(105, "already subscribed")
LIMIT_EXCEEDED: Final = Error(106, "limit exceeded")
BAD_REQUEST_ERROR: Final = Error(107, "bad request")
NOT_AVAILABLE_ERROR: Final = Error(108, "not available")
TOKEN_EXPIRED: Final = Error(109, "token expired")
EXPIRED_ERROR: Final = Error(110, "expired")
TOO_MANY_REQUESTS: Final = Error(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION: Final = Error(112, "unrecoverable position")


@dataclass(frozen=True, slots=True)
class _End:
    """A code and a reason with which the server ends something."""

    code: int
    reason: str

    def because(self, reason: str) -> Self:
        """Return a copy with a detail after the reason."""
        return type(self)(self.code, f"{self.reason}: {reason}")


class Disconnect(_End):
    """The code and reason with which the server closes a connection. Below 3500, clients reconnect automatically."""

    __slots__ = ()


CONNECTION_CLOSED: Final = Disconnect(3000, "connection closed")
"""The client has ended its event stream; reported to the backend, never sent."""
SHUTDOWN: Final = Disconnect(3001, "shutdown")
SERVER_ERROR: Final = Disconnect(3004, "internal server error")
EXPIRED: Final = Disconnect(3005, "connection expired")
EXPIRED_ELSEWHERE: Final = Disconnect(3006, "subscription expired")
SLOW: Final = Disconnect(3008, "slow")
LOST_STATE: Final = Disconnect(3010, "insufficient state")
NO_PONG: Final = Disconnect(3012, "no pong")
TOO_MANY: Final = Disconnect(3013, "too many requests")
INVALID_TOKEN: Final = Disconnect(3500, "invalid token")
BAD_REQUEST: Final = Disconnect(3501, "bad request")
CHANNEL_LIMIT: Final = Disconnect(3505, "channel limit")
STALE: Final = Disconnect(3502, "stale")
FORCE_DISCONNECT: Final = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT: Final = Disconnect(3504, "connection limit")
FORBIDDEN: Final = Disconnect(3507, "permission denied")
NOT_AVAILABLE: Final = Disconnect(3508, "not available")

CLOSE_CODES: Final[Mapping[int, Disconnect]] = {
    CloseCode.GOING_AWAY: SHUTDOWN,
    CloseCode.INTERNAL_ERROR: SERVER_ERROR,
    CloseCode.TRY_AGAIN_LATER: SLOW,
}
"""Close code of the server -> the code and reason that Centrifuge uses for it. Other codes are sent unchanged."""


def centrifuge_code(code: int, reason: str) -> tuple[int, str]:
    """
    Return the code and the reason with which a connection of a Centrifuge client is closed.

    Args:
        code: the close code. Those in `CLOSE_CODES` are replaced by the code that SDKs know for the same cause.
        reason: the close reason.
    """
    known = CLOSE_CODES.get(code)
    return (known.code, f"{known.reason}: {reason}") if known is not None else (code, reason)


class Unsubscription(_End):
    """Code and reason of an `unsubscribe` push. From 2500 on, clients subscribe again automatically."""

    __slots__ = ()


SERVER_UNSUBSCRIBE: Final = Unsubscription(2000, "server unsubscribe")
INSUFFICIENT_STATE: Final = Unsubscription(2500, "insufficient state")
EXPIRED_SUBSCRIPTION: Final = Unsubscription(2501, "subscription expired")
