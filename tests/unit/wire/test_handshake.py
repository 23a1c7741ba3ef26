"""Tests for wsserver/wire/handshake.py: which requests for WebSocket are accepted (RFC 6455 section 4.2)."""

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
"""The handshake of RFC 6455 section 1.2, as far as a server looks at it."""


def handshake(*more, method="GET", target="/", version=(1, 1), **fields):
    """Make a handshake; `fields` replace its headers, None leaves one out, `more` adds any."""
    replaced = {name.replace("_", "-"): value for name, value in fields.items()}
    headers = [(name, value) for name, value in {**FIELDS, **replaced}.items() if value is not None]
    return Request(method, target, version, (*headers, *more), 0)


def policy(*origins, loopback_only=False, **options):
    """Make what a server with these options agrees to."""
    return Policy.of(Settings(origin=origins, **options), loopback_only=loopback_only)


def accepted(request, agreed=None):
    """Check a handshake that has to be accepted."""
    accept = check(request, agreed or policy())
    assert isinstance(accept, Accept), accept
    return accept


def refused(request, agreed=None):
    """Check a handshake that has to be refused."""
    refusal = check(request, agreed or policy())
    assert isinstance(refusal, Refusal), refusal
    return refusal


class PolicyTests:
    """What a server agrees to, by its options."""

    def test_defaults(self):
        """By default no foreign origin, no subprotocol and no compression is agreed to."""
        assert policy() == Policy(frozenset(), False, False, frozenset(), False)

    def test_options(self):
        """Each option about the handshake counts; origins are brought into their one spelling."""
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
    """RFC 6455 section 4.2.1: what a handshake consists of."""

    def test_accept(self):
        """The handshake of the RFC is accepted, with its key and nothing extra."""
        assert accepted(handshake()) == Accept(KEY, (), None, ())

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get"])
    def test_method(self, method):
        """Any other method than GET is refused with 405, and GET is named."""
        refusal = refused(handshake(method=method))
        assert (refusal.status, refusal.headers) == (405, (("Allow", "GET"),))
        assert refusal.reason == f"WebSocket handshake with the method {method}; expected GET"

    def test_http_1_0(self):
        """HTTP/1.0 cannot be upgraded."""
        refusal = refused(handshake(version=(1, 0)))
        reason = (
            "WebSocket handshake in HTTP/1.0; expected HTTP/1.1; if a proxy sent this request, nginx needs "
            "`proxy_http_version 1.1; "
        )
        assert refusal.status == 400
        assert refusal.reason.startswith(reason)

    def test_http_1_2(self):
        """A later HTTP/1 can."""
        assert accepted(handshake(version=(1, 2))).key == KEY

    @pytest.mark.parametrize("length", ["1", "5", "65536", "00"])
    def test_body(self, length):
        """A handshake with a body is refused."""
        refusal = refused(handshake(content_length=length))
        assert (refusal.status, refusal.reason) == (400, "WebSocket handshake with a body; expected no body")

    def test_empty_body(self):
        """A handshake that says that it has no body is fine."""
        assert accepted(handshake(content_length="0")).key == KEY

    @pytest.mark.parametrize("value", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive"])
    def test_connection(self, value):
        """Connection names Upgrade in any case and place, as Firefox does."""
        assert accepted(handshake(connection=value)).key == KEY

    @pytest.mark.parametrize("value", [None, "", "keep-alive", "close", "Upgraded", "not Upgrade", '"Upgrade"'])
    def test_no_connection(self, value):
        """Without it the handshake is refused, and the likely cause is told."""
        refusal = refused(handshake(connection=value))
        assert refusal.status == 400
        assert refusal.reason == (
            "the Connection header does not contain Upgrade; a proxy may have removed it: nginx needs "
            "`proxy_http_version 1.1; "
            'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`'
        )

    def test_path(self):
        """A path that is not UTF-8 is refused and shown."""
        refusal = refused(handshake(target="/%ff"))
        assert (refusal.status, refusal.reason) == (400, "the path is not UTF-8: '/%ff'")

    def test_refuses_a_query_that_is_not_utf8_without_quoting_it(self):
        """A query may hold a token under any name."""
        refusal = refused(handshake(target="/?key=s3cret%ff"))
        reason = "the query is not UTF-8 or has more than a thousand parameters"
        assert (refusal.status, refusal.reason) == (400, reason)


class VersionTests:
    """RFC 6455 section 4.4: the version of the protocol."""

    def test_missing(self):
        """A handshake without a version is refused, and told the one that is spoken."""
        refusal = refused(handshake(sec_websocket_version=None))
        assert (refusal.status, refusal.headers) == (400, (("Sec-WebSocket-Version", "13"),))
        assert refusal.reason == "missing Sec-WebSocket-Version header; expected 13"

    @pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "25", "", "013", "+13", "13.0", "13, 8", "x"])
    def test_other(self, version):
        """Any other version is refused with 426, the version that is spoken, and what to upgrade to."""
        refusal = refused(handshake(sec_websocket_version=version))
        assert refusal.status == 426
        assert dict(refusal.headers) == {
            "Sec-WebSocket-Version": "13",
            "Upgrade": "websocket",
            "Connection": "Upgrade, close",
        }

    def test_two(self):
        """Two versions are no version."""
        assert refused(handshake(("sec-websocket-version", "8"))).status == 426

    def test_reason(self):
        """The refusal quotes the version that was asked for."""
        request = handshake(("sec-websocket-version", "7"), sec_websocket_version="8")
        assert refused(request).reason == "Sec-WebSocket-Version '8, 7' is not supported; expected 13 (RFC 6455)"


class KeyTests:
    """RFC 6455 section 4.2.1, point 5: the key is 16 bytes in base64."""

    @pytest.mark.parametrize("key", [KEY, "AAAAAAAAAAAAAAAAAAAAAA==", "/+/+/+/+/+/+/+/+/+/+/w=="])
    def test_key(self, key):
        """A right key is taken as it is."""
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
    def test_bad(self, key):
        """Any other key is refused."""
        refusal = refused(handshake(sec_websocket_key=key))
        assert refusal.status == 400
        assert refusal.reason == "invalid Sec-WebSocket-Key; expected 16 bytes in base64"

    def test_missing(self):
        """A handshake without a key is refused."""
        refusal = refused(handshake(sec_websocket_key=None))
        assert (refusal.status, refusal.reason) == (400, "missing Sec-WebSocket-Key header")

    def test_two(self):
        """A handshake with two keys is refused, even where they are equal."""
        refusal = refused(handshake(("sec-websocket-key", KEY)))
        assert (refusal.status, refusal.reason) == (400, "more than one Sec-WebSocket-Key header")


class ResponseTests:
    """RFC 6455 section 4.2.2, point 5: the response that completes the handshake."""

    def test_accept(self):
        """The key of section 1.3 is answered as there."""
        assert response(KEY) == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def test_all(self):
        """What was agreed to, and what else is to be sent, follows in that order."""
        written = response(KEY, "chat", "permessage-deflate", {"X-One": "1", "X-Two": ["2", "\xfc"]})
        head, _, more = written.partition(b"xOo=\r\n")
        assert head + b"xOo=\r\n\r\n" == response(KEY)
        assert more == (
            b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            b"X-One: 1\r\nX-Two: 2\r\nX-Two: \xfc\r\n\r\n"
        )

    @pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"X": "a\rb"}, {"X\n": "a"}, {"X": ["a", "\r\n"]}, {"X": "漢"}])
    def test_bad(self, headers):
        """No header of an endpoint can begin another line."""
        with pytest.raises(ValueError, match=r"control character in the response header|latin-1"):
            response(KEY, headers=headers)

    @pytest.mark.parametrize("byte", "\x00\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x7f\x85")
    def test_refuses_a_response_header_that_autobahn_would_split(self, byte):
        """An endpoint that repeats a value of the request, where 0x85 is valid, gives no client a header to forge."""
        with pytest.raises(ValueError, match="control character in the response header 'X-Name'"):
            response(KEY, headers={"X-Name": f"a{byte}Set-Cookie: admin=1"})

    def test_autobahn_reads_every_other_response_as_it_was_written(self):
        """What is accepted has one meaning for the client: Autobahn's own parser finds exactly the headers given."""
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
    def test_choice(self, offer, known, chosen):
        """The first that the client names and the server knows is agreed to; none if there is none."""
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
    def test_offered(self, offer, offered):
        """The client's offers are kept, in its order."""
        assert accepted(handshake(sec_websocket_protocol=offer)).offered == offered

    def test_two_headers(self):
        """Offers may come in several headers."""
        request = handshake(("sec-websocket-protocol", "c, a"), sec_websocket_protocol="b")
        accept = accepted(request, policy(subprotocol=("a", "c")))
        assert (accept.offered, accept.subprotocol) == (("b", "c", "a"), "c")

    @pytest.mark.parametrize("offer", ["a, a", "a b", "a/b", "a;b", 'a, "b"', "a@b", "ü", "(a)", "a=b", "a\tb"])
    def test_bad(self, offer):
        """Names that are given twice or are no tokens are refused."""
        refusal = refused(handshake(sec_websocket_protocol=offer), policy(subprotocol=("a",)))
        assert refusal.status == 400
        assert refusal.reason == "invalid Sec-WebSocket-Protocol; expected unique subprotocol names"

    def test_twice_in_two_headers(self):
        """A name given twice is refused also where it stands in two headers."""
        refusal = refused(handshake(("sec-websocket-protocol", "a"), sec_websocket_protocol="b,a"))
        reason = "invalid Sec-WebSocket-Protocol; expected unique subprotocol names"
        assert (refusal.status, refusal.reason) == (400, reason)


class ExtensionGrammarTests:
    """RFC 6455 section 9.1: how extensions are written."""

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
    def test_good(self, text, extensions):
        """Names and parameters are told apart; their case does not matter, that of values does."""
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
    def test_bad(self, text):
        """Whatever breaks the grammar is no list of extensions."""
        assert parse_extensions(text) is None

    def test_refusal(self):
        """A handshake whose extensions break the grammar is refused, whether or not any would be agreed to."""
        for compression in ("on", "off"):
            refusal = refused(handshake(sec_websocket_extensions="foo;"), policy(compression=compression))
            assert (refusal.status, refusal.reason) == (400, "invalid Sec-WebSocket-Extensions 'foo;'")


DEFLATE = "permessage-deflate"


class DeflateTests:
    """RFC 7692 section 7.1: which offers of permessage-deflate can be agreed to."""

    def extensions(self, *values, compression="on"):
        """Make a handshake with extension headers and tell which offers would be agreed to."""
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
    def test_agreed(self, parameters, read):
        """An offer that follows the rules can be agreed to."""
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
    def test_declined(self, parameters):
        """An offer that breaks the rules is declined; the handshake goes on without it."""
        assert self.extensions(DEFLATE + parameters) == ()

    @pytest.mark.parametrize("name", ["x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflates", "foo"])
    def test_unknown_extension(self, name):
        """An extension that the server does not know is declined."""
        assert self.extensions(name) == ()

    def test_fallback(self):
        """Of several offers those that can be agreed to remain, in the client's order."""
        offers = (f"{DEFLATE}; server_max_window_bits=8", f"{DEFLATE}; unknown, foo, {DEFLATE}", f"{DEFLATE}; unknown")
        assert self.extensions(*offers) == ((DEFLATE, {}),)
        assert self.extensions(f"{DEFLATE}; client_max_window_bits, {DEFLATE}") == (
            (DEFLATE, {"client_max_window_bits": [True]}),
            (DEFLATE, {}),
        )

    def test_off(self):
        """A server without compression declines every offer."""
        assert self.extensions(DEFLATE, compression="off") == ()


OWN = policy()
LOOPBACK = policy(loopback_only=True)
NAMED = policy("https://app.example.org", "http://dev.example.org:3000", "https://[2001:db8::5]")

# Origin, Host, what the server agrees to, whether the page may connect.
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
"""The Origin header that programs send -> what an operator writes."""

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
    # No web page.
    ("null", "example.com", OWN, False),
    ("null", "null", OWN, False),
    ("file://", "example.com", OWN, False),
    ("file://example.com", "example.com", OWN, False),
    ("ftp://example.com", "example.com", OWN, False),
    ("ws://example.com", "example.com", OWN, False),
    ("chrome-extension://example.com", "example.com", OWN, False),
    ("javascript://example.com", "example.com", OWN, False),
    # Pages of this machine, on a server that only it can reach.
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
    # The same on a server that others can reach.
    ("http://localhost:3000", "localhost:8080", OWN, False),
    ("http://127.0.0.1:3000", "127.0.0.1:8080", OWN, False),
    ("http://[::1]:3000", "[::1]:8080", OWN, False),
    ("http://localhost:8080", "localhost:8080", OWN, True),
    # Named origins: exactly those.
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
    # Origins of programs that are no web sites, as they are met in the field.
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
    """RFC 6455 section 10.2: which pages may connect."""

    @pytest.mark.parametrize(("origin", "host", "agreed", "may"), ORIGINS)
    def test_origin(self, origin, host, agreed, may):
        """Pages of the server's own host, of loopback origins where that is safe, and of named origins may connect."""
        refusal = check_origin([origin], host, agreed)
        assert refusal is None if may else refusal.status == 403

    @pytest.mark.parametrize("agreed", [OWN, LOOPBACK, NAMED])
    def test_no_origin(self, agreed):
        """A client that is no browser sends no Origin and may connect."""
        assert check_origin([], "example.com", agreed) is None

    @pytest.mark.parametrize("second", ["http://example.com", "http://evil.net", ""])
    def test_two_origins(self, second):
        """Two Origin headers are refused, even where both would do."""
        assert check_origin(["http://example.com", second], "example.com", OWN).status == 403

    def test_old_header(self):
        """The header of the old drafts counts for nothing."""
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
        """The value can be typed into a shell as it stands there, and is what the option takes."""
        refusal = check_origin([origin], "example.com", OWN)
        assert (refusal.status, refusal.reason) == (403, reason.format(shlex.quote(origin)))
        [typed] = shlex.split(refusal.reason.partition("--origin ")[2])
        assert check_origin([origin], "example.com", policy(*Settings.load({"origin": [typed]}).origin)) is None

    def test_refusal_names_the_empty_origin(self):
        """As the option does: an empty text is easily lost in a shell and in a file."""
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
    def test_refusal_offers_no_option_that_would_not_help(self, origins, reason):
        """What is no origin, and what cannot be typed, is only shown."""
        assert check_origin(origins, "example.com", OWN).reason == reason

    def test_handshake(self):
        """A handshake of a foreign page is refused with 403."""
        assert refused(handshake(origin="http://evil.net")).status == 403
        assert accepted(handshake(origin="http://example.com")).key == KEY

    @pytest.mark.parametrize(
        "text", ["https://example.com", "http://a\\b", "http://ä.example", "app://x", "null", "", "empty"]
    )
    def test_every_option_counts(self, text):
        """An origin that the option takes is one that the policy knows: none is dropped without a word."""
        try:
            settings = Settings.load({"origin": [text]})
        except SettingError:
            return
        assert len(Policy.of(settings, loopback_only=False).origins) == 1
