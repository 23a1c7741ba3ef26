"""Temporary refusals for an EventSource. No reactor."""

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
    """Which requests come from an EventSource."""

    @pytest.mark.parametrize(
        "accept",
        [
            ["text/event-stream"],
            ["TEXT/Event-Stream ; q=0.5"],
            ["text/html, text/event-stream"],
            ["a/b", "text/event-stream"],
        ],
    )
    def test_recognizes_a_client_that_names_the_type(self, accept):
        """In any case, among others, with parameters."""
        assert accepts_event_stream(accept)

    @pytest.mark.parametrize("accept", [[], ["*/*"], ["text/*"], ["text/event-streams"]])
    def test_does_not_take_other_clients_for_one(self, accept):
        """A wildcard comes from curl and fetch, which read the status."""
        assert not accepts_event_stream(accept)

    @pytest.mark.parametrize(("method", "expected"), [("GET", True), ("HEAD", False), ("POST", False)])
    def test_wants_an_event_stream_only_with_get(self, method, expected):
        """An EventSource sends nothing else."""
        request = parse(f"{method} /sse HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n".encode())
        assert wants_event_stream(request) is expected


class AnswerTests:
    """What an EventSource gets."""

    @pytest.mark.parametrize(
        ("status", "expected"), [(400, False), (401, False), (403, False), (405, False), (500, True), (503, True)]
    )
    def test_only_the_servers_own_failures_are_temporary(self, status, expected):
        """What the client did wrong stays wrong."""
        assert is_temporary(Refusal(HTTPStatus(status), "why")) is expected

    def test_retries_are_spread_over_two_seconds(self):
        """Clients that were refused together do not return together."""
        delays = {int(write_retry().removeprefix(b"retry: ")) for _ in range(300)}
        assert min(delays) >= 1000
        assert max(delays) <= 3000
        assert len(delays) > 100

    def test_the_reason_is_one_comment_line(self):
        """A line end in a reason would begin a field."""
        comment, retry, *rest = temporary_stream(unavailable("one\ndata: two\r\nthree")).split(b"\n")
        assert comment == b": 503 one data: two three"
        assert retry.startswith(b"retry: ")
        assert rest == [b"", b""]

    def test_the_response_is_200_and_has_the_length_of_its_stream(self):
        """The connection ends with it."""
        head, _, body = temporary_response(unavailable("not now")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
        assert b"\r\nContent-Length: %d\r\n" % len(body) in head
        assert head.endswith(b"\r\nConnection: close")
