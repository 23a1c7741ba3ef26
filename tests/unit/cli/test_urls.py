"""Tests for wsserver/cli/urls.py: where the command line finds a server."""

import pytest

from wsserver.cli.urls import DEFAULT_URL, ServerURL, parse_server_url, query_of


class ParseTests:
    """`--url`."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (DEFAULT_URL, ServerURL("127.0.0.1", 8080, False, "")),
            ("http://example.com", ServerURL("example.com", 80, False, "")),
            ("ws://example.com/", ServerURL("example.com", 80, False, "")),
            ("https://example.com", ServerURL("example.com", 443, True, "")),
            ("WSS://Example.com:8443", ServerURL("example.com", 8443, True, "")),
            ("http://[::1]:8080", ServerURL("::1", 8080, False, "")),
            ("https://example.com/push/", ServerURL("example.com", 443, True, "/push")),
        ],
    )
    def test_good(self, text, expected):
        """HTTP and WebSocket, with TLS and without, and the path of a proxy."""
        assert parse_server_url(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "example.com",
            "127.0.0.1:8080",
            "ftp://example.com",
            "http://",
            "http://:8080",
            "http://a:0",
            "http://a:65536",
            "http://a:b",
            "http://user:secret@a",
            "http://a/?channel=foo",
            "http://a/#x",
            "http://a b",
            "http://a/b c",
            "http://a/\r\nX-Evil: 1",
            "http://b\u00fccher.example",
            "http://[::1",
        ],
    )
    def test_bad(self, text):
        """What is no such URL, or has more in it than would be used, is refused; the message shows a good one."""
        with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8080"):
            parse_server_url(text)

    def test_written(self):
        """It is written with whichever scheme is spoken, an IPv6 address in its brackets."""
        assert parse_server_url("wss://[::1]/a").at("http", "/b") == "https://[::1]:443/a/b"
        assert parse_server_url("http://a").at("ws", "") == "ws://a:80"


class QueryTests:
    """The query of a subscription."""

    def test_escaped(self):
        """Whatever a channel is called, it is one parameter; what is no UTF-8 is passed on as it came."""
        query = query_of(["a&b", "\u4e16", "\udcff"], format="raw", since="")
        assert query == "channel=a%26b&channel=%E4%B8%96&channel=%FF&format=raw"
