"""Options from flags, the environment and a TOML file."""

import re
from zoneinfo import ZoneInfo

import pytest
from options import DEFAULTS, load, refused

from wsserver.config import loader
from wsserver.config.loader import unknown_flag
from wsserver.config.options import PREFIX
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError

SOURCES = [
    # Option; its text in the file, in the environment and as a flag; the values these give.
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
    """Flags override environment variables, which override the file, which overrides the default."""

    @pytest.mark.parametrize(("name", "toml", "text", "flag", "values"), SOURCES, ids=[row[0] for row in SOURCES])
    def test_the_source_with_the_highest_precedence_decides_alone(self, config, name, toml, text, flag, values):
        """Even lists from several sources are not merged."""
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

    def test_each_option_may_come_from_another_source(self, config):
        path = config("port = 1\nmax_connections = 5\nopen_timeout = 7\n")
        settings = load({"port": ["3"]}, {"WSSERVER_MAX_CONNECTIONS": "6"}, path)
        assert (settings.port, settings.max_connections, settings.open_timeout) == (3, 6, 7.0)

    def test_the_last_of_several_flags_counts_unless_it_is_repeatable(self):
        assert load({"port": ["1", "2"]}).port == 2
        assert load({"subprotocol": ["a", "b", "a"]}).subprotocol == ("a", "b", "a")

    def test_a_bad_value_is_refused_even_if_a_flag_overrides_it(self, config):
        assert refused(flags={"port": ["1"]}, environ={"WSSERVER_PORT": "x"})[0] == "WSSERVER_PORT"
        assert refused(flags={"port": ["1"]}, config=config('port = "x"'))[0].endswith("line 1: port")


class ConfigVariableTests:
    """WSSERVER_CONFIG names the file."""

    def test_reads_the_file_that_wsserver_config_names(self, config):
        assert load(environ={"WSSERVER_CONFIG": config("port = 1")}).port == 1

    def test_reads_only_the_file_of_the_flag_if_both_name_one(self, config, tmp_path):
        (tmp_path / "other.toml").write_text("port = 2")
        environ = {"WSSERVER_CONFIG": config("port = 1\nmax_connections = 5")}
        settings = load(environ=environ, config=str(tmp_path / "other.toml"))
        assert (settings.port, settings.max_connections) == (2, 10_000)

    def test_an_empty_variable_names_no_file(self):
        assert load(environ={"WSSERVER_CONFIG": ""}) == Settings()

    def test_a_missing_file_is_refused(self):
        where, problem = refused(environ={"WSSERVER_CONFIG": "/nonexistent/wsserver.toml"})
        assert (where, problem) == ("/nonexistent/wsserver.toml", "cannot be read: No such file or directory")

    def test_the_file_cannot_name_another_file(self, config):
        where, problem = refused(config=config('config = "x"'))
        assert where.endswith("line 1: config")
        assert problem.startswith("unknown key")


class EnvironmentTests:
    """Options as environment variables."""

    @pytest.mark.parametrize("name", TABLE)
    def test_an_empty_variable_leaves_the_default(self, name):
        assert load(environ={PREFIX + name.upper(): ""}) == Settings()

    def test_ignores_variables_without_the_exact_prefix(self):
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
    def test_white_space_separates_the_values_of_a_list(self, text, values):
        assert load(environ={"WSSERVER_ORIGIN": text}).origin == values

    def test_every_source_accepts_the_empty_and_the_file_origin(self, tmp_path):
        """docs/how-to/cross-origin.md documents these spellings."""
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
    def test_an_unknown_variable_is_refused_with_the_nearest_name(self, name, nearest):
        assert refused(environ={name: "1"}) == (name, f"unknown environment variable; did you mean {nearest}?")

    def test_an_unknown_but_empty_variable_is_ignored(self):
        assert load(environ={"WSSERVER_FOO": ""}) == Settings()

    def test_a_bad_value_is_quoted_with_what_was_expected(self):
        assert refused(environ={"WSSERVER_PORT": "http"}) == (
            "WSSERVER_PORT",
            "expected a whole number from 0 to 65535, not 'http'",
        )

    def test_only_the_bad_value_of_a_list_is_quoted(self):
        where, problem = refused(environ={"WSSERVER_SUBPROTOCOL": "a b/c"})
        assert where == "WSSERVER_SUBPROTOCOL"
        assert "'b/c'" in problem

    def test_a_value_over_60_characters_is_shortened_in_the_error(self):
        assert refused(environ={"WSSERVER_PORT": "9" * 1000})[1].endswith("not '" + "9" * 57 + "...'")
        assert refused(environ={"WSSERVER_PORT": "9" * 61})[1].endswith("not '" + "9" * 57 + "...'")
        assert refused(environ={"WSSERVER_PORT": "9" * 60})[1].endswith("not '" + "9" * 60 + "'")

    def test_white_space_around_a_string_is_kept(self):
        assert load(environ={"WSSERVER_REPLY_PREFIX": " you said: "}).reply_prefix == " you said: "


class FileTests:
    """Options in a TOML file."""

    def test_reads_every_kind_of_value(self, config):
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

    def test_an_empty_file_sets_nothing(self, config):
        assert load(config=config("")) == Settings()

    def test_an_empty_string_is_a_value(self, config):
        """An empty environment variable, in contrast, counts as unset."""
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
            # int() accepts at most 4,300 decimal digits.
            (f"port = {'9' * 5000}", r".*"),
            (f"port = 0x{'f' * 5000}", r".*"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_file_that_is_not_toml_is_refused_with_the_parsers_error(self, config, text, problem):
        path = config(text)
        where, found = refused(config=path)
        assert where.startswith(path)
        assert re.fullmatch(problem, found)

    def test_a_directory_is_refused_as_unreadable(self, tmp_path):
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
            # A line that looks like the key is part of a string.
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
    def test_a_mistake_names_file_line_key_and_what_was_expected(self, config, text, line, name, problem):
        path = config(text)
        assert refused(config=path) == (f"{path} line {line}: {name}", problem)

    def test_lines_are_searched_for_only_if_there_is_a_mistake(self, config, monkeypatch):
        """To find a line takes seconds in a file with a hundred tables."""
        monkeypatch.setattr(loader, "_line_of", None)
        monkeypatch.setattr(loader, "_line_in_table", None)
        path = config('port = 1\n[[channel]]\npattern = "a"\nhistory_size = 1\n')
        assert load(config=path).channel == (("a", {"history_size": 1}),)

    def test_a_key_written_with_escapes_is_named_without_its_line(self, config):
        path = config(r'"p\u006frt" = "x"')
        assert refused(config=path)[0] == f"{path}: port"


class UnknownFlagTests:
    """An unknown flag."""

    @pytest.mark.parametrize(
        ("flag", "problem"),
        [
            ("--prot", "unknown option; did you mean --port?"),
            ("--max-mesage-size", "unknown option; did you mean --max-message-size?"),
            ("--max_message_size", "unknown option; did you mean --max-message-size?"),
            ("--confg", "unknown option; did you mean --config?"),
            ("--verson", "unknown option; did you mean --version?"),
            ("--hepl", "unknown option; did you mean --help?"),
            ("--zzzzzzzz", "unknown option"),
            ("--strict-paths", "unknown option; it is now --catch-all off"),
            ("-q", "unknown option"),
        ],
    )
    def test_the_error_suggests_the_nearest_flag_if_there_is_one(self, flag, problem):
        error = unknown_flag(flag, TABLE)
        assert (error.where, error.problem) == (flag, problem)


class ServiceLinkTests:
    """Kubernetes and Docker describe other services by variables that may look like the server's own."""

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
    def test_variables_of_a_service_named_wsserver_or_wsserver_x_are_ignored(self, service, name, value):
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
    def test_a_variable_that_is_not_quite_a_service_link_is_refused(self, name, value, problem):
        where, found = refused(environ={name: value})
        assert where == name
        assert found.startswith(problem)


class ListTests:
    """Values of a repeatable option that were joined into one."""

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
    def test_commas_and_colons_within_an_endpoint_do_not_split_it(self, text, values):
        assert load(environ={"WSSERVER_LISTEN": text}).listen == values

    def test_names_in_the_file_may_contain_spaces_and_commas(self, config):
        assert load(config=config('channel_allow = ["my channel", "a,b"]')).channel_allow == ("my channel", "a,b")

    def test_a_string_instead_of_a_list_is_refused_with_an_example(self, config):
        _, problem = refused(config=config('channel_allow = "a,b"'))
        assert problem == 'expected a list of strings such as ["a", "b"], not \'a,b\''


class SuggestionTests:
    """Suggestions for unknown names."""

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
    def test_the_error_suggests_the_option_that_a_typo_resembles(self, config, name, nearest):
        known = nearest.replace("-", "_")
        assert unknown_flag("--" + name, TABLE).problem == f"unknown option; did you mean --{nearest}?"
        variable = PREFIX + name.upper().replace("-", "_")
        assert refused(environ={variable: "1"})[1].endswith(f"; did you mean {PREFIX}{known.upper()}?")
        assert refused(config=config(f"{name} = 1"))[1].endswith(f"; did you mean {known}?")

    @pytest.mark.parametrize(
        "name",
        ["foo", "bar", "threaded", "debug", "quiet", "host", "daemon", "user", "x", "password", "reload", "bind"],
    )
    def test_the_error_suggests_nothing_for_a_different_word(self, config, name):
        assert unknown_flag("--" + name, TABLE).problem == "unknown option"
        assert refused(environ={PREFIX + name.upper(): "1"})[1] == "unknown environment variable"
        assert refused(config=config(f"{name} = 1"))[1] == "unknown key"


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"metrics": "on"}, "--metrics: needs prometheus_client (the extra [metrics])"),
        ({"redis": "redis://localhost"}, "--redis: needs hiredis (the extra [redis])"),
        ({"token_secret": "x" * 32}, "--token-secret: needs PyJWT (the extra [auth])"),
    ],
)
def test_an_option_whose_library_is_missing_is_refused_with_the_name_of_the_extra(monkeypatch, options, extra):
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    with pytest.raises(SettingError) as raised:
        loader.require_libraries(Settings(**options))
    assert str(raised.value).startswith(extra)
