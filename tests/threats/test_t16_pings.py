"""T16: floods of pings, with and without reading the pongs."""

from arena import KIB, withstand
from attackers import flood, masked, open_all
from peers import PING

PINGS = masked(PING, b"x" * 125)


def reading(port, seconds, connections):
    return flood(open_all(port, connections), PINGS * 2000, seconds)


def not_reading(port, seconds, connections):
    return flood(open_all(port, connections, receive_buffer=4096), PINGS * 2000, seconds, read=False)


def test_t16_pings_of_a_reading_client_delay_nobody(server, figures, full):
    """A flood of pings does not delay others."""
    withstand(server, figures, reading, 8 if full else 1.2, 20, connections=20)


def test_t16_pongs_are_bounded_if_nobody_reads_them(server, figures, full):
    """
    The server stops reading the pings of a client that does not read the pongs.

    It does not close it with 1008: the next ping of the server, which this client does not answer, closes it. The limit
    of the table, 64 KiB of pongs, is less than what the server reads at once: 256 KiB of pings, which it keeps.
    """
    measured = withstand(server, figures, not_reading, 8 if full else 1.5, 20, connections=20)
    # What the kernel buffers counts as sent, too.
    figures.at_most(8, measured.result.sent / 20 / KIB / 1024, "pings taken from each connection", "MiB")
