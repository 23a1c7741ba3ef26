"""
Compare the fast path with Autobahn's: the same bytes, cut at the same positions, must have the same effects.

    python tests/fuzz/differential.py [--examples N] [--seed N]

Each case of `streams.py` is run three times in memory: with every byte through Autobahn's state machine, and on the
fast path with the compiled twins and with the Python ones. The calls of the endpoint, the frames to the client, the
state after each piece, the end of the connection and its log lines are compared. The exit code is 1 at the first
difference. A seed gives the same cases each time.

This does not show that Autobahn is right; the compliance tests do.

"""

import argparse
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from random import Random, SystemRandom
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from streams import PLANS, Case, make_case
from twisted.logger import globalLogBeginner, globalLogPublisher
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.testing import MemoryClient, MemoryServer, parse_frames
from wsserver.wire import deflate, fastpath, frames
from wsserver.wire.fastpath import PyFastPath
from wsserver.wire.protocol import ServerProtocol

__all__ = ["CODECS", "AutobahnPath", "FastPath", "Record", "StockPath", "compare", "run"]

OWN_PING = b"are you there?"
# The endpoint, on every path.


class FastPath(ServerProtocol):
    """The connection as the server makes it."""


CODECS: dict[str, type] = {"python": FastPath}
"""The available fast paths by name."""

if frames.COMPILED:
    CODECS = {"compiled": FastPath, "python": type("PythonPath", (PyFastPath, ServerProtocol), {})}


class AutobahnPath(ServerProtocol):
    """
    A connection on which Autobahn's state machine parses every byte and builds every frame.

    It keeps the intended differences from stock Autobahn: nothing is delivered after a Close frame was sent, input
    after a failure is skipped, and an exception of an endpoint closes with 1011.
    """

    def dataReceived(self, data):
        try:
            self._dataReceived(data)
        except Exception:
            self._crash(Failure())

    def onMessageEnd(self):
        payload, self.message_data = bytes(self.message_data), bytearray()
        if self.state == self.STATE_OPEN and not self.failedByMe:
            self.messages_in += 1
            self.bytes_in += len(payload)
            try:
                self.onMessage(payload, self.message_is_binary)
            except Exception:
                self._crash(Failure())

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False, doNotCompress=False):
        if fragmentSize is not None or self.state != self.STATE_OPEN:
            super().sendMessage(payload, isBinary, fragmentSize, sync, doNotCompress)
            return
        self.messages_out += 1
        self.bytes_out += len(payload)
        rsv, deflate = 0, self._perMessageCompress
        if deflate is not None:
            rsv = 4
            deflate.start_compress_message()
            # An empty message may be compressed in two ways; the state machine's own is valid, but different.
            payload = deflate.compress_message_data(payload) + deflate.end_compress_message() if payload else b"\0"
        self.sendFrame(opcode=2 if isBinary else 1, payload=payload, rsv=rsv)


class StockPath(AutobahnPath):
    """
    A connection of Autobahn without this project's changes.

    It behaves like the server until the first Close frame is sent.
    """

    onMessageBegin = WebSocketServerProtocol.onMessageBegin
    onMessageFrameData = WebSocketServerProtocol.onMessageFrameData
    onMessageFrameEnd = WebSocketServerProtocol.onMessageFrameEnd
    onMessageEnd = WebSocketServerProtocol.onMessageEnd
    onFrameData = WebSocketServerProtocol.onFrameData
    onFrameEnd = WebSocketServerProtocol.onFrameEnd


class Endpoint:
    """Record all calls, and react to each message as the plan says."""

    latest: "Endpoint"
    plan: tuple[str, ...]

    def onOpen(self):
        Endpoint.latest = self
        self.events = []

    def onMessage(self, payload, isBinary):
        self.events.append(("message", type(payload), payload, isBinary))
        act = self.plan[zlib.crc32(payload) % len(self.plan)]
        ACTS[act](self, payload, isBinary)

    def onPing(self, payload):
        self.events.append(("ping", payload))
        if payload == b"ppppp":
            raise RuntimeError("asked to fail in onPing")
        super().onPing(payload)

    def onPong(self, payload):
        self.events.append(("pong", payload))

    def onClose(self, wasClean, code, reason):
        self.events.append(("close", wasClean, code, reason))

    def echo(self, payload, is_binary):
        self.sendMessage(payload, is_binary)

    def send_several(self, payload, is_binary):
        for n in range(3):
            self.sendMessage(payload * n, is_binary)

    def send_large(self, payload, is_binary):
        self.sendMessage(b"large" * 15_000, True)
        self.sendMessage(payload, is_binary)

    def send_ping(self, payload, is_binary):
        self.sendMessage(b"1", True)
        self.sendPing(OWN_PING)
        self.sendMessage(b"2", True)

    def send_fragments(self, payload, is_binary):
        self.sendMessage(payload[:500], True, fragmentSize=50)

    def keep_silent(self, payload, is_binary):
        pass

    def pause(self, payload, is_binary):
        self.sendMessage(payload, is_binary)
        self.pauseProducing()
        self.factory.reactor.callLater(0.25, self.resumeProducing)

    def finish(self, payload, is_binary):
        self.close(4000, "enough")
        self.sendMessage(b"never delivered")

    def answer_and_finish(self, payload, is_binary):
        self.sendMessage(payload, is_binary)
        self.close(1001, "é" * 100)

    def fail_here(self, payload, is_binary):
        self.sendMessage(b"before", False)
        raise RuntimeError("asked to fail")

    def abort(self, payload, is_binary):
        self.sendMessage(payload, is_binary)
        # An abort discards unwritten data, which is more if replies are collected for one write.
        self._uncork()
        self.transport.abortConnection()

    def drop(self, payload, is_binary):
        self.sendMessage(payload, is_binary)
        self.dropConnection()


ACTS: dict[str, Callable[[Any, bytes, bool], None]] = {
    "echo": Endpoint.echo,
    "several": Endpoint.send_several,
    "large": Endpoint.send_large,
    "ping": Endpoint.send_ping,
    "fragments": Endpoint.send_fragments,
    "silent": Endpoint.keep_silent,
    "pause": Endpoint.pause,
    "close": Endpoint.finish,
    "answer and close": Endpoint.answer_and_finish,
    "raise": Endpoint.fail_here,
    "abort": Endpoint.abort,
    "drop": Endpoint.drop,
}


# One case, one path.


@dataclass(slots=True)
class Record:
    """The observed effects of a connection."""

    events: list[Any] = field(default_factory=list)
    """The calls of the endpoint, in order."""
    frames: list[Any] = field(default_factory=list)
    """The frames to the client, in order."""
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    """After each piece: the number of events, the number of bytes, and the state."""
    log: list[Any] = field(default_factory=list)
    """The logged events."""
    end: tuple[Any, ...] = ()
    """The end of the connection."""


@cache
def _server(path: type[ServerProtocol], plan: str, limit: int) -> MemoryServer:
    endpoint = type("Planned", (Endpoint, path), {"plan": PLANS[plan]})
    settings = Settings(
        max_message_size=limit,
        compression="on",
        compression_context_takeover="on",
        compression_min_size=0,
        ping_interval=25,
        ping_timeout=10,
        close_timeout=5,
        # What the Autobahn library does not limit.
        message_timeout=0,
        handshake_rate_per_address=0,
        max_connections_per_address=0,
    )
    return MemoryServer(settings, endpoints={"/": endpoint})


def run(case: Case, path: type[ServerProtocol]) -> Record:
    """
    Run a case on one path.

    Args:
        case: the client's actions.
        path: `FastPath`, `AutobahnPath` or another subclass.

    Returns:
        The effects.

    Raises:
        AssertionError: the connection hangs, or leaves timers or connections behind.
    """
    server, record = _server(path, case.plan, case.limit), Record()
    twins = _python_twins() if path is CODECS["python"] else nullcontext()
    with twins, _zlib_alone(), _log_to(record.log):
        client = server.connect()
        _converse(case, server, client, record)
        _finish(case, server, client, record)
    return record


def _converse(case: Case, server: MemoryServer, client: MemoryClient, record: Record) -> None:
    headers = {"Sec-WebSocket-Extensions": case.offer} if case.offer else {}
    transport, pieces, head = client.transport, list(case.pieces()), client.head("/", headers)
    transport.reading = not (case.stalled and not case.early)
    if case.early:
        head += pieces.pop(0)[0]
    client.send(head)
    if not (transport.written or transport.unread):
        # The budget of this turn has been used up by the case before.
        server.clock.advance(0)
    transport.written += transport.unread
    transport.unread.clear()
    assert client.response(), f"the handshake was refused: {bytes(client.transport.written[:300])!r}"
    connection: Any = Endpoint.latest
    if case.early and not case.impatient:
        _wait(server, client)
    for piece, seconds in pieces:
        client.send(piece)
        if not case.impatient:
            _wait(server, client)
            record.steps.append((len(connection.events), len(transport.written + transport.unread), connection.state))
        if seconds:
            server.clock.advance(seconds)
    if case.impatient:
        _wait(server, client)
    record.steps.append((len(connection.events), len(transport.written + transport.unread), connection.state))


def _wait(server: MemoryServer, client: MemoryClient) -> None:
    """Wait until the server reads again. If the server has paused reading, a client that does not read starts to."""
    transport, connection = client.transport, Endpoint.latest
    for _ in range(200):
        server.clock.advance(0)
        if transport.lost or not transport.paused or connection.state == ServerProtocol.STATE_CLOSED:
            return
        if not transport.reading:
            transport.read_again()
        else:
            server.clock.advance(0.05)
    raise AssertionError("the server does not read any more")


def _finish(case: Case, server: MemoryServer, client: MemoryClient, record: Record) -> None:
    transport, connection = client.transport, Endpoint.latest
    if not transport.reading:
        transport.read_again()
    if case.lost:
        transport.lose()
    for _ in range(45):
        if transport.lost:
            break
        server.clock.advance(1)
    # Let a paused endpoint finish, and cancelled deadlines pass.
    server.clock.pump([30, 30])
    sent, rest = parse_frames(bytes(transport.written + transport.unread))
    record.events = connection.events
    record.frames = [
        # The server's own pings contain the time and a random number.
        (frame.opcode, frame.payload if frame.opcode != 9 or frame.payload == OWN_PING else b"", frame.fin, frame.rsv)
        for frame in sent
    ]
    record.end = (rest, connection.state, connection.wasClean, connection.localCloseCode, transport.aborted)
    assert transport.lost, "the connection outlives all deadlines"
    assert not server.service.connections.connections, "the connection is not forgotten"
    assert not server.clock.getDelayedCalls(), "a timer is left"


@contextmanager
def _zlib_alone() -> Iterator[None]:
    # isal may compress the same message in several valid ways.
    before = deflate.DEFLATER
    deflate.DEFLATER = deflate.LIBRARIES["zlib"]  # type: ignore[misc]
    try:
        yield
    finally:
        deflate.DEFLATER = before  # type: ignore[misc]


@contextmanager
def _python_twins() -> Iterator[None]:
    before = frames.parse, frames.build, fastpath.Partial
    frames.parse, frames.build, fastpath.Partial = frames.py_parse, frames.py_build, frames.PyPartial  # type: ignore[misc]
    try:
        yield
    finally:
        frames.parse, frames.build, fastpath.Partial = before  # type: ignore[misc]


LOGGED = ("code", "by", "clean", "reason", "messages_in", "bytes_in", "messages_out", "bytes_out")


@contextmanager
def _log_to(lines: list[Any]) -> Iterator[None]:
    def observe(event: Any) -> None:
        if "log_failure" in event:
            lines.append(repr(event["log_failure"].value))
        elif "bytes_in" in event:
            lines.append({name: event[name] for name in LOGGED})

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)


# All paths.


def compare(case: Case) -> None:
    """
    Run a case on all paths.

    Args:
        case: the client's actions.

    Raises:
        AssertionError: the paths differ; the message says in what.
    """
    expected = run(case, AutobahnPath)
    for codec, path in CODECS.items():
        found = run(case, path)
        for name in Record.__slots__:
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert ours == theirs, f"{name} ({codec}):\nfast path {_short(ours)}\nAutobahn  {_short(theirs)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 2000 else f"{text[:1500]} ... {text[-400:]}"


def main() -> int:
    """Compare random cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator (default: a new one for each run)")
    options = parser.parse_args()
    seed = options.seed or SystemRandom().randrange(1, 2**31)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    print(f"seed {seed}, codecs: {', '.join(CODECS)}", flush=True)
    started = time.monotonic()
    for number in range(1, options.examples + 1):
        case = make_case(Random(f"{seed}/{number}"))
        try:
            compare(case)
        except Exception:
            print(f"case {number} of seed {seed}: {case}", file=sys.stderr)
            traceback.print_exc()
            return 1
        if number % 10_000 == 0:
            print(f"{number} cases, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{options.examples} cases, {time.monotonic() - started:.0f} s: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
