"""
Reload: change the options of a running server, without closing a connection.

The constructor of `Reload` makes everything that can fail: it parses keys, reads certificates and checks that options
fit together. `apply` then replaces the old parts in one turn of the reactor. It only assigns, so that a server never
runs with half of its new options.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsserver.auth.verifier import Tokens
from wsserver.config.insecure import refuse_exposure
from wsserver.config.reload import combine
from wsserver.config.settings import Settings
from wsserver.endpoints.authorization import Authorizer
from wsserver.endpoints.raw.request import Format
from wsserver.endpoints.routes import Router
from wsserver.hooks.client import HTTPHooks, check_settings, urls_of
from wsserver.hub.hub import Hub
from wsserver.hub.rules import Rules
from wsserver.listening.ports import Listener, make_listeners
from wsserver.listening.renewal import CertificateSource
from wsserver.web.api import API
from wsserver.web.centrifuge_http import CentrifugeHTTP
from wsserver.web.cors import CrossOrigin
from wsserver.web.sse import SSE
from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.handed_files import Files, handed
from wsserver.wire.protocol import ServerFactory

if TYPE_CHECKING:
    from wsserver.auth.jwks import JWKS

__all__ = ["Parts", "Reload"]


@dataclass(kw_only=True, slots=True)
class Parts:
    """The parts of a server that depend on options which a running server can change."""

    connections: ServerFactory
    hub: Hub
    hooks: HTTPHooks
    authorizer: Authorizer
    listeners: list[Listener]
    api: API
    events: SSE
    cross_origin: CrossOrigin
    centrifuge: CentrifugeHTTP
    frontend: FrontendFactory
    admin: FrontendFactory | None
    """The frontend of the admin endpoint; None without one."""
    make_router: Callable[[Settings], Router]
    make_tokens: "Callable[[Settings, JWKS | None], tuple[Tokens | None, JWKS | None]]"
    reactor: Any


class Reload:
    """
    The change of a server to new options.

    Args:
        parts: the server's parts.
        running: the settings in use.
        new: the settings that are wanted.
        jwks: fetches the key set of the settings in use; None if they have none.
        loopback_only: whether only this machine can reach the server.

    Raises:
        SettingError: an option is invalid, or needs another one.
        ListenError: a certificate of an endpoint string cannot be used.
    """

    def __init__(
        self, parts: Parts, running: Settings, new: Settings, jwks: "JWKS | None", *, loopback_only: bool
    ) -> None:
        self._parts = parts
        self.settings, self.unchanged = combine(running, new)
        """The settings after the change; and the flags of the options that differ, but need a restart."""
        settings = self.settings
        refuse_exposure(settings, loopback_only=loopback_only)
        check_settings(settings)
        self._rules = Rules.from_settings(settings)
        self._tokens, self.jwks = parts.make_tokens(settings, jwks)
        self._certificates = self._read_certificates(running)

    def _read_certificates(self, running: Settings) -> list[CertificateSource | None]:
        """
        Read the files if any has changed; return None for each listener if not.

        After a start as root, the process may not be able to read private keys again: unchanged files need not be read.
        """
        used, new = self._parts.listeners, self.settings
        is_same = (running.tls_cert, running.tls_key) == (new.tls_cert, new.tls_key)
        if is_same and all(one.certificates is None or one.certificates.is_current() for one in used):
            return [None] * len(used)
        current = {one.certificates for one in used if one.certificates is not None and one.certificates.is_current()}
        contents = {path: data for source in current for path, data in source.contents.items()}
        states = {path: state for source in current for path, state in source.states.items()}
        with handed(Files(contents, states)):
            return [listener.certificates for listener in make_listeners(new, self._parts.reactor)]

    def apply(self) -> Router:
        """
        Use the new options.

        Returns:
            The endpoints for new connections.
        """
        parts, settings = self._parts, self.settings
        for listener, renewed in zip(parts.listeners, self._certificates, strict=True):
            if listener.certificates is not None and renewed is not None:
                listener.certificates.take(renewed)
        parts.hub.change_rules(self._rules)
        parts.hooks.configure(urls_of(settings), settings.hook_timeout)
        parts.authorizer.configure(self._tokens, anonymous=settings.anonymous, insecure=settings.insecure)
        if self.jwks is not None and self._tokens is not None:
            keys: Any = self._tokens.keys
            self.jwks.pass_to(keys.take)
        parts.connections.configure(settings)
        parts.api.configure(settings.api_key, lenient=settings.api_errors == "body", insecure=settings.api_insecure)
        parts.events.configure(
            Format(settings.channel_format), max_queued=settings.max_queued_bytes, close_on_gap=settings.gap == "close"
        )
        parts.cross_origin.configure(settings.api_origin, refuse_calls=settings.api_insecure)
        router = parts.make_router(settings)
        parts.centrifuge.configure(router.centrifuge)
        parts.frontend.find = router.find
        parts.frontend.admission.configure(settings)
        for frontend in filter(None, (parts.frontend, parts.admin)):
            frontend.configure(settings)
        parts.hub.clients.max_per_user = settings.max_connections_per_user
        return router
