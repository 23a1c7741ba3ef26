"""The form of the Centrifuge protocol that a client asks for in its opening handshake, and its version."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from wsserver.endpoints.centrifuge.json_codec import JSON
from wsserver.text import quote
from wsserver.wire.protocol import ConnectionDeny

__all__ = ["check_form"]

PROTOBUF: Final = "centrifuge-protobuf"
"""The WebSocket subprotocol of the Protobuf form."""


def check_form(query: Mapping[str, Sequence[str]], offered: Sequence[str]) -> None:
    """
    Check that the client can use the JSON form of version 2.

    Args:
        query: the parameters in the URL.
        offered: the WebSocket subprotocols that the client offers.

    Raises:
        ConnectionDeny: 400, the client requests Protobuf, or a protocol version other than 2.
    """
    asked = {*query.get("format", ()), *query.get("cf_protocol", ())} - {"json"}
    if asked or (PROTOBUF in offered and JSON.subprotocol not in offered):
        raise ConnectionDeny(
            int(HTTPStatus.BAD_REQUEST),
            "Protobuf is not supported: expected the JSON form of the Centrifuge protocol",
        )
    if versions := set(query.get("cf_protocol_version", ())) - {"v2"}:
        raise ConnectionDeny(
            int(HTTPStatus.BAD_REQUEST),
            f"cf_protocol_version={quote(', '.join(sorted(versions)))} is not supported: expected v2",
        )
