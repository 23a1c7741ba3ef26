"""
Cases of the response to the opening handshake: RFC 6455 section 4.1.

They are the last ones: a simple client may end when its connection is not opened.
"""

from wsserver.endpoints.cases.factories import echo, rejection
from wsserver.endpoints.cases.script import Case, HeadChange

__all__ = ["CASES"]

_ACCEPT, _UPGRADE, _CONNECTION = "Sec-WebSocket-Accept: ", "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"

CASES = (
    Case(
        "lower-case",
        "Header names in lower case, and values in upper case",
        "4.1",
        echo(b"hello"),
        head=HeadChange(_UPGRADE + _CONNECTION, "upgrade: WEBSOCKET\r\nconnection: UPGRADE\r\n"),
        must="accept the response, and echo the message",
    ),
    Case(
        "other-headers",
        "Further headers in the response",
        "4.1",
        echo(b"hello"),
        head=HeadChange(
            _UPGRADE, _UPGRADE + "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nX-Empty:\r\nX-Long: " + "x" * 900 + "\r\n"
        ),
        must="accept the response, and echo the message",
    ),
    Case(
        "reason-phrase",
        "A status line with another reason phrase",
        "4.1",
        echo(b"hello"),
        head=HeadChange("101 Switching Protocols", "101 Welcome"),
        must="accept the response, and echo the message",
    ),
    Case(
        "accept-wrong", "A wrong Sec-WebSocket-Accept", "4.1", rejection(), head=HeadChange(_ACCEPT, _ACCEPT + "AAAA")
    ),
    Case("accept-missing", "No Sec-WebSocket-Accept", "4.1", rejection(), head=HeadChange(_ACCEPT, "X-Accept: ")),
    Case("upgrade-missing", "No Upgrade header", "4.1", rejection(), head=HeadChange(_UPGRADE, "")),
    Case("upgrade-wrong", "Upgrade: h2c", "4.1", rejection(), head=HeadChange(_UPGRADE, "Upgrade: h2c\r\n")),
    Case("connection-missing", "No Connection header", "4.1", rejection(), head=HeadChange(_CONNECTION, "")),
    Case(
        "connection-wrong",
        "Connection: keep-alive",
        "4.1",
        rejection(),
        head=HeadChange(_CONNECTION, "Connection: keep-alive\r\n"),
    ),
    Case(
        "subprotocol-unknown",
        "A subprotocol that the client has not offered",
        "4.1",
        rejection(),
        head=HeadChange(_UPGRADE, _UPGRADE + "Sec-WebSocket-Protocol: not-offered\r\n"),
    ),
    Case(
        "extension-unknown",
        "An extension that the client has not offered",
        "4.1",
        rejection(),
        head=HeadChange(_UPGRADE, _UPGRADE + "Sec-WebSocket-Extensions: x-not-offered\r\n"),
    ),
    Case(
        "status-200",
        "The status 200",
        "4.1",
        rejection(),
        head=HeadChange("101 Switching Protocols", "200 OK\r\nContent-Length: 0"),
    ),
    Case(
        "status-426",
        "The status 426",
        "4.1",
        rejection(),
        head=HeadChange("101 Switching Protocols", "426 Upgrade Required\r\nContent-Length: 0"),
    ),
)
