"""Tests for wsserver/grammar.py."""

import re
import string

from wsserver.grammar import TOKEN, TOKEN_BYTES

TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters


class TokenTests:
    """RFC 9110 section 5.6.2 defines the characters of a token."""

    def test_a_token_may_contain_exactly_the_77_characters_of_the_rfc(self):
        assert [chr(code) for code in range(256) if re.fullmatch(TOKEN, chr(code))] == sorted(TCHAR)
        assert [code for code in range(256) if re.fullmatch(TOKEN_BYTES, bytes([code]))] == sorted(TCHAR.encode())

    def test_an_empty_string_is_not_a_token(self):
        assert not re.fullmatch(TOKEN, "")
        assert re.fullmatch(TOKEN, "permessage-deflate")
