"""The clients that run the conformance cases, and the record of their verdicts."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from urllib.parse import quote

from firefox import FIREFOX
from node import install_node_packages
from paths import TESTS

__all__ = ["CHROMIUM", "CLIENTS", "RECORD", "ROOT_OF_CLIENTS", "client_command", "client_versions", "read_verdicts"]

CHROMIUM = "/usr/bin/chromium"
ROOT_OF_CLIENTS = TESTS / "compliance" / "clients"
RECORD = ROOT_OF_CLIENTS / "verdicts.json"
"""Name of a client -> its version, and its verdicts of our cases and of Autobahn's fuzzing server."""

CLIENTS = ("websockets", "aiohttp", "ws", "chromium", "firefox")
"""Names of the clients; they are also their names in the reports."""


def client_command(name: str, server: str, form: str = "own") -> list[str]:
    """
    Return the command with which a client runs all cases.

    Args:
        name: the name of the client.
        server: the URL of the server, without a path.
        form: `autobahn` for the fuzzing server of Autobahn.
    """
    program = str(ROOT_OF_CLIENTS / f"{name}_all.{'mjs' if name == 'ws' else 'py'}")
    if name == "ws":
        return ["node", program, str(install_node_packages()), server, form]
    return [sys.executable, program, *([CHROMIUM] if name == "chromium" else []), server, form]


def client_versions() -> dict[str, str]:
    """Return the versions of the clients that are installed: name -> version."""
    package = install_node_packages() / "node_modules" / "ws" / "package.json"
    return {
        "websockets": version("websockets"),
        "aiohttp": version("aiohttp"),
        "ws": str(json.loads(package.read_text("utf-8"))["version"]),
        "chromium": _read_version(CHROMIUM),
        "firefox": _read_version(FIREFOX),
    }


def _read_version(program: str) -> str:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r"[\d.]+", shown)
    assert found is not None
    return found[0]


def read_verdicts(port: int, agent: str) -> Mapping[str, str]:
    """Return a client's verdicts from the report of a server: name of a case -> verdict, or `not tested`."""
    url = f"http://127.0.0.1:{port}/case/report?format=json&agent={quote(agent)}"
    with urllib.request.urlopen(url, timeout=30) as response:
        cases = json.load(response)["cases"]
    return {one["case"]: one["verdict"] if one.get("tested", True) else "not tested" for one in cases}
