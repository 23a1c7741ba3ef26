"""Tests for wsserver/hub/survey.py: requests to all processes, and their answers."""

import json

import pytest
from twisted.internet.defer import fail, succeed

from wsserver.errors import BrokerDown
from wsserver.hub import survey as module
from wsserver.hub.survey import ANSWER_TIMEOUT, Survey


class Bus:
    """A broker that records what is sent; the test delivers it."""

    node = "me"

    def __init__(self, *others):
        self.others = others
        self.sent = []
        self.down = False

    def nodes(self):
        """Return the processes."""
        return succeed([self.node, *self.others])

    def send(self, node, message):
        """Record a message."""
        if self.down:
            return fail(BrokerDown("away"))
        self.sent.append((node, json.loads(message)))
        return succeed(None)


@pytest.fixture
def bus():
    """Make a broker with one other process."""
    return Bus("other")


@pytest.fixture
def survey(bus, clock):
    """Make a survey with a handler that answers, one that does not, and one that fails."""
    return Survey(bus, clock, {"add": lambda sent: sent["a"] + 1, "none": lambda _: None, "fail": lambda _: 1 / 0})


def ask(survey, *arguments, **options):
    """Send a request; return the list that its result is appended to."""
    found = []
    survey.ask(*arguments, **options).addBoth(found.append)
    return found


def answer(survey, bus, node, result):
    """Deliver another process's answer to the last request."""
    number = bus.sent[-1][1]["id"]
    survey.on_message(json.dumps({"answer": number, "from": node, "result": result}).encode())


class AskTests:
    """The requests of this process."""

    def test_sends_the_request_to_all_processes(self, survey, bus):
        ask(survey, "add", {"a": 1})
        ((node, message),) = bus.sent
        assert (node, message["ask"], message["with"], message["from"]) == ("", "add", {"a": 1}, "me")

    def test_returns_the_answers_once_every_process_has_answered(self, survey, bus):
        found = ask(survey, "add", {"a": 1})
        answer(survey, bus, "me", 2)
        assert found == []
        answer(survey, bus, "other", 3)
        assert found == [[2, 3]]

    def test_does_not_wait_for_a_process_that_has_died(self, survey, bus):
        found = ask(survey, "add", {"a": 1}, dead="other")
        answer(survey, bus, "me", 2)
        assert found == [[2]]

    def test_leaves_out_answers_that_are_none_and_counts_each_process_once(self, survey, bus):
        found = ask(survey, "add", {"a": 1})
        answer(survey, bus, "me", None)
        answer(survey, bus, "me", 2)
        answer(survey, bus, "stranger", 2)
        answer(survey, bus, "other", 3)
        assert found == [[3]]

    def test_returns_the_answers_so_far_after_the_timeout(self, survey, bus, clock):
        found = ask(survey, "add", {"a": 1})
        answer(survey, bus, "me", 2)
        clock.advance(ANSWER_TIMEOUT)
        assert found == [[2]]

    def test_fails_if_the_broker_is_down(self, survey, bus, clock):
        bus.down = True
        (failure,) = ask(survey, "add", {"a": 1})
        assert failure.check(BrokerDown)
        assert clock.getDelayedCalls() == []

    def test_fails_with_broker_down_beyond_max_requests(self, survey, monkeypatch):
        monkeypatch.setattr(module, "MAX_REQUESTS", 1)
        ask(survey, "add", {"a": 1})
        (failure,) = ask(survey, "add", {"a": 1})
        assert failure.check(BrokerDown)

    def test_stop_completes_pending_requests_with_the_answers_so_far(self, survey, bus, clock):
        found = ask(survey, "add", {"a": 1})
        answer(survey, bus, "other", 3)
        survey.stop()
        assert found == [[3]]
        assert clock.getDelayedCalls() == []


class AnswerTests:
    """The answers of this process."""

    @pytest.mark.parametrize(
        ("name", "result"), [("add", 2), ("none", None), ("fail", None), ("unknown", None)], ids=lambda value: None
    )
    def test_sends_the_result_or_none_to_the_sender(self, survey, bus, name, result):
        """The result is None if the handler fails, or if this version has no such handler."""
        survey.on_message(json.dumps({"ask": name, "with": {"a": 1}, "id": "7", "from": "other"}).encode())
        assert bus.sent == [("other", {"answer": "7", "from": "me", "result": result})]

    @pytest.mark.parametrize("message", [b"", b"\xff", b"[]", b"{}", b'{"answer": []}', b"[" * 100_000, b"null"])
    def test_sends_no_answer_to_a_malformed_message(self, survey, bus, message):
        survey.on_message(message)
        assert bus.sent == []
