"""Tests for wsserver/cli/urls.py: URLs of servers, and of subscriptions on them."""

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
    def test_accepts_http_and_websocket_urls_with_a_path(self, text, expected):
        """The scheme decides whether TLS is used. A path is needed if a proxy serves wsserver below that path."""
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
    def test_refuses_any_other_url_with_an_example(self, text):
        """A URL with credentials, a query or a fragment is refused, too, because they would not be used."""
        with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8080"):
            parse_server_url(text)

    def test_at_builds_a_url_of_the_other_scheme_with_the_port(self):
        """An IPv6 address is in brackets."""
        assert parse_server_url("wss://[::1]/a").at("http", "/b") == "https://[::1]:443/a/b"
        assert parse_server_url("http://a").at("ws", "") == "ws://a:80"


class QueryTests:
    """The query of a subscription."""

    def test_encodes_each_channel_as_one_parameter_and_omits_empty_ones(self):
        """Bytes of the command line that are not UTF-8 are encoded unchanged."""
        query = query_of(["a&b", "\u4e16", "\udcff"], format="raw", since="")
        assert query == "channel=a%26b&channel=%E4%B8%96&channel=%FF&format=raw"
