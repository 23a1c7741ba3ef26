"""Tests for wsserver/config/settings.py: options from flags, the environment and a TOML file."""

import dataclasses
import datetime
import re
import sys
import tomllib
import zoneinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from wsserver.config.genconfig import genconfig
from wsserver.config.loader import unknown_flag
from wsserver.config.options import PREFIX
from wsserver.config.parsers import parse_duration, show_duration
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError

load = Settings.load

DEFAULTS = {
    "port": 8080,
    "interface": "127.0.0.1",
    "listen": (),
    "tls_cert": "",
    "tls_key": "",
    "origin": (),
    "api_origin": (),
    "allow_any_origin_insecure": False,
    "max_message_size": 1024 * 1024,
    "max_connections": 10_000,
    "open_timeout": 10.0,
    "close_timeout": 5.0,
    "ping_interval": 25.0,
    "ping_timeout": 10.0,
    "subprotocol": (),
    "compression": "off",
    "compression_context_takeover": "off",
    "compression_window_bits": 15,
    "compression_min_size": 128,
    "redis": "",
    "channel_allow": (),
    "channel_format": "raw",
    "max_queued_bytes": 1024 * 1024,
    "gap": "notice",
    "slow": "close",
    "history_size": 100,
    "history_ttl": 60.0,
    "channel_publish": (),
    "channel_presence": (),
    "channel": (),
    "api_key": "",
    "api_errors": "status",
    "hook_connect": "",
    "hook_subscribe": "",
    "hook_publish": "",
    "hook_disconnect": "",
    "hook_timeout": 2.0,
    "token_secret": "",
    "token_secret_previous": "",
    "token_public_key": "",
    "token_jwks_url": "",
    "token_audience": "",
    "token_issuer": "",
    "token_leeway": 5.0,
    "anonymous": False,
    "catch_all": "auto",
    "reply_prefix": "",
    "timezone": None,
    "log_format": "text",
}
"""What the documentation promises."""


@pytest.fixture
def config(tmp_path):
    """Give a function that writes a file `wsserver.toml` and tells its path."""

    def write(text):
        path = tmp_path / "wsserver.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def one(name, text):
    """Load one option, given as a flag."""
    return getattr(load({name: [text]}), name)


def uncommented():
    """Take the # away before every option."""
    options, _, _ = genconfig().partition("# Options for the channels")
    return re.sub(r"(?m)^#(?=[a-z_]+ = )", "", options)


def refused(**sources):
    """Load sources that have to be refused; tell where the mistake is and what."""
    with pytest.raises(SettingError) as caught:
        load(**sources)
    assert str(caught.value) == f"{caught.value.where}: {caught.value.problem}"
    assert "\n" not in str(caught.value)
    return caught.value.where, caught.value.problem


class DefaultTests:
    """Options that nobody sets."""

    def test_defaults(self):
        """The defaults are the documented ones, and safe."""
        assert dataclasses.asdict(load()) == DEFAULTS
        assert load() == Settings()

    def test_frozen(self):
        """Settings do not change while the server runs."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            load().port = 1

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_round_trip(self, option):
        """Each default, written as the help writes it, is read back as the same value."""
        if option.many:
            assert (option.default, option.show_default()) == ((), "")
        else:
            assert option.parse(option.show(option.default)) == option.default
            assert option.show_default() == ("" if option.default == "" else option.show(option.default))

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_names(self, option):
        """An option has the same name everywhere, in the spelling of the place."""
        assert option.flag == "--" + option.name.replace("_", "-")
        assert option.variable == "WSSERVER_" + option.name.upper()

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_explained(self, option):
        """Each option has a sentence of help; what takes a value says what stands for it."""
        assert option.help[0].isupper()
        assert option.help.endswith(".")
        assert bool(option.metavar) != option.is_flag
        assert option.group


SOURCES = [
    # Option, in the file, in the environment, as flag; and the value that each gives.
    ("port", "1", "2", ["3"], (1, 2, 3)),
    ("interface", '"a"', "b", ["c"], ("a", "b", "c")),
    ("listen", '["tcp:1"]', "tcp:2 unix:x", ["tcp:3", "tcp:4"], (("tcp:1",), ("tcp:2", "unix:x"), ("tcp:3", "tcp:4"))),
    ("origin", '["http://a"]', "http://b", ["http://c"], (("http://a",), ("http://b",), ("http://c",))),
    ("anonymous", "true", "false", ["true"], (True, False, True)),
    ("max_message_size", '"1KiB"', "2KiB", ["3"], (1024, 2048, 3)),
    ("ping_interval", "30", "1m", ["500ms"], (30.0, 60.0, 0.5)),
    ("compression", '"on"', "off", ["ON"], ("on", "off", "on")),
    ("timezone", '"UTC"', "local", ["Europe/Berlin"], (ZoneInfo("UTC"), None, ZoneInfo("Europe/Berlin"))),
]


class PrecedenceTests:
    """Flags go before the environment, that before the file, that before the default."""

    @pytest.mark.parametrize(("name", "toml", "text", "flag", "values"), SOURCES, ids=[row[0] for row in SOURCES])
    def test_order(self, config, name, toml, text, flag, values):
        """The nearest source decides; the others are not mixed in."""
        path = config(f"{name} = {toml}\n")
        variable = {PREFIX + name.upper(): text}
        from_file, from_environment, from_flag = values
        assert getattr(load(), name) == DEFAULTS[name]
        assert getattr(load(config=path), name) == from_file
        assert getattr(load(environ=variable), name) == from_environment
        assert getattr(load(environ=variable, config=path), name) == from_environment
        assert getattr(load({name: flag}), name) == from_flag
        assert getattr(load({name: flag}, config=path), name) == from_flag
        assert getattr(load({name: flag}, variable), name) == from_flag
        assert getattr(load({name: flag}, variable, path), name) == from_flag

    def test_each_option_by_itself(self, config):
        """One option may come from here and another from there."""
        path = config("port = 1\nmax_connections = 5\nopen_timeout = 7\n")
        settings = load({"port": ["3"]}, {"WSSERVER_MAX_CONNECTIONS": "6"}, path)
        assert (settings.port, settings.max_connections, settings.open_timeout) == (3, 6, 7.0)

    def test_last_flag_counts(self):
        """Of a flag given twice the last counts, unless it may be repeated."""
        assert load({"port": ["1", "2"]}).port == 2
        assert load({"subprotocol": ["a", "b", "a"]}).subprotocol == ("a", "b", "a")

    def test_hidden_mistake(self, config):
        """A mistake is named also where another source goes before it."""
        assert refused(flags={"port": ["1"]}, environ={"WSSERVER_PORT": "x"})[0] == "WSSERVER_PORT"
        assert refused(flags={"port": ["1"]}, config=config('port = "x"'))[0].endswith("line 1: port")


class ConfigVariableTests:
    """The file may be named in the environment."""

    def test_variable(self, config):
        """WSSERVER_CONFIG names the file."""
        assert load(environ={"WSSERVER_CONFIG": config("port = 1")}).port == 1

    def test_flag_before_variable(self, config, tmp_path):
        """The file named on the command line is read instead."""
        (tmp_path / "other.toml").write_text("port = 2")
        environ = {"WSSERVER_CONFIG": config("port = 1\nmax_connections = 5")}
        settings = load(environ=environ, config=str(tmp_path / "other.toml"))
        assert (settings.port, settings.max_connections) == (2, 10_000)

    def test_empty(self):
        """An empty WSSERVER_CONFIG names no file."""
        assert load(environ={"WSSERVER_CONFIG": ""}) == Settings()

    def test_missing(self):
        """A file that is not there is a mistake."""
        where, problem = refused(environ={"WSSERVER_CONFIG": "/nonexistent/wsserver.toml"})
        assert (where, problem) == ("/nonexistent/wsserver.toml", "cannot be read: No such file or directory")

    def test_no_option(self, config):
        """The file cannot name another file."""
        where, problem = refused(config=config('config = "x"'))
        assert where.endswith("line 1: config")
        assert problem.startswith("unknown key")


class EnvironmentTests:
    """Options as environment variables."""

    @pytest.mark.parametrize("name", TABLE)
    def test_empty(self, name):
        """An empty variable is as good as none."""
        assert load(environ={PREFIX + name.upper(): ""}) == Settings()

    def test_foreign(self):
        """Variables of other programs do not count."""
        assert load(environ={"PORT": "x", "HOME": "/", "wsserver_port": "x", "XWSSERVER_PORT": "x"}) == Settings()

    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("http://a", ("http://a",)),
            ("http://a http://b", ("http://a", "http://b")),
            (" http://a\n\thttp://b ", ("http://a", "http://b")),
            (" ", ()),
            ("http://[::1] http://[::1]:80", ("http://[::1]", "http://[::1]:80")),
        ],
    )
    def test_list(self, text, values):
        """White space divides the values of a list."""
        assert load(environ={"WSSERVER_ORIGIN": text}).origin == values

    def test_the_empty_origin_and_the_file_origin_are_named_in_every_source(self, tmp_path):
        """By flag, in the environment and in the file, as docs/how-to/cross-origin.md writes them."""
        config = tmp_path / "ws.toml"
        config.write_text('origin = ["file://", "empty"]\napi_origin = [""]\n')
        environ = {"WSSERVER_ORIGIN": "file:// https://app.example", "WSSERVER_API_ORIGIN": "empty"}
        assert load(config=str(config)).origin == ("file://", "empty")
        assert load(config=str(config)).api_origin == ("empty",)
        assert load(environ=environ).origin == ("file://", "https://app.example")
        assert load(environ=environ).api_origin == ("empty",)
        assert load({"origin": ["", "file:///"]}).origin == ("empty", "file:///")

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("WSSERVER_PROT", "WSSERVER_PORT"),
            ("WSSERVER_MAX_MESSAGE", "WSSERVER_MAX_MESSAGE_SIZE"),
            ("WSSERVER_ORIGINS", "WSSERVER_ORIGIN"),
            ("WSSERVER_CONFIGURATION", "WSSERVER_CONFIG"),
            ("WSSERVER_port", "WSSERVER_PORT"),
        ],
    )
    def test_unknown(self, name, nearest):
        """A variable of ours that is no option is a mistake; the nearest name is told."""
        assert refused(environ={name: "1"}) == (name, f"unknown environment variable; did you mean {nearest}?")

    def test_unknown_but_empty(self):
        """An unknown variable without a value does no harm."""
        assert load(environ={"WSSERVER_FOO": ""}) == Settings()

    def test_bad_value(self):
        """A mistake names the variable, what was expected, and what stood there."""
        assert refused(environ={"WSSERVER_PORT": "http"}) == (
            "WSSERVER_PORT",
            "expected a whole number from 0 to 65535, not 'http'",
        )

    def test_bad_value_of_a_list(self):
        """So does one in a list."""
        where, problem = refused(environ={"WSSERVER_SUBPROTOCOL": "a b/c"})
        assert where == "WSSERVER_SUBPROTOCOL"
        assert "'b/c'" in problem

    def test_long_value(self):
        """A long value is shortened in the message."""
        assert refused(environ={"WSSERVER_PORT": "9" * 1000})[1].endswith("not '" + "9" * 57 + "...'")
        assert refused(environ={"WSSERVER_PORT": "9" * 61})[1].endswith("not '" + "9" * 57 + "...'")
        assert refused(environ={"WSSERVER_PORT": "9" * 60})[1].endswith("not '" + "9" * 60 + "'")

    def test_white_space_in_a_text(self):
        """White space in a text stays."""
        assert load(environ={"WSSERVER_REPLY_PREFIX": " you said: "}).reply_prefix == " you said: "


class FileTests:
    """Options in a TOML file."""

    def test_all_kinds(self, config):
        """Every kind of value is read."""
        path = config(
            "\n".join(
                [
                    "port = 0",
                    'interface = "::"',
                    'listen = ["tcp:1", "unix:/run/ws.sock"]',
                    "origin = []",
                    "allow_any_origin_insecure = true",
                    "max_message_size = 2048",
                    'max_connections = "7"',
                    "open_timeout = 1.5",
                    'close_timeout = "1.5"',
                    "ping_interval = 0",
                    'ping_timeout = "2m"',
                    "anonymous = false",
                    'reply_prefix = "grüß: "',
                ]
            )
        )
        assert load(config=path) == Settings(
            port=0,
            interface="::",
            listen=("tcp:1", "unix:/run/ws.sock"),
            allow_any_origin_insecure=True,
            max_message_size=2048,
            max_connections=7,
            open_timeout=1.5,
            close_timeout=1.5,
            ping_interval=0.0,
            ping_timeout=120.0,
            reply_prefix="grüß: ",
        )

    def test_empty_file(self, config):
        """An empty file sets nothing."""
        assert load(config=config("")) == Settings()

    def test_empty_text(self, config):
        """Unlike in the environment an empty text in the file is a value."""
        path = config('reply_prefix = ""\n')
        assert load(config=path).reply_prefix == ""

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("port", r"is not TOML: Expected '=' after a key in a key/value pair \(at end of document\)"),
            ("port = 1\nport = 2\n", r"is not TOML: Cannot overwrite a value \(at line 2, column 9\)"),
            ("a = 1\n\nport: 2\n", r"is not TOML: .* \(at line 3, column 5\)"),
            ("port = 08", r"is not TOML: .*line 1.*"),
            (b"reply_prefix = '\xff'", r"is not TOML: 'utf-8' codec can't decode byte 0xff in position 16: .*"),
            # int() takes no more digits than this.
            (f"port = {'9' * 5000}", r".*"),
            (f"port = 0x{'f' * 5000}", r".*"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_not_toml(self, config, text, problem):
        """A file that is not TOML is a mistake, and its line is named."""
        path = config(text)
        where, said = refused(config=path)
        assert where.startswith(path)
        assert re.fullmatch(problem, said)

    def test_unreadable(self, tmp_path):
        """A directory is no file."""
        assert refused(config=str(tmp_path)) == (str(tmp_path), "cannot be read: Is a directory")

    @pytest.mark.parametrize(
        ("text", "line", "name", "problem"),
        [
            ("port = 1\n\nprot = 2\n", 3, "prot", "unknown key; did you mean port?"),
            ("port = 1\nmax_mesage_size = 2\n", 2, "max_mesage_size", "unknown key; did you mean max_message_size?"),
            ("zzz = 1", 1, "zzz", "unknown key"),
            ("strict_paths = true", 1, "strict_paths", "unknown key; it is now --catch-all off"),
            ("[server]\nport = 1", 1, "server", "unknown key"),
            ("[[server]]\nport = 1", 1, "server", "unknown key"),
            ("server.port = 1", 1, "server", "unknown key"),
            ("'a b' = 1", 1, "a b", "unknown key"),
            ("[port]\nx = 1", 1, "port", "expected a string or a number, not {'x': 1}"),
            ("\n\n  port = 65536", 3, "port", "expected a whole number from 0 to 65535, not '65536'"),
            ("port = -1", 1, "port", "expected a whole number from 0 to 65535, not '-1'"),
            ("port = 80.0", 1, "port", "expected a whole number from 0 to 65535, not '80.0'"),
            ("port = true", 1, "port", "expected a string or a number, not True"),
            ("port = [80]", 1, "port", "expected a string or a number, not [80]"),
            ('"port" = "x"', 1, "port", "expected a whole number from 0 to 65535, not 'x'"),
            ("# port = 1\nport = 'x'", 2, "port", "expected a whole number from 0 to 65535, not 'x'"),
            ("# a\n#b\nanonymous = 1", 3, "anonymous", "expected true or false, not 1"),
            ("anonymous = 'true'", 1, "anonymous", "expected true or false, not 'true'"),
            ("anonymous = []", 1, "anonymous", "expected true or false, not []"),
            ("origin = 'http://a'", 1, "origin", 'expected a list of strings such as ["a", "b"], not \'http://a\''),
            (
                "origin = ['http://a', 1]",
                1,
                "origin",
                'expected a list of strings such as ["a", "b"], not [\'http://a\', 1]',
            ),
            (
                "log_format = 1979-05-27",
                1,
                "log_format",
                "expected a string or a number, not datetime.date(1979, 5, 27)",
            ),
            (
                "open_timeout = inf",
                1,
                "open_timeout",
                "expected a time from 100ms to 5m, such as 500ms, 25s or 2m, not 'inf'",
            ),
            # What looks like the key stands inside a text.
            (
                'reply_prefix = """\\\nport = 1"""\nport = "x"',
                3,
                "port",
                "expected a whole number from 0 to 65535, not 'x'",
            ),
            # Only LF and CRLF end a line of TOML.
            ('reply_prefix = "\u2028"\nport = "x"', 2, "port", "expected a whole number from 0 to 65535, not 'x'"),
        ],
    )
    def test_mistake(self, config, text, line, name, problem):
        """A mistake names the file, the line and the key, what was expected, and what stood there."""
        path = config(text)
        assert refused(config=path) == (f"{path} line {line}: {name}", problem)

    def test_line_that_cannot_be_told(self, config):
        """Where a key is spelled with escapes, the file and the key are named all the same."""
        path = config(r'"p\u006frt" = "x"')
        assert refused(config=path)[0] == f"{path}: port"


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
    "close_timeout": ({"0.1s": 0.1, "300s": 300.0}, ["0", "301s"]),
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
    "api_key": ({"": "", "secret": "secret"}, ["a\nb"]),
    "api_origin": (
        {"https://example.com": ("https://example.com",), "file://": ("file://",), "null": ("null",)},
        ["*", "example.com", "https://example.com/"],
    ),
    "api_errors": ({"status": "status", "body": "body"}, ["", "200"]),
    **{f"hook_{event}": HOOK_URLS for event in ("connect", "subscribe", "publish", "disconnect")},
    "hook_timeout": ({"100ms": 0.1, "30s": 30.0}, ["", "0", "99ms", "31s"]),
    "token_secret": ({"": "", "s" * 32: "s" * 32, "ü" * 16: "ü" * 16}, ["s" * 31, "s" * 40 + "\n", "s" * 1025]),
    "token_secret_previous": ({"": "", "s" * 32: "s" * 32}, ["s" * 31, "s" * 40 + "\n"]),
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
    "anonymous": ({"true": True, "no": False, "off": False, "0": False}, ["", "maybe"]),
    "catch_all": ({"auto": "auto", "on": "on", "OFF": "off"}, ["", "true", "maybe"]),
    "reply_prefix": (
        {"": "", "> ": "> ", "ü\u2028": "ü\u2028", "\ud7ff\ue000": "\ud7ff\ue000", "x" * 1024: "x" * 1024},
        # Python makes a surrogate of a byte of the command line that is not UTF-8.
        ["\n", "\x1f", "\x7f", "x" * 1025, "\udcff", "\ud800", "\udfff"],
    ),
    "timezone": (
        {"local": None, "LOCAL": None, "UTC": ZoneInfo("UTC"), "Europe/Berlin": ZoneInfo("Europe/Berlin")},
        ["", "Mars/Olympus", "Europe", "zone.tab", "../../../etc/passwd", "/etc/passwd", "UTC\0", "\udcff"],
    ),
    "log_format": ({"text": "text", "json": "json", "JSON": "json"}, ["", "xml"]),
}
"""Option -> text and the value it gives, and texts that are refused."""

GOOD = [(name, text, value) for name, (good, _) in VALUES.items() for text, value in good.items()]
BAD = [(name, text) for name, (_, bad) in VALUES.items() for text in bad]


class ValueTests:
    """What each option takes."""

    def test_complete(self):
        """Every option is tried here."""
        assert sorted(VALUES) == sorted(TABLE)

    @pytest.mark.parametrize(("name", "text", "value"), GOOD)
    def test_good(self, name, text, value):
        """A value in its bounds is taken."""
        assert one(name, text) == value

    @pytest.mark.parametrize(("name", "text"), BAD)
    def test_bad(self, name, text):
        """Any other is refused; the flag, what was expected and what stood there are named."""
        where, problem = refused(flags={name: [text]})
        assert where == TABLE[name].flag
        shown = "what was given" if TABLE[name].secret else repr(text if len(text) <= 60 else text[:57] + "...")
        assert re.fullmatch(r"expected .+, not " + re.escape(shown) + "(; repeat --.+)?", problem)

    @pytest.mark.parametrize("name", ["redis", "api_key", "token_secret", "token_secret_previous"])
    def test_secret(self, name, config):
        """A secret is shown nowhere: not where it is wrong, and not with the settings."""
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
            ("catch_all", "expected auto or on or off, not '?'"),
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
    def test_message(self, name, problem):
        """The message gives an example of what would do."""
        assert refused(flags={name: ["?"]}) == (TABLE[name].flag, problem)

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("subprotocol", "expected a name of letters, digits and !#$%&'*+-.^_`|~, not 'a b'"),
            ("reply_prefix", r"expected at most 1024 characters, none of them a control character, not 'a\nb'"),
        ],
    )
    def test_message_of_a_text(self, name, problem):
        """So does that of an option whose values are words."""
        text = "a b" if name == "subprotocol" else "a\nb"
        assert refused(flags={name: [text]}) == (TABLE[name].flag, problem)


class DurationTests:
    """Times, as they are written for people."""

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
    def test_show(self, seconds, text):
        """A time is written in the unit that fits, and read back as the same time."""
        assert show_duration(seconds) == text
        assert parse_duration(text, 0, 3600 * 24) == seconds

    @pytest.mark.parametrize("text", ["1234.567", "3599.999999", "0.123456", "123.4567ms", "1000.001"])
    def test_exact(self, text):
        """Every time that can be written down is read back from what is shown."""
        seconds = parse_duration(text, 0, 3600)
        assert parse_duration(show_duration(seconds), 0, 3600) == pytest.approx(seconds, abs=1e-9)

    def test_units(self):
        """Milliseconds, seconds, minutes and hours are known."""
        assert [parse_duration(text, 0, 1e9) for text in ("2ms", "2s", "2", "2m", "2h")] == [0.002, 2, 2, 120, 7200]

    def test_bounds(self):
        """Both bounds are inside."""
        assert parse_duration("1", 1, 2) == 1
        assert parse_duration("2", 1, 2) == 2
        with pytest.raises(ValueError, match="expected a time from 1s to 2s, such as 500ms, 25s or 2m"):
            parse_duration("2.000001", 1, 2)


class SizeTests:
    """Sizes, as they are written for people."""

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
    def test_show(self, size, text):
        """A size is written in the largest unit that divides it, and read back as the same size."""
        assert TABLE["max_message_size"].show(size) == text
        assert one("max_message_size", text) == size

    def test_nothing(self):
        """No bytes at all can be shown as well."""
        assert TABLE["max_message_size"].show(0) == "0B"


class ZoneTests:
    """Time zones, as they are written for people."""

    def test_show(self):
        """A zone is written by its name."""
        assert TABLE["timezone"].show(ZoneInfo("Europe/Berlin")) == "Europe/Berlin"
        assert TABLE["timezone"].show(None) == "local"


class UnknownFlagTests:
    """A flag that there is not."""

    @pytest.mark.parametrize(
        ("flag", "problem"),
        [
            ("--prot", "unknown option; did you mean --port?"),
            ("--max-size", "unknown option; did you mean --max-message-size?"),
            ("--max_message_size", "unknown option; did you mean --max-message-size?"),
            ("--confg", "unknown option; did you mean --config?"),
            ("--verson", "unknown option; did you mean --version?"),
            ("--hepl", "unknown option; did you mean --help?"),
            ("--zzzzzzzz", "unknown option"),
            ("--strict-paths", "unknown option; it is now --catch-all off"),
            ("-q", "unknown option"),
        ],
    )
    def test_nearest(self, flag, problem):
        """The nearest flag is named, if there is one."""
        error = unknown_flag(flag, TABLE)
        assert (error.where, error.problem) == (flag, problem)


class GenconfigTests:
    """The file that `wsserver genconfig` writes."""

    def test_sets_nothing(self, config):
        """As it is, it leaves every option at its default."""
        assert tomllib.loads(genconfig()) == {}
        assert load(config=config(genconfig())) == Settings()

    def test_uncommented(self, config):
        """With every option uncommented it still is the defaults, and it has them all in order."""
        text = uncommented()
        assert list(tomllib.loads(text)) == list(TABLE)
        assert load(config=config(text)) == Settings()

    def test_by_channel(self, config):
        """The table for some channels is shown too."""
        text = re.sub(
            r"(?m)^#(?=[a-z_\[]+)", "", genconfig().partition("# Options for the channels")[2].partition("\n")[2]
        )
        parts = {"history_size": 1000, "history_ttl": 600.0, "presence": True, "publish": True, "slow": "drop-oldest"}
        assert load(config=config(text)).channel == (("chat:*", parts),)

    def test_explained(self):
        """Above each option stands what it does, above each group its name."""
        lines = genconfig().splitlines()
        for option in TABLE.values():
            at = lines.index(f"#{option.name} = {option.toml_default()}")
            assert lines[at - 1] == f"# {option.help}"
        groups = [line.split("---")[1].strip() for line in lines if line.startswith("# ---")]
        assert groups == list(dict.fromkeys(option.group for option in TABLE.values()))

    def test_types(self):
        """Numbers, truth values and lists have their own type in TOML; sizes and times are texts with a unit."""
        table = tomllib.loads(uncommented())
        assert table["port"] == 8080
        assert table["anonymous"] is False
        assert table["origin"] == []
        assert table["max_message_size"] == "1MiB"
        assert table["ping_interval"] == "25s"
        assert table["timezone"] == "local"


class ServiceLinkTests:
    """Kubernetes and Docker tell a container of other services by variables that may look like ours."""

    @pytest.mark.parametrize("service", ["", "_REDIS", "_HEADLESS", "_METRICS", "_CANARY", "_API_2"])
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("_SERVICE_HOST", "10.0.0.2"),
            ("_SERVICE_HOST", "fd00::2"),
            ("_SERVICE_PORT", "6379"),
            ("_SERVICE_PORT_HTTP", "80"),
            ("_SERVICE_PORT_HTTP_METRICS", "80"),
            ("_PORT", "tcp://10.0.0.2:6379"),
            ("_PORT", "udp://10.0.0.2:53"),
            ("_PORT", "sctp://10.0.0.2:1"),
            ("_PORT", "tcp://[fd00::2]:6379"),
            ("_PORT_6379_TCP", "tcp://10.0.0.2:6379"),
            ("_PORT_6379_TCP_ADDR", "10.0.0.2"),
            ("_PORT_6379_TCP_PORT", "6379"),
            ("_PORT_6379_TCP_PROTO", "tcp"),
            ("_PORT_53_UDP_PROTO", "udp"),
            ("_NAME", "/web/wsserver"),
            ("_ENV_PATH", "/usr/bin"),
        ],
    )
    def test_variables_of_a_service_whose_name_begins_with_ours_are_ignored(self, service, name, value):
        assert load(environ={f"WSSERVER{service}{name}": value}) == Settings()

    @pytest.mark.parametrize("value", ["1.2.3", "latest"])
    def test_the_version_that_a_container_image_sets_is_ignored(self, value):
        assert load(environ={"WSSERVER_VERSION": value}) == Settings()

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("WSSERVER_PORT", "tcp", "expected a whole number from 0 to 65535, not 'tcp'"),
            ("WSSERVER_PORT", "http://a", "expected a whole number from 0 to 65535, not 'http://a'"),
            ("WSSERVER_REDIS_PORT", "6379", "unknown environment variable"),
            ("WSSERVER_REDIS_PROT", "tcp://10.0.0.2:6379", "unknown environment variable"),
            ("WSSERVER_REDIS_PORT_6379", "tcp://10.0.0.2:6379", "unknown environment variable"),
            ("WSSERVER_SERVICE_HOSTS", "10.0.0.2", "unknown environment variable"),
            ("WSSERVER_NAME", "chat", "unknown environment variable"),
            ("WSSERVER_PROT", "80", "unknown environment variable; did you mean WSSERVER_PORT?"),
        ],
    )
    def test_what_only_looks_alike_is_still_a_mistake(self, name, value, problem):
        where, found = refused(environ={name: value})
        assert where == name
        assert found.startswith(problem)


class ListTests:
    """Values of a repeatable option that somebody has joined."""

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("channel_allow", "news,chat:*"),
            ("channel_allow", "news, chat:*"),
            ("channel_allow", "'my channel'"),
            ("channel_allow", '"news" "chat:*"'),
            ("channel_allow", '["news", "chat:*"]'),
            ("channel_publish", "news,"),
            ("channel_presence", "a,b c"),
            ("origin", "https://a,https://b"),
            ("subprotocol", "a,b"),
            ("listen", "tcp:80,tcp:81"),
            ("listen", "tcp:80, unix:/run/a"),
            ("listen", "'tcp:80'"),
        ],
    )
    def test_commas_quotes_and_brackets_in_the_environment_are_refused(self, name, text):
        where, problem = refused(environ={TABLE[name].variable: text})
        assert where == TABLE[name].variable
        assert problem == (
            f"expected values separated by spaces, without commas, quotes or brackets, not {text!r}; write a value "
            f'with a space or a comma in the configuration file: {name} = ["..."]'
        )

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("channel_allow", "news,chat:*"),
            ("origin", "https://a,https://b"),
            ("subprotocol", "a,b"),
            ("listen", "tcp:1,tcp:2"),
        ],
    )
    def test_commas_in_a_flag_are_refused(self, name, text):
        flag = TABLE[name].flag
        where, problem = refused(flags={name: ["x:y", text]})
        assert where == flag
        assert problem == (
            f"expected one value, not 'x:y', {text!r}; repeat {flag} for each, and write a value with a comma in the "
            "configuration file"
        )

    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("tcp6:80:interface=\\:\\:1 unix:/run/a,b.sock", ("tcp6:80:interface=\\:\\:1", "unix:/run/a,b.sock")),
            ("tcp:80 tcp:81", ("tcp:80", "tcp:81")),
            ("haproxy:tcp:80", ("haproxy:tcp:80",)),
        ],
    )
    def test_commas_within_an_endpoint_are_its_own(self, text, values):
        assert load(environ={"WSSERVER_LISTEN": text}).listen == values

    def test_the_file_takes_names_with_spaces_and_commas(self, config):
        assert load(config=config('channel_allow = ["my channel", "a,b"]')).channel_allow == ("my channel", "a,b")

    def test_a_string_in_the_file_is_refused_with_an_example(self, config):
        _, problem = refused(config=config('channel_allow = "a,b"'))
        assert problem == 'expected a list of strings such as ["a", "b"], not \'a,b\''


class NearestTests:
    """Which unknown names are near enough to a known one."""

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("prot", "port"),
            ("ports", "port"),
            ("interfaces", "interface"),
            ("chanel-allow", "channel-allow"),
            ("max-message", "max-message-size"),
            ("message-size", "max-message-size"),
            ("ping-intervall", "ping-interval"),
            ("reddis", "redis"),
            ("redis-url", "redis"),
            ("origins", "origin"),
            ("apikey", "api-key"),
            ("compress", "compression"),
            ("history", "history-ttl"),
            ("timezon", "timezone"),
            ("time-zone", "timezone"),
        ],
    )
    def test_a_typo_is_corrected(self, config, name, nearest):
        known = nearest.replace("-", "_")
        assert unknown_flag("--" + name, TABLE).problem == f"unknown option; did you mean --{nearest}?"
        variable = PREFIX + name.upper().replace("-", "_")
        assert refused(environ={variable: "1"})[1].endswith(f"; did you mean {PREFIX}{known.upper()}?")
        assert refused(config=config(f"{name} = 1"))[1].endswith(f"; did you mean {known}?")

    @pytest.mark.parametrize(
        "name", ["foo", "bar", "workers", "debug", "quiet", "host", "daemon", "user", "x", "password", "reload", "bind"]
    )
    def test_another_word_is_not(self, config, name):
        assert unknown_flag("--" + name, TABLE).problem == "unknown option"
        assert refused(environ={PREFIX + name.upper(): "1"})[1] == "unknown environment variable"
        assert refused(config=config(f"{name} = 1"))[1] == "unknown key"


class ConstructorTests:
    """Arguments of `Settings` are checked as flags are."""

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
    def test_python_values_and_texts_are_accepted(self, arguments, value):
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
            (
                {"channel": (("a", {"slow": "no"}),)},
                "channel: slow",
                "expected close or drop-oldest or latest, not 'no'",
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
    def test_a_secret_is_not_shown(self, name, value):
        with pytest.raises(SettingError) as caught:
            Settings(**{name: value})
        assert str(caught.value).endswith(", not what was given")
        assert not re.search("hush|5318008", str(caught.value))

    def test_a_changed_copy_is_checked_too(self):
        assert dataclasses.replace(Settings(), port=1).port == 1
        with pytest.raises(SettingError, match="port: expected a whole number"):
            dataclasses.replace(Settings(), port=99999)


class PublicSourcesTests:
    """`Settings.from_environment`, `from_file` and `load`, for applications."""

    def test_from_environment(self, config, monkeypatch):
        path = config("port = 1\nreply_prefix = 'file'")
        environ = {"WSSERVER_CONFIG": path, "WSSERVER_PORT": "2", "PORT": "3"}
        settings = Settings.from_environment(environ)
        assert (settings.port, settings.reply_prefix) == (2, "file")
        monkeypatch.setenv("WSSERVER_PORT", "4")
        assert Settings.from_environment().port == 4

    def test_from_file_does_not_look_at_the_environment(self, config, monkeypatch):
        monkeypatch.setenv("WSSERVER_PORT", "2")
        path = config("reply_prefix = 'file'")
        for kind in (str, Path):
            assert Settings.from_file(kind(path)) == Settings(reply_prefix="file")

    def test_a_mistake_in_the_file_names_the_file_and_the_line(self, config):
        path = config("\nport = 99999")
        with pytest.raises(SettingError, match=re.escape(f"{path} line 2: port: expected a whole number")):
            Settings.from_file(path)


class MissingZonesTests:
    """A machine without a time zone database."""

    @pytest.fixture
    def no_database(self, monkeypatch):
        """Take the system's database and the package tzdata away."""
        before = zoneinfo.TZPATH
        zoneinfo.reset_tzpath([])
        ZoneInfo.clear_cache()
        monkeypatch.setitem(sys.modules, "tzdata", None)
        monkeypatch.setitem(sys.modules, "tzdata.zoneinfo", None)
        yield
        zoneinfo.reset_tzpath(before)
        ZoneInfo.clear_cache()

    def test_it_is_said_and_how_to_get_one(self, no_database):
        problem = "the time zone database is missing on this machine, so 'Europe/Berlin' is unknown: pip install tzdata"
        assert refused(flags={"timezone": ["Europe/Berlin"]}) == ("--timezone", problem)
        with pytest.raises(SettingError, match="timezone: the time zone database is missing"):
            Settings(timezone="Europe/Berlin")
        assert one("timezone", "local") is None


class ByChannelTests:
    """The tables `[[channel]]`."""

    def test_several(self, config):
        """As many as wanted, in their order."""
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
    def test_refused(self, config, text, where, problem):
        """The table and the key are named."""
        place, why = refused(config=config(text))
        assert place.endswith(where)
        assert problem in why
