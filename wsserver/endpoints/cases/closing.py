"""Cases of the closing handshake: RFC 6455 sections 5.5.1 and 7."""

from wsserver.endpoints.cases.factories import closing, violation
from wsserver.endpoints.cases.frames import CLOSE, PING, TEXT, Frame
from wsserver.endpoints.cases.script import Case, Message, Plain, Step, close_payload

__all__ = ["CASES"]

VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
"""Codes that a server may send: RFC 6455 section 7.4, and IANA's registry."""

UNSENDABLE = (1005, 1006, 1015)
"""Codes that "MUST NOT be set as a status code in a Close control frame" (section 7.4.1)."""

UNUSED = (0, 1, 999)
"""Codes below 1000, which "are not used" (section 7.4.2)."""

UNDEFINED = (1004, 1016, 1100, 2000, 2999, 5000, 65535)
"""Codes that no specification defines."""

HELLO = Step((Plain(Frame(TEXT, b"hello")),), (Message(b"hello"),))
BYE = close_payload(1000, b"bye")
LONG = "é".encode() * 61 + b"!"

CASES = (
    Case("empty", "A Close frame without a code", "5.5.1", closing(b"", None, 1000, 1005)),
    Case("reason", "A Close frame with a reason", "5.5.1", closing(BYE, 1000)),
    Case("reason-123", "A Close frame with a reason of 123 bytes", "5.5.1", closing(close_payload(1000, LONG), 1000)),
    Case("after-message", "A message, its echo, then a Close frame", "5.5.1", closing(BYE, 1000, steps=[HELLO])),
    *(
        Case(f"code-{code}", f"A Close frame with the code {code}", "7.4", closing(close_payload(code), code, 1000))
        for code in VALID
    ),
    Case(
        "message-after",
        "A message after the Close frame",
        "5.5.1",
        closing(BYE, 1000, late=[Frame(TEXT, b"too late")]),
        must="answer the Close frame, and ignore the message",
    ),
    Case(
        "ping-after",
        "A ping after the Close frame",
        "5.5.1",
        closing(BYE, 1000, late=[Frame(PING, b"too late")]),
        must="answer the Close frame, and ignore the ping",
    ),
    Case(
        "twice",
        "Two Close frames",
        "5.5.1",
        closing(BYE, 1000, late=[Frame(CLOSE, close_payload(1001))]),
        must="answer with one Close frame",
    ),
    Case(
        "waits-for-server",
        "The server closes the TCP connection half a second after the closing handshake",
        "7.1.1",
        closing(BYE, 1000, wait=0.5),
        must="answer with a Close frame, and wait for the server to close the TCP connection",
    ),
    *(
        Case(
            f"bad-code-{code}",
            f"A Close frame with the code {code}",
            "7.4",
            violation(Frame(CLOSE, close_payload(code))),
        )
        for code in (*UNUSED, *UNSENDABLE)
    ),
    *(
        Case(
            f"undefined-code-{code}",
            f"A Close frame with the code {code}, which no specification defines",
            "7.4",
            violation(Frame(CLOSE, close_payload(code)), is_required=False),
        )
        for code in UNDEFINED
    ),
    Case("bad-length-1", "A Close frame of one byte", "5.5.1", violation(Frame(CLOSE, b"\x03"))),
    Case(
        "bad-length-126", "A Close frame of 126 bytes", "5.5", violation(Frame(CLOSE, close_payload(1000, b"*" * 124)))
    ),
    Case(
        "bad-reason",
        "A Close frame whose reason is not UTF-8",
        "5.5.1",
        violation(Frame(CLOSE, close_payload(1000, b"bye\xff")), codes=(1007, 1002)),
    ),
)
