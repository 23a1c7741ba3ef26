"""Keys that check tokens: those of the options, and JSON Web Key Sets."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tokens import (
    EC256,
    NOW,
    OTHER_RSA,
    RSA,
    SECRET,
    TERMS,
    b64,
    jwk,
    key_set,
    pem,
    ring,
    signed,
    token,
)

from wsserver.auth.claims import Identity
from wsserver.auth.jwt import Cause, Refused, verify
from wsserver.auth.keys import MAX_FETCHED, KeyRing, configured, parse_set, secret
from wsserver.config.settings import Settings
from wsserver.errors import SettingError


class ConfiguredTests:
    """Keys in the options."""

    def test_none(self):
        """There may be none."""
        assert configured(Settings()) == []

    def test_file(self, tmp_path):
        """A public key may stand in a file."""
        path = tmp_path / "key.pem"
        path.write_text(pem(RSA))
        assert isinstance(verify(signed(RSA, "RS256"), ring(token_public_key=str(path)), NOW, TERMS), Identity)

    def test_length_of_a_secret(self):
        """RFC 7518 section 3.2: the secret is at least as long as the hash."""
        found = [len(secret("x", "s" * length).algorithms) for length in (32, 47, 48, 63, 64)]
        assert found == [1, 1, 2, 2, 3]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("/nowhere/key.pem", "cannot be read: No such file or directory"),
            ("-----BEGIN PUBLIC KEY-----", "expected a public key in PEM"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "a PEM block is not a public key"),
            (
                RSA.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode(),
                "expected a public key, not a private key",
            ),
            (pem(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits: expected 2048 to 8192"),
            (
                pem(ec.generate_private_key(ec.SECP256K1())),
                "expected an RSA key, or one on the curve P-256, P-384 or P-521",
            ),
        ],
    )
    def test_bad(self, text, problem):
        """What is no public key is said to be none, before the server starts."""
        with pytest.raises(SettingError) as caught:
            ring(token_public_key=text)
        assert caught.value.problem == problem

    def test_binary_file(self, tmp_path):
        """A file of another kind is none either."""
        path = tmp_path / "key.der"
        path.write_bytes(b"\xff")
        with pytest.raises(SettingError, match="expected a public key in PEM"):
            ring(token_public_key=str(path))

    def test_public_key_as_secret(self):
        """Whoever mixes up the options is told."""
        with pytest.raises(SettingError, match="--token-public-key"):
            secret("token_secret", pem(RSA))


class SetTests:
    """JSON Web Key Sets."""

    def fetched(self, *entries):
        keys = KeyRing([], fetching=True)
        keys.take(parse_set(key_set(*entries)))
        return keys

    @pytest.mark.parametrize("kid", ["one", "two", None])
    def test_taken(self, kid):
        """The key is found by its name, or by trying where the token names none."""
        keys = self.fetched(jwk(EC256, kid="two"), jwk(RSA, kid="one", use="sig", alg="RS256"))
        private, algorithm = (EC256, "ES256") if kid == "two" else (RSA, "RS256")
        header = {"kid": kid} if kid else {}
        assert isinstance(verify(signed(private, algorithm, **header), keys, NOW, TERMS), Identity)

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            (signed(RSA, "RS256", kid="new"), Cause.UNKNOWN_KEY),
            (signed(OTHER_RSA, "RS256", kid="one"), Cause.INVALID),
            (signed(RSA, "RS512", kid="one"), Cause.INVALID),
            (signed(EC256, "ES256", kid="one"), Cause.INVALID),
            (token(header={"alg": "HS256", "kid": "new"}), Cause.INVALID),
            (token(header={"alg": "none", "kid": "new"}), Cause.INVALID),
            (token(header={"alg": "HS256", "kid": "one"}, key=pem(RSA)), Cause.INVALID),
        ],
    )
    def test_refused(self, text, cause):
        """A key's name is known or not; under its name a key is good for what it is for."""
        keys = self.fetched(jwk(RSA, kid="one", alg="RS256"))
        refused = verify(text, keys, NOW, TERMS)
        assert isinstance(refused, Refused)
        assert refused.cause is cause

    def test_nothing_fetched(self):
        """Before the first set is here, any key of such kinds is an unknown one."""
        refused = verify(signed(RSA, "RS256"), KeyRing([], fetching=True), NOW, TERMS)
        assert refused.cause is Cause.UNKNOWN_KEY

    def test_replaced(self):
        """A key that is no longer in the set is no longer good."""
        keys = self.fetched(jwk(RSA, kid="one"))
        keys.take(parse_set(key_set(jwk(OTHER_RSA, kid="two"))))
        assert verify(signed(RSA, "RS256", kid="one"), keys, NOW, TERMS).cause is Cause.UNKNOWN_KEY

    def test_left_out(self):
        """Secrets and keys for something else are left out, and private halves dropped."""
        private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA))
        found = parse_set(
            key_set(
                {"kty": "oct", "k": b64(SECRET), "kid": "secret"},
                {"kty": "OKP", "crv": "Ed25519", "x": b64(b"x" * 32)},
                jwk(RSA, use="enc"),
                jwk(RSA, key_ops=["encrypt"]),
                jwk(RSA, key_ops=1),
                jwk(RSA, kid=7),
                jwk(rsa.generate_private_key(65537, 1024)),
                {"kty": "RSA", "n": 5, "e": "AQAB"},
                {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
                {"kty": ["RSA"]},
                "RSA",
                private | {"kid": "good", "key_ops": ["sign", "verify"]},
            )
        )
        assert [key.kid for key in found] == ["good"]
        assert isinstance(found[0].value, rsa.RSAPublicKey)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{}",
            b'{"keys": {}}',
            b'{"keys": []}',
            b"\xff",
            b"[" * 100_000,
            key_set({"kty": "oct", "k": "x"}),
        ],
    )
    def test_bad(self, text):
        """What is no set of keys is an error."""
        with pytest.raises(ValueError, match=r".+"):
            parse_set(text)

    def test_many(self):
        """A huge set is cut."""
        assert len(parse_set(key_set(*[jwk(EC256, kid=str(n)) for n in range(MAX_FETCHED + 9)]))) == MAX_FETCHED
