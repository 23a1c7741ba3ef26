"""
Tests for wsserver/endpoints/centrifuge/protobuf_codec.py: commands, replies and pushes in Protobuf.

The judge is the Protobuf library with the definitions of an official SDK (`tests/support/protobuf_messages.py`).
"""

import json

import centrifuge.protocol.client_pb2 as official
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from protobuf_messages import decode_replies, encode_commands

from wsserver.centrifugecodes import Disconnect, Error
from wsserver.endpoints.centrifuge import replies
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
from wsserver.endpoints.centrifuge.protobuf_codec import PROTOBUF
from wsserver.endpoints.centrifuge.protobuf_schema import MESSAGES, message_class
from wsserver.hub.clients import ClientInfo
from wsserver.hub.filters import MAX_TEXT
from wsserver.hub.publication import Publication

INFO = ClientInfo("c", "u", {"name": "ü"}, 0)
SHOWN_INFO = {"user": "u", "client": "c", "conn_info": '{"name":"ü"}'.encode(), "chan_info": b"0"}


class SchemaTests:
    """The messages, compared with the definitions of an official SDK."""

    NEWER = frozenset({("SubscribeRequest", 15), ("PublishRequest", 3)})
    """Fields that the definitions of the SDK do not have yet."""

    @pytest.mark.parametrize("name", MESSAGES)
    def test_has_the_numbers_names_and_types_of_the_official_definitions(self, name):
        ours, theirs = message_class(name).DESCRIPTOR, official.DESCRIPTOR.message_types_by_name[name]
        for field in ours.fields:
            if (name, field.number) in self.NEWER:
                continue
            known = theirs.fields_by_number[field.number]
            assert (field.name, field.type, field.is_repeated) == (known.name, known.type, known.is_repeated)
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                assert field.message_type.name == known.message_type.name


COMMANDS = [
    ({"id": 1, "connect": {}}, Connect()),
    (
        {"id": 1, "connect": {"token": "t", "name": "java", "version": "1", "data": b"\xff"}},
        Connect("t", "java", "1", data=b"\xff"),
    ),
    (
        {"id": 1, "connect": {"subs": {"a": {"recover": True, "offset": 3, "epoch": "x"}}}},
        Connect(subs={"a": Subscribe(recover=True, offset=3, epoch="x")}),
    ),
    (
        {
            "id": 2,
            "subscribe": {
                "channel": "c",
                "token": "t",
                "recover": True,
                "epoch": "e",
                "offset": 2**64 - 1,
                "data": b"{}",
                "positioned": True,
                "recoverable": True,
                "join_leave": True,
                "flag": 1,
            },
        },
        Subscribe("c", "t", True, "e", 2**64 - 1, True, True, True, 1, data=b"{}"),
    ),
    (
        {
            "id": 2,
            "subscribe": {
                "channel": "c",
                "tf": {
                    "op": "or",
                    "nodes": [{"key": "a", "cmp": "in", "vals": ["x", ""]}, {"key": "ü", "cmp": "gt", "val": "1"}, {}],
                },
            },
        },
        Subscribe(
            "c",
            tf=b'{"op":"or","nodes":[{"key":"a","cmp":"in","vals":["x",""]},{"key":"\xc3\xbc","cmp":"gt","val":"1"},{}]}',
        ),
    ),
    ({"id": 2, "subscribe": {"channel": "c", "tf": {}}}, Subscribe("c", tf=b"{}")),
    ({"id": 3, "unsubscribe": {"channel": "c"}}, Unsubscribe("c")),
    ({"id": 4, "publish": {"channel": "c", "data": b"\x00\xff"}}, Publish("c", msgspec.Raw(b"\x00\xff"))),
    ({"id": 4, "publish": {"channel": "c", "data": b"null"}}, Publish("c", msgspec.Raw(b"null"))),
    ({"id": 4, "publish": {"channel": "c"}}, Publish("c")),
    ({"id": 5, "presence": {"channel": "c"}}, Presence("c")),
    ({"id": 5, "presence_stats": {"channel": "c"}}, PresenceStats("c")),
    ({"id": 2**32 - 1, "history": {"channel": "c", "limit": -1}}, History("c", -1)),
    (
        {"id": 6, "history": {"channel": "c", "since": {"offset": 2, "epoch": "e"}, "reverse": True}},
        History("c", 0, Since(2, "e"), reverse=True),
    ),
    ({"id": 6, "history": {"channel": "c", "since": {}}}, History("c", 0, Since())),
    ({"id": 7, "rpc": {"method": "m", "data": b"\xff"}}, RPC("m", msgspec.Raw(b"\xff"))),
    ({"id": 7, "rpc": {}}, RPC("")),
    ({"send": {"data": b"1"}}, Send(msgspec.Raw(b"1"))),
    ({"send": {}}, Send()),
    ({"id": 8, "refresh": {"token": "t"}}, Refresh("t")),
    ({"id": 8, "sub_refresh": {"channel": "c", "token": "t"}}, SubRefresh("c", "t")),
    ({}, None),
]


class CommandTests:
    """Commands from a client."""

    @pytest.mark.parametrize(("command", "request_"), COMMANDS)
    def test_parses_every_command(self, command, request_):
        (parsed,) = PROTOBUF.parse(encode_commands(command))
        assert (parsed.id, parsed.request) == (command.get("id", 0), request_)

    def test_refuses_a_filter_above_the_limit_without_reading_its_nodes(self):
        """The limit is that of Centrifugo for a whole command. It closes the connection."""
        frame = encode_commands({"id": 2, "subscribe": {"channel": "c", "tf": {"nodes": [{}] * (MAX_TEXT // 2 + 1)}}})
        (parsed,) = PROTOBUF.parse(frame)
        assert isinstance(parsed.request, Disconnect)
        assert "tf: 65538 bytes, expected at most 65536" in parsed.request.reason

    def test_refuses_too_many_subscriptions_in_connect(self):
        frame = encode_commands({"id": 1, "connect": {"subs": {str(number): {} for number in range(1001)}}})
        (parsed,) = PROTOBUF.parse(frame)
        assert isinstance(parsed.request, Disconnect)
        assert "subs: 1001 channels, expected at most 1000" in parsed.request.reason

    def test_parses_all_commands_of_a_frame(self):
        parsed = PROTOBUF.parse(encode_commands(*(command for command, _ in COMMANDS)))
        assert [command.request for command in parsed] == [request for _, request in COMMANDS]

    def test_parses_the_type_of_a_subscription(self):
        (parsed,) = PROTOBUF.parse(b"\x06\x08\x01\x2a\x02\x78\x04")
        assert parsed.request == Subscribe(type=4)

    def test_skips_unknown_fields(self):
        known = encode_commands({"id": 5, "presence": {"channel": "c"}})[1:]
        # The fields 900 with a varint, 901 with 8 bytes, 902 with a string, and 903 with 4 bytes (wire types 0 to 5).
        unknown = b"\xa0\x38\x01" + b"\xa9\x38" + b"\x01" * 8 + b"\xb2\x38\x02hi" + b"\xbd\x38" + b"\x01" * 4
        (parsed,) = PROTOBUF.parse(bytes([len(known + unknown)]) + unknown + known)
        assert parsed.request == Presence("c")

    GOOD = {"id": 3, "unsubscribe": {"channel": "c"}}

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (b"\x05\xff\xff\xff\xff\xff", "expected a command of the Centrifuge protocol in Protobuf"),
            (b"\x80", "expected the length of a command as a varint"),
            (b"\xff\xff\xff\xff\xff\x01", "expected the length of a command as a varint"),
            (b"\xff\xff\xff\xff\x7f", "expected a command of 34359738367 bytes, got 0"),
            (b"\x05\x08\x01", "expected a command of 5 bytes, got 2"),
            (b"\x02\x08\x01", "command 1: expected one of the methods connect, subscribe, unsubscribe"),
            (b"\x02\x22\x00", "connect: expected an id above 0 in the command"),
            # A channel that is not UTF-8.
            (b"\x07\x08\x01\x32\x03\x0a\x01\xff", "expected a command of the Centrifuge protocol in Protobuf"),
            (b'{"id":1,"connect":{}}', "expected a command of 123 bytes, got 20"),
        ],
    )
    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_refuses_an_invalid_command_and_parses_those_before_it(self, frame, reason, before):
        *good, last = PROTOBUF.parse(encode_commands(*[self.GOOD] * before) + frame)
        assert [one.request for one in good] == [Unsubscribe("c")] * before
        assert isinstance(last.request, Disconnect)
        assert last.request.code == 3501
        assert reason in last.request.reason

    def test_refuses_an_empty_frame(self):
        (parsed,) = PROTOBUF.parse(b"")
        assert parsed.request.code == 3501

    def test_refuses_over_max_commands_in_a_frame(self):
        parsed = PROTOBUF.parse(encode_commands(*[self.GOOD] * (MAX_COMMANDS + 1)))
        assert [one.request for one in parsed[:MAX_COMMANDS]] == [Unsubscribe("c")] * MAX_COMMANDS
        assert "over 1000 commands in a frame" in parsed[-1].request.reason

    @given(st.binary(max_size=200))
    @example(b"\x00")
    def test_never_raises(self, frame):
        for command in PROTOBUF.parse(frame):
            assert command.size <= len(frame)

    @given(st.lists(st.sampled_from([command for command, _ in COMMANDS]), max_size=3), st.data())
    def test_never_raises_for_a_changed_frame(self, commands, data):
        frame = bytearray(encode_commands(*commands))
        for _ in range(data.draw(st.integers(1, 4))):
            if frame:
                place = data.draw(st.integers(0, len(frame) - 1))
                frame[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        for command in PROTOBUF.parse(bytes(frame)):
            assert command.size <= len(frame)


def replied(result, number=3):
    """Return the reply with a result, as the SDK decodes it."""
    (reply,) = decode_replies(PROTOBUF.reply(number, result))
    return reply


class ReplyTests:
    """Replies and pushes to a client."""

    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            (replies.UNSUBSCRIBED, {"unsubscribe": {}}),
            (replies.PUBLISHED, {"publish": {}}),
            (replies.RefreshResult(True, 9), {"refresh": {"expires": True, "ttl": 9}}),
            (replies.SubRefreshResult(True, 9), {"sub_refresh": {"expires": True, "ttl": 9}}),
            (replies.PresenceStatsResult(2, 1), {"presence_stats": {"num_clients": 2, "num_users": 1}}),
            (
                replies.ConnectResult("a", "1", True, 60, msgspec.Raw(b"\xff"), ping=25, pong=True),
                {
                    "connect": {
                        "client": "a",
                        "version": "1",
                        "expires": True,
                        "ttl": 60,
                        "data": b"\xff",
                        "ping": 25,
                        "pong": True,
                    }
                },
            ),
            (
                replies.ConnectResult("a", subs={"b": replies.SubscribeResult(), "c": replies.SubscribeResult(True)}),
                {"connect": {"client": "a", "subs": {"b": {}, "c": {"was_recovering": True}}}},
            ),
            (
                replies.SubscribeResult(
                    *(True, True, True, 5, msgspec.Raw(b"1"), True, True, "e", 2**64 - 1),
                    (Publication(b"x", 1), Publication(b"y", 2, info=INFO, tags={"a": "b"})),
                ),
                {
                    "subscribe": {
                        "expires": True,
                        "ttl": 5,
                        "recoverable": True,
                        "epoch": "e",
                        "offset": 2**64 - 1,
                        "recovered": True,
                        "positioned": True,
                        "data": b"1",
                        "was_recovering": True,
                        "publications": [
                            {"data": b"x", "offset": 1},
                            {"data": b"y", "offset": 2, "info": SHOWN_INFO, "tags": {"a": "b"}},
                        ],
                    }
                },
            ),
            (replies.RPCResult(msgspec.Raw(b"\xff")), {"rpc": {"data": b"\xff"}}),
            (replies.RPCResult(), {"rpc": {}}),
            (
                replies.PresenceResult(msgspec.Raw(PROTOBUF.clients([PROTOBUF.client("c", INFO)]))),
                {"presence": {"presence": {"c": SHOWN_INFO}}},
            ),
            (replies.PresenceResult(msgspec.Raw(b"")), {"presence": {}}),
            (
                replies.HistoryResult(msgspec.Raw(PROTOBUF.publications([Publication(b"x", 1)] * 2)), "e", 2),
                {"history": {"publications": [{"data": b"x", "offset": 1}] * 2, "epoch": "e", "offset": 2}},
            ),
        ],
    )
    @pytest.mark.parametrize("number", [1, 127, 128, 2**32 - 1])
    def test_writes_every_result(self, number, result, expected):
        assert replied(result, number) == {"id": number, **expected}

    def test_writes_an_error(self):
        (reply,) = decode_replies(PROTOBUF.error_reply(2, Error(100, "ü", temporary=True)))
        assert reply == {"id": 2, "error": {"code": 100, "message": "ü", "temporary": True}}

    @pytest.mark.parametrize(
        ("push", "expected"),
        [
            (
                PROTOBUF.publication("ü", Publication(b"\xff", 7)),
                {"channel": "ü", "pub": {"data": b"\xff", "offset": 7}},
            ),
            # A text is published as a JSON string.
            (PROTOBUF.publication("c", Publication(b'"m-0"', json=True)), {"channel": "c", "pub": {"data": b'"m-0"'}}),
            (PROTOBUF.publication("c", Publication(b"x" * 300)), {"channel": "c", "pub": {"data": b"x" * 300}}),
            (PROTOBUF.presence_event("c", INFO, join=True), {"channel": "c", "join": {"info": SHOWN_INFO}}),
            (PROTOBUF.presence_event("c", INFO, join=False), {"channel": "c", "leave": {"info": SHOWN_INFO}}),
            (
                PROTOBUF.push("c", replies.UnsubscribePush(2500, "x")),
                {"channel": "c", "unsubscribe": {"code": 2500, "reason": "x"}},
            ),
            (
                PROTOBUF.push("c", replies.SubscribeResult(positioned=True, epoch="e", offset=3)),
                {"channel": "c", "subscribe": {"positioned": True, "epoch": "e", "offset": 3}},
            ),
            (PROTOBUF.push("", replies.MessagePush(msgspec.Raw(b"1"))), {"message": {"data": b"1"}}),
            (PROTOBUF.push("", replies.RefreshResult(True, 5)), {"refresh": {"expires": True, "ttl": 5}}),
        ],
    )
    def test_writes_every_push(self, push, expected):
        assert decode_replies(push) == [{"push": expected}]

    def test_a_ping_is_an_empty_reply_of_one_byte(self):
        assert PROTOBUF.ping == b"\x00"
        assert decode_replies(PROTOBUF.ping) == [{}]

    def test_several_messages_form_one_frame(self):
        messages = [PROTOBUF.reply(1, replies.PUBLISHED), PROTOBUF.ping, PROTOBUF.reply(2, replies.UNSUBSCRIBED)]
        frame = PROTOBUF.separator.join(messages)
        assert decode_replies(frame) == [{"id": 1, "publish": {}}, {}, {"id": 2, "unsubscribe": {}}]

    @given(st.binary(), st.integers(0, 2**64 - 1), st.dictionaries(st.text("abü", min_size=1), st.text("abü")))
    def test_data_arrives_byte_for_byte(self, data, offset, tags):
        (reply,) = decode_replies(PROTOBUF.publication("c", Publication(data, offset, tags=tags or None)))
        fields = {"data": data, "offset": offset, "tags": tags}
        assert reply == {"push": {"channel": "c", "pub": {name: value for name, value in fields.items() if value}}}

    @given(st.integers(0, 2**40), st.text(), st.booleans())
    def test_says_the_same_as_the_json_form(self, offset, epoch, flag):
        result = replies.SubscribeResult(flag, not flag, epoch=epoch, offset=offset, positioned=flag)
        assert replied(result) == json.loads(JSON.reply(3, result))
