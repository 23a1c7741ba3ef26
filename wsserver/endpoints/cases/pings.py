"""Cases of pings and pongs: RFC 6455 sections 5.5.2 and 5.5.3."""

from wsserver.endpoints.cases.factories import echo, pinging
from wsserver.endpoints.cases.frames import PING, PONG, TEXT, Frame
from wsserver.endpoints.cases.script import Case, Message, Plain, Pong, Script, Step

__all__ = ["CASES"]

CASES = (
    Case("empty", "A ping without a payload", "5.5.2", pinging(b"")),
    Case("text", "A ping with a payload", "5.5.2", pinging(b"hello")),
    Case("binary", "A ping whose payload is not UTF-8", "5.5.2", pinging(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")),
    Case("length-125", "A ping of 125 bytes", "5.5.2", pinging(b"\xfe" * 125)),
    Case("chopped", "A ping that arrives byte by byte", "5.5.2", pinging(b"*" * 60, chop=1)),
    Case("ten", "Ten pings at once", "5.5.3", pinging(*(b"payload %d" % n for n in range(10)))),
    Case(
        "same",
        "Three pings with the same payload, each after the pong",
        "5.5.2",
        Script(
            tuple(Step((Plain(Frame(PING, b"same")),), (Pong(b"same"),)) for _ in range(3)),
            must="answer each ping with its payload",
        ),
    ),
    Case(
        "with-message",
        "A ping and a message at once",
        "5.5.2",
        Script(
            (Step((Plain(Frame(PING, b"ping")), Plain(Frame(TEXT, b"hello"))), (Pong(b"ping"), Message(b"hello"))),),
            must="answer the ping, and echo the message",
        ),
    ),
    Case(
        "unsolicited-pong",
        "A pong that the client has not asked for, then a ping",
        "5.5.3",
        Script(
            (Step((Plain(Frame(PONG, b"unasked")), Plain(Frame(PING, b"ping"))), (Pong(b"ping"),)),),
            must="ignore the pong, and answer the ping",
        ),
    ),
    Case(
        "unsolicited-pong-empty",
        "An empty pong that the client has not asked for, then a message",
        "5.5.3",
        echo(Message(b"hello"), sends=[Frame(PONG), Frame(TEXT, b"hello")]),
    ),
    Case(
        "unsolicited-pongs",
        "Ten pongs that the client has not asked for, then a message",
        "5.5.3",
        echo(Message(b"hello"), sends=[*[Frame(PONG, b"unasked")] * 10, Frame(TEXT, b"hello")]),
    ),
)
