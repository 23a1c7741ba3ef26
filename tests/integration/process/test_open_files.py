"""The limit of open files, which the server raises for itself and its workers."""

from contextlib import closing
from pathlib import Path

from server_process import Process, serve_command
from worker_processes import Workers

RAISED = "limit of open files raised limit=4096 before=256"


def limited(soft, hard):
    """Return the command of a server with limits of open files."""
    return ["prlimit", f"--nofile={soft}:{hard}", "--", *serve_command()]


def soft_limit(pid):
    """Return the soft limit of open files of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (found,) = (line.split()[3] for line in lines if line.startswith("Max open files"))
    return int(found)


def test_a_server_raises_its_soft_limit_to_the_hard_limit():
    with closing(Process("--max-connections", "3000", command=limited(256, 4096))) as server:
        assert soft_limit(server.process.pid) == 4096
        assert RAISED in server.read_log()
        assert "connection limit lowered" not in server.read_log()


def test_the_workers_have_the_raised_limit():
    with closing(Workers(command=limited(256, 4096))) as server:
        assert {soft_limit(server.pid(number)) for number in (1, 2)} == {4096}
        assert server.read_log().count(RAISED) == 1


def test_warns_if_the_hard_limit_is_too_low_for_max_connections():
    with closing(Process(command=limited(256, 512))) as server:
        assert "connection limit lowered limit=384 max_connections=10000 open_files=512" in server.read_log()
