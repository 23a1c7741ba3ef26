"""Tests for wsserver/cli/doctor: whatever a server sends, the report is made of steps, and there is no traceback."""

import contextlib
import json
import random
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pki import make_authority

from wsserver.cli.doctor import tls
from wsserver.cli.doctor.examination import Examination
from wsserver.cli.doctor.report import Report
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.urls import parse_websocket_url
from wsserver.testing import build_frame
from wsserver.wire.handshake import response

OURS = json.dumps({"paths": {}, "commands": {}, "closeCodes": {}}).encode()
DEEP = b"[" * 100_000
ANSWERS = [
    OURS,
    OURS,
    DEEP,
    b'{"a":' * 50_000,
    b"1" * 5000,
    b"\xff\xfe[",
    b": 503 Redis is unavailable\nretry: 9\n\n",
    b"x" * 9,
]
MESSAGES = [
    DEEP,
    b'{"id":1,"connect":{"ping":' + b"[" * 900 + b"]" * 900 + b"}}",
    b'{"id":1,"error":{"code":' + b"[" * 900 + b"]" * 900 + b',"message":{}}}',
    b'{"id":1,"error":[]}',
    b'{"id":1,"connect":{}}',
    b'{"address":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"address":"1.2.3.4:5","headers":[1,2]}',
    b'{"address":"1.2.3.4:5","headers":[[1],["x-forwarded-for",{}],"ab"]}',
    b'{"address":7,"headers":{"forwarded":[]},"extensions":[{}]}',
]
FIELDS = [
    b"",
    b"Location: http://[::1\r\n",
    b"Location: http://\xe2\x84\x80.example/\r\n",
    b"Location: //x:99999999999/\r\n",
    b"Content-Length: " + b"9" * 5000 + b"\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: text/plain; charset=\xff\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=" + b"9" * 5000 + b"\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
    b": \r\n\x00: \r\n folded\r\n",
]
CHUNKS = [b"f" * 25 + b"\r\nabc", b"-1\r\nabc", b"3;x\r\nabc\r\n", b"\r\n\r\n", b"0\r\n\r\n"]
STATUSES = [
    b"200 OK",
    b"200 OK",
    b"200 OK",
    b"302 Found",
    b"401 No",
    b"403 No",
    b"404",
    b"503 Down",
    b"999 \xff",
    b"99",
]


def mutated(data, chance):
    """Return the bytes with some of them changed, removed or repeated; most often unchanged."""
    if not data or chance.random() < 0.6:
        return data
    place, size = chance.randrange(len(data)), chance.randrange(1, 9)
    return (
        data[:place]
        + chance.choice([b"", chance.randbytes(size), data[place : place + size] * 2])
        + data[place + size :]
    )


def make_frames(chance):
    """Return frames as bytes."""
    frames = b""
    for _ in range(chance.randrange(4)):
        opcode = chance.choice([0, 1, 1, 1, 2, 8, 9, 10])
        payload = chance.choice([*MESSAGES, b"", b"\x03", b"\x03\xe8\xff", b"doctor 0", bytes(70_000)])
        frames += mutated(build_frame(opcode, payload, mask=b"", fin=chance.random() < 0.8), chance)
    return frames


def make_answer(head, chance):
    """Return the answer to a request."""
    fields = b"".join(chance.choices(FIELDS, k=2)) if chance.random() < 0.5 else b""
    key = next((line[19:] for line in head.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: ")), "")
    if key and chance.random() < 0.7:
        return mutated(response(key).removesuffix(b"\r\n") + fields + b"\r\n", chance) + make_frames(chance)
    body = OURS if b"/server.json" in head and chance.random() < 0.6 else chance.choice([*ANSWERS, *CHUNKS])
    status = b"200 OK" if body is OURS else chance.choice(STATUSES)
    return mutated(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n", chance) + mutated(body, chance)


@contextlib.contextmanager
def hostile_server(make):
    """Listen, answer each request with the bytes that a function returns, and close; yield the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:

        def serve():
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, contextlib.suppress(OSError):
                    peer.settimeout(5)
                    head = b""
                    while b"\r\n\r\n" not in head:
                        data = peer.recv(65536)
                        # A TLS handshake gets no answer.
                        if not data.startswith(b"GET "):
                            break
                        head += data
                    else:
                        peer.sendall(make(head))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def examine(url, **more):
    """Return the steps of an examination."""
    target = parse_websocket_url(url)
    report = Report(url)
    Examination(Wanted(target, target.origin, **more), report, None, 0.05).run()
    return report.steps


def failure(steps, name):
    """Return what a failed step has found."""
    return next(step.finding for step in steps if (step.step, step.status) == (name, "fail"))


@pytest.mark.parametrize("path", ["/ws", "/connection/websocket", "/echo", "/ws?channel=news"])
def test_random_answers_never_end_in_a_traceback(path):
    chance = random.Random(path)
    seen = set()
    with hostile_server(lambda head: make_answer(head, chance)) as port:
        for number in range(100):
            steps = examine(f"ws://127.0.0.1:{port}{path}", echo=True, token="t" * (number % 2))
            assert all(step.finding for step in steps)
            seen |= {step.step for step in steps}
    # The answers are not so wrong that the later steps are never reached.
    assert {"upgrade", "address", "health", "sse", "compression"} <= seen


def upgraded(fields=b"", frames=b""):
    """Return a function that accepts handshakes, with these header fields and frames; the rest gets an empty page."""

    def make(head):
        key = next((line[19:] for line in head.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: ")), "")
        if not key:
            return b"HTTP/1.1 200 OK\r\n\r\n{}"
        return response(key).removesuffix(b"\r\n") + fields + b"\r\n" + frames

    return make


@pytest.mark.parametrize(
    ("path", "fields", "frames", "step", "finding"),
    [
        ("/x", b"", build_frame(9, bytes(70_000), mask=b""), "ping", "invalid control frame"),
        ("/x", b"", build_frame(9, b"", mask=b"", fin=False), "ping", "invalid control frame"),
        ("/connection/websocket", b"", build_frame(1, DEEP, mask=b""), "token", "nested too deeply"),
        (
            "/connection/websocket",
            b"",
            build_frame(1, b"", mask=b"", fin=False) + b"\0\0" * 70_000,
            "token",
            "fragments",
        ),
        ("/connection/websocket", b"", build_frame(0, b"x", mask=b""), "token", "continuation frame"),
        ("/x", FIELDS[9], b"", "compression", "client_max_window_bits=99; RFC 7692 permits 8 to 15"),
    ],
)
def test_a_violation_of_the_protocol_fails_with_a_sentence(path, fields, frames, step, finding):
    with hostile_server(upgraded(fields, frames)) as port:
        assert finding in failure(examine(f"ws://127.0.0.1:{port}{path}", echo=True), step)


def test_a_redirect_to_an_invalid_url_is_named():
    with hostile_server(lambda _: b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n") as port:
        assert "http://[::1, which is not a URL" in failure(examine(f"ws://127.0.0.1:{port}/"), "redirect")


@pytest.mark.parametrize("code", [tls.EXPIRED, tls.NOT_YET_VALID, tls.WRONG_NAME, tls.NO_ISSUER, 1])
def test_a_malformed_certificate_is_a_failed_step(code, tmp_path, monkeypatch):
    data = x509.load_pem_x509_certificate(make_authority(tmp_path).root.read_bytes()).public_bytes(Encoding.DER)
    error = ssl.SSLCertVerificationError(1, "refused")
    error.verify_code, error.verify_message = code, "refused"
    dialer = SimpleNamespace(target=parse_websocket_url("wss://h.example/"))
    count = 0
    for place in range(len(data)):
        with contextlib.suppress(*tls.INVALID):
            chain = [x509.load_der_x509_certificate(data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :])]
            monkeypatch.setattr(tls, "fetch_chain", lambda _, chain=chain: chain)
            step = tls.explain_certificate(error, dialer, None)
            assert (step.step, step.status) == ("tls", "fail")
            count += 1
    assert count > 100
