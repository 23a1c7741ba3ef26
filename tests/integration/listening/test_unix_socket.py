"""Tests for wsserver/listening/unix_socket.py: a server starts where a killed one has left its files."""

import fcntl
import os
import socket

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory

from wsserver.errors import ListenError
from wsserver.listening.ports import Listener

pytestmark = pytest.mark.kernel


@pytest.fixture
def path(tmp_path):
    """Give the path of a socket."""
    return tmp_path / "ws.sock"


@pytest.fixture
def listen(path):
    """Listen on the socket; stop after the test."""
    ports = []

    def listen(options="", prefix=""):
        ports.append(Listener(f"{prefix}unix:{path}{options}", reactor).open(Factory()))
        return ports[-1]

    yield listen
    for port in ports:
        port.stopReading()
        port.connectionLost(None)


def leave_behind(path, *, lock):
    """Leave a socket that nobody listens on, and a lock with a process's number."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    if lock is not None:
        os.symlink(str(lock), f"{path}.lock")


def is_served(path):
    """Whether somebody listens on it."""
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0


class KilledServerTests:
    """What a killed server leaves: a socket without a listener, and a lock."""

    @pytest.mark.parametrize("lock", [os.getpid(), os.getppid(), 2**22 + 1, "garbage", None])
    @pytest.mark.parametrize("prefix", ["", "haproxy:"])
    def test_the_next_server_starts_whatever_process_the_lock_names(self, path, listen, lock, prefix):
        """In a container that number is often the new server's own, or another living process's."""
        leave_behind(path, lock=lock)
        listen(prefix=prefix)
        assert is_served(path)
        assert os.readlink(f"{path}.lock") == str(os.getpid())

    def test_the_next_server_starts_without_locks_too(self, path, listen):
        """Twisted itself removes a stale socket only where it has a lock."""
        leave_behind(path, lock=None)
        listen(":lockfile=0")
        assert is_served(path)

    def test_the_next_server_starts_where_only_its_own_number_is_left(self, path, listen):
        """A temporary file system may keep the one and lose the other."""
        os.symlink(str(os.getpid()), f"{path}.lock")
        listen()
        assert is_served(path)


class LivingServerTests:
    """What belongs to somebody else stays."""

    def test_a_socket_in_use_is_refused_and_stays(self, path, listen):
        """Neither the socket nor the lock is touched; the message names the path."""
        first = listen()
        with pytest.raises(ListenError) as caught:
            listen()
        assert f"another process listens on {path}" in str(caught.value)
        assert first.connected
        assert is_served(path)

    def test_a_socket_whose_backlog_is_full_is_in_use(self, path, listen):
        """A connection that would have to wait is an answer."""
        with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
            busy.bind(str(path))
            busy.listen(0)
            waiting.connect(str(path))
            with pytest.raises(ListenError, match="another process listens"):
                listen()

    def test_a_lock_of_a_living_process_without_a_socket_is_named(self, path, listen):
        """It may be about to listen, or may have lost its socket; a person has to decide."""
        os.symlink(str(os.getppid()), f"{path}.lock")
        with pytest.raises(ListenError) as caught:
            listen()
        assert f"{path}.lock belongs to a running process; if that process is not a server, remove" in str(caught.value)
        assert os.readlink(f"{path}.lock") == str(os.getppid())

    def test_a_file_that_is_no_socket_stays(self, path, listen):
        """A mistyped path costs nobody a file."""
        path.write_text("precious")
        with pytest.raises(ListenError, match="is not a socket; remove it"):
            listen()
        assert path.read_text() == "precious"

    def test_a_server_that_is_just_starting_is_waited_for(self, path, listen, monkeypatch):
        """Between another server's bind and its listen, its socket looks stale."""
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
