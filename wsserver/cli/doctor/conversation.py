"""Steps of `wsserver doctor` on an open connection: the first Centrifuge command, ping, compression, client address."""

import json
import time
from statistics import median
from typing import Any

from wsserver.cli.doctor.exchange import Response, parse_json
from wsserver.cli.doctor.refusals import judge, name_proxies, repair_token
from wsserver.cli.doctor.report import Step, failed, passed, skipped, warned
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.stream import ANSWER_TIMEOUT, Dialer
from wsserver.cli.doctor.websocket import Frame, Opcode, ServerClosed, WebSocket, open_websocket

__all__ = ["ask_whoami", "check_address", "check_compression", "check_ping", "connect_centrifuge", "describe_upgrade"]

PINGS = 3
SLOW = 1.0
"""Round trips longer than this many seconds are reported."""

TEXT = b"wsserver doctor " * 8
"""The message of the compression test, less than 256 bytes."""


def describe_upgrade(websocket: WebSocket) -> Step:
    """Describe an accepted handshake."""
    between = ", ".join(name_proxies(websocket.response))
    if not websocket.is_accepted:
        finding = "the answer 101 has a wrong Sec-WebSocket-Accept, so browsers close the connection"
        return failed(
            "upgrade", finding, "a cache or proxy has answered: let it pass handshakes on, and never store them"
        )
    chosen = websocket.response.header("Sec-WebSocket-Protocol")
    shown = f", subprotocol {chosen}" if chosen and "bearer." not in chosen else ""
    return passed(
        "upgrade", f"101 Switching Protocols{shown}; " + (f"between: {between}" if between else "no proxy visible")
    )


def connect_centrifuge(websocket: WebSocket, wanted: Wanted) -> Step:
    """Send the command `connect` of the Centrifuge protocol."""
    request = {"token": wanted.token} if wanted.token else {}
    websocket.send(Opcode.TEXT, json.dumps({"id": 1, "connect": request}).encode("ascii"))
    fix = repair_token(wanted)
    try:
        reply = _first_reply(websocket)
    except ServerClosed as closed:
        finding = f"the server closed the connection with {closed.code}: {closed.reason}"
        return judge(failed("token", finding, fix), wanted)
    error, answer = reply.get("error"), reply.get("connect")
    if isinstance(error, dict):
        code, message = _show(error.get("code")), _show(error.get("message"))
        return judge(failed("token", f"the Centrifuge connect failed with {code}: {message}", fix), wanted)
    ping = _show(answer.get("ping", 0)) if isinstance(answer, dict) else "0"
    return passed("token", f"the Centrifuge connect succeeded; the server pings every {ping} s")


def _first_reply(websocket: WebSocket) -> dict[str, Any]:
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while True:
        for line in websocket.read_message(deadline).payload.splitlines():
            reply = parse_json(line)
            if isinstance(reply, dict) and reply.get("id") == 1:
                return reply


def check_ping(websocket: WebSocket) -> Step:
    """Measure the time until the pong of a ping."""
    seconds = []
    for number in range(PINGS):
        payload = b"doctor %d" % number
        begin = time.monotonic()
        websocket.send(Opcode.PING, payload)
        while websocket.read_frame(begin + ANSWER_TIMEOUT) != Frame(Opcode.PONG, payload):
            pass
        seconds.append(time.monotonic() - begin)
    shown = f"{median(seconds) * 1000:.1f} ms to the pong"
    if median(seconds) > SLOW:
        return warned("ping", shown, "look for an overloaded server, or a slow network")
    return passed("ping", shown)


def check_compression(websocket: WebSocket, wanted: Wanted, seen: dict[str, Any] | None) -> Step:
    """
    Check what became of the offer to compress.

    Args:
        websocket: a connection; its messages come back if our server or the user says so.
        wanted: the request of the user.
        seen: what our server says of a connection, if it is ours.
    """
    if not websocket.deflates:
        return _explain_uncompressed(wanted, seen)
    if not (wanted.is_ours or wanted.echo):
        return passed("compression", f"accepted ({websocket.extensions}); to test a message, use --echo")
    fix = "the proxy breaks it: let it pass the frames on unchanged, or start the server with --compression off"
    try:
        websocket.send(Opcode.TEXT, TEXT, compressed=True)
        back = websocket.read_message(time.monotonic() + ANSWER_TIMEOUT)
    except OSError as error:
        return failed("compression", f"a compressed message did not come back: {error}", fix)
    if back.payload != TEXT:
        return failed("compression", "a compressed message came back changed", fix)
    return passed("compression", f"accepted ({websocket.extensions}); a compressed message came back")


def _explain_uncompressed(wanted: Wanted, seen: dict[str, Any] | None) -> Step:
    if seen is not None and seen.get("extensions"):
        finding = "the server compresses, but the proxy has removed Sec-WebSocket-Extensions from its answer"
        fix = "remove `proxy_hide_header Sec-WebSocket-Extensions;`, or start the server with --compression off"
        return failed("compression", finding, fix)
    if seen is not None and "sec-websocket-extensions" not in (_headers(seen) or {"sec-websocket-extensions"}):
        finding = "the offer of permessage-deflate does not reach the server: a proxy has removed it"
        return warned("compression", finding, "let the proxy pass Sec-WebSocket-Extensions on")
    option = "; --compression on switches it on" if wanted.is_ours else ""
    return passed("compression", f"offered, and not used by the server{option}")


def _headers(seen: dict[str, Any]) -> dict[str, str]:
    """Return the headers that the server has received: name in lower case -> value."""
    headers = seen.get("headers")
    found: list[Any] = list(headers.items()) if isinstance(headers, dict) else []
    if isinstance(headers, list):
        found = [pair for pair in headers if isinstance(pair, list) and len(pair) == 2]
    return {_show(name).lower(): _show(value) for name, value in found}


def _show(value: object) -> str:
    """Return a text or number of the server; a list may be nested too deeply to be shown."""
    return str(value) if isinstance(value, str | int | float) else "?"


def ask_whoami(dialer: Dialer, wanted: Wanted) -> dict[str, Any] | None:
    """Ask our server what it knows of a connection: the answer of its command `whoami`, or None."""
    path = f"{wanted.base}/ws"
    try:
        opened = open_websocket(dialer, path, wanted.headers_for(path, origin=False))
        if isinstance(opened, Response):
            return None
        with opened as websocket:
            local = websocket.local_address
            websocket.send(Opcode.TEXT, b"whoami")
            seen = parse_json(websocket.read_message(time.monotonic() + ANSWER_TIMEOUT).payload)
    except OSError:
        return None
    return seen | {"local": local} if isinstance(seen, dict) else None


def check_address(seen: dict[str, Any] | None) -> Step:
    """Compare the address that the server sees with the own one, and with those that proxies have sent."""
    if seen is None:
        return skipped("address", "the server does not say which address it sees: no command `whoami` at /ws")
    address, local = _show(seen.get("address")), str(seen["local"])
    if address == local:
        return passed("address", f"the server sees {address}, which is this connection")
    host = find_host(address)
    sent = [value for name in ("x-forwarded-for", "forwarded") if (value := _headers(seen).get(name))]
    if not sent:
        finding = (
            f"the server sees {address}, and this connection is {local}: a proxy, or address translation, is between"
        )
        fix = (
            "let the proxy send the address: `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`, "
            f"and start the server with --trusted-proxy {host}"
        )
        return warned("address", finding, fix)
    if host not in " ".join(sent):
        finding = f"the server sees the proxy, {host}, and ignores the client's address that the proxy sends"
        return warned("address", finding, f"start the server with --trusted-proxy {host}")
    if host == find_host(local):
        return passed("address", f"the server sees {host}; use another machine to check --trusted-proxy")
    return passed("address", f"the server sees {host}, which the proxy has sent")


def find_host(address: str) -> str:
    """Return the host of `host:port` or `[host]:port`."""
    return (
        address.strip("[]")
        if address.count(":") != 1 and "]" not in address
        else address.rpartition(":")[0].strip("[]")
    )
