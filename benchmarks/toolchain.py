"""
What has to be there before anything can be measured: compiled programs, the peers, a certificate.

Everything is made below build/bench and kept; remove that folder to have newer peers.
"""

# ruff: noqa: S603 (fixed commands, found on the path of whoever measures)

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
    """Something can't be had; the text says why."""


def run(*command: str | Path, **more: object) -> str:
    """Run a command and return what it prints; raise ToolchainError with its last words if it fails."""
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
    Make ready what these peers and the load need.

    Returns:
        Peer -> why it can't be had.

    Raises:
        ToolchainError: there is no load generator, so nothing can be measured.
    """
    BENCH.mkdir(parents=True, exist_ok=True)
    if not (HERE / SUBJECT).exists():
        raise ToolchainError(f"wsserver isn't installed beside {Path(sys.executable).name}: pip install --editable .")
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
    """Compile a C program of this folder if it has changed."""
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
    """Make a certificate for the row with TLS, self-signed and short-lived: the load doesn't look at it."""
    names = "-keyout", BENCH / "key.pem", "-out", BENCH / "cert.pem"
    curve = "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"
    run("openssl", "req", "-x509", *curve, *names, "-days", "7", "-subj", "/CN=127.0.0.1")


def get_python(peer: Peer) -> None:
    """Install a Python peer into the virtual environment of the peers, once."""
    stamp = BENCH / "venv" / f"{peer.name}.installed"
    if stamp.exists():
        return
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", BENCH / "venv")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages)
    stamp.touch()


def get_node(peer: Peer) -> None:
    """Install a Node.js peer."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise ToolchainError("no node or no npm here")
    folder = BENCH / "node"
    if (folder / "node_modules" / peer.packages[0]).exists():
        return
    folder.mkdir(exist_ok=True)
    run("npm", "install", "--prefix", folder, "--no-save", "--silent", *peer.packages)


def get_go(peer: Peer) -> None:
    """Compile a Go peer from the packages of Debian or of its kin."""
    if shutil.which("go") is None:
        raise ToolchainError("no go here; benchmarks/install_system_packages.sh installs it where there is apt-get")
    for command in (peer.command, peer.fanout):
        name = Path(command[0]).name
        source, program = FOLDER / "servers" / f"{name}.go", BENCH / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            environment = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
            run("go", "build", "-o", program, source, env=environment)


def get_nginx(_peer: Peer) -> None:
    """Look for nginx and its module."""
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
    """Tell the version of each peer."""
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
    """Tell the versions of Node.js and of the package."""
    packages = [json.loads((BENCH / "node/node_modules" / name / "package.json").read_text()) for name in peer.packages]
    return ", ".join(
        [f"node {run('node', '--version')}", *(f"{found['name']} {found['version']}" for found in packages)]
    )


def go_version(_peer: Peer) -> str:
    """Tell the versions of Go and of Debian's package."""
    try:
        package = run("dpkg-query", "--show", "--showformat", "${Version}", "golang-github-gorilla-websocket-dev")
    except ToolchainError:
        package = "?"
    return f"{run('go', 'version').split()[2]}, gorilla/websocket {package}"


def nginx_version(_peer: Peer) -> str:
    """Tell the version of Debian's packages."""
    try:
        listed = run("dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", "nginx", "libnginx-mod-nchan")
    except ToolchainError:
        return "?"
    return listed.strip(", ")


def own_version(_peer: Peer) -> str:
    """Tell the version of the server under test, and of the commit where there is one."""
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
