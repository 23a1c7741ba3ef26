"""
TLS of the server's listeners: OpenSSL contexts with ALPN and SNI, and the handling of failed handshakes.

The module uses two private names of Twisted's `TLSMemoryBIOProtocol`: `_handshakeDone`, and `_tlsShutdownFinished`, the
only method that is called for every failed handshake. A contract test fails when one of them changes. All other names
of Twisted and pyOpenSSL are public.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from wsserver.text import quote
from wsserver.wire.access_log import AccessLog, show_peer
from wsserver.wire.certificates import ServerCertificate
from wsserver.wire.http11 import METHOD_START, Refusal
from wsserver.wire.linger import linger
from wsserver.wire.timers import Deadline, Deadlines

__all__ = [
    "ALPN",
    "ConnectionCreator",
    "GuardedTLSTransport",
    "HandshakeGuard",
    "NoSharedProtocol",
    "TLSServerFactory",
    "describe_failure",
    "make_context",
    "select_by_name",
]

ALPN = b"http/1.1"
"""The ALPN name of the protocol that the server supports over TLS (RFC 7301 section 6)."""

# Only suites with forward secrecy and authenticated encryption. TLS 1.3 has a separate list, with only such suites.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"

_PLAIN = Refusal(HTTPStatus.BAD_REQUEST, "plain HTTP request on a TLS port; use https:// or wss://")

_REASONS = {
    "unsupported protocol": "no shared protocol version: the client offers nothing newer than TLS 1.1",
    "no shared cipher": "no shared cipher suite",
    "wrong version number": "the client does not speak TLS",
    "unexpected eof while reading": "the client closed the connection",
}

# Alerts that a client sends when it rejects a certificate (RFC 8446 section 6.2).
_DISTRUST = ("unknown ca", "bad certificate", "certificate unknown", "certificate expired", "unsupported certificate")


class NoSharedProtocol(SSL.Error):
    """
    The client offers protocols by ALPN, but not `http/1.1`. The server sends the alert `no_application_protocol`.

    Args:
        offered: names of the offered protocols.
    """

    def __init__(self, offered: Sequence[bytes]) -> None:
        names = ", ".join(quote(name.decode("latin-1"), 32) for name in offered[:8])
        self.reason = f"no shared protocol by ALPN: the client offers {names}, the server 'http/1.1'"
        # The form in which pyOpenSSL reports OpenSSL's errors, and which Twisted expects.
        super().__init__([("wsserver", "", self.reason)])


def make_context(certificate: ServerCertificate, dh_parameters: str = "") -> SSL.Context:
    """
    Return an OpenSSL context for TLS 1.2 and newer that selects `http/1.1` by ALPN.

    Twisted's `CertificateOptions` cannot be used: if no protocol is shared, its ALPN callback sends the alert
    `internal_error` instead of `no_application_protocol` (RFC 7301 section 3.2), and the callback cannot be replaced.

    Args:
        certificate: the certificate chain to send, and its private key.
        dh_parameters: path of a file with parameters for `DHE` key exchange; empty for none.

    Raises:
        SSL.Error: OpenSSL rejects the certificate or the key, for example an RSA key of 1024 bits.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Idle connections release their buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.use_certificate(certificate.chain[0])
    for authority in certificate.chain[1:]:
        context.add_extra_chain_cert(authority)
    context.use_privatekey(certificate.key)
    if dh_parameters:
        context.load_tmp_dh(dh_parameters)
    context.set_alpn_select_callback(_select_protocol)
    # Last, because this call creates a connection, and pyOpenSSL allows no change of a context after that.
    context.set_cipher_list(_CIPHERS)
    return context


def _select_protocol(_: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    if ALPN in offered:
        return ALPN
    # If the callback raises an exception, pyOpenSSL sends the alert and raises the exception from `do_handshake`.
    raise NoSharedProtocol(offered)


def select_by_name(contexts: Mapping[str, SSL.Context], default: SSL.Context) -> None:
    """
    Select the context by the host name that the client sends (SNI, RFC 6066 section 3).

    Args:
        contexts: host name in lower case, or `*.` followed by a domain -> context.
        default: the context that connections start with, and keep if the client sends no host name or an unknown one.
    """

    def switch(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("latin-1").lower()
        context = contexts.get(name) or contexts.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)

    default.set_tlsext_servername_callback(switch)


@implementer(IOpenSSLServerConnectionCreator)
class ConnectionCreator:
    """
    Create the OpenSSL connection of each accepted TCP connection.

    Args:
        context: the listener's context.
    """

    def __init__(self, context: SSL.Context) -> None:
        self.context = context
        """The context of new connections. It is replaced when the certificate is renewed."""

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002
        """Return a new OpenSSL connection object for an accepted connection; called by Twisted."""
        return SSL.Connection(self.context)


class TLSServerFactory(TLSMemoryBIOFactory):
    """
    A protocol factory that puts TLS between a listener and another protocol factory.

    Args:
        creator: creates the OpenSSL connections.
        factory: builds the protocols that run over TLS.
        reactor: provides the clock.
        deadlines: schedules the deadlines of refused connections.
        access_log: logs the failed handshakes.
    """

    def __init__(
        self,
        creator: ConnectionCreator,
        factory: IProtocolFactory,
        reactor: Any,
        deadlines: Deadlines,
        access_log: AccessLog,
    ) -> None:
        super().__init__(creator, False, factory, reactor)
        self.protocol = GuardedTLSTransport
        self.deadlines = deadlines
        self.access_log = access_log


class HandshakeGuard(TLSMemoryBIOProtocol):
    """Answer plain HTTP requests in plain text, and log failed handshakes. A mixin for a server's TLS protocol."""

    factory: TLSServerFactory
    transport: Any

    _first: bytes | None = b""
    """The first bytes received, while they may be the beginning of an HTTP method; None once that is decided."""
    _has_begun = False
    """Whether the client has sent something, and no failure of its handshake has been logged."""
    _refused = False
    _lingering: Deadline | None = None

    @property
    def handshaking(self) -> bool:
        """Whether the TLS handshake is unfinished."""
        return not self._handshakeDone

    def abort_handshake(self, reason: str) -> None:
        """
        Drop the connection during its TLS handshake, and log a failed handshake.

        Args:
            reason: why, for the log.
        """
        self._log(reason)
        self.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Pass received bytes to TLS, or refuse the connection if they are a plain HTTP request."""
        if self._first is not None:
            data = self._check_first_bytes(data)
        if data and not self._refused:
            super().dataReceived(data)

    def _check_first_bytes(self, data: bytes) -> bytes:
        """
        Refuse the connection if its first bytes are plain HTTP.

        Args:
            data: the received bytes.

        Returns:
            The bytes to pass to TLS unless the connection is refused; empty while they may still be plain HTTP.
        """
        self._has_begun = True
        first = cast(bytes, self._first) + data
        # A TLS handshake begins with 0x16, which no method contains.
        match = METHOD_START.match(first)
        if match and not match[1]:
            self._first = first
            return b""
        self._first = None
        if match:
            self._refuse()
        return first

    def _refuse(self) -> None:
        self._refused = True
        self._log(_PLAIN.reason)
        self.transport.write(_PLAIN.response())
        self._lingering = linger(self.transport, self.factory.deadlines)

    def _log(self, reason: str) -> None:
        self._has_begun = False
        self.factory.access_log.handshake_failed(reason, peer=show_peer(self.transport.getPeer()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel the deadline of a refused connection, and notify TLS that the connection is lost."""
        if self._lingering is not None:
            self._lingering.cancel()
        super().connectionLost(reason)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        # Not logged if the client has sent nothing: load balancers and browsers open and close such connections.
        if self._has_begun and not self._handshakeDone and not self.disconnecting:
            self._log(describe_failure(reason.value if reason else None))
        super()._tlsShutdownFinished(reason)


class GuardedTLSTransport(HandshakeGuard, BufferingTLSTransport):
    """Twisted's own TLS protocol with `HandshakeGuard`."""


def describe_failure(error: BaseException | None) -> str:
    """
    Describe why a TLS handshake failed, for the log.

    Args:
        error: the exception of pyOpenSSL or Twisted; None if the client closed TLS properly.
    """
    if isinstance(error, NoSharedProtocol):
        return error.reason
    if error is None or isinstance(error, SSL.SysCallError | SSL.ZeroReturnError | ConnectionLost):
        return _REASONS["unexpected eof while reading"]
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = str(entries[0][-1]) if entries and entries[0] else ""
    _, is_alert, alert = text.partition("alert ")
    if is_alert:
        refuses = "does not trust the certificate" if alert.endswith(_DISTRUST) else "ended the handshake"
        return f"the client {refuses}: alert {alert}"
    return _REASONS.get(text, text) or type(error).__name__
