"""T8: request bodies without an end, which fill the memory or the disk."""

import contextlib
import os
import time
from pathlib import Path

from arena import KIB, withstand
from attackers import connect, flood
from http_api import KEY

GIGABYTE = 10**9
HEAD = f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n"
DECLARED = f"{HEAD}Content-Length: {GIGABYTE}\r\n\r\n".encode()
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
CHUNK = b"10000\r\n" + bytes(65536) + b"\r\n"
FOREIGN = b"POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def large_bodies(port, seconds, connections):
    """Send bodies of a gigabyte, in rounds of new connections."""
    end, statuses, sent = time.monotonic() + seconds, set(), 0
    while time.monotonic() < end:
        for first, data in ((DECLARED, bytes(65536)), (CHUNKED, CHUNK), (FOREIGN, CHUNK)):
            sockets = [connect(port) for _ in range(connections)]
            for sock in sockets[:5]:
                sock.sendall(first + data + data)
                statuses.add(sock.recv(100)[9:12].decode())
            endings = flood(sockets[5:], data, 5, first=first)
            sent = max(sent, endings.sent / connections)
            for sock in sockets:
                sock.close()
            if endings.count < connections - 5:
                return {"open": connections - 5 - endings.count, "statuses": statuses, "sent": sent}
    return {"open": 0, "statuses": statuses, "sent": sent}


def open_files(server):
    """Return the files that the server has open, except for those of the test in its directory."""
    links = []
    for path in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(path))
    others = ("/dev", "/proc", str(server.directory))
    return [link for link in links if link.startswith("/") and not link.startswith(others)]


def written(server):
    """Return how many bytes the server has written to disks."""
    text = Path(f"/proc/{server.pid}/io").read_text()
    return int(text.partition("write_bytes: ")[2].split()[0])


def test_t08_bodies_of_a_gigabyte_get_413(server, figures, full):
    """A body of more than 64 KiB gets 413 before it fills memory or disk, declared or chunked."""
    files, disk, logged = open_files(server), written(server), len(server.log())
    measured = withstand(server, figures, large_bodies, 10 if full else 1.5, 100, connections=100)
    logged = len(server.log()) - logged
    assert measured.result["statuses"] == {"413"}, measured.result
    figures.at_most(0, measured.result["open"], "connections not ended")
    # What the kernel has buffered counts as sent, too.
    figures.at_most(8192, measured.result["sent"] / KIB, "sent on a connection", "KiB")
    figures.at_most(0, len(set(open_files(server)) - set(files)), "more open files")
    # The log, and the probe of this test, are written to the disk in pages.
    figures.at_most(256, max(0, written(server) - disk - 2 * logged) / KIB, "written to the disk", "KiB")
