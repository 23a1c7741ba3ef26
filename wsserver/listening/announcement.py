"""The log lines at the start of a server: where it listens, who may do what, and what is insecure."""

from twisted.logger import Logger

from wsserver.config.insecure import describe_insecure_options
from wsserver.config.settings import Settings
from wsserver.endpoints.authorization import Authorizer
from wsserver.endpoints.unknown_paths import CatchAll
from wsserver.hooks.interface import Hooks
from wsserver.listening.port_group import PortGroup
from wsserver.listening.ports import authority, is_secure

__all__ = ["announce"]

_log = Logger(namespace="wsserver")


def announce(
    settings: Settings,
    catch_all: CatchAll,
    authorizer: Authorizer,
    hooks: Hooks,
    *,
    public: PortGroup,
    admin: PortGroup,
    loopback_only: bool,
) -> None:
    """
    Log where the server listens, and what is insecure.

    Args:
        settings: the options.
        catch_all: what unknown WebSocket paths do.
        authorizer: decides which clients may subscribe.
        hooks: the backend's webhooks.
        public: the ports of the clients.
        admin: the ports of the admin endpoint.
        loopback_only: whether only this machine can reach the server.
    """
    for warning in describe_insecure_options(settings):
        _log.warn("{warning}", warning=warning)
    if settings.faults and not loopback_only:
        _log.warn("other machines can reach the faults, which are for testing clients (--faults)")
    if settings.cases and not loopback_only:
        _log.warn("other machines can run conformance cases, and read the reports of all clients (--cases)")
    _log.info(
        "unknown WebSocket paths {answer} ({reason})",
        answer="answer commands" if catch_all.enabled else "are refused with 404",
        reason=catch_all.reason,
    )
    if authorizer.access.closed and authorizer.tokens is None and "subscribe" not in hooks.events:
        _log.info("no channel is allowed, because other machines can reach the server; see --channel-allow")
    for port in admin.ports:
        _log.info("admin endpoint at {address}", address=authority(port) or str(port.getHost()))
    for port in public.ports:
        where = authority(port)
        if where is None:
            _log.info("listening on {address}", address=str(port.getHost()))
            continue
        secure = "s" if is_secure(port) else ""
        _log.info(
            "the page is at http{secure}://{where}/ and the WebSocket at ws{secure}://{where}/",
            secure=secure,
            where=where,
        )
        if settings.faults:
            _log.info("the faults are listed at http{secure}://{where}/faults", secure=secure, where=where)
        if settings.cases:
            _log.info("the conformance cases are listed at http{secure}://{where}/case", secure=secure, where=where)
