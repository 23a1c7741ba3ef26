"""`--cases` and `wsserver conformance` with real clients, and with clients that have a flaw."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import pytest
from conformance import (
    CLIENTS,
    RECORD,
    ROOT_OF_CLIENTS,
    client_command,
    client_versions,
    read_verdicts,
)
from guide import Guide, replace_all, run_commands
from node import install_node_packages
from paths import EXAMPLES
from server_process import SERVE, Process

LIMIT = 120
PAGE = Guide("how-to/conformance")
BROKEN = ROOT_OF_CLIENTS / "broken.py"
TOPICS = ("framing", "fragmentation", "text", "pings", "closing", "limits")

FLAWS = {
    "accepts-invalid-utf8": ("text.bad-byte-ff", "text.bad-surrogate", "text.bad-cut-off-two"),
    "ignores-pings": ("pings.text",),
    "echoes-as-binary": ("framing.text-1", "text.nul"),
    "sends-without-mask": ("framing.text-1", "framing.binary-1", "pings.text"),
    "ignores-close": ("closing.code-1000",),
    "uses-one-mask": ("framing.masks",),
    "accepts-masked-frames": ("framing.masked-text", "framing.masked-ping"),
    "accepts-reserved-bits": ("framing.rsv-001", "framing.rsv-ping"),
    "loses-fragments": ("fragmentation.three", "fragmentation.thousand"),
}
"""Flaw of a client -> cases that it must fail."""


@pytest.fixture(scope="module")
def server():
    process = Process("--cases")
    yield process
    process.close()


@pytest.fixture(scope="module")
def verdicts(server):
    """Run all cases with all clients at a time; return their verdicts."""
    install_node_packages()

    def run(name):
        command = client_command(name, f"ws://127.0.0.1:{server.port}")
        subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        return read_verdicts(server.port, name)

    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        return dict(zip(CLIENTS, pool.map(run, CLIENTS), strict=True))


@pytest.mark.parametrize("name", CLIENTS)
def test_the_verdicts_of_a_real_client_are_those_of_the_record(verdicts, name):
    """If another version of the client is installed, it may have fewer faults, and no others."""
    recorded = json.loads(RECORD.read_text("utf-8"))[name]
    found = verdicts[name]
    assert None not in found.values()
    deviations = {case: verdict for case, verdict in found.items() if verdict != "pass"}
    if client_versions()[name] == recorded["version"]:
        assert deviations == recorded["own"]
    else:
        failed = {case for case, verdict in recorded["own"].items() if verdict == "fail"}
        assert {case for case, verdict in found.items() if verdict == "fail"} <= failed


def run_command(*words, limit=LIMIT):
    """Run `wsserver conformance`."""
    command = [sys.executable, "-c", SERVE, "conformance", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


def test_a_small_client_without_a_flaw_passes_all_topics_but_compression(tmp_path):
    cases = [word for topic in TOPICS for word in ("--cases", topic)]
    path = tmp_path / "out.xml"
    done = run_command("--junit", path, *cases, "--", sys.executable, BROKEN, "{server}", "none")
    assert done.returncode == 0, done.stdout
    assert {test.find("failure") for test in ET.parse(path).iter("testcase")} == {None}


def test_catches_each_flaw(server):
    def run(flaw):
        command = [sys.executable, BROKEN, f"ws://127.0.0.1:{server.port}", flaw, *FLAWS[flaw]]
        subprocess.run(command, timeout=LIMIT, check=True)
        found = read_verdicts(server.port, flaw)
        return {case: found[case] for case in FLAWS[flaw]}

    with ThreadPoolExecutor(len(FLAWS)) as pool:
        found = dict(zip(FLAWS, pool.map(run, FLAWS), strict=True))
    assert found == {flaw: dict.fromkeys(cases, "fail") for flaw, cases in FLAWS.items()}


class ExampleTests:
    """The commands of docs/how-to/conformance.md with its example clients, and a few cases."""

    @pytest.fixture
    def follow(self, tmp_path):
        """Return a function that runs the command of a block, with the files of the examples beside it."""
        for path in (EXAMPLES / "conformance").glob("*.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "node_modules").symlink_to(install_node_packages() / "node_modules")

        def run(beginning, more=""):
            command = replace_all(PAGE.block(beginning), {" -- ": " --cases 'pings.t*' -- "}).rstrip()
            return run_commands(command + more, tmp_path)

        return run

    def test_python(self, follow):
        assert follow("wsserver conformance -- python client.py") == "2 cases: 2 passed, 0 failed\n"

    def test_all_cases_at_once(self, follow):
        assert follow("wsserver conformance -- python walk.py") == "2 cases: 2 passed, 0 failed\n"

    def test_node(self, follow):
        assert follow("wsserver conformance -- node client.mjs") == "2 cases: 2 passed, 0 failed\n"

    def test_junit(self, follow, tmp_path):
        assert follow("wsserver conformance --junit conformance.xml") == "2 cases: 2 passed, 0 failed\n"
        names = [test.get("name") for test in ET.parse(tmp_path / "conformance.xml").iter("testcase")]
        assert names == ["pings.text", "pings.ten"]

    def test_go(self, tmp_path):
        program = tmp_path / "client"
        source = EXAMPLES / "conformance" / "go"
        subprocess.run(["go", "build", "-mod=readonly", "-o", program, "."], cwd=source, timeout=240, check=True)
        done = run_command("--cases", "pings.t*", "--cases", "text.bad-*e", "--", program, "{url}")
        assert done.returncode == 0, done.stdout
        assert "0 failed" in done.stdout

    def test_browser(self, follow):
        shown = follow("wsserver conformance -- python browser.py", " /usr/bin/chromium")
        assert shown == "2 cases: 2 passed, 0 failed\n"

    def test_the_page_shows_the_report_of_a_failed_case(self):
        """Apart from the times and the number of cases: aiohttp accepts masked frames."""
        client = EXAMPLES / "conformance" / "walk.py"
        words = ("--cases", "framing.masked-ping", "--", sys.executable, client, "{server}")
        failed, _, end = run_command(*words).stdout.partition("\n\n")
        shown, _, numbers = PAGE.block("FAILED ").partition("\n\n")
        times = re.compile(r"\d+\.\d+(?= s)")
        assert times.sub("N", failed) == times.sub("N", shown)
        assert end == "1 cases: 0 passed, 1 failed\n"
        assert re.fullmatch(r"\d+ cases: \d+ passed, \d+ informational, 1 failed\n", numbers)


class CommandTests:
    """The exit status and the output of `wsserver conformance`."""

    def test_a_program_that_does_not_exist_is_status_2(self):
        done = run_command("--", "/nowhere/client", "{url}")
        assert done.returncode == 2
        assert done.stderr == "wsserver: cannot run /nowhere/client: No such file or directory\n"

    def test_a_program_that_never_connects_is_status_2_with_its_output(self):
        done = run_command(
            "--cases", "pings", "--", sys.executable, "-c", "print('oh'); raise SystemExit(3)", "{server}"
        )
        assert done.returncode == 2
        assert (
            done.stderr
            == "wsserver: no case was run: the client did not connect; the client ended with status 3: | oh\n"
        )

    def test_a_program_that_does_not_end_is_killed(self, tmp_path):
        code = (
            "import sys, time; from websockets.sync.client import connect; connect(sys.argv[1]).recv(); time.sleep(999)"
        )
        done = run_command("--cases", "pings.empty", "--timeout", "0.5", "--", sys.executable, "-c", code, "{url}")
        assert done.returncode == 0, done.stdout

    def test_cases_without_a_result_are_status_1(self, tmp_path):
        """The program runs one case only."""
        code = "import sys; from websockets.sync.client import connect; [*connect(sys.argv[1] + '/case/1?agent=me')]"
        done = run_command(
            "--cases", "pings", "--junit", tmp_path / "out.xml", "--", sys.executable, "-c", code, "{server}"
        )
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == "11 cases: 1 passed, 0 failed, 10 not run"
        assert len(list(ET.parse(tmp_path / "out.xml").iter("error"))) == 10
