"""
Prepare a benchmark: compile the C programs, install the peers, create a certificate.

The results are kept in build/bench; delete that folder to get newer peers.
"""

# ruff: noqa: S603 (fixed commands, found on the user's path)

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers import FOLDER, PEERS, SUBJECT, Peer

__all__ = ["BENCH", "HERE", "LOAD", "ROOT", "ToolchainError", "prepare", "versions"]

ROOT = FOLDER.parent
BENCH = ROOT / "build" / "bench"
LOAD = BENCH / "load"
HERE = Path(sys.executable).parent
SECONDS = 600
PYTHON = BENCH / "venv" / "bin" / "python"


class ToolchainError(Exception):
    """Something cannot be installed or compiled; the message says why."""


def run(*command: str | Path, **more: object) -> str:
    """
    Run a command and return its output.

    If the command fails, raise ToolchainError with the last line of its standard error.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=SECONDS, check=False, **more
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ToolchainError(str(failure)) from failure
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ToolchainError(f"{command[0]}: {words[-1] if words else 'failed'}")
    return done.stdout.strip()


def prepare(names: list[str]) -> dict[str, str]:
    """
    Prepare the load and the named peers.

    Returns:
        Name of each peer that is not available -> the reason.

    Raises:
        ToolchainError: the server or the load generator is missing, so nothing can be measured.
    """
    BENCH.mkdir(parents=True, exist_ok=True)
    if not (HERE / SUBJECT).exists():
        raise ToolchainError(f"wsserver is not installed for {Path(sys.executable).name}: pip install --editable .")
    compile_c("load", "-lssl", "-lcrypto", "-lz")
    make_certificate()
    missing = {}
    for peer in PEERS:
        if peer.name in names:
            try:
                GET[peer.kind](peer)
            except ToolchainError as failure:
                missing[peer.name] = str(failure)
    return missing


def compile_c(name: str, *libraries: str) -> None:
    """Compile a C program in this folder if its source has changed."""
    source, program = FOLDER / f"{name}.c", BENCH / name
    newest = max(part.stat().st_mtime for part in [source, *(FOLDER / name).glob("*.h")])
    if program.exists() and program.stat().st_mtime > newest:
        return
    if shutil.which("gcc") is None:
        raise ToolchainError("no gcc; benchmarks/install_system_packages.sh installs it")
    try:
        run("gcc", "-O2", "-Wall", "-Wextra", "-o", program, source, *libraries)
    except ToolchainError as failure:
        raise ToolchainError(f"{failure} (needs libssl-dev and zlib1g-dev)") from failure


def make_certificate() -> None:
    """Create a self-signed certificate, valid for 7 days, for the TLS row. The load does not verify it."""
    names = "-keyout", BENCH / "key.pem", "-out", BENCH / "cert.pem"
    curve = "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"
    run("openssl", "req", "-x509", *curve, *names, "-days", "7", "-subj", "/CN=127.0.0.1")


def get_python(peer: Peer) -> None:
    """Install a Python peer into the virtual environment of the peers, unless that was done before."""
    stamp = BENCH / "venv" / f"{peer.name}.installed"
    if stamp.exists():
        return
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", BENCH / "venv")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages)
    stamp.touch()


def get_node(peer: Peer) -> None:
    """Install a Node.js peer, unless it is installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise ToolchainError("no node or no npm here")
    folder = BENCH / "node"
    if (folder / "node_modules" / peer.packages[0]).exists():
        return
    folder.mkdir(exist_ok=True)
    run("npm", "install", "--prefix", folder, "--no-save", "--silent", *peer.packages)


def get_go(peer: Peer) -> None:
    """Compile a Go peer against the packages of Debian or a derivative."""
    if shutil.which("go") is None:
        raise ToolchainError("no go here; benchmarks/install_system_packages.sh installs it where there is apt-get")
    for command in (peer.command, peer.fanout):
        name = Path(command[0]).name
        source, program = FOLDER / "servers" / f"{name}.go", BENCH / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            environment = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
            run("go", "build", "-o", program, source, env=environment)


def get_nginx(_peer: Peer) -> None:
    """Check that nginx and the nchan module are installed."""
    if shutil.which("nginx") is None or not list(Path("/usr/lib/nginx/modules").glob("ngx_nchan_module.so")):
        raise ToolchainError("no nginx with nchan here; benchmarks/install_system_packages.sh installs it on Debian")


GET = {
    "python": get_python,
    "node": get_node,
    "go": get_go,
    "nginx": get_nginx,
    "c": lambda _peer: compile_c("echo", "-lcrypto"),
    "here": lambda _peer: None,
}


def versions(names: list[str]) -> dict[str, str]:
    """Return the version of each peer."""
    installed = {}
    if PYTHON.exists():
        listed = json.loads(run(PYTHON, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"))
        installed = {package["name"].lower(): package["version"] for package in listed}
    found = {}
    for peer in PEERS:
        if peer.name not in names:
            continue
        if peer.kind == "python":
            packages = [package.partition("[")[0] for package in peer.packages]
            found[peer.name] = ", ".join(f"{package} {installed.get(package, '?')}" for package in packages)
        else:
            found[peer.name] = VERSION[peer.kind](peer)
    return found


def node_version(peer: Peer) -> str:
    """Return the versions of Node.js and of the peer's packages."""
    packages = [json.loads((BENCH / "node/node_modules" / name / "package.json").read_text()) for name in peer.packages]
    return ", ".join(
        [f"node {run('node', '--version')}", *(f"{found['name']} {found['version']}" for found in packages)]
    )


def go_version(_peer: Peer) -> str:
    """Return the versions of Go and of Debian's package."""
    try:
        package = run("dpkg-query", "--show", "--showformat", "${Version}", "golang-github-gorilla-websocket-dev")
    except ToolchainError:
        package = "?"
    return f"{run('go', 'version').split()[2]}, gorilla/websocket {package}"


def nginx_version(_peer: Peer) -> str:
    """Return the versions of Debian's packages."""
    try:
        listed = run("dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", "nginx", "libnginx-mod-nchan")
    except ToolchainError:
        return "?"
    return listed.strip(", ")


def own_version(_peer: Peer) -> str:
    """Return the version of the server under test, and its commit if it is in a Git repository."""
    try:
        commit = run("git", "-C", ROOT, "describe", "--always", "--dirty")
    except ToolchainError:
        commit = "no commit"
    return f"{' '.join(run(HERE / SUBJECT, 'version').split())} ({commit})"


VERSION = {
    "node": node_version,
    "go": go_version,
    "nginx": nginx_version,
    "c": lambda _peer: f"gcc {run('gcc', '-dumpfullversion')} -O2",
    "here": own_version,
}
