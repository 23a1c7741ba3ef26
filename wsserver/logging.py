"""
Log format: one line per event, as text or as JSON, with control characters escaped and tokens removed.

Twisted's own observers write messages unescaped, so that a line feed or an escape sequence from a peer would reach
the terminal.
"""

import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from stat import S_IMODE
from time import time
from typing import IO, Any, NamedTuple, cast

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatEvent,
    formatTime,
)
from twisted.python.compat import ioType
from twisted.python.logfile import LogFile
from zope.interface import implementer

from wsserver.text import escape, redact

__all__ = [
    "FORMATS",
    "LINE",
    "MAX_LINES",
    "RAW",
    "Formatter",
    "LogSettings",
    "TurnObserver",
    "file_observer",
    "format_json",
    "format_text",
    "make_observer",
    "numbered",
    "open_log",
]

_LISTENER = re.compile(
    r"(?:FrontendFactory|TLSServerFactory|ProxyFactory)[^ ]*(?: \(\w+\))* starting on |\((?:\w+ )?Port .* Closed\)$"
)

MAX_LINES = 1000
"""Maximum number of lines that are kept until the end of a turn."""

MAX_KINDS = 1000
"""Maximum number of kinds of events that are counted in a second; events of further kinds are suppressed."""

RAW = "{raw}"
"""The `log_format` of lines that another process has already formatted, and limited."""

LINE = "{line}"
"""The `log_format` of connection events. Their text is already formatted: Twisted's formatting is slow."""


class LogSettings(NamedTuple):
    """The options of the log."""

    format: str = "text"
    """`text` or `json`."""
    level: str = "info"
    """The lowest level that is logged: `debug`, `info`, `warn` or `error`."""
    max_rate: int = 100
    """Maximum number of lines of one kind per second; 0 for no limit."""
    max_size: int = 100 * 1024**2
    """Size in bytes at which the log file is rotated."""
    max_files: int = 10
    """Maximum number of log files: the current one and the rotated ones."""


def _is_noise(event: LogEvent) -> bool:
    # In a read-only site-packages, as in a container, Twisted cannot write its plugin cache. That is harmless.
    if str(event.get("format", "")).startswith("Unable to write to plugin cache"):
        return True
    # Twisted logs a line for each listener that it opens or closes; the service logs the address itself.
    message: tuple[object, ...] = event.get("message") or ("",)
    return _LISTENER.match(str(message[0])) is not None


def format_text(event: LogEvent) -> str | None:
    """
    Format an event as a line of text, followed by the lines of its traceback, indented.

    Args:
        event: a Twisted log event.

    Returns:
        The text, which ends with a line feed; None if the event is not to be written.
    """
    if event.get("log_format") == RAW:
        return f"{event['raw']}\n"
    # Connection events are already formatted.
    if event.get("log_format") == LINE and "log_failure" not in event:
        line = f"{_second(int(event['log_time']))} [{event['log_namespace']}#{event['log_level'].name}] {event['line']}"
        return f"{escape(line)}\n"
    if _is_noise(event):
        return None
    failure = event.get("log_failure")
    if failure is not None and not event.get("log_format"):
        event = {**event, "log_format": "failed"}
    head = eventAsText(event, includeTraceback=False)
    if not head:
        return None
    # Messages of other libraries, and exceptions, may quote a request that contains a token.
    lines = redact(failure.getTraceback()).splitlines() if failure else []
    trace = "".join(f"  {escape(line)}\n" for line in lines)
    return f"{escape(redact(head))}\n{trace}"


@lru_cache(maxsize=1)
def _second(when: int) -> str:
    return formatTime(when)


def format_json(event: LogEvent) -> str | None:
    """
    Format an event as a line of JSON: `time`, `level`, `namespace`, `message`, and the event's own fields.

    A traceback is the field `traceback`. The event's own fields are included only if JSON can represent them.

    Args:
        event: a Twisted log event.

    Returns:
        The JSON text, which ends with a line feed; None if the event is not to be written.
    """
    if event.get("log_format") == RAW:
        return f"{event['raw']}\n"
    if _is_noise(event):
        return None
    level = event.get("log_level", LogLevel.info)
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name,
        "namespace": event.get("log_namespace", ""),
        "message": redact(formatEvent(event) or ""),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = redact(failure.getTraceback())
    for key, value in event.items():
        if (
            key not in line
            and not (key == "line" and event.get("log_format") == LINE)
            and not key.startswith("log_")
            and isinstance(value, str | int | float | bool | None)
        ):
            # JSON has no NaN and no infinity.
            line[key] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
            if isinstance(value, str):
                line[key] = redact(value)
    return json.dumps(line) + "\n"


FORMATS = {"text": format_text, "json": format_json}
"""Value of `--log-format` -> formatter."""


def open_log(options: Mapping[str, Any], settings: LogSettings = LogSettings()) -> IO[str]:  # noqa: B008 (immutable)
    """
    Open the log in the place where twistd would open it.

    Args:
        options: the options of twistd, of which `logfile` and `nodaemon` are used.
        settings: when to rotate a log file, and how many to keep.

    Returns:
        Standard output, or the log file.
    """
    name = options.get("logfile")
    if name == "-" or (options.get("nodaemon") and not name):
        return sys.stdout
    log = LogFile.fromFullPath(
        name or "twistd.log", rotateLength=settings.max_size, maxRotatedFiles=settings.max_files - 1
    )
    # twistd changes the umask when it becomes a daemon. Rotated files keep the mode of the first one.
    log.defaultMode = S_IMODE(os.stat(log.path).st_mode)

    def rotate(number: int, frame: object) -> None:  # noqa: ARG001 (the arguments of a signal handler)
        from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

        cast(IReactorFromThreads, reactor).callFromThread(log.rotate)

    # As twistd does: SIGUSR1 rotates the log, unless the signal already has a handler.
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, rotate)
    return cast(IO[str], log)


@implementer(ILogObserver)
class TurnObserver(FileLogObserver):
    """
    An observer that writes connection events once per turn of the reactor, and every other event immediately.

    A busy server logs many connections and requests in a turn; writing each line to the file would take more time than
    formatting it. All lines are in the order of the events.

    Args:
        file: the log.
        format_event: a formatter, such as `format_text`.
        reactor: the reactor; None for the global one, which is then imported at the first event.
        settings: the lowest level, and the maximum number of events of a kind per second. Connection events have limits
            of their own: `wsserver.wire.access_log`.
    """

    def __init__(
        self,
        file: IO[str],
        format_event: Callable[[LogEvent], str | None],
        reactor: Any = None,
        settings: LogSettings = LogSettings(),  # noqa: B008 (immutable)
    ) -> None:
        super().__init__(file, format_event)
        self._level = LogLevel.levelWithName(settings.level)
        self._max_rate = settings.max_rate
        self._counts: dict[tuple[str, str], int] = {}
        """Namespace and format of events -> number of events in this second."""
        self._suppressed = 0
        """Number of events of this second that were not written."""
        self._file = file
        self._is_binary = ioType(file) is not str
        self._lines: list[str] = []
        self._reactor = reactor
        self._is_registered = False

    def __call__(self, event: LogEvent) -> None:
        """Write an event, now or at the end of the turn, unless its level is too low or there are too many."""
        if event.get("log_format") != RAW and not self._allows(event):
            return
        text = self.formatEvent(event)
        if not text:
            return
        self._lines.append(text)
        if event.get("log_format") != LINE or len(self._lines) >= MAX_LINES or not self._is_running():
            self.flush()
        elif len(self._lines) == 1:
            self._reactor.callLater(0, self.flush)

    def _allows(self, event: LogEvent) -> bool:
        """Count an event; return whether it may be written."""
        if event.get("log_level", LogLevel.info) < self._level:
            return False
        if event.get("log_format") == LINE or not self._max_rate or not self._is_running():
            return True
        if not self._counts:
            self._reactor.callLater(1.0, self._end_second)
        kind = event.get("log_namespace", ""), event.get("log_format") or ""
        count = self._counts.get(kind, 0)
        if count >= self._max_rate or len(self._counts) >= MAX_KINDS:
            self._suppressed += 1
            return False
        self._counts[kind] = count + 1
        return True

    def _end_second(self) -> None:
        """Log how many events were suppressed in the last second."""
        self._counts.clear()
        count, self._suppressed = self._suppressed, 0
        if count:
            about = {"line": f"log events suppressed={count}", "suppressed": count, "log_time": time()}
            self({"log_format": LINE, "log_level": LogLevel.warn, "log_namespace": "wsserver", **about})

    def _is_running(self) -> bool:
        if self._reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

            self._reactor = reactor
        if not getattr(self._reactor, "running", False):
            return False
        if not self._is_registered:
            self._is_registered = True
            self._reactor.addSystemEventTrigger("after", "shutdown", self.flush)
        return True

    def flush(self) -> None:
        """Write the lines of this turn."""
        lines, self._lines = self._lines, []
        if lines:
            text = "".join(lines)
            self._file.write(cast(str, text.encode("utf-8")) if self._is_binary else text)
            self._file.flush()


def make_observer(file: IO[str], settings: LogSettings, reactor: Any = None, number: int | None = None) -> ILogObserver:
    """
    Return an observer that writes the server's log to a file, with the format, the level and the limit of the options.

    Args:
        file: the log.
        settings: the options of the log.
        reactor: the reactor; None for the global one.
        number: the number of the worker process, which is added to each event; None if there is only one process.
    """
    form = FORMATS[settings.format]
    return TurnObserver(file, form if number is None else numbered(form, number), reactor, settings)


def file_observer(options: Mapping[str, Any], settings: LogSettings) -> ILogObserver:
    """
    Return the observer that writes the server's log.

    Args:
        options: the options of twistd; see `open_log`.
        settings: the options of the log.
    """
    return make_observer(open_log(options, settings), settings)


Formatter = Callable[[LogEvent], str | None]


def numbered(format_event: Formatter, number: int) -> Formatter:
    """
    Return a formatter that adds the number of the worker process to each event.

    Args:
        format_event: a formatter, such as `format_text`.
        number: the number.
    """
    is_json = format_event is format_json

    def format_with_number(event: LogEvent) -> str | None:
        text = format_event(event)
        if not text:
            return text
        if is_json:
            return f'{text[:-2]}, "worker": {number}}}\n'
        head, _, rest = text.partition("\n")
        return f"{head} worker={number}\n{rest}"

    return format_with_number
