"""Tests for tests/fuzz/asan.py, without the build under AddressSanitizer."""

import asan


def test_the_python_twin_builds_a_frame():
    """
    The twin imports modules by name.

    Without this test, only `make fuzz-asan` would detect that a module has moved.
    """
    assert asan.python_twin().answer(("build", (0x81, b"hi"))) == b"\x81\x02hi"
