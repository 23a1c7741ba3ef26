"""
nginx, HAProxy and Caddy in front of the server, with the files in `packaging` that users install.

The proxies terminate TLS, and the clients verify their certificates.
"""

import json
import re
import signal
import ssl
import subprocess
from contextlib import ExitStack

import pytest
from http_api import KEY
from paths import DOCS, ROOT
from peers import RawPeer
from proxies import PROXIES
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import TIMEOUT, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PLAIN = {"nginx", "haproxy", "caddy"}
"""The proxies that speak HTTP to the server. The other one forwards the bytes, after the PROXY protocol."""

IDLE = 2
"""Seconds after which the proxies close an idle connection in the tests of timeouts."""

SHORT_TIMEOUTS = {
    "nginx": {"proxy_read_timeout 60s;": f"proxy_read_timeout {IDLE}s;"},
    "haproxy": {"timeout tunnel 60s": f"timeout tunnel {IDLE}s"},
    "haproxy-tcp": {"timeout client 90s": f"timeout client {IDLE}s", "timeout server 90s": f"timeout server {IDLE}s"},
}


@pytest.fixture
def trust(authority):
    """Return a TLS context that trusts the certificates of the proxies."""
    return ssl.create_default_context(cafile=str(authority.root))


@pytest.fixture
def behind(start_server, authority, tmp_path):
    """Return a function that starts a server for a proxy, and one that runs the proxy in front of it."""
    issued = authority.issue(tmp_path / "issued")

    def start(name, **options):
        listen = {} if name in PLAIN else {"listen": ("haproxy:tcp:0:interface=127.0.0.1",)}
        options = {"channel_allow": ("*",), "api_key": KEY} | listen | options
        return start_server(**options)

    def run(name, server, more=None, folder="proxy"):
        return PROXIES[name].running(tmp_path / f"{name}-{folder}", issued, server.port, more)

    return start, run


@pytest.fixture(params=PROXIES)
def site(request, behind):
    """Run each proxy in front of a server; return the name of the proxy, the proxy and the server."""
    start, run = behind
    server = blockon(deferToThread(start, request.param))
    with run(request.param, server) as proxy:
        yield request.param, proxy, server


def open_stream(proxy, trust, channel):
    """Open an event stream through a proxy; return the connection."""
    peer = RawPeer(proxy.https, tls=trust)
    peer.send(f"GET /sse?channel={channel} HTTP/1.1\r\nHost: localhost:{proxy.https}\r\n\r\n".encode())
    return peer


def received(peer, text):
    """Read from a connection until a text is received."""
    while text not in peer.buffer:
        assert peer._receive(), peer.buffer
    return True


def find_peers(lines, start):
    """Return the addresses of the peers in the log lines that start with a text."""
    return [re.search(r"peer=(\S+)", line)[1] for line in lines if line.startswith(start)]


class EveryProxyTests:
    """What works through each of them."""

    def test_a_websocket_exchanges_messages_and_close_codes(self, site, trust):
        _, proxy, _ = site
        with connect(f"wss://localhost:{proxy.https}/echo", ssl=trust, proxy=None) as client:
            for message in ("hello", "x" * 200_000, b"\x00\xff"):
                client.send(message)
                assert client.recv(TIMEOUT) == message
            client.close(4001, "enough")
            assert (client.close_code, client.close_reason) == (4001, "enough")

    def test_a_page_of_the_proxys_own_origin_may_connect(self, site, trust):
        """The proxy forwards the Host header, with the port."""
        _, proxy, _ = site
        origin = f"https://localhost:{proxy.https}"
        with connect(f"wss://localhost:{proxy.https}/echo", ssl=trust, proxy=None, origin=origin) as client:
            client.send("hello")
            assert client.recv(TIMEOUT) == "hello"

    def test_an_event_stream_passes_on_each_event_at_once(self, site, trust):
        _, proxy, server = site
        with open_stream(proxy, trust, "news") as peer:
            received(peer, b"text/event-stream")
            for number in range(3):
                server.ask(lambda number=number: server.service.hub.publish("news", f"event {number}"))
                assert received(peer, b"event %d" % number)

    def test_an_event_stream_ends_when_its_client_disconnects(self, site, trust):
        _, proxy, server = site

        def count():
            return server.ask(lambda: server.service.hub.counts().get("news", 0))

        with open_stream(proxy, trust, "news") as peer:
            received(peer, b"text/event-stream")
            assert count() == 1
        wait_until(lambda: count() == 0, "no subscriber")

    def test_the_api_answers_over_one_connection(self, site, trust):
        _, proxy, _ = site
        body = json.dumps({"channel": "news", "data": 1}).encode()
        with RawPeer(proxy.https, tls=trust) as peer:
            for key, status in ((KEY, 200), ("wrong", 401), (KEY, 200)):
                response = peer.request("/api/publish", f"X-API-Key: {key}", method="POST", body=body, host="localhost")
                assert response.status == status

    def test_the_requests_of_a_client_share_a_connection_to_the_server(self, site, trust, log):
        _, proxy, _ = site
        with RawPeer(proxy.https, tls=trust) as peer:
            for _ in range(3):
                assert peer.request("/server.json", host=f"localhost:{proxy.https}").status == 200
        peers = find_peers(log.lines("wsserver.http"), "GET /server.json ")
        assert (len(peers), len(set(peers))) == (3, 1)


class UpstreamTests:
    """Connections from the proxy to the server that stay open."""

    @pytest.mark.parametrize("name", ["nginx", "haproxy", "haproxy-tcp"])
    def test_a_handshake_may_follow_other_requests_on_the_same_connection(self, behind, trust, log, name):
        start, run = behind
        with run(name, start(name)) as proxy, RawPeer(proxy.https, tls=trust) as peer:
            assert peer.request("/server.json", host="localhost").status == 200
            peer.handshake("/echo")
            assert peer.echoes()
        [request] = find_peers(log.lines("wsserver.http"), "GET /server.json ")
        [websocket] = find_peers(log.lines("wsserver.connection"), "connection opened ")
        assert request == websocket


class ClientTests:
    """Clients of the proxy that use HTTP/2, or no TLS."""

    @pytest.mark.parametrize("name", sorted(PLAIN))
    def test_speaks_http_2_to_clients(self, behind, authority, name):
        start, run = behind
        server = start(name)
        with run(name, server) as proxy:
            curl = ["curl", "-sS", "--http2", "--noproxy", "*", "--cacert", authority.root, "-N", "--max-time", "20"]
            url = f"https://localhost:{proxy.https}"
            shown = subprocess.run(
                [*curl, "-w", " %{http_version}", f"{url}/health"], capture_output=True, text=True, check=True
            ).stdout
            assert re.fullmatch(r"alive\n? 2", shown)
            stream = subprocess.Popen([*curl, f"{url}/sse?channel=news"], stdout=subprocess.PIPE)
            try:
                wait_until(lambda: server.ask(lambda: server.service.hub.counts().get("news")), "a subscriber")
                server.ask(lambda: server.service.hub.publish("news", "hello"))
                while b"hello" not in (line := stream.stdout.readline()):
                    assert line, "the stream ended"
            finally:
                stream.kill()
                stream.communicate()

    @pytest.mark.parametrize("name", ["nginx", "haproxy"])
    def test_redirects_clients_without_tls(self, behind, name):
        start, run = behind
        with run(name, start(name)) as proxy, RawPeer(proxy.http) as peer:
            response = peer.request("/echo?a=b", host="localhost")
            assert (response.status, response.header("location")) == (301, "https://localhost/echo?a=b")


class IdleTests:
    """Connections without messages."""

    def test_pings_keep_idle_websockets_open_and_without_pings_the_proxy_closes_them(self, behind, trust):
        """The timeouts of the proxies are reduced to two seconds, and the interval of the pings to half a second."""
        start, run = behind
        with ExitStack() as stack:

            def open_through(name, folder, interval):
                proxy = stack.enter_context(
                    run(name, start(name, ping_interval=interval), SHORT_TIMEOUTS[name], folder)
                )
                options = {"ssl": trust, "proxy": None, "ping_interval": None}
                return stack.enter_context(connect(f"wss://localhost:{proxy.https}/echo", **options))

            kept = [open_through(name, "kept", 0.5) for name in SHORT_TIMEOUTS]
            dropped = [open_through(name, "dropped", 3600.0) for name in SHORT_TIMEOUTS]
            for client in dropped:
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(TIMEOUT)
                assert caught.value.rcvd is None
            for client in kept:
                client.send("hello")
                assert client.recv(TIMEOUT) == "hello"


class ReloadTests:
    """A proxy that reads its configuration again."""

    @pytest.mark.parametrize(("name", "number"), [("nginx", signal.SIGHUP), ("haproxy", signal.SIGUSR2)])
    def test_a_reload_keeps_open_websockets_and_admits_new_ones(self, behind, trust, name, number):
        start, run = behind
        with (
            run(name, start(name)) as proxy,
            connect(f"wss://localhost:{proxy.https}/echo", ssl=trust, proxy=None) as old,
        ):
            proxy.reload(number)
            for text in ("one", "two"):
                with connect(f"wss://localhost:{proxy.https}/echo", ssl=trust, proxy=None) as new:
                    new.send(text)
                    assert new.recv(TIMEOUT) == text
            old.send("still there?")
            assert old.recv(TIMEOUT) == "still there?"


class AddressTests:
    """The client's address in `whoami`."""

    @pytest.mark.parametrize("name", sorted(PLAIN))
    def test_the_server_reads_it_from_the_header_of_the_proxy_and_not_from_that_of_the_client(
        self, behind, trust, name
    ):
        start, run = behind
        server = start(name, trusted_proxy=("127.0.0.1",), max_connections_per_address=1, catch_all="on")
        with run(name, server) as proxy, ExitStack() as stack:

            def open_from(source):
                return stack.enter_context(
                    connect(
                        f"wss://localhost:{proxy.https}/ws",
                        ssl=trust,
                        proxy=None,
                        source_address=(source, 0),
                        additional_headers={"X-Forwarded-For": "203.0.113.9"},
                    )
                )

            for source in ("127.0.0.2", "127.0.0.3"):
                client = open_from(source)
                client.send("whoami")
                assert json.loads(client.recv(TIMEOUT))["address"] == source
            with pytest.raises(InvalidStatus) as refused:
                open_from("127.0.0.3")
            assert refused.value.response.status_code == 429

    @pytest.mark.parametrize("version", ["send-proxy-v2", "send-proxy"])
    def test_haproxy_sends_it_with_the_proxy_protocol(self, behind, trust, version):
        start, run = behind
        with run("haproxy-tcp", start("haproxy-tcp", catch_all="on"), {" send-proxy-v2 ": f" {version} "}) as proxy:
            source = ("127.0.0.2", 0)
            url = f"wss://localhost:{proxy.https}/ws"
            with connect(url, ssl=trust, proxy=None, source_address=source) as client:
                client.send("whoami")
                assert json.loads(client.recv(TIMEOUT))["address"].startswith("127.0.0.2:")


@pytest.mark.kernel
@pytest.mark.parametrize("page", ["nginx", "haproxy", "caddy"])
def test_the_pages_show_the_files_that_the_tests_run(page):
    text = (DOCS / "how-to" / f"{page}.md").read_text("utf-8")
    shown = re.findall(r"^```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert shown == [(ROOT / name).read_text("utf-8") for name in re.findall(r"\[(packaging/[^]]+)\]", text)]
