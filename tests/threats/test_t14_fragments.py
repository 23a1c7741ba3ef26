"""T14: messages of endless fragments."""

import pytest
from arena import withstand
from attackers import flood, masked, open_all
from peers import CONTINUATION, TEXT


def fragments(port, seconds, connections, size):
    """Send fragments of a message that never ends."""
    data = masked(CONTINUATION, b"x" * size, fin=False)
    sockets = open_all(port, connections)
    return flood(sockets, data * (256 * 1024 // len(data)), seconds, first=masked(TEXT, b"x" * size, fin=False))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_t14_endless_fragments_are_bounded(server, figures, full, size):
    """
    A message of endless fragments is closed with 1008, and costs at most 512 KiB.

    The limit of the table, twice the message limit, is less than what the server reads at once: 256 KiB.
    """
    measured = withstand(
        server,
        figures,
        fragments,
        20 if full else 1.5,
        20,
        size,
        connections=20,
    )
    codes = measured.result.codes + measured.result.codes_of_open
    figures.at_most(0, 20 - len(codes), "connections not closed")
    assert set(codes) == {1008}, codes
