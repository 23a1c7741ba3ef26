"""
The admin endpoint, on which `/metrics`, `/health`, `/ready` and the HTTP API can be served instead of the public port.

Without it, they are on the public port; this module then decides who may read the metrics.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from twisted.web.resource import IResource, Resource

from wsserver.config.settings import Settings
from wsserver.web.api import API
from wsserver.web.centrifuge_http import Handler
from wsserver.web.connection import HTTPServer
from wsserver.web.cors import CrossOrigin, describe_request
from wsserver.web.responses import Response, refusal_response
from wsserver.web.site import Answer, PageRequest, PageSite
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

__all__ = ["MovedAPI", "check_method", "make_admin_frontend", "metrics_disabled", "moved", "public_check"]


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


class AdminRoot(Resource):
    """
    The resource of every path of the admin endpoint outside the API: `/ready` and `/health`.

    Args:
        probes: name in the URL -> probe.
    """

    def __init__(self, probes: Mapping[bytes, IResource]) -> None:
        super().__init__()
        self._probes = probes

    def getChildWithDefault(self, path: bytes, request: PageRequest) -> IResource:
        """Return the resource for a path."""
        rest: list[bytes] = request.postpath or []
        request.prepath, request.postpath = [*(request.prepath or []), *rest], []
        found = self._probes.get(b"/".join([path, *rest]))
        if found is None:
            known = "/metrics, /health, /ready, /api/ and /tap/"
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
    probes: Mapping[bytes, IResource],
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
        probes: name in the URL -> probe.
        cross_origin: decides on requests from pages of other origins.
    """
    reactor, sockets, now = factory.reactor, SocketSet(), factory.reactor.seconds
    pages = PageSite(AdminRoot(probes), reactor, cross_origin, factory.access_log)
    http = HTTPServer(
        api,
        {"/metrics": metrics},
        pages,
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
