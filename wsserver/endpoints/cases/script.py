"""
The form of a conformance case: what the server sends, what the client must answer, and how the connection ends.

`factories` makes the scripts of most cases. This module does not use Twisted or a clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from wsserver.endpoints.cases.frames import BINARY, CONTINUATION, RSV1, TEXT, Frame
from wsserver.wire.deflate import Deflate, Terms

__all__ = [
    "Answer",
    "Case",
    "Close",
    "Closes",
    "Deflated",
    "Event",
    "Fails",
    "HeadChange",
    "Message",
    "Ping",
    "Plain",
    "Pong",
    "Rejects",
    "Script",
    "Sendable",
    "Step",
    "close_payload",
    "fragments",
]


# What the client sends.


@dataclass(frozen=True, slots=True)
class Message:
    """A text or binary message."""

    payload: bytes
    is_binary: bool = False

    def __str__(self) -> str:
        kind = "binary" if self.is_binary else "text"
        shown = f" {self.payload!r}" if len(self.payload) <= 32 else ""
        return f"the {kind} message{shown} of {len(self.payload)} bytes"


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong frame."""

    payload: bytes
    is_optional: bool = False
    """Whether the client may leave it out, because it may answer only the last of several pings (section 5.5.3)."""

    def __str__(self) -> str:
        return f"a pong with {self.payload!r}"


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame."""

    code: int | None
    """The close code; None if the frame is empty."""
    reason: bytes = b""


Event = Message | Ping | Pong | Close
Expected = Message | Pong


# What the server sends.


class Sendable(Protocol):
    """One or more frames, which may depend on the negotiated compression."""

    def frames(self, codec: Deflate | None) -> Sequence[Frame]:
        """Return the frames."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A frame as it is."""

    frame: Frame

    def frames(self, codec: Deflate | None) -> Sequence[Frame]:  # noqa: ARG002
        """Return the frame."""
        return (self.frame,)


@dataclass(frozen=True, slots=True)
class Deflated:
    """A message that is compressed with the connection's compressor."""

    payload: bytes
    is_binary: bool = False
    sizes: tuple[int, ...] = ()
    """Sizes of the first fragments, in bytes; the rest is the last fragment."""
    between: tuple[Frame, ...] = ()
    """Frames to send after the first fragment."""
    later_rsv: int = 0
    """Reserved bits of the fragments after the first one."""

    def frames(self, codec: Deflate | None) -> Sequence[Frame]:
        """Return the frames of the message."""
        assert codec is not None
        opcode = BINARY if self.is_binary else TEXT
        first, *rest = fragments(codec.deflate(self.payload), *self.sizes, opcode=opcode, rsv=RSV1)
        rest = [Frame(one.opcode, one.payload, one.fin, self.later_rsv) for one in rest]
        return [first, *self.between, *rest]


def fragments(payload: bytes, *sizes: int, opcode: int = TEXT, rsv: int = 0) -> list[Frame]:
    """
    Split a message into frames.

    Args:
        payload: the payload of the message.
        sizes: sizes of the fragments except for the last one, in bytes.
        opcode: the opcode of the first frame.
        rsv: the reserved bits of the first frame.
    """
    frames, start = [], 0
    for size in sizes:
        frames.append(Frame(opcode, payload[start : start + size], fin=False, rsv=rsv))
        start, opcode, rsv = start + size, CONTINUATION, 0
    return [*frames, Frame(opcode, payload[start:], rsv=rsv)]


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """Return the payload of a Close frame."""
    return code.to_bytes(2, "big") + reason


@dataclass(frozen=True, slots=True)
class Step:
    """Frames that the server sends at once, and the answers that it then waits for, in any order."""

    sends: tuple[Sendable, ...]
    expects: tuple[Expected, ...] = ()
    chop: int = 0
    """Number of bytes that are written at a time; 0 for all."""


# How the connection ends.


@dataclass(frozen=True, slots=True)
class Closes:
    """The server sends a Close frame, and the client must answer with one."""

    payload: bytes = close_payload(1000)
    replies: tuple[int | None, ...] = (1000,)
    """The close codes that the client should answer with."""
    late: tuple[Sendable, ...] = ()
    """Frames that the server sends after the Close frame, and the client must ignore."""
    chop: int = 0
    wait: float = 0.0
    """Seconds that the server waits with closing the TCP connection, in which the client should not close it."""


@dataclass(frozen=True, slots=True)
class Fails:
    """The client must fail the connection (section 7.1.7)."""

    codes: tuple[int, ...] = (1002,)
    """The close codes that the client should send."""
    tolerates: tuple[Expected, ...] = ()
    """Answers to earlier frames, which the client may still send."""
    is_required: bool = True
    """Whether the RFC requires that the client fails the connection, rather than permits it."""
    late: tuple[Sendable, ...] = ()
    """
    What the server sends if the client has not failed the connection after a second.

    The mistake is in the frames before, but the RFC permits that the client notices it at the end of the message.
    """


@dataclass(frozen=True, slots=True)
class Rejects:
    """The client must not accept the response to its opening handshake (section 4.1)."""


Ending = Closes | Fails | Rejects


# The opening handshake.


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to the client's offer of permessage-deflate (RFC 7692 section 7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    wrong: str = ""
    """An invalid parameter to append."""

    def agree(self, offer: Mapping[str, list[str | bool]]) -> "Answer":
        """
        Return the answer with the parameters that the client's offer demands (RFC 7692 section 7.1).

        Args:
            offer: the parameters of the offer: name -> values; True stands for no value.
        """
        return replace(
            self,
            server_no_context_takeover=self.server_no_context_takeover or "server_no_context_takeover" in offer,
            client_no_context_takeover=self.client_no_context_takeover or "client_no_context_takeover" in offer,
            server_max_window_bits=_least(self.server_max_window_bits, offer.get("server_max_window_bits")),
            client_max_window_bits=self.client_max_window_bits
            and _least(self.client_max_window_bits, offer.get("client_max_window_bits")),
        )

    def header(self) -> str:
        """Return the value of Sec-WebSocket-Extensions."""
        parts = ["permessage-deflate"]
        parts += ["server_no_context_takeover"] if self.server_no_context_takeover else []
        parts += ["client_no_context_takeover"] if self.client_no_context_takeover else []
        parts += [f"server_max_window_bits={self.server_max_window_bits}"] if self.server_max_window_bits else []
        parts += [f"client_max_window_bits={self.client_max_window_bits}"] if self.client_max_window_bits else []
        return "; ".join([*parts, self.wrong] if self.wrong else parts)

    def terms(self) -> Terms:
        """Return the parameters for the compressor and the decompressor."""
        return Terms(
            not self.server_no_context_takeover,
            not self.client_no_context_takeover,
            self.server_max_window_bits or 15,
            self.client_max_window_bits or 15,
            self.header(),
        )


def _least(bits: int | None, offered: list[str | bool] | None) -> int | None:
    """Return the window size for an answer: at most that of the offer; None if neither has one."""
    number = next((int(value) for value in offered or () if isinstance(value, str) and value.isdecimal()), None)
    return min((each for each in (bits, number) if each is not None), default=None)


@dataclass(frozen=True, slots=True)
class HeadChange:
    """A change of the response to the opening handshake: the text `old` is replaced with `new`."""

    old: str
    new: str

    def apply(self, head: bytes) -> bytes:
        """
        Return the changed response head.

        Raises:
            ValueError: the head does not contain the text.
        """
        before = self.old.encode("latin-1")
        if before not in head:
            raise ValueError(f"the response head does not contain {self.old!r}")
        return head.replace(before, self.new.encode("latin-1"), 1)


# The case.


@dataclass(frozen=True, slots=True)
class Script:
    """The steps and the ending of a case after the opening handshake."""

    steps: tuple[Step, ...]
    ending: Ending = field(default_factory=Closes)
    must: str = ""
    """The demand on the client, as a phrase that begins with a verb."""


@dataclass(frozen=True, slots=True)
class Case:
    """A conformance case."""

    name: str
    """The name within its topic; with the topic, it is the id: `framing.text-125`."""
    title: str
    section: str
    """The section of the RFC that the client must follow, such as `5.2` of RFC 6455."""
    script: Script
    answer: Answer | None = None
    """The negotiated compression; None without."""
    head: HeadChange | None = None
    must: str = ""
    """The demand on the client, if the script's phrase is not precise enough."""
    has_fresh_masks: bool = False
    """Whether the masking keys of the client's frames must differ."""
    rfc: int = 6455
    topic: str = ""

    @property
    def id(self) -> str:
        """The name of the case, which stays the same when cases are added."""
        return f"{self.topic}.{self.name}"

    @property
    def demand(self) -> str:
        """The demand on the client, as a phrase that begins with a verb."""
        return self.must or self.script.must

    @property
    def reference(self) -> str:
        """The section that the case is written from."""
        return f"RFC {self.rfc} section {self.section}"
