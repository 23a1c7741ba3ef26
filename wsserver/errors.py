"""
The errors of this package.

    WsserverError
    ├── SettingError         an option that is unknown or has a bad value
    ├── ListenError          an address that cannot be listened on
    ├── CommandError         a command plugin that does not fit
    ├── BrokerDown           what was to be published or listened to cannot be at the moment
    │   └── NotPermitted     Redis does not let the server publish or listen to it
    └── Unrecoverable        a position in a stream that is no more

What a peer does wrong is no exception but a value (`wsserver.wire.requests.Refusal`) or a close code.
"""

__all__ = [
    "BrokerDown",
    "CommandError",
    "ListenError",
    "NotPermitted",
    "SettingError",
    "Unrecoverable",
    "WsserverError",
]


class WsserverError(Exception):
    """Base of all errors of this package: each reads as one line for the person who started the server."""


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
    """Redis does not let the server publish or listen to it, by its access control list: 403."""


class Unrecoverable(WsserverError):
    """A position in a stream of another epoch: that stream is no more."""
