"""Faults of closing: Close frames with any payload, and connections that end without one."""

from functools import partial

from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.config.parsers import a_text
from wsserver.endpoints.faults.fault import Effect, Fault
from wsserver.endpoints.faults.handmade import header
from wsserver.endpoints.faults.parameters import choice, integer, size, text
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.wire.frames import FIN_TEXT, build

__all__ = ["FAULTS"]

_CLOSING, _TCP = "closing", "tcp"

_CUT = 1000
"""Declared size of the message that ends in the middle, in bytes."""


def _a_reason(given: str) -> str:
    if len(given.encode("utf-8", "replace")) > MAX_REASON_BYTES:
        raise ValueError(f"expected at most {MAX_REASON_BYTES} bytes; for longer frames see close-long")
    return a_text(given)


def _close(connection: FaultProtocol, code: int, reason: str) -> None:
    connection.close_by_hand(code.to_bytes(2, "big") + reason.encode("utf-8"))


def _close_empty(connection: FaultProtocol) -> None:
    connection.close_by_hand(b"")


def _close_short(connection: FaultProtocol) -> None:
    connection.close_by_hand(b"\x03")


def _close_not_utf8(connection: FaultProtocol, code: int) -> None:
    connection.close_by_hand(code.to_bytes(2, "big") + b"caf\xe9")


def _close_long(connection: FaultProtocol, length: int) -> None:
    connection.close_by_hand(b"\x03\xe8" + b"x" * (length - 2))


def _close_twice(connection: FaultProtocol) -> None:
    frame = build(0x88, b"\x03\xe8")
    connection.close_by_hand(b"\x03\xe8", frame * 2)


def _write_after_close(connection: FaultProtocol, message: str) -> None:
    data = build(FIN_TEXT, message.encode("utf-8"))
    connection.close_by_hand(b"\x03\xe8", build(0x88, b"\x03\xe8") + data)


def _ignore_close(connection: FaultProtocol) -> None:
    connection.never_closes = True


def _drop(connection: FaultProtocol) -> None:
    connection.drop(reset=False)


def _reset(connection: FaultProtocol) -> None:
    connection.drop(reset=True)


def _cut(connection: FaultProtocol, sent: int, then: str) -> None:
    connection.put((header(FIN_TEXT, _CUT) + b"x" * _CUT)[:sent])
    connection.stop_writing()
    if then != "wait":
        # Later, so that a reset does not overtake the bytes.
        end = partial(connection.drop, reset=then == "reset")
        connection.when_written(lambda: connection.later(0.05, end))


FAULTS = (
    Fault(
        "close",
        _CLOSING,
        "Close with any code and reason, valid or not.",
        "The client reports the code and the reason, and answers with the code, or with 1002 if it is invalid (7.4.1).",
        _close,
        (
            integer("code", 1000, 0, 65535, "The close code."),
            text("reason", "", "The close reason.", _a_reason),
        ),
        examples=("code=1012&after=3", "code=4001&reason=go%20away&wait=10s", "code=1006"),
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "close-empty",
        _CLOSING,
        "Close without a code.",
        "The client reports 1005 (7.1.5).",
        _close_empty,
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "close-short",
        _CLOSING,
        "Close with a payload of one byte, which is not a code.",
        "The client fails the connection with 1002 (5.5.1).",
        _close_short,
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "close-not-utf8",
        _CLOSING,
        "Close with a reason that is not UTF-8.",
        "The client fails the connection with 1007 or 1002 (5.5.1).",
        _close_not_utf8,
        (integer("code", 1000, 0, 65535, "The close code."),),
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "close-long",
        _CLOSING,
        "Close with a payload of over 125 bytes.",
        "The client fails the connection with 1002 (5.5).",
        _close_long,
        (integer("length", 126, 126, 60_000, "Size of the payload in bytes, with the code."),),
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "close-twice",
        _CLOSING,
        "Send two Close frames.",
        "The client reports the first one, and ignores the second.",
        _close_twice,
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "write-after-close",
        _CLOSING,
        "Send a message after the Close frame.",
        "The client does not deliver the message (1.4: after a Close frame, any further data is discarded).",
        _write_after_close,
        (text("message", "late", "The message."),),
        effect=Effect.ENDS_WITH_BYTES,
    ),
    Fault(
        "no-close",
        _CLOSING,
        "Never answer a Close frame, and never close. Everything else is echoed.",
        "The client drops the TCP connection when its own timeout is over.",
        _ignore_close,
        defaults={"wait": 0.0},
    ),
    Fault(
        "drop",
        _TCP,
        "End the TCP connection without a Close frame.",
        "The client reports 1006.",
        _drop,
        examples=("after=1",),
        effect=Effect.ENDS,
    ),
    Fault(
        "reset",
        _TCP,
        "Reset the TCP connection.",
        "The client reports 1006.",
        _reset,
        examples=("after=1",),
        effect=Effect.ENDS,
    ),
    Fault(
        "cut",
        _TCP,
        f"Stop in the middle of a message of {_CUT} bytes.",
        "The client does not deliver the part, and reports 1006.",
        _cut,
        (
            size("sent", 500, 1, _CUT, "Number of bytes of the frame to send; 1 to 3 end within its header."),
            choice("then", ("drop", "reset", "wait"), "What follows: the end of the connection, a reset, or nothing."),
        ),
        examples=("sent=1&then=reset", "then=wait"),
        effect=Effect.ENDS_WITH_BYTES,
    ),
)
"""The faults of this module."""
