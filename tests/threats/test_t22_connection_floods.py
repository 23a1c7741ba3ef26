"""T22: more connections than the server may have, or has descriptors for."""

import socket
import time

from arena import unaffected
from attackers import Attacker
from waiting import wait_until

DESCRIPTORS = 1024


def connect_all(port, count, seconds):
    """Open connections without waiting for each, and keep them for some seconds; return how many are connected."""
    sockets = []
    for number in range(count):
        sock = socket.socket()
        sock.bind((f"127.4.{number // 250}.1", 0))
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        sockets.append(sock)
        if number % 100 == 0:
            time.sleep(0.01)
    time.sleep(seconds)
    return len(sockets)


def limited(start_server, *options):
    """Start a server with 1,024 descriptors."""
    return start_server(*options, program=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--"))


def test_t22_a_server_out_of_descriptors_keeps_its_clients(start_server, figures, full, redis):
    """With 1,024 descriptors and 5,000 connections, the clients of the server notice nothing, and it idles."""
    server = limited(start_server, "--redis", redis.url)
    server.wait_for(lambda: server.get("/ready").status == 200, "ready")
    with unaffected(server, figures):
        with Attacker(connect_all, server.port, 5000 if full else 2000, 6 if full else 4) as attacker:
            time.sleep(3 if full else 1.5)
            redis.run("CLIENT", "KILL", "TYPE", "pubsub")
            redis.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(1)
            cpu, begin = server.cpu(), time.monotonic()
            time.sleep(1)
            busy = (server.cpu() - cpu) / (time.monotonic() - begin) * 100
            attacker.result()
        begin = time.monotonic()
        wait_until(lambda: answers(server), "the server accepts again")
        figures.at_most(1, time.monotonic() - begin, "time until the server accepts again", "s")
        server.wait_for(lambda: server.get("/ready").status == 200, "connected to Redis again", 10)
    # The good clients send 1,000 messages a second meanwhile.
    figures.at_most(5 + 10, busy, "CPU time at the limit, with 1,000 echoes a second", "%")


def answers(server):
    try:
        return server.get("/ready").status
    except (OSError, AssertionError):
        return False
