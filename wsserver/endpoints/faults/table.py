"""The table of all faults, and what `/faults` says about it."""

from types import MappingProxyType
from typing import Any

from wsserver.endpoints.faults import closing, echoes, framing, responses, traffic
from wsserver.endpoints.faults.fault import COMMON, TRIGGER

__all__ = ["TABLE", "describe"]

TABLE = MappingProxyType(
    {fault.name: fault for module in (echoes, traffic, closing, framing, responses) for fault in module.FAULTS}
)
"""Name -> fault."""


def describe() -> dict[str, Any]:
    """Return what `/faults` says, as data that can be encoded as JSON."""
    return {
        "enabled": True,
        "faults": [fault.describe() for fault in TABLE.values()],
        "trigger": [one.describe(one.default) for one in TRIGGER],
        "common": [one.describe(one.default) for one in COMMON],
    }
