"""
The admin endpoint, on which `/metrics`, `/health`, `/ready`, the HTTP API and `/admin` can be served.

Without it, they are on the public port; this module then decides who may read the metrics.

`/admin` is a page that shows what the HTTP API returns. Anyone may load it, because it contains no data and no key.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request as WebRequest

from wsserver.config.settings import Settings
from wsserver.web.api import API
from wsserver.web.centrifuge_http import Handler
from wsserver.web.connection import HTTPServer
from wsserver.web.cors import CrossOrigin, describe_request
from wsserver.web.responses import Response, redirect_to, refusal_response
from wsserver.web.site import Answer, PageRequest, PageSite
from wsserver.web.static import StaticFile, read_directory
from wsserver.web.taps import TapPath, refuse_key
from wsserver.wire.accepting import AcceptGate
from wsserver.wire.addresses import AddressLimits
from wsserver.wire.admission import MAX_ADMIN_CONNECTIONS, Admission
from wsserver.wire.connections import SocketSet
from wsserver.wire.forwarded import TrustedProxies
from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.handshake import Policy
from wsserver.wire.http11 import Refusal, Request
from wsserver.wire.protocol import ServerFactory

__all__ = [
    "MovedAPI",
    "check_method",
    "make_admin_frontend",
    "metrics_disabled",
    "moved",
    "public_check",
    "read_admin_page",
]

PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        # The page holds the API key, which must not reach another server.
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The Content-Security-Policy of `/admin`."""


def metrics_disabled(request: Request, body: bytes, peer: str) -> Response:  # noqa: ARG001 (the arguments of a handler)
    """Answer a request for `/metrics` with 404: there are no metrics."""
    return refusal_response(Refusal(HTTPStatus.NOT_FOUND, "metrics are disabled; see --metrics"))


def check_method(request: Request) -> Refusal | None:
    """Return the refusal of a request that would change something; None for GET and HEAD."""
    if request.method in ("GET", "HEAD"):
        return None
    reason = f"method {request.method} is not allowed: expected GET or HEAD"
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, (("Allow", "GET, HEAD"),))


def public_check(api: API) -> Callable[[Request], Refusal | None]:
    """
    Return the check of requests for `/metrics` on the port that clients use.

    If the server has an API key, the metrics need it, too: a proxy passes requests of strangers on, and they must not
    learn how busy the server is, or why it refuses requests.

    Args:
        api: checks the API key.
    """

    def check(request: Request) -> Refusal | None:
        refusal = check_method(request)
        if refusal is not None or not api.has_callers:
            return refusal
        problem = api.check_key(request)
        return None if problem is None else Refusal(problem.status, problem.message, problem.headers)

    return check


class MovedAPI:
    """Stands for the HTTP API on the public port, if it is served on an endpoint of its own."""

    def answer(self, request: Request, body: bytes) -> Response:  # noqa: ARG002 (the arguments of `API.answer`)
        """Answer a call with 404."""
        return refusal_response(_MOVED)


def moved(request: Request, body: bytes, peer: str) -> Response:  # noqa: ARG001 (the arguments of a handler)
    """Answer a request for a path that is served on an endpoint of its own with 404."""
    return refusal_response(_MOVED)


_MOVED = Refusal(HTTPStatus.NOT_FOUND, "not available on this port; see --admin-listen")


class _Page(Resource):
    """The page at `/admin`, with a Content-Security-Policy of its own."""

    isLeaf = True

    def __init__(self, file: StaticFile) -> None:
        super().__init__()
        self._file = file

    def render_GET(self, request: WebRequest) -> bytes | int:
        """Send the page, or 304 if the browser already has it."""
        request.setHeader(b"content-security-policy", PAGE_POLICY.encode("ascii"))
        return self._file.render_GET(request)


def read_admin_page(directory: Path) -> dict[bytes, Resource]:
    """
    Read the files of the page at `/admin`.

    Args:
        directory: the directory with the files.

    Returns:
        Name in the URL -> file. `admin` is `index.html`; with a slash at the end, a redirect to it. The files of the
        directory above, such as `style.css`, are included, except for its page.

    Raises:
        OSError: the directory or a file cannot be read.
    """
    files = read_directory(directory)
    found: dict[bytes, Resource] = {b"admin/" + name: file for name, file in files.items() if name not in _INDEX}
    # The references in the page are relative to the path without a slash.
    away = redirect_to("/admin")
    shared = {name: file for name, file in read_directory(directory.parent).items() if name not in _INDEX}
    return {**shared, b"admin": _Page(files[b""]), b"admin/": Answer(away), **found}


_INDEX: Final = (b"", b"index.html")


class AdminRoot(Resource):
    """
    The resource of every path of the admin endpoint outside the API: the probes, `/admin`, and the files that it loads.

    Args:
        pages: name in the URL -> resource.
    """

    def __init__(self, pages: Mapping[bytes, IResource]) -> None:
        super().__init__()
        self._pages = pages

    def getChildWithDefault(self, path: bytes, request: PageRequest) -> IResource:
        """Return the resource for a path."""
        rest: list[bytes] = request.postpath or []
        request.prepath, request.postpath = [*(request.prepath or []), *rest], []
        found = self._pages.get(b"/".join([path, *rest]))
        if found is None:
            known = "/admin, /metrics, /health, /ready, /api/ and /tap/"
            return Answer(Refusal(HTTPStatus.NOT_FOUND, f"the admin endpoint has only {known}"))
        if request.method not in (b"GET", b"HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            return Answer(Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", allow))
        return found


def make_admin_frontend(  # noqa: PLR0917 (called once)
    settings: Settings,
    factory: ServerFactory,
    api: API,
    metrics: Handler,
    pages: Mapping[bytes, IResource],
    cross_origin: CrossOrigin,
) -> FrontendFactory:
    """
    Return the protocol factory of the admin endpoint.

    It has connections and limits of its own, so it works when the public port is full, and while the server stops.

    Args:
        settings: the server's options.
        factory: the server's factory.
        api: the HTTP API.
        metrics: answers requests for `/metrics`.
        pages: name in the URL -> the probes, and the files of the page at `/admin`.
        cross_origin: decides on requests from pages of other origins.
    """
    reactor, sockets, now = factory.reactor, SocketSet(), factory.reactor.seconds
    site = PageSite(AdminRoot(pages), reactor, cross_origin, factory.access_log)
    http = HTTPServer(
        api,
        {"/metrics": metrics},
        site,
        cross_origin,
        access_log=factory.access_log,
        reactor=reactor,
        keepalive_timeout=lambda: factory.settings.keepalive_timeout,
        limits=factory.counters.limits,
        tap=TapPath(factory, refuse_key(api)).answer,
    )
    return FrontendFactory(
        find=lambda path, query: _NO_WEBSOCKET,  # noqa: ARG005
        policy=Policy.of(settings, loopback_only=False),
        http=http.connection,
        response_headers=lambda request: cross_origin.headers(describe_request(request)),
        sockets=sockets,
        admission=Admission(
            sockets,
            max_connections=MAX_ADMIN_CONNECTIONS,
            addresses=AddressLimits(max_connections=0, rate=0, now=now, counters=factory.counters),
            gate=AcceptGate(reactor),
            counters=factory.counters,
            now=now,
        ),
        proxies=TrustedProxies(settings.trusted_proxy, settings.trusted_proxy_header),
        deadlines=factory.deadlines,
        work=factory.work,
        counters=factory.counters,
        access_log=factory.access_log,
        open_timeout=settings.open_timeout,
        max_head=settings.max_request_head,
        max_body=settings.max_request_body,
    )


_NO_WEBSOCKET = Refusal(HTTPStatus.NOT_FOUND, "the admin endpoint accepts no WebSocket; connect to the public port")
