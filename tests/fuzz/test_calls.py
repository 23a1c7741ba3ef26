"""The calls that `asan.py` makes, without sanitizers: both twins answer alike, and the calls cover everything."""

import random

import pytest
from calls import Twin, decode, encoded, inputs, spoiled

from wsserver.hub.delta import py_create_delta
from wsserver.wire import frames
from wsserver.wire.fastpath import PyFastPath
from wsserver.wire.http11 import py_split_head

CALLS = 20_000


def python():
    """Return the Python twin."""
    return Twin(frames.py_parse, frames.py_build, frames.PyPartial, PyFastPath, py_split_head, py_create_delta)


@pytest.fixture(autouse=True)
def python_frames(monkeypatch):
    """Make the Python twin use no compiled functions; the compiled twin does not look them up there."""
    monkeypatch.setattr(frames, "parse", frames.py_parse)
    monkeypatch.setattr(frames, "build", frames.py_build)
    monkeypatch.setattr("wsserver.wire.fastpath.Partial", frames.PyPartial)


class CallTests:
    """Calls with arbitrary bytes."""

    @pytest.mark.skipif(not frames.COMPILED, reason="there is only one twin")
    def test_both_twins_give_the_same_answers_to_20000_calls(self):
        """Half of the calls are corrupted."""
        module = frames.SPEEDUPS
        twins = (
            python(),
            Twin(
                *(module.parse, module.build, module.Partial, module.FastPath, module.split_head, module.create_delta)
            ),
        )
        rng = random.Random(6455)
        for _ in range(CALLS // 2):
            data = encoded(rng)
            for call in (decode(data), decode(spoiled(rng, data))):
                assert twins[0].answer(call) == twins[1].answer(call), call

    def test_the_calls_are_of_every_kind_and_reach_every_event(self):
        rng, twin, names, done = random.Random(7692), python(), set(), set()
        for _ in range(CALLS // 10):
            call = decode(encoded(rng))
            assert all(type(data) is bytes for data in inputs(call))
            names.add(call[0])
            answer = twin.answer(call)
            if call[0] == "fast_path":
                done |= {event[0] for event in answer if type(event[0]) is str}
        assert names == {"parse", "build", "partial", "fast_path", "split_head", "create_delta"}
        assert done == {"message", "begun", "write", "slow", "partial", "give up", "inflate", "failed", "alive"}

    @pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 9, b"\x02" * 30, b"\x03" * 30])
    def test_any_bytes_decode_to_a_call_that_the_python_twin_answers(self, data):
        python().answer(decode(data))
