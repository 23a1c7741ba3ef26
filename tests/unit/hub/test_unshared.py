"""Tests for wsserver/hub/unshared.py: several processes without Redis."""

import pytest
from twisted.internet.task import Clock

from wsserver.errors import NotPermitted
from wsserver.hub.broker import Broker
from wsserver.hub.unshared import UnsharedBroker

CALLS = {
    "subscribe": ("a",),
    "publish": ("a", None, None, ""),
    "history": ("a", None, None, 1),
    "remove_history": ("a",),
    "members": ("a",),
    "nodes": (),
    "consume": ("key", 1.0),
}


@pytest.mark.parametrize(("name", "arguments"), CALLS.items(), ids=CALLS)
def test_refuses_every_operation_and_names_redis(name, arguments):
    found = []
    getattr(UnsharedBroker(Clock()), name)(*arguments).addErrback(found.append)
    assert found[0].check(NotPermitted)
    assert "need --redis" in str(found[0].value)


def test_is_ready_because_it_serves_what_it_can():
    broker: Broker = UnsharedBroker(Clock())
    assert broker.up
    assert broker.problem is None
