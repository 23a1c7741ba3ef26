"""Cases of permessage-deflate: RFC 7692. Section numbers in this module are those of RFC 7692."""

import zlib
from functools import partial

from wsserver.endpoints.cases.factories import echo, rejection, violation
from wsserver.endpoints.cases.frames import BINARY, CONTINUATION, PING, RSV1, TEXT, Frame
from wsserver.endpoints.cases.script import Answer, Case, Deflated, Message, Pong, Script, Step, fragments

__all__ = ["CASES"]

_Case = partial(Case, rfc=7692, answer=Answer())
_BOTH = Answer(server_no_context_takeover=True, client_no_context_takeover=True)

WORDS = b"".join(b"line %d of a text that repeats itself\n" % (n % 37) for n in range(2000))
"""A text of 74 KB that a window of any size shortens."""

HELLO = b"hello hello hello"


def _raw(data: bytes, *, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Return data as DEFLATE blocks, without the four bytes that a sender removes (section 7.2.1)."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (deflate.compress(data) + deflate.flush(flush)).removesuffix(b"\0\0\xff\xff")


def _deflated(*messages: bytes, is_binary: bool = False) -> Script:
    """Return a script in which the server sends compressed messages, each after the echo of the one before."""
    steps = [Step((Deflated(one, is_binary),), (Message(one, is_binary),)) for one in messages]
    return Script(
        tuple(steps), must="inflate and echo the message" if len(messages) == 1 else "inflate and echo each message"
    )


def _frame(payload: bytes, opcode: int = TEXT) -> Frame:
    return Frame(opcode, payload, rsv=RSV1)


BITS = range(9, 16)
BROKEN = (1007, 1002)
"""Codes that fit data that cannot be inflated: no RFC names one."""

# A block whose length is copied with an error (RFC 1951 section 3.2.4), and a copy from before the start of the data.
STORED_WRONG = b"\x00\x05\x00\xff\xffhello"
TOO_FAR = b"\x4a\x04\x62\x00"

CASES = (
    _Case("text", "A compressed text message", "7.2", _deflated(HELLO)),
    _Case("binary", "A compressed binary message", "7.2", _deflated(bytes(range(256)) * 4, is_binary=True)),
    _Case("empty", "A compressed empty message", "7.2.3.6", _deflated(b"")),
    _Case("one-byte", "A compressed message of one byte", "7.2", _deflated(b"*")),
    _Case("utf8", "A compressed message with characters of four bytes", "7.2", _deflated("🌍🎉".encode() * 100)),
    _Case("long", "A compressed message of 74 KB", "7.2", _deflated(WORDS)),
    _Case("zeros-1m", "1 MiB of zeros, compressed to one KiB", "7.2", _deflated(b"\0" * 1024**2, is_binary=True)),
    _Case("uncompressed", "An uncompressed message, although compression was negotiated", "6", echo(HELLO)),
    _Case(
        "mixed",
        "A compressed message, an uncompressed one, and a compressed one",
        "6",
        echo(HELLO, b"plain", HELLO, sends=[Deflated(HELLO), Frame(TEXT, b"plain"), Deflated(HELLO)]),
    ),
    _Case(
        "takeover",
        "Four equal messages, of which the later ones refer to the first",
        "7.1.1",
        _deflated(*[WORDS[:2000]] * 4),
    ),
    _Case(
        "server-no-takeover",
        "Four messages with server_no_context_takeover",
        "7.1.1.1",
        _deflated(*[WORDS[:2000]] * 4),
        answer=Answer(server_no_context_takeover=True),
    ),
    _Case(
        "client-no-takeover",
        "Four messages with client_no_context_takeover",
        "7.1.1.2",
        _deflated(*[WORDS[:2000]] * 4),
        answer=Answer(client_no_context_takeover=True),
        must="echo each message, without references to earlier ones",
    ),
    _Case(
        "no-takeover",
        "Four messages without context takeover in either direction",
        "7.1.1",
        _deflated(*[WORDS[:2000]] * 4),
        answer=_BOTH,
    ),
    *(
        _Case(
            f"server-bits-{bits}",
            f"A message of 74 KB with server_max_window_bits={bits}",
            "7.1.2.1",
            _deflated(WORDS, WORDS),
            answer=Answer(server_max_window_bits=bits),
        )
        for bits in BITS
    ),
    *(
        _Case(
            f"client-bits-{bits}",
            f"A message of 74 KB with client_max_window_bits={bits}",
            "7.1.2.2",
            _deflated(WORDS, WORDS),
            answer=Answer(client_max_window_bits=bits),
            must="echo each message, with references no further back than the window",
        )
        for bits in BITS
    ),
    _Case(
        "fragments", "A compressed message in two fragments", "6.1", echo(WORDS, sends=[Deflated(WORDS, sizes=(100,))])
    ),
    _Case(
        "fragments-bytes",
        "A compressed message in fragments of one byte",
        "6.1",
        echo(HELLO, sends=[Deflated(HELLO, sizes=(1,) * 9)]),
    ),
    _Case(
        "fragments-empty",
        "A compressed message with empty fragments",
        "6.1",
        echo(HELLO, sends=[Deflated(HELLO, sizes=(0, 3, 0))]),
    ),
    _Case(
        "fragments-takeover",
        "Three fragmented messages, of which the later ones refer to the first",
        "6.1",
        echo(HELLO, HELLO, HELLO, sends=[Deflated(HELLO, sizes=(2,))] * 3),
    ),
    _Case(
        "chopped", "A compressed message that arrives byte by byte", "6.2", echo(HELLO, sends=[Deflated(HELLO)], chop=1)
    ),
    _Case(
        "ping-between",
        "A ping between the fragments of a compressed message",
        "6.1",
        Script(
            (
                Step(
                    (Deflated(HELLO, sizes=(4,), between=(Frame(PING, b"ping"),)),),
                    (Pong(b"ping"), Message(HELLO)),
                ),
            ),
            must="answer the ping, and echo the message",
        ),
    ),
    _Case(
        "stored",
        "A message in a block without compression",
        "7.2.3.3",
        echo(HELLO, sends=[_frame(_raw(HELLO, level=0))]),
    ),
    _Case(
        "final-block",
        "A message in a block with the BFINAL bit",
        "7.2.3.4",
        echo(HELLO, b"next", sends=[_frame(_raw(HELLO, flush=zlib.Z_FINISH) + b"\0"), Frame(TEXT, b"next")]),
    ),
    _Case(
        "two-blocks",
        "A message in two blocks",
        "7.2.3.5",
        echo(HELLO * 2, sends=[_frame(_raw(HELLO) + b"\0\0\xff\xff" + _raw(HELLO))]),
    ),
    _Case(
        "empty-blocks",
        "A message that begins with two empty blocks",
        "7.2.3.5",
        echo(HELLO, sends=[_frame(b"\0\0\0\xff\xff" * 2 + _raw(HELLO))]),
    ),
    _Case("rsv1-ping", "A ping with RSV1", "6", violation(Frame(PING, b"ping", rsv=RSV1))),
    _Case(
        "rsv1-continuation",
        "RSV1 on every fragment of a message",
        "6.1",
        violation(Deflated(WORDS, sizes=(100,), later_rsv=RSV1)),
    ),
    _Case(
        "rsv1-late",
        "RSV1 on the second fragment only",
        "6.1",
        violation(Frame(TEXT, b"hello", fin=False), Frame(CONTINUATION, _raw(HELLO), rsv=RSV1)),
    ),
    _Case("rsv2", "A compressed message with RSV2", "6", violation(Frame(TEXT, _raw(HELLO), rsv=RSV1 | 2))),
    Case(
        "not-negotiated",
        "A compressed message without permessage-deflate in the response",
        "5",
        violation(Frame(TEXT, _raw(HELLO), rsv=RSV1)),
        rfc=7692,
    ),
    _Case("bad-block-type", "A block of the reserved type", "7.2.2", violation(_frame(b"\x07hello"), codes=BROKEN)),
    _Case(
        "bad-stored-length",
        "A stored block whose two lengths differ",
        "7.2.2",
        violation(_frame(STORED_WRONG), codes=BROKEN),
    ),
    _Case(
        "bad-distance",
        "A reference to data before the first message",
        "7.2.2",
        violation(_frame(TOO_FAR), codes=BROKEN),
    ),
    _Case("bad-text", "Uncompressed text with RSV1", "7.2.2", violation(_frame(b"hello, world"), codes=BROKEN)),
    _Case(
        "bad-fragment",
        "A compressed message whose second fragment is not DEFLATE data",
        "7.2.2",
        violation(*fragments(_raw(HELLO, level=0)[:8] + b"\xff" * 12, 8, rsv=RSV1), codes=BROKEN),
    ),
    _Case(
        "bad-second-message",
        "A valid message, then one that is not DEFLATE data",
        "7.2.2",
        violation(_frame(b"\x07", BINARY), codes=BROKEN, before=[Step((Deflated(HELLO),), (Message(HELLO),))]),
    ),
    _Case(
        "bad-utf8",
        "A compressed text message that is not UTF-8",
        "6.2",
        violation(Deflated(b"hello\xff"), codes=(1007,)),
    ),
    _Case(
        "answer-unknown",
        "A response with an unknown parameter",
        "7.1",
        rejection(),
        answer=Answer(wrong="unknown=1"),
    ),
    *(
        _Case(
            f"answer-server-bits-{n}",
            f"A response with server_max_window_bits={n}",
            "7.1.2.1",
            rejection(),
            answer=Answer(wrong=f"server_max_window_bits={n}"),
        )
        for n in ("7", "16", "010", "x")
    ),
    _Case(
        "answer-server-bits-empty",
        "A response with server_max_window_bits without a value",
        "7.1.2.1",
        rejection(),
        answer=Answer(wrong="server_max_window_bits"),
    ),
    _Case(
        "answer-takeover-value",
        "A response with server_no_context_takeover=1, which takes no value",
        "7.1.1.1",
        rejection(),
        answer=Answer(wrong="server_no_context_takeover=1"),
    ),
    _Case(
        "answer-twice",
        "A response with a parameter that is repeated",
        "7.1",
        rejection(),
        answer=Answer(server_no_context_takeover=True, wrong="server_no_context_takeover"),
    ),
)
