"""`--cases` and `wsserver conformance` with real clients, and with clients that have a flaw."""

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
from waiting import wait_until

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


def is_zombie(number):
    """Return whether a process has ended, and its status was not read yet."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


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

    def test_python_and_node_over_tls(self, follow):
        assert follow("wsserver conformance --tls -- python client.py") == "2 cases: 2 passed, 0 failed\n"
        assert follow("wsserver conformance --tls -- node client.mjs") == "2 cases: 2 passed, 0 failed\n"

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
        done = run_command("--tls", "--cases", "pings.ten", "--", program, "{url}")
        assert done.stdout == "1 case: 1 passed, 0 failed\n"

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
        assert end == "1 case: 0 passed, 1 failed\n"
        assert re.fullmatch(r"\d+ cases: \d+ passed, \d+ informational, 1 failed\n", numbers)


class CommandTests:
    """The exit status and the output of `wsserver conformance`."""

    def test_a_program_that_does_not_exist_is_status_2(self):
        done = run_command("--", "/nowhere/client", "{url}")
        assert done.returncode == 2
        assert done.stderr == "wsserver: cannot run /nowhere/client: No such file or directory\n"

    @pytest.mark.parametrize(
        ("path", "problem"), [("missing/out.xml", "No such file or directory"), (".", "Is a directory")]
    )
    def test_a_report_that_cannot_be_written_is_status_2_before_the_run(self, tmp_path, path, problem):
        started, junit = tmp_path / "started", tmp_path / path
        done = run_command("--junit", junit, "--cases", "pings", "--", "touch", started, "{server}")
        assert (done.returncode, done.stderr) == (2, f"wsserver: cannot write {junit}: {problem}\n")
        assert not started.exists()

    def test_a_program_that_never_connects_is_status_2_with_its_output(self, tmp_path):
        """The report has all cases, as errors."""
        code = "print('oh'); raise SystemExit(3)"
        junit = tmp_path / "out.xml"
        done = run_command("--junit", junit, "--cases", "pings", "--", sys.executable, "-c", code, "{server}")
        assert done.returncode == 2
        assert len(list(ET.parse(junit).iter("error"))) == 11
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

    def test_what_a_client_leaves_in_the_background_ends_with_it(self, tmp_path):
        script = f"sleep 300 & echo $! > {tmp_path}/pid; exit 3; {{url}}"
        done = run_command("--cases", "pings.empty", "--", "sh", "-c", script)
        assert "the client ended with status 3" in done.stderr
        number = int((tmp_path / "pid").read_text())
        wait_until(lambda: not Path(f"/proc/{number}").exists() or is_zombie(number), "the end of the process")

    def test_keeps_the_end_of_a_long_output_only(self):
        """What a client prints does not fill the disk or the memory."""
        code = "import sys; sys.stdout.write('x' * 30_000_000 + '\\nthe end\\n'); sys.exit(3); '{url}'"
        done = run_command("--cases", "pings.empty", "--", sys.executable, "-c", code)
        assert done.stderr.endswith("xxx | the end\n")
        assert 2000 < len(done.stderr) < 2200

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_run_and_its_clients(self, number, tmp_path):
        """Not the client is to blame for cases that were not run."""
        code = f"import os, time; open('{tmp_path}/pid', 'w').write(f'{{os.getpid()}}\\n'); time.sleep(300)"
        command = [sys.executable, "-c", SERVE, "conformance", "--", sys.executable, "-c", code, "{server}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            path = tmp_path / "pid"
            wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "the client")
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT)
        assert errors == f"wsserver: the run was interrupted by {number.name}\n"
        assert process.returncode == -number
        child = int(path.read_text())
        wait_until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), "the end of the client")

    def test_a_client_for_all_cases_that_runs_none_is_killed(self):
        serve = f"import wsserver.cli.conformance.session as session; session.STALL_TIMEOUT = 0.3; {SERVE}"
        words = ["conformance", "--timeout", "0.2", "--", "sh", "-c", "echo {server}; exec sleep 300"]
        command = [sys.executable, "-c", serve, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 2
        assert "the client was killed: it finished no case for 0.5 seconds: | ws://127.0.0.1:" in done.stderr


class TlsTests:
    """`wsserver conformance --tls`."""

    CONNECT = (
        "import os, ssl, sys; from websockets.sync.client import connect\n"
        "context = ssl.create_default_context(cafile=sys.argv[2] if len(sys.argv) > 2 else None)\n"
        "with connect(sys.argv[1], ssl=context) as client:\n"
        "    for message in client: client.send(message)\n"
    )
    WITHOUT_VARIABLES = ("env", "-u", "SSL_CERT_FILE", "-u", "NODE_EXTRA_CA_CERTS")

    def run_client(self, *arguments):
        words = [*self.WITHOUT_VARIABLES, sys.executable, "-c", self.CONNECT, "{url}", *arguments]
        return run_command("--tls", "--cases", "pings.t*", "--", *words)

    def test_a_client_can_trust_the_file_of_the_authority(self):
        done = self.run_client("{ca}")
        assert (done.returncode, done.stdout) == (0, "2 cases: 2 passed, 0 failed\n")

    def test_a_client_that_does_not_trust_the_authority_runs_no_case(self):
        done = self.run_client()
        assert done.returncode == 2
        assert "certificate verify failed" in done.stderr

    def test_all_cases_in_one_program(self):
        words = ("--", sys.executable, EXAMPLES / "conformance" / "walk.py", "{server}")
        done = run_command("--tls", "--cases", "pings.t*", "--cases", "limits.*-1m", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failed" in done.stdout

    def test_removes_the_files_of_the_run(self):
        words = ("--", "sh", "-c", "ls {ca}; exit 3; {url}")
        done = run_command("--tls", "--cases", "pings.empty", *words)
        path = done.stderr.split("| ")[-1].strip()
        assert path.endswith("/ca.pem")
        assert not Path(path).parent.exists()
