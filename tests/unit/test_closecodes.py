"""Close codes: what they mean, and which may be sent."""

import pytest

from wsserver.closecodes import MAX_REASON_BYTES, MEANINGS, SENDABLE, CloseCode


class MeaningsTests:
    """What the page tells people."""

    @pytest.mark.parametrize("code", CloseCode)
    def test_every_code_is_explained(self, code):
        """Each code has one phrase of its own, which says its name first."""
        _, colon, words = MEANINGS[code].partition(": ")
        assert colon
        assert words
        assert not words.endswith(".")
        assert list(MEANINGS.values()).count(MEANINGS[code]) == 1

    def test_nobody_changes_them(self):
        """The table is for reading."""
        with pytest.raises(TypeError):
            MEANINGS[CloseCode.NORMAL_CLOSURE] = "x"


class SendableTests:
    """RFC 6455 section 7.4.1: three codes must not be set in a Close frame."""

    def test_reserved(self):
        """1005, 1006 and 1015 only tell an application what happened; all others may be sent."""
        assert set(CloseCode) - SENDABLE == {1005, 1006, 1015}

    def test_reason(self):
        """A control frame carries 125 bytes; two are the code."""
        assert MAX_REASON_BYTES == 125 - 2
