"""`/metrics`: answer the requests of Prometheus with the metrics of this process, or of all worker processes."""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred

from wsserver.hub.deferreds import MaybeDeferred
from wsserver.web.responses import Response, StreamResponse, refusal_response, write_lines
from wsserver.wire.http11 import Refusal, Request

__all__ = ["GROUP_METRICS", "Exposition", "Group", "read_numbers"]


class Group(Protocol):
    """The worker processes of a server."""

    def collect(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        """Return a Deferred that fires with name of a process -> its numbers; see `Exposition.numbers`."""


class _Collected(Collector):
    """Metrics that have been read already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """Return the metrics."""
        return self._families


class Exposition:
    """
    Answers requests for `/metrics`.

    Args:
        registry: the metrics of this process.
        refuse: returns the refusal of a request that may not read the metrics; None if it may.
        find_group: returns the group of worker processes that this process belongs to; None if it is the only process.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        refuse: Callable[[Request], Refusal | None],
        find_group: Callable[[], Group | None],
    ) -> None:
        self._registry, self._refuse, self._find_group = registry, refuse, find_group

    def __call__(self, request: Request, body: bytes, peer: str) -> "MaybeDeferred[Response | StreamResponse]":  # noqa: ARG002
        """
        Answer a request.

        Args:
            request: the request head.
            body: the request body, which is ignored.
            peer: the peer's address.

        Returns:
            The response; a Deferred of it if other processes have to be asked.
        """
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal_response(refusal)
        accept = ", ".join(request.all("accept"))
        group = self._find_group()
        if group is None:
            return _write(self._registry, accept)
        return group.collect().addCallback(lambda found: _write(_Collected(read_numbers(found)), accept))

    def numbers(self) -> dict[str, Any]:
        """
        Return the metrics of this process as JSON-serializable data.

        Returns:
            Name of a metric -> its type, its help text, and its samples: name, labels and value.
        """
        return {
            family.name: {
                "type": family.type,
                "help": family.documentation,
                "samples": [[one.name, one.labels, one.value] for one in family.samples],
            }
            for family in self._registry.collect()
        }


def read_numbers(found: Mapping[str, Mapping[str, Any]]) -> list[Family]:
    """
    Return the metrics of several processes, with the name of the process as the label `worker`.

    Args:
        found: name of a process -> what `Exposition.numbers` has returned there.
    """
    families = _describe_supervisor(found.get("supervisor", {}))
    for worker, numbers in found.items():
        if worker == "supervisor":
            continue
        for name, about in numbers.items():
            family = families.get(name)
            if family is None:
                family = families[name] = Family(name, about["help"], about["type"])
            for sample, labels, value in about["samples"]:
                family.add_sample(sample, {**labels, "worker": worker}, value)
    return list(families.values())


class GroupMetric(NamedTuple):
    """A metric of the supervisor."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


GROUP_METRICS: Final = (
    GroupMetric("workers", "gauge", "Worker processes that serve clients.", ()),
    GroupMetric("workers_configured", "gauge", "The number of worker processes that --workers asks for.", ()),
    GroupMetric(
        "worker_exits_total", "counter", "Worker processes that have ended without being asked to.", ("worker",)
    ),
    GroupMetric("workers_killed_total", "counter", "Worker processes that were killed because they did not react.", ()),
)
"""The metrics of the supervisor, which only exist with `--workers`."""


def _describe_supervisor(numbers: Mapping[str, Any]) -> dict[str, Family]:
    """Return the metrics of the supervisor by name; none if it has not answered."""
    if not numbers:
        return {}
    values: dict[str, Any] = {
        "workers": numbers["serving"],
        "workers_configured": numbers["workers"],
        "worker_exits_total": numbers["exits"],
        "workers_killed_total": numbers["hung"],
    }
    families: dict[str, Family] = {}
    for name, kind, text, labels in GROUP_METRICS:
        family = families[name] = Family("wsserver_" + name.removesuffix("_total"), text, kind)
        value = values[name]
        for label, one in value.items() if labels else [("", value)]:
            family.add_sample("wsserver_" + name, {"worker": label} if labels else {}, one)
    return families


def _write(metrics: Collector, accept: str) -> Response:
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # The header names a version that is not a number.
        encode, content_type = choose_encoder("")
    lines = write_lines((("Content-Type", content_type), ("Cache-Control", "no-store")))
    return Response(HTTPStatus.OK, lines, encode(metrics), is_logged=False)
