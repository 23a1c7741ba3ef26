"""Tests for wsserver/centrifugecodes.py."""

from wsserver import centrifugecodes
from wsserver.centrifugecodes import Disconnect, Error, Unsubscription

CODES = vars(centrifugecodes).values()


class CodesTests:
    """The codes of Centrifuge's protocol."""

    def test_errors_have_centrifuges_codes_and_messages(self):
        """Each error also says whether the client may retry."""
        found = {one.code: (one.message, one.temporary) for one in CODES if isinstance(one, Error)}
        assert found == {
            100: ("internal server error", True),
            101: ("unauthorized", False),
            103: ("permission denied", False),
            104: ("method not found", False),
            105: ("already subscribed", False),
            106: ("limit exceeded", False),
            107: ("bad request", False),
            108: ("not available", False),
            109: ("token expired", False),
            110: ("expired", False),
            111: ("too many requests", True),
            112: ("unrecoverable position", False),
        }

    def test_disconnects_and_unsubscriptions_have_centrifuges_codes_and_reasons(self):
        found = {one.code: one.reason for one in CODES if isinstance(one, Disconnect | Unsubscription)}
        assert found == {
            2000: "server unsubscribe",
            2500: "insufficient state",
            2501: "subscription expired",
            3000: "connection closed",
            3001: "shutdown",
            3004: "internal server error",
            3005: "connection expired",
            3006: "subscription expired",
            3008: "slow",
            3010: "insufficient state",
            3012: "no pong",
            3013: "too many requests",
            3500: "invalid token",
            3501: "bad request",
            3505: "channel limit",
            3502: "stale",
            3503: "force disconnect",
            3504: "connection limit",
            3507: "permission denied",
            3508: "not available",
        }

    def test_because_appends_the_reason_to_the_message_and_keeps_the_code(self):
        assert centrifugecodes.STALE.because("why") == Disconnect(3502, "stale: why")
        assert centrifugecodes.INTERNAL.because("why") == Error(100, "internal server error: why", temporary=True)
