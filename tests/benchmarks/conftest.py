"""Fixtures for tests of the benchmarks: the compiled load generator, and a server for it."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from pki import Authority
from ports import free_port
from server_process import Process
from waiting import wait_until

LIBRARIES = ("-lssl", "-lcrypto", "-lz")


@pytest.fixture(scope="session")
def load_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the load generator, with warnings as errors."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    program = tmp_path_factory.mktemp("load") / "load"
    source = ROOT / "benchmarks" / "load.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source, *LIBRARIES], check=True)
    return program


@pytest.fixture
def run(load_generator: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the load generator for a short time."""

    def run_load(mode: str, port: int, *options: str) -> subprocess.CompletedProcess[str]:
        times = ("--warmup", "0.1", "--duration", "0.3")
        command = [load_generator, mode, "--port", str(port), *times, *options]  # the last of equal options counts
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run_load


@pytest.fixture
def measure(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the load generator, which must succeed, and returns the figures."""

    def measure_load(mode: str, port: int, *options: str) -> dict[str, Any]:
        done = run(mode, port, *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return measure_load


@pytest.fixture
def fail(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Return a function that runs the load generator, which must fail, and returns its message."""

    def fail_load(mode: str, port: int, *options: str) -> str:
        done = run(mode, port, *options)
        assert done.returncode == 1, done.stdout
        return done.stderr

    return fail_load


@pytest.fixture(scope="session")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Start a server in which everything that the load generator does is allowed, with TLS on a second port."""
    own = authority.issue(tmp_path_factory.mktemp("certificate"))
    tls = f"ssl:0:privateKey={own.privkey}:certKey={own.fullchain}:interface=127.0.0.1"
    channels = ("--api-key", "bench", "--anonymous", "--channel-publish", "*", "--history-size", "1000")
    process = Process(*channels, "--listen", "tcp:0:interface=127.0.0.1", "--listen", tls)
    yield process
    process.close()


def accepts_connections(port: int) -> bool:
    """Return whether a server listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def fanout_port() -> Iterator[int]:
    """Start the application that publishes what it receives at `/publish`."""
    port = free_port()
    program = ROOT / "benchmarks" / "servers" / "fanout_wsserver.py"
    with subprocess.Popen([sys.executable, program, str(port)]) as process:
        try:
            wait_until(lambda: accepts_connections(port), "the application listens")
            yield port
        finally:
            process.kill()
