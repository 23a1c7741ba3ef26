"""
The servers that the SDKs' own tests connect to: this one, and Centrifugo for comparison.

The tests contain their server's address: `localhost:8000`.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

__all__ = ["BUILD", "HERE", "PORT", "ROOT", "SDKError", "running", "version_of"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "sdk"
CONFIGS = HERE / "configs"
PORT = 8000
SECONDS_TO_START = 20.0
SECONDS_TO_STOP = 15.0


class SDKError(Exception):
    """A suite cannot be run; the text says why."""


def version_of(server: str) -> str:
    """Return the name and the version of a server."""
    if server == "wsserver":
        return f"wsserver {version('wsserver')}"
    done = subprocess.run([install_centrifugo(), "version"], capture_output=True, text=True, timeout=10, check=True)
    return " ".join(done.stdout.split()[:2]).replace(" v", " ")


@contextmanager
def running(server: str, suite: str, out: Path) -> Iterator[None]:
    """
    Run a server on port 8000 until the block ends.

    Args:
        server: `wsserver` or `centrifugo`.
        suite: the name of the configuration file in `configs/`, without its ending.
        out: the directory for the server's log.

    Raises:
        SDKError: the port is taken, or the server did not start.
    """
    if server == "wsserver":
        twistd = str(Path(sys.executable).parent / "twistd")
        command = [twistd, "-n", "--pidfile=", "wsserver", "--config", str(CONFIGS / f"{suite}.toml")]
    else:
        command = [install_centrifugo(), "--config", str(CONFIGS / f"{suite}.json")]
    if answers():
        raise SDKError(f"port {PORT} is taken, and the tests of the SDKs use no other one")
    log = out / f"{suite}-{server}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=out, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SDKError(f"{server} did not start: {log.read_text(errors='replace').strip()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers() -> bool:
    """Return whether a server accepts connections on the port."""
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=1):
            return True
    except OSError:
        return False


def install_centrifugo() -> str:
    """Compile Centrifugo from the Go module proxy as for the benchmarks, unless that is done; return its path."""
    # Imported only here, because a module of tests/support is called `peers`, too.
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from installers import BENCH, INSTALLERS, ToolchainError
    from peers import BY_NAME

    peer = BY_NAME["centrifugo"]
    BENCH.mkdir(parents=True, exist_ok=True)
    try:
        INSTALLERS[peer.kind](peer)
    except ToolchainError as failure:
        raise SDKError(str(failure)) from failure
    return str(BENCH / peer.name)
