"""
The numbers of a server process: the objects that count them, and the ones that the API method `info` returns.

`/metrics` has more of them, see `wsserver.web.metrics`; `info` needs no further package, and reaches all processes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
from typing import Any

from wsserver.endpoints.queued_output import QueuedOutput
from wsserver.hooks.requester import HookQueue
from wsserver.hub.hub import Hub
from wsserver.hub.occupancy_reporter import OccupancyReporter
from wsserver.wire.connections import ConnectionSet
from wsserver.wire.counters import Counters, Traffic
from wsserver.wire.fastpath import FastPath, sum_messages
from wsserver.wire.frontend import FrontendFactory

__all__ = ["Sources", "read_cpu_seconds", "read_memory"]


@dataclass(slots=True)
class Sources:
    """The objects that the metrics, and the numbers of the API method `info`, are read from."""

    counters: Counters
    connections: ConnectionSet[Any]
    """The open WebSocket connections, and others."""
    frontend: FrontendFactory
    hub: Hub
    hooks: Mapping[str, HookQueue]
    """Event -> the queue of its hook requests; empty without hooks."""
    occupancy: OccupancyReporter | None
    find_problem: Callable[[], str | None]
    """Returns why `/ready` answers 503; None if it answers 200."""
    sum_queued: Callable[[], int]
    """Returns how many bytes the transports of all connections have queued."""
    expiries: Callable[[], Mapping[str, float]]
    """Returns file of a certificate -> the UNIX time at which it expires."""
    traffic: Mapping[str, Traffic] = field(default_factory=dict, init=False)
    """Transport -> the messages of all its connections, open and closed; read once for all metrics."""
    queued: int = field(default=0, init=False)
    """Bytes that are queued for clients; read once for all metrics."""

    def read_connections(self) -> None:
        """Read the counters and the send queues of all connections."""
        traffic, queued = defaultdict[str, Traffic](Traffic), self.sum_queued()
        for transport, closed in self.counters.traffic.items():
            traffic[transport].add(closed)
        connections = list(self.connections)
        traffic["websocket"].add_numbers(*sum_messages(connections))
        for one in connections:
            if isinstance(one, QueuedOutput):
                queued += one.queued
                if not isinstance(one, FastPath):
                    stream: Any = one
                    traffic[stream.transport_name].add(stream)
        self.traffic, self.queued = traffic, queued

    def numbers(self) -> dict[str, float]:
        """
        Return the numbers of the API method `info`: name -> value.

        The names are those of the metrics, without their prefix. Values are added up over the transports. A metric with
        one label has a name for each of its values, such as `refusals_total{cause="origin"}`.
        """
        self.read_connections()
        return {name: float(value) for name, value in self._read_numbers()}

    def _read_numbers(self) -> Iterator[tuple[str, float]]:
        counters, traffic = self.counters, self.traffic.values()
        yield "connections", sum(counters.open().values())
        yield "connections_opened_total", sum(counters.opened.values())
        yield "sockets", len(self.frontend.sockets)
        yield "max_sockets", self.frontend.admission.max_connections
        yield "messages_received_total", sum(one.messages_in for one in traffic)
        yield "received_bytes_total", sum(one.bytes_in for one in traffic)
        yield "messages_sent_total", sum(one.messages_out for one in traffic)
        yield "sent_bytes_total", sum(one.bytes_out for one in traffic)
        yield "send_queue_bytes", self.queued
        yield "event_loop_lag_seconds_sum", counters.lag.total
        yield "event_loop_lag_seconds_count", sum(counters.lag.counts)
        yield "process_cpu_seconds_total", read_cpu_seconds()
        with suppress(OSError):
            yield "process_resident_memory_bytes", read_memory()[1]
        yield from _label("refusals_total", "cause", counters.refusals)
        yield from _label("limit_hits_total", "limit", counters.limits)


def _label(name: str, label: str, values: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    for value, count in values.items():
        yield f'{name}{{{label}="{value}"}}', count


def read_cpu_seconds() -> float:
    """Return the CPU time that this process has used, in seconds."""
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_memory() -> tuple[int, int]:
    """
    Return the size of the virtual and of the resident memory of this process, in bytes.

    Raises:
        OSError: the system does not provide them in `/proc`, as Linux does.
    """
    virtual, resident = Path("/proc/self/statm").read_text("ascii").split()[:2]
    return int(virtual) * getpagesize(), int(resident) * getpagesize()
