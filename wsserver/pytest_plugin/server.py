"""
The server of a test: a process that runs `wsserver.pytest_plugin.child`, and this end of its pipes.

A process, because the reactor of Twisted can run only once in a process, and because a test may block its own event
loop. Nothing of Twisted is imported here.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from wsserver.pytest_plugin.connections import Connection, Connections, WaitError

__all__ = ["ServerError", "TestServer"]

START_TIMEOUT = 60.0
CALL_TIMEOUT = 30.0
MAX_LOG = 20_000
"""Number of characters of the log that the report of a failed test shows."""
POLL = 0.02
"""Maximum number of seconds between two checks of a condition."""

MAX_READ = 2**24
"""Number of bytes of the log that are read."""

OPCODES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
"""Opcode -> its name in the report of a failed test."""

CHILD = "from wsserver.pytest_plugin.child import main; main()"


class ServerError(Exception):
    """The server cannot do what a test asks for, or has ended."""


class TestServer:
    """
    A server in a process of its own, on a free port of the loopback interface.

    Args:
        settings: options of the server by name.

    Raises:
        ServerError: an option is invalid.
    """

    # pytest must not take the class for a class of tests.
    __test__ = False

    def __init__(self, settings: Mapping[str, Any] = {}) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        self._log_start = 0
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._replies: dict[int, Mapping[str, Any]] = {}
        self._calls = 0
        self._connections: dict[int, Connection] = {}
        self._has_ended = False
        self._port: int | None = None
        self._process = subprocess.Popen(  # noqa: S603 (our own program)
            # -P: the working directory may have modules of the same names, such as a checkout of this package.
            [sys.executable, "-P", "-c", CHILD, json.dumps(dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for pytest, which then ends this process, too.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="wsserver", daemon=True)
        self._reader.start()
        try:
            self.wait(lambda: self._port is not None, lambda: "the start of the server", START_TIMEOUT)
        except BaseException:
            self.stop()
            raise

    # The server.

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        assert self._port is not None
        return self._port

    @property
    def url(self) -> str:
        """The WebSocket URL of the server, without a path: `ws://127.0.0.1:40123`."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def http_url(self) -> str:
        """The HTTP URL of the server, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return not self._has_ended and self._process.poll() is None

    @property
    def log(self) -> str:
        """The log of the server since the beginning of the test."""
        return os.pread(self._log.fileno(), MAX_READ, self._log_start).decode("utf-8", "replace")

    @property
    def connections(self) -> Connections:
        """The connections since the beginning of the test, in the order of their handshakes."""
        self.sync()
        with self._changed:
            return Connections(list(self._connections.values()))

    # What the server does.

    def fault(self, path: str, fault: str = "echo", /, *, times: int | None = None, **parameters: object) -> None:
        """
        Add a fault to a path.

        Args:
            path: the path, such as `/echo`.
            fault: the name of the fault, as in `/faults/NAME`; `echo` for none, or for those that parameters name.
            times: for how many connections; None for all further ones of the test.
            parameters: the parameters of the fault. One that names a fault adds it, such as `close=1012`, or
                `drop=True`. A dictionary has the parameters of that fault: `close={"code": 1012, "after": 3}`. False
                leaves a parameter out.

        Raises:
            ServerError: the fault or a parameter is unknown, a value is invalid, or the faults cannot be combined.
        """
        __tracebackhide__ = True
        self.call("fault", path=path, fault=fault, parameters=_write(parameters), times=times)

    def replay(self, *files: str | os.PathLike[str], path: str | None = None, speed: float = 0.0) -> None:
        """
        Serve recorded connections: the first one to the first connection, and so on.

        Args:
            files: the recordings: downloads of a tap, or HARs of a browser.
            path: the path; None for the recorded ones.
            speed: how many times faster than recorded; 0 for no delays.

        Raises:
            ServerError: a file is not a recording.
        """
        self.call("replay", files=[os.path.abspath(file) for file in files], path=path, speed=speed)

    def publish(self, channel: str, data: str | bytes) -> None:
        """Publish to a channel, whose subscribers are clients at `/ws?channel=NAME`, `/sse` and Centrifuge SDKs."""
        text = data if isinstance(data, str) else data.hex()
        self.call("publish", channel=channel, data=text, binary=isinstance(data, bytes))

    # Waiting.

    def wait_for_connection(self, number: int = 1, timeout: float = 5.0) -> Connection:
        """
        Wait for a connection whose handshake the server has answered.

        Args:
            number: 1 for the first connection of the test, 2 for the second one.
            timeout: maximum number of seconds.

        Returns:
            The connection.

        Raises:
            WaitError: there have been fewer connections.
        """

        def has_come() -> bool:
            found = list(self._connections.values())
            return len(found) >= number and found[number - 1]._status is not None  # noqa: SLF001 (of this package)

        __tracebackhide__ = True
        self.wait(has_come, lambda: f"connection {number}", timeout)
        return self.connections[number - 1]

    def wait_for(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """
        Wait until a condition is true; it is checked whenever something happens on a connection.

        Args:
            condition: the condition; it may use the attributes of this server and its connections.
            timeout: maximum number of seconds.

        Raises:
            WaitError: the condition is still false.
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                raise WaitError(self._explain("a condition", timeout))
            with self._changed:
                self._changed.wait(POLL)

    # The pipes.

    def sync(self) -> None:
        """Wait until everything is known that the server has done so far."""
        self.call("sync")

    def reset(self) -> None:
        """Drop all connections, and forget them, the faults and the replays. The fixture does this between tests."""
        self.call("reset")
        with self._changed:
            self._connections.clear()
        self._log_start = os.fstat(self._log.fileno()).st_size

    def call(self, do: str, **arguments: Any) -> Any:
        """
        Send a request to the process, and wait for the result.

        Args:
            do: what to do.
            arguments: its arguments.

        Raises:
            ServerError: the process refuses, or has ended.
        """
        __tracebackhide__ = True
        with self._changed:
            self._calls += 1
            number = self._calls
        line = json.dumps({"call": number, "do": do, **arguments}).encode("utf-8") + b"\n"
        try:
            with self._writing:
                assert self._process.stdin is not None
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._ended() from None
        self.wait(lambda: number in self._replies, lambda: f"the server to {do}", CALL_TIMEOUT)
        reply = self._replies.pop(number)
        if "error" in reply:
            raise ServerError(reply["error"])
        return reply.get("result")

    def wait(self, condition: Callable[[], object], what: Callable[[], str], timeout: float) -> None:
        """
        Wait until a condition is true, which what the process writes can make true.

        Args:
            condition: the condition; it must not call the process.
            what: describes what has not happened.
            timeout: maximum number of seconds.

        Raises:
            WaitError: the condition is still false.
            ServerError: the process has ended.
        """
        __tracebackhide__ = True
        with self._changed:
            if not self._changed.wait_for(lambda: condition() or self._has_ended, timeout):
                raise WaitError(self._explain(what(), timeout))
            if not condition():
                raise self._ended()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with self._changed:
                self._take(message)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _take(self, message: Mapping[str, Any]) -> None:
        if "reply" in message:
            self._replies[message["reply"]] = message
        elif "port" in message:
            self._port = message["port"]
        elif "opened" in message:
            opened = message["opened"]
            self._connections[opened["number"]] = Connection(self, opened)
        elif (connection := self._connections.get(message["number"])) is not None:
            connection.add(message["event"])

    # Reports.

    def describe(self) -> str:
        """Return the connections of the test and the end of the log, for the report of a failed test."""
        with self._changed:
            found = list(self._connections.values())
        lines = [f"server at {self.url}"]
        for one in found:
            lines.append(repr(one))
            lines += [f"    {_show(event)}" for event in one._events[-20:]]  # noqa: SLF001 (of this package)
        return "\n".join([*lines, "", self.log[-MAX_LOG:]])

    def _ended(self) -> ServerError:
        error = ServerError("the server has ended")
        error.add_note(self.log[-MAX_LOG:])
        return error

    def _explain(self, what: str, timeout: float) -> str:
        found = "\n".join(f"  {one}" for one in self._connections.values()) or "  none"
        return f"waited {timeout:g} s for {what}; the connections are:\n{found}"

    def stop(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def _write(parameters: Mapping[str, object]) -> dict[str, Any]:
    """Return parameters of a fault as JSON can have them."""
    return {
        name: _write(value) if isinstance(value, Mapping) else _as_json(value) for name, value in parameters.items()
    }


def _as_json(value: object) -> object:
    return value if isinstance(value, bool) else str(value)


def _show(event: Mapping[str, Any]) -> str:
    arrow = {"in": "<-", "out": "->"}.get(event.get("direction", ""), "--")
    text = event.get("text", event.get("payload", event.get("line", "")))
    more = f" {event['code']} {event['reason']!r}" if "code" in event else f" {str(text)[:100]!r}"
    what = event["type"]
    if "opcode" in event:
        opcode = OPCODES.get(event["opcode"], f"opcode {event['opcode']}")
        what = f"{opcode}{'' if event['fin'] else ' (without FIN)'}{' (cut)' if what == 'cut' else ''}"
    return f"{event['t']:.3f} {arrow} {what}{more}"
