"""The code blocks of a guide, which tests take one by one and run."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from code_blocks import read_code_blocks
from paths import DOCS
from programs import environment

from wsserver.config.settings import Settings
from wsserver.tap import Options

__all__ = ["PATH", "Guide", "read_settings", "replace_all", "run_commands"]

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
"""The value of the variable PATH with which commands find the programs of this environment."""


class Guide:
    """
    A page of the documentation.

    Args:
        name: its path in `docs`, without `.md`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._texts = [block.text for block in read_code_blocks(DOCS / f"{name}.md")]

    def block(self, beginning: str) -> str:
        """Return the one block that begins with a text."""
        found = [text for text in self._texts if text.startswith(beginning)]
        assert len(found) == 1, f"{len(found)} blocks of {self._name} begin with {beginning!r}"
        return found[0]

    def output(self, command: str) -> str:
        """Return what a block of the form `$ COMMAND` shows below the command, given the beginning of the command."""
        return self.block(f"$ {command}").partition("\n")[2]


def replace_all(text: str, parts: Mapping[str, object]) -> str:
    """Replace parts of a text, each of which it must contain."""
    for part, other in parts.items():
        assert part in text, (part, text)
        text = text.replace(part, str(other))
    return text


def run_commands(text: str, directory: Path, environ: Mapping[str, str] | None = None, status: int = 0) -> str:
    """
    Run commands in a shell, as a reader who pastes them; return what they print.

    Args:
        text: the commands.
        directory: the directory in which they run.
        environ: further environment variables.
        status: the exit status that is expected.
    """
    done = subprocess.run(
        ["bash", "-ec", text],
        cwd=directory,
        env=environment({"PATH": PATH, **(environ or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def read_settings(command: str) -> Settings:
    """Return the options that the server gets from a command: `wsserver serve ...`, or `twistd ... wsserver ...`."""
    words = shlex.split(command.replace("\\\n", " ").rstrip("& \n"))
    at = words.index("wsserver")
    first = next(number for number, word in enumerate(words) if "=" not in word)
    variables = dict(word.split("=", 1) for word in words[:first])
    arguments = words[at + 1 :] if words[first] == "twistd" else words[first + 2 :]
    assert words[first] == "twistd" or words[first : first + 2] == ["wsserver", "serve"], command
    options = Options()
    with mock.patch.dict(os.environ, environment(variables), clear=True):
        options.parseOptions(arguments)
    return options.settings
