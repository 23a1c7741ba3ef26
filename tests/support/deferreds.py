"""Results of Deferreds in tests without a reactor."""

__all__ = ["result"]


def result(done):
    """Return the result of a Deferred that has fired."""
    found = []
    done.addCallback(found.append)
    return found[0]
