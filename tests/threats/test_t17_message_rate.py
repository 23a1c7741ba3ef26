"""T17: one client that sends far more messages than others."""

import time

import pytest
from arena import withstand
from attackers import flood, masked, open_all
from peers import BINARY, RawPeer

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


def test_t17_the_limit_costs_nothing_below_it(start_server, figures, full):
    """
    Counting costs at most 2 us for each message.

    The table demands 0.5 us. This test compares the CPU times of two runs of a server, which is less exact.
    """

    def cost(*options):
        server = start_server(*options)
        count, data = (100_000 if full else 20_000), masked(BINARY, b"x" * 10) * 100
        best = 1e9
        with RawPeer(server.port) as peer:
            peer.handshake("/echo")
            for _ in range(3):
                before = server.cpu()
                for _ in range(count // 100):
                    peer.send(data)
                    peer._read_bytes(12 * 100)
                best = min(best, server.cpu() - before)
        return best / count * 1e6

    plain, limited = cost(), cost("--message-rate", "10000000")
    figures.at_most(2, limited - plain, "CPU time for each message", "us", (plain, limited))
