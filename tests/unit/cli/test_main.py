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

    def test_version(self, capsys):
        """The version is printed."""
        main(["version"])
        assert capsys.readouterr() == (f"{show_version()}\n", "")

    def test_arguments_of_the_process(self, capsys, monkeypatch):
        """Without arguments in the call those of the process count."""
        monkeypatch.setattr(sys, "argv", ["wsserver", "version"])
        main()
        assert capsys.readouterr().out == f"{show_version()}\n"


class GenconfigTests:
    """`wsserver genconfig`."""

    def test_output(self, capsys):
        """It prints the file, and nothing else."""
        main(["genconfig"])
        output, errors = capsys.readouterr()
        assert output.rstrip("\n") == genconfig().rstrip("\n")
        assert errors == ""
        assert tomllib.loads(output) == {}

    def test_checked(self, capsys, tmp_path):
        """What it prints passes `wsserver checkconfig`."""
        main(["genconfig"])
        (tmp_path / "ws.toml").write_text(capsys.readouterr().out)
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr().out == f"{tmp_path}/ws.toml is valid\n"


class CheckconfigTests:
    """`wsserver checkconfig FILE`."""

    def refused(self, capsys, path):
        """Check a file that has to be refused; give the one line on standard error."""
        with pytest.raises(SystemExit) as caught:
            main(["checkconfig", str(path)])
        output, errors = capsys.readouterr()
        assert caught.value.code == 1
        assert output == ""
        assert errors.startswith("wsserver: ")
        assert len(errors.splitlines()) == 1
        return errors.removeprefix("wsserver: ").rstrip("\n")

    def test_good(self, capsys, tmp_path):
        """A file without a mistake is fine."""
        (tmp_path / "ws.toml").write_text('port = 1\norigin = ["https://example.com"]\n')
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr() == (f"{tmp_path}/ws.toml is valid\n", "")

    def test_bad(self, capsys, tmp_path):
        """A mistake ends the program with 1 and one line that names it."""
        path = tmp_path / "ws.toml"
        path.write_text("port = 65536\n")
        expected = f"{path} line 1: port: expected a whole number from 0 to 65535, not '65536'"
        assert self.refused(capsys, path) == expected

    def test_missing(self, capsys, tmp_path):
        """So does a file that is not there."""
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
    def test_reads_the_files_of_certificates(self, capsys, tmp_path, line, problem):
        """A missing one is named."""
        path, missing = tmp_path / "ws.toml", str(tmp_path / "missing.pem")
        path.write_text(line.replace("{}", missing))
        assert self.refused(capsys, path).startswith(problem.replace("{}", missing))

    def test_no_name(self, capsys):
        """An empty name is no file, so it cannot be fine."""
        self.refused(capsys, "")

    def test_environment(self, capsys, tmp_path, monkeypatch):
        """The environment is checked too, as the server would see both."""
        (tmp_path / "ws.toml").write_text("")
        monkeypatch.setenv("WSSERVER_PORT", "x")
        expected = "WSSERVER_PORT: expected a whole number from 0 to 65535, not 'x'"
        assert self.refused(capsys, tmp_path / "ws.toml") == expected

    def test_file_of_the_environment(self, capsys, tmp_path, monkeypatch):
        """The file that is named is the one that is checked."""
        (tmp_path / "ws.toml").write_text("")
        monkeypatch.setenv("WSSERVER_CONFIG", str(tmp_path / "nowhere.toml"))
        main(["checkconfig", str(tmp_path / "ws.toml")])
        assert capsys.readouterr().out == f"{tmp_path}/ws.toml is valid\n"

    @pytest.mark.parametrize("name", ["a\x1b[2J.toml", "a\nb.toml", "\udcff.toml"], ids=ascii)
    def test_odd_name(self, capsys, tmp_path, name):
        """Whatever the file is called, the answer is one line that a terminal can show."""
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
    def test_arguments(self, monkeypatch, arguments):
        """All that follows goes to `twistd -n wsserver`, which leaves no process file behind."""
        runs = []
        monkeypatch.setattr("twisted.scripts.twistd.run", lambda: runs.append(list(sys.argv)))
        monkeypatch.setattr(sys, "argv", ["wsserver"])
        main(["serve", *arguments])
        assert runs == [["twistd", "--nodaemon", "--pidfile=", "wsserver", *arguments]]

    def test_arguments_of_the_process(self, monkeypatch):
        """So they do where they come from the process."""
        runs = []
        monkeypatch.setattr("twisted.scripts.twistd.run", lambda: runs.append(list(sys.argv)))
        monkeypatch.setattr(sys, "argv", ["wsserver", "serve", "--port=1"])
        main()
        assert runs == [["twistd", "--nodaemon", "--pidfile=", "wsserver", "--port=1"]]


class UsageTests:
    """Command lines that are no command."""

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["start"], "invalid choice: 'start'"),
            (["checkconfig"], "the following arguments are required: FILE"),
            (["checkconfig", "a", "b"], "unrecognized arguments: b"),
            (["version", "x"], "unrecognized arguments: x"),
            (["--port=1", "serve"], "unrecognized arguments: --port=1"),
        ],
    )
    def test_mistake(self, capsys, arguments, problem):
        """A mistake ends the program with 2 and says what is missing."""
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert problem in capsys.readouterr().err

    def test_help(self, capsys):
        """The help lists the commands."""
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
    """`wsserver publish` and `wsserver subscribe`. What they do: tests/integration/cli/test_command_line.py."""

    @pytest.mark.parametrize("command", ["publish", "subscribe"])
    def test_help(self, capsys, command):
        """Each has a help of its own, and says where a key or a token is better put."""
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        output = capsys.readouterr().out
        assert output.startswith(f"usage: wsserver {command} ")
        assert "other users can read a command line" in " ".join(output.split())

    def test_light(self):
        """Publishing loads no server: scripts do it often."""
        program = "import sys, wsserver.cli.main, wsserver.cli.publish; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert {"twisted", "autobahn"} & set(done.stdout.split()) == set()

    @pytest.mark.parametrize(
        "arguments", [["version"], ["--version"], ["--help"], ["genconfig"], ["publish", "--help"]]
    )
    def test_imports_neither_twisted_nor_autobahn_for(self, arguments):
        """The whole server takes half a second to import."""
        program = (
            "import atexit, sys; from wsserver.cli.main import main;"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main(sys.argv[1:])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, timeout=60
        )
        assert done.stdout != ""
        assert {"twisted", "autobahn", "OpenSSL"} & set(done.stderr.split()) == set()

    def test_listed(self, capsys):
        """The program's own help lists them."""
        with pytest.raises(SystemExit):
            main(["--help"])
        output = capsys.readouterr().out
        assert "\n    publish" in output
        assert "\n    subscribe" in output


class ClosedPipeTests:
    """Standard output that nobody reads any more, as in `wsserver genconfig | head -1`."""

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
    def test_it_ends_by_sigpipe_without_a_traceback(self, arguments):
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
