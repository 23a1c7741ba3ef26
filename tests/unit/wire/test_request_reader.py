"""Tests for wsserver/wire/request_reader.py: reading requests from pieces of any size."""

import pytest

from wsserver.wire.http11 import MAX_HEAD, Refusal
from wsserver.wire.request_reader import MAX_EMPTY_LINES, RequestReader

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


def read_all(data, size):
    """Feed the bytes in pieces; return the requests as (target, body) pairs, and the first refusal."""
    reader, found, request = RequestReader(), [], None
    for start in range(0, len(data), size or len(data)):
        reader.feed(data[start : start + (size or len(data))])
        while True:
            result = reader.read_head() if request is None else reader.read_body(request)
            if isinstance(result, Refusal):
                return found, result
            if result is None:
                break
            if request is None:
                request = result
            else:
                found.append((request.target, result))
                request = None
    return found, None


@pytest.mark.parametrize("size", [0, 1, 3])
class ReadTests:
    """Requests that arrive whole, byte by byte, and in pieces of three bytes."""

    def test_returns_each_request_with_its_body(self, size):
        """Empty lines before a request are ignored."""
        found = read_all(b"\r\n\r\n" + GET + POST + CHUNKED + GET, size)
        assert found == ([("/a", b""), ("/b", b"hello"), ("/c", b"hi"), ("/a", b"")], None)

    def test_ignores_some_empty_lines_before_each_request(self, size):
        found = read_all((b"\r\n" * MAX_EMPTY_LINES + GET) * 3, size)
        assert found == ([("/a", b"")] * 3, None)

    @pytest.mark.parametrize(
        ("data", "status", "reason"),
        [
            (b"\x00nonsense", 400, "not an HTTP request"),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400, "CRLF"),
            (b"GET /" + b"a" * MAX_HEAD, 431, "over 16384 bytes"),
            (CHUNKED.replace(b"hi", b"hi!"), 400, "chunk"),
            (b"\r\n" * (MAX_EMPTY_LINES + 1) + GET, 400, "empty lines"),
        ],
    )
    def test_refuses_an_invalid_request_after_returning_the_valid_ones(self, size, data, status, reason):
        """The refusal has a status and a reason."""
        found, refusal = read_all(GET + data, size)
        assert found == [("/a", b"")]
        assert refusal.status == status
        assert reason in refusal.reason


def test_refusal_of_a_tls_hello_names_the_option_tls_cert():
    """A client has connected to the wrong port."""
    _, refusal = read_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 0)
    assert (refusal.status, "--tls-cert" in refusal.reason) == (400, True)


class WaitingTests:
    """Requests that have not arrived completely."""

    @pytest.mark.parametrize(
        ("head", "body", "waits"),
        [
            (b"Content-Length: 5\r\nExpect: 100-continue", b"", True),
            (b"Content-Length: 5\r\nExpect: 100-continue", b"hello", False),
            (b"Content-Length: 5", b"", False),
            (b"Transfer-Encoding: chunked\r\nExpect: 100-continue", b"", True),
            (b"Transfer-Encoding: chunked\r\nExpect: 100-continue", b"1", False),
            (b"Expect: 100-continue", b"", False),
        ],
    )
    def test_waits_for_continue_only_before_the_first_byte_of_the_body(self, head, body, waits):
        """RFC 9110 section 10.1.1 allows the server to omit 100 once a part of the body has arrived."""
        reader = RequestReader()
        reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n" + body)
        assert reader.waits_for_continue(reader.read_head()) is waits

    def test_take_rest_returns_the_bytes_behind_the_head_once(self):
        """A WebSocket endpoint receives them after its handshake."""
        reader = RequestReader()
        reader.feed(GET + b"rest")
        reader.read_head()
        assert (len(reader), reader.take_rest(), len(reader), reader.take_rest()) == (4, b"rest", 0, b"")
