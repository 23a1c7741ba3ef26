"""
Processes: start servers and loads, pin each to a core, measure them through /proc, and always stop them.

This module must stop only processes that it has started, each by its PID.
"""

# ruff: noqa: S603 (the commands are those in `peers.py`)

import json
import os
import resource
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from installers import BENCH, PYTHON
from peers import FOLDER, Peer
from toolchain import HERE, LOAD

__all__ = ["MeasureError", "Server", "cores", "holding", "load", "open_files", "serving"]

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class MeasureError(Exception):
    """A server or the load failed; the message says why."""


def cores() -> tuple[int, int]:
    """Return the core of the server and the core of the load."""
    able = sorted(os.sched_getaffinity(0))
    if len(able) < 2:
        raise MeasureError("two cores are needed: one for the server, one for the load")
    return able[0], able[1]


def open_files() -> int:
    """Raise the limit of open files to the hard limit and return it; child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def start(core: int, command: Sequence[str | Path], **more: object) -> subprocess.Popen[bytes]:
    """Start a process pinned to a core."""
    able = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen([str(part) for part in command], **more)
    finally:
        os.sched_setaffinity(0, able)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process; kill it if it has not ended after `STOP_SECONDS`."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    redis: int = 0
    """Port of its Redis; 0 for none."""

    started: float = 0
    """Seconds from the start of the process until it accepted connections."""

    def pids(self) -> list[int]:
        """Return the pids of the process and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def kilobytes(self) -> int:
        """Return its memory in kB: Pss, which divides shared pages among the processes that share them."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:"))

    def cpu(self) -> float:
        """Return the CPU time in seconds that it has used."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(peer: Peer, needs: str, options: Sequence[str]) -> Iterator[Server]:
    """Start a server, and a Redis for it if needed; wait until it listens. Both are stopped at the end."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server()) if needs == "redis" else 0
        more = ["--redis", f"redis://127.0.0.1:{redis}"] if redis else []
        server = stack.enter_context(_serving(peer, needs, [*options, *more]))
        if redis:
            server.redis = redis
            wait_until_ready(server.port)
        yield server


@contextmanager
def redis_server() -> Iterator[int]:
    """Start a Redis without persistence on the core of the load; yields its port."""
    port = free_port()
    if shutil.which("redis-server") is None:
        raise MeasureError("no redis-server here")
    log = BENCH / "redis.log"
    line = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with log.open("wb") as output:
        process = start(cores()[1], line, cwd=BENCH, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(process, port, log)
            yield port
        finally:
            stop(process)


def wait_until_ready(port: int) -> None:
    """Wait until a server is ready: connected to its Redis."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
            return
        time.sleep(0.1)
    raise MeasureError("the server doesn't hear its Redis")


@contextmanager
def _serving(peer: Peer, needs: str, options: Sequence[str]) -> Iterator[Server]:
    port = free_port()
    log = BENCH / f"{peer.name}.log"
    environment = os.environ | {"GOMAXPROCS": "1", "NODE_PATH": str(BENCH / "node" / "node_modules")}
    with log.open("wb") as output:
        process = start(
            cores()[0],
            command(peer, port, needs, options),
            cwd=BENCH,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Server(process, port, started=wait_for(process, port, log))
            if process.poll() is not None:
                raise MeasureError(f"the server ended on its own: {last_words(log)}")
        finally:
            stop(process)


def command(peer: Peer, port: int, needs: str, options: Sequence[str]) -> list[str]:
    """Return the command line of a server."""
    places = {"bench": BENCH, "servers": FOLDER / "servers", "python": PYTHON, "port": port, "here": HERE}
    chosen = {"fanout": peer.fanout, "channels": peer.channels}.get(needs, peer.command)
    line = [part.format(**places) for part in chosen]
    if peer.kind == "here":
        tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"] if needs == "tls" else []
        return [*line, *options] if needs == "fanout" else [*line, "--port", str(port), *tls, *options]
    asked = {
        "compression": ["--compression"],
        "commands": ["--commands"],
        "tls": ["--cert", "cert.pem", "--key", "key.pem"],
        "ping": ["--ping", "25"],
    }.get(needs, [])
    return [*line[:-1], *asked, line[-1]]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> float:
    """Wait until a server that was just started accepts connections; return how many seconds that took."""
    began = time.monotonic()
    limit = began + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            seconds = time.monotonic() - began
            time.sleep(0.2)
            return seconds
        if process.poll() is not None:
            raise MeasureError(f"the server didn't start: {last_words(log)}")
        if time.monotonic() > limit:
            raise MeasureError(f"nothing listens after {START_SECONDS:.0f} s: {last_words(log)}")
        time.sleep(0.005)


def last_words(log: Path) -> str:
    """Return the last line of a log."""
    return log.read_text(errors="replace").strip().rpartition("\n")[2] or "its log is empty"


def load(server: Server, arguments: Sequence[str], seconds: float, warmup: float) -> dict[str, float]:
    """Run the load against a server and return its figures."""
    times = ["--duration", str(seconds), "--warmup", str(warmup)]
    pids = [word for pid in server.pids() for word in ("--pid", str(pid))]
    work = [part.format(redis=server.redis) for part in arguments]
    line = [LOAD, *work, "--port", str(server.port), *times, *pids]
    process = start(cores()[1], line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, complaint = process.communicate(timeout=120 + 2 * (seconds + warmup))
    except subprocess.TimeoutExpired as late:
        raise MeasureError("the load doesn't end") from late
    finally:
        stop(process)
    if process.returncode:
        raise MeasureError(complaint.decode().strip() or f"the load ended with {process.returncode}")
    return json.loads(output)


@contextmanager
def holding(server: Server, connections: int, arguments: Sequence[str] = ("idle",)) -> Iterator[dict[str, int]]:
    """Hold idle connections to a server. At the end, the dictionary gets the load's figures, such as `pings`."""
    line = [LOAD, *arguments, "--port", str(server.port), "--connections", str(connections)]
    process = start(cores()[1], line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    figures: dict[str, int] = {}
    try:
        # The load exits after a minute if it cannot connect.
        if not process.stdout.readline():
            raise MeasureError(process.stderr.read().decode().strip())
        yield figures
        if process.poll() is not None:
            raise MeasureError(process.stderr.read().decode().strip())
        output, _ = process.communicate(timeout=STOP_SECONDS)
        figures.update(json.loads(output))
    finally:
        stop(process)
