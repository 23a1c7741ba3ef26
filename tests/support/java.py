"""The program that drives Centrifugo's Java SDK, compiled once below build/ with the SDK from Maven Central."""

import fcntl
import os
import shutil
import subprocess

import pytest
from paths import ROOT, TESTS

__all__ = ["install_java_client"]

JAVA = ROOT / "build" / "java"
SOURCE = TESTS / "support" / "sdks" / "java"
START_FASTER = "-XX:TieredStopAtLevel=1"
"""An option of the JVM that makes short programs start faster."""


def install_java_client() -> list[str]:
    """Download the SDK and compile the program, unless that is done; return the command that runs the program."""
    if shutil.which("javac") is None or shutil.which("mvn") is None:
        pytest.exit("the tests of the Java SDK need javac and mvn: tests/install_system_packages.sh", returncode=1)
    JAVA.mkdir(parents=True, exist_ok=True)
    with (JAVA / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = JAVA / "installed", (SOURCE / "pom.xml").read_text() + (SOURCE / "Sdk.java").read_text()
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(JAVA / "lib", ignore_errors=True)
            download = ["mvn", "--batch-mode", "--quiet", "--file", str(SOURCE / "pom.xml")]
            run(*download, "dependency:copy-dependencies", f"-DoutputDirectory={JAVA / 'lib'}")
            run(
                "javac",
                "-Xlint:none",
                "-cp",
                f"{JAVA / 'lib'}/*",
                "-d",
                str(JAVA / "classes"),
                str(SOURCE / "Sdk.java"),
            )
            stamp.write_text(wanted)
    return ["java", START_FASTER, "-cp", os.pathsep.join([str(JAVA / "classes"), f"{JAVA / 'lib'}/*"]), "Sdk"]


def run(*command: str) -> None:
    """Run a command; end the test run if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.exit(f"the Java SDK cannot be installed:\n{done.stdout}{done.stderr}", returncode=1)
