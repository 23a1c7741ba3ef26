"""Tests for wsserver/wire/handshake.py: which WebSocket requests are accepted (RFC 6455 section 4.2)."""

import shlex

import pytest
from autobahn.websocket.protocol import parseHttpHeader as parse_http_header

from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.wire.handshake import Accept, Policy, check, check_origin, parse_extensions, response
from wsserver.wire.http11 import Refusal, Request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

FIELDS = {
    "host": "example.com",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": KEY,
    "sec-websocket-version": "13",
}
"""The headers of the handshake in RFC 6455 section 1.2 that a server reads."""


def handshake(*more, method="GET", target="/", version=(1, 1), **fields):
    """Return a handshake. `fields` replaces headers, and omits those that are None. `more` adds headers."""
    replaced = {name.replace("_", "-"): value for name, value in fields.items()}
    headers = [(name, value) for name, value in {**FIELDS, **replaced}.items() if value is not None]
    fields = (*headers, *more)
    return Request(method, target, version, fields, 0, dict(fields))


def policy(*origins, loopback_only=False, **options):
    """Return the policy of a server with these options."""
    return Policy.of(Settings(origin=origins, **options), loopback_only=loopback_only)


def accepted(request, agreed=None):
    """Check a handshake and return its Accept; fail if it is refused."""
    accept = check(request, agreed or policy())
    assert isinstance(accept, Accept), accept
    return accept


def refused(request, agreed=None):
    """Check a handshake and return its Refusal; fail if it is accepted."""
    refusal = check(request, agreed or policy())
    assert isinstance(refusal, Refusal), refusal
    return refusal


class PolicyTests:
    """The policy that results from the server's options."""

    def test_allows_no_foreign_origin_subprotocol_or_compression_by_default(self):
        assert policy() == Policy(frozenset(), False, False, frozenset(), False)

    def test_takes_every_handshake_option_and_normalizes_origins(self):
        agreed = policy(
            "HTTPS://Example.COM",
            "null",
            allow_any_origin_insecure=True,
            subprotocol=("chat", "Chat"),
            compression="on",
            loopback_only=True,
        )
        assert agreed == Policy(
            origins=frozenset({"https://example.com:443", "null"}),
            any_origin=True,
            loopback_only=True,
            subprotocols=frozenset({"chat", "Chat"}),
            compression=True,
        )


class HandshakeTests:
    """RFC 6455 section 4.2.1: the parts of a handshake."""

    def test_accepts_the_handshake_of_the_rfc_without_extras(self):
        assert accepted(handshake()) == Accept(KEY, (), None, ())

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get"])
    def test_refuses_methods_other_than_get_with_405(self, method):
        """The Allow header names GET."""
        refusal = refused(handshake(method=method))
        assert (refusal.status, refusal.headers) == (405, (("Allow", "GET"),))
        assert refusal.reason == f"WebSocket handshake with the method {method}; expected GET"

    def test_refuses_http_1_0_with_400_and_names_proxy_http_version(self):
        """RFC 6455 requires HTTP/1.1. `proxy_http_version` is the nginx option that selects it."""
        refusal = refused(handshake(version=(1, 0)))
        reason = (
            "WebSocket handshake in HTTP/1.0; expected HTTP/1.1; if a proxy sent this request, nginx needs "
            "`proxy_http_version 1.1; "
        )
        assert refusal.status == 400
        assert refusal.reason.startswith(reason)

    def test_accepts_http_1_2(self):
        assert accepted(handshake(version=(1, 2))).key == KEY

    @pytest.mark.parametrize("length", ["1", "5", "65536", "00"])
    def test_refuses_a_handshake_with_a_body_with_400(self, length):
        refusal = refused(handshake(content_length=length))
        assert (refusal.status, refusal.reason) == (400, "WebSocket handshake with a body; expected no body")

    def test_accepts_a_content_length_of_zero(self):
        assert accepted(handshake(content_length="0")).key == KEY

    @pytest.mark.parametrize("value", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive"])
    def test_accepts_upgrade_in_the_connection_header_in_any_case_and_place(self, value):
        """Firefox sends `keep-alive, Upgrade`."""
        assert accepted(handshake(connection=value)).key == KEY

    @pytest.mark.parametrize("value", [None, "", "keep-alive", "close", "Upgraded", "not Upgrade", '"Upgrade"'])
    def test_refuses_a_connection_header_without_upgrade_with_400(self, value):
        """The reason names the likely cause, a proxy, and the nginx options."""
        refusal = refused(handshake(connection=value))
        assert refusal.status == 400
        assert refusal.reason == (
            "the Connection header does not contain Upgrade; a proxy may have removed it: nginx needs "
            "`proxy_http_version 1.1; "
            'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`'
        )

    def test_refuses_a_path_that_is_not_utf8_and_quotes_it(self):
        refusal = refused(handshake(target="/%ff"))
        assert (refusal.status, refusal.reason) == (400, "the path is not UTF-8: '/%ff'")

    def test_refuses_a_query_that_is_not_utf8_without_quoting_it(self):
        """Any parameter of a query may be a token."""
        refusal = refused(handshake(target="/?key=s3cret%ff"))
        reason = "the query is not UTF-8 or has more than a thousand parameters"
        assert (refusal.status, refusal.reason) == (400, reason)


class VersionTests:
    """RFC 6455 section 4.4: the version of the protocol."""

    def test_refuses_a_missing_version_with_400_and_sends_version_13(self):
        refusal = refused(handshake(sec_websocket_version=None))
        assert (refusal.status, refusal.headers) == (400, (("Sec-WebSocket-Version", "13"),))
        assert refusal.reason == "missing Sec-WebSocket-Version header; expected 13"

    @pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "25", "", "013", "+13", "13.0", "13, 8", "x"])
    def test_refuses_any_other_version_with_426_and_sends_version_13(self, version):
        refusal = refused(handshake(sec_websocket_version=version))
        assert refusal.status == 426
        assert dict(refusal.headers) == {
            "Sec-WebSocket-Version": "13",
            "Upgrade": "websocket",
            "Connection": "Upgrade, close",
        }

    def test_refuses_two_version_headers_with_426(self):
        """The server refuses two headers even if one of them names the supported version 13."""
        assert refused(handshake(("sec-websocket-version", "8"))).status == 426

    def test_the_reason_quotes_the_requested_versions(self):
        request = handshake(("sec-websocket-version", "7"), sec_websocket_version="8")
        assert refused(request).reason == "Sec-WebSocket-Version '8, 7' is not supported; expected 13 (RFC 6455)"


class KeyTests:
    """RFC 6455 section 4.2.1, point 5: the key is 16 bytes in base64."""

    @pytest.mark.parametrize("key", [KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "/+/+/+/+/+/+/+/+/+/+/w=="])
    def test_accepts_a_key_of_16_bytes_unchanged(self, key):
        assert accepted(handshake(sec_websocket_key=key)).key == key

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "x",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAA AAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAA_-==",
            "====AAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAA==AA",
            "AAAAAAAAAAAAAAAAAAAA\xfcA==",
            KEY + ", " + KEY,
        ],
    )
    def test_refuses_an_invalid_key_with_400_without_quoting_it(self, key):
        refusal = refused(handshake(sec_websocket_key=key))
        assert refusal.status == 400
        assert refusal.reason == "invalid Sec-WebSocket-Key; expected 16 bytes in base64"

    def test_refuses_a_missing_key_with_400(self):
        refusal = refused(handshake(sec_websocket_key=None))
        assert (refusal.status, refusal.reason) == (400, "missing Sec-WebSocket-Key header")

    def test_refuses_two_equal_keys_with_400(self):
        refusal = refused(handshake(("sec-websocket-key", KEY)))
        assert (refusal.status, refusal.reason) == (400, "more than one Sec-WebSocket-Key header")


class ResponseTests:
    """RFC 6455 section 4.2.2, point 5: the response that completes the handshake."""

    def test_answers_the_key_of_the_rfc_with_the_value_of_the_rfc(self):
        """The key and the value are those of RFC 6455 section 1.3."""
        assert response(KEY) == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def test_writes_subprotocol_then_extensions_then_extra_headers(self):
        written = response(KEY, "chat", "permessage-deflate", {"X-One": "1", "X-Two": ["2", "\xfc"]})
        head, _, more = written.partition(b"xOo=\r\n")
        assert head + b"xOo=\r\n\r\n" == response(KEY)
        assert more == (
            b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            b"X-One: 1\r\nX-Two: 2\r\nX-Two: \xfc\r\n\r\n"
        )

    @pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"X": "a\rb"}, {"X\n": "a"}, {"X": ["a", "\r\n"]}, {"X": "漢"}])
    def test_raises_value_error_for_a_header_with_a_line_end_or_outside_latin_1(self, headers):
        """A line end in a header of an endpoint would start another header."""
        with pytest.raises(ValueError, match=r"control character in the response header|latin-1"):
            response(KEY, headers=headers)

    @pytest.mark.parametrize("byte", "\x00\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x7f\x85")
    def test_raises_value_error_for_a_header_that_autobahn_would_split(self, byte):
        """0x85 is valid in a request: an endpoint that repeats such a value must not let a client forge a header."""
        with pytest.raises(ValueError, match="control character in the response header 'X-Name'"):
            response(KEY, headers={"X-Name": f"a{byte}Set-Cookie: admin=1"})

    def test_autobahn_reads_every_other_byte_as_it_was_written(self):
        """Autobahn's own parser finds exactly the headers that were given."""
        accepted_bytes = [byte for byte in range(256) if byte not in {*range(9), *range(10, 32), 0x7F, 0x85}]
        for byte in accepted_bytes:
            written = response(KEY, headers={"X-Name": f"a{chr(byte)}b"})
            _, headers, counts = parse_http_header(written)
            assert headers["x-name"] == f"a{chr(byte)}b"
            assert set(counts) == {"upgrade", "connection", "sec-websocket-accept", "x-name"}


class SubprotocolTests:
    """RFC 6455 section 1.9: the application protocol over the WebSocket."""

    @pytest.mark.parametrize(
        ("offer", "known", "chosen"),
        [
            (None, (), None),
            (None, ("chat",), None),
            ("chat", (), None),
            ("chat", ("chat",), "chat"),
            ("chat", ("talk",), None),
            ("chat", ("Chat",), None),
            ("a, b, c", ("c", "b"), "b"),
            ("b, a", ("a", "b"), "b"),
            ("c,b,a", ("a", "b"), "b"),
            ("v1.chat.example.com", ("v1.chat.example.com",), "v1.chat.example.com"),
        ],
    )
    def test_agrees_to_the_first_offer_that_the_server_knows(self, offer, known, chosen):
        """If the server knows none of the offered subprotocols, the handshake is accepted without one."""
        accept = accepted(handshake(sec_websocket_protocol=offer), policy(subprotocol=known))
        assert accept.subprotocol == chosen

    @pytest.mark.parametrize(
        ("offer", "offered"),
        [
            ("a, b", ("a", "b")),
            ("a,,b,", ("a", "b")),
            ("", ()),
            (" , ", ()),
            ("a, A", ("a", "A")),
            ("!#$&+", ("!#$&+",)),
        ],
    )
    def test_keeps_the_offers_in_the_order_of_the_client(self, offer, offered):
        assert accepted(handshake(sec_websocket_protocol=offer)).offered == offered

    def test_joins_the_offers_of_two_headers(self):
        request = handshake(("sec-websocket-protocol", "c, a"), sec_websocket_protocol="b")
        accept = accepted(request, policy(subprotocol=("a", "c")))
        assert (accept.offered, accept.subprotocol) == (("b", "c", "a"), "c")

    @pytest.mark.parametrize("offer", ["a, a", "a b", "a/b", "a;b", 'a, "b"', "a@b", "ü", "(a)", "a=b", "a\tb"])
    def test_refuses_a_repeated_name_or_a_non_token_with_400(self, offer):
        refusal = refused(handshake(sec_websocket_protocol=offer), policy(subprotocol=("a",)))
        assert refusal.status == 400
        assert refusal.reason == "invalid Sec-WebSocket-Protocol; expected unique subprotocol names"

    def test_refuses_a_name_repeated_in_a_second_header_with_400(self):
        refusal = refused(handshake(("sec-websocket-protocol", "a"), sec_websocket_protocol="b,a"))
        reason = "invalid Sec-WebSocket-Protocol; expected unique subprotocol names"
        assert (refusal.status, refusal.reason) == (400, reason)


class ExtensionGrammarTests:
    """RFC 6455 section 9.1: the grammar of extensions."""

    @pytest.mark.parametrize(
        ("text", "extensions"),
        [
            ("", []),
            (" , ,", []),
            ("foo", [("foo", {})]),
            ("foo, bar", [("foo", {}), ("bar", {})]),
            ("foo,,bar,", [("foo", {}), ("bar", {})]),
            ("Foo; BAR", [("foo", {"bar": [True]})]),
            ("foo; a=1; b", [("foo", {"a": ["1"], "b": [True]})]),
            ("foo;a=1;a=2;a", [("foo", {"a": ["1", "2", True]})]),
            ('foo; a="1"', [("foo", {"a": ["1"]})]),
            ("foo; a = 1", [("foo", {"a": ["1"]})]),
            ("\tfoo \t;\ta\t", [("foo", {"a": [True]})]),
            ("foo; a='1'", [("foo", {"a": ["'1'"]})]),
            ("foo; a=X", [("foo", {"a": ["X"]})]),
            ("foo; a=1, foo", [("foo", {"a": ["1"]}), ("foo", {})]),
            ("x-webkit-deflate-frame", [("x-webkit-deflate-frame", {})]),
            # "quoted-string ... after quoted-string unescaping MUST conform to the 'token' ABNF".
            (r'foo; a="1\5"', [("foo", {"a": ["15"]})]),
        ],
    )
    def test_parses_names_and_parameters_without_regard_to_case(self, text, extensions):
        """The case of a value is kept."""
        assert parse_extensions(text) == extensions

    @pytest.mark.parametrize(
        "text",
        [
            ";",
            "foo;",
            "foo;;a",
            "; a",
            "foo bar",
            "foo; a b",
            "foo; a=",
            "foo; =1",
            "foo; a==1",
            'foo; a=""',
            'foo; a="',
            'foo; a="1',
            'foo; a="1 2"',
            'foo; a="1,2"',
            'foo; a="1;2"',
            "foo=1",
            '"foo"',
            "foo; (a)",
            "ü",
            "foo; a=ü",
        ],
    )
    def test_returns_none_for_a_header_that_breaks_the_grammar(self, text):
        assert parse_extensions(text) is None

    def test_refuses_a_header_that_breaks_the_grammar_with_400(self):
        """The server checks the grammar even if it agrees to no extension."""
        for compression in ("on", "off"):
            refusal = refused(handshake(sec_websocket_extensions="foo;"), policy(compression=compression))
            assert (refusal.status, refusal.reason) == (400, "invalid Sec-WebSocket-Extensions 'foo;'")


DEFLATE = "permessage-deflate"


class DeflateTests:
    """RFC 7692 section 7.1: acceptable offers of permessage-deflate."""

    def extensions(self, *values, compression="on"):
        """Return the acceptable offers of a handshake with these extension headers."""
        headers = [("sec-websocket-extensions", value) for value in values]
        return accepted(handshake(*headers), policy(compression=compression)).extensions

    @pytest.mark.parametrize(
        ("parameters", "read"),
        [
            ("", {}),
            ("; client_max_window_bits", {"client_max_window_bits": [True]}),
            *((f"; client_max_window_bits={n}", {"client_max_window_bits": [str(n)]}) for n in range(8, 16)),
            *((f"; server_max_window_bits={n}", {"server_max_window_bits": [str(n)]}) for n in range(9, 16)),
            ('; client_max_window_bits="10"', {"client_max_window_bits": ["10"]}),
            ("; server_no_context_takeover", {"server_no_context_takeover": [True]}),
            ("; client_no_context_takeover", {"client_no_context_takeover": [True]}),
            ("; Client_Max_Window_Bits", {"client_max_window_bits": [True]}),
            (
                "; server_max_window_bits=10; client_max_window_bits; server_no_context_takeover",
                {
                    "server_max_window_bits": ["10"],
                    "client_max_window_bits": [True],
                    "server_no_context_takeover": [True],
                },
            ),
        ],
    )
    def test_accepts_an_offer_with_valid_parameters(self, parameters, read):
        assert self.extensions(DEFLATE + parameters) == ((DEFLATE, read),)

    @pytest.mark.parametrize(
        "parameters",
        [
            "; unknown",
            "; unknown=1",
            "; client_max_window_bits; client_max_window_bits",
            "; client_max_window_bits=10; client_max_window_bits=10",
            "; server_no_context_takeover; server_no_context_takeover",
            "; server_no_context_takeover; SERVER_NO_CONTEXT_TAKEOVER",
            "; server_no_context_takeover=1",
            "; server_no_context_takeover=true",
            "; client_no_context_takeover=0",
            "; server_max_window_bits",
            "; server_max_window_bits=7",
            # RFC 7692 allows 8, but zlib cannot deflate with it.
            "; server_max_window_bits=8",
            "; server_max_window_bits=16",
            "; server_max_window_bits=09",
            '; server_max_window_bits="010"',
            "; client_max_window_bits=7",
            "; client_max_window_bits=16",
            "; client_max_window_bits=08",
            "; client_max_window_bits=010",
            "; client_max_window_bits=+10",
            "; client_max_window_bits=10.0",
            "; client_max_window_bits=0",
            "; client_max_window_bits=x",
            "; server_max_window_bits=10; unknown",
        ],
    )
    def test_declines_an_offer_with_invalid_parameters(self, parameters):
        """The handshake is accepted without the extension."""
        assert self.extensions(DEFLATE + parameters) == ()

    @pytest.mark.parametrize("name", ["x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflates", "foo"])
    def test_declines_an_unknown_extension(self, name):
        assert self.extensions(name) == ()

    def test_keeps_the_acceptable_offers_in_the_order_of_the_client(self):
        offers = (f"{DEFLATE}; server_max_window_bits=8", f"{DEFLATE}; unknown, foo, {DEFLATE}", f"{DEFLATE}; unknown")
        assert self.extensions(*offers) == ((DEFLATE, {}),)
        assert self.extensions(f"{DEFLATE}; client_max_window_bits, {DEFLATE}") == (
            (DEFLATE, {"client_max_window_bits": [True]}),
            (DEFLATE, {}),
        )

    def test_declines_every_offer_without_compression(self):
        assert self.extensions(DEFLATE, compression="off") == ()


OWN = policy()
LOOPBACK = policy(loopback_only=True)
NAMED = policy("https://app.example.org", "http://dev.example.org:3000", "https://[2001:db8::5]")

SENT_BY_PROGRAMS = {
    # arduinoWebSockets on ESP8266 and ESP32, Android WebViews, Cordova.
    "file://": "file://",
    "file:///": "file://",
    "FILE://": "file:///",
    "": "empty",
    "null": "null",
    # Electron, Capacitor, Ionic, Tauri, browser extensions, Visual Studio Code.
    "app://localhost": "app://localhost",
    "app://-": "app://-",
    "capacitor://localhost": "capacitor://localhost",
    "ionic://localhost": "ionic://localhost",
    "tauri://localhost": "tauri://localhost",
    "http://tauri.localhost": "http://tauri.localhost",
    "chrome-extension://aohghmighlieiainnegkcijnfilokake": "chrome-extension://aohghmighlieiainnegkcijnfilokake",
    "moz-extension://5c1b4a0e-2d0f-4f6e-9d0e-0f4f1a0c7b11": "moz-extension://5c1b4a0e-2d0f-4f6e-9d0e-0f4f1a0c7b11",
    "safari-web-extension://E9E2B8F0-AA11": "safari-web-extension://e9e2b8f0-aa11",
    "vscode-webview://1kd3b0q2v5": "vscode-webview://1kd3b0q2v5",
    "vscode-file://vscode-app": "vscode-file://vscode-app",
    "content://": "content://",
    "resource://android": "resource://android",
    "com.example.app://main": "com.example.app://main",
}
"""The Origin header that programs send -> the value of the option --origin that allows it."""

# Origin, Host, policy, whether the page may connect.
ORIGINS = [
    # The server's own host.
    ("http://example.com", "example.com", OWN, True),
    ("https://example.com", "example.com", OWN, True),
    ("HTTP://EXAMPLE.COM", "example.com", OWN, True),
    ("http://example.com", "EXAMPLE.com", OWN, True),
    ("http://example.com:80", "example.com", OWN, True),
    ("http://example.com", "example.com:80", OWN, True),
    ("http://example.com", "example.com:", OWN, True),
    ("https://example.com", "example.com:443", OWN, True),
    ("https://example.com:443", "example.com", OWN, True),
    ("http://example.com:8080", "example.com:8080", OWN, True),
    ("https://example.com:8080", "example.com:8080", OWN, True),
    ("http://[2001:db8::1]", "[2001:db8::1]", OWN, True),
    ("http://[2001:DB8::1]:8080", "[2001:db8::1]:8080", OWN, True),
    ("http://192.0.2.1:8080", "192.0.2.1:8080", OWN, True),
    ("http://example.com.", "example.com.", OWN, True),
    # Another host or port.
    ("http://example.com", "example.com:8080", OWN, False),
    ("http://example.com:8080", "example.com", OWN, False),
    ("http://example.com:8081", "example.com:8080", OWN, False),
    ("http://example.com", "example.com:443", OWN, False),
    ("https://example.com", "example.com:80", OWN, False),
    ("http://example.com.", "example.com", OWN, False),
    ("http://example.com", "example.com.", OWN, False),
    ("http://other.example", "example.com", OWN, False),
    ("http://sub.example.com", "example.com", OWN, False),
    ("http://example.com", "sub.example.com", OWN, False),
    ("http://[2001:db8::2]", "[2001:db8::1]", OWN, False),
    ("http://192.0.2.11", "192.0.2.1", OWN, False),
    ("http://example.com", "", OWN, False),
    # Prefixes, suffixes and look-alikes.
    ("http://example.com.evil.net", "example.com", OWN, False),
    ("http://evilexample.com", "example.com", OWN, False),
    ("http://example.co", "example.com", OWN, False),
    ("http://example.com-evil.net", "example.com", OWN, False),
    ("http://example.comm", "example.com", OWN, False),
    ("http://exampleXcom", "example.com", OWN, False),
    ("http://ex\xe4mple.com", "example.com", OWN, False),
    ("http://xn--exmple-cua.com", "example.com", OWN, False),
    ("http://evil.net:80.example.com", "example.com", OWN, False),
    # More or less than an origin.
    ("http://example.com/", "example.com", OWN, False),
    ("http://example.com/path", "example.com", OWN, False),
    ("http://example.com?x", "example.com", OWN, False),
    ("http://example.com#x", "example.com", OWN, False),
    ("http://user@example.com", "example.com", OWN, False),
    ("http://example.com@evil.net", "example.com", OWN, False),
    ("http://evil.net\\@example.com", "example.com", OWN, False),
    ("http://evil.net http://example.com", "example.com", OWN, False),
    ("http://example.com, http://evil.net", "example.com", OWN, False),
    ("http://example.com:", "example.com", OWN, False),
    ("//example.com", "example.com", OWN, False),
    ("example.com", "example.com", OWN, False),
    ("", "example.com", OWN, False),
    ("*", "example.com", OWN, False),
    # Origins that are not web pages.
    ("null", "example.com", OWN, False),
    ("null", "null", OWN, False),
    ("file://", "example.com", OWN, False),
    ("file://example.com", "example.com", OWN, False),
    ("ftp://example.com", "example.com", OWN, False),
    ("ws://example.com", "example.com", OWN, False),
    ("chrome-extension://example.com", "example.com", OWN, False),
    ("javascript://example.com", "example.com", OWN, False),
    # Loopback origins, on a server that listens on loopback addresses only.
    ("http://localhost:3000", "localhost:8080", LOOPBACK, True),
    ("https://localhost:3000", "localhost:8080", LOOPBACK, True),
    ("http://LOCALHOST", "127.0.0.1:8080", LOOPBACK, True),
    ("http://app.localhost:3000", "localhost:8080", LOOPBACK, True),
    ("http://127.0.0.1:3000", "localhost:8080", LOOPBACK, True),
    ("http://127.9.9.9", "localhost:8080", LOOPBACK, True),
    ("http://[::1]:3000", "localhost:8080", LOOPBACK, True),
    ("http://localhost.evil.net", "localhost:8080", LOOPBACK, False),
    ("http://evillocalhost", "localhost:8080", LOOPBACK, False),
    ("http://localhost@evil.net", "localhost:8080", LOOPBACK, False),
    ("http://127.0.0.1.evil.net", "localhost:8080", LOOPBACK, False),
    ("http://127.1", "localhost:8080", LOOPBACK, False),
    ("http://0.0.0.0", "localhost:8080", LOOPBACK, False),
    ("http://128.0.0.1", "localhost:8080", LOOPBACK, False),
    ("http://[::2]", "localhost:8080", LOOPBACK, False),
    ("http://10.0.0.1", "localhost:8080", LOOPBACK, False),
    ("https://example.com", "localhost:8080", LOOPBACK, False),
    ("file://localhost", "localhost:8080", LOOPBACK, False),
    ("chrome-extension://localhost", "localhost:8080", LOOPBACK, False),
    ("null", "localhost:8080", LOOPBACK, False),
    # The same on a server that other machines can reach.
    ("http://localhost:3000", "localhost:8080", OWN, False),
    ("http://127.0.0.1:3000", "127.0.0.1:8080", OWN, False),
    ("http://[::1]:3000", "[::1]:8080", OWN, False),
    ("http://localhost:8080", "localhost:8080", OWN, True),
    # Named origins, exactly.
    ("https://app.example.org", "example.com", NAMED, True),
    ("HTTPS://APP.example.org:443", "example.com", NAMED, True),
    ("http://dev.example.org:3000", "example.com", NAMED, True),
    ("https://[2001:DB8::5]", "example.com", NAMED, True),
    ("http://example.com", "example.com", NAMED, True),
    ("http://app.example.org", "example.com", NAMED, False),
    ("https://app.example.org:444", "example.com", NAMED, False),
    ("https://app.example.org.", "example.com", NAMED, False),
    ("https://x.app.example.org", "example.com", NAMED, False),
    ("https://app.example.org.evil.net", "example.com", NAMED, False),
    ("https://dev.example.org:3000", "example.com", NAMED, False),
    ("http://dev.example.org", "example.com", NAMED, False),
    ("wss://app.example.org", "example.com", NAMED, False),
    ("null", "example.com", NAMED, False),
    ("null", "example.com", policy("null"), True),
    ("Null", "example.com", policy("NULL"), True),
    ("chrome-extension://abc", "example.com", policy("chrome-extension://abc"), True),
    ("chrome-extension://abcd", "example.com", policy("chrome-extension://abc"), False),
    # Origins of programs other than browsers.
    *[
        case
        for header, option in SENT_BY_PROGRAMS.items()
        for case in (
            (header, "example.com", OWN, False),
            (header, "localhost:8080", LOOPBACK, header == "http://tauri.localhost"),
            (header, "example.com", policy(option), True),
            (header + "x", "example.com", policy(option), False),
        )
    ],
    ("empty", "example.com", policy("empty"), False),
    ("file://x", "example.com", policy("file://"), False),
    ("file:///etc", "example.com", policy("file://"), False),
    ("", "example.com", policy("null"), False),
    ("null", "example.com", policy("empty"), False),
    ("content://", "example.com", policy("file://"), False),
    # Every origin.
    ("https://evil.net", "example.com", policy(allow_any_origin_insecure=True), True),
    ("null", "example.com", policy(allow_any_origin_insecure=True), True),
]


class OriginTests:
    """RFC 6455 section 10.2: the origins that may connect."""

    @pytest.mark.parametrize(("origin", "host", "agreed", "may"), ORIGINS)
    def test_allows_own_loopback_and_named_origins_and_refuses_others_with_403(self, origin, host, agreed, may):
        """Loopback origins are allowed only if the server listens on loopback addresses alone."""
        refusal = check_origin([origin], host, agreed)
        assert refusal is None if may else refusal.status == 403

    @pytest.mark.parametrize("agreed", [OWN, LOOPBACK, NAMED])
    def test_allows_a_request_without_an_origin_header(self, agreed):
        """Browsers always send Origin; other clients need not."""
        assert check_origin([], "example.com", agreed) is None

    @pytest.mark.parametrize("second", ["http://example.com", "http://evil.net", ""])
    def test_refuses_two_origin_headers_with_403(self, second):
        """The server refuses two headers even if both origins are allowed."""
        assert check_origin(["http://example.com", second], "example.com", OWN).status == 403

    def test_ignores_sec_websocket_origin(self):
        """The drafts before RFC 6455 used this header."""
        assert accepted(handshake(sec_websocket_origin="http://evil.net")).key == KEY

    @pytest.mark.parametrize(
        ("origin", "reason"),
        [
            (
                "http://evil.net",
                "origin 'http://evil.net' is not allowed; to allow it, start the server with --origin {}",
            ),
            ("file://", "origin 'file://' is not allowed; to allow it, start the server with --origin {}"),
            ("null", "origin 'null' is not allowed; to allow it, start the server with --origin {}"),
            ("http://[::1]", "origin 'http://[::1]' is not allowed; to allow it, start the server with --origin {}"),
            ("app://a$b;c", "origin 'app://a$b;c' is not allowed; to allow it, start the server with --origin {}"),
        ],
    )
    def test_refusal_says_which_option_allows_the_origin(self, origin, reason):
        """The value is quoted for a shell, and the option accepts it."""
        refusal = check_origin([origin], "example.com", OWN)
        assert (refusal.status, refusal.reason) == (403, reason.format(shlex.quote(origin)))
        [typed] = shlex.split(refusal.reason.partition("--origin ")[2])
        assert check_origin([origin], "example.com", policy(*Settings.load({"origin": [typed]}).origin)) is None

    def test_refusal_writes_the_empty_origin_as_the_word_empty(self):
        """An empty value is easily lost in a shell or a file."""
        refusal = check_origin([""], "example.com", OWN)
        assert refusal.reason == "origin '' is not allowed; to allow it, start the server with --origin empty"

    @pytest.mark.parametrize(
        ("origins", "reason"),
        [
            (["x\x1b"], r"invalid Origin header 'x\x1b'; expected an origin such as https://example.com"),
            (["a", "b"], "more than one Origin header"),
            (["http://b\xfc"], r"origin 'http://b\xfc' is not allowed; to allow it, see the server's option --origin"),
        ],
    )
    def test_refusal_suggests_no_value_for_an_unusable_origin(self, origins, reason):
        """If an origin is invalid, is not ASCII, or comes with others, the refusal suggests no value for `--origin`."""
        assert check_origin(origins, "example.com", OWN).reason == reason

    def test_refuses_the_handshake_of_a_foreign_origin_with_403(self):
        """A handshake from the server's own origin is accepted."""
        assert refused(handshake(origin="http://evil.net")).status == 403
        assert accepted(handshake(origin="http://example.com")).key == KEY

    @pytest.mark.parametrize("text", ["https://example.com", "app://x", "null", "", "empty"])
    def test_adds_every_accepted_option_value_to_the_policy(self, text):
        """A valid option value must not be dropped silently."""
        settings = Settings.load({"origin": [text]})
        assert len(Policy.of(settings, loopback_only=False).origins) == 1

    @pytest.mark.parametrize("text", ["http://a\\b", "http://ä.example"])
    def test_refuses_an_option_value_that_is_not_an_origin(self, text):
        with pytest.raises(SettingError, match="origin"):
            Settings.load({"origin": [text]})
