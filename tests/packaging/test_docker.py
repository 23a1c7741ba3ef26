"""
The image of `packaging/docker/Dockerfile`, as far as it can be tested without building it.

hadolint checks the file, and its commands run in an environment with the wheel installed.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from environments import Environment
from guide import Guide, read_settings
from paths import ROOT
from ports import free_port
from programs import environment, run, running
from waiting import TIMEOUT, wait_until
from websockets.sync.client import connect

FILE = ROOT / "packaging" / "docker" / "Dockerfile"
TEXT = FILE.read_text("utf-8")
IMAGE = TEXT[TEXT.rindex("\nFROM ") :]
"""The instructions of the last stage."""


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a Dockerfile."""
    command = [Path(sys.executable).with_name("hadolint"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def find_command(instruction: str) -> list[str]:
    """Return the words of an instruction in its JSON form, in which no shell runs as process 1."""
    words: list[str] = json.loads(re.search(rf"\b{instruction} (\[.*\])$", IMAGE, re.MULTILINE)[1])
    return words


def variables(port: int) -> dict[str, str]:
    """Return the environment variables of the image, and a port."""
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", IMAGE, re.MULTILINE)
    found = dict(word.split("=", 1) for word in shlex.split(block.replace("\\\n", " ")))
    assert found.pop("PATH") == "/opt/wsserver/bin:$PATH"
    return found | {"WSSERVER_PORT": str(port)}


class LintTests:
    """hadolint."""

    def test_finds_nothing(self):
        done = lint(FILE)
        assert (done.returncode, done.stdout) == (0, "")

    def test_finds_a_command_that_a_shell_would_run(self, tmp_path: Path):
        """The test above can fail."""
        wrong = tmp_path / "Dockerfile"
        wrong.write_text(TEXT.replace('ENTRYPOINT ["wsserver"]', "ENTRYPOINT wsserver"), "utf-8")
        assert "DL3025" in lint(wrong).stdout


class ComposeTests:
    """The service in docs/how-to/docker.md, with the schema of Compose; its server has the options that are named."""

    COMMAND = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")

    @pytest.mark.parametrize(("change", "status"), [("", 0), ("read_onyl", 1)], ids=["the page", "a mistake"])
    def test_the_schema_finds_mistakes_only(self, tmp_path: Path, change, status):
        text = Guide("how-to/docker").block("services:")
        (tmp_path / "compose.yaml").write_text(text.replace("read_only", change) if change else text)
        assert run(*self.COMMAND, "compose.yaml", directory=tmp_path).status == status

    def test_the_server_accepts_its_command(self):
        command = yaml.safe_load(Guide("how-to/docker").block("services:"))["services"]["wsserver"]["command"]
        assert read_settings(shlex.join(["wsserver", *command])).redis == "redis://redis:6379"


class ContextTests:
    """`.dockerignore` lets through what the build needs."""

    def test_includes_the_sources_and_nothing_else_of_the_top_level(self):
        lines = (ROOT / ".dockerignore").read_text("utf-8").split()
        included = {line[1:] for line in lines if line.startswith("!")}
        assert {line.partition("/")[0] for line in included} == {
            *("LICENSE", "MANIFEST.in", "README.md", "benchmarks", "pyproject.toml", "setup.py"),
            *("static", "twisted", "wsserver"),
        }
        assert "*" in lines

    def test_the_image_has_the_extras_that_a_server_uses(self):
        extras = set(re.search(r"\.\[([a-z,]+)\]", TEXT)[1].split(","))
        with (ROOT / "pyproject.toml").open("rb") as file:
            optional = set(tomllib.load(file)["project"]["optional-dependencies"])
        assert extras == optional - {"dev", "docs", "pytest"}


class ContainerTests:
    """The commands of the image."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"WSSERVER_ADMIN_LISTEN": "tcp:0:interface=127.0.0.1"}, {"WSSERVER_WORKERS": "2"}],
        ids=["default", "admin endpoint", "workers"],
    )
    def test_the_health_check_passes_while_the_server_runs_and_fails_afterwards(
        self, from_wheel: Environment, tmp_path: Path, options: dict[str, str]
    ):
        more = variables(free_port()) | options
        program, *words = find_command("CMD")
        assert program == "python"

        def check() -> int:
            return run(from_wheel.bin(program), *words, directory=tmp_path, environ=more).status

        server = (from_wheel.bin("wsserver"), "serve")
        with running(*server, directory=tmp_path, environ=more) as started:
            started.wait_for("the page is at")
            assert check() == 0
        assert check() != 0

    def test_the_server_as_process_1_closes_connections_and_exits_on_sigterm(
        self, from_wheel: Environment, tmp_path: Path
    ):
        """The kernel ignores signals to process 1 that have no handler, also those that a process sends to itself."""
        [entry] = find_command("ENTRYPOINT")
        port = free_port()
        # Like a container: process 1 of a namespace.
        container = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
        command = [*container, str(from_wheel.bin(entry)), *find_last_command()]
        output = tmp_path / "output.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=tmp_path, env=environment(variables(port)), stdout=file, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: "the page is at" in output.read_text(), output.read_text)
            [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as client:
                os.kill(int(child), signal.SIGTERM)
                with pytest.raises(Exception, match="the server is stopping"):
                    client.recv(TIMEOUT)
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
            process.wait()


def find_last_command() -> list[str]:
    """Return the default arguments of the entry point."""
    words: list[str] = json.loads(re.findall(r"^CMD (\[.*\])$", IMAGE, re.MULTILINE)[0])
    return words
