"""T15: floods of tiny frames, which cost far more CPU time than bandwidth."""

import pytest
from arena import withstand
from attackers import flood, masked, open_all
from peers import TEXT


def tiny_frames(port, seconds, connections):
    return flood(open_all(port, connections), masked(TEXT) * (256 * 1024 // 6), seconds)


@pytest.mark.parametrize("connections", [1, 20])
def test_t15_a_flood_of_frames_of_6_bytes_delays_nobody(server, figures, full, connections):
    """Clients that flood the server with empty frames do not delay others."""
    measured = withstand(server, figures, tiny_frames, 10 if full else 1.2, connections, connections=connections)
    figures.at_most(20, measured.lag.p99 * 1000, "p99 of the event loop's lag", "ms", measured)
