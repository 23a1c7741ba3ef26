"""
The client object of a raw subscriber (`/ws?channel=foo` and `/sse?channel=foo`).

The HTTP API and the timer for the expiry of the client's token act on the connection through this object.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from wsserver.auth.verifier import WallClockTimer
from wsserver.centrifugecodes import EXPIRED, SERVER_UNSUBSCRIBE
from wsserver.closecodes import CloseCode
from wsserver.endpoints.authorization import Admitted, Authorizer
from wsserver.hooks.messages import Caller
from wsserver.hub.clients import ClientInfo, Clients
from wsserver.typing import ChannelName

__all__ = ["RawClient"]


class RawClient:
    """
    A raw subscriber as the registry of clients knows it: implements `wsserver.hub.clients.Client`.

    Args:
        clients: the registry that contains the client while its connection is open.
        authorizer: provides the clock and the expiry timer, and notifies the backend of disconnects.
        admitted: the client's identity and channels.
        caller: the description of the client that the backend receives.
        end: closes the connection; called with a close code and a reason.
    """

    __slots__ = (
        *(
            "_authorizer",
            "_caller",
            "_channels",
            "_clients",
            "_end",
            "_expires_at",
            "_expiry",
            "_is_reserved",
            "_since",
        ),
        *("client", "user"),
    )

    def __init__(
        self,
        clients: Clients,
        authorizer: Authorizer,
        admitted: Admitted,
        caller: Caller,
        end: Callable[[int, str], object],
    ) -> None:
        self.client = caller.client
        self.user = admitted.identity.user
        self._clients = clients
        self._authorizer = authorizer
        self._channels = admitted.request.channels
        self._expires_at = admitted.identity.expires_at
        self._caller = caller
        self._since = authorizer.time()
        self._end = end
        self._expiry: WallClockTimer | None = None
        self._is_reserved = True
        """Whether the client counts as one of its user although it is not registered yet."""
        clients.reserve(self.user)

    @property
    def caller(self) -> Caller:
        """The description of the client that the backend receives, with its user."""
        return replace(self._caller, user=self.user)

    @property
    def channels(self) -> Collection[ChannelName]:
        """The channels that the client is subscribed to."""
        return self._channels

    def register(self) -> None:
        """Add the client to the registry and start its expiry timer. To be called when the connection is open."""
        self._release()
        self._clients.add(self)
        self._start_expiry_timer()

    def _release(self) -> None:
        if self._is_reserved:
            self._is_reserved = False
            self._clients.release(self.user)

    def unregister(self, code: int, reason: str) -> None:
        """
        Remove the client from the registry, and notify the backend that it disconnected. Further calls do nothing.

        Args:
            code: the close code.
            reason: the close reason.
        """
        if self._end is _do_nothing:
            return
        self._release()
        self._clients.remove(self)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        # Break the reference cycle: `_end` refers to the connection, which refers to this object.
        self._end = _do_nothing
        self._authorizer.report_disconnect(self._caller, self.user, code, reason)

    def describe(self) -> Mapping[str, Any]:
        """
        Return what the HTTP API's method `connections` shows of this connection.

        The fields are `transport`, `protocol`, `address` and `connected`: how long it has been open, in seconds.
        """
        return {
            "transport": self._caller.transport,
            "protocol": self._caller.protocol,
            "address": self._caller.address,
            "connected": max(0, int(self._authorizer.time() - self._since)),
        }

    def presences(self) -> Iterable[tuple[ChannelName, ClientInfo]]:
        """Return nothing: presence does not show raw subscribers."""
        return ()

    def disconnect(self, code: int, reason: str) -> None:
        """Close the connection."""
        self._end(code, reason)

    def expire(self) -> None:
        """Close the connection with 3005, "connection expired", as Centrifugo does."""
        self._end(EXPIRED.code, EXPIRED.reason)

    def unsubscribe(self, channel: ChannelName) -> None:  # noqa: ARG002
        """
        Close the connection with 1008.

        The URL determines the channels of a raw subscriber, and no message could tell the client that one has ended.
        """
        # Centrifugo's unsubscribe codes are below 3000, which a Close frame must not contain.
        self._end(CloseCode.POLICY_VIOLATION, SERVER_UNSUBSCRIBE.reason)

    def subscribe(self, channel: ChannelName, options: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Return False: the URL determines the channels of a raw subscriber, and the server cannot add one."""
        return False

    def refresh(self, expire_at: int) -> bool:
        """
        Set when the connection expires.

        Args:
            expire_at: UNIX time in seconds; 0 for never.

        Returns:
            False if the connection does not expire; nothing is changed then.
        """
        if not self._expires_at:
            return False
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires_at = expire_at
        self._start_expiry_timer()
        return True

    def _start_expiry_timer(self) -> None:
        self._expiry = self._authorizer.call_when_expired(self._expires_at, self._expired)

    def _expired(self) -> None:
        self._end(CloseCode.TOKEN_EXPIRED, "token expired")


def _do_nothing(code: int, reason: str) -> None:
    pass
