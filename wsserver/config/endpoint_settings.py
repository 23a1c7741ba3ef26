"""
Options of what the server serves and logs: commands, echo and test bench, metrics, and log.

Each option is one field. The field is the only place that defines its default, its parser and its help text.
"""

from dataclasses import dataclass
from datetime import tzinfo

from wsserver.config.connection_settings import ConnectionSettings
from wsserver.config.options import option
from wsserver.config.parsers import (
    a_choice,
    a_duration,
    a_flag,
    a_size,
    a_text,
    a_zone,
    an_integer,
    show_duration,
    show_size,
)

__all__ = ["EndpointSettings"]

_ENDPOINTS, _TEST_BENCH, _METRICS, _LOG = ("Commands and echo", "Test bench", "Metrics", "Log")


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings(ConnectionSettings):
    """The options of what the server serves and logs; the second part of `Settings`."""

    catch_all: str = option(
        _ENDPOINTS,
        a_choice("auto", "on", "off"),
        "auto",
        "What to do with a WebSocket handshake for an unknown path: accept it and answer commands (on), or refuse it "
        "with 404 (off). auto means on if only this machine can reach the server and no option for channels is "
        "set, such as --redis, --api-key, --insecure, a token key or a hook; otherwise off.",
        metavar="auto|on|off",
        reload=True,
    )
    tap: str = option(
        _ENDPOINTS,
        a_choice("auto", "on", "off"),
        "auto",
        "Whether clients may watch the frames of their own connections at /tap/, and callers of the HTTP API those of "
        "all. auto means on if only this machine can reach the server.",
        metavar="auto|on|off",
        reload=True,
    )
    reply_prefix: str = option(
        _ENDPOINTS,
        a_text,
        "",
        "Text that the server puts before each text message that it echoes, except at the path /echo.",
        metavar="TEXT",
        reload=True,
    )
    timezone: tzinfo | None = option(  # noqa: RUF009 (a tzinfo is immutable)
        _ENDPOINTS,
        a_zone,
        None,
        "Time zone of the replies to the commands date and time; local is the time zone of the machine.",
        metavar="ZONE",
        reload=True,
    )
    faults: bool = option(
        _TEST_BENCH,
        a_flag,
        False,
        "Serve WebSockets that misbehave in a chosen way at the paths below /faults/, to test clients with; /faults "
        "lists them. Other paths do not change.",
        reload=True,
    )
    fault_timeout: float = option(
        _TEST_BENCH,
        a_duration(1, 3600),
        300.0,
        "Maximum duration of a connection with a fault; then the server closes it with 1008, or drops it.",
        metavar="TIME",
        show=show_duration,
        reload=True,
    )
    max_fault_connections: int = option(
        _TEST_BENCH,
        an_integer(1, 10_000),
        100,
        "Maximum number of open connections with a fault. The server refuses further ones with 503.",
        metavar="N",
        reload=True,
    )
    cases: bool = option(
        _TEST_BENCH,
        a_flag,
        False,
        "Serve conformance cases for WebSocket clients at /case/1, /case/2 and so on, and their reports at "
        "/case/report. Everyone who can reach the server can then run them and read the reports. Needs --workers 1.",
    )
    # Precedent: Centrifugo off. Without --admin-listen, clients reach the path, too.
    metrics: str = option(
        _METRICS,
        a_choice("off", "on"),
        "off",
        "Whether the server has metrics for Prometheus at the path /metrics. If --api-key is set, requests for the "
        "metrics need the key, too.",
        metavar="off|on",
    )
    log_format: str = option(
        _LOG,
        a_choice("text", "json"),
        "text",
        "Format of the log, one line per event: text for people, json for programs.",
        metavar="text|json",
    )
    log_level: str = option(
        _LOG,
        a_choice("debug", "info", "warn", "error"),
        "info",
        "Lowest level of events to log. Connections and requests are logged with the level info, and the problems that "
        "an operator should know of with warn or error.",
        metavar="debug|info|warn|error",
    )
    access_log: str = option(
        _LOG,
        a_choice("on", "off"),
        "on",
        "Whether to log each opened and closed connection, and each answered HTTP request. Refused requests are logged "
        "in any case.",
        metavar="on|off",
    )
    # A refusal is logged in 180 bytes: at 100 lines a second of each of five kinds, a flood writes 90 KB a second.
    log_max_rate: int = option(
        _LOG,
        an_integer(0, 1_000_000),
        100,
        "Maximum number of log lines of each kind per second: opened connections, closed connections, refused "
        "requests, failed TLS handshakes, HTTP requests, and each other event. Further lines are suppressed, and only "
        "their number is logged. 0 disables the limit.",
        metavar="N",
    )
    log_max_size: int = option(
        _LOG,
        a_size(64 * 1024, 1024**4),
        100 * 1024**2,
        "Size at which a log file (--logfile of twistd) is renamed, and a new one is begun.",
        metavar="SIZE",
        show=show_size,
    )
    log_max_files: int = option(
        _LOG,
        an_integer(2, 1000),
        10,
        "Maximum number of log files, with the current one. The oldest is deleted.",
        metavar="N",
    )
