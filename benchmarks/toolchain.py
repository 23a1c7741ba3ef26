"""
Prepare a benchmark: compile the C programs, install the peers, create a certificate.

The results are kept in build/bench.
"""

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from installers import BENCH, INSTALLERS, ROOT, VERSIONS, ToolchainError, run
from peers import FOLDER, PEERS, SUBJECT, Peer

__all__ = [
    "BENCH",
    "HERE",
    "LOAD",
    "ROOT",
    "ToolchainError",
    "describe_python",
    "prepare",
    "subject_environment",
    "versions",
]

LOAD = BENCH / "load"
HERE = Path(sys.executable).parent


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
                install(peer)
            except ToolchainError as failure:
                missing[peer.name] = str(failure)
    return missing


def install(peer: Peer) -> None:
    """Install a peer, unless it is installed."""
    if peer.kind == "c":
        compile_c("echo", "-lcrypto")
    elif peer.kind != "here":
        INSTALLERS[peer.kind](peer)


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


def subject_environment(python: Path) -> Path:
    """
    Install wsserver into a virtual environment of another Python, unless its source is unchanged since the last time.

    Returns:
        The folder of the environment.
    """
    version = run(python, "-c", "import platform; print(platform.python_version())")
    folder = BENCH / f"subject-{version}"
    stamp = folder / "installed"
    sources = [
        ROOT / "pyproject.toml",
        ROOT / "setup.py",
        *(ROOT / "wsserver").rglob("*.py*"),
        *(ROOT / "static").glob("*"),
    ]
    newest = max(source.stat().st_mtime for source in sources if "__pycache__" not in source.parts)
    if stamp.exists() and stamp.stat().st_mtime > newest:
        return folder
    if not stamp.exists():
        run(python, "-m", "venv", "--clear", folder)
    pip = folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"
    run(*pip, "install", f"{ROOT}[redis,speed]")
    run(*pip, "install", "--force-reinstall", "--no-deps", f"{ROOT}")
    stamp.touch()
    return folder


def describe_python() -> str:
    """
    Return the version of this Python, its path and how it was built.

    Debian builds its `python3` with profile-guided and link-time optimisation (PGO, LTO), as its changelog says, but
    `configure` does not get the arguments that turn these on elsewhere.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    origin = Path(sys.executable).resolve()
    built = [name for name, word in (("PGO", "--enable-optimizations"), ("LTO", "--with-lto")) if word in arguments]
    if not built and origin.parent == Path("/usr/bin"):
        return f"{platform.python_version()} ({describe_packaged(origin)})"
    return f"{platform.python_version()} (built {'with ' + ' and '.join(built) if built else 'without PGO and LTO'})"


def describe_packaged(program: Path) -> str:
    """Return how the Debian package that contains a Python was built, with its name and its version."""
    try:
        name = run("dpkg-query", "--search", program).partition(":")[0]
        package = run("dpkg-query", "--show", "--showformat", "${Package} ${Version}", name)
    except ToolchainError:
        return f"the system's {program}"
    return f"built with PGO and LTO: Debian package {package}"


def versions(names: list[str]) -> dict[str, str]:
    """Return the version of each peer."""
    return {peer.name: version(peer) for peer in PEERS if peer.name in names}


def version(peer: Peer) -> str:
    """Return the version of a peer."""
    if peer.kind == "c":
        return f"gcc {run('gcc', '-dumpfullversion')} -O2"
    return own_version() if peer.kind == "here" else VERSIONS[peer.kind](peer)


def own_version() -> str:
    """Return the version of the server under test, its commit if it is in a Git repository, and its Python."""
    try:
        commit = run("git", "-C", ROOT, "describe", "--always", "--dirty")
    except ToolchainError:
        commit = "no commit"
    return f"{' '.join(run(HERE / SUBJECT, 'version').split())} ({commit}), Python {describe_python()}"
