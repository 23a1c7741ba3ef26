"""
Connections to Redis or to a sentinel. This is the only module that imports txredisapi, a Redis client library.

If a connection is lost, it does not reconnect: `wsserver.redis.supervisor` opens a new one.
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
    "NotConnected",
    "RedisError",
    "ResponseError",
    "SubscriberConnection",
    "connect",
    "endpoint",
    "read_certificates",
]

_TLS_ALERT = b"\x15\x03"

BATCH = 1000
"""Maximum number of channels in one SUBSCRIBE command."""

LOST = "the connection was lost"

MAX_ERROR_LENGTH = 200
"""
Maximum number of characters kept of an error that Redis sends without a command. The error of protected mode is long.
"""


class NotConnected(Exception):
    """Redis or a sentinel cannot be reached or used; the exception's message is the reason, in a few words."""


class _Factory(Factory):
    """A factory for one connection, with the attributes and methods that txredisapi expects of a factory."""

    noisy = False
    isLazy = False
    problem = ""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Any:  # noqa: ARG002
        """Return a new connection."""
        connection = self._make()
        connection.factory = self
        return connection

    def stopTrying(self) -> None:
        """Do nothing: this factory does not reconnect."""

    def connectionError(self, why: object) -> None:
        """Store the reason why the connection is unusable; called by txredisapi."""
        self.problem = str(why)


class Connection(RedisProtocol):  # type: ignore[misc]
    """
    A connection for commands.

    Callers send commands with `execute_command`, and wait for the end of the connection with `whenDisconnected`. Both
    are methods of txredisapi.
    """

    why = ""
    """Why the connection was lost; empty while it is open."""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Parse the replies in the received data; close the connection if the data is not in the Redis protocol."""
        try:
            super().dataReceived(data, unpause)
        except (InvalidData, UnicodeDecodeError):
            self.why = _describe_foreign_server(data)
            self.hang_up()

    def replyReceived(self, reply: Any) -> None:
        """
        Handle a reply to a command, or an error that Redis sends without a command.

        Redis sends such an error before it closes a connection, if it is in protected mode or has too many clients.
        """
        if isinstance(reply, ResponseError) and not self.replyQueue.waiting:
            self.why = describe_reply(str(reply))[:MAX_ERROR_LENGTH]
        else:
            super().replyReceived(reply)

    def connectionLost(self, reason: Failure) -> None:
        """Store in `why` the reason for which the connection was lost, unless a better reason is already known."""
        self.why = self.why or _describe_error(reason.value)
        super().connectionLost(reason)

    def hang_up(self) -> None:
        """Close the connection immediately; do nothing if it is already lost."""
        # Twisted's TLS transport raises an exception if a lost connection is aborted.
        if self.connected:
            self.transport.abortConnection()


class SubscriberConnection(Connection):
    """
    A connection that subscribes to Redis channels and receives their messages.

    Redis answers a SUBSCRIBE command for several channels with one confirmation for each channel, or with a single
    error for all of them. Answers arrive in the order of the commands: each belongs to the oldest unanswered command.

    Args:
        args: positional arguments for `Connection`.
        on_message: called with the Redis channel and the data of every message.
        on_confirmed: called with a Redis channel when its subscription is confirmed. It is not called if a later
            SUBSCRIBE for the channel is still unanswered.
        on_refused: called when Redis refuses a SUBSCRIBE command, with three arguments: the channels of the command
            (without those for which a later SUBSCRIBE is unanswered), the error reply, and whether the command named
            only one channel.
        options: keyword arguments for `Connection`.
    """

    def __init__(
        self,
        *args: Any,
        on_message: Callable[[bytes, bytes], None],
        on_confirmed: Callable[[bytes], None],
        on_refused: Callable[[list[bytes], str, bool], None],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._on_message, self._on_confirmed, self._on_refused = on_message, on_confirmed, on_refused
        self._unanswered_commands: deque[tuple[bytes, list[bytes]]] = deque()
        self._answer_count = 0
        """Number of answers to the oldest unanswered command that have arrived."""
        self._pending_subscribes: Counter[bytes] = Counter()
        """Channel -> number of unanswered SUBSCRIBE commands, which is 2 after subscribe, unsubscribe, subscribe."""
        self.unanswered = 0
        """Number of answers that are outstanding: one for each channel of each unanswered command."""

    def hang_up(self) -> None:
        """Close the connection immediately. No callback is called after this, even for messages received before."""
        self._on_message = self._on_confirmed = self._on_refused = _ignore
        super().hang_up()

    def subscribe(self, channels: Iterable[bytes]) -> None:
        """Subscribe to Redis channels, with one SUBSCRIBE command for every `BATCH` channels."""
        rest = list(channels)
        for start in range(0, len(rest), BATCH):
            batch = rest[start : start + BATCH]
            self._pending_subscribes.update(batch)
            self._send_command(b"SUBSCRIBE", batch)

    def unsubscribe(self, channel: bytes) -> None:
        """Send UNSUBSCRIBE for a Redis channel."""
        self._send_command(b"UNSUBSCRIBE", [channel])

    def _send_command(self, command: bytes, channels: list[bytes]) -> None:
        self._unanswered_commands.append((command, channels))
        self.unanswered += len(channels)
        words = [command, *channels]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.transport.write(b"*%d\r\n%s" % (len(words), b"".join(parts)))

    def replyReceived(self, reply: Any) -> None:
        """Handle a message, or the answer to a SUBSCRIBE or UNSUBSCRIBE command."""
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"message":
            self._on_message(reply[1], reply[2])
        elif kind in (b"subscribe", b"unsubscribe"):
            self._on_answer(reply[1])
        elif isinstance(reply, ResponseError) and self._unanswered_commands:
            self._on_refusal(str(reply))
        else:
            super().replyReceived(reply)

    def _on_answer(self, channel: bytes) -> None:
        command, channels = self._unanswered_commands[0]
        self.unanswered -= 1
        self._answer_count += 1
        if self._answer_count == len(channels):
            self._unanswered_commands.popleft()
            self._answer_count = 0
        if command == b"SUBSCRIBE" and self._is_last_answer(channel):
            self._on_confirmed(channel)

    def _on_refusal(self, why: str) -> None:
        command, channels = self._unanswered_commands.popleft()
        self.unanswered -= len(channels)
        if command == b"SUBSCRIBE":
            self._on_refused(
                [channel for channel in channels if self._is_last_answer(channel)], why, len(channels) == 1
            )

    def _is_last_answer(self, channel: bytes) -> bool:
        self._pending_subscribes[channel] -= 1
        if self._pending_subscribes[channel]:
            return False
        del self._pending_subscribes[channel]
        return True


def endpoint(reactor: Any, host: str, port: int, *, tls: bool, trust: Any) -> Any:
    """
    Return the Twisted endpoint that connects to Redis or to a sentinel.

    Args:
        reactor: opens the connection.
        host: a host name or an IP address. With TLS, the certificate of Redis must be valid for this host.
        port: the TCP port.
        tls: whether to use TLS.
        trust: the CA certificates to trust, as returned by `read_certificates`. None for the certificates of the
            system, or those in the file that the environment variable `SSL_CERT_FILE` names.
    """
    plain = HostnameEndpoint(reactor, host, port, timeout=2)
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=trust), plain) if tls else plain


def read_certificates(path: str) -> Any:
    """
    Read the CA certificates to trust from a file.

    Args:
        path: the path of a file with one or more certificates in PEM format.

    Returns:
        The certificates, for the argument `trust` of `endpoint`.

    Raises:
        SettingError: the file cannot be read, contains no certificate, or contains an invalid certificate.
    """
    try:
        found = re.findall(
            rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", Path(path).read_bytes(), re.DOTALL
        )
        certificates = [Certificate.loadPEM(one) for one in found]
    except OSError as error:
        raise SettingError("redis", f"ssl_ca_certs cannot be read: {error.strerror}") from None
    except crypto.Error:
        raise SettingError("redis", "ssl_ca_certs names a file with an invalid certificate") from None
    if not certificates:
        raise SettingError("redis", "ssl_ca_certs names a file without a certificate in PEM")
    return trustRootFromCertificates(certificates)


@inlineCallbacks
def connect(
    make: Callable[..., Any], where: Any, *, username: str | None, password: str | None, database: int = 0
) -> Generator[Any, Any, Any]:
    """
    Open a connection to Redis or to a sentinel, log in, and select the database.

    Args:
        make: a function that returns a `Connection` or a `SubscriberConnection`, when called with the keyword arguments
            of `Connection`.
        where: the endpoint to connect to.
        username: the user in the access control list of Redis; None for the default user.
        password: the user's password; None to send no password.
        database: the number of the database.

    Returns:
        A Deferred that fires with the connection once Redis has accepted the password and the database. It fails with
        `NotConnected`.
    """
    factory = _Factory(
        lambda: make(charset=None, convertNumbers=False, username=username, password=password, dbid=database or None)
    )
    try:
        connection = yield where.connect(factory)
    except Exception as error:
        # An endpoint can fail with any exception, from name resolution to TLS.
        raise NotConnected(_describe_error(error)) from error
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
    """Do nothing."""


def _describe_foreign_server(data: bytes) -> str:
    """Describe a server that does not use the Redis protocol, as recognized by the first bytes that it sent."""
    if data.startswith(_TLS_ALERT):
        return "Redis uses TLS; write rediss:// in --redis"
    what = (
        "an HTTP server answers there" if data.startswith(b"HTTP/") else "the server does not speak the Redis protocol"
    )
    return f"{what}; check host and port in --redis"


def _describe_login(problem: str) -> str:
    """Describe why Redis refused the password or the database; `problem` is the error message of txredisapi."""
    reply = re.sub(r"^Redis error: could not (auth: |set dbid=\d+: )", "", problem)
    # If the connection was lost before Redis answered, the message contains no error reply.
    return describe_reply(reply) if re.match(r"[A-Z]+\b", reply) else ""


def _describe_error(error: object) -> str:
    """Describe in a few words why a connection failed or was lost."""
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return f"{os.strerror(number)}; check that Redis runs at this host and port"
    if isinstance(error, DNSLookupError):
        return f"the host name does not resolve: {str(error).rpartition(': ')[2]}"
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        problem = "TLS: " + ("; ".join(str(reason[-1]) for reason in reasons) or "the handshake failed")
        # OpenSSL parses the answer of a server without TLS as a TLS record, and reports a wrong version.
        return (
            f"{problem}; if Redis does not use TLS, write redis:// in --redis"
            if "wrong version" in problem
            else problem
        )
    if isinstance(error, VerificationError):
        return "TLS: the certificate is for another host"
    if isinstance(error, UserError | CancelledError | ConnectingCancelledError):
        return "no answer"
    if isinstance(error, ConnectionClosed):
        return LOST
    return str(error) or type(error).__name__
