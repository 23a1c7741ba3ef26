"""
permessage-deflate (RFC 7692): what is agreed to, and one connection's compressor and decompressor.

Rule 1: no Twisted, no Autobahn, no clock.
Rule 2: inflating makes at most one byte more than the limit, whatever the peer sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final

from wsserver.config.settings import Settings

__all__ = [
    "DEFLATER",
    "INFLATER",
    "LIBRARIES",
    "Deflate",
    "InflateCorrupt",
    "InflateTooBig",
    "Library",
    "Terms",
    "agree",
]

_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of the empty block that a sync flush writes: left out by the sender, put back by the receiver (7.2.1)."""

_EMPTY: Final = b"\x00"
"""An empty message: the empty block without its end (section 7.2.3.6)."""

_DEFLATED, _SYNC_FLUSH = 8, 2

MAX_STREAMS: Final = 8
"""Most blocks with the final bit in one message: each costs a copy of what follows, and one is what senders write."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library with the interface of `zlib`."""

    name: str
    """As on PyPI."""
    module: Any
    level: int
    """The level at which its speed and its size are in balance: docs/wire.md has the figures."""


def _installed() -> dict[str, Library]:
    found = {}
    for name, module, level in (("isal", "isal.isal_zlib", 1), ("zlib-ng", "zlib_ng.zlib_ng", 2), ("zlib", "zlib", 3)):
        try:
            found[name] = Library(name, import_module(module), level)
        except ImportError:
            continue
    return found


LIBRARIES: Final = _installed()
"""What is installed, by name; zlib always is."""

# isal takes half the time of the others for the same size. It inflates what a message mostly is, a KiB or two, more
# slowly than they do, so another one inflates. zlib-ng keeps twice the memory of zlib for each compressor.
DEFLATER: Final = LIBRARIES.get("isal", LIBRARIES["zlib"])
"""What compresses."""

INFLATER: Final = LIBRARIES.get("zlib-ng", LIBRARIES["zlib"])
"""What inflates."""


# Negotiation (section 7.1).


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed to: the four parameters of section 7.1. 'Server' is what we send, 'client' what we receive."""

    server_takeover: bool = True
    """A message may refer to those before it, for which the compressor is kept."""
    client_takeover: bool = True
    server_bits: int = 15
    """Base-two logarithm of the window in bytes, 9 to 15."""
    client_bits: int = 15
    """8 to 15."""
    answer: str = "permessage-deflate"
    """The value of Sec-WebSocket-Extensions in the response."""


def agree(offer: Mapping[str, list[str | bool]], settings: Settings, *, takeover: bool = True) -> Terms:
    """
    Answer an offer.

    Args:
        offer: the parameters of one that `wsserver.wire.handshake` found valid: each once, with a legal value.
        settings: the server's options.
        takeover: whether messages may refer to those before them, as far as the options let them.

    Returns:
        What holds from now on.
    """
    own = settings.compression_window_bits
    takeover = takeover and settings.compression_context_takeover == "on"
    answer = ["permessage-deflate"]
    # Section 7.1.1: the server may put either of the two into its answer, asked for or not.
    server_takeover = takeover and "server_no_context_takeover" not in offer
    if not server_takeover:
        answer.append("server_no_context_takeover")
    client_takeover = takeover and "client_no_context_takeover" not in offer
    if not client_takeover:
        answer.append("client_no_context_takeover")
    # Section 7.1.2.1: answered with "the same or smaller value"; a smaller window may be announced unasked.
    server_bits = min(own, int(offer.get("server_max_window_bits", [15])[0]))
    if server_bits < 15 or "server_max_window_bits" in offer:
        answer.append(f"server_max_window_bits={server_bits}")
    # Section 7.1.2.2: without this parameter in the offer the client's window is not ours to limit; with a value it
    # is a hint of what the client is going to use.
    client_bits = 15
    if "client_max_window_bits" in offer:
        hint = offer["client_max_window_bits"][0]
        client_bits = min(own, 15 if hint is True else int(hint))
        if client_bits < 15:
            answer.append(f"client_max_window_bits={client_bits}")
    return Terms(server_takeover, client_takeover, server_bits, client_bits, "; ".join(answer))


# The connection.


class InflateTooBig(Exception):
    """A message inflates beyond the limit."""


class InflateCorrupt(Exception):
    """A message is no DEFLATE data (RFC 1951), or ends in the middle of it."""

    inflated: bytes | None = None
    """Where only the end of a whole message is wrong: what came before it."""


class Deflate:
    """
    One connection's compressor and decompressor.

    Each is made when first needed. With context takeover it is kept from then on; without, it goes with its message:
    to make one anew takes a fraction of a microsecond, which is why there is no pool of them.

    `deflate` and `inflate` take whole messages. The methods with 'message' in their names are those that Autobahn's
    state machine calls, for messages that come or go in pieces. Both ways share the same streams.

    Args:
        terms: what was agreed to.
        deflater: the library that compresses; None for `DEFLATER`.
        inflater: the library that inflates; None for `INFLATER`.
    """

    EXTENSION_NAME: ClassVar[str] = "permessage-deflate"
    too_big: ClassVar[type[InflateTooBig]] = InflateTooBig
    corrupt: ClassVar[type[InflateCorrupt]] = InflateCorrupt

    __slots__ = ("_deflater", "_deflating", "_inflater", "_inflating", "_streams", "terms")

    def __init__(self, terms: Terms, *, deflater: Library | None = None, inflater: Library | None = None) -> None:
        self.terms = terms
        self._deflater = deflater or DEFLATER
        self._inflater = inflater or INFLATER
        self._deflating: Any = None
        self._inflating: Any = None
        """The stream that has begun; None between streams."""
        self._streams = 0
        """How many streams have ended within this message."""

    def describe(self) -> dict[str, str | bool | int]:
        """Tell the extension's name and its four parameters."""
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
            payload: of its frames.
            limit: most bytes to inflate to.

        Returns:
            The message.

        Raises:
            InflateTooBig: there is more; no more than `limit` + 1 bytes were made to find out.
            InflateCorrupt: it is no DEFLATE data.
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
        """Begin a message that comes in."""
        self._streams = 0
        if not self.terms.client_takeover:
            self._inflating = None

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """
        Inflate a piece of a message.

        Args:
            data: the piece.
            max_output_len: most bytes to inflate to.

        Returns:
            All that the piece inflates to.

        Raises:
            InflateTooBig: there is more.
            InflateCorrupt: it is no DEFLATE data.
        """
        if not data:
            return b""
        stream = self._inflating
        if stream is None:
            stream = self._inflating = self._new_inflating()
        try:
            # One byte more than there may be: while less comes out, all that went in has been used.
            inflated: bytes = stream.decompress(data, max_output_len + 1)
            if stream.eof:
                inflated += self._inflate_next(max_output_len - len(inflated))
        except self._inflater.module.error as error:
            self._inflating = None
            raise self.corrupt(str(error)) from None
        if len(inflated) > max_output_len:
            self._inflating = None
            raise self.too_big(f"more than {max_output_len} bytes")
        return inflated

    def _inflate_next(self, room: int) -> bytes:
        """
        Go on after a block with the final bit, which ends a stream (section 7.2.3.4): what follows is another one.

        As in browsers, the new stream does not refer to what was before it.

        Args:
            room: for how many bytes; one byte more is made, and negative when there is one already.
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
        End a message that comes in.

        Raises:
            InflateCorrupt: the message ends in the middle of the data.
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
        # A client that has agreed to 8 bits may have a zlib that takes 9 for it; a larger window reads both.
        return self._inflater.module.decompressobj(-max(self.terms.client_bits, 9))

    # Sending.

    def deflate(self, payload: bytes) -> bytes:
        """
        Compress a whole message (section 7.2.1).

        Args:
            payload: the message.

        Returns:
            What its frame carries, RSV1 set.
        """
        if not payload:
            return _EMPTY
        stream = self._deflating
        if stream is None:
            stream = self._new_deflating()
            if self.terms.server_takeover:
                self._deflating = stream
        compressed: bytes = (stream.compress(payload) + stream.flush(_SYNC_FLUSH))[:-4]
        return compressed

    def start_compress_message(self) -> None:
        """Begin a message that goes out."""
        if self._deflating is None or not self.terms.server_takeover:
            self._deflating = self._new_deflating()

    def compress_message_data(self, data: bytes) -> bytes:
        """Compress a piece of a message; what it comes to may be held back for the next piece."""
        compressed: bytes = self._deflating.compress(data)
        return compressed

    def end_compress_message(self) -> bytes:
        """End a message that goes out; returns what was held back."""
        compressed: bytes = self._deflating.flush(_SYNC_FLUSH)[:-4]
        if not self.terms.server_takeover:
            self._deflating = None
        # A stream that has nothing to add since its last flush writes nothing.
        return compressed or _EMPTY

    def _new_deflating(self) -> Any:
        bits = self.terms.server_bits
        # As many hash bits as window bits: memLevel 8, the default, with the default window of 15.
        return self._deflater.module.compressobj(self._deflater.level, _DEFLATED, -bits, bits - 7)
