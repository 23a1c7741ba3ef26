"""The channel hook: server processes on one Redis report which channels are occupied, also after one was killed."""

import random
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from backend import Backend
from server_process import SERVE, Process, RedisProcess
from waiting import TIMEOUT, wait_until

KEYS = "wsserver:occupancy:{all}:"

IMPATIENT = f"""
from wsserver.hub import occupancy, occupancy_reporter
from wsserver.redis import broker, occupancy as in_redis
import wsserver.service
occupancy.VACATE_DELAY = in_redis.VACATE_DELAY = 2.0
occupancy_reporter.TICK_INTERVAL = 0.5
broker.DEAD_AFTER, broker.HEARTBEAT_INTERVAL = 2.0, 0.5
wsserver.service.LEASE_MARGIN = -8.0
{SERVE}
"""
"""A server whose delays, and the lease for sending events, are shorter than those of `wsserver serve`."""


@pytest.fixture
def started(redis, backend):
    """Return a function that starts server processes with the channel hook."""
    processes = []

    def start(*options):
        options = ("--hook-channel", backend.url("/channel"), "--hook-timeout", "1s", *options)
        processes.append(RedisProcess(redis, *options, serve=IMPATIENT))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


def events(backend):
    """
    Return the events that the backend has received, in order: `+` for occupied, `-` for vacated.

    An event that arrived twice, for example because a process was killed before it could note the answer, counts once.
    """
    received = [event for _, _, body in list(backend.requests) for event in body["events"]]
    once = dict.fromkeys((event["type"], event["channel"], event["time_ms"]) for event in received)
    return [("+" if kind == "occupied" else "-") + channel for kind, channel, _ in once]


def expect(backend, *expected, timeout=TIMEOUT):
    """Wait until the backend has received exactly these events."""
    wait_until(
        lambda: len(events(backend)) >= len(expected),
        lambda: f"{expected} received, but {events(backend)}",
        timeout,
    )
    assert events(backend) == list(expected)


def stay(backend, *expected, seconds):
    """Check that the backend receives no further events for some seconds."""
    time.sleep(seconds)
    assert events(backend) == list(expected)


class TwoProcessesTests:
    """Processes count the subscribers of a channel together."""

    def test_reports_the_first_and_the_last_subscriber_in_all_processes(self, backend, started):
        """A subscriber of any kind counts."""
        one, other = started(), started()
        with one.open("/ws?channel=foo"):
            expect(backend, "+foo")
            with other.open("/ws?channel=foo,bar"):
                expect(backend, "+foo", "+bar")
        _, headers, body = backend.requests[0]
        (event,) = body["events"]
        assert abs(event["time_ms"] - 1000 * time.time()) < 60_000
        assert event == {"channel": "foo", "type": "occupied", "time_ms": event["time_ms"]}
        assert headers["content-type"] == "application/json"
        wait_until(lambda: len(events(backend)) == 4, "both are vacated")
        assert sorted(events(backend)[2:]) == ["-bar", "-foo"]

    def test_a_subscriber_that_moves_to_the_other_process_causes_no_events(self, backend, started):
        one, other = started(), started()
        with one.open("/ws?channel=foo"):
            expect(backend, "+foo")
        time.sleep(0.3)
        with other.open("/ws?channel=foo"):
            stay(backend, "+foo", seconds=4)
        expect(backend, "+foo", "-foo")

    def test_events_of_a_channel_stay_in_order_whichever_process_causes_them(self, backend, started):
        processes = started(), started()
        for number in range(4):
            with processes[number % 2].open("/ws?channel=foo"):
                expect(backend, *["+foo", "-foo"] * number, "+foo")
            expect(backend, *["+foo", "-foo"] * (number + 1))
        times = [event["time_ms"] for _, _, body in backend.requests for event in body["events"]]
        assert times == sorted(times)


class KilledProcessTests:
    """A process that is killed with SIGKILL reports nothing."""

    def test_another_process_vacates_the_channels_of_a_killed_one(self, backend, started):
        """Channels that also have subscribers elsewhere stay occupied."""
        one, other = started(), started()
        with one.open("/ws?channel=both"), other.open("/ws?channel=both,gone"):
            wait_until(lambda: sorted(events(backend)) == ["+both", "+gone"], "both are occupied")
            other.kill()
            wait_until(lambda: len(events(backend)) == 3, "the channel is vacated")
            assert events(backend)[2] == "-gone"
        wait_until(lambda: events(backend)[3:] == ["-both"], "the last subscriber leaves")

    def test_the_channels_of_a_killed_process_are_removed_in_several_batches(self, backend, started):
        one, other = started(), started()
        channels = [f"c{number}" for number in range(1280)]
        with ExitStack() as stack:
            for start in range(0, 1280, 128):
                stack.enter_context(one.open(f"/ws?channel={','.join(channels[start : start + 128])}"))
            wait_until(lambda: len(events(backend)) == 1280, "all channels are occupied")
            one.kill()
            wait_until(lambda: len(events(backend)) == 2560, "all channels are vacated")
        assert sorted(events(backend)) == sorted(sign + channel for sign in "+-" for channel in channels)
        with other.open("/ws?channel=c0"):
            wait_until(lambda: events(backend)[2560:] == ["+c0"], "a channel is occupied again")

    def test_a_process_that_starts_later_vacates_the_channels_of_the_killed_ones(self, backend, started):
        """Nothing was left that could report them."""
        one = started()
        with one.open("/ws?channel=foo,bar"):
            wait_until(lambda: sorted(events(backend)) == ["+bar", "+foo"], "both are occupied")
            one.kill()
        started()
        wait_until(lambda: sorted(events(backend)[2:]) == ["-bar", "-foo"], "both are vacated")

    def test_events_that_a_killed_process_has_not_sent_are_sent_by_another(self, backend, started):
        """The backend gets a request again that it may have handled: at least once."""
        held = threading.Event()
        backend.answer = lambda path, body: held.wait(20) and {"result": {}}
        one = started()
        with one.open("/ws?channel=foo"):
            wait_until(lambda: backend.requests, "the request is in progress")
            other = started()
            with other.open("/ws?channel=foo,bar"):
                one.kill()
                backend.answer = lambda path, body: {"result": {}}
                held.set()
                wait_until(lambda: "+bar" in events(backend), "the other process has the lease")
                assert events(backend)[-2:] == ["+foo", "+bar"]


class Nemesis:
    """
    Opens and closes subscribers at random, kills processes, and lets Redis and the backend fail.

    Args:
        seed: of the random choices.
        start: starts a server process.
        redis: the Redis that the processes share; it must not lose data.
        backend: receives the events.
    """

    CHANNELS = tuple(f"c{number}" for number in range(20))

    def __init__(self, seed, start, redis, backend):
        self._random = random.Random(seed)
        self._start, self._redis, self._backend = start, redis, backend
        self._processes = [start(), start()]
        self._subscribers = []
        self.events = []
        """The events that the backend has accepted, in the order of their requests."""
        backend.answer = self._answer
        self._is_calm = False

    def _answer(self, path, body):
        fault = "" if self._is_calm else self._random.choice(["", "", "", "500", "slow", "drop"])
        if fault == "500":
            return b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        self.events += body["events"]
        if fault == "slow":
            # The events are accepted, but the server does not learn it.
            time.sleep(1.2)
        return None if fault == "drop" else {}

    def run(self, seconds):
        """Cause trouble for some time, and stop then."""
        actions = [self._open] * 12 + [self._close] * 12 + [self._kill, self._freeze]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._random.choice(actions)()
            time.sleep(0.1 * self._random.random())
        self._is_calm = True

    @property
    def occupied(self):
        """The channels that have subscribers."""
        return {channel for _, _, channels in self._subscribers for channel in channels}

    def _open(self):
        process = self._random.choice(self._processes)
        channels = self._random.sample(self.CHANNELS, self._random.randint(1, 3))
        with suppress(AssertionError):
            # Refused with 503 while Redis is away.
            self._subscribers.append((process, process.open(f"/ws?channel={','.join(channels)}"), channels))

    def _close(self):
        if self._subscribers:
            self._subscribers.pop(self._random.randrange(len(self._subscribers)))[1].socket.close()

    def _kill(self):
        process = self._random.choice(self._processes)
        process.kill()
        self._subscribers = [one for one in self._subscribers if one[0] is not process]
        self._processes.remove(process)
        self._processes.append(self._start())

    def _freeze(self):
        self._redis.freeze()
        for _ in range(3):
            self._close()
        time.sleep(self._random.random())
        self._redis.thaw()


class FaultTests:
    """Everything fails now and then."""

    def test_in_the_end_the_backend_knows_which_channels_are_occupied_and_no_event_was_out_of_order(
        self, redis, backend, started
    ):
        seed = random.getrandbits(32)
        nemesis = Nemesis(seed, started, redis, backend)
        nemesis.run(12)

        def known():
            last = {event["channel"]: event["type"] for event in nemesis.events}
            return {channel for channel, kind in last.items() if kind == "occupied"}

        wait_until(lambda: known() == nemesis.occupied, lambda: f"{nemesis.occupied} known, but {known()}; seed {seed}")
        for channel in nemesis.CHANNELS:
            received = [(one["time_ms"], one["type"]) for one in nemesis.events if one["channel"] == channel]
            # A failed request is sent again from its first event on, so an event may arrive twice.
            once = list(dict.fromkeys(received))
            assert once == sorted(once, key=lambda event: event[0]), f"seed {seed}"
            assert [kind for _, kind in once] == [("occupied", "vacated")[n % 2] for n in range(len(once))], (
                f"seed {seed}"
            )


class BackendTests:
    """The backend is dead, or lies."""

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
            {"error": {"code": 503, "message": "later", "temporary": True}},
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        ],
    )
    def test_events_are_repeated_in_order_until_the_backend_accepts_them(self, backend, started, answer):
        backend.answer = lambda path, body: answer
        with started().open("/ws?channel=foo"):
            wait_until(lambda: len(backend.requests) >= 2, "a second try")
        time.sleep(3)
        backend.answer = lambda path, body: {}
        wait_until(lambda: events(backend)[-2:] == ["+foo", "-foo"], "both events in one request")
        assert {event["channel"] for event in backend.requests[-1][2]["events"]} == {"foo"}
        assert len(backend.requests[-1][2]["events"]) == 2

    def test_events_that_the_backend_refuses_for_good_are_not_repeated(self, backend, started):
        backend.answer = lambda path, body: {"error": {"code": 400, "message": "unknown channel"}}
        with started().open("/ws?channel=foo"):
            expect(backend, "+foo")
            stay(backend, "+foo", seconds=4)
        expect(backend, "+foo", "-foo")

    def test_a_dead_backend_gets_all_events_when_it_is_back(self, backend, started):
        port = backend.port
        backend.close()
        server = started()
        with server.open("/ws?channel=foo"), server.open("/ws?channel=bar"):
            time.sleep(2)
            again = Backend(port)
            try:
                wait_until(lambda: sorted(events(again)) == ["+bar", "+foo"], "both events")
            finally:
                again.close()


class RedisTests:
    """Redis is lost and comes back."""

    def test_subscribers_that_left_during_an_outage_are_reported_after_it(self, redis, backend, started):
        server = started()
        with server.open("/ws?channel=bar"):
            with server.open("/ws?channel=foo"):
                wait_until(lambda: sorted(events(backend)) == ["+bar", "+foo"], "both are occupied")
                redis.freeze()
            time.sleep(1)
            redis.thaw()
            wait_until(lambda: "-foo" in events(backend), "the event")
            assert "-bar" not in events(backend)

    def test_a_redis_that_restarts_empty_gets_all_channels_again(self, redis, backend, started):
        server = started()
        with server.open("/ws?channel=foo"):
            expect(backend, "+foo")
            redis.kill()
            redis.start()
            wait_until(lambda: events(backend) == ["+foo", "+foo"], "the channel is reported again")
        expect(backend, "+foo", "+foo", "-foo")

    def test_nothing_is_left_in_redis_when_all_channels_are_vacated(self, redis, backend, started):
        """Except the list of processes."""
        one, other = started(), started()
        with one.open("/ws?channel=foo,bar"), other.open("/ws?channel=bar"):
            wait_until(lambda: len(events(backend)) == 2, "both are occupied")
        wait_until(lambda: len(events(backend)) == 4, "both are vacated")
        wait_until(lambda: redis.run("KEYS", f"{KEYS}*").startswith(b"*1\r\n"), "all other keys are deleted")
        assert redis.run("KEYS", f"{KEYS}*").split(b"\r\n")[2].startswith(f"{KEYS}processes".encode())


class WithoutRedisTests:
    """A process on its own."""

    def test_a_process_that_stops_vacates_its_channels(self, backend):
        """Its successor reports the channels of the clients that reconnect."""
        process = Process("--hook-channel", backend.url("/channel"))
        try:
            with RedisProcess.connect(process) as peer:
                peer.handshake("/ws?channel=foo")
                expect(backend, "+foo")
                process.process.terminate()
                peer.read_close()
            expect(backend, "+foo", "-foo")
        finally:
            process.close()
