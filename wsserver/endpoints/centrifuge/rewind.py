"""
Rewinds of Centrifuge clients: a subscription begins with the last publications, in the terms of a recovery.

Source: `isCacheRecovered` and `subscribeCmd` in `client.go` of centrifugal/centrifuge, which do this for one
publication.

This module does not use Twisted, a clock or a socket.
"""

from wsserver.endpoints.centrifuge.commands import Subscribe
from wsserver.endpoints.centrifuge.permissions import SubscribeGrant
from wsserver.hub.hub import Joined
from wsserver.hub.rules import Rule
from wsserver.hub.stream import Position

__all__ = ["as_recovery", "rewind_of"]


def rewind_of(request: Subscribe, grant: SubscribeGrant, rule: Rule) -> tuple[int, bool]:
    """
    Return how many of the last publications a client receives, and whether it receives them in any case.

    Args:
        request: the client's command. With an empty `since`, SDKs set `recover` without a position.
        grant: the permission to subscribe.
        rule: the options of the channel.

    Returns:
        The number; 0 for none. False if the client only receives them if what it missed is lost.
    """
    if rule.keep is None:
        return 0, False
    rewind = rule.rewind if grant.rewind is None else grant.rewind
    if not request.recover:
        return rewind, rewind > 0
    return (max(rewind, 1), True) if rule.force_recovery_mode == "cache" else (rewind, False)


def as_recovery(joined: Joined, since: Position) -> Joined:
    """
    Describe a rewind as a recovery, so that SDKs deliver its publications.

    Args:
        joined: the result of the rewind.
        since: the position of the client; an offset of 0 and an empty epoch if it has none.

    Returns:
        The publications that are new to the client. `recovered` is True if the client then has the last publication.
    """
    top = joined.position
    if top is None:
        return joined
    publications = joined.publications
    if since.epoch == top.epoch and since.offset <= top.offset:
        publications = tuple(one for one in publications if one.offset > since.offset)
    has_last = bool(joined.publications) or (since == top and since.offset > 0)
    return joined._replace(publications=publications, recovered=has_last)
