"""
The keys that verify tokens: secrets, public keys, and JSON Web Key Sets (RFC 7517).

Only this module imports PyJWT, which is an optional dependency (`wsserver[auth]`). A server without keys does not
import this module. Each key is used only with the algorithms for its type (RFC 8725 section 3.1), so a public key
cannot be used as an HMAC secret.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError, InvalidSignatureError, PyJWTError

from wsserver.auth.jwt import Cause, Refused
from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.text import quote

__all__ = ["ALGORITHMS", "MAX_FETCHED", "Key", "KeyRing", "configured", "encode", "parse_set", "secret"]

MAX_FETCHED: Final = 64
"""Maximum number of entries read from a key set."""

# RFC 7518 section 3.2: a secret must be at least as long as the hash. (Algorithm, minimum length in bytes, hash.)
_SECRETS: Final = (
    ("HS256", 32, HMACAlgorithm.SHA256),
    ("HS384", 48, HMACAlgorithm.SHA384),
    ("HS512", 64, HMACAlgorithm.SHA512),
)
_RSA: Final = frozenset({"RS256", "RS384", "RS512"})
# RFC 7518 section 3.4: each algorithm uses one curve.
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

ALGORITHMS: Final = (*(name for name, *_ in _SECRETS), *sorted(_RSA), *_CURVES.values())
"""All supported algorithms. PyJWT supports more, including `none`."""

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class _AnyLength(HMACAlgorithm):
    """HMAC without a warning for each token if the secret is short: `Settings` and `secret` check the length."""

    def check_key_length(self, _key: bytes) -> None:
        return None


_jws = PyJWS(ALGORITHMS)
for _name, _, _digest in _SECRETS:
    _jws.unregister_algorithm(_name)
    _jws.register_algorithm(_name, _AnyLength(_digest))


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the algorithms it may be used with."""

    value: Any
    """A secret as bytes, or a public key object of `cryptography`."""
    algorithms: frozenset[str]
    kid: str | None = None
    """The key ID in its key set; None for configured keys and entries without one."""


class KeyRing:
    """
    The server's keys; implements `wsserver.auth.jwt.Keys`.

    Args:
        own: the keys from the server's options.
        fetching: whether more keys are fetched and passed to `take`.
    """

    def __init__(self, own: Iterable[Key], *, fetching: bool = False) -> None:
        self._own = tuple(own)
        self._fetched: tuple[Key, ...] = ()
        self._fetching = fetching

    def take(self, fetched: Iterable[Key]) -> None:
        """Replace the fetched keys with those of a new key set."""
        self._fetched = tuple(fetched)

    def payload(self, token: str, algorithm: str, kid: str | None) -> bytes | Refused:
        """Verify a token's signature; see `wsserver.auth.jwt.Keys.payload`."""
        named = [key for key in self._fetched if kid is None or key.kid == kid]
        fitting = [key for key in (*self._own, *named) if algorithm in key.algorithms]
        for key in fitting:
            try:
                payload: bytes = _jws.decode(token, key.value, [algorithm])
            except InvalidSignatureError:
                continue
            except PyJWTError:
                # PyJWT's message is not shown: it may quote the token.
                return Refused("the token is malformed")
            return payload
        if self._fetching and not named and algorithm in ALGORITHMS and not algorithm.startswith("HS"):
            return Refused(f"the token is signed with an unknown key: {quote(kid or '')}", Cause.UNKNOWN_KEY)
        if fitting:
            return Refused("the token's signature does not match any key of this server")
        allowed = {name for key in (*self._own, *self._fetched) for name in key.algorithms}
        # Until a key set is fetched, the algorithms of its keys are unknown.
        shown = " or ".join(name for name in ALGORITHMS if name in allowed) or "one for public keys"
        return Refused(f"the token's algorithm is {quote(algorithm)}, expected {shown}")


def configured(settings: Settings) -> list[Key]:
    """
    Return the keys from the server's options.

    Raises:
        SettingError: a key is invalid, too short or unsupported, or its file cannot be read.
    """
    keys = [
        secret(name, text, weak=settings.token_secret_weak)
        for name, text in (
            ("token_secret", settings.token_secret),
            ("token_secret_previous", settings.token_secret_previous),
        )
        if text
    ]
    return [*keys, *_public_keys(settings.token_public_key)] if settings.token_public_key else keys


def secret(option: str, text: str, *, weak: bool = False) -> Key:
    """
    Return the key for a secret.

    Args:
        option: the option that the secret is from, for the error message.
        text: the secret; its length determines which algorithms it may be used with.
        weak: whether the secret may be used with all algorithms for secrets, whatever its length.

    Raises:
        SettingError: the text is a PEM or SSH key, not a secret.
    """
    value = text.encode("utf-8")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value)
    except InvalidKeyError:
        raise SettingError(option, "expected a secret, not a key in PEM; see --token-public-key") from None
    return Key(value, frozenset(name for name, least, _ in _SECRETS if weak or len(value) >= least))


def _public_keys(text: str) -> Iterator[Key]:
    option = "token_public_key"
    if "-----BEGIN" not in text:
        option = f"{option} {text}"
        try:
            text = Path(text).read_text("ascii")
        except OSError as error:
            raise SettingError(option, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingError(option, "expected a public key in PEM") from None
    blocks = list(_PEM.finditer(text))
    if not blocks:
        raise SettingError(option, "expected a public key in PEM")
    for block in blocks:
        if "PRIVATE" in block[1]:
            raise SettingError(option, "expected a public key, not a private key")
        try:
            yield _make_public_key(load_pem_public_key(block[0].encode("ascii")), None)
        except (ValueError, UnsupportedAlgorithm) as error:
            words = str(error) if isinstance(error, _UnsupportedKey) else "a PEM block is not a public key"
            raise SettingError(option, words) from None


class _UnsupportedKey(ValueError):
    """The key is of a type or size that is not supported."""


def _make_public_key(value: object, kid: str | None) -> Key:
    if isinstance(value, RSAPublicKey):
        # RFC 7518 section 3.3: at least 2048 bits. Verification with much longer keys is much slower.
        if not 2048 <= value.key_size <= 8192:
            raise _UnsupportedKey(f"an RSA key of {value.key_size} bits: expected 2048 to 8192")
        return Key(value, _RSA, kid)
    if isinstance(value, EllipticCurvePublicKey) and value.curve.name in _CURVES:
        return Key(value, frozenset({_CURVES[value.curve.name]}), kid)
    raise _UnsupportedKey("expected an RSA key, or one on the curve P-256, P-384 or P-521")


def parse_set(text: bytes) -> list[Key]:
    """
    Parse a JSON Web Key Set (RFC 7517 section 5).

    Args:
        text: the JSON document.

    Returns:
        The public RSA and EC keys for signatures among the first `MAX_FETCHED` entries. Other keys are ignored,
        including secrets (`oct`), which must not be published.

    Raises:
        ValueError: the document is not a key set, or has no usable key.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set: expected an object with an array named keys")
    keys = [key for entry in entries[:MAX_FETCHED] if isinstance(entry, dict) and (key := _parse_entry(entry))]
    if not keys:
        raise ValueError("the key set has no RSA or EC key for signatures")
    return keys


def _parse_entry(entry: Mapping[str, Any]) -> Key | None:
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str | None) or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    members = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}.get(str(entry.get("kty")))
    if members is None:
        return None
    # Only the public members are passed: with the private members, the entry would be loaded as a private key.
    public = {name: entry.get(name) for name in members}
    algorithm = RSAAlgorithm if entry["kty"] == "RSA" else ECAlgorithm
    try:
        key = _make_public_key(algorithm.from_jwk(public), kid)
    except (PyJWTError, ValueError, TypeError, AttributeError):
        return None
    only = entry.get("alg")
    return key if only is None else Key(key.value, key.algorithms & {str(only)}, kid)


def encode(claims: Mapping[str, Any], key: Key) -> str:
    """Return a token with these claims, signed with a secret: with HS256, which every valid secret may be used with."""
    return _jws.encode(json.dumps(claims, separators=(",", ":")).encode("utf-8"), key.value, min(key.algorithms))
