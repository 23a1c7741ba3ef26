"""
The npm packages that tests use, installed once below build/.

They are Centrifugo's SDK, `ws`, EventSource polyfills, and judges: `fossil-delta` of deltas, `axe-core` of the
accessibility of pages, and the parser of AsyncAPI. Puppeteer drives Firefox, and wscat is a client for terminals.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

__all__ = ["PACKAGES", "install_node_packages"]

NODE = ROOT / "build" / "node"
PACKAGES = (
    *("centrifuge@5.8.0", "ws@8.23.0", "event-source-polyfill@1.0.31", "eventsource@4.1.1"),
    *("fossil-delta@2.0.0", "axe-core@4.14.1", "@asyncapi/parser@3.6.6", "puppeteer-core@24.43.1"),
    "wscat@6.1.0",
)


def install_node_packages() -> Path:
    """Install the packages once; return the directory that contains `node_modules`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.exit("the tests of the SDKs need node and npm: tests/install_system_packages.sh", returncode=1)
    NODE.mkdir(parents=True, exist_ok=True)
    with (NODE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = NODE / "installed"
        if not stamp.exists() or stamp.read_text() != str(PACKAGES):
            command = ["npm", "install", "--prefix", str(NODE), "--no-save", "--no-audit", "--no-fund", *PACKAGES]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.exit(f"npm cannot install the SDK:\n{done.stdout}{done.stderr}", returncode=1)
            stamp.write_text(str(PACKAGES))
    return NODE
