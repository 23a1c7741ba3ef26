"""T7: status pages, redirects to foreign sites, and responses that reveal details of the server."""

import re
from importlib.metadata import version

import pytest
from http_api import KEY
from peers import handshake_request

REQUESTS = {
    "the page": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a redirect": b"GET /?redirect=https://evil.example&after=1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a redirect of a WebSocket path": b"GET /ws?redirect=https://evil.example HTTP/1.1\r\nHost: a\r\n\r\n",
    "a doubled slash": b"GET //evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a WebSocket path": b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upgrade to HTTP/2": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "a missing page": b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
    "a strange method": b"TRACE / HTTP/1.1\r\nHost: a\r\nX-Secret: 42\r\n\r\n",
    "the API without a key": b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    "the API with a wrong body": (
        f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: 3\r\n\r\n{{x}}".encode()
    ),
    "an unknown method of the API": (
        f"POST /api/nothing HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    ),
    "the description": b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n",
    "garbage": b"\x00\x01\x02\x03\r\n\r\n",
    "a foreign origin": handshake_request("/echo", "Origin: https://evil.example"),
    "no key": handshake_request("/echo", without=["Sec-WebSocket-Key"]),
    "an accepted handshake": handshake_request("/echo"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

INJECTIONS = ["%0d%0aX-Injected: 1", "%0aX-Injected: 1", "\\r\\nX-Injected: 1", "%E5%98%8A%E5%98%8DX-Injected: 1"]

LEAKS = re.compile(
    "|".join(
        [
            "autobahn",
            "twisted",
            "traceback",
            r"\.py\b",
            "site-packages",
            r"/home/|/root/|/usr/|/tmp/|/work/",
            *(re.escape(version(name)) for name in ("autobahn", "twisted", "wsserver")),
        ]
    ),
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def shared(start_module_server):
    return start_module_server()


def answer(server, data):
    """Send bytes, and return everything that comes within a short time."""
    with server.connect() as peer:
        peer.send(data)
        peer.socket.shutdown(1)
        return peer.read_to_end()


def test_t07_no_response_leaks_or_redirects(shared, figures):
    """No response redirects to another site, or names a version, a path or an exception of the server."""
    answers = {name: answer(shared, data) for name, data in REQUESTS.items()}
    for text in INJECTIONS:
        request = f"GET /{text.replace(' ', '%20')} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        answers[text] = answer(shared, request)
        answers[f"{text} in a query"] = answer(shared, request.replace(b"GET /", b"GET /ws?channel=a&redirect="))
    leaks = {name: LEAKS.findall(data.decode("latin-1")) for name, data in answers.items()}
    heads = {name: data.partition(b"\r\n\r\n")[0].lower() for name, data in answers.items()}
    figures.at_least(20, len(answers), "responses")
    figures.at_most(0, sum(map(len, leaks.values())), "details leaked", "", leaks)
    assert all(heads.values()), heads
    wrong = [name for name, head in heads.items() if b"\r\nlocation:" in head or b"\r\nserver:" in head]
    figures.at_most(0, len(wrong), "responses that redirect or name the software", "", wrong)
    injected = [name for name, head in heads.items() if b"\r\nx-injected:" in head]
    figures.at_most(0, len(injected), "injected headers", "", injected)


def test_t07_a_websocket_path_answers_426_to_http(shared, figures):
    """HTTP requests to a WebSocket path get 426 with the header Upgrade."""
    response = shared.get("/echo")
    assert response.status == 426
    assert response.header("upgrade") == "websocket"
