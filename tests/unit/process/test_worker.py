"""Tests for wsserver/process/worker.py: what a worker does with the messages of the supervisor."""

import json
import socket
import struct

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from wsserver.errors import ListenError
from wsserver.process.patience import STEPS
from wsserver.process.worker import COLLECT_TIMEOUT, LEAVE_AFTER, WorkerProcess


class FakeReactor(Clock):
    """A clock that connects the channel to a transport in memory."""

    def __init__(self):
        super().__init__()
        self.transport = StringTransport()
        self.is_stopped = False

    def adoptStreamConnection(self, descriptor, family, factory):
        self.channel = factory.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def addSystemEventTrigger(self, *arguments):
        pass

    def callWhenRunning(self, call, *arguments):
        pass

    def stop(self):
        self.is_stopped = True


class FakePort:
    """A listening port."""

    is_open = True

    def stopListening(self):
        self.is_open = False


class FakeService:
    """A service that opens ports on the sockets of another worker, and fails if it is told to."""

    ports = ()

    def __init__(self, sockets):
        self.sockets = sockets
        self.opened = []
        self.reloaded = []
        self.fails_at = None
        self.accepts = True

    def privilegedStartService(self):
        pass

    def startService(self):
        pass

    def stopService(self):
        pass

    def stop_accepting(self):
        self.accepts = False

    def numbers(self):
        return {"connections": 1}

    def reload(self, settings):
        if settings.api_key == "unusable":
            raise OSError(24, "Too many open files")
        self.reloaded.append(settings)

    def open_again(self, index):
        if index == self.fails_at:
            raise ListenError("tcp:8080", "Too many open files")
        port = FakePort()
        self.opened.append((index, self.sockets.slot, port))
        return port


class FakeSockets:
    """Two listeners with a socket for each worker, and one that all share."""

    slot = 0

    def __len__(self):
        return 3

    def is_shared(self, index):
        return index == 1

    def close(self):
        pass


class Started:
    """A worker with the number 1, and what it sends."""

    def __init__(self):
        self.reactor = FakeReactor()
        self.sockets = FakeSockets()
        self.service = FakeService(self.sockets)
        self.process = WorkerProcess(self.service, self.sockets, 1, self.reactor)
        ours, theirs = socket.socketpair()
        with theirs:
            self.process.start(ours)

    def receive(self, *messages):
        for message in messages:
            data = json.dumps(message).encode()
            self.reactor.channel.dataReceived(struct.pack("!I", len(data)) + data)

    def sent(self):
        """Return the types of the messages that the worker has sent, except for heartbeats."""
        data, found = self.reactor.transport.value(), []
        while data:
            (size,) = struct.unpack("!I", data[:4])
            found.append(json.loads(data[4 : 4 + size])["type"])
            data = data[4 + size :]
        return [kind for kind in found if kind != "beat"]


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr("wsserver.process.worker.signal.signal", lambda *_: None)
    return Started()


def test_opens_the_own_sockets_of_another_worker_and_closes_them(started):
    started.receive({"type": "substitute", "number": 2})
    assert [(index, slot) for index, slot, _ in started.service.opened] == [(0, 1), (2, 1)]
    assert started.sockets.slot == 0
    started.receive({"type": "stop_substituting", "number": 2})
    assert not any(port.is_open for _, _, port in started.service.opened)


def test_goes_on_without_any_port_of_another_worker_if_one_cannot_be_opened(started):
    started.service.fails_at = 2
    with capturedLogs() as events:
        started.receive({"type": "substitute", "number": 2})
    (event,) = events
    assert "worker not substituted" in event["log_format"]
    assert "Too many open files" in event["reason"]
    assert started.sockets.slot == 0
    assert not any(port.is_open for _, _, port in started.service.opened)
    # It tries again when it is asked again, and reads the messages behind.
    started.service.fails_at = None
    started.receive({"type": "substitute", "number": 2}, {"type": "count"}, {"type": "stop"})
    assert [(index, port.is_open) for index, _, port in started.service.opened] == [(0, False), (0, False), (2, False)]
    assert started.sent() == ["numbers"]
    assert started.reactor.is_stopped


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"api_key": "unusable"}, "Too many open files"),
        ({"port": "many"}, "expected a whole number from 0 to 65535"),
    ],
)
def test_keeps_its_options_and_logs_the_reason_if_it_cannot_use_the_new_ones(started, options, reason):
    with capturedLogs() as events:
        started.receive({"type": "reload", "settings": options})
    (event,) = events
    assert "options not reloaded" in event["log_format"]
    assert reason in event["reason"]
    started.receive({"type": "reload", "settings": {"port": "9000"}})
    assert [settings.port for settings in started.service.reloaded] == [9000]


def test_leaves_then_stops(started):
    started.receive({"type": "leave"})
    assert not started.service.accepts
    assert not started.reactor.is_stopped
    started.reactor.pump([LEAVE_AFTER / STEPS] * (STEPS + 1))
    assert started.reactor.is_stopped


class CollectTests:
    """The numbers of all workers."""

    def collect(self, started):
        found = []
        started.process.collect().addCallback(found.append)
        return found

    def test_returns_what_the_supervisor_has_collected_for_all_that_wait(self, started):
        found = self.collect(started), self.collect(started)
        assert started.sent() == ["collect"]
        started.receive({"type": "collected", "numbers": {"1": {}, "2": {}}})
        assert found == ([{"1": {}, "2": {}}], [{"1": {}, "2": {}}])
        started.reactor.advance(COLLECT_TIMEOUT)
        assert len(found[0]) == 1

    def test_returns_its_own_numbers_if_the_supervisor_does_not_answer(self, started):
        found = self.collect(started)
        started.reactor.advance(COLLECT_TIMEOUT - 0.1)
        assert found == []
        started.reactor.advance(0.1)
        assert found == [{"1": {"connections": 1}}]
        # An answer that comes too late is for nobody; the next request is asked again.
        started.receive({"type": "collected", "numbers": {}})
        later = self.collect(started)
        started.receive({"type": "collected", "numbers": {"2": {}}})
        assert later == [{"2": {}}]

    def test_returns_its_own_numbers_at_once_if_the_supervisor_does_not_read(self, started):
        started.reactor.channel.pauseProducing()
        assert self.collect(started) == [{"1": {"connections": 1}}]

    def test_returns_its_own_numbers_if_the_supervisor_ends(self, started):
        found = self.collect(started)
        started.reactor.channel.connectionLost()
        assert found == [{"1": {"connections": 1}}]
