"""
Surveys: a process sends a request to all processes that share the broker, itself included, and collects the answers.

Requests and answers are JSON objects, sent as messages of the broker.
"""

import json
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from wsserver.errors import BrokerDown
from wsserver.hub.broker import Broker

__all__ = ["ANSWER_TIMEOUT", "Control"]

# At module level, because Twisted replaces the namespace of a class's logger by the class's name.
_log = Logger(namespace="wsserver.hub")

ANSWER_TIMEOUT = 2.0
"""Seconds to wait for the answers of the other processes."""

MAX_QUESTIONS = 1000
"""Maximum number of requests that wait for answers; beyond it, `Control.ask` fails."""


class _Question:
    """A request, its answers so far, and the processes that have not answered yet."""

    __slots__ = ("answers", "done", "missing", "timeout")

    def __init__(self, missing: Collection[str]) -> None:
        self.missing = set(missing)
        self.answers: list[Any] = []
        self.done: Deferred[list[Any]] = Deferred()
        self.timeout: Any = None


class Control:
    """
    Sends requests to all processes that share a broker, and answers theirs.

    Args:
        broker: carries the messages between processes.
        clock: measures the time to answer.

    Attributes:
        handlers: name of a request -> the function that answers it. It is called with the arguments, a JSON object, and
            returns any JSON value. The result leaves out answers that are None.
    """

    def __init__(self, broker: Broker, clock: IReactorTime) -> None:
        self._broker, self._clock = broker, clock
        self._questions: dict[str, _Question] = {}
        self.handlers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}

    def ask(self, what: str, arguments: Mapping[str, Any]) -> "Deferred[list[Any]]":
        """
        Send a request to all processes, including this one.

        Args:
            what: the request's name, one of `handlers`.
            arguments: the request's arguments; they must be serializable as JSON.

        Returns:
            A Deferred that fires with the list of answers other than None, once all running processes have answered or
            `ANSWER_TIMEOUT` has passed. It fails with `BrokerDown`.
        """
        if len(self._questions) >= MAX_QUESTIONS:
            return fail(BrokerDown("too many questions wait for the answers of other processes"))
        return self._broker.nodes().addCallback(self._ask, what, arguments)

    def _ask(self, nodes: Collection[str], what: str, arguments: Mapping[str, Any]) -> "Deferred[list[Any]]":
        name = f"{random.getrandbits(64):016x}"
        question = self._questions[name] = _Question(nodes)
        question.timeout = self._clock.callLater(ANSWER_TIMEOUT, self._close, name)
        message = {"ask": what, "with": arguments, "id": name, "from": self._broker.node}
        sent = self._broker.send("", json.dumps(message).encode("utf-8"))
        sent.addErrback(lambda failure: self._close(name, failure))
        return question.done

    def _close(self, name: str, failure: Any = None) -> None:
        question = self._questions.pop(name, None)
        if question is None:
            return
        if question.timeout.active():
            question.timeout.cancel()
        if failure is not None:
            question.done.errback(failure)
            return
        if question.missing:
            _log.warn("{count} of the other processes did not answer in time", count=len(question.missing))
        question.done.callback(question.answers)

    def take(self, message: bytes) -> None:
        """Process a message of the broker: a request, or an answer to a request of this process."""
        try:
            parts = json.loads(message)
            if "answer" in parts:
                self._take_answer(parts["answer"], parts["from"], parts["result"])
            else:
                self._take_question(parts["ask"], parts["with"], parts["id"], parts["from"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _log.warn("something came from process to process that no server has written")

    def _take_question(self, what: str, arguments: Mapping[str, Any], name: str, asker: str) -> None:
        handler = self.handlers.get(what)
        try:
            result = handler(arguments) if handler is not None else None
        except Exception:
            _log.failure("a question of another process could not be answered")
            result = None
        answer = {"answer": name, "from": self._broker.node, "result": result}
        sent = self._broker.send(asker, json.dumps(answer).encode("utf-8"))
        # Ignore the outage: the process that sent the request has a timeout.
        sent.addErrback(lambda failure: failure.trap(BrokerDown))

    def _take_answer(self, name: str, node: str, result: Any) -> None:
        question = self._questions.get(name)
        if question is None or node not in question.missing:
            return
        question.missing.discard(node)
        if result is not None:
            question.answers.append(result)
        if not question.missing:
            self._close(name)

    def stop(self) -> None:
        """Stop waiting: complete all requests with the answers received so far."""
        for name in list(self._questions):
            self._close(name)
