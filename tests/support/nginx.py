"""nginx in front of a test server, with the configuration of docs/how-to/proxies.md."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from paths import DOCS
from ports import free_port
from waiting import wait_until

__all__ = ["running_nginx"]

MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
    {documented}
}}
"""


def read_configuration(port: int, server_ports: Sequence[int], edits: Mapping[str, str]) -> str:
    """Return the documented configuration, with other ports."""
    [block] = re.findall(r"```nginx\n(.*?)```", (DOCS / "how-to" / "proxies.md").read_text("utf-8"), re.DOTALL)
    assert block.count("listen 80;") == block.count("server 127.0.0.1:8080;") == 1
    servers = " ".join(f"server 127.0.0.1:{one};" for one in server_ports)
    for text, other in edits.items():
        assert text in block
        block = block.replace(text, other)
    return block.replace("listen 80", f"listen 127.0.0.1:{port}").replace("server 127.0.0.1:8080;", servers)


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
    file.write_text(MAIN.format(folder=folder, more=more, documented=read_configuration(port, server_ports, edits)))
    process = subprocess.Popen(["nginx", "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / "nginx.pid").exists, "nginx started")
        yield port
    finally:
        process.terminate()
        process.wait(10)
