"""Processes for browser tests: the real server, started as a user starts it, and a site for demo pages."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from paths import TESTS
from stopping import stop

__all__ = ["DEMOS", "is_ready", "running_server", "running_site", "wait_until_ready"]

DEMOS = TESTS / "browser" / "demos"
TWISTD = os.path.join(os.path.dirname(sys.executable), "twistd")
SECONDS_TO_START = 20
SECONDS_TO_STOP = 15


@contextmanager
def running_server(directory: Path, port: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run `twistd wsserver` from a directory of its own until the block ends.

    Args:
        directory: an empty directory; the server's output goes to `server.log` in it.
        port: the port to listen on.
        flags: more options of the server.

    Yields:
        The process; its port answers.
    """
    if _answers(port):
        pytest.fail(f"port {port} is taken: another program must stop before this test can run")
    output = directory / "server.log"
    with output.open("wb") as log:
        command = [TWISTD, "-n", "--pidfile=", "wsserver", "--port", str(port), *flags]
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                text = output.read_text(errors="replace")
                pytest.fail(f"the server did not start.\n{' '.join(command)}\n{text}", pytrace=False)
            time.sleep(0.05)
        yield process
    finally:
        if not stop(process, SECONDS_TO_STOP):
            pytest.fail(f"the server was still running {SECONDS_TO_STOP} s after SIGTERM")


@contextmanager
def running_site(directory: Path) -> Iterator[str]:
    """
    Serve the files of a directory over HTTP until the block ends.

    Yields:
        The origin of the site, without a slash at its end.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def wait_until_ready(port: int) -> None:
    """Wait until `/ready` returns 200; the server may first have to connect to Redis."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not is_ready(port):
        assert time.monotonic() < deadline, "the server is not ready"
        time.sleep(0.02)


def is_ready(port: int) -> bool:
    """Return whether `/ready` returns 200."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Do not log requests, so that the test output stays readable."""


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
