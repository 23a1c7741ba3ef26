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


_COMBINATIONS: Final = (
    "/faults/echo?late-handshake=2s&close=1012&close.after=3",
    "/faults/echo?ping=5&push=binary&push.size=1KiB&drop.wait=10s",
    "/faults/close?code=1012&no-close=",
)
"""Examples of several faults on one connection."""


def describe() -> dict[str, Any]:
    """Return what `/faults` says, as data that can be encoded as JSON."""
    return {
        "enabled": True,
        "faults": [fault.describe() for fault in TABLE.values()],
        "trigger": [one.describe(one.default) for one in TRIGGER],
        "combinations": list(_COMBINATIONS),
        "common": [one.describe(one.default) for one in COMMON],
    }
