"""Routing: find the endpoint that serves a WebSocket path."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from wsserver.config.settings import Settings
from wsserver.endpoints.application import Endpoint, Routes, bind_routes
from wsserver.endpoints.authorization import Authorizer
from wsserver.endpoints.centrifuge.one_way import OneWayProtocol
from wsserver.endpoints.centrifuge.pages import Pages
from wsserver.endpoints.centrifuge.permissions import Permissions
from wsserver.endpoints.centrifuge.protocol import CentrifugeProtocol
from wsserver.endpoints.command import CommandProtocol, ReplyCache
from wsserver.endpoints.commands import Command, common_spellings
from wsserver.endpoints.echo import EchoProtocol
from wsserver.endpoints.fault_routes import FAULTS, bind_faults, refuse_faults
from wsserver.endpoints.limited_echo import LimitedEchoProtocol
from wsserver.endpoints.raw.request import Format
from wsserver.endpoints.raw.websocket import RawProtocol
from wsserver.endpoints.ticker import TickerProtocol
from wsserver.endpoints.unknown_paths import (
    CENTRIFUGE_HTTP,
    CatchAll,
    decide_catch_all,
    find_nearest_path,
    names_cases,
    names_channel,
    refuse_cases,
    refuse_channel,
    refuse_unknown_path,
)
from wsserver.endpoints.whoami import WhoAmIProtocol
from wsserver.hub.hub import Hub
from wsserver.typing import Path
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ServerFactory, ServerProtocol, bind

__all__ = ["HELP", "Router"]

_CHANNELS, _CENTRIFUGE, _ONE_WAY = "/ws", "/connection/websocket", "/connection/uni_websocket"

HELP = {
    "/": "answers commands, echoes any other message",
    "/echo": "echoes every message unchanged",
    "/ws": "same as /; with ?channel=NAME, sends the channel's publications",
    "/connection/websocket": "Centrifuge client protocol (JSON), for Centrifugo SDKs",
    "/connection/uni_websocket": "pushes of the Centrifuge protocol (JSON), for clients without an SDK",
    "/whoami": "describes the connection as JSON, when it opens and for each message",
    "/raw": "same as /echo, as at the echo service of Postman",
    "/.ws": "same as /echo; over HTTP, the page",
    "/websocket/echo": "same as /echo, as in httpbin: ?max_message_size=100&max_fragment_size=50",
    "/ticker": "sends messages at an interval: ?every=1s&count=3&text=tick",
    "/case/": "runs a conformance case with a client that echoes: /case/1?agent=NAME; see /case",
    "/case/count": "sends the number of conformance cases",
    "/runCase": "same as /case/, for clients of Autobahn's fuzzing server: ?case=1&agent=NAME",
    "/getCaseCount": "same as /case/count",
    "/getCaseInfo": "describes a conformance case: ?case=1",
    "/getCaseStatus": "sends the verdict of a conformance case: ?case=1&agent=NAME",
    "/updateReports": "closes; reports are always up to date",
}
"""Built-in path -> what its endpoint does, for the help page."""


class Router:
    """
    The endpoints of one server by path, each bound to the server's options (see `wsserver.wire.protocol.bind`).

    Args:
        settings: the server's options.
        factory: the server's factory, which its connections share.
        hub: the hub of the channels.
        authorizer: decides who may subscribe to channels.
        clock: measures uptime, and times the ticker.
        now: returns UNIX time in seconds, for the commands `date` and `time`.
        commands: name -> command.
        application_endpoints: path or prefix -> endpoint (see `bind_routes`). They replace built-in endpoints.
        service: the `WebSocketService`, which becomes the attribute `service` of connections to these endpoints.
        started: when the server was started, by the clock.
        benches: returns the endpoints that test clients, given the factory; None if they are not enabled.
    """

    def __init__(
        self,
        settings: Settings,
        factory: ServerFactory,
        hub: Hub,
        authorizer: Authorizer,
        clock: IReactorTime,
        *,
        now: Callable[[], float],
        commands: Mapping[str, Command],
        application_endpoints: Mapping[str, Endpoint],
        service: Any,
        started: float,
        benches: Callable[[ServerFactory], Routes] | None = None,
    ) -> None:
        command = bind(
            CommandProtocol,
            factory,
            commands=commands,
            common_messages=common_spellings(commands),
            reply_cache=ReplyCache(now),
            clock=clock,
            now=staticmethod(now),
            server_started=started,
            zone=settings.timezone,
            reply_prefix=settings.reply_prefix.encode("utf-8"),
        )
        self._paths: dict[str, Callable[[], ServerProtocol]] = {
            "/": command,
            "/echo": bind(EchoProtocol, factory),
            "/ws": command,
            "/whoami": bind(WhoAmIProtocol, factory),
            "/raw": bind(EchoProtocol, factory),
            "/.ws": bind(EchoProtocol, factory),
            "/websocket/echo": bind(LimitedEchoProtocol, factory),
            "/ticker": bind(TickerProtocol, factory, clock=clock),
        }
        self.centrifuge: Mapping[str, Any] = {
            "hub": hub,
            "permissions": Permissions(
                hub, authorizer, Pages(settings.max_queued_bytes), personal_channel=settings.personal_channel
            ),
            "max_queued": settings.max_queued_bytes,
            "ping_interval": math.ceil(settings.ping_interval),
        }
        """The class attributes of the connections of Centrifuge clients, of any transport."""
        # No WebSocket pings: the Centrifuge protocol has its own.
        self._paths[_CENTRIFUGE] = bind(CentrifugeProtocol, factory, autoPingInterval=0, **self.centrifuge)
        self._paths[_ONE_WAY] = bind(OneWayProtocol, factory, **self.centrifuge)
        bench = Routes({}, {}) if benches is None else benches(factory)
        self._paths |= bench.exact
        routes = bind_routes(application_endpoints, factory, service)
        self._built_in = self._paths.keys() - routes.exact.keys()
        self._paths |= routes.exact
        self._prefixes = {**routes.prefixes, **bench.prefixes}
        self._command = command
        self._push = bind(
            RawProtocol,
            factory,
            hub=hub,
            authorizer=authorizer,
            default_format=Format(settings.channel_format),
            accepts_messages=settings.hook_message_raw,
            max_queued=settings.max_queued_bytes,
            close_on_gap=settings.gap == "close",
        )
        self._faults = bind_faults(factory) if settings.faults else None
        self._serves_channels = _CHANNELS if _CHANNELS in self._built_in else None
        self.catch_all: CatchAll = decide_catch_all(settings, loopback_only=False)
        """Whether unknown paths answer commands. The service decides again once it knows its listening addresses."""

    @property
    def paths(self) -> list[str]:
        """All paths and prefixes that have an endpoint. Prefixes end with a slash."""
        return [*self._paths, *self._prefixes]

    def find(self, path: Path, query: Mapping[str, list[str]]) -> Callable[[], ServerProtocol] | Refusal:
        """
        Find the endpoint of a path. Trailing slashes do not matter.

        An exact path takes precedence over a prefix, and a longer prefix over a shorter one. The prefix `/a/` also
        matches `/a`.

        Args:
            path: the path, percent-decoded.
            query: the query parameters. `/ws?channel=foo` and `/ws` are different endpoints.

        Returns:
            A callable that returns the protocol object for a new connection. Or a 404 refusal if the path has no
            endpoint, and unknown paths do not answer commands. Or a 400 refusal if the query names a channel at a path
            that does not serve channels, because the client would wait for publications forever.
        """
        path = Path(path.rstrip("/") or "/")
        endpoint = self._paths.get(path)
        if endpoint is None:
            endpoint = self._find_prefix(path)
        if endpoint is not None and path not in self._built_in:
            # The application interprets the query of its own endpoints.
            return endpoint
        if path.startswith(FAULTS):
            return refuse_faults() if self._faults is None else self._faults(path, query)
        # The URL of a Centrifuge SDK may have parameters with any name for a proxy in front of the server, so a name
        # that only resembles `channel` is accepted there.
        is_centrifuge = path in (_CENTRIFUGE, _ONE_WAY)
        if query and names_channel(query, misspelled=not is_centrifuge):
            if path == self._serves_channels:
                return self._push
            return refuse_channel(path, self._serves_channels, subscribes=is_centrifuge)
        return endpoint or self._find_unknown(path)

    def _find_prefix(self, path: Path) -> Callable[[], ServerProtocol] | None:
        return next((make for prefix, make in self._prefixes.items() if f"{path}/".startswith(prefix)), None)

    def _find_unknown(self, path: Path) -> type[ServerProtocol] | Refusal:
        if names_cases(path):
            return refuse_cases(path)
        nearest = find_nearest_path(path, self.paths)
        # A Centrifuge SDK would mistake the echo of its commands for replies.
        if self.catch_all.enabled and nearest != _CENTRIFUGE and path not in CENTRIFUGE_HTTP:
            return self._command
        return refuse_unknown_path(path, nearest)
