"""The commands of docs/how-to/authentication.md print what the page shows."""

import os
import re
import socket
import subprocess
import sys

from paths import DOCS
from ports import free_port
from waiting import wait_until

PAGE = DOCS / "how-to" / "authentication.md"

BLOCKS = re.findall(r"```(sh|text|python)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


class Shell:
    """A shell that runs the commands of the page in order."""

    def __init__(self, directory, port):
        program = directory / "wsserver"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from wsserver.cli.main import main; main()" "$@"\n')
        program.chmod(0o755)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("WSSERVER_") and "proxy" not in name
        }
        environment |= {"PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": str(PAGE.parents[2])}
        self._port = port
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            text=True,
        )
        self.type("exec 3>&1")

    def type(self, commands):
        """Run commands; return what they print."""
        # The output of a server in the background goes elsewhere.
        commands = commands.replace("8080", str(self._port)).replace(" &\n", " >server.log 2>&1 &\n")
        self._process.stdin.write(f"{commands}\necho; echo '---done---'\n")
        self._process.stdin.flush()
        lines = iter(self._process.stdout.readline, "---done---\n")
        return "".join(lines)

    def close(self):
        """Stop the server and the shell."""
        self._process.stdin.write("kill $!; wait\nexit\n")
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


def answers(port):
    """Return whether a program listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def without_times(text):
    """Replace the times of a token, which differ each time."""
    return re.sub(r'("iat": |"exp": |valid for another )\d+', r"\1N", text.rstrip("\n"))


def test_each_command_prints_the_output_below_it(tmp_path):
    """The server's log contains no token."""
    port = free_port()
    shell = Shell(tmp_path, port)
    try:
        printed, checked = "", 0
        for kind, block in BLOCKS:
            if kind == "sh":
                printed = shell.type(block)
                if "serve" in block:
                    wait_until(lambda: answers(port), "the server listens")
            elif kind == "text":
                assert without_times(printed) == without_times(block)
                checked += 1
        assert checked == 5
    finally:
        shell.close()
    assert "token expired" not in (tmp_path / "server.log").read_text()
    assert "eyJ" not in (tmp_path / "server.log").read_text()


def test_the_python_snippet_makes_a_valid_token_for_ada(tmp_path):
    (snippet,) = (block for kind, block in BLOCKS if kind == "python")
    secret = "a secret that is long enough to sign tokens with, for tests only"
    environment = os.environ | {"WSSERVER_TOKEN_SECRET": secret}
    program = [sys.executable, "-c", f"{snippet}\nprint(token)"]
    token = subprocess.run(program, check=True, capture_output=True, text=True, env=environment).stdout.strip()
    shell = Shell(tmp_path, 1)
    try:
        printed = shell.type(f"WSSERVER_TOKEN_SECRET='{secret}' wsserver checktoken {token}")
    finally:
        shell.close()
    assert printed.startswith("connection token, user 'ada', valid for another ")
