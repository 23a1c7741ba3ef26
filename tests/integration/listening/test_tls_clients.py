"""TLS with real clients: ALPN, the certificate chain, failed handshakes, and plain HTTP on a TLS port."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import requests
import websockets
from node import install_node_packages
from OpenSSL import crypto
from peers import RawPeer, handshake_request
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site
from waiting import wait_until

from wsserver.config.settings import Settings
from wsserver.endpoints.echo import EchoProtocol
from wsserver.web.resource import WebSocketResource
from wsserver.wire.certificates import read_server_certificate
from wsserver.wire.tls_server import ConnectionCreator, make_context

KEY = "k" * 32
OFFERS: dict[str, list[str]] = {
    "none": [],
    "http/1.1": ["http/1.1"],
    "h2 and http/1.1": ["h2", "http/1.1"],
    "h2": ["h2"],
}


def listen_strings(issued: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each way to listen for TLS."""
    quoted = str(issued.fullchain.parent)
    return {
        "options": {"tls_cert": str(issued.fullchain), "tls_key": str(issued.privkey)},
        "ssl": {
            "listen": (f"ssl:0:privateKey={issued.privkey}:certKey={issued.fullchain}:interface=127.0.0.1",),
        },
        "tls": {"listen": (f"tls:{quoted}:0:interface=127.0.0.1",)},
    }


@pytest.fixture(params=["options", "ssl", "tls", "site", "frontend"])
def secure_port(request, start_server, issued):
    """Listen for TLS in every supported way; return the port."""
    own = issued["ECDSA"]
    ways = listen_strings(own)
    if request.param in ways:
        yield blockon(deferToThread(start_server, **ways[request.param])).port
        return
    creator = ConnectionCreator(make_context(read_server_certificate(str(own.fullchain), str(own.privkey))))
    factory: Any
    if request.param == "site":
        root = Resource()
        resource = WebSocketResource(EchoProtocol, Settings(), reactor)
        root.putChild(b"echo", resource)
        factory = Site(root)
    else:
        factory = blockon(deferToThread(start_server)).service.frontend
    port = reactor.listenSSL(0, factory, creator, interface="127.0.0.1")
    yield port.getHost().port
    blockon(port.stopListening())
    if request.param == "site":
        blockon(resource.connections.close_all(1001, ""))
        resource.connections.deadlines.stop()


@pytest.fixture
def trusting(authority):
    """Return a client context that trusts only the test's root authority."""
    return ssl.create_default_context(cafile=str(authority.root))


class ALPNTests:
    """The application protocol that the server selects (ALPN, RFC 7301 section 3.2)."""

    @pytest.mark.parametrize("offers", ["none", "http/1.1", "h2 and http/1.1"])
    def test_serves_clients_with_any_offer_that_includes_http_1_1(self, secure_port, trusting, offers):
        """The server selects `http/1.1` if it is offered, and serves clients without ALPN."""
        if OFFERS[offers]:
            trusting.set_alpn_protocols(OFFERS[offers])
        with RawPeer(secure_port, tls=trusting) as peer:
            assert peer.socket.selected_alpn_protocol() == ("http/1.1" if OFFERS[offers] else None)
            peer.handshake("/echo")
            assert peer.echoes()

    def test_refuses_an_offer_without_http_1_1_with_no_application_protocol(self, secure_port, trusting):
        """`no_application_protocol` is a TLS alert (RFC 7301 section 3.2)."""
        trusting.set_alpn_protocols(["h2"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            RawPeer(secure_port, tls=trusting)

    def test_selects_http_1_1_with_a_tls_context_made_by_twisted(self, start_server, issued, trusting):
        """The frontend declares `http/1.1` to Twisted's own TLS."""
        own = read_server_certificate(str(issued["ECDSA"].leaf), str(issued["ECDSA"].privkey))
        trusting.load_verify_locations(str(issued["ECDSA"].fullchain))
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        server = start_server()

        def listen():
            options = CertificateOptions(
                crypto.PKey.from_cryptography_key(own.key), crypto.X509.from_cryptography(own.chain[0])
            )
            return reactor.listenSSL(0, server.service.frontend, options, interface="127.0.0.1")

        port = server.ask(listen)
        try:
            with RawPeer(port.getHost().port, tls=trusting) as peer:
                assert peer.socket.selected_alpn_protocol() == "http/1.1"
        finally:
            server.ask(port.stopListening)


@pytest.fixture(params=["ECDSA", "RSA"])
def public(request, start_server, issued):
    """Start a server with channels, the API and a certificate as certbot writes it; one run for each kind of key."""
    own = issued[request.param]
    options = {"tls_cert": str(own.fullchain), "tls_key": str(own.privkey)}
    return blockon(deferToThread(start_server, **options, api_key=KEY, channel_allow=("*",)))


def run(*command: str, **options: Any) -> str:
    """Run a client; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def request_publish(port: int, authority: Any, data: str) -> requests.Response:
    """Publish over the API with `requests`."""
    url, body = f"https://localhost:{port}/api/publish", {"channel": "news", "data": data}
    return requests.post(url, json=body, headers={"X-API-Key": KEY}, verify=str(authority.root), timeout=10)


NODE = """
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const WebSocket = createRequire(process.argv[3] + "/x.js")("ws");
const where = "localhost:" + process.argv[2], headers = { "X-API-Key": "KEY" };
const page = await fetch(`https://${where}/`);
const stream = (await fetch(`https://${where}/sse?channel=news`)).body.getReader();
const echo = await new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${where}/echo`);
    socket.on("open", () => socket.send("hello"));
    socket.on("message", (data) => { socket.close(); resolve(data.toString()); });
    socket.on("error", reject);
});
const body = JSON.stringify({ channel: "news", data: "to node" });
const answer = await fetch(`https://${where}/api/publish`, { method: "POST", headers, body });
let text = "";
while (!text.includes("to node")) text += new TextDecoder().decode((await stream.read()).value);
console.log(JSON.stringify([page.status, echo, answer.status]));
process.exit(0);
""".replace("KEY", KEY)


class ClientTests:
    """Clients that validate the chain, with the root authority as their only trust anchor."""

    def test_curl_fetches_the_page_and_publishes_over_http_1_1(self, public, authority):
        """curl offers `h2` and `http/1.1`."""
        curl = ["curl", "-sS", "--cacert", str(authority.root), "--max-time", "10"]
        where = f"https://localhost:{public.port}"
        assert "<title>" in run(*curl, f"{where}/")
        body = json.dumps({"channel": "news", "data": "x"})
        assert "offset" in run(*curl, "-H", f"X-API-Key: {KEY}", "-d", body, f"{where}/api/publish")
        assert run(*curl, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", f"{where}/ready") == "200 1.1"

    def test_requests_fetches_the_page_publishes_and_reads_the_event(self, public, authority):
        where = f"https://localhost:{public.port}"
        assert requests.get(f"{where}/", verify=str(authority.root), timeout=10).status_code == 200
        stream = requests.get(f"{where}/sse?channel=news", verify=str(authority.root), timeout=10, stream=True)
        assert request_publish(public.port, authority, "to requests").status_code == 200
        with stream:
            assert "data: to requests" in (line.decode() for line in stream.iter_lines())

    def test_websockets_gets_an_echo(self, public, trusting):

        async def talk() -> str:
            async with websockets.connect(f"wss://localhost:{public.port}/echo", ssl=trusting) as socket:
                await socket.send("hello")
                return str(await socket.recv())

        assert asyncio.run(talk()) == "hello"

    def test_aiohttp_fetches_the_page_publishes_and_gets_an_echo(self, public, trusting):

        async def talk() -> tuple[int, int, str]:
            base = f"https://localhost:{public.port}"
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
                page = await session.get(f"{base}/")
                body = {"channel": "news", "data": 1}
                answer = await session.post(f"{base}/api/publish", json=body, headers={"X-API-Key": KEY})
                async with session.ws_connect(f"{base}/echo") as socket:
                    await socket.send_str("hello")
                    return page.status, answer.status, await socket.receive_str()

        assert asyncio.run(talk()) == (200, 200, "hello")

    def test_node_fetches_the_page_gets_an_echo_and_reads_its_publication(self, public, authority, tmp_path):
        """The client uses `fetch` for HTTP and the package `ws` for the echo."""
        modules = install_node_packages()
        script = tmp_path / "client.mjs"
        script.write_text(NODE)
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_EXTRA_CA_CERTS": str(authority.root)}
        node = shutil.which("node") or "node"
        assert json.loads(run(node, str(script), str(public.port), str(modules), env=environment)) == [
            200,
            "hello",
            200,
        ]


class ChainTests:
    """The certificates that the server sends (RFC 8446 section 4.4.2)."""

    @pytest.mark.parametrize("way", ["options", "ssl", "tls"])
    @pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
    def test_sends_every_certificate_of_the_file(self, start_server, issued, way, kind):
        """The file has the server's certificate and that of the intermediate authority."""
        own = issued[kind]
        port = start_server(**listen_strings(own)[way]).port
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts", "-servername", "localhost"]
        shown = run(*command, input="")
        sent = [part.partition("-----END")[0] for part in shown.split("-----BEGIN CERTIFICATE-----")[1:]]
        expected = own.fullchain.read_text().split("-----BEGIN CERTIFICATE-----")[1:]
        assert sent == [part.partition("-----END")[0] for part in expected]

    def test_sends_the_chain_of_an_extra_cert_chain_parameter(
        self, start_server, issued, trusting, authority, tmp_path
    ):
        """The endpoint string also has an interface, and a path with escaped characters."""
        own = issued["RSA"]
        chain = tmp_path / "chain:of=mine.pem"
        chain.write_text(own.fullchain.read_text().removeprefix(own.leaf.read_text()))
        quoted = str(chain).replace(":", r"\:").replace("=", r"\=")
        text = f"ssl:0:{own.privkey}:{own.leaf}:extraCertChain={quoted}:interface=127.0.0.1"
        with RawPeer(start_server(listen=(text,)).port, tls=trusting) as peer:
            assert peer.request("/ready").status == 200

    def test_several_listeners_each_use_their_own_protocol(self, start_server, issued, trusting):
        """A TCP listener serves plain HTTP; an `ssl:` and a `tls:` listener serve HTTPS."""
        own = issued["ECDSA"]
        tls = listen_strings(own)
        server = start_server(listen=("tcp:0:interface=127.0.0.1", *tls["ssl"]["listen"], *tls["tls"]["listen"]))
        ports = [port.getHost().port for port in server.service.ports]
        for port, context in zip(ports, (None, trusting, trusting), strict=True):
            with RawPeer(port, tls=context) as peer:
                assert peer.request("/ready").status == 200

    def test_selects_the_certificate_of_a_directory_by_server_name(self, start_server, authority, tmp_path, trusting):
        """A wildcard matches one label; any other name gets the first certificate."""
        for number, names in enumerate([("a.example",), ("*.b.example", "b.example")]):
            authority.issue(tmp_path / str(number), names=names)
        port = start_server(listen=(f"tls:{tmp_path}:0:interface=127.0.0.1",)).port
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        for name in ("a.example", "A.EXAMPLE", "b.example", "www.b.example"):
            with trusting.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=name) as client:
                assert client.selected_alpn_protocol() == "http/1.1"
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError, match=r"c\.example"),
        ):
            trusting.wrap_socket(plain, server_hostname="c.example")


@pytest.fixture
def failing(start_server, issued, log) -> Callable[[], list[str]]:
    """Start a server; return a function that returns its log lines about failed handshakes."""
    own = issued["ECDSA"]
    server = blockon(
        deferToThread(start_server, tls_cert=str(own.fullchain), tls_key=str(own.privkey), open_timeout=0.5)
    )

    def lines() -> list[str]:
        found = [line for line in log.lines("wsserver.connection") if line.startswith("tls ")]
        wait_until(lambda: server.count_sockets() == 0, "the connection gone")
        return found

    lines.port = server.port  # type: ignore[attr-defined]
    return lines


class ProxyTests:
    """`haproxy:` in front of a TLS listener."""

    def test_reads_the_proxy_header_before_the_handshake_and_logs_its_address(
        self, start_server, issued, trusting, log
    ):
        """
        The log line of a failed handshake has the address of the header too.

        HAProxy sends the header before the handshake when it forwards TLS.
        """
        (text,) = listen_strings(issued["ECDSA"])["ssl"]["listen"]
        server = start_server(listen=(f"haproxy:{text}",))
        line = b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 443\r\n"
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(line)
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        with server.connect() as peer:
            peer.send(line + b"GET / HTTP/1.1\r\n\r\n")
            assert peer.read_to_end().endswith(b"use https:// or wss://\n")
        (failed,) = [line for line in log.lines("wsserver.connection") if line.startswith("tls ")]
        assert failed.endswith(" peer=192.0.2.7:51234")


class FailureTests:
    """A failed handshake is logged in one line with its reason."""

    def expect(self, failing, reason: str) -> None:
        """Check that one line about a failed handshake gives this reason."""
        wait_until(failing, "a line of the failed handshake")
        (line,) = failing()
        assert line.startswith(f'tls handshake failed reason="{reason}')
        assert " peer=127.0.0.1:" in line

    def test_logs_the_newest_version_of_a_client_limited_to_tls_1_1(self, failing, trusting):
        command = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{failing.port}",
            "-tls1_1",
            "-cipher",
            "ALL@SECLEVEL=0",
        ]
        done = subprocess.run(command, capture_output=True, text=True, input="", timeout=10, check=False)
        assert "alert protocol version" in done.stderr
        self.expect(failing, "no shared protocol version: the client offers nothing newer than TLS 1.1")

    def test_logs_that_there_is_no_shared_cipher_suite(self, failing, trusting):
        """The client offers only suites without forward secrecy."""
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        trusting.set_ciphers("AES128-SHA")
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            RawPeer(failing.port, tls=trusting)
        self.expect(failing, "no shared cipher suite")

    @pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
    def test_logs_the_alert_of_a_client_that_does_not_trust_the_certificate(self, failing, version):
        context = ssl.create_default_context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        with pytest.raises(ssl.SSLCertVerificationError):
            RawPeer(failing.port, tls=context)
        self.expect(failing, "the client does not trust the certificate: alert unknown ca")

    def test_logs_the_alpn_offers_of_both_sides_if_none_is_shared(self, failing, trusting):
        trusting.set_alpn_protocols(["h2", "smtp"])
        with pytest.raises(ssl.SSLError):
            RawPeer(failing.port, tls=trusting)
        self.expect(failing, "no shared protocol by ALPN: the client offers 'h2', 'smtp', the server 'http/1.1'")

    def test_logs_that_the_client_closed_during_the_handshake(self, failing):
        with RawPeer(failing.port) as peer:
            peer.send(b"\x16\x03\x01\x02\x00\x01")
        self.expect(failing, "the client closed the connection")

    def test_logs_that_the_client_does_not_speak_tls(self, failing):
        """The client sends bytes that are neither TLS nor HTTP."""
        with RawPeer(failing.port) as peer:
            peer.send(bytes(100))
            assert peer.read_to_end() == b""
        self.expect(failing, "the client does not speak TLS")

    @pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET"])
    def test_ends_and_logs_a_handshake_not_finished_within_open_timeout(self, failing, sent):
        with RawPeer(failing.port) as peer:
            peer.send(sent)
            wait_until(peer.has_ended, "the end of the connection")
        self.expect(failing, "not finished within 500ms")

    def test_does_not_log_a_connection_that_sends_no_bytes(self, failing, trusting):
        """Load balancers open such connections to probe a port."""
        RawPeer(failing.port).socket.close()
        with RawPeer(failing.port, tls=trusting) as peer:
            assert peer.request("/ready").status == 200
        assert failing() == []


class MixUpTests:
    """Plain HTTP on the TLS port, and TLS on the plain port."""

    @pytest.mark.parametrize("pieces", [[5], [1, 1, 1, 1], [400]])
    def test_answers_plain_http_with_400_that_names_the_schemes(self, failing, pieces):
        """The answer does not depend on how the request is divided into segments."""
        data = handshake_request("/echo", "X: " + "x" * 300)
        with RawPeer(failing.port) as peer:
            for size in [*pieces, len(data)]:
                peer.send(data[:size])
                data = data[size:]
            answer = peer.read_to_end()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\nplain HTTP request on a TLS port; use https:// or wss://\n")
        FailureTests().expect(failing, "plain HTTP request on a TLS port; use https:// or wss://")

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT"])
    def test_curl_shows_the_message_for_any_method(self, failing, method):
        shown = run("curl", "-sS", "-X", method, "--max-time", "10", f"http://127.0.0.1:{failing.port}/")
        assert "use https:// or wss://" in shown

    def test_a_client_that_uploads_10_mb_gets_the_400(self, failing):
        """The response is not lost to a reset, although most of the request is not read."""
        body = "x" * 10_000_000
        answer = requests.post(f"http://127.0.0.1:{failing.port}/api/publish", data=body, timeout=10)
        assert answer.status_code == 400
        assert "use https:// or wss://" in answer.text

    def test_logs_a_tls_hello_on_the_plain_port_with_the_option(self, server, log):
        """The client gets an HTTP response, which OpenSSL reports with its well-known error for this mistake."""
        command = ["curl", "-sS", "--max-time", "10", f"https://127.0.0.1:{server.port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "wrong version number" in done.stderr
        (line,) = [line for line in log.lines("wsserver.connection") if "TLS" in line]
        assert "TLS hello on a plain HTTP port; use http:// or ws://, or start the server with --tls-cert" in line
