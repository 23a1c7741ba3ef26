"""The report of `wsserver doctor`: one line per step, and one line that says what to do."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum

from wsserver.text import escape, redact

__all__ = ["Report", "Status", "Step", "describe_error", "failed", "passed", "skipped", "warned"]

MAX_TEXT = 600
"""Maximum length of a text in the report: it may quote the server."""


class Status(StrEnum):
    """How a step ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    step: str
    """The name of the step, such as `tls`."""
    status: Status
    finding: str
    fix: str = ""
    """What to do; empty if there is nothing to do."""


def passed(name: str, finding: str) -> Step:
    """Return a step without a problem."""
    return Step(name, Status.OK, finding)


def warned(name: str, finding: str, fix: str) -> Step:
    """Return a step with a problem that most clients do not notice."""
    return Step(name, Status.WARN, finding, fix)


def failed(name: str, finding: str, fix: str) -> Step:
    """Return a step with a problem that stops clients."""
    return Step(name, Status.FAIL, finding, fix)


def skipped(name: str, finding: str) -> Step:
    """Return a step that could not be examined, with the reason."""
    return Step(name, Status.SKIP, finding)


class Report:
    """
    The steps so far. Each is printed as soon as it is known, except as JSON.

    Args:
        url: the URL that is examined.
        secret: a text that must not be printed; empty for none.
        write: prints a line; None for a report that is only collected.
    """

    def __init__(self, url: str, secret: str = "", write: Callable[[str], object] | None = None) -> None:
        self._secret = secret
        self._write = write
        self.url = self._clean(url)
        self.server: str | None = None
        """The kind of the server, if it is known: `wsserver`."""
        self.steps: list[Step] = []

    @property
    def has_failed(self) -> bool:
        """Whether a step has failed."""
        return any(step.status is Status.FAIL for step in self.steps)

    def has_failed_at(self, name: str) -> bool:
        """Return whether this step has failed."""
        return any(step.step == name and step.status is Status.FAIL for step in self.steps)

    def add(self, step: Step) -> Step:
        """Add a step; return it without secrets and control characters."""
        step = Step(step.step, step.status, self._clean(step.finding), self._clean(step.fix))
        self.steps.append(step)
        if self._write is not None:
            for line in show(step):
                self._write(line)
        return step

    @contextmanager
    def catching(self, name: str, fix: str) -> Iterator[None]:
        """Return a context manager that reports a network error of its block as a failure of a step."""
        try:
            yield
        except OSError as error:
            self.add(failed(name, describe_error(error), fix))

    def to_json(self) -> str:
        """Return the whole report as a JSON object."""
        steps = [asdict(step) for step in self.steps]
        return json.dumps({"url": self.url, "ok": not self.has_failed, "server": self.server, "steps": steps})

    def _clean(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "[secret]")
        text = escape(redact(" ".join(text.split())))
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def show(step: Step) -> Iterator[str]:
    """Return the lines of a step."""
    yield f"{step.status:<4}  {step.step:<11}  {step.finding}"
    if step.fix:
        yield f"{'':<19}do: {step.fix}"


def describe_error(error: OSError) -> str:
    """Return a network error in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # OpenSSL's `strerror` is like its `str`.
    return (error.strerror or "").lower() if error.errno and error.errno > 1 else str(error) or type(error).__name__
