"""Cases of framing: RFC 6455 sections 5.1 to 5.3."""

from wsserver.endpoints.cases.factories import echo, violation
from wsserver.endpoints.cases.frames import BINARY, CONTINUATION, PING, PONG, TEXT, Frame
from wsserver.endpoints.cases.script import Case, Message

__all__ = ["CASES"]

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536)
"""Payload lengths at which the form of the length changes, and their neighbours."""

HELLO = Frame(TEXT, b"hello")

CASES = (
    *(Case(f"text-{n}", f"A text message of {n} bytes", "5.2", echo(b"*" * n)) for n in SIZES),
    *(Case(f"binary-{n}", f"A binary message of {n} bytes", "5.2", echo(b"\xfe" * n, is_binary=True)) for n in SIZES),
    Case("binary-all-bytes", "A binary message with every byte", "5.2", echo(bytes(range(256)), is_binary=True)),
    Case("chopped-bytes", "A message that arrives byte by byte", "5.2", echo(b"*" * 60, chop=1)),
    Case("chopped-997", "A message of 64 KiB that arrives in pieces of 997 bytes", "5.2", echo(b"*" * 65536, chop=997)),
    Case("joined", "Three messages that arrive at once", "5.2", echo(b"one", Message(b"\x02\x02", True), b"three")),
    Case(
        "masks",
        "Eight messages, whose echoes need different masking keys",
        "5.3",
        echo(*(b"message %d" % n for n in range(8))),
        must="echo the messages, with a new masking key for each frame",
        has_fresh_masks=True,
    ),
    *(
        Case(
            f"rsv-{rsv:03b}",
            f"A text frame with the reserved bits {rsv:03b}, without an extension",
            "5.2",
            violation(Frame(TEXT, b"hello", rsv=rsv)),
        )
        for rsv in range(1, 8)
    ),
    Case("rsv-ping", "A ping with a reserved bit", "5.2", violation(Frame(PING, b"hello", rsv=4))),
    Case(
        "rsv-continuation",
        "A continuation frame with a reserved bit",
        "5.2",
        violation(Frame(TEXT, b"he", fin=False), Frame(CONTINUATION, b"llo", rsv=2)),
    ),
    Case(
        "rsv-after-message",
        "A valid message, then a frame with a reserved bit, in one piece",
        "5.2",
        violation(HELLO, Frame(TEXT, b"hello", rsv=1), Frame(PING, b"ping"), tolerates=(Message(b"hello"),)),
    ),
    *(
        Case(
            f"opcode-{opcode:x}",
            f"A frame with the reserved opcode {opcode:x}",
            "5.2",
            violation(Frame(opcode, b"hello"), Frame(PING, b"ping")),
        )
        for opcode in (3, 4, 7, 0xB, 0xC, 0xF)
    ),
    Case(
        "opcode-in-message",
        "A frame with the reserved opcode 5 within a fragmented message",
        "5.2",
        violation(Frame(TEXT, b"he", fin=False), Frame(5, b"?"), Frame(CONTINUATION, b"llo")),
    ),
    Case("masked-text", "A text frame with a masking key", "5.1", violation(Frame(TEXT, b"hello", mask=b"mask"))),
    Case("masked-ping", "A ping with a masking key", "5.1", violation(Frame(PING, b"hello", mask=b"mask"))),
    Case("masked-empty", "An empty binary frame with a masking key", "5.1", violation(Frame(BINARY, mask=b"mask"))),
    Case(
        "length-16-too-long",
        "A length of 5, encoded in 16 bits",
        "5.2",
        violation(Frame(TEXT, b"hello", form=2), is_required=False),
    ),
    Case(
        "length-64-too-long",
        "A length of 200, encoded in 64 bits",
        "5.2",
        violation(Frame(TEXT, b"*" * 200, form=8), is_required=False),
    ),
    Case(
        "length-64-negative",
        "A length of 64 bits whose most significant bit is set",
        "5.2",
        violation(Frame(BINARY, b"hello", form=8, declared=2**63 + 5), codes=(1002, 1009), is_required=False),
    ),
    Case("ping-length-126", "A ping of 126 bytes", "5.5", violation(Frame(PING, b"*" * 126))),
    Case("pong-length-126", "A pong of 126 bytes", "5.5", violation(Frame(PONG, b"*" * 126))),
    Case(
        "ping-length-16-bits",
        "A ping whose length of 5 is encoded in 16 bits",
        "5.5",
        violation(Frame(PING, b"hello", form=2), is_required=False),
    ),
)
