"""`/whoami` over HTTP: describe the request as the server sees it, as JSON."""

import json
from http import HTTPStatus
from typing import Any

from wsserver.endpoints.description import describe_request
from wsserver.text import quote
from wsserver.web.responses import Response, refusal_response, write_lines
from wsserver.wire.http11 import Refusal, Request

__all__ = ["JSON_LINES", "answer_whoami", "refuse_method"]

JSON_LINES = write_lines((("Content-Type", "application/json"), ("Cache-Control", "no-store")))
"""The headers of a JSON document that no cache keeps."""


def refuse_method(request: Request) -> Response | None:
    """Return the refusal of a request whose method is neither GET nor HEAD; None for the others."""
    if request.method in ("GET", "HEAD"):
        return None
    reason = f"method {quote(request.method)} is not allowed: expected GET or HEAD"
    return refusal_response(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET, HEAD"),)))


def answer_whoami(request: Request, peer: str, transport: Any) -> Response:
    """
    Describe a request.

    Args:
        request: the request head.
        peer: the client's address, as in the log.
        transport: the connection's transport.
    """
    refused = refuse_method(request)
    if refused is not None:
        return refused
    text = json.dumps(describe_request(request, peer, transport), ensure_ascii=False, indent=2)
    return Response(HTTPStatus.OK, JSON_LINES, f"{text}\n".encode())
