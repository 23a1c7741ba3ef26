"""
Faults on request: WebSocket endpoints that misbehave in a chosen way, to test clients with.

A fault is a row of the table, which is in one module for each group: `echoes`, `traffic`, `closing`, `framing` and
`responses`. `fault` makes a plan of a row and of the query of a URL, and `protocol` is the connection that follows the
plan. `output` delays and splits what it sends.
"""

from collections.abc import Mapping

from wsserver.endpoints.faults.fault import make_plan
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.endpoints.faults.table import TABLE

__all__ = ["FaultProtocol", "make_fault"]


def make_fault(name: str, parameters: Mapping[str, object] = {}) -> type[FaultProtocol]:
    """
    Make an endpoint with a fault, for any path of a server.

    Args:
        name: the fault's name; with `echo`, a parameter may name the fault: `make_fault("echo", {"close": 1012})`.
        parameters: name of a parameter -> value, as in the query of the fault's URL.

    Returns:
        An endpoint for `WebSocketService(endpoints=...)`.

    Raises:
        InvalidFault: the fault or a parameter is unknown, or a value is invalid; its attribute `parameter` is the name.
    """
    plan = make_plan(TABLE, name, {key: str(value) for key, value in parameters.items()})
    return type("FaultProtocol", (FaultProtocol,), {"plan": plan})
