"""Hooks call a backend over HTTP: a backend that answers, and one that fails in each possible way."""

import json
import threading

import pytest
from backend import Backend
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import blockingCallFromThread, deferToThread
from waiting import wait_until

from wsserver.hooks.client import HTTPHooks
from wsserver.hooks.messages import TEMPORARY, Caller, Connected, HookDisconnect, HookError, Published, Subscribed
from wsserver.hooks.requester import MAX_AT_ONCE, MAX_BYTES, MAX_WAITING
from wsserver.hub.channel_events import ChannelEvent

EVENTS = ("connect", "subscribe", "publish", "rpc", "message", "disconnect", "channel")
HEADERS = (("cookie", "session=1"), ("user-agent", "browser"), ("x-real-ip", "192.0.2.1"))
CALLER = Caller(client="c1", transport="websocket", protocol="json", user="42", headers=HEADERS)


@pytest.fixture
def ask(backend):
    """Return an `Asker` for the backend; check afterwards that it has left no timer."""
    before = set(reactor.getDelayedCalls())
    asker = Asker(backend)
    yield asker
    blockon(deferToThread(asker.close))
    left = [call for call in reactor.getDelayedCalls() if call not in before]
    assert not left


class Asker:
    """Calls hooks as the endpoints do, and blocks until the answer arrives."""

    def __init__(self, backend, timeout=5.0):
        urls = {event: backend.url(f"/{event}?key=secret") for event in EVENTS}
        self.hooks = HTTPHooks(urls, timeout=timeout, reactor=reactor)

    def __call__(self, event, *arguments, **options):
        """Call the hook of an event and wait for the answer."""
        return blockingCallFromThread(reactor, lambda: getattr(self.hooks, event)(CALLER, *arguments, **options))

    def queue(self, event="subscribe"):
        """Return the queue of an event."""
        return self.hooks.queues[event]

    def set_timeout(self, seconds):
        """Set the timeout of every queue."""
        for queue in self.hooks.queues.values():
            queue._timeout = seconds

    def close(self):
        """Stop the hooks."""
        blockingCallFromThread(reactor, self.hooks.stop)


class AnswerTests:
    """A backend that answers."""

    def test_connect_sends_cookie_and_data_and_returns_the_user(self, backend, ask):
        """The server sends the client's headers to the backend as HTTP headers."""
        backend.answer = lambda path, body: {"result": {"user": body["data"]["name"], "info": {"a": 1}}}
        assert ask("connect", data={"name": "Ann"}, name="js") == Connected(user="Ann", info={"a": 1})
        ((path, headers, body),) = backend.requests
        assert path == "/connect?key=secret"
        assert (headers["cookie"], headers["user-agent"], headers["x-real-ip"]) == (
            "session=1",
            "browser",
            "192.0.2.1",
        )
        assert headers["content-type"] == "application/json"
        common = {"client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json"}
        assert body == {**common, "name": "js", "data": {"name": "Ann"}}

    def test_subscribe_and_publish_return_a_result_an_error_or_a_disconnect(self, backend, ask):
        allowed = {"news": {"result": {"data": 1}}, "chat": {"error": {"code": 403, "message": "members only"}}}
        backend.answer = lambda path, body: allowed.get(body["channel"], {"disconnect": {"code": 4500, "reason": "go"}})
        assert ask("subscribe", "news") == Subscribed(data=b"1")
        assert ask("subscribe", "chat") == HookError(403, "members only")
        assert ask("publish", "news", data={"a": 1}) == Published(data=b"1")
        assert ask("publish", "else", data=None) == HookDisconnect(4500, "go")
        assert [(path.partition("?")[0], body["user"], body["channel"]) for path, _, body in backend.requests] == [
            ("/subscribe", "42", "news"),
            ("/subscribe", "42", "chat"),
            ("/publish", "42", "news"),
            ("/publish", "42", "else"),
        ]

    def test_rpc_and_message_send_the_data_and_return_data_and_publications(self, backend, ask):
        backend.answer = lambda path, body: {"result": {"data": body, "publish": [{"channel": "c", "data": 1}]}}
        common = {"client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json", "user": "42"}
        answer = ask("rpc", "add", data=b"[1,2]")
        assert json.loads(answer.content().data) == {**common, "method": "add", "data": [1, 2]}
        assert [one.channel for one in answer.publish] == ["c"]
        answer = ask("message", data=b"null")
        assert json.loads(answer.content().data) == {**common, "data": None}
        assert {headers["cookie"] for _, headers, _ in backend.requests} == {"session=1"}

    def test_channel_events_are_taken_unless_there_is_no_answer_or_a_temporary_error(self, backend, ask):
        """They are about no client, so the server forwards no headers."""

        def send():
            event = ChannelEvent("news", True, 5)
            return blockingCallFromThread(reactor, lambda: ask.hooks.channel_events([event]))

        answers = [{}, {"error": {"code": 403}}, {"error": {"code": 503, "temporary": True}}, None]
        assert [(setattr(backend, "answer", lambda *_, a=answer: a), send())[1] for answer in answers] == [
            *(True, True),
            *(False, False),
        ]
        path, headers, body = backend.requests[0]
        assert path == "/channel?key=secret"
        assert "cookie" not in headers
        assert body == {"events": [{"channel": "news", "type": "occupied", "time_ms": 5}]}

    def test_disconnect_sends_code_and_reason_and_ignores_the_answer(self, backend, ask):
        backend.answer = lambda path, body: b"HTTP/1.1 204 No Content\r\n\r\n"
        blockingCallFromThread(reactor, lambda: ask.hooks.disconnected(CALLER, code=3000, reason="left"))
        wait_until(lambda: backend.requests, "the request")
        assert backend.requests[0][2]["disconnect"] == {"code": 3000, "reason": "left"}

    def test_twenty_requests_use_one_connection(self, backend, ask):
        for _ in range(20):
            assert ask("subscribe", "news") == Subscribed()
        assert len(backend.peers) == 1

    def test_a_request_on_a_closed_idle_connection_is_sent_again(self, backend, ask):
        """The backend closes its idle connection just as the request arrives."""
        answers = iter([{"result": {}}, None, {"result": {}}])
        backend.answer = lambda path, body: next(answers)
        assert [ask("subscribe", "news") for _ in range(2)] == [Subscribed()] * 2
        assert len(backend.requests) == 3


class FailureTests:
    """The backend fails, so the hook returns `TEMPORARY`, immediately or after the timeout."""

    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
            b'HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\n{"result":{}}',
            b'HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{"result":{}}',
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result":{}}',
            b'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{"result":{}}',
            b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b" " * (MAX_BYTES + 1),
            b"SSH-2.0-OpenSSH_9.0\r\n",
            b"\x00" * 100_000,
            b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000,
            None,
        ],
    )
    def test_an_invalid_response_is_a_temporary_failure_and_the_next_call_succeeds(self, backend, ask, response):
        """Invalid responses: error statuses, redirects, no JSON, truncated, too large, not HTTP, none at all."""
        backend.answer = lambda path, body: response
        ask.set_timeout(2.0)
        assert ask("subscribe", "news") is TEMPORARY
        assert ask("connect") is TEMPORARY
        assert ask("publish", "news", data=1) is TEMPORARY
        backend.answer = lambda path, body: {"result": {}}
        assert ask("subscribe", "news") == Subscribed()
        assert (ask.queue().requests, ask.queue().failed) == (2, 1)

    def test_accepts_an_http_1_0_body_that_ends_with_the_connection(self, backend, ask):
        backend.answer = lambda path, body: b'HTTP/1.0 200 OK\r\n\r\n{"result":{}}'
        assert ask("subscribe", "news") == Subscribed()

    @pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", b"HTTP/1.1 200"])
    def test_a_response_that_stops_anywhere_is_a_temporary_failure_after_the_timeout(self, backend, ask, part):
        go_on = threading.Event()
        backend.before = (part, go_on)
        ask.set_timeout(0.3)
        assert ask("subscribe", "news") is TEMPORARY
        go_on.set()

    def test_a_backend_that_is_down_is_a_temporary_failure_until_it_returns(self, backend, ask):
        port = backend.port
        backend.close()
        assert ask("subscribe", "news") is TEMPORARY
        again = Backend(port)
        assert ask("subscribe", "news") == Subscribed()
        again.close()

    def test_the_log_has_one_line_for_the_failure_and_one_for_the_recovery(self, backend, ask, log):
        """The lines leave out the query of the URL, which may have a secret."""
        backend.answer = lambda path, body: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        for _ in range(5):
            ask("subscribe", "news")
        backend.answer = lambda path, body: {"result": {}}
        ask("subscribe", "news")
        url = backend.url("/subscribe")
        assert log.lines("wsserver.hooks") == [
            f"hook failed event=subscribe url={url} reason='ValueError: expected status 200, got 500'",
            "hook recovered event=subscribe",
        ]

    def test_a_cancelled_call_is_temporary_and_does_not_count_as_a_failure(self, backend, ask, log):
        """The endpoint cancels the call when its client disconnects. Nothing is logged."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(10) and {"result": {}}

        def leave():
            asked = ask.hooks.subscribe(CALLER, "news")
            reactor.callLater(0.1, asked.cancel)
            return asked

        assert blockingCallFromThread(reactor, leave) is TEMPORARY
        go_on.set()
        assert ask.queue().failed == 0
        assert log.lines("wsserver.hooks") == []


class OverloadTests:
    """More calls than a backend can serve."""

    def test_calls_beyond_the_running_and_the_queued_ones_are_rejected_at_once(self, backend, ask):
        """The other calls are answered, and no more than `MAX_AT_ONCE` calls run at the same time."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(20) and {"result": {}}
        ask.set_timeout(20.0)
        over = 50
        asked = []

        def crowd():
            asked.extend(ask.hooks.subscribe(CALLER, "news") for _ in range(MAX_AT_ONCE + MAX_WAITING + over))
            return sum(1 for one in asked if one.called and one.result is TEMPORARY)

        assert blockingCallFromThread(reactor, crowd) == over
        assert ask.queue().rejected == over
        wait_until(lambda: backend.max_concurrent == MAX_AT_ONCE, "the maximum number of running calls")
        go_on.set()
        answers = blockingCallFromThread(reactor, lambda: gatherResults(asked))
        assert answers.count(Subscribed()) == MAX_AT_ONCE + MAX_WAITING
        assert backend.max_concurrent == MAX_AT_ONCE

    def test_the_timeout_includes_the_time_in_the_queue(self, backend, ask):
        """Timed out calls leave the queue, so later ones succeed."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(20) and {"result": {}}
        ask.set_timeout(0.5)
        number = MAX_AT_ONCE + 10
        crowd = blockingCallFromThread(
            reactor, lambda: gatherResults([ask.hooks.subscribe(CALLER, "news") for _ in range(number)])
        )
        assert crowd == [TEMPORARY] * number
        go_on.set()
        ask.set_timeout(5.0)
        assert ask("subscribe", "news") == Subscribed()

    def test_stop_waits_for_running_calls_and_later_calls_fail_without_a_request(self, backend, ask):
        blockingCallFromThread(reactor, lambda: ask.hooks.disconnected(CALLER, code=1001, reason="stopping"))
        ask.close()
        assert len(backend.requests) == 1
        assert ask("subscribe", "news") is TEMPORARY
        assert len(backend.requests) == 1
