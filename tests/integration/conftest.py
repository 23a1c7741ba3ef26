"""
A server in this process's reactor, and its peers in threads beside it.

Every test function of this directory runs in a thread of the reactor's pool, so it may block on its sockets while the
server serves. A test fails if something was logged with a traceback that it did not ask about, or if the server left a
connection or a timer behind.
"""

import datetime
import functools
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from peers import RawPeer, wait_until
from pki import Authority, Issued, make_authority
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from wsserver.config.settings import Settings
from wsserver.service import WebSocketService


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Let the test run in a thread: pytest-twisted waits for the Deferred."""
    pyfuncitem.obj = functools.partial(deferToThread, pyfuncitem.obj)


class Log:
    """What has been logged during a test."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        """Take an event; called by Twisted."""
        self.events.append(event)

    def lines(self, namespace: str) -> list[str]:
        """Return the lines that a part of the server has written."""
        return [formatEvent(event) for event in self.events if event.get("log_namespace") == namespace]

    def take_failures(self, kind: type[Exception]) -> list[Failure]:
        """Return what has been logged with a traceback of this kind of exception, and take it off the list."""
        taken = [event for event in self.events if (f := event.get("log_failure")) and f.check(kind)]
        self.events = [event for event in self.events if event not in taken]
        return [event["log_failure"] for event in taken]


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """Collect what is logged; fail the test on a traceback that it has not taken."""
    log = Log()
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)
    left = [event["log_failure"].getTraceback() for event in log.events if event.get("log_failure")]
    assert not left, "logged with a traceback:\n" + "\n".join(left)


class Server:
    """A running server."""

    def __init__(self, service: WebSocketService) -> None:
        self.service = service
        self._stopping: Deferred[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port of its first listener."""
        return int(self.service.ports[0].getHost().port)

    @property
    def url(self) -> str:
        """Where it speaks WebSocket, without a path."""
        return f"ws://127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> RawPeer:
        """Open a TCP connection to it."""
        return RawPeer(self.port, **options)

    def open(self, path: str = "/echo", *more: str, **options: Any) -> RawPeer:
        """Open a WebSocket connection to it."""
        peer = RawPeer(self.port, **options)
        peer.handshake(path, *more)
        return peer

    def ask(self, function: Callable[[], Any]) -> Any:
        """Call a function in the reactor's thread, where the server's state stands still meanwhile."""
        return blockingCallFromThread(reactor, function)

    def serves_the_next(self) -> bool:
        """Whether a new client is served."""
        with self.open() as peer:
            return peer.echoes()

    def count_doors(self) -> int:
        """Count the connections, of whatever kind."""
        return int(self.ask(lambda: len(self.service.door.sockets)))

    def count_connections(self) -> int:
        """Count the open WebSocket connections."""
        return int(self.ask(lambda: len(self.service.connections.connections)))

    def shrink_send_buffers(self) -> None:
        """Let the kernel hold little of what is sent from now on, so that a peer that does not read is soon noticed."""
        # On Linux an accepted socket inherits this from the listening one.
        self.service.ports[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)

    def begin_to_stop(self) -> None:
        """Tell it to stop."""

        def begin() -> None:
            self._stopping = self._stopping or self.service.stopService()

        self.ask(begin)

    def stop(self) -> None:
        """Stop it and wait until it has stopped."""
        self.begin_to_stop()
        self.ask(lambda: self._stopping)


def _start(settings: dict[str, Any], options: dict[str, Any]) -> Server:
    service = WebSocketService(Settings(**{"port": 0, "close_timeout": 1.0} | settings), reactor, **options)
    service.privilegedStartService()
    service.startService()
    return Server(service)


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start servers with settings of your own, and `endpoints` or `commands`; stop them after the test."""
    servers: list[Server] = []
    before = set(reactor.getDelayedCalls())

    def start(endpoints: Any = None, commands: Any = (), **settings: Any) -> Server:
        options = {"endpoints": endpoints, "commands": commands}
        servers.append(blockingCallFromThread(reactor, _start, settings, options))
        return servers[-1]

    def stop() -> None:
        for server in servers:
            server.stop()
        for server in servers:
            wait_until(lambda server=server: not server.count_doors(), "every connection of the stopped server gone")
        if servers:
            wait_until(lambda: not left_over(before), "every timer of the stopped server gone")

    yield start
    blockon(deferToThread(stop))


def left_over(before: set[Any]) -> list[Any]:
    """Return the reactor's calls to come that were not there before."""
    return blockingCallFromThread(reactor, lambda: [call for call in reactor.getDelayedCalls() if call not in before])


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """Start a server with the default settings, but for a port that the system chooses."""
    return blockon(deferToThread(start_server))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a self-signed certificate for localhost: the paths of the private key and of the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    key_path, certificate_path = directory / "key.pem", directory / "certificate.pem"
    encoding = serialization.Encoding.PEM
    key_path.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    certificate_path.write_bytes(made.public_bytes(encoding))
    return key_path, certificate_path


@pytest.fixture
def tls_listen(certificate: tuple[Path, Path]) -> tuple[str]:
    """Tell the value of the setting `listen` for a TLS listener."""
    key_path, certificate_path = certificate
    return (f"ssl:0:privateKey={key_path}:certKey={certificate_path}:interface=127.0.0.1",)


@pytest.fixture
def tls_client(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """Make what a client needs to trust the TLS listener."""
    return ssl.create_default_context(cafile=str(certificate[1]))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a root and an intermediate authority, as public ones have."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def issued(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Issued]:
    """Issue a certificate for localhost and 127.0.0.1 for each kind of key."""
    folder = tmp_path_factory.mktemp("issued")
    return {kind: authority.issue(folder / kind, kind) for kind in ("ECDSA", "RSA")}
