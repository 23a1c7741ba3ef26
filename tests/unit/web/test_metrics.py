"""Tests for wsserver/web/metrics.py and exposition.py: the values of the metrics, their documentation and formats."""

import functools
import json
import re
from unittest.mock import patch

import pytest
from paths import ROOT
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.defer import succeed

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame
from wsserver.web.exposition import GROUP_METRICS, Exposition
from wsserver.web.metrics import METRICS, PREFIX
from wsserver.wire import fastpath, frames

WRITERS = {"python": fastpath.py_sum_messages}
if frames.COMPILED:
    WRITERS["compiled"] = frames.SPEEDUPS.sum_messages


class Server:
    """A server with metrics, and a client that reads them."""

    def __init__(self, **options):
        self.server = MemoryServer(Settings(**{"metrics": "on", "log_max_rate": 0, **options}))

    def get(self, target="/metrics", method="GET", **headers):
        client = self.server.connect()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        client.send(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{lines}\r\n".encode())
        return bytes(client.transport.written)

    def post(self, target, body, **headers):
        client = self.server.connect()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        client.send(f"{head}{body}".encode())
        return bytes(client.transport.written)

    def values(self, **headers):
        """Return the sample's name and labels -> its value."""
        text = self.get(**headers).partition(b"\r\n\r\n")[2].decode()
        return {
            (sample.name.removeprefix(PREFIX), *sorted(sample.labels.values())): sample.value
            for family in parse_text(text)
            for sample in family.samples
        }


class ValueTests:
    """The values of the metrics."""

    def test_messages_of_open_and_of_closed_connections_are_counted_once(self):
        one = Server()
        clients = [one.server.connect() for _ in range(3)]
        for client in clients:
            client.open("/echo")
            client.send_text("hello")
        names = ("messages_received_total", "received_bytes_total", "messages_sent_total", "sent_bytes_total")
        expected = dict(zip([(name, "websocket") for name in names], (3, 15, 3, 15), strict=True))
        assert expected.items() <= one.values().items()
        clients[0].send_close(1000)
        clients[1].transport.lose()
        assert expected.items() <= one.values().items()

    def test_connections_are_counted_by_transport_code_and_initiator(self):
        one = Server()
        clients = [one.server.connect() for _ in range(4)]
        for client in clients:
            client.open("/echo")
        clients[0].send_close(1000)
        clients[1].send_close(4095)
        clients[2].send(build_frame(3))
        clients[2].send_close(1002)
        values = one.values()
        assert values["connections", "websocket"] == 1
        assert values["connections_opened_total", "websocket"] == 4
        assert {name[1:]: value for name, value in values.items() if name[0] == "disconnects_total"} == {
            ("1000", "peer", "websocket"): 1,
            ("4xxx", "peer", "websocket"): 1,
            ("1002", "server", "websocket"): 1,
        }

    def test_refusals_requests_and_calls_are_counted_by_cause_status_and_method(self):
        one = Server(api_key="k")
        one.server.connect().open("/echo", {"Origin": "https://evil.example"})
        one.get("/ready")
        one.get("/nothing")
        for method in ("publish", "nothing", "else"):
            one.post(f"/api/{method}", "{}", X_API_Key="k")
        values = one.values(X_API_Key="k")
        assert values["refusals_total", "origin"] == 1
        assert values["http_requests_total", "200"] == 1
        assert values["http_requests_total", "404"] == 3
        assert values["api_requests_total", "400", "publish"] == 1
        assert values["api_requests_total", "404", "unknown"] == 2

    def test_publications_subscriptions_and_deliveries_are_counted(self):
        one = Server(api_key="k", channel_allow=("*",))
        clients = [one.server.connect() for _ in range(2)]
        for client in clients:
            client.open("/ws?channel=foo")
        assert b" 200 " in one.post("/api/publish", '{"channel": "foo", "data": "x"}', X_API_Key="k")
        one.server.clock.advance(0)
        values = one.values(X_API_Key="k")
        assert values["subscriptions",] == 2
        assert values["channels",] == 1
        assert values["published_total", "backend"] == 1
        assert values["broadcast_duration_seconds_count",] == 1
        assert values["messages_sent_total", "websocket"] == 2
        for client in clients:
            client.transport.lose()
        values = one.values(X_API_Key="k")
        assert (values["subscriptions",], values["channels",]) == (0, 0)

    def test_an_event_stream_is_a_connection_until_it_ends(self):
        one = Server(channel_allow=("*",))
        client = one.server.connect()
        client.send(b"GET /sse?channel=foo HTTP/1.1\r\nHost: a\r\n\r\n")
        assert one.values()["connections", "sse"] == 1
        client.transport.lose()
        values = one.values()
        assert values["connections", "sse"] == 0
        assert values["disconnects_total", "3000", "peer", "sse"] == 1

    @pytest.mark.parametrize("ends", [False, True], ids=["open", "ended"])
    def test_the_messages_of_an_event_stream_are_counted_once(self, ends):
        one = Server(channel_allow=("*",), api_key="k")
        client = one.server.connect()
        client.send(b"GET /sse?channel=foo HTTP/1.1\r\nHost: a\r\n\r\n")
        for text in ("hello", "you"):
            one.post("/api/publish", json.dumps({"channel": "foo", "data": text}), X_API_Key="k")
            one.server.clock.advance(0)
        (stream,) = one.server.service.connections.connections
        if ends:
            stream.close(1001, "")
        values = one.values(X_API_Key="k")
        assert values["messages_sent_total", "sse"] == 2
        assert values["sent_bytes_total", "sse"] == len('"hello""you"')
        assert values["messages_received_total", "sse"] == 0
        client.transport.lose()
        assert one.values(X_API_Key="k")["messages_sent_total", "sse"] == 2

    @pytest.mark.parametrize("ends", [False, True], ids=["open", "ended"])
    def test_the_messages_of_an_http_stream_are_counted_in_both_directions(self, ends):
        one = Server(anonymous=True)
        body = b'{"id":1,"connect":{}}'
        client = one.server.connect()
        head = b"POST /connection/http_stream HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.send(head + body)
        one.server.clock.advance(0)
        assert b'"connect"' in bytes(client.transport.written)
        (stream,) = one.server.service.connections.connections
        if ends:
            stream.close(1001, "")
        values = one.values()
        assert values["messages_received_total", "http_stream"] == 1
        assert values["received_bytes_total", "http_stream"] == len(body)
        # The reply; if the stream ends, also the `disconnect` push.
        assert values["messages_sent_total", "http_stream"] == 1 + ends
        assert values["sent_bytes_total", "http_stream"] > 50

    def test_what_waits_for_a_client_that_does_not_read_is_counted_until_it_reads(self):
        one = Server(channel_allow=("*",), api_key="k")
        client = one.server.connect()
        client.open("/ws?channel=foo")
        (connection,) = one.server.service.connections.connections
        connection.pauseProducing()
        one.post("/api/publish", json.dumps({"channel": "foo", "data": "x" * 1000}), X_API_Key="k")
        one.server.clock.advance(0)
        assert one.values(X_API_Key="k")["send_queue_bytes",] >= 1000
        connection.resumeProducing()
        assert one.values(X_API_Key="k")["send_queue_bytes",] == 0

    def test_a_recovery_is_counted_once_by_its_outcome(self):
        one = Server(channel_allow=("*",), api_key="k", history_size=2)
        publish = functools.partial(one.post, "/api/publish", '{"channel": "foo", "data": "x"}', X_API_Key="k")
        position = json.loads(publish().partition(b"\r\n\r\n")[2])["result"]
        for _ in range(2):
            publish()
        epoch = position["epoch"]

        def read():
            one.server.clock.advance(0.01)
            values = one.values(X_API_Key="k")
            return values["recover_total", "yes"], values["recover_total", "no"]

        one.server.connect().open("/ws?channel=foo")
        one.server.connect().open("/ws?channel=foo&rewind=1")
        assert read() == (0, 0)
        # One after the other: two publications, none, four of which the history has two, and those of another epoch.
        for query, expected in (
            (f"{epoch}:1", (1, 0)),
            (f"{epoch}:3", (2, 0)),
            (f"{epoch}:0", (2, 1)),
            ("other:1", (2, 2)),
        ):
            one.server.connect().open(f"/ws?channel=foo&last_event_id={query}")
            assert read() == expected

    def test_a_pong_is_counted_with_the_time_since_the_ping(self):
        one = Server(ping_interval=5.0)
        client = one.server.connect()
        client.open("/echo")
        one.server.clock.advance(5.1)
        (ping,) = client.frames()
        client.send(build_frame(10, b"wrong"))
        client.send(build_frame(10, ping.payload))
        client.send(build_frame(10, ping.payload))
        assert one.values()["ping_rtt_seconds_count",] == 1

    def test_the_lag_of_the_event_loop_is_measured_while_the_server_runs(self):
        one = Server()
        one.server.service._lag.start()
        for seconds in (0.1, 0.1, 0.7):
            one.server.clock.advance(seconds)
        values = one.values()
        assert values["event_loop_lag_seconds_count",] == 3
        assert values["event_loop_lag_seconds_bucket", "0.25"] == 2
        one.server.service.stopService()
        one.server.clock.advance(10)
        assert one.server.service.connections.counters.lag.counts[0] == 2

    def test_ready_is_0_while_the_server_has_a_problem(self):
        one = Server()
        assert one.values()["ready",] == 1
        with patch.object(one.server.service.hub.broker.__class__, "problem", "the disk is full"):
            assert one.values()["ready",] == 0


@pytest.mark.parametrize("sum_messages", WRITERS.values(), ids=WRITERS)
def test_sum_messages_skips_connections_that_are_not_websockets(sum_messages):
    """In Python and compiled."""
    server = MemoryServer()
    client = server.connect()
    client.open("/echo")
    client.send_text("hello")
    connections = list(server.service.connections.connections)
    expected = (1, 5, 1, 5) if isinstance(connections[0], fastpath.FastPath) else (0, 0, 0, 0)
    if sum_messages is fastpath.py_sum_messages or frames.COMPILED:
        assert sum_messages([*connections, object()]) == expected


class FormatTests:
    """The response to a request for /metrics."""

    def test_both_formats_are_valid_and_have_each_metric_once(self):
        one = Server(hook_connect="http://127.0.0.1:9/", hook_channel="http://127.0.0.1:9/")
        one.server.connect().open("/echo", {"Origin": "https://evil.example"})
        openmetrics = one.get(Accept="application/openmetrics-text;version=1.0.0").partition(b"\r\n\r\n")
        assert b"Content-Type: application/openmetrics-text; version=1.0.0" in openmetrics[0]
        text = one.get().partition(b"\r\n\r\n")
        assert b"Content-Type: text/plain; version=0.0.4" in text[0]
        names = []
        for parse, body in ((parse_openmetrics, openmetrics[2]), (parse_text, text[2])):
            found = [family.name for family in parse(body.decode())]
            assert len(found) == len(set(found))
            names.append(set(found))
        assert names[0] == names[1]
        assert {(PREFIX + one.name).removesuffix("_total") for one in METRICS} <= names[0]

    @pytest.mark.parametrize("accept", ["text/plain; version=x", "application/openmetrics-text; version=1.x", "*/*"])
    def test_an_accept_header_that_it_does_not_understand_gets_the_text_format(self, accept):
        response = Server().get(Accept=accept)
        assert response.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: text/plain; version=0.0.4" in response

    def test_a_method_that_would_change_something_is_refused_with_405(self):
        assert Server().post("/metrics", "{}").startswith(b"HTTP/1.1 405 ")
        assert Server().get(method="HEAD").startswith(b"HTTP/1.1 200 ")

    def test_without_the_option_the_path_is_refused_with_404_that_names_it(self):
        response = Server(metrics="off").get()
        assert response.startswith(b"HTTP/1.1 404 ")
        assert b"--metrics" in response

    def test_a_server_with_an_api_key_requires_it(self):
        one = Server(api_key="secret")
        assert one.get().startswith(b"HTTP/1.1 401 ")
        assert one.get(X_API_Key="wrong").startswith(b"HTTP/1.1 401 ")
        assert one.get(X_API_Key="secret").startswith(b"HTTP/1.1 200 ")
        assert one.get(Authorization="Bearer secret").startswith(b"HTTP/1.1 200 ")

    def test_a_scrape_is_not_logged_and_does_not_count_as_an_error(self, lines):
        Server().get()
        assert not [line for line in lines if "/metrics" in line]


def test_the_api_returns_the_refused_requests_of_all_processes():
    one = Server(api_key="k")
    for path in ("/echo", "/echo?token=hush", "/ticker"):
        one.server.connect().open(path, {"Origin": "https://evil.example"})
    response = one.post("/api/rejects", "{}", X_API_Key="k").partition(b"\r\n\r\n")
    assert response[0].startswith(b"HTTP/1.1 200 ")
    found = json.loads(response[2])["result"]["rejects"]
    assert [(each["path"], each["count"], each["cause"], each["options"]) for each in found] == [
        ("/ticker", 1, "origin", ["--origin"]),
        ("/echo", 2, "origin", ["--origin"]),
    ]
    assert {each["node"] for each in found} == {one.server.service.hub.broker.node}
    assert b"hush" not in response[2]


def test_the_api_returns_the_refused_requests_only_with_the_key():
    assert Server(api_key="k").post("/api/rejects", "{}").startswith(b"HTTP/1.1 401 ")


class Workers:
    """Two workers, of which the second has another number of connections."""

    def __init__(self, numbers):
        self.numbers = numbers

    def collect(self):
        supervisor = {"workers": 2, "serving": 1, "exits": {"1": 3}, "hung": 0}
        return succeed({"1": self.numbers, "2": self.numbers, "supervisor": supervisor})


def test_the_metrics_of_a_group_have_the_label_worker():
    one = Server()
    own = one.server.service.frontend.http
    paths = own.__self__.paths
    exposition = paths["/metrics"]
    paths["/metrics"] = Exposition(exposition._registry, exposition._refuse, lambda: Workers(exposition.numbers()))
    values = one.values()
    assert values["connections", "1", "websocket"] == values["connections", "2", "websocket"] == 0
    assert values["event_loop_lag_seconds_bucket", "+Inf", "2"] == 0
    assert (values["workers",], values["workers_configured",], values["worker_exits_total", "1"]) == (1, 2, 3)
    families = list(parse_text(one.get().partition(b"\r\n\r\n")[2].decode()))
    assert len(families) == len({family.name for family in families})


ROW = re.compile(r"^\| `(wsserver_\w+)` \| (\w+) \|(.*?)\| \S.* \|$", re.MULTILINE)


def test_the_documentation_lists_each_metric_with_its_type_and_labels():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(page)}
    expected = {PREFIX + one.name: (one.kind, one.labels) for one in METRICS}
    assert documented == expected | {PREFIX + name: (kind, labels) for name, kind, _, labels in GROUP_METRICS}
