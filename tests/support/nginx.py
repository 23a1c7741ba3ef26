"""nginx in front of a test server for clients without TLS, with the configuration file in `packaging`."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ports import free_port
from proxies import NGINX_MAIN, read_configuration
from waiting import wait_until

__all__ = ["running_nginx"]


def read_site(port: int, server_ports: Sequence[int], edits: Mapping[str, str]) -> str:
    """Return the configuration for users without TLS, with edits and other ports."""
    text = read_configuration("nginx/wsserver.conf", {})
    text, removed = re.subn(r"^server \{[^}]* return 301 [^}]*\}|^ *ssl_.*$", "", text, flags=re.MULTILINE)
    assert removed == 5
    text = text.replace("listen 443 ssl http2;", "listen 80;")
    for part, other in edits.items():
        assert part in text
        text = text.replace(part, other)
    servers = " ".join(f"server 127.0.0.1:{one};" for one in server_ports)
    return text.replace("listen 80", f"listen 127.0.0.1:{port}").replace("server 127.0.0.1:8080;", servers)


@contextmanager
def running_nginx(folder: Path, *server_ports: int, more: str = "", edits: Mapping[str, str] = {}) -> Iterator[int]:
    """
    Run nginx until the block ends.

    Args:
        folder: an empty directory for its files.
        server_ports: the ports of the servers on 127.0.0.1, which get the requests in turn.
        more: further directives of its `http` block.
        edits: a part of the documented configuration -> what to write instead.

    Returns:
        The port on which nginx listens.
    """
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(NGINX_MAIN.format(folder=folder, configuration=more + read_site(port, server_ports, edits)))
    process = subprocess.Popen(["nginx", "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / "nginx.pid").exists, "nginx started")
        yield port
    finally:
        process.terminate()
        process.wait(10)
