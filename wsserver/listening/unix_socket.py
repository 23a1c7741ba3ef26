"""Remove UNIX sockets that a killed server has left behind."""

import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["SocketInUse", "stale_socket_removed"]


class SocketInUse(Exception):
    """Another process listens on the socket, or the file is not a socket; the message names the file."""


@contextmanager
def stale_socket_removed(path: str) -> Iterator[None]:
    """
    Remove a stale socket and its lock file, and return a context manager.

    The directory is locked against other servers while the body of the `with` statement runs.

    Twisted's lock file `path.lock` contains a process ID. After a crash in a container, that number often belongs to
    another process, or to the new server itself. So this function connects to the socket to find out whether it is in
    use.

    Args:
        path: the path of the socket.

    Raises:
        SocketInUse: another process listens on the socket, or the file is not a socket.
    """
    with _directory_locked(os.path.dirname(path) or "."):
        if _exists(path):
            if _answers(path):
                raise SocketInUse(f"another process listens on {path}; stop it or choose another path with --listen")
            os.unlink(path)
            _remove_lock(path)
        elif _lock_owner(path) == os.getpid():
            _remove_lock(path)
        yield


def _exists(path: str) -> bool:
    # Never remove another kind of file: the path may be mistyped.
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            return True
        raise SocketInUse(f"{path} is not a socket; remove it or choose another path with --listen")
    return False


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            # The listener's backlog is full.
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


def _lock_owner(path: str) -> int | None:
    with suppress(OSError, ValueError):
        return int(os.readlink(f"{path}.lock"))
    return None


def _remove_lock(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{path}.lock")


@contextmanager
def _directory_locked(directory: str) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        # Listening fails for the same reason, and reports it.
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    # Give up after a second: a server holds the lock for milliseconds, so a longer holder is another program.
    for _ in range(50):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
