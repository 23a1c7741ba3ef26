"""The command line of an installed wsserver: help, errors and configuration files."""

import re
import socket
import tomllib
from pathlib import Path

import pytest
from environments import Environment
from programs import Finished, run


@pytest.fixture
def twistd(from_wheel: Environment, tmp_path: Path):
    """Return a function that runs `twistd -n wsserver` with arguments, to its end."""

    def call(*words: str, environ: dict[str, str] | None = None) -> Finished:
        command = (from_wheel.bin("twistd"), "-n", "--pidfile=", "wsserver", *words)
        return run(*command, directory=tmp_path, environ=environ)

    return call


@pytest.fixture
def wsserver(from_wheel: Environment, tmp_path: Path):
    """Return a function that runs `wsserver` with arguments, to its end."""

    def call(*words: str | Path, environ: dict[str, str] | None = None) -> Finished:
        return run(from_wheel.bin("wsserver"), *words, directory=tmp_path, environ=environ)

    return call


@pytest.fixture
def taken_port():
    """Return a port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def assert_one_line(done: Finished, *words: str) -> None:
    """Check that the program exited with 1 and one line on standard error that contains these words."""
    assert done.status == 1
    [line] = done.errors.splitlines()
    assert line.startswith("wsserver: ")
    for word in words:
        assert word in line
    assert "Traceback" not in done.output


class HelpTests:
    """`--help`."""

    def test_twistd_wsserver_help_has_groups_defaults_and_sources_in_80_columns(self, twistd):
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

    def test_serve_help_is_the_same_but_for_the_usage_line(self, twistd, wsserver):
        usage, _, rest = wsserver("serve", "--help").output.partition("\n")
        assert usage == "Usage: wsserver serve [options]"
        assert twistd("--help").output.partition("\n") == (
            "Usage: twistd [twistd options] wsserver [options]",
            "\n",
            rest,
        )

    def test_wsserver_help_names_four_commands(self, wsserver):
        done = wsserver("--help")
        assert done.status == 0
        for command in ("serve", "genconfig", "checkconfig", "version"):
            # argparse puts the description of the longest names on a line of its own.
            assert re.search(rf"\n    {command}[ \n]", done.output)

    def test_wsserver_with_options_only_has_the_help_of_the_server(self, wsserver):
        done = wsserver("--port", "0", "--help")
        assert (done.status, done.errors) == (0, "")
        assert done.output.startswith("Usage: wsserver [options]\n")
        assert "--max-message-size SIZE" in done.output


class InvalidOptionTests:
    """Invalid options end the program with one line on standard error and exit status 1."""

    @pytest.mark.parametrize(
        ("words", "expected"),
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
    def test_a_bad_argument_is_named_with_what_was_expected(self, twistd, words, expected):
        assert_one_line(twistd(*words), *expected)

    @pytest.mark.parametrize(
        ("variable", "value", "expected"),
        [
            ("WSSERVER_PORT", "http", ["WSSERVER_PORT", "'http'"]),
            ("WSSERVER_PROT", "1", ["WSSERVER_PROT", "did you mean WSSERVER_PORT?"]),
            ("WSSERVER_CONFIG", "/nowhere.toml", ["/nowhere.toml"]),
            ("WSSERVER_ANONYMOUS", "perhaps", ["true or false"]),
        ],
    )
    def test_a_bad_variable_is_named_with_what_was_expected(self, twistd, variable, value, expected):
        assert_one_line(twistd(environ={variable: value}), *expected)

    @pytest.mark.parametrize(
        ("text", "expected"),
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
    def test_a_bad_file_is_named_with_line_and_key_also_by_checkconfig(
        self, twistd, wsserver, tmp_path, text, expected
    ):
        file = tmp_path / "wsserver.toml"
        file.write_text(text)
        done = twistd("--config", str(file))
        assert_one_line(done, str(file), *expected)
        checked = wsserver("checkconfig", file)
        assert_one_line(checked, str(file), *expected)
        assert checked.errors == done.errors


class TakenPortTests:
    """A port on which another program listens."""

    def test_twistd_in_the_foreground_exits_with_1_and_one_line(self, twistd, taken_port):
        assert_one_line(twistd("--port", str(taken_port)), str(taken_port), "in use")

    def test_wsserver_serve_exits_with_1_and_one_line(self, wsserver, taken_port):
        assert_one_line(wsserver("serve", "--port", str(taken_port)), str(taken_port), "in use")

    def test_twistd_as_a_daemon_exits_with_1_and_leaves_no_pid_file(self, from_wheel, tmp_path, taken_port):
        """The error line is on the standard error of the command that starts the daemon."""
        pidfile, logfile = tmp_path / "wsserver.pid", tmp_path / "wsserver.log"
        options = (f"--pidfile={pidfile}", f"--logfile={logfile}", "wsserver", "--port", str(taken_port))
        done = run(from_wheel.bin("twistd"), *options, directory=tmp_path)
        assert_one_line(done, str(taken_port), "in use")
        assert not pidfile.exists()

    def test_the_server_does_not_start_if_one_of_two_ports_is_taken(self, twistd, taken_port):
        done = twistd("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"tcp:{taken_port}:interface=127.0.0.1")
        assert_one_line(done, str(taken_port), "in use")


class ConfigurationTests:
    """The commands genconfig and checkconfig, and configuration files."""

    def test_genconfig_writes_a_valid_file_also_with_all_options_uncommented(self, wsserver, tmp_path):
        """As generated, the file sets no option."""
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

    def test_checkconfig_refuses_a_bad_variable_beside_a_valid_file(self, wsserver, tmp_path):
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 8081\n")
        assert_one_line(wsserver("checkconfig", file, environ={"WSSERVER_PORT": "x"}), "WSSERVER_PORT")

    def test_a_port_flag_overrides_the_environment_and_the_file(self, twistd, taken_port, tmp_path):
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 1\nmax_connections = 5\n")
        done = twistd("--config", str(file), "--port", str(taken_port), environ={"WSSERVER_PORT": "2"})
        assert_one_line(done, f"tcp:{taken_port}:")

    def test_checkconfig_ignores_empty_variables(self, wsserver, tmp_path):
        """Shell scripts may set a variable to an empty string."""
        file = tmp_path / "wsserver.toml"
        file.write_text("port = 8081\n")
        assert wsserver("checkconfig", file, environ={"WSSERVER_PORT": "", "WSSERVER_ORIGIN": ""}).status == 0
