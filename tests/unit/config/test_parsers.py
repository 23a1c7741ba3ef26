"""Tests for wsserver/config/parsers.py: durations, URLs, sizes and time zones."""

import sys
import zoneinfo
from zoneinfo import ZoneInfo

import pytest
from options import one, refused

from wsserver.config.parsers import parse_duration, show_duration
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError


class DurationTests:
    """Durations with a unit."""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0s"),
            (0.001, "1ms"),
            (0.5, "500ms"),
            (0.0105, "10.5ms"),
            (1, "1s"),
            (1.5, "1.5s"),
            (59, "59s"),
            (60, "1m"),
            (90, "90s"),
            (120, "2m"),
            (3600, "1h"),
            (5400, "90m"),
            (61.5, "61.5s"),
        ],
    )
    def test_a_duration_is_shown_in_a_fitting_unit_and_parses_back(self, seconds, text):
        assert show_duration(seconds) == text
        assert parse_duration(text, 0, 3600 * 24) == seconds

    @pytest.mark.parametrize("text", ["1234.567", "3599.999999", "0.123456", "123.4567ms", "1000.001"])
    def test_a_shown_duration_parses_back_to_a_nanosecond(self, text):
        seconds = parse_duration(text, 0, 3600)
        assert parse_duration(show_duration(seconds), 0, 3600) == pytest.approx(seconds, abs=1e-9)

    def test_parses_milliseconds_seconds_minutes_and_hours(self):
        assert [parse_duration(text, 0, 1e9) for text in ("2ms", "2s", "2", "2m", "2h")] == [0.002, 2, 2, 120, 7200]

    def test_both_bounds_are_accepted_and_more_is_refused(self):
        assert parse_duration("1", 1, 2) == 1
        assert parse_duration("2", 1, 2) == 2
        with pytest.raises(ValueError, match=r"^expected a time from 1s to 2s$"):
            parse_duration("2.000001", 1, 2)


class WebUrlTests:
    """URLs of hooks and keys."""

    def test_a_url_with_a_password_is_refused_with_this_reason(self):
        url = "http://user:password@h/connect"
        problem = (
            "expected a URL without a user name and password, such as http://127.0.0.1:3000/connect "
            "(the value is not shown: it may contain a password)"
        )
        assert refused(flags={"hook_connect": [url]}) == ("--hook-connect", problem)


class SizeTests:
    """Sizes with a unit."""

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (1, "1B"),
            (1000, "1000B"),
            (1024, "1KiB"),
            (1536, "1536B"),
            (65536, "64KiB"),
            (1024**2, "1MiB"),
            (1024**3, "1GiB"),
        ],
    )
    def test_a_size_is_shown_in_the_largest_exact_unit_and_parses_back(self, size, text):
        assert TABLE["max_message_size"].show(size) == text
        assert one("max_message_size", text) == size

    def test_zero_is_shown_in_bytes(self):
        assert TABLE["max_message_size"].show(0) == "0B"


class TimeZoneTests:
    """Time zones."""

    def test_a_zone_is_shown_by_its_name(self):
        assert TABLE["timezone"].show(ZoneInfo("Europe/Berlin")) == "Europe/Berlin"
        assert TABLE["timezone"].show(None) == "local"


class MissingTimeZoneDatabaseTests:
    """A machine without a time zone database."""

    @pytest.fixture
    def no_database(self, monkeypatch):
        """Hide the system's database and the package tzdata; zones that were loaded before stay cached."""
        before = zoneinfo.TZPATH
        zoneinfo.reset_tzpath([])
        monkeypatch.setitem(sys.modules, "tzdata", None)
        monkeypatch.setitem(sys.modules, "tzdata.zoneinfo", None)
        yield
        zoneinfo.reset_tzpath(before)

    def test_an_uncached_zone_is_refused_with_how_to_install_the_database(self, no_database):
        problem = (
            "the time zone database is missing on this machine, so 'Antarctica/Troll' is unknown: pip install tzdata"
        )
        assert refused(flags={"timezone": ["Antarctica/Troll"]}) == ("--timezone", problem)
        with pytest.raises(SettingError, match="timezone: the time zone database is missing"):
            Settings(timezone="Antarctica/Troll")
        assert one("timezone", "local") is None
