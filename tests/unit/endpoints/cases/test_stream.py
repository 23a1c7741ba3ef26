"""What a client sends: limits, and bytes of every kind."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsserver.endpoints.cases.frames import MAX_FRAMES, Violation
from wsserver.endpoints.cases.script import Message
from wsserver.endpoints.cases.stream import ClientStream
from wsserver.testing import build_frame


def test_refuses_more_frames_than_the_limit():
    """Otherwise a message of empty fragments would never end."""
    stream = ClientStream(None, 1000)
    assert list(stream.feed(build_frame(1, b"", fin=False)))
    many = build_frame(0, b"", fin=False) * (MAX_FRAMES - 1)
    assert len(list(stream.feed(many))) == MAX_FRAMES - 1
    with pytest.raises(Violation, match=f"over {MAX_FRAMES} frames"):
        list(stream.feed(build_frame(0, b"")))


@pytest.mark.parametrize(
    "data", [build_frame(2, b"*" * 1001), build_frame(2, b"*" * 600, fin=False) + build_frame(0, b"*" * 600)]
)
def test_refuses_a_larger_message_than_the_limit(data):
    with pytest.raises(Violation, match="more than this case allows"):
        list(ClientStream(None, 1000).feed(data))


def test_a_large_frame_that_arrives_byte_by_byte_costs_no_more_for_each_byte():
    """If each byte copied what is there, 20,000 bytes would take 10 seconds."""
    stream, size = ClientStream(None, 4 * 1024**2), 4 * 1024**2
    data = build_frame(2, bytes(size))
    list(stream.feed(data[:-20_000]))
    started = time.process_time()
    found = [event for at in range(len(data) - 20_000, len(data)) for _, event in stream.feed(data[at : at + 1])]
    assert time.process_time() - started < 2
    assert found == [Message(bytes(size), True)]


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_finds_the_messages_wherever_the_bytes_are_split(payloads, size):
    data = b"".join(build_frame(2, payload) for payload in payloads)
    stream = ClientStream(None, 1000)
    found = [event for at in range(0, len(data), size) for _, event in stream.feed(data[at : at + size])]
    assert found == [Message(payload, True) for payload in payloads]
    assert not stream.is_within_frame


@given(st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_frames_or_a_violation(data):
    """No other exception: it would be logged as a failure of the server."""
    stream, violations = ClientStream(None, 1000), []
    try:
        frames = [frame for frame, _ in stream.feed(data)]
    except Violation as error:
        violations.append(str(error))
    else:
        assert sum(len(frame.payload) for frame in frames) <= len(data)
    assert all(one.startswith("the client ") for one in violations)
