"""
Pages, probes and event streams: `twisted.web` behind `wsserver.web.connection`, which passes on whole requests.

The frontend (`wsserver.wire.frontend`) has parsed and checked a request by the rules of `wsserver.wire.http11` before
`Channel.serve` is called. The parser of `twisted.web` is not used: parsing again would take a third of the CPU time of
a request, and the two parsers could interpret a request differently.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from wsserver.closecodes import CloseCode
from wsserver.endpoints.fault_routes import FAULTS
from wsserver.endpoints.unknown_paths import CENTRIFUGE_HTTP, find_nearest_path
from wsserver.text import quote
from wsserver.typing import Header
from wsserver.web.cors import CrossOrigin, CrossOriginRequest
from wsserver.web.responses import SECURITY_HEADERS
from wsserver.web.static import send
from wsserver.wire.access_log import AccessLog, show_path, show_peer
from wsserver.wire.handshake import refuse_removed_upgrade
from wsserver.wire.http11 import Refusal, parse_parameters, unavailable
from wsserver.wire.http11 import Request as Head

__all__ = ["Answer", "Channel", "PageRequest", "PageSite", "Probe", "Root", "describe", "needs_websocket", "refuse"]

_FAULTS = FAULTS.encode("ascii")


class Connection(Protocol):
    """The connection that a `Channel` answers requests on; see `wsserver.wire.frontend.Frontend`."""

    @property
    def is_ending(self) -> bool:
        """Whether the next response is the last one of the connection: the server is stopping, or full."""

    def response_written(self, size: int) -> None:
        """Continue with the next request: a response of `size` bytes is written, and the connection stays open."""

    def closing(self) -> None:
        """Drop the connection, which is closing, if the client does not read."""

    def pause_serving(self) -> None:
        """Stop serving requests: the client does not read the responses."""

    def resume_serving(self) -> None:
        """Serve requests again after `pause_serving`."""


class Channel(HTTPChannel):
    """
    HTTP on a connection that may answer other requests in between, or be passed to a WebSocket endpoint.

    `serve` does what `HTTPChannel` does when its parser has reached the end of a request. It calls the methods of the
    request that Twisted documents as "methods for channel", as the HTTP/2 streams of Twisted do.
    """

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection
        self.address: IAddress
        """The address of the client that has sent the current request."""
        self.is_half_closed = False
        """Whether the client has closed its sending side of the TCP connection. It may still read."""

    def serve(self, request: Head, body: bytes, address: IAddress) -> None:
        """
        Answer a request.

        Args:
            request: the request head.
            body: the request body, decoded if it was chunked.
            address: the client's address.
        """
        self.address = address
        page = cast(Request, self.requestFactory(self))
        self.requests.append(page)
        for name, value in request.headers:
            page.requestHeaders.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
        page.parseCookies()
        version = b"HTTP/%d.%d" % request.version
        self.persistent = self.checkPersistence(page, version)
        page.gotLength(len(body))
        page.handleContentChunk(body)
        page.requestReceived(request.method.encode("ascii"), request.target.encode("ascii"), version)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Return whether the connection stays open after the response; called by `serve`."""
        persistent = super().checkPersistence(request, version)
        if persistent and self.connection.is_ending:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return bool(persistent)

    def half_closed(self) -> None:
        """Record that the client has closed its sending side, and notify the requests in progress."""
        self.is_half_closed = True
        for request in self.requests:
            request.half_closed()

    def getPeer(self) -> IAddress:
        """Return the client's address. A request asks for it when it is created."""
        return self.address

    def pauseProducing(self) -> None:  # noqa: D102 (IPushProducer)
        super().pauseProducing()
        self.connection.pause_serving()

    def resumeProducing(self) -> None:  # noqa: D102
        super().resumeProducing()
        self.connection.resume_serving()

    def requestDone(self, request: Request) -> None:
        """Notify the connection that the response is written, and whether the connection then closes."""
        super().requestDone(request)
        if self.persistent:
            self.connection.response_written(request.sentLength)
        elif self.transport is not None:
            self.connection.closing()


class PageRequest(Request):
    """A request whose response carries the security and cross-origin headers, and no Server header."""

    site: "PageSite"

    logged = True
    """Whether the request is written to the access log."""

    _on_half_close: Callable[[], object] | None = None

    def on_half_close(self, function: Callable[[], object]) -> None:
        """
        Set the function that ends an endless response when the client closes its sending side.

        The server cannot tell whether such a client has disconnected or still reads, so the response must end.

        Args:
            function: called once; immediately if the client has already closed its sending side.
        """
        self._on_half_close = function
        if self.channel is not None and cast(Channel, self.channel).is_half_closed:
            self.half_closed()

    def half_closed(self) -> None:
        """End the response, if it is endless."""
        function, self._on_half_close = self._on_half_close, None
        if function is not None:
            function()

    def render(self, resrc: IResource) -> None:
        """Add the common headers, then answer a preflight, refuse a forbidden origin, or render the resource."""
        self.responseHeaders.removeHeader(b"server")
        self._add_headers(SECURITY_HEADERS)
        cross_origin = _describe_cross_origin(self)
        self._add_headers(self.site.cross_origin.headers(cross_origin))
        answer = self.site.cross_origin.answer(cross_origin)
        if isinstance(answer, Refusal):
            # The page only sees a network error. The log line tells the operator which option to set.
            peer = show_peer(self.getClientAddress())
            self.logged = False
            self.site.access_log.refused(answer, number=None, peer=peer, path=show_path(cross_origin.path))
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
        # `Root` has moved all path segments, percent-decoded, to `prepath`.
        path="/" + b"/".join(request.prepath or []).decode("utf-8", "replace"),
        host="".join(values(b"host")[:1]),
        origins=values(b"origin"),
        wants_method=bool(values(b"access-control-request-method")),
        wants_private_network=bool(values(b"access-control-request-private-network")),
    )


class PageSite(Site):
    """
    The `twisted.web` site of a server: creates the `Channel` of each connection.

    Args:
        resource: the root resource; see `Root`.
        reactor: the reactor, for timeouts.
        cross_origin: decides on requests from pages of other origins.
        access_log: logs the requests.
    """

    protocol = Channel  # type: ignore[assignment]
    requestFactory = PageRequest
    displayTracebacks = False

    def __init__(
        self, resource: IResource, reactor: IReactorTime, cross_origin: CrossOrigin, access_log: AccessLog
    ) -> None:
        # `wsserver.web.connection` has the idle timeout.
        super().__init__(resource, reactor=reactor, timeout=None, parsePOSTFormSubmission=False)
        self.cross_origin = cross_origin
        self.access_log = access_log

    def channel(self, connection: Connection) -> Channel:
        """
        Return a new `Channel`, which serves HTTP on a connection.

        Args:
            connection: passes requests to `Channel.serve`. It is notified when a response is written, unless the
                channel then closes the connection.
        """
        channel = cast(Channel, self.buildProtocol(None))
        channel.connection = connection
        return channel

    def log(self, request: Any) -> None:
        """Log a request in one line, without its query, which may contain a token."""
        self.access_log.answered(
            method=request.method.decode("ascii", "replace"),
            path=show_path(request.uri.partition(b"?")[0].decode("latin-1")),
            status=request.code,
            size=request.sentLength,
            peer=show_peer(request.getClientAddress()),
            is_logged=request.logged,
        )


def refuse(request: Request, refusal: Refusal) -> bytes:
    """
    Set the response of a request to a refusal.

    Args:
        request: the request that is refused.
        refusal: the status, the headers and the text of the body.

    Returns:
        The body of the response, for `render` to return.
    """
    request.setResponseCode(refusal.status.value, refusal.status.phrase.encode("ascii"))
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")
    for name, value in refusal.headers:
        request.setHeader(name.encode("ascii"), value.encode("latin-1"))
    return send(request, refusal.body)


class Answer(Resource):
    """A resource that answers every request with the same refusal."""

    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def render(self, request: Request) -> bytes:
        """Refuse the request."""
        return refuse(request, self._refusal)


class JSONDocument(Resource):
    """
    A resource that serves a JSON document, which is built anew for each request.

    Args:
        build: returns the document as JSON-serializable data.
    """

    isLeaf = True

    def __init__(self, build: Callable[[], object]) -> None:
        super().__init__()
        self._build = build

    def render_GET(self, request: Request) -> bytes:
        """Send the document."""
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-cache")
        return send(request, json.dumps(self._build(), ensure_ascii=False).encode("utf-8"))


class Probe(Resource):
    """
    A resource for the probes of an orchestrator, such as Kubernetes: answers 200, or 503 with the reason.

    Args:
        word: the body of the 200 response.
        find_problem: returns the reason for a 503 response, or None.
    """

    isLeaf = True

    def __init__(self, word: str, find_problem: Callable[[], str | None]) -> None:
        super().__init__()
        self._word = word
        self._find_problem = find_problem
        self._last: str | None = ""
        """The problem at the previous poll, None if there was none; an empty string before the first poll."""

    def render_GET(self, request: Request) -> bytes:
        """Answer a GET or HEAD request."""
        problem = self._find_problem()
        # Log a poll only if its result has changed: a line for every poll would bury the others.
        cast(PageRequest, request).logged = problem != self._last
        self._last = problem
        if problem is not None:
            return refuse(request, unavailable(problem))
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return send(request, f"{self._word}\n".encode())


class Root(Resource):
    """
    The resource of every HTTP path outside the API: page files, JSON documents, event streams and probes.

    Paths of WebSocket endpoints answer plain HTTP requests with 426, or as they would refuse a WebSocket handshake.

    Args:
        pages: name in the URL -> resource; the empty name is the page at `/`.
        websocket_paths: paths that only accept WebSocket; a path that ends in a slash covers all paths below it.
        sse: the resource for `/sse`.
        refuse_websocket: returns the refusal of a WebSocket handshake at a path with a query; None if it is accepted.
    """

    def __init__(
        self,
        pages: Mapping[bytes, IResource],
        websocket_paths: Iterable[str],
        *,
        sse: IResource,
        refuse_websocket: Callable[[str, Mapping[str, list[str]]], Refusal | None],
    ) -> None:
        super().__init__()
        self._fetched = {**pages, b"sse": sse}
        # A plain HTTP request for / or /.ws gets the page.
        self._websocket_paths = {path.encode("utf-8") for path in websocket_paths} - {b"/" + name for name in pages}
        self._websocket_prefixes = tuple(path for path in self._websocket_paths if path.endswith(b"/"))
        self._refuse_websocket = refuse_websocket

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """Return the resource for the whole remaining path, not only for its first segment `path`."""
        rest: list[bytes] = request.postpath or []
        whole = b"/" + b"/".join([path, *rest])
        request.prepath, request.postpath = [*(request.prepath or []), *rest], []
        if request.requestHeaders.hasHeader(b"sec-websocket-key"):
            return Answer(refuse_removed_upgrade())
        plain = whole.rstrip(b"/")
        is_prefixed = (plain + b"/").startswith(self._websocket_prefixes) or plain.startswith(_FAULTS)
        if plain in self._websocket_paths or is_prefixed:
            # The page asks in this way why a handshake was refused, because browsers hide the reason.
            return Answer(self._refuse(whole, request) or needs_websocket(whole))
        found = self._fetched.get(whole[1:])
        if found is None:
            return Answer(self._not_found(whole, request))
        if request.method not in (b"GET", b"HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            reason = f"method {request.method.decode('ascii', 'replace')} is not allowed: expected GET or HEAD"
            return Answer(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, allow))
        return found

    def _refuse(self, path: bytes, request: Request) -> Refusal | None:
        query = parse_parameters((request.uri or b"").partition(b"?")[2].decode("latin-1"))
        return self._refuse_websocket(path.decode("utf-8", "backslashreplace"), query or {})

    def _not_found(self, path: bytes, request: Request) -> Refusal:
        text = path.decode("utf-8", "backslashreplace")
        known = [f"/{name.decode('utf-8')}" for name in self._fetched] + [
            name.decode("utf-8") for name in self._websocket_paths
        ]
        known += CENTRIFUGE_HTTP
        nearest = find_nearest_path(text, known)
        hint = "" if nearest is None else f"; the nearest one is {nearest}"
        if self._refuse(path, request) is None:
            hint += "; a WebSocket client may connect here"
        return Refusal(HTTPStatus.NOT_FOUND, f"no page at {quote(text)}{hint}")


def needs_websocket(path: bytes) -> Refusal:
    """
    Return a 426 refusal for a plain HTTP request to a path that only accepts WebSocket.

    Args:
        path: the path from the request.
    """
    shown = path.decode("utf-8", "backslashreplace")
    reason = f"{shown} accepts WebSocket connections only: connect with new WebSocket(url) or another WebSocket client"
    return Refusal(HTTPStatus.UPGRADE_REQUIRED, reason, (("Upgrade", "websocket"), ("Connection", "Upgrade")))


def describe(
    paths: Mapping[str, str],
    commands: Iterable[tuple[str, str]],
    close_codes: Mapping[CloseCode, str],
    *,
    catch_all: Callable[[], bool],
    tap: Callable[[], bool],
    faults: Callable[[], bool],
    api: Callable[[], str],
) -> JSONDocument:
    """
    Build `/server.json`, from which the browser page learns what the server offers.

    Args:
        paths: path of an endpoint -> its help text.
        commands: the name and the help text of each command.
        close_codes: close code -> its meaning.
        catch_all: returns whether unknown WebSocket paths answer commands.
        tap: returns whether connections may have a tap.
        faults: returns whether `/faults` lists faults.
        api: returns what a call of the HTTP API needs: `key` or `none`; `off` if there is no API on this port.

    Returns:
        The resource for `/server.json`.
    """
    document = {
        "name": "wsserver",
        "paths": [{"path": path, "speaks": "WebSocket", "help": help_text} for path, help_text in paths.items()],
        "commands": [{"name": name, "help": help_text} for name, help_text in commands],
        "closeCodes": {str(int(code)): meaning for code, meaning in close_codes.items()},
    }
    return JSONDocument(
        lambda: {**document, "catchAll": catch_all(), "tap": tap(), "faults": faults(), "api": api()},
    )
