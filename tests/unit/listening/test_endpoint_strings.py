"""Tests for wsserver/listening/endpoint_strings.py: it takes endpoint strings apart as Twisted does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse, quoteStringArgument

from wsserver.listening.endpoint_strings import parse_endpoint


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
def test_is_parsed_as_twisted_parses_it(text):
    """The parts are those that Twisted's own, private, parser finds."""
    found = parse_endpoint(text)
    assert ([found.kind, *found.arguments], found.options) == _parse(text)


def test_a_value_is_found_by_name_or_by_position():
    """As with the arguments of a Python function."""
    assert parse_endpoint("unix:/a").get("address", 0) == "/a"
    assert parse_endpoint("unix:address=/a").get("address", 0) == "/a"
    assert parse_endpoint("unix").get("address", 0) is None


@given(st.lists(st.tuples(st.text(":=\\ab\n"), st.none() | st.text(":=\\ab\n")), max_size=4))
def test_what_twisted_has_quoted_is_split_as_twisted_splits_it(parts):
    """Whatever was quoted by Twisted comes back, and what Twisted makes of it."""
    words = ["ssl"]
    for name, value in parts:
        quoted = quoteStringArgument(name)
        words.append(quoted if value is None else f"{quoted}={quoteStringArgument(value)}")
    found = parse_endpoint(":".join(words))
    assert ([found.kind, *found.arguments], found.options) == _parse(":".join(words))
