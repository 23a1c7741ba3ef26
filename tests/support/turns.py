"""The turns of a reactor, one by one, on Twisted's test clock."""

from twisted.internet.task import Clock


def end_turn(clock: Clock) -> bool:
    """
    Go on to the reactor's next turn.

    `Clock.advance(0)` also makes the calls that are scheduled meanwhile, as many turns as there are.

    Returns:
        Whether anything was to be called in that turn.
    """
    due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
    for call in due:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)
    return bool(due)
