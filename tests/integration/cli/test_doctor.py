"""
`wsserver doctor`: set-ups that work, and broken ones of real programs.

For each broken one, the report names the step that fails, and the line or option that repairs it.
"""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time

import jwt
import pytest
import websockets.sync.server
from command_line import PROGRAM, environment
from nginx import running_nginx
from pki import make_authority
from ports import free_port
from waiting import TIMEOUT, wait_until

from wsserver.cli.main import main

SECRET = "a-secret-of-at-least-32-characters!"


@pytest.fixture
def doctor(capsys):
    """Return a function that runs the command; it returns the JSON report as step -> step."""

    def run(url, *options, wait="0"):
        status = 0
        try:
            main(["doctor", url, "--json", "--wait", wait, *options])
        except SystemExit as ended:
            status = ended.code
        report = json.loads(capsys.readouterr().out)
        assert report["ok"] is (status == 0)
        return {step["step"]: step for step in report["steps"]}

    return run


def issue_token(secret):
    return jwt.encode({"sub": "ada", "exp": int(time.time()) + 600, "channels": ["news"]}, secret, algorithm="HS256")


def only_failure(steps):
    """Return the name of the one step that failed, with what it found and what repairs it."""
    [failure] = [step for step in steps.values() if step["status"] == "fail"]
    return failure["step"], failure["finding"], failure["fix"]


def statuses(steps):
    return {name: step["status"] for name, step in steps.items()}


@contextlib.contextmanager
def listening(answer=b"", *, accepts=True):
    """Listen on a port whose connections get these bytes, and nothing else; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peers.append(listener.accept()[0])
                    peers[-1].sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        if accepts:
            thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        if accepts:
            thread.join(TIMEOUT)
        for peer in peers:
            peer.close()


class WorkingTests:
    """Nothing is wrong."""

    def test_every_step_succeeds_on_our_server(self, start_server, doctor):
        server = start_server(compression="on")
        steps = doctor(f"http://127.0.0.1:{server.port}/ws", wait="200ms")
        names = ["tcp", "upgrade", "origin", "ping", "compression", "address", "health", "sse", "idle"]
        assert statuses(steps) == dict.fromkeys(names, "ok")
        assert "came back" in steps["compression"]["finding"]

    def test_every_step_succeeds_through_the_documented_nginx(self, start_server, tmp_path, doctor):
        with running_nginx(tmp_path, start_server(channel_allow=("news",)).port) as port:
            steps = doctor(f"ws://127.0.0.1:{port}/connection/websocket", "--channel", "news", wait="200ms")
        assert set(statuses(steps).values()) <= {"ok", "warn"}
        assert statuses(steps)["token"] == "ok"
        assert "nginx/" in steps["upgrade"]["finding"]

    def test_a_certificate_of_a_known_authority_is_valid(self, start_server, issued, authority, doctor):
        files = issued["ECDSA"]
        server = start_server(tls_cert=str(files.fullchain), tls_key=str(files.privkey))
        steps = doctor(f"wss://localhost:{server.port}/echo", "--ca", str(authority.root))
        assert "fail" not in statuses(steps).values()
        assert "TLSv1.3, ALPN http/1.1, certificate valid until" in steps["tls"]["finding"]

    def test_another_server_is_examined_without_messages(self, doctor):
        messages = []

        def handle(connection):
            messages.extend(connection)

        with websockets.sync.server.serve(handle, "127.0.0.1", 0) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            steps = doctor(f"ws://127.0.0.1:{other.socket.getsockname()[1]}/", wait="200ms")
            other.shutdown()
            thread.join()
        assert statuses(steps) == dict.fromkeys(["tcp", "upgrade", "origin", "ping", "compression", "idle"], "ok")
        assert messages == []

    def test_a_compressed_message_is_sent_to_another_server_with_echo(self, doctor):
        def handle(connection):
            for message in connection:
                connection.send(message)

        with websockets.sync.server.serve(handle, "127.0.0.1", 0) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            steps = doctor(f"ws://127.0.0.1:{other.socket.getsockname()[1]}/", "--echo")
            other.shutdown()
            thread.join()
        assert "a compressed message came back" in steps["compression"]["finding"]


class NetworkTests:
    def test_an_unknown_host_fails_at_dns(self, doctor):
        step, finding, fix = only_failure(doctor("wss://no-such-host.invalid/ws"))
        assert step == "dns"
        assert "cannot resolve no-such-host.invalid" in finding
        assert "A and AAAA" in fix

    def test_a_closed_port_fails_at_tcp(self, doctor):
        step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{free_port()}/ws"))
        assert step == "tcp"
        assert "connection refused" in finding
        assert "--port" in fix

    def test_an_address_without_a_server_is_a_warning(self, server, doctor, monkeypatch):
        resolve = socket.getaddrinfo

        def resolve_two(host, *more, **options):
            addresses = ("127.0.0.2", "127.0.0.1") if host == "two.example" else (host,)
            return [entry for address in addresses for entry in resolve(address, *more, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", resolve_two)
        steps = doctor(f"ws://two.example:{server.port}/ws", "--origin", "http://127.0.0.1")
        assert steps["tcp"]["status"] == "warn"
        assert "but not on 127.0.0.2: connection refused" in steps["tcp"]["finding"]
        assert "--listen" in steps["tcp"]["fix"]

    def test_a_server_that_is_not_http_fails_at_upgrade(self, doctor):
        with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert step == "upgrade"
        assert "SSH-2.0" in finding
        assert f"port {port}" in fix


class TLSTests:
    """Certificates and TLS handshakes; the certificate is that of our server."""

    @pytest.fixture
    def serve(self, start_server):
        def serve(chain, key):
            return f"wss://localhost:{start_server(tls_cert=str(chain), tls_key=str(key)).port}/echo"

        return serve

    def test_an_expired_certificate(self, serve, authority, tmp_path, doctor):
        files = authority.issue(tmp_path / "old", days=-2)
        step, finding, fix = only_failure(doctor(serve(files.fullchain, files.privkey), "--ca", str(authority.root)))
        assert step == "tls"
        assert "CN=localhost" in finding
        assert "expired on 20" in finding
        assert "--tls-cert" in fix

    def test_the_other_steps_are_examined_despite_the_certificate(self, serve, certificate, doctor):
        steps = doctor(serve(certificate[1], certificate[0]))
        assert statuses(steps)["tls"] == "fail"
        assert statuses(steps)["ping"] == "ok"

    def test_a_self_signed_certificate(self, serve, certificate, doctor):
        step, finding, fix = only_failure(doctor(serve(certificate[1], certificate[0])))
        assert step == "tls"
        assert "self-signed" in finding
        assert "--ca FILE" in fix

    @pytest.mark.parametrize("path", ["/chat?token=QUERYSECRET&channel=news", "/connection/websocket"])
    def test_nothing_secret_is_sent_to_a_server_whose_certificate_is_refused(self, certificate, path, doctor):
        secrets = ("--token", "TOKENSECRET", "--header", "Cookie: id=COOKIESECRET", "--subprotocol", "bearer.SUBSECRET")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[1], certificate[0])
        received = []

        def handle(connection):
            received.extend([connection.request.path, connection.request.headers])
            for message in connection:
                received.append(message)
                connection.send('{"id":1,"connect":{}}')

        with websockets.sync.server.serve(
            handle,
            "127.0.0.1",
            0,
            ssl=context,
            select_subprotocol=lambda *_: None,
        ) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            steps = doctor(f"wss://127.0.0.1:{other.socket.getsockname()[1]}{path}", *secrets)
            other.shutdown()
            thread.join()
        assert received
        assert "SECRET" not in repr(received)
        assert statuses(steps)["upgrade"] == "ok"
        left_out = "the token, the headers of --header, --subprotocol" + ", parameters of the URL" * ("?" in path)
        assert left_out in steps["secrets"]["finding"]
        assert steps["secrets"]["status"] == "skip"

    @pytest.mark.parametrize("path", ["/ws?channel=news", "/connection/websocket"])
    def test_a_server_that_then_misses_the_token_is_not_blamed(self, start_server, certificate, path, doctor):
        server = start_server(tls_cert=str(certificate[1]), tls_key=str(certificate[0]), token_secret=SECRET)
        steps = doctor(f"wss://localhost:{server.port}{path}", "--token", issue_token(SECRET))
        assert only_failure(steps)[0] == "tls"
        assert statuses(steps)["token"] == "skip"
        assert "asked without the token, so repair the certificate first" in steps["token"]["finding"]

    def test_a_missing_intermediate_certificate(self, serve, issued, authority, doctor):
        files = issued["ECDSA"]
        step, finding, fix = only_failure(doctor(serve(files.leaf, files.privkey), "--ca", str(authority.root)))
        assert step == "tls"
        assert "its issuer, 'CN=wsserver test intermediate', is missing" in finding
        assert "fullchain.pem" in fix
        assert "ssl_certificate" in fix

    def test_an_unknown_authority(self, serve, issued, tmp_path, doctor):
        files = issued["ECDSA"]
        other = make_authority(tmp_path)
        step, finding, fix = only_failure(doctor(serve(files.fullchain, files.privkey)))
        assert (step, "--ca FILE" in fix) == ("tls", True)
        assert "the authority 'CN=wsserver test root' is not trusted" in finding
        assert only_failure(doctor(serve(files.fullchain, files.privkey), "--ca", str(other.root)))[0] == "tls"

    def test_a_certificate_of_another_name(self, serve, authority, tmp_path, doctor):
        files = authority.issue(tmp_path / "other", names=("shop.example", "192.0.2.7"))
        step, finding, fix = only_failure(doctor(serve(files.fullchain, files.privkey), "--ca", str(authority.root)))
        assert step == "tls"
        assert finding == "the certificate is for shop.example, 192.0.2.7, not for localhost"
        assert "localhost" in fix

    def test_a_certificate_that_expires_soon_is_a_warning(self, serve, authority, tmp_path, doctor):
        files = authority.issue(tmp_path / "soon", days=3)
        steps = doctor(serve(files.fullchain, files.privkey), "--ca", str(authority.root))
        assert steps["tls"]["status"] == "warn"
        assert "which is in 2 days" in steps["tls"]["finding"]
        assert "certbot renew" in steps["tls"]["fix"]

    def test_a_server_that_refuses_http11_by_alpn(self, issued, authority, doctor):
        files, port = issued["ECDSA"], free_port()
        command = ["openssl", "s_server", "-quiet", "-alpn", "h2", "-accept", str(port)]
        command += ["-cert", str(files.leaf), "-key", str(files.privkey)]
        other = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: is_open(port), "s_server listens")
            step, finding, fix = only_failure(doctor(f"wss://localhost:{port}/"))
        finally:
            other.kill()
            other.wait()
        assert step == "tls"
        assert "ALPN" in finding
        assert "http/1.1" in fix

    def test_plain_http_on_the_port_of_a_wss_url(self, server, doctor):
        step, finding, fix = only_failure(doctor(f"wss://127.0.0.1:{server.port}/ws"))
        assert step == "tls"
        assert "does not speak TLS" in finding
        assert f"ws://127.0.0.1:{server.port}/ws" in fix
        assert "--tls-cert" in fix

    def test_tls_on_the_port_of_a_ws_url(self, serve, certificate, doctor):
        url = serve(certificate[1], certificate[0])
        step, finding, fix = only_failure(doctor(url.replace("wss", "ws")))
        assert step == "tls"
        assert "speaks TLS" in finding
        assert f"connect to {url}" in fix

    def test_tls_of_nginx_on_the_port_of_a_ws_url(self, server, issued, tmp_path, doctor):
        files = issued["ECDSA"]
        tls = f"listen 80 ssl; ssl_certificate {files.fullchain}; ssl_certificate_key {files.privkey};"
        with running_nginx(tmp_path, server.port, edits={"listen 80;": tls}) as port:
            step, _, fix = only_failure(doctor(f"ws://localhost:{port}/ws"))
        assert (step, fix) == ("tls", f"connect to wss://localhost:{port}/ws")


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


LINES = (
    "proxy_http_version 1.1;",
    "proxy_set_header Upgrade $http_upgrade;",
    "proxy_set_header Connection $connection_header;",
)
HOST = "proxy_set_header Host $http_host;"


class ProxyTests:
    """Nginx before our server."""

    @pytest.mark.parametrize("missing", LINES)
    def test_a_missing_line_is_named(self, server, tmp_path, missing, doctor):
        with running_nginx(tmp_path, server.port, edits={missing: ""}) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert step == "proxy"
        assert finding.startswith("nginx/")
        assert f"add `{missing}`" in fix

    def test_all_missing_lines_are_named(self, server, tmp_path, doctor):
        with running_nginx(tmp_path, server.port, edits=dict.fromkeys(LINES, "")) as port:
            step, _, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert step == "proxy"
        assert all(line in fix for line in LINES)

    def test_all_missing_lines_are_named_before_another_server(self, tmp_path, doctor):
        with websockets.sync.server.serve(lambda _: None, "127.0.0.1", 0) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            with running_nginx(tmp_path, other.socket.getsockname()[1], edits=dict.fromkeys(LINES, "")) as port:
                step, _, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/"))
            other.shutdown()
            thread.join()
        assert step == "upgrade"
        assert all(line in fix for line in LINES)

    def test_a_missing_host_header_fails_at_the_origin(self, server, tmp_path, doctor, monkeypatch):
        """The host is not a loopback one: this server permits pages of all of those."""
        resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more, **options: resolve("127.0.0.1", *more, **options))
        with running_nginx(tmp_path, server.port, edits={HOST: ""}) as port:
            step, finding, fix = only_failure(doctor(f"ws://app.example:{port}/ws"))
        assert (step, "app.example" in finding) == ("origin", True)
        assert f"`{HOST}`" in fix
        assert "--origin" in fix

    def test_no_server_behind_nginx_fails_with_502(self, tmp_path, doctor):
        with running_nginx(tmp_path, free_port()) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, "502" in finding, "proxy_pass" in fix) == ("proxy", True, True)

    def test_a_silent_server_behind_nginx_fails_with_504(self, tmp_path, doctor):
        edits = {"proxy_read_timeout 60s;": "proxy_read_timeout 300ms;"}
        with listening() as silent, running_nginx(tmp_path, silent, edits=edits) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, "504" in finding, "proxy_pass" in fix) == ("proxy", True, True)

    def test_a_short_idle_timeout_is_measured(self, server, tmp_path, doctor):
        edits = {"proxy_read_timeout 60s;": "proxy_read_timeout 2s;"}
        with running_nginx(tmp_path, server.port, edits=edits) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws", wait="20s"))
        assert step == "idle"
        assert "cut with FIN after 2." in finding
        assert "proxy_read_timeout" in fix
        assert "--ping-interval" in fix

    def test_pings_keep_a_connection_open(self, start_server, tmp_path, doctor):
        server = start_server(ping_interval=0.5, ping_timeout=5.0)
        edits = {"proxy_read_timeout 60s;": "proxy_read_timeout 1s;"}
        with running_nginx(tmp_path, server.port, edits=edits) as port:
            steps = doctor(f"ws://127.0.0.1:{port}/ws", wait="2s")
        assert statuses(steps)["idle"] == "ok"
        assert "the server pinged first after 0." in steps["idle"]["finding"]

    def test_a_proxy_that_buffers_event_streams(self, start_server, tmp_path, doctor):
        """By default, nginx does not compress event streams, and then it passes on small parts at once."""
        gzip = "gzip on; gzip_types text/event-stream;"
        server = start_server(channel_allow=("doctor",))
        with running_nginx(tmp_path, server.port, more=gzip + "proxy_ignore_headers X-Accel-Buffering;") as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        with running_nginx(tmp_path, server.port, more=gzip) as port:
            assert statuses(doctor(f"ws://127.0.0.1:{port}/ws"))["sse"] == "ok"
        assert step == "sse"
        assert "buffers" in finding
        assert "proxy_buffering off;" in fix
        assert "proxy_ignore_headers X-Accel-Buffering;" in fix

    def test_an_untrusted_proxy_is_a_warning(self, start_server, tmp_path, doctor):
        """nginx connects to the server from another address."""
        bind = {HOST: f"{HOST} proxy_bind 127.0.0.5;"}
        with running_nginx(tmp_path, start_server().port, edits=bind) as port:
            step = doctor(f"ws://127.0.0.1:{port}/ws")["address"]
        assert (step["status"], step["fix"]) == ("warn", "start the server with --trusted-proxy 127.0.0.5")
        with running_nginx(tmp_path, start_server(trusted_proxy=("127.0.0.5",)).port, edits=bind) as port:
            assert doctor(f"ws://127.0.0.1:{port}/ws")["address"]["status"] == "ok"

    def test_a_proxy_that_does_not_send_the_address_is_a_warning(self, server, tmp_path, doctor):
        edits = {"proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;": ""}
        with running_nginx(tmp_path, server.port, edits=edits) as port:
            step = doctor(f"ws://127.0.0.1:{port}/ws")["address"]
        assert step["status"] == "warn"
        assert "`proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`" in step["fix"]
        assert "--trusted-proxy 127.0.0.1" in step["fix"]

    def test_a_page_instead_of_the_server(self, tmp_path, doctor):
        edits = {"proxy_pass http://wsserver;": "default_type text/html; return 200 '<html></html>';"}
        with running_nginx(tmp_path, 1, edits=edits) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, "HTML page" in finding) == ("upgrade", True)
        assert all(line in fix for line in LINES)

    def test_a_redirect(self, tmp_path, doctor):
        edits = {"proxy_pass http://wsserver;": "return 301 https://shop.example$request_uri;"}
        with running_nginx(tmp_path, 1, edits=edits) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, "301" in finding) == ("redirect", True)
        assert "connect to wss://shop.example/ws" in fix

    def test_a_proxy_that_hides_the_extension(self, start_server, tmp_path, doctor):
        server = start_server(compression="on")
        with running_nginx(tmp_path, server.port, more="proxy_hide_header Sec-WebSocket-Extensions;") as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, "removed Sec-WebSocket-Extensions" in finding) == ("compression", True)
        assert "proxy_hide_header" in fix
        assert "--compression off" in fix

    def test_a_proxy_that_removes_the_offer_is_a_warning(self, start_server, tmp_path, doctor):
        server = start_server(compression="on")
        edits = {HOST: f'{HOST} proxy_set_header Sec-WebSocket-Extensions "";'}
        with running_nginx(tmp_path, server.port, edits=edits) as port:
            steps = doctor(f"ws://127.0.0.1:{port}/ws")
        assert steps["compression"]["status"] == "warn"

    def test_cloudflare_is_recognized(self, tmp_path, doctor):
        """The answer is nginx's, with a header that Cloudflare adds."""
        edits = {"proxy_pass http://wsserver;": "add_header CF-Ray 8a always; return 522;"}
        with running_nginx(tmp_path, 1, edits=edits) as port:
            step, finding, fix = only_failure(doctor(f"ws://127.0.0.1:{port}/ws"))
        assert (step, finding) == ("proxy", "Cloudflare cannot connect to the server")
        assert "firewall" in fix


class AccessTests:
    """Our server refuses the client."""

    def test_a_wrong_origin(self, server, doctor):
        step, finding, fix = only_failure(doctor(f"{server.url}/ws", "--origin", "https://x.example"))
        assert (step, "https://x.example" in finding) == ("origin", True)
        assert fix == "start the server with --origin https://x.example"

    def test_a_wrong_path(self, start_server, doctor):
        server = start_server(catch_all="off")
        step, finding, fix = only_failure(doctor(f"{server.url}/wss"))
        assert (step, "/ws" in fix) == ("path", True)
        assert "did you mean /ws?" in finding

    @pytest.mark.parametrize("path", ["/ws?channel=news", "/connection/websocket"])
    def test_a_missing_token(self, start_server, path, doctor):
        server = start_server(token_secret=SECRET)
        step, finding, fix = only_failure(doctor(f"{server.url}{path}"))
        assert step == "token"
        assert finding.count("a token is required") == 1
        assert "[secret]" not in finding
        assert "--token TOKEN" in fix
        assert "WSSERVER_TOKEN" in fix

    @pytest.mark.parametrize("path", ["/ws?channel=news", "/connection/websocket"])
    def test_a_token_of_another_key_is_not_printed(self, start_server, path, doctor, monkeypatch):
        server = start_server(token_secret=SECRET)
        token = issue_token(SECRET[::-1])
        monkeypatch.setenv("WSSERVER_TOKEN", token)
        steps = doctor(f"{server.url}{path}")
        step, _, fix = only_failure(steps)
        assert (step, "checktoken" in fix, "--token" in fix) == ("token", True, False)
        assert token not in json.dumps(steps)

    @pytest.mark.parametrize("path", ["/ws?channel=news", "/connection/websocket"])
    def test_a_valid_token_is_accepted(self, start_server, path, doctor):
        server = start_server(token_secret=SECRET)
        assert "fail" not in statuses(doctor(f"{server.url}{path}", "--token", issue_token(SECRET))).values()

    @pytest.mark.parametrize("path", ["/ws", "/ws?channel=news", "/echo"])
    def test_a_token_is_checked_where_the_server_checks_tokens(self, start_server, path, doctor):
        server = start_server(token_secret=SECRET)
        accepted = doctor(f"{server.url}{path}", "--channel", "news", "--token", issue_token(SECRET))["token"]
        assert (accepted["status"], accepted["finding"]) == ("ok", "the server has checked the token, and accepts it")
        step, finding, fix = only_failure(doctor(f"{server.url}{path}", "--token", "a.b.c"))
        assert (step, "not base64url" in finding, "gentoken" in fix) == ("token", True, True)

    def test_a_token_that_the_server_ignores_is_a_warning(self, server, doctor):
        step = doctor(f"{server.url}/ws", "--token", "a.b.c")["token"]
        assert (step["status"], "has not checked the token" in step["finding"]) == ("warn", True)
        assert "--channel NAME" in step["fix"]
        assert "--token-secret" in step["fix"]

    def test_event_streams_are_examined_with_a_channel_that_is_allowed(self, start_server, tmp_path, doctor):
        server = start_server(channel_allow=("news",))
        with running_nginx(tmp_path, server.port) as port:
            url = f"ws://127.0.0.1:{port}/ws"
            skipped = doctor(url)["sse"]
            assert (skipped["status"], "'doctor'" in skipped["finding"]) == ("skip", True)
            assert "is not allowed" in skipped["finding"]
            assert "--channel NAME" in skipped["finding"]
            assert doctor(url, "--channel", "news")["sse"]["status"] == "ok"
            assert doctor(f"{url}?channel=news")["sse"]["status"] == "ok"
            step, _, fix = only_failure(doctor(url, "--channel", "other"))
            assert (step, "--channel-allow" in fix) == ("sse", True)

    def test_a_temporary_refusal_is_not_the_first_event(self, start_server, redis, doctor):
        server = start_server(redis=redis.url)
        redis.kill()
        steps = doctor(f"{server.url}/ws")
        assert steps["sse"]["status"] == "fail"
        assert "503 Redis is unavailable" in steps["sse"]["finding"]
        assert "/ready" in steps["sse"]["fix"]

    def test_health_on_another_port_is_not_a_failure(self, start_server, tmp_path, doctor):
        server = start_server(admin_listen=(f"tcp:{free_port()}:interface=127.0.0.1",))
        with running_nginx(tmp_path, server.port) as port:
            step = doctor(f"ws://127.0.0.1:{port}/ws")["health"]
        assert (step["status"], "--admin-listen" in step["finding"]) == ("skip", True)


class ProgramTests:
    """The program as a user runs it."""

    def test_the_report_is_one_line_per_step_and_one_per_repair(self, server):
        command = [PROGRAM, "doctor", f"{server.url}/ws", "--origin", "https://x.example", "--wait", "0"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, "")
        lines = [line.split(None, 2)[:2] for line in done.stdout.splitlines()]
        assert lines == [["ok", "tcp"], ["fail", "origin"], ["do:", "start"]]

    def test_ctrl_c_ends_it_without_a_message(self, server):
        command = [PROGRAM, "doctor", f"{server.url}/ws", "--wait", "5m"]
        program = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in program.stdout:
            if line.startswith((b"ok    sse", b"fail")):
                break
        os.kill(program.pid, signal.SIGINT)
        assert program.wait(TIMEOUT) == -signal.SIGINT
        assert program.communicate() == (b"", b"")

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (["ftp://x"], "URL: expected a URL such as ws://127.0.0.1:8080/echo, not 'ftp://x'"),
            (["ws://x", "--wait", "x"], "--wait: expected a time from 0s to 1h"),
            (["ws://x", "--header", "x y"], "--header: expected printable ASCII such as 'Cookie: a=b', not 'x y'"),
            (["ws://x", "--channel", "a\nb"], "--channel: expected the name of a channel, not "),
            (["ws://x", "--ca", "/nowhere"], "--ca: cannot read '/nowhere': No such file or directory"),
        ],
    )
    def test_an_invalid_argument_is_one_line(self, words, error, capsys):
        with pytest.raises(SystemExit):
            main(["doctor", *words])
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.startswith(f"wsserver: {error}")
        assert len(errors.splitlines()) == 1
