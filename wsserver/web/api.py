"""
The HTTP API under `/api/`, compatible with Centrifugo's: `POST /api/publish {"channel": "foo", "data": "hello"}`.

Centrifugo answers errors with status 200. This API answers them with an error status. With `--api-errors body` it
answers invalid calls (400 and 416) with 200 as Centrifugo does; other errors, such as 401 and 503, keep their status.
"""

import hmac
from collections.abc import Generator, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from wsserver.centrifugecodes import BAD_REQUEST_ERROR, NOT_AVAILABLE_ERROR, PERMISSION_DENIED, UNAUTHORIZED
from wsserver.hub.deferreds import MaybeDeferred, gather, may_wait, then, waits
from wsserver.jsonfields import decode, decode_shallow, write
from wsserver.origins import describe_host, is_loopback_host
from wsserver.text import quote
from wsserver.web.methods import Methods, Outcome, Problem, Result, bad_parameters, bad_request, write_error
from wsserver.web.openapi import describe_api
from wsserver.web.parameters import AnyBatch, PublishBatch, PublishCommand
from wsserver.web.responses import Response, write_lines
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal, Request

__all__ = ["API"]

DESCRIPTION: Final = "openapi.json"
"""The name below `/api/` of the description of the API. Anyone may read it: it is the same for all servers."""

MAX_AT_ONCE = 64
"""Maximum number of commands that run concurrently in a batch with `parallel`."""

# 404 for an unknown method is not in this list: Centrifugo answers with 404, too, except inside a batch.
_NO_KEY = "no API key: send the server's --api-key in X-API-Key, or as a bearer token in Authorization"
_WRONG_KEY = "the API key is wrong: expected the server's --api-key"
_CALLER_ERRORS = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
"""Statuses that `lenient` replaces with 200. Failures of the server keep their status, such as 503."""

_COMMAND = dict[str, msgspec.Raw]
"""The type of a command of a batch: the name of one method, and its parameters."""

_LINES = write_lines((("Content-Type", "application/json"), ("Cache-Control", "no-store")))
_RETRY_LINES = _LINES + write_lines((("Retry-After", "1"),))
_TEMPORARY = (HTTPStatus.SERVICE_UNAVAILABLE,)


class API:
    """
    Answers the requests to the HTTP API.

    Args:
        methods: the methods of the API.
        key: the API key that callers must send; empty to refuse all calls.
        lenient: whether to answer invalid calls with status 200, as Centrifugo does.
        insecure: whether to answer calls without a key, if the client used a loopback host name, such as localhost.
        counters: counts the calls.
    """

    def __init__(
        self, methods: Methods, key: str, *, lenient: bool = False, insecure: bool = False, counters: Counters
    ) -> None:
        self._methods = methods
        self._counters = counters
        self.configure(key, lenient=lenient, insecure=insecure)

    def configure(self, key: str, *, lenient: bool, insecure: bool) -> None:
        """Replace what the options define; for the arguments see the constructor."""
        self._key = key.encode("utf-8")
        self._lenient = lenient
        self._insecure = insecure

    @property
    def has_callers(self) -> bool:
        """Whether there is a key, or calls without a key are permitted; otherwise the API refuses all calls."""
        return bool(self._key) or self._insecure

    @property
    def access(self) -> str:
        """The credentials that a call needs: `key`, or `none`; `off` if the API refuses all calls."""
        return "none" if self._insecure else "key" if self._key else "off"

    def answer(self, request: Request, body: bytes) -> "MaybeDeferred[Response]":
        """
        Check a request to the API, and run its method.

        Args:
            request: the request head.
            body: the request body; empty for a call without parameters.

        Returns:
            The response; a Deferred of it, which does not fail, if the call has to wait.
        """
        name = request.raw_path.removeprefix("/api/").rstrip("/")
        if name == DESCRIPTION and request.method in ("GET", "HEAD"):
            return Response(HTTPStatus.OK, _LINES, _describe())
        response = self._call(name, request, body)
        if waits(response):
            return response.addCallback(self._count, name)
        return self._count(response, name)

    def _count(self, response: Response, name: str) -> Response:
        # Clients may call any name, and each value of a label is a time series.
        known = name if name == "batch" or name in self._methods else "unknown"
        self._counters.calls[known, int(response.status)] += 1
        return response

    def _call(self, name: str, request: Request, body: bytes) -> "MaybeDeferred[Response]":
        problem = self._refuse(request)
        if problem is not None:
            response = self._respond_to_problem(problem, request)
            return msgspec.structs.replace(response, refusal=Refusal(problem.status, problem.message))
        outcome: MaybeDeferred[Outcome]
        if name == "batch":
            outcome, form = self._batch(body or b"{}"), b"%b\n"
        else:
            outcome, form = self._methods.call(name, body or b"{}"), b'{"result":%b}\n'
        if waits(outcome):
            return outcome.addCallback(self._respond, request, form)
        return self._respond(outcome, request, form)

    def _respond(self, outcome: Outcome, request: Request, form: bytes) -> Response:
        if isinstance(outcome, Problem):
            return self._respond_to_problem(outcome, request)
        status = outcome.status
        if self._lenient and (status in _CALLER_ERRORS or status == HTTPStatus.NOT_FOUND):
            status = HTTPStatus.OK
        return Response(status, _RETRY_LINES if status in _TEMPORARY else _LINES, form % outcome.body)

    def _respond_to_problem(self, problem: Problem, request: Request) -> Response:
        status = problem.status
        if request.fields.get("x-centrifugo-error-mode") == "transport":
            body = write(problem.as_json())
        else:
            status = HTTPStatus.OK if self._lenient and status in _CALLER_ERRORS else status
            body = write_error(problem)
        lines = _RETRY_LINES if status in _TEMPORARY else _LINES
        return Response(status, write_lines(problem.headers) + lines, body + b"\n")

    def _refuse(self, request: Request) -> Problem | None:
        """Return the problem of a request other than POST, or without a valid key; None if it may be answered."""
        if request.method != "POST":
            reason = f"the API accepts POST requests, not {quote(request.method)}"
            return Problem(HTTPStatus.METHOD_NOT_ALLOWED, BAD_REQUEST_ERROR, reason, (("Allow", "POST"),))
        return self.check_key(request)

    def check_key(self, request: Request) -> Problem | None:
        """Return the problem of a request without a valid key; None if it may call the API."""
        if self._insecure:
            return _refuse_host(request.local_host)
        if not self._key:
            return Problem(HTTPStatus.FORBIDDEN, NOT_AVAILABLE_ERROR, "the API is disabled; see --api-key")
        sent = _read_key(request)
        if hmac.compare_digest(sent, self._key):
            return None
        reason = _WRONG_KEY if sent else _NO_KEY
        return Problem(HTTPStatus.UNAUTHORIZED, UNAUTHORIZED, reason, (("WWW-Authenticate", "Bearer"),))

    # Batches: several commands in one request.

    def _batch(self, parameters: bytes) -> "MaybeDeferred[Outcome]":
        batch: AnyBatch | PublishBatch
        try:
            batch = decode(PublishBatch, parameters)
        except ValueError:
            try:
                batch = decode(AnyBatch, parameters)
            except ValueError as error:
                return bad_parameters(error)
        replies: list[Result] = [Result(b"")] * len(batch.commands)
        rest: Iterator[tuple[int, PublishCommand | msgspec.Raw]] = enumerate(batch.commands)
        done = gather(self._run_commands(rest, replies) for _ in range(MAX_AT_ONCE if batch.parallel else 1))
        return then(done, lambda _: _join(replies))

    @may_wait
    def _run_commands(
        self, commands: Iterator[tuple[int, PublishCommand | msgspec.Raw]], replies: list[Result]
    ) -> "Generator[MaybeDeferred[Outcome], Any, None]":
        """Run commands one after another until the iterator is exhausted. All concurrent runs share the iterator."""
        for number, command in commands:
            if isinstance(command, PublishCommand):
                name, outcome = "publish", self._methods.publish(command.publish)
            else:
                try:
                    ((name, parameters),) = decode_shallow(_COMMAND, command).items()
                except ValueError:
                    replies[number] = _reply("", bad_request("command: expected an object with the name of one method"))
                    continue
                given = bytes(parameters)
                outcome = self._methods.call(name, b"{}" if given == b"null" else given, is_checked=True)
            replies[number] = _reply(name, outcome if isinstance(outcome, Outcome) else (yield outcome))


def _reply(name: str, outcome: Outcome) -> Result:
    """Return the reply to a command of a batch; a command that has a result has the name of a method."""
    if isinstance(outcome, Problem):
        return Result(write_error(outcome), outcome.status)
    return Result(b'{"%b":%b}' % (name.encode("ascii"), outcome.body), outcome.status)


@cache
def _describe() -> bytes:
    # Relative to the description, so that a proxy can add a prefix.
    return write(describe_api("../"))


def _join(replies: list[Result]) -> Result:
    status = max(reply.status for reply in replies)
    return Result(b'{"replies":[%b]}' % b",".join([reply.body for reply in replies]), status)


def _refuse_host(host: str) -> Problem | None:
    # Against DNS rebinding, as in `wsserver.hub.access.Access.refuse`.
    if is_loopback_host(host):
        return None
    reason = f"without a key, the API is not available {describe_host(host)}; connect to localhost"
    return Problem(HTTPStatus.FORBIDDEN, PERMISSION_DENIED, reason)


def _read_key(request: Request) -> bytes:
    fields = request.fields
    key = fields.get("x-api-key")
    if not key:
        scheme, _, credentials = fields.get("authorization", "").partition(" ")
        # Older Centrifugo client libraries send `Authorization: apikey KEY`.
        key = credentials.strip(" \t") if scheme.lower() in ("bearer", "apikey") else ""
    return key.encode("latin-1")
