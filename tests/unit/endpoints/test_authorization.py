"""Tests for wsserver/endpoints/authorization.py: which clients may subscribe to a channel."""

import pytest
from deferreds import result
from tokens import NOW, SECRET, TERMS, claims, ring, token
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from wsserver.auth.jwt import GRACE, Cause, Refused
from wsserver.auth.verifier import Tokens
from wsserver.endpoints.authorization import (
    SUBPROTOCOL,
    Admitted,
    Authorizer,
    Credentials,
    find_token,
    select_subprotocol,
)
from wsserver.endpoints.raw.request import Format
from wsserver.hub.access import Access
from wsserver.hub.rules import Rules
from wsserver.wire.http11 import Refusal

HEADER, PARAMETER, PROTOCOL = "header", "parameter", "protocol"


def access(*patterns, local=False):
    """Open channels to clients without a token that permits them."""
    return Access(Rules(allow=patterns or None), loopback_only=local)


def make_authorizer(*patterns, keys=True, anonymous=False, local=False):
    """Make the authorizer of a server whose tokens are signed with `SECRET`."""
    tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW) if keys else None
    return Authorizer(access(*patterns, local=local), tokens, anonymous=anonymous, reactor=Clock(), now=lambda: NOW)


def make_credentials(channel="news", text=None, carrier=HEADER, host="example.com", **query):
    """Make the credentials of a request, with or without a token."""
    return Credentials(
        {"channel": [channel], **query, **({"token": [text]} if text is not None and carrier is PARAMETER else {})},
        host,
        [f"Bearer {text}"] if text is not None and carrier is HEADER else [],
        [SUBPROTOCOL, f"bearer.{text}"] if text is not None and carrier is PROTOCOL else [],
    )


def status(found):
    """Return the HTTP status of a decision; 200 if the client is admitted."""
    return 200 if isinstance(found, Admitted) else found.status.value


class CarrierTests:
    """Where a request carries its token."""

    @pytest.mark.parametrize(
        ("query", "authorizations", "offered", "found"),
        [
            ({}, [], [], None),
            ({"token": ["t"]}, [], [], "t"),
            ({}, ["Bearer t"], [], "t"),
            ({}, ["bearer  t "], [], "t"),
            ({}, [], ["wsserver.v1", "bearer.t"], "t"),
            ({}, [], ["bearer.t", "chat"], "t"),
            ({"token": ["t"]}, ["Bearer t"], ["bearer.t"], "t"),
            ({"token": ["t", "t"]}, [], [], "t"),
            ({"access_token": ["t"]}, [], [], "t"),
            ({"access_token": ["t"], "token": ["t"]}, [], [], "t"),
            ({"access_token": ["t"], "token": ["u"]}, [], [], 400),
            ({"token": [""]}, [], [], ""),
            ({}, ["Bearer"], [], ""),
            ({}, ["Basic dTpw"], [], None),
            ({}, ["Basic dTpw", "Bearer t"], [], "t"),
            ({}, ["Bearert"], [], None),
            ({"token": ["t"]}, ["Bearer u"], [], 400),
            ({"token": ["t", "u"]}, [], [], 400),
            ({}, ["Bearer t", "Bearer u"], [], 400),
            ({}, ["Bearer t"], ["bearer.u"], 400),
            ({}, [], ["bearer.t", "bearer.u"], 400),
            ({"token": [""]}, ["Bearer t"], [], 400),
        ],
    )
    def test_finds_one_token_and_refuses_different_ones_with_400(self, query, authorizations, offered, found):
        """
        A token may be in the query, the Authorization header or a subprotocol.

        The same token may be in several of them.
        """
        token = find_token(query, authorizations, offered)
        assert token == found if found != 400 else (isinstance(token, Refusal) and token.status == 400)

    @pytest.mark.parametrize(
        ("chosen", "offered", "agreed"),
        [
            (None, [], None),
            (None, ["bearer.t"], None),
            (None, ["wsserver.v1", "bearer.t"], "wsserver.v1"),
            (None, ["bearer.t", "wsserver.v1"], "wsserver.v1"),
            ("chat", ["chat", "wsserver.v1"], "chat"),
        ],
    )
    def test_never_selects_the_subprotocol_that_carries_the_token(self, chosen, offered, agreed):
        assert select_subprotocol(chosen, offered) == agreed


GOOD = token()
NAMED = token(claims(channels=["news"]))
ELSEWHERE = token(claims(channels=["other"]))
CAPS = token(claims(caps=[{"channels": ["n*"], "match": "wildcard", "allow": ["sub"]}]))
PUBLISHER = token(claims(caps=[{"channels": ["news"], "allow": ["pub"]}]))
SUBSCRIPTION = token(claims(channel="news"))
OTHER_SUBSCRIPTION = token(claims(channel="other"))
BOUND_TO_A_CLIENT = token(claims(channel="news", client="c1"))
EXPIRED = token(claims(exp=NOW - 60))
FORGED = token(key="x" * 64)

MATRIX = [
    # The open channels, --anonymous, the token, and the expected status.
    ([], False, None, 401),
    ([], True, None, 403),
    (["news"], False, None, 401),
    (["news"], True, None, 200),
    (["other"], True, None, 403),
    ([], False, GOOD, 403),
    (["news"], False, GOOD, 200),
    ([], False, NAMED, 200),
    (["other"], False, NAMED, 200),
    ([], False, ELSEWHERE, 403),
    ([], False, CAPS, 200),
    ([], False, PUBLISHER, 403),
    (["*"], False, PUBLISHER, 200),
    ([], False, SUBSCRIPTION, 200),
    ([], False, OTHER_SUBSCRIPTION, 403),
    ([], False, BOUND_TO_A_CLIENT, 401),
    (["*"], False, EXPIRED, 401),
    (["*"], True, EXPIRED, 401),
    (["*"], True, FORGED, 401),
    (["*"], True, "", 401),
    (["*"], True, "let me in", 401),
]


class AdmitTests:
    """Which clients may subscribe."""

    @pytest.mark.parametrize(("patterns", "anonymous", "text", "expected"), MATRIX)
    @pytest.mark.parametrize("carrier", [HEADER, PARAMETER, PROTOCOL])
    def test_decides_by_the_open_channels_anonymous_and_the_token(self, patterns, anonymous, text, expected, carrier):
        """An invalid token is refused with 401 even if the channel is open without one."""
        found = result(
            make_authorizer(*patterns, anonymous=anonymous).admit(
                make_credentials(text=text, carrier=carrier), Format.RAW
            )
        )
        assert status(found) == expected

    def test_returns_the_identity_of_the_token(self):
        found = result(make_authorizer().admit(make_credentials(text=NAMED), Format.RAW))
        assert (found.identity.user, found.identity.expires_at) == ("42", NOW + 60)
        found = result(make_authorizer().admit(make_credentials(text=SUBSCRIPTION), Format.RAW))
        assert (found.identity.user, list(found.identity.subs)) == ("42", ["news"])

    def test_refuses_several_channels_with_403_if_one_is_not_permitted(self):
        assert status(result(make_authorizer("chat").admit(make_credentials("chat,news", NAMED), Format.RAW))) == 200
        assert status(result(make_authorizer("chat").admit(make_credentials("chat,news,x", NAMED), Format.RAW))) == 403

    @pytest.mark.parametrize(
        ("text", "challenge"),
        [
            (None, "Bearer"),
            (EXPIRED, 'Bearer error="invalid_token"'),
            (BOUND_TO_A_CLIENT, 'Bearer error="invalid_token"'),
        ],
    )
    def test_adds_a_bearer_challenge_to_401(self, text, challenge):
        """The challenge contains an error code only if the request had a token (RFC 6750 section 3)."""
        found = result(make_authorizer().admit(make_credentials(text=text), Format.RAW))
        assert dict(found.headers)["WWW-Authenticate"] == challenge

    def test_gives_the_cause_and_the_option_as_the_reason(self):
        reasons = [
            result(make_authorizer(anonymous=one).admit(make_credentials(text=text), Format.RAW)).reason
            for one, text in ((False, None), (True, None), (False, EXPIRED), (False, ELSEWHERE))
        ]
        assert "a token is required" in reasons[0]
        assert "--channel-allow" in reasons[1]
        assert "token" not in reasons[1]
        assert "expired 60 s ago" in reasons[2]
        assert reasons[3].endswith("the token does not allow it either")

    def test_ignores_tokens_in_headers_if_no_key_is_configured(self):
        """Without a key, `token` in the query is an unknown parameter, which is refused with 400."""
        authorizer = make_authorizer("news", keys=False)
        assert status(result(authorizer.admit(make_credentials(), Format.RAW))) == 200
        assert status(result(authorizer.admit(make_credentials(text=GOOD), Format.RAW))) == 200
        assert status(result(authorizer.admit(make_credentials(text=GOOD, carrier=PROTOCOL), Format.RAW))) == 200
        assert status(result(authorizer.admit(make_credentials(text=GOOD, carrier=PARAMETER), Format.RAW))) == 400
        assert status(result(make_authorizer(keys=False).admit(make_credentials(text=NAMED), Format.RAW))) == 403
        assert authorizer.anonymous

    @pytest.mark.parametrize(("host", "expected"), [("localhost", 200), ("evil.example", 403)])
    def test_requires_a_loopback_host_for_channels_that_loopback_opens(self, host, expected):
        """With DNS rebinding, a page of another site can reach loopback, but it sends that site's Host."""
        assert (
            status(result(make_authorizer(local=True).admit(make_credentials(text=GOOD, host=host), Format.RAW)))
            == expected
        )

    @pytest.mark.parametrize("query", [{"format": ["xml"]}, {"tokens": ["x"]}])
    def test_refuses_an_invalid_query_with_400_before_it_checks_the_token(self, query):
        assert status(result(make_authorizer().admit(make_credentials(**query), Format.RAW))) == 400

    def test_refuses_two_different_tokens_with_400(self):
        authorizer, two = (
            make_authorizer("news"),
            Credentials({"channel": ["news"], "token": [GOOD]}, "h", [f"Bearer {NAMED}"]),
        )
        assert status(result(authorizer.admit(two, Format.RAW))) == 400

    def test_answers_503_with_retry_after_if_the_keys_are_unavailable(self):
        """The same token may be accepted later."""

        class UnavailableTokens(Tokens):
            def either(self, token):
                return succeed(Refused("away", Cause.UNAVAILABLE))

        authorizer = Authorizer(
            access(), UnavailableTokens(ring(), TERMS, lambda: NOW), anonymous=True, reactor=Clock(), now=lambda: NOW
        )
        found = result(authorizer.admit(make_credentials(text=GOOD), Format.RAW))
        assert (found.status, found.headers) == (503, (("Retry-After", "1"),))


class ExpiryTests:
    """The expiry of a connection's token."""

    def test_sets_no_timer_for_a_token_without_expiry(self):
        assert make_authorizer().call_when_expired(0, lambda: None) is None

    def test_ends_a_connection_25_s_after_its_token_expired(self):
        clock, expired = Clock(), []
        authorizer = Authorizer(access(), None, anonymous=True, reactor=clock, now=lambda: NOW + clock.seconds())
        authorizer.call_when_expired(NOW + 60, lambda: expired.append(clock.seconds()))
        clock.advance(60 + GRACE - 0.01)
        assert expired == []
        clock.advance(0.01)
        assert expired == [85.0]
