"""Replay: an endpoint that sends what a recorded server has sent, in step with the messages of the client."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from itertools import count
from math import inf
from typing import Any, ClassVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from wsserver.endpoints.recordings import Message, Recording, Step
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ConnectionRequest, Denied, ServerProtocol

__all__ = ["ReplayProtocol", "replay_endpoints"]

_log = Logger(namespace="wsserver.replay")


class ReplayProtocol(ServerProtocol):
    """
    Send the messages of a recording.

    A message that the server sent after the n-th message of the client is sent after the n-th message of this client,
    and after the recorded delay. The content of the client's messages does not matter; the log says if it differs.
    """

    clock: ClassVar[IReactorTime]
    recordings: ClassVar[Sequence[Recording]]
    """The recordings of the path: one for each connection, in order; the last one for all further connections."""
    speed: ClassVar[float]
    """How many times faster than recorded; 0 for no delays."""
    taken: ClassVar[Any]

    _call: IDelayedCall | None = None
    _next = _received = 0
    _write_blocked = _is_playing = False

    def onConnect(self, request: ConnectionRequest) -> Any:
        """
        Choose the recorded subprotocol if the client offers it.

        Raises:
            Denied: the recorded server has refused the handshake.
        """
        self._recording = self.recordings[min(next(self.taken), len(self.recordings) - 1)]
        status = self._recording.status
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            raise Denied(Refusal(HTTPStatus(status), "the recorded server has refused this handshake"))
        chosen = self._recording.subprotocol
        return chosen if chosen in request.protocols else super().onConnect(request)

    def onOpen(self) -> None:
        """Begin."""
        self._play()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Count a message of the client."""
        expected = self._recording.received
        if self._received >= len(expected):
            self._log_difference("surplus")
        elif (recorded := expected[self._received]) is not None and recorded != Message(isBinary, payload):
            self._log_difference("content")
        self._received += 1
        self._play()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """Stop."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _log_difference(self, kind: str) -> None:
        _log.info(
            "replay differs in={kind} number={number} client_message={client_message}",
            kind=kind,
            number=self.number,
            client_message=self._received + 1,
        )

    def _play(self) -> None:
        """Do the steps that are due, and schedule the next one."""
        # A step may cause a callback that calls this method.
        if self._is_playing:
            return
        self._is_playing = True
        while self._call is None and not self._write_blocked and self.state == self.STATE_OPEN:
            step = self._find_next()
            if step is None:
                break
            if self.speed and step.delay:
                self._call = self.clock.callLater(step.delay / self.speed, self._do_and_play, step)
            else:
                self._do(step)
        self._is_playing = False

    def _find_next(self) -> Step | None:
        steps = self._recording.steps
        step = steps[self._next] if self._next < len(steps) else None
        return step if step is not None and step.after <= self._received else None

    def _do_and_play(self, step: Step) -> None:
        self._call = None
        if self.state == self.STATE_OPEN:
            self._do(step)
            self._play()

    def _do(self, step: Step) -> None:
        self._next += 1
        if step.message is not None:
            self.sendMessage(step.message.payload, step.message.is_binary)
        elif step.drops:
            self.transport.abortConnection()
        else:
            self.sendCloseFrame(step.code, step.reason.encode("utf-8"))

    def pauseProducing(self) -> None:
        """Pause: the client does not read."""
        self._write_blocked = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: the client reads again."""
        super().resumeProducing()
        self._write_blocked = False
        self._play()


def replay_endpoints(
    recordings: Sequence[Recording], clock: IReactorTime, *, speed: float, path: str | None = None
) -> Mapping[str, Callable[[], ServerProtocol] | type[ServerProtocol]]:
    """
    Return the endpoints that replay recordings, for the argument `endpoints=` of `WebSocketService`.

    Args:
        recordings: the recordings.
        clock: schedules the messages.
        speed: how many times faster than recorded; 0 for no delays.
        path: the path of all recordings; None for the recorded ones.

    Raises:
        ValueError: the speed is negative or infinite.
    """
    if not 0 <= speed < inf:
        raise ValueError(f"speed {speed}: expected a number from 0")
    by_path: dict[str, list[Recording]] = {}
    for one in recordings:
        by_path.setdefault(path or one.path.rstrip("/") or "/", []).append(one)
    return {where: _endpoint(found, clock, speed) for where, found in by_path.items()}


def _endpoint(recordings: Sequence[Recording], clock: IReactorTime, speed: float) -> type[ServerProtocol]:
    attributes = {"recordings": recordings, "clock": clock, "speed": speed, "taken": count()}
    return type("ReplayProtocol", (ReplayProtocol,), attributes)
