"""Keys, claims, and signed tokens."""

import base64
import hmac
import json

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wsserver.auth.jwt import Terms
from wsserver.auth.keys import KeyRing, configured
from wsserver.config.settings import Settings

__all__ = [
    "CLAIMS",
    "EC256",
    "EC384",
    "EC521",
    "NOW",
    "OTHER_RSA",
    "RSA",
    "SECRET",
    "TERMS",
    "b64",
    "claims",
    "jwk",
    "key_set",
    "pem",
    "ring",
    "signed",
    "token",
]

NOW = 1_800_000_000
SECRET = "correct horse battery staple correct horse battery staple 123456"
TERMS = Terms(leeway=5.0)
CLAIMS = {"sub": "42", "exp": NOW + 60}

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC256, EC384, EC521 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))


def pem(private):
    """Return the public half of a key as PEM."""
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def b64(data):
    """Return data as base64url, as in a token."""
    data = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(payload=CLAIMS, header=None, *, key=SECRET, digest="sha256"):
    """Return a token signed by hand; header and payload may be any text."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    parts = [part if isinstance(part, str | bytes) else json.dumps(part) for part in (head, payload)]
    signed = ".".join(map(b64, parts))
    mac = hmac.digest(key if isinstance(key, bytes) else key.encode(), signed.encode(), digest)
    return f"{signed}.{b64(mac)}"


def signed(key, algorithm, claims=CLAIMS, **header):
    """Return a token signed with a private key."""
    return jwt.encode(claims, key, algorithm, headers=header)


def ring(**settings):
    """Return the keys that some options configure."""
    return KeyRing(configured(Settings(**settings)))


def claims(**more):
    """Return valid claims, changed by the given ones; None omits a claim."""
    return {name: value for name, value in (CLAIMS | more).items() if value is not None}


def jwk(private, **more):
    """Return a key as an entry of a JWK set."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return json.loads(algorithm.to_jwk(private.public_key())) | more


def key_set(*entries):
    """Return a JWK set as JSON."""
    return json.dumps({"keys": entries}).encode()
