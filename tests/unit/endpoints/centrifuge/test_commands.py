"""Tests for wsserver/endpoints/centrifuge/commands.py: valid commands, and those that close the connection."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from wsserver.centrifugecodes import (
    Disconnect,
)
from wsserver.endpoints.centrifuge.commands import (
    MAX_COMMANDS,
    RPC,
    Connect,
    History,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Send,
    Since,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.jsonfields import MAX_DEPTH


def requests(frame):
    """Parse a frame, and return the requests of its commands."""
    commands = JSON.parse(frame)
    assert not any(isinstance(command.request, Disconnect) for command in commands), commands
    return [command.request for command in commands]


GOOD = [
    (b'{"id":1,"connect":{}}', Connect()),
    (
        b'{"id":1,"connect":{"token":"t","name":"js","version":"1","data":{"a":1}}}',
        Connect("t", "js", "1", data=b'{"a":1}'),
    ),
    (
        b'{"id":1,"connect":{"subs":{"a":{"recover":true,"offset":3,"epoch":"x"}}}}',
        Connect(subs={"a": Subscribe(recover=True, offset=3, epoch="x")}),
    ),
    (
        b'{"id":1,"connect":{"subs":{"a":null}}}',
        Connect(subs={"a": Subscribe()}),
    ),
    (b'{"id":1,"connect":{"token":null,"headers":{"x":"y"}}}', Connect()),
    (
        (
            b'{"id":2,"subscribe":{"channel":"c","token":"t","recover":true,"epoch":"e","offset":7,"positioned":true,'
            b'"recoverable":true,"join_leave":true,"flag":1}}'
        ),
        Subscribe("c", "t", True, "e", 7, True, True, True, 1),
    ),
    (b'{"id":2,"subscribe":{"channel":"c","offset":18446744073709551615}}', Subscribe("c", offset=2**64 - 1)),
    (b'{"id":2,"subscribe":{"channel":"c","unknown":{}}}', Subscribe("c")),
    (b'{"id":2,"unsubscribe":{"channel":"c"}}', Unsubscribe("c")),
    (b'{"id":2,"publish":{"channel":"c","data":"text"}}', Publish("c", Raw(b'"text"'))),
    (
        b'{"id":2,"publish":{"channel":"c","data":{"a": [1, "\\u00fc"]}}}',
        Publish("c", Raw(b'{"a": [1, "\\u00fc"]}')),
    ),
    (b'{"id":2,"publish":{"channel":"c","data":null}}', Publish("c", Raw(b"null"))),
    (b'{"id":2,"publish":{"channel":"c"}}', Publish("c")),
    (b'{"id":2,"presence":{"channel":"c"}}', Presence("c")),
    (b'{"id":2,"presence_stats":{"channel":"c"}}', PresenceStats("c")),
    (
        b'{"id":2,"history":{"channel":"c","limit":-1,"since":{"offset":2,"epoch":"e"},"reverse":true}}',
        History("c", -1, Since(2, "e"), True),
    ),
    (b'{"id":2,"history":{"channel":"c","since":{}}}', History("c", since=Since(0, ""))),
    (b'{"id":2,"refresh":{"token":"t"}}', Refresh("t")),
    (b'{"id":2,"sub_refresh":{"channel":"c","token":"t"}}', SubRefresh("c", "t")),
    (b'{"send":{"data":1}}', Send(Raw(b"1"))),
    (b'{"send":{}}', Send()),
    (b'{"id":2,"rpc":{"method":"m","data":null}}', RPC("m", Raw(b"null"))),
    (b'{"id":2,"rpc":{"method":null}}', RPC()),
    (b'{"id":2,"subscribe":null,"unsubscribe":{"channel":"c"}}', Unsubscribe("c")),
    (b'{"id":2,"publish":{"channel":"c","data":1},"subscribe":{"channel":"d"}}', Subscribe("d")),
    (b"{}", None),
    (b" {} \r", None),
    (b'{"id":0}', None),
]

BAD = [
    (b"", "not JSON"),
    (b"\n", "not JSON"),
    (b"{}\n\n{}", "not JSON"),
    (b"{}\n\n", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":"\xff"}}', "not JSON"),
    (b"hello", "not JSON"),
    (b"{} {}", "not JSON"),
    (b"[]", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b'"x"', "not a JSON object"),
    (b'{"id":"1","connect":{}}', "id: expected an integer"),
    (b'{"id":-1,"connect":{}}', "id: expected an integer"),
    (b'{"id":1.5,"connect":{}}', "id: expected an integer"),
    (b'{"id":true,"connect":{}}', "id: expected an integer"),
    (b'{"id":4294967296,"connect":{}}', "id: expected an integer"),
    (b'{"connect":{}}', "connect: expected an id"),
    (b'{"id":0,"subscribe":{"channel":"c"}}', "subscribe: expected an id"),
    (b'{"id":1}', "expected one of the methods"),
    (b'{"id":1,"ping":{}}', "expected one of the methods"),
    (b'{"id":1,"fly":{}}', "expected one of the methods"),
    (b'{"id":1,"method":1,"params":{"channel":"c"}}', "expected one of the methods"),
    (b'{"id":1,"connect":[]}', "connect: expected an object, got an array"),
    (b'{"id":1,"connect":{"token":5}}', "connect.token: expected a string, got an integer"),
    (
        b'{"id":1,"connect":{"subs":{%b}}}' % b",".join(b'"%d":{}' % number for number in range(1001)),
        "subs: 1001 channels, expected at most 1000",
    ),
    (b'{"id":1,"connect":{"subs":[]}}', "connect.subs: expected an object, got an array"),
    (b'{"id":1,"connect":{"subs":{"a":1}}}', "connect.subs[...]: expected an object, got an integer"),
    (b'{"id":1,"subscribe":{"channel":["c"]}}', "subscribe.channel: expected a string, got an array"),
    (b'{"id":1,"subscribe":{"channel":"c","recover":1}}', "subscribe.recover: expected true or false, got an integer"),
    (b'{"id":1,"subscribe":{"channel":"c","offset":-1}}', "subscribe.offset: expected an integer"),
    (b'{"id":1,"subscribe":{"channel":"c","offset":18446744073709551616}}', "subscribe.offset: expected an integer"),
    (b'{"id":1,"history":{"channel":"c","limit":-2147483649}}', "history.limit: expected an integer >= -2147483648"),
    (b'{"id":1,"history":{"channel":"c","since":5}}', "history.since: expected an object"),
    (
        b'{"id":1,"history":{"channel":"c","since":{"offset":"1"}}}',
        "history.since.offset: expected an integer, got a string",
    ),
    (b'{"id":1,"publish":{"channel":"c","data":"\\ud83d}}', "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":01}}', "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":[1,]}}', "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":"a\tb"}}', "not JSON"),
    (b'\xef\xbb\xbf{"id":1,"publish":{"channel":"c","data":1}}', "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":NaN}}', "not JSON"),
    (b'{"id":1,"publish":{"channel":"c","data":' + b"[" * 100_000, "nested too deeply"),
    # Of this text, a regular expression would take hours.
    (b"{" + b" " * 1_000_000 + b"[" * 300, "nested too deeply"),
    (b'{"publish":{"channel":"c","data":' + b"[" * 300 + b"]" * 300 + b"}}", "nested too deeply"),
    (b'{"id":1,"subscribe":{"channel":"c","flag":9223372036854775808}}', "subscribe.flag: expected an integer"),
    (b'{"id":1,"subscribe":{"channel":"c","type":2147483648}}', "subscribe.type: expected an integer"),
]

TEMPLATES = [
    b'{"id":7,"publish":{"channel":"c","data":%b}}',
    b'{"publish":{"channel":"c","data":%b},"id":7}',
    b' { "id" : 7 , "subscribe" : {"data":%b,"channel":"c","tf":null} } ',
]


class ParseTests:
    """The commands of one frame."""

    @pytest.mark.parametrize(("frame", "request_"), GOOD)
    def test_returns_the_request_of_a_valid_command(self, frame, request_):
        """The frame may end with a newline."""
        assert requests(frame) == [request_]
        assert requests(frame + b"\n") == [request_]

    @pytest.mark.parametrize(("frame", "words"), BAD, ids=range(len(BAD)))
    def test_an_invalid_command_becomes_a_disconnect_with_3501_that_names_the_problem(self, frame, words):
        """The other commands of the frame are parsed as usual."""
        good = b'{"id":1,"unsubscribe":{"channel":"c"}}'
        for before in ([], [good], [good] * 3):
            for after in ([], [good]):
                commands = JSON.parse(b"\n".join([*before, frame, *after, b""]))
                ends = [command.request for command in commands if isinstance(command.request, Disconnect)]
                assert ends[0].code == 3501
                assert ends[0].reason.startswith("bad request: ")
                assert words in ends[0].reason
                if len(commands) > 1:
                    assert [command.request for command in commands[: len(before)]] == [Unsubscribe("c")] * len(before)

    @pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 600, 10_000])
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_refuses_a_command_that_is_nested_too_deeply_with_107(self, template, depth):
        """The connection stays open, and the message names the limit. SDKs write the ID first or last."""
        data = b"[" * (depth - 2) + b"]" * (depth - 2)
        (command,) = JSON.parse(template % data)
        assert command.id == 7
        if depth <= MAX_DEPTH:
            assert bytes(command.request.data) == data
        else:
            assert command.request.code == 107
            assert f"over {MAX_DEPTH} levels" in command.request.message

    @pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "publish", "presence", "history", "sub_refresh"])
    def test_refuses_a_channel_with_half_a_surrogate_pair_with_107(self, method):
        """UTF-8 cannot encode it, so no client could receive its publications."""
        (command,) = JSON.parse(b'{"id":7,"%b":{"channel":"c\\ud83d","data":1}}' % method.encode())
        assert (command.id, command.request.code) == (7, 107)
        assert f"{method}.channel: expected text in UTF-8, got half a surrogate pair" in command.request.message

    def test_replaces_half_a_surrogate_pair_in_other_texts(self):
        """As Centrifuge does; the JSON values that are passed on keep it."""
        line = rb"""{"id":1,"connect":{"token":"\ud83d","name":"a\ude00b","version":"\ud83d\ude00",
            "subs":{"\ud83d":{"epoch":"\udfff"}},"data":{"\ud83d":"\ud83d"}}}""".replace(b"\n", b"")
        assert requests(line) == [
            Connect(
                "\ufffd",
                "a\ufffdb",
                "\U0001f600",
                {"\ufffd": Subscribe(epoch="\ufffd")},
                rb'{"\ud83d":"\ud83d"}',
            )
        ]

    @pytest.mark.parametrize(
        "data", [rb'"\ud83d"', rb'{"\ude00":1}', b"0.1e400", b"-1e999", b"9" * 5000, b"[1.50, -0]"]
    )
    def test_keeps_the_text_of_data_that_python_cannot_decode(self, data):
        for method in ("connect", "subscribe", "publish"):
            (request,) = requests(b'{"id":1,"%b":{"data":%b}}' % (method.encode(), data))
            assert bytes(request.data) == data

    def test_parses_1000_commands_of_a_frame_and_refuses_the_next(self):
        *parsed, refused = JSON.parse(b'{"id":1,"rpc":{}}\n' * (MAX_COMMANDS + 2))
        assert [command.request for command in parsed] == [RPC()] * MAX_COMMANDS
        assert refused.request.code == 3501
        assert "over 1000 commands" in refused.request.reason

    def test_returns_one_command_per_line_in_order(self):
        """Several commands may have the same id."""
        lines = [
            b'{"id":%d,"unsubscribe":{"channel":"c%d"}}' % (number % 3 + 1, number) for number in range(MAX_COMMANDS)
        ]
        commands = JSON.parse(b"\n".join(lines))
        assert [command.id for command in commands] == [number % 3 + 1 for number in range(MAX_COMMANDS)]
        assert [command.request.channel for command in commands] == [f"c{number}" for number in range(MAX_COMMANDS)]
        assert [command.size for command in commands] == [len(line) for line in lines]
        assert {type(command.request) for command in commands} == {Unsubscribe}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["id", "connect", "subscribe", "publish", "history", "send", "channel", "data", "token", "subs", "since", "offset"]
)
COMMANDS = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES) | VALUES)


class ArbitraryInputTests:
    """Arbitrary input of clients."""

    @given(st.binary())
    def test_raises_nothing_for_arbitrary_bytes(self, frame):
        JSON.parse(frame)

    # Hypothesis reads its Unicode tables when it draws the first text.
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(COMMANDS, max_size=3))
    def test_raises_nothing_for_json_that_resembles_commands(self, commands):
        JSON.parse(b"\n".join(json.dumps(command).encode() for command in commands))

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(VALUES)
    def test_keeps_published_data_exactly_as_the_client_wrote_it(self, value):
        text = json.dumps(value, allow_nan=False) if value is not None else " [ ]"
        frame = b'{"id": 1, "publish": {"channel": "c", "data": %b}}' % text.encode()
        (request,) = requests(frame)
        assert bytes(request.data) == text.strip().encode()
