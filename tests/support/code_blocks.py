"""
The code blocks of the documentation: fenced and indented ones; and checks of those that no test runs.

A check raises an exception that says what is wrong with the block.
"""

import ast
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from paths import ROOT

from wsserver.cli import main
from wsserver.config.settings import Settings
from wsserver.tap import Options

__all__ = ["CHECKS", "CodeBlock", "read_code_blocks"]

_FENCED = re.compile(r"^( *)```(\w*) ?([\w.-]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}[^\n]*\n|\n(?= {4}))+)")

ELSEWHERE = frozenset(
    {"certbot", "cibuildwheel", "docker", "kubectl", "systemctl", "systemd-cgls", "useradd", "mkcert"}
)
"""Programs that need not be installed where the tests run."""

BUILTINS = frozenset(
    {"cd", "echo", "export", "kill", "while", "do", "done", "for", "wait", "unset", "printf", "if", "."}
)


@dataclass(frozen=True)
class CodeBlock:
    """A block of code in a page."""

    page: str
    kind: str
    """The language, or `text` for output and without a language."""
    name: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.kind} {self.text.splitlines()[0][:60]!r}"


def read_code_blocks(page: Path) -> Iterator[CodeBlock]:
    """Read the fenced and the indented blocks of a page."""
    text, name = page.read_text("utf-8"), str(page.relative_to(ROOT))
    for match in _FENCED.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        block = textwrap.dedent(match[4])
        yield CodeBlock(name, match[2] or _guess_kind(block), match[3], block, line)
    # Blank lines in place of the fenced blocks, so that lines keep their numbers.
    rest = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in _INDENTED.finditer(rest):
        block = textwrap.dedent(match[1])
        yield CodeBlock(name, _guess_kind(block), "", block, rest.count("\n", 0, match.start()) + 1)


def _guess_kind(text: str) -> str:
    """Guess the language of an indented block, which does not name it."""
    first = text.split(maxsplit=1)[0]
    for kind, pattern in _BEGINNINGS.items():
        if re.match(pattern, text):
            return kind
    is_command = re.match(r"\w+=", first) or (_exists(first) and not first[0].isupper())
    return "sh" if is_command and not first.endswith("/") else "text"


_BEGINNINGS = {"options": "--[a-z]", "console": r"\$ ", "python": "(from|import) ", "js": "const ", "json": r"\{\""}


def _exists(program: str) -> bool:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(ROOT)])
    return program in ELSEWHERE | BUILTINS or program.startswith("/opt/") or bool(shutil.which(program, path=path))


def _check_python(block: CodeBlock) -> None:
    source = block.text
    try:
        ast.parse(source)
    except IndentationError:
        # The body of a method.
        source = "async def method(self):\n" + textwrap.indent(source, "    ")
    compile(source, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _check_javascript(block: CodeBlock) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".mjs", encoding="utf-8") as file:
        file.write(block.text)
        file.flush()
        done = subprocess.run(["node", "--check", file.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _check_json(block: CodeBlock) -> None:
    decoder, rest = json.JSONDecoder(), block.text.strip()
    while rest:
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


def _check_toml(block: CodeBlock) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(block.text)
        file.flush()
        Settings.load(config=file.name)


def _check_yaml(block: CodeBlock) -> None:
    assert list(yaml.safe_load_all(block.text))


def _check_console(block: CodeBlock) -> None:
    lines = block.text.replace("\\\n", " ").splitlines()
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    assert commands
    _check_commands("\n".join(commands))


def _check_option_line(block: CodeBlock) -> None:
    _check_options(shlex.split(block.text))


def _check_log_lines(block: CodeBlock) -> None:
    """Check that the server's source contains the event of each line, or the words at its beginning."""
    for line in block.text.splitlines():
        event = re.match(r"[A-Za-z/ ]*[a-z]", re.sub(r"^\S+ \[[^]]*\] ", "", line))
        words = event[0].rsplit(" ", 1)[0] if event and re.search(r"[\d=]", line) else line
        assert " " in words, f"not a line of the log: {line}"
        assert words in _source(), f"{words!r} is not in the source"


@functools.cache
def _source() -> str:
    return "\n".join(path.read_text("utf-8") for path in (ROOT / "wsserver").rglob("*.py"))


def _check_shell(block: CodeBlock) -> None:
    _check_commands(block.text)


def _check_commands(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in _split(text):
        _check_command(words)


def _split(text: str) -> Iterator[list[str]]:
    """Yield the simple commands, without the variables before them and the redirections after them."""
    text = re.sub(r"<<'?(\w+)'?(.*?\n)\1$", "", text.replace("\\\n", " "), flags=re.DOTALL | re.MULTILINE)
    # `$(...)` is a word here.
    text = re.sub(
        r"(?<=\s)#.*$|(?<=\s)[0-9&]?>+ ?[^\s'\"]+|(?<=\s)< ?[^\s'\"]+|\$\([^)]*\)",
        lambda match: "v" * 64 if match[0][0] == "$" else "",
        text,
        flags=re.MULTILINE,
    )
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";&|\n"):
            while words and re.fullmatch(r"\w+=.*", words[0], re.DOTALL):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def _check_command(words: list[str]) -> None:
    program, *arguments = words
    program = program.removeprefix("/opt/wsserver/bin/")
    if program in ("sudo", "exec"):
        program, *arguments = arguments
    if program == "make":
        _check_target(arguments)
    elif program == "wsserver":
        _check_wsserver(arguments)
    elif program == "twistd":
        _check_options(arguments[arguments.index("wsserver") + 1 :])
    elif program.endswith("python") or program == "python3":
        scripts = [word for word in arguments if word.endswith(".py")]
        assert all((ROOT / word).exists() or (ROOT / "docs" / word).exists() for word in scripts), scripts
        _check_script_options(arguments)
    else:
        assert _exists(program), f"no program {program!r}"


def _check_script_options(arguments: list[str]) -> None:
    """Check that a script of this project contains the options that it is run with."""
    script = ROOT / arguments[0]
    if script.suffix == ".py" and script.exists():
        options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        missing = [one for one in options if f'"{one}"' not in script.read_text("utf-8")]
        assert not missing, f"{arguments[0]} has no option {missing}"


def _check_target(arguments: list[str]) -> None:
    targets = [word for word in arguments if "=" not in word]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets


def _check_wsserver(arguments: list[str]) -> None:
    command = arguments[0] if arguments else "serve"
    if command == "serve" or command.startswith("--"):
        _check_options(arguments[1:] if command == "serve" else arguments)
        return
    # Arguments of other commands: argparse exits with a message.
    main._parser(command).parse_args(arguments)


def _check_options(words: list[str]) -> None:
    options = Options()
    if "--config" in words:
        # The file need not exist.
        del words[words.index("--config") : words.index("--config") + 2]
    options.parseOptions(words)


CHECKS: dict[str, Callable[[CodeBlock], None]] = {
    "python": _check_python,
    "js": _check_javascript,
    "json": _check_json,
    "toml": _check_toml,
    "yaml": _check_yaml,
    "console": _check_console,
    "sh": _check_shell,
    "options": _check_option_line,
    "text": _check_log_lines,
}
"""Kind of a block -> its check."""
