"""Certificates for TLS tests: a root authority, an intermediate one, and server certificates."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["Authority", "Issued", "make_authority", "make_key", "write_key"]

PEM = serialization.Encoding.PEM
NAMES = ("localhost", "127.0.0.1")


def make_key(kind: str = "ECDSA") -> Any:
    """Return a new private key of kind `ECDSA` or `RSA`."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ECDSA" else rsa.generate_private_key(65537, 2048)


def write_key(path: Path, key: Any, password: bytes = b"") -> Path:
    """Write a private key as PEM, encrypted if there is a password."""
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
    return path


@dataclass
class Issued:
    """The files of a server's certificate, named as certbot names them."""

    fullchain: Path
    """The server's certificate and the intermediate authority's."""
    leaf: Path
    """The server's certificate alone."""
    privkey: Path
    certificate: x509.Certificate
    key: Any


@dataclass
class Authority:
    """A root and an intermediate authority."""

    root: Path
    """The root's certificate, which clients trust."""
    intermediate: x509.Certificate
    key: Any
    """The intermediate authority's private key."""

    def issue(self, folder: Path, kind: str = "ECDSA", names: tuple[str, ...] = NAMES, days: int = 10) -> Issued:
        """
        Issue a certificate for a server.

        Args:
            folder: the directory for its files; created if it is missing.
            kind: the kind of key, `ECDSA` or `RSA`.
            names: host names and IP addresses that it is valid for.
            days: the days until it expires; negative for an expired one.
        """
        folder.mkdir(exist_ok=True)
        key = make_key(kind)
        certificate = _sign(names[0], key.public_key(), self.key, self.intermediate.subject, days, _alternatives(names))
        leaf = certificate.public_bytes(PEM)
        paths = folder / "fullchain.pem", folder / "cert.pem"
        paths[0].write_bytes(leaf + self.intermediate.public_bytes(PEM))
        paths[1].write_bytes(leaf)
        return Issued(*paths, write_key(folder / "privkey.pem", key), certificate, key)


def make_authority(folder: Path, name: str = "wsserver test") -> Authority:
    """Create a root and an intermediate authority of this name; write the root's certificate to a folder."""
    root_key, key = make_key(), make_key()
    root_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} root")])
    root = _sign(f"{name} root", root_key.public_key(), root_key, root_name, 20, None)
    intermediate = _sign(f"{name} intermediate", key.public_key(), root_key, root_name, 20, None)
    path = folder / "root.pem"
    path.write_bytes(root.public_bytes(PEM))
    return Authority(path, intermediate, key)


def _alternatives(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _sign(
    name: str, key: Any, signer: Any, issuer: x509.Name, days: int, alternatives: x509.SubjectAlternativeName | None
) -> x509.Certificate:
    """Sign a certificate: a server's if there are alternative names, otherwise an authority's."""
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(("content_commitment", "data_encipherment", "key_agreement", "encipher_only"), False)
    usage |= {"decipher_only": False, "digital_signature": True, "key_encipherment": alternatives is not None}
    usage |= {"key_cert_sign": alternatives is None, "crl_sign": alternatives is None}
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=alternatives is None, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if alternatives is not None:
        # Chromium and Python's strict verification require both extensions.
        server = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(alternatives, critical=False).add_extension(server, critical=False)
    return builder.sign(signer, hashes.SHA256())
