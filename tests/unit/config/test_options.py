"""Rows of the option table: quoting for error messages, and the values they accept."""

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
def test_long_values_are_shortened(value, shown):
    assert quote_values([value]) == shown


@pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
def test_every_option_says_which_values_it_accepts(option):
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        option.parse("\0")
    assert str(caught.value) == f"expected {option.expected}"
