"""
HTTP refusals: the response to a request that the channel rules, a token, the backend or the broker do not permit.

Only this module chooses the HTTP status of such a refusal. It does not use Twisted, a clock or a socket.
"""

from http import HTTPStatus

from wsserver.auth.jwt import Cause, Refused
from wsserver.errors import (
    BrokerDown,
    InvalidChannel,
    InvalidFilter,
    NotPermitted,
    ReservedChannel,
    ServerNotPermitted,
)
from wsserver.hooks.messages import HookDisconnect, HookError
from wsserver.hub.names import NotAllowed
from wsserver.wire.http11 import Refusal, bad_request, forbidden, unavailable

__all__ = ["is_permanent", "refusal_for"]

# Source: section "Return custom disconnect" of https://centrifugal.dev/docs/server/proxy.
_MAY_RECONNECT = range(4000, 4500)
"""Disconnect codes of the backend after which a client may reconnect."""


def refusal_for(
    error: InvalidChannel | InvalidFilter | NotAllowed | Refused | HookError | HookDisconnect | BrokerDown,
) -> Refusal:
    """
    Return the HTTP response for an error.

    Args:
        error: the error.

    Returns:
        400 for an invalid channel name or filter; 401 for a token that is not accepted (RFC 6750 section 3.1); 403 for
        a channel that the client may not subscribe to; 503 with `Retry-After` if a later attempt may succeed. For an
        error of the backend, its code if that is a 4xx status, else 403.
    """
    match error:
        case ReservedChannel():
            return forbidden(str(error), cause="channel")
        case InvalidChannel() | InvalidFilter():
            return bad_request(str(error))
        case NotAllowed():
            return forbidden(error.reason, cause="channel")
        case Refused():
            return _refuse_token(error)
        case HookError():
            return _refuse_by_hook(error)
        case HookDisconnect():
            may_retry = error.code in _MAY_RECONNECT
            return (unavailable if may_retry else forbidden)(error.reason, cause="hook")
        case BrokerDown():
            return (forbidden if is_permanent(error) else unavailable)(str(error), cause="broker")


def is_permanent(error: BrokerDown) -> bool:
    """Return whether a broker's error is permanent: Redis does not permit the channel, so retrying cannot succeed."""
    return isinstance(error, NotPermitted) and not isinstance(error, ServerNotPermitted)


def _refuse_token(refused: Refused) -> Refusal:
    if refused.cause is Cause.UNAVAILABLE:
        return unavailable(refused.reason, cause="token")
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    return Refusal(HTTPStatus.UNAUTHORIZED, refused.reason, (challenge,), "token")


def _refuse_by_hook(error: HookError) -> Refusal:
    if error.temporary:
        return unavailable(error.message, cause="hook")
    is_known = 400 <= error.code < 500 and error.code in HTTPStatus.__members__.values()
    return Refusal(HTTPStatus(error.code) if is_known else HTTPStatus.FORBIDDEN, error.message, cause="hook")
