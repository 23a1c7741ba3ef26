"""Memory: connections that have ended leave nothing behind."""

import gc
import socket
import sys

import pytest
from peers import CLOSE, TEXT, close_payload, frame
from waiting import wait_until

CONNECTIONS, ROUNDS = 2000, 5
"""Connections in each round; rounds."""

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

SUBSCRIBE = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"foo"}}'


def open_and_close(server, path, message, answer):
    """Open many connections, send a message on each, then close them; every other one without a closing handshake."""
    request = REQUEST.format(path=path).encode() + frame(TEXT, message)
    sockets = []
    for _ in range(CONNECTIONS):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        sockets.append(one)
        one.sendall(request)
    for one in sockets:
        received = b""
        while answer not in received:
            data = one.recv(65536)
            assert data, received
            received += data
    assert server.count_connections() == CONNECTIONS
    for number, one in enumerate(sockets):
        if number % 2:
            one.sendall(frame(CLOSE, close_payload(1000)))
        one.close()
    wait_until(lambda: server.count_sockets() == 0, "every connection gone")


@pytest.mark.parametrize(
    ("path", "message", "answer"),
    [("/echo", b"hello", b"hello"), ("/connection/websocket", SUBSCRIBE, b'"id":2,"subscribe"')],
    ids=["echo", "Centrifuge subscriber"],
)
def test_2000_connections_that_open_and_close_five_times_do_not_grow_the_process(
    start_server, log, path, message, answer
):
    """In the last three rounds, fewer objects than one for twelve connections remain, whatever their kind.

    The server's own objects, such as those of its log and its timers, come and go: about 200 between two rounds.
    """
    server = start_server(anonymous=True, max_connections=CONNECTIONS + 10)
    blocks = []
    for _ in range(ROUNDS):
        open_and_close(server, path, message, answer)
        assert not log.take_failures(Exception)
        # The fixture collects the lines of the access log.
        log.events.clear()
        server.ask(gc.collect)
        blocks.append(sys.getallocatedblocks())
    assert blocks[-1] - blocks[1] < CONNECTIONS * (ROUNDS - 2) / 12, blocks
