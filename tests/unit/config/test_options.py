"""A row of the option table: quoting for error messages."""

import pytest

from wsserver.config.options import quote_values


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
