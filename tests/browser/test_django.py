"""docs/how-to/django.md: the commands of the page start Django and the server, and the code is that of the project."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import DOCS
from ports import free_port
from waiting import wait_until
from walkthrough import read_blocks

PAGE = DOCS / "how-to" / "django.md"
PROJECT = DOCS / "examples" / "django"
SOURCES = [path.read_text("utf-8") for path in PROJECT.rglob("*") if path.suffix in {".py", ".html"}]


def listens(port: int) -> bool:
    return subprocess.run(["bash", "-c", f"exec 2>/dev/null 3<>/dev/tcp/127.0.0.1/{port}"], check=False).returncode == 0


@pytest.fixture
def django(tmp_path: Path):
    """Run the commands of the page in one shell, at free ports; yields the origin of Django."""
    shutil.copytree(PROJECT, tmp_path / "docs/examples/django", ignore=shutil.ignore_patterns("__pycache__", "db.*"))
    web, push = free_port(), free_port()
    script = "".join(block.text for block in read_blocks(PAGE) if (block.kind, block.name) == ("sh", ""))
    script = script.replace("8000", str(web)) + "wait\n"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WSSERVER_")}
    environ = kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "WSSERVER_PORT": str(push),
        "PUSH_URL": f"http://127.0.0.1:{push}",
    }
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(web) and listens(push), log.read_text)
        yield f"http://127.0.0.1:{web}"
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(20)


def log_in(open_browser_page, origin, name):
    """Open the room in a browser of its own, as a user."""
    page, complaints = open_browser_page()
    complaints.allow("Failed to load resource: .* 404")
    page.goto(f"{origin}/accounts/login/?next=/room/lobby/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button").click()
    page.wait_for_url("**/room/lobby/")
    return page, complaints


def test_a_member_receives_what_another_window_sends_and_others_are_refused(django, open_browser_page):
    (first, _), (second, _) = (log_in(open_browser_page, django, "ada") for _ in range(2))
    for page in (first, second):
        page.get_by_text("connected", exact=True).wait_for()
    stranger, complaints = log_in(open_browser_page, django, "eve")
    complaints.allow("WebSocket connection to .* failed: .* 403")
    stranger.get_by_text("not connected").wait_for()
    first.locator("input[name=text]").fill("Grüße")
    first.get_by_role("button").click()
    for page in (first, second):
        page.locator("li", has_text="ada: Grüße").wait_for()
    assert stranger.locator("li").count() == 0


def test_the_hook_refuses_a_caller_without_the_key(django):
    answer = subprocess.run(
        ["curl", "-s", "-w", " %{http_code}", "-d", "{}", f"{django}/hooks/subscribe/"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "wrong key 403"


@pytest.mark.parametrize(
    "block", [block for block in read_blocks(PAGE) if block.kind in ("python", "js")], ids=lambda block: block.text[:30]
)
def test_the_code_of_the_page_is_that_of_the_project(block):
    assert any(block.text in source for source in SOURCES)


def test_the_installation_command_names_the_packages_that_the_project_imports():
    [install] = [block.text for block in read_blocks(PAGE) if block.name == "install"]
    imported = set(re.findall(r"^(?:import|from) (\w+)", "\n".join(SOURCES), re.MULTILINE))
    ours = {"chat", *sys.stdlib_module_names}
    names = {"pyjwt": "jwt"}
    assert {names.get(word, word) for word in install.split()[2:]} == imported - ours
