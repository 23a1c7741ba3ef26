"""nginx, HAProxy and Caddy in front of a test server, with the configuration files in `packaging`."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT
from pki import Issued
from ports import free_port
from stopping import stop
from waiting import wait_until

__all__ = ["NGINX_MAIN", "PROXIES", "Proxy", "RunningProxy", "read_configuration"]

NGINX_MAIN = """
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
    {configuration}
}}
"""

CADDY_MAIN = """
{{
    admin off
    auto_https disable_redirects
    http_port {http}
    https_port {https}
    log {{
        output file {folder}/error.log
    }}
}}
{configuration}
"""


@dataclass(frozen=True)
class Places:
    """The addresses and files that replace those of a configuration file."""

    folder: Path
    http: int
    https: int
    server: int
    issued: Issued

    @property
    def bundle(self) -> Path:
        """A file with the certificate and its key, as HAProxy reads it."""
        path = self.folder / "bundle.pem"
        path.write_text(self.issued.fullchain.read_text() + self.issued.privkey.read_text())
        return path


def read_configuration(name: str, replacements: Mapping[str, object]) -> str:
    """
    Return a configuration file with other addresses and file names.

    Args:
        name: the file's path in `packaging`.
        replacements: a text, which must occur once, -> what to write instead.
    """
    text = (ROOT / "packaging" / name).read_text("utf-8")
    for old, new in replacements.items():
        assert text.count(old) == 1, f"{old!r} in {name}: {text.count(old)} times"
        text = text.replace(old, str(new))
    return text


def _nginx(places: Places, more: Mapping[str, str]) -> list[str]:
    own = {
        "listen 80;": f"listen 127.0.0.1:{places.http};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{places.https} ssl http2;",
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{places.server};",
        "/etc/letsencrypt/live/ws.example.com/fullchain.pem": places.issued.fullchain,
        "/etc/letsencrypt/live/ws.example.com/privkey.pem": places.issued.privkey,
    }
    text = read_configuration("nginx/wsserver.conf", own | more)
    file = places.folder / "nginx.conf"
    file.write_text(NGINX_MAIN.format(folder=places.folder, configuration=text), "utf-8")
    return ["nginx", "-c", str(file)]


def _haproxy(name: str) -> Callable[[Places, Mapping[str, str]], list[str]]:
    def configure(places: Places, more: Mapping[str, str]) -> list[str]:
        own = {
            # The tests may run with few open files.
            "maxconn 10000": "maxconn 1000",
            "bind :443": f"bind 127.0.0.1:{places.https}",
            "/etc/haproxy/ws.example.com.pem": places.bundle,
            "wsserver1 127.0.0.1:8080": f"wsserver1 127.0.0.1:{places.server}",
        }
        if name == "haproxy.cfg":
            own["bind :80"] = f"bind 127.0.0.1:{places.http}"
        file = places.folder / name
        file.write_text(read_configuration(f"haproxy/{name}", own | more), "utf-8")
        # In the foreground, as systemd runs it: a master process, which replaces its worker when it reloads.
        return ["haproxy", "-W", "-f", str(file)]

    return configure


def _caddy(places: Places, more: Mapping[str, str]) -> list[str]:
    site = f"https://localhost:{places.https} {{\n\ttls {places.issued.fullchain} {places.issued.privkey}"
    own = {"ws.example.com {": site, "reverse_proxy 127.0.0.1:8080": f"reverse_proxy 127.0.0.1:{places.server}"}
    file = places.folder / "Caddyfile"
    text = read_configuration("caddy/Caddyfile", own | more)
    main = CADDY_MAIN.format(folder=places.folder, http=places.http, https=places.https, configuration=text)
    file.write_text(main, "utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


@dataclass(frozen=True)
class RunningProxy:
    """A proxy that accepts connections."""

    process: subprocess.Popen[bytes]
    http: int
    """The port for HTTP."""
    https: int
    """The port for HTTPS."""

    def reload(self, number: signal.Signals) -> None:
        """Send the signal that makes the proxy read its configuration again."""
        self.process.send_signal(number)


class Proxy:
    """
    A proxy program with one of its configuration files.

    Args:
        name: the name of the proxy, for test names.
        configure: writes the configuration, and returns the command.
    """

    def __init__(self, name: str, configure: Callable[[Places, Mapping[str, str]], list[str]]) -> None:
        self.name = name
        self._configure = configure

    @contextmanager
    def running(
        self, folder: Path, issued: Issued, server_port: int, more: Mapping[str, str] | None = None
    ) -> Iterator[RunningProxy]:
        """
        Run the proxy until the block ends.

        Args:
            folder: a directory for its files.
            issued: the certificate for clients.
            server_port: the port of the server on 127.0.0.1.
            more: further replacements in the configuration file.
        """
        folder.mkdir(exist_ok=True)
        places = Places(folder, free_port(), free_port(), server_port, issued)
        command = self._configure(places, more or {})
        environ = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_until(lambda: _accepts(places.https, process, folder / "output.txt"), f"{self.name} accepts")
            yield RunningProxy(process, places.http, places.https)
        finally:
            stop(process)


def _accepts(port: int, process: subprocess.Popen[bytes], output: Path) -> bool:
    assert process.poll() is None, output.read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("nginx", _nginx),
        Proxy("haproxy", _haproxy("haproxy.cfg")),
        Proxy("haproxy-tcp", _haproxy("tcp.cfg")),
        Proxy("caddy", _caddy),
    )
}
"""Name -> proxy."""
