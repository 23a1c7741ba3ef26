"""
Measure how long well-behaved clients wait while other clients overload the server.

    .venv/bin/python benchmarks/stalls.py            # every attack for 10 seconds
    .venv/bin/python benchmarks/stalls.py --quick    # 3 seconds each
    .venv/bin/python benchmarks/stalls.py --rows presence,rpc

Each attack gets a new server. 100 clients send 10 messages a second each to `/echo`; they run in one process and the
attack in another. The run fails if a row exceeds a goal.
"""

import argparse
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from attacks import ATTACKS, KEY, Attack, connect, handshake, mask
from frame_attacks import FRAME_ATTACKS

ROWS = [*ATTACKS, *FRAME_ATTACKS]
CLIENTS = 100
INTERVAL = 0.1
GOAL_P99, GOAL_MAX = 0.050, 0.100
"""Maximum echo time in seconds: of 99 % of the echoes, and of the slowest one."""
GOAL_MEMORY = 1024 * 1024 + 512 * 1024
"""Maximum memory per attacking client in bytes: the default of `--max-queued-bytes` plus 512 KiB."""
JUDGED_FROM = 10
"""
Minimum number of connections for which the memory goal is checked. With fewer, the memory that the process keeps after
freeing it would distort the figure.
"""


def echo(port: int, seconds: float, results: Connection) -> None:
    """Send messages at a steady rate on many connections; send the time of each echo in seconds to `results`."""
    sockets = []
    for _ in range(CLIENTS):
        sock = connect(port)
        handshake(sock, "/echo")
        sock.setblocking(False)
        sockets.append(sock)
    results.send("ready")
    poller = select.epoll()
    sent: dict[int, list[float]] = {}
    by_fd: dict[int, socket.socket] = {}
    for sock in sockets:
        poller.register(sock.fileno(), select.EPOLLIN)
        sent[sock.fileno()], by_fd[sock.fileno()] = [], sock
    message = mask(b"x" * 64)
    size, partial = 2 + 64, dict.fromkeys(sent, 0)
    taken: list[float] = []
    begin = time.perf_counter()
    due = [(begin + INTERVAL * number / CLIENTS, fd) for number, fd in enumerate(sent)]
    position = 0
    while (now := time.perf_counter()) < begin + seconds:
        while due[position][0] <= now:
            when, fd = due[position]
            by_fd[fd].send(message)
            sent[fd].append(time.perf_counter())
            due[position] = (when + INTERVAL, fd)
            position = (position + 1) % CLIENTS
        for fd, _ in poller.poll(max(0.0, due[position][0] - time.perf_counter())):
            count, partial[fd] = divmod(partial[fd] + len(by_fd[fd].recv(65536)), size)
            now = time.perf_counter()
            taken += [now - start for start in sent[fd][:count]]
            del sent[fd][:count]
    now = time.perf_counter()
    # An echo that is still missing counts with the time waited so far.
    taken += [now - start for starts in sent.values() for start in starts if now - start > GOAL_P99]
    results.send(taken)


@contextlib.contextmanager
def serving(options: list[str]):
    """Run a server on a free port; yields the port and the pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [
            str(Path(sys.executable).with_name("wsserver")),
            "serve",
            "--port",
            str(port),
            "--api-key",
            KEY,
            *options,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)  # noqa: S603
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def attack(row: Attack, port: int, seconds: float, orders: Connection) -> None:
    """Prepare the server, report that it is prepared, wait for the order to start, and attack."""
    row.prepare(port)
    orders.send("prepared")
    orders.recv()
    row.run(port, seconds, row.connections)


def attack_by_number(number: int, port: int, seconds: float, orders: Connection) -> None:
    """
    Run the attack with this index in `ROWS`.

    An `Attack` itself contains functions, so it cannot be sent to another process.
    """
    attack(ROWS[number], port, seconds, orders)


def memory(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(number: int | None, seconds: float) -> tuple[list[float], int]:
    """Run an attack, or none; return the time of each echo in seconds and the peak growth of memory in bytes."""
    row = ROWS[number] if number is not None else None
    processes = multiprocessing.get_context("spawn")
    with serving(row.options if row else []) as (port, pid):
        ours, theirs = processes.Pipe()
        attacker = processes.Process(target=attack_by_number, args=(number, port, seconds, theirs), daemon=True)
        if row:
            attacker.start()
            ours.recv()
        results, other = processes.Pipe()
        good = processes.Process(target=echo, args=(port, seconds + 1, other), daemon=True)
        good.start()
        results.recv()
        time.sleep(0.5)
        before = peak = memory(pid)
        if row:
            ours.send("go")
        while not results.poll(0.05):
            peak = max(peak, memory(pid))
        taken = results.recv()
        for process in (attacker, good):
            if process.pid is not None:
                process.join(5)
                process.kill()
    return taken, peak - before


def report(name: str, connections: int, taken: list[float], growth: int) -> bool:
    """Print a row; return whether it meets the goals."""
    taken.sort()
    p50, p99, longest = (taken[int((len(taken) - 1) * part)] for part in (0.5, 0.99, 1.0))
    each = growth / max(connections, 1)
    passed = p99 <= GOAL_P99 and longest <= GOAL_MAX and (connections < JUDGED_FROM or each <= GOAL_MEMORY)
    print(
        f"| {name} | {connections or ''} | {p50 * 1000:.1f} | {p99 * 1000:.1f} | {longest * 1000:.1f} |"
        f" {growth / 2**20:.1f} | {'pass' if passed else 'FAIL'} |",
        flush=True,
    )
    return passed


def main() -> None:
    """Run the chosen attacks and print the table."""
    parser = argparse.ArgumentParser(description="Measure how long echoes take while other clients ask for too much.")
    parser.add_argument("--quick", action="store_true", help="measure each row for 3 seconds instead of 10")
    parser.add_argument(
        "--rows", default="", help="measure only rows whose name contains one of these words, separated by commas"
    )
    options = parser.parse_args()
    # SIGTERM raises KeyboardInterrupt, so that the running server is stopped.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    seconds = 3.0 if options.quick else 10.0
    wanted = [part for part in options.rows.split(",") if part]
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    print(f"goals: p99 {GOAL_P99 * 1000:.0f} ms, longest {GOAL_MAX * 1000:.0f} ms, {GOAL_MEMORY / 2**20} MiB a client")
    print("| attack | connections | p50 ms | p99 ms | longest ms | memory grew MiB | |\n|---|--:|--:|--:|--:|--:|---|")
    passed = report("none", 0, *measure(None, seconds))
    for number, row in enumerate(ROWS):
        if not wanted or any(part in row.name for part in wanted):
            passed &= report(row.name, row.connections, *measure(number, seconds))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
