"""
Fixtures for integration tests: a server in this process's reactor, with its peers in other threads.

Each test function in this directory runs in a thread of the reactor's pool, so that it can block on its sockets while
the server runs. A test fails if a traceback was logged that it did not remove with `take_failures`, or if the stopped
server left a connection or a timer.

Tests with the marker `kernel` are the exception: they have no server, and run in the main thread. They need no
`--reactor`.
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
from backend import Backend
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from peers import RawPeer
from pki import Authority, Issued
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from waiting import wait_until

from wsserver.config.settings import Settings
from wsserver.service import WebSocketService


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define the options of the tests; called by pytest."""
    parser.addoption(
        "--all-sdks",
        action="store_true",
        help="run every test of the Centrifuge SDKs with each SDK, transport and protocol",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run the test function in a thread; pytest-twisted waits for the Deferred."""
    if not pyfuncitem.get_closest_marker("kernel"):
        pyfuncitem.obj = functools.partial(deferToThread, pyfuncitem.obj)


class Log:
    """The events logged during a test."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        """Store an event; called by Twisted."""
        self.events.append(event)

    def lines(self, namespace: str) -> list[str]:
        """Return the formatted events of a logger, given its namespace."""
        return [formatEvent(event) for event in self.events if event.get("log_namespace") == namespace]

    def take_failures(self, kind: type[Exception]) -> list[Failure]:
        """Remove the events with an exception of this type, and return their failures."""
        taken = [event for event in self.events if (f := event.get("log_failure")) and f.check(kind)]
        self.events = [event for event in self.events if event not in taken]
        return [event["log_failure"] for event in taken]


@pytest.fixture(autouse=True)
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Collect log events; fail the test if it has not removed a logged traceback with `take_failures`."""
    log = Log()
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)
    if request.node.get_closest_marker("kernel"):
        return
    left = [event["log_failure"].getTraceback() for event in log.events if event.get("log_failure")]
    assert not left, "logged with a traceback:\n" + "\n".join(left)


class Server:
    """
    A running server.

    Args:
        service: its service, already started.
    """

    def __init__(self, service: WebSocketService) -> None:
        self.service = service
        self._stopping: Deferred[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port of the first listener."""
        return int(self.service.ports[0].getHost().port)

    @property
    def url(self) -> str:
        """The WebSocket URL of the server, without a path."""
        return f"ws://127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> RawPeer:
        """Open a TCP connection to the server."""
        return RawPeer(self.port, **options)

    def open(self, path: str = "/echo", *more: str, **options: Any) -> RawPeer:
        """Open a WebSocket connection to the server."""
        peer = RawPeer(self.port, **options)
        peer.handshake(path, *more)
        return peer

    def ask(self, function: Callable[[], Any]) -> Any:
        """Call a function in the reactor's thread, so that the server's state does not change during the call."""
        return blockingCallFromThread(reactor, function)

    def serves_the_next(self) -> bool:
        """Return whether the server accepts a new client and echoes its message."""
        with self.open() as peer:
            return peer.echoes()

    def count_sockets(self) -> int:
        """Return the number of connections, HTTP and WebSocket."""
        return int(self.ask(lambda: len(self.service.frontend.sockets)))

    def count_connections(self) -> int:
        """Return the number of open WebSocket connections."""
        return int(self.ask(lambda: len(self.service.connections.connections)))

    def shrink_send_buffers(self) -> None:
        """Shrink the send buffers of future connections, so that the server soon notices a peer that does not read."""
        # On Linux, accepted sockets inherit the option from the listening socket.
        self.service.ports[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)

    def begin_to_stop(self) -> None:
        """Start to stop the server, without waiting."""

        def begin() -> None:
            self._stopping = self._stopping or self.service.stopService()

        self.ask(begin)

    def stop(self) -> None:
        """Stop the server and wait until it has stopped."""
        self.begin_to_stop()
        self.ask(lambda: self._stopping)


def _start(settings: dict[str, Any], options: dict[str, Any]) -> Server:
    service = WebSocketService(Settings(**{"port": 0, "close_timeout": 1.0} | settings), reactor, **options)
    service.privilegedStartService()
    service.startService()
    return Server(service)


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers with given settings, endpoints and commands. They stop after the test."""
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
            wait_until(lambda server=server: not server.count_sockets(), "every connection of the stopped server gone")
        if servers:
            wait_until(lambda: not left_over(before), "every timer of the stopped server gone")

    yield start
    blockon(deferToThread(stop))


def left_over(before: set[Any]) -> list[Any]:
    """Return the reactor's delayed calls that are not in `before`."""
    return blockingCallFromThread(reactor, lambda: [call for call in reactor.getDelayedCalls() if call not in before])


@pytest.fixture(params=["memory", "redis"])
def broker(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the settings that select a broker; each test runs with the memory broker, then with Redis."""
    return {"redis": request.getfixturevalue("redis").url} if request.param == "redis" else {}


@pytest.fixture
def backend() -> Iterator[Backend]:
    """Start a backend for hooks; stop it after the test."""
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """Start a server on a free port; its other settings are the defaults, except for a `close_timeout` of 1 s."""
    return blockon(deferToThread(start_server))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Create a self-signed certificate for localhost; returns the paths of its private key and of the certificate."""
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
    """Return the value of the setting `listen` for a TLS listener."""
    key_path, certificate_path = certificate
    return (f"ssl:0:privateKey={key_path}:certKey={certificate_path}:interface=127.0.0.1",)


@pytest.fixture
def tls_client(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """Return a client's TLS context, which trusts the certificate of `tls_listen`."""
    return ssl.create_default_context(cafile=str(certificate[1]))


@pytest.fixture(scope="session")
def issued(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Issued]:
    """Issue one certificate for each type of key, valid for localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("issued")
    return {kind: authority.issue(folder / kind, kind) for kind in ("ECDSA", "RSA")}
