"""Tests for wsserver/tap.py: the options of `twistd wsserver`, and the service that it runs."""

import errno
import io
import json
import os
import re
import signal
import socket
import sys
from zoneinfo import ZoneInfo

import pytest
from twisted.application.service import Application, IServiceCollection
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LoggingFile
from twisted.scripts.twistd import ServerOptions

from wsserver import service, tap
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import ListenError
from wsserver.process.exit import die
from wsserver.process.version import show_version
from wsserver.tap import Options, makeService

pytestmark = pytest.mark.usefixtures("clean_environment")


def parse(*arguments):
    """Parse a valid command line."""
    options = Options()
    options.parseOptions(arguments)
    return options.settings


def refused(capsys, *arguments):
    """Parse an invalid command line; return the one line on standard error."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(arguments)
    assert caught.value.code == 1
    return one_line(capsys)


def one_line(capsys):
    """Return the one line on standard error, without the program's name; there must be no other output."""
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("wsserver: ")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")
    assert len(errors.splitlines()) == 1
    return errors.removeprefix("wsserver: ")[:-1]


class FlagTests:
    """The flags on the command line."""

    def test_every_option_has_its_default_without_flags(self):
        assert parse() == Settings()

    def test_values_follow_their_flag_after_a_space_or_an_equals_sign(self):
        arguments = ["--port=0", "--interface", "::1", "--max-message-size", "64KiB", "--open-timeout=500ms"]
        arguments += ["--compression", "on", "--timezone", "Europe/Berlin", "--reply-prefix", "> "]
        assert parse(*arguments) == Settings(
            port=0,
            interface="::1",
            max_message_size=65536,
            open_timeout=0.5,
            compression="on",
            timezone=ZoneInfo("Europe/Berlin"),
            reply_prefix="> ",
        )

    def test_a_flag_without_a_value_switches_its_option_on(self):
        settings = parse("--anonymous", "--allow-any-origin-insecure")
        assert settings == Settings(anonymous=True, allow_any_origin_insecure=True)
        assert parse("--anonymous", "--anonymous").anonymous is True

    def test_a_repeated_list_flag_appends_in_order(self):
        settings = parse("--origin=http://a", "--subprotocol=b", "--origin=null", "--subprotocol=a")
        assert (settings.origin, settings.subprotocol) == (("http://a", "null"), ("b", "a"))
        assert parse("--listen", "tcp:1", "--listen", "unix:x").listen == ("tcp:1", "unix:x")

    def test_the_last_of_a_repeated_single_flag_counts(self):
        assert parse("--port=1", "--port=2").port == 2

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_every_option_has_a_flag(self, option):
        text = {
            "listen": "tcp:1",
            "admin_listen": "tcp:1",
            "origin": "http://a",
            "api_origin": "http://a",
            "subprotocol": "a",
            "trusted_proxy": "10.0.0.0/8",
            "channel_allow": "a",
        }.get(option.name)
        text = "a" if option.name.startswith("channel_") and option.many else text
        default = option.show(option.default)
        arguments = [option.flag] if option.is_flag else [option.flag, text or default]
        value = getattr(parse(*arguments), option.name)
        assert value == ((text,) if option.many else option.is_flag or option.default)

    def test_flags_override_the_environment_which_overrides_the_file(self, tmp_path, monkeypatch):
        (tmp_path / "ws.toml").write_text("port = 1\nmax_connections = 2\nopen_timeout = 3")
        monkeypatch.setenv("WSSERVER_MAX_CONNECTIONS", "4")
        settings = parse("--config", str(tmp_path / "ws.toml"), "--open-timeout", "5s")
        assert (settings.port, settings.max_connections, settings.open_timeout) == (1, 4, 5.0)

    def test_wsserver_config_names_the_file(self, tmp_path, monkeypatch):
        (tmp_path / "ws.toml").write_text("port = 1")
        monkeypatch.setenv("WSSERVER_CONFIG", str(tmp_path / "ws.toml"))
        assert parse().port == 1

    def test_two_parsers_do_not_share_list_values(self):
        assert (parse("--origin=http://a").origin, parse("--origin=http://b").origin) == (("http://a",), ("http://b",))


class InvalidOptionTests:
    """An invalid option ends the program with status 1 and one line that says what to do."""

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--prot", "80"], "--prot: unknown option; did you mean --port?"),
            (["--max_message_size=1"], "--max_message_size: unknown option; did you mean --max-message-size?"),
            (["-z"], "-z: unknown option"),
            (["--zzzzzzzz"], "--zzzzzzzz: unknown option"),
            (["--port", "http"], "--port: expected a whole number from 0 to 65535, not 'http'"),
            (["--port=1", "--port=x"], "--port: expected a whole number from 0 to 65535, not '1', 'x'"),
            (["--port"], "--port: expected a value: a whole number from 0 to 65535"),
            (["--slow"], "--slow: expected a value: close, drop-oldest or latest"),
            (
                ["--max-message-size"],
                "--max-message-size: expected a value: a size from 1B to 1GiB, such as 64KiB or 1MiB",
            ),
            (["--config"], "--config: expected a value: the path of a TOML file"),
            (["--anonymous=yes"], "option --anonymous must not have an argument"),
            (["--m"], "option --m not a unique prefix"),
            (["8080"], "'8080' is not an option: options start with --"),
            (["--port=1", "serve", "now"], "'serve' is not an option: options start with --"),
            (["--config=/nowhere/ws.toml"], "/nowhere/ws.toml: cannot be read: No such file or directory"),
            (
                ["--subprotocol=\x1b[2J"],
                r"--subprotocol: expected a name of letters, digits and !#$%&'*+-.^_`|~, not '\x1b[2J'",
            ),
            (["--a\nb"], r"option --a\nb not recognized"),
            (["a\u2028b"], r"'a\u2028b' is not an option: options start with --"),
            (["--config=/nowhere\n/x"], r"/nowhere\n/x: cannot be read: No such file or directory"),
        ],
    )
    def test_a_bad_argument_is_one_line_that_names_it(self, capsys, arguments, line):
        """Control characters in it are escaped."""
        assert refused(capsys, *arguments) == line

    def test_a_bad_variable_is_named_with_what_was_expected(self, capsys, monkeypatch):
        monkeypatch.setenv("WSSERVER_PORT", "http")
        assert refused(capsys) == "WSSERVER_PORT: expected a whole number from 0 to 65535, not 'http'"

    def test_an_unknown_variable_is_named_with_the_nearest_one(self, capsys, monkeypatch):
        monkeypatch.setenv("WSSERVER_PROT", "1")
        assert refused(capsys) == "WSSERVER_PROT: unknown environment variable; did you mean WSSERVER_PORT?"

    def test_an_unknown_key_is_named_with_file_and_line(self, capsys, tmp_path):
        path = tmp_path / "ws.toml"
        path.write_text("port = 1\nprot = 2\n")
        assert refused(capsys, f"--config={path}") == f"{path} line 2: prot: unknown key; did you mean port?"

    def test_an_empty_config_flag_is_refused(self, capsys):
        """The server must not treat an empty --config as if the flag were missing."""
        refused(capsys, "--config=")

    def test_die_exits_with_1_and_one_escaped_line(self, capsys):
        with pytest.raises(SystemExit) as caught:
            die("a\r\nb\x1b\ud800")
        assert caught.value.code == 1
        assert one_line(capsys) == r"a\r\nb\x1b\ud800"


class VersionTests:
    """`twistd wsserver --version`."""

    def test_prints_the_version_and_exits_with_0(self, capsys):
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr() == (f"{show_version()}\n", "")


class HelpTests:
    """`twistd wsserver --help`."""

    def test_prints_the_help_and_exits_with_0(self, capsys):
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions(["--help"])
        assert not caught.value.code
        output, errors = capsys.readouterr()
        assert output.strip() == str(Options()).strip()
        assert errors == ""

    def test_lists_each_group_once_in_the_order_of_genconfig(self):
        heads = [line[:-1] for line in str(Options()).splitlines() if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)]
        assert heads == [*dict.fromkeys(option.group for option in TABLE.values()), "General"]

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_shows_the_help_default_and_repeatability_of_each_option(self, option):
        text = str(Options())
        flag = re.escape(f"{option.flag} {option.metavar}".strip())
        about = re.search(rf"\n  {flag}\n((?:      .*\n)+)", text)
        words = " ".join(about[1].split())
        assert words.startswith(option.help)
        assert ("[repeatable]" in words) == option.many
        default = re.search(r"\[default: (.*?)\]", words)
        assert (default[1] if default else "") == ("" if option.is_flag else option.show_default())

    def test_lists_config_version_and_help(self):
        for flag in ("--config FILE", "--version", "--help"):
            assert f"\n  {flag}\n" in str(Options())

    @pytest.mark.parametrize("columns", [None, "20", "40", "80", "100", "120", "500"])
    def test_no_line_is_over_100_columns_in_any_terminal(self, monkeypatch, columns):
        if columns is not None:
            monkeypatch.setenv("COLUMNS", columns)
        assert max(len(line) for line in str(Options()).splitlines()) <= 100

    def test_no_line_is_over_80_columns_in_a_terminal_of_80(self):
        assert [line for line in Options().getUsage(80).splitlines() if len(line) > 80] == []

    @pytest.mark.parametrize("columns", ["0", "", "x"])
    def test_ignores_an_invalid_number_of_columns(self, monkeypatch, columns):
        """Some terminals without a size set COLUMNS to 0."""
        monkeypatch.setenv("COLUMNS", columns)
        assert "--port PORT" in str(Options())


@pytest.fixture
def unhandled(monkeypatch):
    """Return the list of errors that reach the original sys.excepthook, which is restored afterwards."""
    errors = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    return errors


@pytest.fixture
def clock(monkeypatch, unhandled):
    """Return a clock in place of the reactor, and restore afterwards what a starting server changes in the process."""
    clock = Clock()
    monkeypatch.setattr("twisted.internet.reactor", clock, raising=False)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield clock
    signal.signal(signal.SIGUSR1, before)


class FakeTwistd(dict):
    """The only part of twistd's own options that is used: a dict without validation."""


def options(twistd=None, *arguments):
    """Parse a command line as twistd does, which sets itself as the parent of the options."""
    parsed = Options()
    parsed.parent = twistd
    parsed.parseOptions(arguments)
    return parsed


class MakeServiceTests:
    """The service that twistd runs."""

    def test_the_service_has_the_settings_and_does_not_run_yet(self, clock):
        made = makeService(options(None, "--port=1"))
        assert (made.name, made.settings.port, made.running) == ("wsserver", 1, 0)
        assert made.ports == []
        assert clock.getDelayedCalls() == []

    def test_an_invalid_plugin_exits_with_1_and_one_line(self, clock, monkeypatch, capsys):
        monkeypatch.setattr(service, "getPlugins", lambda interface: [object()])
        with pytest.raises(SystemExit) as caught:
            makeService(options())
        assert caught.value.code == 1
        assert one_line(capsys).endswith("invalid name None: expected one lower-case word")

    def test_a_later_listen_error_is_one_line_without_a_traceback(self, clock, unhandled, capsys):
        makeService(options())
        error = ListenError("tcp:80", "Permission\ndenied")
        sys.excepthook(ListenError, error, None)
        assert one_line(capsys) == r"cannot listen on tcp:80: Permission\ndenied"
        assert unhandled == []

    def test_any_other_error_goes_to_the_original_excepthook(self, clock, unhandled, capsys):
        makeService(options())
        error = ZeroDivisionError()
        sys.excepthook(ZeroDivisionError, error, None)
        assert unhandled == [(ZeroDivisionError, error, None)]
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_twistds_log_file_has_the_format_of_the_option(self, clock, tmp_path, log_format):
        twistd = FakeTwistd(nodaemon=True, logfile=str(tmp_path / "ws.log"), syslog=False)
        application = Application("wsserver")
        makeService(options(twistd, "--log-format", log_format)).setServiceParent(application)
        event = {"log_format": "hello\n", "log_time": 0.0, "log_namespace": "x"}
        application.getComponent(ILogObserver)(event)
        line = (tmp_path / "ws.log").read_text()
        if log_format == "json":
            assert json.loads(line)["message"] == "hello\n"
        else:
            assert line.endswith(r"[x#-] hello\n" + "\n")

    def test_the_real_twistd_finds_the_command_and_its_log_file(self, clock, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        twistd = ServerOptions()
        twistd.parseOptions(["--nodaemon", "--logfile=ws.log", "wsserver", "--port=1"])
        made = makeService(twistd.subOptions)
        application = Application("wsserver")
        made.setServiceParent(application)
        assert list(IServiceCollection(application)) == [made]
        assert made.settings.port == 1
        assert application.getComponent(ILogObserver) is not None
        assert (tmp_path / "ws.log").exists()

    @pytest.mark.parametrize(
        "twistd",
        [
            None,
            # twist, the newer program, has no such option and a log of its own.
            FakeTwistd(),
            FakeTwistd(nodaemon=True, syslog=True, logfile="/nowhere/ws.log"),
        ],
    )
    def test_installs_no_log_observer_if_another_log_was_chosen(self, clock, twistd):
        application = Application("wsserver")
        makeService(options(twistd)).setServiceParent(application)
        assert application.getComponent(ILogObserver) is None

    def test_an_error_goes_to_the_terminal_while_twistd_logs_standard_error(self, clock, monkeypatch):
        """twistd replaces sys.stderr by its log."""
        logged, terminal = [], io.StringIO()
        makeService(options())
        monkeypatch.setattr(sys, "stderr", LoggingFile(Logger(observer=logged.append)))
        monkeypatch.setattr(sys, "__stderr__", terminal)
        sys.excepthook(ListenError, ListenError("tcp:80", "Permission denied"), None)
        assert logged == []
        assert terminal.getvalue() == "wsserver: cannot listen on tcp:80: Permission denied\n"

    def test_every_option_has_a_method_documented_with_its_help(self):
        """Twisted reads the docstring for shell completion."""
        for option in TABLE.values():
            assert getattr(tap.Options, f"opt_{option.name}").__doc__ == option.help


class FakeSocket:
    """A socket that can only be bound, unless its address is taken; it does not check permissions for ports."""

    def __init__(self, taken):
        self.taken = taken

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def setsockopt(self, level, name, value):
        pass

    def bind(self, address):
        if address[:2] in self.taken:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class FakeSockets:
    """The socket module with fake sockets; host names are resolved for real."""

    def __init__(self, *taken):
        self.taken = taken

    def socket(self, family, kind, protocol):
        return FakeSocket(self.taken)

    def __getattr__(self, name):
        return getattr(socket, name)


DAEMON = FakeTwistd(nodaemon=False)


class DaemonTests:
    """`twistd wsserver` without -n: errors are reported while the program still has a terminal."""

    @pytest.fixture(autouse=True)
    def taken(self, monkeypatch):
        """Make a port of each address family appear taken."""
        monkeypatch.setattr(tap, "socket", FakeSockets(("127.0.0.1", 1), ("::1", 1)))

    @pytest.mark.parametrize("arguments", [["--port=2"], ["--port=0"], ["--interface=::1"], ["--listen=tcp:1"]])
    def test_makes_the_service_if_the_port_is_free_or_not_checked(self, clock, arguments):
        """The server does not check the endpoints of --listen in advance."""
        assert makeService(options(DAEMON, *arguments)).name == "wsserver"

    @pytest.mark.parametrize(
        ("arguments", "endpoint"),
        [
            (["--port=1"], "tcp:1:interface=127.0.0.1"),
            (["--port=1", "--interface=::1"], r"tcp6:1:interface=\:\:1"),
        ],
    )
    def test_a_taken_port_exits_with_1_and_one_line_with_its_endpoint(self, clock, capsys, arguments, endpoint):
        with pytest.raises(SystemExit) as caught:
            makeService(options(DAEMON, *arguments))
        assert caught.value.code == 1
        line = one_line(capsys)
        assert line.startswith(
            f"cannot listen on {endpoint}: Address already in use; another program listens on this port"
        )

    def test_an_interface_that_does_not_resolve_is_reported_in_one_line(self, clock, capsys):
        with pytest.raises(SystemExit):
            makeService(options(DAEMON, "--interface=a..b"))
        assert one_line(capsys).startswith("cannot listen on tcp:8080:interface=a..b: ")

    @pytest.mark.parametrize("twistd", [None, FakeTwistd(), FakeTwistd(nodaemon=True)])
    def test_does_not_check_the_port_in_the_foreground(self, clock, twistd):
        """In the foreground, the error occurs when the server listens, and is printed then."""
        assert makeService(options(twistd, "--port=1")).settings.port == 1
