"""
Certificates and private keys of a TLS listener: read them from PEM files and check them.

A certificate file may contain the whole chain, the server's own certificate first (RFC 8446 section 4.4.2), like
certbot's `fullchain.pem`. No Twisted.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wsserver.wire.handed_files import find_files, read_file

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
"""Maximum size of a PEM file, in bytes."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class CertificateError(Exception):
    """
    A certificate or key file cannot be used.

    Args:
        problem: what is wrong, with the file's name.
        of_key: whether the file of the private key is at fault rather than the file of the certificate.
    """

    def __init__(self, problem: str, *, of_key: bool = False) -> None:
        super().__init__(problem)
        self.of_key = of_key


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate chain with its private key."""

    chain: tuple[x509.Certificate, ...]
    """The server's own certificate, followed by the certificates of the authorities that signed it."""
    key: Any
    """The private key of the server's own certificate, as an object of `cryptography`."""


def read_server_certificate(certificate: str, key: str = "") -> ServerCertificate:
    """
    Read a certificate chain and its private key.

    Args:
        certificate: path of a PEM file with the server's certificate, followed by its chain.
        key: path of a PEM file with the private key; empty if the key is in the same file.

    Raises:
        CertificateError: a file is missing, unreadable or not PEM, or the key is encrypted or belongs to another
            certificate.
    """
    chain = read_chain(certificate)
    private = _read_key(key or certificate, own_file=bool(key))
    if not _match(private, chain[0]):
        raise CertificateError(_describe_mismatch(private, chain, key or certificate, certificate), of_key=True)
    return ServerCertificate(chain, private)


def read_chain(path: str) -> tuple[x509.Certificate, ...]:
    """
    Read all certificates of a PEM file.

    Raises:
        CertificateError: the file is missing or unreadable, contains no certificate, or contains a damaged one.
    """
    data = _read(path, of_key=False)
    blocks = _CERTIFICATE.findall(data)
    if not blocks:
        raise CertificateError(f"{path!r} contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)")
    if len(blocks) != data.count(_BEGIN):
        raise CertificateError(f"{path!r} ends within a certificate")
    return tuple(_parse_certificate(block, path, number) for number, block in enumerate(blocks, 1))


def read_directory(path: str) -> list[tuple[frozenset[str], ServerCertificate]]:
    """
    Read the certificates of a directory, as used by Twisted's endpoint string `tls:`.

    Private keys, server certificates and certificates of authorities may be in any of the directory's files with the
    suffix `.pem`. Each key is matched to its certificate, whose chain is completed with the other certificates.

    Args:
        path: the directory; its subdirectories are read, too.

    Returns:
        For each private key, ordered by file name: the host names of its certificate in lower case, and the certificate
        with its chain and key.

    Raises:
        CertificateError: the directory is missing, a file is not usable, or no key has a certificate.
    """
    files = find_files(path)
    if not files and not os.path.isdir(path):
        raise CertificateError(f"{path!r} is not a directory")
    certificates: list[x509.Certificate] = []
    keys: list[Any] = []
    for file in files:
        data = _read(file, of_key=False)
        certificates += [
            _parse_certificate(block, file, number) for number, block in enumerate(_CERTIFICATE.findall(data), 1)
        ]
        keys += _parse_keys(data, file)
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
    """
    Return why a certificate is not valid at a given time; None if it is valid.

    Args:
        certificate: the certificate.
        now: the time, with a time zone.
    """
    if now > certificate.not_valid_after_utc:
        return f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return None


def _read(path: str, *, of_key: bool) -> bytes:
    try:
        data = read_file(path, MAX_FILE + 1)
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
        # Encrypted keys according to RFC 7468 section 11, and in OpenSSL's older format (RFC 1421 section 4.6.1.1).
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
        # `cryptography` does not support the kind of the certificate's public key.
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
        # RFC 8446 section 4.4.2: the root may be omitted, because clients must have it anyway.
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
