"""Close codes: what they mean, and which may be sent."""

import pytest

from wsserver.closecodes import MAX_REASON_BYTES, MEANINGS, SENDABLE, CloseCode


class MeaningsTests:
    """The phrases that explain the close codes on the browser page."""

    @pytest.mark.parametrize("code", CloseCode)
    def test_every_code_has_its_own_phrase_that_begins_with_its_name(self, code):
        _, colon, words = MEANINGS[code].partition(": ")
        assert colon
        assert words
        assert not words.endswith(".")
        assert list(MEANINGS.values()).count(MEANINGS[code]) == 1

    def test_setting_an_entry_raises_a_type_error(self):
        with pytest.raises(TypeError):
            MEANINGS[CloseCode.NORMAL_CLOSURE] = "x"


class SendableCodeTests:
    """RFC 6455 section 7.4.1: three codes must not be sent in a Close frame."""

    def test_every_code_but_1005_1006_and_1015_may_be_sent(self):
        """The three codes only report locally how a connection ended."""
        assert set(CloseCode) - SENDABLE == {1005, 1006, 1015}

    def test_a_close_reason_may_have_123_bytes(self):
        """A control frame carries at most 125 bytes, two of which are the code (RFC 6455 section 5.5)."""
        assert MAX_REASON_BYTES == 125 - 2
