"""T33: the system clock jumps, and timers follow it."""

import select
import time

import pytest
from attackers import Attacker, masked, open_all
from cores import CLIENT_CORE, place
from fake_clock import FakeClock
from peers import PING, PONG

INTERVAL = 1.0


def answer_pings(port, count, seconds):
    """Answer pings; return the times between pings on each connection, and how many connections ended."""
    place(CLIENT_CORE, prefer=True)
    poller, sockets, last, between, ended = select.epoll(), {}, {}, [], 0
    for sock in open_all(port, count):
        sockets[sock.fileno()] = sock
        last[sock.fileno()] = None
        poller.register(sock.fileno(), select.EPOLLIN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poller.poll(0.1):
            data = sockets[fd].recv(1000)
            if not data:
                ended += 1
                poller.unregister(fd)
            elif data[0] == 0x80 | PING:
                now = time.monotonic()
                if last[fd] is not None:
                    between.append(now - last[fd])
                last[fd] = now
                sockets[fd].sendall(masked(PONG, data[2:]))
    return between, ended


@pytest.mark.waits
def test_t33_timers_do_not_follow_the_system_clock(start_server, figures, full, tmp_path):
    """
    When the system clock jumps by an hour, no client is disconnected, and no ping is early or late.

    The difference of a ping includes that of the measuring client.
    """
    clock = FakeClock(tmp_path)
    server = start_server("--ping-interval", f"{INTERVAL}s", "--ping-timeout", "2s", environ=clock.environ)
    count, seconds = (1000, 12) if full else (200, 5)
    with Attacker(answer_pings, server.port, count, seconds) as attacker:
        time.sleep(1.5)
        for jump in (3600, -3600, 0):
            clock.jump(jump)
            time.sleep((seconds - 2) / 3)
        between, ended = attacker.result()
    figures.at_most(0, ended, "clients disconnected")
    figures.at_least(count * (seconds - 3), len(between), "pings")
    figures.at_most(0.2, max(0, INTERVAL - min(between)), "earliest ping, before its time", "s")
    figures.at_most(1, max(between) - INTERVAL, "latest ping, after its time", "s")
