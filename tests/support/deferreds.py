"""Deferreds in tests without a reactor."""

__all__ = ["result"]


def result(done):
    """Give what a Deferred has fired with."""
    found = []
    done.addCallback(found.append)
    return found[0]
