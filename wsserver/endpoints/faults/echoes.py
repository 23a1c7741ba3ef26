"""Faults of the echo: slow, late and fragmented answers, no pongs, and a server that does not read or write."""

from wsserver.endpoints.faults.fault import Effect, Fault
from wsserver.endpoints.faults.parameters import size
from wsserver.endpoints.faults.protocol import FaultProtocol

__all__ = ["FAULTS"]

_ECHO, _FLOW = "echo", "flow"


def _stop_writing(connection: FaultProtocol) -> None:
    connection.stop_writing()
    connection.never_closes = True


def _stop_reading(connection: FaultProtocol) -> None:
    connection.stop_reading()


def _read_slowly(connection: FaultProtocol, rate: int) -> None:
    connection.reads_per_second = rate


FAULTS = (
    Fault(
        "echo",
        _ECHO,
        "Echo every message. Combine the parameters that every fault has, or add faults: close=1012&close.after=3.",
        "The client receives every message back.",
        examples=("delay=500ms&jitter=100ms", "fragment=7&compression=on", "ping.rate=5&close=1012&close.after=3"),
    ),
    Fault(
        "delay",
        _ECHO,
        "Echo every message late.",
        "The client waits; a ping of its own is answered late, too.",
        defaults={"delay": 1.0},
        examples=("delay=200ms&jitter=300ms",),
    ),
    Fault(
        "fragment",
        _ECHO,
        "Echo every message in many frames.",
        "The client joins the frames to one message (section 5.4).",
        defaults={"fragment": 1},
        examples=("fragment=100",),
    ),
    Fault(
        "slow",
        _ECHO,
        "Write every frame byte by byte.",
        "The client reads on until the frame is complete.",
        defaults={"chunk": 1},
        examples=("chunk=10&pause=100ms",),
    ),
    Fault(
        "no-pong",
        _ECHO,
        "Never answer a ping.",
        "The client closes the connection when its own timeout for pongs is over.",
        defaults={"pong": "none"},
    ),
    Fault(
        "wrong-pong",
        _ECHO,
        "Answer every ping with a pong that has another payload.",
        "The client does not take the pong for the answer (section 5.5.3).",
        defaults={"pong": "wrong"},
    ),
    Fault(
        "no-read",
        _FLOW,
        "Stop reading, so that what the client sends fills the buffers.",
        "The send buffer of the client grows, or the client waits; it does not lose messages silently.",
        _stop_reading,
        examples=("after=1",),
    ),
    Fault(
        "slow-read",
        _FLOW,
        "Read slowly: after each message, pause for as long as its size takes at a rate.",
        "The client sends as fast as the server reads.",
        _read_slowly,
        (size("rate", 1024, 1, 1024**2, "Bytes per second."),),
        examples=("rate=16KiB",),
    ),
    Fault(
        "no-write",
        _FLOW,
        "Stop writing: no echo, no pong, no Close frame. The TCP connection stays open.",
        "The client closes the connection when its own timeout for pongs, or for the Close frame, is over.",
        _stop_writing,
        examples=("after=3",),
        effect=Effect.STOPS_WRITING,
    ),
)
"""The faults of this module."""
