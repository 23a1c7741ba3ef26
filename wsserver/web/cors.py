"""
Cross-origin requests: which pages of other origins may read a response (Fetch Standard, section 3.3).

The rule that decides who may open a WebSocket (`wsserver.wire.handshake.check_origin`) also decides who may read event
streams (`/sse`), the probes `/ready` and `/health`, and `/server.json`. The HTTP API is open to the origins of
`--api-origin` only.

This module does not use Twisted, a clock or a socket.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from wsserver.endpoints.unknown_paths import CENTRIFUGE_HTTP
from wsserver.origins import allowed_origin, is_own, origin_of
from wsserver.text import quote
from wsserver.typing import Header, Origin
from wsserver.wire.handshake import Policy, check_origin, show_origin_option
from wsserver.wire.http11 import Refusal, Request, forbidden

__all__ = ["NO_ORIGIN", "CrossOrigin", "CrossOriginRequest", "describe_request", "is_api"]

_GUARDED: Final = CENTRIFUGE_HTTP | {"/sse", "/.sse"}
"""Paths that refuse requests from pages of other origins, which would keep a connection open, or send data."""

READABLE: Final = _GUARDED | {"/ready", "/health", "/server.json", "/whoami", "/faults"}
"""Paths that pages of allowed origins may read."""

_VARY: Final = ("Vary", "Origin")
_EXPOSED: Final = ("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
_MAX_AGE: Final = ("Access-Control-Max-Age", "7200")
"""Seconds for which a browser caches the answer to a preflight. Chromium does not cache it for longer."""

NO_ORIGIN: Final = (_VARY,)
"""What `CrossOrigin.headers` returns for a request to the HTTP API without an Origin header."""

# The request headers that docs/how-to/authentication.md and docs/reference/http-api.md name, and those that EventSource
# polyfills send.
_READ: Final = (
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID, X-Requested-With"),
)
_SEND: Final = (
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, X-Requested-With"),
)
_CALL: Final = (
    ("Access-Control-Allow-Methods", "POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key, X-Centrifugo-Error-Mode"),
)

Headers = tuple[Header, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossOriginRequest:
    """The parts of a request that determine whether a page of another origin may read the response."""

    method: str
    path: str
    """The path, percent-decoded, without the query."""
    host: str
    """The Host header."""
    origins: Sequence[str]
    """The value of every Origin header."""
    wants_method: bool = False
    """Whether the request has an Access-Control-Request-Method header."""
    wants_private_network: bool = False
    """Whether the request has an Access-Control-Request-Private-Network header."""

    @property
    def is_preflight(self) -> bool:
        """Whether this is a CORS preflight, with which a browser asks whether it may send the actual request."""
        return self.method == "OPTIONS" and bool(self.origins) and self.wants_method


def describe_request(request: Request) -> CrossOriginRequest:
    """Return the parts of a request head that matter for cross-origin requests."""
    return CrossOriginRequest(
        method=request.method,
        # Replaced, as for the pages of `twisted.web`, if it is not UTF-8.
        path=unquote(request.raw_path),
        host=request.host,
        origins=request.all("origin"),
        wants_method=bool(request.all("access-control-request-method")),
        wants_private_network=bool(request.all("access-control-request-private-network")),
    )


class CrossOrigin:
    """
    Decides which pages of other origins may send a request and read the response.

    Args:
        policy: returns which origins may connect. This changes when the server starts to listen.
        api_origins: the origins whose pages may call the HTTP API, as written in `--api-origin`.
        refuse_calls: whether to refuse calls of the HTTP API from pages of other origins. Otherwise the pages only
            cannot read the response, which is enough if a call needs a key.
    """

    def __init__(self, policy: Callable[[], Policy], api_origins: Sequence[str], *, refuse_calls: bool = False) -> None:
        self._policy = policy
        self.configure(api_origins, refuse_calls=refuse_calls)

    def configure(self, api_origins: Sequence[str], *, refuse_calls: bool) -> None:
        """Replace what the options define; for the arguments see the constructor."""
        self._refuses_calls = refuse_calls
        self._api_origins = frozenset(origin for text in api_origins if (origin := allowed_origin(text)) is not None)

    def headers(self, request: CrossOriginRequest) -> Headers:
        """
        Return the headers that every response to a request carries, errors included.

        Returns:
            `Vary: Origin` if pages of other origins can be allowed to read the path, and the Access-Control headers if
            the origin of this request is allowed.
        """
        if not _is_shared(request.path):
            return ()
        if not request.origins or self._refuse(request) is not None:
            return NO_ORIGIN
        return (_VARY, *self._allow(request), _EXPOSED)

    def answer(self, request: CrossOriginRequest) -> Headers | Refusal | None:
        """
        Return the answer to a preflight, or to a request from a forbidden origin that must not be executed.

        Returns:
            The headers of a 204 response to a preflight, in addition to those of `headers`; or a 403 refusal; or None
            if the resource must answer the request.
        """
        if not _is_shared(request.path):
            return None
        if not request.is_preflight:
            # Without the Access-Control headers, the browser does not let the page read the response. An event stream
            # is refused as well, because it would only keep a connection open. So is a call that needs no key.
            is_refused = request.path in _GUARDED or (self._refuses_calls and _is_api(request.path))
            return self._refuse(request) if is_refused else None
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        private = (("Access-Control-Allow-Private-Network", "true"),) if request.wants_private_network else ()
        allowed = _CALL if _is_api(request.path) else _SEND if request.path in CENTRIFUGE_HTTP else _READ
        return (*allowed, _MAX_AGE, *private)

    def _refuse(self, request: CrossOriginRequest) -> Refusal | None:
        if not _is_api(request.path):
            return check_origin(request.origins, request.host, self._policy())
        origin = _only(request.origins)
        if origin is not None and (origin in self._api_origins or is_own(origin, request.host)):
            return None
        if origin is None:
            return forbidden("the Origin header is not one origin", cause="origin")
        text = request.origins[0]
        reason = f"pages of origin {quote(text)} may not call the API; {show_origin_option('--api-origin', text)}"
        return forbidden(reason, cause="origin")

    def _allow(self, request: CrossOriginRequest) -> Headers:
        api, policy = _is_api(request.path), self._policy()
        if policy.any_origin and not api:
            # Cookies are not allowed for `*`: otherwise, any page could act on behalf of the user.
            return (("Access-Control-Allow-Origin", "*"),)
        allow = (("Access-Control-Allow-Origin", request.origins[0]),)
        # No cookies for `null`, the origin of sandboxed frames of all sites, nor for the API, which authenticates by
        # key.
        if api or _only(request.origins) in (Origin("null"), Origin("")):
            return allow
        return (*allow, ("Access-Control-Allow-Credentials", "true"))


def is_api(request: Request) -> bool:
    """Return whether a request is for the HTTP API, or a preflight for it."""
    return request.target.startswith("/api/") or _is_encoded_api(request.raw_path)


@lru_cache(maxsize=128)
def _is_encoded_api(raw_path: str) -> bool:
    return unquote_to_bytes(raw_path).startswith(b"/api/")


def _is_api(path: str) -> bool:
    return path.startswith("/api/")


def _is_shared(path: str) -> bool:
    return path in READABLE or _is_api(path)


def _only(origins: Sequence[str]) -> Origin | None:
    return origin_of(origins[0]) if len(origins) == 1 else None
