"""Tests for wsserver/config/settings.py: the options, their values and defaults."""

import dataclasses
import datetime
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from options import DEFAULTS, load, one, refused

from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError


class DefaultTests:
    """The defaults."""

    def test_the_defaults_are_the_documented_ones(self):
        assert dataclasses.asdict(load()) == DEFAULTS
        assert load() == Settings()

    def test_setting_an_attribute_raises_frozen_instance_error(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            load().port = 1

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_a_shown_default_parses_back_to_the_same_value(self, option):
        if option.many:
            assert (option.default, option.show_default()) == ((), "")
        else:
            assert option.parse(option.show(option.default)) == option.default
            assert option.show_default() == ("" if option.default == "" else option.show(option.default))

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_flag_and_variable_are_spelled_after_the_options_name(self, option):
        assert option.flag == "--" + option.name.replace("_", "-")
        assert option.variable == "WSSERVER_" + option.name.upper()

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_every_option_has_help_a_group_and_a_metavar_unless_it_is_a_flag(self, option):
        assert option.help[0].isupper()
        assert option.help.endswith(".")
        assert bool(option.metavar) != option.is_flag
        assert option.group


FLAG = ({"true": True, "no": False, "off": False, "0": False}, ["", "maybe"])
"""What an option without a value accepts and refuses in the file."""

HOOK_URLS = (
    {"": "", **{url: url for url in ("http://127.0.0.1:3000/hook", "https://example.com", "http://[::1]:1/a?b=c%20d")}},
    [
        "backend",
        "ftp://example.com/",
        "http://",
        "http:///path",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://[::1/",
        "http://user:secret@example.com/",
        "http://example.com/#part",
        "http://example.com/a b",
        "http://example.com/" + "x" * 2048,
    ],
)

VALUES = {
    "workers": (
        {"auto": "auto", "1": 1, "2": 2, "256": 256},
        ["", "0", "-1", "257", "1.5", "AUTO", "two"],
    ),
    "port": (
        {"0": 0, "1": 1, "8080": 8080, "65535": 65535, "08080": 8080},
        ["", "65536", "-1", "+1", "1.0", "1e3", "x"],
    ),
    "interface": ({"::1": "::1", "0.0.0.0": "0.0.0.0", "ws.example": "ws.example"}, ["", "a\nb", "\x7f", "x" * 1025]),
    "listen": (
        {"tcp:8080": ("tcp:8080",), "unix:/run/ws.sock": ("unix:/run/ws.sock",), "tcp6:1": ("tcp6:1",)},
        ["", "8080", "/run/ws.sock", ":8080", "TCP:8080", "localhost"],
    ),
    "tls_cert": ({"": "", "/etc/fullchain.pem": "/etc/fullchain.pem", "ü b.pem": "ü b.pem"}, ["a\0b", "x" * 1025]),
    "tls_key": ({"": "", "privkey.pem": "privkey.pem"}, ["a\nb", "x" * 1025]),
    "origin": (
        {
            "https://example.com": ("https://example.com",),
            "HTTP://LOCALHOST:3000": ("HTTP://LOCALHOST:3000",),
            "http://[::1]:80": ("http://[::1]:80",),
            "app://x": ("app://x",),
            "null": ("null",),
            "NULL": ("null",),
            "file://": ("file://",),
            "file:///": ("file:///",),
            "": ("empty",),
            "Empty": ("empty",),
        },
        [
            *("*", "example.com", "https://", "https://example.com/", "https://*.example.com", "http://a:b"),
            "https://bücher.example",
            "https://example.com:99999",
            *(
                "https://user@example.com",
                "http://a b",
                "http://a?b",
                "http://a#b",
                "http://::1",
                "//example.com",
            ),
        ],
    ),
    "allow_any_origin_insecure": ({"true": True, "Yes": True, "on": True, "1": True, "false": False}, ["", "y", "2"]),
    "max_message_size": (
        {
            "1": 1,
            "1B": 1,
            "64KiB": 65536,
            "64 KiB": 65536,
            "1MiB": 1024**2,
            "1GiB": 1024**3,
            "1048576": 1024**2,
        },
        [
            "",
            "0",
            "0KiB",
            "-1",
            "1.5MiB",
            "1KB",
            "1kib",
            "1K",
            "1  KiB",
            "2GiB",
            "1073741825",
            "KiB",
            "1_000",
            "9" * 13,
        ],
    ),
    "max_connections": ({"1": 1, "10000": 10000, "1000000": 1000000}, ["0", "1000001", "-1", "1k", "\u0661", "1" * 13]),
    "max_connections_per_address": ({"0": 0, "1000000": 1_000_000}, ["1000001", "-1", "all"]),
    "max_connections_per_user": ({"0": 0, "1000000": 1_000_000}, ["1000001", "-1", "all"]),
    "handshake_rate_per_address": ({"0": 0, "100000": 100_000}, ["100001", "-1", "10/s"]),
    "trusted_proxy": (
        {
            "10.0.0.0/8": ("10.0.0.0/8",),
            "192.0.2.1": ("192.0.2.1",),
            "192.0.2.1/32": ("192.0.2.1",),
            "2001:DB8:0::/32": ("2001:db8::/32",),
            "::1": ("::1",),
            "UNIX": ("unix",),
        },
        ["", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "*", "[::1]", "unix:/run/ws.sock", "10.0.0.1:80"],
    ),
    "trusted_proxy_header": (
        {"Forwarded": "forwarded", "X-Forwarded-For": "x-forwarded-for"},
        ["", "x-real-ip", "both"],
    ),
    "open_timeout": (
        {"100ms": 0.1, "0.1": 0.1, "1": 1.0, "1.5s": 1.5, "1 s": 1.0, "5m": 300.0, "300": 300.0},
        [
            "",
            "0",
            "99ms",
            "0.09",
            "301",
            "6m",
            "1h",
            "-1",
            "x",
            "1S",
            "1e1",
            "inf",
            "nan",
            ".5",
            "1.",
            "1  s",
            "1s ",
            "1,5",
        ],
    ),
    "max_request_head": ({"1KiB": 1024, "16384": 16384, "1MiB": 1024**2}, ["0", "1023", "2MiB", "big"]),
    "max_request_body": ({"1KiB": 1024, "64KiB": 64 * 1024, "64MiB": 64 * 1024**2}, ["0", "1023", "65MiB", "big"]),
    "max_fragments": ({"1": 1, "1024": 1024, "10000000": 10_000_000}, ["0", "-1", "10000001", "1k"]),
    "message_rate": ({"0": 0, "1": 1, "10000000": 10_000_000}, ["-1", "10000001", "1.5"]),
    "byte_rate": ({"0": 0, "64KiB": 65536, "1GiB": 1024**3}, ["-1", "2GiB", "fast"]),
    "rate_action": ({"throttle": "throttle", "close": "close", "CLOSE": "close"}, ["", "drop"]),
    "command_rate": ({"0": 0, "1": 1, "10000000": 10_000_000}, ["-1", "10000001", "1.5"]),
    "max_channels_per_client": ({"1": 1, "128": 128, "10000": 10_000}, ["0", "10001", "many"]),
    "max_queued_age": ({"0": 0.0, "30s": 30.0, "1h": 3600.0}, ["-1", "2h", "old"]),
    "message_timeout": ({"0": 0.0, "30s": 30.0, "100ms": 0.1, "1h": 3600.0}, ["-1", "2h", "soon"]),
    "close_timeout": ({"0.1s": 0.1, "300s": 300.0}, ["0", "301s"]),
    "keepalive_timeout": ({"75s": 75.0, "100ms": 0.1, "1h": 3600.0}, ["0", "2h"]),
    "ping_interval": ({"0": 0.0, "0s": 0.0, "25": 25.0, "1h": 3600.0, "3600": 3600.0}, ["-1", "2h", "3601"]),
    "ping_timeout": ({"100ms": 0.1, "1h": 3600.0}, ["0", "99ms", "3601", "2h"]),
    "subprotocol": (
        {"chat": ("chat",), "v1.chat+json": ("v1.chat+json",), "!#$%&'*+-.^_`|~": ("!#$%&'*+-.^_`|~",)},
        ["", "a b", "a,b", "a/b", "ü", '"a"', "x" * 257],
    ),
    "compression": ({"on": "on", "off": "off", "OFF": "off"}, ["", "true", "deflate"]),
    "compression_context_takeover": ({"on": "on", "off": "off", "ON": "on"}, ["", "true"]),
    "compression_window_bits": ({"9": 9, "15": 15}, ["", "8", "16", "-9", "9.0"]),
    "compression_min_size": ({"0": 0, "1KiB": 1024, "1GiB": 1024**3}, ["", "-1", "2GiB", "big"]),
    "redis": (
        {
            url: url
            for url in (
                "",
                "redis://127.0.0.1",
                "redis://[::1]:6380/15",
                "rediss://user:p%40ss@redis.example:6379/0",
                "redis://:secret@h",
                "redis+sentinel://a,b:26380/main/2?sentinel_password=x",
            )
        },
        ["x", "http://h", "redis://", "redis:///0", "redis://h:99999", "redis://h/x", "redis://h/0?x=1", "redis://h:x"],
    ),
    "drain_code": (
        {"1001": 1001, "1012": 1012, "1013": 1013, "3000": 3000, "4999": 4999},
        ["", "1000", "1006", "1011", "1015", "2999", "5000", "999", "x"],
    ),
    "drain_jitter": ({"0": 0.0, "5s": 5.0, "5m": 300.0}, ["", "-1", "301s"]),
    "drain_timeout": ({"100ms": 0.1, "30s": 30.0, "1h": 3600.0}, ["", "0", "99ms", "2h"]),
    "channel_allow": (
        {"news": ("news",), "chat:*": ("chat:*",), "*": ("*",), "ü b": ("ü b",)},
        ["", "a\n", "\x85", "x" * 256],
    ),
    "channel_format": ({"raw": "raw", "JSON": "json", "redis": "redis"}, ["", "xml"]),
    "max_queued_bytes": ({"1KiB": 1024, "1GiB": 1024**3}, ["", "0", "1023", "2GiB"]),
    "gap": ({"notice": "notice", "close": "close"}, ["", "on"]),
    "slow": ({"close": "close", "drop-oldest": "drop-oldest", "LATEST": "latest"}, ["", "drop"]),
    "history_size": ({"0": 0, "10000": 10_000}, ["-1", "10001", "", "1k"]),
    "history_ttl": ({"1s": 1.0, "10m": 600.0, "720h": 2_592_000.0}, ["0s", "721h", "", "x"]),
    "channel_publish": ({"chat:*": ("chat:*",)}, ["", "a\nb"]),
    "channel_presence": ({"chat:*": ("chat:*",)}, ["", "a\nb"]),
    "personal_channel": ({"": "", "#": "#", "user:#": "user:#"}, ["a\nb", "wsserver:", "x" * 256]),
    "api_key": ({"": "", "secret": "secret"}, ["a\nb"]),
    "api_origin": (
        {"https://example.com": ("https://example.com",), "file://": ("file://",), "null": ("null",)},
        ["*", "example.com", "https://example.com/"],
    ),
    "api_insecure": FLAG,
    "api_errors": ({"status": "status", "body": "body"}, ["", "200"]),
    **{
        f"hook_{event}": HOOK_URLS
        for event in ("connect", "subscribe", "publish", "rpc", "message", "disconnect", "channel")
    },
    "hook_timeout": ({"100ms": 0.1, "30s": 30.0}, ["", "0", "99ms", "31s"]),
    "token_secret": ({"": "", "s" * 32: "s" * 32, "ü" * 16: "ü" * 16}, ["s" * 40 + "\n", "s" * 1025]),
    "token_secret_previous": ({"": "", "s" * 32: "s" * 32}, ["s" * 40 + "\n"]),
    "token_secret_weak": FLAG,
    "token_public_key": (
        {text: text for text in ("", "/etc/key.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")},
        ["key\n", "x" * 1025, "-----BEGIN ü", "-----BEGIN" + "A" * 65536],
    ),
    "token_jwks_url": (
        {text: text for text in ("", "https://example.com/.well-known/jwks.json", "http://[::1]:8080/keys?x=1")},
        ["x", "ftp://example.com/", "https://user:password@example.com/", "https://example.com/ ", "https:///keys"],
    ),
    "token_audience": ({"": "", "chat": "chat"}, ["a\nb"]),
    "token_issuer": ({"": "", "https://example.com": "https://example.com"}, ["a\nb"]),
    "token_leeway": ({"0": 0.0, "5s": 5.0, "20s": 20.0}, ["-1", "21s"]),
    "token_no_expiry": FLAG,
    "anonymous": FLAG,
    "hook_message_raw": FLAG,
    "insecure": FLAG,
    "tap": ({"auto": "auto", "on": "on", "OFF": "off"}, ["", "true", "maybe"]),
    "max_taps": ({"0": 0, "7": 7}, ["-1", "10001", "many"]),
    "cases": FLAG,
    "catch_all": ({"auto": "auto", "on": "on", "OFF": "off"}, ["", "true", "maybe"]),
    "reply_prefix": (
        {"": "", "> ": "> ", "ü\u2028": "ü\u2028", "\ud7ff\ue000": "\ud7ff\ue000", "x" * 1024: "x" * 1024},
        # Python decodes a byte of the command line that is not UTF-8 as a surrogate.
        ["\n", "\x1f", "\x7f", "x" * 1025, "\udcff", "\ud800", "\udfff"],
    ),
    "timezone": (
        {"local": None, "LOCAL": None, "UTC": ZoneInfo("UTC"), "Europe/Berlin": ZoneInfo("Europe/Berlin")},
        ["", "Mars/Olympus", "Europe", "zone.tab", "../../../etc/passwd", "/etc/passwd", "UTC\0", "\udcff"],
    ),
    "faults": FLAG,
    "fault_timeout": ({"1s": 1.0, "1h": 3600.0}, ["", "0", "61m"]),
    "max_fault_connections": ({"1": 1, "10000": 10_000}, ["", "0", "10001"]),
    "metrics": ({"on": "on", "OFF": "off"}, ["", "true"]),
    "admin_listen": ({"tcp:9000": ("tcp:9000",), "unix:/run/a.sock": ("unix:/run/a.sock",)}, ["", "nothing"]),
    "log_level": ({"debug": "debug", "WARN": "warn", "error": "error"}, ["", "warning", "critical", "1"]),
    "access_log": ({"on": "on", "off": "off"}, ["", "true"]),
    "log_max_size": ({"64KiB": 65536, "1GiB": 1024**3}, ["", "0", "65535", "-1"]),
    "log_max_files": ({"2": 2, "1000": 1000}, ["", "1", "1001"]),
    "log_max_rate": ({"0": 0, "100": 100}, ["", "-1", "1.5", "1000001"]),
    "log_format": ({"text": "text", "json": "json", "JSON": "json"}, ["", "xml"]),
}
"""Option -> accepted texts with their values, and refused texts."""

GOOD = [(name, text, value) for name, (good, _) in VALUES.items() for text, value in good.items()]
BAD = [(name, text) for name, (_, bad) in VALUES.items() for text in bad]


class ValueTests:
    """The values that each option accepts."""

    def test_every_option_of_the_table_is_tested(self):
        assert sorted(VALUES) == sorted(TABLE)

    @pytest.mark.parametrize(("name", "text", "value"), GOOD)
    def test_an_accepted_text_gives_its_value(self, name, text, value):
        assert one(name, text) == value

    @pytest.mark.parametrize(("name", "text"), BAD)
    def test_a_refused_text_is_quoted_with_what_was_expected(self, name, text):
        """The error for an option that holds a secret does not quote the text."""
        where, problem = refused(flags={name: [text]})
        assert where == TABLE[name].flag
        shown = f", not {text if len(text) <= 60 else text[:57] + '...'!r}"
        if TABLE[name].secret:
            shown = " (the value is not shown: it may contain a password)"
        assert re.fullmatch("expected .+" + re.escape(shown) + "(; repeat --.+)?", problem)

    @pytest.mark.parametrize("name", ["redis", "api_key", "token_secret", "token_secret_previous"])
    def test_a_secret_is_in_neither_an_error_nor_the_repr(self, name, config):
        for wrong in ("hush\n", "hush" * 300):
            assert "hush" not in str(refused(flags={name: [wrong]}))
        assert "7" not in refused(config=config(f"{name} = [7]"))[1]
        good = "redis://:hush@h" if name == "redis" else "hush" * 8
        assert "hush" not in repr(load({name: [good]}))

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("port", "expected a whole number from 0 to 65535, not '?'"),
            ("max_message_size", "expected a size from 1B to 1GiB, such as 64KiB or 1MiB, not '?'"),
            ("open_timeout", "expected a time from 100ms to 5m, such as 500ms, 25s or 2m, not '?'"),
            ("ping_interval", "expected a time from 0s to 1h, such as 500ms, 25s or 2m, not '?'"),
            ("compression", "expected off or on, not '?'"),
            ("compression_context_takeover", "expected off or on, not '?'"),
            ("compression_window_bits", "expected a whole number from 9 to 15, not '?'"),
            ("compression_min_size", "expected a size from 0B to 1GiB, such as 64KiB or 1MiB, not '?'"),
            ("log_format", "expected text or json, not '?'"),
            ("anonymous", "expected true or false, not '?'"),
            ("catch_all", "expected auto, on or off, not '?'"),
            ("timezone", "expected a time zone such as Europe/Berlin or UTC, or local, not '?'"),
            (
                "listen",
                "expected a Twisted endpoint string such as tcp:8080:interface=127.0.0.1 or unix:/run/ws.sock, not '?'",
            ),
            (
                "origin",
                (
                    "expected an origin such as https://example.com, http://localhost:3000 or file:// (no path, no *), "
                    "null, or empty, not '?'"
                ),
            ),
        ],
    )
    def test_the_error_names_the_accepted_values_or_an_example(self, name, problem):
        assert refused(flags={name: ["?"]}) == (TABLE[name].flag, problem)

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("subprotocol", "expected a name of letters, digits and !#$%&'*+-.^_`|~, not 'a b'"),
            ("reply_prefix", r"expected at most 1024 characters, none of them a control character, not 'a\nb'"),
        ],
    )
    def test_the_error_for_a_string_names_the_accepted_characters(self, name, problem):
        text = "a b" if name == "subprotocol" else "a\nb"
        assert refused(flags={name: [text]}) == (TABLE[name].flag, problem)


class ConstructorTests:
    """Arguments of `Settings` are checked like flags."""

    @pytest.mark.parametrize(
        ("arguments", "value"),
        [
            ({"port": 0}, 0),
            ({"port": "443"}, 443),
            ({"max_message_size": 65536}, 65536),
            ({"max_message_size": "64KiB"}, 65536),
            ({"ping_interval": 5}, 5.0),
            ({"ping_interval": 0}, 0.0),
            ({"ping_interval": 2.5}, 2.5),
            ({"ping_interval": "2m"}, 120.0),
            ({"open_timeout": 0.123456}, 0.123456),
            ({"history_ttl": 30 * 86400}, 2592000.0),
            ({"origin": ("https://a",)}, ("https://a",)),
            ({"origin": ["https://a", "null"]}, ("https://a", "null")),
            ({"origin": ()}, ()),
            ({"anonymous": True}, True),
            ({"timezone": ZoneInfo("Asia/Tokyo")}, ZoneInfo("Asia/Tokyo")),
            ({"timezone": "Asia/Tokyo"}, ZoneInfo("Asia/Tokyo")),
            ({"timezone": None}, None),
            ({"timezone": datetime.UTC}, datetime.UTC),
            ({"compression": "on"}, "on"),
            ({"token_public_key": Path("key.pem")}, "key.pem"),
            ({"api_key": "k"}, "k"),
            (
                {"channel": [("a:*", {"history_size": 5, "history_ttl": "1m"})]},
                (("a:*", {"history_size": 5, "history_ttl": 60.0}),),
            ),
        ],
    )
    def test_python_values_and_strings_are_accepted(self, arguments, value):
        (name,) = arguments
        found = getattr(Settings(**arguments), name)
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("arguments", "where", "problem"),
        [
            ({"origin": "https://a"}, "origin", "expected a tuple of strings such as ('...',), not 'https://a'"),
            ({"origin": ("https://a/path",)}, "origin", "expected an origin such as https://example.com"),
            ({"origin": (5,)}, "origin", "expected an origin such as"),
            (
                {"channel_allow": "chat:*"},
                "channel_allow",
                "expected a tuple of strings such as ('...',), not 'chat:*'",
            ),
            ({"channel_allow": {"a"}}, "channel_allow", "expected a tuple of strings such as ('...',), not {'a'}"),
            ({"channel_allow": (5,)}, "channel_allow", "expected a string, not 5"),
            ({"listen": None}, "listen", "expected a tuple of strings such as ('...',), not None"),
            ({"port": 99999}, "port", "expected a whole number from 0 to 65535, not 99999"),
            ({"port": -1}, "port", "expected a whole number from 0 to 65535, not -1"),
            ({"port": 80.0}, "port", None),
            ({"port": 80.5}, "port", "expected a whole number from 0 to 65535, not 80.5"),
            ({"port": True}, "port", "expected a whole number from 0 to 65535, not True"),
            ({"port": None}, "port", "expected a whole number from 0 to 65535, not None"),
            ({"port": b"80"}, "port", "expected a whole number from 0 to 65535, not b'80'"),
            ({"port": 10**5000}, "port", "expected a whole number from 0 to 65535, not a huge number"),
            (
                {"max_message_size": 0},
                "max_message_size",
                "expected a size from 1B to 1GiB, such as 64KiB or 1MiB, not 0",
            ),
            ({"ping_timeout": 0}, "ping_timeout", "expected a time from 100ms to 1h, such as 500ms, 25s or 2m, not 0"),
            ({"ping_timeout": float("nan")}, "ping_timeout", "expected a time from 100ms to 1h"),
            ({"ping_timeout": float("inf")}, "ping_timeout", "expected a time from 100ms to 1h"),
            ({"ping_timeout": 1e300}, "ping_timeout", "expected a time from 100ms to 1h"),
            ({"compression": True}, "compression", "expected off or on, not True"),
            ({"anonymous": "yes"}, "anonymous", "expected True or False, not 'yes'"),
            ({"anonymous": 1}, "anonymous", "expected True or False, not 1"),
            ({"reply_prefix": 5}, "reply_prefix", "expected a string, not 5"),
            ({"reply_prefix": None}, "reply_prefix", "expected a string, not None"),
            ({"timezone": "Mars/Olympus"}, "timezone", "expected a time zone such as Europe/Berlin"),
            ({"timezone": 1}, "timezone", "expected a time zone such as Europe/Berlin"),
            ({"port": ZoneInfo("UTC")}, "port", "expected a whole number from 0 to 65535"),
            ({"channel": 5}, "channel", "expected a tuple of (pattern, options) pairs, not 5"),
            ({"channel": ("a",)}, "channel", "expected a pair of a pattern and a mapping of options, not 'a'"),
            ({"channel": (("", {}),)}, "channel", "expected the name of a channel"),
            ({"channel": (("a", {"port": 5}),)}, "channel", "unknown option 'port'; expected history_size"),
            ({"channel": (("a", {"rewind": 101}),)}, "channel: rewind", "expected a whole number from 0 to 100"),
            (
                {"channel": (("a", {"force_recovery_mode": "all"}),)},
                "channel: force_recovery_mode",
                "expected stream or cache",
            ),
            (
                {"channel": (("a", {"rewind": 1, "history_size": 0}),)},
                "channel: rewind",
                "the channel has no history: expected a",
            ),
            (
                {"history_size": 0, "channel": (("a", {"force_recovery_mode": "cache"}),)},
                "channel: force_recovery_mode",
                "the channel has no history: expected a",
            ),
            (
                {"channel": (("a", {"slow": "no"}),)},
                "channel: slow",
                "expected close, drop-oldest or latest, not 'no'",
            ),
        ],
    )
    def test_a_wrong_value_names_the_field_and_what_was_expected(self, arguments, where, problem):
        if problem is None:
            assert Settings(**arguments).port == 80
            return
        with pytest.raises(SettingError) as caught:
            Settings(**arguments)
        assert (caught.value.where, caught.value.problem[: len(problem)]) == (where, problem)

    @pytest.mark.parametrize("name", [name for name, option in TABLE.items() if option.secret])
    @pytest.mark.parametrize("value", [b"hush-hush", ("hush-hush",), 5318008])
    def test_the_error_for_a_secret_does_not_quote_it(self, name, value):
        with pytest.raises(SettingError) as caught:
            Settings(**{name: value})
        assert str(caught.value).endswith(" (the value is not shown: it may contain a password)")
        assert not re.search("hush|5318008", str(caught.value))

    @pytest.mark.parametrize("name", ["token_secret", "token_secret_previous"])
    def test_a_secret_under_32_bytes_needs_token_secret_weak(self, name):
        with pytest.raises(SettingError) as caught:
            Settings(**{"token_secret": "s" * 32, name: "ü" * 15 + "s"})
        assert caught.value.where == "--" + name.replace("_", "-")
        assert caught.value.problem == (
            "expected a secret of at least 32 bytes, such as `openssl rand -hex 32` makes; --token-secret-weak permits "
            "a shorter one"
        )
        assert Settings(**{"token_secret": "s" * 32, name: "s"}, token_secret_weak=True).token_secret_weak

    def test_dataclasses_replace_checks_the_new_value(self):
        assert dataclasses.replace(Settings(), port=1).port == 1
        with pytest.raises(SettingError, match="port: expected a whole number"):
            dataclasses.replace(Settings(), port=99999)


class FromSourcesTests:
    """`Settings.from_environment` and `Settings.from_file`, for applications."""

    def test_from_environment_reads_a_mapping_or_os_environ_and_its_file(self, config, monkeypatch):
        path = config("port = 1\nreply_prefix = 'file'")
        environ = {"WSSERVER_CONFIG": path, "WSSERVER_PORT": "2", "PORT": "3"}
        settings = Settings.from_environment(environ)
        assert (settings.port, settings.reply_prefix) == (2, "file")
        monkeypatch.setenv("WSSERVER_PORT", "4")
        assert Settings.from_environment().port == 4

    def test_from_file_ignores_the_environment(self, config, monkeypatch):
        monkeypatch.setenv("WSSERVER_PORT", "2")
        path = config("reply_prefix = 'file'")
        for kind in (str, Path):
            assert Settings.from_file(kind(path)) == Settings(reply_prefix="file")

    def test_from_file_names_file_and_line_of_a_bad_value(self, config):
        path = config("\nport = 99999")
        with pytest.raises(SettingError, match=re.escape(f"{path} line 2: port: expected a whole number")):
            Settings.from_file(path)


class ChannelTableTests:
    """The tables `[[channel]]` of the file."""

    def test_several_tables_keep_their_order(self, config):
        text = '[[channel]]\npattern = "a:*"\nhistory_size = 5\n[[channel]]\npattern = "*"\npublish = true\n'
        assert load(config=config(text)).channel == (("a:*", {"history_size": 5}), ("*", {"publish": True}))

    @pytest.mark.parametrize(
        ("text", "where", "problem"),
        [
            ("channel = 5", "channel", "expected tables: [[channel]]"),
            ('[channel]\npattern = "a"', "channel", "expected tables: [[channel]]"),
            ("[[channel]]\nhistory_size = 5", "line 1: channel", "expected pattern"),
            ('[[channel]]\n\npatern = "a"', "line 3: channel: patern", "unknown key; did you mean pattern?"),
            ("[[channel]]\npublish = true\npattern = 5", "line 3: channel: pattern", "expected pattern"),
            ('[[channel]]\npattern = ""', "line 2: channel: pattern", "expected the name of a channel"),
            (
                '[[channel]]\npattern = "a"\nhistory_sise = 5',
                "line 3: channel: history_sise",
                "did you mean history_size?",
            ),
            (
                '[[channel]]\npattern = "a"\n\n[[channel]]\npattern = "b"\nslow = 5',
                "line 6: channel: slow",
                "expected close",
            ),
            ('[[channel]]\npattern = "wsserver:*"', "line 2: channel: pattern", "the server's own"),
            ('[[channel]]\npattern = "a"\nport = 5', "line 3: channel: port", "unknown key"),
            (
                '[[channel]]\npattern = "a"\nhistory_size = -5',
                "line 3: channel: history_size",
                "expected a whole number",
            ),
            (
                '[[channel]]\npattern = """\nnope = 1\n"""\n\n[[channel]] # two\npattern = "b"\n\n# x\n"nope" = 5',
                "line 2: channel: pattern",
                "expected the name of a channel",
            ),
            (
                'port = 1\n[[channel]]\npattern = "a"\n[[channel]] # nope = 1\npattern = "b"\n\n# x\n"nope" = 5',
                "line 8: channel: nope",
                "unknown key",
            ),
            ('channel = [{pattern = "a", nope = 1}]', "line 1: channel: nope", "unknown key"),
            ('[[channel]]\npattern = "a"\npublish = "yes"', "line 3: channel: publish", "expected true or false"),
        ],
    )
    def test_an_invalid_table_is_refused_with_its_line_and_key(self, config, text, where, problem):
        place, why = refused(config=config(text))
        assert place.endswith(where)
        assert problem in why
