"""
Processes: servers and loads, each pinned to its core, watched through /proc, and never left behind.

Rule 1: only processes started here are stopped, each by its pid.
"""

# ruff: noqa: S603 (commands of the table of peers)

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

from peers import FOLDER, Peer
from toolchain import BENCH, HERE, LOAD

__all__ = ["MeasureError", "Server", "cores", "holding", "load", "open_files", "serving"]

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class MeasureError(Exception):
    """A server or the load failed; the text says why."""


def cores() -> tuple[int, int]:
    """Name the cores of the server and of the load."""
    able = sorted(os.sched_getaffinity(0))
    if len(able) < 2:
        raise MeasureError("two cores are needed: one for the server, one for the load")
    return able[0], able[1]


def open_files() -> int:
    """Raise the limit of open files as far as it goes; the processes started here inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def start(core: int, command: Sequence[str | Path], **more: object) -> subprocess.Popen[bytes]:
    """Start a process on one core."""
    able = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen([str(part) for part in command], **more)
    finally:
        os.sched_setaffinity(0, able)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, by force if it takes too long."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Server:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    port: int
    redis: int = 0
    """The port of its Redis, if it has one."""

    def pids(self) -> list[int]:
        """Name the process and all below it."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def kilobytes(self) -> int:
        """Measure its memory: Pss, which counts shared pages by their share."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:"))

    def cpu(self) -> float:
        """Tell the seconds of CPU time it has used."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(peer: Peer, needs: str, options: Sequence[str]) -> Iterator[Server]:
    """Start a server, wait until it listens, and stop it in the end."""
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
    """Start a Redis on the core of the load, that stores nothing; tells its port."""
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
    """Wait until a server hears its Redis."""
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
            wait_for(process, port, log)
            yield Server(process, port)
            if process.poll() is not None:
                raise MeasureError(f"the server ended on its own: {last_words(log)}")
        finally:
            stop(process)


def command(peer: Peer, port: int, needs: str, options: Sequence[str]) -> list[str]:
    """Make the command line of a server."""
    places = {"bench": BENCH, "servers": FOLDER / "servers", "port": port, "here": HERE}
    line = [part.format(**places) for part in (peer.fanout if needs == "fanout" else peer.command)]
    if needs == "fanout":
        return [*line, str(port)] if peer.kind == "go" else [*line, *options]
    if peer.kind == "here":
        tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"] if needs == "tls" else []
        return [*line, "--port", str(port), *tls, *options]
    asked = {
        "compression": ["--compression"],
        "tls": ["--cert", "cert.pem", "--key", "key.pem"],
        "ping": ["--ping", "25"],
    }.get(needs, [])
    # Go's flags end at the first word that is none.
    return [*line, *asked, str(port)] if peer.kind == "go" else [*line, *asked]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a server accepts connections."""
    limit = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            time.sleep(0.2)
            return
        if process.poll() is not None:
            raise MeasureError(f"the server didn't start: {last_words(log)}")
        if time.monotonic() > limit:
            raise MeasureError(f"nothing listens after {START_SECONDS:.0f} s: {last_words(log)}")
        time.sleep(0.05)


def last_words(log: Path) -> str:
    """Find the last line of a log."""
    return log.read_text(errors="replace").strip().rpartition("\n")[2] or "its log is empty"


def load(server: Server, arguments: Sequence[str], seconds: float, warmup: float) -> dict[str, float]:
    """Put load on a server and return the figures."""
    times = ["--duration", str(seconds), "--warmup", str(warmup)]
    pids = [word for pid in server.pids() for word in ("--pid", str(pid))]
    told = [part.format(redis=server.redis) for part in arguments]
    line = [LOAD, *told, "--port", str(server.port), *times, *pids]
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
    """Hold idle connections; the dictionary tells in the end how many pings they answered."""
    line = [LOAD, *arguments, "--port", str(server.port), "--connections", str(connections)]
    process = start(cores()[1], line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told: dict[str, int] = {}
    try:
        # The load itself gives up after a minute.
        if not process.stdout.readline():
            raise MeasureError(process.stderr.read().decode().strip())
        yield told
        if process.poll() is not None:
            raise MeasureError(process.stderr.read().decode().strip())
        output, _ = process.communicate(timeout=STOP_SECONDS)
        told.update(json.loads(output))
    finally:
        stop(process)
