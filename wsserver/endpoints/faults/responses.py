"""Faults of the opening handshake: responses that a client must refuse, and those that do not arrive."""

import re
from http import HTTPStatus
from itertools import repeat

from wsserver.config.parsers import a_text, a_token
from wsserver.endpoints.faults.fault import Fault, Stage
from wsserver.endpoints.faults.handmade import add_header, payloads, remove_header, replace_header
from wsserver.endpoints.faults.parameters import choice, duration, integer, text
from wsserver.endpoints.faults.protocol import FaultProtocol
from wsserver.endpoints.faults.sending import MAX_SENT
from wsserver.wire.frames import FIN_TEXT, build

__all__ = ["FAULTS"]

_GROUP = "handshake"

_WRONG_ACCEPT = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
_GARBAGE = b"SSH-2.0-OpenSSH_9.2\r\n\x00\x01\x02\x03\xff\xfe not HTTP\r\n\r\n"
_HEADERS = {
    "accept": "Sec-WebSocket-Accept",
    "upgrade": "Upgrade",
    "connection": "Connection",
}
_LINE = b"X-Endless: " + b"x" * 1000 + b"\r\n"


def _a_path(given: str) -> str:
    # Another host would make the server an open redirect. Browsers read `\` as `/`.
    # Only visible ASCII: a line break would begin another header, and browsers drop tabs.
    if not re.fullmatch(r"/(?!/)[!-\[\]-~]*", given):
        raise ValueError("expected a path on this server, such as /echo")
    return given


def _an_extension(given: str) -> str:
    name, *parameters = given.split(";")
    if not all(re.fullmatch(r" ?[\w.-]+(=[\w.-]+)?", one, re.ASCII) for one in parameters):
        raise ValueError("expected an extension such as x-unknown or permessage-deflate; server_max_window_bits=8")
    return "; ".join((a_token(name), *(one.strip() for one in parameters)))


def _answer(connection: FaultProtocol, code: int, lines: str, body: str) -> None:
    phrase = HTTPStatus(code).phrase if code in HTTPStatus.__members__.values() else "Unknown"
    head = f"HTTP/1.1 {code} {phrase}\r\nContent-Type: text/plain\r\n{lines}Content-Length: {len(body)}\r\n"
    connection.put(f"{head}Connection: close\r\n\r\n{body}".encode("latin-1"))
    connection.finish_response()


def _status(connection: FaultProtocol, code: int, retry_after: int) -> None:
    lines = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    _answer(connection, code, lines, f"the fault status answers with {code}")


def _redirect(connection: FaultProtocol, to: str, code: int) -> None:
    _answer(connection, code, f"Location: {to}\r\n", "")


def _garbage(connection: FaultProtocol) -> None:
    connection.put(_GARBAGE)
    connection.finish_response()


def _hang(connection: FaultProtocol) -> None:
    connection.stop_writing()


def _disconnect(connection: FaultProtocol, how: str) -> None:
    connection.drop(reset=how == "reset")


def _endless(connection: FaultProtocol, rate: int) -> None:
    connection.put(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    connection.play(repeat(_LINE, MAX_SENT // len(_LINE)), rate)


def _late(connection: FaultProtocol, head: bytes, time: float) -> bytes:
    connection.head_delay = time
    return head


def _slow(connection: FaultProtocol, head: bytes, piece: int, every: float) -> bytes:
    connection.head_pieces = piece, every
    return head


def _accept(connection: FaultProtocol, head: bytes) -> bytes:  # noqa: ARG001
    return replace_header(head, "Sec-WebSocket-Accept", _WRONG_ACCEPT)


def _missing(connection: FaultProtocol, head: bytes, header: str) -> bytes:  # noqa: ARG001
    return remove_header(head, _HEADERS[header])


def _version(connection: FaultProtocol, head: bytes) -> bytes:  # noqa: ARG001
    return head.replace(b"HTTP/1.1 101", b"HTTP/1.0 101", 1)


def _subprotocol(connection: FaultProtocol, head: bytes, name: str) -> bytes:  # noqa: ARG001
    return replace_header(head, "Sec-WebSocket-Protocol", name)


def _extension(connection: FaultProtocol, head: bytes, name: str) -> bytes:  # noqa: ARG001
    return replace_header(head, "Sec-WebSocket-Extensions", name)


def _twice(connection: FaultProtocol, head: bytes, header: str) -> bytes:  # noqa: ARG001
    return add_header(head, _HEADERS[header], _WRONG_ACCEPT if header == "accept" else "h2c")


def _early(connection: FaultProtocol, head: bytes, count: int) -> bytes:  # noqa: ARG001
    return head + b"".join(build(FIN_TEXT, payload) for payload in payloads(16, count))


FAULTS = (
    Fault(
        "status",
        _GROUP,
        "Answer the handshake with a status other than 101.",
        "The client reports the status, if its API can; a browser reports 1006. The client waits as Retry-After says.",
        _status,
        (
            integer("code", 503, 200, 599, "The status."),
            integer("retry_after", 0, 0, 86_400, "Value of the header Retry-After in seconds; 0 for none."),
        ),
        Stage.RESPONSE,
        examples=("code=401", "code=503&retry_after=5"),
    ),
    Fault(
        "redirect",
        _GROUP,
        "Redirect the handshake to another path of this server.",
        "The client follows the redirect if it supports that; a browser does not (Fetch Standard, 4.4).",
        _redirect,
        (
            text("to", "/echo", "The path.", _a_path),
            integer("code", 302, 300, 399, "The status."),
        ),
        Stage.RESPONSE,
        examples=("to=/faults/redirect&code=307",),
    ),
    Fault(
        "garbage",
        _GROUP,
        "Answer with bytes that are not HTTP.",
        "The client fails the connection (4.1).",
        _garbage,
        (),
        Stage.RESPONSE,
    ),
    Fault(
        "hang",
        _GROUP,
        "Never answer the handshake.",
        "The client gives up after its own timeout.",
        _hang,
        (),
        Stage.RESPONSE,
    ),
    Fault(
        "disconnect",
        _GROUP,
        "End the TCP connection instead of answering the handshake.",
        "The client fails the connection (4.1).",
        _disconnect,
        (choice("how", ("drop", "reset"), "End the connection, or reset it."),),
        Stage.RESPONSE,
    ),
    Fault(
        "endless",
        _GROUP,
        "Answer with headers that do not end.",
        "The client gives up at a limit of its own, or after its own timeout.",
        _endless,
        (integer("rate", 1000, 1, 10_000, "Headers of 1 KB per second."),),
        Stage.RESPONSE,
    ),
    Fault(
        "late-handshake",
        _GROUP,
        "Send the response late, then echo.",
        "The client waits for the response, or gives up after its own timeout.",
        _late,
        (duration("time", "1s", 0, 60, "Time until the response."),),
        Stage.HEAD,
        examples=("time=5s",),
    ),
    Fault(
        "slow-handshake",
        _GROUP,
        "Send the response in small pieces, then echo.",
        "The client waits for the whole response.",
        _slow,
        (
            integer("piece", 1, 1, 1000, "Number of bytes in a piece."),
            duration("every", "10ms", 0.01, 60, "Time between two pieces."),
        ),
        Stage.HEAD,
        examples=("piece=10&every=1s",),
    ),
    Fault(
        "wrong-accept",
        _GROUP,
        "Send a wrong Sec-WebSocket-Accept.",
        "The client fails the connection (4.1).",
        _accept,
        (),
        Stage.HEAD,
    ),
    Fault(
        "missing-header",
        _GROUP,
        "Leave out a header of the response.",
        "The client fails the connection (4.1).",
        _missing,
        (choice("header", tuple(_HEADERS), "The header."),),
        Stage.HEAD,
        examples=("header=upgrade",),
    ),
    Fault(
        "repeated-header",
        _GROUP,
        "Send a header of the response a second time, with another value.",
        "The client fails the connection (4.1).",
        _twice,
        (choice("header", tuple(_HEADERS), "The header."),),
        Stage.HEAD,
    ),
    Fault(
        "http-1.0",
        _GROUP,
        "Answer with 101 in HTTP/1.0.",
        "The client fails the connection or accepts it.",
        _version,
        (),
        Stage.HEAD,
    ),
    Fault(
        "wrong-subprotocol",
        _GROUP,
        "Select a subprotocol that the client did not offer.",
        "The client fails the connection (4.1).",
        _subprotocol,
        (text("name", "x-unoffered", "The name.", a_token, 256),),
        Stage.HEAD,
    ),
    Fault(
        "wrong-extension",
        _GROUP,
        "Select an extension that the client did not offer, or with wrong parameters.",
        "The client fails the connection (4.1).",
        _extension,
        (
            text(
                "name", "x-unoffered", "The extension, with its parameters.", lambda given: _an_extension(a_text(given))
            ),
        ),
        Stage.HEAD,
        examples=("name=permessage-deflate;%20server_max_window_bits=20",),
    ),
    Fault(
        "early-data",
        _GROUP,
        "Send messages in the same segment as the response.",
        "The client delivers them.",
        _early,
        (integer("count", 3, 1, 1000, "Number of messages."),),
        Stage.HEAD,
    ),
)
"""The faults of this module."""
