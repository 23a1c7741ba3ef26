"""The resources of the server's ports: the browser page, the page for operators, the probes and the descriptions."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.web.resource import Resource

from wsserver.closecodes import MEANINGS
from wsserver.endpoints.commands import Command
from wsserver.endpoints.routes import HELP, Router
from wsserver.typing import Path
from wsserver.web.admin import read_admin_page
from wsserver.web.api import API
from wsserver.web.asyncapi import describe_websockets
from wsserver.web.site import JSONDocument, Probe, Root, describe
from wsserver.web.sse import SSE
from wsserver.web.static import read_directory, static_directory
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ServerFactory

__all__ = ["Website"]


class Website:
    """
    Makes the resources of the ports.

    Args:
        connections: the WebSocket connections, and the options that can be reloaded.
        commands: name -> command.
        router: returns the current router: a reload replaces it.
        sse: the resource for `/sse`.
        problem: returns why the server cannot serve channels at the moment, as a sentence; None if it can.
    """

    def __init__(
        self,
        connections: ServerFactory,
        commands: Mapping[str, Command],
        router: Callable[[], Router],
        sse: SSE,
        problem: Callable[[], str | None],
    ) -> None:
        self._connections = connections
        self._commands = commands.values()
        self._router = router
        self._sse = sse
        self._problem = problem

    def describe(self, api: API | None) -> JSONDocument:
        """
        Make `/server.json`.

        Args:
            api: the API of the port; None if it has none.
        """
        return describe(
            self._helps(),
            ((command.name, command.help) for command in self._commands),
            MEANINGS,
            catch_all=lambda: self._router().catch_all.enabled,
            tap=lambda: self._connections.taps.enabled,
            faults=lambda: self._connections.settings.faults,
            api=lambda: "off" if api is None else api.access,
        )

    def operators_pages(self, about: JSONDocument) -> dict[bytes, Resource]:
        """
        Make the probes and the files of `/admin`.

        Args:
            about: the `/server.json` of the port.

        Returns:
            Name in the URL -> resource.
        """
        return {
            b"server.json": about,
            b"ready": Probe("ready", self._problem),
            b"health": Probe("alive", lambda: None),
            **read_admin_page(static_directory() / "admin"),
        }

    def root(self, others: Mapping[bytes, Resource]) -> Root:
        """
        Make the resource of the public port.

        Args:
            others: name in the URL -> resource; served in addition to the page and the description of the WebSockets.

        Raises:
            OSError: the directory of the page cannot be read.
        """
        pages: dict[bytes, Resource] = {
            **read_directory(static_directory()),
            b"asyncapi.json": JSONDocument(self._describe_websockets),
            **others,
        }
        if b"" in pages:
            pages[b".ws"] = pages[b""]
        return Root(
            pages,
            self._router().paths,
            sse=self._sse,
            refuse_websocket=self._refuse_websocket,
        )

    def _refuse_websocket(self, path: str, query: Mapping[str, list[str]]) -> Refusal | None:
        found = self._router().find(Path(path), query)
        return found if isinstance(found, Refusal) else None

    def _helps(self) -> dict[str, str]:
        return {path: HELP.get(path, "an endpoint of the application") for path in self._router().paths}

    def _describe_websockets(self) -> object:
        commands = [(one.name, one.help) for one in self._commands]
        return describe_websockets(self._helps(), commands, self._faults())

    def _faults(self) -> dict[str, Any] | None:
        if not self._connections.settings.faults:
            return None
        from wsserver.endpoints.faults.table import describe as describe_faults  # noqa: PLC0415 (only with --faults)

        return describe_faults()
