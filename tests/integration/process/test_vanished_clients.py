"""Clients whose machine vanishes: the server gets neither a FIN nor a reset, and no acknowledgment."""

import sys

import pytest
from http_api import KEY, api
from peers import RawPeer
from server_process import Process
from waiting import wait_until

CLIENTS = 5

PROGRAM = """
import fcntl, os, socket, struct, subprocess, sys, time

def set_loopback(flags):
    SIOCSIFFLAGS = 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))

def hold_streams(count, cut):
    server, sockets = os.getppid(), []
    while len(sockets) < count:
        try:
            sockets.append(socket.create_connection(("127.0.0.1", 8080)))
        except OSError:
            time.sleep(0.05)
            continue
        sockets[-1].sendall(b"GET /sse?channel=foo HTTP/1.1\\r\\nHost: 127.0.0.1:8080\\r\\n\\r\\n")
    while not os.path.exists(cut):
        time.sleep(0.05)
    set_loopback(0)
    while os.getppid() == server:
        time.sleep(0.05)

count, cut, *arguments = sys.argv[1:]
set_loopback(1)
if not os.fork():
    hold_streams(int(count), cut)
    os._exit(0)

from wsserver.cli.main import main
from wsserver.listening import ports
from wsserver.web import sse

ports.USER_TIMEOUT, sse.PING_INTERVAL = 2, 1.0
main(arguments)
"""
"""A server in a network of its own, and clients with event streams, until a file exists; its times are shorter."""


class Served:
    """The server, reached over a UNIX socket."""

    def __init__(self, path):
        self._path = path

    def connect(self):
        """Open a connection."""
        return RawPeer(path=self._path)

    def count(self):
        """Return the number of clients on the channel."""
        found = api(self, "channels", {})[1]["result"]["channels"]
        return found.get("foo", {"num_clients": 0})["num_clients"]


@pytest.fixture
def server(tmp_path):
    """Start the server, and wait for its clients."""
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", PROGRAM]
    path = str(tmp_path / "ws.sock")
    process = Process(
        *(str(CLIENTS), str(tmp_path / "cut"), "serve", "--listen", "tcp:8080:interface=127.0.0.1"),
        *("--listen", f"unix:{path}", "--api-key", KEY, "--channel-allow", "foo"),
        command=command,
    )
    served = Served(path)
    wait_until(lambda: served.count() == CLIENTS, "all clients are subscribed")
    yield served
    process.close()


def test_event_streams_of_a_vanished_machine_end_although_nothing_is_published(server, tmp_path):
    """The comments that keep a stream alive are not acknowledged."""
    (tmp_path / "cut").touch()
    wait_until(lambda: server.count() == 0, "all streams have ended")
