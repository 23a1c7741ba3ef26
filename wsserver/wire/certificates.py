"""
Certificates and private keys of a TLS listener: read from PEM files and checked.

A file may hold the whole chain, the server's own certificate first, as certbot writes `fullchain.pem` (RFC 8446 section
4.4.2). No Twisted here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = [
    "MAX_FILE",
    "CertificateError",
    "ServerCertificate",
    "describe_validity",
    "read_chain",
    "read_directory",
    "read_server_certificate",
]

MAX_FILE = 1024 * 1024
"""Longest PEM file that is read, in bytes."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class CertificateError(Exception):
    """
    A certificate or key file that cannot be used.

    Args:
        problem: what is wrong, with the file's name.
        of_key: whether the private key's file is at fault, not the certificate's.
    """

    def __init__(self, problem: str, *, of_key: bool = False) -> None:
        super().__init__(problem)
        self.of_key = of_key


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate chain with its private key."""

    chain: tuple[x509.Certificate, ...]
    """The server's own certificate first, then those of the authorities that signed it."""
    key: Any
    """The private key of the first one: a private key of `cryptography`."""


def read_server_certificate(certificate: str, key: str = "") -> ServerCertificate:
    """
    Read a certificate chain and its private key.

    Args:
        certificate: path of a PEM file with the server's certificate, followed by its chain.
        key: path of a PEM file with the private key; empty if the key is in the same file.

    Raises:
        CertificateError: a file is missing, unreadable or not PEM, the key is encrypted, or it belongs to another
            certificate.
    """
    chain = read_chain(certificate)
    private = _read_key(key or certificate, own_file=bool(key))
    if not _match(private, chain[0]):
        raise CertificateError(_describe_mismatch(private, chain, key or certificate, certificate), of_key=True)
    return ServerCertificate(chain, private)


def read_chain(path: str) -> tuple[x509.Certificate, ...]:
    """
    Read the certificates of a PEM file.

    Raises:
        CertificateError: the file is missing, unreadable, or holds no valid certificate.
    """
    data = _read(path, of_key=False)
    blocks = _CERTIFICATE.findall(data)
    if not blocks:
        raise CertificateError(f"{path!r} contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)")
    return tuple(_parse_certificate(block, path, number) for number, block in enumerate(blocks, 1))


def read_directory(path: str) -> list[tuple[frozenset[str], ServerCertificate]]:
    """
    Read the certificates of a directory, as the endpoint string `tls:` names one.

    Keys, certificates and those of authorities may be spread over its files with the suffix `.pem` in any way: a key is
    matched to its certificate, and the chain is completed from what the directory holds.

    Args:
        path: the directory; its subdirectories are read, too.

    Returns:
        For each private key, in the order of the files' names: the host names of its certificate, in lower case, and
        the certificate.

    Raises:
        CertificateError: the directory is missing, a file is not usable, or no key has a certificate.
    """
    if not Path(path).is_dir():
        raise CertificateError(f"{path!r} is not a directory")
    certificates: list[x509.Certificate] = []
    keys: list[Any] = []
    for file in sorted(Path(path).rglob("*.pem")):
        data = _read(str(file), of_key=False)
        certificates += [
            _parse_certificate(block, str(file), number) for number, block in enumerate(_CERTIFICATE.findall(data), 1)
        ]
        keys += _parse_keys(data, str(file))
    found = [
        (_host_names(own), ServerCertificate(tuple(_complete_chain(own, certificates)), key))
        for key in keys
        for own in dict.fromkeys(certificates)
        if _match(key, own)
    ]
    if not found:
        raise CertificateError(f"{path!r} contains no .pem files with a certificate and its private key")
    return found


def describe_validity(certificate: x509.Certificate, now: datetime) -> str | None:
    """Return why a certificate is not valid at a time, in UTC; None if it is."""
    if now > certificate.not_valid_after_utc:
        return f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return None


def _read(path: str, *, of_key: bool) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CertificateError(f"cannot read {path!r}: {why}", of_key=of_key) from None
    if len(data) > MAX_FILE:
        raise CertificateError(f"{path!r} is longer than {MAX_FILE} bytes", of_key=of_key)
    return data


def _parse_certificate(block: bytes, path: str, number: int) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except ValueError:
        raise CertificateError(f"certificate {number} in {path!r} is damaged") from None


def _read_key(path: str, *, own_file: bool) -> Any:
    keys = _parse_keys(_read(path, of_key=own_file), path)
    if keys:
        return keys[0]
    if own_file:
        raise CertificateError(f"{path!r} contains no private key in PEM format", of_key=True)
    raise CertificateError(f"expected the file of the private key, as {path!r} does not contain it", of_key=True)


def _parse_keys(data: bytes, path: str) -> list[Any]:
    keys = []
    for match in _KEY.finditer(data):
        # RFC 7468 section 11, and the older form of OpenSSL (RFC 1421 section 4.6.1.1).
        if match[1] == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in match[0]:
            raise CertificateError(
                f"the private key in {path!r} is encrypted; decrypt it with `openssl pkey -in KEY -out PLAIN`",
                of_key=True,
            )
        try:
            keys.append(load_pem_private_key(match[0], password=None))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise CertificateError(
                f"the private key in {path!r} is damaged or of an unknown kind", of_key=True
            ) from None
    return keys


def _match(key: Any, certificate: x509.Certificate) -> bool:
    try:
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        # The certificate has a public key of a kind that is unknown here.
        return False


def _describe_mismatch(key: Any, chain: Sequence[x509.Certificate], key_path: str, path: str) -> str:
    if any(_match(key, certificate) for certificate in chain):
        return (
            f"the private key in {key_path!r} belongs to a later certificate of {path!r}; expected it to be the first"
        )
    return f"the private key in {key_path!r} does not belong to the certificate in {path!r}"


def _complete_chain(own: x509.Certificate, known: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    current, seen = own, {own}
    while True:
        yield current
        # RFC 8446 section 4.4.2: a root may be left out, as a client must have it anyway.
        issuers = (c for c in known if c.subject == current.issuer and c.subject != c.issuer and c not in seen)
        issuer = next(issuers, None)
        if issuer is None:
            return
        seen.add(issuer)
        current = issuer


def _host_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
