"""
The HTTP API under `/api/`, compatible with Centrifugo's: `POST /api/publish {"channel": "foo", "data": "hello"}`.

Centrifugo answers errors with status 200. This API answers them with an error status. With `--api-errors body` it
answers invalid calls (400 and 416) with 200 as Centrifugo does; other errors, such as 401 and 503, keep their status.
"""

import hmac
from collections.abc import Generator, Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from wsserver.centrifugecodes import BAD_REQUEST_ERROR, NOT_AVAILABLE_ERROR, UNAUTHORIZED
from wsserver.jsonfields import decode, write
from wsserver.text import quote
from wsserver.typing import Header
from wsserver.web.methods import Methods, Problem, Result, bad_parameters, bad_request, explain, failed_part
from wsserver.web.parameters import Batch
from wsserver.web.responses import Response
from wsserver.wire.http11 import Request

__all__ = ["API"]

MAX_AT_ONCE = 64
"""Maximum number of commands that run concurrently in a batch with `parallel`."""

# 404 for an unknown method is not in this list: Centrifugo answers with 404, too, except inside a batch.
_NO_KEY = "no API key: send the server's --api-key in X-API-Key, or as a bearer token in Authorization"
_WRONG_KEY = "the API key is wrong: expected the server's --api-key"
_CALLER_ERRORS = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
"""Statuses that `lenient` replaces with 200. Failures of the server keep their status, such as 503."""


_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class API:
    """
    Answers the requests to the HTTP API.

    Args:
        methods: the methods of the API.
        key: the API key that callers must send; empty to refuse all calls.
        lenient: whether to answer invalid calls with status 200, as Centrifugo does.
    """

    def __init__(self, methods: Methods, key: str, *, lenient: bool = False) -> None:
        self._methods = methods
        self._key = key.encode("utf-8")
        self._lenient = lenient

    def answer(self, request: Request, body: bytes) -> "Deferred[Response]":
        """
        Check a request to the API, and run its method.

        Args:
            request: the request head.
            body: the request body; empty for a call without parameters.

        Returns:
            A Deferred that fires with the response. It does not fail.
        """
        done = maybeDeferred(self._answer, request, body or b"{}").addErrback(explain)
        return done.addErrback(self._write_problem, request)

    def _answer(self, request: Request, body: bytes) -> "Deferred[Response]":
        self._check(request)
        name = request.raw_path.removeprefix("/api/").rstrip("/")
        if name == "batch":
            return self._batch(body)
        return self._methods.call(name, body).addCallback(
            lambda result: _write(self._status(result.status), b'{"result":%b}' % result.body)
        )

    def _check(self, request: Request) -> None:
        if request.method != "POST":
            reason = f"the API accepts POST requests, not {quote(request.method)}"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, BAD_REQUEST_ERROR, reason, (("Allow", "POST"),))
        if not self._key:
            raise Problem(HTTPStatus.FORBIDDEN, NOT_AVAILABLE_ERROR, "the API is disabled; see --api-key")
        sent = _read_key(request)
        if not hmac.compare_digest(sent, self._key):
            reason = _WRONG_KEY if sent else _NO_KEY
            raise Problem(HTTPStatus.UNAUTHORIZED, UNAUTHORIZED, reason, (("WWW-Authenticate", "Bearer"),))

    def _write_problem(self, failure: Failure, request: Request) -> Response:
        problem = failure.value
        assert isinstance(problem, Problem)
        if request.last("x-centrifugo-error-mode") == "transport":
            return _write(problem.status, write(problem.as_json()), problem.headers)
        status = HTTPStatus.OK if self._lenient and problem.status in _CALLER_ERRORS else problem.status
        return _write(status, write({"error": problem.as_json()}), problem.headers)

    def _status(self, status: HTTPStatus) -> HTTPStatus:
        return HTTPStatus.OK if self._lenient and status in (*_CALLER_ERRORS, HTTPStatus.NOT_FOUND) else status

    # Batches: several commands in one request.

    @inlineCallbacks
    def _batch(self, parameters: bytes) -> Generator[Any, Any, Response]:
        try:
            batch = decode(Batch, parameters)
        except ValueError as error:
            raise bad_parameters(error) from None
        replies: list[Result] = [Result(b"")] * len(batch.commands)
        rest = enumerate(batch.commands)
        yield gatherResults([self._run(rest, replies) for _ in range(MAX_AT_ONCE if batch.parallel else 1)])
        status = max(reply.status for reply in replies)
        return _write(self._status(status), b'{"replies":[%b]}' % b",".join(reply.body for reply in replies))

    @inlineCallbacks
    def _run(self, commands: Iterator[tuple[int, msgspec.Raw]], replies: list[Result]) -> Generator[Any, Any, None]:
        """Run commands one after another until the iterator is exhausted. All concurrent runs share the iterator."""
        for number, command in commands:
            replies[number] = yield self._command(command)

    def _command(self, text: msgspec.Raw) -> "Deferred[Result]":
        try:
            ((name, parameters),) = decode(dict[str, msgspec.Raw], bytes(text)).items()
        except ValueError:
            return fail(bad_request("command: expected an object with the name of one method")).addErrback(failed_part)
        given = bytes(parameters)
        done = self._methods.call(name, b"{}" if given == b"null" else given)
        return done.addCallback(
            lambda result: Result(b"{%b:%b}" % (write(name), result.body), result.status)
        ).addErrback(failed_part)


def _read_key(request: Request) -> bytes:
    key = request.last("x-api-key")
    if not key:
        scheme, _, credentials = (request.last("authorization") or "").partition(" ")
        # Older Centrifugo client libraries send `Authorization: apikey KEY`.
        key = credentials.strip() if scheme.lower() in ("bearer", "apikey") else ""
    return key.encode("latin-1")


def _write(status: HTTPStatus, body: bytes, headers: tuple[Header, ...] = ()) -> Response:
    retry = (("Retry-After", "1"),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    # A trailing newline, so that the prompt of a terminal follows on its own line.
    return Response(status, (*headers, *_HEADERS, *retry), body + b"\n")
