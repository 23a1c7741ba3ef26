"""A short run of tests/fuzz/protobuf.py; `make fuzz-protobuf` runs a million frames under AddressSanitizer."""

import random

import protobuf

from wsserver.centrifugecodes import Disconnect
from wsserver.endpoints.centrifuge.protobuf_codec import PROTOBUF


def test_the_compiled_library_and_the_one_in_python_decode_the_same_commands():
    assert protobuf.compare(3000, random.SystemRandom().randrange(1, 2**31), sanitized=False) == ""


def test_the_frames_are_valid_and_invalid():
    rng = random.Random(1)
    parsed = [PROTOBUF.parse(protobuf.random_frame(rng)) for _ in range(1000)]
    invalid = sum(isinstance(commands[-1].request, Disconnect) for commands in parsed)
    assert 200 < invalid < 900
