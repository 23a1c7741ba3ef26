"""
Surveys: a server process sends a request to all processes that share a broker, including itself.

It collects their answers into one result. Requests and answers are JSON objects, which the broker carries as control
messages.
"""

import json
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.errors import BrokerDown
from wsserver.hub.broker import Broker

__all__ = ["ANSWER_TIMEOUT", "Handlers", "Survey"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

ANSWER_TIMEOUT = 2.0
"""Seconds that a survey waits for the answers of all processes."""

MAX_REQUESTS = 1000
"""Maximum number of this process's requests that wait for answers; beyond it, `Survey.ask` fails."""

Handlers = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""
Name of a request -> the function that answers it. The function is called with the request's arguments, a JSON object,
and returns any JSON value. None means that the process has no answer; the survey's result leaves it out.
"""


class _Request:
    """A request of this process, the answers received so far, and the ids of the processes that have not answered."""

    __slots__ = ("answers", "done", "missing", "timeout")

    def __init__(self, missing: Collection[str]) -> None:
        self.missing = set(missing)
        self.answers: list[Any] = []
        self.done: Deferred[list[Any]] = Deferred()
        self.timeout: Any = None


class Survey:
    """
    Sends requests to all processes that share a broker, and answers theirs.

    Args:
        broker: carries the messages between processes. The caller must pass `on_message` to `broker.deliver_to`.
        clock: schedules the timeout `ANSWER_TIMEOUT`.
        handlers: the functions that answer requests in this process.
    """

    def __init__(self, broker: Broker, clock: IReactorTime, handlers: Handlers) -> None:
        self._broker, self._clock, self._handlers = broker, clock, handlers
        self._requests: dict[str, _Request] = {}

    def ask(self, name: str, arguments: Mapping[str, Any], node: str = "", *, dead: str = "") -> "Deferred[list[Any]]":
        """
        Send a request to all processes, including this one, and collect the answers.

        Args:
            name: the request's name: one of the keys of `handlers`.
            arguments: the request's arguments; they must be serializable as JSON.
            node: the id of the only process to ask; empty for all. If it does not run, there is no answer.
            dead: the id of a process that has died and cannot answer; empty for none.

        Returns:
            A Deferred that fires with the list of the answers, without those that are None, once all running processes
            have answered or `ANSWER_TIMEOUT` has passed. It fails with `BrokerDown` if the broker is down or
            `MAX_REQUESTS` requests are waiting.
        """
        if len(self._requests) >= MAX_REQUESTS:
            return fail(BrokerDown(f"{MAX_REQUESTS} requests to the other processes are pending; retry later"))
        return self._broker.nodes().addCallback(self._ask, name, arguments, node, dead)

    def answer(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return the answer of this process to a request."""
        return self._handlers[name](arguments)

    def _ask(
        self, nodes: Collection[str], name: str, arguments: Mapping[str, Any], node: str, dead: str
    ) -> "Deferred[list[Any]]":
        nodes = {*nodes} - {dead}
        if node:
            if node not in nodes:
                return succeed([])
            nodes = [node]
        number = f"{random.getrandbits(64):016x}"
        request = self._requests[number] = _Request(nodes)
        request.timeout = self._clock.callLater(ANSWER_TIMEOUT, self._close, number)
        message = {"ask": name, "with": arguments, "id": number, "from": self._broker.node}
        sent = self._broker.send(node, json.dumps(message).encode("utf-8"))
        sent.addErrback(lambda failure: self._close(number, failure))
        return request.done

    def _close(self, number: str, failure: Any = None) -> None:
        request = self._requests.pop(number, None)
        if request is None:
            return
        if request.timeout.active():
            request.timeout.cancel()
        if failure is not None:
            request.done.errback(failure)
            return
        if request.missing:
            _log.warn("survey incomplete: no answer in time processes={count}", count=len(request.missing))
        request.done.callback(request.answers)

    def on_message(self, message: bytes) -> None:
        """Process a control message: a request from a process, or an answer to a request of this process."""
        try:
            parts = json.loads(message)
            if "answer" in parts:
                self._on_answer(parts["answer"], parts["from"], parts["result"])
            else:
                self._on_request(parts["ask"], parts["with"], parts["id"], parts["from"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _log.warn("ignoring a malformed control message")

    def _on_request(self, name: str, arguments: Mapping[str, Any], number: str, sender: str) -> None:
        handler = self._handlers.get(name)
        try:
            result = handler(arguments) if handler is not None else None
        except Exception:
            _log.failure("answering a request of another process failed")
            result = None
        answer = {"answer": number, "from": self._broker.node, "result": result}
        sent = self._broker.send(sender, json.dumps(answer).encode("utf-8"))
        # If the broker is down, the answer is lost. The process that sent the request stops waiting after its timeout.
        sent.addErrback(lambda failure: failure.trap(BrokerDown))

    def _on_answer(self, number: str, node: str, result: Any) -> None:
        request = self._requests.get(number)
        if request is None or node not in request.missing:
            return
        request.missing.discard(node)
        if result is not None:
            request.answers.append(result)
        if not request.missing:
            self._close(number)

    def stop(self) -> None:
        """Complete all waiting requests with the answers received so far; called when the server stops."""
        for number in list(self._requests):
            self._close(number)
