"""Describe the transport of a connection."""

from typing import Any, cast

from twisted.internet.interfaces import ISSLTransport

__all__ = ["describe_tls"]


def describe_tls(transport: Any) -> dict[str, str | None] | None:
    """Return the version, the cipher, the ALPN name and the server name (SNI) of TLS; None without TLS."""
    if not ISSLTransport.providedBy(transport):
        return None
    connection = cast(Any, transport).getHandle()
    return {
        "version": connection.get_protocol_version_name(),
        "cipher": connection.get_cipher_name(),
        "alpn": connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None,
        "server_name": (connection.get_servername() or b"").decode("ascii", "replace") or None,
    }
