"""The metrics, the dashboard and the alert rules with the real Prometheus and promtool."""

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request

import pytest
from paths import ROOT
from peers import RawPeer
from ports import free_port
from server_process import Process
from waiting import wait_until

from wsserver.web.exposition import GROUP_METRICS
from wsserver.web.metrics import METRICS, PREFIX

pytestmark = pytest.mark.kernel

RULES = ROOT / "packaging" / "prometheus"
DASHBOARD = json.loads((ROOT / "packaging" / "grafana" / "wsserver.json").read_text("utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def promtool(*arguments, stdin=""):
    """Run promtool, and return what it prints."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server():
    """Run a server with metrics, and with hooks that it never calls."""
    process = Process(
        "--metrics", "on", "--hook-connect", "http://127.0.0.1:9/", "--hook-channel", "http://127.0.0.1:9/"
    )
    yield process
    process.close()


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """Run a Prometheus that scrapes the server, and return its URL."""
    directory, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = {
        "global": {"scrape_interval": "500ms"},
        "rule_files": [str(RULES / "rules.yml")],
        "scrape_configs": [{"job_name": "wsserver", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}],
    }
    # JSON is YAML.
    (directory / "prometheus.yml").write_text(json.dumps(config))
    options = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with subprocess.Popen(
        ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: _is_ready(port), "Prometheus is ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def query(url, expression):
    """Return the result of a query: a list of series."""
    with urllib.request.urlopen(f"{url}/api/v1/query?query={urllib.parse.quote(expression)}", timeout=10) as response:
        return json.load(response)["data"]["result"]


def test_promtool_finds_no_problem_in_the_metrics(server):
    with RawPeer(server.port) as peer:
        assert promtool("check", "metrics", stdin=peer.request("/metrics").text) == ""


def test_promtool_accepts_the_alert_rules_and_their_tests():
    """The tests fire each alert, and show that none fires on a server without problems."""
    assert "SUCCESS" in promtool("check", "rules", str(RULES / "rules.yml"))
    assert "SUCCESS" in promtool("test", "rules", str(RULES / "rules_test.yml"))


def test_prometheus_scrapes_the_server_and_answers_every_query_of_the_dashboard(server, prometheus):
    with RawPeer(server.port) as peer:
        peer.handshake("/echo")
        assert peer.echoes()

        def connections():
            found = query(prometheus, 'wsserver_connections{job="wsserver", transport="websocket"}')
            return found and found[0]["value"][1] == "1"

        wait_until(connections, "Prometheus has the connection")
    for expression in EXPRESSIONS:
        query(prometheus, expression.replace("$job", "wsserver").replace("$__rate_interval", "10s"))
    assert query(prometheus, "wsserver_messages_received_total")[0]["value"][1] == "1"
    assert [alert["metric"] for alert in query(prometheus, 'ALERTS{alertstate="firing"}')] == []


def test_the_dashboard_and_the_rules_use_only_metrics_that_exist():
    known = {PREFIX + one.name for one in (*METRICS, *GROUP_METRICS)}
    used = set(re.findall(r"wsserver_\w+", "\n".join(EXPRESSIONS) + (RULES / "rules.yml").read_text("utf-8")))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in used} <= known
    assert len(used) > 25


def read_value(port, name):
    """Return the value of a metric without labels, as the server returns it now."""
    with RawPeer(port) as peer:
        text = peer.request("/metrics").text
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def test_what_a_client_does_not_read_is_in_the_metrics_until_it_reads(server):
    """The kernel's buffers are full, so bytes wait in the transport."""
    message = b"x" * 1_000_000
    with RawPeer(server.port, receive_buffer=4096) as peer:
        peer.handshake("/echo")
        # The server stops reading from a client that does not read, so the kernel may not take the last ones.
        peer.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(8):
                peer.send_frame(2, message)
        wait_until(lambda: read_value(server.port, "wsserver_send_queue_bytes") > 0, "bytes are queued")
    wait_until(lambda: read_value(server.port, "wsserver_send_queue_bytes") == 0, "nothing is queued")
