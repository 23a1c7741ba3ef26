"""Fuzz the Centrifuge protocol, as JSON and as Protobuf, over WebSocket and over HTTP."""

import json
import random
import socket
import time
from typing import Any

from peers import BINARY, CLOSE, TEXT, RawPeer, close_payload, frame
from protobuf import random_command, random_frame
from protobuf_messages import decode_replies, encode_commands
from socket_findings import Findings

from wsserver.centrifugecodes import INTERNAL, SERVER_ERROR

__all__ = ["fuzz"]

PATIENCE = 10.0
"""Maximum seconds to wait for the end of a connection whose client has finished."""

CHANNELS = ("a", "b", "chat:1", "news", "", "x" * 256, "ü", "\ud800", "wsserver:x", "a b", "$p:1", "#42", "a\n")
"""Few names, so that subscribers, publications and presence meet."""

VALUES: tuple[Any, ...] = (None, 0, -1, 2**53, 2**64, 1e308, "", "a", [], {}, [[]] * 3, True, {"a": {"b": 1}}, "\ud800")
"""Values of a wrong type, for any field."""

NOISE = (
    b"\0",
    b'"',
    b"{",
    b"}",
    b"[",
    b"\n",
    b"\n\n",
    b"\\u",
    b"\xff",
    b"\xed\xa0\x80",
    b"1e999",
    b"//",
    b"null",
    b",",
)


def fuzz(port: int, rng: random.Random, seconds: float, findings: Findings) -> None:
    """
    Send commands to the server, and check the replies.

    Args:
        port: the port of the server.
        rng: makes the random choices.
        seconds: how long to send.
        findings: collects what is found.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        way = rng.random()
        if way < 0.45:
            _talk(port, rng, findings, json_messages(rng), TEXT, "/connection/websocket")
        elif way < 0.9:
            _talk(port, rng, findings, protobuf_messages(rng), BINARY, "/connection/websocket?format=protobuf")
        else:
            _post(port, rng, findings)


# Input.


def json_messages(rng: random.Random) -> list[bytes]:
    """Return messages of JSON commands; the first one usually connects."""
    start = [b'{"id":1,"connect":{}}'] if rng.random() < 0.9 else []
    return start + [_json_message(rng) for _ in range(rng.choice((1, 2, 4, 10)))]


def _json_message(rng: random.Random) -> bytes:
    commands = [_json_command(rng) for _ in range(rng.choice((1, 1, 1, 2, 8)))]
    data = bytearray(b"\n".join(json.dumps(command).encode("ascii") for command in commands))
    if rng.random() < 0.3:
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice((0, 1, 3))] = rng.choice((*NOISE, rng.randbytes(1), b"[" * 300))
    return bytes(data)


def _json_command(rng: random.Random) -> dict[str, Any]:
    command = _plain(random_command(rng))
    for fields in command.values():
        if isinstance(fields, dict) and "channel" in fields:
            fields["channel"] = rng.choice(CHANNELS)
        if isinstance(fields, dict) and rng.random() < 0.2:
            fields[rng.choice([*fields, "unknown"])] = rng.choice(VALUES)
    if rng.random() < 0.05:
        command[rng.choice(("id", "method", "params", "nothing", "connect"))] = rng.choice(VALUES)
    return command


def _plain(value: Any) -> Any:
    """Return the JSON form of a command: bytes become the value that they are, or text."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        try:
            return json.loads(text)
        except ValueError:
            return text
    return value


def protobuf_messages(rng: random.Random) -> list[bytes]:
    """Return messages of Protobuf commands; the first one usually connects."""
    start = [encode_commands({"id": 1, "connect": {}})] if rng.random() < 0.9 else []
    return start + [random_frame(rng) for _ in range(rng.choice((1, 2, 4, 10)))]


# Sending and checking.


def _talk(port: int, rng: random.Random, findings: Findings, messages: list[bytes], opcode: int, path: str) -> None:
    stream = b"".join(frame(opcode, message) for message in messages)
    if rng.random() < 0.7:
        stream += frame(CLOSE, close_payload(1000))
    with RawPeer(port) as peer:
        peer.socket.settimeout(PATIENCE)
        peer.handshake(path)
        try:
            peer.send(stream)
            peer.socket.shutdown(socket.SHUT_WR)
        except OSError:
            # The server has closed the connection already.
            pass
        findings.count(_read(peer, b"\n".join(messages), findings))


def _read(peer: RawPeer, data: bytes, findings: Findings) -> object:
    while True:
        try:
            got = peer.read_frame()
        except AssertionError:
            return "end without a Close frame"
        except TimeoutError:
            findings.complain(f"the connection was not ended within {PATIENCE:g} s", data)
            return "open"
        except OSError:
            return "reset by the server"
        if got.opcode == CLOSE:
            if got.close_code in (1011, SERVER_ERROR.code):
                findings.complain(f"the server closed with {got.close_code}: {got.close_reason}", data)
            return got.close_code
        if got.opcode in (TEXT, BINARY):
            _check(got.payload, got.opcode, data, findings)


def _check(payload: bytes, opcode: int, data: bytes, findings: Findings) -> None:
    """Check a message of the server: replies and pushes, none of which reports an internal error."""
    try:
        if opcode == TEXT:
            replies = [json.loads(line) for line in payload.splitlines() if line]
        else:
            replies = decode_replies(payload)
    except ValueError as error:
        findings.complain(f"a reply cannot be decoded: {error}: {payload[:200]!r}", data)
        return
    for reply in replies:
        if not isinstance(reply, dict):
            findings.complain(f"a reply is not an object: {reply!r}", data)
        elif (reply.get("error") or {}).get("code") == INTERNAL.code:
            findings.complain(f"a reply reports an internal error: {reply!r}", data)


def _post(port: int, rng: random.Random, findings: Findings) -> None:
    """Send commands in the body of an HTTP request."""
    path = rng.choice(("/connection/http_stream", "/connection/sse", "/emulation", "/connection/uni_http_stream"))
    body = rng.choice(json_messages(rng) + protobuf_messages(rng))
    kind = rng.choice(("application/json", "application/octet-stream", "text/plain"))
    with RawPeer(port) as peer:
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        peer.send("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        peer.socket.settimeout(PATIENCE)
        answer = b""
        while b"\r\n\r\n" not in answer and (piece := peer.socket.recv(65536)):
            answer += piece
    status = answer[9:12].decode("latin-1")
    findings.count(f"HTTP {status}")
    if status == "500" or not answer.startswith(b"HTTP/1.1 "):
        findings.complain(f"POST {path}: the answer is {answer[:100]!r}", body)
