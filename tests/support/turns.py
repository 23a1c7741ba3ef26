"""Single turns of a reactor on Twisted's test clock."""

from twisted.internet.task import Clock


def end_turn(clock: Clock) -> bool:
    """
    Run the reactor's next turn.

    `Clock.advance(0)` would also run calls that are scheduled meanwhile, over any number of turns.

    Returns:
        Whether any call was due in that turn.
    """
    due = [call for call in clock.calls if call.getTime() <= clock.seconds()]
    for call in due:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)
    return bool(due)
