"""The form of the Centrifuge protocol that a client asks for in its opening handshake, and its version."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Final

from wsserver.endpoints.centrifuge.codec import Codec
from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.text import quote
from wsserver.wire.http11 import Refusal, bad_request

__all__ = ["choose_codec", "choose_subprotocol", "protobuf"]

PROTOBUF: Final = "centrifuge-protobuf"
"""The WebSocket subprotocol of the Protobuf form."""

SUBPROTOCOLS: Final = (JSON.subprotocol, PROTOBUF)


@cache
def protobuf() -> Codec:
    """Return the codec of the Protobuf form. It is imported when it is first used: it takes 5 MiB and 30 ms."""
    codec: Codec = import_module("wsserver.endpoints.centrifuge.protobuf_codec").PROTOBUF
    return codec


def choose_codec(query: Mapping[str, Sequence[str]], offered: Sequence[str]) -> Codec | Refusal:
    """
    Choose the form of the protocol for a client.

    As in Centrifuge, a client chooses Protobuf by `?format=protobuf`, `?cf_protocol=protobuf`, or the subprotocol
    `centrifuge-protobuf`.

    Args:
        query: the parameters in the URL.
        offered: the WebSocket subprotocols that the client offers; empty for other transports.

    Returns:
        The form, or a 400 refusal if the client requests another form, or a protocol version other than 2.
    """
    asked = {*query.get("format", ()), *query.get("cf_protocol", ())}
    if unknown := asked - {"json", "protobuf"}:
        return bad_request(f"format={quote(', '.join(sorted(unknown)))} is not supported: expected json or protobuf")
    if versions := set(query.get("cf_protocol_version", ())) - {"v2"}:
        return bad_request(
            f"cf_protocol_version={quote(', '.join(sorted(versions)))} is not supported: expected v2",
        )
    return protobuf() if "protobuf" in asked or choose_subprotocol(offered) == PROTOBUF else JSON


def choose_subprotocol(offered: Sequence[str]) -> str | None:
    """Return the first subprotocol of the Centrifuge protocol that the client offers; None if it offers none."""
    return next((one for one in offered if one in SUBPROTOCOLS), None)
