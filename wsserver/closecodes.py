"""
Close codes and their meanings.

Sources: RFC 6455 section 7.4.1 and the IANA registry "WebSocket Close Code Number".
"""

from enum import IntEnum
from types import MappingProxyType

__all__ = ["MAX_REASON_BYTES", "MEANINGS", "SENDABLE", "CloseCode"]

MAX_REASON_BYTES = 123
"""Maximum size of a close reason: 125 bytes of a control frame (RFC 6455 section 5.5), minus two for the code."""


class CloseCode(IntEnum):
    """The close codes that this server sends or explains."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015
    # RFC 6455 section 7.4.2: 4000 to 4999 are for private use, by agreement between applications.
    TOKEN_EXPIRED = 4001


MEANINGS = MappingProxyType(
    {
        CloseCode.NORMAL_CLOSURE: "normal closure: the purpose of the connection has been fulfilled",
        CloseCode.GOING_AWAY: "going away: the server is stopping, or the browser left the page",
        CloseCode.PROTOCOL_ERROR: "protocol error: a frame broke the rules of RFC 6455",
        CloseCode.UNSUPPORTED_DATA: "unsupported data: this endpoint does not take that type of message",
        CloseCode.NO_STATUS_RECEIVED: "no status received: the Close frame carried no code",
        CloseCode.ABNORMAL_CLOSURE: "abnormal closure: the connection ended without a Close frame",
        CloseCode.INVALID_PAYLOAD: "invalid payload: text that is not UTF-8, or data that cannot be inflated",
        CloseCode.POLICY_VIOLATION: "policy violation: the message or its rate is not allowed here",
        CloseCode.MESSAGE_TOO_BIG: "message too big: it is over the server's limit",
        CloseCode.MANDATORY_EXTENSION: "mandatory extension: the client needs one that the server did not agree to",
        CloseCode.INTERNAL_ERROR: "internal error: the server failed, or no pong came in time",
        CloseCode.SERVICE_RESTART: "service restart: the server restarts, connect again",
        CloseCode.TRY_AGAIN_LATER: "try again later: the server is overloaded",
        CloseCode.BAD_GATEWAY: "bad gateway: the server got an invalid answer from another one",
        CloseCode.TLS_HANDSHAKE: "TLS handshake failure: the secure connection could not be made",
        CloseCode.TOKEN_EXPIRED: "token expired: connect again with a new one",
    }
)
"""Close code -> explanation for users. The browser page shows these explanations."""

SENDABLE = frozenset(CloseCode) - {CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE}
"""The codes that may be sent in a Close frame; the others only report locally how a connection ended."""
