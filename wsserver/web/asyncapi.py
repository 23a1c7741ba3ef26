"""
Generate the AsyncAPI 3.0 description of the WebSocket endpoints, which is served at `/asyncapi.json`.

It comes from the tables and structs in the code. `make docs` writes that of a server with default options to
docs/reference/asyncapi.json; a test fails if it differs.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from wsserver import __version__
from wsserver.config.channel_settings import MAX_REWIND
from wsserver.endpoints.centrifuge import replies
from wsserver.endpoints.centrifuge.commands import METHODS
from wsserver.endpoints.commands import collect
from wsserver.endpoints.raw.request import Format
from wsserver.endpoints.routes import HELP
from wsserver.endpoints.ticker import MAX_COUNT
from wsserver.web.asyncapi_faults import describe_fault_parameters, describe_faults
from wsserver.web.openapi import RESULTS, Schema

__all__ = ["asyncapi_file", "describe_websockets"]

_SCHEMA: Final = "#/components/schemas/{name}"
_MESSAGE: Final = "#/components/messages/{name}"

_RESULTS: Final = (
    replies.ConnectResult,
    replies.SubscribeResult,
    replies.UnsubscribeResult,
    replies.PublishResult,
    replies.PresenceResult,
    replies.PresenceStatsResult,
    replies.HistoryResult,
    replies.RPCResult,
    replies.RefreshResult,
    replies.SubRefreshResult,
)
"""What a reply of the Centrifuge protocol can contain."""

_PUSHES: Final = (
    replies.ConnectResult,
    replies.SubscribeResult,
    replies.UnsubscribePush,
    replies.DisconnectPush,
    replies.MessagePush,
)
"""What a push can contain besides publications, and notices that clients join or leave."""

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}

_CHANNEL_QUERY: Final[Mapping[str, Schema]] = {
    "channel": {"type": "string", "description": "The names of the channels, separated by commas. It can be repeated."},
    "format": {"type": "string", "enum": [one.value for one in Format]},
    "binary": {"type": "string", "enum": ["0", "1"], "description": "1 to receive every message as binary."},
    "rewind": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_REWIND,
        "description": "The number of earlier publications to receive first.",
    },
    "last_event_id": {"type": "string", "description": "The positions from which to recover."},
    "filter": {"type": "string", "description": "Receive only publications whose tags match."},
    "token": {"type": "string", "description": "The token of the client; a header is safer."},
}

_CASE_QUERY: Final[Mapping[str, Schema]] = {"agent": _TEXT | {"description": "The name of the client in the report."}}

QUERIES: Final[Mapping[str, Mapping[str, Schema]]] = {
    "/ws": _CHANNEL_QUERY,
    "/ticker": {
        "every": _TEXT | {"description": "The interval, such as 1s or 100ms.", "default": "1s"},
        "count": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT},
        "text": _TEXT | {"default": "tick"},
    },
    "/websocket/echo": {
        "max_message_size": _NUMBER | {"description": "In bytes."},
        "max_fragment_size": _NUMBER | {"description": "In bytes."},
    },
    "/connection/websocket": {"format": {"type": "string", "enum": ["protobuf"]}},
    "/connection/uni_websocket": {
        "cf_connect": _TEXT | {"description": "The client's message as JSON, instead of a message."}
    },
    "/case/": _CASE_QUERY,
    "/runCase": {"case": _NUMBER, **_CASE_QUERY},
    "/getCaseInfo": {"case": _NUMBER},
    "/getCaseStatus": {"case": _NUMBER, **_CASE_QUERY},
}
"""Path -> the parameters of its query."""

_ANY: Final = ("text", "binary")

MESSAGES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "/": (("command", *_ANY), _ANY),
    "/ws": (("command", *_ANY), ("publication", *_ANY)),
    "/ticker": ((), ("tick",)),
    "/whoami": (("text",), ("json",)),
    "/connection/websocket": (("centrifugeCommands",), ("centrifugeReplies",)),
    "/connection/uni_websocket": (("centrifugeConnect",), ("centrifugePush",)),
    "/case/count": ((), ("count",)),
    "/getCaseCount": ((), ("count",)),
    "/getCaseInfo": ((), ("json",)),
    "/getCaseStatus": ((), ("json",)),
    "/updateReports": ((), ()),
}
"""Path -> the messages that a client sends there, and those that it receives. On other paths, both are any messages."""


def describe_websockets(
    paths: Mapping[str, str], commands: Iterable[tuple[str, str]], faults: Mapping[str, Any] | None = None
) -> Schema:
    """
    Return the AsyncAPI description.

    Args:
        paths: path of an endpoint -> its help text. A path that ends in a slash covers all paths below it.
        commands: the name and the help text of each command.
        faults: what `/faults?format=json` says; None without faults.
    """
    names = _name_paths(paths)
    channels = {names[path]: _describe_channel(path, text) for path, text in paths.items()}
    messages = {names[path]: MESSAGES.get(path, (_ANY, _ANY)) for path in paths}
    schemas = _describe_schemas()
    if faults is not None:
        of_faults = describe_faults(faults)
        channels |= of_faults
        messages |= {name: (tuple(channel["messages"]),) * 2 for name, channel in of_faults.items()}
        schemas |= describe_fault_parameters(faults)
    operations = {
        f"{action}{name[:1].upper()}{name[1:]}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": channel["description"],
            "messages": [{"$ref": f"#/channels/{name}/messages/{one}"} for one in found],
        }
        for name, channel in channels.items()
        for action, found in zip(("receive", "send"), messages[name], strict=True)
        if found
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "wsserver WebSocket endpoints",
            "version": __version__,
            "description": "The server receives what clients send, and sends what they receive.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "text/plain",
        "servers": {
            "local": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "A server with default options. With --tls-cert, the protocol is wss.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": _describe_messages(commands), "schemas": schemas},
    }


def _name_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return the name of each path: letters and digits, such as `connectionWebsocket`."""
    found: dict[str, str] = {}
    for path in paths:
        first, *rest = re.findall(r"[A-Za-z0-9]+", path.replace(".", "/dot/")) or ["root"]
        name = first + "".join(word[:1].upper() + word[1:] for word in rest)
        name += "Paths" if path[1:].endswith("/") else ""
        while name in found.values():
            name += "2"
        found[path] = name
    return found


def _describe_channel(path: str, text: str) -> Schema:
    client, server = MESSAGES.get(path, (_ANY, _ANY))
    channel: Schema = {
        "address": path + "{rest}" if path[1:].endswith("/") else path,
        "description": text,
        "messages": {name: {"$ref": _MESSAGE.format(name=name)} for name in dict.fromkeys((*client, *server))},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": dict(QUERIES.get(path, {}))},
                "bindingVersion": "0.1.0",
            }
        },
    }
    if path[1:].endswith("/"):
        channel["parameters"] = {"rest": {"description": "The rest of the path."}}
    return channel


def _describe_messages(commands: Iterable[tuple[str, str]]) -> Schema:
    helps = "; ".join(f"{name}: {text}" for name, text in commands)
    return {
        "text": {"summary": "Any text message.", "payload": _TEXT},
        "binary": {
            "summary": "Any binary message.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "contentEncoding": "binary"},
        },
        "command": {"summary": "The name of a command, in any case.", "description": helps, "payload": _TEXT},
        "tick": {
            "summary": "A text and a number, such as tick 1.",
            "payload": {"type": "string", "pattern": " [0-9]+$"},
        },
        "count": {"summary": "A number.", "payload": {"type": "string", "pattern": "^[0-9]+$"}},
        "json": {"summary": "A JSON object.", **_json({"type": "object"})},
        "publication": {
            "summary": "A publication: its data, or JSON with ?format=json or ?format=redis.",
            "payload": {"anyOf": [_TEXT, _ref("RawPublication"), _ref("RedisMessage"), _ref("Notice")]},
        },
        "centrifugeCommands": {"summary": "Commands, one per line; {} is a pong.", **_json(_ref("CentrifugeCommand"))},
        "centrifugeReplies": {
            "summary": "Replies and pushes, one per line; {} is a ping.",
            **_json(_ref("CentrifugeReply")),
        },
        "centrifugeConnect": {"summary": "The content of a connect command.", **_json(_ref("Connect"))},
        "centrifugePush": {"summary": "A push; {} is a ping.", **_json(_ref("CentrifugePush"))},
    }


def _describe_schemas() -> Schema:
    structs = [*METHODS, *dict.fromkeys((*_RESULTS, *_PUSHES))]
    _, found = msgspec.json.schema_components(structs, ref_template=_SCHEMA)
    of_results = {one.name.decode("ascii"): _ref(one.__name__) for one in _RESULTS}
    of_pushes = {one.name.decode("ascii"): _ref(one.__name__) for one in _PUSHES}
    member = {"type": "object", "properties": {"info": _ref("ClientInfo")}}
    position = {"channel": _TEXT, "offset": _NUMBER, "epoch": _TEXT}
    push = {"channel": _TEXT, "pub": _ref("Publication"), "join": member, "leave": member, **of_pushes}
    return {
        **found,
        # How they are written differs from how the server keeps them.
        **{name: RESULTS[name] for name in ("ClientInfo", "Publication", "Error")},
        "CentrifugeCommand": {
            "type": "object",
            "properties": {"id": _NUMBER, **{name: _ref(struct.__name__) for struct, name in METHODS.items()}},
        },
        "CentrifugeReply": {
            "type": "object",
            "properties": {"id": _NUMBER, "error": _ref("Error"), **of_results, "push": _ref("CentrifugePush")},
        },
        "CentrifugePush": {"type": "object", "properties": push},
        "RawPublication": {"type": "object", "properties": {**position, "data": {}}, "required": ["channel", "data"]},
        "RedisMessage": {"type": "array", "items": _TEXT, "minItems": 3, "maxItems": 3},
        "Notice": {"type": "object", "description": "A notice to the subscriber, such as a gap."},
    }


def _json(payload: Schema) -> Schema:
    return {"contentType": "application/json", "payload": payload}


def _ref(name: str) -> Schema:
    return {"$ref": _SCHEMA.format(name=name)}


def asyncapi_file() -> str:
    """Return the text of the file: the built-in paths and commands."""
    commands = collect([]).values()
    return json.dumps(describe_websockets(HELP, [(one.name, one.help) for one in commands]), indent=2) + "\n"


if __name__ == "__main__":
    print(asyncapi_file(), end="")
