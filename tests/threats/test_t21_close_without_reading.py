"""T21: peers that send a Close frame, and do not read what is queued for them."""

import contextlib
import ssl
import time

import pytest
from attackers import Attacker, masked, open_websocket
from peers import BINARY, CLOSE, close_payload, handshake_request
from waiting import wait_until


def close_without_reading(port, count, orders, tls):
    """Open connections, request much more than the kernel buffers, send a Close frame, and read nothing."""
    sockets = []
    for _ in range(count):
        if tls:
            from attackers import connect

            context = ssl.create_default_context(cafile=tls)
            sock = context.wrap_socket(connect(port, receive_buffer=4096), server_hostname="localhost")
            sock.sendall(handshake_request("/echo"))
            assert b" 101 " in sock.recv(1000)
        else:
            sock = open_websocket(port, "/echo", receive_buffer=4096)
        sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                sock.sendall(masked(BINARY, bytes(60_000)))
        sock.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            sock.sendall(masked(CLOSE, close_payload(1000)))
        sockets.append(sock)
    orders.send("ready")
    time.sleep(60)


@pytest.mark.waits
@pytest.mark.parametrize("tls", [pytest.param(False, id="tcp"), pytest.param(True, id="tls")])
def test_t21_a_peer_that_closes_but_does_not_read_is_dropped(start_server, authority, figures, full, tmp_path, tls):
    """
    A peer that sends Close and stops reading is gone after 10 s, with everything that was queued for it.

    There are 200 peers instead of the 500 of the table: what the kernel buffers for each of them needs its memory. The
    server reads no Close frame from a peer that does not read; it drops the connection because nothing is read.
    """
    from multiprocessing import Pipe

    more = ()
    if tls:
        issued = authority.issue(tmp_path / "certificate")
        more = ("--tls-cert", str(issued.fullchain), "--tls-key", str(issued.privkey))
    server, count = start_server(*more), 200 if full else 20
    before = server.descriptors()
    ours, theirs = Pipe()
    with Attacker(close_without_reading, server.port, count, theirs, str(authority.root) if tls else "") as attacker:
        assert ours.poll(120)
        begin = time.monotonic()
        wait_until(lambda: server.descriptors() <= before, "all descriptors released", timeout=60)
        assert not attacker.has_ended
    figures.at_most(10, time.monotonic() - begin, "time until all descriptors are released", "s")
