"""T36: memory, descriptors and connections that are left of clients that are gone."""

import socket
import struct
import time

from arena import KIB
from attackers import Attacker, masked, open_websocket
from http_api import KEY
from peers import CLOSE, TEXT, close_payload, handshake_request


def closing(sock):
    """Close with a closing handshake."""
    sock.sendall(masked(CLOSE, close_payload(1000)))
    while sock.recv(1000):
        pass


def ending(sock):
    """Close the TCP connection."""
    sock.shutdown(socket.SHUT_WR)


def resetting(sock):
    """Reset the TCP connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def violating(sock):
    """Be closed because of an invalid frame."""
    sock.sendall(b"\xff\xff")
    while sock.recv(1000):
        pass


STYLES = (closing, ending, resetting, violating)
KINDS = ("/echo", "/ws", "/ws?channel=a", "/connection/websocket")


def cycles(port, count):
    """Connect, exchange a message, and close in one of four styles."""
    for number in range(count):
        path = KINDS[number // 4 % 4]
        sock = open_websocket(port, path, source=f"127.5.0.{number % 250 + 1}")
        if path == "/connection/websocket":
            sock.sendall(masked(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}'))
            sock.recv(1000)
        elif "channel" not in path:
            sock.sendall(masked(TEXT, b"whoami"))
            sock.recv(1000)
        STYLES[number % 4](sock)
        sock.close()
        if number % 20 == 0:
            refused = socket.create_connection(("127.0.0.1", port))
            refused.sendall(handshake_request("/echo", "Origin: https://evil.example"))
            refused.recv(1000)
            refused.close()
    return count


def run(server, count):
    with Attacker(cycles, server.port, count) as attacker:
        attacker.result(200)


def test_t36_nothing_is_left_of_clients_that_are_gone(start_server, figures, full):
    """
    After thousands of connections, closed in four ways, memory and descriptors are as before.

    `make soak` opens a million of them.
    """
    server, count = start_server("--channel-allow", "*"), 20_000 if full else 2000
    run(server, 1000)
    time.sleep(2.5)
    memory, descriptors = server.pss(), server.descriptors()
    run(server, count)
    server.wait_for(lambda: server.descriptors() <= descriptors, "all descriptors released", 15)
    left = server.descriptors() - descriptors
    with server.connect() as peer:
        response = peer.request("/api/info", f"X-API-Key: {KEY}", method="POST", body=b"{}")
        assert b'"num_clients":0' in response.body.replace(b" ", b""), response.body
    figures.at_most(0, left, f"descriptors left of {count:,} connections")
    figures.at_most(10 * KIB, (server.pss() - memory) / KIB, f"memory left of {count:,} connections", "KiB")
