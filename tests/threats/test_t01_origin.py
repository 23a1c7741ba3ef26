"""T1: pages of foreign origins open WebSockets with the cookies of a visitor (cross-site WebSocket hijacking)."""

import pytest
from peers import handshake_request

HOST = "chat.example"
OPTIONS = ("--origin", "https://app.example", "--origin", "http://[::1]:3000", "--origin", "http://api.example:8080")

ACCEPTED = {
    "no Origin, not a browser": [],
    "the allowed origin": ["https://app.example"],
    "its default port": ["https://app.example:443"],
    "its name in capitals": ["HTTPS://APP.EXAMPLE"],
    "an allowed IPv6 address": ["http://[::1]:3000"],
    "the same IPv6 address in full": ["http://[0:0:0:0:0:0:0:1]:3000"],
    "an allowed port": ["http://api.example:8080"],
    "the host of the request": ["http://chat.example"],
}

REFUSED = {
    "another site": ["https://evil.example"],
    "another scheme": ["http://app.example"],
    "another port": ["https://app.example:8443"],
    "port 0": ["https://app.example:0"],
    "a port beyond 65535": ["https://app.example:65979"],
    "an empty port": ["https://app.example:"],
    "a port with letters": ["https://app.example:443x"],
    "a longer name": ["https://app.example.evil.example"],
    "a longer label": ["https://app.exampleevil"],
    "a prefix": ["https://evilapp.example"],
    "a hyphenated prefix": ["https://evil-app.example"],
    "a subdomain": ["https://www.app.example"],
    "the parent": ["https://example"],
    "a trailing dot": ["https://app.example."],
    "a user": ["https://app.example@evil.example"],
    "the allowed name as the host of a user": ["https://evil.example@app.example"],
    "a password": ["https://user:app.example@evil.example"],
    "a path": ["https://app.example/"],
    "a query": ["https://app.example?"],
    "a fragment": ["https://evil.example#https://app.example"],
    "a backslash": ["https://evil.example\\@app.example"],
    "null": ["null"],
    "NULL": ["NULL"],
    "an empty value": [""],
    "a file": ["file://"],
    "a wildcard": ["https://*"],
    "a star": ["*"],
    "two origins in one header": ["https://app.example https://evil.example"],
    "two origins with a comma": ["https://app.example, https://evil.example"],
    "two headers, the second one foreign": ["https://app.example", "https://evil.example"],
    "two headers, the first one foreign": ["https://evil.example", "https://app.example"],
    "the same header twice": ["https://app.example", "https://app.example"],
    "another IPv6 address": ["http://[2001:db8::1]:3000"],
    "an IPv6 address without brackets": ["http://::1:3000"],
    "an IPv4 address in IPv6": ["http://[::ffff:127.0.0.1]:3000"],
    "no scheme": ["app.example"],
    "a scheme without slashes": ["https:app.example"],
    "an extension of a browser": ["chrome-extension://app.example"],
    "a javascript URL": ["javascript://app.example"],
    "a name in another alphabet": ["https://\u0430pp.example".encode().decode("latin-1")],
    "a tab in the name": ["https://app\t.example"],
    "loopback, on a server that names its origins": ["http://localhost.evil.example"],
    "the host of the request with another port": ["http://chat.example:81"],
    "the host of the request with https": ["https://chat.example.evil.example"],
}


def ask(server, origins):
    """Send a handshake with cookies and the given Origin headers; return the status."""
    lines = (*(f"Origin: {origin}" for origin in origins), "Cookie: session=42")
    with server.connect() as peer:
        peer.send(handshake_request("/echo", *lines, replace={"Host": HOST}))
        return peer.read_response().status


@pytest.fixture(scope="module")
def strict(start_module_server):
    return start_module_server(*OPTIONS)


def test_t01_only_exact_origins_open_a_websocket(strict, figures):
    """Only pages of exactly the origins that the operator named, or of the server itself, can open a WebSocket."""
    wrong = [name for name, origins in ACCEPTED.items() if ask(strict, origins) != 101]
    wrong += [name for name, origins in REFUSED.items() if ask(strict, origins) != 403]
    figures.at_least(50, len(ACCEPTED) + len(REFUSED), "rows of the table")
    figures.at_most(0, len(wrong), "wrong answers", "", wrong)


def test_t01_hybi_8_does_not_bypass_the_check(strict, figures):
    """The header Sec-WebSocket-Origin of old protocol versions does not replace Origin."""
    with strict.connect() as peer:
        lines = ("Origin: https://evil.example", "Sec-WebSocket-Origin: https://app.example")
        peer.send(handshake_request("/echo", *lines, replace={"Sec-WebSocket-Version": "8", "Host": HOST}))
        assert peer.read_response().status == 426
    with strict.connect() as peer:
        peer.send(handshake_request("/echo", *lines, replace={"Host": HOST}))
        assert peer.read_response().status == 403
