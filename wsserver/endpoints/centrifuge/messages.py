"""
The calls (`rpc`) and messages (`send`) of Centrifuge clients, which the application's backend answers.

Sources: `handleRPC` and `handleSend` in `client.go` of centrifugal/centrifuge.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import msgspec
from twisted.logger import Logger

from wsserver.centrifugecodes import NOT_AVAILABLE, NOT_AVAILABLE_ERROR, Disconnect
from wsserver.endpoints.backend_answers import carry_out
from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.commands import RPC, Send
from wsserver.endpoints.centrifuge.connection import Answer, Connection
from wsserver.endpoints.centrifuge.refusals import refuse_by_hook
from wsserver.endpoints.centrifuge.replies import NO_REPLY, MessagePush, RPCResult
from wsserver.errors import BrokerDown
from wsserver.hooks.messages import Answered, Caller
from wsserver.hub.deferreds import may_wait
from wsserver.hub.publication import Publication

__all__ = ["call", "send"]

# At module level, because a Twisted Logger in a class body uses the name of the class as its namespace.
_log = Logger(namespace="wsserver.centrifuge")


@may_wait
def call(connection: Connection, request: RPC) -> Generator[Any, Any, Answer]:
    """
    Execute `rpc`: pass a call to the backend, and return its answer.

    Raises:
        BrokerDown: the broker is unavailable, so that a publication of the answer was not made. The Deferred may also
            fail with it.
    """
    hooks = connection.permissions.authorizer.hooks_for("rpc")
    if hooks is None:
        return NOT_AVAILABLE_ERROR.because("the server has no backend for calls; see --hook-rpc")
    answer = yield hooks.rpc(_caller(connection), request.method or "", data=_data(request))
    answer = yield carry_out(connection.hub, answer)
    if not isinstance(answer, Answered):
        return refuse_by_hook(answer)
    content = answer.content()
    return RPCResult(_write(connection.codec, content) if content is not None else None)


@may_wait
def send(connection: Connection, request: Send) -> Generator[Any, Any, Answer]:
    """
    Execute `send`: pass a message to the backend. Data in its answer is sent to the client as a message.

    A message has no reply, so the client is not told that the backend has refused it, or did not answer.
    """
    hooks = connection.permissions.authorizer.hooks_for("message")
    if hooks is None:
        return NOT_AVAILABLE.because("the server has no backend for messages; see --hook-message")
    answer = yield hooks.message(_caller(connection), data=_data(request))
    try:
        answer = yield carry_out(connection.hub, answer)
    except BrokerDown as error:
        _log.warn("publishing for the message hook failed reason={reason!r}", reason=str(error))
        return NO_REPLY
    if isinstance(answer, Answered):
        content = answer.content()
        if content is not None:
            connection.send_payload(connection.codec.push("", MessagePush(_write(connection.codec, content))))
        return NO_REPLY
    refusal = refuse_by_hook(answer)
    return refusal if isinstance(refusal, Disconnect) else NO_REPLY


def _caller(connection: Connection) -> Caller:
    context = connection.context
    return replace(context.caller, user=context.identity.user)


def _data(request: RPC | Send) -> bytes | None:
    return bytes(request.data) if request.data is not None else None


def _write(codec: Codec, content: Publication) -> msgspec.Raw:
    """Write data for the client. A JSON client gets data that is not UTF-8 as base64."""
    if not codec.json:
        return msgspec.Raw(content.data)
    text = content.as_json()
    return msgspec.Raw(content.as_base64() if text is None else text)
