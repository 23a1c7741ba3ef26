"""Tests for wsserver/process/pidfile.py, with real processes: a server can start again after a crash."""

import os
import subprocess
import sys

import pytest

from wsserver.process.pidfile import PidFileError, remove_stale_pid_file

pytestmark = pytest.mark.kernel


@pytest.fixture
def path(tmp_path):
    """Return the path of a pid file."""
    return tmp_path / "twistd.pid"


@pytest.fixture
def sleeper():
    """Return a function that starts a process with a given program name and returns the process ID."""
    processes = []

    def run(name):
        command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", name]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        processes[-1].stdout.readline()
        return processes[-1].pid

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_accepts_a_missing_file(path):
    remove_stale_pid_file(str(path))


@pytest.mark.parametrize("text", ["", "0", str(2**22 + 1), "9" * 30, f"{os.getpid()}\n"])
def test_removes_the_file_of_a_dead_process_or_of_this_one(path, text):
    """In a container the new server often has the ID of the one that was killed."""
    path.write_text(text)
    remove_stale_pid_file(str(path))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"\0" * 6, b"\xff\xfe12", b"12 34", b"-1", b"12\0\0\0"])
def test_removes_a_damaged_file(path, content):
    """A power failure or a full disk can leave it; the server must start again by itself."""
    path.write_bytes(content)
    remove_stale_pid_file(str(path))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"\0" * 65, b"1" * 40 + b"x"])
def test_refuses_and_keeps_a_file_that_is_no_damaged_pid_file(path, content):
    path.write_bytes(content)
    with pytest.raises(PidFileError):
        remove_stale_pid_file(str(path))
    assert path.read_bytes() == content


def test_removes_the_file_of_a_process_that_is_not_a_server(path, sleeper):
    """Another program now has the ID."""
    path.write_text(str(sleeper("backup")))
    remove_stale_pid_file(str(path))
    assert not path.exists()


def test_refuses_and_keeps_the_file_of_a_running_server(path, sleeper):
    """The message names the process, the file and the option."""
    pid = sleeper("/usr/bin/twistd")
    path.write_text(str(pid))
    with pytest.raises(PidFileError, match=rf"process {pid} \(pid file {path}\); .* --pidfile"):
        remove_stale_pid_file(str(path))
    assert path.exists()


def test_refuses_and_keeps_a_file_that_has_no_process_id(path):
    """A mistyped path must not delete a file."""
    path.write_text("root:x:0:0")
    with pytest.raises(PidFileError, match=f"the pid file {path} does not contain a process ID; remove it"):
        remove_stale_pid_file(str(path))
    assert path.read_text() == "root:x:0:0"
