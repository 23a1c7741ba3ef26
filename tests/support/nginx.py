"""nginx in front of a test server, with the configuration of docs/how-to/proxies.md."""

import re
import subprocess
from collections.abc import Iterator
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


def read_configuration(port: int, server_port: int) -> str:
    """Return the documented configuration, with other ports."""
    [block] = re.findall(r"```nginx\n(.*?)```", (DOCS / "how-to" / "proxies.md").read_text("utf-8"), re.DOTALL)
    replaced = block.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "127.0.0.1:8080", f"127.0.0.1:{server_port}"
    )
    assert str(port) in replaced
    assert str(server_port) in replaced
    return replaced


@contextmanager
def running_nginx(folder: Path, server_port: int, more: str = "") -> Iterator[int]:
    """
    Run nginx until the block ends.

    Args:
        folder: an empty directory for its files.
        server_port: the port of the server on 127.0.0.1.
        more: further directives of its `http` block.

    Returns:
        The port on which nginx listens.
    """
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(MAIN.format(folder=folder, more=more, documented=read_configuration(port, server_port)))
    process = subprocess.Popen(["nginx", "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / "nginx.pid").exists, "nginx started")
        yield port
    finally:
        process.terminate()
        process.wait(10)
