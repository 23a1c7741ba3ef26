"""The command line: what it explains, what it refuses, and how."""

import socket
import tomllib
from pathlib import Path

import pytest
from environments import Environment
from programs import Finished, run


@pytest.fixture
def twistd(from_wheel: Environment, tmp_path: Path):
    """Run `twistd -n wsserver` with more words, to its end."""

    def call(*words: str, environ: dict[str, str] | None = None) -> Finished:
        command = (from_wheel.bin("twistd"), "-n", "--pidfile=", "wsserver", *words)
        return run(*command, directory=tmp_path, environ=environ)

    return call


@pytest.fixture
def wsserver(from_wheel: Environment, tmp_path: Path):
    """Run `wsserver` with more words, to its end."""

    def call(*words: str | Path, environ: dict[str, str] | None = None) -> Finished:
        return run(from_wheel.bin("wsserver"), *words, directory=tmp_path, environ=environ)

    return call


@pytest.fixture
def taken_port():
    """Give a port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def assert_one_line(done: Finished, *words: str) -> None:
    """The program has ended with 1 and one line on standard error that has these words."""
    assert done.status == 1
    [line] = done.errors.splitlines()
    assert line.startswith("wsserver: ")
    for word in words:
        assert word in line
    assert "Traceback" not in done.output


class HelpTests:
    """--help."""

    def test_every_option_is_explained_with_its_default(self, twistd):
        """The help has all groups, defaults and the three sources of options, in lines of at most 80 characters."""
        done = twistd("--help")
        assert (done.status, done.errors) == (0, "")
        for words in (
            "Where to listen:",
            "--max-message-size SIZE",
            "[default: 1MiB]",
            "[repeatable]",
            "--config FILE",
            "WSSERVER_MAX_MESSAGE_SIZE",
        ):
            assert words in done.output
        assert [line for line in done.output.splitlines() if len(line) > 80] == []

    def test_serve_has_the_same(self, twistd, wsserver):
        """`wsserver serve --help` explains the same options."""
        assert twistd("--help").output.partition("\n")[2] == wsserver("serve", "--help").output.partition("\n")[2]

    def test_wsserver_explains_its_commands(self, wsserver):
        """`wsserver --help` names the commands."""
        done = wsserver("--help")
        assert done.status == 0
        for command in ("serve", "genconfig", "checkconfig", "version"):
            assert command in done.output

    def test_wsserver_without_a_command(self, wsserver):
        """Without a command it says how it is used, on standard error."""
        done = wsserver()
        assert done.status != 0
        assert "usage: wsserver" in done.errors


class MistakeTests:
    """Mistakes end the program with one line on standard error and exit status 1."""

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--prot", "8080"], ["--prot", "did you mean --port?"]),
            (["--max-mesage-size", "1MiB"], ["did you mean --max-message-size?"]),
            (["--port", "http"], ["--port", "'http'", "0 to 65535"]),
            (["--port", "65536"], ["--port", "'65536'"]),
            (["--port"], ["port"]),
            (["--max-message-size", "1 parsec"], ["--max-message-size", "1 parsec", "64KiB"]),
            (["--open-timeout", "0"], ["--open-timeout", "'0'"]),
            (["--compression", "perhaps"], ["--compression", "off or on"]),
            (["--origin", "https://*.example.com"], ["--origin", "no *"]),
            (["--timezone", "Mars/Olympus"], ["--timezone", "Europe/Berlin"]),
            (["--subprotocol", "two words"], ["--subprotocol"]),
            (["--anonymous=yes"], ["anonymous"]),
            (["extra"], ["'extra'"]),
            (["--listen", "nonsense"], ["--listen", "nonsense"]),
            (["--listen", "tpc:0"], ["tpc:0"]),
            (["--listen", "tcp:port=http"], ["tcp:port=http"]),
            (["--listen", "ssl:0:privateKey=/nowhere.pem"], ["ssl:0", "privateKey: cannot read '/nowhere.pem'"]),
            (["--listen", "ssl:0"], ["ssl:0", "cannot read 'server.pem'"]),
            (["--tls-cert", "/nowhere.pem"], ["--tls-cert: cannot read '/nowhere.pem': No such file"]),
            (["--listen", "unix:/nowhere/at/all.sock"], ["unix:/nowhere/at/all.sock"]),
            (["--interface", "192.0.2.1"], ["192.0.2.1"]),
            (["--interface", "nonsense"], ["nonsense"]),
            (["--config", "/nowhere.toml"], ["/nowhere.toml", "No such file"]),
            (["--port", "\x1b[31m"], ["\\x1b[31m"]),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
    )
    def test_on_the_command_line(self, twistd, words, told):
        """The line names the option, quotes the value and says what was expected."""
        assert_one_line(twistd(*words), *told)

    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [
            ("WSSERVER_PORT", "http", ["WSSERVER_PORT", "'http'"]),
            ("WSSERVER_PROT", "1", ["WSSERVER_PROT", "did you mean WSSERVER_PORT?"]),
            ("WSSERVER_CONFIG", "/nowhere.toml", ["/nowhere.toml"]),
            ("WSSERVER_ANONYMOUS", "perhaps", ["true or false"]),
        ],
    )
    def test_in_the_environment(self, twistd, variable, value, told):
        """The line names the variable."""
        assert_one_line(twistd(environ={variable: value}), *told)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("prot = 1\n", ["line 1", "prot", "did you mean port?"]),
            ("# a comment\n\nport = 'http'\n", ["line 3", "'http'"]),
            ("port = \n", ["TOML"]),
            ("origin = 'https://a.example'\n", ["origin", "list of strings"]),
            ("anonymous = 'yes'\n", ["true or false"]),
            ("[wsserver]\nport = 1\n", ["line 1", "wsserver"]),
        ],
        ids=["an unknown key", "a bad value", "no TOML", "no list", "no boolean", "a table"],
    )
    def test_in_the_file(self, twistd, wsserver, tmp_path, text, told):
        """The line names the file, the line and the key; `checkconfig` says the same."""
        file = tmp_path / "wsserver.toml"
        file.write_text(text)
        done = twistd("--config", str(file))
        assert_one_line(done, str(file), *told)
        checked = wsserver("checkconfig", file)
        assert_one_line(checked, str(file), *told)
        assert checked.errors == done.errors


class TakenPortTests:
    """A port that is in use."""

    def test_in_the_foreground(self, twistd, taken_port):
        """One clear line and exit status 1."""
        assert_one_line(twistd("--port", str(taken_port)), str(taken_port), "in use")

    def test_serve(self, wsserver, taken_port):
        """`wsserver serve` the same."""
        assert_one_line(wsserver("serve", "--port", str(taken_port)), str(taken_port), "in use")

    def test_as_a_daemon(self, from_wheel, tmp_path, taken_port):
        """The daemon's parent says so on standard error, and no process and no pid file is left."""
        pidfile, logfile = tmp_path / "wsserver.pid", tmp_path / "wsserver.log"
        options = (f"--pidfile={pidfile}", f"--logfile={logfile}", "wsserver", "--port", str(taken_port))
        done = run(from_wheel.bin("twistd"), *options, directory=tmp_path)
        assert_one_line(done, str(taken_port), "in use")
        assert not pidfile.exists()

    def test_the_second_of_two_listeners(self, twistd, taken_port):
        """Where one of two addresses is in use the server does not start."""
        done = twistd("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"tcp:{taken_port}:interface=127.0.0.1")
        assert_one_line(done, str(taken_port), "in use")


class ConfigTests:
    """genconfig and checkconfig."""

    def test_what_genconfig_writes_is_right(self, wsserver, tmp_path):
        """The file is TOML, has every option commented out, and is fine as it is and with every # removed."""
        written = wsserver("genconfig")
        assert (written.status, written.errors) == (0, "")
        file = tmp_path / "wsserver.toml"
        file.write_text(written.output)
        assert tomllib.loads(written.output) == {}
        assert wsserver("checkconfig", file).output == f"{file} is valid\n"
        lines = [
            line[1:] if line.startswith("#[[") or (line.startswith("#") and line[1:2].isalpha()) else line
            for line in written.output.split("\n")
        ]
        file.write_text("\n".join(lines))
        assert len(tomllib.loads(file.read_text())) >= 15
        assert wsserver("checkconfig", file).status == 0

    def test_checkconfig_reads_the_environment_too(self, wsserver, tmp_path):
        """A bad variable is found beside a good file."""
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 8081\n")
        assert_one_line(wsserver("checkconfig", file, environ={"WSSERVER_PORT": "x"}), "WSSERVER_PORT")

    def test_flags_go_before_the_environment_and_that_before_the_file(self, twistd, taken_port, tmp_path):
        """Of three ports the one of the flag is listened on."""
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 1\nmax_connections = 5\n")
        done = twistd("--config", str(file), "--port", str(taken_port), environ={"WSSERVER_PORT": "2"})
        assert_one_line(done, f"tcp:{taken_port}:")

    def test_an_empty_variable_counts_as_unset(self, wsserver, tmp_path):
        """Variables that a shell script sets to nothing do not disturb."""
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 8081\n")
        assert wsserver("checkconfig", file, environ={"WSSERVER_PORT": "", "WSSERVER_ORIGIN": ""}).status == 0
