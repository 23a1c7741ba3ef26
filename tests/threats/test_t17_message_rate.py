"""T17: one client that sends far more messages than others."""

import time

import pytest
from arena import withstand
from attackers import flood, masked, open_all
from peers import BINARY, RawPeer

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

LIMIT = 100


def ten_thousand(port, seconds, connections):
    """Send as many messages as the server takes."""
    return flood(open_all(port, connections), masked(BINARY, b"x" * 10) * 10_000, seconds)


@pytest.mark.parametrize("action", ["throttle", "close"])
def test_t17_a_limit_of_the_rate_holds(start_server, figures, full, action):
    """With `--message-rate`, a client that exceeds it is read more slowly, or closed with 1008."""
    server = start_server("--message-rate", str(LIMIT), "--rate-action", action)
    seconds = 8 if full else 1.5
    measured = withstand(server, figures, ten_thousand, seconds, 20, connections=20)
    if action == "close":
        codes = measured.result.codes + measured.result.codes_of_open
        figures.at_most(0, 20 - len(codes), "connections not closed")
        assert set(codes) == {1008}, codes


def test_t17_throttling_loses_nothing(start_server, figures, full):
    """A client that sends 10 times the rate for a while gets all its echoes, in order, at the rate."""
    server = start_server("--message-rate", str(LIMIT))
    count = 1000 if full else 500
    with RawPeer(server.port) as peer:
        peer.handshake("/echo")
        begin = time.monotonic()
        peer.send(b"".join(masked(BINARY, b"%d" % number) for number in range(count)))
        got = [peer.read_message() for _ in range(count)]
        seconds = time.monotonic() - begin
    figures.at_most(0, sum(one != b"%d" % number for number, one in enumerate(got)), f"lost of {count} messages")
    # Twice the rate may arrive at once.
    figures.at_most(LIMIT * 1.1, (count - 2 * LIMIT) / seconds, "messages per second after the burst")


@pytest.mark.parametrize(("batch", "limit"), [(10, 0.5), (1, 1.5)], ids=["ten in a read", "one in a read"])
def test_t17_the_limit_costs_little_below_it(figures, batch, limit):
    """
    Counting costs at most 0.5 us for each message if there are several in a read, as in a flood.

    The limit is checked once for each read, which takes 0.7 us. So if each message is a read of its own, it costs more
    than the 0.5 us of the table; the test then allows twice what was measured. The connections are in memory, and the
    ones with and without the limit take turns: system calls and other programs would hide such a difference.
    """
    connections, best = [], [1e9, 1e9]
    for rate in (0, 10_000_000):
        server = MemoryServer(Settings(message_rate=rate))
        server.connect().open("/echo")
        connections += server.service.connections.connections
    data = masked(BINARY, b"x" * 10) * batch
    for _ in range(20):
        for at, connection in enumerate(connections):
            begin = time.process_time()
            for _ in range(20_000 // batch):
                connection.dataReceived(data)
            best[at] = min(best[at], (time.process_time() - begin) / 20_000 * 1e6)
    figures.at_most(limit, best[1] - best[0], f"CPU time for each message, {batch} in a read", "us", best)
