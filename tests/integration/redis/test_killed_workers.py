"""Workers that are killed with SIGKILL: the channel hook reports the channels that have lost all subscribers."""

import os
import signal
from contextlib import ExitStack, closing

import pytest
from centrifuge_peer import CentrifugePeer
from http_api import KEY
from waiting import wait_until
from worker_processes import Workers

WITHIN = 10.0
"""Seconds after which the channels of a killed worker are vacated."""


@pytest.fixture
def start(make_redis):
    """Return a function that starts a server with two workers; its processes are killed after the test."""
    redis, started = make_redis(), []

    def start(*options):
        started.append(Workers("--redis", redis.url, "--api-key", KEY, "--channel-presence", "*", *options))
        return started[-1]

    yield start
    for server in started:
        assert "Traceback" not in server.read_log()
        server.close()


class KilledWorkerTests:
    def test_its_channels_are_vacated_by_the_other_worker(self, start, backend):
        server = start("--hook-channel", backend.url("/channel"))

        def channels(kind):
            events = [event for _, _, body in list(backend.requests) for event in body["events"]]
            return {event["channel"] for event in events if event["type"] == kind}

        with ExitStack() as stack:
            numbers = {}
            for channel in map(str, range(12)):
                peer = stack.enter_context(closing(CentrifugePeer(server.port)))
                peer.ask("subscribe", {"channel": channel})
                numbers[channel] = server.number_of(peer.peer)
            wait_until(lambda: channels("occupied") == set(numbers), "all are occupied")
            os.kill(server.pid(2), signal.SIGKILL)
            gone = {channel for channel, number in numbers.items() if number == 2}
            wait_until(lambda: channels("vacated") == gone, lambda: f"{gone} vacated: {channels('vacated')}", WITHIN)
