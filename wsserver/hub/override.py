"""
The field `override` of a subscription: options of the channel that are different for this subscription.

Answers to hooks and calls of the HTTP API contain it, in Centrifugo's form:
`{"force_push_join_leave": {"value": true}}`.

This module does not use Twisted, a clock or a socket.
"""

from wsserver.jsonfields import JSONStruct, Nullable

__all__ = ["Override", "forces_events"]


class _Value(JSONStruct, frozen=True):
    value: Nullable[bool] = False


class Override(JSONStruct, frozen=True):
    """The overridden options; the others of Centrifugo are ignored."""

    force_push_join_leave: _Value | None = None


def forces_events(override: Override | None) -> bool | None:
    """Return whether the subscriber receives join and leave events without a request; None if the channel decides."""
    if override is None or override.force_push_join_leave is None:
        return None
    return override.force_push_join_leave.value
