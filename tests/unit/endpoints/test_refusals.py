"""Tests for wsserver/endpoints/refusals.py and the module of the same name for Centrifuge clients."""

from http import HTTPStatus

import pytest
from twisted.python.failure import Failure

from wsserver.auth.jwt import Cause
from wsserver.auth.jwt import Refused as RefusedToken
from wsserver.centrifugecodes import INVALID_TOKEN, TOKEN_EXPIRED, Disconnect, Error
from wsserver.endpoints.centrifuge.refusals import error_for, refuse_by_hook, refuse_channel, refuse_token
from wsserver.endpoints.refusals import refusal_for
from wsserver.errors import (
    BrokerDown,
    InvalidChannel,
    NotEnabled,
    NotPermitted,
    ReservedChannel,
    ServerNotPermitted,
    Unrecoverable,
)
from wsserver.hooks.messages import HookDisconnect, HookError
from wsserver.hub.names import NotAllowed

RETRY = (("Retry-After", "1"),)


class RefusalForTests:
    """The HTTP status of each error."""

    @pytest.mark.parametrize(
        ("error", "status", "headers"),
        [
            (InvalidChannel("why"), 400, ()),
            (ReservedChannel("why"), 403, ()),
            (NotAllowed("why"), 403, ()),
            (RefusedToken("why"), 401, (("WWW-Authenticate", 'Bearer error="invalid_token"'),)),
            (RefusedToken("why", Cause.EXPIRED), 401, (("WWW-Authenticate", 'Bearer error="invalid_token"'),)),
            (RefusedToken("why", Cause.UNAVAILABLE), 503, RETRY),
            (BrokerDown("why"), 503, RETRY),
            (NotPermitted("why"), 403, ()),
            # An operator has to fix it, and until then /ready answers 503.
            (ServerNotPermitted("why"), 503, RETRY),
            (HookError(100, "why", temporary=True), 503, RETRY),
            (HookError(401, "why"), 401, ()),
            (HookError(404, "why"), 404, ()),
            # These are not HTTP statuses of client errors.
            (HookError(499, "why"), 403, ()),
            (HookError(500, "why"), 403, ()),
            (HookError(1000, "why"), 403, ()),
            (HookDisconnect(4500, "why"), 403, ()),
            # The client may connect again.
            (HookDisconnect(4499, "why"), 503, RETRY),
        ],
    )
    def test_maps_an_error_to_its_status_reason_and_headers(self, error, status, headers):
        refusal = refusal_for(error)
        assert (refusal.status, refusal.reason, refusal.headers) == (HTTPStatus(status), "why", headers)


class CentrifugeTests:
    """The Centrifuge code of each error."""

    @pytest.mark.parametrize(
        ("error", "code", "message", "temporary"),
        [
            (InvalidChannel("why"), 107, "bad request: why", False),
            (ReservedChannel("why"), 107, "bad request: why", False),
            (NotEnabled("why"), 108, "not available: why", False),
            (Unrecoverable("why"), 112, "unrecoverable position", False),
            (BrokerDown("why"), 100, "internal server error: why", True),
            (NotPermitted("why"), 103, "permission denied: why", False),
            (ServerNotPermitted("why"), 100, "internal server error: why", True),
        ],
    )
    def test_maps_an_error_to_its_code_and_message(self, error, code, message, temporary):
        """The standard message of the code comes first, then the reason."""
        assert error_for(Failure(error)) == Error(code, message, temporary)

    def test_raises_an_unexpected_error(self):
        """An error that is not listed is a bug in the server, not a refusal."""
        with pytest.raises(ZeroDivisionError):
            error_for(Failure(ZeroDivisionError()))

    def test_refuses_a_channel_with_103(self):
        """Centrifugo uses the same code."""
        assert refuse_channel(NotAllowed("why")) == Error(103, "permission denied: why")

    @pytest.mark.parametrize(
        ("cause", "expected"),
        [
            (Cause.INVALID, Disconnect(3500, "invalid token: why")),
            (Cause.EXPIRED, Error(109, "token expired: why")),
            (Cause.UNAVAILABLE, Error(100, "internal server error: why", True)),
        ],
    )
    def test_refuses_an_invalid_expired_or_uncheckable_token_by_its_cause(self, cause, expected):
        """A token that cannot be checked now may be accepted later, so its error is temporary."""
        assert refuse_token(RefusedToken("why", cause), expired=TOKEN_EXPIRED, invalid=INVALID_TOKEN) == expected

    def test_keeps_the_code_of_an_error_or_disconnect_of_the_backend(self):
        assert refuse_by_hook(HookError(1000, "why", temporary=True)) == Error(1000, "why", True)
        assert refuse_by_hook(HookDisconnect(4500, "why")) == Disconnect(4500, "why")
