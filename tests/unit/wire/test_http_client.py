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
    """A collector of at most ten bytes, with its connection."""
    collector = BodyCollector(10)
    collector.makeConnection(StringTransport())
    return collector


def outcome(collector):
    """Return what `done` has fired with, or the type and text of its error; None if it has not fired."""
    found = []
    collector.done.addCallbacks(found.append, lambda failure: found.append((failure.type, failure.getErrorMessage())))
    return found[0] if found else None


class BodyCollectorTests:
    """A response body of limited size."""

    @pytest.mark.parametrize("reason", [ResponseDone(), PotentialDataLoss()])
    def test_a_complete_body_is_returned(self, collector, reason):
        """A body without a declared length ends with the connection."""
        collector.dataReceived(b"01234")
        collector.dataReceived(b"56789")
        assert not collector.done.called
        collector.connectionLost(Failure(reason))
        assert outcome(collector) == b"0123456789"

    def test_a_body_over_the_limit_closes_the_connection(self, collector):
        """The rest is not waited for, and what still arrives is ignored."""
        collector.dataReceived(b"01234567890")
        assert collector.transport.disconnecting
        collector.dataReceived(b"more")
        collector.connectionLost(Failure(ResponseDone()))
        assert outcome(collector) == (ValueError, "the response body is over 10 bytes")

    def test_an_incomplete_body_fails_with_the_reason_of_the_connection(self, collector):
        """It is not mistaken for a short body."""
        collector.dataReceived(b"0")
        collector.connectionLost(Failure(ConnectionLost("gone")))
        kind, text = outcome(collector)
        assert kind is ConnectionLost
        assert "gone" in text

    def test_fail_closes_the_connection_and_names_the_reason(self, collector):
        """As for a response whose status is wrong."""
        collector.fail("the answer is 500")
        assert collector.transport.disconnecting
        assert outcome(collector) == (ValueError, "the answer is 500")

    def test_fail_after_the_body_changes_nothing(self, collector):
        """The body has been returned already."""
        collector.connectionLost(Failure(ResponseDone()))
        collector.fail("late")
        assert outcome(collector) == b""

    def test_cancelling_closes_the_connection(self, collector):
        """As a timeout does."""
        collector.done.addErrback(lambda failure: None)
        collector.done.cancel()
        assert collector.transport.disconnecting
