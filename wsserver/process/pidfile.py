"""The pid file of a daemon: whether it names a server that runs, or one that was killed."""

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["PidFileError", "remove_stale_pid_file"]

_SERVERS = ("twistd", "twist", "wsserver")


class PidFileError(Exception):
    """The pid file names a running server, or nothing that is a process; the message names the file."""


def remove_stale_pid_file(path: str) -> None:
    """
    Remove a pid file whose process is not a server.

    After a crash, and after a restart of a container above all, its number may belong to any other process.

    Args:
        path: of the pid file; nothing is done where there is no such file.

    Raises:
        PidFileError: it names a running server, or holds something else than a number.
    """
    file = Path(path)
    try:
        text = file.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return
    if text and not (text.isascii() and text.isdecimal()):
        raise PidFileError(f"the pid file {path} holds no process number; remove it or choose another with --pidfile")
    if text and _is_server(int(text)):
        raise PidFileError(
            f"a server runs as process {text}, says the pid file {path}; stop it, or choose another file with --pidfile"
        )
    # An empty one is left by a full disk or a power failure.
    file.unlink()


def _is_server(pid: int) -> bool:
    # To kill() 0 is the caller's own process group.
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
        return any(os.path.basename(word).decode("utf-8", "replace") in _SERVERS for word in words)
    # A system without /proc does not say what a process is.
    return True
