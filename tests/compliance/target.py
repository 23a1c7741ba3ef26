"""
The server under test: a real twistd process, or a server that is already running.

The server must be started as a user starts it: in an empty folder, from the installed package. This module must stop
only the server that it has started, by its PID.

"""

import base64
import datetime
import ipaddress
import os
import platform
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

START_SECONDS = 30.0
FOREIGN_SECONDS = 5.0
STOP_SECONDS = 15.0
PATH = "/echo"

# Case 9.1.6 sends 16 MiB in one message. No case expects pings from the server.
OPTIONS = ("--compression", "on", "--max-message-size", "32MiB", "--max-fragments", "1000000", "--ping-interval", "0")


class TargetError(Exception):
    """There is no server to test; the text says why."""


@dataclass
class Target:
    """A server that accepts WebSocket connections."""

    url: str
    versions: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    def problems(self) -> list[str]:
        """Return an error if the server has ended without being stopped."""
        code = None if self.process is None else self.process.poll()
        return [] if code is None else [f"the server ended on its own, exit code {code}: {self.last_words()}"]

    def last_words(self) -> str:
        """Return the last line of the server's log."""
        text = "" if self.log is None else self.log.read_text(errors="replace").strip()
        return text.rpartition("\n")[2] or "its log is empty"


def answer(url: str) -> str:
    """
    Send an opening handshake and return the status line of the response.

    Raises:
        OSError: no server is listening there.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    plain = socket.create_connection((host, port), timeout=5)
    with trusting_context().wrap_socket(plain) if parts.scheme == "wss" else plain as connection:
        connection.sendall(request.encode())
        return connection.recv(4096).partition(b"\r\n")[0].decode("latin-1")


def trusting_context() -> ssl.SSLContext:
    """Return a TLS context that accepts any certificate: the server's is self-signed, and wstest does not check it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def wait_for(target: Target, seconds: float) -> None:
    """
    Wait until a server accepts connections.

    Raises:
        TargetError: the server does not accept connections in time, or has ended.
    """
    limit = time.monotonic() + seconds
    while True:
        if target.problems():
            raise TargetError(target.problems()[0])
        try:
            last = answer(target.url)
        except OSError as failure:
            last = str(failure)
        if last.startswith("HTTP/1.1 101 "):
            return
        if time.monotonic() > limit:
            raise TargetError(f"no WebSocket connection at {target.url} within {seconds:.0f} s: {last!r}")
        time.sleep(0.1)


@contextmanager
def foreign(url: str) -> Iterator[Target]:
    """Test a server that is already running."""
    target = Target(url, {})
    wait_for(target, FOREIGN_SECONDS)
    yield target


@contextmanager
def twistd(options: Sequence[str], tls: bool, log: Path) -> Iterator[Target]:
    """Start the server, and stop it when the block ends."""
    port = free_port()
    with TemporaryDirectory(prefix="wsserver-compliance-") as folder, log.open("wb") as output:
        process = subprocess.Popen(
            [*command(), *listener(port, tls, Path(folder)), *OPTIONS, *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            target = Target(f"{'wss' if tls else 'ws'}://127.0.0.1:{port}{PATH}", server_versions(), process, log)
            wait_for(target, START_SECONDS)
            yield target
        finally:
            stop(process)


def command() -> list[str]:
    """Return the first part of the command line: the twistd next to this interpreter, which can import wsserver."""
    return [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "wsserver"]


def listener(port: int, tls: bool, folder: Path) -> list[str]:
    """Return the options for where the server listens."""
    if not tls:
        return ["--port", str(port)]
    make_certificate(folder)
    return ["--port", str(port), "--tls-cert", "cert.pem", "--tls-key", "key.pem"]


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server, by force if it takes too long."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def server_versions() -> dict[str, str]:
    """Return the versions of the server under test and its dependencies."""
    found = {"Python": platform.python_version()}
    for package in ("wsserver", "autobahn", "Twisted", "pyOpenSSL"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def make_certificate(folder: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wsserver compliance test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
