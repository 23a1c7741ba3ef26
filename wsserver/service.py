"""
The server as a Twisted service: build its parts, and start and stop them in order.

The constructor of `WebSocketService` connects the parts:

    broker           delivers publications to the hub, and control messages to the survey
    hub              manages channels and subscribers, and publishes through the broker
    survey           sends the management's requests to all processes, and answers those that it receives
    authorizer       checks the client's token, then asks the hooks
    endpoints, site  serve WebSocket and HTTP from the hub, the management and the authorizer
    frontend         accepts connections and chooses the endpoint, or the site

Start: open the listening ports, then start the broker, then fetch the JWKS. Stop: accept no new connections, close the
connections, then stop presence, the survey, the channel events, the hooks, the broker and the timers.

To run the server inside your own Twisted application:

    WebSocketService(settings, reactor).setServiceParent(application)
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.web.resource import Resource

from wsserver import __version__
from wsserver.auth.tokens import tokens_of
from wsserver.config.insecure import refuse_exposure
from wsserver.config.loader import require_libraries
from wsserver.config.redis_url import parse_redis_url
from wsserver.config.settings import Settings
from wsserver.endpoints.application import Endpoint, Routes
from wsserver.endpoints.authorization import Authorizer
from wsserver.endpoints.centrifuge.emulation import OPERATION, Emulation, Sessions
from wsserver.endpoints.commands import Command, ICommand, collect
from wsserver.endpoints.raw.request import Format
from wsserver.endpoints.routes import Router
from wsserver.endpoints.unknown_paths import decide_catch_all
from wsserver.errors import ListenError, SettingError
from wsserver.hooks.client import HTTPHooks
from wsserver.hooks.interface import Hooks
from wsserver.hub.access import Access
from wsserver.hub.broker import Broker
from wsserver.hub.clients import Clients
from wsserver.hub.hub import Hub
from wsserver.hub.management import Management
from wsserver.hub.memory import MemoryBroker
from wsserver.hub.occupancy_reporter import MAX_BACKOFF, OccupancyReporter
from wsserver.hub.operations import Operations
from wsserver.hub.rules import Rules
from wsserver.hub.survey import Handlers, Survey
from wsserver.hub.unshared import UnsharedBroker
from wsserver.listening.announcement import announce
from wsserver.listening.inherited import InheritedSockets
from wsserver.listening.port_group import PortGroup
from wsserver.listening.ports import count_public, make_listeners
from wsserver.listening.reload import Parts, Reload
from wsserver.listening.renewal import CertificateSource, CertificateWatch
from wsserver.web.admin import (
    MovedAPI,
    check_method,
    make_admin_frontend,
    metrics_disabled,
    moved,
    public_check,
)
from wsserver.web.api import API
from wsserver.web.case_paths import disabled_case_pages
from wsserver.web.centrifuge_http import CentrifugeHTTP, Handler
from wsserver.web.connection import HTTPServer
from wsserver.web.cors import CrossOrigin, describe_request
from wsserver.web.echo_stream import EchoStreams
from wsserver.web.faults import FaultsPage
from wsserver.web.methods import Methods
from wsserver.web.responses import redirect_to, refusal_response
from wsserver.web.site import PageSite, Root
from wsserver.web.sources import Sources
from wsserver.web.sse import SSE
from wsserver.web.taps import TapPath, refuse_key
from wsserver.web.website import Website
from wsserver.web.whoami import answer_whoami
from wsserver.wire.accepting import AcceptGate
from wsserver.wire.admission import Admission
from wsserver.wire.forwarded import TrustedProxies
from wsserver.wire.frontend import FrontendFactory
from wsserver.wire.handshake import Policy
from wsserver.wire.lag import LagMeter
from wsserver.wire.poller import Poller
from wsserver.wire.protocol import ServerFactory
from wsserver.wire.shutdown import Shutdown
from wsserver.wire.timers import use_monotonic_clock

if TYPE_CHECKING:
    from wsserver.auth.jwks import JWKS
    from wsserver.endpoints.cases.protocol import Bench
    from wsserver.web.exposition import Exposition

__all__ = ["WebSocketService", "use_monotonic_clock"]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver")

LEASE_MARGIN = 5.0
"""Seconds by which the lease on channel events exceeds the longest time between two calls that renew it."""


class Group(Protocol):
    """The processes that share the listeners, as one of them sees it."""

    number: int
    """The number of this process, from 1."""

    def collect(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        """
        Return what each process has counted.

        Returns:
            A Deferred that fires with: number of a process -> its `WebSocketService.numbers`; and `supervisor` -> what
            the supervisor has counted. Processes that do not answer are missing. It never fails.
        """


class WebSocketService(Service):
    """
    A WebSocket server with its HTTP API and its browser page.

    Args:
        settings: the server's options.
        reactor: the Twisted reactor to run on.
        endpoints: your own endpoints: path -> a subclass of `ServerProtocol`, or a callable that returns a new instance
            of one for each connection. A path that ends in a slash is a prefix and also covers all paths below it.
        commands: commands to add to the built-in ones; None adds the commands that are installed as Twisted plugins.
        now: returns the UNIX time in seconds, for commands such as `date`.
        inherited: the listening sockets that this process has inherited; None to open them. For worker processes.
        case_options: arguments of the `wsserver.endpoints.cases.protocol.Bench`, if the option `cases` is set.

    Raises:
        SettingError: an option is invalid, or needs a package that is not installed.
        ListenError: an endpoint string with TLS is invalid, or names a certificate that cannot be used.
        TypeError: an endpoint is neither a subclass of `ServerProtocol` nor a callable.
        ValueError: the path of an endpoint is invalid.
    """

    name = "wsserver"

    is_worker = False
    """Whether this is one of several processes that share the listeners."""

    _lag: LagMeter | None = None
    _stopping: Shutdown | None = None

    bench: "Bench | None" = None
    """The conformance cases and their results; None if they are not enabled."""

    group: "Group | None" = None
    """The processes that share the listeners; None if there is only this one."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        endpoints: Mapping[str, Endpoint] | None = None,
        commands: Iterable[Command] | None = None,
        now: Callable[[], float] = time.time,
        inherited: InheritedSockets | None = None,
        case_options: Mapping[str, Any] | None = None,
    ) -> None:
        if settings.workers != 1 and not self.is_worker:
            raise SettingError("--workers", "expected 1: only twistd wsserver and wsserver serve start more processes")
        self.settings = settings
        self._reactor = reactor
        self.connections = ServerFactory(settings, reactor)
        table = collect(getPlugins(ICommand) if commands is None else commands)
        self._loopback_only = False
        broker = _broker(settings, reactor, now)
        self.hub = Hub(
            broker,
            reactor,
            Rules.from_settings(settings),
            limits=self.connections.counters.limits,
            queue_deadline=_queue_deadline(self.connections, settings.max_queued_age),
        )
        """The channels. To publish from your application, call `hub.publish(channel, data)`."""
        sessions = Sessions()
        rejects = self.connections.access_log.rejects
        handlers: Handlers = {
            **self._operations().handlers,
            OPERATION: sessions.answer,
            "rejects": lambda _: {"node": broker.node, "rejects": rejects.describe()},
        }
        self._survey = Survey(broker, reactor, handlers)
        broker.deliver_to(self.hub, on_control=self._survey.on_message)
        self.management = Management(self._survey)
        """The operations of the HTTP API on connections and channels, in all server processes."""
        hooks = HTTPHooks.from_settings(settings, reactor)
        self.hooks: Hooks = hooks
        """Sends the webhook requests to the backend."""
        self._occupancy = self._report_occupancy(settings) if settings.hook_channel else None
        tokens, self._jwks = tokens_of(settings, reactor, broker.consume)
        self.authorizer = Authorizer(
            Access(self.hub.rules, loopback_only=False),
            tokens,
            anonymous=settings.anonymous,
            reactor=reactor,
            now=time.time,
            hooks=self.hooks,
            insecure=settings.insecure,
            max_channels=settings.max_channels_per_client,
            limits=self.connections.counters.limits,
            clients=self._limited_clients(settings),
        )
        """Decides which clients may subscribe to which channels."""
        make_router = partial(
            Router,
            factory=self.connections,
            hub=self.hub,
            authorizer=self.authorizer,
            clock=reactor,
            now=now,
            commands=table,
            application_endpoints=endpoints or {},
            service=self,
            started=reactor.seconds(),
            benches=self._serve_cases(case_options or {}),
        )
        self.endpoints = make_router(settings)
        self._gate = AcceptGate(reactor)
        """Pauses the public ports if there are too many clients."""
        emulation = Emulation(sessions, self._survey, broker.node)
        centrifuge = CentrifugeHTTP(emulation, self.connections, self.authorizer, self.endpoints.centrifuge)
        cross_origin = CrossOrigin(
            lambda: self.frontend.policy, settings.api_origin, refuse_calls=settings.api_insecure
        )
        access_log = self.connections.access_log
        api, self._sse = self._api(), self._events()
        paths: dict[str, Handler] = {
            **centrifuge.paths,
            **self._case_pages,
            "/case/": lambda request, body, peer: refusal_response(redirect_to("/case")),  # noqa: ARG005
            "/faults/": lambda request, body, peer: refusal_response(redirect_to("/faults")),  # noqa: ARG005
            "/faults": FaultsPage(lambda: self.connections.settings.faults).answer,
            "/.sse": EchoStreams(self.connections, now).answer,
        }
        operations, root = self._make_pages(table, api)
        pages = PageSite(root, reactor, cross_origin, access_log)
        http = HTTPServer(
            MovedAPI() if settings.admin_listen else api,
            paths,
            pages,
            cross_origin,
            access_log=access_log,
            reactor=reactor,
            keepalive_timeout=lambda: self.connections.settings.keepalive_timeout,
            limits=self.connections.counters.limits,
            tap=self._taps(None if settings.admin_listen else api),
            views={"/whoami": answer_whoami},
        )
        self.frontend = FrontendFactory(
            find=self.endpoints.find,
            policy=Policy.of(settings, loopback_only=False),
            http=http.connection,
            response_headers=lambda request: cross_origin.headers(describe_request(request)),
            sockets=self.connections.sockets,
            admission=Admission.from_settings(settings, self.connections, self._gate),
            proxies=TrustedProxies(settings.trusted_proxy, settings.trusted_proxy_header),
            deadlines=self.connections.deadlines,
            work=self.connections.work,
            counters=self.connections.counters,
            access_log=access_log,
            open_timeout=settings.open_timeout,
            long_lived=frozenset({"/sse", "/.sse", *centrifuge.streams}),
            max_head=settings.max_request_head,
            max_body=settings.max_request_body,
        )
        self._listeners = make_listeners(settings, reactor, inherited)
        self._renewal = CertificateWatch(self.certificates, reactor)
        self._sources = self._find_sources(hooks)
        self._exposition = self._measure(api)
        self.admin: FrontendFactory | None = self._serve_metrics(api, paths, operations, cross_origin)
        """The frontend of the admin endpoint; None if its paths are on the public port."""
        self._parts = Parts(
            connections=self.connections,
            hub=self.hub,
            hooks=hooks,
            authorizer=self.authorizer,
            listeners=self._listeners,
            api=api,
            events=self._sse,
            cross_origin=cross_origin,
            centrifuge=centrifuge,
            frontend=self.frontend,
            admin=self.admin,
            make_router=make_router,
            make_tokens=lambda settings, jwks: tokens_of(settings, reactor, broker.consume, jwks),
            reactor=reactor,
        )
        self._poller: Poller | None = None
        public = count_public(settings)
        self._public_ports = PortGroup(self._listeners[:public], self.frontend, self._gate)
        self._admin_ports = PortGroup(self._listeners[public:], self.admin or self.frontend, AcceptGate(reactor))

    @property
    def ports(self) -> list[IListeningPort]:
        """The listening ports; empty while the service does not run."""
        return [*self._public_ports.ports, *self._admin_ports.ports]

    @property
    def certificates(self) -> list[CertificateSource]:
        """The certificate files of the listeners with TLS."""
        return [one.certificates for one in self._listeners if one.certificates is not None]

    def _serve_cases(self, options: Mapping[str, Any]) -> Callable[[ServerFactory], Routes] | None:
        """Make the conformance cases if they are enabled; return what binds their WebSocket endpoints."""
        self._case_pages: dict[str, Handler] = disabled_case_pages()
        if not self.settings.cases:
            return None
        # The tables of the cases need a megabyte, which most servers can do without.
        from wsserver.endpoints.cases.protocol import Bench  # noqa: PLC0415
        from wsserver.endpoints.cases.walk import bind_cases  # noqa: PLC0415
        from wsserver.web.cases import case_pages  # noqa: PLC0415

        self.bench = Bench(self._reactor, self.connections.counters.limits, **options)
        self._case_pages = case_pages(self.bench)
        return partial(bind_cases, self.bench)

    def _limited_clients(self, settings: Settings) -> Clients:
        clients = self.hub.clients
        clients.max_per_user, clients.limits = settings.max_connections_per_user, self.connections.counters.limits
        return clients

    def _report_occupancy(self, settings: Settings) -> OccupancyReporter:
        # A process that is sending events must not be overtaken by another one while it waits for an answer or a retry.
        lease = settings.hook_timeout + MAX_BACKOFF + LEASE_MARGIN
        reporter = OccupancyReporter(
            self.hub.broker.track_occupancy(lease),
            has_subscribers=self.hub.is_occupied,
            channels=lambda: self.hub.counts().keys(),
            is_up=lambda: self.hub.broker.up,
            send=self.hooks.channel_events,
            reactor=self._reactor,
        )
        self.hub.watch_occupancy(reporter.changed)
        return reporter

    def _operations(self) -> Operations:
        return Operations(
            self.hub,
            __version__,
            numbers=self._info_numbers,
            worker=lambda: self.group.number if self.group is not None else 0,
        )

    def _make_pages(self, commands: Mapping[str, Command], api: API) -> tuple[Mapping[bytes, Resource], Root]:
        """Return the pages for operators, and the resource of the public port."""
        website = Website(self.connections, commands, lambda: self.endpoints, self._sse, self.problem)
        operations = website.operators_pages(website.describe(api))
        if not self.settings.admin_listen:
            return operations, website.root(operations)
        # The operators' pages are on the admin endpoint, and the description of the public port mentions no API.
        return operations, website.root({b"server.json": website.describe(None)})

    def _serve_metrics(
        self, api: API, paths: dict[str, Handler], pages: Mapping[bytes, Resource], cross_origin: CrossOrigin
    ) -> FrontendFactory | None:
        """Add `/metrics` to the paths of the public port; with an admin endpoint, return its frontend instead."""
        metrics: Handler = self._exposition or metrics_disabled
        if not self.settings.admin_listen:
            paths["/metrics"] = metrics
            return None
        paths |= dict.fromkeys(("/metrics", "/ready", "/health", "/admin", "/admin/"), moved)
        return make_admin_frontend(self.settings, self.connections, api, metrics, pages, cross_origin)

    def _find_sources(self, hooks: HTTPHooks) -> Sources:
        return Sources(
            self.connections.counters,
            self.connections.connections,
            self.frontend,
            self.hub,
            hooks.queues,
            self._occupancy,
            self.problem,
            lambda: self._poller.sum_queued() if self._poller is not None else 0,
            self._renewal.expiries,
        )

    def _measure(self, api: API) -> "Exposition | None":
        """Measure the lag of the event loop if it can be read; return what answers requests for `/metrics`."""
        if self.settings.metrics == "on" or api.has_callers:
            self._lag = LagMeter(self._reactor, self.connections.counters.lag.observe)
        return self._metrics(api) if self.settings.metrics == "on" else None

    def _metrics(self, api: API) -> "Exposition":
        require_libraries(self.settings)
        # prometheus_client is an optional dependency.
        from wsserver.web.exposition import Exposition  # noqa: PLC0415
        from wsserver.web.metrics import make_registry  # noqa: PLC0415

        self.hub.measure_deliveries(self.connections.counters.broadcasts.observe)
        check = check_method if self.settings.admin_listen else public_check(api)
        return Exposition(make_registry(self._sources), check, lambda: self.group)

    def _api(self) -> API:
        settings = self.settings
        methods = Methods(self.hub, self.management)
        return API(
            methods,
            settings.api_key,
            lenient=settings.api_errors == "body",
            insecure=settings.api_insecure,
            counters=self.connections.counters,
        )

    def _events(self) -> SSE:
        settings = self.settings
        return SSE(
            self.hub,
            self.authorizer,
            self.connections,
            self._reactor,
            default=Format(settings.channel_format),
            max_queued=settings.max_queued_bytes,
            close_on_gap=settings.gap == "close",
        )

    def _info_numbers(self) -> dict[str, float]:
        """Return what the API method `info` returns of this process in addition to the hub's numbers."""
        occupancy = self._occupancy.metrics() if self._occupancy is not None else {}
        return {**occupancy, **self._sources.numbers()}

    def numbers(self) -> dict[str, Any]:
        """Return the metrics of this process as a JSON object: see `wsserver.web.exposition.Exposition.numbers`."""
        return {} if self._exposition is None else self._exposition.numbers()

    def problem(self) -> str | None:
        """Return why the server cannot serve channels at the moment, as a sentence; None if it can."""
        if self.frontend.stopping:
            return "the server is stopping"
        # Until the JWKS has been fetched, every client that sends a token is refused and told to retry.
        return self.hub.broker.problem or (self._jwks.problem if self._jwks is not None else None)

    def privilegedStartService(self) -> None:
        """
        Open the listening ports, while the process may still have root privileges.

        Raises:
            ListenError: the server cannot listen on an address.
            SettingError: other machines can reach the server, and an option is for development only.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """
        Start the service.

        Open the listening ports if `privilegedStartService` was not called, as in an application that is already
        running.

        Raises:
            ListenError: the server cannot listen on an address.
            SettingError: other machines can reach the server, and an option is for development only.
        """
        super().startService()
        if not self.ports:
            self._listen()
        self._renewal.start()
        self.hub.broker.start()
        if self._occupancy is not None:
            self._occupancy.start()
        if self._jwks is not None:
            self._jwks.start()
        if self._lag is not None:
            self._lag.start()
        self.announce()

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        """
        Stop listening, close all connections gracefully, then stop all other parts.

        WebSocket clients get the close code of the option `drain_code`, spread over up to `drain_jitter` seconds. What
        was received before is answered. Connections that are still open after `drain_timeout` seconds are dropped; see
        also `abort`.

        Returns:
            A Deferred that fires when all parts of the server have stopped.
        """
        super().stopService()
        # The admin endpoint reports the drain until its end.
        closed = self._public_ports.close()
        self._renewal.stop()
        self.frontend.stopping = self.connections.stopping = True
        self._stopping = Shutdown(self.connections, self.frontend, self._reactor, self.settings.drain_timeout)
        yield from closed
        yield from (self.frontend.drain(self.settings.close_timeout), self.connections.drain())
        self._stopping.finished()
        yield from self._admin_ports.close()
        if self.admin is not None:
            yield self.admin.close_all()
        if self._jwks is not None:
            self._jwks.stop()
        self.connections.access_log.flush()
        self.hub.presence.stop()
        self._survey.stop()
        if self._occupancy is not None:
            yield self._occupancy.stop(self.settings.hook_timeout)
        yield self.hooks.stop()
        yield self.hub.broker.stop()
        if self._lag is not None:
            self._lag.stop()
        self.connections.deadlines.stop()
        if self._poller is not None:
            self._poller.stop()
            self._poller = None

    def reload(self, settings: Settings) -> tuple[str, ...]:
        """
        Change the options of the running server; no connection is closed.

        Keys, origins, hooks and permissions apply at once, also to open connections; limits apply to new connections.
        Subscriptions that a client has stay, even if it could not subscribe again. If an option is invalid, nothing is
        changed.

        Args:
            settings: all options. Those that need a restart keep their values.

        Returns:
            The flags of the options that differ, but need a restart.

        Raises:
            SettingError: an option is invalid, or cannot be combined with another one.
            ListenError: a certificate of an endpoint string cannot be used.
        """
        is_local = self._loopback_only or not self.ports
        change = Reload(self._parts, self.settings, settings, self._jwks, loopback_only=is_local)
        self.settings, self.endpoints = change.settings, change.apply()
        if change.jwks is not self._jwks:
            self._change_jwks(change.jwks)
        self._set_reach(loopback_only=self._loopback_only)
        return change.unchanged

    def _change_jwks(self, jwks: "JWKS | None") -> None:
        if self._jwks is not None:
            self._jwks.stop()
        self._jwks = jwks
        if jwks is not None and self.running:
            jwks.start()

    def abort(self) -> None:
        """Drop the connections that `stopService` still waits for. Does nothing before `stopService`."""
        if self._stopping is not None:
            self._stopping.abort()

    def _listen(self) -> None:
        self.frontend.stopping = self.connections.stopping = False
        try:
            self._public_ports.open()
            self._admin_ports.open()
            loopback_only = self._public_ports.loopback_only
            refuse_exposure(self.settings, loopback_only=loopback_only and self._admin_ports.loopback_only)
        except (ListenError, SettingError):
            self.stop_accepting()
            raise
        # On systems without epoll, the reactor itself watches the connections.
        if Poller.available:
            self._poller = Poller(self._reactor, self.connections.work.__len__)
        self._public_ports.accept(self._poller)
        self._admin_ports.accept(self._poller)
        self._set_reach(loopback_only=loopback_only)

    def open_again(self, index: int) -> IListeningPort:
        """
        Listen on a further socket: the one that the `inherited` sockets currently stand for.

        Args:
            index: the index of the listener to open.

        Returns:
            The listening port, which the caller closes.

        Raises:
            ListenError: the server cannot listen on the socket.
        """
        public = count_public(self.settings)
        if index < public:
            return self._public_ports.open_again(index)
        return self._admin_ports.open_again(index - public)

    def stop_accepting(self) -> None:
        """Close the listening ports; everything else goes on until `stopService`."""
        self._public_ports.close()
        self._admin_ports.close()

    def _set_reach(self, *, loopback_only: bool) -> None:
        """Replace the rules that depend on who can reach the server; until it listens, assume that all can."""
        self._loopback_only = loopback_only
        # Behind a proxy, clients on other machines reach loopback, too.
        loopback_only = loopback_only and not self.settings.trusted_proxy
        self.frontend.policy = Policy.of(self.settings, loopback_only=loopback_only)
        self.authorizer.access = Access(self.hub.rules, loopback_only)
        self.endpoints.catch_all = decide_catch_all(self.settings, loopback_only=loopback_only)
        self._enable_taps(loopback_only=loopback_only)

    def _enable_taps(self, *, loopback_only: bool) -> None:
        tap = self.settings.tap
        self.connections.taps.enabled = loopback_only if tap == "auto" else tap == "on"

    def _taps(self, api: API | None) -> Handler:
        """Return what answers requests for taps, with the API that knows the key, if this port accepts it."""
        self._enable_taps(loopback_only=False)
        return TapPath(self.connections, refuse_key(api) if api is not None else None).answer

    def announce(self) -> None:
        """Log where the server listens, and what is insecure."""
        announce(
            self.settings,
            self.endpoints.catch_all,
            self.authorizer,
            self.hooks,
            public=self._public_ports,
            admin=self._admin_ports,
            loopback_only=self._loopback_only,
        )


def _broker(settings: Settings, reactor: Any, now: Callable[[], float]) -> Broker:
    if not settings.redis:
        return (MemoryBroker if settings.workers == 1 else UnsharedBroker)(reactor, now)
    require_libraries(settings)
    # hiredis is an optional dependency.
    from wsserver.redis.broker import RedisBroker  # noqa: PLC0415

    return RedisBroker(parse_redis_url(settings.redis), reactor)


def _queue_deadline(connections: ServerFactory, seconds: float) -> Callable[[Callable[[], None]], Any] | None:
    return partial(connections.deadlines.call_later, seconds) if seconds else None
