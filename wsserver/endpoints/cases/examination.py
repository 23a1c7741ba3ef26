"""
The run of one conformance case on one connection: send its frames, check the answers, and give a verdict.

This module does not use Twisted or a clock: its `Peer` has both.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from wsserver.endpoints.cases.frames import CLOSE, Frame, Violation
from wsserver.endpoints.cases.results import Result, SeenFrames, Verdict
from wsserver.endpoints.cases.script import (
    Case,
    Close,
    Closes,
    Event,
    Expected,
    Fails,
    Message,
    Ping,
    Plain,
    Pong,
    Rejects,
    Sendable,
    close_payload,
)
from wsserver.endpoints.cases.stream import ClientStream
from wsserver.wire.deflate import Deflate

__all__ = ["LATE", "TIMEOUT", "Examination", "Peer"]

TIMEOUT = 5.0
"""Seconds that a client has for an answer."""

LATE = 1.0
"""Seconds after which the rest of a message follows, of which the beginning was invalid: see `Fails.late`."""

MAX_SIZE = 4 * 1024**2
"""Maximum size of a message of a client, in bytes; four times that of the largest one that a case sends."""

MAX_PINGS = 100
"""Maximum number of pings of a client that are answered."""

_PONG = 0xA


class Peer(Protocol):
    """The connection of an examination."""

    def send(self, data: bytes, chop: int) -> None:
        """Send bytes, `chop` bytes at a time if it is not 0."""

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` after a time, unless `wait` is called again before."""

    def seconds(self) -> float:
        """Return the time since the end of the opening handshake, in seconds."""

    def finished(self, result: Result) -> None:
        """Store the result, and close the TCP connection."""


class Examination:
    """
    The run of a case. Calls `Peer.finished` once.

    Args:
        case: the case.
        codec: the compressor and decompressor; None without compression.
        peer: the connection.
        timeout: seconds that the client has for an answer.
    """

    def __init__(self, case: Case, codec: Deflate | None, peer: Peer, timeout: float = TIMEOUT) -> None:
        self.case = case
        self._codec = codec
        self._peer = peer
        self._timeout = timeout
        self._stream = ClientStream(codec, MAX_SIZE)
        self._steps = list(case.script.steps)
        self._pending: list[Expected] = []
        self._is_ending = False
        """Whether all steps are done, and the end of the connection is expected."""
        self._close: Close | None = None
        """The client's Close frame."""
        self._is_late = False
        """Whether the rest of an invalid message was sent: see `Fails.late`."""
        self._pings = 0
        self._masks: list[bytes] = []
        self._seen = SeenFrames()
        self._is_finished = False

    # Called by the connection.

    def begin(self) -> None:
        """Send the first frames."""
        self._proceed()

    @property
    def is_within_frame(self) -> bool:
        """Whether the client has sent a part of a frame."""
        return self._stream.is_within_frame

    def receive(self, data: bytes) -> None:
        """Process bytes from the client."""
        if self._is_finished:
            return
        if isinstance(self.case.script.ending, Rejects) and data.startswith(b"GET "):
            reason = "the client rejected the opening handshake, but sent another request on the same connection"
            self._finish(Verdict.INFORMATIONAL, reason)
            return
        try:
            for frame, event in self._stream.feed(data):
                self._seen.add(frame, by_client=True, seconds=self._peer.seconds())
                self._masks.append(frame.mask)
                if event is not None and not self._handle(event):
                    return
            if self._close is not None and self._stream.is_within_frame:
                raise Violation("the client sent data after its Close frame (section 5.5.1)")
        except Violation as error:
            self._finish(Verdict.FAIL, str(error))
            return
        if self._close is not None:
            self._handshake_done(self._close)

    def lost(self) -> None:
        """Process the end of the TCP connection."""
        if self._is_finished:
            return
        ending = self.case.script.ending
        if isinstance(ending, Rejects):
            self._finish(Verdict.PASS, "the client rejected the opening handshake")
        elif self._close is not None:
            self._finish(
                Verdict.INFORMATIONAL,
                "the client closed the TCP connection itself; it should wait for the server (section 7.1.1)",
            )
        elif not isinstance(ending, Fails):
            self._finish(
                Verdict.FAIL, f"the client dropped the TCP connection without a Close frame; {self._missing()}"
            )
        else:
            shown = _show_codes(ending.codes)
            reason = f"the client dropped the TCP connection; it should send a Close frame with {shown} (section 7.1.7)"
            self._finish(Verdict.INFORMATIONAL, reason)

    # The steps.

    def _proceed(self) -> None:
        """Send the next steps, until one expects answers or none is left."""
        while self._steps and not self._is_waiting():
            step = self._steps.pop(0)
            self._pending = list(step.expects)
            self._send(step.sends, step.chop)
        self._peer.wait(self._timeout, self._timed_out)
        if not self._is_waiting():
            self._end()

    def _is_waiting(self) -> bool:
        return any(not (isinstance(one, Pong) and one.is_optional) for one in self._pending)

    def _end(self) -> None:
        self._is_ending, ending = True, self.case.script.ending
        if isinstance(ending, Closes):
            self._pending = []
            if self.case.has_fresh_masks and len(set(self._masks)) < len(self._masks):
                self._finish(Verdict.FAIL, "the client used a masking key more than once (section 5.3)")
                return
            self._send((Plain(Frame(CLOSE, ending.payload)), *ending.late), ending.chop)
        elif isinstance(ending, Fails):
            self._pending = list(ending.tolerates)
            if ending.late:
                self._peer.wait(LATE, self._send_late)

    def _send_late(self) -> None:
        ending = self.case.script.ending
        assert isinstance(ending, Fails)
        self._is_late = True
        self._send(ending.late, 0)
        self._peer.wait(self._timeout, self._timed_out)

    def _send(self, sends: Sequence[Sendable], chop: int) -> None:
        frames = [frame for one in sends for frame in one.frames(self._codec)]
        for frame in frames:
            self._seen.add(frame, by_client=False, seconds=self._peer.seconds())
        if frames:
            self._peer.send(b"".join([frame.encode() for frame in frames]), chop)

    # The answers.

    def _handle(self, event: Event) -> bool:
        """Process a message or a control frame; return whether the case goes on."""
        if isinstance(event, Ping):
            self._answer_ping(event)
        elif isinstance(event, Close):
            self._handle_close(event)
        elif isinstance(self.case.script.ending, Rejects):
            self._finish(Verdict.FAIL, "the client accepted the opening handshake: it sent a frame")
        elif isinstance(event, Pong):
            self._handle_pong(event)
        else:
            self._handle_message(event)
        return not self._is_finished

    def _answer_ping(self, ping: Ping) -> None:
        self._pings += 1
        if self._pings <= MAX_PINGS and not self._is_ending:
            self._send((Plain(Frame(_PONG, ping.payload)),), 0)

    def _handle_pong(self, pong: Pong) -> None:
        found = next((one for one in self._pending if isinstance(one, Pong) and one.payload == pong.payload), None)
        if found is not None:
            self._pending.remove(found)
            self._advance()
        elif self._is_ending and isinstance(self.case.script.ending, Fails) and pong.payload:
            self._continued(f"the client did not fail the connection: it sent a pong with {pong.payload!r}")
        elif pong.payload and any(isinstance(one, Pong) for one in self._pending):
            self._finish(Verdict.FAIL, f"the client sent a pong with {pong.payload!r}; {self._missing()}")
        # Any other one is unsolicited, as section 5.5.3 permits.

    def _handle_message(self, message: Message) -> None:
        expected = next((one for one in self._pending if isinstance(one, Message)), None)
        if expected == message:
            self._pending.remove(message)
            self._advance()
        elif self._is_ending and isinstance(self.case.script.ending, Fails):
            self._continued(f"the client did not fail the connection: it sent {message}")
        elif expected is None:
            self._finish(Verdict.FAIL, f"the client sent {message}, but none was expected")
        else:
            self._finish(Verdict.FAIL, f"the client sent {message}; expected {_compare(expected, message)}")

    def _advance(self) -> None:
        if not self._is_ending and not self._is_waiting():
            self._proceed()

    def _continued(self, reason: str) -> None:
        ending = self.case.script.ending
        assert isinstance(ending, Fails)
        verdict = Verdict.FAIL if ending.is_required else Verdict.INFORMATIONAL
        self._finish(verdict, reason)

    def _handle_close(self, close: Close) -> None:
        self._close = close
        ending = self.case.script.ending
        if isinstance(ending, Fails):
            # The connection is closed for the client, whatever was still expected.
            self._is_ending = True
        elif isinstance(ending, Rejects):
            self._finish(Verdict.INFORMATIONAL, "the client sent a Close frame, although no connection was established")
        elif not self._is_ending:
            self._finish(Verdict.FAIL, f"the client closed with {_show_close(close)}; {self._missing()}")

    def _handshake_done(self, close: Close) -> None:
        """Judge a Close frame; nothing was sent after it."""
        ending = self.case.script.ending
        if isinstance(ending, Fails):
            self._send((Plain(Frame(CLOSE, b"" if close.code is None else close_payload(close.code))),), 0)
            self._finish(*self._judge_failure(close, ending))
        elif isinstance(ending, Closes) and ending.wait:
            self._peer.wait(ending.wait, lambda: self._judge_reply(close, ending))
        elif isinstance(ending, Closes):
            self._judge_reply(close, ending)

    def _judge_failure(self, close: Close, ending: Fails) -> tuple[Verdict, str]:
        shown, expected = _show_close(close), _show_codes(ending.codes)
        if close.code not in ending.codes:
            return Verdict.INFORMATIONAL, f"the client closed with {shown}; expected {expected}"
        if self._is_late:
            return Verdict.INFORMATIONAL, f"the client failed the connection with {shown}, at the end of the message"
        return Verdict.PASS, f"the client failed the connection with {shown}"

    def _judge_reply(self, close: Close, ending: Closes) -> None:
        shown = _show_close(close)
        if close.code in ending.replies:
            self._finish(Verdict.PASS, f"the client answered as expected, and closed with {shown}")
        else:
            expected = _show_codes(ending.replies)
            reason = f"the client answered the Close frame with {shown}; expected {expected} (section 5.5.1)"
            self._finish(Verdict.INFORMATIONAL, reason)

    # The end.

    def _timed_out(self) -> None:
        ending = self.case.script.ending
        limit = f"within {self._timeout:g} s"
        if isinstance(ending, Rejects):
            self._finish(Verdict.FAIL, f"the client did not close the TCP connection {limit}")
        elif self._is_ending and isinstance(ending, Fails):
            self._continued(f"the client did not fail the connection {limit}")
        elif self._is_ending:
            self._finish(Verdict.FAIL, f"the client did not answer the Close frame {limit} (section 5.5.1)")
        else:
            self._finish(Verdict.FAIL, f"the client did not answer {limit}; {self._missing()}")

    def _missing(self) -> str:
        ending = self.case.script.ending
        if self._is_ending:
            return "expected a Close frame" if isinstance(ending, Closes) else "expected a failed connection"
        return f"expected {self._pending[0]}" if self._pending else "expected nothing"

    def skip(self, reason: str) -> None:
        """End the case without a test: it does not apply to the client."""
        self._finish(Verdict.INFORMATIONAL, reason, is_tested=False)

    def abandon(self) -> None:
        """End the case without a result."""
        self._is_finished = True

    def _finish(self, verdict: Verdict, reason: str, *, is_tested: bool = True) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        if self._close is None and not isinstance(self.case.script.ending, Rejects):
            # The client may continue with the next case.
            self._peer.send(Frame(CLOSE, close_payload(1000)).encode(), 0)
        seen = self._seen
        self._peer.finished(
            Result(self.case.id, verdict, reason, self._peer.seconds(), seen.kept(), seen.count, is_tested)
        )


def _compare(expected: Message, received: Message) -> str:
    """Return what was expected in place of a message."""
    if expected.payload == received.payload:
        return "the same as a binary message" if expected.is_binary else "the same as a text message"
    if len(expected.payload) == len(received.payload):
        at = next(at for at, (a, b) in enumerate(zip(expected.payload, received.payload, strict=True)) if a != b)
        return f"{expected}, which differs from byte {at}"
    return str(expected)


def _show_close(close: Close) -> str:
    if close.code is None:
        return "no close code"
    return f"{close.code} {close.reason.decode()!r}" if close.reason else str(close.code)


def _show_codes(codes: Sequence[int | None]) -> str:
    return " or ".join("no close code" if code is None else str(code) for code in codes)
