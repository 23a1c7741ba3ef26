"""
Faults on request: WebSocket endpoints that misbehave in a chosen way, to test clients with.

A fault is a row of the table, which is in one module for each group: `echoes`, `traffic`, `closing`, `framing` and
`responses`. `plan` chooses rows by the path and the query of a URL, and `protocol` is the connection that follows the
plan. `sending` is its part that sends, and `output` delays and splits what it sends.
"""

from collections.abc import Mapping

from wsserver.endpoints.faults.plan import flatten, make_plan
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.endpoints.faults.table import TABLE

__all__ = ["FaultProtocol", "make_fault"]


def make_fault(name: str, parameters: Mapping[str, object] = {}, *, wait: float | None = None) -> type[FaultProtocol]:
    """
    Make an endpoint with faults, for any path of a server.

    Args:
        name: the fault's name; `echo` for none, or for those that the parameters name.
        parameters: name of a parameter -> value, as in the query of the fault's URL. A parameter that names a fault
            adds it: `{"ping": True, "close": {"code": 1012, "after": 3}}`. A mapping has the fault's own parameters,
            True stands for no value, and False leaves the parameter out.
        wait: the default of the parameter `wait` in seconds; None for that of the table.

    Returns:
        An endpoint for `WebSocketService(endpoints=...)`.

    Raises:
        InvalidFault: the fault or a parameter is unknown, a value is invalid, or the faults cannot be combined; its
            attribute `parameter` is the name of the parameter.
    """
    plan = make_plan(TABLE, name, flatten(parameters), {} if wait is None else {"wait": wait})
    return type("FaultProtocol", (FaultProtocol,), {"plan": plan})
