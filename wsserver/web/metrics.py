"""
The metrics for Prometheus: their names, and where their values come from.

The server counts with plain integers (`wsserver.wire.counters`), which are read when `/metrics` is requested.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from wsserver import __version__
from wsserver.hooks.requester import HookQueue
from wsserver.web.sources import Sources, read_cpu_seconds, read_memory
from wsserver.wire import frames
from wsserver.wire.counters import Histogram

__all__ = ["METRICS", "PREFIX", "Metric", "make_registry"]

PREFIX: Final = "wsserver_"
"""Prefix of the names of the server's own metrics."""


_Number = int | float
_Values = _Number | Histogram | Mapping[Any, _Number] | Mapping[Any, Histogram]
"""The value of a metric; with labels, the label's value, or a tuple of the labels' values -> value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of the server."""

    name: str
    """Its name without `PREFIX`; that of a counter ends with `_total`."""
    kind: str
    """`counter`, `gauge` or `histogram`."""
    help: str
    """Its meaning, in one sentence."""
    read: Callable[[Sources], _Values]
    labels: tuple[str, ...] = ()

    def collect(self, sources: Sources) -> Family:
        """Return the metric with its current values."""
        family = _FAMILIES[self.kind](PREFIX + self.name, self.help, labels=self.labels)
        values = self.read(sources)
        for label, value in values.items() if isinstance(values, Mapping) else [((), values)]:
            labels = [str(one) for one in (label if isinstance(label, tuple) else (label,))]
            if isinstance(value, Histogram):
                family.add_metric(labels, list(_buckets(value)), value.total)
            else:
                family.add_metric(labels, value)
        return family  # type: ignore[no-any-return]


_FAMILIES: Final[Mapping[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _buckets(histogram: Histogram) -> Iterator[tuple[str, int]]:
    """Yield the upper bound of each bucket, and the number of durations up to it, as Prometheus expects them."""
    count = 0
    for bound, more in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        count += more
        yield floatToGoString(bound), count


def _of_hooks(read: Callable[[HookQueue], Any]) -> Callable[[Sources], Mapping[str, Any]]:
    return lambda sources: {event: read(queue) for event, queue in sources.hooks.items()}


def _of_broker(name: str) -> Callable[[Sources], Mapping[tuple[()], _Number]]:
    """Return a function that reads a metric of the broker, or no value if the broker does not have this metric."""

    def read(sources: Sources) -> Mapping[tuple[()], _Number]:
        found = sources.hub.broker.metrics()
        return {(): found[name]} if name in found else {}

    return read


def _of_occupancy(name: str) -> Callable[[Sources], Mapping[tuple[()], _Number]]:
    """Return a function that reads a counter of the channel events, or no value if the backend receives no events."""
    return lambda sources: {} if sources.occupancy is None else {(): sources.occupancy.metrics()[name]}


def _of_traffic(name: str) -> Callable[[Sources], Mapping[str, int]]:
    return lambda sources: {transport: getattr(one, name) for transport, one in sources.traffic.items()}


def _describe_build(_: Sources) -> Mapping[tuple[str, str, str], int]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {(__version__, python, "yes" if frames.COMPILED else "no"): 1}


def _open_connections(sources: Sources) -> Mapping[str, int]:
    return {"websocket": 0, **sources.counters.open()}


METRICS: Final = (
    # Process.
    Metric(
        "build_info",
        "gauge",
        "The version of the server, as labels; the value is 1.",
        _describe_build,
        ("version", "python", "compiled"),
    ),
    Metric("ready", "gauge", "Whether /ready answers 200.", lambda sources: int(sources.find_problem() is None)),
    Metric(
        "event_loop_lag_seconds",
        "histogram",
        "How late a timer was that is set every 100 ms; so long, the server answered nobody.",
        lambda sources: sources.counters.lag,
    ),
    # Connections.
    Metric(
        "connections",
        "gauge",
        "Open connections of clients: WebSockets and endless HTTP responses.",
        _open_connections,
        ("transport",),
    ),
    Metric(
        "connections_opened_total",
        "counter",
        "Connections of clients that were opened.",
        lambda sources: sources.counters.opened,
        ("transport",),
    ),
    Metric(
        "disconnects_total",
        "counter",
        "Connections of clients that were closed, by close code and the side that closed first.",
        lambda sources: sources.counters.disconnects,
        ("transport", "code", "initiator"),
    ),
    Metric(
        "sockets",
        "gauge",
        "All open connections, also of HTTP clients; --max-connections limits them.",
        lambda sources: len(sources.frontend.sockets),
    ),
    Metric(
        "max_sockets",
        "gauge",
        "The limit of --max-connections, or of the operating system if that is lower.",
        lambda sources: sources.frontend.admission.max_connections,
    ),
    Metric(
        "refusals_total",
        "counter",
        "Refused requests, by cause; /api/rejects returns the last ones.",
        lambda sources: sources.counters.refusals,
        ("cause",),
    ),
    Metric(
        "tls_handshakes_failed_total",
        "counter",
        "TLS handshakes that failed.",
        lambda sources: sources.counters.tls_handshakes_failed,
    ),
    Metric(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "UNIX time at which the certificate in use expires, by its file; missing without TLS.",
        lambda sources: sources.expiries(),
        ("certificate",),
    ),
    Metric(
        "limit_hits_total",
        "counter",
        "How often a limit took effect, by the option that sets it.",
        lambda sources: sources.counters.limits,
        ("limit",),
    ),
    Metric(
        "fault_connections",
        "gauge",
        "Open connections with a fault; see --faults.",
        lambda sources: sources.counters.open_faults,
    ),
    Metric(
        "fault_handshakes_total",
        "counter",
        "Handshakes of connections with a fault, by the name of the fault.",
        lambda sources: sources.counters.faults,
        ("fault",),
    ),
    Metric(
        "handshake_duration_seconds",
        "histogram",
        "Time from the complete opening handshake to the 101 response.",
        lambda sources: sources.counters.handshakes,
    ),
    Metric(
        "ping_rtt_seconds",
        "histogram",
        "Time from a ping of the server to the client's pong.",
        lambda sources: sources.counters.pings,
    ),
    # Messages.
    Metric(
        "messages_received_total",
        "counter",
        "Messages received from clients.",
        _of_traffic("messages_in"),
        ("transport",),
    ),
    Metric(
        "received_bytes_total",
        "counter",
        "Size of the payloads of these messages, after decompression.",
        _of_traffic("bytes_in"),
        ("transport",),
    ),
    Metric("messages_sent_total", "counter", "Messages sent to clients.", _of_traffic("messages_out"), ("transport",)),
    Metric(
        "sent_bytes_total",
        "counter",
        "Size of the payloads of these messages, before compression.",
        _of_traffic("bytes_out"),
        ("transport",),
    ),
    Metric(
        "send_queue_bytes",
        "gauge",
        "Bytes queued for clients that do not read fast enough; see --max-queued-bytes.",
        lambda sources: sources.queued,
    ),
    # HTTP.
    Metric(
        "http_requests_total",
        "counter",
        "Answered HTTP requests, by status; wsserver_refusals_total counts the refused ones.",
        lambda sources: sources.counters.requests,
        ("status",),
    ),
    Metric(
        "api_requests_total",
        "counter",
        "Calls of the HTTP API, by method and status.",
        lambda sources: sources.counters.calls,
        ("method", "status"),
    ),
    # Channels.
    Metric("channels", "gauge", "Channels with subscribers.", lambda sources: sources.hub.channels),
    Metric("subscriptions", "gauge", "Subscribers of all channels.", lambda sources: sources.hub.subscriptions),
    Metric(
        "published_total",
        "counter",
        "Publications made through this server: by clients, or by the HTTP API and the application (backend).",
        lambda sources: {"client": sources.hub.from_clients, "backend": sources.hub.from_backend},
        ("source",),
    ),
    Metric(
        "plain_publications_total",
        "counter",
        "Publications received that are in no history, such as those of redis-cli.",
        lambda sources: sources.hub.plain,
    ),
    Metric(
        "broadcast_duration_seconds",
        "histogram",
        "Time of a delivery to all subscribers of a channel.",
        lambda sources: sources.counters.broadcasts,
    ),
    Metric(
        "dropped_messages_total",
        "counter",
        "Messages dropped because a subscriber did not read fast enough; see --slow.",
        lambda sources: sources.hub.dropped,
    ),
    Metric(
        "gaps_total",
        "counter",
        "Gaps in channels of which subscribers were notified, because publications were lost.",
        lambda sources: sources.hub.gaps,
    ),
    Metric(
        "recover_total",
        "counter",
        "Subscribers that returned, by whether the history had everything that they missed.",
        lambda sources: sources.hub.recoveries,
        ("recovered",),
    ),
    Metric(
        "history_evictions_total",
        "counter",
        "Histories deleted early, because all of them together had reached a limit; missing with --redis.",
        _of_broker("history_evictions_total"),
    ),
    # Redis.
    Metric(
        "redis_subscriber_up",
        "gauge",
        "Whether the server receives the publications from Redis; missing without --redis.",
        _of_broker("redis_subscriber_up"),
    ),
    Metric(
        "redis_reconnects_total",
        "counter",
        "How often the connection to Redis was established again; missing without --redis.",
        _of_broker("redis_reconnects_total"),
    ),
    Metric(
        "redis_oversized_messages_total",
        "counter",
        "How often the connection to Redis was lost because of a message over 16 MiB; missing without --redis.",
        _of_broker("redis_oversized_messages_total"),
    ),
    # Hooks.
    Metric(
        "hook_requests_total",
        "counter",
        "Requests to the backend, also rejected ones.",
        _of_hooks(lambda queue: queue.requests),
        ("event",),
    ),
    Metric(
        "hook_failures_total",
        "counter",
        "Requests to the backend without a valid answer in time.",
        _of_hooks(lambda queue: queue.failed),
        ("event",),
    ),
    Metric(
        "hook_rejected_total",
        "counter",
        "Requests to the backend that were not sent, because too many were waiting.",
        _of_hooks(lambda queue: queue.rejected),
        ("event",),
    ),
    Metric(
        "hook_duration_seconds",
        "histogram",
        "Time from a request to the backend to its answer, or to its failure.",
        _of_hooks(lambda queue: queue.durations),
        ("event",),
    ),
    Metric(
        "channel_events_sent_total",
        "counter",
        "Events of --hook-channel that the backend has taken; missing without the option.",
        _of_occupancy("channel_events_sent_total"),
    ),
    Metric(
        "channel_events_failed_requests_total",
        "counter",
        "Requests with such events that failed and are repeated; missing without the option.",
        _of_occupancy("channel_events_failed_requests_total"),
    ),
)
"""The server's own metrics. `/metrics` also has those of the Python process: `process_*` and `python_gc_*`."""


class _ServerCollector(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Family]:
        """Yield the server's metrics with their current values."""
        self._sources.read_connections()
        return [metric.collect(self._sources) for metric in METRICS]


class _ProcessCollector(Collector):
    """
    The metrics `process_*` as prometheus_client has them, except that the open files are not listed to count them.

    With 10,000 connections, listing them would block the event loop for 5 to 30 ms.

    Args:
        sources: the server; on older systems, its connections are counted instead.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        listed = {family.name: family for family in ProcessCollector(registry=None).collect()}
        """The metrics as prometheus_client reads them now."""
        self._constant = [listed[name] for name in ("process_start_time_seconds", "process_max_fds") if name in listed]
        self._files = int(listed["process_open_fds"].samples[0].value) if "process_open_fds" in listed else 0

    def collect(self) -> Iterable[Family]:
        """Yield the metrics with their current values."""
        cpu = read_cpu_seconds()
        yield CounterMetricFamily("process_cpu_seconds_total", "User and system CPU time in seconds.", cpu)
        with suppress(OSError):
            virtual, resident = read_memory()
            yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual)
            yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory size in bytes.", resident)
        yield GaugeMetricFamily("process_open_fds", "Number of open file descriptors.", self._count_files())
        yield from self._constant

    def _count_files(self) -> int:
        # Since Linux 6.2, the size of this directory is their number; before, it was 0.
        with suppress(OSError):
            count = os.stat("/proc/self/fd").st_size
            if count:
                return count
        return self._files + len(self._sources.frontend.sockets)


def make_registry(sources: Sources) -> CollectorRegistry:
    """Return a registry with the metrics of a server, and of the process that it runs in."""
    registry = CollectorRegistry()
    registry.register(_ServerCollector(sources))
    registry.register(_ProcessCollector(sources))
    GCCollector(registry=registry)
    return registry
