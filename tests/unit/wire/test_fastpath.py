"""Tests for wsserver/wire/fastpath.py: both versions, on a state machine and a transport that only record calls."""

import random
import sys

import pytest

from wsserver.testing import build_frame
from wsserver.wire import fastpath, frames
from wsserver.wire.fastpath import FRAMES_PER_TURN, LARGE, PyFastPath
from wsserver.wire.frames import FIN_BINARY, FIN_TEXT, RSV1

LIMIT = 1 << 20


class RecordingConnection:
    """
    The other layers of a connection: all that a subclass of `FastPath` provides. It is its own transport.

    It does not test the real state machine, and its transport accepts all writes.

    Args:
        compressed: whether permessage-deflate was negotiated.
    """

    maxMessagePayloadSize = LIMIT
    on_message = on_slow = on_write = None
    """Called with the connection and the data, if not None."""

    def __init__(self, compressed=False):
        super().__init__()
        self.calls = []
        self.begun = 0
        """Number of messages of which only the first part had arrived."""
        self.written = []
        self.transport = self
        self.state, self._plain, self._compressed = 3, True, compressed

    def write(self, data):
        assert type(data) is bytes
        self.written.append(data)
        self.calls.append(("write", data))
        if self.on_write is not None:
            self.on_write(self, data)

    def onMessage(self, payload, isBinary):
        assert type(payload) is bytes
        assert type(isBinary) is bool
        self.calls.append(("message", payload, isBinary))
        if self.on_message is not None:
            self.on_message(self, payload)

    def _slow(self, data, budget):
        assert type(data) is bytes
        self.calls.append(("slow", data, budget))
        if self.on_slow is not None:
            self.on_slow(self, data)

    def _inflate(self, payload, first):
        self.calls.append(("inflate", payload, first))
        return None if payload.startswith(b"bad") else payload * 2

    def _deflate(self, payload):
        return b"<" + payload + b">"

    def _frames_allowed(self, size):
        raise AssertionError("called without a meter")

    def _message_begun(self):
        self.begun += 1

    def _give_up_partial(self):
        partial, self._partial = self._partial, None
        self._plain = False
        self.calls.append(("give up", partial.raw()))

    def _endpoint_failed(self):
        self.calls.append(("failed", sys.exc_info()[0]))

    def _cancel_ping_timeout(self):
        self.calls.append(("alive",))
        self.autoPingTimeoutCall = None

    def _send_in_parts(self, *arguments):
        self.calls.append(("parts", *arguments))

    # Recorded results.

    def named(self, *names):
        """Return the calls with these names."""
        return [call for call in self.calls if call[0] in names]

    @property
    def messages(self):
        """Payloads of the messages."""
        return [call[1] for call in self.named("message")]

    @property
    def counters(self):
        """Numbers of messages and bytes received, and of messages and bytes sent."""
        return self.messages_in, self.bytes_in, self.messages_out, self.bytes_out

    def merged(self):
        """Return all calls; consecutive writes are joined."""
        merged = []
        for call in self.calls:
            if call[0] == "write" and merged and merged[-1][0] == "write":
                merged[-1] = ("write", merged[-1][1] + call[1])
            else:
                merged.append(call)
        return merged


class Python(RecordingConnection, PyFastPath):
    """A connection of the Python version."""


KINDS = [Python]

if frames.COMPILED:

    class Compiled(RecordingConnection, frames.SPEEDUPS.FastPath):
        """A connection of the compiled version."""

    KINDS.append(Compiled)


@pytest.fixture(autouse=True)
def python_frames(monkeypatch):
    """Replace all that the Python version uses by Python code; the compiled one is not affected."""
    monkeypatch.setattr(frames, "parse", frames.py_parse)
    monkeypatch.setattr(frames, "build", frames.py_build)
    monkeypatch.setattr(fastpath, "Partial", frames.PyPartial)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def connect(request):
    """Return the class of a connection, of each version."""
    return request.param


@pytest.fixture
def connection(connect):
    """Return an open connection of each version."""
    return connect()


def echo(connection, payload):
    """Answer with the same payload."""
    connection.sendMessage(payload)


class ReceivingTests:
    """From the bytes of a read to the endpoint. Other frames are passed on to the state machine."""

    def test_a_new_connection_has_zero_counters_no_partial_frame_and_no_deadline(self, connection):
        """The size limit of a new connection is that of its class."""
        new = type(connection).__mro__[2].__new__(type(connection))
        type(connection).__mro__[2].__init__(new)
        assert (new.state, new._plain, new._compressed, new._limit) == (1, False, False, LIMIT)
        assert (new._cork, new._partial, new.autoPingTimeoutCall) == (None, None, None)
        assert new.counters == (0, 0, 0, 0)

    def test_dispatches_all_messages_of_a_read_in_order(self, connection):
        connection.dataReceived(build_frame(1, "é".encode()) + build_frame(2, b"\xff") + build_frame(1))
        assert connection.calls == [
            ("message", "é".encode(), False),
            ("message", b"\xff", True),
            ("message", b"", False),
        ]
        assert connection.counters == (3, 3, 0, 0)

    def test_an_empty_read_does_nothing(self, connection):
        connection.dataReceived(b"")
        assert connection.calls == []

    @pytest.mark.parametrize("wrong", [None, 5])
    def test_raises_type_error_if_the_data_is_not_bytes(self, connection, wrong):
        with pytest.raises(TypeError):
            connection.dataReceived(wrong)
        assert connection.calls == []

    @pytest.mark.parametrize("more", [0, 1, 300])
    def test_passes_everything_after_256_frames_on_with_a_budget_of_0(self, connection, more):
        data = build_frame(1, b"x") * (FRAMES_PER_TURN + more)
        connection.dataReceived(data)
        assert len(connection.messages) == FRAMES_PER_TURN
        rest = data[FRAMES_PER_TURN * 7 :]
        assert connection.named("slow") == ([("slow", rest, 0)] if more else [])

    def test_a_partial_frame_counts_against_the_budget_of_the_read_that_completes_it(self, connection):
        """The partial frame is frame 256 of the first read. After it, the second read dispatches 255 more frames."""
        data = build_frame(1, b"x") * (FRAMES_PER_TURN - 1) + build_frame(1, b"long")
        connection.dataReceived(data[:-1])
        assert connection.calls[-1] == ("message", b"x", False)
        assert connection._partial is not None
        connection.dataReceived(data[-1:] + build_frame(1, b"x") * FRAMES_PER_TURN)
        assert connection.messages[FRAMES_PER_TURN - 1] == b"long"
        assert connection.calls[-1] == ("slow", build_frame(1, b"x"), 0)

    @pytest.mark.parametrize("opcode", [0, 3, 8, 9, 10])
    def test_passes_on_a_frame_that_is_not_a_data_frame_and_all_after_it(self, connection, opcode):
        rest = build_frame(opcode, b"??") + build_frame(1, b"after")
        connection.dataReceived(build_frame(1, b"before") + rest)
        assert connection.calls == [("message", b"before", False), ("slow", rest, FRAMES_PER_TURN - 1)]

    @pytest.mark.parametrize(
        "wrong",
        [
            build_frame(1, b"Hel", fin=False),
            build_frame(1, b"x", rsv=4),
            build_frame(1, b"xxxx", mask=b""),
            build_frame(1, b"\xff"),
            build_frame(2, bytes(LIMIT + 1))[:100],
            b"\x82\xff" + b"\xff" * 50,
            b"\x82\xfe\x00\x01mask" + bytes(9),
        ],
    )
    def test_passes_on_an_invalid_frame_from_its_first_byte(self, connection, wrong):
        """Fragments and frames over the size limit are passed on from their first byte, too."""
        connection.dataReceived(build_frame(1, b"before") + wrong)
        assert connection.calls == [("message", b"before", False), ("slow", wrong, FRAMES_PER_TURN - 1)]
        assert connection._partial is None

    def test_passes_everything_on_while_the_connection_is_not_plain(self, connection):
        """The state machine is within a frame, for example."""
        connection._plain = False
        connection.dataReceived(build_frame(1, b"x"))
        assert connection.calls == [("slow", build_frame(1, b"x"), FRAMES_PER_TURN)]

    def test_a_message_of_exactly_the_limit_is_dispatched_and_a_larger_one_passed_on(self, connection):
        connection._limit = 1000
        connection.dataReceived(build_frame(2, bytes(1000)))
        connection.dataReceived(build_frame(2, bytes(1001))[:20])
        assert [call[0] for call in connection.calls] == ["message", "slow"]
        connection._limit = 0
        connection.dataReceived(build_frame(2) + build_frame(2, b"x"))
        assert [call[0] for call in connection.calls[2:]] == ["message", "slow"]

    # Partial frames.

    @pytest.mark.parametrize("step", [1, 2, 3, 5, 6, 7, 100])
    def test_a_frame_split_anywhere_in_its_payload_is_dispatched_when_complete(self, connection, step):
        """A frame split within its header is passed on to the state machine."""
        payload = ("aé日😀" * 30).encode()
        frame = build_frame(1, payload)
        connection.dataReceived(build_frame(2, b"x") + frame[:8])
        assert connection.named("slow") == []
        for start in range(8, len(frame), step):
            assert connection.messages == [b"x"]
            connection.dataReceived(frame[start : start + step])
        assert connection.messages == [b"x", payload]
        assert connection._partial is None
        assert connection.begun == 1
        for cut in range(1, 8):
            connection.dataReceived(frame[:cut])
            assert connection.calls[-1] == ("slow", frame[:cut], FRAMES_PER_TURN)

    def test_frames_after_a_partial_frame_are_dispatched_in_the_same_read(self, connection):
        frame = build_frame(2, b"12345678")
        connection.dataReceived(frame[:10])
        connection.dataReceived(frame[10:] + frame + frame[:7])
        assert connection.messages == [b"12345678"] * 2
        connection.dataReceived(frame[7:] + build_frame(9))
        assert connection.messages == [b"12345678"] * 3
        assert connection.calls[-1] == ("slow", build_frame(9), FRAMES_PER_TURN - 1)

    @pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0", b"\xf4\x90"])
    def test_passes_on_partial_text_at_the_first_byte_that_is_not_utf_8(self, connection, bad):
        """The state machine gets the frame so far, and all that follows."""
        frame = build_frame(1, b"good" + bad + b"never mind")
        connection.dataReceived(frame[:9])
        assert connection.calls == []
        connection.dataReceived(frame[9 : 10 + len(bad)])
        assert connection.calls == [("give up", frame[: 10 + len(bad)])]
        connection.dataReceived(frame[10 + len(bad) :])
        assert connection.calls[1:] == [("slow", frame[10 + len(bad) :], FRAMES_PER_TURN)]

    def test_passes_on_complete_text_that_ends_within_a_character(self, connection):
        frame = build_frame(1, "xx日".encode()[:-1])
        connection.dataReceived(frame[:-1])
        assert connection._partial is not None
        connection.dataReceived(frame[-1:] + b"rest")
        assert connection.calls == [("give up", frame), ("slow", b"rest", FRAMES_PER_TURN)]

    def test_keeps_a_partial_frame_when_the_connection_stops_being_plain(self, connection):
        frame = build_frame(2, b"12345678")
        connection.dataReceived(frame[:10])
        connection._plain = False
        connection.dataReceived(frame[10:])
        assert connection.calls == [("slow", frame[10:], FRAMES_PER_TURN)]
        assert connection._partial.raw() == frame[:10]

    @pytest.mark.parametrize(("start", "budget"), [(0, 1), (7, 1), (7, 256), (14, 5), (0, 0), (0, -1)])
    def test_dispatches_from_an_index_within_the_remaining_budget(self, connection, start, budget):
        """The state machine calls `_fast` when it has processed the frame that was passed on to it."""
        data = build_frame(1, b"1") + build_frame(1, b"2")
        taken = max(0, min(budget, 2 - start // 7))
        assert connection._fast(data, start, budget) == (start + 7 * taken, budget - taken)
        assert connection.messages == [b"1", b"2"][start // 7 :][:taken]

    # The endpoint.

    def test_reports_each_exception_of_the_endpoint_and_dispatches_the_next_message(self, connection):
        def fail(connection, payload):
            raise ZeroDivisionError

        connection.on_message = fail
        connection.dataReceived(build_frame(1, b"1") + build_frame(1, b"2"))
        assert [call[:2] for call in connection.calls] == [
            ("message", b"1"),
            ("failed", ZeroDivisionError),
            ("message", b"2"),
            ("failed", ZeroDivisionError),
        ]
        assert connection.counters == (2, 2, 0, 0)

    def test_does_not_catch_system_exit(self, connection):
        """The next read starts as usual, and sends what was queued."""

        def leave(connection, payload):
            connection.sendMessage(b"sent")
            raise SystemExit

        connection.on_message = leave
        with pytest.raises(SystemExit):
            connection.dataReceived(build_frame(1, b"1"))
        assert connection.named("failed") == []
        connection.on_message = None
        connection.dataReceived(b"")
        assert connection.written == [b"\x81\x04sent"]

    @pytest.mark.parametrize("partial", [False, True])
    def test_passes_on_what_follows_the_message_in_which_the_endpoint_closes(self, connection, partial):
        def close(connection, payload):
            connection._plain = False

        frame, rest = build_frame(1, b"bye"), build_frame(1, b"too late") + b"\x81"
        if partial:
            connection.dataReceived(frame[:7])
        connection.on_message = close
        connection.dataReceived(frame[7 if partial else 0 :] + rest)
        assert connection.calls == [("message", b"bye", False), ("slow", rest, FRAMES_PER_TURN - 1)]

    # permessage-deflate.

    def test_inflates_each_compressed_message_before_it_dispatches_the_next(self, connect):
        """The counters count inflated bytes."""
        connection = connect(compressed=True)
        connection.dataReceived(
            build_frame(1, b"ab", rsv=4) + build_frame(2, b"plain") + build_frame(2, b"\xff", rsv=4)
        )
        assert connection.calls == [
            ("inflate", b"ab", FIN_TEXT | RSV1),
            ("message", b"abab", False),
            ("message", b"plain", True),
            ("inflate", b"\xff", FIN_BINARY | RSV1),
            ("message", b"\xff\xff", True),
        ]
        assert connection.counters == (3, 11, 0, 0)

    def test_a_message_that_cannot_be_inflated_is_not_dispatched_but_uses_budget(self, connect):
        connection = connect(compressed=True)
        connection.dataReceived(build_frame(1, b"bad", rsv=4) + build_frame(9))
        assert connection.calls == [
            ("inflate", b"bad", FIN_TEXT | RSV1),
            ("slow", build_frame(9), FRAMES_PER_TURN - 1),
        ]
        assert connection.counters == (0, 0, 0, 0)

    def test_reports_an_exception_of_the_inflater_like_one_of_the_endpoint(self, connect):
        connection = connect(compressed=True)
        connection._inflate = lambda payload, first: 1 // 0
        connection.dataReceived(build_frame(1, b"ab", rsv=4))
        assert connection.calls == [("failed", ZeroDivisionError)]

    def test_passes_on_incomplete_frames_if_compression_was_negotiated(self, connect):
        connection = connect(compressed=True)
        for rsv in (0, 4):
            frame = build_frame(1, b"abcdef", rsv=rsv)
            connection.dataReceived(frame[:-1])
            assert connection.calls[-1] == ("slow", frame[:-1], FRAMES_PER_TURN)
        assert connection._partial is None

    # The ping timeout.

    @pytest.mark.parametrize("count", [1, 3])
    def test_cancels_the_ping_timeout_once_a_read_after_its_messages(self, connection, count):
        """A message counts as a pong."""
        connection.autoPingTimeoutCall = "soon"
        connection.dataReceived(build_frame(1, b"x") * count)
        assert [call[0] for call in connection.calls] == ["message"] * count + ["alive"]
        connection.dataReceived(build_frame(1, b"x"))
        assert len(connection.named("alive")) == 1

    def test_neither_partial_nor_passed_on_frames_cancel_the_ping_timeout(self, connection):
        connection.autoPingTimeoutCall = "soon"
        frame = build_frame(2, b"12345678")
        connection.dataReceived(frame[:10])
        connection.dataReceived(frame[10:12])
        assert connection.named("alive") == []
        connection.dataReceived(frame[12:] + build_frame(9))
        assert [call[0] for call in connection.calls] == ["message", "alive", "slow"]
        connection.autoPingTimeoutCall = "soon"
        connection.dataReceived(build_frame(9))
        assert len(connection.named("alive")) == 1


class SendingTests:
    """From the endpoint to one write."""

    @pytest.mark.parametrize("binary", [False, True])
    def test_writes_a_message_at_once_outside_of_a_read(self, connection, binary):
        for size in (0, 1, 125, 126, 65535, 65536):
            connection.sendMessage(bytes(size), binary)
            assert b"".join(connection.written) == build_frame(2 if binary else 1, bytes(size), mask=b"")
            connection.written.clear()
        assert connection.counters == (0, 0, 6, 131_323)

    def test_joins_all_messages_sent_during_a_read_into_one_write(self, connection):
        connection.on_message = echo
        connection.dataReceived(build_frame(1, b"1") + build_frame(1, b"2") + build_frame(1, b"3"))
        assert [call[0] for call in connection.calls] == ["message"] * 3 + ["write"]
        assert connection.written == [b"\x81\x011\x81\x012\x81\x013"]
        connection.dataReceived(build_frame(1, b"4"))
        assert connection.written[1:] == [b"\x81\x014"]
        assert connection.counters == (4, 4, 4, 4)

    def test_messages_sent_by_the_state_machine_leave_in_the_same_write(self, connection):
        connection.on_message = echo
        connection.on_slow = lambda connection, data: connection.sendMessage(b"slow")
        connection.dataReceived(build_frame(1, b"1") + build_frame(9))
        assert connection.written == [b"\x81\x011\x81\x04slow"]

    @pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 100_000])
    def test_writes_a_payload_of_32_kib_at_once_after_what_was_queued(self, connection, size):
        """Messages sent after it leave at the end of the read."""
        large, seen = bytes(size), []
        connection.on_message = lambda connection, payload: (
            connection.sendMessage(b"before"),
            connection.sendMessage(large, True),
            seen.append(b"".join(connection.written)),
            connection.sendMessage(b"after"),
            seen.append(b"".join(connection.written)),
        )
        connection.dataReceived(build_frame(1, b"x"))
        before = b"\x81\x06before" + build_frame(2, large, mask=b"")
        assert seen == ([before] * 2 if size >= LARGE else [b""] * 2)
        assert b"".join(connection.written) == before + b"\x81\x05after"
        assert connection.written[-1].endswith(b"\x81\x05after")

    def test_a_large_payload_that_compresses_to_a_small_one_is_queued(self, connect):
        connection = connect(compressed=True)
        connection._deflate = lambda payload: b"small"
        seen = []
        connection.on_message = lambda connection, payload: (
            connection.sendMessage(bytes(LARGE)),
            seen.append(connection.written[:]),
        )
        connection.dataReceived(build_frame(1, b"x"))
        assert seen == [[]]
        assert connection.written == [b"\xc1\x05small"]
        assert connection.counters == (1, 1, 1, LARGE)

    def test_a_message_sent_during_a_write_follows_that_write(self, connection):
        def once(connection, data):
            connection.on_write = None
            connection.sendMessage(b"within")

        connection.on_message = echo
        for payload in (b"small", bytes(LARGE)):
            connection.written.clear()
            connection.on_write = once
            connection.dataReceived(build_frame(1, payload))
            assert b"".join(connection.written) == build_frame(1, payload, mask=b"") + b"\x81\x06within"

    @pytest.mark.parametrize("state", [0, 1, 2, 4])
    def test_sends_nothing_and_raises_nothing_while_the_connection_is_not_open(self, connection, state):
        """Even a payload of the wrong type raises nothing then."""
        connection.state = state
        for payload in (b"x", bytes(LARGE), None, "text"):
            connection.sendMessage(payload)
        connection.sendMessage(b"x", fragmentSize=1)
        assert connection.calls == []
        assert connection.counters == (0, 0, 0, 0)

    @pytest.mark.parametrize("kind", [str, bytearray, memoryview, list, None], ids=str)
    @pytest.mark.parametrize("size", [0, 3, LARGE])
    def test_raises_type_error_if_the_payload_is_not_bytes(self, connection, kind, size):
        """Nothing is sent or counted."""
        payload = None if kind is None else "x" * size if kind is str else kind(bytes(size))
        for options in ({}, {"fragmentSize": 1}, {"sync": True}):
            with pytest.raises(TypeError, match="payload must be bytes, not "):
                connection.sendMessage(payload, **options)
        assert connection.calls == []
        assert connection.counters == (0, 0, 0, 0)

    @pytest.mark.parametrize("size", [0, 3, LARGE])
    def test_sends_an_instance_of_a_subclass_of_bytes(self, connect, size):
        class Kind(bytes):
            pass

        for compressed in (False, True):
            connection = connect(compressed)
            connection.sendMessage(Kind(size))
            payload = b"<" + bytes(size) + b">" if compressed else bytes(size)
            assert b"".join(connection.written) == build_frame(1, payload, rsv=4 * compressed, mask=b"")

    def test_passes_on_messages_to_be_fragmented_or_written_separately(self, connection):
        connection.sendMessage(b"x", True, fragmentSize=1)
        connection.sendMessage(b"y", sync=True, doNotCompress=True)
        assert connection.calls == [("parts", b"x", True, 1, False, False), ("parts", b"y", False, None, True, True)]
        assert connection.counters == (0, 0, 0, 0)

    def test_compresses_messages_except_with_do_not_compress(self, connect):
        """The counters count bytes before compression."""
        connection = connect(compressed=True)
        connection.sendMessage(b"one")
        connection.sendMessage(b"two", True)
        connection.sendMessage(b"three", doNotCompress=True)
        assert connection.written == [b"\xc1\x05<one>", b"\xc2\x05<two>", b"\x81\x05three"]
        assert connection.counters == (0, 0, 3, 11)

    def test_uncork_writes_queued_messages_and_disables_queuing_for_the_read(self, connection):
        connection.on_message = lambda connection, payload: (
            echo(connection, payload),
            connection._uncork(),
            connection._uncork(),
        )
        connection.dataReceived(build_frame(1, b"1") + build_frame(1, b"2"))
        assert connection.written == [b"\x81\x011", b"\x81\x012"]


class RandomPeer:
    """
    Act as the peer and the endpoint, in the same way for both versions.

    Args:
        seed: of the random numbers; the same for both.
        connection: connection of one version.
    """

    def __init__(self, seed, connection):
        self.dice, self.connection = random.Random(seed), connection
        connection.on_message = connection.on_slow = self.act
        connection.state = self.dice.choice((3, 3, 3, 3, 1))
        connection._limit = self.dice.choice((LIMIT, LIMIT, 1000, 5, 0))

    def payload(self):
        dice = self.dice
        text = "".join(dice.choices("aé日😀\x7f", k=dice.choice((0, 1, 2, 10, 40, 126)))).encode()
        choice = dice.random()
        if choice < 0.1:
            return text[:-1]
        return dice.randbytes(dice.choice((1, 100, LARGE - 3, LARGE, 70_000))) if choice < 0.15 else text

    def act(self, connection, payload):
        dice, choice = self.dice, self.dice.random()
        if choice < 0.6:
            connection.sendMessage(payload[: 2 * LARGE], dice.random() < 0.5, doNotCompress=dice.random() < 0.3)
        if choice < 0.05:
            connection.sendMessage(self.payload() * dice.choice((1, 1, 500)))
        elif choice < 0.07:
            connection._plain = False
        elif choice < 0.09:
            connection.autoPingTimeoutCall = "soon"
        elif choice < 0.10:
            connection._uncork()
        elif choice < 0.11:
            raise ZeroDivisionError

    def stream(self):
        dice, data = self.dice, bytearray()
        for _ in range(dice.choice((1, 2, 5, 5, 300))):
            opcode, rsv = dice.choice((1, 1, 1, 2, 2, dice.randrange(16))), dice.choice((0, 0, 0, 0, 4))
            payload = self.payload() if len(data) < 100_000 else b"x"
            data += build_frame(opcode, payload, mask=dice.randbytes(4), rsv=rsv, fin=dice.random() < 0.97)
        if dice.random() < 0.1:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        return bytes(data)

    def play(self):
        """Run until the stream ends. Returns the calls, the counters and the states between reads."""
        dice, connection, data, start = self.dice, self.connection, self.stream(), 0
        states = []
        while start < len(data):
            stop = start + dice.choice((1, 3, 10, 50, 1000, len(data)))
            connection._plain = dice.random() < 0.95
            try:
                connection.dataReceived(data[start:stop])
            except ZeroDivisionError:
                states.append("raised")
            start, partial = stop, connection._partial
            states.append((connection._plain, connection._cork and b"".join(connection._cork)))
            states.append(partial and (partial.raw(), partial.complete, partial.valid, partial.first))
        return connection.merged(), connection.counters, states


@pytest.mark.skipif(not frames.COMPILED, reason="the extension is not built")
class BothVersionsTests:
    """The Python and the compiled version."""

    def test_4000_random_connections_behave_the_same_in_both_versions(self):
        """The test compares calls, writes, counters and the state between reads."""
        names = set()
        for seed in range(4000):
            python, compiled = (RandomPeer(seed, kind(compressed=seed % 4 == 0)).play() for kind in (Python, Compiled))
            assert python == compiled, f"seed {seed}"
            names |= {call[0] for call in python[0]}
        assert names == {"message", "write", "slow", "inflate", "give up", "failed", "alive"}

    def test_an_overridden_data_received_can_call_the_base_class(self):
        for kind in KINDS:

            class Own(kind):
                def dataReceived(self, data):
                    super().dataReceived(data[1:])

            connection = Own()
            connection.dataReceived(b"?" + build_frame(1, b"x"))
            assert connection.messages == [b"x"]
