"""A server that is stopped under load."""

from collections import Counter

import pytest
from draining import ECHO, PUBLISH, drain


@pytest.mark.kernel
def test_answers_what_it_has_received_and_closes_500_clients_with_a_code():
    """The clients send messages until the Close frame; 500 connections are closed over 2.3 s."""
    drained = drain(500, 0.2, 1.0)
    assert drained.ended.codes == Counter({(ECHO, 1012): 250, (PUBLISH, 3001): 250})
    assert sum(drained.received.values()) > 1000
    assert drained.unanswered == 0
    assert drained.spread > 1
