"""Tests for wsserver/cli/main.py: the program `wsserver`."""

import os
import signal
import subprocess
import sys
import tomllib

import pytest

from wsserver.cli.main import main
from wsserver.config.genconfig import genconfig
from wsserver.process.version import show_version

pytestmark = pytest.mark.usefixtures("clean_environment")


class VersionTests:
    """`wsserver version`."""

    def test_prints_the_version(self, capsys):
        main(["version"])
        assert capsys.readouterr() == (f"{show_version()}\n", "")

    def test_reads_sys_argv_if_called_without_arguments(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["wsserver", "version"])
        main()
        assert capsys.readouterr().out == f"{show_version()}\n"


class GenconfigTests:
    """`wsserver genconfig`."""

    def test_prints_only_the_configuration_file(self, capsys):
        """The file is valid TOML that sets nothing."""
        main(["genconfig"])
        output, errors = capsys.readouterr()
        assert output.rstrip("\n") == genconfig().rstrip("\n")
        assert errors == ""
        assert tomllib.loads(output) == {}

    def test_checkconfig_accepts_its_output(self, capsys, tmp_path):
        main(["genconfig"])
        (tmp_path / "ws.toml").write_text(capsys.readouterr().out)
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr().out == f"{tmp_path}/ws.toml is valid\n"


class CheckconfigTests:
    """`wsserver checkconfig FILE`."""

    def refused(self, capsys, path):
        """Check a file that is invalid; return the one line on standard error."""
        with pytest.raises(SystemExit) as caught:
            main(["checkconfig", str(path)])
        output, errors = capsys.readouterr()
        assert caught.value.code == 1
        assert output == ""
        assert errors.startswith("wsserver: ")
        assert len(errors.splitlines()) == 1
        return errors.removeprefix("wsserver: ").rstrip("\n")

    def test_prints_that_a_valid_file_is_valid(self, capsys, tmp_path):
        (tmp_path / "ws.toml").write_text('port = 1\norigin = ["https://example.com"]\n')
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr() == (f"{tmp_path}/ws.toml is valid\n", "")

    def test_a_bad_value_exits_with_1_and_names_file_line_and_key(self, capsys, tmp_path):
        path = tmp_path / "ws.toml"
        path.write_text("port = 65536\n")
        expected = f"{path} line 1: port: expected a whole number from 0 to 65535, not '65536'"
        assert self.refused(capsys, path) == expected

    def test_an_option_that_needs_another_one_exits_with_1(self, capsys, tmp_path):
        path = tmp_path / "ws.toml"
        path.write_text("hook_message_raw = true\n")
        assert self.refused(capsys, path) == "--hook-message-raw: expected --hook-message to be set as well"

    def test_a_missing_file_exits_with_1_and_is_named(self, capsys, tmp_path):
        path = tmp_path / "nowhere.toml"
        assert self.refused(capsys, path) == f"{path}: cannot be read: No such file or directory"

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ('tls_cert = "{}"', "--tls-cert: cannot read '{}': No such file or directory"),
            ('tls_key = "{}"', "--tls-key: requires --tls-cert"),
            (
                'listen = ["ssl:0:privateKey={}"]',
                "cannot listen on ssl:0:privateKey={}: privateKey: cannot read '{}': No",
            ),
        ],
    )
    def test_a_certificate_or_key_that_cannot_be_used_is_refused(self, capsys, tmp_path, line, problem):
        path, missing = tmp_path / "ws.toml", str(tmp_path / "missing.pem")
        path.write_text(line.replace("{}", missing))
        assert self.refused(capsys, path).startswith(problem.replace("{}", missing))

    def test_an_empty_file_name_exits_with_1(self, capsys):
        self.refused(capsys, "")

    def test_a_bad_variable_in_the_environment_exits_with_1(self, capsys, tmp_path, monkeypatch):
        """The server would read both the environment and the file."""
        (tmp_path / "ws.toml").write_text("")
        monkeypatch.setenv("WSSERVER_PORT", "x")
        expected = "WSSERVER_PORT: expected a whole number from 0 to 65535, not 'x'"
        assert self.refused(capsys, tmp_path / "ws.toml") == expected

    def test_checks_its_argument_instead_of_wsserver_config(self, capsys, tmp_path, monkeypatch):
        (tmp_path / "ws.toml").write_text("")
        monkeypatch.setenv("WSSERVER_CONFIG", str(tmp_path / "nowhere.toml"))
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr().out == f"{tmp_path}/ws.toml is valid\n"

    @pytest.mark.parametrize("name", ["a\x1b[2J.toml", "a\nb.toml", "\udcff.toml"], ids=ascii)
    def test_escapes_control_characters_of_the_file_name(self, capsys, tmp_path, name):
        """The control characters of the name do not split the output into several lines."""
        (tmp_path / name).write_text("")
        main(["checkconfig", str(tmp_path / name)])
        output = capsys.readouterr().out
        assert output.endswith(" is valid\n")
        assert len(output.splitlines()) == 1
        assert "\x1b" not in output


class ServeTests:
    """`wsserver serve`."""

    @pytest.mark.parametrize(
        "arguments",
        [[], ["--port", "0"], ["--help"], ["--version"], ["--port=1", "genconfig"], ["--reply-prefix", "two words"]],
    )
    def test_passes_its_arguments_to_twistd_in_the_foreground(self, monkeypatch, arguments):
        """The empty --pidfile makes twistd write no process file."""
        runs = []
        monkeypatch.setattr("twisted.scripts.twistd.run", lambda: runs.append(list(sys.argv)))
        monkeypatch.setattr(sys, "argv", ["wsserver"])
        main(["serve", *arguments])
        assert runs == [["twistd", "--nodaemon", "--pidfile=", "wsserver", *arguments]]

    def test_passes_the_arguments_of_sys_argv_to_twistd(self, monkeypatch):
        runs = []
        monkeypatch.setattr("twisted.scripts.twistd.run", lambda: runs.append(list(sys.argv)))
        monkeypatch.setattr(sys, "argv", ["wsserver", "serve", "--port=1"])
        main()
        assert runs == [["twistd", "--nodaemon", "--pidfile=", "wsserver", "--port=1"]]


class UsageTests:
    """Command lines without a valid command, and requests for help."""

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["start"], "invalid choice: 'start'"),
            (["checkconfig"], "the following arguments are required: FILE"),
            (["checkconfig", "a", "b"], "unrecognized arguments: b"),
            (["version", "x"], "unrecognized arguments: x"),
        ],
    )
    def test_an_invalid_command_line_exits_with_2_and_names_the_problem(self, capsys, arguments, problem):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert problem in capsys.readouterr().err

    def test_help_lists_the_commands_and_exits_with_0(self, capsys):
        with pytest.raises(SystemExit) as caught:
            main(["--help"])
        assert caught.value.code == 0
        output = capsys.readouterr().out
        for command in ("serve", "genconfig", "checkconfig", "version"):
            assert f"\n    {command}" in output

    def test_version_option_prints_the_same_as_the_command(self, capsys):
        with pytest.raises(SystemExit) as caught:
            main(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr() == (f"{show_version()}\n", "")

    @pytest.mark.parametrize(
        "command", ["publish", "subscribe", "gentoken", "checktoken", "genconfig", "checkconfig", "version"]
    )
    def test_help_of_a_command_lists_its_arguments_and_exit_status(self, capsys, command):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        words = " ".join(capsys.readouterr().out.split())
        assert words.startswith(f"usage: wsserver {command} ")
        assert "75 for a temporary failure" in words


class ScriptTests:
    """`wsserver publish` and `wsserver subscribe`; tests/integration/cli/test_command_line.py tests what they do."""

    @pytest.mark.parametrize("command", ["publish", "subscribe"])
    def test_help_warns_that_other_users_can_read_a_command_line(self, capsys, command):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        output = capsys.readouterr().out
        assert output.startswith(f"usage: wsserver {command} ")
        assert "other users can read a command line" in " ".join(output.split())

    def test_publish_imports_neither_twisted_nor_autobahn(self):
        """Scripts run it often, so it must start fast."""
        program = "import sys, wsserver.cli.main, wsserver.cli.publish; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert {"twisted", "autobahn"} & set(done.stdout.split()) == set()

    @pytest.mark.parametrize(
        "arguments", [["version"], ["--version"], ["--help"], ["genconfig"], ["publish", "--help"]]
    )
    def test_imports_neither_twisted_autobahn_nor_openssl_for(self, arguments):
        """Importing the whole server takes half a second."""
        program = (
            "import atexit, sys; from wsserver.cli.main import main;"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main(sys.argv[1:])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, timeout=60
        )
        assert done.stdout != ""
        assert {"twisted", "autobahn", "OpenSSL"} & set(done.stderr.split()) == set()

    def test_help_of_the_program_lists_publish_and_subscribe(self, capsys):
        with pytest.raises(SystemExit):
            main(["--help"])
        output = capsys.readouterr().out
        assert "\n    publish" in output
        assert "\n    subscribe" in output


class ClosedPipeTests:
    """Standard output whose reader has closed it, as in `wsserver genconfig | head -1`."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ["genconfig"],
            ["version"],
            ["checkconfig", os.devnull],
            ["gentoken"],
            ["serve", "--help"],
            ["serve", "--version"],
        ],
    )
    def test_the_program_ends_by_sigpipe_without_a_traceback(self, arguments):
        reading, writing = os.pipe()
        os.close(reading)
        program = f"from wsserver.cli.main import main; main({arguments!r})"
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env=os.environ | {"WSSERVER_TOKEN_SECRET": "x" * 32},
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("words", [[], ["--port", "0"], ["serve"], ["doctor", "ws://127.0.0.1"]], ids=" ".join)
def test_ctrl_c_while_the_modules_are_imported_ends_the_program_without_a_traceback(words):
    """Importing the server takes a second on a busy machine."""
    code = f"""
import wsserver.cli.main as program

def interrupt(name):
    raise KeyboardInterrupt

program.import_module = interrupt
program.main({words!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
