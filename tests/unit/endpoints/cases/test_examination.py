"""Verdicts: what an examination says about the behaviour of a client, without a connection."""

import re
import zlib

import pytest

from wsserver.endpoints.cases.catalog import CASES
from wsserver.endpoints.cases.examination import LATE, TIMEOUT, Examination
from wsserver.endpoints.cases.results import Verdict
from wsserver.testing import build_frame, parse_frames
from wsserver.wire.deflate import Deflate

BY_ID = {case.id: case for case in CASES}
PASS, INFORMATIONAL, FAIL = Verdict.PASS, Verdict.INFORMATIONAL, Verdict.FAIL
CLOSE_1000, CLOSE_1002, CLOSE_1007 = (build_frame(8, code.to_bytes(2, "big")) for code in (1000, 1002, 1007))
HELLO = build_frame(1, b"hello")


class Conversation:
    """An examination whose client is the test."""

    def __init__(self, name):
        case = BY_ID[name]
        self.written = b""
        self.result = self.timer = None
        codec = Deflate(case.answer.terms()) if case.answer else None
        self.examination = Examination(case, codec, self)
        self.examination.begin()

    def send(self, data, chop):
        self.written += data

    def wait(self, seconds, then):
        self.timer = (seconds, then)

    def seconds(self):
        return 0.25

    def finished(self, result):
        assert self.result is None
        self.result = result

    def receive(self, *frames):
        for frame in frames:
            self.examination.receive(frame)
        return self

    def time_out(self):
        self.timer[1]()
        return self

    def lose(self):
        self.examination.lost()
        return self

    def frames(self):
        frames, rest = parse_frames(self.written)
        assert rest == b""
        self.written = b""
        return frames

    @property
    def verdict(self):
        return None if self.result is None else self.result.verdict


class EchoTests:
    """Cases in which the client must send messages back."""

    def test_passes_an_echo_and_an_answered_close(self):
        conversation = Conversation("framing.text-1").receive(build_frame(1, b"*"))
        assert [frame.opcode for frame in conversation.frames()] == [1, 8]
        assert conversation.verdict is None
        assert conversation.receive(CLOSE_1000).verdict is PASS
        assert conversation.result.frame_count == 4
        assert [frame.by_client for frame in conversation.result.frames] == [False, True, False, True]

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (build_frame(1, b"+"), r"sent the text message b'\+' of 1 bytes; expected .* differs from byte 0"),
            (build_frame(2, b"*"), "expected the same as a text message"),
            (build_frame(1, b"*", mask=b""), "without a mask"),
            (build_frame(1, b"*", rsv=4), "reserved bits 100"),
            (build_frame(3, b"*"), "the reserved opcode 3"),
            (build_frame(0, b"*"), "continuation frame without a message"),
            (build_frame(9, b"*", fin=False), "a fragmented ping frame"),
            (build_frame(9, b"*" * 126), "ping frame with over 125 bytes"),
            (build_frame(1, b"\xff"), "a text message that is not UTF-8"),
            (build_frame(1, b"a", fin=False) + HELLO, "began a message within another one"),
            (b"\x81\xfe\x00\x01maskx", "encoded the length 1 in more bytes than needed"),
            (CLOSE_1000, "closed with 1000; expected the text message"),
            (build_frame(8, b"\x03"), "a Close frame of one byte"),
            (build_frame(8, b"\x03\xed"), "a Close frame with the code 1005"),
            (build_frame(8, b"\x03\xe8\xff"), "whose reason is not UTF-8"),
        ],
    )
    def test_fails_a_client_that_sends_something_else(self, frame, reason):
        conversation = Conversation("framing.text-1").receive(frame)
        assert conversation.verdict is FAIL
        assert conversation.result.reason.startswith("the client ")
        assert re.search(reason, conversation.result.reason)

    def test_fails_a_client_that_does_not_answer(self):
        conversation = Conversation("framing.text-1")
        assert conversation.timer[0] == TIMEOUT
        assert conversation.time_out().verdict is FAIL
        assert conversation.result.reason == (
            "the client did not answer within 5 s; expected the text message b'*' of 1 bytes"
        )

    def test_fails_a_client_that_does_not_answer_the_close(self):
        conversation = Conversation("framing.text-1").receive(build_frame(1, b"*")).time_out()
        assert conversation.verdict is FAIL
        assert "did not answer the Close frame" in conversation.result.reason

    def test_fails_a_client_that_drops_the_connection(self):
        assert Conversation("framing.text-1").lose().verdict is FAIL
        assert Conversation("framing.text-1").receive(build_frame(1, b"*")).lose().verdict is FAIL

    def test_fails_data_after_the_close_frame(self):
        conversation = Conversation("framing.text-1").receive(build_frame(1, b"*"), CLOSE_1000 + HELLO)
        assert conversation.verdict is FAIL
        assert "after its Close frame" in conversation.result.reason

    def test_fails_a_message_that_was_not_expected(self):
        assert Conversation("framing.text-1").receive(build_frame(1, b"*"), build_frame(1, b"*")).verdict is FAIL

    def test_answers_the_pings_of_the_client(self):
        conversation = Conversation("framing.text-1")
        conversation.frames()
        conversation.receive(build_frame(9, b"?"))
        assert [(frame.opcode, frame.payload) for frame in conversation.frames()] == [(10, b"?")]
        assert conversation.receive(build_frame(1, b"*"), CLOSE_1000).verdict is PASS

    def test_fails_a_client_that_uses_a_masking_key_again(self):
        conversation = Conversation("framing.masks")
        for n in range(8):
            conversation.receive(build_frame(1, b"message %d" % n, mask=b"same"))
        assert conversation.verdict is FAIL
        other = Conversation("framing.masks")
        for n in range(8):
            other.receive(build_frame(1, b"message %d" % n, mask=b"%04d" % n))
        assert other.receive(CLOSE_1000).verdict is PASS


class PingTests:
    """Cases in which the client must answer pings."""

    def test_passes_a_client_that_answers_only_the_last_of_several_pings(self):
        assert Conversation("pings.ten").receive(build_frame(10, b"payload 9"), CLOSE_1000).verdict is PASS

    def test_fails_a_client_that_does_not_answer_the_last_ping(self):
        assert Conversation("pings.ten").receive(build_frame(10, b"payload 8")).time_out().verdict is FAIL

    def test_fails_a_pong_with_another_payload(self):
        assert Conversation("pings.text").receive(build_frame(10, b"other")).verdict is FAIL

    def test_sends_the_rest_of_a_message_only_after_the_pong(self):
        conversation = Conversation("fragmentation.ping-between")
        assert [frame.opcode for frame in conversation.frames()] == [1, 9]
        conversation.receive(build_frame(10, b"0"))
        assert [frame.opcode for frame in conversation.frames()] == [0]
        assert conversation.receive(HELLO, CLOSE_1000).verdict is PASS


class FailureTests:
    """Cases in which the client must fail the connection."""

    def test_passes_the_right_close_code(self):
        conversation = Conversation("framing.rsv-001").receive(CLOSE_1002)
        assert conversation.verdict is PASS
        assert [frame.opcode for frame in conversation.frames()] == [1, 8]

    def test_is_informational_with_another_code_or_without_a_close_frame(self):
        assert Conversation("framing.rsv-001").receive(CLOSE_1000).verdict is INFORMATIONAL
        assert Conversation("framing.rsv-001").lose().verdict is INFORMATIONAL

    @pytest.mark.parametrize("frame", [HELLO, build_frame(10, b"ping")])
    def test_fails_a_client_that_continues(self, frame):
        conversation = Conversation("framing.opcode-3").receive(frame)
        assert conversation.verdict is FAIL
        assert "did not fail the connection" in conversation.result.reason

    def test_fails_a_client_that_ignores_the_violation(self):
        assert Conversation("framing.rsv-001").time_out().verdict is FAIL

    def test_is_informational_where_the_rfc_does_not_require_it(self):
        assert Conversation("framing.length-16-too-long").receive(HELLO).verdict is INFORMATIONAL

    def test_tolerates_the_echo_of_a_message_before_the_violation(self):
        conversation = Conversation("framing.rsv-after-message").receive(HELLO)
        assert conversation.verdict is None
        assert conversation.receive(CLOSE_1002).verdict is PASS
        assert Conversation("framing.rsv-after-message").receive(HELLO, HELLO).verdict is FAIL

    def test_distinguishes_a_client_that_fails_at_once_from_one_that_fails_at_the_end(self):
        assert Conversation("text.bad-at-once").receive(CLOSE_1007).verdict is PASS
        late = Conversation("text.bad-at-once")
        assert late.timer[0] == LATE
        late.frames()
        late.time_out()
        assert [frame.opcode for frame in late.frames()] == [0]
        assert late.receive(CLOSE_1007).verdict is INFORMATIONAL


class ClosingTests:
    """Cases of the closing handshake."""

    def test_passes_the_code_of_the_server_or_1000(self):
        close_3000 = build_frame(8, (3000).to_bytes(2, "big"))
        assert Conversation("closing.code-3000").receive(close_3000).verdict is PASS
        assert Conversation("closing.code-3000").receive(CLOSE_1000).verdict is PASS
        assert Conversation("closing.code-3000").receive(CLOSE_1002).verdict is INFORMATIONAL

    def test_fails_an_echo_of_what_follows_the_close_frame(self):
        echo = build_frame(1, b"too late")
        assert Conversation("closing.message-after").receive(echo).verdict is FAIL
        assert Conversation("closing.message-after").receive(CLOSE_1000 + echo).verdict is FAIL
        assert Conversation("closing.message-after").receive(CLOSE_1000).verdict is PASS

    def test_waits_half_a_second_for_a_client_that_closes_tcp_first(self):
        waiting = Conversation("closing.waits-for-server").receive(CLOSE_1000)
        assert waiting.verdict is None
        assert waiting.timer[0] == 0.5
        assert waiting.time_out().verdict is PASS
        assert Conversation("closing.waits-for-server").receive(CLOSE_1000).lose().verdict is INFORMATIONAL


class HandshakeTests:
    """Cases in which the client must reject the response."""

    def test_passes_a_client_that_drops_the_connection(self):
        assert Conversation("handshake.accept-wrong").lose().verdict is PASS

    @pytest.mark.parametrize("frame", [HELLO, build_frame(10, b"ping")])
    def test_fails_a_client_that_sends_a_frame(self, frame):
        assert Conversation("handshake.accept-wrong").receive(frame).verdict is FAIL

    def test_fails_a_client_that_keeps_the_connection(self):
        assert Conversation("handshake.accept-wrong").time_out().verdict is FAIL

    def test_is_informational_if_the_connection_is_used_for_another_request(self):
        request = b"GET /case/1 HTTP/1.1\r\n"
        assert Conversation("handshake.accept-wrong").receive(request).verdict is INFORMATIONAL


class CompressionTests:
    """Cases of permessage-deflate."""

    def test_inflates_the_echo(self):
        deflate = zlib.compressobj(wbits=-15)
        payload = (deflate.compress(b"hello hello hello") + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        conversation = Conversation("compression.text")
        assert conversation.frames()[0].rsv == 4
        assert conversation.receive(build_frame(1, payload, rsv=4), CLOSE_1000).verdict is PASS

    def test_fails_an_echo_that_cannot_be_inflated(self):
        conversation = Conversation("compression.text").receive(build_frame(1, b"\x07", rsv=4))
        assert conversation.verdict is FAIL
        assert "cannot be inflated" in conversation.result.reason

    def test_fails_a_client_that_refers_to_earlier_messages_without_context_takeover(self):
        """With context takeover, the same bytes pass."""
        verdicts = []
        for name in ("compression.client-no-takeover", "compression.takeover"):
            conversation, deflate = Conversation(name), zlib.compressobj(wbits=-15)
            text = BY_ID[name].script.steps[0].expects[0].payload
            for _ in range(4):
                payload = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
                conversation.receive(build_frame(1, payload, rsv=4))
            verdicts.append(conversation.receive(CLOSE_1000).verdict)
        assert verdicts == [FAIL, PASS]

    def test_skips_a_client_without_compression(self):
        conversation = Conversation("compression.text")
        conversation.examination.skip("the client does not offer permessage-deflate")
        assert conversation.verdict is INFORMATIONAL
        assert not conversation.result.is_tested


def test_an_abandoned_case_has_no_result():
    conversation = Conversation("framing.text-1")
    conversation.examination.abandon()
    assert conversation.receive(HELLO).lose().result is None
