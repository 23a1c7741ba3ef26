"""Tests for wsserver/wire/http11.py: parsing the head of an HTTP request into a request or a refusal."""

import http.client
import io
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.text import quote
from wsserver.wire import frames, http11
from wsserver.wire.http11 import (
    LONGEST_KEPT,
    MAX_BODY,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_KEPT,
    Refusal,
    Request,
    check_length,
    make,
    parse,
)

HOST = b"Host: example.com"
GET = b"GET / HTTP/1.1"


def head(*lines):
    """Join the lines of a request head as the frontend passes it: without the CRLF of the last line."""
    return b"\r\n".join(lines)


def get(*fields):
    """Return the head of a GET request for `/` with a Host and these header lines."""
    return head(GET, HOST, *fields)


def status(raw):
    """Return the status of the refusal of a head; 200 if it is accepted."""
    result = parse(raw)
    refusal = check_length(result) if isinstance(result, Request) else result
    return 200 if refusal is None else refusal.status.value


def accepted(raw):
    """Parse a head and return the request; fail if it is refused."""
    request = parse(raw)
    assert isinstance(request, Request), request
    return request


def refused(raw):
    """Parse a head and return the refusal; fail if it is accepted."""
    refusal = parse(raw)
    if isinstance(refusal, Request):
        refusal = check_length(refusal)
    assert isinstance(refusal, Refusal), refusal
    return refusal


class RequestLineTests:
    """The first line."""

    def test_parses_method_target_and_version(self):
        request = accepted(head(b"GET /chat?room=1 HTTP/1.1", HOST))
        assert (request.method, request.target, request.version) == ("GET", "/chat?room=1", (1, 1))

    def test_the_crlf_of_the_last_header_line_is_optional(self):
        assert accepted(get(b"X: y") + b"\r\n").headers == accepted(get(b"X: y")).headers

    def test_accepts_an_http_1_0_request_without_headers(self):
        assert accepted(b"GET / HTTP/1.0").headers == ()

    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS", b"get", b"M-SEARCH", b"X" * 32])
    def test_accepts_any_token_as_method_in_its_case(self, method):
        assert accepted(head(method + b" / HTTP/1.1", HOST)).method == method.decode()

    @pytest.mark.parametrize("version", [(1, 0), (1, 1), (1, 2), (1, 9)])
    def test_accepts_any_minor_version_of_http_1(self, version):
        """RFC 9110 section 2.5: it processes a higher one than its own as its own."""
        raw = head(b"GET / HTTP/%d.%d" % version, HOST)
        assert accepted(raw).version == min(version, (1, 1))

    def test_refusal_quotes_the_line_with_escaped_control_characters(self):
        refusal = refused(b"GET /\x1b[31m\r\n" + HOST)
        assert refusal.reason == r"invalid request line 'GET /\x1b[31m'; expected METHOD TARGET HTTP/1.1"

    def test_refusal_of_http_2_0_names_http_1_1(self):
        assert refused(head(b"GET / HTTP/2.0", HOST)).reason == "HTTP/2.0 is not supported; expected HTTP/1.1"


class HeaderTests:
    """Header lines and header lookup."""

    def test_keeps_the_order_lowers_the_names_and_strips_the_values(self):
        request = accepted(head(GET, b"HOST:example.com", b"X-One: 1", b"x-ONE:\t 2 \t", b"Empty:"))
        assert request.headers == (("host", "example.com"), ("x-one", "1"), ("x-one", "2"), ("empty", ""))

    def test_all_returns_every_value_in_order_or_an_empty_list(self):
        request = accepted(get(b"Cookie: a=1", b"X: y", b"cookie: b=2"))
        assert request.all("cookie") == ["a=1", "b=2"]
        assert request.all("origin") == []

    def test_tokens_joins_several_lines_and_skips_empty_elements(self):
        request = accepted(get(b"Connection: keep-alive, Upgrade", b"Connection: , ,\tclose ,"))
        assert request.tokens("connection") == ["keep-alive", "Upgrade", "close"]
        assert request.tokens("upgrade") == []

    def test_only_the_first_colon_ends_the_name(self):
        assert accepted(get(b"X: a:b: c")).all("x") == ["a:b: c"]

    @pytest.mark.parametrize("name", [b"X", b"X-Y_Z.0", b"!#$%&'*+-.^_`|~", b"9"])
    def test_accepts_every_character_of_a_token_in_a_name(self, name):
        """RFC 9110 section 5.6.2 defines the characters of a token."""
        assert accepted(get(name + b": v")).all(name.decode().lower()) == ["v"]

    @pytest.mark.parametrize(
        ("value", "wants"),
        [
            (b"websocket", True),
            (b"WebSocket", True),
            (b"h2c, websocket", True),
            (b"websocket/13", False),
            (b"websockets", False),
            (b"h2c", False),
            (b"", False),
        ],
    )
    def test_wants_websocket_if_upgrade_lists_it_in_any_case_and_place(self, value, wants):
        assert accepted(get(b"Upgrade: " + value)).wants_websocket is wants

    def test_does_not_want_websocket_without_an_upgrade_header(self):
        assert accepted(get()).wants_websocket is False

    @pytest.mark.parametrize(
        "host",
        [
            "example.com",
            "EXAMPLE.com:8080",
            "example.com:",
            "localhost",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8080",
            "[::ffff:127.0.0.1]:1",
            "xn--bcher-kva.example",
            "under_score.example",
            "a.example.",
            "a%20b",
        ],
    )
    def test_accepts_every_valid_host_unchanged(self, host):
        """RFC 9110 section 7.2 defines the values of Host."""
        assert accepted(head(GET, b"Host: " + host.encode())).host == host

    def test_accepts_http_1_0_without_a_host(self):
        """HTTP/1.0 has no Host header."""
        assert accepted(b"GET / HTTP/1.0").host == ""

    def test_refusal_of_a_line_without_a_colon_has_its_number_only(self):
        """The line may be the folded half of a secret."""
        assert refused(get(b"no colon")).reason == "header line 2 has no colon"

    def test_refusal_of_a_control_character_names_the_header_and_the_byte(self):
        """The value may be a secret, such as a cookie."""
        assert refused(get(b"Cookie: a\x0bb")).reason == "control character 0x0b in the header Cookie"


CONTROLS = [byte for byte in [*range(0x20), 0x7F] if byte != 0x09]

# Headers that carry secrets; Origin, Host and Upgrade are not among them.
SECRET_HEADERS = [
    b"Cookie",
    b"Authorization",
    b"Proxy-Authorization",
    b"X-API-Key",
    b"Set-Cookie",
    b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Key",
    b"X-Forwarded-For",
    b"X-Forwarded-Access-Token",
    b"Referer",
    b"X-Custom",
]


class SecretTests:
    """No refusal repeats the value of a header (CWE-532)."""

    @pytest.mark.parametrize("name", SECRET_HEADERS)
    @pytest.mark.parametrize("byte", CONTROLS, ids="{:02x}".format)
    def test_refusal_of_a_control_character_names_the_header_without_its_value(self, name, byte):
        """The control character is at each place of the value."""
        bad = bytes([byte])
        for value in (b"Basic s3cr3t" + bad, bad + b"s3cr3t", b"bearer.s3cr3t" + bad + b"s3cr3t"):
            refusal = refused(get(name + b": " + value))
            assert refusal.status == 400
            assert "s3cr3t" not in refusal.reason
            # LF and CR end a line for the test's `get`, so the bytes behind them are another line.
            assert name.decode() in refusal.reason

    @pytest.mark.parametrize(
        "lines",
        [
            (b"Authorization:", b" Basic s3cr3t"),
            (b"Authorization:", b"\tBasic s3cr3t:"),
            (b"Cookie: a=b;", b" session=s3cr3t: x"),
            (b"Authorization s3cr3t: x",),
            (b"Authorization=Basic s3cr3t",),
            (b"X-API-Key\x00s3cr3t: x",),
            (b"\xe2\x80\x8bCookie s3cr3t: x",),
            (b"Host: me:s3cr3t@example.com",),
        ],
    )
    def test_refusal_of_an_invalid_line_contains_no_possible_value(self, lines):
        """A folded or misspelled line may contain a secret in its name."""
        assert "s3cr3t" not in refused(head(GET, *lines, HOST)).reason

    @pytest.mark.parametrize(
        "line",
        [
            b"GET /ws?key=s3cr3t HTTP/1.x",
            b"GET /ws?key=s3cr3t  HTTP/1.1",
            b"GET /ws?key=\xffs3cr3t HTTP/1.1",
            b"GET /ws#access=s3cr3t HTTP/1.1",
            b"GET ws?key=s3cr3t HTTP/1.1",
            b"GET http://me:s3cr3t@evil.example/ HTTP/1.1",
            b"GET http://me:s3cr3t@example.com/ HTTP/1.1",
            b"GET ftp://me:s3cr3t@example.com/ HTTP/1.1",
        ],
    )
    def test_refusal_of_a_target_contains_no_query_and_no_user(self, line):
        """Any parameter of a query may be a token."""
        assert "s3cr3t" not in refused(head(line, HOST)).reason

    def test_repr_of_a_request_contains_no_headers(self):
        """A traceback may print a request."""
        assert "s3cr3t" not in repr(accepted(get(b"Cookie: s3cr3t")))

    def test_refusal_of_a_target_contains_its_path(self):
        """A path is not a secret, and helps to debug a client."""
        assert refused(head(b"GET chat/room?a=b HTTP/1.1", HOST)).reason == "invalid request target 'chat/room?...'"


LINES = st.binary(max_size=8) | st.sampled_from(
    [HOST, b"A:\tb ", b"a:", b"A" * 256 + b":", b"A" * 257 + b":", b":", b""]
)


@pytest.mark.skipif(not frames.COMPILED, reason="there is only one version")
class SplitTests:
    """The compiled version of `split_head`, and the one in Python."""

    @given(
        st.sampled_from([GET, b"POST /a?b=c HTTP/1.0", b"g" * 33 + b" / HTTP/1.1", b"GET /\xe9 HTTP/1.1"]) | LINES,
        st.lists(LINES),
    )
    @settings(max_examples=500)
    def test_both_return_the_same_parts_of_arbitrary_lines(self, first, lines):
        raw = head(first, *lines)
        assert frames.SPEEDUPS.split_head(raw) == http11.py_split_head(raw)

    @pytest.mark.parametrize("byte", range(256))
    def test_both_accept_the_same_characters_at_each_place(self, byte):
        valid = get(b"X-Abc: value", b"Y:z")
        for at in range(len(valid)):
            raw = valid[:at] + bytes([byte]) + valid[at + 1 :]
            assert frames.SPEEDUPS.split_head(raw) == http11.py_split_head(raw), raw

    def test_both_accept_the_same_beginnings_of_a_head(self):
        valid = get(b"X-Abc: value", b"Y:z")
        for at in range(len(valid) + 1):
            assert frames.SPEEDUPS.split_head(valid[:at]) == http11.py_split_head(valid[:at])


class KeptLineTests:
    """The cache of parsed header lines."""

    @pytest.fixture(autouse=True)
    def kept(self, monkeypatch):
        """Start with an empty cache. Only the Python version of `split_head` has one."""
        kept = {}
        monkeypatch.setattr(http11, "split_head", http11.py_split_head)
        monkeypatch.setattr(http11, "_kept", kept)
        return kept

    def test_a_cached_line_has_the_same_meaning_again(self, kept):
        """The line has the same meaning even in a request whose other lines are invalid."""
        first = accepted(get(b"Pragma: \xfc "))
        assert set(kept) == {HOST, b"Pragma: \xfc "}
        assert accepted(get(b"Pragma: \xfc ")) == first
        reason = refused(get(b"Pragma: \xfc ", b"bad")).reason
        assert reason == "header line 3 has no colon"

    @pytest.mark.parametrize("name", [b"Cookie", b"AUTHORIZATION", b"X-Api-Key", b"Referer", b"Sec-WebSocket-Key"])
    def test_does_not_cache_secret_or_unique_headers(self, kept, name):
        assert accepted(get(name + b": secret")).all(name.decode().lower()) == ["secret"]
        assert set(kept) == {HOST}

    def test_the_cache_has_a_maximum_size_and_line_length(self, kept):
        for number in range(3 * MAX_KEPT):
            line = b"Origin: y%d" % number
            assert accepted(get(line, b"Accept: " + b"x" * LONGEST_KEPT)).headers[1] == ("origin", f"y{number}")
            assert len(kept) <= MAX_KEPT
        assert max(map(len, kept)) <= LONGEST_KEPT

    @pytest.mark.parametrize("field", [b"X : y", b" X: y", b"X: \x00", b"X", b": y"])
    def test_refuses_an_invalid_line_with_the_same_reason_every_time(self, kept, field):
        assert refused(get(field)) == refused(get(field))
        assert set(kept) <= {HOST}


class ByteFilterTests:
    """Control characters that another program could read as the end of a line (CVE-2026-44546)."""

    @pytest.mark.parametrize("byte", [0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E], ids="{:02x}".format)
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (b"X-Forwarded-For", b"192.0.2.1"),
            (b"Origin", b"https://example.com"),
            (b"Cookie", b"id=1"),
            (b"Authorization", b"Bearer x"),
            (b"Host", b"example.com"),
            (b"Upgrade", b"websocket"),
        ],
    )
    def test_refuses_a_header_that_splitlines_would_split_with_400(self, byte, name, value):
        """The byte is at each place of the header. The response does not contain it."""
        other = [HOST] if name != b"Host" else []
        bad = bytes([byte])
        for smuggled in (bad + value, value + bad, value + bad + b"X-Admin: yes", value + b" " + bad + b" x"):
            refusal = refused(head(GET, *other, name + b": " + smuggled))
            assert refusal.status == 400
            assert bad not in refusal.response().replace(b"\r\n", b"").replace(b"\n", b"", 2)

    @pytest.mark.parametrize("byte", CONTROLS, ids="{:02x}".format)
    def test_refuses_control_characters_in_names_and_values_with_400(self, byte):
        assert status(get(b"X: a" + bytes([byte]) + b"b")) == 400
        assert status(get(b"X" + bytes([byte]) + b": ab")) == 400

    def test_accepts_tab_printable_ascii_and_obs_text_as_latin_1(self):
        value = bytes(byte for byte in [*range(0x21, 0x100), 0x09, 0x20, 0x21] if byte not in CONTROLS)
        assert accepted(get(b"X: " + value)).all("x") == [value.decode("latin-1")]

    @pytest.mark.parametrize("byte", range(0x80, 0x100), ids="{:02x}".format)
    def test_does_not_strip_bytes_from_0x80_on(self, byte):
        """RFC 9110 section 5.5: obs-text (bytes from 0x80 on) is opaque data, even at the ends of a value."""
        char = bytes([byte])
        for value in (char, b"a" + char + b"b", char + b"b", b"a" + char):
            request = accepted(get(b"Cookie: " + value))
            assert request.all("cookie") == [value.decode("latin-1")]
            assert parse(request.head) == request

    def test_an_accepted_value_never_becomes_two_lines(self):
        """This is true even if the kept head is split with splitlines()."""
        for byte in range(0x100):
            result = parse(get(b"X: a" + bytes([byte]) + b"b"))
            if isinstance(result, Request):
                assert len(result.head.splitlines()) == 3
                assert parse(result.head) == result

    @pytest.mark.parametrize(
        "line",
        [
            b"Content-Length: 5\x85",
            b"Content-Length: \x855",
            b"Content-Length: 5\xa0",
            b"Host: example.com\x85",
            b"Transfer-Encoding: chunked\x85",
            b"Transfer-Encoding: \x85chunked",
        ],
    )
    def test_refuses_obs_text_in_a_length_coding_or_host_with_400(self, line):
        """A byte over 0x7f is not blank, so it is not stripped."""
        other = [] if line.startswith(b"Host") else [HOST]
        assert status(head(b"POST / HTTP/1.1", *other, line)) == 400

    def test_websocket_with_obs_text_is_another_upgrade_protocol(self):
        for value in (b"websocket\x85", b"\x85websocket", b"h2c,\x85websocket", b"websocket\xa0"):
            assert not accepted(get(b"Upgrade: " + value)).wants_websocket


# Raw heads after the HTTP Garden (arXiv 2405.17737) and published advisories; 200 means accepted.
SMUGGLED = {
    # Two lengths, or a length and a coding.
    "CL and TE": (get(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "TE and CL": (get(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "CL 0 and TE": (get(b"Content-Length: 0", b"Transfer-Encoding: chunked"), 400),
    "CL and TE identity": (get(b"Content-Length: 5", b"Transfer-Encoding: identity"), 400),
    "CL and TE in HTTP/1.0": (head(b"POST / HTTP/1.0", b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "two equal CLs": (get(b"Content-Length: 5", b"Content-Length: 5"), 400),
    "two CLs": (get(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "two CLs of other case": (get(b"Content-Length: 0", b"content-length: 6"), 400),
    "CL list": (get(b"Content-Length: 5, 5"), 400),
    "CL comma": (get(b"Content-Length: 5,"), 400),
    # One length, oddly spelled.
    "CL plus": (get(b"Content-Length: +5"), 400),
    "CL minus": (get(b"Content-Length: -5"), 400),
    "CL minus zero": (get(b"Content-Length: -0"), 400),
    "CL hex": (get(b"Content-Length: 0x5"), 400),
    "CL hex digits": (get(b"Content-Length: a"), 400),
    "CL inner space": (get(b"Content-Length: 5 5"), 400),
    "CL semicolon": (get(b"Content-Length: 5;"), 400),
    "CL quoted": (get(b'Content-Length: "5"'), 400),
    "CL empty": (get(b"Content-Length:"), 400),
    "CL blank": (get(b"Content-Length: \t "), 400),
    "CL fraction": (get(b"Content-Length: 5.0"), 400),
    "CL exponent": (get(b"Content-Length: 1e1"), 400),
    "CL underscore": (get(b"Content-Length: 1_0"), 400),
    "CL Arabic digit": (get("Content-Length: \u0665".encode()), 400),
    "CL superscript": (get(b"Content-Length: \xb2"), 400),
    "CL over 64 bits": (get(b"Content-Length: 18446744073709551621"), 400),
    "CL over 63 bits": (get(b"Content-Length: 9223372036854775808"), 400),
    "CL vertical tab": (get(b"Content-Length: 5\x0b"), 400),
    "CL NUL": (get(b"Content-Length: 5\x00"), 400),
    "CL space before colon": (get(b"Content-Length : 5"), 400),
    "CL with space around": (get(b"Content-Length: \t5 "), 200),
    "CL leading zero": (get(b"Content-Length: 05"), 200),
    "CL of the largest body": (get(b"Content-Length: 65536"), 200),
    "CL over the largest body": (get(b"Content-Length: 65537"), 413),
    "CL huge": (get(b"Content-Length: 999999999999999999"), 413),
    "CL with underscore in the name": (get(b"Content_Length: 5"), 200),
    # Codings: exactly `chunked` is accepted (RFC 9112 sections 6.1 and 6.3).
    "TE with space around": (get(b"Transfer-Encoding: \tchunked "), 200),
    "TE chunked twice": (get(b"Transfer-Encoding: chunked, chunked"), 400),
    "TE chunked in two headers": (get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "TE gzip and chunked in two headers": (get(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), 400),
    "TE comma before": (get(b"Transfer-Encoding: , chunked"), 400),
    "TE comma behind": (get(b"Transfer-Encoding: chunked,"), 400),
    "TE parameter": (get(b"Transfer-Encoding: chunked;q=1"), 400),
    "TE obs-text before": (get(b"Transfer-Encoding: \x85chunked"), 400),
    "TE obs-text behind": (get(b"Transfer-Encoding: chunked\xa0"), 400),
    "TE Kelvin sign": (get("Transfer-Encoding: chun\u212aed".encode()), 400),
    "TE chunked": (get(b"Transfer-Encoding: chunked"), 200),
    "TE upper case": (get(b"TRANSFER-ENCODING: CHUNKED"), 200),
    "TE identity": (get(b"Transfer-Encoding: identity"), 400),
    "TE unknown": (get(b"Transfer-Encoding: xchunked"), 400),
    "TE list": (get(b"Transfer-Encoding: gzip, chunked"), 501),
    "TE chunked not last": (get(b"Transfer-Encoding: chunked, identity"), 400),
    "TE quoted": (get(b'Transfer-Encoding: "chunked"'), 400),
    "TE empty": (get(b"Transfer-Encoding:"), 400),
    "TE twice": (get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
    "TE in HTTP/1.0": (head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"), 400),
    "TE of a handshake": (get(b"Upgrade: websocket", b"Transfer-Encoding: chunked"), 200),
    "TE vertical tab before": (get(b"Transfer-Encoding: \x0bchunked"), 400),
    "TE vertical tab after": (get(b"Transfer-Encoding: chunked\x0b"), 400),
    "TE NUL": (get(b"Transfer-Encoding: chunked\x00"), 400),
    "TE space before colon": (get(b"Transfer-Encoding : chunked"), 400),
    "TE tab before colon": (get(b"Transfer-Encoding\t: chunked"), 400),
    "TE NUL in the name": (get(b"Transfer-\x00Encoding: chunked"), 400),
    "TE folded value": (get(b"Transfer-Encoding:", b" chunked"), 400),
    "TE as a folded line": (get(b"X: y", b" Transfer-Encoding: chunked"), 400),
    "TE behind LF": (get(b"X: y\nTransfer-Encoding: chunked"), 400),
    "TE behind CR": (get(b"X: y\rTransfer-Encoding: chunked"), 400),
    "TE behind LF CR": (get(b"X: y\n\rTransfer-Encoding: chunked"), 400),
    "TE in a value": (get(b"X: Transfer-Encoding: chunked"), 200),
    # Header lines.
    "folded line": (get(b"X: y", b" z"), 400),
    "folded line with tab": (get(b"X: y", b"\tz"), 400),
    "folded first line": (head(GET, b" " + HOST), 400),
    "empty header name": (get(b": value"), 400),
    "only a colon": (get(b":"), 400),
    "no colon": (get(b"Content-Length"), 400),
    "empty line in the head": (get(b"", b"GET /admin HTTP/1.1", HOST), 400),
    "empty line at the end": (get(b"X: y", b"", b""), 400),
    "space in a name": (get(b"X Y: z"), 400),
    "parenthesis in a name": (get(b"X(Y): z"), 400),
    "quote in a name": (get(b'"X": z'), 400),
    "UTF-8 in a name": (get("\u212a: z".encode()), 400),
    "DEL in a name": (get(b"X\x7f: z"), 400),
    "UTF-8 in a value": (get("X: zażółć".encode()), 200),
    "NUL in a value": (get(b"X: \x00"), 400),
    "LF before the colon": (get(b"X\n: y"), 400),
    # Request lines.
    "nothing": (b"", 400),
    "only CRLF": (b"\r\n", 400),
    "HTTP/0.9": (b"GET /", 400),
    "HTTP/0.9 with version": (head(b"GET / HTTP/0.9", HOST), 505),
    "HTTP/2.0": (head(b"GET / HTTP/2.0", HOST), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0", 505),
    "HTTP/3.0": (head(b"GET / HTTP/3.0", HOST), 505),
    "HTTP/1": (head(b"GET / HTTP/1", HOST), 400),
    "HTTP/1.": (head(b"GET / HTTP/1.", HOST), 400),
    "HTTP/1.10": (head(b"GET / HTTP/1.10", HOST), 400),
    "HTTP/11.1": (head(b"GET / HTTP/11.1", HOST), 400),
    "HTTP/+1.1": (head(b"GET / HTTP/+1.1", HOST), 400),
    "HTTP/1,1": (head(b"GET / HTTP/1,1", HOST), 400),
    "HTTP/1.1 in lower case": (head(b"GET / http/1.1", HOST), 400),
    "another protocol": (head(b"GET / ICY/1.1", HOST), 400),
    "Arabic digit in the version": (head("GET / HTTP/1.\u0661".encode(), HOST), 400),
    "space before": (head(b" GET / HTTP/1.1", HOST), 400),
    "space after": (head(b"GET / HTTP/1.1 ", HOST), 400),
    "two spaces": (head(b"GET  / HTTP/1.1", HOST), 400),
    "tabs": (head(b"GET\t/\tHTTP/1.1", HOST), 400),
    "vertical tab": (head(b"GET\x0b/ HTTP/1.1", HOST), 400),
    "no method": (head(b"/ HTTP/1.1", HOST), 400),
    "no target": (head(b"GET HTTP/1.1", HOST), 400),
    "bad method": (head(b"G<T / HTTP/1.1", HOST), 400),
    "method with a colon": (head(b"Host: / HTTP/1.1", HOST), 400),
    "method with NUL": (head(b"G\x00T / HTTP/1.1", HOST), 400),
    "long method": (head(b"X" * 33 + b" / HTTP/1.1", HOST), 400),
    "byte order mark": (b"\xef\xbb\xbf" + get(), 400),
    "LF in the request line": (b"GET / HTTP/1.1\n" + HOST, 400),
    "LF in the target": (head(b"GET /\nX HTTP/1.1", HOST), 400),
    "CR in the target": (head(b"GET /\rX HTTP/1.1", HOST), 400),
    "request line twice": (head(GET, GET, HOST), 400),
    "HTTP/1.2": (head(b"GET / HTTP/1.2", HOST), 200),
    "HTTP/1.0": (b"GET / HTTP/1.0", 200),
    "HTTP/1.0 with Host": (head(b"GET / HTTP/1.0", HOST), 200),
    # Hosts.
    "no Host": (GET, 400),
    "two Hosts": (get(b"Host: evil.example"), 400),
    "two equal Hosts": (get(HOST), 400),
    "two Hosts in HTTP/1.0": (head(b"GET / HTTP/1.0", HOST, HOST), 400),
    "empty Host": (head(GET, b"Host:"), 400),
    "Host with userinfo": (head(GET, b"Host: user@example.com"), 400),
    "Host with path": (head(GET, b"Host: example.com/x"), 400),
    "Host with query": (head(GET, b"Host: example.com?x"), 400),
    "Host with fragment": (head(GET, b"Host: example.com#x"), 400),
    "Host with scheme": (head(GET, b"Host: http://example.com"), 400),
    "Host with space": (head(GET, b"Host: example.com evil.example"), 400),
    "Host with tab": (head(GET, b"Host: example.com\tevil.example"), 400),
    "Host with backslash": (head(GET, b"Host: example.com\\evil"), 400),
    "Host with markup": (head(GET, b"Host: <script>"), 400),
    "Host with quote": (head(GET, b'Host: "example.com"'), 400),
    "Host with word for port": (head(GET, b"Host: example.com:http"), 400),
    "Host with negative port": (head(GET, b"Host: example.com:-1"), 400),
    "Host with long port": (head(GET, b"Host: example.com:000080"), 400),
    "Host with two ports": (head(GET, b"Host: example.com:80:80"), 400),
    "Host only a port": (head(GET, b"Host: :80"), 400),
    "Host bare IPv6": (head(GET, b"Host: ::1"), 400),
    "Host open bracket": (head(GET, b"Host: [::1"), 400),
    "Host behind bracket": (head(GET, b"Host: [::1]x"), 400),
    "Host IPv6 zone": (head(GET, b"Host: [fe80::1%25eth0]"), 400),
    "Host UTF-8": (head(GET, "Host: bücher.example".encode()), 400),
    "Host NUL": (head(GET, b"Host: example.com\x00"), 400),
    "Host space before colon": (head(GET, b"Host : example.com"), 400),
    # Targets.
    "absolute form": (head(b"GET http://example.com/x HTTP/1.1", HOST), 200),
    "absolute form in another case": (head(b"GET HTTP://EXAMPLE.com/x HTTP/1.1", HOST), 200),
    "absolute form of WebSocket": (head(b"GET ws://example.com/x HTTP/1.1", HOST), 200),
    "absolute form without path": (head(b"GET https://example.com HTTP/1.1", HOST), 200),
    "absolute form of another host": (head(b"GET http://evil.example/x HTTP/1.1", HOST), 400),
    "absolute form of another port": (head(b"GET http://example.com:81/x HTTP/1.1", HOST), 400),
    "absolute form with userinfo": (head(b"GET http://example.com@evil.example/ HTTP/1.1", HOST), 400),
    "absolute form with fragment": (head(b"GET http://example.com/#x HTTP/1.1", HOST), 400),
    "absolute form with backslash": (head(b"GET http://example.com\\@evil.example/ HTTP/1.1", HOST), 400),
    "absolute form of another scheme": (head(b"GET ftp://example.com/x HTTP/1.1", HOST), 400),
    "absolute form with one slash": (head(b"GET http:/example.com/x HTTP/1.1", HOST), 400),
    "absolute form without Host": (b"GET http://example.com/x HTTP/1.1", 400),
    # RFC 9110 section 4.2.1: a recipient "MUST reject it as invalid".
    "absolute form with an empty host": (b"GET http:///x HTTP/1.0", 400),
    "authority form": (head(b"CONNECT example.com:80 HTTP/1.1", HOST), 400),
    "authority form of GET": (head(b"GET example.com HTTP/1.1", HOST), 400),
    "asterisk form": (head(b"OPTIONS * HTTP/1.1", HOST), 400),
    "asterisk form of GET": (head(b"GET * HTTP/1.1", HOST), 400),
    "relative target": (head(b"GET x HTTP/1.1", HOST), 400),
    "only a query": (head(b"GET ?x HTTP/1.1", HOST), 400),
    "backslash": (head(b"GET \\x HTTP/1.1", HOST), 400),
    "fragment": (head(b"GET /#x HTTP/1.1", HOST), 400),
    "fragment in the query": (head(b"GET /?a#x HTTP/1.1", HOST), 400),
    "space in the target": (head(b"GET /a b HTTP/1.1", HOST), 400),
    "tab in the target": (head(b"GET /a\tb HTTP/1.1", HOST), 400),
    "NUL in the target": (head(b"GET /\x00 HTTP/1.1", HOST), 400),
    "DEL in the target": (head(b"GET /\x7f HTTP/1.1", HOST), 400),
    "UTF-8 in the target": (head("GET /ü HTTP/1.1".encode(), HOST), 400),
    "Latin-1 in the target": (head(b"GET /\xfc HTTP/1.1", HOST), 400),
    "two slashes": (head(b"GET //evil.example/x HTTP/1.1", HOST), 200),
    "dots": (head(b"GET /../../etc/passwd HTTP/1.1", HOST), 200),
    # Sizes.
    "long target": (head(b"GET /" + b"x" * 15000 + b" HTTP/1.1", HOST), 200),
    "very long target": (head(b"GET /" + b"x" * 17000 + b" HTTP/1.1", HOST), 431),
    "very long header": (get(b"X: " + b"y" * 17000), 431),
    "very long name": (get(b"X" * 17000 + b": y"), 431),
    "very long garbage": (b"\x00" * 1_000_000, 431),
}


class SmugglingTests:
    """Requests that two programs could read in different ways (request smuggling)."""

    @pytest.mark.parametrize(("raw", "expected"), SMUGGLED.values(), ids=SMUGGLED)
    def test_parse_refuses_ambiguous_requests_with_the_right_status(self, raw, expected):
        assert status(raw) == expected

    @pytest.mark.parametrize(
        ("target", "version", "fields", "expected"),
        [
            (b"/", (1, 1), [(b"Host", b"a")], 200),
            (b"/", (1, 1), [(b"Host", b" a "), (b"X", b"y")], 200),
            (b"/", (1, 1), [], 400),
            (b"/", (1, 1), [(b"Host", b"a,a")] * 2, 400),
            (b"/", (1, 1), [(b"Host", b"a"), (b"X", b"y\x85z")], 200),
            (b"/", (1, 1), [(b"Host", b"a"), (b"X", b"y\x1cz")], 400),
            (b"/", (1, 1), [(b"Host", b"a"), (b"X ", b"y")], 400),
            (b"/", (1, 1), [(b"Host", b"a"), (b"Content-Length", b"1"), (b"Content-Length", b"1")], 400),
            (b"/", (1, 1), [(b"Host", b"a")] + [(b"X", b"y")] * 128, 431),
            (b"/a b", (1, 1), [(b"Host", b"a")], 400),
            (b"/\xff", (1, 1), [(b"Host", b"a")], 400),
            (b"http://b/", (1, 1), [(b"Host", b"a")], 400),
            (b"/", (0, 9), [(b"Host", b"a")], 505),
            (b"/", (2, 0), [(b"Host", b"a")], 505),
        ],
    )
    def test_make_applies_the_same_rules_to_parsed_parts(self, target, version, fields, expected):
        """`make` gets the parts of a request that another HTTP parser has split."""
        result = make(b"GET", target, version, fields)
        assert (200 if isinstance(result, Request) else result.status) == expected

    def test_reads_an_accepted_content_length_as_every_parser_does(self):
        assert accepted(get(b"Content-Length: \t5 ")).content_length == 5
        assert accepted(get(b"Content-Length: 05")).content_length == 5
        assert accepted(get(b"Content-Length: %d" % MAX_BODY)).content_length == MAX_BODY
        assert accepted(get()).content_length == 0

    @pytest.mark.parametrize(
        ("target", "origin_form"),
        [
            (b"/x", "/x"),
            (b"/x?y=1", "/x?y=1"),
            (b"//evil.example/x", "//evil.example/x"),
            (b"http://example.com/x?y", "/x?y"),
            (b"http://example.com", "/"),
            (b"http://example.com?y=1", "/?y=1"),
            (b"wss://Example.Com/chat", "/chat"),
            (b"https://example.com//x", "//x"),
        ],
    )
    def test_an_absolute_target_with_the_same_host_becomes_origin_form(self, target, origin_form):
        """RFC 9112 section 3.2.2 defines the absolute form, which clients send to proxies."""
        assert accepted(head(b"GET " + target + b" HTTP/1.1", HOST)).target == origin_form

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (GET, "missing Host header"),
            (get(HOST), "more than one Host header; expected one"),
            (head(GET, b"Host: a/b"), "invalid Host header 'a/b'"),
            (get(b"Content-Length: 1", b"Content-Length: 2"), "invalid Content-Length '1, 2'; expected one number"),
            (
                get(b"Content-Length: 70000"),
                "the request body has 70000 bytes: expected at most 65536 (server option --max-request-body)",
            ),
            (
                get(b"Content-Length: 1", b"Transfer-Encoding: x"),
                "both Content-Length and Transfer-Encoding; expected one of them",
            ),
            (get(b"Transfer-Encoding: identity"), "invalid Transfer-Encoding 'identity'; expected chunked"),
            (
                get(b"Transfer-Encoding: gzip, chunked"),
                "Transfer-Encoding 'gzip, chunked' is not supported; expected chunked",
            ),
            (
                head(b"GET / HTTP/1.0", b"Transfer-Encoding: chunked"),
                "Transfer-Encoding in an HTTP/1.0 request; expected Content-Length",
            ),
            (head(b"GET /#x HTTP/1.1", HOST), "fragment in the request target '/#...'"),
            (head(b"GET * HTTP/1.1", HOST), "invalid request target '*'"),
            (head(b"GET /\xfc HTTP/1.1", HOST), r"invalid request target '/\xfc'"),
            (get(b"X Y: z"), "invalid header name 'X ...'"),
            (
                head(b"GET http://evil.example/ HTTP/1.1", HOST),
                "the request target names the host 'evil.example', the Host header 'example.com'",
            ),
        ],
    )
    def test_the_reason_names_the_problem_and_what_was_expected(self, raw, reason):
        assert refused(raw).reason == reason


class HeadTests:
    """The head that a request keeps."""

    def test_keeps_the_head_as_received(self):
        raw = head(b"GET http://example.com/x?y HTTP/1.1", HOST, b"X-One:\t\xfc ", b"x-one:2")
        assert accepted(raw).head == raw

    def test_keeps_the_head_of_a_request_with_a_very_long_header_name(self):
        raw = head(GET, HOST, b"x" * 300 + b": y")
        assert accepted(raw).head == raw

    @pytest.mark.parametrize(("raw", "expected"), SMUGGLED.values(), ids=SMUGGLED)
    def test_a_kept_head_parses_to_the_same_request(self, raw, expected):
        if expected == 200:
            assert parse(accepted(raw).head) == accepted(raw)


class LimitTests:
    """The maximum size of a head."""

    def test_accepts_128_header_lines_and_refuses_129_with_431(self):
        assert len(accepted(get(*[b"X: y"] * (MAX_HEADERS - 1))).headers) == MAX_HEADERS
        refusal = refused(get(*[b"X: y"] * MAX_HEADERS))
        assert (refusal.status, refusal.reason) == (431, "129 header lines; expected at most 128")

    def test_accepts_16_kib_and_refuses_one_byte_more_with_431(self):
        raw = get(b"X: ")
        assert status(raw + b"y" * (MAX_HEAD - len(raw))) == 200
        refusal = refused(raw + b"y" * (MAX_HEAD - len(raw) + 1))
        assert (refusal.status, refusal.reason) == (
            431,
            "the request head is over 16384 bytes (server option --max-request-head)",
        )

    def test_refuses_thousands_of_line_ends_with_400(self):
        assert status(get() + b"\r\n" * 8000) == 400


class TargetTests:
    """The path and the query of a request."""

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            (b"/", "/"),
            (b"/a/b?c/d", "/a/b"),
            (b"/%65cho", "/echo"),
            (b"/b%C3%BCcher", "/bücher"),
            (b"/%e2%82%ac", "/€"),
            (b"/a+b", "/a+b"),
            (b"/%2e%2E/x", "/../x"),
            (b"/a%2Fb", "/a/b"),
            (b"/%00", "/\0"),
            (b"/%", "/%"),
            (b"/%zz", "/%zz"),
            (b"/%2565", "/%65"),
            (b"/%ff", None),
            (b"/%c3", None),
            (b"/%c0%af", None),
            (b"/%ed%a0%80", None),
            (b"/%f5%80%80%80", None),
        ],
    )
    def test_decodes_the_path_once_and_returns_none_without_utf8(self, target, path):
        request = accepted(head(b"GET " + target + b" HTTP/1.1", HOST))
        assert request.path == path
        assert request.raw_path == target.decode().partition("?")[0]

    @pytest.mark.parametrize(
        ("target", "query"),
        [
            (b"/", {}),
            (b"/?", {}),
            (b"/?a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
            (b"/?a", {"a": [""]}),
            (b"/?a=", {"a": [""]}),
            (b"/?=a", {"": ["a"]}),
            (b"/?a=b=c", {"a": ["b=c"]}),
            (b"/?a=1;b=2", {"a": ["1;b=2"]}),
            (b"/?a=x+y%20z", {"a": ["x y z"]}),
            (b"/?a=%2B%26%3D", {"a": ["+&="]}),
            (b"/?%C3%BC=%E2%82%AC", {"ü": ["€"]}),
            (b"/?a=b?c", {"a": ["b?c"]}),
            (b"/%ff?a=1", {"a": ["1"]}),
            (b"/?a=%ff", None),
            (b"/?%ff=a", None),
            (b"/?" + b"&".join([b"a=1"] * 1001), None),
        ],
    )
    def test_parses_the_query_in_order_and_returns_none_if_invalid(self, target, query):
        """A query is invalid if it is not UTF-8 or has more than a thousand parameters."""
        assert accepted(head(b"GET " + target + b" HTTP/1.1", HOST)).query == query

    def test_parses_a_thousand_query_parameters(self):
        request = accepted(head(b"GET /?" + b"&".join([b"a=1"] * 1000) + b" HTTP/1.1", HOST))
        assert request.query == {"a": ["1"] * 1000}


def read(response):
    """Read a response with Python's own HTTP client."""

    class Socket:
        """Passes the bytes of a response to http.client; it cannot send."""

        def makefile(self, mode):
            return io.BytesIO(response)

    reader = http.client.HTTPResponse(Socket())
    reader.begin()
    return reader, reader.read()


HOSTILE = [
    "a\r\nSet-Cookie: x=1",
    "a\r\n\r\n<script>alert(1)</script>",
    "a\nb",
    "a\rb",
    "\r\n" * 100,
    "\x00\x1b[2J\x7f",
    "\x85\x1c\x1d\x1e\u2028\u2029",
    "\u202eevil",
    "ünïcödé €",
    "\ud800",
    "'\"\\",
    "x" * 100_000,
]


class RefusalTests:
    """A refusal as an HTTP response."""

    def test_writes_status_line_headers_and_text_byte_for_byte(self):
        assert Refusal(HTTPStatus.NOT_FOUND, "no such thing").response() == (
            b"HTTP/1.1 404 Not Found\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 28\r\n"
            b"X-Content-Type-Options: nosniff\r\n"
            b"Cache-Control: no-store\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"404 Not Found\nno such thing\n"
        )

    @pytest.mark.parametrize("code", [400, 403, 404, 405, 408, 411, 413, 426, 431, 503, 505])
    def test_an_http_client_reads_status_headers_and_text(self, code):
        reader, body = read(Refusal(HTTPStatus(code), "schön", (("Retry-After", "5"),)).response())
        assert (reader.status, reader.reason, reader.version) == (code, HTTPStatus(code).phrase, 11)
        assert body.decode() == f"{code} {HTTPStatus(code).phrase}\nschön\n"
        assert reader.getheader("Retry-After") == "5"
        assert reader.getheader("Connection") == "close"
        assert reader.will_close

    def test_a_connection_header_of_the_refusal_replaces_the_default(self):
        response = Refusal(HTTPStatus.UPGRADE_REQUIRED, "x", (("Connection", "Upgrade, close"),)).response()
        assert response.count(b"Connection:") == 1
        assert b"\r\nConnection: Upgrade, close\r\n" in response

    @pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_quoted_value_cannot_add_a_header_or_a_line(self, hostile):
        response = Refusal(HTTPStatus.BAD_REQUEST, f"not this: {quote(hostile)}").response()
        lines, _, body = response.partition(b"\r\n\r\n")
        assert len(lines.split(b"\r\n")) == 6
        assert body.count(b"\n") == 2
        assert body.isascii()
        assert all(byte >= 0x20 or byte == 0x0A for byte in body)
        assert read(response)[1] == body

    @pytest.mark.parametrize("hostile", [text for text in HOSTILE if "\ud800" not in text])
    def test_the_refusal_of_a_hostile_request_has_no_additional_header_or_line(self, hostile):
        """The hostile text is in the target, the Host, a header name, or the Content-Length."""
        results = [
            parse(raw)
            for raw in (
                b"GET /" + hostile.encode() + b" HTTP/1.1\r\nHost: a",
                b"GET / HTTP/1.1\r\nHost: " + hostile.encode(),
                b"GET / HTTP/1.1\r\nHost: a\r\n" + hostile.encode() + b": x",
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + hostile.encode(),
            )
        ]
        # A further header is valid after the Host; so are quotation marks and backslashes in the target.
        accepted = 1 if hostile in {"a\r\nSet-Cookie: x=1", "'\"\\"} else 0
        refusals = [result for result in results if isinstance(result, Refusal)]
        assert len(refusals) == len(results) - accepted
        for refusal in refusals:
            lines, _, body = refusal.response().partition(b"\r\n\r\n")
            assert len(lines.split(b"\r\n")) == 6
            assert body.count(b"\n") == 2
            assert body.isascii()


WORDS = st.sampled_from(
    [
        *(b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b"Host", b"a", b"\x85", b"\x1c", b"\t", b"#"),
        *(
            b"Content-Length",
            b"Transfer-Encoding",
            b"chunked",
            b"5",
            b"Upgrade",
            b"websocket",
            b"http://a",
            b"%ff",
            b"?",
        ),
        *(get(), get(b"X: y"), HOST, b"[::1]", b"\xc3\xbc", b"\x00"),
    ]
)


class AnyBytesTests:
    """Parsing arbitrary bytes."""

    @settings(max_examples=400, deadline=None, database=None)
    @given(raw=st.binary(max_size=200) | st.lists(WORDS | st.binary(max_size=3), max_size=40).map(b"".join))
    def test_returns_a_valid_request_or_a_refusal_for_any_bytes(self, raw):
        """The values of an accepted request contain no control characters."""
        for result in (parse(raw), parse(get(b"X: " + raw)), parse(head(b"GET /" + raw + b" HTTP/1.1", HOST))):
            if isinstance(result, Refusal):
                assert read(result.response())[0].status == result.status
                continue
            assert parse(result.head) == result
            assert result.target.startswith("/")
            assert result.path is None or isinstance(result.path, str)
            assert result.query is None or isinstance(result.query, dict)
            for name, value in result.headers:
                assert name == name.lower().strip()
                assert not any(ord(c) in CONTROLS for c in value)
                assert len(value.encode("latin-1").splitlines()) <= 1
