"""
Twisted's own TLS tests with our class in place of Twisted's: a module for trial, run by test_tls.py.

The tests are those of the installed Twisted; if one fails after an upgrade, check `wsserver/wire/tls.py`.
"""

from twisted.protocols.test import test_tls as theirs
from twisted.protocols.tls import TLSMemoryBIOFactory

from wsserver.wire import tls


class Ours:
    """Replaces Twisted's class with ours."""

    def setUp(self):
        self.patch(theirs, "TLSMemoryBIOProtocol", tls.TLSProtocol)
        self.patch(TLSMemoryBIOFactory, "protocol", tls.TLSProtocol)
        super().setUp()


class DeterministicTests(Ours, theirs.DeterministicTLSMemoryBIOTests):
    """Tests without a reactor."""

    def test_smallWriteBuffering(self):
        """Not run: our class sends small writes immediately, on purpose."""

    test_smallWriteBuffering.skip = "meant otherwise"


class MemoryBIOTests(Ours, theirs.TLSMemoryBIOTests):
    """Data, shutdown, errors."""

    def test_errorWriting(self):
        """Not run: Twisted's test sets a private attribute of the protocol. test_tls.py has a similar test."""

    test_errorWriting.skip = "for Twisted's class alone"


class ProducerTests(Ours, theirs.TLSProducerTests):
    """Producers, and writes that must wait."""


class PullProducerTests(Ours, theirs.NonStreamingProducerTests):
    """Pull producers."""
