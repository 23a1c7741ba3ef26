"""Tests for wsserver/wire/access_log.py: the number of lines per second, the counts of refusals, and escaping."""

from http import HTTPStatus

import pytest
from twisted.internet.task import Clock

from wsserver.wire.access_log import MAX_LINES_PER_CONNECTION, AccessLog, cause_of
from wsserver.wire.counters import Counters
from wsserver.wire.http11 import Refusal
from wsserver.wire.timers import Deadlines

FORBIDDEN = Refusal(HTTPStatus.FORBIDDEN, "origin 'https://x' is not allowed", cause="origin")


class Log:
    """An access log with its clock and its counters."""

    def __init__(self, rate):
        self.clock, self.counters = Clock(), Counters()
        self.log = AccessLog(self.counters, Deadlines(self.clock), rate)

    def opened(self):
        self.log.opened(number=1, peer="192.0.2.1:1", path="/", subprotocol=None, extensions=None)

    def closed(self):
        counts = dict.fromkeys(("messages_in", "bytes_in", "messages_out", "bytes_out"), 0)
        self.log.closed(
            number=1,
            peer="192.0.2.1:1",
            path="/",
            code=1000,
            by="peer",
            clean=True,
            reason="",
            subprotocol=None,
            seconds=1.0,
            **counts,
        )

    def refused(self, refusal=FORBIDDEN):
        self.log.refused(refusal, number=None, peer="192.0.2.1:1", path="/ws")

    def failed(self, reason="no shared cipher suite"):
        self.log.handshake_failed(reason, peer="192.0.2.1:1")

    def answered(self, peer="192.0.2.1:1"):
        self.log.answered(method="GET", path="/", status=200, size=3, peer=peer)

    def streamed(self):
        self.log.streamed(method="GET", path="/sse", peer="192.0.2.1:1", code=3000, reason="x", seconds=1.0)


KINDS = {
    "opened": "connections opened",
    "closed": "connections closed",
    "refused": "connections refused",
    "failed": "tls handshakes failed",
    "streamed": "http requests",
}


class LimitTests:
    """At most `rate` lines of each kind per second are logged; the others are counted."""

    @pytest.mark.parametrize(("kind", "shown"), KINDS.items())
    def test_logs_the_first_lines_of_a_second_and_counts_the_rest(self, lines, kind, shown):
        one = Log(10)
        for _ in range(25):
            getattr(one, kind)()
        assert len(lines) == 10
        one.clock.advance(0.9)
        assert len(lines) == 10
        one.clock.advance(0.2)
        assert lines[10:] == [f"{shown} suppressed=15"]

    def test_a_flood_of_one_kind_suppresses_no_line_of_another_kind(self, lines):
        one = Log(10)
        for _ in range(1000):
            one.refused()
        for kind in KINDS:
            getattr(one, kind)()
        assert len(lines) == 10 + len(KINDS) - 1

    def test_a_connection_with_many_requests_suppresses_no_line_of_another_connection(self, lines):
        one = Log(100)
        for _ in range(1000):
            one.answered()
        one.answered("192.0.2.2:1")
        assert len(lines) == MAX_LINES_PER_CONNECTION + 1
        one.clock.advance(1.1)
        assert lines[-1] == f"http requests suppressed={1000 - MAX_LINES_PER_CONNECTION}"

    def test_logs_again_in_the_next_second_without_a_count(self, lines):
        """If no line was suppressed, no count is logged, and no timer remains."""
        one = Log(10)
        for _ in range(3):
            one.refused()
            one.clock.advance(1.1)
        assert len(lines) == 3
        assert one.clock.getDelayedCalls() == []

    def test_logs_every_line_without_a_limit(self, lines):
        one = Log(0)
        for _ in range(300):
            one.refused()
            one.answered()
        assert len(lines) == 600
        assert one.clock.getDelayedCalls() == []

    def test_flush_logs_the_counts_at_once(self, lines):
        """The server calls `flush` when it stops."""
        one = Log(1)
        for kind in KINDS:
            getattr(one, kind)()
            getattr(one, kind)()
        one.log.flush()
        assert lines[len(KINDS) :] == [f"{shown} suppressed=1" for shown in KINDS.values()]


class CountTests:
    """Refusals are counted by their cause, also those whose line is suppressed."""

    def test_counts_every_refusal_and_every_failed_handshake(self):
        one = Log(1)
        for _ in range(5):
            one.refused()
            one.failed()
        assert one.counters.refusals == {"origin": 5}
        assert one.counters.tls_handshakes_failed == 5

    @pytest.mark.parametrize(
        ("refusal", "cause"),
        [
            (FORBIDDEN, "origin"),
            (Refusal(HTTPStatus.FORBIDDEN, "x"), "forbidden"),
            (Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "x"), "service_unavailable"),
            (Refusal(HTTPStatus(413), "x"), "content_too_large"),
            (None, "client_closed"),
        ],
    )
    def test_the_cause_is_the_refusals_own_or_that_of_its_status(self, refusal, cause):
        assert cause_of(refusal) == cause


def test_a_reason_sent_by_the_client_cannot_forge_a_log_line(lines):
    """Quotes and line ends in the reason are escaped."""
    one = Log(10)
    one.failed('h2" peer=x\r\ntls')
    one.refused(Refusal(HTTPStatus.BAD_REQUEST, 'x" peer=y\r\n'))
    for line in lines:
        assert "\n" not in line
        assert line.count('" peer=') == 1 + line.count('\\" peer=')
