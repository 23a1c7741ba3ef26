"""Tests for wsserver/auth/jwt.py and wsserver/auth/keys.py: which tokens are accepted, and which are refused."""

import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tokens import (
    CLAIMS,
    EC256,
    EC384,
    EC521,
    NOW,
    OTHER_RSA,
    RSA,
    SECRET,
    TERMS,
    b64,
    claims,
    pem,
    ring,
    signed,
    token,
)

from wsserver.auth.claims import Grant, Identity, Opening, Right
from wsserver.auth.jwt import Cause, Refused, Terms, verify, verify_any, verify_subscription
from wsserver.auth.keys import encode, secret

HMAC = ring(token_secret=SECRET)
RSA_ONLY = ring(token_public_key=pem(RSA))
BOTH = ring(token_secret=SECRET, token_public_key=pem(RSA))
EC_ONLY = ring(token_public_key=pem(EC256))


def forged(header, key=b""):
    """Sign with an empty secret, or with the contents of a file that exists on every machine."""
    return token(CLAIMS, {"alg": "HS256"} | header, key=key)


def own_key(**parameter):
    """Sign with a key that the token's header contains or refers to."""
    return signed(OTHER_RSA, "RS256", **parameter)


PUBLIC_JWK = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))
HEAD, BODY, SIGNATURE = token().split(".")

REFUSED = {
    # The algorithm.
    "none": (HMAC, f"{b64(json.dumps({'alg': 'none'}))}.{BODY}.", "the token is not signed"),
    "none with a signature": (HMAC, token(header={"alg": "none"}), "algorithm is 'none'"),
    "None": (HMAC, token(header={"alg": "None"}), "algorithm is 'None'"),
    "nOnE": (HMAC, token(header={"alg": "nOnE"}), "algorithm is 'nOnE'"),
    "NONE, both kinds of keys": (BOTH, token(header={"alg": "NONE"}), "algorithm is 'NONE'"),
    "no alg": (HMAC, token(header={"typ": "JWT"}), "no algorithm (alg)"),
    "alg is null": (HMAC, token(header={"alg": None}), "no algorithm (alg)"),
    "alg is a list": (HMAC, token(header={"alg": ["HS256"]}), "no algorithm (alg)"),
    "alg in lower case": (HMAC, token(header={"alg": "hs256"}), "algorithm is 'hs256'"),
    "alg with a space": (HMAC, token(header={"alg": "HS256 "}), "algorithm is 'HS256 '"),
    "alg of another hash than signed": (HMAC, token(header={"alg": "HS512"}), "signature does not match any key"),
    "PS256": (RSA_ONLY, signed(RSA, "PS256"), "algorithm is 'PS256'"),
    "ES256K": (EC_ONLY, signed(ec.generate_private_key(ec.SECP256K1()), "ES256K"), "algorithm is 'ES256K'"),
    "EdDSA": (RSA_ONLY, token(header={"alg": "EdDSA"}), "algorithm is 'EdDSA'"),
    "HS256 where there is no secret": (RSA_ONLY, token(), "algorithm is 'HS256'"),
    "RS256 where there is no RSA key": (HMAC, signed(RSA, "RS256"), "algorithm is 'RS256'"),
    "RS256 where there is an EC key": (EC_ONLY, signed(RSA, "RS256"), "algorithm is 'RS256'"),
    "the RSA public key as the secret": (RSA_ONLY, token(key=pem(RSA)), "algorithm is 'HS256'"),
    "the same, with a secret set": (BOTH, token(key=pem(RSA)), "signature does not match any key"),
    "the same, without the last line end": (BOTH, token(key=pem(RSA).strip()), "signature does not match any key"),
    "the EC public key as the secret": (EC_ONLY, token(key=pem(EC256)), "algorithm is 'HS256'"),
    "ES256 with a key on another curve": (
        EC_ONLY,
        signed(EC256, "ES256").rsplit(".", 1)[0] + "." + b64(b"\1" * 96),
        "signature does not match any key",
    ),
    "ES384 where there is a P-256 key": (EC_ONLY, signed(EC384, "ES384"), "algorithm is 'ES384'"),
    "HS512 with a secret too short for it": (
        ring(token_secret="s" * 40),
        token(header={"alg": "HS512"}, key="s" * 40, digest="sha512"),
        "algorithm is 'HS512'",
    ),
    # The signature.
    "another secret": (HMAC, token(key="x" * 64), "signature does not match any key"),
    "another RSA key": (RSA_ONLY, signed(OTHER_RSA, "RS256"), "signature does not match any key"),
    "another EC key": (
        EC_ONLY,
        signed(ec.generate_private_key(ec.SECP256R1()), "ES256"),
        "signature does not match any key",
    ),
    "an empty secret": (HMAC, forged({}), "signature does not match any key"),
    "no signature": (HMAC, f"{HEAD}.{BODY}.", "the token is not signed"),
    "half a signature": (HMAC, f"{HEAD}.{BODY}.{SIGNATURE[:20]}", "signature does not match any key"),
    "psychic signature": (
        EC_ONLY,
        signed(EC256, "ES256").rsplit(".", 1)[0] + "." + b64(b"\0" * 64),
        "signature does not match any key",
    ),
    "claims changed": (
        HMAC,
        f"{HEAD}.{b64(json.dumps(claims(sub='1')))}.{SIGNATURE}",
        "signature does not match any key",
    ),
    "header changed": (
        HMAC,
        f"{b64(json.dumps({'typ': 'JWT', 'alg': 'HS256'}))}.{BODY}.{SIGNATURE}",
        "signature does not match any key",
    ),
    "bits after the signature's end": (HMAC, token()[:-1] + chr(ord(token()[-1]) + 1), "the token is malformed"),
    # The header's parameters.
    "jwk": (RSA_ONLY, own_key(jwk=PUBLIC_JWK), "header contains a key (jwk)"),
    "jku": (RSA_ONLY, own_key(jku="https://evil.example/jwks.json"), "header contains a key (jku)"),
    "x5u": (RSA_ONLY, own_key(x5u="https://evil.example/cert.pem"), "header contains a key (x5u)"),
    "x5c": (RSA_ONLY, own_key(x5c=["MIIB"]), "header contains a key (x5c)"),
    "jku beside a good signature": (
        HMAC,
        token(header={"alg": "HS256", "jku": "https://evil.example/"}),
        "header contains a key (jku)",
    ),
    "kid of a file that is empty": (HMAC, forged({"kid": "../../../../dev/null"}), "signature does not match any key"),
    "kid of a file that exists on every machine": (
        HMAC,
        forged({"kid": "/proc/sys/kernel/randomize_va_space"}, b"2\n"),
        "signature does not match any key",
    ),
    "kid with a statement of SQL": (
        HMAC,
        forged({"kid": "x' UNION SELECT 'key"}, b"key"),
        "signature does not match any key",
    ),
    "kid with a command": (HMAC, forged({"kid": "key; sleep 10"}), "signature does not match any key"),
    "kid is a number": (HMAC, token(header={"alg": "HS256", "kid": 1}), "kid: expected a string"),
    "kid is long": (HMAC, token(header={"alg": "HS256", "kid": "x" * 256}), "kid: expected a string"),
    "crit, unknown": (HMAC, token(header={"alg": "HS256", "crit": ["exp"], "exp": NOW}), "extension (crit or b64)"),
    "crit, empty": (HMAC, token(header={"alg": "HS256", "crit": []}), "extension (crit or b64)"),
    "crit b64": (HMAC, token(header={"alg": "HS256", "crit": ["b64"], "b64": True}), "extension (crit or b64)"),
    "b64 without crit": (HMAC, token(header={"alg": "HS256", "b64": False}), "extension (crit or b64)"),
    "a nested token": (HMAC, token(header={"alg": "HS256", "cty": "JWT"}), "nested token (cty)"),
    "typ of another kind": (HMAC, token(header={"alg": "HS256", "typ": "secevent+jwt"}), "typ is 'secevent+jwt'"),
    "typ is a number": (HMAC, token(header={"alg": "HS256", "typ": 1}), "typ is 1"),
    # Times.
    "no exp": (HMAC, token(claims(exp=None)), "has no exp"),
    "exp null": (HMAC, token('{"exp": null}'), "exp is null: expected UNIX time"),
    "exp as a text": (HMAC, token(claims(exp=str(NOW + 60))), "exp is '1800000060': expected UNIX time"),
    "exp negative with a fraction": (HMAC, token(claims(exp=-0.5)), "exp is -0.5: expected UNIX time"),
    "exp past by a fraction": (HMAC, token(claims(exp=NOW - 5.001)), "expired 6 s ago"),
    "exp in milliseconds with a fraction": (
        HMAC,
        token(claims(exp=(NOW + 60) * 1000.5)),
        "exp is 1800900060030.0: expected UNIX time",
    ),
    "nbf in the future by a fraction": (HMAC, token(claims(nbf=NOW + 5.001)), "not valid for another 6 s (nbf)"),
    "nbf infinite": (HMAC, token('{"exp": 19e8, "nbf": 1e999}'), "payload is not JSON"),
    "iat not a number": (HMAC, token('{"exp": 19e8, "iat": NaN}'), "payload is not JSON"),
    "expire_at negative with a fraction": (
        HMAC,
        token(claims(expire_at=-0.5)),
        "expire_at is -0.5: expected UNIX time",
    ),
    "exp true": (HMAC, token(claims(exp=True)), "exp is true: expected UNIX time"),
    "exp negative": (HMAC, token(claims(exp=-1)), "exp is -1: expected UNIX time"),
    "exp in milliseconds": (HMAC, token(claims(exp=(NOW + 60) * 1000)), "exp is 1800000060000: expected UNIX time"),
    "exp beyond 64 bits": (HMAC, token(claims(exp=2**64 + NOW)), "exp is 18446744075509551616: expected UNIX time"),
    "exp of 5000 digits": (HMAC, token('{"exp": ' + "9" * 5000 + "}"), "payload is not JSON"),
    "exp infinite": (HMAC, token('{"exp": Infinity}'), "payload is not JSON"),
    "exp not a number": (HMAC, token('{"exp": NaN}'), "payload is not JSON"),
    "exp overflowing": (HMAC, token('{"exp": 1e999}'), "payload is not JSON"),
    "exp a list": (HMAC, token(claims(exp=[NOW + 60])), "exp is [1800000060]: expected UNIX time"),
    "exp past": (HMAC, token(claims(exp=NOW - 5)), "expired 5 s ago"),
    "exp zero": (HMAC, token(claims(exp=0)), "expired 1800000000 s ago"),
    "nbf in the future": (HMAC, token(claims(nbf=NOW + 6)), "not valid for another 6 s (nbf)"),
    "nbf as a text": (HMAC, token(claims(nbf="0")), "nbf is '0': expected UNIX time"),
    "iat in the future": (HMAC, token(claims(iat=NOW + 6)), "issued 6 s in the future (iat)"),
    "iat null": (HMAC, token({**CLAIMS, "iat": None}), "iat is null: expected UNIX time"),
    "expire_at past": (HMAC, token(claims(expire_at=NOW - 5)), "expire_at was 5 s ago"),
    "expire_at past by a fraction": (HMAC, token(claims(expire_at=0.4)), "expire_at was 1799999999 s ago"),
    "expire_at as a text": (HMAC, token(claims(expire_at="never")), "expire_at is 'never': expected UNIX time"),
    # The form.
    "empty": (HMAC, "", "expected three parts"),
    "text that is not a token": (HMAC, "let me in", "expected three parts"),
    "one part": (HMAC, HEAD, "expected three parts"),
    "two parts": (HMAC, f"{HEAD}.{BODY}", "expected three parts"),
    "four parts": (HMAC, f"{token()}.{SIGNATURE}", "expected three parts"),
    "five parts, as if encrypted": (HMAC, f"{token()}.{SIGNATURE}.{SIGNATURE}", "expected three parts"),
    "64 KiB": (HMAC, token(claims(info="x" * 49152)), "over 8192 characters"),
    "64 KiB of dots": (HMAC, "." * 65536, "over 8192 characters"),
    "a space before": (HMAC, " " + token(), "expected three parts"),
    "a line end after": (HMAC, token() + "\n", "expected three parts"),
    "padding": (HMAC, f"{HEAD}.{BODY}.{SIGNATURE}=", "expected three parts"),
    "base64, not base64url": (HMAC, f"{HEAD}.{BODY}.+/{SIGNATURE[2:]}", "expected three parts"),
    "a letter that is not ASCII": (HMAC, f"{HEAD}.{BODY}.\u0430{SIGNATURE[1:]}", "expected three parts"),
    "a header of one letter": (HMAC, f"e.{BODY}.{SIGNATURE}", "header is not base64url"),
    "JSON serialization": (
        HMAC,
        json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
        "expected three parts",
    ),
    "alg twice": (HMAC, token(header='{"alg": "none", "alg": "HS256"}'), "contains 'alg' twice"),
    "exp twice": (HMAC, token(f'{{"exp": {NOW - 60}, "exp": {NOW + 60}}}'), "contains 'exp' twice"),
    "sub twice": (HMAC, token(f'{{"sub": "1", "exp": {NOW + 60}, "s\\u0075b": "2"}}'), "contains 'sub' twice"),
    "a name twice deep inside": (
        HMAC,
        token(f'{{"exp": {NOW + 60}, "info": [{{"a": 1, "a": 2}}]}}'),
        "contains 'a' twice",
    ),
    "a header that is not JSON": (HMAC, token(header="{alg: HS256}"), "header is not JSON"),
    "a header that is a list": (HMAC, token(header='["HS256"]'), "header is not a JSON object"),
    "a payload that is not JSON": (HMAC, token("exp"), "payload is not JSON"),
    "a payload that is a list": (HMAC, token("[]"), "payload is not a JSON object"),
    "a payload that is not UTF-8": (HMAC, token(b'{"sub": "\xff"}'), "payload is not JSON"),
    "half a surrogate pair": (HMAC, token(f'{{"exp": {NOW + 60}, "sub": "\\ud800"}}'), "half a surrogate pair"),
    "half a surrogate pair in a name": (HMAC, token(f'{{"exp": {NOW + 60}, "\\ud800": 1}}'), "half a surrogate pair"),
    "half a surrogate pair in subs": (
        HMAC,
        token(f'{{"exp": {NOW + 60}, "subs": {{"\\ud800": {{"info": 1}}}}}}'),
        "half a surrogate pair",
    ),
    "3000 brackets that are not closed": (
        HMAC,
        token(f'{{"exp": {NOW + 60}, "info": ' + "[" * 3000 + "}"),
        "payload is not JSON",
    ),
    "257 brackets": (HMAC, token(f'{{"exp": {NOW + 60}, "info": ' + "[" * 256 + "]" * 256 + "}"), "nested too deeply"),
    "2500 brackets that are closed": (HMAC, token("[" * 2500 + "]" * 2500), "payload is not"),
    # The other claims.
    "sub is a number": (HMAC, token(claims(sub=42)), "sub is 42"),
    "sub is long": (HMAC, token(claims(sub="x" * 256)), "sub is 'xxx"),
    "sub with a line end": (HMAC, token(claims(sub="a\nb")), "sub is 'a\\nb'"),
    "an audience where none is expected": (
        HMAC,
        token(claims(aud="other")),
        "the server expects none; see --token-audience",
    ),
    "aud is a number": (HMAC, token(claims(aud=1)), "aud: expected a string"),
    "iss is a list": (HMAC, token(claims(iss=["me"])), "iss: expected a string"),
    "a subscription's": (HMAC, token(claims(channel="news")), "is for a subscription (channel)"),
    "a subscription's, to nothing": (HMAC, token(claims(channel="")), "is for a subscription (channel)"),
    "channels is a text": (HMAC, token(claims(channels="news")), "channels: expected an array"),
    "channels of numbers": (HMAC, token(claims(channels=[1])), "channels: expected a channel name"),
    "the server's own channel": (
        HMAC,
        token(claims(channels=["wsserver:control"])),
        "channels: channel name 'wsserver:control' is reserved",
    ),
    "the server's own channel in subs": (
        HMAC,
        token(claims(subs={"wsserver:control": {}})),
        "subs: channel name 'wsserver:control' is reserved",
    ),
    "subs is a list": (HMAC, token(claims(subs=["news"])), "subs: expected an object of objects"),
    "override is true": (HMAC, token(claims(subs={"a": {"override": True}})), "override is true, expected an object"),
    "an override is true": (
        HMAC,
        token(claims(subs={"a": {"override": {"force_push_join_leave": True}}})),
        "force_push_join_leave is true, expected an object",
    ),
    "an override is a number": (
        HMAC,
        token(claims(subs={"a": {"override": {"force_push_join_leave": {"value": 1}}}})),
        "the token's override: value is 1, expected true or false",
    ),
    "subs of texts": (HMAC, token(claims(subs={"news": "yes"})), "subs: expected an object of objects"),
    "caps is an object": (HMAC, token(claims(caps={"channels": ["news"]})), "caps: expected an array"),
    "caps of texts": (HMAC, token(claims(caps=["news"])), "caps: expected objects"),
    "caps with a regular expression": (
        HMAC,
        token(claims(caps=[{"channels": ["(a+)+$"], "match": "regex"}])),
        "match is 'regex'",
    ),
    "caps with an unknown right": (
        HMAC,
        token(claims(caps=[{"channels": ["news"], "allow": ["all"]}])),
        "'all' is unknown",
    ),
    "caps with a right that is a number": (
        HMAC,
        token(claims(caps=[{"channels": ["news"], "allow": [1]}])),
        "1 is unknown",
    ),
    "caps with channels as a text": (
        HMAC,
        token(claims(caps=[{"channels": "news", "allow": ["sub"]}])),
        "channels in caps: expected an array",
    ),
    "caps with an empty name": (
        HMAC,
        token(claims(caps=[{"channels": [""], "allow": ["sub"]}])),
        "at most 128 channel names",
    ),
    "caps with 129 names": (
        HMAC,
        token(claims(caps=[{"channels": [f"c{n}" for n in range(129)]}])),
        "at most 128 channel names",
    ),
    "once, without a name": (HMAC, token(claims(once=True)), "(once) has no ID (jti)"),
    "once, with an empty name": (HMAC, token(claims(once=True, jti="")), "(once) has no ID (jti)"),
    "once as a text": (HMAC, token(claims(once="true", jti="1")), "once or jti is invalid"),
    "jti is a number": (HMAC, token(claims(jti=1)), "once or jti is invalid"),
    "jti is long": (HMAC, token(claims(once=True, jti="x" * 256)), "once or jti is invalid"),
    "101 caps": (HMAC, token(claims(caps=[{}] * 101)), "has 101 caps"),
}
"""What is wrong -> the keys of the server, the token, and a part of the reason for the refusal."""


class RefusedTests:
    """Tokens that are refused."""

    @pytest.mark.parametrize(("keys", "text", "reason"), REFUSED.values(), ids=REFUSED)
    def test_gives_the_reason_in_one_line_that_does_not_repeat_the_token(self, keys, text, reason):
        refused = verify(text, keys, NOW, TERMS)
        assert isinstance(refused, Refused)
        assert reason in refused.reason
        assert refused.reason.isprintable()
        assert 10 < len(refused.reason) < 200
        assert all(len(part) < 10 or part not in refused.reason for part in text.split("."))

    @pytest.mark.parametrize(
        ("cause", "names"),
        [
            (Cause.EXPIRED, {"exp past", "exp past by a fraction", "exp zero"}),
            (Cause.EXPIRED, {"nbf in the future", "nbf in the future by a fraction", "iat in the future"}),
            (Cause.ENDED, {"expire_at past", "expire_at past by a fraction"}),
        ],
    )
    def test_tokens_with_wrong_times_have_their_own_cause(self, cause, names):
        """A client requests a new token only if the old one is not valid at this time."""
        found = {name for name, (keys, text, _) in REFUSED.items() if verify(text, keys, NOW, TERMS).cause is cause}
        assert names <= found
        assert all(name.startswith(("exp", "nbf", "iat")) for name in found)

    @pytest.mark.parametrize(
        ("more", "terms"),
        [
            ({}, Terms(audience="chat")),
            ({"aud": "other"}, Terms(audience="chat")),
            ({"aud": []}, Terms(audience="chat")),
            ({"aud": ["chats", "Chat"]}, Terms(audience="chat")),
            ({}, Terms(issuer="me")),
            ({"iss": "you"}, Terms(issuer="me")),
            ({"iss": "ME"}, Terms(issuer="me")),
            ({"aud": "chat", "iss": "you"}, Terms(audience="chat", issuer="me")),
        ],
    )
    def test_refuses_a_token_for_another_audience_or_from_another_issuer(self, more, terms):
        """A token without the required claim is refused, too."""
        assert isinstance(verify(token(claims(**more)), HMAC, NOW, terms), Refused)

    def test_without_leeway_a_token_expires_at_its_exp(self):
        """RFC 7519 section 4.1.4 says that a token must not be accepted "on or after" its exp."""
        text = token(claims(exp=NOW))
        assert isinstance(verify(text, HMAC, NOW, Terms()), Refused)
        assert isinstance(verify(text, HMAC, NOW - 0.001, Terms()), Identity)


ACCEPTED = {
    "HS256": (HMAC, token()),
    "HS384": (HMAC, token(header={"alg": "HS384"}, digest="sha384")),
    "HS512": (HMAC, token(header={"alg": "HS512"}, digest="sha512")),
    **{name: (RSA_ONLY, signed(RSA, name)) for name in ("RS256", "RS384", "RS512")},
    "ES256": (EC_ONLY, signed(EC256, "ES256")),
    "ES384": (ring(token_public_key=pem(EC384)), signed(EC384, "ES384")),
    "ES512": (ring(token_public_key=pem(EC521)), signed(EC521, "ES512")),
    "either kind: secret": (BOTH, token()),
    "either kind: RSA": (BOTH, signed(RSA, "RS256")),
    "one of several keys": (ring(token_public_key=pem(OTHER_RSA) + pem(EC384) + pem(RSA)), signed(RSA, "RS256")),
    "an unknown kid": (HMAC, token(header={"alg": "HS256", "kid": "1"})),
    "no typ": (HMAC, token(header={"alg": "HS256"})),
    "typ of OAuth": (HMAC, token(header={"alg": "HS256", "typ": "application/at+JWT"})),
    "within the leeway": (HMAC, token(claims(exp=NOW - 4))),
    "nbf within the leeway": (HMAC, token(claims(nbf=NOW + 4, iat=NOW + 4))),
    "an unknown claim": (HMAC, token(claims(name="Ada"))),
}


class AcceptedTests:
    """Tokens that are accepted."""

    @pytest.mark.parametrize(("keys", "text"), ACCEPTED.values(), ids=ACCEPTED)
    def test_accepts_the_token_and_returns_its_user(self, keys, text):
        identity = verify(text, keys, NOW, TERMS)
        assert isinstance(identity, Identity)
        assert identity.user == "42"

    def test_encode_and_verify_are_compatible_with_pyjwt(self):
        text = encode(CLAIMS, secret("x", SECRET))
        assert jwt.decode(text, SECRET, ["HS256"], options={"verify_exp": False}) == CLAIMS
        assert verify(text, HMAC, NOW, TERMS) == verify(jwt.encode(CLAIMS, SECRET, "HS256"), HMAC, NOW, TERMS)

    def test_accepts_the_previous_secret_only_while_it_is_set(self):
        old, new = "o" * 64, "n" * 64
        rotating = ring(token_secret=new, token_secret_previous=old)
        assert all(isinstance(verify(token(key=key), rotating, NOW, TERMS), Identity) for key in (old, new))
        assert isinstance(verify(token(key=old), ring(token_secret=new), NOW, TERMS), Refused)

    @pytest.mark.parametrize(
        ("override", "forced"),
        [
            (None, None),
            ({}, None),
            ({"presence": {"value": True}, "force_push_join_leave": None}, None),
            ({"force_push_join_leave": {}}, False),
            ({"force_push_join_leave": {"value": True}}, True),
        ],
    )
    def test_reads_whether_a_subscription_overrides_the_events(self, override, forced):
        subs = {"a": {"override": override, "info": 1}}
        assert verify(token(claims(subs=subs)), HMAC, NOW, TERMS).subs["a"].forces_events is forced
        found = verify_subscription(token(claims(channel="a", override=override)), HMAC, NOW, TERMS)
        assert found.forces_events is forced

    def test_accepts_a_token_without_exp_if_the_terms_permit_it(self):
        """Its other times are still checked, and a one-time token needs an `exp`."""
        terms = Terms(no_expiry=True)
        found = verify(token({"sub": "42"}), HMAC, NOW, terms)
        assert (found.user, found.expires_at) == ("42", 0)
        found = verify_subscription(token({"sub": "42", "channel": "news", "expire_at": NOW + 5}), HMAC, NOW, terms)
        assert (found.channel, found.expires_at) == ("news", NOW + 5)
        for more in ({"exp": NOW - 1}, {"nbf": NOW + 1}, {"exp": "soon"}, {"once": True, "jti": "1"}):
            assert isinstance(verify(token({"sub": "42", **more}), HMAC, NOW, terms), Refused)

    @pytest.mark.parametrize("name", ["channels", "subs", "caps"])
    def test_null_is_an_empty_list_or_object(self, name):
        """Go writes an empty slice or map as null."""
        identity = verify(token(CLAIMS | {name: None}), HMAC, NOW, TERMS)
        assert (dict(identity.subs), identity.caps) == ({}, ())

    def test_null_in_subs_is_an_empty_object(self):
        assert verify(token(claims(subs={"a": None})), HMAC, NOW, TERMS).subs == {"a": Opening()}

    def test_null_as_the_rights_of_a_subscription_is_an_empty_list(self):
        found = verify_subscription(token(CLAIMS | {"channel": "a", "allow": None}), HMAC, NOW, TERMS)
        assert found.rights == {Right.LISTEN}

    def test_returns_the_expiry_info_and_subscriptions_of_the_claims(self):
        identity = verify(
            token(
                claims(
                    expire_at=NOW + 1,
                    info={"name": "Ada"},
                    meta=[1],
                    channels=["news"],
                    subs={"chat": {"info": 1, "data": {"x": 2}}},
                    aud=["chat", "x"],
                    iss="me",
                )
            ),
            HMAC,
            NOW,
            Terms(audience="chat", issuer="me"),
        )
        assert (identity.expires_at, identity.info) == (NOW + 1, {"name": "Ada"})
        assert identity.subs == {"chat": Opening(1, b'{"x": 2}')}

    @pytest.mark.parametrize(
        ("more", "end"),
        [
            ({}, NOW + 60),
            ({"expire_at": 0}, 0),
            ({"expire_at": NOW - 4}, NOW - 4),
            # RFC 7519 section 2: a time may have a fraction.
            ({"exp": NOW + 60.0}, NOW + 60),
            ({"exp": NOW + 60.5, "nbf": NOW - 0.5, "iat": NOW - 0.5}, NOW + 61),
            ({"expire_at": NOW + 5.25}, NOW + 6),
            ({"expire_at": NOW - 3.5}, NOW - 3),
            ({"expire_at": 0.0}, 0),
        ],
    )
    def test_a_connection_ends_with_its_token_unless_expire_at_is_set(self, more, end):
        assert verify(token(claims(**more)), HMAC, NOW, TERMS).expires_at == end

    def test_a_one_time_token_has_a_key_of_its_issuer_and_jti(self):
        """Tokens that may be used more than once have no such key."""
        one, two, three = (
            verify(token(claims(once=True, jti=jti, iss=iss)), HMAC, NOW, TERMS).one_time
            for jti, iss in (("1", "me"), ("2", "me"), ("1", "you"))
        )
        assert len({one.key, two.key, three.key}) == 3
        assert one.key.isalnum()
        assert one.until == NOW + 60
        assert verify(token(claims(once=False, jti="1")), HMAC, NOW, TERMS).one_time is None
        assert verify_subscription(token(claims(once=True, jti="1", channel="x")), HMAC, NOW, TERMS).one_time.until

    def test_a_token_without_sub_is_that_of_an_anonymous_user(self):
        """Centrifugo does the same."""
        assert verify(token(claims(sub=None)), HMAC, NOW, TERMS).user == ""


class RightTests:
    """The rights that a token grants."""

    @pytest.mark.parametrize(
        ("channel", "right", "may"),
        [
            ("own", Right.LISTEN, True),
            ("own", Right.PUBLISH, False),
            ("news", Right.LISTEN, True),
            ("news", Right.PUBLISH, False),
            ("news", Right.HISTORY, True),
            ("chat:1", Right.PUBLISH, True),
            ("chat:1", Right.LISTEN, False),
            ("chat", Right.PUBLISH, False),
            ("a*", Right.LISTEN, True),
            ("ab", Right.LISTEN, False),
            ("other", Right.LISTEN, False),
            ("chat:secret", Right.LISTEN, False),
        ],
    )
    def test_the_first_entry_of_caps_that_matches_the_channel_decides(self, channel, right, may):
        """Centrifugo does the same. In addition, the client may subscribe to the channels in `channels`."""
        caps = [
            {"channels": ["news", "a*"], "allow": ["sub", "hst"]},
            {"channels": ["chat:*"], "match": "wildcard", "allow": ["pub"]},
            {"channels": ["chat:secret"], "allow": ["sub"]},
        ]
        identity = verify(token(claims(channels=["own"], caps=caps)), HMAC, NOW, TERMS)
        assert identity.may(channel, right) is may


class SubscriptionTests:
    """Subscription tokens."""

    @pytest.mark.parametrize("text", ["1.10", "-0", "1E5", "[ 1, 2]", r'"\u0041"', "9" * 4000])
    def test_data_keeps_the_text_that_the_issuer_wrote(self, text):
        """The server passes the data on to the client unchanged."""
        grant = verify_subscription(token(f'{{"exp": 1e11, "channel": "a", "d\\u0061ta": {text} }}'), HMAC, NOW, TERMS)
        assert grant.data == text.encode()
        subs = f'{{"a": {{"data": {text} }}, "b": {{"data": null}}}}'
        identity = verify(token(f'{{"exp": 1e11, "subs": {subs}}}'), HMAC, NOW, TERMS)
        assert identity.subs == {"a": Opening(data=text.encode()), "b": Opening()}

    def test_returns_a_grant_with_all_the_claims(self):
        text = token(claims(channel="news", client="c1", info=1, data=2, allow=["pub", "prs"], expire_at=0))
        rights = frozenset({Right.LISTEN, Right.PUBLISH, Right.PRESENCE})
        assert verify_subscription(text, HMAC, NOW, TERMS) == Grant("42", "news", "c1", 0, 1, b"2", rights)

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"channel": 1},
            {"channel": ""},
            {"channel": "wsserver:x"},
            {"channel": "news", "client": 1},
            {"channel": "news", "allow": ["all"]},
            {"channel": "news", "allow": "pub"},
            {"channel": "news", "exp": NOW - 60},
            {"channel": "news", "sub": 1},
        ],
    )
    def test_refuses_a_connection_token_and_invalid_claims(self, more):
        assert isinstance(verify_subscription(token(claims(**more)), HMAC, NOW, TERMS), Refused)

    def test_verify_any_distinguishes_the_kinds_by_the_claim_channel(self):
        assert isinstance(verify_any(token(), HMAC, NOW, TERMS), Identity)
        assert isinstance(verify_any(token(claims(channel="news")), HMAC, NOW, TERMS), Grant)
        assert isinstance(verify_any(token(claims(channel="")), HMAC, NOW, TERMS), Refused)
        assert isinstance(verify_any("", HMAC, NOW, TERMS), Refused)


def test_the_test_tokens_are_signed_with_hmac_sha256():
    """If the key or the algorithm were wrong, the tokens in `REFUSED` would be refused for their signature."""
    assert token() == ".".join(
        [HEAD, BODY, b64(hmac.new(SECRET.encode(), f"{HEAD}.{BODY}".encode(), hashlib.sha256).digest())]
    )
    assert isinstance(verify(token(), HMAC, NOW, TERMS), Identity)
