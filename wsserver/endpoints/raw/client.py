"""A raw listener as the hub's clients, its token and the backend see it: `/ws?channel=foo` and `/sse?channel=foo`."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from wsserver.auth.verifier import WallClockTimer
from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Authorizer
from wsserver.hooks.messages import Caller
from wsserver.hub.clients import Clients
from wsserver.typing import ChannelName

__all__ = ["RawClient"]


class RawClient:
    """
    A raw listener: a `wsserver.hub.clients.Client`.

    Args:
        clients: where it is known while it is here.
        admission: lets it stay.
        admitted: what it may have.
        caller: what the backend knows of it.
        end: ends its connection with a code and a reason.
    """

    __slots__ = (
        *("_admission", "_caller", "_channels", "_clients", "_end", "_expires_at", "_expiry", "_since"),
        *("client", "user"),
    )

    def __init__(
        self,
        clients: Clients,
        admission: Authorizer,
        admitted: Admitted,
        caller: Caller,
        end: Callable[[int, str], object],
    ) -> None:
        self.client = caller.client
        self.user = admitted.identity.user
        self._clients = clients
        self._admission = admission
        self._channels = admitted.ask.channels
        self._expires_at = admitted.identity.expires_at
        self._caller = caller
        self._since = admission.time()
        self._end = end
        self._expiry: WallClockTimer | None = None

    @property
    def channels(self) -> Collection[ChannelName]:
        """What it listens to."""
        return self._channels

    def come(self) -> None:
        """Begin: its connection is open."""
        self._clients.add(self)
        self._wait()

    def go(self, code: int, reason: str) -> None:
        """
        End: its connection is closed; once it has ended this does nothing.

        Args:
            code: of the close.
            reason: of the close.
        """
        if self._end is _do_nothing:
            return
        self._clients.remove(self)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        # It holds the connection, which holds this.
        self._end = _do_nothing
        self._admission.tell_gone(self._caller, self.user, code, reason)

    def about(self) -> Mapping[str, Any]:
        """Tell what a backend may know."""
        return {
            "transport": self._caller.transport,
            "protocol": self._caller.protocol,
            "address": self._caller.address,
            "connected": max(0, int(self._admission.time() - self._since)),
        }

    def disconnect(self, code: int, reason: str) -> None:
        """End its connection."""
        self._end(code, reason)

    def unsubscribe(self, channel: ChannelName, code: int, reason: str) -> None:  # noqa: ARG002
        """End its connection: what it listens to stands in its address, and nothing else could tell it."""
        # Centrifugo's codes for this are below 3000 and may not stand in a Close frame.
        self._end(CloseCode.POLICY_VIOLATION, reason)

    def subscribe(self, channel: ChannelName, options: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Refuse: it speaks nothing in which that could be said."""
        return False

    def refresh(self, expire_at: int) -> bool:
        """Let it live until then; 0 for no end. False where its time is not limited."""
        if not self._expires_at:
            return False
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires_at = expire_at
        self._wait()
        return True

    def _wait(self) -> None:
        self._expiry = self._admission.when_expired(self._expires_at, self._expired)

    def _expired(self) -> None:
        self._end(CloseCode.TOKEN_EXPIRED, "token expired")


def _do_nothing(code: int, reason: str) -> None:
    pass
