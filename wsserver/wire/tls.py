"""
Twisted's TLS with a short way for the records of an established connection.

Twisted asks pyOpenSSL for plaintext until an exception says that there is no more, allocates for each answer, and
collects what is written until the next turn of the loop. Here OpenSSL is called itself, into buffers made once, and is
asked how much is left; a write leaves at once, as on a plain transport. Everything but application data (handshakes,
closing, errors, writes that must wait for the peer) is left to Twisted's own code.

Private names used here, of Twisted's `TLSMemoryBIOProtocol`: `_appSendBuffer`, `_flushReceiveBIO`, `_handshakeDone`,
`_tlsShutdownFinished`; of pyOpenSSL: `SSL._ffi`, `SSL._lib`, and of its `Connection`: `_from_ssl`, `_into_ssl`, `_ssl`.
A contract test fails when one of them changes. Where pyOpenSSL is missing, or OpenSSL's functions are, importing this
module raises ImportError, and Twisted's own class serves.
"""

from socket import MSG_PEEK
from typing import Any

from OpenSSL.SSL import Connection, Error, WantReadError, ZeroReturnError, _ffi, _lib  # type: ignore[attr-defined]
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from wsserver.wire.tls_server import GuardedTLSTransport, HandshakeGuard

__all__ = ["PIECE", "RECORD", "GuardedTLSProtocol", "TLSProtocol", "adopt_factory"]

RECORD = 2**14
"""Most plaintext of a record (RFC 8446 section 5.1)."""

PIECE = 4 * RECORD
"""Most bytes given to OpenSSL at once: its own buffer of a connection grows to what it once held, and stays."""

try:
    _bio_read, _bio_write, _bio_size = _lib.BIO_read, _lib.BIO_write, _lib.BIO_get_mem_data
    _ssl_read, _ssl_write, _ssl_get_error = _lib.SSL_read, _lib.SSL_write, _lib.SSL_get_error
    _WANT_READ = _lib.SSL_ERROR_WANT_READ
except AttributeError as error:
    raise ImportError(f"pyOpenSSL has changed: {error}") from error

# A ciphertext is longer than its plaintext by 256 bytes at most, and its head (RFC 8446 section 5.2; 2048 and the head
# by RFC 5246 section 6.2.3); what else OpenSSL has to say, an update of keys for one, leaves with it.
_ROOM = PIECE + 2 * RECORD

# One for all connections: nothing stays in them longer than a call.
_plaintext = memoryview(bytearray(_ROOM))
_ciphertext = memoryview(bytearray(_ROOM))
_PLAINTEXT, _CIPHERTEXT, _NULL = _ffi.from_buffer(_plaintext), _ffi.from_buffer(_ciphertext), _ffi.NULL


class TLSProtocol(TLSMemoryBIOProtocol):
    """TLS of a connection, between its transport and its protocol."""

    transport: Any

    _ssl: Any = None
    """OpenSSL's SSL; None while Twisted's own code serves: before the handshake is done, and from the end on."""

    _ended = False
    """Nothing is taken or sent any more."""

    # Its memory BIOs, which live as long as it does: ciphertext for it, and from it.
    _into: Any
    _out: Any

    def _take_over(self) -> None:
        """Serve application data from here on, the handshake being done."""
        connection: Any = self.getHandle()
        if type(connection) is not Connection:
            # An application's own, whose methods may do more than OpenSSL does.
            return
        self._into, self._out = connection._into_ssl, connection._from_ssl  # noqa: SLF001
        self._ssl = connection._ssl  # noqa: SLF001

    def dataReceived(self, data: bytes) -> None:
        """Take ciphertext."""
        ssl = self._ssl
        if ssl is None or self._appSendBuffer:
            super().dataReceived(data)
            if self._handshakeDone and not self._ended:
                self._take_over()
            return
        if len(data) > PIECE:
            self._receive_pieces(data)
            return
        _bio_write(self._into, data, len(data))
        size = _ssl_read(ssl, _PLAINTEXT, _ROOM)
        # There is room for any record, so OpenSSL has nothing left while its BIO is empty.
        if size <= 0 or _bio_size(self._into, _NULL):
            self._read_on(ssl, size)
            return
        self.wrappedProtocol.dataReceived(_plaintext[:size].tobytes())
        if self._ssl is not None and _bio_size(self._out, _NULL):
            self._flush()

    def _read_on(self, ssl: Any, size: int) -> None:
        """Take what there is besides one whole record; `size` is what reading the first has brought."""
        filled = max(size, 0)
        while size > 0 and _bio_size(self._into, _NULL):
            if _ROOM - filled < RECORD:
                self.wrappedProtocol.dataReceived(_plaintext[:filled].tobytes())
                if self._ssl is None:
                    return
                filled = 0
            size = _ssl_read(ssl, _PLAINTEXT + filled, _ROOM - filled)
            filled += max(size, 0)
        ended = size <= 0 and _ssl_get_error(ssl, size) != _WANT_READ
        if ended:
            self._end_if_failed()
        if filled > 0:
            self.wrappedProtocol.dataReceived(_plaintext[:filled].tobytes())
        if self._ssl is None:
            return
        if ended:
            # The peer has closed: Twisted asks again, and is told the same.
            self._flushReceiveBIO()
        elif _bio_size(self._out, _NULL):
            # An answer of OpenSSL's own, as to an update of keys (RFC 8446 section 4.6.3).
            self._flush()

    def _end_if_failed(self) -> None:
        """
        End TLS where OpenSSL has failed, by what pyOpenSSL makes of the failure.

        At once, though what was decrypted before is still to be delivered: the alert is on its way, so nothing could
        be answered any more, and OpenSSL keeps errors by thread, where other connections would take them for theirs.
        """
        try:
            self.getHandle().recv(1, MSG_PEEK)
        except (WantReadError, ZeroReturnError):
            return
        except Error:
            self._tlsShutdownFinished(Failure())

    def _receive_pieces(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            self.dataReceived(data[start : start + PIECE])
            if self._ssl is None:
                return

    def write(self, data: bytes) -> None:
        """
        Send; it leaves at once, unless OpenSSL waits for the peer.

        Args:
            data: plaintext.

        Raises:
            TypeError: it is not bytes.
        """
        ssl = self._ssl
        if ssl is None or self.disconnecting or self._appSendBuffer:
            if not isinstance(data, bytes):
                raise TypeError("Data must be bytes")
            super().write(data)
            return
        size = len(data)
        if size > RECORD:
            self._write_records(ssl, data)
        elif size:
            sent = _ssl_write(ssl, data, size)
            if sent > 0:
                self._flush()
            if sent != size:
                # OpenSSL waits for the peer, or has failed, or the peer takes less in a record.
                super().write(data[max(sent, 0) :])

    def _write_records(self, ssl: Any, data: bytes) -> None:
        """Send more than a record holds, in one write."""
        done = filled = 0
        # One write for all: whoever is paused by it may write too, and must not come between the pieces.
        pieces = []
        with _ffi.from_buffer(data) as source:
            while done < len(data):
                sent = _ssl_write(ssl, source + done, min(len(data) - done, RECORD))
                if sent <= 0:
                    break
                done += sent
                filled += max(_bio_read(self._out, _CIPHERTEXT + filled, _ROOM - filled), 0)
                if filled > PIECE:
                    pieces.append(_ciphertext[:filled].tobytes())
                    filled = 0
        if filled:
            pieces.append(_ciphertext[:filled].tobytes())
        if pieces:
            self.transport.write(b"".join(pieces))
        if done < len(data):
            super().write(data[done:])

    def _flush(self) -> None:
        """Send what OpenSSL has encrypted."""
        size = _bio_read(self._out, _CIPHERTEXT, _ROOM)
        if size > 0:
            self.transport.write(_ciphertext[:size].tobytes())

    def abortConnection(self) -> None:
        """Drop the connection; nothing is delivered any more."""
        self._ssl, self._ended = None, True
        super().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note that the transport is gone."""
        self._ssl, self._ended = None, True
        super().connectionLost(reason)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        self._ssl, self._ended = None, True
        super()._tlsShutdownFinished(reason)


class GuardedTLSProtocol(TLSProtocol, HandshakeGuard):
    """The same for the server's own listeners."""


_FAST: dict[type, type[TLSProtocol]] = {BufferingTLSTransport: TLSProtocol, GuardedTLSTransport: GuardedTLSProtocol}


def adopt_factory(factory: Any) -> None:
    """
    Let the factory of a port speak TLS by `TLSProtocol`.

    Args:
        factory: changed only if it is one for TLS, with Twisted's protocol or the server's own.
    """
    if isinstance(factory, TLSMemoryBIOFactory):
        factory.protocol = _FAST.get(factory.protocol, factory.protocol)
