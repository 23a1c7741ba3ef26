"""Names for values that more than one module passes on."""

from typing import NewType

__all__ = ["ChannelName", "JSONText", "Origin", "Path", "Subprotocol"]

Path = NewType("Path", str)
"""The path of a request target, percent-decoded, as in the table of endpoints: `/echo`."""

Subprotocol = NewType("Subprotocol", str)
"""A subprotocol name (RFC 6455 section 1.9), as the client wrote it."""

Origin = NewType("Origin", str)
"""An origin in its one spelling: lower case, the port always there unless it is opaque: `https://example.com:443`."""

ChannelName = NewType("ChannelName", str)
"""The name of a channel, checked: `wsserver.hub.names.parse_name`."""

JSONText = NewType("JSONText", bytes)
"""A JSON value's own text (RFC 8259), checked, without white space around it: `wsserver.jsonfields.read_json`."""
