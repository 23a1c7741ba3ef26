"""Tests for wsserver/listening/unix_socket.py: a server replaces only the socket and the lock of a killed server."""

import fcntl
import os
import socket

import pytest
from twisted.internet import reactor

from wsserver.errors import ListenError
from wsserver.listening.ports import Listener
from wsserver.testing import MemoryServer

pytestmark = pytest.mark.kernel


@pytest.fixture
def path(tmp_path):
    """Return the path of a socket."""
    return tmp_path / "ws.sock"


@pytest.fixture
def listen(path):
    """Return a function that listens on the socket; its listeners are closed after the test."""
    ports = []

    def listen(options="", prefix=""):
        ports.append(Listener(f"{prefix}unix:{path}{options}", reactor).open(MemoryServer().service.frontend))
        return ports[-1]

    yield listen
    for port in ports:
        port.stopReading()
        port.connectionLost(None)


def leave_behind(path, *, lock):
    """Leave a socket without a listener, and a lock with a process ID."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    if lock is not None:
        os.symlink(str(lock), f"{path}.lock")


def is_served(path):
    """Return whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0


class KilledServerTests:
    """A killed server has left its socket and its lock."""

    @pytest.mark.parametrize("lock", [os.getpid(), os.getppid(), 2**22 + 1, "garbage", None])
    @pytest.mark.parametrize("prefix", ["", "haproxy:"])
    def test_the_next_server_replaces_the_socket_and_any_lock(self, path, listen, lock, prefix):
        """In a container the ID in the lock is often that of the new server, or of another running process."""
        leave_behind(path, lock=lock)
        listen(prefix=prefix)
        assert is_served(path)
        assert os.readlink(f"{path}.lock") == str(os.getpid())

    def test_the_next_server_replaces_the_socket_with_locks_disabled(self, path, listen):
        """Twisted itself removes a stale socket only if it has a lock."""
        leave_behind(path, lock=None)
        listen(":lockfile=0")
        assert is_served(path)

    def test_the_next_server_starts_if_only_a_lock_with_its_own_id_is_left(self, path, listen):
        """A temporary file system may keep the lock and lose the socket."""
        os.symlink(str(os.getpid()), f"{path}.lock")
        listen()
        assert is_served(path)


class RunningServerTests:
    """Sockets and files of other programs are left alone."""

    def test_refuses_a_socket_in_use_and_leaves_it(self, path, listen):
        """The message names the path."""
        first = listen()
        with pytest.raises(ListenError) as caught:
            listen()
        assert f"another process listens on {path}" in str(caught.value)
        assert first.connected
        assert is_served(path)

    def test_refuses_a_socket_whose_backlog_is_full(self, path, listen):
        """A full backlog shows that a process listens."""
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
            busy.bind(str(path))
            busy.listen(0)
            waiting.connect(str(path))
            with pytest.raises(ListenError, match="another process listens"):
                listen()

    def test_refuses_a_lock_of_a_running_process_and_names_it(self, path, listen):
        """The process may be about to listen or may have lost its socket, so the operator must decide."""
        os.symlink(str(os.getppid()), f"{path}.lock")
        with pytest.raises(ListenError) as caught:
            listen()
        assert f"{path}.lock belongs to a running process; if that process is not a server, remove" in str(caught.value)
        assert os.readlink(f"{path}.lock") == str(os.getppid())

    def test_refuses_a_file_that_is_not_a_socket_and_leaves_it(self, path, listen):
        """A mistyped path must not delete a file."""
        path.write_text("precious")
        with pytest.raises(ListenError, match="is not a socket; remove it"):
            listen()
        assert path.read_text() == "precious"

    def test_waits_for_another_server_that_is_starting(self, path, listen, monkeypatch):
        """Between another server's bind and listen, its socket looks stale."""
        directory = os.open(path.parent, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            if len(waited) == 3:
                os.close(directory)

        monkeypatch.setattr("time.sleep", sleep)
        listen()
        assert len(waited) == 3
