"""
A server with a converted configuration asks the backend what Centrifugo 6.9.1 asks it, and nothing else.

The expected requests and answers are those of Centrifugo with the same configuration.
"""

import json

import pytest
from centrifuge_client import PATH
from peers import TEXT
from pytest_twisted import blockon
from tokens import token
from twisted.internet.threads import deferToThread

from wsserver.cli.centrifugo.options import convert

SECRET = "old secret"
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
NAMESPACES = [
    {"name": "both", "subscribe_proxy_enabled": True, "publish_proxy_enabled": True, **OPEN}
    | {"allow_user_limited_channels": True},
    {"name": "subs", "subscribe_proxy_enabled": True, "allow_publish_for_subscriber": True},
    {"name": "pubs", "publish_proxy_enabled": True, "allow_subscribe_for_client": True},
    {"name": "free", **OPEN},
    {"name": "closed"},
]
DENIED, BY_BACKEND = 103, 1403


@pytest.fixture
def server(start_server, backend):
    """Start a server with a configuration of Centrifugo that has proxies, and that has been converted."""
    proxies = {event: {"endpoint": backend.url(f"/{event}")} for event in ("connect", "subscribe", "publish", "rpc")}
    found = convert(
        {
            "http_server": {"address": "127.0.0.1"},
            "client": {
                "token": {"hmac_secret_key": SECRET},
                "proxy": {"connect": {"enabled": True, **proxies["connect"]}},
            },
            "channel": {
                "proxy": {event: proxies[event] for event in ("subscribe", "publish")},
                "without_namespace": {"allow_subscribe_for_client": True},
                "namespaces": NAMESPACES,
            },
            "rpc": {"proxy": proxies["rpc"], "without_namespace": {"proxy_enabled": True}},
        }
    )
    assert found.notes == []

    def answer(path, body):
        if "no" in body.get("channel", ""):
            return {"error": {"code": BY_BACKEND, "message": "no"}}
        return {"result": {"user": "hooked"} if path == "/connect" else {"data": 1} if path == "/rpc" else {}}

    backend.answer = answer
    options = found.options | {"port": 0, "channel": tuple(found.tables)}
    return blockon(deferToThread(lambda: start_server(**options)))


def converse(server, user, channel):
    """Publish, subscribe, publish again and make a call; return the code of each error, or 0."""
    commands = [
        {"connect": {"token": token({"sub": user}, key=SECRET)} if user else {}},
        {"publish": {"channel": channel, "data": 1}},
        {"subscribe": {"channel": channel}},
        {"publish": {"channel": channel, "data": 2}},
        {"rpc": {"method": "m", "data": 5}},
    ]
    with server.open(PATH) as peer:
        codes = []
        for number, command in enumerate(commands, 1):
            peer.send_frame(TEXT, json.dumps({"id": number, **command}).encode())
            replies = []
            while not replies:
                lines = map(json.loads, peer.read_frame().payload.decode().split("\n"))
                replies = [line for line in lines if line.get("id") == number]
            codes.append(replies[0].get("error", {}).get("code", 0))
        return codes[1:]


@pytest.mark.parametrize(
    ("channel", "user", "codes", "asked"),
    [
        ("both:x", "42", [0, 0, 0, 0], ["publish", "subscribe", "publish"]),
        ("both:no", "42", [BY_BACKEND] * 3 + [0], ["publish", "subscribe", "publish"]),
        ("both:#42", "42", [0, 0, 0, 0], ["publish", "publish"]),
        ("both:#7", "42", [0, DENIED, 0, 0], ["publish", "publish"]),
        ("$both:x", "42", [0, DENIED, 0, 0], ["publish", "publish"]),
        ("both:x", "", [0, 0, 0, 0], ["connect", "publish", "subscribe", "publish"]),
        ("both:#hooked", "", [0, 0, 0, 0], ["connect", "publish", "publish"]),
        ("subs:x", "42", [DENIED, 0, 0, 0], ["subscribe"]),
        ("subs:no", "42", [DENIED, BY_BACKEND, DENIED, 0], ["subscribe"]),
        ("pubs:x", "42", [0, 0, 0, 0], ["publish", "publish"]),
        ("pubs:no", "42", [BY_BACKEND, 0, BY_BACKEND, 0], ["publish", "publish"]),
        ("free:no", "42", [0, 0, 0, 0], []),
        ("$free:x", "42", [0, DENIED, 0, 0], []),
        ("closed:x", "42", [DENIED] * 3 + [0], []),
        ("x", "42", [DENIED, 0, DENIED, 0], []),
        ("$x", "42", [DENIED] * 3 + [0], []),
    ],
)
def test_asks_about_the_channels_of_the_namespaces_with_a_proxy(server, backend, channel, user, codes, asked):
    assert converse(server, user, channel) == codes
    assert [path.strip("/") for path, _, _ in backend.requests] == [*asked, "rpc"]
