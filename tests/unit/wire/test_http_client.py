"""Tests for wsserver/wire/http_client.py."""

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from wsserver.wire.http_client import BodyCollector


@pytest.fixture
def collector():
    """Return a collector of at most ten bytes, connected."""
    collector = BodyCollector(10)
    collector.makeConnection(StringTransport())
    return collector


def outcome(collector):
    """Return the result of `done`, or the type and text of its error; None if it has not fired."""
    found = []
    collector.done.addCallbacks(found.append, lambda failure: found.append((failure.type, failure.getErrorMessage())))
    return found[0] if found else None


class BodyCollectorTests:
    """Collecting a response body of limited size."""

    @pytest.mark.parametrize("reason", [ResponseDone(), PotentialDataLoss()])
    def test_returns_the_body_when_the_response_is_complete(self, collector, reason):
        """If the response does not declare a length, the end of the connection is the end of the body."""
        collector.dataReceived(b"01234")
        collector.dataReceived(b"56789")
        assert not collector.done.called
        collector.connectionLost(Failure(reason))
        assert outcome(collector) == b"0123456789"

    def test_closes_the_connection_and_fails_at_the_eleventh_byte(self, collector):
        """Bytes that still arrive are ignored."""
        collector.dataReceived(b"01234567890")
        assert collector.transport.disconnecting
        collector.dataReceived(b"more")
        collector.connectionLost(Failure(ResponseDone()))
        assert outcome(collector) == (ValueError, "the response body is over 10 bytes")

    def test_fails_with_connection_lost_if_the_body_is_incomplete(self, collector):
        """An incomplete body must not pass for a short one."""
        collector.dataReceived(b"0")
        collector.connectionLost(Failure(ConnectionLost("gone")))
        kind, text = outcome(collector)
        assert kind is ConnectionLost
        assert "gone" in text

    def test_fail_closes_the_connection_and_names_the_reason(self, collector):
        """Callers use it for an unexpected status."""
        collector.fail("the answer is 500")
        assert collector.transport.disconnecting
        assert outcome(collector) == (ValueError, "the answer is 500")

    def test_fail_after_the_complete_body_has_no_effect(self, collector):
        collector.connectionLost(Failure(ResponseDone()))
        collector.fail("late")
        assert outcome(collector) == b""

    def test_cancelling_closes_the_connection(self, collector):
        """A timeout cancels `done`."""
        collector.done.addErrback(lambda failure: None)
        collector.done.cancel()
        assert collector.transport.disconnecting
