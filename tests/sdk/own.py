"""This project's own tests that use the SDKs, run with pytest: in processes, and in Chromium."""

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from outcomes import Case, Outcome
from targets import ROOT, SDKError, version_of

__all__ = ["Browser", "Processes"]

SUPPORT = ROOT / "tests" / "support"
TIMEOUT = 3600.0
"""Seconds for all tests of a file."""


class Processes:
    """The tests with every SDK, transport and protocol that runs in a process of its own."""

    name = "processes"
    files = (
        "tests/integration/endpoints/test_centrifuge_sdks.py",
        "tests/integration/endpoints/test_centrifuge_deltas.py",
    )
    options = ("--reactor=default", "--all-sdks")

    def __init__(self, out: Path) -> None:
        self._out = out

    def run(self, say: Callable[[str], None]) -> Iterator[Outcome]:
        """
        Run the tests, and return an outcome for each SDK, transport and protocol.

        Raises:
            SDKError: pytest wrote no report.
        """
        report = self._out / f"{self.name}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *self.options, *self.files]
        say(f"{self.name}: {' '.join(self.files)}")
        started = time.monotonic()
        with (self._out / f"{self.name}.log").open("wb") as log:
            try:
                subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=TIMEOUT, check=False)
            except subprocess.TimeoutExpired as expired:
                raise SDKError(f"{self.name}: {expired}") from expired
        if not report.exists():
            raise SDKError(f"pytest wrote no report; see {self._out / f'{self.name}.log'}")
        say(f"  took {time.monotonic() - started:.0f} s")
        for kind, tests in sorted(self.read(report).items()):
            cases = [case for case, _ in tests]
            for case in cases:
                if case.error is not None:
                    say(f"  failed: {case.name}: {case.error}")
            seconds = sum(took for _, took in tests)
            what = f"our tests: {self.describe(kind)}"
            yield Outcome(what, self.sdk(kind), version_of("wsserver"), cases, seconds)

    def read(self, report: Path) -> dict[str, list[tuple[Case, float]]]:
        """Return the tests in a report of pytest and the seconds that each took, by SDK, transport and protocol."""
        by_kind: dict[str, list[tuple[Case, float]]] = {}
        for test in ET.parse(report).iter("testcase"):
            wrong = next((child for child in test if child.tag in {"failure", "error"}), None)
            error = None if wrong is None else (wrong.get("message") or "failed").partition("\n")[0]
            name = test.get("name") or ""
            case = Case(f"{(test.get('classname') or '').rpartition('.')[2]}.{name}", error)
            by_kind.setdefault(self.kind(name), []).append((case, float(test.get("time") or 0)))
        return by_kind

    def kind(self, name: str) -> str:
        """Return the SDK, the transport and the protocol in the name of a test."""
        found = re.search(r"[\[-]((?:javascript|python|java)\b(?:-http_stream|-sse)?(?:-protobuf)?)", name)
        return found[1] if found else "other"

    def describe(self, kind: str) -> str:
        """Return the transport and the protocol."""
        transport = next((name for name in ("http_stream", "sse") if name in kind), "WebSocket")
        return f"{transport}, {'Protobuf' if kind == 'java' or 'protobuf' in kind else 'JSON'}"

    def sdk(self, kind: str) -> str:
        """Return the name and the version of an SDK."""
        if kind.startswith("javascript"):
            return f"centrifuge {version_in('node.py', 'centrifuge@')} (JavaScript)"
        if kind == "java":
            return f"centrifuge-java {version_in('sdks/java/pom.xml', 'centrifuge-java</artifactId>')}"
        return f"centrifuge-python {version('centrifuge-python')}"


class Browser(Processes):
    """The tests with the JavaScript SDK in pages of Chromium."""

    name = "browser"
    files = ("tests/browser/test_centrifuge.py",)
    options = ("-k", "not OneWay")

    def kind(self, name: str) -> str:
        """Return the transport and the protocol in the name of a test."""
        return "javascript" + "".join(f"-{word}" for word in ("http_stream", "sse", "protobuf") if word in name)

    def describe(self, kind: str) -> str:
        """Return the transport and the protocol."""
        return f"Chromium, {super().describe(kind)}"


def version_in(file: str, package: str) -> str:
    """Return the version that follows a package's name in a file of tests/support."""
    text = (SUPPORT / file).read_text("utf-8")
    found = re.search(re.escape(package) + r"(?:\s*<version>)?([0-9.]+)", text)
    if found is None:
        raise SDKError(f"{file}: no version of {package}")
    return found[1].rstrip(".")
