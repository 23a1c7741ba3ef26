"""T3: request heads without an end, and heads that are too large."""

import time

from arena import KIB, withstand
from attackers import connect, flood
from peers import handshake_request

HEADS = [
    b"GET /" + b"a" * 65000,
    b"GET / HTTP/1.1\r\nX: " + b"a" * 65000,
    b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 10_000,
    b"\r\n" * 32_000,
    b"POST /api/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 65000,
    b"POST /api/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 10_000,
]


def endless_heads(port, seconds, connections):
    """Send heads that never end, at most 100 MB on each connection, in rounds of new connections."""
    end, taken, rounds = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        sockets = [connect(port) for _ in range(connections)]
        head = HEADS[rounds % len(HEADS)]
        endings = flood(sockets, head, 4.0)
        taken = max(taken, endings.sent / connections)
        rounds += 1
        for sock in sockets:
            sock.close()
        if endings.count < connections:
            return {"open": connections - endings.count, "taken": taken}
    return {"open": 0, "taken": taken}


def test_t03_endless_heads_are_refused_at_16_kib(server, figures, full):
    """
    A head that never ends costs at most 128 KiB, and blocks the server for at most 50 ms.

    200 connections instead of the 50 of the table. The limit of the memory for each is 128 KiB instead of 64 KiB: it
    includes the connection itself, the response, and a read that waits for its turn.
    """
    measured = withstand(
        server, figures, endless_heads, 10 if full else 1.5, 200, connections=200, memory=128, stall=50
    )
    figures.at_most(0, measured.result["open"], "connections not ended")
    # What the kernel has buffered counts as sent, too.
    figures.at_most(8192, measured.result["taken"] / KIB, "sent on a connection", "KiB")


def test_t03_too_large_heads_get_431(server, figures):
    """A head of more than 16 KiB or 128 lines gets 431."""
    heads = {
        "a long value": handshake_request("/echo", "X: " + "x" * 17_000),
        "a long path": handshake_request("/" + "x" * 17_000),
        "many lines": handshake_request("/echo", *["X: 1"] * 130),
        "many short lines of a request": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 130 + b"\r\n",
    }
    statuses = {}
    for name, head in heads.items():
        with server.connect() as peer:
            peer.send(head)
            statuses[name] = peer.read_response().status
    assert set(statuses.values()) == {431}, statuses
    assert server.get("/ready").status == 200
