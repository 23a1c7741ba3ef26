"""
Centrifuge clients over HTTP: `/connection/http_stream`, `/connection/sse`, `/emulation`, and the one-way forms.

The response to the request of a client is a `wsserver.endpoints.centrifuge.http_stream.HTTPStream`, which never ends.
The client sends further commands to `/emulation`.

Sources: `handler_http_stream.go`, `handler_sse.go`, `emulation.go` of centrifugal/centrifuge; `internal/unisse` and
`internal/unihttpstream` of centrifugal/centrifugo.
"""

from collections.abc import Callable, Generator, Mapping
from functools import cache, partial
from http import HTTPStatus
from typing import Any, Final

import msgspec

from wsserver.auth.claims import Identity
from wsserver.config.parsers import show_size
from wsserver.endpoints.authorization import Authorizer, find_token
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.commands import RPC, Publish, Send
from wsserver.endpoints.centrifuge.emulation import Commands, Emulation, new_session_id
from wsserver.endpoints.centrifuge.form import protobuf
from wsserver.endpoints.centrifuge.http_stream import (
    HTTPStream,
    bind_stream,
    write_delimited,
    write_events,
    write_lines,
)
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.endpoints.centrifuge.one_way import ONE_WAY, OneWayStream, find_problem
from wsserver.endpoints.centrifuge.permissions import ClientContext
from wsserver.endpoints.refusals import refusal_for
from wsserver.errors import BrokerDown
from wsserver.hub.deferreds import MaybeDeferred, may_wait
from wsserver.jsonfields import decode
from wsserver.web import responses
from wsserver.web.responses import Response, StreamResponse, refusal_response
from wsserver.wire.access_log import show_path
from wsserver.wire.eventstream import HEADERS, UNBUFFERED
from wsserver.wire.http11 import Refusal, Request, bad_request
from wsserver.wire.protocol import ServerFactory

__all__ = ["CentrifugeHTTP", "Handler"]

Handler = Callable[[Request, bytes, str], MaybeDeferred[Response | StreamResponse]]
"""Answers a request, given the request head, the request body and the peer's address."""

_PROTOBUF: Final = "application/octet-stream"
"""The content type of the Protobuf form, as in Centrifugo."""

_EVENT_LINES: Final = responses.write_lines(HEADERS)
_PROTOBUF_LINES: Final = responses.write_lines((("Content-Type", _PROTOBUF), *UNBUFFERED))
_JSON_LINES: Final = responses.write_lines((("Content-Type", "application/json"), *UNBUFFERED))

_UNSAFE: Final = frozenset({Publish, RPC, Send})
"""
Commands that a GET request may not contain (RFC 9110 section 9.2.1): a link on a page of any site makes the browser
send one with the user's cookies, which may identify the user to the backend, and without an Origin header.
"""


class _Form(msgspec.Struct, frozen=True):
    """A kind of endless response."""

    transport: str
    """The name of the transport, as shown to the backend."""
    methods: tuple[str, ...]
    """The request methods. The client's first message is the body, or, in a GET request, the parameter `cf_connect`."""
    codec: Codec
    write: Callable[[bytes], bytes]
    """Writes a payload as a part of the response."""
    lines: bytes
    """The lines of the response's headers."""
    start: bytes = b""
    """The first bytes of the response's body."""
    default: bytes = b""
    """The first message of a GET request without the parameter; empty if it is required."""


# The empty line, as in Centrifugo: some proxies pass on a response only once its body has begun.
_HTTP_STREAM: Final = _Form("http_stream", ("POST",), JSON, write_lines, _JSON_LINES)
_SSE: Final = _Form("sse", ("GET", "POST"), JSON, write_events, _EVENT_LINES, b"\r\n")
_UNI_HTTP_STREAM: Final = _Form("uni_http_stream", ("POST",), ONE_WAY, write_lines, _JSON_LINES)
_UNI_SSE: Final = _Form("uni_sse", ("GET", "POST"), ONE_WAY, write_events, _EVENT_LINES, b"\r\n", b"{}")


class _EmulationRequest(msgspec.Struct, frozen=True):
    """The JSON form of a request to `/emulation`."""

    session: str
    data: str
    """The commands, one per line."""
    node: str = ""


_EXECUTED: Final = Response(HTTPStatus.NO_CONTENT, b"", is_logged=False)
"""The response to commands that were executed. It is not logged, as messages over a WebSocket are not either."""


class CentrifugeHTTP:
    """
    Answers the requests of Centrifuge clients.

    Args:
        emulation: executes the commands that clients send to `/emulation`.
        factory: the server's factory.
        authorizer: describes clients for the backend, and checks tokens.
        attributes: the class attributes of all connections of Centrifuge clients.
    """

    def __init__(
        self, emulation: Emulation, factory: ServerFactory, authorizer: Authorizer, attributes: Mapping[str, Any]
    ) -> None:
        self._emulation = emulation
        self._factory = factory
        self._authorizer = authorizer
        self.configure(attributes)
        self.paths: Mapping[str, Handler] = {
            "/connection/http_stream": partial(self._open, _HTTP_STREAM),
            "/connection/sse": partial(self._open, _SSE),
            "/connection/uni_http_stream": partial(self._open, _UNI_HTTP_STREAM),
            "/connection/uni_sse": partial(self._open, _UNI_SSE),
            "/emulation": self._emulate,
        }
        """Path -> what answers requests, given the request head, the request body and the peer's address."""
        self.streams = self.paths.keys() - {"/emulation"}
        """The paths with endless responses."""

    def configure(self, attributes: Mapping[str, Any]) -> None:
        """Replace the class attributes of further connections."""
        self._stream = bind_stream(HTTPStream, self._factory, node=self._emulation.node, **attributes)
        self._one_way_stream = bind_stream(OneWayStream, self._factory, **attributes)

    # Streams.

    def _open(self, form: _Form, request: Request, body: bytes, peer: str) -> Response | StreamResponse:
        found = self._start(form, request, body, peer)
        return refusal_response(found) if isinstance(found, Refusal) else found

    def _start(self, form: _Form, request: Request, body: bytes, peer: str) -> Refusal | StreamResponse:
        refusal = _check_method(request, form.methods)
        query = request.query
        if refusal is not None or query is None:
            return refusal or bad_request("the query is not UTF-8 or has more than a thousand parameters")
        if _is_protobuf(request):
            if form is not _HTTP_STREAM:
                reason = f"{_PROTOBUF} is not supported here: expected the JSON form of the Centrifuge protocol"
                return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
            form = _protobuf_stream()
        frame = body
        if request.method == "GET":
            frame = query["cf_connect"][0].encode("utf-8") if "cf_connect" in query else form.default
            if not frame:
                return bad_request("expected the parameter cf_connect, which contains the command connect")
        if len(frame) > self._factory.maxMessagePayloadSize:
            return _too_big(self._factory.maxMessagePayloadSize)
        if form.codec is ONE_WAY and (problem := find_problem(ONE_WAY, frame)) is not None:
            return bad_request(problem)
        if request.method == "GET" and any(type(one.request) in _UNSAFE for one in form.codec.parse(frame)):
            return bad_request("a GET request may not contain the commands publish, rpc and send; use /emulation")
        token = find_token(query, request.all("authorization"), ())
        if isinstance(token, Refusal):
            return token
        stream = self._make_stream(form, request, token or "", peer)
        return StreamResponse(stream, form.lines, form.start, frame)

    def _make_stream(self, form: _Form, request: Request, token: str, peer: str) -> HTTPStream:
        caller = self._authorizer.caller(form.transport, form.codec.name, request.headers, peer)
        session, started = new_session_id(), self._factory.reactor.seconds()
        # The request itself is not kept: a head can have 16 KiB.
        method, path = request.method, show_path(request.raw_path)

        def ended(code: int, reason: str) -> None:
            self._emulation.sessions.discard(session)
            seconds = self._factory.reactor.seconds() - started
            self._factory.access_log.streamed(
                method=method, path=path, peer=peer, code=code, reason=reason, seconds=seconds
            )

        make = self._one_way_stream if form.codec is ONE_WAY else self._stream
        stream = make(
            form.codec,
            form.write,
            ClientContext(caller, request.local_host),
            token=token,
            session_id=session,
            origin=request.fields.get("origin", ""),
            is_chunked=request.version == (1, 1),
            ended=ended,
        )
        if make is self._stream:
            self._emulation.sessions.add(stream)
        return stream

    # Emulation.

    @may_wait
    def _emulate(self, request: Request, body: bytes, peer: str) -> Generator[Any, Any, Response | StreamResponse]:  # noqa: ARG002
        commands = _read_commands(request, body)
        if isinstance(commands, Refusal):
            return refusal_response(commands)
        if len(commands.frame) > self._factory.maxMessagePayloadSize:
            return refusal_response(_too_big(self._factory.maxMessagePayloadSize))
        user = yield self._find_user(request)
        try:
            refusal = yield self._emulation.execute(commands._replace(user=user))
        except BrokerDown as error:
            return refusal_response(refusal_for(error))
        return refusal_response(refusal) if refusal is not None else _EXECUTED

    @may_wait
    def _find_user(self, request: Request) -> Generator[Any, Any, str | None]:
        """Return the user of the token in the headers; None without a valid one."""
        tokens = self._authorizer.tokens
        token = find_token({}, request.all("authorization"), ())
        if tokens is None or not isinstance(token, str):
            return None
        found = yield tokens.connection(token)
        return found.user if isinstance(found, Identity) else None


def _check_method(request: Request, methods: tuple[str, ...]) -> Refusal | None:
    if request.method in methods:
        return None
    expected = " or ".join(methods)
    reason = f"method {request.method} is not allowed: expected {expected}"
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", ", ".join(methods)),))


def _is_protobuf(request: Request) -> bool:
    return request.fields.get("content-type", "").partition(";")[0].strip(" \t").lower() == _PROTOBUF


@cache
def _protobuf_stream() -> _Form:
    """Return the Protobuf form of `_HTTP_STREAM`."""
    return msgspec.structs.replace(_HTTP_STREAM, codec=protobuf(), write=write_delimited, lines=_PROTOBUF_LINES)


def _too_big(limit: int) -> Refusal:
    reason = f"the message is over the limit of {show_size(limit)} (server option --max-message-size)"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)


def _read_commands(request: Request, body: bytes) -> Refusal | Commands:
    refusal = _check_method(request, ("POST",))
    if refusal is not None:
        return refusal
    is_protobuf = _is_protobuf(request)
    try:
        session, node, frame = _read_protobuf(body) if is_protobuf else _read_json(body)
    except ValueError as error:
        return bad_request(str(error).replace("it is", "the body is"))
    return Commands(session, node, frame, is_protobuf, request.fields.get("origin", ""))


def _read_json(body: bytes) -> tuple[str, str, bytes]:
    found = decode(_EmulationRequest, body)
    return found.session, found.node, found.data.encode("utf-8")


def _read_protobuf(body: bytes) -> tuple[str, str, bytes]:
    # Imported when it is first used: it takes 5 MiB and 30 ms.
    from wsserver.endpoints.centrifuge.protobuf_codec import read_emulation  # noqa: PLC0415

    return read_emulation(body)
