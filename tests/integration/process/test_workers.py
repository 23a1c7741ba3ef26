"""Servers with several worker processes: supervision, restarts and the end."""

import os
import signal

import pytest
from peers import CLOSE, RawPeer, close_payload
from waiting import wait_until
from worker_processes import Workers, connecting


@pytest.fixture
def start():
    """Return a function that starts a server with workers; its processes are killed after the test."""
    started = []

    def start(*options, **arguments):
        started.append(Workers(*options, **arguments))
        return started[-1]

    yield start
    for server in started:
        server.close()


def is_running(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def split(peers):
    """Return the open connections, and the number of those that have ended."""
    open_ones = [peer for peer in peers if not peer.has_ended()]
    return open_ones, len(peers) - len(open_ones)


class SupervisionTests:
    """Workers that die, hang or fail to start."""

    def test_replaces_a_killed_worker_while_the_clients_of_the_other_one_notice_nothing(self, start):
        server = start()
        peers = server.open_many()
        with connecting(server.port) as clients:
            for _ in range(3):
                count = len(server.started(1))
                os.kill(server.pid(1), signal.SIGKILL)
                wait_until(lambda count=count: len(server.started(1)) > count, "a new worker")
                now = len(clients.served)
                wait_until(lambda now=now: len(clients.served) > now + 50, "50 connections are served")
        left, ended = split(peers)
        assert left
        assert ended
        assert all(peer.echoes() for peer in left)
        assert clients.refused == []
        # Those that the killed worker had accepted.
        assert len(clients.broken) <= 3 * 4
        assert "worker exited worker=1" in server.read_log()
        assert 'reason="signal SIGKILL"' in server.read_log()

    def test_starts_a_worker_that_exits_repeatedly_with_a_delay(self, start):
        server = start()
        for count in range(1, 6):
            os.kill(server.pid(2), signal.SIGKILL)
            if count < 5:
                wait_until(lambda count=count: len(server.started(2)) > count, "a new worker")
        wait_until(
            lambda: "worker exits repeatedly worker=2; the next one starts in 1 s" in server.read_log(), "a line"
        )
        # The other worker accepts all connections in the meantime.
        for peer in server.open_many():
            peer.socket.close()
        wait_until(lambda: len(server.started(2)) == 6, "the next worker")

    def test_another_worker_accepts_connections_in_the_place_of_a_suspended_one(self, start):
        server = start()
        pid = server.pid(1)
        os.kill(pid, signal.SIGSTOP)
        try:
            # Some of these connections wait in the queue of the suspended worker.
            for peer in server.open_many():
                peer.socket.close()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert is_running(pid)

    def test_the_workers_stop_if_the_supervisor_is_killed(self, start):
        server = start()
        pids = [server.pid(1), server.pid(2)]
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            server.kill()
            close = peer.read_close()
            assert close.close_reason == "the server is stopping"
            peer.send_frame(CLOSE, close_payload(1000))
        wait_until(lambda: not any(map(is_running, pids)), "the workers exit")


class RestartTests:
    """SIGUSR2 restarts the workers one by one."""

    def test_no_connection_is_refused_during_a_restart(self, start):
        server = start()
        before = [server.pid(1), server.pid(2)]
        with connecting(server.port) as clients:
            server.process.send_signal(signal.SIGUSR2)
            wait_until(lambda: "all workers are restarted" in server.read_log(), "the restart")
        assert clients.refused == clients.broken == []
        assert len(clients.served) > 50
        assert not any(map(is_running, before))
        assert is_running(server.pid(1))
        assert is_running(server.pid(2))

    def test_a_worker_that_gets_sigterm_is_replaced_before_it_closes_its_connections(self, start):
        server = start()
        first = server.pid(1)
        with connecting(server.port) as clients:
            os.kill(first, signal.SIGTERM)
            wait_until(lambda: not is_running(first), "the worker exits")
        assert clients.refused == clients.broken == []
        assert len(server.started(1)) == 2


class StopTests:
    """The end of all workers."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
    def test_closes_the_connections_of_all_workers(self, start, number):
        server = start()
        pids = [server.pid(1), server.pid(2)]
        peers = server.open_many()
        server.process.send_signal(number)
        for peer in peers:
            assert peer.read_close().close_reason == "the server is stopping"
            peer.send_frame(CLOSE, close_payload(1000))
            peer.read_to_end()
        server.process.wait(30)
        assert not any(map(is_running, pids))
        assert "Traceback" not in server.read_log()

    def test_ctrl_c_in_a_terminal_does_not_reach_the_workers(self, start):
        """The terminal sends SIGINT to its process group."""
        server = start()
        groups = {os.getpgid(server.pid(number)) for number in (1, 2)}
        assert groups == {server.pid(1), server.pid(2)}
