"""The pid file of a daemon: detect and remove one that a killed server has left behind."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["PidFileError", "remove_stale_pid_file"]

_OTHER_FILE = "start with twistd --pidfile FILE -n wsserver, or use wsserver serve"
"""How to start a server with another pid file or none: `--pidfile` is an option of twistd, before `wsserver`."""

_SERVER_COMMANDS = ("twistd", "twist", "wsserver")


MAX_GARBAGE = 64
"""Maximum size in bytes of a damaged pid file that is removed. A longer file is not a pid file."""


class PidFileError(Exception):
    """The pid file names a running server, or does not contain a process ID; the message names the file."""


def remove_stale_pid_file(path: str) -> None:
    """
    Remove a pid file whose process is not a server.

    After a crash, and especially after a restart of a container, the process ID may belong to any other process.

    Args:
        path: the path of the pid file. If the file does not exist, this function does nothing.

    Raises:
        PidFileError: the file names a running server, or does not contain a process ID.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_GARBAGE + 1)
    except FileNotFoundError:
        return
    text = content.strip()
    if text.isdigit() and _is_server(int(text)):
        shown = text.decode("ascii")
        raise PidFileError(f"a server is running as process {shown} (pid file {path}); stop it, or {_OTHER_FILE}")
    if not text.isdigit() and not _is_damaged(content):
        raise PidFileError(f"the pid file {path} does not contain a process ID; remove it, or {_OTHER_FILE}")
    file.unlink()


def _is_damaged(content: bytes) -> bool:
    """Return whether this may be what a full disk or a power failure leaves: nothing, zeros, or other bytes."""
    # A short file with letters may be any other file, whose path was given by mistake.
    return len(content) <= MAX_GARBAGE and not any(bytes((byte,)).isalpha() for byte in content)


def _is_server(pid: int) -> bool:
    # For os.kill(), 0 is not a process but the caller's own process group.
    if pid in (0, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(os.path.basename(word).decode("utf-8", "replace") in _SERVER_COMMANDS for word in words)
    # Without /proc, the kind of process is unknown: assume a server.
    return True
