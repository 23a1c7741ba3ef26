"""Tests for wsserver/config/options.py: values quoted in errors, and the values that options accept."""

import pytest

from wsserver.config.options import quote_values
from wsserver.config.settings import TABLE


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("x" * 61, "'" + "x" * 57 + "...'"),
        (5, "5"),
        (10**400, "a huge number"),
        ([1] * 100, "[" + "1, " * 18 + "1,..."),
    ],
)
def test_values_over_60_characters_are_shortened_in_errors(value, shown):
    assert quote_values([value]) == shown


@pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
def test_every_option_refuses_nul_with_what_it_expects(option):
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        option.parse("\0")
    assert str(caught.value) == f"expected {option.expected}"
