"""The table of all faults, and what `/faults` says about it."""

from types import MappingProxyType
from typing import Any, Final

from wsserver.endpoints.faults import closing, echoes, framing, responses, traffic
from wsserver.endpoints.faults.fault import COMMON, TRIGGER

__all__ = ["TABLE", "describe"]

TABLE = MappingProxyType(
    {fault.name: fault for module in (echoes, traffic, closing, framing, responses) for fault in module.FAULTS}
)
"""Name -> fault."""


_COMBINING: Final = {
    "description": (
        "A parameter with the name of a fault adds that fault, and its value is that of the fault's first parameter. "
        "The other parameters of a fault are written with its name and a dot; without them, if only one of the faults "
        "has a parameter of that name. At most one fault can end the connection, and none can be combined with one "
        "that takes the place of the 101 response."
    ),
    "examples": [
        "/faults/echo?late-handshake=2s&close=1012&close.after=3",
        "/faults/echo?ping=5&push=binary&push.size=1KiB&drop.wait=10s",
        "/faults/close?code=1012&no-close=",
    ],
}
"""How faults are combined."""


def describe() -> dict[str, Any]:
    """Return what `/faults` says, as data that can be encoded as JSON."""
    return {
        "enabled": True,
        "faults": [fault.describe() for fault in TABLE.values()],
        "trigger": [one.describe(one.default) for one in TRIGGER],
        "combining": _COMBINING,
        "common": [one.describe(one.default) for one in COMMON],
    }
