"""Temporary refusals for an EventSource, without a reactor."""

from http import HTTPStatus

import pytest

from wsserver.wire.eventstream import (
    accepts_event_stream,
    is_temporary,
    temporary_response,
    temporary_stream,
    wants_event_stream,
    write_retry,
)
from wsserver.wire.http11 import Refusal, parse, unavailable


class AcceptTests:
    """Requests of an EventSource."""

    @pytest.mark.parametrize(
        "accept",
        [
            ["text/event-stream"],
            ["TEXT/Event-Stream ; q=0.5"],
            ["text/html, text/event-stream"],
            ["a/b", "text/event-stream"],
        ],
    )
    def test_an_accept_header_that_names_text_event_stream_is_recognized(self, accept):
        """The case, parameters and other types do not matter."""
        assert accepts_event_stream(accept)

    @pytest.mark.parametrize("accept", [[], ["*/*"], ["text/*"], ["text/event-streams"]])
    def test_wildcards_and_other_types_are_not_recognized(self, accept):
        """curl and fetch send a wildcard, and they read the status."""
        assert not accepts_event_stream(accept)

    @pytest.mark.parametrize(("method", "expected"), [("GET", True), ("HEAD", False), ("POST", False)])
    def test_only_get_requests_want_an_event_stream(self, method, expected):
        """An EventSource uses no other method."""
        request = parse(f"{method} /sse HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n".encode())
        assert wants_event_stream(request) is expected


class AnswerTests:
    """Responses for an EventSource."""

    @pytest.mark.parametrize(
        ("status", "expected"),
        [(400, False), (401, False), (403, False), (405, False), (429, True), (500, True), (503, True)],
    )
    def test_only_refusals_with_429_500_and_503_are_temporary(self, status, expected):
        """After an error of the client, such as 400, the same request would fail again."""
        assert is_temporary(Refusal(HTTPStatus(status), "why")) is expected

    def test_retry_delays_are_spread_between_1_and_3_seconds(self):
        """Clients that were refused together do not reconnect together."""
        delays = {int(write_retry().removeprefix(b"retry: ")) for _ in range(300)}
        assert min(delays) >= 1000
        assert max(delays) <= 3000
        assert len(delays) > 100

    def test_the_stream_has_the_reason_on_one_comment_line_and_a_retry_field(self):
        """A line end in the reason would start a field."""
        comment, retry, *rest = temporary_stream(unavailable("one\ndata: two\r\nthree")).split(b"\n")
        assert comment == b": 503 one data: two three"
        assert retry.startswith(b"retry: ")
        assert rest == [b"", b""]

    def test_the_response_is_200_with_the_content_length_of_its_stream(self):
        """The server closes the connection after it."""
        head, _, body = temporary_response(unavailable("not now")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert head.endswith(b"\r\nConnection: close")
