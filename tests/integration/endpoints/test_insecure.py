"""Servers with the options for development and for old tokens: what they accept, and where they do not start."""

import json

import pytest
from centrifuge_client import PATH, ask
from http_api import api, ok
from peers import TEXT, handshake_request
from tokens import token
from twisted.logger import formatEvent, globalLogPublisher

from wsserver.errors import SettingError


@pytest.fixture
def log():
    """Collect the texts of log events."""
    lines = []

    def observe(event):
        lines.append((event["log_level"].name, formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def call(peer, method, **fields):
    """Send a command; return the fields of its reply."""
    return json.loads(ask(peer, method.encode(), json.dumps(fields).encode()))[method]


class InsecureTests:
    """`--insecure`: clients need no token, and may do everything."""

    def test_a_client_without_a_token_subscribes_publishes_and_reads_presence_and_history(self, start_server):
        options = {"token_secret": "s" * 32, "channel_allow": ("a",), "channel_presence": ("*",)}
        rules = (("*", {"publish": False}),)
        server = start_server(insecure=True, channel=rules, **options)
        with server.open(PATH) as peer:
            call(peer, "connect")
            # Without a subscription.
            assert call(peer, "publish", channel="b", data=1) == {}
            assert [one["data"] for one in call(peer, "history", channel="b", limit=9)["publications"]] == [1]
            assert call(peer, "presence", channel="b") == {"presence": {}}
            call(peer, "subscribe", channel="b")
            assert call(peer, "presence_stats", channel="b") == {"num_clients": 1, "num_users": 1}

    def test_a_raw_client_subscribes_to_every_channel(self, start_server):
        server = start_server(insecure=True, api_insecure=True, token_secret="s" * 32, channel_allow=("a",))
        with server.open("/ws?channel=b") as peer:
            ok(server, "publish", {"channel": "b", "data": "hello"})
            assert peer.read_frame().payload == b"hello"

    def test_a_host_that_is_not_loopback_is_refused(self, start_server):
        """A website can give its own host name the address 127.0.0.1."""
        server = start_server(insecure=True)
        with server.connect() as peer:
            assert peer.request("/sse?channel=b", host="evil.example").status == 403

    def test_a_client_behind_a_proxy_is_refused(self, start_server):
        server = start_server(insecure=True)
        with server.connect() as peer:
            found = peer.request("/sse?channel=b", "X-Forwarded-For: 203.0.113.7", host="localhost")
            assert found.status == 403

    @pytest.mark.parametrize(
        ("header", "host"),
        [("Origin: http://evil.example", "evil.example"), ("X-Forwarded-For: 203.0.113.7", "localhost")],
        ids=["another host", "behind a proxy"],
    )
    def test_a_centrifuge_client_connects_only_to_a_loopback_host(self, start_server, header, host):
        """Publishing and reading history need no subscription, so the connection itself is refused."""
        server = start_server(insecure=True)
        with server.connect() as peer:
            peer.send(handshake_request(PATH, header, replace={"Host": host}))
            assert peer.read_response().status == 101
            peer.send_frame(TEXT, b'{"id": 1, "connect": {}}\n{"id": 2, "publish": {"channel": "b", "data": 1}}')
            payload = peer.read_close().payload
        assert payload[:2] == (3501).to_bytes(2)
        assert b"connect to localhost" in payload
        with server.open(PATH) as peer:
            call(peer, "connect")
            assert call(peer, "history", channel="b", limit=9)["publications"] == []


class InsecureAPITests:
    """`--api-insecure`: the HTTP API accepts calls without a key."""

    def test_calls_need_no_key_and_a_wrong_one_is_ignored(self, start_server):
        server = start_server(api_insecure=True)
        assert api(server, "info", {}, key="")[0] == 200
        assert api(server, "info", {}, key="wrong")[0] == 200
        with server.open("/ws?channel=a") as peer:
            ok(server, "publish", {"channel": "a", "data": "hello"})
            assert peer.read_frame().payload == b"hello"

    def test_calls_from_pages_of_other_origins_are_not_executed(self, start_server):
        """A page may send a POST as text without asking first."""
        server = start_server(api_insecure=True, api_origin=("https://app.example",))
        with server.open("/ws?channel=a") as peer:
            body = {"channel": "a", "data": "hello"}
            with server.connect() as page:
                found = page.request(
                    "/api/publish", "Origin: https://evil.example", method="POST", body=json.dumps(body).encode()
                )
                assert found.status == 403
            assert api(server, "publish", body | {"data": "allowed"}, "Origin: https://app.example")[0] == 200
            assert peer.read_frame().payload == b"allowed"

    def test_calls_for_a_host_that_is_not_loopback_are_refused(self, start_server):
        server = start_server(api_insecure=True)
        with server.connect() as page:
            found = page.request(
                "/api/info", "Origin: http://evil.example", host="evil.example", method="POST", body=b"{}"
            )
            assert found.status == 403
            assert b"connect to localhost" in found.body

    def test_calls_through_a_proxy_are_refused(self, start_server):
        server = start_server(api_insecure=True)
        with server.connect() as peer:
            found = peer.request(
                "/api/info", "X-Forwarded-For: 203.0.113.7", host="localhost", method="POST", body=b"{}"
            )
            assert found.status == 403
            assert b"through a proxy" in found.body


class ExposureTests:
    """The options for development are refused on a server that other machines can reach."""

    @pytest.mark.parametrize("name", ["insecure", "api_insecure"])
    @pytest.mark.parametrize(
        "where",
        [
            {"interface": "0.0.0.0"},
            {"listen": ("tcp:0:interface=127.0.0.1", "tcp:0:interface=0.0.0.0")},
            {"listen": ("haproxy:tcp:0:interface=127.0.0.1",)},
            {"trusted_proxy": ("127.0.0.1",)},
        ],
        ids=["all addresses", "one of two listeners", "PROXY protocol", "trusted proxy"],
    )
    def test_the_server_does_not_start_beyond_loopback(self, start_server, name, where):
        with pytest.raises(SettingError, match="expected every listener to be a loopback address"):
            start_server(**{name: True}, **where)

    def test_a_unix_socket_does_not_count_as_loopback(self, start_server, tmp_path):
        with pytest.raises(SettingError, match="a UNIX socket"):
            start_server(insecure=True, listen=(f"unix:{tmp_path}/socket",))


class OldTokenTests:
    """`--token-no-expiry` and `--token-secret-weak`."""

    def test_a_token_without_exp_and_with_a_short_secret_connects_and_does_not_expire(self, start_server):
        server = start_server(token_secret="old", token_secret_weak=True, token_no_expiry=True)
        with server.open(PATH) as peer:
            found = call(peer, "connect", token=token({"sub": "42"}, key="old"))
            assert "expires" not in found
            text = token({"sub": "42", "channel": "news"}, key="old")
            assert "expires" not in call(peer, "subscribe", channel="news", token=text)

    def test_each_insecure_option_is_a_warning_at_startup(self, start_server, log):
        start_server(token_secret="old", token_secret_weak=True, token_no_expiry=True, api_insecure=True, insecure=True)
        warnings = [text for level, text in log if level == "warn"]
        assert len(warnings) == 4
        for flag in ("--insecure", "--api-insecure", "--token-no-expiry", "--token-secret-weak"):
            assert [text for text in warnings if text.endswith(f"({flag})")]
