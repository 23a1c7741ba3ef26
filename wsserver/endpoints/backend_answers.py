"""
The backend's answers to clients' calls and messages: publish what an answer contains.

This module does not use a clock or a socket.
"""

from collections.abc import Generator
from typing import Any, TypeVar

from wsserver.hooks.messages import Answered, HookDisconnect, HookError
from wsserver.hub.deferreds import may_wait
from wsserver.hub.hub import Hub

__all__ = ["carry_out"]

_Answer = TypeVar("_Answer", bound=Answered | HookError | HookDisconnect)


@may_wait
def carry_out(hub: Hub, answer: _Answer) -> Generator[Any, Any, _Answer]:
    """
    Make the publications of the backend's answer, one after the other, as `publish` of the HTTP API does.

    Args:
        hub: the channels.
        answer: the answer. A refusal has no publications.

    Returns:
        The answer; a Deferred of it if the broker has to confirm a publication.

    Raises:
        BrokerDown: the broker is unavailable. The publications before have been made. The Deferred may also fail with
            it.
    """
    if isinstance(answer, Answered):
        for one in answer.publish:
            yield hub.forward(one.channel, one.publication(), one.idempotency_key, skip_history=one.skip_history)
    return answer
