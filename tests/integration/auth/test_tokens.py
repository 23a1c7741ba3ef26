"""Tokens over real sockets: who is let in, for how long, and what of it the log shows."""

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
from peers import connect_autobahn, handshake_request, wait_until
from pytest_twisted import blockon
from twisted.internet import defer, reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from wsserver import logging
from wsserver.auth import jwks
from wsserver.endpoints import authorization

SECRET = "a secret that is long enough to sign tokens with, for tests only"


def token(key=SECRET, algorithm="HS256", ttl=600, kid=None, **claims):
    """Issue a token as a backend would."""
    headers = {"kid": kid} if kid else None
    return jwt.encode({"sub": "42", "exp": int(time.time()) + ttl} | claims, key, algorithm, headers=headers)


@pytest.fixture
def server(start_server):
    """Start a server that asks for tokens; the channel `open` is open to all who have one."""
    options = {"token_secret": SECRET, "channel_allow": ("open",), "api_key": KEY}
    return blockon(deferToThread(lambda: start_server(**options)))


@pytest.fixture
def written():
    """Give all that is logged during the test, in both formats, as it would be written."""
    text, json_lines = io.StringIO(), io.StringIO()

    def observe(event):
        text.write(logging.format_text(event) or "")
        json_lines.write(logging.format_json(event) or "")

    globalLogPublisher.addObserver(observe)
    yield lambda: text.getvalue() + json_lines.getvalue()
    globalLogPublisher.removeObserver(observe)


def ways(text):
    """Tell the ways to bring a token: name -> what is added to the query, and header lines."""
    return {
        "header": ("", [f"Authorization: Bearer {text}"]),
        "protocol": ("", [f"Sec-WebSocket-Protocol: wsserver.v1, bearer.{text}"]),
        "query": (f"&token={text}", []),
    }


def websocket(server, text, way="header", channel="news"):
    """Ask for a channel over WebSocket; give the response."""
    query, lines = ways(text)[way] if text is not None else ("", [])
    with server.connect() as peer:
        peer.send(handshake_request(f"/ws?channel={channel}{query}", *lines))
        return peer.read_response()


def events(server, text, way="header", channel="news"):
    """Ask for a channel as Server-Sent Events; give the status, and the response where it is a refusal."""
    query, lines = ways(text)[way] if text is not None else ("", [])
    with server.connect() as peer:
        head = [f"GET /sse?channel={channel}{query} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
        peer.send("\r\n".join(head).encode())
        wait_until(lambda: b"\r\n\r\n" in peer.buffer or not peer._more(), "a response")
        if peer.buffer.startswith(b"HTTP/1.1 200"):
            return 200, None
        response = peer.read_response()
        return response.status, response


class CarrierTests:
    """The three ways to bring a token."""

    @pytest.mark.parametrize("way", ["header", "protocol", "query"])
    def test_websocket(self, server, way):
        """Each opens what the token names, and publications arrive."""
        query, lines = ways(token(channels=["news"]))[way]
        with server.connect() as peer:
            response = peer.handshake(f"/ws?channel=news{query}", *lines)
            assert response.header("sec-websocket-protocol") == ("wsserver.v1" if way == "protocol" else None)
            assert api(server, "publish", {"channel": "news", "data": "hello"})[1]["result"]["delivered"] == 1
            assert peer.read_frame().payload == b"hello"

    @pytest.mark.parametrize("way", ["header", "query"])
    def test_events(self, server, way):
        """So they do with Server-Sent Events."""
        query, lines = ways(token(channels=["news"]))[way]
        with server.connect() as peer:
            stream = Events(peer, f"/sse?channel=news{query}", *lines)
            api(server, "publish", {"channel": "news", "data": "hello"})
            assert stream.read() == ("message", b"hello")

    def test_client(self, server):
        """A client that insists on a subprotocol it offered is content."""
        peer = connect_autobahn(f"{server.url}/ws?channel=open", ["wsserver.v1", f"bearer.{token()}"])
        api(server, "publish", {"channel": "open", "data": "hello"})
        assert peer.receive() == "hello"
        peer.close()

    def test_several(self, server):
        """Two different tokens are one too many; the same one twice is not."""
        one, two = token(), token(sub="1")
        with server.connect() as peer:
            peer.send(handshake_request(f"/ws?channel=open&token={one}", f"Authorization: Bearer {two}"))
            assert peer.read_response().status == 400
        with server.open(f"/ws?channel=open&token={one}", f"Authorization: Bearer {one}"):
            pass

    def test_cookie(self, server):
        """A cookie is no carrier: a browser sends it for whoever asks."""
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
    """Who is turned away, and how."""

    @pytest.mark.parametrize(("claims", "channel", "status"), ROWS)
    @pytest.mark.parametrize("ask", [websocket, events])
    def test_status(self, server, ask, claims, channel, status):
        """401 for a token that is not taken, 403 for a channel it does not open; both say why."""
        found = ask(server, None if claims is None else token(**claims), channel=channel)
        response = found if ask is websocket else found[1]
        if status == 200:
            assert (response.status if ask is websocket else found[0]) == (101 if ask is websocket else 200)
            return
        assert response.status == status
        assert (response.header("www-authenticate") or "").startswith("Bearer") is (status == 401)
        assert "token" in response.text

    def test_anonymous(self, start_server):
        """With --anonymous a token is not needed, but a wrong one is still wrong."""
        server = start_server(token_secret=SECRET, channel_allow=("open",), anonymous=True)
        assert websocket(server, None, channel="open").status == 101
        assert websocket(server, None, channel="news").status == 403
        assert websocket(server, token(channels=["news"])).status == 101
        assert websocket(server, token(ttl=-60), channel="open").status == 401

    def test_no_keys(self, start_server):
        """Without keys the list alone counts, as before."""
        server = start_server(channel_allow=("open",))
        assert websocket(server, None, channel="open").status == 101
        assert websocket(server, token(), channel="open").status == 101
        assert websocket(server, token(channels=["news"])).status == 403
        assert websocket(server, token(), "query", channel="open").status == 400

    def test_other_endpoints(self, server):
        """What is no channel asks for no token."""
        assert server.serves_the_next()
        with server.open("/ws") as peer:
            assert peer.echoes()

    def test_rotation(self, start_server):
        """While the previous secret is set, tokens of either are taken."""
        server = start_server(token_secret="n" * 64, token_secret_previous=SECRET, channel_allow=("*",))
        assert [websocket(server, token(key)).status for key in ("n" * 64, SECRET, "o" * 64)] == [101, 101, 401]


class OnceTests:
    """Tokens for one use."""

    def test_replayed(self, server):
        """The second time it is refused, by whichever way it comes."""
        text = token(once=True, jti="1", channels=["news"])
        assert websocket(server, text, "query").status == 101
        response = websocket(server, text)
        assert (response.status, "already been used" in response.text) == (401, True)
        assert events(server, text)[0] == 401

    def test_two_servers(self, start_server, redis):
        """Two servers on one Redis are as one; while Redis is away nobody is let in by such a token."""
        options = {"redis": redis.url, "token_secret": SECRET, "channel_allow": ("*",)}
        one, two = (up(start_server(**options)) for _ in range(2))
        text = token(once=True, jti="1")
        assert [websocket(server, text).status for server in (one, two, one)] == [101, 401, 401]
        assert websocket(two, token(once=True, jti="2")).status == 101
        key = next(part for part in redis.run("KEYS", "wsserver:used:*").split() if part.startswith(b"wsserver:"))
        assert 600_000 < int(redis.run("PTTL", key.decode())[1:]) < 700_000
        redis.kill()
        wait_until(lambda: ready(one) == 503, "deaf")
        assert websocket(one, token(once=True, jti="3")).status == 503


class ExpiryTests:
    """A connection does not outlive its token by more than the grace."""

    @pytest.fixture(autouse=True)
    def grace(self, monkeypatch):
        """Make the grace short."""
        monkeypatch.setattr(authorization, "GRACE", 0.5)

    def test_websocket(self, server):
        """It is closed with 4001."""
        with server.open(f"/ws?channel=open&token={token(ttl=1)}") as peer:
            closing = peer.read_close()
            assert (closing.close_code, closing.close_reason) == (4001, "token expired")

    def test_events(self, server):
        """A stream of events just ends, and the client's next request is refused."""
        with server.connect() as peer:
            Events(peer, f"/sse?channel=open&token={token(ttl=1)}")
            peer.read_to_end()
        assert server.ask(lambda: server.service.hub.count("open")) == 0

    def test_expire_at(self, server):
        """`expire_at` decides where it is there: 0 is for ever."""
        with server.open(f"/ws?channel=open&token={token(ttl=0, expire_at=0)}") as peer:
            time.sleep(1.0)
            api(server, "publish", {"channel": "open", "data": "hello"})
            assert peer.read_frame().payload == b"hello"

    def test_gone_before(self, server):
        """Nothing is left of a connection that has ended before its token."""
        with server.open(f"/ws?channel=open&token={token()}") as peer:
            assert peer.handshake is not None
        with server.connect() as peer:
            Events(peer, f"/sse?channel=open&token={token()}")
        # The fixture sees to it that no timer is left.


class LogTests:
    """What the log shows of tokens and secrets: nothing."""

    def test_nothing(self, server, written):
        """No part of a token is in any line, however it came and whatever became of it."""
        good, wrong = token(channels=["news"]), token(key="x" * 64)
        for text in (good, wrong, "hushhushhush"):
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
        wait_until(lambda: server.count_sockets() == 0, "every connection gone")
        log = written()
        assert "/ws" in log
        assert "401" in log
        secrets = {part for text in (good, wrong) for part in text.split(".") if part != good.split(".")[0]}
        for secret in (*secrets, "hushhushhush", SECRET, KEY + "@"):
            assert secret not in log, log[max(0, log.index(secret) - 200) :][:400]

    def test_traceback(self, server, written, log, monkeypatch):
        """An error that quotes the request leaves no token in its traceback."""
        text = token()

        def fail(visit, default):
            return defer.fail(RuntimeError(f"cannot read {visit.query} {visit.authorizations}"))

        server.ask(lambda: monkeypatch.setattr(server.service.authorizer, "admit", fail))
        assert websocket(server, text, "query").status == 500
        assert websocket(server, text, "header").status == 500
        assert events(server, text, "query")[0] == 500
        assert len(log.take_failures(RuntimeError)) == 3
        assert "cannot read" in written()
        assert all(part not in written() for part in text.split("."))


CURRENT, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def entry(private, kid):
    """Write a key as it stands in a set."""
    return json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key())) | {"kid": kid, "use": "sig"}


class Provider(Resource):
    """An identity provider: it answers as the test says, and counts."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.body = b""
        self.status = 200
        self.asked = 0
        self.hanging = False

    def publish(self, **keys):
        self.body = json.dumps({"keys": [entry(key, kid) for kid, key in keys.items()]}).encode()

    def render_GET(self, request):
        self.asked += 1
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
    """Keys that are fetched from an identity provider."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        """Make the times short."""
        monkeypatch.setattr(jwks, "COOLDOWN", 0.3)
        monkeypatch.setattr(jwks, "RETRY", 0.2)
        monkeypatch.setattr(jwks, "TIMEOUT", 1.0)

    def start(self, start_server, provider, **more):
        return start_server(token_jwks_url=provider.url, channel_allow=("*",), **more)

    def signed(self, private=CURRENT, kid="one", **claims):
        return token(private, "ES256", kid=kid, **claims)

    def test_fetched(self, start_server, provider):
        """A token signed with a key of the set is taken, even the first one; the set is fetched once."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        for _ in range(3):
            assert websocket(server, self.signed()).status == 101
            assert events(server, self.signed())[0] == 200
        assert websocket(server, self.signed(OTHER)).status == 401
        assert provider.asked == 1

    def test_rotated(self, start_server, provider):
        """A new key is fetched when a token names it; the old one is gone with the set that had it."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        provider.publish(two=OTHER)
        time.sleep(0.35)
        assert websocket(server, self.signed(OTHER, "two")).status == 101
        assert websocket(server, self.signed()).status == 401

    def test_made_up_names(self, start_server, provider):
        """Made-up names of keys do not have the set fetched again and again, and hold up nobody."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        before = provider.asked
        found = [websocket(server, self.signed(OTHER, f"made-up-{n}")).status for n in range(30)]
        assert set(found) == {401}
        assert provider.asked - before <= 4
        assert websocket(server, self.signed()).status == 101

    def test_at_once(self, start_server, provider):
        """Several that wait share one fetch."""
        provider.publish(one=CURRENT)
        provider.hanging = True
        server = self.start(start_server, provider)
        peers = [server.connect() for _ in range(5)]
        for peer in peers:
            peer.send(handshake_request("/ws?channel=a", f"Authorization: Bearer {self.signed()}"))
        assert [peer.read_response().status for peer in peers] == [503] * 5
        assert provider.asked == 1
        for peer in peers:
            peer.socket.close()

    def test_peer_gone_meanwhile(self, start_server, provider):
        """Who leaves while the keys are fetched is subscribed to nothing."""
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
        wait_until(lambda: server.ask(server.service.hub.counts) == {}, "nobody subscribed")

    @pytest.mark.parametrize("trouble", ["500", "302", "huge", "endless", "no JSON", "secrets", "hanging", "refused"])
    def test_trouble(self, start_server, provider, trouble, written):
        """While the set cannot be fetched, a client is asked to come again; when it can be, all is well."""
        provider.publish(one=CURRENT)
        good = provider.body
        url = provider.url
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
        assert "fetching the token keys failed url=" in written()
        if trouble != "refused":
            provider.status, provider.body, provider.hanging = 200, good, False
            wait_until(lambda: websocket(server, self.signed()).status == 101, "the keys")
        assert url

    def test_certificate(self, start_server, provider, tls_listen, written):
        """A provider that cannot show who it is brings no keys."""
        provider.publish(one=CURRENT)
        site = Site(provider)

        def listen():
            return serverFromString(reactor, tls_listen[0]).listen(site)

        port = blockingCallFromThread(reactor, listen)
        try:
            url = f"https://localhost:{port.getHost().port}/jwks.json"
            server = start_server(token_jwks_url=url, channel_allow=("*",))
            assert websocket(server, self.signed()).status == 503
            assert "certificate verify failed" in written()
            assert provider.asked == 0
        finally:
            blockingCallFromThread(reactor, port.stopListening)

    def test_ready_waits_for_the_first_set_of_keys_only(self, start_server, provider, monkeypatch):
        """Without keys no token can be checked; those that were fetched stay in use while the provider is away."""
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
            before = provider.asked
            wait_until(lambda: provider.asked >= before + 2, "refreshes that fail")
            assert prober.request("/ready").status == 200

    def test_kept(self, start_server, provider, monkeypatch):
        """What was fetched stays in use while the provider is away."""
        monkeypatch.setattr(jwks, "REFRESH", 0.1)
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        provider.status = 500
        before = provider.asked
        wait_until(lambda: provider.asked >= before + 2, "refreshes that fail")
        assert websocket(server, self.signed()).status == 101
        assert websocket(server, self.signed(OTHER, "two")).status == 503

    def test_public_key_as_secret(self, start_server, provider):
        """What is public is no secret: a token signed with the text of the set is refused."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider)
        assert websocket(server, self.signed()).status == 101
        # By hand: PyJWT would not sign with such a secret.
        signed = token(kid="one").rpartition(".")[0]
        for secret in (provider.body, json.loads(provider.body)["keys"][0]["x"].encode()):
            mac = hmac.digest(secret, signed.encode(), "sha256")
            text = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
            assert websocket(server, text).status == 401

    def test_beside_a_secret(self, start_server, provider):
        """Both kinds of keys can be in use."""
        provider.publish(one=CURRENT)
        server = self.start(start_server, provider, token_secret=SECRET)
        assert [websocket(server, text).status for text in (token(), self.signed())] == [101, 101]

    @pytest.mark.parametrize(("kid", "status", "words"), [("one", 0, "connection token"), ("two", 1, "unknown key")])
    def test_command_line(self, provider, kid, status, words):
        """`wsserver checktoken` fetches the keys, too."""
        provider.publish(one=CURRENT)
        program = [sys.executable, "-c", "from wsserver.cli.main import main; main()", "checktoken"]
        program.append(self.signed(kid=kid))
        environment = {**os.environ, "WSSERVER_TOKEN_JWKS_URL": provider.url}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, words in done.stdout + done.stderr) == (status, True)
