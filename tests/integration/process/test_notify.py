"""Notifications to the service manager: the datagrams of `Notifier`, without a server."""

import os
import socket

import pytest
from twisted.internet.task import Clock

from wsserver.process.notify import Notifier

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """Listen for notifications on a socket with a path, and on one with an abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify") if request.param == "path" else f"\0{tmp_path.name}")
        sock.setblocking(False)
        yield sock


def environ(manager, **more):
    """Return the variables that systemd sets."""
    address = manager.getsockname()
    return {"NOTIFY_SOCKET": address if isinstance(address, str) else f"@{address[1:].decode()}", **more}


def receive(manager):
    """Return the lines of the notifications that wait."""
    received = []
    while True:
        try:
            received.append(manager.recv(1000).decode().splitlines())
        except BlockingIOError:
            return received


class StateTests:
    """The states of a service."""

    def test_sends_one_datagram_for_each_state(self, manager):
        notifier = Notifier(Clock(), environ(manager))
        notifier.ready()
        with notifier.reloading():
            pass
        notifier.stopping()
        ready, reloading, again, stopping = receive(manager)
        assert ready == again == ["READY=1", "STATUS=serving"]
        assert reloading[0] == "RELOADING=1"
        assert reloading[1].startswith("MONOTONIC_USEC=")
        assert stopping == ["STOPPING=1", "STATUS=closing connections"]

    def test_a_server_that_is_starting_or_stopping_does_not_seem_ready_after_a_reload(self, manager):
        notifier = Notifier(Clock(), environ(manager))
        with notifier.reloading():
            pass
        assert receive(manager) == []
        notifier.ready()
        notifier.stopping()
        with notifier.reloading():
            pass
        assert [first for first, *_ in receive(manager)] == ["READY=1", "STOPPING=1"]

    def test_a_reload_that_fails_ends_with_ready(self, manager):
        notifier = Notifier(Clock(), environ(manager))
        notifier.ready()
        with pytest.raises(ZeroDivisionError), notifier.reloading():
            raise ZeroDivisionError
        assert [first for first, *_ in receive(manager)] == ["READY=1", "RELOADING=1", "READY=1"]

    @pytest.mark.parametrize("address", [None, "", "vsock:2:1234"])
    def test_does_nothing_without_an_address_that_it_knows(self, address):
        clock = Clock()
        notifier = Notifier(clock, {"NOTIFY_SOCKET": address} if address is not None else {})
        notifier.ready()
        notifier.stopping()
        assert not clock.getDelayedCalls()

    def test_removes_the_variables_so_that_child_processes_do_not_notify(self, manager):
        variables = environ(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()), PATH="/bin")
        Notifier(Clock(), variables)
        assert variables == {"PATH": "/bin"}


class UnavailableTests:
    """A service manager that does not receive."""

    def test_logs_once_and_sends_the_last_state_when_the_socket_is_back(self, tmp_path, log):
        clock = Clock()
        notifier = Notifier(clock, {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready()
        notifier.stopping()
        clock.pump([1.0, 1.0])
        [line] = log.lines("wsserver")
        assert line == "cannot notify the service manager error=No such file or directory"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
            sock.setblocking(False)
            clock.advance(1.0)
            assert receive(sock) == [["STOPPING=1", "STATUS=closing connections"]]
        assert not clock.getDelayedCalls()

    def test_does_not_block_if_the_queue_of_notifications_is_full(self, manager, log):
        """Linux queues about ten datagrams; the state is sent when the service manager has read some."""
        clock = Clock()
        notifier = Notifier(clock, environ(manager))
        while not log.lines("wsserver"):
            notifier.stopping()
        assert log.lines("wsserver") == ["cannot notify the service manager error=TimeoutError"]
        receive(manager)
        clock.advance(1.0)
        [[first, *_]] = receive(manager)
        assert first == "STOPPING=1"


class WatchdogTests:
    """The keep-alive."""

    def test_sends_it_twice_per_period_once_the_server_is_ready(self, manager):
        clock = Clock()
        notifier = Notifier(clock, environ(manager, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid())))
        clock.pump([1.5] * 4)
        assert receive(manager) == []
        notifier.ready()
        with notifier.reloading():
            pass
        receive(manager)
        clock.pump([1.4, 0.1, 1.4, 0.1])
        assert receive(manager) == [["WATCHDOG=1"], ["WATCHDOG=1"]]

    def test_ends_if_the_reactor_hangs(self, manager):
        """Only the reactor sends it; a reactor that does not advance sends nothing."""
        clock = Clock()
        Notifier(clock, environ(manager, WATCHDOG_USEC="3000000")).ready()
        [call] = clock.getDelayedCalls()
        receive(manager)
        call.cancel()
        clock.pump([1.5] * 4)
        assert receive(manager) == []

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"WATCHDOG_USEC": ""},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "-1"},
            {"WATCHDOG_USEC": "x"},
            {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        ],
        ids=str,
    )
    def test_sends_none_without_a_watchdog_for_this_process(self, manager, variables):
        clock = Clock()
        Notifier(clock, environ(manager, **variables)).ready()
        assert not clock.getDelayedCalls()
