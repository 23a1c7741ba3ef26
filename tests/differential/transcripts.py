"""
The files of command sequences: what is sent, and what Centrifugo and this server answer.

A file is a list of sequences, each like this one:

    == publish without data
    profile open
    form json
    token ann {"sub": "ann", "exp": 600}
    > {"id":1,"connect":{"token":"${ann}"}}
      {"connect":{"client":"<a>"},"id":1}
    > {"id":2,"publish":{"channel":"x"}}
    ! texts of errors
    - {"error":{"code":107,"message":"bad request"},"id":2}
    + {"error":{"code":107,"message":"bad request: publish without data"},"id":2}

A line that begins with two spaces is an answer of both servers, one with `-` of Centrifugo only, and one with `+` of
this server only. A line with `!` names the reason of the difference, a key of `differences.toml`. Empty lines and lines
with `#` mean nothing.

`form` lists the forms in which a sequence is sent: `json` and `protobuf` over a WebSocket, and `http_stream`, in JSON.
Without this line, it is sent in all of them, except for commands without a counterpart in Protobuf. The answers are the
same in all forms.

Steps:

    > TEXT            client a sends a text frame; further lines of the frame follow in lines that begin with `| `
    b> TEXT           client b does
    bin> TEXT         client a sends a binary frame, with this text in either form
    txt> TEXT         client a sends a text frame, also in the form `protobuf`
    many> 1-9 TEXT    a text frame of nine lines; in each, its number replaces the character `#`
    hex> 0aff         the same, with bytes that are no text
    open PATH HEADER: VALUE; ...   client a opens a connection to this path; without this step, to the usual one
    api METHOD JSON   a call of the HTTP API
    wait SECONDS      time passes
    mute              client a stops to answer pings
    drop              client a drops its connection

Clients are named a to d. Text may contain `${name}`: a token, `epoch` (the last epoch that a server has sent), `a` (the
ID of client a), `NUL`, `CR`, or `9*text` (the text nine times).
"""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsserver.cli.centrifugo.options import convert

__all__ = ["FOLDER", "Sequence", "Step", "merge", "profiles", "read", "sequence_files", "write"]

FOLDER = Path(__file__).parent

_STEP = re.compile(
    r"(?:(?P<client>[a-d]) ?)?(?P<kind>>|hex>|bin>|txt>|many>|mute\b|open\b|api\b|wait\b|drop\b) ?(?P<text>.*)",
    re.DOTALL,
)


@dataclass
class Step:
    """One step of a sequence."""

    line: str
    """The step as written; further lines of a frame follow after line feeds."""
    kind: str
    text: str
    client: str
    reasons: list[str] = field(default_factory=list)
    """Keys of the differences that this step shows."""
    answers: list[tuple[str, str]] = field(default_factory=list)
    """(` `, `-` or `+`, answer), in order."""

    def expected(self, side: str) -> list[str]:
        """Return the answers of one server: `-` for Centrifugo, `+` for this one."""
        return [answer for mark, answer in self.answers if mark in (" ", side)]

    @property
    def differs(self) -> bool:
        """Whether the servers answer differently."""
        return any(mark != " " for mark, _ in self.answers)


@dataclass
class Sequence:
    """A sequence of commands, with the recorded answers."""

    name: str
    profile: str = "open"
    form: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    """Name -> claims, a JSON text. Times in them are relative to the start of the sequence."""
    steps: list[Step] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)


def _step(line: str, where: str) -> Step:
    found = _STEP.fullmatch(line)
    if found is None:
        raise ValueError(f"{where}: not a step: {line!r}")
    return Step(line, found["kind"], found["text"], found["client"] or "a")


def read(path: Path) -> list[Sequence]:
    """
    Read a file of sequences.

    Raises:
        ValueError: a line is not valid; the message names it.
    """
    sequences: list[Sequence] = []
    comments: list[str] = []
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\n"), 1):
        where = f"{path.name}:{number}"
        word, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            comments += [line] if line else []
        elif word == "==":
            sequences.append(Sequence(rest, comments=comments))
            comments = []
        elif word == "profile":
            sequences[-1].profile = rest
        elif word == "form":
            sequences[-1].form = rest
        elif word == "token":
            name, _, claims = rest.partition(" ")
            sequences[-1].tokens[name] = claims
        elif word == "|":
            step = sequences[-1].steps[-1]
            step.line, step.text = f"{step.line}\n{line}", f"{step.text}\n{rest}"
        elif word == "!":
            sequences[-1].steps[-1].reasons.append(rest)
        elif word in ("", "-", "+"):
            sequences[-1].steps[-1].answers.append((word or " ", line[2:]))
        else:
            sequences[-1].steps.append(_step(line, where))
    return sequences


def write(path: Path, sequences: list[Sequence]) -> None:
    """Write a file of sequences."""
    lines: list[str] = []
    for sequence in sequences:
        lines += [*([""] if lines else []), *sequence.comments, f"== {sequence.name}"]
        lines += [f"profile {sequence.profile}"] * (sequence.profile != "open")
        lines += [f"form {sequence.form}"] if sequence.form else []
        lines += [f"token {name} {claims}" for name, claims in sequence.tokens.items()]
        for step in sequence.steps:
            lines += [step.line, *(f"! {reason}" for reason in step.reasons)]
            lines += [f"{mark} {answer}" for mark, answer in step.answers]
    path.write_bytes("\n".join([*lines, ""]).encode("utf-8"))


def merge(centrifugo: list[str], here: list[str]) -> list[tuple[str, str]]:
    """Return the answers of both servers to a step, marked with the server that sent them."""
    if centrifugo == here:
        return [(" ", answer) for answer in here]
    return [*(("-", answer) for answer in centrifugo), *(("+", answer) for answer in here)]


def sequence_files() -> list[Path]:
    """Return the files of sequences."""
    return sorted((FOLDER / "sequences").glob("*.txt"))


def profiles() -> dict[str, dict[str, Any]]:
    """
    Return the configurations of the servers: name of a profile -> name of a server -> configuration.

    The configuration of this server, if the file has none, is that of Centrifugo as `wsserver import-centrifugo`
    converts it.
    """
    found = tomllib.loads((FOLDER / "profiles.toml").read_text("utf-8"))
    for profile in found.values():
        if "wsserver" not in profile:
            # The address as in `Centrifugo`: the listeners are not part of a profile.
            converted = convert(profile["centrifugo"] | {"http_server": {"address": "127.0.0.1"}})
            tables = [{"pattern": pattern, **keys} for pattern, keys in converted.tables]
            profile["wsserver"] = converted.options | {"channel": tables}
    return found
