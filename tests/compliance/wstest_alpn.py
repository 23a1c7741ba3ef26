"""
Start wstest with a client that offers `http/1.1` by ALPN, as browsers do (RFC 7301).

It runs under the Python 2.7 of wstest.
"""

from autobahntestsuite.wstest import run
from twisted.internet.ssl import ClientContextFactory

make_context = ClientContextFactory.getContext


def make_context_with_offer(factory):  # type: ignore[no-untyped-def]
    """Make wstest's context, and add the offer."""
    context = make_context(factory)
    context.set_alpn_protos([b"http/1.1"])
    return context


ClientContextFactory.getContext = make_context_with_offer

if __name__ == "__main__":
    run()
