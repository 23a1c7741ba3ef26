"""
Idle subscribers: the memory and the CPU time that very many subscribers take, beside Centrifugo.

    python benchmarks/idle.py --subscribers 200000

Each subscriber is a client of the Centrifuge protocol (JSON) that has connected, has subscribed to a channel, and
answers the server's pings. A process may open only a limited number of files, so there are as many server processes,
and load processes beside them, as needed. At the end, one message is published in each server process, and every
subscriber must have received it. Then Centrifugo gets as many subscribers as fit into the memory that the processes of
wsserver took.

The program stops every process that it has started, at the latest after `LIMIT` seconds. It does not pin processes to
cores: use a machine on which nothing else runs.
"""

# ruff: noqa: S603 (fixed commands)

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import MeasureError, Server, free_port, open_files, stop, wait_for
from toolchain import BENCH, HERE, LOAD, ToolchainError, prepare

LIMIT = 600
"""Seconds after which the program stops everything and fails."""

OPENING = 330
"""Seconds after which no more subscribers are added; those that are there then are measured."""

AT_ONCE = 2
"""Number of server processes that get their subscribers at the same time."""

SPARE_FILES = 250
"""Open files of a process that are not subscribers."""

ADDRESSES = 8
"""Number of source addresses that the load uses."""

KERNEL_BYTES = 8_500
"""Estimated kernel memory of a loopback connection in bytes: two sockets with their files and epoll entries."""

PROCESS_BYTES = 4_500
"""Estimated memory of a subscriber in the processes of server and load, in bytes."""

COMMANDS = {
    "wsserver": (str(HERE / "wsserver"), "serve", "--anonymous", "--max-connections", "{files}", "--port", "{port}"),
    "centrifugo": (str(BENCH / "centrifugo"),),
}
ENVIRONMENT = {
    "wsserver": {"WSSERVER_API_KEY": "bench"},
    "centrifugo": {
        "CENTRIFUGO_HTTP_SERVER_PORT": "{port}",
        "CENTRIFUGO_HTTP_SERVER_ADDRESS": "127.0.0.1",
        "CENTRIFUGO_CLIENT_ALLOWED_ORIGINS": "*",
        "CENTRIFUGO_CLIENT_INSECURE": "true",
        "CENTRIFUGO_HTTP_API_KEY": "bench",
    },
}


@dataclass
class Figures:
    """The result for one kind of server. Memory is in kB."""

    name: str
    subscribers: int = 0
    processes: int = 0
    opening: float = 0.0
    """Seconds until all were subscribed."""
    empty: int = 0
    """Memory of the server processes without subscribers."""
    memory: int = 0
    """Memory of the server processes with their subscribers: Pss."""
    kernel: int = 0
    """Kernel memory of both ends of all connections: slab and socket buffers."""
    percent: float = 0.0
    """CPU time of the server processes, in percent of one core, while there are only pings."""
    pings: int = 0
    received: int = 0
    """Number of subscribers that received the publication."""

    def line(self) -> str:
        """Return the figures as a row of a table."""
        each, more = self.memory / self.subscribers, (self.memory - self.empty) / self.subscribers
        return (
            f"| {self.name} | {self.subscribers:,} | {self.processes} | {self.memory / 1024:,.0f} MiB | {each:.2f} kB "
            f"| {more:.2f} kB | {self.kernel / self.subscribers:.1f} kB | {self.percent:.1f} % | {self.received:,} "
            f"| {self.opening:.0f} s |"
        )


HEAD = (
    "| server | subscribers | processes | memory (Pss) | each | each, without empty processes | kernel, both ends "
    "| CPU of a core | received the publication | opening |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass
class Crowd:
    """Servers of one kind with their subscribers, and the load processes that hold the other ends."""

    name: str
    group: int
    """Number of subscribers of one load process."""
    budget: int = 0
    """Memory in kB from which no more subscribers are added; 0 for no such limit."""
    until: float = 0.0
    """When no more subscribers are added, on the monotonic clock."""
    servers: list[Server] = field(default_factory=list)
    loads: list[subprocess.Popen[bytes]] = field(default_factory=list)
    subscribers: int = 0
    empty: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def fill(self, count: int) -> None:
        """Start a server and give it subscribers, unless the memory is used up."""
        if self.stopped or self.is_full():
            return
        server = self.start_server()
        with self.lock:
            self.empty += server.kilobytes()
        while count > 0 and not self.stopped and not self.is_full():
            some = min(count, self.group)
            self.subscribe(server, some)
            count -= some

    def is_full(self) -> bool:
        """Return whether the servers have used their memory, or the time for opening connections is over."""
        return time.monotonic() > self.until or (bool(self.budget) and self.kilobytes() >= self.budget)

    def start_server(self) -> Server:
        """Start a server, and wait until it listens."""
        with self.lock:
            port = free_port()
            words = {"port": port, "files": open_files() - SPARE_FILES}
            log = BENCH / f"idle-{self.name}-{port}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [part.format(**words) for part in COMMANDS[self.name]],
                    env=os.environ | {key: value.format(**words) for key, value in ENVIRONMENT[self.name].items()},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            server = Server(process, port)
            self.servers.append(server)
            wait_for(process, port, log)
            return server

    def subscribe(self, server: Server, count: int) -> None:
        """Add subscribers to a server, and wait until all are subscribed."""
        line = [LOAD, "idle", "--centrifuge", "--path", "/connection/websocket", "--port", str(server.port)]
        load = subprocess.Popen(
            [*line, "--connections", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with self.lock:
            self.loads.append(load)
        if not load.stdout.readline():
            raise MeasureError(load.stderr.read().decode().strip() or "the load has stopped")
        with self.lock:
            self.subscribers += count
            at = time.strftime("%H:%M:%S")
            say(f"{at} {self.name}: {self.subscribers:,} subscribers in {len(self.servers)} processes")

    def kilobytes(self) -> int:
        """Return the memory of the servers in kB."""
        return sum(server.kilobytes() for server in list(self.servers))

    def cpu(self) -> float:
        """Return the CPU time of the servers in seconds."""
        return sum(server.cpu() for server in self.servers)

    def publish(self) -> None:
        """Publish a message in each server."""
        body = json.dumps({"channel": "foo", "data": {"text": "to all"}}).encode()
        for server in self.servers:
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.port}/api/publish",
                body,
                {"X-API-Key": "bench", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                if "error" in json.load(answer):
                    raise MeasureError("the publication was refused")

    def hang_up(self) -> dict[str, int]:
        """Close all connections; return how many pings and publications the subscribers have received."""
        totals = {"pings": 0, "publications": 0}
        for load in self.loads:
            output, complaint = load.communicate(timeout=30)
            if load.returncode:
                raise MeasureError(complaint.decode().strip())
            for name, number in json.loads(output).items():
                totals[name] += number
        return totals

    def stop(self) -> None:
        """Stop all processes."""
        self.stopped = True
        for process in [*self.loads, *(server.process for server in self.servers)]:
            if process.poll() is None:
                process.kill()
        for process in [*self.loads, *(server.process for server in self.servers)]:
            stop(process)


@contextmanager
def crowded(crowd: Crowd, sizes: list[int]) -> Iterator[None]:
    """Start the servers and their subscribers; stop them at the end."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            list(pool.map(crowd.fill, sizes))
            yield
        finally:
            crowd.stop()
        for log in BENCH.glob("idle-*.log"):
            log.unlink()


def measure(name: str, count: int, seconds: float, budget: int = 0) -> Figures:
    """
    Measure one kind of server.

    Args:
        name: wsserver or centrifugo.
        count: number of subscribers, or the maximum if there is a budget.
        seconds: how long the CPU time is measured. After 25 seconds, every subscriber has got a ping.
        budget: memory in kB from which no more subscribers are added; 0 for no limit.
    """
    per_process = open_files() - SPARE_FILES - 50
    groups = 4 if budget else 1
    crowd = Crowd(name, per_process // groups, budget, time.monotonic() + OPENING)
    sizes = [min(per_process, count - start) for start in range(0, count, per_process)]
    figures, kernel, began = Figures(name), kernel_kilobytes(), time.monotonic()
    with crowded(crowd, sizes):
        if not crowd.subscribers:
            raise MeasureError(f"{name} without subscribers takes more than {budget} kB")
        figures.opening = time.monotonic() - began
        figures.subscribers, figures.processes, figures.empty = crowd.subscribers, len(crowd.servers), crowd.empty
        time.sleep(5)
        began, before = time.monotonic(), crowd.cpu()
        time.sleep(seconds)
        figures.percent = 100 * (crowd.cpu() - before) / (time.monotonic() - began)
        figures.memory, figures.kernel = crowd.kilobytes(), kernel_kilobytes() - kernel
        crowd.publish()
        time.sleep(10)
        totals = crowd.hang_up()
    figures.pings, figures.received = totals["pings"], totals["publications"]
    return figures


def kernel_kilobytes() -> int:
    """Return the kernel's memory for its objects and for socket buffers, in kB."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    tcp = next(line.split() for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(lines["Slab"].split()[0]) + int(tcp[tcp.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def number(path: str) -> int:
    """Return the first number in a file of /proc/sys; -1 if there is no such file."""
    file = Path("/proc/sys") / path
    return int(file.read_text().split()[0]) if file.exists() else -1


def problems(count: int) -> list[str]:
    """Return which limits of this machine do not permit so many subscribers."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    limits = [
        ("fs.file-max", number("fs/file-max"), number("fs/file-nr") + 2 * count),
        ("fs.epoll.max_user_watches", number("fs/epoll/max_user_watches"), 2 * count),
        ("ports in net.ipv4.ip_local_port_range for each server", ADDRESSES * (high - low), open_files()),
        ("bytes of available memory", available, count * (KERNEL_BYTES + PROCESS_BYTES)),
    ]
    # The kernel tracks connections only if the firewall has a rule that needs it.
    if number("net/netfilter/nf_conntrack_count") > 0:
        limits.append(("net.netfilter.nf_conntrack_max", number("net/netfilter/nf_conntrack_max"), count))
    return [f"{name}: {has:,}, but {needs:,} needed" for name, has, needs in limits if has < needs]


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def give_up(*_: object) -> None:
    """Stop because of a signal."""
    raise MeasureError(f"stopped by a signal, or after {LIMIT} s")


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description="Measure the memory and CPU time of idle Centrifuge subscribers.")
    parser.add_argument("--subscribers", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the CPU time is measured")
    parser.add_argument("--without-centrifugo", action="store_true", help="measure wsserver only")
    options = parser.parse_args()
    for each in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(each, give_up)
    try:
        missing = prepare([] if options.without_centrifugo else ["centrifugo"])
        signal.alarm(LIMIT)
        open_files()
        if found := problems(options.subscribers):
            raise MeasureError("; ".join(found))
        results = [measure("wsserver", options.subscribers, options.seconds)]
        if missing:
            say(f"without centrifugo: {missing['centrifugo']}")
        elif not options.without_centrifugo:
            results.append(measure("centrifugo", options.subscribers, options.seconds, results[0].memory))
    except (MeasureError, ToolchainError, OSError) as failure:
        sys.exit(f"idle: {failure}")
    say("\n".join(["", HEAD, *(each.line() for each in results)]))
    for each in results:
        if each.received != each.subscribers or (options.seconds >= 25 and each.pings < each.subscribers):
            sys.exit(f"idle: {each.name}: {each.received} publications and {each.pings} pings received")


if __name__ == "__main__":
    main()
