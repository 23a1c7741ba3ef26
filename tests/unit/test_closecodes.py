"""Tests for wsserver/closecodes.py: what close codes mean."""

import pytest

from wsserver.closecodes import MAX_REASON_BYTES, MEANINGS, CloseCode, explain


class CloseCodeTests:
    """RFC 6455 section 7.4."""

    @pytest.mark.parametrize(
        ("code", "name"),
        [
            (1000, "NORMAL_CLOSURE"),
            (1001, "GOING_AWAY"),
            (1002, "PROTOCOL_ERROR"),
            (1003, "UNSUPPORTED_DATA"),
            (1005, "NO_STATUS_RECEIVED"),
            (1006, "ABNORMAL_CLOSURE"),
            (1007, "INVALID_PAYLOAD"),
            (1008, "POLICY_VIOLATION"),
            (1009, "MESSAGE_TOO_BIG"),
            (1010, "MANDATORY_EXTENSION"),
            (1011, "INTERNAL_ERROR"),
            (1012, "SERVICE_RESTART"),
            (1013, "TRY_AGAIN_LATER"),
            (1014, "BAD_GATEWAY"),
            (1015, "TLS_HANDSHAKE"),
        ],
    )
    def test_numbers(self, code, name):
        """Each code has the number that is registered for it."""
        assert CloseCode[name] == code

    def test_reserved(self):
        """1004 has no meaning."""
        assert 1004 not in list(CloseCode)

    def test_reason_fits_a_control_frame(self):
        """A code and the longest reason fill a control frame (RFC 6455 section 5.5)."""
        assert 2 + MAX_REASON_BYTES == 125


class ExplainTests:
    """Close codes in words."""

    @pytest.mark.parametrize("code", CloseCode)
    def test_known(self, code):
        """Every code of the protocol is explained: its name in words, a colon, and what has happened."""
        words = explain(int(code))
        name = words.partition(": ")[0].lower().replace(" ", "_")
        assert name.removesuffix("_failure") == code.name.lower()
        assert not words.endswith(".")
        assert MEANINGS[code] == words

    def test_all(self):
        """No code is left out."""
        assert set(MEANINGS) == set(CloseCode)

    def test_read_only(self):
        """What the codes mean cannot be changed."""
        with pytest.raises(TypeError):
            MEANINGS[CloseCode.GOING_AWAY] = "x"

    def test_none(self):
        """A Close frame without a code is what 1005 stands for."""
        assert explain(None) == explain(1005) == "no status received: the Close frame carried no code"

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (2999, "unknown code: not registered"),
            (3000, "registered code: defined by a library or framework"),
            (3999, "registered code: defined by a library or framework"),
            (4000, "private code: defined by the application"),
            (4999, "private code: defined by the application"),
            (5000, "unknown code: not registered"),
            (65535, "unknown code: not registered"),
            (0, "unknown code: not registered"),
            (999, "unknown code: not registered"),
            (1004, "unknown code: not registered"),
            (1016, "unknown code: not registered"),
        ],
    )
    def test_ranges(self, code, words):
        """Other codes are explained by their range (RFC 6455 section 7.4.2)."""
        assert explain(code) == words
