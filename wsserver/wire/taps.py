"""
Taps: what the wire of a connection carried in both directions, for the client that asked for it and for the operator.

A connection with a tap exchanges its bytes through `wsserver.wire.tap_attach`; every other connection runs the same
code as without this module.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from hashlib import blake2b
from itertools import count
from typing import Any, Final

from twisted.logger import Logger

from wsserver.config.settings import Settings
from wsserver.wire.http11 import Request
from wsserver.wire.metering import Allowance
from wsserver.wire.tap_events import FRAMES_PER_SECOND, MAX_FRAMES_AT_ONCE, Tap
from wsserver.wire.timers import Deadline, Deadlines

__all__ = ["MAX_READERS", "RETENTION", "Taps"]

_log = Logger(namespace="wsserver.tap")

MAX_READERS: Final = 4
"""Maximum number of readers of a tap."""

RETENTION: Final = 60.0
"""Seconds for which a tap can be read after its connection has closed."""

_SECRET: Final = re.compile(r"[0-9A-Fa-f]{32,64}")
_ID: Final = re.compile(r"(?:([0-9a-f]{8})-)?([1-9][0-9]{0,17})")


class Taps:
    """
    The taps of a server process.

    Args:
        options: returns the server's options.
        limits: counts how often a limit takes effect.
        deadlines: forgets the taps of closed connections.
    """

    def __init__(self, options: Callable[[], Settings], limits: dict[str, int], deadlines: Deadlines) -> None:
        self.enabled = False
        """Whether connections may be tapped; the service decides, see `--tap`."""
        self.watch: Callable[[Tap, Any, Request], object] | None = None
        """Called with the tap, the connection and the request of each handshake; None to tap only those that ask."""
        self.limits = limits
        self.shown = Allowance(FRAMES_PER_SECOND, 0.0, MAX_FRAMES_AT_ONCE)
        """The number of frames that all taps may still show."""
        self._options = options
        self._deadlines = deadlines
        self._prefix = secrets.token_hex(4)
        self._prefix_bytes = self._prefix.encode("ascii")
        self._key = secrets.token_bytes(32)
        self._keyed = blake2b(key=self._key, digest_size=16)
        self._forgetting: dict[Tap, Deadline] = {}
        """The taps of closed connections, each with the deadline that forgets it."""
        self._serials = count(1)
        self._taps: dict[Tap, bytes] = {}
        """Tap -> the digest of the secret that its client has chosen; empty without one. The oldest tap is first."""

    # The identity of connections.

    def connection_id(self, number: int) -> str:
        """Return the ID of a connection, given its number in the log."""
        return f"{self._prefix}-{number}"

    def header_lines(self, number: int) -> bytes:
        """Return the lines that the 101 response of a connection has for its client."""
        name = b"%b-%d" % (self._prefix_bytes, number)
        if not self.enabled:
            return b"WSServer-Connection-Id: %b\r\n" % name
        return b"WSServer-Connection-Id: %b\r\nWSServer-Tap-Secret: %b\r\n" % (name, self._secret_of(name))

    def _secret_of(self, name: bytes) -> bytes:
        # Derived, so that no connection has to keep it. A copy of a keyed hash takes half the time of a new one.
        keyed = self._keyed.copy()
        keyed.update(name)
        return keyed.hexdigest().encode("ascii")

    def number_of(self, text: str) -> int | None:
        """Return the number of the connection with an ID; None if this process has not given the ID."""
        match = _ID.fullmatch(text)
        return int(match[2]) if match and match[1] in (None, self._prefix) else None

    @staticmethod
    def is_id(text: str) -> bool:
        """Return whether a text has the form of the ID of a connection."""
        return _ID.fullmatch(text) is not None

    @staticmethod
    def is_secret(text: str) -> bool:
        """Return whether a text has the form of a secret that a client chooses."""
        return _SECRET.fullmatch(text) is not None

    def knows(self, text: str, secret: str) -> bool:
        """
        Return whether a secret belongs to a connection, which may have closed.

        Args:
            text: the ID of the connection.
            secret: the secret from the response of its handshake.
        """
        return hmac.compare_digest(self._secret_of(text.encode("utf-8")), secret.encode("utf-8"))

    # Taps.

    def open(self, secret: str = "", *, is_limited: bool = True) -> Tap | None:
        """
        Return a new tap; None if there are too many.

        Args:
            secret: the secret that the client has chosen; empty without one.
            is_limited: whether `--max-taps` applies.
        """
        if is_limited and len(self._taps) >= self._options().max_taps and not self._make_room():
            self.limits["max_taps"] += 1
            return None
        tap = Tap(self, next(self._serials))
        self._taps[tap] = self._digest(secret) if secret else b""
        return tap

    def _make_room(self) -> bool:
        """Forget the oldest tap of a closed connection that nobody reads."""
        old = next((tap for tap in self._taps if tap.has_ended and not tap.readers), None)
        if old is not None:
            self.forget(old)
        return old is not None

    def forget(self, tap: Tap) -> None:
        """Forget a tap; its readers keep it."""
        self._taps.pop(tap, None)
        # The deadline would keep the tap.
        deadline = self._forgetting.pop(tap, None)
        if deadline is not None:
            deadline.cancel()

    def ended(self, tap: Tap) -> None:
        """Forget a tap after a while: its connection has closed."""
        if tap in self._taps:
            self._forgetting[tap] = self._deadlines.call_later(RETENTION, lambda: self.forget(tap))

    def find(self, secret: str) -> Tap | None:
        """Return the newest tap whose client has chosen a secret; None if there is none."""
        # Only digests are compared: the time that this takes says nothing about the secrets.
        digest = self._digest(secret)
        return next((tap for tap, one in reversed(self._taps.items()) if hmac.compare_digest(one, digest)), None)

    def of_connection(self, number: int) -> Tap | None:
        """Return the tap of a connection, given its number; None if it has none."""
        return next((tap for tap in self._taps if tap.number == number), None)

    def _digest(self, secret: str) -> bytes:
        return blake2b(secret.lower().encode("ascii"), key=self._key).digest()

    def failed(self, tap: Tap) -> None:
        """Log an exception of a tap, which must not disturb its connection. Call it within an `except` clause."""
        _log.failure("a tap failed number={number}", number=tap.number)

    def opened(self, tap: Tap, peer: Any) -> None:
        """Log that the connection of a tap is read."""
        _log.info("tap opened connection={connection} peer={peer}", connection=tap.connection_id, peer=peer)
