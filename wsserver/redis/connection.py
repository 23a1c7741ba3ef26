"""
Connections to Redis or to a sentinel. This is the only module that imports hiredis, a parser of the Redis protocol.

The connection that receives messages is in `wsserver.redis.subscriber`. If a connection is lost, it does not reconnect:
`wsserver.redis.supervisor` opens a new one.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionClosed, DNSLookupError, UserError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from wsserver.errors import SettingError
from wsserver.redis.errors import describe_reply

__all__ = [
    "Connection",
    "NotConnected",
    "RedisError",
    "ResponseError",
    "connect",
    "endpoint",
    "fire",
    "pack_arguments",
    "pack_command",
    "read_certificates",
]

_TLS_ALERT = b"\x15\x03"

SECONDS_PER_TURN = 0.005
"""
Seconds after which a connection handles no further replies in the same turn of the reactor.

A read can contain a thousand confirmations, and each of them may complete the request of a client.
"""

CHECKED = 16
"""Replies handled between two checks of the time."""

pack_command: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""Encode a command: its name and its arguments, which are bytes, strings (as UTF-8) and numbers."""


def pack_arguments(*arguments: Any) -> bytes:
    """Encode arguments like `pack_command`, but without the number of arguments that a command begins with."""
    packed = pack_command(arguments)
    return packed[packed.index(b"\n") + 1 :]


LOST = "the connection was lost"

MAX_ERROR_LENGTH = 200
"""
Maximum number of characters kept of an error that Redis sends without a command. The error of protected mode is long.
"""


class RedisError(Exception):
    """A command has failed: Redis has replied with an error (`ResponseError`), or the connection was lost."""


class ResponseError(RedisError):
    """An error reply of Redis; the exception's message is the reply."""


class _InvalidReply(Exception):
    """Received data is not in the Redis protocol."""


class NotConnected(Exception):
    """Redis or a sentinel cannot be reached or used; the exception's message is the reason, in a few words."""


class Connection(Protocol):
    """
    A connection for commands. Redis answers them in the order in which they were sent.

    Args:
        reactor: its clock limits the time of each turn; None for no limit.
    """

    transport: Any

    def __init__(self, reactor: Any = None) -> None:
        self._reactor = reactor
        self._rest: Any = None
        """The call that handles the rest of the received replies in the next turn; None if there is no rest."""
        self.why = ""
        """Why the connection was lost; empty while it is open."""
        self.bytes_waiting = 0
        """Total size in bytes of the commands that wait for their reply."""
        self.replies = 0
        """Number of commands that have been completed, with a reply or an error."""
        self._waiting: deque[tuple[Callable[[Any], None], int]] = deque()
        """For each command that waits for its reply: the function to call, and the command's size in bytes."""
        self._on_lost: list[Deferred[Any]] = []
        self._reader = hiredis.Reader(protocolError=_InvalidReply, replyError=ResponseError)

    @property
    def waiting(self) -> int:
        """Number of commands that wait for their reply."""
        return len(self._waiting)

    def execute(self, *arguments: Any) -> "Deferred[Any]":
        """
        Send a command.

        Args:
            arguments: the command's name and its arguments: bytes, strings (sent as UTF-8) and numbers.

        Returns:
            A Deferred that fires with the reply: bytes, a number, a list or None. It fails with `ResponseError` if
            Redis replied with an error, and with another `RedisError` if the connection is lost.
        """
        done: Deferred[Any] = Deferred()
        self.send(pack_command(arguments), partial(fire, done))
        return done

    def send(self, command: bytes, on_reply: Callable[[Any], None]) -> None:
        """
        Send a command.

        Args:
            command: the command, as `pack_command` returns it.
            on_reply: called with the reply: bytes, a number, a list, None, or a `ResponseError` if Redis replied with
                an error; or with another `RedisError` if the connection is lost.
        """
        if not self.connected:
            on_reply(RedisError("Not connected"))
            return
        self._waiting.append((on_reply, len(command)))
        self.bytes_waiting += len(command)
        # Twisted joins everything that is written in one iteration of the event loop.
        self.transport.write(command)

    def when_lost(self) -> "Deferred[Any]":
        """Return a Deferred that fires with the connection when it is lost."""
        self._on_lost.append(Deferred())
        return self._on_lost[-1]

    def dataReceived(self, data: bytes) -> None:
        """Handle the replies in the received data; close the connection if the data is not in the Redis protocol."""
        self._reader.feed(data)
        if self._rest is None:
            self._handle_replies(data)

    def _handle_replies(self, data: bytes = b"", *, is_limited: bool = True) -> None:
        """
        Handle the complete replies that have been received; the rest in the next turn, if the time is used up.

        Args:
            data: the data that has just been received.
            is_limited: whether the time is limited.
        """
        reader, receive, count = self._reader, self.receive, 0
        reactor = self._reactor if is_limited else None
        end = reactor.seconds() + SECONDS_PER_TURN if reactor is not None else 0.0
        try:
            while (reply := reader.gets()) is not False:
                receive(reply)
                count += 1
                if reactor is not None and not count % CHECKED and reactor.seconds() >= end:
                    # Further data stays in the kernel.
                    self.transport.pauseProducing()
                    self._rest = reactor.callLater(0, self._handle_rest)
                    break
        except _InvalidReply:
            self.why = _describe_foreign_server(data)
            self.hang_up()
        self.turn_ended(data)

    def _handle_rest(self) -> None:
        self._rest = None
        self._handle_replies()
        if self._rest is None and self.connected:
            self.transport.resumeProducing()

    def turn_ended(self, data: bytes) -> None:
        """Do nothing. Called when the replies in the received data, or as many as the time permits, are handled."""

    def receive(self, reply: Any) -> None:
        """
        Handle a reply to a command, or an error that Redis sends without a command.

        Redis sends such an error before it closes a connection, if it is in protected mode or has too many clients.
        """
        if self._waiting:
            self._complete(reply)
        elif isinstance(reply, ResponseError):
            self.why = describe_reply(str(reply))[:MAX_ERROR_LENGTH]

    def _complete(self, reply: Any) -> None:
        on_reply, size = self._waiting.popleft()
        self.bytes_waiting -= size
        self.replies += 1
        on_reply(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Store in `why` the reason for which the connection was lost, unless a better reason is already known.

        Then fire the Deferreds of `when_lost`, and fail all waiting commands.
        """
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
            self._handle_replies(is_limited=False)
        self.connected = 0
        self.why = self.why or _describe_error(reason.value)
        waiting, self._on_lost = self._on_lost, []
        for done in waiting:
            done.callback(self)
        while self._waiting:
            self._complete(RedisError("Lost connection"))

    def hang_up(self) -> None:
        """Close the connection immediately; do nothing if it is already lost."""
        # Twisted's TLS transport raises an exception if a lost connection is aborted.
        if self.connected:
            self.transport.abortConnection()


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
        raise SettingError("--redis", f"ssl_ca_certs cannot be read: {error.strerror}") from None
    except crypto.Error:
        raise SettingError("--redis", "ssl_ca_certs names a file with an invalid certificate") from None
    if not certificates:
        raise SettingError("--redis", "ssl_ca_certs names a file without a certificate in PEM")
    return trustRootFromCertificates(certificates)


@inlineCallbacks
def connect(
    make: Callable[..., Any], where: Any, *, username: str | None, password: str | None, database: int = 0
) -> Generator[Any, Any, Any]:
    """
    Open a connection to Redis or to a sentinel, log in, and select the database.

    Args:
        make: a function that returns a `Connection`.
        where: the endpoint to connect to.
        username: the user in the access control list of Redis; None for the default user.
        password: the user's password; None to send no password.
        database: the number of the database.

    Returns:
        A Deferred that fires with the connection once Redis has accepted the password and the database. It fails with
        `NotConnected`.
    """
    factory = Factory.forProtocol(make)
    factory.noisy = False
    try:
        connection = yield where.connect(factory)
    except Exception as error:
        # An endpoint can fail with any exception, from name resolution to TLS.
        raise NotConnected(_describe_error(error)) from error
    try:
        if password is not None:
            yield connection.execute("AUTH", *([username] if username is not None else []), password)
        if database:
            yield connection.execute("SELECT", database)
    except ResponseError as error:
        connection.hang_up()
        raise NotConnected(describe_reply(str(error))) from error
    except RedisError as error:
        raise NotConnected(connection.why) from error
    except BaseException:
        # Such as the cancellation of this function's Deferred.
        connection.hang_up()
        raise
    return connection


def fire(done: "Deferred[Any]", reply: Any) -> None:
    """Fire a Deferred with a reply; fail it if the reply is an exception."""
    if isinstance(reply, Exception):
        done.errback(reply)
    else:
        done.callback(reply)


def _describe_foreign_server(data: bytes) -> str:
    """Describe a server that does not use the Redis protocol, as recognized by the first bytes that it sent."""
    if data.startswith(_TLS_ALERT):
        return "Redis uses TLS; write rediss:// in --redis"
    what = (
        "an HTTP server answers there" if data.startswith(b"HTTP/") else "the server does not speak the Redis protocol"
    )
    return f"{what}; check host and port in --redis"


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
