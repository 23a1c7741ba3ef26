"""
The process of a test server: it serves, reports what happens on its connections, and does what the test asks for.

It reads requests from standard input and writes replies and events to standard output, each a JSON object on a line. It
ends when standard input is closed.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorCore
from twisted.internet.protocol import connectionDone
from twisted.logger import globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.endpoints.faults import make_fault
from wsserver.endpoints.recordings import read_files
from wsserver.endpoints.replay import replay_endpoints
from wsserver.errors import WsserverError
from wsserver.hub.deferreds import waits
from wsserver.logging import LogSettings, make_observer
from wsserver.service import WebSocketService
from wsserver.typing import ChannelName, Path
from wsserver.web.tap_formats import describe
from wsserver.wire.http11 import Refusal, Request
from wsserver.wire.protocol import ServerProtocol, bind
from wsserver.wire.tap_events import Tap
from wsserver.wire.tap_readers import Event
from wsserver.wire.timers import use_monotonic_clock

__all__ = ["main"]

Make = Callable[[], ServerProtocol]

DEFAULTS = {
    "port": 0,
    "faults": True,
    "tap": "on",
    "max_taps": 10_000,
    "drain_jitter": 0.0,
    "max_fault_connections": 1000,
}
"""Options that differ from those of an ordinary server."""


class _Override:
    """An endpoint that a path serves in place of its own one, for all or for some connections."""

    def __init__(self, make: Make, times: int | None) -> None:
        self._make, self._left = make, times

    @property
    def is_endless(self) -> bool:
        return self._left is None

    @property
    def is_used_up(self) -> bool:
        return self._left == 0

    def make(self) -> ServerProtocol:
        if self._left is not None:
            self._left -= 1
        return self._make()


class _Watcher:
    """Reads the tap of one connection."""

    def __init__(self, control: "_Control", tap: Tap, request: Request, payload: int) -> None:
        self.payload = payload
        self._control, self._tap = control, tap
        self._request: Request | None = request
        self._early: list[Event] = []

    def on_event(self, event: Event) -> None:
        # The number of the connection is known once its handshake is answered.
        self._early.append(event)
        if self._tap.number is None:
            return
        if self._request is not None:
            self._open(self._request)
            self._request = None
        early, self._early = self._early, []
        for one in early:
            self._control.write(number=self._tap.number, event=describe(one, self.payload))

    def _open(self, request: Request) -> None:
        self._control.write(
            opened={
                "number": self._tap.number,
                "id": self._tap.connection_id,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
            }
        )

    def on_gap(self, missed: int) -> None:
        # It reads from the start, and the tap leaves out no frame.
        raise AssertionError(f"{missed} events of a connection are missing")

    def on_end(self) -> None:
        self._control.taps.forget(self._tap)


class _Control(LineOnlyReceiver):
    """The pipes to the test."""

    delimiter = b"\n"
    MAX_LENGTH = 256 * 1024**2

    def __init__(self, service: WebSocketService, reactor: Any) -> None:
        self._service, self._reactor = service, reactor
        self._server = service.connections
        self._overrides: dict[str, list[_Override]] = {}
        self._find = service.frontend.find
        service.frontend.find = self._find_overridden
        self.taps = self._server.taps
        self.taps.watch = self._watch

    def write(self, **message: Any) -> None:
        """Send a message to the test."""
        assert self.transport is not None
        self.transport.write(json.dumps(message).encode("ascii") + b"\n")

    def connectionMade(self) -> None:
        """Send the port to the test."""
        address: Any = self._service.ports[0].getHost()
        self.write(port=address.port)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """End: the test has ended."""
        if self._reactor.running:
            self._reactor.stop()

    def lineReceived(self, line: bytes) -> None:
        """Do what the test asks for."""
        request = json.loads(line)
        number, do = request.pop("call"), request.pop("do")
        try:
            result = getattr(self, f"_do_{do}")(**request)
        except (WsserverError, ValueError, TypeError) as error:
            self.write(reply=number, error=str(error))
            return
        except Exception as error:
            # The server goes on, for the other tests.
            self.write(reply=number, error=f"{type(error).__name__}: {error}")
            return
        if waits(result):
            result.addCallbacks(
                lambda _: self.write(reply=number), lambda failure: self.write(reply=number, error=str(failure.value))
            )
        else:
            self.write(reply=number)

    # The connections.

    def _watch(self, tap: Tap, connection: ServerProtocol, request: Request) -> None:
        # A test relies on every message. The server has no other clients that would wait.
        tap.shows_all = True
        tap.add_reader(_Watcher(self, tap, request, connection.maxMessagePayloadSize))

    def _find_overridden(self, path: Path, query: Mapping[str, list[str]]) -> Make | Refusal:
        found = self._overrides.get(path.rstrip("/") or "/", [])
        while found and found[0].is_used_up:
            del found[0]
        return found[0].make if found else self._find(path, query)

    def _connection(self, number: int) -> ServerProtocol:
        for one in self._server.connections:
            if isinstance(one, ServerProtocol) and one.number == number:
                return one
        raise ValueError("the connection is not open")

    # What the test asks for.

    def _do_sync(self) -> None:
        pass

    def _do_reset(self) -> None:
        self._overrides.clear()
        for socket in self._server.sockets:
            if isinstance(socket, ServerProtocol):
                socket.transport.abortConnection()

    def _do_fault(self, path: str, fault: str, parameters: Mapping[str, object], times: int | None) -> None:
        # A test wants a fault at once, unless it names a time.
        self._override(path, bind(make_fault(fault, parameters, wait=0.0), self._server), times)

    def _do_replay(self, files: list[str], path: str | None, speed: float) -> None:
        recordings = read_files(files)
        for where, endpoint in replay_endpoints(recordings, self._reactor, speed=speed, path=path).items():
            assert isinstance(endpoint, type)
            self._override(where, bind(endpoint, self._server), None)

    def _override(self, path: str, endpoint: Make, times: int | None) -> None:
        if not path.startswith("/"):
            raise ValueError(f"path {path!r}: expected a path such as '/echo'")
        if times is not None and times < 0:
            raise ValueError(f"times {times}: expected a number from 0")
        path = path.rstrip("/") or "/"
        # The one for all further connections comes after those for some.
        found = [one for one in self._overrides.get(path, []) if not one.is_endless]
        self._overrides[path] = [*found, _Override(endpoint, times)]

    def _do_send(self, number: int, binary: bool, payload: str) -> None:
        self._connection(number).sendMessage(bytes.fromhex(payload) if binary else payload.encode("utf-8"), binary)

    def _do_ping(self, number: int, payload: str) -> None:
        self._connection(number).sendPing(bytes.fromhex(payload))

    def _do_close(self, number: int, code: int, reason: str) -> None:
        self._connection(number).close(code, reason)

    def _do_drop(self, number: int) -> None:
        self._connection(number).transport.abortConnection()

    def _do_publish(self, channel: str, data: str, binary: bool) -> Any:
        return self._service.hub.publish(ChannelName(channel), bytes.fromhex(data) if binary else data)


def main() -> None:
    """Run the server until standard input is closed; the argument is a JSON object with its options."""
    from twisted.internet import reactor as installed  # noqa: PLC0415 (importing it installs it)
    from twisted.internet.stdio import StandardIO  # noqa: PLC0415 (it imports the reactor)

    reactor: Any = IReactorCore(installed)
    use_monotonic_clock(reactor)
    globalLogBeginner.beginLoggingTo([make_observer(sys.stderr, LogSettings())], redirectStandardIO=False)
    try:
        service = WebSocketService(Settings(**(DEFAULTS | json.loads(sys.argv[1]))), reactor)
        service.privilegedStartService()
        service.startService()
    except (WsserverError, TypeError) as error:
        raise SystemExit(f"wsserver_settings: {error}") from None
    control = _Control(service, reactor)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(StandardIO, control)
    reactor.run()
