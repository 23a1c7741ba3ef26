"""Tests for wsserver/endpoints/authorization.py: who may listen to a channel."""

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
from wsserver.hub.names import Access, Patterns
from wsserver.wire.http11 import Refusal

HEADER, PARAMETER, PROTOCOL = "header", "parameter", "protocol"


def access(*patterns, local=False):
    """Allow channels without a token."""
    return Access(Patterns(patterns) if patterns else None, loopback_only=local)


def admission(*patterns, keys=True, anonymous=False, local=False):
    """Make the admission of a server whose tokens are signed with `SECRET`."""
    tokens = Tokens(ring(token_secret=SECRET), TERMS, lambda: NOW) if keys else None
    return Authorizer(access(*patterns, local=local), tokens, anonymous=anonymous, reactor=Clock(), now=lambda: NOW)


def visit(channel="news", text=None, carrier=HEADER, host="example.com", **query):
    """Make a visit, with a token or without."""
    return Credentials(
        {"channel": [channel], **query, **({"token": [text]} if text is not None and carrier is PARAMETER else {})},
        host,
        [f"Bearer {text}"] if text is not None and carrier is HEADER else [],
        [SUBPROTOCOL, f"bearer.{text}"] if text is not None and carrier is PROTOCOL else [],
    )


def status(found):
    """Tell what a visit came to."""
    return 200 if isinstance(found, Admitted) else found.status.value


class CarrierTests:
    """Where a token stands."""

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
    def test_found(self, query, authorizations, offered, found):
        """In any of three places, but only one."""
        token = find_token(Credentials(query, "h", authorizations, offered))
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
    def test_agreed(self, chosen, offered, agreed):
        """The token is never answered with."""
        assert select_subprotocol(chosen, offered) == agreed


GOOD = token()
NAMED = token(claims(channels=["news"]))
ELSEWHERE = token(claims(channels=["other"]))
CAPS = token(claims(caps=[{"channels": ["n*"], "match": "wildcard", "allow": ["sub"]}]))
PUBLISHER = token(claims(caps=[{"channels": ["news"], "allow": ["pub"]}]))
SUBSCRIPTION = token(claims(channel="news"))
OTHER_SUBSCRIPTION = token(claims(channel="other"))
OF_A_CLIENT = token(claims(channel="news", client="c1"))
EXPIRED = token(claims(exp=NOW - 60))
FORGED = token(key="x" * 64)

MATRIX = [
    # What is open to everyone, whether --anonymous, the token, and what it comes to.
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
    ([], False, OF_A_CLIENT, 401),
    (["*"], False, EXPIRED, 401),
    (["*"], True, EXPIRED, 401),
    (["*"], True, FORGED, 401),
    (["*"], True, "", 401),
    (["*"], True, "let me in", 401),
]


class AdmitTests:
    """Who may listen."""

    @pytest.mark.parametrize(("patterns", "anonymous", "text", "expected"), MATRIX)
    @pytest.mark.parametrize("carrier", [HEADER, PARAMETER, PROTOCOL])
    def test_matrix(self, patterns, anonymous, text, expected, carrier):
        """What is open to everyone, and what a token opens; a bad token is worse than none."""
        found = result(admission(*patterns, anonymous=anonymous).admit(visit(text=text, carrier=carrier), Format.RAW))
        assert status(found) == expected

    def test_identity(self):
        """Who was let in is known."""
        found = result(admission().admit(visit(text=NAMED), Format.RAW))
        assert (found.identity.user, found.identity.expires_at) == ("42", NOW + 60)
        found = result(admission().admit(visit(text=SUBSCRIPTION), Format.RAW))
        assert (found.identity.user, list(found.identity.subs)) == ("42", ["news"])

    def test_every_channel(self):
        """Each of several channels must be open."""
        assert status(result(admission("chat").admit(visit("chat,news", NAMED), Format.RAW))) == 200
        assert status(result(admission("chat").admit(visit("chat,news,x", NAMED), Format.RAW))) == 403

    @pytest.mark.parametrize(
        ("text", "challenge"),
        [(None, "Bearer"), (EXPIRED, 'Bearer error="invalid_token"'), (OF_A_CLIENT, 'Bearer error="invalid_token"')],
    )
    def test_challenge(self, text, challenge):
        """RFC 6750 section 3: a 401 says what is wanted."""
        found = result(admission().admit(visit(text=text), Format.RAW))
        assert dict(found.headers)["WWW-Authenticate"] == challenge

    def test_reasons(self):
        """A refusal says why."""
        reasons = [
            result(admission(anonymous=one).admit(visit(text=text), Format.RAW)).reason
            for one, text in ((False, None), (True, None), (False, EXPIRED), (False, ELSEWHERE))
        ]
        assert "a token is required" in reasons[0]
        assert "--channel-allow" in reasons[1]
        assert "token" not in reasons[1]
        assert "expired 60 s ago" in reasons[2]
        assert reasons[3].endswith("the token does not allow it either")

    def test_no_keys(self):
        """Without keys all is as if there were no tokens; one in the query is an unknown parameter."""
        house = admission("news", keys=False)
        assert status(result(house.admit(visit(), Format.RAW))) == 200
        assert status(result(house.admit(visit(text=GOOD), Format.RAW))) == 200
        assert status(result(house.admit(visit(text=GOOD, carrier=PROTOCOL), Format.RAW))) == 200
        assert status(result(house.admit(visit(text=GOOD, carrier=PARAMETER), Format.RAW))) == 400
        assert status(result(admission(keys=False).admit(visit(text=NAMED), Format.RAW))) == 403
        assert house.anonymous

    @pytest.mark.parametrize(("host", "expected"), [("localhost", 200), ("evil.example", 403)])
    def test_loopback(self, host, expected):
        """On loopback all channels are open to who has a token; a page from elsewhere still is from elsewhere."""
        assert status(result(admission(local=True).admit(visit(text=GOOD, host=host), Format.RAW))) == expected

    @pytest.mark.parametrize("query", [{"format": ["xml"]}, {"tokens": ["x"]}])
    def test_bad_query(self, query):
        """What is wrong with the query is told before anything is asked of the token."""
        assert status(result(admission().admit(visit(**query), Format.RAW))) == 400

    def test_several(self):
        """Two tokens are one too many."""
        house, two = admission("news"), Credentials({"channel": ["news"], "token": [GOOD]}, "h", [f"Bearer {NAMED}"])
        assert status(result(house.admit(two, Format.RAW))) == 400

    def test_unavailable(self):
        """Where keys cannot be fetched, the same token may do later."""

        class Away(Tokens):
            def either(self, token):
                return succeed(Refused("away", Cause.UNAVAILABLE))

        house = Authorizer(access(), Away(ring(), TERMS, lambda: NOW), anonymous=True, reactor=Clock(), now=lambda: NOW)
        found = result(house.admit(visit(text=GOOD), Format.RAW))
        assert (found.status, found.headers) == (503, (("Retry-After", "1"),))


class ExpiryTests:
    """When a connection's token is at its end."""

    def test_never(self):
        """One that does not end sets no timer."""
        assert admission().call_when_expired(0, lambda: None) is None

    def test_grace(self):
        """A connection outlives its token by the grace."""
        clock, rung = Clock(), []
        house = Authorizer(access(), None, anonymous=True, reactor=clock, now=lambda: NOW + clock.seconds())
        house.call_when_expired(NOW + 60, lambda: rung.append(clock.seconds()))
        clock.advance(60 + GRACE - 0.01)
        assert rung == []
        clock.advance(0.01)
        assert rung == [85.0]
