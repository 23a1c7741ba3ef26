"""
Connections to Redis or to a sentinel. This is the only module that imports hiredis, a parser of the Redis protocol.

If a connection is lost, it does not reconnect: `wsserver.redis.supervisor` opens a new one.
"""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
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
    "SubscriberConnection",
    "connect",
    "endpoint",
    "fire",
    "pack_arguments",
    "pack_command",
    "read_certificates",
]

_TLS_ALERT = b"\x15\x03"

BATCH = 1000
"""Maximum number of channels in one SUBSCRIBE command."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Maximum size in bytes of a message that the server reads from Redis. Centrifugo's limit for the API is 1 MiB."""

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
    """A connection for commands. Redis answers them in the order in which they were sent."""

    transport: Any

    def __init__(self) -> None:
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
        """Parse the replies in the received data; close the connection if the data is not in the Redis protocol."""
        reader, receive = self._reader, self.receive
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                receive(reply)
        except _InvalidReply:
            self.why = _describe_foreign_server(data)
            self.hang_up()

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


class SubscriberConnection(Connection):
    """
    A connection that subscribes to Redis channels and receives their messages.

    Redis answers a SUBSCRIBE command for several channels with one confirmation for each channel, or with a single
    error for all of them. Answers arrive in the order of the commands: each belongs to the oldest unanswered command.

    Args:
        on_messages: called with the messages of each read, in order: Redis sends a message as an array of the word
            `message`, the Redis channel and the data. It is called before `on_confirmed` or `on_refused` if a message
            was received before the answer.
        on_confirmed: called with a Redis channel when its subscription is confirmed. It is not called if a later
            SUBSCRIBE for the channel is still unanswered.
        on_refused: called when Redis refuses a SUBSCRIBE command, with three arguments: the channels of the command
            (without those for which a later SUBSCRIBE is unanswered), the error reply, and whether the command named
            only one channel.
    """

    def __init__(
        self,
        *,
        on_messages: Callable[[list[list[bytes]]], None],
        on_confirmed: Callable[[bytes], None],
        on_refused: Callable[[list[bytes], str, bool], None],
    ) -> None:
        super().__init__()
        self._on_messages, self._on_confirmed, self._on_refused = on_messages, on_confirmed, on_refused
        self._messages: list[list[bytes]] = []
        """The messages of the current read that have not been passed to `on_messages` yet."""
        self._unanswered_commands: deque[tuple[bytes, list[bytes]]] = deque()
        self._answer_count = 0
        """Number of answers to the oldest unanswered command that have arrived."""
        self._pending_subscribes: Counter[bytes] = Counter()
        """Channel -> number of unanswered SUBSCRIBE commands, which is 2 after subscribe, unsubscribe, subscribe."""
        self._incomplete = 0
        """Number of bytes received since the last complete message or answer."""
        self.unanswered = 0
        """Number of answers that are outstanding: one for each channel of each unanswered command."""

    def hang_up(self) -> None:
        """
        Close the connection immediately.

        No callback is called after this, even for messages received before. Messages that have already been passed to
        `on_messages` are still processed.
        """
        self._on_messages = self._on_confirmed = self._on_refused = _ignore
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
        self.transport.write(pack_command((command, *channels)))

    def dataReceived(self, data: bytes) -> None:
        """
        Parse the messages and answers in the received data, like `Connection.dataReceived`.

        If a message is over `MAX_MESSAGE`, close the connection instead of reading the rest of it. The supervisor opens
        a new one, and subscribers are told what may be missing, as after any loss of the connection.
        """
        self._incomplete += len(data)
        super().dataReceived(data)
        self._pass_messages()
        if self._incomplete > MAX_MESSAGE:
            self.why = f"a message is over {MAX_MESSAGE} bytes"
            self.hang_up()

    def receive(self, reply: Any) -> None:
        """Handle a message, or the answer to a SUBSCRIBE or UNSUBSCRIBE command."""
        self._incomplete = 0
        kind = reply[0] if isinstance(reply, list) and len(reply) == 3 else None
        if kind == b"message":
            self._messages.append(reply)
            return
        self._pass_messages()
        if kind in (b"subscribe", b"unsubscribe"):
            self._on_answer(reply[1])
        elif isinstance(reply, ResponseError) and self._unanswered_commands:
            self._on_refusal(str(reply))
        else:
            super().receive(reply)

    def _pass_messages(self) -> None:
        if self._messages:
            messages, self._messages = self._messages, []
            self._on_messages(messages)

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
        make: a function that returns a `Connection` or a `SubscriberConnection`.
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
