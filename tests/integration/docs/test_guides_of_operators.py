"""The guides for operators: their commands run, and print what the pages show."""

import json
import re
import socket
import ssl
import sys
from contextlib import closing

import pytest
from guide import Guide, read_settings, replace_all, run_commands
from nginx import running_nginx
from peers import RawPeer, handshake_request
from ports import free_port
from programs import run
from redis_server import RedisServer
from server_process import SERVE, Process
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from waiting import wait_until
from websockets.sync.client import connect

ADMIN, MONITORING, LOGS, HEALTH = (Guide(f"how-to/{name}") for name in ("admin-page", "monitoring", "logs", "health"))
RELOAD, WORKERS, TLS, REDIS = (Guide(f"how-to/{name}") for name in ("stop-and-reload", "workers", "tls", "redis"))
LISTENING, PROXIES, ORIGINS = (Guide(f"how-to/{name}") for name in ("listening", "proxies", "cross-origin"))
DIAGNOSE = Guide("how-to/diagnose-a-connection")


def get(port, path, *lines, tls=None, method="GET", body=b""):
    """Return the response to a request."""
    with RawPeer(port, tls=tls) as peer:
        return peer.request(path, *lines, method=method, body=body)


def without_addresses(text):
    """Replace the times, ports and addresses of peers in a log line."""
    return re.sub(r"^\S+ \[[^]]*\] |(?<=peer=)[\d.:]+", "N", text)


class AdminTests:
    """docs/how-to/admin-page.md and monitoring.md."""

    def test_the_page_opens_with_the_key_of_the_command(self, serve):
        server = serve(ADMIN.block("WSSERVER_API_KEY=secret wsserver serve\n"))
        assert get(server.port, "/admin").status == 200
        for key, status in (("secret", 200), ("other", 401)):
            assert get(server.port, "/api/info", f"X-API-Key: {key}", method="POST", body=b"{}").status == status

    def test_an_admin_endpoint_takes_the_page_from_the_public_port(self, serve):
        command = ADMIN.block("WSSERVER_API_KEY=secret wsserver serve --interface")
        server = serve(command, {"9000": 0})
        admin = server.service.ports[1].getHost().port
        assert [get(port, "/admin").status for port in (server.port, admin)] == [404, 200]

    def test_the_metrics_are_on_the_admin_endpoint(self, serve):
        server = serve(MONITORING.block("wsserver serve --metrics on"), {"9000": 0})
        admin = server.service.ports[1].getHost().port
        assert [get(port, "/metrics").status for port in (server.port, admin)] == [404, 200]

    @pytest.mark.parametrize("key", ["static_configs", "authorization"])
    def test_prometheus_accepts_the_configuration(self, tmp_path, key):
        (tmp_path / "key").write_text("secret")
        text = MONITORING.block(f"scrape_configs:\n  - job_name: wsserver\n    {key}").replace(
            "/etc/prometheus/wsserver-api-key", str(tmp_path / "key")
        )
        (tmp_path / "prometheus.yml").write_text(text)
        checked = run("promtool", "check", "config", "prometheus.yml", directory=tmp_path)
        assert checked.status == 0, checked.output


class LogTests:
    """docs/how-to/logs.md."""

    def test_a_refusal_is_logged_and_listed_as_shown_and_many_are_counted(self, start_server, log, tmp_path):
        server = start_server(api_key="secret", log_max_rate=1)
        for _ in range(10):
            with server.connect() as peer:
                peer.send(handshake_request("/ws", "Origin: https://x.example"))
                assert peer.read_response().status == 403
        shown, counted = (
            LOGS.block("2026-"),
            re.compile(LOGS.block("connections refused").strip().replace("4381", r"\d+")),
        )
        assert without_addresses(shown).rstrip().removeprefix("N") in [
            without_addresses(line) for line in log.lines("wsserver.connection")
        ]
        wait_until(lambda: any(map(counted.fullmatch, log.lines("wsserver.connection"))), "the number")
        printed = run_commands(LOGS.block("curl").replace("8080", str(server.port)), tmp_path)
        [refused] = json.loads(printed)["result"]["rejects"]
        assert (refused["count"], refused["reason"]) == (10, re.search(r'reason="(.*?)" peer', shown)[1])


def test_a_read_only_redis_makes_the_server_not_ready_as_shown(start_server, tmp_path):
    """docs/how-to/health.md."""
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        redis.run("REPLICAOF", "127.0.0.1", "1")
        server = start_server(redis=redis.url)
        wait_until(lambda: b"read-only" in get(server.port, "/ready").body, "the reason")
        command = HEALTH.block("$ curl -i").partition("\n")[0].removeprefix("$ ")
        printed = run_commands(command.replace("8080", str(server.port)), tmp_path)
        first, _, *last = HEALTH.output("curl -i").splitlines()
        assert printed.splitlines()[0] == first
        assert printed.splitlines()[-2:] == last
    finally:
        redis.stop()


def test_sighup_logs_the_lines_that_the_page_shows(tmp_path):
    """docs/how-to/stop-and-reload.md."""
    config = tmp_path / "wsserver.toml"
    config.write_text('port = 0\n\n# Comment\nping_interval = "20s"\n')
    command = [sys.executable, "-c", SERVE, "serve", "--config", str(config)]
    with closing(Process(command=command)) as server:

        def reload(beginning):
            line = RELOAD.block(beginning).strip().replace("/etc/wsserver.toml", str(config))
            run_commands(RELOAD.block("kill -HUP PID").replace("PID", str(server.process.pid)), tmp_path)
            server.wait_or_close(lambda: re.search(re.escape(line) + "$", server.read_log(), re.MULTILINE), line)

        reload("options reloaded")
        config.write_text('port = 0\n\n# Comment\nping_interval = "soon"\n')
        reload("options not reloaded")
        config.write_text('port = 1\nredis = "redis://127.0.0.1:1"\n')
        reload("options changed that need a restart")


def test_workers_serve_with_redis_as_the_command_says(tmp_path):
    """docs/how-to/workers.md; on two cores, however many the machine has."""
    redis, port = RedisServer(tmp_path), free_port()
    redis.start()
    command = replace_all(WORKERS.block("wsserver serve --workers auto"), {"redis://127.0.0.1:6379": redis.url})
    words = ["taskset", "-c", "0,1", sys.executable, "-c", SERVE, *command.split()[1:], "--port", str(port)]
    try:
        with closing(Process(command=words)) as server:
            server.wait_or_close(lambda: "all workers accept connections" in server.read_log(), "the workers")
            wait_until(lambda: get(port, "/ready").status == 200, "Redis")
            numbers = set(re.findall(r"worker=(\d+)", server.read_log()))
            assert numbers <= {"1", "2"}
    finally:
        redis.stop()


class Hello(Resource):
    """A page of an application."""

    isLeaf = True

    def render_GET(self, request):
        return b"hello"


class TLSTests:
    """docs/how-to/tls.md."""

    @pytest.fixture
    def files(self, issued):
        """Return the names of the page's files -> the paths of those of the tests."""
        return {"fullchain.pem": issued["ECDSA"].fullchain, "privkey.pem": issued["ECDSA"].privkey}

    @pytest.fixture
    def trust(self, authority):
        """Return the TLS context of a client that trusts the certificate."""
        return ssl.create_default_context(cafile=str(authority.root))

    def test_the_command_serves_tls_and_logs_both_urls(self, serve, files, trust, log):
        server = serve(TLS.block("wsserver serve --port 8443 --tls-cert fullchain"), files)
        assert get(server.port, "/ready", tls=trust).status == 200
        assert TLS.block("the page is at").strip().replace("8443", str(server.port)) in log.lines("wsserver")

    def test_a_client_that_does_not_trust_the_certificate_is_logged_as_shown(self, serve, files, log):
        server = serve(TLS.block("wsserver serve --port 8443 --tls-cert fullchain"), files)
        with socket.create_connection(("127.0.0.1", server.port)) as plain, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        shown = without_addresses(TLS.block("tls handshake failed").strip())

        def lines():
            return [without_addresses(line) for line in log.lines("wsserver.connection")]

        wait_until(lambda: shown in lines(), lambda: f"{shown} in {lines()}")

    def test_two_listeners_serve_with_and_without_tls(self, serve, files, trust):
        server = serve(TLS.block("wsserver serve --listen"), {"8080": 0, "8443": 0, **files})
        plain, secure = (port.getHost().port for port in server.service.ports)
        assert [get(plain, "/ready").status, get(secure, "/ready", tls=trust).status] == [200, 200]

    def test_a_site_of_twisted_web_serves_with_the_context_of_the_page(self, server, files, trust):
        class Listener:
            def listenSSL(self, port, site, context):
                assert port == 8443
                self.port = reactor.listenSSL(0, site, context, interface="127.0.0.1")

        listener = Listener()
        names = {"reactor": listener, "site": Site(Hello())}
        server.ask(lambda: exec(replace_all(TLS.block("from wsserver.wire.certificates"), files), names))
        try:
            assert get(listener.port.getHost().port, "/", tls=trust).body == b"hello"
        finally:
            server.ask(listener.port.stopListening)

    def test_the_hook_of_certbot_installs_the_renewed_files(self, tmp_path):
        group = run_commands("id -gn", tmp_path).strip()
        hook, target = tmp_path / "hook", tmp_path / "wsserver"
        target.mkdir()
        parts = {
            "/etc/letsencrypt/renewal-hooks/deploy/wsserver": hook,
            "www-data": group,
            "/etc/wsserver/": f"{target}/",
        }
        run_commands(replace_all(TLS.block("cat > /etc/letsencrypt"), parts), tmp_path)
        for name in ("privkey.pem", "fullchain.pem"):
            (tmp_path / name).write_text(name)
        run_commands(str(hook), tmp_path, {"RENEWED_LINEAGE": str(tmp_path)})
        assert {path.name: oct(path.stat().st_mode & 0o777) for path in target.iterdir()} == {
            "privkey.pem": "0o640",
            "fullchain.pem": "0o640",
        }


class ListeningTests:
    """docs/how-to/listening.md, proxies.md and cross-origin.md."""

    def test_all_addresses(self, serve):
        server = serve(LISTENING.block("wsserver serve --port 9000"))
        assert server.service.ports[0].getHost().host == "0.0.0.0"
        assert read_settings(LISTENING.block("wsserver serve --port 9000")).port == 9000

    def test_a_port_and_a_unix_socket(self, serve, tmp_path):
        path = tmp_path / "ws.sock"
        server = serve(LISTENING.block("wsserver serve --listen"), {"8080": 0, "/run/ws.sock": path})
        assert get(server.port, "/ready").status == 200
        assert path.stat().st_mode & 0o777 == 0o660
        assert run_commands(f"curl -s --unix-socket {path} http://localhost/health", tmp_path).strip() == "alive"

    def test_a_daemon_starts_and_stops(self, tmp_path):
        start, stop = LISTENING.block("twistd --pidfile").splitlines()
        port = free_port()
        run_commands(start, tmp_path, {"WSSERVER_PORT": str(port), "WSSERVER_DRAIN_JITTER": "0"})
        log = tmp_path / "ws.log"
        wait_until(lambda: log.exists() and f"ws://127.0.0.1:{port}/" in log.read_text(), "the daemon")
        run_commands(stop, tmp_path)
        wait_until(lambda: not (tmp_path / "ws.pid").exists(), "the end of the daemon")

    def test_a_trusted_proxy_names_the_client(self, serve):
        server = serve(PROXIES.block("wsserver serve --trusted-proxy"))
        header = PROXIES.block("X-Forwarded-For:").strip()
        found = json.loads(get(server.port, "/whoami", header).body)
        assert (found["address"], found["peer"].partition(":")[0]) == ("203.0.113.7", "127.0.0.1")

    def test_a_page_of_the_allowed_origin_connects_and_reads_events(self, serve, tmp_path):
        server = serve(ORIGINS.block("wsserver serve --origin"), channel_allow=("news",))
        origin = {"origin": "https://app.example", "proxy": None}
        with connect(f"{server.url}/echo", **origin) as client:
            client.send("hello")
            assert client.recv(10) == "hello"
        script = replace_all(ORIGINS.block("const source"), {"https://push.example": f"http://127.0.0.1:{server.port}"})
        script += "source.onopen = () => { console.log(source.withCredentials); source.close(); };\n"
        (tmp_path / "page.mjs").write_text(script)
        ran = run("node", "--experimental-eventsource", "--no-warnings", "page.mjs", directory=tmp_path)
        assert ran.output == "true\n", ran.errors

    def test_a_page_of_the_origin_for_the_api_may_call_it(self, serve):
        server = serve(ORIGINS.block("wsserver serve --api-key"))
        asked = ("Origin: https://admin.example", "Access-Control-Request-Method: POST")
        response = get(server.port, "/api/publish", *asked, method="OPTIONS")
        assert (response.status, response.header("access-control-allow-origin")) == (204, "https://admin.example")


class RedisTests:
    """docs/how-to/redis.md."""

    @pytest.fixture
    def redis(self, tmp_path):
        """Run a Redis server."""
        made = RedisServer(tmp_path)
        made.start()
        yield made
        made.stop()

    def test_the_command_connects_to_redis(self, serve, redis):
        command = REDIS.block("pip install '.[redis]'").splitlines()[1]
        server = serve(command, {"redis://127.0.0.1:6379": redis.url})
        wait_until(lambda: get(server.port, "/ready").status == 200, "ready")

    def test_the_user_with_the_permissions_of_the_page_suffices(self, start_server, redis, tmp_path):
        run_commands(REDIS.block("redis-cli ACL").replace("redis-cli", f"redis-cli -p {redis.port}"), tmp_path)
        server = start_server(redis=redis.url.replace("//", "//web:password@"), channel_allow=("news*",))
        wait_until(lambda: get(server.port, "/ready").status == 200, "ready")

    def test_an_outage_is_logged_as_shown(self, start_server, log):
        server = start_server(redis="redis://127.0.0.1:1/0")
        shown = REDIS.block("Redis at redis://10.0.0.2:6379/0").strip().replace("10.0.0.2:6379", "127.0.0.1:1")
        wait_until(lambda: shown in log.lines("wsserver.redis"), lambda: f"{shown} in {log.lines('wsserver.redis')}")
        assert server.service.hub.broker.up is False


class DoctorTests:
    """docs/how-to/diagnose-a-connection.md."""

    def test_missing_lines_of_nginx_are_reported_as_shown(self, server, tmp_path):
        lines = (
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection $connection_header;",
        )
        shown = DIAGNOSE.output("wsserver doctor ws://127.0.0.1:8000")
        [missing] = re.findall(r"do: add `(.*?)`", shown)
        with running_nginx(tmp_path, server.port, edits={missing: ""}) as port:
            printed = run_commands(f"wsserver doctor ws://127.0.0.1:{port}/ws --wait 0", tmp_path, status=1)
        assert missing in lines
        version = r"nginx/[\d.]+"
        expected = re.sub(version, "nginx", shown.replace("8000", str(port)))
        assert expected.strip() in re.sub(version, "nginx", printed)
