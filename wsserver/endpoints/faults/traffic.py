"""Faults of traffic: messages and control frames that the client did not ask for."""

from itertools import repeat

from wsserver.endpoints.faults.fault import Fault
from wsserver.endpoints.faults.handmade import large_message, payloads
from wsserver.endpoints.faults.parameters import choice, integer, size, text
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.endpoints.faults.sending import MAX_SENT
from wsserver.wire.frames import build

__all__ = ["FAULTS"]

_MESSAGES, _PINGS = "messages", "pings"

_RATE = integer("rate", 10, 1, 10_000, "Number per second.")
_PAYLOAD = text("payload", "", "The payload.", longest=31)


def _push(connection: FaultProtocol, *, type: str, size: int, rate: int, count: int, then: str) -> None:  # noqa: A002
    def finish() -> None:
        if then == "close":
            connection.close(1000, f"{count} of {count} sent")

    def send(payload: bytes) -> bytes:
        connection.sendMessage(payload, type == "binary")
        return b""

    connection.play(map(send, payloads(size, count)), rate, finish)


def _large(connection: FaultProtocol, size: int) -> None:
    connection.play(large_message(size, size), is_one_frame=True)


def _ping(connection: FaultProtocol, rate: int, count: int, payload: str) -> None:
    connection.play(repeat(build(0x89, payload.encode("utf-8")), count), rate)


def _pong(connection: FaultProtocol, rate: int, count: int, payload: str) -> None:
    connection.play(repeat(build(0x8A, payload.encode("utf-8")), count), rate)


FAULTS = (
    Fault(
        "push",
        _MESSAGES,
        "Send messages of a given type, size, rate and number.",
        "The client delivers all of them in order; each begins with its number.",
        _push,
        (
            choice("type", ("text", "binary"), "The type of the messages."),
            size("size", 64, 0, 1024**2, "Size of each message."),
            _RATE,
            integer("count", 10, 1, 1_000_000, "Number of messages."),
            choice(
                "then",
                ("close", "echo"),
                "What follows: a Close frame with 1000, or the echo goes on. With another end, the default is echo.",
            ),
        ),
        examples=("type=binary&size=1KiB&rate=1000&count=5000", "size=100KiB&compression=on"),
        yields={"then": "echo"},
    ),
    Fault(
        "large",
        _MESSAGES,
        "Send one large binary message.",
        "The client delivers the message, or refuses it with 1009 if it is over its limit.",
        _large,
        (size("size", 2 * 1024**2, 1, MAX_SENT // 2, "Size of the message."),),
        examples=("size=32MiB",),
    ),
    Fault(
        "ping",
        _PINGS,
        "Send pings.",
        "The client answers with pongs that have the same payload (5.5.3).",
        _ping,
        (_RATE, integer("count", 10, 1, 100_000, "Number of pings."), _PAYLOAD),
        examples=("rate=1&count=60", "rate=1000&count=10000"),
    ),
    Fault(
        "pong",
        _PINGS,
        "Send pongs that answer no ping.",
        "The client ignores them (5.5.3).",
        _pong,
        (_RATE, integer("count", 10, 1, 100_000, "Number of pongs."), _PAYLOAD),
    ),
)
"""The faults of this module."""
