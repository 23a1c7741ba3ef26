"""Tests for wsserver/wire/request_reader.py: requests from bytes, however the network cuts them."""

import pytest

from wsserver.wire.http11 import MAX_HEAD, Refusal
from wsserver.wire.request_reader import RequestReader

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


def read_all(data, size):
    """Feed bytes in pieces; return the requests as pairs of target and body, and the first refusal."""
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
    """Whole, byte by byte, and three bytes at a time."""

    def test_returns_each_request_with_its_body(self, size):
        """Empty lines before a request are ignored."""
        found = read_all(b"\r\n\r\n" + GET + POST + CHUNKED + GET, size)
        assert found == ([("/a", b""), ("/b", b"hello"), ("/c", b"hi"), ("/a", b"")], None)

    @pytest.mark.parametrize(
        ("data", "status", "reason"),
        [
            (b"\x00nonsense", 400, "not an HTTP request"),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400, "CRLF"),
            (b"GET /" + b"a" * MAX_HEAD, 431, "over 16384 bytes"),
            (CHUNKED.replace(b"hi", b"hi!"), 400, "chunk"),
        ],
    )
    def test_refuses_what_is_not_a_request(self, size, data, status, reason):
        """With the status and a reason that says what is wrong; requests before it are returned."""
        found, refusal = read_all(GET + data, size)
        assert found == [("/a", b"")]
        assert refusal.status == status
        assert reason in refusal.reason


def test_names_the_option_for_tls_if_it_reads_a_tls_hello():
    """A client that connects to the wrong port learns what to change."""
    _, refusal = read_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 0)
    assert (refusal.status, "--tls-cert" in refusal.reason) == (400, True)


class WaitingTests:
    """What the frontend asks about a request that has not arrived completely."""

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
    def test_a_client_waits_for_continue_until_it_sends_the_body(self, head, body, waits):
        """RFC 9110 section 10.1.1: the permission may be omitted once a part of the body has arrived."""
        reader = RequestReader()
        reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n" + body)
        assert reader.waits_for_continue(reader.read_head()) is waits

    def test_the_rest_is_taken_once(self):
        """A WebSocket endpoint gets the bytes after its handshake."""
        reader = RequestReader()
        reader.feed(GET + b"rest")
        reader.read_head()
        assert (len(reader), reader.take_rest(), len(reader), reader.take_rest()) == (4, b"rest", 0, b"")
