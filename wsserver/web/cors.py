"""
Cross-origin requests: which pages of other origins may read a response (Fetch Standard, section 3.3).

The rule that decides who may open a WebSocket (`wsserver.wire.handshake.check_origin`) also decides who may read event
streams and documents. The HTTP API is open to the origins of `--api-origin` only.

Pure: no Twisted, no clock, no socket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from wsserver.origins import allowed_origin, is_own, origin_of
from wsserver.text import quote
from wsserver.typing import Origin
from wsserver.wire.handshake import Policy, check_origin, show_origin_option
from wsserver.wire.http11 import Header, Refusal, Request, forbidden

__all__ = ["CrossOrigin", "CrossOriginRequest", "describe_request"]

READABLE: Final = frozenset({"/sse", "/ready", "/health", "/server.json"})
"""Paths that pages of allowed origins may read."""

_VARY: Final = ("Vary", "Origin")
_EXPOSED: Final = ("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
_MAX_AGE: Final = ("Access-Control-Max-Age", "7200")
"""Seconds for which a browser remembers the answer to a preflight: Chromium's upper limit."""

# What docs/auth.md and docs/api.md document, and what EventSource polyfills send.
_READ: Final = (
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID, X-Requested-With"),
)
_CALL: Final = (
    ("Access-Control-Allow-Methods", "POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key, X-Centrifugo-Error-Mode"),
)

Headers = tuple[Header, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossOriginRequest:
    """The parts of a request that decide about cross-origin access."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    host: str
    """The Host header."""
    origins: Sequence[str]
    """The value of every Origin header."""
    wants_method: bool = False
    """Whether it has an Access-Control-Request-Method header."""
    wants_private_network: bool = False
    """Whether it has an Access-Control-Request-Private-Network header."""

    @property
    def is_preflight(self) -> bool:
        """Whether it is a CORS preflight, which asks if a request may be sent."""
        return self.method == "OPTIONS" and bool(self.origins) and self.wants_method


def describe_request(request: Request) -> CrossOriginRequest:
    """Return what a request head says about cross-origin access."""
    return CrossOriginRequest(
        method=request.method,
        path=request.path or "",
        host=request.host,
        origins=request.all("origin"),
        wants_method=bool(request.all("access-control-request-method")),
        wants_private_network=bool(request.all("access-control-request-private-network")),
    )


class CrossOrigin:
    """
    Decides about cross-origin requests.

    Args:
        policy: returns which origins may connect; it changes when the server listens.
        api_origins: origins whose pages may call the HTTP API, as operators write them.
    """

    def __init__(self, policy: Callable[[], Policy], api_origins: Sequence[str]) -> None:
        self._policy = policy
        self._api_origins = frozenset(origin for text in api_origins if (origin := allowed_origin(text)) is not None)

    def headers(self, request: CrossOriginRequest) -> Headers:
        """
        Return the headers that every response to a request carries, errors included.

        Returns:
            `Vary: Origin` where the path can be read across origins, and the Access-Control headers if the origin may
            read it.
        """
        if not _is_shared(request.path):
            return ()
        if not request.origins or self._refuse(request) is not None:
            return (_VARY,)
        return (_VARY, *self._allow(request), _EXPOSED)

    def answer(self, request: CrossOriginRequest) -> Headers | Refusal | None:
        """
        Answer what need not reach a resource: preflights, and event streams for origins that may not connect.

        Returns:
            The headers of a 204 response to a preflight, besides those of `headers`; a 403 refusal; or None.
        """
        if not _is_shared(request.path):
            return None
        if not request.is_preflight:
            # A page cannot read what is refused to it by the missing headers; a stream would only hold a connection.
            return self._refuse(request) if request.path == "/sse" else None
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        private = (("Access-Control-Allow-Private-Network", "true"),) if request.wants_private_network else ()
        return (*(_CALL if _is_api(request.path) else _READ), _MAX_AGE, *private)

    def _refuse(self, request: CrossOriginRequest) -> Refusal | None:
        if not _is_api(request.path):
            return check_origin(request.origins, request.host, self._policy())
        origin = _only(request.origins)
        if origin is not None and (origin in self._api_origins or is_own(origin, request.host)):
            return None
        if origin is None:
            return forbidden("the Origin header is not one origin")
        text = request.origins[0]
        return forbidden(
            f"pages of origin {quote(text)} may not call the API; {show_origin_option('--api-origin', text)}"
        )

    def _allow(self, request: CrossOriginRequest) -> Headers:
        api, policy = _is_api(request.path), self._policy()
        if policy.any_origin and not api:
            # A response for everyone never goes with cookies: that would let every page act as its reader.
            return (("Access-Control-Allow-Origin", "*"),)
        allow = (("Access-Control-Allow-Origin", request.origins[0]),)
        # `null` is every sandboxed frame of every site. The API knows its callers by a key, never by a cookie.
        if api or _only(request.origins) in (Origin("null"), Origin("")):
            return allow
        return (*allow, ("Access-Control-Allow-Credentials", "true"))


def _is_api(path: str) -> bool:
    return path.startswith("/api/")


def _is_shared(path: str) -> bool:
    return path in READABLE or _is_api(path)


def _only(origins: Sequence[str]) -> Origin | None:
    return origin_of(origins[0]) if len(origins) == 1 else None
