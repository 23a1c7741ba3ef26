"""
Tests for wsserver/listening/reload.py: a running server changes its options.

For each option that can be reloaded, a server that was started with one value and reloaded with another one serves new
clients as a server that was started with the other value.
"""

import json
import time

import pytest
from tokens import OTHER_RSA, RSA, pem
from tokens import signed as sign
from twisted.internet.address import IPv4Address

from wsserver.config.settings import TABLE, Settings
from wsserver.errors import ListenError, SettingError
from wsserver.hub.names import parse_name
from wsserver.testing import MemoryServer

A = parse_name("a")
SECRET, OTHER = "s" * 32, "t" * 32
OPEN = {"channel_allow": ("*",), "history_size": 0}


def signed(claims, key, algorithm="HS256"):
    return sign(key, algorithm, claims)


def claims(**more):
    return {"sub": "42", "exp": int(time.time()) + 600, **more}


def status(server, target="/echo", **headers):
    """Return the status of an opening handshake."""
    client = server.connect()
    found = client.open(target, {name.replace("_", "-"): value for name, value in headers.items()})
    return int(found.split()[1])


def head(server, target="/echo", **headers):
    return server.connect().open(target, {name.replace("_", "-"): value for name, value in headers.items()})


def with_token(text):
    return lambda server: status(server, f"/ws?channel=a&token={text}")


def call(server, path="/api/info", key="k1", body=b"{}", **headers):
    """Return the status of a call of the HTTP API."""
    client = server.connect()
    fields = {"Host": "localhost", "X-API-Key": key, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    client.send(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return bytes(client.transport.written)


def expired(server):
    """Return the status for a token that has expired ten seconds ago."""
    return with_token(signed(claims(exp=int(time.time()) - 10), SECRET))(server)


def called(**options):
    return lambda server: int(call(server, **options).split()[1])


def opened(server, target="/echo", **headers):
    client = server.connect()
    client.open(target, {name.replace("_", "-"): value for name, value in headers.items()})
    client.transport.written.clear()
    return client


def after(seconds, target="/echo", act=lambda client: None):
    """Return what the server has written to a client after some seconds, and whether it has dropped the connection."""

    def observe(server):
        client = opened(server, target)
        act(client)
        server.clock.pump([0.1] * int(seconds * 10))
        return bytes(client.transport.written), client.transport.lost

    return observe


def echo(target, text):
    def observe(server):
        client = opened(server, target)
        client.send_text(text)
        return bytes(client.transport.written)

    return observe


def twenty(target, text):
    """Return what the server has written to a client that sends a text 20 times."""

    def observe(server):
        client = opened(server, target)
        for _ in range(20):
            client.send_text(text)
        return bytes(client.transport.written)

    return observe


def slow(server):
    """Return whether a client that does not read is closed when 10 KiB are published."""
    client = opened(server, "/ws?channel=a")
    client.transport.protocol.pauseProducing()
    for _ in range(10):
        server.service.hub.publish("a", b"x" * 1024)
        server.clock.advance(0)
    return client.close_frame() is not None


def published(server):
    client = opened(server, "/ws?channel=a")
    server.service.hub.publish("a", b"x")
    server.clock.advance(0)
    return client.messages()


def history(server):
    for _ in range(3):
        server.service.hub.publish("a", b"x")
    return call(server, "/api/history", body=b'{"channel":"a","limit":9}').count(b'"data"')


def silent(server):
    client = server.connect()
    client.send(b"GET / HT")
    server.clock.pump([0.1] * 15)
    return client.response()[:12]


def idle(server):
    client = server.connect()
    client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    server.clock.pump([0.1] * 20)
    return client.transport.lost


def forwarded(server):
    """Return whether `whoami` shows the address of a client behind a proxy."""
    client = server.connect()
    client.open("/", {"X-Forwarded-For": "192.0.2.1"})
    client.send_text("whoami")
    server.clock.advance(0)
    return '"address": "192.0.2.1' in str(client.messages())


def fragments(server):
    client = opened(server)
    for opcode, fin in ((1, False), (0, False), (0, True)):
        client.send_frame(opcode, b"x", fin=fin)
    return client.close_frame()


def stopped(server):
    client = opened(server)
    server.service.stopService()
    return client.close_frame()


def closed_at_once(server):
    clients = [opened(server) for _ in range(60)]
    server.service.stopService()
    server.clock.pump([0.001] * 3)
    return sum(client.close_frame() is not None for client in clients)


def dropped(server):
    client = opened(server)
    server.service.stopService()
    server.clock.pump([0.1] * 20)
    return client.transport.lost


def rule(name):
    return lambda server: getattr(server.service.hub.rules.for_channel(A), name)


def hooks(server):
    return {event: queue._shown for event, queue in server.service.hooks.queues.items()}


def connected(server, text):
    client = opened(server, "/connection/websocket")
    client.send_text(json.dumps({"id": 1, "connect": {"token": text}}))
    server.clock.advance(0)
    return client.messages()


def personal(server):
    (reply,) = connected(server, signed(claims(), SECRET))
    return list(json.loads(reply)["connect"].get("subs", {}))


def insecure(server):
    return len(connected(server, ""))


def raw_message(server):
    client = opened(server, "/ws?channel=a")
    client.send_text("hello")
    return client.close_frame()


def preflight(server):
    client = server.connect()
    client.send(
        b"OPTIONS /api/publish HTTP/1.1\r\nHost: push\r\nOrigin: https://app.example\r\n"
        b"Access-Control-Request-Method: POST\r\n\r\n"
    )
    return client.response()[:12]


DEFLATE = {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"}
PAGE = {"Origin": "https://app.example", "Host": "push.example"}


def echo_compressed(server):
    client = opened(server, **DEFLATE)
    client.send_text("x" * 200)
    return len(client.transport.written) < 100


def taps(server):
    """Return the status of a request for the tap of each of two connections."""
    secrets = ("a" * 32, "b" * 32)
    for secret in secrets:
        opened(server, f"/echo?tap={secret}")
    clients = [server.connect() for _ in secrets]
    for client, secret in zip(clients, secrets, strict=True):
        client.send(f"GET /tap/{secret} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        server.clock.advance(0)
    return [bytes(client.transport.written[:12]) for client in clients]


HOOK, OTHER_HOOK = "http://127.0.0.1:3000/a", "http://127.0.0.1:3000/b"
TOKENS = {"token_secret": SECRET, **OPEN}

CASES = {
    "origin": ({"origin": ("https://app.example",)}, lambda server: status(server, **PAGE)),
    "allow_any_origin_insecure": ({"allow_any_origin_insecure": True}, lambda server: status(server, **PAGE)),
    "max_message_size": ({"max_message_size": 10}, echo("/echo", "x" * 20)),
    "max_connections": ({"max_connections": 1}, lambda server: [head(server)[:12] for _ in range(2)]),
    "max_connections_per_address": (
        {"max_connections_per_address": 1, "trusted_proxy": ("127.0.0.1",)},
        lambda server: [head(server, X_Forwarded_For="192.0.2.1")[:12] for _ in range(2)],
    ),
    "max_connections_per_user": (
        TOKENS,
        {"max_connections_per_user": 1},
        lambda server: [with_token(signed(claims(), SECRET))(server) for _ in range(2)],
    ),
    "handshake_rate_per_address": (
        {"trusted_proxy": ("127.0.0.1",)},
        {"handshake_rate_per_address": 1},
        lambda server: [head(server, X_Forwarded_For="192.0.2.1")[:12] for _ in range(20)],
    ),
    "trusted_proxy": ({"trusted_proxy": ("127.0.0.1",)}, forwarded),
    "trusted_proxy_header": (
        {"trusted_proxy": ("127.0.0.1",)},
        {"trusted_proxy_header": "forwarded"},
        forwarded,
    ),
    "max_request_head": ({"max_request_head": 1024}, lambda server: head(server, X_Long="x" * 2000)[:12]),
    "max_request_body": (
        {"api_key": "k1"},
        {"max_request_body": 1024},
        lambda server: call(server, body=b" " * 2000)[:12],
    ),
    "max_fragments": ({"max_fragments": 1}, fragments),
    "message_timeout": ({"message_timeout": 1.0}, after(2, "/echo", lambda client: client.send(b"\x01\x81abcdx"))),
    "message_rate": ({"message_rate": 2}, twenty("/echo", "x")),
    "byte_rate": ({"byte_rate": 10}, twenty("/echo", "x")),
    "rate_action": ({"message_rate": 2}, {"rate_action": "close"}, twenty("/echo", "x")),
    "command_rate": ({"command_rate": 2}, twenty("/ws", "hello")),
    "open_timeout": ({"open_timeout": 1.0}, silent),
    "close_timeout": ({"close_timeout": 0.5}, after(1, "/", lambda client: client.send_text("bye"))),
    "ping_interval": ({"ping_interval": 1.0}, lambda server: after(2)(server)[0] != b""),
    "ping_timeout": ({"ping_interval": 1.0}, {"ping_timeout": 1.0}, lambda server: after(3)(server)[1]),
    "keepalive_timeout": ({"keepalive_timeout": 1.0}, idle),
    "drain_code": ({"drain_code": 1001}, stopped),
    "drain_jitter": ({"drain_jitter": 0}, closed_at_once),
    "drain_timeout": ({"close_timeout": 300}, {"drain_timeout": 1.0}, dropped),
    "subprotocol": ({"subprotocol": ("chat",)}, lambda server: b"chat" in head(server, Sec_WebSocket_Protocol="chat")),
    "compression": ({"compression": "on"}, lambda server: b"deflate" in head(server, **DEFLATE)),
    "compression_context_takeover": (
        {"compression": "on"},
        {"compression_context_takeover": "on"},
        lambda server: b"server_no_context_takeover" in head(server, **DEFLATE),
    ),
    "compression_window_bits": (
        {"compression": "on"},
        {"compression_window_bits": 9},
        lambda server: b"max_window_bits=9" in head(server, **DEFLATE),
    ),
    "compression_min_size": (
        {"compression": "on"},
        {"compression_min_size": 1000},
        echo_compressed,
    ),
    "faults": ({"faults": True}, lambda server: status(server, "/faults/echo")),
    "fault_timeout": ({"faults": True}, {"fault_timeout": 1.0}, lambda server: after(3, "/faults/echo")(server)[1]),
    "max_fault_connections": (
        {"faults": True},
        {"max_fault_connections": 1},
        lambda server: [status(server, "/faults/echo") for _ in range(2)],
    ),
    "tap": ({"tap": "on"}, lambda server: b"WSServer-Tap-Secret" in head(server)),
    "max_taps": ({"tap": "on"}, {"max_taps": 1}, taps),
    "catch_all": ({"catch_all": "on"}, lambda server: status(server, "/unknown")),
    "reply_prefix": ({"reply_prefix": "> "}, echo("/", "hi there")),
    "timezone": ({"timezone": "Asia/Tokyo"}, lambda server: server.service.endpoints.find("/", {}).zone),
    "channel_allow": ({"channel_allow": ("a",)}, lambda server: status(server, "/ws?channel=a")),
    "channel_format": (OPEN, {"channel_format": "json"}, published),
    "max_queued_bytes": (OPEN, {"max_queued_bytes": "2KiB"}, slow),
    "slow": ({"max_queued_bytes": "2KiB", **OPEN}, {"slow": "drop-oldest"}, slow),
    "gap": (OPEN, {"gap": "close"}, lambda server: opened(server, "/ws?channel=a").transport.protocol.close_on_gap),
    "history_size": ({"api_key": "k1"}, {"history_size": 2}, history),
    "history_ttl": ({"history_ttl": 10}, rule("keep")),
    "channel_publish": ({"channel_publish": ("a",)}, rule("publish")),
    "channel_presence": ({"channel_presence": ("a",)}, rule("presence")),
    "personal_channel": (TOKENS, {"personal_channel": "user:#"}, personal),
    "api_key": ({"api_key": "k1"}, called()),
    "api_insecure": ({"api_insecure": True}, called(key="")),
    "api_origin": ({"api_key": "k1"}, {"api_origin": ("https://app.example",)}, preflight),
    "api_errors": ({"api_key": "k1"}, {"api_errors": "body"}, called(path="/api/publish")),
    **{
        f"hook_{event}": ({f"hook_{event}": HOOK}, {f"hook_{event}": OTHER_HOOK}, hooks)
        for event in ("connect", "subscribe", "publish", "rpc", "message", "disconnect")
    },
    "hook_timeout": (
        {"hook_rpc": HOOK},
        {"hook_timeout": 9},
        lambda server: server.service.hooks.queues["rpc"]._timeout,
    ),
    "hook_message_raw": ({"hook_message": HOOK, **OPEN}, {"hook_message_raw": True}, raw_message),
    "token_secret": (TOKENS, {"token_secret": OTHER}, with_token(signed(claims(), SECRET))),
    "token_secret_previous": (TOKENS, {"token_secret_previous": OTHER}, with_token(signed(claims(), OTHER))),
    "token_secret_weak": (TOKENS, {"token_secret_weak": True}, with_token(signed(claims(), SECRET, "HS512"))),
    "token_public_key": (
        {"token_public_key": pem(RSA), **OPEN},
        {"token_public_key": pem(OTHER_RSA)},
        with_token(signed(claims(), RSA, "RS256")),
    ),
    "token_jwks_url": (
        {"token_jwks_url": "https://a.example/keys"},
        {"token_jwks_url": "https://b.example/keys"},
        lambda server: server.service._jwks.url,
    ),
    "token_audience": (TOKENS, {"token_audience": "chat"}, with_token(signed(claims(aud="chat"), SECRET))),
    "token_issuer": (TOKENS, {"token_issuer": "me"}, with_token(signed(claims(iss="you"), SECRET))),
    "token_leeway": (TOKENS, {"token_leeway": 20}, expired),
    "token_no_expiry": (TOKENS, {"token_no_expiry": True}, with_token(signed({"sub": "42"}, SECRET))),
    "anonymous": (TOKENS, {"anonymous": True}, lambda server: status(server, "/ws?channel=a")),
    "insecure": (TOKENS, {"insecure": True}, insecure),
}
"""Option -> the options of both servers, those of the second one, and what is observed; the first may be omitted."""


def start(settings):
    return MemoryServer(Settings(**settings))


@pytest.mark.parametrize("name", CASES)
def test_a_reloaded_server_serves_new_clients_as_one_that_was_started_with_the_option(name):
    common, other, observe = CASES[name] if len(CASES[name]) == 3 else ({}, *CASES[name])
    expected = observe(start({**common, **other}))
    assert observe(start(common)) != expected
    server = start(common)
    assert server.service.reload(Settings(**{**common, **other})) == ()
    assert observe(server) == expected
    assert server.service.settings == Settings(**{**common, **other})


def test_every_option_that_can_be_reloaded_is_tested():
    """The TLS files are tested with real ones, below."""
    assert sorted(CASES) == sorted(n for n, option in TABLE.items() if option.reload and not n.startswith("tls_"))


class CertificateTests:
    """The files of `--tls-cert` and `--tls-key`."""

    def test_changes_to_another_certificate(self, authority, tmp_path):
        one, other = (authority.issue(tmp_path / name) for name in ("one", "other"))
        server = start({"tls_cert": str(one.fullchain), "tls_key": str(one.privkey)})
        creator = server.service._listeners[0].certificates.creator
        before = creator.context
        server.service.reload(Settings(tls_cert=str(other.fullchain), tls_key=str(other.privkey)))
        assert creator.context is not before

    def test_keeps_everything_if_the_file_is_missing(self, authority, tmp_path):
        own = authority.issue(tmp_path / "own")
        server = start({"tls_cert": str(own.fullchain), "tls_key": str(own.privkey), "reply_prefix": "1"})
        creator = server.service._listeners[0].certificates.creator
        before = creator.context
        with pytest.raises(SettingError, match="--tls-cert: cannot read"):
            server.service.reload(Settings(tls_cert=str(tmp_path / "no.pem"), reply_prefix="2"))
        assert creator.context is before
        assert server.service.settings.reply_prefix == "1"

    def test_reads_no_file_that_has_not_changed(self, authority, tmp_path):
        """A server that has started as root and continues as another user cannot read the private key again."""
        own = authority.issue(tmp_path / "own")
        tls = {"tls_cert": str(own.fullchain), "tls_key": str(own.privkey)}
        server = start(tls)
        creator = server.service._listeners[0].certificates.creator
        before = creator.context
        server.service.reload(Settings(**tls, reply_prefix="2"))
        assert creator.context is before
        assert server.service.settings.reply_prefix == "2"
        own.privkey.write_text("no key")
        with pytest.raises(SettingError, match="--tls-key"):
            server.service.reload(Settings(**tls, reply_prefix="3"))
        assert server.service.settings.reply_prefix == "2"

    def test_a_renewed_certificate_is_used_although_the_unchanged_one_of_another_listener_cannot_be_read(
        self, authority, tmp_path, monkeypatch
    ):
        one, other = authority.issue(tmp_path / "one"), authority.issue(tmp_path / "other")
        listen = tuple(f"ssl:0:privateKey={own.privkey}:certKey={own.fullchain}" for own in (one, other))
        server = start({"listen": listen})
        sources = server.service.certificates
        before = [source.creator.context for source in sources], sources[0].contents
        # The state of a file that this process may not look at; see test_renewal.py.
        known = sources[0].states
        one.privkey.unlink()
        monkeypatch.setattr(sources[0], "_find_states", lambda: known)
        renewed = authority.issue(tmp_path / "other")
        assert server.service.reload(Settings(listen=listen)) == ()
        assert sources[0].contents == before[1]
        assert sources[1].contents[str(other.privkey)] == renewed.privkey.read_bytes()
        assert sources[1].creator.context is not before[0][1]
        # Files that have changed are required.
        monkeypatch.undo()
        with pytest.raises(ListenError, match=r"one/privkey\.pem"):
            server.service.reload(Settings(listen=listen))

    def test_cannot_begin_to_serve_tls(self, authority, tmp_path):
        own = authority.issue(tmp_path / "own")
        server = start({})
        settings = Settings(tls_cert=str(own.fullchain), tls_key=str(own.privkey), reply_prefix="2")
        assert server.service.reload(settings) == ("--tls-cert", "--tls-key")
        assert server.service.settings == Settings(reply_prefix="2")


class OpenConnectionTests:
    """What a change means for connections that are open."""

    def test_a_permission_to_publish_is_withdrawn_at_once(self):
        server = start({"channel_publish": ("*",), **OPEN})
        client = self.subscribed(server)
        client.send_text('{"id":3,"publish":{"channel":"a","data":1}}')
        server.clock.advance(0)
        assert '"publish"' in "".join(client.messages())
        server.service.reload(Settings(**OPEN))
        client.send_text('{"id":4,"publish":{"channel":"a","data":1}}')
        server.clock.advance(0)
        assert '"code":103' in "".join(client.messages())

    def test_a_subscription_stays_although_the_channel_is_no_longer_allowed(self):
        server = start(OPEN)
        client = opened(server, "/ws?channel=a")
        server.service.reload(Settings(**{**OPEN, "channel_allow": ("b",)}))
        server.service.hub.publish("a", b"still")
        server.clock.advance(0)
        assert client.messages() == ["still"]
        assert status(server, "/ws?channel=a") == 403

    def test_clients_join_and_leave_a_channel_whose_presence_is_switched_on_and_off(self):
        server = start({"api_key": "k1", **OPEN})
        self.subscribed(server)
        presence = {"path": "/api/presence", "body": b'{"channel":"a"}'}
        for patterns, count in ((("a",), 1), ((), 0), (("a",), 1)):
            server.service.reload(Settings(api_key="k1", channel_presence=patterns, **OPEN))
            if patterns:
                assert call(server, **presence).count(b'"client"') == count
            else:
                clients = []
                server.service.hub.broker.members(A).addCallback(clients.append)
                assert clients == [{}]

    def test_an_api_key_is_withdrawn_from_kept_alive_connections(self):
        server = start({"api_key": "k1"})
        client = server.connect()
        request = b"POST /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: k1\r\nContent-Length: 2\r\n\r\n{}"
        client.send(request)
        assert client.response().startswith(b"HTTP/1.1 200 ")
        client.transport.written.clear()
        server.service.reload(Settings(api_key="k2"))
        client.send(request)
        assert client.response().startswith(b"HTTP/1.1 401 ")

    def test_limits_of_open_connections_stay(self):
        server = start({})
        client = opened(server)
        server.service.reload(Settings(max_message_size=10))
        client.send_text("x" * 20)
        assert client.messages() == ["x" * 20]

    def subscribed(self, server):
        client = server.connect(IPv4Address("TCP", "127.0.0.1", 50001))
        client.open("/connection/websocket")
        client.send_text('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}')
        server.clock.advance(0)
        assert '"subscribe"' in client.messages()[-1]
        return client


class RefusalTests:
    """A change that is not possible."""

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"hook_message_raw": True}, "--hook-message-raw: expected --hook-message to be set as well"),
            ({"token_public_key": "/no.pem"}, "token_public_key /no.pem: cannot be read"),
            ({"token_secret_previous": SECRET}, "--token-secret-previous: expected --token-secret to be set as well"),
        ],
    )
    def test_keeps_all_old_options_if_one_is_invalid(self, settings, problem):
        server = start({"reply_prefix": "1"})
        router = server.service.endpoints
        with pytest.raises(SettingError, match=problem):
            server.service.reload(Settings(reply_prefix="2", api_key="k1", **settings))
        assert server.service.endpoints is router
        assert server.service.settings == Settings(reply_prefix="1")
        assert called()(server) == called()(start({}))

    def test_names_the_options_that_need_a_restart_and_keeps_them(self):
        server = start({})
        found = server.service.reload(Settings(port=1234, log_format="json", reply_prefix="2"))
        assert found == ("--port", "--log-format")
        assert server.service.settings == Settings(reply_prefix="2")

    def test_a_hundred_reloads_leave_nothing_behind(self):
        server = start({"token_jwks_url": "https://a.example/keys", **OPEN})
        client, timers = opened(server, "/echo"), len(server.clock.getDelayedCalls())
        for number in range(100):
            server.service.reload(Settings(token_jwks_url="https://a.example/keys", reply_prefix=str(number), **OPEN))
        client.send_text("x")
        assert client.messages() == ["x"]
        assert len(server.clock.getDelayedCalls()) == timers
