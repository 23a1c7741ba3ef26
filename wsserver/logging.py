"""
What the log looks like: one line an event, as text or as JSON; nothing from outside gets in raw.

Twisted's own observers write a message as it is, so a line feed or an escape sequence in it would reach the terminal.
"""

import json
import math
import re
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any, cast

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
from twisted.python.logfile import LogFile

from wsserver.text import escape, redact

__all__ = ["FORMATS", "LINE", "file_observer", "format_json", "format_text", "open_log"]

_LISTENER_STARTS = re.compile(r"(?:DoorFactory|TLSServerFactory|ProxyFactory)[^ ]*(?: \(\w+\))* starting on ")

LINE = "{line}"
"""The format of the lines of connections: written out already, as formatting costs as much as a whole handshake."""


def _is_noise(event: LogEvent) -> bool:
    # A read-only site-packages, as in a container, cannot hold Twisted's plugin cache; that harms nothing.
    if str(event.get("format", "")).startswith("Unable to write to plugin cache"):
        return True
    # Twisted's line for each listener, whose address the service logs in its own words.
    message: tuple[object, ...] = event.get("message") or ("",)
    return _LISTENER_STARTS.match(str(message[0])) is not None


def format_text(event: LogEvent) -> str | None:
    """
    Write an event as a line of text, and its traceback on lines of their own.

    Args:
        event: a Twisted log event.

    Returns:
        The text with its line end; None for an event that is not to be written.
    """
    # The lines of connections, written out already.
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
    # What others log, and what is raised, may quote a request.
    lines = redact(failure.getTraceback()).splitlines() if failure else []
    trace = "".join(f"  {escape(line)}\n" for line in lines)
    return f"{escape(redact(head))}\n{trace}"


@lru_cache(maxsize=1)
def _second(when: int) -> str:
    return formatTime(when)


def format_json(event: LogEvent) -> str | None:
    """
    Write an event as a line of JSON: `time`, `level`, `namespace`, `message`, and the event's own fields.

    Args:
        event: a Twisted log event.

    Returns:
        The JSON text with its line end; None for an event that is not to be written.
    """
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
            # JSON has no word for a number that is none.
            line[key] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
            if isinstance(value, str):
                line[key] = redact(value)
    return json.dumps(line) + "\n"


FORMATS = {"text": format_text, "json": format_json}
"""Value of `--log-format` -> formatter."""


def open_log(options: Mapping[str, Any]) -> IO[str]:
    """
    Open the log where twistd would.

    Args:
        options: twistd's own: `logfile` and `nodaemon` count.

    Returns:
        Standard output, or the log file, which is rotated at 1 MB as twistd's is.
    """
    name = options.get("logfile")
    if name == "-" or (options.get("nodaemon") and not name):
        return sys.stdout
    log = LogFile.fromFullPath(name or "twistd.log")

    def rotate(number: int, frame: object) -> None:  # noqa: ARG001 (what a signal handler takes)
        from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

        cast(IReactorFromThreads, reactor).callFromThread(log.rotate)

    # As twistd does: a log rotated by its owner, on a signal that nobody else has taken.
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, rotate)
    return cast(IO[str], log)


def file_observer(options: Mapping[str, Any], log_format: str) -> ILogObserver:
    """
    Make the observer that writes the server's log.

    Args:
        options: twistd's own.
        log_format: `text` or `json`.
    """
    return FileLogObserver(open_log(options), FORMATS[log_format])
