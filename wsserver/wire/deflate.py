"""
permessage-deflate (RFC 7692): negotiate parameters, compress and inflate messages.

This module does not use Twisted, Autobahn or a clock. Inflating produces at most one byte more than the limit, whatever
the peer sends. Section numbers in this module are those of RFC 7692.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final

from wsserver.config.settings import Settings

__all__ = [
    "DEFLATER",
    "INFLATER",
    "LIBRARIES",
    "SMALL_WINDOW",
    "Deflate",
    "InflateCorrupt",
    "InflateTooBig",
    "Library",
    "Terms",
    "agree",
    "choose",
]

_TAIL: Final = b"\x00\x00\xff\xff"
"""The last bytes of the block written by a sync flush. The sender removes them, the receiver appends them (7.2.1)."""

_EMPTY: Final = b"\x00"
"""The compressed form of an empty message (section 7.2.3.6)."""

_DEFLATED, _SYNC_FLUSH = 8, 2

MAX_STREAMS: Final = 8
"""
Maximum number of blocks with the final bit in one message.

Senders write one such block. Each block costs a copy of the data after it, so their number must be bounded.
"""


@dataclass(frozen=True, slots=True)
class Library:
    """A compression library with the interface of `zlib`."""

    name: str
    """Name of the package on PyPI."""
    module: Any
    """The module with the functions `compressobj` and `decompressobj`."""
    level: int
    """Compression level that balances speed and size; the measurements are in docs/explanation/performance.md."""


def _installed() -> dict[str, Library]:
    found = {}
    for name, module, level in (("isal", "isal.isal_zlib", 1), ("zlib-ng", "zlib_ng.zlib_ng", 2), ("zlib", "zlib", 3)):
        try:
            found[name] = Library(name, import_module(module), level)
        except ImportError:
            continue
    return found


LIBRARIES: Final = _installed()
"""The installed libraries by name; zlib is always installed."""

# isal compresses in half the time of the others to the same size. It inflates messages of a typical size (one or two
# KiB) more slowly than they do, so another library inflates. A compressor of zlib-ng needs twice the memory of zlib's.
DEFLATER: Final = LIBRARIES.get("isal", LIBRARIES["zlib"])
"""The library that compresses."""

INFLATER: Final = LIBRARIES.get("zlib-ng", LIBRARIES["zlib"])
"""The library that inflates."""


SMALL_WINDOW: Final = 12
"""
Window bits up to which a compressor or decompressor that is kept between messages is zlib's.

Operators make the window smaller to save memory. zlib's memory follows the window. The memory of isal's compressor and
of zlib-ng's decompressor does not: both together have 79 KiB. With 13 bits, zlib would have as much.
"""


def choose(usual: Library, bits: int, *, is_kept: bool) -> Library:
    """
    Return the library for a compressor or a decompressor.

    Args:
        usual: the fastest library.
        bits: the window bits.
        is_kept: whether it is kept between messages: context takeover.
    """
    return LIBRARIES["zlib"] if is_kept and bits <= SMALL_WINDOW else usual


# Negotiation (section 7.1).


@dataclass(frozen=True, slots=True)
class Terms:
    """The negotiated parameters (section 7.1): `server_*` for messages sent, `client_*` for messages received."""

    server_takeover: bool = True
    """Context takeover: messages may refer to earlier ones, so the compressor is kept between messages."""
    client_takeover: bool = True
    """The same for messages received."""
    server_bits: int = 15
    """Base-two logarithm of the window size in bytes, 9 to 15."""
    client_bits: int = 15
    """The same for messages received, 8 to 15."""
    answer: str = "permessage-deflate"
    """The value of Sec-WebSocket-Extensions in the response."""


def agree(offer: Mapping[str, list[str | bool]], settings: Settings, *, takeover: bool = True) -> Terms:
    """
    Accept a client's offer.

    Args:
        offer: the parameters of a valid offer (see `wsserver.wire.handshake`): each parameter once, with a valid value.
        settings: the server's options.
        takeover: whether to use context takeover where the options and the client allow it.

    Returns:
        The negotiated parameters.
    """
    own = settings.compression_window_bits
    takeover = takeover and settings.compression_context_takeover == "on"
    answer = ["permessage-deflate"]
    # Section 7.1.1: the server may include either parameter in its response, even if the client did not offer it.
    server_takeover = takeover and "server_no_context_takeover" not in offer
    if not server_takeover:
        answer.append("server_no_context_takeover")
    client_takeover = takeover and "client_no_context_takeover" not in offer
    if not client_takeover:
        answer.append("client_no_context_takeover")
    # Section 7.1.2.1: the server answers with "the same or smaller value", and may announce a smaller window unasked.
    server_bits = min(own, int(offer.get("server_max_window_bits", [15])[0]))
    if server_bits < 15 or "server_max_window_bits" in offer:
        answer.append(f"server_max_window_bits={server_bits}")
    # Section 7.1.2.2: the server may limit the client's window only if the offer has this parameter. Its value, if any,
    # is a hint at the window size that the client will use.
    client_bits = 15
    if "client_max_window_bits" in offer:
        hint = offer["client_max_window_bits"][0]
        client_bits = min(own, 15 if hint is True else int(hint))
        if client_bits < 15:
            answer.append(f"client_max_window_bits={client_bits}")
    return Terms(server_takeover, client_takeover, server_bits, client_bits, "; ".join(answer))


# The connection.


class InflateTooBig(Exception):
    """A message inflates to more bytes than the limit."""


class InflateCorrupt(Exception):
    """A message is not valid DEFLATE data (RFC 1951), or ends in the middle of a block."""

    inflated: bytes | None = None
    """The data inflated before the error, if only the end of a whole message is invalid; else None."""


class Deflate:
    """
    The compressor and the decompressor of one connection.

    Each of the two is created when it is first needed, and dropped after each message unless context takeover was
    negotiated for it. Creating one takes a fraction of a microsecond, so a pool is not needed.

    `deflate` and `inflate` process whole messages. Autobahn's state machine calls the methods with 'message' in their
    names, for messages in pieces. Both use the same compressor and decompressor.

    Args:
        terms: the negotiated parameters.
        deflater: the library that compresses; None for the one that `choose` returns.
        inflater: the library that inflates; None for the one that `choose` returns.
        spend: called with the size of each piece of data that was compressed or inflated, uncompressed, in bytes.
    """

    EXTENSION_NAME: ClassVar[str] = "permessage-deflate"
    too_big: ClassVar[type[InflateTooBig]] = InflateTooBig
    corrupt: ClassVar[type[InflateCorrupt]] = InflateCorrupt

    __slots__ = ("_deflater", "_deflating", "_inflater", "_inflating", "_spend", "_streams", "terms")

    def __init__(
        self,
        terms: Terms,
        *,
        deflater: Library | None = None,
        inflater: Library | None = None,
        spend: Callable[[int], object] = int,
    ) -> None:
        self.terms = terms
        self._spend = spend
        self._deflater = deflater or choose(DEFLATER, terms.server_bits, is_kept=terms.server_takeover)
        self._inflater = inflater or choose(INFLATER, terms.client_bits, is_kept=terms.client_takeover)
        self._deflating: Any = None
        self._inflating: Any = None
        """The decompressor of the current DEFLATE stream; None between streams."""
        self._streams = 0
        """Number of DEFLATE streams that have ended within the current message."""

    def describe(self) -> dict[str, str | bool | int]:
        """Return a mapping with the extension's name, under `extension`, and its four negotiated parameters."""
        terms = self.terms
        return {
            "extension": self.EXTENSION_NAME,
            "server_no_context_takeover": not terms.server_takeover,
            "client_no_context_takeover": not terms.client_takeover,
            "server_max_window_bits": terms.server_bits,
            "client_max_window_bits": terms.client_bits,
        }

    # Receiving.

    def inflate(self, payload: bytes, limit: int) -> bytes:
        """
        Inflate a whole message (section 7.2.2).

        Args:
            payload: the payload of the message's frames.
            limit: maximum size of the inflated message, in bytes.

        Returns:
            The inflated message.

        Raises:
            InflateTooBig: the message is over the limit. At most `limit` + 1 bytes were inflated.
            InflateCorrupt: the payload is not valid DEFLATE data.
        """
        self.start_decompress_message()
        message = self.decompress_message_data(payload, limit)
        try:
            self.end_decompress_message()
        except InflateCorrupt as error:
            error.inflated = message
            raise
        return message

    def start_decompress_message(self) -> None:
        """Begin to inflate a message."""
        self._streams = 0
        if not self.terms.client_takeover:
            self._inflating = None

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """
        Inflate a piece of a message.

        Args:
            data: the piece.
            max_output_len: maximum size of the inflated piece, in bytes.

        Returns:
            The inflated piece.

        Raises:
            InflateTooBig: the inflated piece is over the limit.
            InflateCorrupt: the piece is not valid DEFLATE data.
        """
        if not data:
            return b""
        stream = self._inflating
        if stream is None:
            stream = self._inflating = self._new_inflating()
        try:
            # One byte more than the limit: if the output is shorter, the whole input has been consumed.
            inflated: bytes = stream.decompress(data, max_output_len + 1)
            if stream.eof:
                inflated += self._inflate_next(max_output_len - len(inflated))
        except self._inflater.module.error as error:
            self._inflating = None
            raise self.corrupt(str(error)) from None
        self._spend(len(inflated))
        if len(inflated) > max_output_len:
            self._inflating = None
            raise self.too_big(f"more than {max_output_len} bytes")
        return inflated

    def _inflate_next(self, room: int) -> bytes:
        """
        Inflate the data after a block with the final bit, which ends a DEFLATE stream (section 7.2.3.4).

        That data is a new stream. As in browsers, it cannot refer to earlier data.

        Args:
            room: maximum number of bytes to inflate. One byte more is inflated, to detect that there is more. Negative
                if the message is over the limit already.

        Returns:
            The inflated data.

        Raises:
            InflateCorrupt: the message has more than `MAX_STREAMS` streams.
        """
        inflated = b""
        while self._inflating is not None and self._inflating.eof and len(inflated) <= room:
            rest = self._inflating.unused_data
            self._inflating = None
            self._streams += 1
            if self._streams > MAX_STREAMS:
                raise self.corrupt(f"more than {MAX_STREAMS} final blocks")
            if rest:
                self._inflating = self._new_inflating()
                inflated += self._inflating.decompress(rest, room + 1 - len(inflated))
        return inflated

    def end_decompress_message(self) -> None:
        """
        End a message that was inflated in pieces.

        Raises:
            InflateCorrupt: the message ends in the middle of a block.
        """
        stream = self._inflating
        if stream is None:
            return
        try:
            more = stream.decompress(_TAIL, 1)
        except self._inflater.module.error as error:
            self._inflating = None
            raise self.corrupt(str(error)) from None
        if more or stream.eof or not self.terms.client_takeover:
            self._inflating = None
        if more:
            raise self.corrupt("the message ends within a block")

    def _new_inflating(self) -> Any:
        # If 8 bits were negotiated, the client's zlib may use 9 instead; a decompressor with 9 reads both.
        return self._inflater.module.decompressobj(-max(self.terms.client_bits, 9))

    # Sending.

    def deflate(self, payload: bytes) -> bytes:
        """
        Compress a whole message (section 7.2.1).

        Args:
            payload: the message.

        Returns:
            The payload of the message's frame, whose RSV1 bit must be set.
        """
        if not payload:
            return _EMPTY
        self._spend(len(payload))
        stream = self._deflating
        if stream is None:
            stream = self._new_deflating()
            if self.terms.server_takeover:
                self._deflating = stream
        compressed: bytes = (stream.compress(payload) + stream.flush(_SYNC_FLUSH))[:-4]
        return compressed

    def start_compress_message(self) -> None:
        """Begin to compress a message."""
        if self._deflating is None or not self.terms.server_takeover:
            self._deflating = self._new_deflating()

    def compress_message_data(self, data: bytes) -> bytes:
        """Compress a piece of a message; some of the output may be returned with a later piece."""
        compressed: bytes = self._deflating.compress(data)
        return compressed

    def end_compress_message(self) -> bytes:
        """End a message that was compressed in pieces, and return the rest of the output."""
        compressed: bytes = self._deflating.flush(_SYNC_FLUSH)[:-4]
        if not self.terms.server_takeover:
            self._deflating = None
        # The compressor writes nothing if it got no data since its last flush.
        return compressed or _EMPTY

    def _new_deflating(self) -> Any:
        bits = self.terms.server_bits
        # memLevel = bits - 7 gives as many hash bits as window bits, as do the defaults: memLevel 8 and 15 window bits.
        # A lower one saves 13 KiB of 50, and 1 KiB of JSON does not become larger.
        saves = self.terms.server_takeover and bits <= SMALL_WINDOW
        memory = max(2, bits - 9) if saves else bits - 7
        return self._deflater.module.compressobj(self._deflater.level, _DEFLATED, -bits, memory)
