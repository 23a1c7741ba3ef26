"""Tests for wsserver/text.py: texts from peers in messages, quoted and without secrets; and the token rule of HTTP."""

import re
import string
import time

import pytest

from wsserver.text import TOKEN, TOKEN_BYTES, join_choices, quote, redact, redact_header

TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters


class QuoteTests:
    """Quoting of a text from a peer."""

    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            ("plain", "'plain'"),
            ("it's", '"it\'s"'),
            ("\r\n\x1b\x00", r"'\r\n\x1b\x00'"),
            ("ü€\u2028", r"'\xfc\u20ac\u2028'"),
            ("", "''"),
            ("x" * 80, "'" + "x" * 80 + "'"),
            ("x" * 81, "'" + "x" * 77 + "...'"),
        ],
    )
    def test_escapes_unusual_characters_and_shortens_texts_over_80_characters(self, text, quoted):
        assert quote(text) == quoted

    def test_shortens_to_a_given_limit(self):
        assert quote("abcdefghij", 5) == "'ab...'"


class RedactTests:
    """Redacting of texts that may be logged."""

    JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("/ws?channel=a&token=hush", "/ws?channel=a&token=[secret]"),
            ("/ws?token=hush&channel=a", "/ws?token=[secret]&channel=a"),
            ("/ws?access_token=hush", "/ws?access_token=[secret]"),
            ("/ws%3Btoken%3Dhush", "/ws%3Btoken%3D[secret]"),
            ("/ws;token=hush;x", "/ws;token=[secret];x"),
            ("Authorization: Bearer hush", "Authorization: Bearer [secret]"),
            (
                "expected Bearer TOKEN, bearer.TOKEN or ?token=TOKEN; see",
                "expected Bearer TOKEN, bearer.TOKEN or ?token=TOKEN; see",
            ),
            ("Bearer TOKENhush", "Bearer [secret]"),
            ("authorization: bearer  hush", "authorization: bearer  [secret]"),
            ("wsserver.v1, bearer.hush", "wsserver.v1, bearer.[secret]"),
            (f"/sse/{JWT}?x", "/sse/[secret]?x"),
            (f"{JWT[:25]}", "[secret]"),
            (f"'{JWT}'", "'[secret]'"),
            ("TOKEN=hush", "TOKEN=[secret]"),
            ("origin 'https://user:hush@a'", "origin 'https://[secret]@a'"),
            ("//user%3Ahush%40a/ws", "//[secret]%40a/ws"),
            ("//user%3ahush@a/ws", "//[secret]@a/ws"),
            ("https://a:8080/b@c", "https://a:8080/b@c"),
            ("/tokens", "/tokens"),
            ("a bear", "a bear"),
            ("heyJude", "heyJude"),
        ],
    )
    def test_replaces_tokens_by_secret_in_brackets(self, text, shown):
        assert redact(text) == shown

    @pytest.mark.parametrize("part", [":", "%3a", "%40", "//:", "token=", "bearer ", "eyJ", "."])
    def test_the_time_grows_with_the_length_of_the_text_and_not_faster(self, part):
        """A client chooses the text: with backtracking, 200,000 colons took minutes, and 16,000 more than a second."""
        start = time.process_time()
        redact("https://eyJaaaaaa" + part * 200_000)
        assert time.process_time() - start < 5

    @pytest.mark.parametrize("limit", [20, 40, 80])
    def test_quote_leaves_out_a_token_that_the_limit_cuts(self, limit):
        assert "eyJ" not in quote(f"/ws?x={'y' * 10}&token={self.JWT}", limit)


@pytest.mark.parametrize(("choices", "listed"), [(["a"], "a"), (["a", "b"], "a or b"), (("a", "b", "c"), "a, b or c")])
def test_lists_alternatives_as_in_a_sentence(choices, listed):
    assert join_choices(choices) == listed


class RedactHeaderTests:
    """Headers of a request, as `/whoami` and taps show them."""

    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [
            ("cookie", "a=b; c=d=e", "a=[secret]; c=[secret]"),
            # Browsers send a cookie without a name as its value.
            ("cookie", "a=b; hush", "a=[secret]; [secret]"),
            ("cookie", "hush", "[secret]"),
            ("cookie", "=hush;;", "=[secret];;"),
            ("cookie", "", ""),
            ("authorization", "Basic hush", "Basic [secret]"),
            ("proxy-authorization", "hush", "[secret]"),
            ("set-cookie", "a=b", "[secret]"),
            ("x-api-key", "hush", "[secret]"),
            ("apikey", "hush", "[secret]"),
            ("wsserver-tap-secret", "hush", "[secret]"),
            ("x-auth-token", "hush", "[secret]"),
            ("x-forwarded-access-token", "hush", "[secret]"),
            ("x-amz-security-token", "hush", "[secret]"),
            ("cf-access-jwt-assertion", "hush", "[secret]"),
            ("x-csrf-token", "hush", "[secret]"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("x-tokenizer", "a", "a"),
            ("user-agent", "a token b", "a token b"),
        ],
    )
    def test_replaces_secrets_and_nothing_else(self, name, value, shown):
        assert redact_header(name, value) == shown


class TokenTests:
    """RFC 9110 section 5.6.2 defines the characters of a token."""

    def test_a_token_may_contain_exactly_the_77_characters_of_the_rfc(self):
        assert [chr(code) for code in range(256) if re.fullmatch(TOKEN, chr(code))] == sorted(TCHAR)
        assert [code for code in range(256) if re.fullmatch(TOKEN_BYTES, bytes([code]))] == sorted(TCHAR.encode())

    def test_an_empty_string_is_not_a_token(self):
        assert not re.fullmatch(TOKEN, "")
        assert re.fullmatch(TOKEN, "permessage-deflate")
