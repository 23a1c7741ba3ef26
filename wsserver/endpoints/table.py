"""The table path -> endpoint."""

import math
from collections.abc import Mapping
from difflib import get_close_matches

from twisted.internet.interfaces import IReactorTime

from wsserver.endpoints.centrifuge import CentrifugeProtocol
from wsserver.endpoints.centrifuge_gate import Gate
from wsserver.endpoints.command import CommandProtocol, SteadyReplies
from wsserver.endpoints.commands import Command, spell
from wsserver.endpoints.echo import EchoProtocol
from wsserver.endpoints.push import PushProtocol
from wsserver.endpoints.ticker import TickerProtocol
from wsserver.hub.admission import Admission
from wsserver.hub.channels import Format
from wsserver.hub.hub import Hub
from wsserver.settings import Settings
from wsserver.typing import Path
from wsserver.wire.protocol import ServerFactory, ServerProtocol, bind

__all__ = ["HELP", "Table"]

HELP = {
    "/": "commands; everything else is echoed",
    "/echo": "every message back, byte for byte",
    "/ws": "the same as /; with ?channel=NAME what is published to the channel",
    "/connection/websocket": "the Centrifuge client protocol (JSON), for the SDKs of Centrifugo",
    "/ticker": "pushes by itself: ?every=1s&count=3&text=tick",
}
"""Built-in path -> what is spoken there, for the page."""


class Table:
    """
    The endpoints of one server, each bound to its options.

    Args:
        settings: the server's options.
        factory: what its connections share.
        hub: the channels.
        admission: who may listen to them.
        clock: for uptime, dates and ticks.
        commands: name -> command.
        more: endpoints of the application, by path, with or without its slashes; they go before the built-in ones.
    """

    def __init__(
        self,
        settings: Settings,
        factory: ServerFactory,
        hub: Hub,
        admission: Admission,
        clock: IReactorTime,
        *,
        commands: Mapping[str, Command],
        more: Mapping[str, type[ServerProtocol]],
    ) -> None:
        command = bind(
            CommandProtocol,
            factory,
            commands=commands,
            words=spell(commands),
            steady=SteadyReplies(clock),
            clock=clock,
            server_started=clock.seconds(),
            zone=settings.timezone,
            reply_prefix=settings.reply_prefix.encode("utf-8"),
        )
        self._paths: dict[str, type[ServerProtocol]] = {
            "/": command,
            "/echo": bind(EchoProtocol, factory),
            "/ws": command,
            "/ticker": bind(TickerProtocol, factory, clock=clock),
        }
        self._paths["/connection/websocket"] = bind(
            CentrifugeProtocol,
            factory,
            hub=hub,
            gate=Gate(hub, admission),
            max_queued=settings.max_queued_bytes,
            ping_interval=math.ceil(settings.ping_interval),
            # Its pings are messages of the protocol.
            autoPingInterval=0,
        )
        self._paths |= {"/" + path.strip("/"): bind(protocol, factory) for path, protocol in more.items()}
        self._command = command
        self._push = bind(
            PushProtocol,
            factory,
            hub=hub,
            admission=admission,
            default_format=Format(settings.channel_format),
            max_queued=settings.max_queued_bytes,
            close_on_gap=settings.gap == "close",
        )
        self._catch_all = None if settings.strict_paths else command

    @property
    def paths(self) -> list[str]:
        """The paths that have an endpoint of their own."""
        return list(self._paths)

    def find(self, path: Path, query: Mapping[str, list[str]]) -> type[ServerProtocol] | None:
        """
        Find the endpoint of a path; a slash at its end does not matter.

        Args:
            path: percent-decoded.
            query: its parameters; `/ws?channel=foo` is another endpoint than `/ws`.

        Returns:
            The class of its connections; None where there is none and paths are strict.
        """
        path = Path(path.rstrip("/") or "/")
        # Whoever misspells it is told so: a connection that stays silent would be worse.
        wanted = path == "/ws" and get_close_matches("channel", (name.lower() for name in query), n=1, cutoff=0.8)
        if wanted and self._paths["/ws"] is self._command:
            return self._push
        return self._paths.get(path, self._catch_all)
