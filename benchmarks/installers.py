"""
Install the peers into build/bench, from Debian's packages, PyPI, npm, crates.io and the Go module proxy.

Each kind of peer (`Peer.kind`) has one function that installs it, unless that version is installed, and one that
returns its version.
"""

# ruff: noqa: S603 (fixed commands, found on the user's path)

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from peers import FOLDER, Peer

__all__ = ["BENCH", "INSTALLERS", "PYTHON", "ROOT", "VERSIONS", "ToolchainError", "run"]

ROOT = FOLDER.parent
BENCH = ROOT / "build" / "bench"
SECONDS = 1800
"""Limit for one command: on a slow machine, compiling Centrifugo takes a quarter of an hour."""

VENV = BENCH / f"venv-{platform.python_version()}"
"""The virtual environment of the Python peers. They run with the same Python as wsserver."""

PYTHON = VENV / "bin" / "python"
NODE = BENCH / "node"
RUST = FOLDER / "servers" / "rust"
GO = FOLDER / "servers" / "go"
INSTALLS = "benchmarks/install_system_packages.sh installs it on Debian"


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


def need(program: str, advice: str = INSTALLS) -> None:
    """Raise ToolchainError if a program is not on the path."""
    if shutil.which(program) is None:
        raise ToolchainError(f"{program} is not installed; {advice}")


def install_python(peer: Peer) -> None:
    """Install a Python peer into the virtual environment of the peers."""
    stamp = VENV / f"{peer.name}.installed"
    if stamp.exists() and stamp.read_text() == " ".join(peer.packages):
        return
    if not PYTHON.exists():
        run(sys.executable, "-m", "venv", VENV)
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages)
    stamp.write_text(" ".join(peer.packages))


def python_version(peer: Peer) -> str:
    """Return the versions of the peer's packages."""
    listed = json.loads(run(PYTHON, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"))
    installed = {package["name"].lower(): package["version"] for package in listed}
    names = [package.partition("==")[0].partition("[")[0] for package in peer.packages]
    return ", ".join(f"{name} {installed.get(name, '?')}" for name in names)


def npm_package(package: str) -> str:
    """Return the name and the version of an installed package; the name and `?` if it is not installed."""
    name = package.rpartition("@")[0]
    file = NODE / "node_modules" / name / "package.json"
    return f"{name} {json.loads(file.read_text())['version'] if file.exists() else '?'}"


def install_npm(peer: Peer) -> None:
    """Install the peer's packages from npm."""
    need("npm", "it comes with Node.js")
    if all(npm_package(package) == " ".join(package.rsplit("@", 1)) for package in peer.packages):
        return
    NODE.mkdir(exist_ok=True)
    run("npm", "install", "--prefix", NODE, "--save-exact", "--silent", *peer.packages)


def npm_version(peer: Peer) -> str:
    """Return the versions of Node.js and of the peer's packages."""
    return ", ".join([f"node {run('node', '--version')}", runtime_version(peer)])


def runtime_version(peer: Peer) -> str:
    """Return the versions of the peer's packages."""
    return ", ".join(npm_package(package) for package in peer.packages)


def install_go(_peer: Peer) -> None:
    """Compile all our Go programs; Go compiles only what has changed."""
    need("go")
    run("nice", "go", "build", "-p", "1", "-mod", "readonly", "-o", f"{BENCH}/", "./...", cwd=GO)


def go_version(peer: Peer) -> str:
    """Return the versions of Go and of the peer's module."""
    module = run("go", "list", "-m", *peer.packages, cwd=GO)
    return f"{run('go', 'version').split()[2]}, {module.removeprefix('github.com/')}"


def install_go_module(peer: Peer) -> None:
    """Compile a program from a Go module with its version number, as its publisher's release build does."""
    need("go")
    package, _, version = peer.packages[0].partition("@")
    program = BENCH / peer.name
    if program.exists() and f"{package}\t{version}" in run("go", "version", "-m", program):
        return
    linker = f"-s -w -X {package}/internal/build.Version={version.lstrip('v')}"
    environment = os.environ | {"GOBIN": str(BENCH), "CGO_ENABLED": "0"}
    run("nice", "go", "install", "-p", "1", "-ldflags", linker, peer.packages[0], env=environment)


def go_module_version(peer: Peer) -> str:
    """Return the versions of Go and of the program."""
    package, _, version = peer.packages[0].partition("@")
    return f"{run('go', 'version').split()[2]}, {package.removeprefix('github.com/')} {version}"


def install_cargo(_peer: Peer) -> None:
    """Compile our Rust programs; Cargo compiles only what has changed."""
    need("cargo")
    target = BENCH / "cargo"
    run("nice", "cargo", "build", "--release", "--locked", "--jobs", "1", "--target-dir", target, cwd=RUST)


def cargo_version(peer: Peer) -> str:
    """Return the versions of Rust and of the peer's crate."""
    crate = run("cargo", "pkgid", "--offline", *peer.packages, cwd=RUST).rpartition("@")[2]
    return f"{' '.join(run('rustc', '--version').split()[:2])}, {peer.packages[0]} {crate}"


def check_nginx(_peer: Peer) -> None:
    """Check that nginx and the nchan module are installed."""
    need("nginx")
    if not list(Path("/usr/lib/nginx/modules").glob("ngx_nchan_module.so")):
        raise ToolchainError(f"the nchan module of nginx is not installed; {INSTALLS}")


def nginx_version(_peer: Peer) -> str:
    """Return the versions of Debian's packages."""
    try:
        listed = run("dpkg-query", "--show", "--showformat", "${Package} ${Version}, ", "nginx", "libnginx-mod-nchan")
    except ToolchainError:
        return "?"
    return listed.strip(", ")


INSTALLERS = {
    "python": install_python,
    "npm": install_npm,
    "node": install_npm,
    "go": install_go,
    "gomodule": install_go_module,
    "cargo": install_cargo,
    "nginx": check_nginx,
}

VERSIONS = {
    "python": python_version,
    "npm": npm_version,
    "node": runtime_version,
    "go": go_version,
    "gomodule": go_module_version,
    "cargo": cargo_version,
    "nginx": nginx_version,
}
