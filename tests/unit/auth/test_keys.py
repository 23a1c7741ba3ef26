"""Keys that verify tokens: those of the options, and JSON Web Key Sets."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tokens import (
    CLAIMS,
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


def rsa_pem(bits):
    """Return an RSA public key of a size as PEM. Its modulus is not a product of two primes, which nothing checks."""
    key = rsa.RSAPublicNumbers(65537, 2 ** (bits - 1) + 1).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


class ConfiguredTests:
    """Keys from the options."""

    def test_the_default_settings_have_no_keys(self):
        assert configured(Settings()) == []

    def test_reads_a_public_key_from_a_file(self, tmp_path):
        path = tmp_path / "key.pem"
        path.write_text(pem(RSA))
        assert isinstance(verify(signed(RSA, "RS256"), ring(token_public_key=str(path)), NOW, TERMS), Identity)

    def test_a_longer_secret_allows_more_algorithms(self):
        """RFC 7518 section 3.2 requires a secret that is at least as long as the hash."""
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
            (rsa_pem(2047), "an RSA key of 2047 bits: expected 2048 to 8192"),
            (rsa_pem(8193), "an RSA key of 8193 bits: expected 2048 to 8192"),
            (
                pem(ec.generate_private_key(ec.SECP256K1())),
                "expected an RSA key, or one on the curve P-256, P-384 or P-521",
            ),
        ],
    )
    def test_refuses_an_unusable_public_key_and_gives_the_reason(self, text, problem):
        with pytest.raises(SettingError) as caught:
            ring(token_public_key=text)
        assert caught.value.problem == problem

    @pytest.mark.parametrize("bits", [2048, 8192])
    def test_accepts_rsa_keys_of_2048_to_8192_bits(self, bits):
        [key] = configured(Settings(token_public_key=rsa_pem(bits)))
        assert key.value.key_size == bits

    def test_refuses_a_public_key_file_that_is_not_pem(self, tmp_path):
        path = tmp_path / "key.der"
        path.write_bytes(b"\xff")
        with pytest.raises(SettingError, match="expected a public key in PEM"):
            ring(token_public_key=str(path))

    def test_refuses_a_public_key_as_a_secret_and_names_its_option(self):
        """If the server used a public key as a secret, everyone who has that key could sign tokens."""
        with pytest.raises(SettingError, match="--token-public-key"):
            secret("token_secret", pem(RSA))

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    def test_a_weak_secret_is_used_with_every_algorithm_and_without_a_warning(self, algorithm, recwarn):
        digest = algorithm.replace("HS", "sha")
        text = token(CLAIMS, {"alg": algorithm}, key="short", digest=digest)
        keys = ring(token_secret="short", token_secret_weak=True)
        assert json.loads(keys.payload(text, algorithm, None)) == CLAIMS
        assert not recwarn.list

    def test_the_length_of_a_secret_limits_its_algorithms_without_weak_secrets(self):
        assert secret("token_secret", "s" * 48).algorithms == {"HS256", "HS384"}
        assert secret("token_secret", "s" * 48, weak=True).algorithms == {"HS256", "HS384", "HS512"}


class KeySetTests:
    """JSON Web Key Sets."""

    def fetched(self, *entries):
        keys = KeyRing([], fetching=True)
        keys.take(parse_set(key_set(*entries)))
        return keys

    @pytest.mark.parametrize("kid", ["one", "two", None])
    def test_finds_the_key_by_its_kid_or_without_one_by_trying(self, kid):
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
    def test_distinguishes_an_unknown_kid_from_an_invalid_token(self, text, cause):
        """A key verifies only tokens with its own type and algorithm."""
        keys = self.fetched(jwk(RSA, kid="one", alg="RS256"))
        refused = verify(text, keys, NOW, TERMS)
        assert isinstance(refused, Refused)
        assert refused.cause is cause

    def test_every_key_is_unknown_before_the_first_fetch(self):
        refused = verify(signed(RSA, "RS256"), KeyRing([], fetching=True), NOW, TERMS)
        assert refused.cause is Cause.UNKNOWN_KEY

    def test_a_key_that_is_no_longer_in_the_set_is_unknown(self):
        keys = self.fetched(jwk(RSA, kid="one"))
        keys.take(parse_set(key_set(jwk(OTHER_RSA, kid="two"))))
        assert verify(signed(RSA, "RS256", kid="one"), keys, NOW, TERMS).cause is Cause.UNKNOWN_KEY

    def test_skips_secrets_and_unusable_keys_and_drops_private_halves(self):
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
        ("text", "problem"),
        [
            (b"", "Expecting value"),
            (b"[]", "not a key set"),
            (b"{}", "not a key set"),
            (b'{"keys": {}}', "not a key set"),
            (b'{"keys": []}', "no RSA or EC key"),
            (b"\xff", "can't decode byte 0xff"),
            (b"[" * 100_000, "nested too deeply"),
            (key_set({"kty": "oct", "k": "x"}), "no RSA or EC key"),
        ],
    )
    def test_raises_value_error_for_a_set_without_usable_keys(self, text, problem):
        with pytest.raises(ValueError, match=problem):
            parse_set(text)

    def test_keeps_at_most_max_fetched_keys(self):
        assert len(parse_set(key_set(*[jwk(EC256, kid=str(n)) for n in range(MAX_FETCHED + 9)]))) == MAX_FETCHED
