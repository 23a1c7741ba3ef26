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
    """Parse a command line that has to be taken."""
    options = Options()
    options.parseOptions(arguments)
    return options.settings


def refused(capsys, *arguments):
    """Parse a command line that has to be refused; give the one line on standard error."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(arguments)
    assert caught.value.code == 1
    return one_line(capsys)


def one_line(capsys):
    """Give the one line on standard error, without the program's name; there must be nothing else."""
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("wsserver: ")
    assert errors.count("\n") == 1
    assert errors.endswith("\n")
    assert len(errors.splitlines()) == 1
    return errors.removeprefix("wsserver: ")[:-1]


class FlagTests:
    """The flags on the command line."""

    def test_none(self):
        """Without any flag all options are at their defaults."""
        assert parse() == Settings()

    def test_kinds(self):
        """Numbers, texts, sizes, times, choices and zones each follow their flag, with a space or =."""
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

    def test_flags_without_value(self):
        """What is on or off is switched on by its name alone."""
        settings = parse("--anonymous", "--allow-any-origin-insecure")
        assert settings == Settings(anonymous=True, allow_any_origin_insecure=True)
        assert parse("--anonymous", "--anonymous").anonymous is True

    def test_repeatable(self):
        """Lists grow with each flag, in order."""
        settings = parse("--origin=http://a", "--subprotocol=b", "--origin=null", "--subprotocol=a")
        assert (settings.origin, settings.subprotocol) == (("http://a", "null"), ("b", "a"))
        assert parse("--listen", "tcp:1", "--listen", "unix:x").listen == ("tcp:1", "unix:x")

    def test_last_counts(self):
        """Of any other flag given twice the last counts."""
        assert parse("--port=1", "--port=2").port == 2

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_every_option(self, option):
        """Every option has its flag."""
        text = {
            "listen": "tcp:1",
            "origin": "http://a",
            "api_origin": "http://a",
            "subprotocol": "a",
            "channel_allow": "a",
        }.get(option.name)
        text = "a" if option.name.startswith("channel_") and option.many else text
        default = option.show(option.default)
        arguments = [option.flag] if option.is_flag else [option.flag, text or default]
        value = getattr(parse(*arguments), option.name)
        assert value == ((text,) if option.many else option.is_flag or option.default)

    def test_config(self, tmp_path, monkeypatch):
        """Flags go before the environment, and that before the file."""
        (tmp_path / "ws.toml").write_text("port = 1\nmax_connections = 2\nopen_timeout = 3")
        monkeypatch.setenv("WSSERVER_MAX_CONNECTIONS", "4")
        settings = parse("--config", str(tmp_path / "ws.toml"), "--open-timeout", "5s")
        assert (settings.port, settings.max_connections, settings.open_timeout) == (1, 4, 5.0)

    def test_config_in_the_environment(self, tmp_path, monkeypatch):
        """The file may be named in the environment."""
        (tmp_path / "ws.toml").write_text("port = 1")
        monkeypatch.setenv("WSSERVER_CONFIG", str(tmp_path / "ws.toml"))
        assert parse().port == 1

    def test_two_parsers(self):
        """Two servers of one program do not share their flags."""
        assert (parse("--origin=http://a").origin, parse("--origin=http://b").origin) == (("http://a",), ("http://b",))


class MistakeTests:
    """Mistakes end the program with 1 and one line that says what to do."""

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--prot", "80"], "--prot: unknown option; did you mean --port?"),
            (["--max_message_size=1"], "--max_message_size: unknown option; did you mean --max-message-size?"),
            (["-z"], "-z: unknown option"),
            (["--zzzzzzzz"], "--zzzzzzzz: unknown option"),
            (["--port", "http"], "--port: expected a whole number from 0 to 65535, not 'http'"),
            (["--port=1", "--port=x"], "--port: expected a whole number from 0 to 65535, not '1', 'x'"),
            (["--port"], "option --port requires argument"),
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
    def test_line(self, capsys, arguments, line):
        """The line names the flag and what was expected, whatever it was given."""
        assert refused(capsys, *arguments) == line

    def test_environment(self, capsys, monkeypatch):
        """So it does for a variable."""
        monkeypatch.setenv("WSSERVER_PORT", "http")
        assert refused(capsys) == "WSSERVER_PORT: expected a whole number from 0 to 65535, not 'http'"

    def test_unknown_variable(self, capsys, monkeypatch):
        """So it does for a variable that is no option."""
        monkeypatch.setenv("WSSERVER_PROT", "1")
        assert refused(capsys) == "WSSERVER_PROT: unknown environment variable; did you mean WSSERVER_PORT?"

    def test_file(self, capsys, tmp_path):
        """So it does for a line of the file."""
        path = tmp_path / "ws.toml"
        path.write_text("port = 1\nprot = 2\n")
        assert refused(capsys, f"--config={path}") == f"{path} line 2: prot: unknown key; did you mean port?"

    def test_no_file(self, capsys):
        """An empty name is no file, so the server does not start as if none had been asked for."""
        refused(capsys, "--config=")

    def test_die(self, capsys):
        """Whatever the error, it is one line without control characters."""
        with pytest.raises(SystemExit) as caught:
            die("a\r\nb\x1b\ud800")
        assert caught.value.code == 1
        assert one_line(capsys) == r"a\r\nb\x1b\ud800"


class VersionTests:
    """`twistd wsserver --version`."""

    def test_version(self, capsys):
        """The version is printed and the program ends."""
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr() == (f"{show_version()}\n", "")


class HelpTests:
    """`twistd wsserver --help`."""

    def test_help(self, capsys):
        """The help is printed and the program ends."""
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions(["--help"])
        assert not caught.value.code
        output, errors = capsys.readouterr()
        assert output.strip() == str(Options()).strip()
        assert errors == ""

    def test_groups(self):
        """Options stand in groups, each group once, in the order of the file that genconfig writes."""
        heads = [line[:-1] for line in str(Options()).splitlines() if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)]
        assert heads == [*dict.fromkeys(option.group for option in TABLE.values()), "General"]

    @pytest.mark.parametrize("option", TABLE.values(), ids=TABLE)
    def test_option(self, option):
        """Every option is there with its help, its default, and whether it may be repeated."""
        text = str(Options())
        flag = re.escape(f"{option.flag} {option.metavar}".strip())
        about = re.search(rf"\n  {flag}\n((?:      .*\n)+)", text)
        words = " ".join(about[1].split())
        assert words.startswith(option.help)
        assert ("[repeatable]" in words) == option.many
        default = re.search(r"\[default: (.*?)\]", words)
        assert (default[1] if default else "") == ("" if option.is_flag else option.show_default())

    def test_general(self):
        """So are the options that every command has."""
        for flag in ("--config FILE", "--version", "--help"):
            assert f"\n  {flag}\n" in str(Options())

    @pytest.mark.parametrize("columns", [None, "20", "40", "80", "100", "120", "500"])
    def test_width(self, monkeypatch, columns):
        """However wide the terminal, no line is over 100 columns."""
        if columns is not None:
            monkeypatch.setenv("COLUMNS", columns)
        assert max(len(line) for line in str(Options()).splitlines()) <= 100

    def test_usual_terminal(self):
        """In a terminal of 80 columns no line is broken by it."""
        assert [line for line in Options().getUsage(80).splitlines() if len(line) > 80] == []

    @pytest.mark.parametrize("columns", ["0", "", "x"])
    def test_odd_width(self, monkeypatch, columns):
        """A width that is none, as some terminals without a size have it, does not matter."""
        monkeypatch.setenv("COLUMNS", columns)
        assert "--port PORT" in str(Options())


@pytest.fixture
def fallen(monkeypatch):
    """Give the list of errors that come to Python's own hook, and put that hook back in the end."""
    errors = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    return errors


@pytest.fixture
def clock(monkeypatch, fallen):
    """Give a clock in place of the reactor, and put back what a starting server changes in the program."""
    clock = Clock()
    monkeypatch.setattr("twisted.internet.reactor", clock, raising=False)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield clock
    signal.signal(signal.SIGUSR1, before)


class FakeTwistd(dict):
    """What is used of twistd's own options: a dict. It checks none of them."""


def options(twistd=None, *arguments):
    """Parse a command line as twistd does, which sets itself as the parent."""
    parsed = Options()
    parsed.parent = twistd
    parsed.parseOptions(arguments)
    return parsed


class MakeServiceTests:
    """The service that twistd runs."""

    def test_service(self, clock):
        """It has the settings of the command line and twistd's reactor, and does nothing yet."""
        made = makeService(options(None, "--port=1"))
        assert (made.name, made.settings.port, made.running) == ("wsserver", 1, 0)
        assert made.ports == []
        assert clock.getDelayedCalls() == []

    def test_bad_plugin(self, clock, monkeypatch, capsys):
        """A command that does not fit ends the program with one line."""
        monkeypatch.setattr(service, "getPlugins", lambda interface: [object()])
        with pytest.raises(SystemExit) as caught:
            makeService(options())
        assert caught.value.code == 1
        assert one_line(capsys).endswith("invalid name None: expected one lower-case word")

    def test_error_at_the_start(self, clock, fallen, capsys):
        """An error of ours that ends the program later is one line, not a traceback."""
        makeService(options())
        error = ListenError("tcp:80", "Permission\ndenied")
        sys.excepthook(ListenError, error, None)
        assert one_line(capsys) == r"cannot listen on tcp:80: Permission\ndenied"
        assert fallen == []

    def test_other_error(self, clock, fallen, capsys):
        """Any other error is shown as before."""
        makeService(options())
        error = ZeroDivisionError()
        sys.excepthook(ZeroDivisionError, error, None)
        assert fallen == [(ZeroDivisionError, error, None)]
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_log(self, clock, tmp_path, log_format):
        """The log file of twistd gets what the option says."""
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

    def test_real_twistd(self, clock, tmp_path, monkeypatch):
        """It fits twistd's real options, which find it by its name."""
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
    def test_other_logs(self, clock, twistd):
        """Where another log was asked for, the service leaves it alone."""
        application = Application("wsserver")
        makeService(options(twistd)).setServiceParent(application)
        assert application.getComponent(ILogObserver) is None

    def test_error_once_the_log_is_open(self, clock, monkeypatch):
        """Then the line goes to the terminal, not into the log that twistd has put in the place of standard error."""
        logged, terminal = [], io.StringIO()
        makeService(options())
        monkeypatch.setattr(sys, "stderr", LoggingFile(Logger(observer=logged.append)))
        monkeypatch.setattr(sys, "__stderr__", terminal)
        sys.excepthook(ListenError, ListenError("tcp:80", "Permission denied"), None)
        assert logged == []
        assert terminal.getvalue() == "wsserver: cannot listen on tcp:80: Permission denied\n"

    def test_table(self):
        """Every option of the table has its method, documented for completion in shells."""
        for option in TABLE.values():
            assert getattr(tap.Options, f"opt_{option.name}").__doc__ == option.help


class FakeSocket:
    """A socket that can only be bound, where the address is not taken. It cannot show who may bind to which port."""

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
    """The socket module with sockets that never leave the program; names of addresses are looked up for real."""

    def __init__(self, *taken):
        self.taken = taken

    def socket(self, family, kind, protocol):
        return FakeSocket(self.taken)

    def __getattr__(self, name):
        return getattr(socket, name)


DAEMON = FakeTwistd(nodaemon=False)


class DaemonTests:
    """`twistd wsserver` without -n: what goes wrong is said while there is a terminal."""

    @pytest.fixture(autouse=True)
    def taken(self, monkeypatch):
        """Take a port of each kind of address."""
        monkeypatch.setattr(tap, "socket", FakeSockets(("127.0.0.1", 1), ("::1", 1)))

    @pytest.mark.parametrize("arguments", [["--port=2"], ["--port=0"], ["--interface=::1"], ["--listen=tcp:1"]])
    def test_free(self, clock, arguments):
        """Where the port is free, or the endpoint is one that is not looked into, the service is made."""
        assert makeService(options(DAEMON, *arguments)).name == "wsserver"

    @pytest.mark.parametrize(
        ("arguments", "endpoint"),
        [
            (["--port=1"], "tcp:1:interface=127.0.0.1"),
            (["--port=1", "--interface=::1"], r"tcp6:1:interface=\:\:1"),
        ],
    )
    def test_taken(self, clock, capsys, arguments, endpoint):
        """Where it is taken the program ends with one line that names it."""
        with pytest.raises(SystemExit) as caught:
            makeService(options(DAEMON, *arguments))
        assert caught.value.code == 1
        line = one_line(capsys)
        assert line.startswith(
            f"cannot listen on {endpoint}: Address already in use; another program listens on this port"
        )

    def test_no_address(self, clock, capsys):
        """An interface that cannot be an address is one line too."""
        with pytest.raises(SystemExit):
            makeService(options(DAEMON, "--interface=a..b"))
        assert one_line(capsys).startswith("cannot listen on tcp:8080:interface=a..b: ")

    @pytest.mark.parametrize("twistd", [None, FakeTwistd(), FakeTwistd(nodaemon=True)])
    def test_foreground(self, clock, twistd):
        """In the foreground nothing is tried beforehand: the error comes from listening itself."""
        assert makeService(options(twistd, "--port=1")).settings.port == 1
