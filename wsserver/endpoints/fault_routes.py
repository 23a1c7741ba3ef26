"""Routing of the faults: the package of the faults is only imported if a server has them."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from wsserver.errors import InvalidFault
from wsserver.text import quote
from wsserver.typing import Path
from wsserver.wire.http11 import Refusal
from wsserver.wire.protocol import ServerFactory, ServerProtocol, bind

if TYPE_CHECKING:
    from wsserver.endpoints.faults.plan import Plan
    from wsserver.endpoints.faults.protocol import FaultProtocol

__all__ = ["FAULTS", "bind_faults", "refuse_faults"]

FAULTS: Final = "/faults/"
"""The prefix of the paths of faults."""

Find = Callable[[Path, Mapping[str, list[str]]], Callable[[], ServerProtocol] | Refusal]


def refuse_faults() -> Refusal:
    """Return the refusal of a server without faults."""
    return Refusal(HTTPStatus.NOT_FOUND, "this server has no faults; to serve them, start it with --faults")


def bind_faults(factory: ServerFactory) -> Find:
    """
    Bind the faults to a server.

    Returns:
        A function that finds the endpoint of a fault, given its path and its query, as `Router.find` does.
    """
    from wsserver.endpoints.faults.plan import make_plan  # noqa: PLC0415 (only with --faults)
    from wsserver.endpoints.faults.protocol import FaultProtocol  # noqa: PLC0415
    from wsserver.endpoints.faults.table import TABLE  # noqa: PLC0415

    protocol = bind(FaultProtocol, factory)

    def find(path: Path, query: Mapping[str, list[str]]) -> Callable[[], ServerProtocol] | Refusal:
        if repeated := next((name for name, values in query.items() if len(values) > 1), None):
            return _refuse(HTTPStatus.BAD_REQUEST, f"parameter {quote(repeated)} is repeated: expected it at most once")
        # The frontend has read the secret of a tap.
        given = {name: values[0] for name, values in query.items() if name != "tap"}
        try:
            plan = make_plan(TABLE, path.removeprefix(FAULTS), given)
        except InvalidFault as error:
            status = HTTPStatus.NOT_FOUND if error.parameter is None else HTTPStatus.BAD_REQUEST
            return _refuse(status, str(error))
        return lambda: _make(protocol, plan)

    return find


def _make(protocol: "type[FaultProtocol]", plan: "Plan") -> ServerProtocol:
    connection = protocol()
    connection.plan = plan
    return connection


def _refuse(status: HTTPStatus, problem: str) -> Refusal:
    return Refusal(status, f"{problem}; /faults lists the faults and their parameters", cause="faults")
