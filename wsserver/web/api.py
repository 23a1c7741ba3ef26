"""
The HTTP API under `/api/`, in the shapes of Centrifugo's: `POST /api/publish {"channel": "foo", "data": "hello"}`.

Unlike there, the status of an answer that carries an error is not 200.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from wsserver.errors import BrokerDown, NotPermitted
from wsserver.hub.channels import Patterns, parse_name
from wsserver.hub.hub import Hub, Receipt
from wsserver.typing import ChannelName
from wsserver.web.page import send
from wsserver.wire.requests import Refusal, quote

__all__ = ["API"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.api")

MOST_CHANNELS = 1000
"""Most channels of a broadcast."""

# Centrifugo's codes: https://centrifugal.dev/docs/server/server_api
_INTERNAL, _PERMISSION_DENIED, _BAD_REQUEST, _NOT_AVAILABLE = 100, 103, 107, 108


class _Problem(Exception):
    """A request that is not served."""

    def __init__(self, status: HTTPStatus, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def _bad(message: str) -> _Problem:
    return _Problem(HTTPStatus.BAD_REQUEST, _BAD_REQUEST, message)


class API(Resource):
    """
    The API.

    Args:
        hub: the channels.
        key: what a caller must know; empty where the API is closed.
    """

    isLeaf = True

    def __init__(self, hub: Hub, key: str) -> None:
        super().__init__()
        self._hub = hub
        self._key = key.encode("utf-8")
        self._methods: Mapping[str, Callable[[dict[str, Any]], Deferred[Any]]] = {
            "publish": self._publish,
            "broadcast": self._broadcast,
            "channels": self._channels,
        }

    def render_POST(self, request: Request) -> Any:
        """Do what is asked."""
        try:
            self._check_key(request)
            name = (request.uri.partition(b"?")[0]).decode("ascii").removeprefix("/api/").rstrip("/")
            method = self._methods.get(name)
            if method is None:
                known = ", ".join(self._methods)
                raise _Problem(HTTPStatus.NOT_FOUND, _NOT_AVAILABLE, f"no method {quote(name)}: expected {known}")
            done = method(_read(request))
        except _Problem as problem:
            return _answer(request, problem.status, _error(problem))
        gone: list[bool] = []
        request.notifyFinish().addErrback(lambda _: gone.append(True))

        def finish(found: tuple[HTTPStatus, object]) -> None:
            if not gone:
                request.write(_answer(request, *found))
                request.finish()

        done.addErrback(_explain).addCallback(finish)
        return NOT_DONE_YET

    def render(self, request: Request) -> Any:
        """Answer a POST; refuse everything else."""
        if request.method == b"POST":
            return self.render_POST(request)
        request.setHeader(b"allow", b"POST")
        problem = _Problem(HTTPStatus.METHOD_NOT_ALLOWED, _BAD_REQUEST, "the API takes POST requests")
        return _answer(request, problem.status, _error(problem))

    def _check_key(self, request: Request) -> None:
        if not self._key:
            raise _Problem(HTTPStatus.FORBIDDEN, _NOT_AVAILABLE, "the API is closed: the server has no --api-key")
        given = request.getHeader(b"x-api-key") or b""
        bearer = request.getHeader(b"authorization") or b""
        if not given and bearer[:7].lower() == b"bearer ":
            given = bearer[7:].strip()
        if not hmac.compare_digest(given, self._key):
            raise _Problem(HTTPStatus.UNAUTHORIZED, 101, "no key, or not the right one, in X-API-Key or as a Bearer")

    # The methods: parameters to a Deferred of the result.

    def _publish(self, parameters: dict[str, Any]) -> "Deferred[Any]":
        return self._publish_to(_channel(parameters.get("channel")), *_data(parameters))

    def _publish_to(self, channel: ChannelName, data: bytes, json: bool) -> "Deferred[Any]":
        return self._hub.publish(channel, data, json=json).addCallback(
            lambda receipt: (HTTPStatus.OK, {"result": _receipt(receipt)})
        )

    def _broadcast(self, parameters: dict[str, Any]) -> "Deferred[Any]":
        names = parameters.get("channels")
        if not isinstance(names, list) or not 1 <= len(names) <= MOST_CHANNELS:
            raise _bad(f"channels: expected a list of 1 to {MOST_CHANNELS} names")
        data = _data(parameters)
        each = [self._publish_to(channel, *data).addErrback(_explain) for channel in [_channel(name) for name in names]]
        return gatherResults(each).addCallback(
            lambda found: (
                max(status for status, _ in found),
                {"result": {"responses": [response for _, response in found]}},
            )
        )

    def _channels(self, parameters: dict[str, Any]) -> "Deferred[Any]":
        pattern = parameters.get("pattern", "*")
        if not isinstance(pattern, str):
            raise _bad("pattern: expected a text")
        wanted = Patterns([pattern or "*"])
        found = {name: {"num_clients": count} for name, count in self._hub.counts().items() if name in wanted}
        return succeed((HTTPStatus.OK, {"result": {"channels": found}}))


def _read(request: Request) -> dict[str, Any]:
    # The door has let in no more than its limit.
    assert request.content is not None
    try:
        parameters = json.loads(request.content.read() or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(parameters, dict):
        raise _bad("the body is not a JSON object")
    return parameters


def _channel(value: object) -> ChannelName:
    if not isinstance(value, str):
        raise _bad("channel: expected a name")
    try:
        name = parse_name(value)
    except UnicodeEncodeError:
        raise _bad("channel: half a surrogate pair is no character") from None
    if isinstance(name, Refusal):
        raise _bad(name.reason)
    return name


def _receipt(receipt: Receipt) -> dict[str, object]:
    result: dict[str, object] = {"delivered": receipt.delivered}
    if receipt.position is not None:
        result |= {"offset": receipt.position.offset, "epoch": receipt.position.epoch}
    return result


def _data(parameters: dict[str, Any]) -> tuple[bytes, bool]:
    """Take what is to be published: the bytes of a text, any other value as JSON (which is told), or `b64data`."""
    if "b64data" in parameters:
        try:
            return base64.b64decode(parameters["b64data"], validate=True), False
        except (binascii.Error, ValueError, TypeError):
            raise _bad("b64data: expected base64") from None
    if "data" not in parameters:
        raise _bad("no data")
    data = parameters["data"]
    try:
        text = (
            data
            if isinstance(data, str)
            else json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        )
        return text.encode("utf-8"), not isinstance(data, str)
    except UnicodeEncodeError:
        raise _bad("data: half a surrogate pair is no character") from None
    except (ValueError, RecursionError):
        raise _bad("data: JSON cannot write it") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _explain(failure: Failure) -> tuple[HTTPStatus, object]:
    if failure.check(NotPermitted):
        problem = _Problem(HTTPStatus.FORBIDDEN, _PERMISSION_DENIED, str(failure.value))
    elif failure.check(BrokerDown):
        problem = _Problem(HTTPStatus.SERVICE_UNAVAILABLE, _INTERNAL, str(failure.value))
    else:
        _log.failure("a method of the API failed", failure)
        problem = _Problem(HTTPStatus.INTERNAL_SERVER_ERROR, _INTERNAL, "internal server error")
    return problem.status, _error(problem)


def _error(problem: _Problem) -> object:
    return {"error": {"code": problem.code, "message": problem.message}}


def _answer(request: Request, status: HTTPStatus, value: object) -> bytes:
    request.setResponseCode(int(status), status.phrase.encode("ascii"))
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    body = json.dumps(value, ensure_ascii=False).encode("utf-8")
    request.setHeader(b"content-length", b"%d" % len(body))
    return send(request, body)
