"""Tokens over real sockets: which clients are admitted, for how long, and what the log shows of tokens."""

import base64
import hmac
import io
import json
import os
import subprocess
import sys
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from events import Events
from http_api import KEY, api, ready, up
from peers import connect_autobahn, handshake_request
from pytest_twisted import blockon
from twisted.internet import defer, reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from waiting import wait_until

from wsserver import logging
from wsserver.auth import jwks
from wsserver.auth.verifier import WallClockTimer
from wsserver.endpoints import authorization

SECRET = "a secret that is long enough to sign tokens with, for tests only"


def token(key=SECRET, algorithm="HS256", ttl=600, kid=None, **claims):
    """Issue a token as a backend would."""
    headers = {"kid": kid} if kid else None
    return jwt.encode({"sub": "42", "exp": int(time.time()) + ttl} | claims, key, algorithm, headers=headers)


@pytest.fixture
def server(start_server):
    """Start a server that requires tokens; any valid token opens the channel `open`."""
    options = {"token_secret": SECRET, "channel_allow": ("open",), "api_key": KEY}
    return blockon(deferToThread(lambda: start_server(**options)))


@pytest.fixture
def logged():
    """Return a function that returns the log of this test so far, once as text and once as JSON."""
    text, json_lines = io.StringIO(), io.StringIO()

    def observe(event):
        text.write(logging.format_text(event) or "")
        json_lines.write(logging.format_json(event) or "")

    globalLogPublisher.addObserver(observe)
    yield lambda: text.getvalue() + json_lines.getvalue()
    globalLogPublisher.removeObserver(observe)


def carriers(text):
    """Return the ways to send a token: name -> (text to append to the query, header lines)."""
    return {
        "header": ("", [f"Authorization: Bearer {text}"]),
        "protocol": ("", [f"Sec-WebSocket-Protocol: wsserver.v1, bearer.{text}"]),
        "query": (f"&token={text}", []),
    }


def websocket(server, text, way="header", channel="news"):
    """Request a channel over WebSocket; return the response."""
    query, lines = carriers(text)[way] if text is not None else ("", [])
    with server.connect() as peer:
        peer.send(handshake_request(f"/ws?channel={channel}{query}", *lines))
        return peer.read_response()


def events(server, text, way="header", channel="news"):
    """Request a channel as Server-Sent Events; return the status, and the response if it is a refusal."""
    query, lines = carriers(text)[way] if text is not None else ("", [])
    with server.connect() as peer:
        head = [f"GET /sse?channel={channel}{query} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
        peer.send("\r\n".join(head).encode())
        wait_until(lambda: b"\r\n\r\n" in peer.buffer or not peer._receive(), "a response")
        if peer.buffer.startswith(b"HTTP/1.1 200"):
            return 200, None
        response = peer.read_response()
        return response.status, response


class CarrierTests:
    """The ways in which a client can send a token."""

    @pytest.mark.parametrize("way", ["header", "protocol", "query"])
    def test_a_token_in_header_subprotocol_or_query_opens_its_channel(self, server, way):
        """The bearer subprotocol is never the one that the server selects."""
        query, lines = carriers(token(channels=["news"]))[way]
        with server.connect() as peer:
            response = peer.handshake(f"/ws?channel=news{query}", *lines)
            assert response.header("sec-websocket-protocol") == ("wsserver.v1" if way == "protocol" else None)
            assert api(server, "publish", {"channel": "news", "data": "hello"})[1]["result"]["delivered"] == 1
            assert peer.read_frame().payload == b"hello"

    @pytest.mark.parametrize("way", ["header", "query"])
    def test_a_token_in_header_or_query_opens_an_event_stream(self, server, way):
        query, lines = carriers(token(channels=["news"]))[way]
        with server.connect() as peer:
            stream = Events(peer, f"/sse?channel=news{query}", *lines)
            api(server, "publish", {"channel": "news", "data": "hello"})
            assert stream.read() == ("message", b"hello")

    def test_a_client_that_requires_an_offered_subprotocol_connects(self, server):
        """The server selects `wsserver.v1`, which the client offers in addition to its token."""
        peer = connect_autobahn(f"{server.url}/ws?channel=open", ["wsserver.v1", f"bearer.{token()}"])
        api(server, "publish", {"channel": "open", "data": "hello"})
        assert peer.receive() == "hello"
        peer.close()

    def test_two_different_tokens_are_400_and_the_same_token_twice_is_accepted(self, server):
        one, two = token(), token(sub="1")
        with server.connect() as peer:
            peer.send(handshake_request(f"/ws?channel=open&token={one}", f"Authorization: Bearer {two}"))
            assert peer.read_response().status == 400
        with server.open(f"/ws?channel=open&token={one}", f"Authorization: Bearer {one}"):
            pass

    def test_a_token_in_a_cookie_is_ignored_and_gets_401(self, server):
        """A browser sends cookies with the requests of foreign pages too."""
        with server.connect() as peer:
            peer.send(handshake_request("/ws?channel=open", f"Cookie: token={token()}"))
            assert peer.read_response().status == 401


ROWS = [
    (None, "open", 401),
    (None, "news", 401),
    ({}, "open", 200),
    ({}, "news", 403),
    ({"channels": ["news"]}, "news", 200),
    ({"channels": ["other"]}, "news", 403),
    ({"subs": {"news": {"info": 1}}}, "news", 200),
    ({"caps": [{"channels": ["n*"], "match": "wildcard", "allow": ["sub"]}]}, "news", 200),
    ({"channel": "news"}, "news", 200),
    ({"channel": "news"}, "other", 403),
    ({"ttl": -60}, "open", 401),
    ({"key": "x" * 64}, "open", 401),
    ({"aud": "other"}, "open", 401),
]


class RefusalTests:
    """The clients that are refused, and their statuses."""

    @pytest.mark.parametrize(("claims", "channel", "status"), ROWS)
    @pytest.mark.parametrize("ask", [websocket, events])
    def test_an_invalid_token_is_401_and_a_channel_it_does_not_open_403(self, server, ask, claims, channel, status):
        """The body of either response mentions the token; a 401 also has a WWW-Authenticate header."""
        found = ask(server, None if claims is None else token(**claims), channel=channel)
        response = found if ask is websocket else found[1]
        if status == 200:
            assert (response.status if ask is websocket else found[0]) == (101 if ask is websocket else 200)
            return
        assert response.status == status
        assert (response.header("www-authenticate") or "").startswith("Bearer") is (status == 401)
        assert "token" in response.text

    def test_with_anonymous_no_token_is_needed_but_an_expired_one_is_401(self, start_server):
        server = start_server(token_secret=SECRET, channel_allow=("open",), anonymous=True)
        assert websocket(server, None, channel="open").status == 101
        assert websocket(server, None, channel="news").status == 403
        assert websocket(server, token(channels=["news"])).status == 101
        assert websocket(server, token(ttl=-60), channel="open").status == 401

    def test_without_token_keys_channel_allow_alone_decides_and_headers_are_ignored(self, start_server):
        """A token in the query gets 400, as an unknown parameter does."""
        server = start_server(channel_allow=("open",))
        assert websocket(server, None, channel="open").status == 101
        assert websocket(server, token(), channel="open").status == 101
        assert websocket(server, token(channels=["news"])).status == 403
        assert websocket(server, token(), "query", channel="open").status == 400

    def test_echo_and_commands_need_no_token(self, server):
        assert server.serves_the_next()
        with server.open("/ws") as peer:
            assert peer.echoes()

    def test_tokens_of_the_current_and_the_previous_secret_are_accepted(self, start_server):
        server = start_server(token_secret="n" * 64, token_secret_previous=SECRET, channel_allow=("*",))
        assert [websocket(server, token(key)).status for key in ("n" * 64, SECRET, "o" * 64)] == [101, 101, 401]


class OneTimeTokenTests:
    """Tokens with the claim `once`."""

    def test_the_second_use_is_401_over_websocket_and_for_an_event_stream(self, server):
        text = token(once=True, jti="1", channels=["news"])
        assert websocket(server, text, "query").status == 101
        response = websocket(server, text)
        assert (response.status, "already been used" in response.text) == (401, True)
        assert events(server, text)[0] == 401

    def test_the_second_use_at_another_server_is_401_and_503_without_redis(self, start_server, redis):
        """Redis keeps the token's id a little longer than the token is valid."""
        options = {"redis": redis.url, "token_secret": SECRET, "channel_allow": ("*",)}
        one, two = (up(start_server(**options)) for _ in range(2))
        text = token(once=True, jti="1")
        assert [websocket(server, text).status for server in (one, two, one)] == [101, 401, 401]
        assert websocket(two, token(once=True, jti="2")).status == 101
        key = next(part for part in redis.run("KEYS", "wsserver:used:*").split() if part.startswith(b"wsserver:"))
        assert 600_000 < int(redis.run("PTTL", key.decode())[1:]) < 700_000
        redis.kill()
        wait_until(lambda: ready(one) == 503, "not ready")
        assert websocket(one, token(once=True, jti="3")).status == 503


class ExpiryTests:
    """A connection outlives its token by no more than the grace period."""

    @pytest.fixture(autouse=True)
    def grace(self, monkeypatch):
        """Shorten the grace period."""
        monkeypatch.setattr(authorization, "GRACE", 0.5)

    def test_a_websocket_is_closed_with_4001_when_its_token_expires(self, server):
        with server.open(f"/ws?channel=open&token={token(ttl=1)}") as peer:
            closing = peer.read_close()
            assert (closing.close_code, closing.close_reason) == (4001, "token expired")

    def test_an_event_stream_ends_and_is_unsubscribed_when_its_token_expires(self, server):
        """The server refuses the client's next request."""
        with server.connect() as peer:
            Events(peer, f"/sse?channel=open&token={token(ttl=1)}")
            peer.read_to_end()
        assert server.ask(lambda: server.service.hub.count("open")) == 0

    def test_expire_at_0_keeps_the_connection_open_after_exp(self, server):
        with server.open(f"/ws?channel=open&token={token(ttl=0, expire_at=0)}") as peer:
            time.sleep(1.0)
            api(server, "publish", {"channel": "open", "data": "hello"})
            assert peer.read_frame().payload == b"hello"

    def test_a_connection_that_ends_before_its_token_leaves_no_timer(self, server):
        def timers():
            # A call that is cancelled meanwhile has no `func` any more.
            functions = [getattr(call, "func", None) for call in server.ask(reactor.getDelayedCalls)]
            return [one for one in functions if isinstance(getattr(one, "__self__", None), WallClockTimer)]

        with server.open(f"/ws?channel=open&token={token()}"), server.connect() as peer:
            Events(peer, f"/sse?channel=open&token={token()}")
            assert len(timers()) == 2
        wait_until(lambda: not timers(), "no timer")


class LogTests:
    """The log contains no token and no secret."""

    API_KEY = "the-key-of-the-api"

    def test_no_log_line_has_a_part_of_a_token_or_a_secret(self, start_server, logged):
        """Valid and forged tokens, a secret and the API key are sent in every carrier, and in malformed requests."""
        server = start_server(token_secret=SECRET, channel_allow=("open",), api_key=self.API_KEY)
        assert api(server, "info", {}, key=self.API_KEY)[0] == 200
        good, wrong = token(channels=["news"]), token(key="x" * 64)
        for text in (good, wrong, self.API_KEY, "hushhushhush"):
            for way in ("header", "protocol", "query"):
                websocket(server, text, way)
                events(server, text, way)
            odd = [
                f"GET /ws?channel=news&token={text}%ff HTTP/1.1\r\nHost: x",
                f"GET /ws?token={text}#x HTTP/1.1\r\nHost: x",
                f"GET http://other/ws?token={text} HTTP/1.1\r\nHost: x",
                f"GET /ws?token={text}\x7f HTTP/1.1\r\nHost: x",
                f"GET /ws?token={text} HTTP/9.9\r\nHost: x",
                f"GET /ws?token={text}",
                f"GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {text}\x01",
                f"GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {text}",
                f"GET /page?token={text} HTTP/1.1\r\nHost: x",
                f"POST /sse?token={text} HTTP/1.1\r\nHost: x\r\nContent-Length: 0",
                f"GET /api/publish?token={text} HTTP/1.1\r\nHost: x",
                f"POST /api/info?api_key={text} HTTP/1.1\r\nHost: x\r\nContent-Length: 0",
                f"POST /api/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {text}\x01\r\nContent-Length: 0",
                f"POST /api/info HTTP/1.1\r\nHost: x\r\nX-API-Key {text}",
                f"GET /bearer.{text} HTTP/1.1\r\nHost: x",
            ]
            for head in odd:
                with server.connect() as peer:
                    peer.send(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
                    peer.read_to_end()
            twice = f"Sec-WebSocket-Protocol: bearer.{text}, bearer.{text}"
            for lines in ([twice], [f"Sec-WebSocket-Protocol: bearer.{text}@"], [f"Origin: http://x/?token={text}"]):
                with server.connect() as peer:
                    peer.send(handshake_request("/ws?channel=news", *lines))
                    peer.read_response()
        wait_until(lambda: server.count_sockets() == 0, "every connection closed")
        log = logged()
        assert "/ws" in log
        assert "401" in log
        secrets = {part for text in (good, wrong) for part in text.split(".") if part != good.split(".")[0]}
        for secret in (*secrets, "hushhushhush", SECRET, self.API_KEY):
            assert secret not in log, log[max(0, log.index(secret) - 200) :][:400]

    def test_a_traceback_that_quotes_the_request_has_no_part_of_its_token(self, server, logged, log, monkeypatch):
        text = token()

        def fail(credentials, default):
            return defer.fail(RuntimeError(f"cannot read {credentials.query} {credentials.authorizations}"))

        server.ask(lambda: monkeypatch.setattr(server.service.authorizer, "admit", fail))
        assert websocket(server, text, "query").status == 500
        assert websocket(server, text, "header").status == 500
        assert events(server, text, "query")[0] == 500
        assert len(log.take_failures(RuntimeError)) == 3
        assert "cannot read" in logged()
        assert all(part not in logged() for part in text.split("."))


CURRENT, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def entry(private, kid):
    """Return a public key as an entry of a JSON Web Key Set."""
    return json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key())) | {"kid": kid, "use": "sig"}


class Provider(Resource):
    """An identity provider that returns the response set by the test and counts requests."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.body = b""
        self.status = 200
        self.requests = 0
        self.hanging = False

    def publish(self, **keys):
        self.body = json.dumps({"keys": [entry(key, kid) for kid, key in keys.items()]}).encode()

    def render_GET(self, request):
        self.requests += 1
        request.setResponseCode(self.status)
        if self.status == 302:
            request.setHeader(b"location", b"/elsewhere")
        if self.hanging:
            request.write(b'{"keys": [')
            return NOT_DONE_YET
        return self.body


@pytest.fixture
def provider():
    """Start an identity provider on a free port."""
    resource = Provider()
    site = Site(resource)
    site.displayTracebacks = False
    port = blockon(deferToThread(lambda: blockingCallFromThread(reactor, reactor.listenTCP, 0, site, 50, "127.0.0.1")))
    resource.url = f"http://127.0.0.1:{port.getHost().port}/jwks.json"
    yield resource
    blockon(port.stopListening())


class FetchedKeyTests:
    """Keys that the server fetches from an identity provider."""

    @pytest.fixture(autouse=True)
    def short_times(self, monkeypatch):
        """Shorten the timeout of a fetch and the intervals between fetches."""
        monkeypatch.setattr(jwks, "COOLDOWN", 0.3)
        monkeypatch.setattr(jwks, "RETRY", 0.2)
        monkeypatch.setattr(jwks, "TIMEOUT", 1.0)

    def start(self, start_server, provider, **more):
        return start_server(token_jwks_url=provider.url, channel_allow=("*",), **more)

    def signed(self, private=CURRENT, kid="one", **claims):
        return token(private, "ES256", kid=kid, **claims)

    def test_tokens_of_a_fetched_key_are_accepted_after_a_single_fetch(self, start_server, provider):
        """The first token waits for the fetch."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        for _ in range(3):
            assert websocket(server, self.signed()).status == 101
            assert events(server, self.signed())[0] == 200
        assert websocket(server, self.signed(OTHER)).status == 401
        assert provider.requests == 1

    def test_an_unknown_key_id_fetches_the_keys_again_and_drops_the_old_ones(self, start_server, provider):
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        provider.publish(two=OTHER)
        time.sleep(0.35)
        assert websocket(server, self.signed(OTHER, "two")).status == 101
        assert websocket(server, self.signed()).status == 401

    def test_thirty_unknown_key_ids_are_401_and_cause_at_most_four_fetches(self, start_server, provider):
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        before = provider.requests
        found = [websocket(server, self.signed(OTHER, f"made-up-{n}")).status for n in range(30)]
        assert set(found) == {401}
        assert provider.requests - before <= 4
        assert websocket(server, self.signed()).status == 101

    def test_five_waiting_clients_share_one_fetch_and_get_503_on_timeout(self, start_server, provider):
        provider.publish(one=CURRENT)
        provider.hanging = True
        server = self.start(start_server, provider)
        peers = [server.connect() for _ in range(5)]
        for peer in peers:
            peer.send(handshake_request("/ws?channel=a", f"Authorization: Bearer {self.signed()}"))
        assert [peer.read_response().status for peer in peers] == [503] * 5
        assert provider.requests == 1
        for peer in peers:
            peer.socket.close()

    def test_a_client_that_disconnects_during_the_fetch_is_not_subscribed(self, start_server, provider):
        provider.publish(one=CURRENT)
        provider.hanging = True
        server = self.start(start_server, provider)
        for target in ("/ws?channel=a", "/sse?channel=a"):
            with server.connect() as peer:
                line = f"Authorization: Bearer {self.signed()}"
                plain = "\r\n".join([f"GET {target} HTTP/1.1", "Host: 127.0.0.1", line, "", ""]).encode()
                peer.send(handshake_request(target, line) if "ws" in target else plain)
                time.sleep(0.1)
        provider.hanging = False
        wait_until(lambda: websocket(server, self.signed()).status == 101, "keys")
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "no subscription")

    @pytest.mark.parametrize("trouble", ["500", "302", "huge", "endless", "no JSON", "secrets", "hanging", "refused"])
    def test_clients_get_503_with_retry_after_while_the_fetch_fails_and_recover(
        self, start_server, provider, trouble, logged
    ):
        """Meanwhile, a token signed with HS256 gets 401: no fetched key could verify it."""
        provider.publish(one=CURRENT)
        good = provider.body
        if trouble in ("500", "302"):
            provider.status = int(trouble)
        elif trouble == "huge":
            provider.body = b" " * (jwks.MAX_DOCUMENT + 1) + good
        elif trouble == "no JSON":
            provider.body = b"<html>"
        elif trouble == "secrets":
            provider.body = json.dumps({"keys": [{"kty": "oct", "k": base64.b64encode(b"x" * 64).decode()}]}).encode()
        elif trouble == "refused":
            provider.url = "http://127.0.0.1:1/jwks.json"
        else:
            provider.hanging = True
        server = self.start(start_server, provider)
        response = websocket(server, self.signed())
        assert (response.status, response.header("retry-after")) == (503, "1")
        assert events(server, self.signed())[0] == 503
        assert websocket(server, token()).status == 401
        assert "fetching the token keys failed url=" in logged()
        if trouble != "refused":
            provider.status, provider.body, provider.hanging = 200, good, False
            wait_until(lambda: websocket(server, self.signed()).status == 101, "the keys")

    def test_a_provider_with_an_untrusted_certificate_gets_no_request(self, start_server, provider, tls_listen, logged):
        """Clients get 503, and the log names the failed verification."""
        provider.publish(one=CURRENT)
        site = Site(provider)

        def listen():
            return serverFromString(reactor, tls_listen[0]).listen(site)

        port = blockingCallFromThread(reactor, listen)
        try:
            url = f"https://localhost:{port.getHost().port}/jwks.json"
            server = start_server(token_jwks_url=url, channel_allow=("*",))
            assert websocket(server, self.signed()).status == 503
            assert "certificate verify failed" in logged()
            assert provider.requests == 0
        finally:
            blockingCallFromThread(reactor, port.stopListening)

    def test_ready_is_503_until_the_first_fetch_succeeds_and_stays_200_afterwards(
        self, start_server, provider, monkeypatch
    ):
        """Without keys the server cannot verify any token; fetched keys stay valid while the provider is down."""
        monkeypatch.setattr(jwks, "REFRESH", 0.1)
        provider.publish(one=CURRENT)
        provider.status = 500
        server = self.start(start_server, provider)
        with server.connect() as prober:
            words = "the token keys cannot be fetched: expected status 200, got 500"
            wait_until(lambda: words in prober.request("/ready").text, words)
            provider.status = 200
            wait_until(lambda: prober.request("/ready").status == 200, "ready")
            provider.status = 500
            before = provider.requests
            wait_until(lambda: provider.requests >= before + 2, "refreshes that fail")
            assert prober.request("/ready").status == 200

    def test_fetched_keys_stay_valid_while_the_provider_is_down(self, start_server, provider, monkeypatch):
        """While the provider is down, a token that names an unknown key gets 503."""
        monkeypatch.setattr(jwks, "REFRESH", 0.1)
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        provider.status = 500
        before = provider.requests
        wait_until(lambda: provider.requests >= before + 2, "refreshes that fail")
        assert websocket(server, self.signed()).status == 101
        assert websocket(server, self.signed(OTHER, "two")).status == 503

    def test_a_token_signed_with_the_public_key_as_hmac_secret_is_401(self, start_server, provider):
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        # Signed here, because PyJWT refuses such a secret.
        signed = token(kid="one").rpartition(".")[0]
        for secret in (provider.body, json.loads(provider.body)["keys"][0]["x"].encode()):
            mac = hmac.digest(secret, signed.encode(), "sha256")
            text = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            assert websocket(server, text).status == 401

    def test_a_secret_and_fetched_keys_are_accepted_side_by_side(self, start_server, provider):
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider, token_secret=SECRET)
        assert [websocket(server, text).status for text in (token(), self.signed())] == [101, 101]

    @pytest.mark.parametrize(("kid", "status", "words"), [("one", 0, "connection token"), ("two", 1, "unknown key")])
    def test_checktoken_fetches_the_keys_and_exits_0_or_1(self, provider, kid, status, words):
        provider.publish(one=CURRENT)
        program = [sys.executable, "-c", "from wsserver.cli.main import main; main()", "checktoken"]
        program.append(self.signed(kid=kid))
        environment = {**os.environ, "WSSERVER_TOKEN_JWKS_URL": provider.url}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, words in done.stdout + done.stderr) == (status, True)
