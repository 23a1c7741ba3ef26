"""
The messages of the Centrifuge client protocol, version 2, in Protobuf: the fields that the server reads or writes.

Unknown fields are skipped, as Protobuf requires.

Source: `definitions/client.proto` of centrifugal/protocol.

This module does not use Twisted, a clock or a socket.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["MESSAGES", "message_class"]

MESSAGES: Final[dict[str, dict[int, str]]] = {
    "Error": {1: "uint32 code", 2: "string message", 3: "bool temporary"},
    "EmulationRequest": {1: "string node", 2: "string session", 3: "bytes data"},
    # From the client. A command has one of the fields from 4 on.
    "Command": {
        1: "uint32 id",
        4: "ConnectRequest connect",
        5: "SubscribeRequest subscribe",
        6: "UnsubscribeRequest unsubscribe",
        7: "PublishRequest publish",
        8: "PresenceRequest presence",
        9: "PresenceStatsRequest presence_stats",
        10: "HistoryRequest history",
        12: "SendRequest send",
        13: "RPCRequest rpc",
        14: "RefreshRequest refresh",
        15: "SubRefreshRequest sub_refresh",
    },
    "ConnectRequest": {
        1: "string token",
        2: "bytes data",
        3: "map SubscribeRequest subs",
        4: "string name",
        5: "string version",
    },
    "SubscribeRequest": {
        1: "string channel",
        2: "string token",
        3: "bool recover",
        6: "string epoch",
        7: "uint64 offset",
        8: "bytes data",
        9: "bool positioned",
        10: "bool recoverable",
        11: "bool join_leave",
        12: "string delta",
        13: "FilterNode tf",
        14: "int64 flag",
        15: "int32 type",
    },
    "FilterNode": {
        1: "string op",
        2: "string key",
        3: "string cmp",
        4: "string val",
        5: "repeated string vals",
        6: "repeated FilterNode nodes",
    },
    "UnsubscribeRequest": {1: "string channel"},
    "PublishRequest": {1: "string channel", 2: "bytes data", 3: "int32 type"},
    "PresenceRequest": {1: "string channel"},
    "PresenceStatsRequest": {1: "string channel"},
    "StreamPosition": {1: "uint64 offset", 2: "string epoch"},
    "HistoryRequest": {1: "string channel", 7: "int32 limit", 8: "StreamPosition since", 9: "bool reverse"},
    "SendRequest": {1: "bytes data"},
    "RPCRequest": {1: "bytes data", 2: "string method"},
    "RefreshRequest": {1: "string token"},
    "SubRefreshRequest": {1: "string channel", 2: "string token"},
    # To the client. A reply has one of the fields from 2 on, a push one of those from 4 on.
    "Reply": {
        1: "uint32 id",
        2: "Error error",
        4: "Push push",
        5: "ConnectResult connect",
        6: "SubscribeResult subscribe",
        7: "UnsubscribeResult unsubscribe",
        8: "PublishResult publish",
        9: "PresenceResult presence",
        10: "PresenceStatsResult presence_stats",
        11: "HistoryResult history",
        13: "RPCResult rpc",
        14: "RefreshResult refresh",
        15: "SubRefreshResult sub_refresh",
    },
    "Push": {
        2: "string channel",
        4: "Publication pub",
        5: "Join join",
        6: "Leave leave",
        7: "Unsubscribe unsubscribe",
        8: "Message message",
        9: "Subscribe subscribe",
        10: "Connect connect",
        11: "Disconnect disconnect",
        12: "Refresh refresh",
    },
    "ClientInfo": {1: "string user", 2: "string client", 3: "bytes conn_info", 4: "bytes chan_info"},
    "Publication": {
        4: "bytes data",
        5: "ClientInfo info",
        6: "uint64 offset",
        7: "map string tags",
        8: "bool delta",
    },
    "Join": {1: "ClientInfo info"},
    "Leave": {1: "ClientInfo info"},
    "Unsubscribe": {2: "uint32 code", 3: "string reason"},
    "Subscribe": {1: "bool recoverable", 4: "string epoch", 5: "uint64 offset", 6: "bool positioned", 7: "bytes data"},
    "Message": {1: "bytes data"},
    "Connect": {
        1: "string client",
        2: "string version",
        3: "bytes data",
        4: "map SubscribeResult subs",
        5: "bool expires",
        6: "uint32 ttl",
        7: "uint32 ping",
        8: "bool pong",
        9: "string session",
        10: "string node",
    },
    "Disconnect": {1: "uint32 code", 2: "string reason", 3: "bool reconnect"},
    "Refresh": {1: "bool expires", 2: "uint32 ttl"},
    "ConnectResult": {
        1: "string client",
        2: "string version",
        3: "bool expires",
        4: "uint32 ttl",
        5: "bytes data",
        6: "map SubscribeResult subs",
        7: "uint32 ping",
        8: "bool pong",
        9: "string session",
        10: "string node",
    },
    "SubscribeResult": {
        1: "bool expires",
        2: "uint32 ttl",
        3: "bool recoverable",
        6: "string epoch",
        7: "repeated Publication publications",
        8: "bool recovered",
        9: "uint64 offset",
        10: "bool positioned",
        11: "bytes data",
        12: "bool was_recovering",
        13: "bool delta",
    },
    "UnsubscribeResult": {},
    "PublishResult": {},
    "PresenceResult": {1: "map ClientInfo presence"},
    "PresenceStatsResult": {1: "uint32 num_clients", 2: "uint32 num_users"},
    "HistoryResult": {1: "repeated Publication publications", 2: "string epoch", 3: "uint64 offset"},
    "RPCResult": {1: "bytes data"},
    "RefreshResult": {3: "bool expires", 4: "uint32 ttl"},
    "SubRefreshResult": {1: "bool expires", 2: "uint32 ttl"},
}
"""
Message -> number of a field -> type and name of the field.

`repeated` precedes the type of a field that is a list, and `map` the type of the values of one that is a mapping from
strings.
"""

_PACKAGE: Final = "centrifugal.centrifuge.protocol"
_Field: Final = descriptor_pb2.FieldDescriptorProto


def message_class(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _describe() -> descriptor_pool.DescriptorPool:
    # A pool of its own: in the default pool, the messages would collide with those of an SDK in the same process.
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="client.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, text in fields.items():
            *label, kind, field = text.split()
            if label == ["map"]:
                # As in the Protobuf language guide, a map is a list of messages with a key and a value.
                entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                _add_field(entry, 1, "string", "key")
                _add_field(entry, 2, kind, "value")
                kind = f"{name}.{entry.name}"
            _add_field(message, number, kind, field, repeated=bool(label))
    pool.Add(file)
    return pool


def _add_field(message: Any, number: int, kind: str, name: str, *, repeated: bool = False) -> None:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind[0].islower():
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_POOL: Final = _describe()
