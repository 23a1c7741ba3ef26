"""Counters: plain integers that the server increments while it works, and that `/metrics` reads."""

from collections import defaultdict

__all__ = ["Counters"]


class Counters:
    """What one server process has counted since it started. Incrementing an integer is the only cost on a hot path."""

    __slots__ = ("limits", "refusals", "tls_handshakes_failed")

    def __init__(self) -> None:
        self.limits: defaultdict[str, int] = defaultdict(int)
        """Name of a limit, as its option without dashes (`max_connections_per_address`) -> how often it took effect."""
        self.refusals: defaultdict[str, int] = defaultdict(int)
        """Cause of a refused request (`wsserver.wire.access_log.cause_of`) -> number of requests."""
        self.tls_handshakes_failed = 0
