"""Play a sequence on a server, and return its answers in canonical form."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from canonical import canonical, collapse, settle
from clients import BINARY, TEXT, StreamClient, WebSocketClient, request
from protobuf_form import Untranslatable, encode
from servers import API_KEY, SECRET
from transcripts import Sequence, Step

from wsserver.testing import KEY, build_frame

__all__ = ["forms", "play"]

PATH = "/connection/websocket"
CHARACTERS = {"NUL": "\0", "CR": "\r"}
TIMES = frozenset({"exp", "nbf", "iat", "expire_at"})
"""Claims whose number is relative to the start of the sequence."""


class Player:
    """
    One run of a sequence.

    Args:
        server: `Centrifugo` or `Here`.
        sequence: the sequence.
        form: `json` or `protobuf` for a WebSocket, or `http_stream`.
    """

    def __init__(self, server: Any, sequence: Sequence, form: str) -> None:
        self._server = server
        self._form = form
        self._values = dict(CHARACTERS)
        self._clients: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        """Client ID -> name of the client."""
        for name, text in sequence.tokens.items():
            claims = json.loads(text)
            moved = {claim: value + server.now() if claim in TIMES else value for claim, value in claims.items()}
            self._values[name] = jwt.encode(moved, moved.pop("secret", SECRET), "HS256")

    def run(self, step: Step) -> list[str]:
        """Take a step; return its answers, and all that the clients have received since the last step."""
        answers = _STEPS[step.kind](self, step.client, _fill(step.text, self._values))
        received = {name: client.receive() for name, client in sorted(self._clients.items())}
        for name, lines in received.items():
            for line in lines:
                self._learn(name, line)
        for name, lines in received.items():
            written = collapse(settle([canonical(line, self._names) for line in lines]))
            answers += [line if name == "a" else f"{name}: {line}" for line in written]
        return answers

    def _learn(self, name: str, line: str) -> None:
        if found := re.search(r'"connect":\{"client":"([^"]+)"', line):
            self._names[found[1]], self._values[name] = name, found[1]
        if found := re.search(r'"epoch":"([^"]+)"', line):
            self._values["epoch"] = found[1]

    def _client(self, name: str) -> WebSocketClient:
        if name not in self._clients:
            self._open(name, f"{PATH}?format=protobuf" if self._form == "protobuf" else PATH)
        return self._clients[name]

    def _open(self, name: str, text: str) -> list[str]:
        path, _, fields = text.partition(" ")
        headers = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
        } | dict(field.split(": ", 1) for field in fields.split("; ") if field)
        lines = "".join(f"{field}: {value}\r\n" for field, value in headers.items())
        peer = self._server.connect()
        peer.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        head, _, rest = peer.read(response=True).partition(b"\r\n\r\n")
        status = head.split(b" ")[1].decode() if head else "none"
        if status == "101":
            self._clients[name] = WebSocketClient(peer, rest, protobuf=self._form == "protobuf")
        chosen = re.search(rb"\r\nSec-WebSocket-Protocol: (.*?)(?:\r\n|$)", head, re.IGNORECASE)
        return [f"HTTP {status} {chosen[1].decode() if chosen else ''}".rstrip()]

    def _send(self, name: str, text: str) -> list[str]:
        if self._form == "http_stream" and name not in self._clients:
            self._clients[name] = StreamClient(self._server.connect, text)
        else:
            self._client(name).send(text)
        return []

    def _send_bytes(self, name: str, text: str) -> list[str]:
        """Send a frame of bytes, which are written as hexadecimal digits."""
        self._client(name).peer.send(build_frame(BINARY, bytes.fromhex(text)))
        return []

    def _send_many(self, name: str, text: str) -> list[str]:
        """Send a frame of many similar lines, which are numbered."""
        numbers, _, line = text.partition(" ")
        return self._send(name, _numbered(numbers, line))

    def _mute(self, name: str, _: str) -> list[str]:
        self._client(name).mute = True
        return []

    def _send_text(self, name: str, text: str) -> list[str]:
        """Send a text in a binary frame."""
        self._client(name).peer.send(build_frame(BINARY, text.encode("utf-8")))
        return []

    def _send_as_text(self, name: str, text: str) -> list[str]:
        self._client(name).send(text, TEXT)
        return []

    def _api(self, _: str, text: str) -> list[str]:
        method, _, body = text.partition(" ")
        headers = (f"X-API-Key: {API_KEY}", "Connection: close")
        head, answer = request(self._server.connect(), f"/api/{method}", body.encode("utf-8"), *headers)
        status = int(head.split(b" ")[1])
        try:
            error = json.loads(answer).get("error")
        except ValueError:
            return [f"API HTTP {status}"]
        return [f"API error {error['code']}" if error else "API ok"]

    def _wait(self, _: str, text: str) -> list[str]:
        left = float(text)
        while left > 0:
            # In small steps, because the clients answer pings.
            self._server.wait(min(left, 0.5))
            left -= 0.5
            for client in self._clients.values():
                client.pump()
        return []

    def _drop(self, name: str, _: str) -> list[str]:
        self._clients.pop(name).drop()
        return []


_STEPS: Final[dict[str, Callable[[Player, str, str], list[str]]]] = {
    ">": Player._send,
    "many>": Player._send_many,
    "mute": Player._mute,
    "hex>": Player._send_bytes,
    "txt>": Player._send_as_text,
    "bin>": Player._send_text,
    "open": Player._open,
    "api": Player._api,
    "wait": Player._wait,
    "drop": Player._drop,
}


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders in a text; unknown ones stay."""

    def value(found: re.Match[str]) -> str:
        count, star, repeated = found[1].partition("*")
        return repeated * int(count) if star else values.get(found[1], found[0])

    return re.sub(r"\$\{([^}]*)\}", value, text)


def _numbered(numbers: str, line: str) -> str:
    """Return a line for each number of a range, such as `1-9`."""
    first, _, last = numbers.partition("-")
    return "\n".join(line.replace("#", str(number)) for number in range(int(first), int(last) + 1))


def forms(sequence: Sequence) -> list[str]:
    """Return the forms in which a sequence is played: `json`, `protobuf`, `http_stream`."""
    if sequence.form:
        return sequence.form.split()
    kinds = {step.kind for step in sequence.steps}
    if kinds & {"open", "bin>", "hex>", "txt>"}:
        return ["json"]
    found = ["json", "protobuf"] if _has_counterpart(sequence) else ["json"]
    return found if "mute" in kinds else [*found, "http_stream"]


def _has_counterpart(sequence: Sequence) -> bool:
    """Return whether all commands can be translated to Protobuf."""
    try:
        for step in sequence.steps:
            if step.kind == ">":
                encode(_fill(step.text, CHARACTERS))
            elif step.kind == "many>":
                encode(_numbered(*step.text.split(" ", 1)))
    except Untranslatable:
        return False
    return True


def play(server: Any, sequence: Sequence, form: str) -> list[list[str]]:
    """
    Play a sequence.

    Args:
        server: `Centrifugo` or `Here`; it is used for this sequence only.
        sequence: the sequence.
        form: one of its `forms`.

    Returns:
        The answers to each step.
    """
    player = Player(server, sequence, form)
    return [player.run(step) for step in sequence.steps]
