"""
Floods of everything that a client can send: the other clients lose nothing, and the server stays responsive.

Each attack has 20 connections, which send as much as the server takes and read all answers. The limits
are those of every test here: 99 % of the echoes of the good clients arrive within 50 ms, no turn of the event loop
takes longer than 100 ms, and an abusive connection costs at most 512 KiB.
"""

import json
import time

import pytest
from arena import withstand
from attackers import connect, flood, masked, open_all, open_websocket, reopen
from http_api import KEY
from peers import BINARY, CONTINUATION, PING, PONG, TEXT, RawPeer

CENTRIFUGE = "/connection/websocket"
CONNECTIONS = 20
SIZE = 256 * 1024
OPTIONS = (
    "--channel-allow",
    "*",
    "--channel-presence",
    "*",
    "--history-size",
    "1000",
    "--history-ttl",
    "10m",
    "--max-queued-bytes",
    "256KiB",
)
"""Each client may fill its queue of 256 KiB, and needs more for what it receives: up to 512 KiB in all."""


def filled(piece):
    """Return a piece repeated up to 256 KiB, what the server reads at once."""
    return piece * max(1, SIZE // len(piece))


def frames(data, *, path="/echo", first=b""):
    """Return an attack that sends the same frames repeatedly."""

    def attack(port, seconds, connections):
        return flood(open_all(port, connections, path), filled(data), seconds, first=first)

    return attack


def commands(*every, first=({"connect": {}},), count=1):
    """Return an attack that sends Centrifuge commands, `count` of them in a frame, and reads the replies."""

    def attack(port, seconds, connections):
        opening = "\n".join(json.dumps({"id": number + 1, **one}) for number, one in enumerate(first))
        lines = "\n".join(json.dumps({"id": number + 100, **every[number % len(every)]}) for number in range(count))
        sockets = open_all(port, connections, CENTRIFUGE)
        return flood(sockets, filled(masked(TEXT, lines.encode())), seconds, first=masked(TEXT, opening.encode()))

    return attack


def requests(head, body=b""):
    """Return an attack that sends the same HTTP request repeatedly, without waiting for the answers."""
    lines = (head + f"\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n").encode()

    def attack(port, seconds, connections):
        return flood([connect(port) for _ in range(connections)], filled(lines + body), seconds)

    return attack


def refused_handshakes(port, seconds, connections):
    """Send handshakes that the server refuses, each on a new connection, in bursts."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for sock in [connect(port) for _ in range(connections)]:
            with sock:
                sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                count += sock.recv(1000).startswith(b"HTTP/1.1 400")
    return count


def reconnecting(port, seconds, connections):
    """Open WebSockets, and close them at once."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for sock in [open_websocket(port) for _ in range(connections)]:
            sock.close()
            count += 1
    return count


def streams(head, until, body=b""):
    """Return an attack that opens endless responses, and closes each of them at once, 200 at the same time."""
    lines = (head + f"\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n").encode()

    def attack(port, seconds, connections):
        return reopen(port, lines + body, until, seconds, 10 * connections)

    return attack


def streams_with_history(port, seconds, connections):
    """Open event streams that miss 100 publications, and close each of them at once."""
    with RawPeer(port) as peer:
        response = peer.request("/api/history", f"X-API-Key: {KEY}", method="POST", body=b'{"channel":"short"}')
    position = f"{json.loads(response.body)['result']['epoch']}:0"
    attack = streams(f"GET /sse?channel=short HTTP/1.1\r\nLast-Event-ID: {position}", b": listening")
    return attack(port, seconds, connections)


SUBSCRIBED = ({"connect": {}}, {"subscribe": {"channel": "h"}})
HISTORY = {"history": {"channel": "h", "limit": 100}}
PRESENCE = {"presence": {"channel": "h"}}
PUBLISH = b'{"channel":"c","data":"x"}'

ATTACKS = {
    "frames of 1 byte": frames(masked(TEXT, b"x")),
    "empty frames": frames(masked(TEXT)),
    "frames of 64 KiB": frames(masked(BINARY, bytes(65536))),
    "pings": frames(masked(PING, b"x" * 125)),
    "empty pings": frames(masked(PING)),
    "pongs": frames(masked(PONG)),
    "fragments of 1 byte": frames(masked(CONTINUATION, b"x", fin=False), first=masked(TEXT, b"x", fin=False)),
    "empty fragments": frames(masked(CONTINUATION, fin=False), first=masked(TEXT, fin=False)),
    "messages of two fragments": frames(masked(TEXT, b"a", fin=False) + masked(CONTINUATION, b"b")),
    "whoami": frames(masked(TEXT, b"whoami"), path="/ws"),
    "time": frames(masked(TEXT, b"time"), path="/ws"),
    "long echoes as commands": frames(masked(TEXT, b"x" * 60_000), path="/ws"),
    "refused handshakes": refused_handshakes,
    "reconnecting": reconnecting,
    "reconnecting event streams": streams("GET /sse?channel=c HTTP/1.1", b": listening"),
    "reconnecting event streams with history": streams_with_history,
    "reconnecting subscribers": streams(
        "GET /ws?channel=c HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlIGtleQ==",
        b" 101 ",
    ),
    "Centrifuge: reconnecting streams": streams(
        "POST /connection/http_stream HTTP/1.1", b'"connect"', b'{"id":1,"connect":{}}'
    ),
    "Centrifuge: ping": commands({"ping": {}}),
    "Centrifuge: rpc": commands({"rpc": {"method": "x"}}),
    "Centrifuge: rpc in batches": commands({"rpc": {"method": "x"}}, count=1000),
    "Centrifuge: subscribe and unsubscribe": commands(
        {"subscribe": {"channel": "c"}}, {"unsubscribe": {"channel": "c"}}, count=2
    ),
    "Centrifuge: subscribe and unsubscribe in batches": commands(
        {"subscribe": {"channel": "c"}}, {"unsubscribe": {"channel": "c"}}, count=800
    ),
    "Centrifuge: history": commands(HISTORY, first=SUBSCRIBED),
    "Centrifuge: history in batches": commands(HISTORY, first=SUBSCRIBED, count=900),
    "Centrifuge: presence": commands(PRESENCE, first=SUBSCRIBED),
    "Centrifuge: presence in batches": commands(PRESENCE, first=SUBSCRIBED, count=1000),
    "Centrifuge: refused commands in batches": commands({"publish": {"channel": "x y", "data": 1}}, count=1000),
    "GET /": requests("GET / HTTP/1.1"),
    "GET /ready": requests("GET /ready HTTP/1.1"),
    "GET of a missing page": requests("GET /nothing HTTP/1.1"),
    "API info": requests(f"POST /api/info HTTP/1.1\r\nX-API-Key: {KEY}", b"{}"),
    "API with a wrong key": requests("POST /api/info HTTP/1.1\r\nX-API-Key: wrong", b"{}"),
    "API publish": requests(f"POST /api/publish HTTP/1.1\r\nX-API-Key: {KEY}", PUBLISH),
    "API history": requests(f"POST /api/history HTTP/1.1\r\nX-API-Key: {KEY}", b'{"channel":"h","limit":100}'),
}

QUICK = (
    "empty frames",
    "pings",
    "empty fragments",
    "whoami",
    "refused handshakes",
    "reconnecting event streams with history",
    "Centrifuge: rpc",
    "Centrifuge: history in batches",
    "GET /",
    "API with a wrong key",
)


def fill(server):
    """Publish 100 texts of 8 kB to the channel `h`, and 100 of 500 bytes to the channel `short`."""
    publish = [{"publish": {"channel": name, "data": "x" * size}} for name, size in (("h", 8000), ("short", 500))]
    body = json.dumps({"commands": publish * 5}).encode()
    with server.connect() as peer:
        for _ in range(20):
            assert peer.request("/api/batch", f"X-API-Key: {KEY}", method="POST", body=body).status == 200


@pytest.fixture(scope="module")
def filled_server(start_module_server):
    """Start a server with history and presence, which all attacks share."""
    server = start_module_server(*OPTIONS)
    fill(server)
    return server


@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in ATTACKS]
)
def test_other_clients_lose_nothing_during(filled_server, figures, full, attack):
    """Good clients lose nothing, and nothing stalls, whatever 20 clients flood the server with."""
    seconds = 3 if full else 1
    measured = withstand(filled_server, figures, ATTACKS[attack], seconds, CONNECTIONS, connections=CONNECTIONS)
    if isinstance(measured.result, int):
        assert measured.result > 0
    else:
        assert measured.result.sent > 0


def subscribe_to_fresh_channels(port, seconds, rate):
    """Open connections at a steady rate; each subscribes to 128 channels that have no other subscriber."""
    sockets, begin = [], time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        number = len(sockets)
        channels = [f"fresh-{number}-{index}" for index in range(128)]
        lines = [json.dumps({"id": 1, "connect": {}})]
        lines += [json.dumps({"id": 2 + index, "subscribe": {"channel": name}}) for index, name in enumerate(channels)]
        sockets.append(open_websocket(port, CENTRIFUGE))
        sockets[-1].sendall(masked(TEXT, "\n".join(lines).encode()))
        time.sleep(max(0.0, (number + 1) / rate - elapsed))
    return len(sockets)


def test_other_clients_lose_nothing_during_subscriptions_to_fresh_channels_with_redis(
    start_server, redis, figures, full
):
    """Redis must confirm each channel, and all of them end at the same time when the process of the clients exits."""
    server = start_server("--redis", redis.url, "--channel-allow", "*", *OPTIONS[2:])
    server.wait_for(lambda: server.get("/ready").status == 200, "ready")
    measured = withstand(server, figures, subscribe_to_fresh_channels, 3 if full else 1, 45)
    assert measured.result >= 40
