"""`wsserver publish` and `wsserver subscribe`: real processes against a real server or a scripted one."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
import time

import jwt
import pytest
from command_line import PROGRAM, environment
from pytest_twisted import blockon
from redis_server import RedisServer
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.cli.main import EX_TEMPFAIL
from wsserver.wire.handshake import response

KEY = "secret"


def run(*words, data=None, **more):
    """Run the program to its end; return its status, standard output and standard error."""
    done = subprocess.run(
        [PROGRAM, *words], input=data, env=environment(**more), capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


def one_line(errors):
    """Return the only line of standard error, without the program's name."""
    [line] = errors.splitlines()
    assert line.startswith("wsserver: ")
    return line.removeprefix("wsserver: ")


def waiting_in(pipe):
    """Return how many bytes of a pipe are unread."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder)


class Subscriber:
    """A running `wsserver subscribe`."""

    def __init__(self, directory, *words, output=None, **more):
        self._errors = directory / f"errors-{len(list(directory.iterdir()))}.txt"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [PROGRAM, "subscribe", *words],
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=errors,
                env=environment(**more),
            )

    @property
    def errors(self):
        """The text on standard error."""
        return self._errors.read_text()

    def subscribed(self):
        """Wait until the program is subscribed."""
        wait_until(
            lambda: "subscribed to" in self.errors or self.process.poll() is not None,
            "the subscriber is subscribed or has ended",
        )
        assert "subscribed to" in self.errors
        return self

    def lines(self, count):
        """Read `count` lines of standard output."""
        return [self.process.stdout.readline() for _ in range(count)]

    def end(self):
        """Wait for the end; return the status and the rest of the output."""
        rest = self.process.communicate(timeout=30)[0]
        return self.process.returncode, rest


@pytest.fixture
def subscriber(tmp_path):
    """Return a function that starts subscribers. Those still running after the test are killed."""
    with contextlib.ExitStack() as stack:

        def start(*words, **more):
            one = Subscriber(tmp_path, *words, **more)
            stack.callback(one.process.wait)
            stack.callback(one.process.kill)
            if one.process.stdout:
                stack.callback(one.process.stdout.close)
            return one

        yield start


@pytest.fixture
def url(start_server):
    """Start a server that accepts publications; return its URL."""
    return f"http://127.0.0.1:{blockon(deferToThread(start_server, api_key=KEY)).port}"


class PublishTests:
    """`wsserver publish CHANNEL DATA`."""

    def test_prints_the_servers_result_as_one_line_and_exits_with_0(self, server, start_server):
        server = start_server(api_key=KEY)
        with server.open("/ws?channel=foo") as peer:
            status, output, errors = run("publish", "foo", "hello", "--url", server.url, WSSERVER_API_KEY=KEY)
            assert (status, errors) == (0, "")
            assert peer.read_frame().payload == b"hello"
        [line] = output.splitlines()
        assert json.loads(line)["delivered"] == 1

    @pytest.mark.parametrize(
        "data", [b"", b"hello\n", b"\xff\x00\r\n", "\u4e16\u754c".encode() * 1000, bytes(range(256)) * 170]
    )
    def test_a_dash_publishes_standard_input_byte_for_byte(self, start_server, data):
        server = start_server(api_key=KEY)
        with server.open("/ws?channel=foo") as peer:
            status, _, errors = run("publish", "--api-key", KEY, "--url", server.url, "foo", "-", data=data)
            assert (status, errors) == (0, "")
            assert peer.read_frame().payload == data

    def test_publishes_its_argument_byte_for_byte(self, start_server):
        """This includes bytes that are not UTF-8, JSON with --json, and arguments that look like options."""
        server = start_server(api_key=KEY)
        with server.open("/ws?channel=foo") as peer:
            for words, expected in [
                (["foo", "gr\u00fc\u00dfe"], "gr\u00fc\u00dfe".encode()),
                (["foo", b"\xff"], b"\xff"),
                (["foo", '{"a": 1}'], b'{"a": 1}'),
                (["--json", "foo", '{"a": 1}'], b'{"a": 1}'),
                (["foo", "--", "--json"], b"--json"),
                (["foo", "-1"], b"-1"),
            ]:
                assert run("publish", "--api-key", KEY, "--url", server.url, *words)[0] == 0
                assert peer.read_frame().payload == expected

    def test_the_key_comes_from_flag_environment_or_file_in_that_order(self, url, tmp_path):
        """The file is the server's configuration file, which also has options that this command does not use."""
        file = tmp_path / "wsserver.toml"
        file.write_text(f'api_key = "{KEY}"\nport = 1\n')
        words = ("publish", "foo", "x", "--url", url, "--config", str(file))
        assert run(*words)[0] == 0
        assert run(*words, WSSERVER_API_KEY="wrong")[0] == 1
        assert run(*words, "--api-key", KEY, WSSERVER_API_KEY="wrong")[0] == 0

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (["foo", "x", "--api-key", "wrong"], 1, "refused with 401: "),
            (["", "x"], 1, "refused with 400: channel: channel name is empty"),
            (["wsserver:x", "x"], 1, "refused with 400: channel: channel name 'wsserver:x' is reserved"),
            (["a\x1b[31m", "x"], 1, "refused with 400: channel: channel name 'a\\x1b[31m'"),
            ([b"\xff", "x"], 1, "refused with 400: channel: expected text in UTF-8"),
            (["foo", "x" * 70_000], 1, "expected at most 65536"),
            (["--json", "foo", "{"], 1, "--json: invalid DATA '{': "),
            (["foo", "x", "--api-key", ""], 1, "--api-key: missing; give the server's key"),
            (["foo", "x", "--api-key", "a\r\nb"], 1, "--api-key: "),
            (["foo", "x", "--config", "/nowhere.toml"], 1, "/nowhere.toml: cannot be read"),
            (["foo", "x", "--url", "127.0.0.1"], 1, "--url: expected a URL such as http://127.0.0.1:8080"),
            (
                ["foo", "x", "--url", "http://127.0.0.1:1"],
                EX_TEMPFAIL,
                "no connection to http://127.0.0.1:1: Connection refused",
            ),
            (
                ["foo", "x", "--url", "http://nowhere.invalid"],
                EX_TEMPFAIL,
                "no connection to http://nowhere.invalid:80: ",
            ),
        ],
        ids=lambda value: None,
    )
    def test_an_error_is_one_printable_line_and_a_nonzero_status(self, url, words, status, message):
        """The status is 75 if the server is unreachable, and 1 otherwise."""
        found, output, errors = run("publish", "--api-key", KEY, "--url", url, *words)
        assert (found, output) == (status, b"")
        assert message in one_line(errors)
        assert one_line(errors).isprintable()

    def test_refuses_over_16_mib_of_standard_input(self, url):
        status, _, errors = run("publish", "--api-key", KEY, "--url", url, "foo", "-", data=b"x" * (16 * 1024**2 + 1))
        assert (status, one_line(errors)) == (1, "-: standard input is longer than 16777216 bytes")

    def test_exits_with_1_without_a_server_key_and_75_without_redis(self, start_server):
        server = start_server()
        status, _, errors = run("publish", "foo", "x", "--api-key", KEY, "--url", server.url)
        assert status == 1
        assert "--api-key" in one_line(errors)
        server = start_server(api_key=KEY, redis="redis://127.0.0.1:1")
        status, _, errors = run("publish", "foo", "x", "--api-key", KEY, "--url", server.url)
        assert status == EX_TEMPFAIL
        assert one_line(errors).startswith("refused with 503: ")

    @pytest.mark.parametrize(
        ("answer", "status", "message"),
        [
            (b"", EX_TEMPFAIL, "Remote end closed connection without response"),
            (b"SSH-2.0-x\r\n", EX_TEMPFAIL, "the response is not valid HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1, "refused with 200: hello"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 1, "refused with 200: []"),
            (b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"error": 100}', 1, "refused with 200: "),
            (b'HTTP/1.1 200 OK\r\n\r\n{"error": {"code": 1, "message": "no \x1b[31m"}}', 1, "refused with 200: "),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", EX_TEMPFAIL, "refused with 502: Bad Gateway"),
            (b"HTTP/1.1 799 What\r\n\r\n", 1, "refused with 799: no reason given"),
        ],
        ids=lambda value: None,
    )
    def test_a_response_of_another_server_is_an_error(self, scripted, answer, status, message):
        """The status is 75 if a later attempt may succeed."""
        found, output, errors = run("publish", "--api-key", KEY, "--url", scripted(lambda _: [answer]), "foo", "x")
        assert (found, output) == (status, b"")
        assert message in one_line(errors)
        assert one_line(errors).isprintable()


@pytest.fixture
def scripted():
    """Return a function that starts a server. The server sends given chunks after the first request, then closes."""
    with contextlib.ExitStack() as stack:

        def start(script):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=answer, args=(listener, script))
            thread.start()
            stack.callback(thread.join)
            # The thread may still be waiting for a client.
            stack.callback(wake, listener)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        def wake(listener):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)

        def answer(listener, script):
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(15)
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    for piece in script(request):
                        connection.sendall(piece)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

        yield start


def accept(request):
    """Return the response that accepts an opening handshake."""
    key = next(line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
    return response(key)


@pytest.mark.parametrize(
    ("path", "words"),
    [("/ws", ["subscribe", "foo"]), ("/api", ["publish", "--api-key", KEY, "foo", "x"])],
)
def test_a_url_with_the_path_of_an_endpoint_is_explained(start_server, path, words):
    server = start_server(api_key=KEY)
    status, _, errors = run(*words, "--url", f"{server.url}{path}")
    assert (status, errors.count("\n")) == (1, 1)
    assert errors.endswith(f"; --url expects the URL of the server, without {path}\n")


class SubscribeTests:
    """`wsserver subscribe CHANNEL...`."""

    def test_prints_one_line_per_message_and_exits_with_0_after_count(self, start_server, subscriber):
        """The server sees a clean close."""
        server = start_server(api_key=KEY)
        one = subscriber("foo", "bar", "--url", server.url, "--count", "3").subscribed()
        for channel, data in (("foo", "one"), ("bar", "two"), ("other", "x"), ("foo", "three"), ("foo", "four")):
            run("publish", channel, data, "--api-key", KEY, "--url", server.url)
        assert one.end() == (0, b"one\ntwo\nthree\n")
        assert one.errors == "wsserver: subscribed to foo bar\n"
        wait_until(lambda: server.count_connections() == 0, "the connection is closed")

    def test_prints_each_message_immediately_into_a_pipe(self, url, subscriber):
        one = subscriber("foo", "--url", url).subscribed()
        for data in ("one", "two"):
            run("publish", "foo", data, "--api-key", KEY, "--url", url)
            assert one.lines(1) == [data.encode() + b"\n"]

    def test_raw_output_is_unchanged_and_json_output_encodes_bytes_in_base64(self, url, subscriber):
        raw = subscriber("foo", "--url", url, "--count", "1").subscribed()
        envelope = subscriber("foo", "--url", url, "--count", "1", "--format", "json").subscribed()
        listed = subscriber("foo", "--url", url, "--count", "1", "--format", "redis").subscribed()
        run("publish", "foo", "-", "--api-key", KEY, "--url", url, data=b"\xff\n\x00")
        assert raw.end() == (0, b"\xff\n\x00\n")
        assert json.loads(envelope.end()[1]).items() >= {"channel": "foo", "b64data": "/woA"}.items()
        assert json.loads(listed.end()[1]) == ["message", "foo", "/woA", "base64"]

    def test_a_line_end_within_json_data_becomes_a_space(self, url, subscriber):
        """Therefore --format json prints one line per message."""
        envelope = subscriber("foo", "--url", url, "--count", "1", "--format", "json").subscribed()
        run("publish", "--json", "foo", "-", "--api-key", KEY, "--url", url, data=b'{"a":\n 1.10}')
        assert b'"data":{"a":  1.10}' in envelope.end()[1]

    def test_the_default_format_is_raw_even_if_the_servers_is_json(self, start_server, subscriber):
        server = start_server(api_key=KEY, channel_format="json")
        one = subscriber("foo", "--url", server.url, "--count", "1").subscribed()
        run("publish", "foo", "x", "--api-key", KEY, "--url", server.url)
        assert one.end() == (0, b"x\n")

    def test_since_prints_missed_messages_or_a_gap_event(self, url, subscriber):
        receipts = [
            json.loads(run("publish", "foo", f"{number}", "--api-key", KEY, "--url", url)[1]) for number in range(3)
        ]
        place = f"{receipts[0]['epoch']}:{receipts[0]['offset']}"
        one = subscriber("foo", "--url", url, "--count", "2", "--since", place)
        assert one.end() == (0, b"1\n2\n")
        one = subscriber("foo", "--url", url, "--count", "1", "--since", "other:1")
        status, output = one.end()
        assert status == 0
        assert json.loads(output).items() >= {"event": "gap", "channel": "foo"}.items()

    def test_filter_prints_only_messages_whose_tags_match(self, start_server, subscriber):
        server = start_server(api_key=KEY, channel=(("foo", {"allow_tags_filter": True}),))
        url = f"http://127.0.0.1:{server.port}"
        conditions = ("--filter", "ticker:in:BTC,ETH", "--filter", "price:gt:9")
        one = subscriber("foo", "--url", url, "--count", "1", *conditions).subscribed()
        for price in ("9", "10"):
            tags = ("--tag", "ticker=ETH", "--tag", f"price={price}")
            assert run("publish", "foo", price, "--url", url, "--api-key", KEY, *tags)[0] == 0
        assert one.end() == (0, b"10\n")
        status, _, errors = run("subscribe", "foo", "--url", url, "--filter", "ticker")
        assert status == 1
        assert "filter: expected KEY:CMP:VALUE" in errors

    def test_rewind_prints_the_last_messages_first(self, url, subscriber):
        for number in range(3):
            run("publish", "foo", f"{number}", "--api-key", KEY, "--url", url)
        one = subscriber("foo", "--url", url, "--count", "3", "--rewind", "2").subscribed()
        run("publish", "foo", "new", "--api-key", KEY, "--url", url)
        assert one.end() == (0, b"1\n2\nnew\n")
        one = subscriber("foo", "--url", url, "--count", "1", "--rewind", "1", "--format", "json")
        assert json.loads(one.end()[1]).items() >= {"data": "new", "rewound": True}.items()

    @pytest.mark.parametrize("number", ["0", "101", "x"])
    def test_an_invalid_rewind_exits_with_2(self, number):
        status, _, errors = run("subscribe", "foo", "--rewind", number)
        assert status == 2
        assert f"expected a whole number from 1 to 100, not '{number}'" in errors

    def test_prints_messages_published_to_redis_directly(self, start_server, subscriber, tmp_path):
        """The program exits with 75 as long as the server has not connected to Redis."""
        redis = RedisServer(tmp_path)
        redis.start()
        try:
            server = start_server(redis=redis.url)
            one = None
            while one is None:
                one = subscriber("foo", "--url", server.url, "--count", "100")
                # Until the server has connected to its Redis, it refuses with a temporary error.
                wait_until(lambda one=one: "wsserver: " in one.errors, "the subscriber is subscribed or refused")
                if "subscribed" not in one.errors:
                    assert one.end()[0] == EX_TEMPFAIL
                    one = None
            for number in range(100):
                assert redis.publish("foo", b"%d" % number) == 1
            assert one.end() == (0, b"".join(b"%d\n" % number for number in range(100)))
        finally:
            redis.kill()

    def test_escapes_control_characters_on_a_terminal(self, url, subscriber):
        """A message can neither colour the terminal nor occupy two lines."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            one = subscriber("foo", "--url", url, "--count", "1", output=theirs).subscribed()
            os.close(theirs)
            run("publish", "foo", "-", "--api-key", KEY, "--url", url, data=b"\x1b[31mred\n\xff \xe2\x80\xae")
            assert one.end()[0] == 0
            assert terminal.read(1000) == b"\\x1b[31mred\\n\\xff \\u202e\r\n"

    def test_prints_messages_of_48000_bytes_whole(self, url, subscriber):
        one = subscriber("foo", "--url", url, "--count", "2").subscribed()
        data = b"x" * 48_000
        for _ in range(2):
            run("publish", "foo", "-", "--api-key", KEY, "--url", url, data=data)
        assert one.end() == (0, (data + b"\n") * 2)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    def test_a_signal_closes_with_1000_and_ends_the_process_silently(self, start_server, subscriber, log, number):
        server = start_server()
        one = subscriber("foo", "--url", server.url).subscribed()
        one.process.send_signal(number)
        assert one.end() == (-number, b"")
        assert one.errors == "wsserver: subscribed to foo\n"
        wait_until(
            lambda: any("code=1000 by=peer" in line for line in log.lines("wsserver.connection")), "the close is logged"
        )

    def test_sigint_ends_it_while_its_output_pipe_is_full(self, start_server, subscriber):
        server = start_server(api_key=KEY)
        one = subscriber("foo", "--url", server.url).subscribed()
        for _ in range(3):
            run("publish", "foo", "x" * 60_000, "--api-key", KEY, "--url", server.url)
        # A pipe holds 64 KiB: there is no room for the end of the second message.
        wait_until(lambda: waiting_in(one.process.stdout) > 61_440, "the pipe is full")
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(30) == -signal.SIGINT
        assert one.errors == "wsserver: subscribed to foo\n"

    def test_ends_by_sigpipe_silently_if_its_reader_has_closed(self, url, subscriber):
        """This happens in `wsserver subscribe foo | head -1`."""
        reading, writing = os.pipe()
        one = subscriber("foo", "--url", url, output=writing).subscribed()
        os.close(reading)
        os.close(writing)
        run("publish", "foo", "x", "--api-key", KEY, "--url", url)
        assert one.end()[0] == -signal.SIGPIPE
        assert one.errors == "wsserver: subscribed to foo\n"

    def test_exits_with_1_if_its_output_cannot_be_written(self, url, subscriber):
        with open("/dev/full", "wb") as full:
            one = subscriber("foo", "--url", url, output=full).subscribed()
            run("publish", "foo", "x", "--api-key", KEY, "--url", url)
            assert one.end()[0] == 1
        assert one.errors.splitlines()[1:] == ["wsserver: standard output: No space left on device"]

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            ([""], 1, "refused with 400: channel name is empty"),
            (["wsserver:x"], 1, "refused with 403: channel name 'wsserver:x' is reserved"),
            (["a\x1b[31m"], 1, "refused with 400: channel name 'a\\x1b[31m' contains"),
            ([b"\xff"], 1, "refused with 400: the query is not UTF-8"),
            ([str(number) for number in range(129)], 1, "refused with 400: 129 channels in the URL: expected at"),
            (["x" * 20_000], 1, "refused with 4"),
            (["foo", "--since", "a b"], 1, "refused with 400: last_event_id='a b': expected EPOCH"),
            (["foo", "--token", "a\r\nb"], 1, "--token: expected printable ASCII"),
            (["foo", "--url", "127.0.0.1"], 1, "--url: expected a URL such as http://127.0.0.1:8080"),
            (
                ["foo", "--url", "ws://127.0.0.1:1"],
                EX_TEMPFAIL,
                "no connection to ws://127.0.0.1:1: Connection refused",
            ),
            (
                ["foo", "--url", "ws://nowhere.invalid"],
                EX_TEMPFAIL,
                "no connection to ws://nowhere.invalid:80: DNS lookup failed",
            ),
        ],
        ids=lambda value: None,
    )
    def test_a_refusal_is_one_printable_line_and_a_nonzero_status(self, url, words, status, message):
        """The status is 75 if the server is unreachable, and 1 otherwise."""
        found, output, errors = run("subscribe", "--url", url, *words)
        assert (found, output) == (status, b"")
        assert message in one_line(errors)
        assert one_line(errors).isprintable()

    @pytest.mark.parametrize(
        "words", [[], ["foo", "--count", "0"], ["foo", "--count", "x"], ["foo", "--format", "xml"], ["foo", "--sinec"]]
    )
    def test_an_invalid_command_line_exits_with_2_and_its_usage(self, words):
        status, _, errors = run("subscribe", *words)
        assert status == 2
        assert errors.startswith("usage: wsserver subscribe ")

    def test_exits_with_75_and_the_close_code_if_the_server_stops(self, start_server, subscriber):
        server = start_server()
        one = subscriber("foo", "--url", server.url).subscribed()
        server.stop()
        assert one.end() == (EX_TEMPFAIL, b"")
        assert one.errors.splitlines()[1:] == [
            "wsserver: closed by the server with 1012 (service restart): the server is stopping"
        ]

    @pytest.mark.parametrize(
        ("frames", "status", "message"),
        [
            (b"\x88\x02\x03\xf4", EX_TEMPFAIL, "closed by the server with 1012 (service restart): no reason given"),
            (b"\x88\x07\x03\xf0nope\x1b", 1, "closed by the server with 1008 (policy violation): nope\\x1b"),
            (b"\x88\x02\x03\xe8", 1, "closed by the server with 1000 (normal closure): no reason given"),
            (b"\x88\x0f\x0f\xa1token expired", 1, "closed by the server with 4001 (token expired): token expired"),
            (b"\x88\x02\x0b\xb8", 1, "closed by the server with 3000: no reason given"),
            (b"\x88\x00", 1, "closed by the server with 1005 (no status received): no reason given"),
            (b"", EX_TEMPFAIL, "no connection to ws://"),
            (b"\xff\xff\xff", EX_TEMPFAIL, "no connection to ws://"),
        ],
        ids=lambda value: None,
    )
    def test_reports_how_the_server_ended_the_connection(self, scripted, frames, status, message):
        """The status is 75 if a later attempt may succeed."""
        found, output, errors = run("subscribe", "foo", "--url", scripted(lambda request: [accept(request), frames]))
        assert (found, output) == (status, b"")
        first, second = errors.splitlines()
        assert first == "wsserver: subscribed to foo"
        assert message in second

    @pytest.mark.parametrize(
        ("pieces", "status", "message"),
        [
            ([b""], EX_TEMPFAIL, "the server closed the connection before it answered the handshake"),
            ([b"SSH-2.0-x\r\n\r\n"], EX_TEMPFAIL, "Bad HTTP"),
            ([b"HTTP/1.1 403 Forbidden\xff\r\n\r\n"], EX_TEMPFAIL, "the response is not valid HTTP"),
            ([b"x" * 20_000], EX_TEMPFAIL, "the response is not valid HTTP"),
            ([b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\n\r\n"], EX_TEMPFAIL, "Connection header missing"),
            ([b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"], 1, "refused with 302: Found"),
            (
                [b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<h1>"],
                EX_TEMPFAIL,
                "refused with 502: Bad Gateway",
            ),
            (
                [b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n", b"not", b" today"],
                1,
                "refused with 403: not today",
            ),
            (
                [b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n", b"with", b"out end"],
                1,
                "403: without end",
            ),
            (
                [b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 99999\r\n\r\n", b"y" * 99_999],
                1,
                "refused with 403: yyyy",
            ),
        ],
        ids=lambda value: None,
    )
    def test_reports_the_whole_reason_of_a_refused_handshake(self, scripted, pieces, status, message):
        """The response may arrive in any number of segments. An invalid response is reported as invalid."""
        found, output, errors = run("subscribe", "foo", "--url", scripted(lambda _: pieces))
        assert (found, output) == (status, b"")
        assert message in one_line(errors)

    def test_sends_a_token_in_the_authorization_header(self, scripted):
        """Servers log the URL, but not this header. The token is set by the flag or by the environment variable."""
        requests = []

        def refuse(request):
            requests.append(request)
            return [b"HTTP/1.1 401 Unauthorized\r\n\r\n"]

        run("subscribe", "foo", "--url", scripted(refuse), "--token", "a.b.c")
        run("subscribe", "foo", "--url", scripted(refuse), WSSERVER_TOKEN="d.e.f")
        for request, token in zip(requests, (b"a.b.c", b"d.e.f"), strict=True):
            assert request.startswith(b"GET /ws?channel=foo&format=raw HTTP/1.1\r\n")
            assert b"\r\nAuthorization: Bearer " + token + b"\r\n" in request


class TokenServerTests:
    """A server that requires a token."""

    def test_subscribes_with_a_token_and_is_refused_with_401_without(self, start_server, subscriber):
        secret = "0123456789abcdef" * 2
        server = start_server(api_key=KEY, token_secret=secret)
        token = jwt.encode({"sub": "42", "exp": int(time.time()) + 600, "channels": ["foo"]}, secret, "HS256")
        status, _, errors = run("subscribe", "foo", "--url", server.url)
        assert status == 1
        assert one_line(errors).startswith("refused with 401: ")
        assert one_line(errors).endswith("; use --token or WSSERVER_TOKEN")
        one = subscriber("foo", "--url", server.url, "--count", "1", WSSERVER_TOKEN=token).subscribed()
        run("publish", "foo", "x", "--api-key", KEY, "--url", server.url)
        assert one.end() == (0, b"x\n")


class StandardErrorTests:
    """A process without standard error."""

    def test_subscribe_prints_only_messages_if_standard_error_is_closed(self, url):
        command = f"exec {PROGRAM} subscribe foo --count 1 --url {url} 2>&-"
        with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, env=environment()) as process:
            while json.loads(run("publish", "foo", "x", "--api-key", KEY, "--url", url)[1])["delivered"] == 0:
                assert process.poll() is None
            assert process.communicate(timeout=30)[0] == b"x\n"
            assert process.returncode == 0


class TLSTests:
    """The option --url with an https:// URL."""

    def test_both_commands_connect_if_the_certificate_is_trusted(
        self, start_server, tls_listen, certificate, subscriber
    ):
        server = start_server(listen=tls_listen, api_key=KEY)
        trust = {"SSL_CERT_FILE": str(certificate[1])}
        url = f"https://localhost:{server.port}"
        one = subscriber("foo", "--url", url, "--count", "1", **trust).subscribed()
        assert run("publish", "foo", "x", "--api-key", KEY, "--url", url, **trust)[0] == 0
        assert one.end() == (0, b"x\n")

    def test_both_commands_exit_with_75_if_the_certificate_is_not_trusted(self, start_server, tls_listen):
        url = f"https://localhost:{start_server(listen=tls_listen, api_key=KEY).port}"
        for words in (("subscribe", "foo"), ("publish", "foo", "x", "--api-key", KEY)):
            status, _, errors = run(*words, "--url", url)
            assert status == EX_TEMPFAIL
            assert "TLS: " in one_line(errors)
