"""The systemd units in `packaging/systemd`, checked by systemd's own programs."""

import re
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
from paths import DOCS, ROOT

from wsserver.config.settings import Settings
from wsserver.listening.endpoint_strings import parse_endpoint
from wsserver.process.supervisor import LEAVE_MARGIN

UNITS = ROOT / "packaging" / "systemd"
PROGRAM = "/opt/wsserver/bin/wsserver"
MAX_EXPOSURE = 15
"""Ten times the exposure level that `systemd-analyze security` may report, from 0 (safe) to 100."""


class UnitParser(RawConfigParser):
    """Parses the units, in which no name is repeated except that of system calls."""

    def optionxform(self, optionstr: str) -> str:
        """Keep upper case."""
        return optionstr


def read_unit(name: str) -> UnitParser:
    """Return the sections of a unit."""
    parser = UnitParser(strict=False, delimiters="=", comment_prefixes="#", interpolation=None)
    parser.read_string((UNITS / name).read_text("utf-8"))
    return parser


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a directory with the units, which run the program of this environment."""
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    service = tmp_path / "wsserver.service"
    text = service.read_text("utf-8")
    assert text.count(PROGRAM) == 1
    service.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("wsserver"))), "utf-8")
    return tmp_path


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class AnalyzeTests:
    """`systemd-analyze`."""

    def test_verify_finds_nothing(self, installed: Path):
        done = analyze("verify", "--man=no", installed / "wsserver.service", installed / "wsserver.socket")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_verify_finds_a_misspelled_directive(self, installed: Path):
        """The test above can fail."""
        service = installed / "wsserver.service"
        service.write_text(service.read_text("utf-8").replace("WatchdogSec", "WatchdogSecs"), "utf-8")
        assert "WatchdogSecs" in analyze("verify", "--man=no", service).stderr

    def test_the_service_is_exposed_no_more_than_the_documentation_says(self, installed: Path):
        security = ("security", "--offline=yes", "--no-pager")
        done = analyze(*security, f"--threshold={MAX_EXPOSURE}", installed / "wsserver.service")
        assert done.returncode == 0, done.stdout
        level = re.search(r"Overall exposure level for wsserver.service: ([0-9.]+)", done.stdout)[1]
        assert f"exposure level of {level}" in " ".join((DOCS / "how-to" / "systemd.md").read_text("utf-8").split())


class UnitTests:
    """What the units say fits the server and each other."""

    def test_the_service_listens_on_the_socket_of_the_socket_unit(self):
        socket = read_unit("wsserver.socket")["Socket"]
        command = read_unit("wsserver.service")["Service"]["ExecStart"].split()
        listen = parse_endpoint(command[command.index("--listen") + 1])
        assert listen.options == {"domain": "INET", "name": socket["FileDescriptorName"]}
        assert re.fullmatch(r"[0-9.]+:8080", socket["ListenStream"])

    def test_only_the_main_process_gets_sigterm_and_all_processes_may_take_the_time_of_a_drain(self):
        """A worker that got SIGTERM as well as the message of its supervisor might drop its clients."""
        service = read_unit("wsserver.service")["Service"]
        assert service["KillMode"] == "mixed"
        assert "ExecStop" not in service
        seconds = int(service["TimeoutStopSec"].removesuffix("s"))
        assert seconds > Settings().drain_timeout + LEAVE_MARGIN

    def test_the_service_can_open_as_many_files_as_it_has_connections(self):
        limit = int(read_unit("wsserver.service")["Service"]["LimitNOFILE"])
        assert limit > Settings().max_connections + 1000

    def test_the_documentation_shows_no_unit_that_differs_from_the_files(self):
        text = (DOCS / "how-to" / "systemd.md").read_text("utf-8")
        for name in ("wsserver.service", "wsserver.socket"):
            assert f"packaging/systemd/{name}" in text
