"""No secret of the server or of a client in what the server writes: log, answers, metrics, output of commands."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from backend import Backend
from peers import TEXT, RawPeer, close_payload, handshake_request
from redis_server import RedisServer
from server_process import Process
from tokens import token
from waiting import wait_until

from wsserver.cli.main import main

pytestmark = pytest.mark.kernel

HMAC = "hmac-PLANTED-secret-of-more-than-thirty-two-bytes"
PREVIOUS = "previous-PLANTED-secret-of-more-than-thirty-two"
JWT = token({"sub": "42", "exp": 4_000_000_000, "channels": ["news"]}, key=HMAC.encode())
EXPIRED = token({"sub": "42", "exp": 1_000_000_000}, key=HMAC.encode())
FORGED = token({"sub": "42", "exp": 4_000_000_000}, key=b"another key of more than thirty-two bytes")
SECRETS = {
    "API key": "apikey-PLANTED",
    "HMAC secret": HMAC,
    "previous HMAC secret": PREVIOUS,
    "password of Redis": "redis-PLANTED",
    "key in the URL of a hook": "hook-PLANTED",
    "key in the URL of the JWKS": "jwks-PLANTED",
    "signature of a token": JWT.rpartition(".")[2],
    "signature of an expired token": EXPIRED.rpartition(".")[2],
    "signature of a forged token": FORGED.rpartition(".")[2],
    "token that is none": "token-PLANTED",
    "cookie": "cookie-PLANTED",
    "password of a client": "basic-PLANTED",
    "wrong API key": "wrongkey-PLANTED",
    "secret in the data of a client": "data-PLANTED",
}
"""What it is -> a text that must not appear anywhere."""

TOKENS = (JWT, EXPIRED, FORGED, SECRETS["token that is none"], JWT + "x", JWT.partition(".")[0])


def find_leaks(text):
    """Return which secrets a text contains, with what is around them; also if they are escaped or cut."""
    found = {what: secret for what, secret in SECRETS.items() if secret in text}
    found |= {f"PLANTED at {one.start()}": one[0] for one in re.finditer(r"\S{0,80}PLANTED\S{0,40}", text)}
    return found


def write_config(path, port, backend, **more):
    """Write a file with all options that are secrets."""
    hooks = {
        f"hook_{event}": backend.url(f"/{event}?key={SECRETS['key in the URL of a hook']}")
        for event in ("connect", "subscribe", "publish", "disconnect", "channel", "rpc", "message")
    }
    options = {
        "api_key": SECRETS["API key"],
        "token_secret": HMAC,
        "token_secret_previous": PREVIOUS,
        "redis": f"redis://:{SECRETS['password of Redis']}@127.0.0.1:{port}/0",
        "token_jwks_url": backend.url(f"/jwks?key={SECRETS['key in the URL of the JWKS']}"),
        "metrics": "on",
        "log_level": "debug",
        "log_max_rate": 0,
        "channel_allow": ["open"],
        **hooks,
        **more,
    }
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))


@pytest.fixture
def backend():
    """Run a backend that fails in a way that repeats what it was sent."""
    one = Backend()
    one.answer = lambda path, body: {"error": {"code": 1, "message": f"bad {path} {json.dumps(body)}"}}
    yield one
    one.close()


@pytest.fixture(params=["text", "json"])
def server(request, backend, tmp_path):
    """Run a server that has every secret. Its backend fails, and its JWKS is none."""
    file = tmp_path / "wsserver.toml"
    redis = RedisServer(tmp_path, requirepass=SECRETS["password of Redis"])
    redis.start()
    write_config(file, redis.port, backend)
    process = Process("--config", str(file), f"--log-format={request.param}")
    process.file, process.redis = file, redis
    yield process
    process.close()
    redis.kill()


def requests():
    """Yield requests with secrets in all places, most of which are refused."""
    headers = [
        *(f"Authorization: Bearer {one}" for one in TOKENS),
        *(f"Sec-WebSocket-Protocol: wsserver.v1, bearer.{one}" for one in TOKENS),
        f"Authorization: Basic {SECRETS['password of a client']}",
        f"Authorization: {SECRETS['password of a client']}\x01",
        f"Cookie: session={SECRETS['cookie']}; name=\xc5",
        f"Cookie: session={SECRETS['cookie']}\x01",
        f"Cookie : session={SECRETS['cookie']}",
        f" {SECRETS['cookie']}",
        f"X-API-Key: {SECRETS['wrong API key']}",
        f"X-API-Key: {SECRETS['wrong API key']}\x00",
        f"Origin: https://user:{SECRETS['password of a client']}@evil.example",
        f"Host: user:{SECRETS['password of a client']}@evil.example",
    ]
    for path in (
        "/",
        "/ws?channel=news",
        "/ws?channel=open",
        "/sse?channel=news",
        "/connection/websocket",
        "/connection/uni_sse",
        "/connection/http_stream",
        "/emulation",
        "/api/publish",
        "/api/rejects",
        "/metrics",
        "/ready",
        "/nothing",
        "/faults/x",
    ):
        mark = "&" if "?" in path else "?"
        for header in headers:
            yield path, "GET", (header,), True
            yield path, "POST", (header,), False
        for one in TOKENS:
            for name in ("token", "access_token", "api_key"):
                yield f"{path}{mark}{name}={one}", "GET", (), True
                yield f"{path}{mark}{name}={one}", "GET", (), False
            yield f'{path}{mark}cf_connect={{"token":"{one}"}}', "GET", (), True
            yield f"{path}{mark}cf_connect=%7B%22token%22:%22{one}%22%7D", "GET", (), False
    yield f"http://user:{SECRETS['password of a client']}@evil.example/", "GET", (), False
    yield f"//user:{SECRETS['password of a client']}@evil.example/ws?token={JWT}", "GET", (), True


def exchange(port, path, method, headers, is_handshake):
    """Send a request, and return all bytes of the answer; a few of them if it does not end."""
    replace = dict(line.split(": ", 1) for line in headers if line.startswith(("Host: ", "Sec-WebSocket-Key: ")))
    more = [line for line in headers if line.split(": ", 1)[0] not in replace]
    without = () if is_handshake else ("Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Connection")
    body = f'{{"channel": "open", "data": "{SECRETS["secret in the data of a client"]}", "token": "{JWT}"'
    if method == "POST":
        more.append(f"Content-Length: {len(body)}")
    request = handshake_request(path, *more, method=method, replace=replace, without=without)
    with RawPeer(port) as peer:
        peer.send(request + (body.encode() if method == "POST" else b""))
        peer.socket.settimeout(5)
        peer._receive()
        return peer.buffer.decode("latin-1")


COMMANDS = [
    *(json.dumps({"id": 1, "connect": {"token": one}}) for one in TOKENS),
    json.dumps({"id": 1, "connect": {"token": JWT, "data": {"password": SECRETS["secret in the data of a client"]}}}),
    json.dumps({"id": 1, "connect": {"token": 5, "data": SECRETS["secret in the data of a client"]}}),
    f'{{"id": 1, "connect": {{"token": "{JWT}"',
    SECRETS["token that is none"],
]


def say(port, path, *messages):
    """Open a WebSocket, send messages, and return all that the server sends until it closes, or sends no more."""
    with RawPeer(port) as peer:
        peer.send(handshake_request(path))
        peer.read_response()
        for message in messages:
            with contextlib.suppress(OSError):
                peer.send_frame(TEXT, message.encode())
        with contextlib.suppress(OSError):
            peer.send_frame(8, close_payload(1000))
        peer.socket.settimeout(5)
        with contextlib.suppress(OSError):
            while peer._receive():
                pass
        return peer.buffer.decode("latin-1")


def call(port, method, body):
    """Call the HTTP API with the key, and return the body of the response."""
    with RawPeer(port) as peer:
        head = (
            f"POST /api/{method} HTTP/1.1\r\nHost: a\r\nX-API-Key: {SECRETS['API key']}\r\nContent-Length: {len(body)}"
        )
        peer.send(f"{head}\r\n\r\n{body}".encode())
        return peer.read_response().text


def test_no_secret_is_in_the_log_in_answers_close_reasons_rejects_or_metrics(server):
    port, answers = server.port, {}
    for request in requests():
        answers[request] = exchange(port, *request)
    for path in ("/connection/websocket", "/connection/uni_websocket"):
        for command in COMMANDS:
            answers[path, command] = say(port, path, command, command)
    for path in ("/echo", "/ws?channel=open", "/"):
        answers[path, "close"] = say(port, path, "whoami")
    secret = SECRETS["secret in the data of a client"]
    for method, body in (
        ("publish", f'{{"channel": "open", "data": "{secret}"'),
        ("publish", f'{{"channel": ["{secret}"], "data": 1}}'),
        ("publish", f'{{"channel": "open", "data": "{secret}"}}'),
        ("batch", f'{{"commands": [{{"publish": {{"channel": 5, "data": "{secret}"}}}}]}}'),
        ("info", "{}"),
        ("connections", "{}"),
        ("rejects", "{}"),
    ):
        answers["api", method, body] = call(port, method, body)
    with RawPeer(port) as peer:
        answers["/metrics"] = peer.request("/metrics", f"X-API-Key: {SECRETS['API key']}").text
    assert "refusals_total" in answers["/metrics"]
    assert len(json.loads(answers["api", "rejects", "{}"])["result"]["rejects"]) > 10
    # A reload with a bad file: its error names the line, not the value.
    for option, value in (
        ("redis", "redis//:redis-PLANTED@x"),
        ("hook_connect", "http://u:hook-PLANTED@b/"),
        ("token_secret", "short-PLANTED"),
        ("token_jwks_url", "htp://x?jwks-PLANTED"),
    ):
        before = server.read_log().count("options not reloaded")
        server.file.write_text(f"{option} = {json.dumps(value)}\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda n=before: server.read_log().count("options not reloaded") > n, f"the refusal of {option}")
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    leaks = {request: found for request, text in answers.items() if (found := find_leaks(text))}
    assert not leaks
    log = server.read_log()
    assert log.count("connection refused") > 50
    assert not find_leaks(log)


def run(*arguments, environ=None):
    """Run the command wsserver, and return what it prints."""
    command = [sys.executable, "-c", "import sys; from wsserver.cli.main import main; main(sys.argv[1:])"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environ, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis", "redis//:redis-PLANTED@x"),
        ("redis", "redis://:redis-PLANTED@x:port"),
        ("redis", "redis://:redis-PLANTED@x/?nothing=1"),
        ("hook_connect", "http://user:hook-PLANTED@backend/"),
        ("hook_connect", "htp://backend/?key=hook-PLANTED"),
        ("token_secret", "short-PLANTED"),
        ("token_jwks_url", "htp://backend/?key=jwks-PLANTED"),
        ("token_jwks_url", "https://user:jwks-PLANTED@backend/"),
    ],
)
def test_no_command_prints_a_secret_of_an_invalid_option(tmp_path, monkeypatch, capsys, name, value):
    """From a flag, the environment and a file."""
    file = tmp_path / "wsserver.toml"
    file.write_text(f"{name} = {json.dumps(value)}\n", "utf-8")

    def print_error(*arguments):
        with pytest.raises(SystemExit):
            main(list(arguments))
        return "".join(capsys.readouterr())

    printed = [
        print_error("checkconfig", str(file)),
        print_error("serve", "--config", str(file), "--port=0"),
        print_error("serve", f"--{name.replace('_', '-')}={value}", "--port=0"),
    ]
    monkeypatch.setenv(f"WSSERVER_{name.upper()}", value)
    printed.append(print_error("checkconfig", os.devnull))
    assert all("expected" in text for text in printed), printed
    assert [find_leaks(text) for text in printed] == [{}] * len(printed), printed


def test_no_command_prints_a_secret_of_a_valid_file(tmp_path, backend):
    file = tmp_path / "wsserver.toml"
    write_config(file, 6379, backend)
    printed = [run("checkconfig", str(file)), run("genconfig"), run("--help")]
    assert [find_leaks(text) for text in printed] == [{}] * 3, printed


@pytest.mark.parametrize(
    "make",
    [
        lambda url: (f"{url}&token={FORGED}",),
        lambda url: (url, f"--token={JWT}"),
        lambda url: (url.replace("//", f"//u:{SECRETS['password of a client']}@"),),
    ],
    ids=["in the URL", "option", "password in the URL"],
)
def test_the_doctor_does_not_print_what_it_is_given(backend, tmp_path, make):
    file = tmp_path / "wsserver.toml"
    file.write_text(f"token_secret = {json.dumps(HMAC)}\n")
    server = Process("--config", str(file))
    try:
        printed = run("doctor", *make(f"ws://127.0.0.1:{server.port}/ws?channel=news"), "--wait=0")
    finally:
        server.close()
    assert "127.0.0.1" in printed
    assert not find_leaks(printed), printed
