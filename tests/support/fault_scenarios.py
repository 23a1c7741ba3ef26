"""
What real clients report for each fault: the scenarios, and the clients that play them.

A client connects, sends `hello`, and receives until the connection ends, or until no message arrives for `QUIET`
seconds. Then it closes the connection with 1000. Its report is a text such as `1002`, `open, 1 message` or
`InvalidStatus`.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

from firefox import FirefoxPage
from node import PACKAGES, install_node_packages
from paths import TESTS

from wsserver.endpoints.faults.fault import Stage
from wsserver.endpoints.faults.table import TABLE

__all__ = ["CLIENTS", "SCENARIOS", "describe_versions", "play_all", "write_row", "write_table"]

QUIET = 3.0
"""Seconds without an event after which a client closes the connection, or gives up a handshake."""

CLIENTS = ("websockets", "aiohttp", "ws", "Chromium", "Firefox")

QUERIES = {
    "echo": [
        "",
        "late-handshake=200ms&slow-handshake=50&close=1012&close.after=1",
        "ping=100&push=binary&push.rate=100&push.count=3&drop.after=1&drop.wait=500ms",
    ],
    "delay": ["delay=100ms"],
    "slow": ["pause=10ms"],
    "no-read": ["after=1"],
    "no-write": ["after=1"],
    "late-handshake": ["time=500ms"],
    "close": [
        "after=1",
        "code=1012&reason=bye&after=1",
        "code=4001&after=1",
        "code=1006&after=1",
        "code=999&after=1",
        "code=1012&close.after=1&no-close=",
    ],
    "push": ["count=3&rate=100&after=1", "count=3&rate=100&compression=on&after=1"],
    "large": ["size=2MiB&after=1", "size=8MiB&after=1"],
    "ping": ["rate=100&count=3"],
    "pong": ["rate=100&count=3"],
    "drop": ["after=1&wait=300ms"],
    "reset": ["after=1&wait=300ms"],
    "cut": ["after=1", "after=1&sent=1", "after=1&then=wait"],
    "not-utf8": ["after=1", "after=1&where=fragments"],
    "reserved-bit": ["after=1", "bit=3&after=1"],
    "opcode": ["after=1", "number=11&after=1"],
    "length": ["after=1", "form=64&after=1", "form=negative&after=1"],
    "continuation": ["after=1", "kind=interleaved&after=1"],
    "bomb": ["inflated=8MiB&after=1"],
    "status": ["code=401", "code=503&retry_after=5", "code=200"],
    "slow-handshake": ["piece=20"],
    "missing-header": ["header=accept", "header=upgrade", "header=connection"],
    "repeated-header": ["header=accept", "header=upgrade"],
    "wrong-extension": ["", "name=permessage-deflate;%20server_max_window_bits=20"],
}
"""Fault -> queries, instead of none, or of `after=1` for the faults of an open connection."""

SLOW_HANDSHAKES = ("late-handshake", "slow-handshake", "hang", "endless")
"""Browsers open one connection to a host at a time (RFC 6455 section 4.1), so these come last."""

PINGS = ("no-pong", "wrong-pong", "no-write")
"""Faults for which clients that can send pings do so."""


def _make_scenarios() -> list[dict[str, object]]:
    names = sorted(TABLE, key=lambda name: (name in SLOW_HANDSHAKES, list(TABLE).index(name)))
    found = []
    for name in names:
        fault = TABLE[name]
        usual = "after=1" if fault.run is not None and fault.stage is Stage.OPEN else ""
        for query in QUERIES.get(name, [usual]):
            target = fault.path + (f"?{query}" if query else "")
            compresses = "compression=on" in query or fault.defaults.get("compression") == "on"
            kind = {"pings": name in PINGS, "alone": name in SLOW_HANDSHAKES, "compresses": compresses}
            found.append({"target": target, **kind})
    return found


SCENARIOS = _make_scenarios()


def play_all(
    page: Any, firefox_page: FirefoxPage, port: int, scenarios: Sequence[Mapping[str, object]]
) -> dict[str, dict[str, str]]:
    """
    Play scenarios with all clients at the same time.

    Args:
        page: a page of the server in Chromium.
        firefox_page: a page of the server in Firefox.
        port: the server's port.
        scenarios: those of `SCENARIOS` to play.

    Returns:
        Client -> target -> report.
    """
    clients = TESTS / "support/fault_clients"
    given = {"port": port, "quiet": QUIET, "scenarios": scenarios}
    node = ["node", "-e", (clients / "client.cjs").read_text("utf-8")]
    commands = [([sys.executable, str(clients / "clients.py")], None), (node, install_node_packages())]
    with ExitStack() as stack:
        running = []
        for command, directory in commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory, text=True)
            stack.callback(process.kill)
            process.stdin.write(json.dumps(given))
            process.stdin.close()
            running.append(process)
        script = f"async given => {{ {(clients / 'browser.js').read_text('utf-8')}\n return await playAll(given) }}"
        # Playwright works in this thread only.
        firefox = stack.enter_context(ThreadPoolExecutor(1)).submit(firefox_page.evaluate, script, given)
        reports = {"Chromium": page.evaluate(script, given), "Firefox": firefox.result()}
        for process in running:
            reports |= json.loads(process.stdout.read())
            assert process.wait(30) == 0
    return reports


def write_table(reports: dict[str, dict[str, str]]) -> str:
    """Return the reports as a table in Markdown."""
    lines = ["| path | " + " | ".join(CLIENTS) + " |", "|---" * (len(CLIENTS) + 1) + "|"]
    return "\n".join([*lines, *(write_row(reports, str(one["target"])) for one in SCENARIOS)]) + "\n"


def write_row(reports: Mapping[str, Mapping[str, str]], target: str) -> str:
    """Return the reports of a scenario as a row of the table."""
    return (
        f"| `{target.removeprefix('/faults/')}` | " + " | ".join(reports[client][target] for client in CLIENTS) + " |"
    )


def describe_versions(chromium: str, firefox: str) -> str:
    """Return the versions of the clients, as a sentence; given those of the browsers."""
    ws = next(one for one in PACKAGES if one.startswith("ws@")).removeprefix("ws@")
    python = ", ".join(f"{name} {version(name)}" for name in ("websockets", "aiohttp"))
    browsers = f"Chromium {chromium.partition('.')[0]} and Firefox {firefox.partition('.')[0]}"
    return f"Last run with {python}, ws {ws}, {browsers}.\n"
