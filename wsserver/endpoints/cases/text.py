"""Cases of UTF-8: RFC 6455 sections 5.6 and 8.1, with RFC 3629."""

from wsserver.endpoints.cases.factories import echo, violation
from wsserver.endpoints.cases.frames import CONTINUATION, TEXT, Frame
from wsserver.endpoints.cases.script import Case, fragments

__all__ = ["CASES"]

GREEK = "κόσμε 水 🌍".encode()
"""Characters of two, three and four bytes."""

VALID = {
    "two-bytes": ("Characters of two bytes", "Grüße, κόσμε".encode()),
    "three-bytes": ("Characters of three bytes", "水と火".encode()),
    "four-bytes": ("Characters of four bytes", "🌍🎉".encode()),
    "nul": ("The character U+0000", b"a\0b"),
    "bom": ("The byte order mark U+FEFF at the start", b"\xef\xbb\xbfhello"),
    "boundaries": ("The first and last characters of each length", "\x7f\x80\u07ff\u0800\uffff\U00010000".encode()),
    "around-surrogates": ("U+D7FF and U+E000", "\ud7ff\ue000".encode()),
    "noncharacters": ("The noncharacters U+FFFE, U+FDD0 and U+1FFFE", "\ufffe\ufdd0\U0001fffe".encode()),
    "last": ("The last character, U+10FFFF", "\U0010ffff".encode()),
    "replacement": ("The replacement character U+FFFD", "\ufffd".encode()),
    "line-ends": ("Line ends of every kind", "a\r\nb\nc\rd\u2028e\x85f".encode()),
}

INVALID = {
    "lone-continuation": ("A continuation byte without a start", b"hello\x80"),
    "missing-continuation": ("A start of two bytes, followed by ASCII", b"hello\xc3("),
    "cut-off-two": ("A character of two bytes that is cut off at the end", b"hello\xc3"),
    "cut-off-three": ("A character of three bytes that is cut off at the end", b"hello\xe6\xb0"),
    "cut-off-four": ("A character of four bytes that is cut off at the end", b"hello\xf0\x9f\x8c"),
    "overlong-two": ("A slash in two bytes", b"hello\xc0\xaf"),
    "overlong-three": ("A slash in three bytes", b"hello\xe0\x80\xaf"),
    "overlong-four": ("A slash in four bytes", b"hello\xf0\x80\x80\xaf"),
    "overlong-nul": ("U+0000 in two bytes, as Java writes it", b"hello\xc0\x80"),
    "surrogate": ("The surrogate U+D800", b"hello\xed\xa0\x80"),
    "surrogate-pair": ("A surrogate pair, as CESU-8 writes U+1F30D", b"\xed\xa0\xbc\xed\xbc\x8d"),
    "too-large": ("U+110000, beyond the last character", b"hello\xf4\x90\x80\x80"),
    "five-bytes": ("A character of five bytes", b"hello\xf8\x88\x80\x80\x80"),
    "byte-fe": ("The byte FE", b"hello\xfe"),
    "byte-ff": ("The byte FF", b"hello\xff"),
    "latin-1": ("Text in ISO-8859-1", "Grüße".encode("latin-1")),
}

BAD = (1007,)

CASES = (
    *(Case(name, title, "5.6", echo(text)) for name, (title, text) in VALID.items()),
    Case(
        "split-by-byte",
        "A message in fragments of one byte",
        "5.6",
        echo(GREEK, sends=fragments(GREEK, *[1] * (len(GREEK) - 1))),
    ),
    Case(
        "split-in-character",
        "A message in two fragments, which are split within a character of four bytes",
        "5.6",
        echo(GREEK, sends=fragments(GREEK, len(GREEK) - 2)),
    ),
    Case("chopped", "A message that arrives byte by byte", "5.6", echo(GREEK, chop=1)),
    Case("long", "A message of 64 KiB in characters of three bytes", "5.6", echo("水".encode() * 21845)),
    Case(
        "binary-not-utf8",
        "A binary message that is not UTF-8",
        "5.6",
        echo(b"hello\xff\xc0\xaf\x80", is_binary=True),
    ),
    *(
        Case(f"bad-{name}", title, "8.1", violation(Frame(TEXT, text), codes=BAD))
        for name, (title, text) in INVALID.items()
    ),
    Case(
        "bad-second-fragment",
        "The second of three fragments has an invalid byte",
        "8.1",
        violation(*fragments(b"hello\xffworld", 5, 1), codes=BAD),
    ),
    Case(
        "bad-joined",
        "A character that is cut off at the end of a message, whose rest begins the next message",
        "8.1",
        violation(Frame(TEXT, b"hello\xc3"), Frame(TEXT, b"\xbc"), codes=BAD),
    ),
    Case(
        "bad-cut-off-fragments",
        "A character that is cut off at the end of a fragmented message",
        "8.1",
        violation(*fragments(b"hello\xf0\x9f", 6), codes=BAD),
    ),
    Case(
        "bad-at-once",
        "The first fragment has an invalid byte, and the rest follows a second later",
        "8.1",
        violation(Frame(TEXT, b"hello\xff", fin=False), codes=BAD, late=[Frame(CONTINUATION, b"world")]),
        must="fail the connection with 1007, at the latest at the end of the message",
    ),
    Case(
        "bad-chopped",
        "An invalid byte in a message that arrives byte by byte",
        "8.1",
        violation(Frame(TEXT, b"hello\xed\xa0\x80world"), codes=BAD, chop=1),
    ),
)
