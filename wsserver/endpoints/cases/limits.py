"""Cases of large and many messages: RFC 6455 sections 5.2 and 10.4."""

from wsserver.endpoints.cases.factories import echo, violation
from wsserver.endpoints.cases.frames import BINARY, PING, TEXT, Frame
from wsserver.endpoints.cases.script import Case, Message, Plain, Pong, Script, Step, fragments

__all__ = ["CASES"]

KIB, MIB = 1024, 1024**2

CASES = (
    Case("text-256k", "A text message of 256 KiB", "5.2", echo(b"*" * (256 * KIB))),
    Case("text-1m", "A text message of 1 MiB", "5.2", echo(b"*" * MIB)),
    Case(
        "text-1m-utf8", "A text message of 1 MiB in characters of four bytes", "5.2", echo("🌍".encode() * (MIB // 4))
    ),
    Case("binary-1m", "A binary message of 1 MiB", "5.2", echo(b"\xfe" * MIB, is_binary=True)),
    Case(
        "fragments-1m",
        "A binary message of 1 MiB in fragments of 4 KiB",
        "5.4",
        echo(Message(b"\x00" * MIB, True), sends=fragments(b"\x00" * MIB, *[4 * KIB] * 255, opcode=BINARY)),
    ),
    Case("burst", "500 messages of 100 bytes at once", "5.2", echo(*(b"%-100d" % n for n in range(500)))),
    Case("burst-empty", "500 empty messages at once", "5.2", echo(*[b""] * 500)),
    Case(
        "pings",
        "A message after 50 pings",
        "5.5.3",
        Script(
            (
                Step(
                    (*[Plain(Frame(PING, b"%d" % n)) for n in range(50)], Plain(Frame(TEXT, b"hello"))),
                    (*[Pong(b"%d" % n, is_optional=True) for n in range(49)], Pong(b"49"), Message(b"hello")),
                ),
            ),
            must="answer at least the last ping, and echo the message",
        ),
    ),
    Case(
        "declared-4-eib",
        "The start of a binary frame of 4 EiB",
        "10.4",
        violation(Frame(BINARY, b"hello", declared=2**62), codes=(1009, 1002, 1008), is_required=False),
        must="not reserve memory for the frame; it should fail the connection with 1009",
    ),
)
