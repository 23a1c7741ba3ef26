"""Stop a server under load, and collect what happened."""

import json
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from drained_clients import ECHO, PUBLISH, DrainedClients, Ended
from server_process import Process

__all__ = ["ECHO", "PUBLISH", "Drained", "drain"]

PROGRAM = Path(__file__).parent / "counting_server.py"


class Drained:
    """
    What happened when a server was stopped.

    Args:
        ended: what the clients saw.
        received: path -> the number of messages that the server has received on it.
        seconds_to_refuse: from SIGTERM to the first refused connection.
        seconds_to_exit: from SIGTERM to the end of the process.
        spread: from the first Close frame to the last one, in seconds.
    """

    def __init__(
        self, ended: Ended, received: dict[str, int], *, seconds_to_refuse: float, seconds_to_exit: float, spread: float
    ) -> None:
        self.ended = ended
        self.received = received
        self.seconds_to_refuse, self.seconds_to_exit, self.spread = seconds_to_refuse, seconds_to_exit, spread

    @property
    def unanswered(self) -> int:
        """The number of messages that the server has received, but whose answers no client has received."""
        return sum(self.received.values()) - sum(self.ended.answered.values())


def drain(
    count: int, pause: float, load: float, *options: str, started: Callable[[int], object] = lambda pid: None
) -> Drained:
    """
    Start a server and clients, and stop the server while they exchange messages.

    Args:
        count: the number of clients.
        pause: seconds from an answer to a client's next message.
        load: seconds for which the clients exchange messages before the server is stopped.
        options: further options of the server.
        started: called with the process ID of the server.
    """
    limits = ("--max-connections", "15000", "--ping-interval", "0", "--insecure")
    command = [sys.executable, str(PROGRAM), "serve", "--port", "0", *limits, *options]
    server = Process(command=command)
    try:
        started(server.process.pid)
        with DrainedClients(server.port, count, pause) as clients:
            time.sleep(load)
            begin = time.monotonic()
            server.process.terminate()
            while _accepts(server.port):
                time.sleep(0.005)
            refused = time.monotonic() - begin
            ended = clients.ended(60)
            server.process.wait(60)
            exited = time.monotonic() - begin
        assert "Traceback" not in server.read_log(), server.read_log()[-3000:]
        received = json.loads(re.search(r"received (\{.*\})", server.read_log())[1])
        spread = max(ended.times) - min(ended.times)
        return Drained(ended, received, seconds_to_refuse=refused, seconds_to_exit=exited, spread=spread)
    finally:
        server.close()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
