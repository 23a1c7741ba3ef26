"""The backend is asked over HTTP: one that answers, and every kind that does not."""

import threading

import pytest
from backend import Backend
from peers import wait_until
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import blockingCallFromThread, deferToThread

from wsserver.hooks.client import HTTPHooks
from wsserver.hooks.messages import TEMPORARY, Caller, Connected, HookDisconnect, HookError, Published, Subscribed
from wsserver.hooks.requester import MAX_AT_ONCE, MAX_BYTES, MAX_WAITING

EVENTS = ("connect", "subscribe", "publish", "disconnect")
HEADERS = (("cookie", "session=1"), ("user-agent", "browser"), ("x-real-ip", "192.0.2.1"))
CALLER = Caller(client="c1", transport="websocket", protocol="json", user="42", headers=HEADERS)


@pytest.fixture
def ask(backend):
    """Ask it, from a thread; check that nothing is left behind."""
    before = set(reactor.getDelayedCalls())
    asker = Asker(backend)
    yield asker
    blockon(deferToThread(asker.close))
    wait_until_clean = [call for call in reactor.getDelayedCalls() if call not in before]
    assert not wait_until_clean


class Asker:
    """What the endpoints do."""

    def __init__(self, backend, timeout=5.0):
        urls = {event: backend.url(f"/{event}?key=secret") for event in EVENTS}
        self.hooks = HTTPHooks(urls, timeout=timeout, reactor=reactor)

    def __call__(self, event, *arguments, **options):
        """Ask, and wait for the answer."""
        return blockingCallFromThread(reactor, lambda: getattr(self.hooks, event)(CALLER, *arguments, **options))

    def line(self, event="subscribe"):
        """Give the line of an event."""
        return self.hooks.queues[event]

    def timeout(self, seconds):
        """Allow another time."""
        for line in self.hooks.queues.values():
            line._timeout = seconds

    def close(self):
        """Stop asking."""
        blockingCallFromThread(reactor, self.hooks.stop)


class AnswerTests:
    """A backend that does its work."""

    def test_connect(self, backend, ask):
        """It says who a client is; it gets the client's cookie and what the client gave."""
        backend.answer = lambda path, body: {"result": {"user": body["data"]["name"], "info": {"a": 1}}}
        assert ask("connect", data={"name": "Ann"}, name="js") == Connected(user="Ann", info={"a": 1})
        ((path, headers, body),) = backend.questions
        assert path == "/connect?key=secret"
        assert (headers["cookie"], headers["user-agent"], headers["x-real-ip"]) == (
            "session=1",
            "browser",
            "192.0.2.1",
        )
        assert headers["content-type"] == "application/json"
        common = {"client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json"}
        assert body == {**common, "name": "js", "data": {"name": "Ann"}}

    def test_subscribe_and_publish(self, backend, ask):
        """It lets some do some things."""
        allowed = {"news": {"result": {"data": 1}}, "chat": {"error": {"code": 403, "message": "members only"}}}
        backend.answer = lambda path, body: allowed.get(body["channel"], {"disconnect": {"code": 4500, "reason": "go"}})
        assert ask("subscribe", "news") == Subscribed(data=b"1")
        assert ask("subscribe", "chat") == HookError(403, "members only")
        assert ask("publish", "news", data={"a": 1}) == Published(data=b"1")
        assert ask("publish", "else", data=None) == HookDisconnect(4500, "go")
        assert [(path.partition("?")[0], body["user"], body["channel"]) for path, _, body in backend.questions] == [
            ("/subscribe", "42", "news"),
            ("/subscribe", "42", "chat"),
            ("/publish", "42", "news"),
            ("/publish", "42", "else"),
        ]

    def test_disconnect(self, backend, ask):
        """It is told who has gone; its answer does not matter."""
        backend.answer = lambda path, body: b"HTTP/1.1 204 No Content\r\n\r\n"
        blockingCallFromThread(reactor, lambda: ask.hooks.disconnected(CALLER, code=3000, reason="left"))
        wait_until(lambda: backend.questions, "told")
        assert backend.questions[0][2]["disconnect"] == {"code": 3000, "reason": "left"}

    def test_kept_alive(self, backend, ask):
        """One connection serves many questions."""
        for _ in range(20):
            assert ask("subscribe", "news") == Subscribed()
        assert len(backend.peers) == 1

    def test_closed_as_idle(self, backend, ask):
        """A backend that closes its connection as the question comes is asked once more, on a new one."""
        answers = iter([{"result": {}}, None, {"result": {}}])
        backend.answer = lambda path, body: next(answers)
        assert [ask("subscribe", "news") for _ in range(2)] == [Subscribed()] * 2
        assert len(backend.questions) == 3


class WrongTests:
    """A backend that does not: every client is told to try again later, at once or when the time is over."""

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
    def test_garbage(self, backend, ask, response):
        """Statuses, redirects, no JSON, half of it, too much of it, no HTTP, nothing."""
        backend.answer = lambda path, body: response
        ask.timeout(2.0)
        assert ask("subscribe", "news") is TEMPORARY
        assert ask("connect") is TEMPORARY
        assert ask("publish", "news", data=1) is TEMPORARY
        backend.answer = lambda path, body: {"result": {}}
        assert ask("subscribe", "news") == Subscribed()
        assert (ask.line().requests, ask.line().failed) == (2, 1)

    def test_without_length(self, backend, ask):
        """HTTP/1.0 ends a body with the connection."""
        backend.answer = lambda path, body: b'HTTP/1.0 200 OK\r\n\r\n{"result":{}}'
        assert ask("subscribe", "news") == Subscribed()

    @pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n", b"HTTP/1.1 200"])
    def test_slow(self, backend, ask, part):
        """One that takes too long, at whatever place."""
        go_on = threading.Event()
        backend.before = (part, go_on)
        ask.timeout(0.3)
        assert ask("subscribe", "news") is TEMPORARY
        go_on.set()

    def test_down(self, backend, ask):
        """None at all; when it is there again it is asked again."""
        port = backend.port
        backend.close()
        assert ask("subscribe", "news") is TEMPORARY
        again = Backend(port)
        assert ask("subscribe", "news") == Subscribed()
        again.close()

    def test_told_once(self, backend, ask, log):
        """The log says when it begins and when it ends, without the secrets of the URL."""
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

    def test_nobody_waits(self, backend, ask, log):
        """A question whose client has gone is given up."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(10) and {"result": {}}

        def leave():
            asked = ask.hooks.subscribe(CALLER, "news")
            reactor.callLater(0.1, asked.cancel)
            return asked

        assert blockingCallFromThread(reactor, leave) is TEMPORARY
        go_on.set()
        assert ask.line().failed == 0
        assert log.lines("wsserver.hooks") == []


class CrowdTests:
    """More clients than a backend can bear."""

    def test_bounded(self, backend, ask):
        """So many at once, so many wait, the rest is told at once to come again."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(20) and {"result": {}}
        ask.timeout(20.0)
        over = 50
        asked = []

        def crowd():
            asked.extend(ask.hooks.subscribe(CALLER, "news") for _ in range(MAX_AT_ONCE + MAX_WAITING + over))
            return sum(1 for one in asked if one.called and one.result is TEMPORARY)

        assert blockingCallFromThread(reactor, crowd) == over
        assert ask.line().rejected == over
        # Another kind has its own room.
        wait_until(lambda: backend.most == MAX_AT_ONCE, "as many as may be under way")
        go_on.set()
        answers = blockingCallFromThread(reactor, lambda: gatherResults(asked))
        assert answers.count(Subscribed()) == MAX_AT_ONCE + MAX_WAITING
        assert backend.most == MAX_AT_ONCE

    def test_waiting_counts(self, backend, ask):
        """Who waits for the whole time without being asked is told so, and takes nobody's place."""
        go_on = threading.Event()
        backend.answer = lambda path, body: go_on.wait(20) and {"result": {}}
        ask.timeout(0.5)
        number = MAX_AT_ONCE + 10
        crowd = blockingCallFromThread(
            reactor, lambda: gatherResults([ask.hooks.subscribe(CALLER, "news") for _ in range(number)])
        )
        assert crowd == [TEMPORARY] * number
        go_on.set()
        ask.timeout(5.0)
        assert ask("subscribe", "news") == Subscribed()

    def test_stop(self, backend, ask):
        """Stopping waits for what is under way, and asks nothing more."""
        blockingCallFromThread(reactor, lambda: ask.hooks.disconnected(CALLER, code=1001, reason="stopping"))
        ask.close()
        assert len(backend.questions) == 1
        assert ask("subscribe", "news") is TEMPORARY
        assert len(backend.questions) == 1
