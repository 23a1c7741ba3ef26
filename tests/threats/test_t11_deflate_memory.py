"""T11: memory of compressed connections."""

import zlib

import pytest
from arena import KIB
from attackers import Attacker, masked, open_websocket
from peers import TEXT

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def exchange(port, count, orders, compress):
    """Open connections, exchange one message on each, and keep them until the order to end."""
    deflate = zlib.compressobj(wbits=-15)
    text = b"a message of a few hundred bytes, with words that repeat and words that do not: " * 4
    data = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
    sockets = []
    for number in range(count):
        sock = open_websocket(port, "/echo", *([OFFER] if compress else []), source=f"127.2.{number // 250}.1")
        sock.sendall(masked(TEXT, data, rsv=4) if compress else masked(TEXT, text))
        assert sock.recv(1000)
        sockets.append(sock)
    orders.send(count)
    orders.recv()


def memory_of(server, count, *, compress):
    """Return the memory in KiB that each of many connections needs."""
    from multiprocessing import Pipe

    before = server.pss()
    ours, theirs = Pipe()
    with Attacker(exchange, server.port, count, theirs, compress):
        assert ours.poll(120), "the connections are not open"
        ours.recv()
        grown = server.pss() - before
        ours.send("end")
    return grown / KIB / count


@pytest.fixture(scope="module")
def plain(start_module_server, full):
    """Return the memory in KiB that each of many connections without compression needs."""
    return memory_of(start_module_server("--max-connections", "20000"), 5000 if full else 500, compress=False)


@pytest.mark.parametrize(
    "options",
    [(), ("--compression-context-takeover", "on", "--compression-window-bits", "12")],
    ids=["default", "context takeover, 12 bits"],
)
def test_t11_a_compressed_connection_costs_at_most_40_kib_more(start_server, plain, figures, full, options):
    """A connection with compression costs at most 40 KiB more than one without, after a message each way."""
    server = start_server("--max-connections", "20000", "--compression", "on", *options)
    compressed = memory_of(server, 5000 if full else 500, compress=True)
    figures.at_most(40, compressed - plain, "additional memory for each connection", "KiB", (plain, compressed))
