"""
The methods of the HTTP API, with the names, parameters and error codes of Centrifugo's server API.

Source: https://centrifugal.dev/docs/server/server_api and https://centrifugal.dev/docs/server/codes.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsserver.centrifugecodes import (
    BAD_REQUEST_ERROR,
    FORCE_DISCONNECT,
    INTERNAL,
    METHOD_NOT_FOUND,
    NOT_AVAILABLE_ERROR,
    PERMISSION_DENIED,
    UNRECOVERABLE_POSITION,
    Error,
)
from wsserver.errors import BrokerDown, NotEnabled, NotPermitted, Unrecoverable
from wsserver.hub.hub import Hub, Receipt
from wsserver.hub.management import Management
from wsserver.hub.publication import Publication
from wsserver.jsonfields import Fields, take, take_time, write
from wsserver.text import quote
from wsserver.typing import ChannelName, JSONText
from wsserver.web.parameters import (
    check_unsupported,
    read_channel,
    read_data,
    read_disconnect,
    read_key,
    read_limit,
    read_options,
    read_pattern,
    read_since,
    read_tags,
    read_who,
    write_page,
)

__all__ = ["MAX_CHANNELS", "Methods", "Problem", "Result", "bad", "explain", "told"]

# A module variable, because on a class Twisted replaces the namespace with the class's name.
_log = Logger(namespace="wsserver.api")

MAX_CHANNELS = 1000
"""Maximum number of channels in a broadcast."""


class Problem(Exception):
    """
    The error with which an API call fails.

    Args:
        status: the HTTP status.
        error: the Centrifuge error, for its code.
        message: the reason, in one sentence.
    """

    def __init__(self, status: HTTPStatus, error: Error, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, error.code, message

    def as_json(self) -> dict[str, object]:
        """Return the error object that Centrifugo sends: code and message."""
        return {"code": self.code, "message": self.message}


def bad(message: str) -> Problem:
    """Return the problem of an invalid request: status 400, code 107."""
    return Problem(HTTPStatus.BAD_REQUEST, BAD_REQUEST_ERROR, message)


class Result(NamedTuple):
    """The result of a method."""

    body: bytes
    """The result as JSON text."""
    status: HTTPStatus = HTTPStatus.OK
    """Not 200 if a part of the call has failed; the body then contains the outcome of each part."""


class Methods:
    """
    The methods by name.

    Args:
        hub: publishes, and reads history and presence.
        management: reads and changes connections and subscriptions in all server processes.
    """

    def __init__(self, hub: Hub, management: Management) -> None:
        self._hub = hub
        self._management = management
        self._table: Mapping[str, Callable[[Fields], Deferred[Result]]] = {
            "publish": self._publish,
            "broadcast": self._broadcast,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "disconnect": self._disconnect,
            "refresh": self._refresh,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "history": self._history,
            "history_remove": self._history_remove,
            "channels": self._channels,
            "connections": self._connections,
            "info": self._info,
        }

    def call(self, name: str, parameters: Fields) -> "Deferred[Result]":
        """
        Call a method.

        Args:
            name: the method's name.
            parameters: the method's parameters.

        Returns:
            A Deferred that fires with the result, and fails only with `Problem`.
        """
        return maybeDeferred(self._call, name, parameters).addErrback(explain)

    def _call(self, name: str, parameters: Fields) -> "Deferred[Result]":
        method = self._table.get(name)
        if method is None:
            known = ", ".join([*self._table, "batch"])
            raise Problem(HTTPStatus.NOT_FOUND, METHOD_NOT_FOUND, f"no method {quote(name)}: expected {known}")
        try:
            check_unsupported(parameters)
            return method(parameters)
        except ValueError as error:
            raise bad(str(error)) from None

    # Publications.

    def _publish(self, parameters: Fields) -> "Deferred[Result]":
        channel = read_channel(parameters)
        return self._publisher(parameters)(channel).addCallback(_receipt)

    def _broadcast(self, parameters: Fields) -> "Deferred[Result]":
        names = take(parameters, "channels", list, [])
        if not 1 <= len(names) <= MAX_CHANNELS:
            raise ValueError(f"channels: expected a list of 1 to {MAX_CHANNELS} names")
        publish = self._publisher(parameters)

        def to(name: JSONText) -> "Deferred[Result]":
            try:
                done = publish(read_channel({"channel": name}))
            except ValueError as error:
                done = fail(bad(str(error)))
            return done.addCallback(_receipt).addCallbacks(_wrapped, told)

        return gatherResults([to(name) for name in names]).addCallback(_responses)

    def _publisher(self, parameters: Fields) -> "Callable[[ChannelName], Deferred[Receipt]]":
        data, json = read_data(parameters)
        publication = Publication(data, json=json, tags=read_tags(parameters))
        key, skip_history = read_key(parameters), take(parameters, "skip_history", bool, False)
        return lambda channel: self._hub.send(channel, publication, idempotency_key=key, skip_history=skip_history)

    # History and presence.

    def _history(self, parameters: Fields) -> "Deferred[Result]":
        channel = self._with_history(parameters)
        since, limit = read_since(parameters), read_limit(parameters)
        reverse = take(parameters, "reverse", bool, False)
        found = self._hub.history(channel, since=since, limit=limit, reverse=reverse)
        return found.addCallback(lambda page: Result(write_page(page)))

    def _history_remove(self, parameters: Fields) -> "Deferred[Result]":
        return self._hub.broker.remove_history(self._with_history(parameters)).addCallback(_nothing)

    def _with_history(self, parameters: Fields) -> ChannelName:
        channel = read_channel(parameters)
        self._hub.rules.require_history(channel)
        return channel

    def _presence(self, parameters: Fields) -> "Deferred[Result]":
        found = self._hub.presence.clients(self._with_presence(parameters))
        return found.addCallback(
            lambda members: _result(presence={client: info.as_json() for client, info in members.items()})
        )

    def _presence_stats(self, parameters: Fields) -> "Deferred[Result]":
        found = self._hub.presence.clients(self._with_presence(parameters))
        return found.addCallback(
            lambda members: _result(num_clients=len(members), num_users=len({info.user for info in members.values()}))
        )

    def _with_presence(self, parameters: Fields) -> ChannelName:
        channel = read_channel(parameters)
        self._hub.rules.require_presence(channel)
        return channel

    # Connections, in all server processes.

    def _subscribe(self, parameters: Fields) -> "Deferred[Result]":
        channel = read_channel(parameters)
        user, client = read_who(parameters)
        return self._management.subscribe(channel, user, client, read_options(parameters)).addCallback(_clients)

    def _unsubscribe(self, parameters: Fields) -> "Deferred[Result]":
        channel = read_channel(parameters)
        return self._management.unsubscribe(channel, *read_who(parameters)).addCallback(_clients)

    def _disconnect(self, parameters: Fields) -> "Deferred[Result]":
        user, client = read_who(parameters)
        code, reason = read_disconnect(parameters, (FORCE_DISCONNECT.code, FORCE_DISCONNECT.reason))
        stay = tuple(take({"whitelist": one}, "whitelist", str, "") for one in take(parameters, "whitelist", list, []))
        done = self._management.disconnect(user, client, code=code, reason=reason, except_clients=stay)
        return done.addCallback(_clients)

    def _refresh(self, parameters: Fields) -> "Deferred[Result]":
        user, client = read_who(parameters)
        expired, expire_at = take(parameters, "expired", bool, False), take_time(parameters, "expire_at")
        return self._management.refresh(user, client, expired=expired, expire_at=expire_at).addCallback(_clients)

    def _channels(self, parameters: Fields) -> "Deferred[Result]":
        found = self._management.channels(read_pattern(parameters))
        return found.addCallback(
            lambda counts: _result(channels={name: {"num_clients": count} for name, count in counts.items()})
        )

    def _connections(self, parameters: Fields) -> "Deferred[Result]":
        user, client = read_who(parameters, anybody=True)
        found = self._management.connections(user, client, read_pattern(parameters))
        return found.addCallback(
            lambda known: _result(connections={client: _connection(about) for client, about in known.items()})
        )

    def _info(self, _: Mapping[str, Any]) -> "Deferred[Result]":
        return self._management.info().addCallback(lambda nodes: _result(nodes=nodes))


def explain(failure: Failure) -> Failure:
    """Convert a failure to a `Problem`; an unexpected error is logged and becomes status 500."""
    error: BaseException | None = failure.value
    if isinstance(error, Problem):
        return failure
    if isinstance(error, NotEnabled):
        return Failure(Problem(HTTPStatus.BAD_REQUEST, NOT_AVAILABLE_ERROR, str(error)))
    if isinstance(error, NotPermitted):
        return Failure(Problem(HTTPStatus.FORBIDDEN, PERMISSION_DENIED, str(error)))
    if isinstance(error, BrokerDown):
        return Failure(Problem(HTTPStatus.SERVICE_UNAVAILABLE, INTERNAL, str(error)))
    if isinstance(error, Unrecoverable):
        return Failure(Problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, UNRECOVERABLE_POSITION, str(error)))
    _log.failure("a method of the API failed", failure)
    return Failure(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, INTERNAL.message))


def _result(**fields: object) -> Result:
    return Result(write(fields))


def _nothing(_: object) -> Result:
    return Result(b"{}")


def _clients(count: int) -> Result:
    return _result(clients=count)


def _receipt(receipt: Receipt) -> Result:
    if receipt.position is None:
        return _result(delivered=receipt.delivered)
    return _result(offset=receipt.position.offset, epoch=receipt.position.epoch, delivered=receipt.delivered)


def _connection(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection in the format of Centrifugo PRO, plus the other fields that are known."""
    more = {name: value for name, value in about.items() if name != "channels"}
    return {**more, "state": {"channels": {name: {} for name in about["channels"]}}}


def _wrapped(result: Result) -> Result:
    return Result(b'{"result":%s}' % result.body, result.status)


def told(failure: Failure) -> Result:
    """Convert a failure to the result of one part of a broadcast or batch."""
    problem = explain(failure).value
    assert isinstance(problem, Problem)
    return Result(write({"error": problem.as_json()}), problem.status)


def _responses(results: list[Result]) -> Result:
    body = b'{"responses":[%s]}' % b",".join(result.body for result in results)
    return Result(body, max(result.status for result in results))
