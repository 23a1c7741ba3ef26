"""Fixtures for the tests of documentation pages."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from guide import read_settings, replace_all
from paths import ROOT
from waiting import wait_until

from wsserver.config.settings import TABLE


def listens(port):
    """Return whether a program listens on a port."""
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def shell():
    """Return a function that runs commands of a page, with the page's port replaced by a free one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "WSSERVER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    servers = []

    def run(text, kind="sh"):
        text = text.replace("8080", str(port))
        command = ["bash", "-e", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        if text.rstrip().endswith("&"):
            started = subprocess.Popen(
                ["bash", "-c", "exec " + text.rstrip().rstrip("&")], env=environ, stdout=subprocess.DEVNULL
            )
            servers.append(started)
            wait_until(lambda: listens(port), "the server listens")
            return ""
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for server in servers:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


@pytest.fixture
def serve(start_server):
    """
    Return a function that starts the server of a command, such as `wsserver serve --faults`, in this process.

    Args: the command, and what to replace in it: ports, and the paths of files.
    """

    def start(command, parts=(), **options):
        settings = read_settings(replace_all(command, dict(parts)))
        given = {name: getattr(settings, name) for name in TABLE if name != "port"}
        return start_server(**{**given, "channel": settings.channel, **options})

    return start
