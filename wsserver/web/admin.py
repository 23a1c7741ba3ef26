"""Which requests for `/metrics` are refused, on the public port and on an endpoint of its own."""

from collections.abc import Callable
from http import HTTPStatus

from wsserver.config.settings import Settings
from wsserver.web.api import API
from wsserver.web.responses import Response, refusal_response
from wsserver.wire.http11 import Refusal, Request

__all__ = ["check_method", "metrics_disabled", "public_check"]


def metrics_disabled(request: Request, body: bytes, peer: str) -> Response:  # noqa: ARG001 (the arguments of a handler)
    """Answer a request for `/metrics` with 404: there are no metrics."""
    return refusal_response(Refusal(HTTPStatus.NOT_FOUND, "metrics are disabled; see --metrics"))


def check_method(request: Request) -> Refusal | None:
    """Return the refusal of a request that would change something; None for GET and HEAD."""
    if request.method in ("GET", "HEAD"):
        return None
    reason = f"method {request.method} is not allowed: expected GET or HEAD"
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET, HEAD"),))


def public_check(settings: Settings, api: API) -> Callable[[Request], Refusal | None]:
    """
    Return the check of requests for `/metrics` on the port that clients use.

    If the server has an API key, the metrics need it, too: a proxy passes requests of strangers on, and they must not
    learn how busy the server is, or why it refuses requests.

    Args:
        settings: the server's options.
        api: checks the API key.
    """

    def check(request: Request) -> Refusal | None:
        refusal = check_method(request)
        if refusal is not None or not (settings.api_key or settings.api_insecure):
            return refusal
        problem = api.check_key(request)
        return None if problem is None else Refusal(problem.status, problem.message, problem.headers)

    return check
