"""The paths of the conformance cases on a server without them, and what all their pages have in common."""

from collections.abc import Callable
from http import HTTPStatus

from wsserver.endpoints.unknown_paths import refuse_cases
from wsserver.web.centrifuge_http import Handler
from wsserver.web.responses import Response, refusal_response
from wsserver.wire.http11 import Refusal, Request

__all__ = ["Answer", "disabled_case_pages", "handle_get"]

PATHS = ("/case", "/case/count", "/case/report")

Answer = Callable[[Request], Response]


def disabled_case_pages() -> dict[str, Handler]:
    """Return what the pages answer without `--cases`."""
    return {path: handle_get(lambda request: refusal_response(refuse_cases(request.raw_path))) for path in PATHS}


def handle_get(answer: Answer) -> Handler:
    """Return a handler that answers GET and HEAD requests, and refuses others."""

    def handle(request: Request, body: bytes, peer: str) -> Response:  # noqa: ARG001
        if request.method not in {"GET", "HEAD"}:
            reason = f"method {request.method} is not allowed: expected GET or HEAD"
            return refusal_response(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET, HEAD"),)))
        return answer(request)

    return handle
