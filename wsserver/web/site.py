"""
The HTTP side of a connection: `twisted.web` behind the door.

The door hands over whole requests, one at a time, that have passed the rules of `wsserver.wire.http11`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from wsserver.closecodes import CloseCode
from wsserver.endpoints.unknown_paths import find_nearest_path
from wsserver.text import quote
from wsserver.web.cors import CrossOrigin, CrossOriginRequest
from wsserver.web.static import send
from wsserver.wire import access_log
from wsserver.wire.access_log import show_path, show_peer
from wsserver.wire.frontend import Frontend
from wsserver.wire.handshake import refuse_removed_upgrade
from wsserver.wire.http11 import Header, Refusal, unavailable

__all__ = ["Answer", "Channel", "PageRequest", "PageSite", "Probe", "Root", "describe", "needs_websocket", "refuse"]

# Of the module, not of a class: on a class Twisted would replace the namespace by the class's name.
_log = Logger(namespace="wsserver.http")

IDLE_TIMEOUT = 60
"""Seconds a kept-alive connection waits for its next request."""

_SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"; ".join(
            (
                b"default-src 'none'",
                b"script-src 'self'",
                b"style-src 'self'",
                b"img-src 'self'",
                # The page connects to whatever server its user names.
                b"connect-src 'self' ws: wss:",
                b"base-uri 'none'",
                b"form-action 'none'",
                b"frame-ancestors 'none'",
            )
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Channel(HTTPChannel):
    """HTTP on a connection that the door may take back between two requests."""

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.door: Frontend
        self.is_half_closed = False
        """The client sends nothing more, but may still read."""

    def half_closed(self) -> None:
        """Tell the request that is being answered."""
        self.is_half_closed = True
        for request in self.requests:
            request.half_closed()

    def pauseProducing(self) -> None:  # noqa: D102 (IPushProducer)
        super().pauseProducing()
        self.door.hold()

    def resumeProducing(self) -> None:  # noqa: D102
        super().resumeProducing()
        self.door.go_on()

    def requestDone(self, request: Request) -> None:
        """Tell the door that the response is written, if another request may follow."""
        super().requestDone(request)
        if self.persistent:
            self.door.answered(request.sentLength)

    def release(self) -> None:
        """Let go of the transport."""
        self.setTimeout(None)
        self.transport.unregisterProducer()


class PageRequest(Request):
    """A request whose response has the security and cross-origin headers and no server version."""

    site: "PageSite"

    logged = True
    """Whether the access log gets a line for it."""

    _on_half_close: Callable[[], object] | None = None

    def on_half_close(self, function: Callable[[], object]) -> None:
        """
        Set what ends a response without an end when the client ends its side of the connection.

        A client that leaves cannot be told from one that will send no more, so such a response must not go on.

        Args:
            function: called once, now if the client has done so already.
        """
        self._on_half_close = function
        if self.channel is not None and cast(Channel, self.channel).is_half_closed:
            self.half_closed()

    def half_closed(self) -> None:
        """End the response, if it has no end of its own."""
        function, self._on_half_close = self._on_half_close, None
        if function is not None:
            function()

    def render(self, resrc: IResource) -> None:
        """Render the resource, unless the answer is decided by the origin."""
        self.responseHeaders.removeHeader(b"server")
        for name, value in _SECURITY_HEADERS:
            self.setHeader(name, value)
        asked = _describe_cross_origin(self)
        self._add_headers(self.site.cross_origin.headers(asked))
        answer = self.site.cross_origin.answer(asked)
        if isinstance(answer, Refusal):
            # A page sees no more than a network error; the operator reads the option that is missing.
            peer = show_peer(self.getClientAddress())
            access_log.refused(answer, number=None, peer=peer, path=show_path(asked.path))
            super().render(Answer(answer))
        elif answer is not None:
            self._add_headers(answer)
            self.setResponseCode(HTTPStatus.NO_CONTENT, b"No Content")
            self.finish()
        else:
            super().render(resrc)

    def _add_headers(self, headers: Iterable[Header]) -> None:
        for name, value in headers:
            self.setHeader(name.encode("ascii"), value.encode("latin-1"))


def _describe_cross_origin(request: Request) -> CrossOriginRequest:
    def values(name: bytes) -> list[str]:
        return [value.decode("latin-1") for value in request.requestHeaders.getRawHeaders(name) or []]

    return CrossOriginRequest(
        method=request.method.decode("ascii"),
        # `Root` has moved all segments here, percent-decoded.
        path="/" + b"/".join(request.prepath or []).decode("utf-8", "replace"),
        host="".join(values(b"host")[:1]),
        origins=values(b"origin"),
        wants_method=bool(values(b"access-control-request-method")),
        wants_private_network=bool(values(b"access-control-request-private-network")),
    )


class PageSite(Site):
    """
    The site of a server; makes the HTTP side of connections.

    Args:
        resource: the root.
        reactor: for timeouts.
        cross_origin: decides about requests of pages of other origins.
    """

    protocol = Channel  # type: ignore[assignment]
    requestFactory = PageRequest
    displayTracebacks = False

    def __init__(self, resource: IResource, reactor: IReactorTime, cross_origin: CrossOrigin) -> None:
        super().__init__(resource, reactor=reactor, timeout=IDLE_TIMEOUT, parsePOSTFormSubmission=False)
        self.cross_origin = cross_origin

    def channel(self, address: IAddress, door: Frontend) -> Channel:
        """
        Make the HTTP side of a connection.

        Args:
            address: the peer's.
            door: hands over requests; is told of each response after which another may follow.
        """
        channel = cast(Channel, self.buildProtocol(address))
        channel.door = door
        return channel

    def log(self, request: Any) -> None:
        """Write one line for a request, without its query: that is where tokens are."""
        if not request.logged:
            return
        _log.info(
            "{method} {path} {status} {bytes} bytes to {peer}",
            method=request.method.decode("ascii", "replace"),
            path=show_path(request.uri.partition(b"?")[0].decode("latin-1")),
            status=request.code,
            bytes=request.sentLength,
            peer=show_peer(request.getClientAddress()),
        )


def refuse(request: Request, refusal: Refusal) -> bytes:
    """
    Answer a request with a refusal.

    Args:
        request: what to answer.
        refusal: the status, the headers and the sentence for the body.

    Returns:
        The body.
    """
    request.setResponseCode(refusal.status.value, refusal.status.phrase.encode("ascii"))
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")
    for name, value in refusal.headers:
        request.setHeader(name.encode("ascii"), value.encode("latin-1"))
    return send(request, refusal.body)


class Answer(Resource):
    """Every request is refused in the same way."""

    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def render(self, request: Request) -> bytes:
        """Refuse."""
        return refuse(request, self._refusal)


class JSONDocument(Resource):
    """
    A JSON text.

    Args:
        build: returns the document.
    """

    isLeaf = True

    def __init__(self, build: Callable[[], object]) -> None:
        super().__init__()
        self._build = build

    def render_GET(self, request: Request) -> bytes:
        """Send it."""
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-cache")
        return send(request, json.dumps(self._build(), ensure_ascii=False).encode("utf-8"))


class Probe(Resource):
    """
    The answer to an orchestrator's probe: 200, or 503 with a sentence.

    Args:
        word: the body of the 200.
        find_problem: returns what is wrong in a sentence, or None.
    """

    isLeaf = True

    def __init__(self, word: str, find_problem: Callable[[], str | None]) -> None:
        super().__init__()
        self._word = word
        self._find_problem = find_problem
        self._last: str | None = ""
        """The problem that the last poll was told; empty before the first."""

    def render_GET(self, request: Request) -> bytes:
        """Answer; HEAD too."""
        problem = self._find_problem()
        # A line for every poll would hide the other lines.
        cast(PageRequest, request).logged = problem != self._last
        self._last = problem
        if problem is not None:
            return refuse(request, unavailable(problem))
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return send(request, f"{self._word}\n".encode())


class Root(Resource):
    """
    The tree of HTTP resources: page files by name, JSON documents, and 426 on the paths of endpoints.

    Args:
        pages: name in the URL -> resource; the empty name is the page at `/`.
        websocket_paths: paths at which only WebSocket is spoken; one that ends in a slash covers those below it.
        api: what answers under `/api/`.
        sse: what answers at `/sse`.
        probes: the answers to probes, by their name in the URL.
        speaks_websocket: returns whether a WebSocket handshake is accepted at a path.
    """

    def __init__(
        self,
        pages: Mapping[bytes, IResource],
        websocket_paths: Iterable[str],
        *,
        api: IResource,
        sse: IResource,
        probes: Mapping[bytes, IResource],
        speaks_websocket: Callable[[str], bool],
    ) -> None:
        super().__init__()
        self._api = api
        self._fetched = {**pages, b"sse": sse, **probes}
        # At / there is the page.
        self._websocket_paths = {path.encode("utf-8") for path in websocket_paths} - {b"/"}
        self._websocket_prefixes = tuple(path for path in self._websocket_paths if path.endswith(b"/"))
        self._speaks_websocket = speaks_websocket

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """Find the resource of a whole path: there are no directories in this tree."""
        rest: list[bytes] = request.postpath or []
        whole = b"/" + b"/".join([path, *rest])
        request.prepath, request.postpath = [*(request.prepath or []), *rest], []
        if request.requestHeaders.hasHeader(b"sec-websocket-key"):
            return Answer(refuse_removed_upgrade())
        if whole.startswith(b"/api/"):
            return self._api
        plain = whole.rstrip(b"/")
        if plain in self._websocket_paths or (plain + b"/").startswith(self._websocket_prefixes):
            return Answer(needs_websocket(whole))
        found = self._fetched.get(whole[1:])
        if found is None:
            return Answer(self._not_found(whole))
        if request.method not in (b"GET", b"HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            return Answer(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this can only be fetched", allow))
        return found

    def _not_found(self, path: bytes) -> Refusal:
        text = path.decode("utf-8", "backslashreplace")
        known = [f"/{name.decode('utf-8')}" for name in self._fetched] + [
            name.decode("utf-8") for name in self._websocket_paths
        ]
        nearest = find_nearest_path(text, known)
        hint = "" if nearest is None else f"; the nearest one is {nearest}"
        if self._speaks_websocket(text):
            hint += "; a WebSocket client may connect here"
        return Refusal(HTTPStatus.NOT_FOUND, f"no page at {quote(text)}{hint}")


def needs_websocket(path: bytes) -> Refusal:
    """
    Refuse a plain HTTP request for a path that speaks WebSocket.

    Args:
        path: as in the request.
    """
    shown = path.decode("utf-8", "backslashreplace")
    reason = f"{shown} speaks WebSocket: connect to it with a WebSocket client, e.g. new WebSocket(url) in a browser."
    return Refusal(HTTPStatus.UPGRADE_REQUIRED, reason, (("Upgrade", "websocket"), ("Connection", "Upgrade")))


def describe(
    paths: Mapping[str, str],
    commands: Iterable[tuple[str, str]],
    close_codes: Mapping[CloseCode, str],
    catch_all: Callable[[], bool],
) -> JSONDocument:
    """
    Make what the page asks the server about itself.

    Args:
        paths: path -> what is spoken there, in words.
        commands: the commands, each with its help line.
        close_codes: close code -> what it means.
        catch_all: returns whether unknown WebSocket paths speak commands.

    Returns:
        The resource of `/server.json`.
    """
    document = {
        "name": "wsserver",
        "paths": [{"path": path, "speaks": "WebSocket", "help": words} for path, words in paths.items()],
        "commands": [{"name": name, "help": words} for name, words in commands],
        "closeCodes": {str(int(code)): meaning for code, meaning in close_codes.items()},
    }
    return JSONDocument(lambda: {**document, "catchAll": catch_all()})
