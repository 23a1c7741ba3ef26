"""The certificates that a server sends, whether they are valid or not. Python's `ssl` shows them only from 3.13 on."""

import ipaddress
import time

from cryptography import x509
from OpenSSL import SSL

from wsserver.cli.doctor.stream import CONNECT_TIMEOUT, ConnectionEnded, Dialer, Stream

__all__ = ["fetch_chain"]

_BLOCK = 65536


def fetch_chain(dialer: Dialer) -> list[x509.Certificate]:
    """Return the certificates that the server sends, its own first; empty if it sends none now."""
    tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    if not is_address(dialer.target.host):
        tls.set_tlsext_host_name(dialer.target.host.encode("ascii"))
    tls.set_connect_state()
    try:
        stream = Stream(dialer.connect())
    except OSError:
        return []
    try:
        _shake_hands(tls, stream)
    except (SSL.Error, OSError, ConnectionEnded):
        return []
    finally:
        stream.close()
    return list(tls.get_peer_cert_chain(as_cryptography=True) or [])


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, for which a client sends no SNI (RFC 6066 section 3)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shake_hands(tls: SSL.Connection, stream: Stream) -> None:
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            stream.send(tls.bio_read(_BLOCK))
            stream.receive(deadline)
            tls.bio_write(stream.take(len(stream.buffer)))
        else:
            return
