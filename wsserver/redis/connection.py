"""
A connection to a Redis, or to a sentinel. The only module that imports txredisapi.

It is opened once and never again by itself: who needs it sees to that (`wsserver.redis.supervisor`).
"""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionClosed, DNSLookupError, UserError
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from txredisapi import InvalidData, RedisError, RedisProtocol, ResponseError

from wsserver.errors import SettingError
from wsserver.redis.errors import describe_reply

__all__ = [
    "Connection",
    "Listening",
    "NotConnected",
    "RedisError",
    "ResponseError",
    "connect",
    "endpoint",
    "read_certificates",
]

_TLS_ALERT = b"\x15\x03"

BATCH = 1000
"""Most channels of one SUBSCRIBE."""

LOST = "the connection was lost"

MAX_WORDS = 200
"""Most characters of what Redis says that are kept: the advice of its protected mode fills a page."""


class NotConnected(Exception):
    """A Redis that cannot be used; the message says in a few words why."""


class _Factory(Factory):
    """Makes a connection; txredisapi tells it when one cannot be used, and asks whether it is lazy."""

    noisy = False
    isLazy = False
    problem = ""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Any:  # noqa: ARG002
        """Make a connection."""
        connection = self._make()
        connection.factory = self
        return connection

    def stopTrying(self) -> None:
        """Do nothing: nobody is trying here."""

    def connectionError(self, why: object) -> None:
        """Take the reason."""
        self.problem = str(why)


class Connection(RedisProtocol):  # type: ignore[misc]
    """A connection for commands: `execute_command`, `whenDisconnected`."""

    why = ""
    """Why it was lost."""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Read replies."""
        try:
            super().dataReceived(data, unpause)
        except (InvalidData, UnicodeDecodeError):
            self.why = _describe_stranger(data)
            self.hang_up()

    def replyReceived(self, reply: Any) -> None:
        """Take a reply, or what Redis says unasked before it closes: in protected mode, or with too many clients."""
        if isinstance(reply, ResponseError) and not self.replyQueue.waiting:
            self.why = describe_reply(str(reply))[:MAX_WORDS]
        else:
            super().replyReceived(reply)

    def connectionLost(self, reason: Failure) -> None:
        """Keep the reason, for whoever waits."""
        self.why = self.why or _words(reason.value)
        super().connectionLost(reason)

    def hang_up(self) -> None:
        """Close it at once; one that is lost already is no mistake."""
        # The TLS of Twisted fails when what is gone is aborted.
        if self.connected:
            self.transport.abortConnection()


class Listening(Connection):
    """
    A connection that listens.

    Redis answers a SUBSCRIBE of many channels with one confirmation each, or with a single error for all. The answers
    come in the order of the questions, so the first question that is not answered is the one they belong to.
    """

    told: Callable[[bytes, bytes], None]
    """Called with channel and data of every message."""
    confirmed: Callable[[bytes], None]
    """Called with every channel that was subscribed to, unless another confirmation of it is still to come."""
    refused: Callable[[list[bytes], str, bool], None]
    """Called with the channels of a SUBSCRIBE that was refused, what Redis said, and whether it named but one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._questions: deque[tuple[bytes, list[bytes]]] = deque()
        self._answers = 0
        """How many answers to the first of them have come."""
        self._asked: Counter[bytes] = Counter()
        """How many SUBSCRIBEs of a channel are not answered: one that was left and wanted again has two."""
        self.unanswered = 0
        """How many answers are still to come."""

    def hang_up(self) -> None:
        """Close it at once, and tell nothing more: of what has been read already some may not have been told yet."""
        self.told = self.confirmed = self.refused = _ignore
        super().hang_up()

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Subscribe, in batches."""
        rest = list(channels)
        for start in range(0, len(rest), BATCH):
            batch = rest[start : start + BATCH]
            self._asked.update(batch)
            self._ask(b"SUBSCRIBE", batch)

    def unsubscribe(self, channel: bytes) -> None:
        """Unsubscribe."""
        self._ask(b"UNSUBSCRIBE", [channel])

    def _ask(self, command: bytes, channels: list[bytes]) -> None:
        self._questions.append((command, channels))
        self.unanswered += len(channels)
        words = [command, *channels]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.transport.write(b"*%d\r\n%s" % (len(words), b"".join(parts)))

    def replyReceived(self, reply: Any) -> None:
        """Take a message, or what answers a question."""
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"message":
            self.told(reply[1], reply[2])
        elif kind in (b"subscribe", b"unsubscribe"):
            self._answered(reply[1])
        elif isinstance(reply, ResponseError) and self._questions:
            self._not_answered(str(reply))
        else:
            super().replyReceived(reply)

    def _answered(self, channel: bytes) -> None:
        command, channels = self._questions[0]
        self.unanswered -= 1
        self._answers += 1
        if self._answers == len(channels):
            self._questions.popleft()
            self._answers = 0
        if command == b"SUBSCRIBE" and self._last(channel):
            self.confirmed(channel)

    def _not_answered(self, why: str) -> None:
        command, channels = self._questions.popleft()
        self.unanswered -= len(channels)
        if command == b"SUBSCRIBE":
            self.refused([channel for channel in channels if self._last(channel)], why, len(channels) == 1)

    def _last(self, channel: bytes) -> bool:
        self._asked[channel] -= 1
        if self._asked[channel]:
            return False
        del self._asked[channel]
        return True


def endpoint(reactor: Any, host: str, port: int, *, tls: bool, trust: Any) -> Any:
    """
    Make the endpoint to connect to.

    Args:
        reactor: what it runs on.
        host: a name or an IP address; with TLS the certificate must be for it.
        port: the TCP port.
        tls: whether TLS is spoken.
        trust: what `read_certificates` gave; None for what the system trusts (`SSL_CERT_FILE` names another file).
    """
    plain = HostnameEndpoint(reactor, host, port, timeout=2)
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=trust), plain) if tls else plain


def read_certificates(path: str) -> Any:
    """
    Read the certificates to trust.

    Args:
        path: a PEM file.

    Raises:
        SettingError: it cannot be read, or holds none.
    """
    try:
        found = re.findall(
            rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", Path(path).read_bytes(), re.DOTALL
        )
        certificates = [Certificate.loadPEM(one) for one in found]
    except OSError as error:
        raise SettingError("redis", f"ssl_ca_certs cannot be read: {error.strerror}") from None
    except crypto.Error:
        raise SettingError("redis", "ssl_ca_certs names a file with a broken certificate") from None
    if not certificates:
        raise SettingError("redis", "ssl_ca_certs names a file without a certificate in PEM")
    return trustRootFromCertificates(certificates)


@inlineCallbacks
def connect(
    kind: type[Any], where: Any, *, username: str | None, password: str | None, database: int = 0
) -> Generator[Any, Any, Any]:
    """
    Connect.

    Args:
        kind: `Connection` or `Listening`.
        where: the endpoint.
        username: the ACL user.
        password: None without one.
        database: its number.

    Returns:
        Fires with the connection when Redis has taken the password and the database; fails with `NotConnected`.
    """
    factory = _Factory(
        lambda: kind(charset=None, convertNumbers=False, username=username, password=password, dbid=database or None)
    )
    try:
        connection = yield where.connect(factory)
    except Exception as error:
        # Whatever an endpoint fails with, from name resolution to TLS.
        raise NotConnected(_words(error)) from error
    usable: Deferred[None] = Deferred(lambda _: connection.hang_up())

    def lost(_: Any) -> None:
        if not usable.called:
            usable.errback(NotConnected(_describe_login(factory.problem) or connection.why))

    def ready(_: Any) -> None:
        if not usable.called:
            usable.callback(None)

    connection.whenDisconnected().addCallback(lost)
    connection.whenConnected().addCallback(ready)
    yield usable
    return connection


def _ignore(*_: Any) -> None:
    """Tell nobody."""


def _describe_stranger(data: bytes) -> str:
    """Describe what answers that is not Redis, by its first bytes."""
    if data.startswith(_TLS_ALERT):
        return "it speaks TLS; write rediss:// in --redis"
    what = "an HTTP server answers there" if data.startswith(b"HTTP/") else "it does not speak the protocol of Redis"
    return f"{what}; check host and port in --redis"


def _describe_login(problem: str) -> str:
    """Describe why Redis refused the password or the database, given the words of txredisapi."""
    reply = re.sub(r"^Redis error: could not (auth: |set dbid=\d+: )", "", problem)
    # Nothing is known if the connection was lost before Redis answered.
    return describe_reply(reply) if re.match(r"[A-Z]+\b", reply) else ""


def _words(error: object) -> str:
    """Describe in a few words why a connection failed."""
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return f"{os.strerror(number)}; check that Redis runs at this host and port"
    if isinstance(error, DNSLookupError):
        return f"the host's name does not resolve: {str(error).rpartition(': ')[2]}"
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        words = "TLS: " + ("; ".join(str(reason[-1]) for reason in reasons) or "broken off")
        # What a server without TLS answers is taken for a record of another version.
        return (
            f"{words}; if Redis speaks no TLS there, write redis:// in --redis" if "wrong version" in words else words
        )
    if isinstance(error, VerificationError):
        return "TLS: its certificate is for another host"
    if isinstance(error, UserError | CancelledError | ConnectingCancelledError):
        return "no answer"
    if isinstance(error, ConnectionClosed):
        return LOST
    return str(error) or type(error).__name__
