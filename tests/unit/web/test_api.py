"""
Tests for wsserver/web/api.py: arbitrary requests to servers with different brokers get the same answers.

One broker publishes at once. The others return Deferreds, as the Redis broker does: one that has fired already, and one
that fires in a later iteration of the event loop. The requests are valid and broken, pipelined, and split anywhere.
"""

import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed

from wsserver.config.settings import Settings
from wsserver.errors import BrokerDown, NotPermitted
from wsserver.testing import MemoryServer

SETTINGS = Settings(
    api_key="k",
    api_origin=("https://app.example",),
    channel_presence=("room",),
    channel=(("plain*", {"history_size": 0}),),
    history_size=3,
)
ERRORS = {"down": BrokerDown, "denied": NotPermitted, "broken": ZeroDivisionError}
"""Channel -> the error of publishing to it."""


def immediately(publish, clock):
    """Publish as the memory broker does, but raise an error for some channels."""

    def call(channel, *arguments):
        if channel in ERRORS:
            raise ERRORS[channel](f"error of {channel}")
        return publish(channel, *arguments)

    return call


def with_a_fired_deferred(publish, clock):
    def call(channel, *arguments):
        return (
            fail(ERRORS[channel](f"error of {channel}")) if channel in ERRORS else succeed(publish(channel, *arguments))
        )

    return call


def with_a_waiting_deferred(publish, clock):
    def call(channel, *arguments):
        done = Deferred()
        if channel in ERRORS:
            clock.callLater(0, done.errback, ERRORS[channel](f"error of {channel}"))
        else:
            clock.callLater(0, done.callback, publish(channel, *arguments))
        return done

    return call


def ask(broker, data, size):
    """Start a server, send it the bytes on one connection, and return what the client gets."""
    server = MemoryServer(SETTINGS)
    memory = server.service.hub.broker
    memory.publish = broker(memory.publish, server.clock)
    client = server.connect()
    client.send(data, size)
    for _ in range(200):
        server.clock.advance(0)
    answer = bytes(client.transport.written).replace(memory._epoch.encode(), b"EPOCH")
    return re.sub(rb"Date: [^\r]*", b"Date", answer), client.transport.lost


CHANNELS = st.sampled_from(["a", "room", "plain", *ERRORS, "", "wsserver:x", "é", "\x00", "x" * 300, None, 5, []])
DATA = st.sampled_from([1, "text", {"a": [1.5, None]}, None, [], "\ud800"])
PUBLISH = st.fixed_dictionaries(
    {"channel": CHANNELS, "data": DATA},
    optional={
        "b64data": st.sampled_from(["/wA=", "x", "", None]),
        "tags": st.sampled_from([{}, {"a": "b"}, {"a": None}, {"a": 1}, None]),
        "idempotency_key": st.sampled_from(["", "one", "k" * 300, None]),
        "skip_history": st.sampled_from([True, False, None, 1]),
        "delta": st.sampled_from([True, False, None, "x"]),
        "version": st.sampled_from([0, 1, None, "", {}]),
    },
)
BROADCAST = st.fixed_dictionaries({"channels": st.lists(CHANNELS, max_size=4), "data": DATA})
HISTORY = st.fixed_dictionaries({"channel": CHANNELS}, optional={"limit": st.integers(-2, 5), "reverse": st.booleans()})
CALLS = (
    st.tuples(st.just("publish"), PUBLISH)
    | st.tuples(st.just("broadcast"), BROADCAST)
    | st.tuples(st.just("history"), HISTORY)
    | st.tuples(st.just("channels"), st.just({}))
    | st.tuples(st.sampled_from(["nothing", "batch", "publish"]), st.sampled_from([None, {}, [], "x"]))
)
COMMANDS = CALLS.map(lambda call: {call[0]: call[1]}) | st.sampled_from([{}, [], None, {"publish": {}, "info": {}}])
BATCH = st.tuples(
    st.just("batch"), st.fixed_dictionaries({"commands": st.lists(COMMANDS, max_size=5), "parallel": st.booleans()})
)
BODIES = st.sampled_from([b"", b"{", b"null", b"[]", b'{"channel":"\xff"}', b"[" * 300 + b"]" * 300, b'{"data":1}'])
LINES = st.lists(
    st.sampled_from(
        [
            *("Origin: https://app.example", "Origin: https://b.example", "X-Centrifugo-Error-Mode: transport"),
            *("X-API-Key: wrong", "Authorization: Bearer k", "Authorization: apikey  k", "Accept: */*"),
            *("Access-Control-Request-Method: POST", "Connection: close", "Connection: keep-alive", "X-API-Key:"),
        ]
    ),
    max_size=2,
    unique=True,
)


def write_request(call, body, lines, line, *, is_chunked):
    """Return a request as bytes; `body` replaces the parameters of the call if it is not None."""
    name, parameters = call
    text = json.dumps(parameters).encode() if body is None else body
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(text)}"
    head = [line.format(name), "Host: a", "X-API-Key: k", length, *lines]
    chunks = (b"%x\r\n%b\r\n" % (len(text), text) if text else b"") + b"0\r\n\r\n"
    return "\r\n".join([*head, "", ""]).encode() + (chunks if is_chunked else text)


FIRST_LINES = [
    *(["POST /api/{} HTTP/1.1"] * 5),
    *("GET /api/{} HTTP/1.1", "HEAD /api/{} HTTP/1.1", "OPTIONS /api/{} HTTP/1.1", "POST /api/{} HTTP/1.0"),
    *("POST /api/{}/?a=b HTTP/1.1", "POST /%61pi/{} HTTP/1.1", "GET /ready HTTP/1.1"),
]

REQUESTS = st.builds(
    write_request,
    CALLS | BATCH,
    st.none() | st.none() | BODIES,
    st.just([]) | LINES,
    st.sampled_from(FIRST_LINES),
    is_chunked=st.booleans(),
)


class SameAnswersTests:
    """Requests to the API, on one connection."""

    @given(st.lists(REQUESTS, min_size=1, max_size=6), st.sampled_from([0, 0, 1, 7, 100]))
    @settings(max_examples=300, deadline=None)
    @example(
        [write_request(("publish", {"channel": "a", "data": 1}), None, [], "POST /api/{} HTTP/1.1", is_chunked=False)]
        * 3,
        0,
    )
    def test_do_not_depend_on_whether_the_broker_answers_at_once(self, requests, size):
        """Nor on whether the requests arrive at once."""
        data = b"".join(requests)
        answer = ask(immediately, data, 0)
        assert answer[0].startswith(b"HTTP/1.")
        assert ask(with_a_fired_deferred, data, size) == answer
        assert ask(with_a_waiting_deferred, data, size) == answer

    @given(
        st.lists(PUBLISH, min_size=1, max_size=5), st.sampled_from([{}, {"info": {}}, None, {"publish": {}, "x": 1}])
    )
    @settings(max_examples=200, deadline=None)
    @example([{"channel": "a", "data": 1}, {"channel": "down", "data": 1}], None)
    def test_of_a_batch_do_not_depend_on_the_other_commands(self, calls, other):
        """A batch of nothing but valid calls of `publish` is decoded in one step, any other command by command."""

        def replies(*more):
            commands = [{"publish": call} for call in calls]
            request = write_request(
                ("batch", {"commands": [*commands, *more]}), None, [], "POST /api/{} HTTP/1.1", is_chunked=False
            )
            answer, _ = ask(immediately, request, 0)
            return json.loads(answer.partition(b"\r\n\r\n")[2])["replies"][: len(calls)]

        assert replies() == replies(other)
