"""T34: worker processes that are killed, and workers that are restarted while clients connect."""

import contextlib
import multiprocessing
import os
import re
import signal
import time
from contextlib import ExitStack, closing
from datetime import datetime

import pytest
from attackers import Attacker
from centrifuge_peer import CentrifugePeer
from cores import CLIENT_CORE, place
from http_api import KEY, ok
from peers import RawPeer
from steady_clients import connect_steadily
from waiting import wait_until
from worker_processes import Workers, connecting

THREADS, PAUSE = 4, 0.006
"""A new connection of each thread as soon as the last one is closed, or nearly."""

RATE = 500
"""New connections per second while the workers are restarted."""


@pytest.fixture
def workers():
    """Start a server with two workers, on all cores; its processes are killed after the test."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    server = Workers("--ping-interval", "0")
    place(CLIENT_CORE)
    yield server
    assert "Traceback" not in server.read_log()
    server.close()


def open_to(server, number, count=20):
    """Open connections to the worker with a number; close those that another worker accepts."""
    found = []
    while len(found) < count:
        peer = RawPeer(server.port)
        peer.handshake("/echo")
        if server.number_of(peer) == number:
            found.append(peer)
        else:
            peer.socket.close()
    return found


def times(server, event, number):
    """Return the times of the log lines of an event of a worker."""
    lines = re.findall(rf"(?m)^(\S+) \[.*?\] {event} worker={number} ", server.read_log())
    return [datetime.fromisoformat(text).timestamp() for text in lines]


def test_t34_killed_workers(workers, full, figures):
    """
    A killed worker is replaced; meanwhile another one accepts all connections, and its clients notice nothing.

    The new worker may take 10 s until it accepts connections itself: it is a new process, which starts within seconds.
    Meanwhile no client waits for it, because another worker accepts within 1 s.
    """
    kills = 10 if full else 2
    peers = open_to(workers, 2)
    waits = []
    with connecting(workers.port, threads=THREADS, pause=PAUSE) as clients:
        for _ in range(kills):
            count = len(times(workers, "worker accepts connections", 1))
            os.kill(workers.pid(1), signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda count=count: len(times(workers, "worker accepts connections", 1)) > count, "a new one")
            waits.append(time.monotonic() - killed)
            assert all(peer.echoes() for peer in peers)
            # Five exits within 10 seconds would be a crash loop.
            time.sleep(max(0.0, 2.7 - waits[-1]))
    figures.at_least(kills * 100, len(clients.served), "connections served")
    figures.at_most(0, len(clients.refused), "connections refused", "", clients.refused)
    # The killed worker had accepted them; each client has one connection at a time.
    figures.at_most(kills * THREADS, len(clients.broken), "connections that the killed worker had accepted")
    figures.at_most(1.0, clients.longest, "longest time from a connect to its echo", "s")
    figures.at_most(10.0, max(waits), "time until the new worker accepts connections itself", "s")
    figures.at_most(0, sum(not peer.echoes() for peer in peers), "connections of the other worker lost")
    for peer in peers:
        peer.socket.close()


def test_t34_presence(redis, figures):
    """The clients of a killed worker leave their channels, with leave events; those of the other one stay."""
    options = ("--redis", redis.url, "--api-key", KEY, "--channel-presence", "*")
    with ExitStack() as stack:
        server = stack.enter_context(closing(Workers(*options)))
        peers = [stack.enter_context(closing(CentrifugePeer(server.port))) for _ in range(20)]
        for peer in peers:
            peer.ask("subscribe", {"channel": "foo", "join_leave": True})
        by_worker = [[peer for peer in peers if server.number_of(peer.peer) == number] for number in (1, 2)]
        dead, living = ({peer.client for peer in some} for some in by_worker)

        def present():
            return set(ok(server, "presence", {"channel": "foo"})["presence"])

        wait_until(lambda: present() == dead | living, "all are present")
        os.kill(server.pid(1), signal.SIGKILL)
        began = time.monotonic()
        lists = [present()]
        while lists[-1] != living and time.monotonic() < began + 30:
            lists.append(present())
        figures.at_most(10.0, time.monotonic() - began, "time until the clients of the killed worker are gone", "s")
        figures.at_most(0, sum(not living <= found for found in lists), "presence lists without a living client")
        left = [peer.read_leaves(len(dead)) == dead for peer in by_worker[1]]
        figures.at_most(0, left.count(False), "living clients that have not received all leave events")
        assert "Traceback" not in server.read_log()


def test_t34_restarts(workers, full, figures):
    """SIGUSR2 restarts the workers one by one: no connection is refused, and all clients reconnect."""
    restarts = 10 if full else 1
    longest = 0.0
    end = multiprocessing.get_context("fork").Event()
    with Attacker(connect_steadily, workers.port, RATE, end) as clients:
        for number in range(restarts):
            peer = RawPeer(workers.port)
            peer.handshake("/echo")
            workers.process.send_signal(signal.SIGUSR2)
            with contextlib.suppress(OSError, AssertionError):
                peer.read_close()
            began = time.monotonic()
            with RawPeer(workers.port) as again:
                again.handshake("/echo")
                assert again.echoes()
            longest = max(longest, time.monotonic() - began)
            wait_until(
                lambda number=number: workers.read_log().count("all workers are restarted") > number, "the restart", 90
            )
        end.set()
        report = clients.result()
    figures.at_most(0, len(report.failed), "failed connects", "", report.failed)
    # A busy machine cannot start as many.
    figures.at_least(RATE / 2, report.started / report.seconds, "connects during the restarts", "/s")
    figures.at_least(restarts * 300, report.served, "connections served")
    figures.at_most(5.0, report.longest, "longest time from a connect to its echo during the restarts", "s")
    figures.at_most(5.0, longest, "longest time to reconnect", "s")
