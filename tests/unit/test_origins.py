"""Tests for wsserver/origins.py: parsing of origins. Which origins may connect is tested with the handshake."""

import pytest

from wsserver.origins import is_loopback, is_own, origin_of


class OriginOfTests:
    """RFC 6454 section 6.2: the normalized form of an origin."""

    @pytest.mark.parametrize(
        ("text", "origin"),
        [
            ("https://example.com", "https://example.com:443"),
            ("HTTPS://EXAMPLE.com:443", "https://example.com:443"),
            ("http://example.com", "http://example.com:80"),
            ("http://example.com:00080", "http://example.com:80"),
            ("http://example.com:8080", "http://example.com:8080"),
            ("ws://example.com", "ws://example.com:80"),
            ("wss://example.com", "wss://example.com:443"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://[2001:DB8::1]:81", "http://[2001:db8::1]:81"),
            ("null", "null"),
            ("NULL", "null"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef:"),
            ("http://example.com.", "http://example.com.:80"),
            ("", ""),
            ("file://", "file://:"),
            ("FILE:///", "file://:"),
            ("app://-", "app://-:"),
        ],
    )
    def test_lower_cases_the_origin_and_adds_the_default_port(self, text, origin):
        assert origin_of(text) == origin

    @pytest.mark.parametrize(
        "text",
        [
            "empty",
            "example.com",
            "//example.com",
            "http:example.com",
            "http:/example.com",
            "http://",
            "http://:80",
            "file:////",
            "file:///etc",
            "file://?",
            "file:",
            "1file://",
            "https:///",
            "ws://",
            "http://example.com/",
            "http://example.com/path",
            "http://example.com?x",
            "http://example.com#x",
            "http://user@example.com",
            "http://user:password@example.com",
            "http://example.com:",
            "http://example.com:port",
            "http://example.com:-1",
            "http://example.com:123456",
            "http://example.com:80:80",
            "http://::1",
            "http://[::1",
            "http://[::1]x",
            "http://[localhost]",
            "http://a b",
            "http://a\\b",
            " http://example.com",
            "http://example.com http://other.example",
            "http://example.com, http://other.example",
            "1http://example.com",
            "*",
        ],
    )
    def test_refuses_what_is_not_exactly_scheme_host_and_port(self, text):
        assert origin_of(text) is None


class OwnOriginTests:
    """The origins of the server itself, and of its machine."""

    @pytest.mark.parametrize(
        ("origin", "host", "own"),
        [
            ("http://example.com", "example.com", True),
            ("https://example.com", "EXAMPLE.com", True),
            ("http://example.com:8080", "example.com", False),
            ("http://example.com", "", False),
            ("null", "null", False),
            ("wss://example.com", "example.com", False),
        ],
    )
    def test_is_own_if_host_and_port_are_those_of_the_request(self, origin, host, own):
        """The function is called twice because it caches its answers."""
        assert is_own(origin_of(origin), host) is is_own(origin_of(origin), host) is own

    @pytest.mark.parametrize(
        ("origin", "loopback"),
        [
            ("http://localhost:3000", True),
            ("https://app.localhost", True),
            ("http://127.9.9.9", True),
            ("http://[::1]:5173", True),
            ("http://localhost.example.com", False),
            ("http://192.168.0.1", False),
            ("null", False),
            ("file://localhost", False),
        ],
    )
    def test_is_loopback_for_localhost_its_subdomains_and_loopback_addresses(self, origin, loopback):
        assert is_loopback(origin_of(origin)) is loopback
