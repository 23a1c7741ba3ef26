"""The table path -> endpoint."""

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from wsserver.endpoints.command import CommandProtocol, SteadyReplies
from wsserver.endpoints.commands import Command, spell
from wsserver.endpoints.echo import EchoProtocol
from wsserver.endpoints.ticker import TickerProtocol
from wsserver.settings import Settings
from wsserver.typing import Path
from wsserver.wire.protocol import ServerFactory, ServerProtocol, bind

__all__ = ["HELP", "Table"]

HELP = {
    "/": "commands; everything else is echoed",
    "/echo": "every message back, byte for byte",
    "/ws": "the same as /",
    "/ticker": "pushes by itself: ?every=1s&count=3&text=tick",
}
"""Built-in path -> what is spoken there, for the page."""


class Table:
    """
    The endpoints of one server, each bound to its options.

    Args:
        settings: the server's options.
        factory: what its connections share.
        clock: for uptime, dates and ticks.
        commands: name -> command.
        more: endpoints of the application, by path, with or without its slashes; they go before the built-in ones.
    """

    def __init__(
        self,
        settings: Settings,
        factory: ServerFactory,
        clock: IReactorTime,
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
        self._paths |= {"/" + path.strip("/"): bind(protocol, factory) for path, protocol in more.items()}
        self._catch_all = None if settings.strict_paths else command

    @property
    def paths(self) -> list[str]:
        """The paths that have an endpoint of their own."""
        return list(self._paths)

    def find(self, path: Path) -> type[ServerProtocol] | None:
        """
        Find the endpoint of a path; a slash at its end does not matter.

        Args:
            path: percent-decoded.

        Returns:
            The class of its connections; None where there is none and paths are strict.
        """
        return self._paths.get(path.rstrip("/") or "/", self._catch_all)
