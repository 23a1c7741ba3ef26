"""
The exceptions of this package.

    WsserverError
    ├── SettingError         an option is unknown or has an invalid value
    ├── ListenError          the server cannot listen on an address
    ├── CommandError         a command plugin is invalid
    ├── InvalidChannel       a channel name is invalid
    │   └── ReservedChannel      a channel name begins with a prefix that the server reserves
    ├── InvalidFault         a fault is unknown, or one of its parameters is invalid
    ├── NotEnabled           presence or history is not enabled for a channel
    ├── BrokerDown           publishing or subscribing is temporarily not possible
    │   └── NotPermitted     Redis does not permit the server's user to access the channel
    │       └── ServerNotPermitted  Redis does not permit a command that the server needs
    ├── Unrecoverable        a stream position belongs to a stream that no longer exists
    ├── Refused              the server refused the request of a `wsserver` command
    ├── Unreachable          a `wsserver` command could not connect, or lost its connection
    └── Ended                the server closed the connection of `wsserver subscribe`

The server's errors have no HTTP status, close code or Centrifuge code. These are chosen where a request is answered: in
`wsserver.endpoints.refusals`, `wsserver.endpoints.centrifuge.codes` and `wsserver.web.methods`.
"""

from http import HTTPStatus

from wsserver.closecodes import MEANINGS, CloseCode

__all__ = [
    "BenchFailed",
    "BrokerDown",
    "CommandError",
    "Ended",
    "InvalidChannel",
    "InvalidFault",
    "ListenError",
    "NotEnabled",
    "NotPermitted",
    "Refused",
    "ReservedChannel",
    "ServerNotPermitted",
    "SettingError",
    "Unreachable",
    "Unrecoverable",
    "WsserverError",
]


class WsserverError(Exception):
    """Base class of this package's exceptions. `str()` of an exception is a one-line error message for people."""

    is_temporary = False
    """Whether the failure is temporary. The command then exits with status 75, and can be retried."""


class SettingError(WsserverError):
    """
    An option is unknown or has an invalid value.

    Args:
        where: where the option was set, such as `--port`, `WSSERVER_PORT` or `wsserver.toml line 3: port`.
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
    The server cannot listen on an address.

    Args:
        endpoint: the Twisted endpoint string.
        reason: the reason, such as the error message of the operating system.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot listen on {self.endpoint}: {self.reason}"


class CommandError(WsserverError):
    """A command plugin is invalid: its name is taken or not a lower-case word, or its help or reply is missing."""


class InvalidChannel(WsserverError, ValueError):
    """A channel name is invalid."""


class ReservedChannel(InvalidChannel):
    """A channel name begins with the prefix that the server reserves for internal names in Redis."""


class InvalidFault(WsserverError, ValueError):
    """
    A fault of the test bench is unknown, or one of its parameters is.

    Args:
        problem: what is wrong and what was expected.
        parameter: the parameter's name; None if the fault is unknown.
    """

    def __init__(self, problem: str, *, parameter: str | None = None) -> None:
        super().__init__(problem)
        self.parameter = parameter


class NotEnabled(WsserverError):
    """Presence or history is not enabled for a channel."""


class InvalidFilter(WsserverError, ValueError):
    """A subscriber's filter is invalid, exceeds a limit, or is not enabled for the channel."""


class BrokerDown(WsserverError):
    """Publishing or subscribing is temporarily not possible, for example because Redis is unavailable."""


class NotPermitted(BrokerDown):
    """The access control list of Redis does not permit the server's user to access the channel."""


class ServerNotPermitted(NotPermitted):
    """
    Redis does not permit a command that the server needs for every channel.

    Until an operator fixes the access control list, `/ready` answers 503. Subscribers get a temporary error.
    """


class Unrecoverable(WsserverError):
    """A stream position has another epoch than the channel's stream: the stream that it refers to no longer exists."""


class Refused(WsserverError):
    """
    The server refused the request of a `wsserver` command, such as `wsserver publish`.

    Args:
        status: the status of the HTTP response.
        reason: the reason that the server gave; empty for none.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        # The body of a refusal begins with its status, for people who see it in a browser.
        self.reason = reason.removeprefix(f"{status} {phrase}").strip() or phrase or "no reason given"
        # Temporary failures: RFC 9110 section 15.6, RFC 6585 section 4.
        self.is_temporary = status in (429, 502, 503, 504)

    def __str__(self) -> str:
        known = self.status in set(HTTPStatus)
        return (
            f"refused with {self.status}: {self.reason or (HTTPStatus(self.status).phrase if known else 'no reason')}"
        )


class Unreachable(WsserverError):
    """
    A `wsserver` command could not connect to the server, or lost its connection.

    Args:
        url: URL of the server.
        reason: why connecting failed or the connection was lost, in a few words.
    """

    is_temporary = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no connection to {self.url}: {self.reason}"


class BenchFailed(WsserverError):
    """
    `wsserver bench` could not measure a server: a connection or a reply was not as expected.

    Args:
        url: the URL of the server.
        reason: what happened.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"measuring {self.url} failed: {self.reason}"


class Ended(WsserverError):
    """
    The server closed the connection of `wsserver subscribe`.

    Args:
        code: the close code.
        reason: the close reason that the server sent; empty for none.
    """

    _TEMPORARY = frozenset(
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
        self.is_temporary = code in self._TEMPORARY

    def __str__(self) -> str:
        meaning = f" ({MEANINGS[CloseCode(self.code)].partition(':')[0]})" if self.code in set(CloseCode) else ""
        return f"closed by the server with {self.code}{meaning}: {self.reason or 'no reason given'}"
