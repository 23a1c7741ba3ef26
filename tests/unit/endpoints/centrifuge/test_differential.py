"""
The same commands get the same replies in the same order, whether the broker answers at once or later.

Clients send arbitrary commands to two servers: one with the broker in memory, whose results are plain values, and one
whose broker returns Deferreds that fire in a later iteration of the event loop. The commands are valid and broken,
joined in frames, and their bytes are split anywhere.
"""

import json
import re
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer, build_frame

OPEN = {
    "channel_allow": ("a", "b", "plain"),
    "channel_publish": ("a", "plain"),
    "channel_presence": ("a",),
    "channel": (("plain", {"history_size": 0}),),
}


def delay(clock, function, *arguments, **options):
    """Call a function of the broker in the next iteration of the event loop, and return a Deferred of its result."""
    done = Deferred()
    clock.callLater(0, lambda: done.callback(function(*arguments, **options)))
    return done


def serve(*, late):
    """Start a server; the epoch of its streams is the same in every server."""
    server = MemoryServer(Settings(**OPEN))
    broker = server.service.hub.broker
    broker._epoch = "epoch"
    if late:
        for name in ("subscribe", "publish", "history"):
            setattr(broker, name, partial(delay, server.clock, getattr(broker, name)))
    return server


channels = st.sampled_from(["a", "b", "plain", "refused", "", "x" * 256, "wsserver:x", "\x00"])
values = st.sampled_from([1, "text", None, {"k": [1.5, "ä"]}, "\ud800", [[[]]]])
methods = st.one_of(
    st.fixed_dictionaries({"connect": st.just({})}),
    st.fixed_dictionaries(
        {
            "subscribe": st.fixed_dictionaries(
                {"channel": channels},
                optional={
                    "recover": st.booleans(),
                    "offset": st.integers(0, 4),
                    "epoch": st.sampled_from(["", "epoch", "other"]),
                    "join_leave": st.booleans(),
                    "flag": st.sampled_from([0, 2]),
                    "type": st.sampled_from([0, 1]),
                    "token": st.sampled_from(["", "bad"]),
                },
            )
        }
    ),
    st.fixed_dictionaries({"unsubscribe": st.fixed_dictionaries({"channel": channels})}),
    st.fixed_dictionaries({"publish": st.fixed_dictionaries({"channel": channels}, optional={"data": values})}),
    st.fixed_dictionaries({"presence_stats": st.fixed_dictionaries({"channel": channels})}),
    st.fixed_dictionaries(
        {
            "history": st.fixed_dictionaries(
                {"channel": channels},
                optional={
                    "limit": st.integers(-1, 3),
                    "reverse": st.booleans(),
                    "since": st.fixed_dictionaries(
                        {"offset": st.integers(0, 4), "epoch": st.sampled_from(["", "epoch", "other"])}
                    ),
                },
            )
        }
    ),
    st.fixed_dictionaries({"rpc": st.fixed_dictionaries({"method": st.just("no")})}),
    st.fixed_dictionaries({"refresh": st.fixed_dictionaries({"token": st.sampled_from(["", "bad"])})}),
)
broken = st.sampled_from(
    ['{"id":1', '{"id":-1,"publish":{}}', '{"publish":{"channel":"a","data":1}}', "[]", '{"id":7}']
)


@st.composite
def sessions(draw):
    """
    Return the bytes that a client sends after its handshake, cut into writes, and whether it unsubscribes.

    Most clients begin with `connect`.
    """
    commands = draw(st.lists(methods, max_size=12))
    if draw(st.integers(0, 9)):
        commands.insert(0, {"connect": {}})
    lines = [json.dumps({"id": number, **method}) for number, method in enumerate(commands, 1)]
    if not draw(st.integers(0, 4)):
        lines.insert(draw(st.integers(0, len(lines))), draw(broken))
    frames, rest = [], lines
    while rest:
        size = draw(st.integers(1, len(rest)))
        frames.append(build_frame(1, "\n".join(rest[:size]).encode("utf-8")))
        rest = rest[size:]
    data = b"".join(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return parts, any("unsubscribe" in command for command in commands)


def run(session, *, late):
    """Send a client's bytes to a new server; return what the client receives until nothing more happens."""
    server = serve(late=late)
    for number in range(2):
        server.service.hub.publish("a", str(number))
    for _ in range(3):
        server.clock.advance(0)
    client = server.connect()
    client.open("/connection/websocket", {})
    for part in session:
        client.send(part)
    for _ in range(80):
        server.clock.advance(0)
    frames = client.frames()
    closed = [frame.payload for frame in frames if frame.opcode == 8]
    texts = [frame.payload.decode("utf-8") for frame in frames if frame.opcode == 1]
    # Every server gives its clients other IDs.
    lines = [re.sub("[0-9a-f]{8}-[-0-9a-f]{27}", "ID", line) for text in texts for line in text.split("\n")]
    return [one for one in lines if one.startswith('{"id"')], [one for one in lines if "push" in one], closed


class DifferentialTests:
    """A broker that answers at once, and one that answers later."""

    @settings(max_examples=300, deadline=None)
    @given(sessions())
    def test_a_client_receives_the_same_whether_the_broker_answers_at_once_or_later(self, session):
        """
        An invalid frame closes the connection even if the broker has yet to answer earlier commands.

        A client that unsubscribes or is disconnected does not receive what was published earlier in the same turn. With
        the late broker, the commands are executed in different turns, so it does.
        """
        parts, unsubscribes = session
        replies, pushes, closed = run(parts, late=False)
        late_replies, late_pushes, closed_late = run(parts, late=True)
        assert len(closed_late) == len(closed)
        if closed:
            replies = replies[: len(late_replies)]
        assert late_replies == replies
        if closed:
            known = min(len(pushes), len(late_pushes))
            assert late_pushes[:known] == pushes[:known] or unsubscribes
        elif unsubscribes:
            rest = iter(late_pushes)
            assert all(one in rest for one in pushes)
        else:
            assert late_pushes == pushes
