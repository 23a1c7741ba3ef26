"""
Twisted's TLS protocol with a fast path for application data.

Twisted's own protocol reads by calling pyOpenSSL repeatedly, with a new buffer each time, until an exception signals
that there is no more plaintext; and it collects writes until the next turn of the event loop. `TLSProtocol` calls
OpenSSL's functions directly, with buffers that are allocated once, and asks OpenSSL how much data is left. It sends
each write at once, as on a plain transport. Twisted's own code does everything else: handshakes, closing, errors, and
writes that must wait for the peer.

`_speedups` contains a compiled implementation of the fast path with the same behaviour. It is not linked to OpenSSL: it
calls the functions of pyOpenSSL's own OpenSSL by their addresses, which cffi knows.

Private names used here: `_appSendBuffer`, `_flushReceiveBIO`, `_handshakeDone`, `_tlsShutdownFinished` of Twisted's
`TLSMemoryBIOProtocol`; `SSL._ffi` and `SSL._lib` of pyOpenSSL; `_from_ssl`, `_into_ssl`, `_ssl` of its `Connection`. A
contract test fails when one of them changes. Importing this module raises ImportError if pyOpenSSL or one of OpenSSL's
functions is missing; the server then uses Twisted's own class.
"""

from collections.abc import Callable
from socket import MSG_PEEK
from typing import TYPE_CHECKING, Any

from OpenSSL.SSL import Connection, Error, WantReadError, ZeroReturnError, _ffi, _lib  # type: ignore[attr-defined]
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from wsserver.wire import frames
from wsserver.wire.tls_server import GuardedTLSTransport, HandshakeGuard

__all__ = ["PIECE", "RECORD", "GuardedTLSProtocol", "PyTLSFastPath", "TLSProtocol", "adopt_factory"]

RECORD = 2**14
"""Maximum plaintext of a TLS record, in bytes (RFC 8446 section 5.1)."""

PIECE = 4 * RECORD
"""
Maximum number of bytes passed to OpenSSL at once.

OpenSSL's buffer of a connection grows to the largest amount that it has held, and never shrinks.
"""

try:
    _bio_read, _bio_write, _bio_size = _lib.BIO_read, _lib.BIO_write, _lib.BIO_get_mem_data
    _ssl_read, _ssl_write, _ssl_get_error = _lib.SSL_read, _lib.SSL_write, _lib.SSL_get_error
    _WANT_READ = _lib.SSL_ERROR_WANT_READ
except AttributeError as error:
    raise ImportError(f"pyOpenSSL has changed: {error}") from error

# A record's ciphertext is longer than its plaintext by its header and at most 256 bytes (RFC 8446 section 5.2), or 2048
# bytes (RFC 5246 section 6.2.3). The rest is for OpenSSL's own messages, such as a key update.
_ROOM = PIECE + 2 * RECORD

# Shared by all connections, because their contents are used only within one call.
_plaintext = memoryview(bytearray(_ROOM))
_ciphertext = memoryview(bytearray(_ROOM))
_PLAINTEXT, _CIPHERTEXT, _NULL = _ffi.from_buffer(_plaintext), _ffi.from_buffer(_ciphertext), _ffi.NULL


class PyTLSFastPath:
    """
    Fast path of TLS: a read that contains one record, and a write that fits into one.

    Subclasses implement the methods that are only declared here. `_speedups` contains a compiled implementation with
    the same behaviour.
    """

    _ssl: Any = None
    """OpenSSL's SSL object; None while Twisted's own code is used: during the handshake, and after the end of TLS."""
    # OpenSSL's memory BIOs for received ciphertext and for ciphertext to send. They live as long as the SSL object.
    _into: Any = None
    _out: Any = None

    # Set by Twisted's class.
    transport: Any
    wrappedProtocol: Any
    disconnecting: Any
    _appSendBuffer: list[bytes]

    _receive_slowly: Callable[[bytes], None]
    _read_on: Callable[[int], None]
    _write_slowly: Callable[[bytes], None]
    _write_rest: Callable[[bytes, int], None]

    def _begin(self, ssl: Any, into: Any, out: Any) -> None:
        """Use the fast path from now on, with OpenSSL's SSL object and its memory BIOs."""
        self._ssl, self._into, self._out = ssl, into, out

    def _stop(self) -> None:
        """Use only Twisted's own code from now on."""
        self._ssl = self._into = self._out = None

    def dataReceived(self, data: bytes) -> None:
        """Decrypt received ciphertext and pass the plaintext to the protocol."""
        if self._ssl is None or self._appSendBuffer or len(data) > PIECE:
            self._receive_slowly(data)
            return
        _bio_write(self._into, data, len(data))
        size = _ssl_read(self._ssl, _PLAINTEXT, _ROOM)
        # The buffer has room for any record, so if the BIO is empty, OpenSSL has no more plaintext.
        if size <= 0 or _bio_size(self._into, _NULL):
            self._read_on(size)
            return
        self.wrappedProtocol.dataReceived(_plaintext[:size].tobytes())
        if self._ssl is not None:
            self._flush()

    def write(self, data: bytes) -> None:
        """
        Encrypt data and send it at once, unless OpenSSL has to wait for the peer.

        Args:
            data: plaintext.

        Raises:
            TypeError: the data is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        size = len(data)
        if self._ssl is None or self.disconnecting or self._appSendBuffer or not 0 < size <= RECORD:
            self._write_slowly(data)
            return
        sent = _ssl_write(self._ssl, data, size)
        if sent > 0:
            self._flush()
        if sent != size:
            self._write_rest(data, max(sent, 0))

    def _flush(self) -> None:
        """Send the ciphertext that OpenSSL has produced, if any."""
        if _bio_size(self._out, _NULL):
            size = _bio_read(self._out, _CIPHERTEXT, _ROOM)
            self.transport.write(_ciphertext[:size].tobytes())


_FastBase = PyTLSFastPath


def _address(pointer: Any) -> int:
    return int(_ffi.cast("uintptr_t", pointer))


def _find_addresses() -> dict[str, int] | None:
    """
    Return the addresses of OpenSSL's functions, as the compiled `use_openssl` takes them.

    Returns:
        None if cffi has no address for a function, or if its type is not the one that the compiled code expects.
    """
    moves, measures = "int(*)(%s *, void *, int)", "long(*)(%s *, char * *)"
    expected = {
        "bio_read": (_bio_read, moves % "BIO"),
        "bio_write": (_bio_write, moves % "BIO"),
        "bio_size": (_bio_size, measures % "BIO"),
        "ssl_read": (_ssl_read, moves % "SSL"),
        "ssl_write": (_ssl_write, moves % "SSL"),
    }
    addresses = {}
    for name, (function, type_name) in expected.items():
        try:
            # cffi's functions are bound to the library that they belong to.
            pointer = _ffi.addressof(function.__self__, function.__name__)
        except (AttributeError, TypeError):
            return None
        if _ffi.typeof(pointer).cname != type_name:
            return None
        addresses[name] = _address(pointer)
    return addresses


if not TYPE_CHECKING and frames.COMPILED and (_addresses := _find_addresses()):
    frames.SPEEDUPS.use_openssl(_address, _address(_PLAINTEXT), **_addresses)
    _FastBase = frames.SPEEDUPS.TLSFastPath


class TLSProtocol(_FastBase, TLSMemoryBIOProtocol):
    """The TLS layer of a connection, between its transport and its protocol."""

    _ended = False
    """Whether TLS has ended: nothing more is received or sent."""

    def _take_over(self) -> None:
        """Use the fast path from now on; called after the handshake."""
        connection: Any = self.getHandle()
        # An application's subclass may have methods that do more than OpenSSL's functions.
        if type(connection) is Connection:
            self._begin(connection._ssl, connection._into_ssl, connection._from_ssl)  # noqa: SLF001

    def _receive_slowly(self, data: bytes) -> None:
        """Decrypt ciphertext that the fast path does not process."""
        if self._ssl is not None and not self._appSendBuffer:
            self._receive_pieces(data)
            return
        super(_FastBase, self).dataReceived(data)
        if self._handshakeDone and not self._ended:
            self._take_over()

    def _read_on(self, size: int) -> None:
        """
        Read the remaining records, or handle an error, after the first `SSL_read`.

        Args:
            size: the result of the first `SSL_read`: bytes in the plaintext buffer, or an error if not positive.
        """
        ssl, filled = self._ssl, max(size, 0)
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
            # The peer has closed TLS: Twisted reads again, gets the same result, and closes the connection.
            self._flushReceiveBIO()
        else:
            # OpenSSL's own response, for example to a key update (RFC 8446 section 4.6.3).
            self._flush()

    def _end_if_failed(self) -> None:
        """
        End TLS if OpenSSL has failed, with the exception that pyOpenSSL raises for the failure.

        This happens before data that was decrypted earlier is delivered. The alert has been sent, so no response is
        possible any more. OpenSSL stores errors per thread: other connections would mistake this error for their own.
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

    def _write_slowly(self, data: bytes) -> None:
        """Encrypt data that the fast path does not process, and send it or queue it."""
        if self._ssl is None or self.disconnecting or self._appSendBuffer:
            super(_FastBase, self).write(data)
        elif data:
            self._write_records(self._ssl, data)

    def _write_rest(self, data: bytes, start: int) -> None:
        """
        Send the rest of data of which OpenSSL has encrypted a part, or queue it.

        OpenSSL waits for the peer, has failed, or the peer accepts only smaller records.

        Args:
            data: the data written.
            start: number of bytes of `data` that OpenSSL has encrypted.
        """
        super(_FastBase, self).write(data[start:])

    def _write_records(self, ssl: Any, data: bytes) -> None:
        """Encrypt data that needs several records, and send them in one write."""
        done = filled = 0
        # One write, because a write may pause a producer, and a producer may write when it is paused: its data must not
        # be sent between the pieces.
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
            self._write_rest(data, done)

    def _end_fast_path(self) -> None:
        self._ended = True
        self._stop()

    def abortConnection(self) -> None:
        """Drop the connection; no more data is passed to the protocol."""
        self._end_fast_path()
        super().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End TLS, and notify the protocol: the connection is lost."""
        self._end_fast_path()
        super().connectionLost(reason)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        self._end_fast_path()
        super()._tlsShutdownFinished(reason)


class GuardedTLSProtocol(TLSProtocol, HandshakeGuard):
    """`TLSProtocol` for the server's own listeners, with `HandshakeGuard`."""


_FAST: dict[type, type[TLSProtocol]] = {BufferingTLSTransport: TLSProtocol, GuardedTLSTransport: GuardedTLSProtocol}


def adopt_factory(factory: Any) -> None:
    """
    Make the factory of a port use `TLSProtocol` for TLS.

    Args:
        factory: a port's factory. Only changed if it is a TLS factory with Twisted's protocol or the server's own.
    """
    if isinstance(factory, TLSMemoryBIOFactory):
        factory.protocol = _FAST.get(factory.protocol, factory.protocol)
