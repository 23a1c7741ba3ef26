"""
From an empty virtual environment to a message in a browser: installing, `wsserver` without arguments, its lines pasted.

The page docs/tutorials/first-five-minutes.md begins with the same commands. How long they take depends on the network
and the load of the machine, so the test records the time in reports/first-five-minutes.json. It checks the CPU time,
which a longer way to install would increase, too.
"""

import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from environments import LEFT_OUT
from paths import DOCS, ROOT
from playwright.sync_api import Page
from ports import free_port
from programs import Program, environment, running
from redis_server import RedisServer
from waiting import TIMEOUT
from walkthrough import RECORD_SOCKETS, WAIT_FOR_SOCKETS

from wsserver.cli.quickstart import REDIS_PORT, redis_answers

MAX_CPU = 45
"""Maximum seconds of CPU time; it takes about 25. Installing waits for the network besides."""

INSTALL = re.search(r"```sh install\n(.*?)```", (DOCS / "tutorials" / "first-five-minutes.md").read_text(), re.DOTALL)[
    1
]


@pytest.fixture
def default_redis(tmp_path: Path):
    """Run Redis on its usual port, where `wsserver` looks for it; one that a developer runs there is used."""
    with (Path(tempfile.gettempdir()) / "wsserver-tests-6379.lock").open("w") as lock, ExitStack() as stack:
        # Tests of other checkouts wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not redis_answers(REDIS_PORT):
            server = RedisServer(tmp_path, port=REDIS_PORT)
            server.start()
            stack.callback(server.stop)
        yield


def cpu_time() -> float:
    """Return the CPU time of the programs that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def paste(text: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run commands in a shell; they must succeed."""
    done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done


def wait_for_lines(server: Program) -> tuple[str, list[str]]:
    """Wait for what `wsserver` prints to try; return the URL of its page, and the lines to paste."""
    printed = server.wait_for(r"\n\nOpen (http:\S+) in(?:.*\n)*Ctrl-C stops the server\.\n")
    return printed[1], re.findall(r"^    (.*)$", printed[0], re.MULTILINE)


def open_console(page: Page, url: str) -> list[str]:
    """Open a page; return what its console shows, now and later."""
    shown: list[str] = []
    page.add_init_script(RECORD_SOCKETS)
    page.on("console", lambda message: shown.append(message.text))
    page.goto(url)
    return shown


def test_a_published_message_reaches_a_browser_within_a_minute(tmp_path, default_redis, open_browser_page):
    checkout = Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=LEFT_OUT))
    # Without its cache, pip downloads everything.
    environ = environment({"PIP_NO_CACHE_DIR": "1", "WSSERVER_PORT": str(free_port())})
    began, cpu_before = time.monotonic(), cpu_time()
    versions = paste(INSTALL + "wsserver version; twistd wsserver --version", cwd=checkout, env=environ).stdout
    installed = time.monotonic()
    with running(checkout / ".venv/bin/wsserver", directory=tmp_path, environ=environ) as server:
        url, (javascript, curl, redis_cli) = wait_for_lines(server)
        page, _ = open_browser_page()
        shown = open_console(page, url)
        page.evaluate(f"() => {{ {javascript} }}")
        page.evaluate(WAIT_FOR_SOCKETS)
        for command in (curl, redis_cli):
            with page.expect_console_message(timeout=TIMEOUT * 1000):
                paste(command, env=environ)
    seconds = time.monotonic() - began
    assert shown == ["hello", "hello"]
    first, second = re.findall(r"^wsserver [0-9.]+ .*$", versions, re.MULTILINE)
    assert first == second
    record = {"seconds": round(seconds, 1), "of these, installing": round(installed - began, 1)}
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "first-five-minutes.json").write_text(json.dumps(record | {"load": os.getloadavg()[0]}, indent=2) + "\n")
    assert cpu_time() - cpu_before < MAX_CPU


WITHOUT_REDIS = """
from wsserver.cli import main, quickstart
quickstart.REDIS_PORT = 1
main.main()
"""


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ([], '"delivered":1'),
        (["--api-insecure", "--interface", "::1"], '"delivered":1'),
        (["--token-secret", "x" * 32], "alive"),
        (["--workers", "2"], "alive"),
    ],
    ids=["no options", "IPv6", "an echo", "an echo of workers"],
)
def test_the_printed_lines_work_without_redis(tmp_path, open_browser_page, options, answer):
    environ = {"PYTHONPATH": str(ROOT), "WSSERVER_PORT": str(free_port())}
    with running(sys.executable, "-c", WITHOUT_REDIS, *options, directory=tmp_path, environ=environ) as server:
        url, (javascript, curl) = wait_for_lines(server)
        if "--workers" in options:
            server.wait_for("all workers accept connections")
        page, _ = open_browser_page()
        shown = open_console(page, url)
        with page.expect_console_message(timeout=TIMEOUT * 1000):
            page.evaluate(f"() => {{ {javascript} }}")
            page.evaluate(WAIT_FOR_SOCKETS)
            assert answer in paste(curl).stdout
        assert shown == ["hello"]
