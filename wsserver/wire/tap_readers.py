"""The events of a tap, and the readers that receive them."""

from typing import Any, Protocol

__all__ = ["Event", "Reader"]


class Event:
    """Something that happened on the wire."""

    __slots__ = ("fields", "number", "payload", "payload_size")

    def __init__(self, number: int, fields: dict[str, Any], payload: bytes | None = None, size: int = 0) -> None:
        self.number = number
        """The number of the event, from 1."""
        self.fields = fields
        """The fields that `docs/reference/tap.md` describes, without the payload."""
        self.payload = payload
        """The first bytes of the payload; None if the event has none."""
        self.payload_size = size
        """Size of the whole payload, in bytes."""


class Reader(Protocol):
    """A reader of a tap."""

    payload: int
    """Maximum number of bytes of each payload that the reader needs."""

    def on_event(self, event: Event) -> None:
        """Receive an event."""

    def on_gap(self, missed: int) -> None:
        """Receive the number of events that were not kept."""

    def on_end(self) -> None:
        """Receive the end: no event follows."""
