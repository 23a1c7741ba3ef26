"""Tests for wsserver/listening/endpoint_strings.py: it parses endpoint strings as Twisted does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse, quoteStringArgument

from wsserver.listening.endpoint_strings import anchor_endpoint, parse_endpoint


@pytest.mark.parametrize(
    "text",
    [
        "tcp:80",
        "tcp",
        "tcp:",
        "tcp::80",
        "x:y:",
        "",
        r"tcp6:80:interface=\:\:1",
        r"unix:/a\=b\:c:mode=660",
        "unix:address=/x=y",
        r"a\\b:c\\:d",
        "ssl:443:privateKey=/k.pem:certKey=/c.pem",
        "haproxy:tcp:80:backlog=10",
    ],
)
def test_parses_a_string_into_the_same_parts_as_twisted(text):
    """The test compares with Twisted's own parser, which is private."""
    found = parse_endpoint(text)
    assert ([found.kind, *found.arguments], found.options) == _parse(text)


def test_finds_a_value_by_its_name_or_its_position():
    """Endpoint strings have positional and named arguments, like a Python function."""
    assert parse_endpoint("unix:/a").get("address", 0) == "/a"
    assert parse_endpoint("unix:address=/a").get("address", 0) == "/a"
    assert parse_endpoint("unix").get("address", 0) is None


@given(st.lists(st.tuples(st.text(":=\\ab\n"), st.none() | st.text(":=\\ab\n")), max_size=4))
def test_parses_arguments_quoted_by_twisted_into_the_same_parts(parts):
    words = ["ssl"]
    for name, value in parts:
        quoted = quoteStringArgument(name)
        words.append(quoted if value is None else f"{quoted}={quoteStringArgument(value)}")
    found = parse_endpoint(":".join(words))
    assert ([found.kind, *found.arguments], found.options) == _parse(":".join(words))


@pytest.mark.parametrize(
    ("text", "anchored"),
    [
        ("ssl:443:privateKey=k.pem:certKey=c.pem", "ssl:443:privateKey=/d/k.pem:certKey=/d/c.pem"),
        ("ssl:443:k.pem:c.pem", "ssl:443:/d/k.pem:/d/c.pem"),
        ("ssl:443:/k:extraCertChain=x:dhParameters=d", "ssl:443:/k:extraCertChain=/d/x:dhParameters=/d/d"),
        ("haproxy:tls:pki:port=443", "haproxy:tls:/d/pki:port=443"),
        (r"tls:a\:b\=c\\d", r"tls:/d/a\:b\=c\\d"),
        ("tls:/pki", "tls:/pki"),
        ("ssl:443:privateKey=", "ssl:443:privateKey="),
        ("tcp:80", "tcp:80"),
        ("unix:ws.sock:mode=600", "unix:ws.sock:mode=600"),
    ],
)
def test_the_paths_of_tls_files_become_absolute(text, anchored):
    assert anchor_endpoint(text, "/d") == anchored
    # Once more, nothing changes.
    assert anchor_endpoint(anchored, "/e") == anchored
