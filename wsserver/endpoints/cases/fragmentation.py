"""Cases of fragmented messages: RFC 6455 section 5.4."""

from wsserver.endpoints.cases.factories import closing, echo, violation
from wsserver.endpoints.cases.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame
from wsserver.endpoints.cases.script import Case, Message, Plain, Pong, Script, Step, close_payload, fragments

__all__ = ["CASES"]

HE, LLO = Frame(TEXT, b"he", fin=False), Frame(CONTINUATION, b"llo")
LL = Frame(CONTINUATION, b"l", fin=False)
HELLO = Message(b"hello")
EMPTY = Frame(CONTINUATION, fin=False)


def _interrupted(*, times: int = 1, chop: int = 0) -> Script:
    """Return a script with a ping after each fragment; the next fragment is sent after the pong."""
    pings = [
        Step((Plain(first), Plain(Frame(PING, b"%d" % n))), (Pong(b"%d" % n),), chop)
        for n, first in enumerate([HE, *[EMPTY] * (times - 1)])
    ]
    return Script((*pings, Step((Plain(LLO),), (HELLO,), chop)), must="answer the pings before the message is complete")


CASES = (
    Case("two", "A text message in two fragments", "5.4", echo(HELLO, sends=[HE, LLO])),
    Case("three", "A text message in three fragments", "5.4", echo(HELLO, sends=fragments(b"hello", 2, 1))),
    Case(
        "binary",
        "A binary message in three fragments",
        "5.4",
        echo(Message(b"\xff\0\x80", True), sends=fragments(b"\xff\0\x80", 1, 1, opcode=BINARY)),
    ),
    Case("empty-first", "The first fragment is empty", "5.4", echo(HELLO, sends=fragments(b"hello", 0))),
    Case("empty-last", "The last fragment is empty", "5.4", echo(HELLO, sends=fragments(b"hello", 5))),
    Case("empty-middle", "A fragment between others is empty", "5.4", echo(HELLO, sends=[HE, EMPTY, EMPTY, LLO])),
    Case("all-empty", "A message of three empty fragments", "5.4", echo(Message(b""), sends=fragments(b"", 0, 0))),
    Case(
        "chopped", "Fragments that arrive byte by byte", "5.4", echo(HELLO, sends=[HE, LL, LL, Frame(0, b"o")], chop=1)
    ),
    Case(
        "thousand",
        "A message of 1000 fragments of one byte",
        "5.4",
        echo(Message(b"x" * 1000), sends=fragments(b"x" * 1000, *[1] * 999)),
    ),
    Case(
        "two-messages",
        "Two fragmented messages in a row",
        "5.4",
        echo(HELLO, HELLO, sends=[HE, LLO, HE, LLO]),
    ),
    Case("ping-between", "A ping between two fragments", "5.4", _interrupted()),
    Case("ping-between-chopped", "The same, byte by byte", "5.4", _interrupted(chop=1)),
    Case("pings-between", "Five pings between the fragments of a message", "5.4", _interrupted(times=5)),
    Case(
        "pong-between",
        "An unsolicited pong between two fragments",
        "5.4",
        echo(HELLO, sends=[HE, Frame(PONG, b"unasked"), LLO]),
    ),
    Case(
        "close-between",
        "A Close frame between two fragments",
        "5.4",
        closing(close_payload(1000), 1000, late=[LLO], steps=[Step((Plain(HE),))]),
        must="answer the Close frame, and drop the incomplete message",
    ),
    Case("continuation-first", "A continuation frame without a message", "5.4", violation(LLO, Frame(PING, b"ping"))),
    Case(
        "continuation-first-open",
        "A continuation frame without FIN and without a message",
        "5.4",
        violation(LL, Frame(TEXT, b"hello")),
    ),
    Case(
        "continuation-after",
        "A continuation frame after a complete fragmented message",
        "5.4",
        violation(HE, LLO, LLO, tolerates=(HELLO,)),
    ),
    Case(
        "continuation-after-unfragmented",
        "A continuation frame after an unfragmented message",
        "5.4",
        violation(Frame(TEXT, b"hello"), LLO, tolerates=(HELLO,)),
    ),
    Case("text-within", "A text frame within a fragmented message", "5.4", violation(HE, Frame(TEXT, b"llo"))),
    Case("binary-within", "A binary frame within a fragmented message", "5.4", violation(HE, Frame(BINARY, b"llo"))),
    Case(
        "text-within-open",
        "The first fragment of a message within another message",
        "5.4",
        violation(HE, HE, LLO),
    ),
    Case("fragmented-ping", "A fragmented ping", "5.5", violation(Frame(PING, b"he", fin=False), LLO)),
    Case("fragmented-pong", "A fragmented pong", "5.5", violation(Frame(PONG, b"he", fin=False), LLO)),
    Case(
        "fragmented-close",
        "A fragmented Close frame",
        "5.5",
        violation(Frame(CLOSE, close_payload(1000), fin=False), Frame(CONTINUATION, b"bye")),
    ),
)
