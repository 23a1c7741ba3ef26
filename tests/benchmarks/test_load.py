"""The load generator: its modes against the server, and the wrong replies at which it must fail."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from signal import SIGCONT, SIGSTOP

import pytest
from peers import RawPeer
from server_process import Process, RedisProcess
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

EVENT_STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"


def call_api(port, method, body):
    """Call the server's API; return the result."""
    with RawPeer(port) as peer:
        response = peer.request(f"/api/{method}", "X-API-Key: bench", method="POST", body=json.dumps(body).encode())
        return json.loads(response.body)["result"]


def read_offset(port, channel):
    """Return the offset of the last publication in a channel."""
    return call_api(port, "history", {"channel": channel})["offset"]


class PublishTests:
    def test_counts_each_publication_over_http_once(self, measure, server):
        before = read_offset(server.port, "foo")
        figures = measure("api-publish", server.port, "--connections", "5")
        assert 0 < figures["messages"] <= read_offset(server.port, "foo") - before

    def test_publishes_to_the_channels_in_turn(self, measure, server):
        measure("api-publish", server.port, "--connections", "5", "--channels", "3")
        offsets = [read_offset(server.port, f"c{number:05}") for number in range(3)]
        assert min(offsets) > 0
        assert max(offsets) - min(offsets) <= 1

    def test_numbers_and_sizes_the_publications(self, measure, server):
        measure("api-publish", server.port, "--connections", "1", "--channels", "2", "--size", "40")
        history = call_api(server.port, "history", {"channel": "c00001", "limit": 1000})
        texts = [publication["data"]["text"] for publication in history["publications"]]
        assert {len(text) for text in texts[-3:]} == {40}
        assert len({text[:4] for text in texts[-3:]}) == 3

    def test_counts_100_publications_in_a_batch(self, measure, server):
        before = read_offset(server.port, "foo")
        figures = measure("api-batch", server.port, "--connections", "2")
        assert figures["messages"] % 100 == 0
        assert (read_offset(server.port, "foo") - before) % 100 == 0

    @pytest.mark.parametrize("in_flight", ["1", "64"])
    def test_publishes_over_a_centrifuge_connection(self, measure, server, in_flight):
        before = read_offset(server.port, "foo")
        figures = measure("centrifuge-publish", server.port, "--in-flight", in_flight)
        assert 0 < figures["messages"] <= read_offset(server.port, "foo") - before

    def test_measures_when_a_publication_is_back_at_its_publisher(self, measure, server):
        figures = measure("publish-back", server.port)
        assert 0 < figures["messages"] < 0.5 * 1000
        assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"]

    def test_fans_out_over_the_centrifuge_protocol(self, measure, server):
        figures = measure("fanout", server.port, "--centrifuge", "--connections", "20", "--in-flight", "4")
        assert figures["messages"] > 20

    def test_fans_out_to_protobuf_subscribers(self, measure, server):
        figures = measure(
            "fanout", server.port, "--centrifuge", "--protobuf", "--connections", "20", "--in-flight", "4"
        )
        assert figures["messages"] > 0


class FanOutTests:
    def test_fans_out_to_event_streams(self, measure, fanout_port):
        options = ("--sse", "--path", "/sse?channel=foo", "--connections", "20", "--in-flight", "4", "--duration", "2")
        assert measure("fanout", fanout_port, *options)["messages"] > 20

    def test_fans_out_to_raw_subscribers(self, measure, fanout_port):
        options = ("--path", "/ws?channel=foo", "--connections", "20", "--in-flight", "4")
        assert measure("fanout", fanout_port, *options)["messages"] > 20

    def test_publishes_through_redis_to_one_channel(self, measure, redis):
        with closing(RedisProcess(redis)) as process:
            options = ("--path", "/ws?channel=foo", "--connections", "20", "--redis", str(redis.port))
            assert measure("fanout", process.port, *options)["messages"] > 20

    def test_publishes_through_redis_to_channels_in_turn(self, measure, redis):
        with closing(RedisProcess(redis)) as process:
            options = ("--path", "/ws?channel=c", "--connections", "30", "--channels", "30", "--in-flight", "64")
            assert measure("fanout", process.port, *options, "--redis", str(redis.port))["messages"] > 30

    @pytest.mark.parametrize(
        ("head", "body", "message"),
        [
            ("HTTP/1.1 200 OK\r\nContent-Type: text/html", "", "the response is no event stream"),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/event-stream", "", "refused: HTTP/1.1 503"),
            (EVENT_STREAM, "0\r\n\r\n", "the server ended the event stream"),
            (EVENT_STREAM, "a\r\ndata: x\r\n\n\r\n", "unexpected data: x"),
            (EVENT_STREAM, "c\r\nevent: gap\n\n\r\n", "unexpected line in the event stream: event: gap"),
        ],
    )
    def test_fails_at_a_wrong_event_stream(self, fail, head, body, message):
        with answering(f"{head}\r\n\r\n{body}".encode()) as port:
            assert message in fail("fanout", port, "--sse", "--path", "/", "--connections", "1", "--redis", "1")


class LatencyTests:
    def test_sends_at_the_given_rate(self, measure, server):
        figures = measure("latency", server.port, "--connections", "10", "--rate", "1000", "--duration", "1")
        assert 0 < figures["messages"] < 1500
        assert 0 < figures["p50_us"] <= figures["p999_us"]

    def test_counts_the_wait_for_a_server_that_stops_for_a_moment(self, measure, server):
        """10 messages a second are sent while the server is suspended, and each of them has waited."""
        process = server.process
        timers = [
            threading.Timer(0.3, process.send_signal, [SIGSTOP]),
            threading.Timer(0.8, process.send_signal, [SIGCONT]),
        ]
        for timer in timers:
            timer.start()
        figures = measure("latency", server.port, "--connections", "2", "--rate", "200", "--duration", "1.2")
        assert figures["p50_us"] < 300_000
        assert figures["p99_us"] > 300_000


class ConnectTests:
    @pytest.mark.parametrize("protocol", [(), ("--centrifuge",)])
    @pytest.mark.parametrize("end", [(), ("--reset",)])
    def test_opens_and_closes_all_connections(self, measure, server, protocol, end):
        pid = str(server.process.pid)
        figures = measure("connect", server.port, "--connections", "50", "--pid", pid, *protocol, *end)
        assert figures["messages"] == 50
        assert figures["cpu_us"] > 0
        assert figures["closing_cpu_us"] > 0


class IdleTests:
    @pytest.mark.parametrize("protocol", [(), ("--centrifuge",)])
    def test_holds_connections_until_its_input_ends(self, load_generator, server, protocol):
        command = [load_generator, "idle", "--port", str(server.port), "--connections", "30", *protocol]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert json.loads(process.stdout.readline()) == {"open": 30}
            output, _ = process.communicate(timeout=10)
        assert "pings" in json.loads(output)


class WrongEchoTests:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda message: message[:-1], "the reply has 63 bytes, the message has 64"),
            (lambda message: message + "x", "the reply is longer than the message of 64 bytes"),
            (lambda message: message[:-1] + "!", "the reply differs from the message"),
            (lambda message: "a" * 4 + message[4:], "reply 0 is that to another message"),
            (lambda message: message.encode(), "reply begins with 02, expected 01: another opcode"),
        ],
        ids=["shorter", "longer", "changed", "of another message", "binary"],
    )
    def test_fails(self, fail, change, message):
        def handle(connection):
            with suppress(ConnectionClosed):
                for text in connection:
                    connection.send(change(text))

        with serve(handle, "127.0.0.1", 0, compression=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert message in fail("echo", server.socket.getsockname()[1], "--connections", "1")


class EchoTests:
    @pytest.mark.parametrize(
        "options", [("--connections", "20"), ("--in-flight", "4"), ("--size", "20000"), ("--payload", "utf8")]
    )
    def test_measures_echoes(self, measure, server, options):
        figures = measure("echo", server.port, "--pid", str(server.process.pid), *options)
        assert figures["messages"] > 0
        assert figures["rate"] > 0
        assert figures["cpu_us"] > 0

    def test_measures_opening_handshakes(self, measure, server):
        assert measure("handshakes", server.port)["messages"] > 0

    def test_measures_echoes_over_tls(self, measure, server):
        assert measure("echo", server.find_port("https"), "--tls", "--connections", "10")["messages"] > 0

    def test_measures_compressed_echoes(self, measure):
        with closing(Process("--compression", "on")) as process:
            figures = measure("compressed", process.port, "--size", "1024", "--connections", "10")
            assert 0 < figures["reply_bytes"] < 1024

    def test_fails_if_the_server_does_not_compress(self, fail, server):
        assert "does not agree to permessage-deflate" in fail("compressed", server.port, "--size", "1024")

    def test_measures_the_latency_beside_a_hostile_connection(self, measure, server):
        figures = measure("hostile", server.port, "--connections", "10")
        assert figures["without_messages"] > 0
        assert figures["p99_us"] > 0

    def test_measures_answers_to_the_command_time(self, measure, server):
        assert measure("command", server.port, "--path", "/ws")["messages"] > 0


@contextmanager
def answering(response: bytes) -> Iterator[int]:
    """Run an HTTP server that gives the same answer to each request; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            with suppress(ConnectionError):
                super().handle()

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(response)

        def do_GET(self):
            self.wfile.write(response)

        def log_message(self, *_):
            """Print nothing."""

    Handler.protocol_version = "HTTP/1.1"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def respond(body: str, status: str = "200 OK") -> bytes:
    """Return a response with Content-Length."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


RESULT = '{"publish":{"offset":1}}'


class WrongHTTPAnswerTests:
    @pytest.mark.parametrize(
        ("mode", "response", "message"),
        [
            ("api-publish", respond('{"result":{}}', "500 Internal Server Error"), "the API refused: HTTP/1.1 500"),
            ("api-publish", respond('{"error":{"code":103,"message":"x"}}'), "0 of 1 publications have a result"),
            ("api-publish", respond("{}"), "0 of 1 publications have a result"),
            ("api-publish", respond('{"result":{}}') + b"more", "4 bytes more than Content-Length"),
            ("api-publish", b'HTTP/1.1 200 OK\r\n\r\n{"result":{}}', "response without a length"),
            (
                "api-batch",
                respond(f'{{"replies":[{",".join([RESULT] * 99)}]}}'),
                "99 of 100 publications have a result",
            ),
            (
                "api-batch",
                respond(f'{{"replies":[{",".join([RESULT] * 99)},{{"error":{{"code":103}}}}]}}'),
                "99 of 100 publications have a result",
            ),
        ],
    )
    def test_fails(self, fail, mode, response, message):
        with answering(response) as port:
            assert message in fail(mode, port, "--connections", "1")

    def test_fails_with_a_wrong_key(self, fail, server):
        assert "the API refused: HTTP/1.1 401" in fail("api-publish", server.port, "--api-key", "wrong")

    def test_accepts_a_response_in_chunks(self, measure):
        body = b'6\r\n{"resu\r\n7\r\nlt":{}}\r\n0\r\n\r\n'
        with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body) as port:
            assert measure("api-publish", port, "--connections", "1")["messages"] > 0


class FakeCentrifuge:
    """
    A server for one publisher and one subscriber of the Centrifuge protocol.

    Args:
        change_reply: changes the reply to each publish command.
        change_push: changes each push to the subscriber; None as the result sends nothing.
    """

    def __init__(self, change_reply=lambda reply: reply, change_push=lambda push: push):
        self.change_reply, self.change_push = change_reply, change_push
        self.subscriber = None

    def publish(self, publication):
        """Send a publication to the subscriber."""
        push = {"push": {"channel": "foo", "pub": {"data": publication["data"]}}}
        if (changed := self.change_push(push)) is not None:
            self.subscriber.send(json.dumps(changed, separators=(",", ":")))

    def reply(self, connection, command):
        """Execute a command, and return the reply."""
        if "subscribe" in command:
            self.subscriber = connection
        if "publish" not in command:
            kind = "connect" if "connect" in command else "subscribe"
            return {"id": command["id"], kind: {}}
        self.publish(command["publish"])
        return self.change_reply({"id": command["id"], "publish": {}})

    def handle(self, connection):
        """Reply to each command of a connection."""
        with suppress(ConnectionClosed):
            for message in connection:
                for line in message.splitlines():
                    if line != "{}":  # a pong
                        connection.send(json.dumps(self.reply(connection, json.loads(line)), separators=(",", ":")))

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run the server in a thread; yields its port."""
        with serve(self.handle, "127.0.0.1", 0, compression=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.socket.getsockname()[1]


class WrongCentrifugeReplyTests:
    def test_accepts_right_replies(self, measure):
        with FakeCentrifuge().running() as port:
            assert measure("centrifuge-publish", port)["messages"] > 0

    @pytest.mark.parametrize(
        "change",
        [
            lambda reply: {"id": reply["id"], "error": {"code": 103, "message": "permission denied"}},
            lambda reply: {"id": reply["id"] + 1, "publish": {}},
        ],
        ids=["error", "another command"],
    )
    @pytest.mark.parametrize("mode", ["centrifuge-publish", "publish-back", "fanout"])
    def test_fails_at_a_wrong_reply(self, fail, mode, change):
        options = ("--centrifuge", "--connections", "1") if mode == "fanout" else ()
        with FakeCentrifuge(change_reply=change).running() as port:
            assert "unexpected: " in fail(mode, port, *options)

    def test_fails_without_replies(self, fail):
        with FakeCentrifuge(change_reply=lambda _: {}).running() as port:
            assert "no replies within 0.3 s" in fail("centrifuge-publish", port)

    def test_fails_at_a_changed_publication(self, fail):
        def change(push):
            push["push"]["pub"]["data"] = {"text": "a" * 64}
            return push

        with FakeCentrifuge(change_push=change).running() as port:
            assert "not message 0: " in fail("centrifuge-publish", port)

    def test_fails_at_a_lost_publication(self, fail):
        pushes = iter(range(10**9))
        with FakeCentrifuge(change_push=lambda push: None if next(pushes) == 3 else push).running() as port:
            assert "not message 3: " in fail("centrifuge-publish", port)


class WrongOptionTests:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("api-publish", "--in-flight", "2"), "api-publish has 1 message in flight only"),
            (("echo", "--centrifuge"), "echo does not use the Centrifuge protocol"),
            (("api-publish", "--size", "3"), "publications have 4 to 2000 bytes of text"),
            (("latency",), "latency needs --rate"),
            (("echo", "--sse"), "--sse is for fanout"),
            (("fanout", "--channels", "5"), "fanout needs one connection for each channel"),
            (("echo", "--channels", "5"), "--channels is for fanout, api-publish and api-batch"),
        ],
    )
    def test_names_an_option_that_the_mode_cannot_work_with(self, fail, arguments, message):
        mode, *options = arguments
        assert message in fail(mode, 1, *options)
