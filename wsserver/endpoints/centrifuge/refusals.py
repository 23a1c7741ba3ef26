"""
Centrifuge refusals: the error or disconnect if the channel rules, a token, the backend or the broker refuse a command.

Only this module chooses the Centrifuge code of such a refusal. The choice follows the client handler of
https://github.com/centrifugal/centrifugo.
"""

from twisted.python.failure import Failure

from wsserver.auth.jwt import Cause, Refused
from wsserver.centrifugecodes import (
    BAD_REQUEST_ERROR,
    EXPIRED_ERROR,
    INTERNAL,
    NOT_AVAILABLE_ERROR,
    PERMISSION_DENIED,
    UNRECOVERABLE_POSITION,
    Disconnect,
    Error,
)
from wsserver.endpoints.refusals import is_permanent
from wsserver.errors import BrokerDown, InvalidChannel, InvalidFilter, NotEnabled, Unrecoverable
from wsserver.hooks.messages import HookDisconnect, HookError
from wsserver.hub.names import NotAllowed

__all__ = ["error_for", "refuse_by_hook", "refuse_channel", "refuse_token"]


def error_for(failure: Failure) -> Error:
    """
    Return the error reply to a command that has failed.

    Args:
        failure: the failure.

    Returns:
        107 for an invalid channel name or filter, 108 if the channel keeps no presence or history, 112 for a position
        in a stream that no longer exists, 103 if Redis does not permit the channel, 100 if the broker is unavailable.

    Raises:
        Exception: the failure has another cause.
    """
    failure.trap(InvalidChannel, InvalidFilter, NotEnabled, Unrecoverable, BrokerDown)
    error = failure.value
    if isinstance(error, InvalidChannel | InvalidFilter):
        return BAD_REQUEST_ERROR.because(str(error))
    if isinstance(error, NotEnabled):
        return NOT_AVAILABLE_ERROR.because(str(error))
    if isinstance(error, BrokerDown):
        # SDKs do not subscribe again after "permission denied", so it must not be the reply to a temporary failure.
        return (PERMISSION_DENIED if is_permanent(error) else INTERNAL).because(str(error))
    return UNRECOVERABLE_POSITION


def refuse_channel(refusal: NotAllowed) -> Error:
    """Return the error for a channel that the client may not subscribe to: 103."""
    return PERMISSION_DENIED.because(refusal.reason)


def refuse_token(refused: Refused, *, expired: Error | Disconnect, invalid: Error | Disconnect) -> Error | Disconnect:
    """
    Return the refusal of a token that is not accepted.

    Args:
        refused: the reason and the kind of the refusal.
        expired: the refusal of a token that the client should replace by a new one.
        invalid: the refusal of any other token.

    Returns:
        `expired` or `invalid` with the reason; the temporary error 100 if the token cannot be checked now; 110 if its
        `expire_at` is past.
    """
    if refused.cause is Cause.UNAVAILABLE:
        return INTERNAL.because(refused.reason)
    if refused.cause is Cause.ENDED:
        return EXPIRED_ERROR.because(refused.reason)
    return (expired if refused.cause is Cause.EXPIRED else invalid).because(refused.reason)


def refuse_by_hook(refusal: HookError | HookDisconnect) -> Error | Disconnect:
    """Return the error or the disconnect for a refusal by the backend, with the code that the backend chose."""
    if isinstance(refusal, HookDisconnect):
        return Disconnect(refusal.code, refusal.reason)
    return Error(refusal.code, refusal.message, refusal.temporary)
