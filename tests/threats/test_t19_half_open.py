"""T19: peers that are gone without a trace."""

import os
import signal
import time

import pytest
from attackers import Attacker, flood, masked, open_all
from cores import CLIENT_CORE, place
from peers import PING, PONG, TEXT
from waiting import wait_until

INTERVAL, TIMEOUT = 2, 2


def hold(port, count):
    """Open connections, and hold them without answering pings."""
    sockets = open_all(port, count)
    time.sleep(300)
    return sockets


def answer(port, count, seconds):
    """Open connections that only answer pings; return how many were closed."""
    import select

    sockets, closed, poller, pings = {}, 0, select.epoll(), 0
    place(CLIENT_CORE, prefer=True)
    for sock in open_all(port, count):
        sockets[sock.fileno()] = sock
        poller.register(sock.fileno(), select.EPOLLIN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poller.poll(0.2):
            data = sockets[fd].recv(1000)
            if not data:
                closed += 1
                poller.unregister(fd)
            elif data[0] == 0x80 | PING:
                pings += 1
                sockets[fd].sendall(masked(PONG, data[2:]))
    return closed, pings


def load(port, seconds):
    return flood(open_all(port, 4), masked(TEXT, b"x" * 100) * 1000, seconds)


@pytest.mark.waits
def test_t19_dead_peers_are_noticed(start_server, figures, full):
    """A peer that is gone without a trace is noticed after the ping interval and its timeout."""
    count = 1000 if full else 300
    server = start_server("--ping-interval", f"{INTERVAL}s", "--ping-timeout", f"{TIMEOUT}s")
    before = server.descriptors()
    with Attacker(hold, server.port, count) as peers:
        wait_until(lambda: server.descriptors() >= before + count, "all connected")
        # The kernel of a stopped process still acknowledges what the server sends, as a proxy of a dead client does.
        os.kill(peers.process.pid, signal.SIGSTOP)
        begin, times = time.monotonic(), {}
        while time.monotonic() < begin + INTERVAL + TIMEOUT + 10 and len(times) < 2:
            left = server.descriptors() - before
            times.setdefault("99 %", time.monotonic() - begin) if left <= count // 100 else None
            times.setdefault("100 %", time.monotonic() - begin) if left <= 0 else None
            time.sleep(0.02)
        os.kill(peers.process.pid, signal.SIGKILL)
    figures.at_most(INTERVAL + TIMEOUT + 1, times.get("99 %", 99), "time until 99 % are closed", "s")
    figures.at_most(INTERVAL + TIMEOUT + 2, times.get("100 %", 99), "time until all are closed", "s")


def test_t19_living_peers_are_kept_under_load(start_server, figures, full):
    """
    A living peer is not taken for dead while the server is busy.

    20 seconds with a ping each second instead of the 5 minutes of the table: as many pings.
    """
    seconds, count = (20, 200) if full else (4, 100)
    server = start_server("--ping-interval", "1s", "--ping-timeout", f"{TIMEOUT}s")
    with Attacker(answer, server.port, count, seconds) as idle, Attacker(load, server.port, seconds):
        closed, pings = idle.result()
    figures.at_most(0, closed, "living peers closed")
    figures.at_least(count * (seconds - 2), pings, "pings answered")
