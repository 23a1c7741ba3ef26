"""
The errors of this package.

    WsserverError
    ├── SettingError         an option that is unknown or has a bad value
    ├── ListenError          an address that cannot be listened on
    ├── CommandError         a command plugin that does not fit
    ├── BrokerDown           what was to be published or listened to cannot be at the moment
    │   └── NotPermitted     Redis does not permit the channel to the server's user
    │       └── ServerNotPermitted  Redis does not permit a command that the server needs
    ├── Unrecoverable        a position in a stream that is no more
    ├── Refused              a server's answer to a command that talks to it
    ├── Unreachable          there is no connection to a server, or none any more
    └── Ended                a server has closed a subscription

What a peer does wrong is no exception but a value (`wsserver.wire.http11.Refusal`) or a close code.
"""

from http import HTTPStatus

from wsserver.closecodes import MEANINGS, CloseCode

__all__ = [
    "BrokerDown",
    "CommandError",
    "Ended",
    "ListenError",
    "NotPermitted",
    "Refused",
    "ServerNotPermitted",
    "SettingError",
    "Unreachable",
    "Unrecoverable",
    "WsserverError",
]


class WsserverError(Exception):
    """Base of all errors of this package: each reads as one line for the person who started the program."""

    passes = False
    """The same command may do better later."""


class SettingError(WsserverError):
    """
    An option that is unknown or has a bad value.

    Args:
        where: the place it stands in, e.g. `--port`, `WSSERVER_PORT` or `wsserver.toml line 3: port`.
        problem: what is wrong and what was expected.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class ListenError(WsserverError):
    """
    An address that cannot be listened on.

    Args:
        endpoint: the Twisted endpoint string.
        reason: what the operating system said.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.endpoint}: {self.reason}"


class CommandError(WsserverError):
    """A command plugin that does not fit: its name is taken or is no lower-case word, or it has no help or reply."""


class BrokerDown(WsserverError):
    """What was to be published or listened to cannot be at the moment: 503."""


class NotPermitted(BrokerDown):
    """Redis does not permit the channel to the server's user, by its access control list: 403."""


class ServerNotPermitted(NotPermitted):
    """
    Redis does not permit a command that the server needs for every channel.

    For a subscriber the failure is temporary: an operator mends it, and /ready is 503 until then.
    """


class Unrecoverable(WsserverError):
    """A position in a stream of another epoch: that stream is no more."""


class Refused(WsserverError):
    """
    A server's answer to a command that talks to it.

    Args:
        status: of the HTTP response.
        reason: what the server said.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        # The text of a refusal begins with its status, for people who see it in a browser.
        self.reason = reason.removeprefix(f"{status} {phrase}").strip() or phrase or "no reason given"
        # RFC 9110 section 15.6, RFC 6585 section 4.
        self.passes = status in (429, 502, 503, 504)

    def __str__(self) -> str:
        known = self.status in set(HTTPStatus)
        return (
            f"refused with {self.status}: {self.reason or (HTTPStatus(self.status).phrase if known else 'no reason')}"
        )


class Unreachable(WsserverError):
    """
    There is no connection to a server, or none any more.

    Args:
        url: of the server.
        reason: what is in the way.
    """

    passes = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no connection to {self.url}: {self.reason}"


class Ended(WsserverError):
    """
    A server has closed a subscription.

    Args:
        code: the close code.
        reason: what the server said.
    """

    _PASSING = frozenset(
        {
            CloseCode.GOING_AWAY,
            CloseCode.INTERNAL_ERROR,
            CloseCode.SERVICE_RESTART,
            CloseCode.TRY_AGAIN_LATER,
            CloseCode.BAD_GATEWAY,
        }
    )

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.passes = code in self._PASSING

    def __str__(self) -> str:
        meaning = f" ({MEANINGS[CloseCode(self.code)].partition(':')[0]})" if self.code in set(CloseCode) else ""
        return f"closed by the server with {self.code}{meaning}: {self.reason or 'no reason given'}"
