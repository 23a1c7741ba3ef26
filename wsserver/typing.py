"""Types for strings and bytes that several modules use."""

from typing import NewType

__all__ = ["ChannelName", "Header", "JSONText", "Origin", "Path", "Subprotocol"]

Path = NewType("Path", str)
"""The percent-decoded path of a request target, as in the endpoint table: `/echo`."""

Subprotocol = NewType("Subprotocol", str)
"""A subprotocol name (RFC 6455 section 1.9), as the client wrote it."""

Origin = NewType("Origin", str)
"""A normalized origin (`wsserver.origins.origin_of`): lower case, with the port if known: `https://example.com:443`."""

ChannelName = NewType("ChannelName", str)
"""A channel name, checked by `wsserver.hub.names.parse_name`."""

Header = tuple[str, str]
"""An HTTP header: the name in lower case, and the value."""

JSONText = NewType("JSONText", bytes)
"""A JSON text (RFC 8259) without white space around it, checked by `wsserver.jsonfields.read_json`."""
