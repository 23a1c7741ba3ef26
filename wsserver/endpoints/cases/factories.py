"""
Scripts of the common kinds of cases, so that a table of cases consists of a few words.

For example, `echo(b"hello")` or `violation(Frame(TEXT, rsv=2))`. This module does not use Twisted or a clock.
"""

from collections.abc import Sequence

from wsserver.endpoints.cases.frames import BINARY, PING, TEXT, Frame
from wsserver.endpoints.cases.script import (
    Closes,
    Expected,
    Fails,
    Message,
    Plain,
    Pong,
    Rejects,
    Script,
    Sendable,
    Step,
)

__all__ = ["closing", "echo", "pinging", "rejection", "sendables", "violation"]


def echo(
    *messages: bytes | Message,
    is_binary: bool = False,
    sends: Sequence[Sendable | Frame] | None = None,
    chop: int = 0,
) -> Script:
    """
    Return a script in which the client must send messages back.

    Args:
        messages: the messages, which the server sends at once.
        is_binary: whether messages that are bytes are binary.
        sends: how the server sends them; None for one frame each.
        chop: number of bytes that are written at a time; 0 for all.
    """
    expected = [one if isinstance(one, Message) else Message(one, is_binary) for one in messages]
    plain = [Frame(BINARY if one.is_binary else TEXT, one.payload) for one in expected]
    what = "echo the message" if len(expected) == 1 else f"echo the {len(expected)} messages in order"
    return Script((Step(sendables(plain if sends is None else sends), tuple(expected), chop),), must=what)


def violation(
    *sends: Sendable | Frame,
    codes: tuple[int, ...] = (1002,),
    is_required: bool = True,
    before: Sequence[Step] = (),
    tolerates: tuple[Expected, ...] = (),
    late: Sequence[Sendable | Frame] = (),
    chop: int = 0,
) -> Script:
    """
    Return a script in which the client must fail the connection.

    Args:
        sends: what the server sends, with the violation.
        codes: the close codes that the client should send.
        is_required: whether the RFC requires that the client fails the connection, rather than permits it.
        before: steps before the violation.
        tolerates: answers to what was sent before the violation, which the client may still send.
        late: what the server sends later, if the client may notice the violation later.
        chop: number of bytes that are written at a time; 0 for all.
    """
    ending = Fails(codes, tolerates, is_required, sendables(late))
    shown = " or ".join(map(str, codes))
    return Script((*before, Step(sendables(sends), (), chop)), ending, f"fail the connection with {shown}")


def pinging(*payloads: bytes, chop: int = 0) -> Script:
    """Return a script in which the client must answer pings; all but the last answer may be missing."""
    pings = [Frame(PING, one) for one in payloads]
    pongs = [Pong(one, is_optional=at < len(payloads) - 1) for at, one in enumerate(payloads)]
    what = "answer the ping with its payload" if len(payloads) == 1 else "answer at least the last ping"
    return Script((Step(sendables(pings), tuple(pongs), chop),), must=what)


def closing(
    payload: bytes, *replies: int | None, late: Sequence[Frame] = (), steps: Sequence[Step] = (), wait: float = 0.0
) -> Script:
    """
    Return a script in which the client must answer a Close frame.

    Args:
        payload: the payload of the server's Close frame.
        replies: the close codes that the client should answer with; None for an empty Close frame.
        late: what the server sends after its Close frame.
        steps: steps before.
        wait: seconds in which the server does not close the TCP connection.
    """
    return Script(tuple(steps), Closes(payload, replies, sendables(late), wait=wait), "answer with a Close frame")


def rejection() -> Script:
    """Return a script in which the client must not accept the opening handshake."""
    step = Step(sendables([Frame(TEXT, b"too late"), Frame(PING, b"ping")]))
    return Script((step,), Rejects(), "fail the opening handshake, and send no frame")


def sendables(sends: Sequence[Sendable | Frame]) -> tuple[Sendable, ...]:
    """Return frames and other sendables as sendables."""
    return tuple(Plain(one) if isinstance(one, Frame) else one for one in sends)
