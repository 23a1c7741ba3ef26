"""
Generate the OpenAPI 3.1 description of the HTTP API, docs/reference/openapi.json, from the structs of its parameters.

`make docs` runs this module; a test fails if the file differs from the structs.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wsserver import __version__
from wsserver.centrifugecodes import UNRECOVERABLE_POSITION
from wsserver.closecodes import MAX_REASON_BYTES
from wsserver.hub.names import MAX_NAME
from wsserver.hub.parameters import MAX_CONNECTIONS, Parameters
from wsserver.web.parameters import (
    MAX_CHANNELS,
    MAX_COMMANDS,
    Batch,
    Broadcast,
    Channel,
    Channels,
    Connections,
    Disconnect,
    History,
    Publish,
    Refresh,
    Subscribe,
    Unsubscribe,
)

__all__ = ["METHODS", "describe_api", "openapi_file"]

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_EPOCH: Final = "The epoch of the stream."
_SECONDS: Final = "In seconds since 1970."

METHODS: Final[Mapping[str, tuple[type[msgspec.Struct], str, str]]] = {
    "publish": (Publish, "PublishResult", "Publish to a channel"),
    "broadcast": (Broadcast, "BroadcastResult", "Publish the same data to several channels"),
    "subscribe": (Subscribe, "Clients", "Subscribe clients to a channel"),
    "unsubscribe": (Unsubscribe, "Clients", "End subscriptions of clients"),
    "disconnect": (Disconnect, "Clients", "Close connections"),
    "refresh": (Refresh, "Clients", "Set when connections expire, or close them"),
    "presence": (Channel, "PresenceResult", "Return the clients that are subscribed to a channel"),
    "presence_stats": (Channel, "PresenceStatsResult", "Return the number of clients and users of a channel"),
    "history": (History, "HistoryResult", "Return the publications in the stream of a channel"),
    "history_remove": (Channel, "Nothing", "Delete the publications of a stream"),
    "channels": (Channels, "ChannelsResult", "Return the channels that have subscribers"),
    "connections": (Connections, "ConnectionsResult", "Return the connected clients"),
    "info": (Parameters, "InfoResult", "Return the server processes"),
    "rejects": (Parameters, "RejectsResult", "Return the last refused requests"),
}
"""Method -> its parameters, the schema of its result, and what it does."""

_NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME,
    "pattern": r"^(?!wsserver:)[^\u0000-\u001f\u007f-\u009f]*$",
}

UNSUPPORTED: Final = tuple(field.name for field in msgspec.structs.fields(Parameters))
"""Parameters that every method rejects, because this server does not support them."""

PROPERTIES: Final[Mapping[str, Schema]] = {
    "channel": {"description": "The name of the channel: at most 255 bytes.", **_NAME},
    "channels": {
        "description": "The names of the channels.",
        "type": "array",
        "items": _NAME,
        "minItems": 1,
        "maxItems": MAX_CHANNELS,
    },
    "data": {"description": "Any JSON value. It is delivered as it is written."},
    "b64data": {"description": "Bytes in base64, instead of data.", "minLength": 1, "contentEncoding": "base64"},
    "tags": {"description": "Tags, by which subscribers can filter.", "additionalProperties": {"type": "string"}},
    "idempotency_key": {
        "description": "A repeated call with the same key within 5 minutes returns the first answer.",
        "maxLength": 255,
    },
    "skip_history": {"description": "Deliver the publication, but do not store it in the stream."},
    "delta": {"description": "Whether subscribers may receive a delta instead of the data."},
    "limit": {"description": "The maximum number of publications; 0 for the position only, -1 for all."},
    "since": {"description": "Return only publications after this position."},
    "reverse": {"description": "Return the newest publications first. Not possible since offset 0."},
    "user": {"description": "Select the connections of this user. A user or a client is required where they change."},
    "client": {"description": "Select the connection with this ID."},
    "info": {"description": "Information about the subscriber, which presence shows."},
    "expire_at": {"description": f"When it expires. {_SECONDS}"},
    "recover_since": {"description": "Recover the publications after this position."},
    "override": {"description": "Options of the channel that differ for this subscription."},
    "disconnect": {"description": "The close code and the reason."},
    "whitelist": {"description": "The IDs of clients that remain connected."},
    "expired": {"description": "Close the connections now."},
    "pattern": {"description": "A pattern of channel names: an asterisk stands for any characters.", "maxLength": 255},
    "offset": {"description": "The offset in the stream."},
    "epoch": {"description": _EPOCH},
    "reason": {"description": "The close reason.", "maxLength": MAX_REASON_BYTES},
    "code": {
        "description": "The close code; 0 for the default.",
        "anyOf": [{"const": 0}, {"minimum": 3000, "maximum": 4999}],
    },
    "search": {
        "description": "Select connections whose client ID, user, address or a channel contains this text.",
        "maxLength": MAX_NAME,
    },
    "Connections.limit": {
        "description": "The maximum number of connections, in the order of their client IDs; 0 for no order.",
        "minimum": 0,
        "maximum": MAX_CONNECTIONS,
    },
    "after": {"description": "With limit: return only connections after this client ID."},
    "parallel": {"description": "Whether up to 64 commands run at the same time, in any order."},
}
"""
Name of a parameter -> what its schema has in addition to its type. If two structs have different parameters of the same
name, the name of the struct precedes that of the parameter.
"""

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "Publish": ("channel",),
    "Broadcast": ("channels",),
    "Channel": ("channel",),
    "History": ("channel",),
    "Subscribe": ("channel",),
    "Unsubscribe": ("channel",),
    "Batch": ("commands",),
}
"""Name of a struct -> the parameters that its check demands."""


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_STRING: Final[Schema] = {"type": "string"}
_POSITION: Final[dict[str, Schema]] = {"offset": _COUNT, "epoch": {"type": "string", "description": _EPOCH}}

RESULTS: Final[Mapping[str, Schema]] = {
    "Nothing": _object(),
    "Clients": _object(("clients",), clients={**_COUNT, "description": "The number of clients that were changed."}),
    "PublishResult": _object(
        ("delivered",),
        **_POSITION,
        delivered={**_COUNT, "description": "The number of subscribers that this server process sent it to."},
    ),
    "BroadcastResult": _object(
        ("responses",),
        responses={
            "type": "array",
            "description": "One response for each channel, in the same order.",
            "items": {"anyOf": [_object(("result",), result=_ref("PublishResult")), _ref("Failure")]},
        },
    ),
    "ClientInfo": _object(("client", "user"), client=_STRING, user=_STRING, conn_info={}, chan_info={}),
    "PresenceResult": _object(("presence",), presence={"type": "object", "additionalProperties": _ref("ClientInfo")}),
    "PresenceStatsResult": _object(("num_clients", "num_users"), num_clients=_COUNT, num_users=_COUNT),
    "Publication": _object(
        ("data",),
        data={"description": "The data; null if it is not text."},
        b64data={"type": "string", "description": "The bytes in base64, if the data is not text."},
        offset=_COUNT,
        info=_ref("ClientInfo"),
        tags={"type": "object", "additionalProperties": _STRING},
    ),
    "HistoryResult": _object(
        ("publications", "offset", "epoch"),
        publications={"type": "array", "items": _ref("Publication")},
        **_POSITION,
    ),
    "ChannelsResult": _object(
        ("channels",),
        channels={"type": "object", "additionalProperties": _object(("num_clients",), num_clients=_COUNT)},
    ),
    "Connection": _object(
        ("user", "transport", "protocol", "address", "connected", "state"),
        user=_STRING,
        transport=_STRING,
        protocol=_STRING,
        address=_STRING,
        connected={**_COUNT, "description": "Seconds for which it has been open."},
        state=_object(("channels",), channels={"type": "object", "additionalProperties": {"type": "object"}}),
    ),
    "ConnectionsResult": _object(
        ("connections", "total"),
        connections={
            "type": "object",
            "description": "The connections by client ID.",
            "additionalProperties": _ref("Connection"),
        },
        total={**_COUNT, "description": "The number of all connections that were selected."},
        after={"type": "string", "description": "The parameter for the next page; missing if there is none."},
    ),
    "InfoResult": _object(
        ("nodes",),
        nodes={
            "type": "array",
            "items": _object(
                ("uid", "name", "version", "num_clients", "num_users", "num_channels", "num_subs", "uptime"),
                uid=_STRING,
                name=_STRING,
                version=_STRING,
                num_clients=_COUNT,
                num_users=_COUNT,
                num_channels=_COUNT,
                num_subs=_COUNT,
                uptime=_COUNT,
                worker={"type": "integer", "minimum": 1, "description": "Its number, if the server has workers."},
                metrics=_object(
                    ("interval", "items"),
                    interval=_COUNT,
                    items={"type": "object", "additionalProperties": {"type": "number"}},
                ),
            ),
        },
    ),
    "RejectsResult": _object(
        ("rejects",),
        rejects={
            "type": "array",
            "items": _object(
                ("time", "first_time", "count", "peer", "path", "status", "cause", "reason", "options", "node"),
                time={"type": "number"},
                first_time={"type": "number"},
                count=_COUNT,
                peer=_STRING,
                path={"type": ["string", "null"]},
                status={"type": ["integer", "null"]},
                cause=_STRING,
                reason=_STRING,
                options={"type": "array", "items": _STRING},
                node=_STRING,
            ),
        },
    ),
    "Error": _object(("code", "message"), code={"type": "integer"}, message=_STRING),
    "Failure": _object(("error",), error=_ref("Error")),
}
"""Name -> schema of an answer, or of a part of one."""

STATUSES: Final[Mapping[str, str]] = {
    "400": "A parameter is invalid (code 107), or history or presence is not enabled for the channel (code 108).",
    "401": "The request has no key, or a wrong one (code 101).",
    "403": "Redis does not permit it (code 103), or the server has no --api-key (code 108).",
    "404": "There is no such method (code 104).",
    "416": f"The position belongs to a stream that no longer exists (code {UNRECOVERABLE_POSITION.code}).",
    "500": "The server failed; its log contains the traceback (code 100).",
    "503": "Redis is unavailable (code 100); try again after Retry-After seconds.",
}
"""Status -> its meaning. The body is a failure; that of `broadcast` and `batch` has one response for each part."""


def describe_api(server: str = "http://127.0.0.1:8080") -> Schema:
    """
    Return the OpenAPI description.

    Args:
        server: the URL of the server, which may be relative to that of the description.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wsserver HTTP API",
            "version": __version__,
            "description": "Publish, read history and presence, and manage clients.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "security": [{"key": []}, {"bearer": []}],
        "paths": {f"/api/{name}": _describe_method(name) for name in [*METHODS, "batch"]},
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": _describe_schemas(),
        },
    }


def _describe_method(name: str) -> Schema:
    if name == "batch":
        kind, answer, summary = Batch.__name__, _object(("replies",), replies={"type": "array"}), "Run many commands"
    else:
        struct, result, summary = METHODS[name]
        kind, answer = struct.__name__, _object(("result",), result=_ref(result))
    parts = name in ("batch", "broadcast")
    failure = {"anyOf": [_ref("Failure"), answer]} if parts else _ref("Failure")
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {
                "required": kind not in ("Parameters", "Channels", "Connections"),
                "content": _json(_ref(kind)),
            },
            "responses": {
                "200": {"description": "The result.", "content": _json(answer)},
                **{status: {"description": text, "content": _json(failure)} for status, text in STATUSES.items()},
                "413": {
                    "description": "The body exceeds 64 KiB.",
                    "content": {"text/plain": {"schema": _STRING}},
                },
            },
        }
    }


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _describe_schemas() -> Schema:
    structs = {struct for struct, _, _ in METHODS.values()} | {Batch}
    _, found = msgspec.json.schema_components(sorted(structs, key=lambda one: one.__name__), ref_template=_REF)
    schemas = {name: _refine(name, schema) for name, schema in found.items()}
    schemas["Batch"]["properties"]["commands"] = {
        "type": "array",
        "description": "Commands, each with the name of one method and its parameters.",
        "items": {"anyOf": [_object((name,), **{name: _ref(one.__name__)}) for name, (one, _, _) in METHODS.items()]},
        "minItems": 1,
        "maxItems": MAX_COMMANDS,
    }
    return {**dict(sorted(schemas.items())), **RESULTS}


def _refine(name: str, schema: Schema) -> Schema:
    """Return the schema of a struct without the parameters that are rejected, and with what its check demands."""
    properties = {
        field: _strip(value) | PROPERTIES.get(f"{name}.{field}", PROPERTIES.get(field, {}))
        for field, value in schema["properties"].items()
        if field not in UNSUPPORTED
    }
    refined = {"type": "object", "properties": properties, "required": list(REQUIRED.get(name, ()))}
    if name in ("Publish", "Broadcast"):
        refined["anyOf"] = [{"required": ["data"]}, {"required": ["b64data"]}]
    if "user" in properties and name != "Connections":
        refined["anyOf"] = [{"required": [key], "properties": {key: {"minLength": 1}}} for key in ("user", "client")]
    return refined


def _strip(schema: Schema) -> Schema:
    """Return the schema of a parameter without null, which means that it is missing, and without defaults."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    return kept | (choices[0] if choices else {})


def openapi_file() -> str:
    """Return the text of the file."""
    return json.dumps(describe_api(), indent=2) + "\n"


if __name__ == "__main__":
    print(openapi_file(), end="")
