"""
The methods of the HTTP API, with the names, parameters and error codes of Centrifugo's server API.

Source: https://centrifugal.dev/docs/server/server_api and https://centrifugal.dev/docs/server/codes.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
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
from wsserver.hub.deferreds import MaybeDeferred, gather, then, waits
from wsserver.hub.hub import Hub, Receipt
from wsserver.hub.management import ConnectionPage, Management
from wsserver.hub.publication import Publication
from wsserver.jsonfields import decode, decode_shallow, write
from wsserver.text import quote
from wsserver.typing import ChannelName, Header
from wsserver.web import parameters as p

__all__ = ["Methods", "Outcome", "Problem", "Result", "bad_parameters", "bad_request", "write_error"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.api")


class Problem(Exception):
    """
    The error of an API call that fails.

    Args:
        status: the HTTP status.
        error: the Centrifuge error whose code is sent.
        message: the reason, in one sentence.
        headers: headers that the status requires, e.g. `Allow`.
    """

    def __init__(self, status: HTTPStatus, error: Error, message: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, error.code, message, headers

    def as_json(self) -> dict[str, object]:
        """Return the error object that Centrifugo sends: code and message."""
        return {"code": self.code, "message": self.message}


def bad_request(message: str) -> Problem:
    """Return the `Problem` for an invalid request: status 400, code 107."""
    return Problem(HTTPStatus.BAD_REQUEST, BAD_REQUEST_ERROR, message)


def bad_parameters(error: ValueError) -> Problem:
    """Return the `Problem` for a call whose parameters `wsserver.jsonfields.decode` rejects with this error."""
    return bad_request(str(error).replace("it is", "the parameters are"))


class Result(msgspec.Struct, frozen=True, gc=False):
    """The result of a method: the body and the HTTP status of the response."""

    body: bytes
    """The result as JSON text."""
    status: HTTPStatus = HTTPStatus.OK
    """The HTTP status. Not 200 if a part of the call has failed: the body contains the result or error of each part."""


Outcome = Result | Problem
"""The outcome of a call: its result, or why it failed."""


class Methods:
    """
    The methods of the HTTP API, by name.

    Args:
        hub: publishes, and reads history and presence.
        management: reads and changes connections and subscriptions in all server processes.
    """

    def __init__(self, hub: Hub, management: Management) -> None:
        self._hub = hub
        self._management = management
        self._table: Mapping[str, tuple[type[p.Parameters], Callable[[Any], MaybeDeferred[Result]]]] = {
            "publish": (p.Publish, self._publish),
            "broadcast": (p.Broadcast, self._broadcast),
            "subscribe": (p.Subscribe, self._subscribe),
            "unsubscribe": (p.Unsubscribe, self._unsubscribe),
            "disconnect": (p.Disconnect, self._disconnect),
            "refresh": (p.Refresh, self._refresh),
            "presence": (p.Channel, self._presence),
            "presence_stats": (p.Channel, self._presence_stats),
            "history": (p.History, self._history),
            "history_remove": (p.Channel, self._history_remove),
            "channels": (p.Channels, self._channels),
            "connections": (p.Connections, self._connections),
            "info": (p.Parameters, self._info),
            "rejects": (p.Parameters, self._rejects),
        }

    def __contains__(self, name: str) -> bool:
        """Return whether there is a method with this name."""
        return name in self._table

    def call(self, name: str, parameters: bytes, *, is_checked: bool = False) -> "MaybeDeferred[Outcome]":
        """
        Call a method.

        Args:
            name: the method's name.
            parameters: the method's parameters, a JSON object.
            is_checked: whether the parameters are part of a JSON text that has been decoded already.

        Returns:
            The result, or the problem if the call fails; a Deferred of it, which does not fail, if the call has to
            wait.
        """
        entry = self._table.get(name)
        if entry is None:
            known = ", ".join([*self._table, "batch"])
            return Problem(HTTPStatus.NOT_FOUND, METHOD_NOT_FOUND, f"no method {quote(name)}: expected {known}")
        kind, method = entry
        try:
            call = (decode_shallow if is_checked else decode)(kind, parameters)
        except ValueError as error:
            return bad_parameters(error)
        return _run(method, call)

    def publish(self, call: p.Publish) -> "MaybeDeferred[Outcome]":
        """Call `publish` with parameters that have been decoded; the rest is as for `call`."""
        return _run(self._publish, call)

    # Publications.

    def _publish(self, call: p.Publish) -> "MaybeDeferred[Result]":
        return self._send(call, call.channel, call.publication())

    def _broadcast(self, call: p.Broadcast) -> "MaybeDeferred[Result]":
        publication = call.publication()
        parts: MaybeDeferred[list[Outcome]] = gather(
            self._broadcast_to(bytes(name), call, publication) for name in call.channels
        )
        return then(parts, _responses)

    def _broadcast_to(self, name: bytes, call: p.Broadcast, publication: Publication) -> "MaybeDeferred[Outcome]":
        try:
            done = self._send(call, p.check_channel(decode_shallow(str, name, "channel")), publication)
        except ValueError as error:
            return bad_request(str(error))
        except Exception:
            return _explain(Failure())
        return done.addErrback(_explain) if waits(done) else done

    def _send(self, call: p.Content, channel: ChannelName, publication: Publication) -> "MaybeDeferred[Result]":
        receipt = self._hub.send(channel, publication, call.idempotency_key, skip_history=call.skip_history)
        return _receipt(receipt) if isinstance(receipt, Receipt) else receipt.addCallback(_receipt)

    # History and presence.

    def _history(self, call: p.History) -> "MaybeDeferred[Result]":
        since, limit = call.since.position() if call.since else None, max(-1, min(call.limit, 2**31))
        found = self._hub.history(self._with_history(call), since=since, limit=limit, reverse=call.reverse)
        return found.addCallback(lambda page: Result(p.write_page(page)))

    def _history_remove(self, call: p.Channel) -> "MaybeDeferred[Result]":
        return self._hub.broker.remove_history(self._with_history(call)).addCallback(_nothing)

    def _with_history(self, call: p.Channel) -> ChannelName:
        self._hub.rules.require_history(call.channel)
        return call.channel

    def _presence(self, call: p.Channel) -> "MaybeDeferred[Result]":
        found = self._hub.presence.clients(self._with_presence(call))
        return found.addCallback(
            lambda members: _result(presence={client: info.as_json() for client, info in members.items()})
        )

    def _presence_stats(self, call: p.Channel) -> "MaybeDeferred[Result]":
        found = self._hub.presence.clients(self._with_presence(call))
        return found.addCallback(
            lambda members: _result(num_clients=len(members), num_users=len({info.user for info in members.values()}))
        )

    def _with_presence(self, call: p.Channel) -> ChannelName:
        self._hub.rules.require_presence(call.channel)
        return call.channel

    # Connections, in all server processes.

    def _subscribe(self, call: p.Subscribe) -> "MaybeDeferred[Result]":
        done = self._management.subscribe(call.channel, call.user, call.client, call.options())
        return done.addCallback(_clients)

    def _unsubscribe(self, call: p.Unsubscribe) -> "MaybeDeferred[Result]":
        return self._management.unsubscribe(call.channel, call.user, call.client).addCallback(_clients)

    def _disconnect(self, call: p.Disconnect) -> "MaybeDeferred[Result]":
        given = call.disconnect if call.disconnect and call.disconnect.code else FORCE_DISCONNECT
        return self._management.disconnect(
            call.user, call.client, code=given.code, reason=given.reason, except_clients=call.whitelist
        ).addCallback(_clients)

    def _refresh(self, call: p.Refresh) -> "MaybeDeferred[Result]":
        done = self._management.refresh(call.user, call.client, expired=call.expired, expire_at=call.expire_at)
        return done.addCallback(_clients)

    def _channels(self, call: p.Channels) -> "MaybeDeferred[Result]":
        found = self._management.channels(call.pattern or "*")
        return found.addCallback(
            lambda counts: _result(channels={name: {"num_clients": count} for name, count in counts.items()})
        )

    def _connections(self, call: p.Connections) -> "MaybeDeferred[Result]":
        found = self._management.connections(
            call.user, call.client, call.pattern or "*", search=call.search, limit=call.limit, after=call.after
        )
        return found.addCallback(_write_connections)

    def _info(self, _: p.Parameters) -> "MaybeDeferred[Result]":
        return self._management.info().addCallback(lambda nodes: _result(nodes=nodes))

    def _rejects(self, _: p.Parameters) -> "MaybeDeferred[Result]":
        return self._management.rejects().addCallback(lambda found: _result(rejects=found))


def _run(method: Callable[[Any], MaybeDeferred[Result]], call: p.Parameters) -> "MaybeDeferred[Outcome]":
    try:
        done = method(call)
    except ValueError as error:
        return bad_parameters(error)
    except Exception:
        return _explain(Failure())
    return done if isinstance(done, Result) else done.addErrback(_explain)


def _explain(failure: Failure) -> Problem:
    """Convert a failure to a `Problem`; an unexpected error is logged and becomes status 500."""
    error: BaseException | None = failure.value
    if isinstance(error, Problem):
        return error
    if isinstance(error, NotEnabled):
        return Problem(HTTPStatus.BAD_REQUEST, NOT_AVAILABLE_ERROR, str(error))
    if isinstance(error, NotPermitted):
        return Problem(HTTPStatus.FORBIDDEN, PERMISSION_DENIED, str(error))
    if isinstance(error, BrokerDown):
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, INTERNAL, str(error))
    if isinstance(error, Unrecoverable):
        return Problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, UNRECOVERABLE_POSITION, str(error))
    _log.failure("an API method failed", failure)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, INTERNAL.message)


def _result(**fields: object) -> Result:
    return Result(write(fields))


def _nothing(_: object) -> Result:
    return Result(b"{}")


def _clients(count: int) -> Result:
    return _result(clients=count)


def _receipt(receipt: Receipt) -> Result:
    position, delivered = receipt
    if position is None:
        return Result(b'{"delivered":%d}' % delivered)
    return Result(
        b'{"offset":%d,"epoch":%b,"delivered":%d}' % (position.offset, _write_epoch(position.epoch), delivered)
    )


_write_epoch = lru_cache(maxsize=1024)(write)
"""Writes the epoch of a stream as JSON. Streams in memory usually have the same epoch."""


def _write_connections(page: ConnectionPage) -> Result:
    described = {client: _connection(about) for client, about in page.connections.items()}
    return _result(connections=described, total=page.total, **({"after": page.after} if page.after else {}))


def _connection(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a connection in the format of Centrifugo PRO, with further fields such as `address`."""
    more = {name: value for name, value in about.items() if name != "channels"}
    return {**more, "state": {"channels": {name: {} for name in about["channels"]}}}


def write_error(problem: Problem) -> bytes:
    """Write the error of a call, or of a part of a broadcast or batch, as a JSON object."""
    return write({"error": problem.as_json()})


def _responses(outcomes: list[Outcome]) -> Result:
    parts = [write_error(one) if isinstance(one, Problem) else b'{"result":%b}' % one.body for one in outcomes]
    return Result(b'{"responses":[%b]}' % b",".join(parts), max(one.status for one in outcomes))
