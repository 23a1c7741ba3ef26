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
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from wsserver.centrifugecodes import BAD_REQUEST_ERROR, NOT_AVAILABLE_ERROR, UNAUTHORIZED
from wsserver.jsonfields import decode, write
from wsserver.text import quote
from wsserver.web.methods import Methods, Problem, Result, bad_parameters, bad_request, explain, failed_part
from wsserver.web.parameters import Batch
from wsserver.web.static import send

__all__ = ["API"]

MAX_AT_ONCE = 64
"""Maximum number of commands that run concurrently in a batch with `parallel`."""

# 404 for an unknown method is not in this list: Centrifugo answers with 404, too, except inside a batch.
_NO_KEY = "no API key: send the server's --api-key in X-API-Key, or as a bearer token in Authorization"
_WRONG_KEY = "the API key is wrong: expected the server's --api-key"
_CALLER_ERRORS = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
"""Statuses that `lenient` replaces with 200. Failures of the server keep their status, such as 503."""


class API(Resource):
    """
    The resource that serves the HTTP API.

    Args:
        methods: the methods of the API.
        key: the API key that callers must send; empty to refuse all calls.
        lenient: whether to answer invalid calls with status 200, as Centrifugo does.
    """

    isLeaf = True

    def __init__(self, methods: Methods, key: str, *, lenient: bool = False) -> None:
        super().__init__()
        self._methods = methods
        self._key = key.encode("utf-8")
        self._lenient = lenient

    def render(self, request: Request) -> Any:
        """Check a request to the API, run its method, and send the result."""
        disconnected: list[bool] = []
        request.notifyFinish().addErrback(lambda _: disconnected.append(True))

        def finish(answer: tuple[HTTPStatus, bytes]) -> None:
            if not disconnected:
                request.write(_start_response(request, *answer))
                request.finish()

        done = maybeDeferred(self._answer, request).addErrback(explain)
        done.addErrback(_write_problem, request, lenient=self._lenient).addCallback(finish)
        return NOT_DONE_YET

    def _answer(self, request: Request) -> "Deferred[tuple[HTTPStatus, bytes]]":
        """Check and run the call. Return a Deferred that fires with the status and the body of the response."""
        name, parameters = self._check(request), _read_body(request)
        if name == "batch":
            return self._batch(parameters)
        return self._methods.call(name, parameters).addCallback(
            lambda result: (self._status(result.status), b'{"result":%s}' % result.body)
        )

    def _check(self, request: Request) -> str:
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            reason = f"the API accepts POST requests, not {quote(request.method.decode('ascii'))}"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, BAD_REQUEST_ERROR, reason)
        self._check_key(request)
        return request.uri.partition(b"?")[0].decode("ascii").removeprefix("/api/").rstrip("/")

    def _check_key(self, request: Request) -> None:
        if not self._key:
            raise Problem(HTTPStatus.FORBIDDEN, NOT_AVAILABLE_ERROR, "the API is disabled; see --api-key")
        sent = _read_key(request)
        if not hmac.compare_digest(sent, self._key):
            request.setHeader(b"www-authenticate", b"Bearer")
            raise Problem(HTTPStatus.UNAUTHORIZED, UNAUTHORIZED, _WRONG_KEY if sent else _NO_KEY)

    def _status(self, status: HTTPStatus) -> HTTPStatus:
        return HTTPStatus.OK if self._lenient and status in (*_CALLER_ERRORS, HTTPStatus.NOT_FOUND) else status

    # Batches: several commands in one request.

    @inlineCallbacks
    def _batch(self, parameters: bytes) -> Generator[Any, Any, tuple[HTTPStatus, bytes]]:
        try:
            batch = decode(Batch, parameters)
        except ValueError as error:
            raise bad_parameters(error) from None
        replies: list[Result] = [Result(b"")] * len(batch.commands)
        rest = enumerate(batch.commands)
        yield gatherResults([self._run(rest, replies) for _ in range(MAX_AT_ONCE if batch.parallel else 1)])
        status = max(reply.status for reply in replies)
        return self._status(status), b'{"replies":[%s]}' % b",".join(reply.body for reply in replies)

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
    key: bytes = request.getHeader(b"x-api-key") or b""
    scheme, _, credentials = (request.getHeader(b"authorization") or b"").partition(b" ")
    # Older Centrifugo client libraries send `Authorization: apikey KEY`.
    return key or (credentials.strip() if scheme.lower() in (b"bearer", b"apikey") else b"")


def _read_body(request: Request) -> bytes:
    # The frontend has already limited the size of the body.
    assert request.content is not None
    body: bytes = request.content.read() or b"{}"
    return body


def _write_problem(failure: Failure, request: Request, *, lenient: bool) -> tuple[HTTPStatus, bytes]:
    problem = failure.value
    assert isinstance(problem, Problem)
    if request.getHeader(b"x-centrifugo-error-mode") == b"transport":
        return problem.status, write(problem.as_json())
    status = HTTPStatus.OK if lenient and problem.status in _CALLER_ERRORS else problem.status
    return status, write({"error": problem.as_json()})


def _start_response(request: Request, status: HTTPStatus, body: bytes) -> bytes:
    # A trailing newline, so that the prompt of a terminal follows on its own line.
    body += b"\n"
    request.setResponseCode(int(status), status.phrase.encode("ascii"))
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        request.setHeader(b"retry-after", b"1")
    request.setHeader(b"content-length", b"%d" % len(body))
    return send(request, body)
