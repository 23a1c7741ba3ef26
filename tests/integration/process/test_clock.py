"""The system clock jumps while the server runs: durations are not affected, and dates follow the clock."""

import contextlib
import datetime
import json
from email.utils import parsedate_to_datetime

import pytest
from fake_clock import FakeClock
from peers import PING, PONG, TEXT
from server_process import RedisProcess
from waiting import TIMEOUT, wait_until

# Probe Redis ten times as often as usual; otherwise the test would mostly wait for the probe.
SERVE = (
    "import sys; from wsserver.redis import supervisor; supervisor.PROBE_INTERVAL = 0.2; "
    "from wsserver.cli.main import main; main(sys.argv[1:])"
)

PING_INTERVAL = "200ms"
"""The interval between pings, in which the ticker of this test ticks four times."""


class Client:
    """A WebSocket client that answers and counts pings, including those of the Centrifuge protocol."""

    def __init__(self, peer):
        self._peer = peer
        self.pings = 0

    def send(self, text):
        """Send a text message."""
        self._peer.send_frame(TEXT, text.encode())

    def read(self):
        """Read one frame; return its text, or an empty text for a ping."""
        got = self._peer.read_frame()
        assert got.opcode in (TEXT, PING), got
        is_ping = got.opcode == PING or got.payload == b"{}"
        if is_ping:
            self.pings += 1
            self._peer.send_frame(PONG if got.opcode == PING else TEXT, got.payload)
        return "" if is_ping else got.payload.decode()

    def read_text(self):
        """Read a text message."""
        while not (text := self.read()):
            pass
        return text

    def read_pings(self, count):
        """Read frames until `count` pings have arrived."""
        end = self.pings + count
        while self.pings < end:
            self.read()

    def catch_up(self):
        """Read the frames received so far; return their texts."""
        texts = []
        self._peer.socket.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            while True:
                texts.append(self.read())
        self._peer.socket.settimeout(TIMEOUT)
        return texts


class ClockJumpTests:
    """The system clock of one server jumps several times while clients are connected."""

    @pytest.fixture
    def clock(self, tmp_path):
        """Return the fake system clock of the server."""
        return FakeClock(tmp_path)

    @pytest.fixture
    def process(self, redis, clock):
        """Start a server with Redis and short intervals."""
        options = ("--ping-interval", PING_INTERVAL, "--ping-timeout", "10s")
        process = RedisProcess(redis, *options, serve=SERVE, environ=clock.environ)
        yield process
        process.stop()

    def test_pings_ticks_and_probes_are_not_affected_by_clock_jumps(self, process, redis, clock):
        """No client is disconnected, no ping is missing or early, and the server still detects a Redis that hangs."""
        with (
            process.open("/echo") as echo,
            process.open("/ticker?every=50ms") as ticker,
            process.open("/connection/websocket") as centrifuge,
        ):
            clients = [Client(peer) for peer in (echo, ticker, centrifuge)]
            clients[2].send(json.dumps({"id": 1, "connect": {}}))
            assert json.loads(clients[2].read_text())["connect"]["ping"] == 1
            for outages, seconds in enumerate((3600, 0, 86_400, 0), 1):
                for client in clients:
                    client.catch_up()
                clock.jump(seconds)
                self._assert_dates_follow(process, seconds)
                self._assert_timers_run(*clients)
                self._assert_a_frozen_redis_is_noticed(process, redis, outages)

    @staticmethod
    def _assert_dates_follow(process, seconds):
        expected = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        with process.connect() as peer:
            date = parsedate_to_datetime(peer.request("/").header("date"))
        assert abs((date - expected).total_seconds()) < 10
        with process.open("/") as peer:
            peer.send_frame(TEXT, b"date")
            assert peer.read_message() in {
                (expected + datetime.timedelta(seconds=off)).astimezone().date().isoformat() for off in (-10, 10)
            }

    @staticmethod
    def _assert_timers_run(echo, ticker, centrifuge):
        # The first may be due at any time; the next ones are an interval after a pong, so ticks come between.
        echo.read_pings(1)
        for _ in range(2):
            ticker.catch_up()
            echo.read_pings(1)
            assert ticker.catch_up(), "a ping came early"
        number = int(ticker.read_text().removeprefix("tick "))
        for following in range(1, 4):
            assert ticker.read_text() == f"tick {number + following}"
        centrifuge.read_pings(1)

    @staticmethod
    def _assert_a_frozen_redis_is_noticed(process, redis, outages):
        redis.freeze()
        try:
            wait_until(lambda: process.read_log().count("no probe came back") >= outages, "the probe is missed")
        finally:
            redis.thaw()
        wait_until(process.is_ready, "Redis is back")
