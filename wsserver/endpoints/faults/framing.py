"""Faults of framing: frames and payloads that RFC 6455 or RFC 7692 forbids."""

from wsserver.endpoints.faults.fault import Effect, Fault
from wsserver.endpoints.faults.handmade import bomb, header
from wsserver.endpoints.faults.parameters import choice, integer, size
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1, build

__all__ = ["FAULTS"]

_FRAMES, _COMPRESSION = "frames", "compression"

_NOT_UTF8 = {
    "byte": build(FIN_TEXT, b"caf\xe9"),
    "cut": build(FIN_TEXT, b"\xe2\x82"),
    "surrogate": build(FIN_TEXT, b"\xed\xa0\x80"),
    "fragments": build(0x01, b"\xe2\x82") + build(0x80, b"\x28\xa1"),
}
_LENGTHS = {
    "16": bytes((FIN_TEXT, 126)) + (5).to_bytes(2, "big") + b"hello",
    "64": bytes((FIN_TEXT, 127)) + (5).to_bytes(8, "big") + b"hello",
    "negative": bytes((FIN_TEXT, 127)) + (2**63 + 5).to_bytes(8, "big") + b"hello",
}
_SEQUENCES = {
    "start": build(0x80, b"no message has begun"),
    "interleaved": build(0x01, b"one") + build(FIN_TEXT, b"two"),
}


def _not_utf8(connection: FaultProtocol, where: str) -> None:
    connection.put(_NOT_UTF8[where])


def _mask(connection: FaultProtocol) -> None:
    mask, text = b"mask", b"hello"
    connection.put(
        bytes((FIN_TEXT, 0x80 | len(text))) + mask + bytes(a ^ b for a, b in zip(text, mask * 2, strict=False))
    )


def _reserved_bit(connection: FaultProtocol, bit: int) -> None:
    connection.put(build(FIN_TEXT | (0x80 >> bit), b"hello"))


def _opcode(connection: FaultProtocol, number: int) -> None:
    connection.put(build(0x80 | number, b"hello"))


def _length(connection: FaultProtocol, form: str) -> None:
    connection.put(_LENGTHS[form])


def _sequence(connection: FaultProtocol, kind: str) -> None:
    connection.put(_SEQUENCES[kind])


def _long_control(connection: FaultProtocol, kind: str, length: int) -> None:
    connection.put(build(0x89 if kind == "ping" else 0x8A, b"x" * length))


def _fragmented_control(connection: FaultProtocol) -> None:
    connection.put(build(0x09, b"one") + build(0x80, b"two"))


def _unfinished(connection: FaultProtocol) -> None:
    connection.put(build(0x01, b"this message has no end"))
    connection.stop_writing()


def _corrupt(connection: FaultProtocol) -> None:
    connection.put(build(FIN_TEXT | RSV1, b"\xff\xff\xff\xff\xff"))


def _bomb(connection: FaultProtocol, inflated: int) -> None:
    connection.put(bomb(inflated))


def _huge(connection: FaultProtocol, exponent: int) -> None:
    connection.put(header(FIN_BINARY, 2**exponent))
    connection.stop_writing()


FAULTS = (
    Fault(
        "not-utf8",
        _FRAMES,
        "Send a text message that is not UTF-8.",
        "The client fails the connection with 1007 (8.1).",
        _not_utf8,
        (
            choice(
                "where",
                tuple(_NOT_UTF8),
                "A single byte, a message cut off within a character, a surrogate, or two fragments.",
            ),
        ),
        examples=("where=fragments&after=1",),
    ),
    Fault("mask", _FRAMES, "Send a masked frame.", "The client fails the connection with 1002 (5.1).", _mask),
    Fault(
        "reserved-bit",
        _FRAMES,
        "Set a reserved bit that no extension has defined.",
        "The client fails the connection with 1002 (5.2).",
        _reserved_bit,
        (integer("bit", 1, 1, 3, "The bit: RSV1, RSV2 or RSV3."),),
    ),
    Fault(
        "opcode",
        _FRAMES,
        "Send a frame with a reserved opcode.",
        "The client fails the connection with 1002 (5.2).",
        _opcode,
        (integer("number", 3, 0, 15, "The opcode. Reserved are 3 to 7 and 11 to 15."),),
        examples=("number=11",),
    ),
    Fault(
        "length",
        _FRAMES,
        "Send a frame whose length is not in the shortest form, or is negative.",
        "The client fails the connection with 1002 (5.2).",
        _length,
        (choice("form", tuple(_LENGTHS), "5 bytes written with 16 or 64 bits, or with the highest bit set."),),
        examples=("form=negative",),
    ),
    Fault(
        "huge-length",
        _FRAMES,
        "Send the header of a frame with a huge length, and then nothing.",
        "The client refuses the message with 1009, or waits; it does not allocate the memory.",
        _huge,
        (integer("exponent", 40, 16, 62, "The length is 2 to the power of this number."),),
        effect=Effect.STOPS_WRITING,
    ),
    Fault(
        "continuation",
        _FRAMES,
        "Send a continuation without a message, or a message within another one.",
        "The client fails the connection with 1002 (5.4).",
        _sequence,
        (choice("kind", tuple(_SEQUENCES), "A continuation without a start, or a message within a message."),),
        examples=("kind=interleaved",),
    ),
    Fault(
        "unfinished",
        _FRAMES,
        "Begin a fragmented message, and send nothing more.",
        "The client waits; its own ping or its own timeout ends the connection.",
        _unfinished,
        effect=Effect.STOPS_WRITING,
    ),
    Fault(
        "long-control",
        _FRAMES,
        "Send a control frame of over 125 bytes.",
        "The client fails the connection with 1002 (5.5).",
        _long_control,
        (
            choice("kind", ("ping", "pong"), "The kind of the frame; for Close frames see close-long."),
            integer("length", 126, 126, 60_000, "Size of the payload in bytes."),
        ),
    ),
    Fault(
        "fragmented-control",
        _FRAMES,
        "Send a ping in two fragments.",
        "The client fails the connection with 1002 (5.5).",
        _fragmented_control,
    ),
    Fault(
        "corrupt-deflate",
        _COMPRESSION,
        "Send a compressed message that cannot be inflated.",
        "The client fails the connection with 1007 or 1002. Without permessage-deflate, with 1002: RSV1 is set.",
        _corrupt,
        defaults={"compression": "on"},
    ),
    Fault(
        "bomb",
        _COMPRESSION,
        "Send a compressed message that is large when it is inflated.",
        "The client refuses the message with 1009 if it is over its limit.",
        _bomb,
        (size("inflated", 16 * 1024**2, 1, 1024**3, "The inflated size."),),
        defaults={"compression": "on"},
        examples=("inflated=256MiB",),
    ),
)
"""The faults of this module."""
