"""The `wsserver` command of twistd: `Options`, built from the option table, and `makeService`."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from wsserver import logging
from wsserver.config.loader import missing_value, unknown_flag
from wsserver.config.options import PREFIX, Option
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import ListenError, WsserverError
from wsserver.listening.anchoring import anchor
from wsserver.listening.errors import describe_listen_error
from wsserver.listening.ports import endpoint_strings
from wsserver.process.allocator import collect_rarely, keep_freed
from wsserver.process.exit import complain, die, die_by
from wsserver.process.log import log_settings
from wsserver.process.notify import Notifier
from wsserver.process.open_files import raise_limit
from wsserver.process.pidfile import PidFileError, remove_stale_pid_file
from wsserver.process.reload import reload_options
from wsserver.process.signals import handle_signals
from wsserver.process.supervisor import Supervisor, count_workers
from wsserver.process.version import show_version
from wsserver.service import WebSocketService
from wsserver.wire.timers import use_monotonic_clock

__all__ = ["Options", "makeService"]

_log = Logger(namespace="wsserver")


class Options(usage.Options):
    """The flags of `twistd wsserver`."""

    synopsis = "Usage: twistd [twistd options] wsserver [options]"

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        """Option name -> the values given on the command line, as text and in order."""
        self.config: str | None = None
        self._directory = _working_directory()
        """The directory that relative paths start from; later, twistd has changed to that of `--rundir`."""
        self.settings: Settings

    def opt_config(self, path: str) -> None:
        """Read options from this TOML file."""
        self.config = path

    def opt_version(self) -> None:
        """Print the version and exit."""
        _print_and_exit(show_version())

    def opt_help(self) -> None:
        """Print this help and exit."""
        _print_and_exit(str(self))

    def parseOptions(self, options: Any = None) -> None:
        """Parse the command line; on an error, print one line instead of Twisted's usage page, and exit."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            unknown = re.fullmatch(r"option (\S+) not recognized", str(error))
            incomplete = re.fullmatch(r"option --(\S+) requires argument", str(error))
            if unknown:
                die(unknown_flag(unknown[1], TABLE))
            die(missing_value(incomplete[1].replace("-", "_"), TABLE) if incomplete else error)

    def parseArgs(self, *arguments: str) -> None:
        """Reject positional arguments."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r} is not an option: options start with --")

    def postOptions(self) -> None:
        """Load the settings from flags, environment and file, and remove a stale pid file."""
        try:
            self.settings = self.load()
            if self.parent is not None and self.parent.get("pidfile"):
                remove_stale_pid_file(self.parent["pidfile"])
        except (WsserverError, PidFileError, OSError) as error:
            die(error)

    def load(self) -> Settings:
        """
        Read the settings from flags, environment and file.

        Raises:
            SettingError: see `Settings.load`.
        """
        config = self.config if self.config is not None else os.environ.get(PREFIX + "CONFIG") or None
        path = None if config is None else os.path.join(self._directory, config)
        return anchor(Settings.load(self.texts, os.environ, path), self._directory)

    def getUsage(self, width: int | None = None) -> str:
        """Return the help text, with the options in groups."""
        width = max(40, min(width or shutil.get_terminal_size().columns, 100))
        lines = [self.synopsis, "", "A WebSocket server with channels, an HTTP API and a browser page."]
        group = ""
        for option in TABLE.values():
            if option.group != group:
                group = option.group
                lines += ["", f"{group}:"]
            lines += _help_lines(option, width)
        lines += ["", "General:"]
        lines += _wrap("--config FILE", "Read options from this TOML file; `wsserver genconfig` prints one.", width)
        lines += _wrap("--version", "Print the version and exit.", width)
        lines += _wrap("--help", "Print this help and exit.", width)
        more = (
            "Each option is also a key of the configuration file (max_message_size) and an environment variable "
            "(WSSERVER_MAX_MESSAGE_SIZE). Flags override environment variables, which override the file. SIZE is in "
            "bytes or has a unit: 500B, 64KiB, 1MiB. TIME is in seconds or has a unit: 500ms, 25s, 2m, 1h. An option "
            "marked [repeatable] can be given several times; its environment variable takes the values separated by "
            "spaces. SIGHUP makes a running server read its options again, except for those marked [restart]."
        )
        lines += ["", *textwrap.wrap(more, width, break_on_hyphens=False)]
        return "\n".join(lines) + "\n"

    __str__ = getUsage


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        # It has been deleted: no relative path can be used in it.
        return ""


def _print_and_exit(text: str) -> NoReturn:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)
    raise SystemExit(0)


def _help_lines(option: Option, width: int) -> list[str]:
    default = option.show_default()
    notes = [f"[default: {default}]"] if default and not option.is_flag else []
    notes += ["[repeatable]"] if option.many else []
    notes += [] if option.reload else ["[restart]"]
    flag = option.flag if option.is_flag else f"{option.flag} {option.metavar}"
    return _wrap(flag, " ".join([option.help, *notes]), width)


def _wrap(flag: str, words: str, width: int) -> list[str]:
    indent = " " * 6
    # Names of options, such as --command-rate, stay whole.
    lines = textwrap.wrap(words, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"  {flag}", *lines]


def _handler(option: Option) -> Callable[..., None]:
    def flag(self: Options) -> None:
        self.texts[option.name] = ["true"]

    def parameter(self: Options, text: str) -> None:
        self.texts.setdefault(option.name, []).append(text)

    handler = flag if option.is_flag else parameter
    handler.__doc__ = option.help
    return handler


for _option in TABLE.values():
    setattr(Options, f"opt_{_option.name}", _handler(_option))


def makeService(options: Options) -> "TwistdService | TwistdSupervisor":
    """
    Build the service that twistd runs: the server, or with `--workers` the supervisor of several server processes.

    Args:
        options: the parsed command line.

    Returns:
        The service.
    """
    from twisted.internet import reactor  # noqa: PLC0415 (importing the reactor installs it)

    # These change the whole process, so they are not part of `WebSocketService`, which other applications embed.
    collect_rarely()
    keep_freed()
    raise_limit()
    use_monotonic_clock(reactor)
    # twistd prints a traceback if a service fails to start; print a `WsserverError` in one line instead.
    sys.excepthook = _one_line(sys.excepthook)
    try:
        service = _build(options, reactor)
    except WsserverError as error:
        die(error)
    service.options = options
    service.notifier = Notifier(reactor)
    service.twistd = options.parent
    if options.parent is not None and not options.parent.get("nodaemon", True):
        _check_port(options.settings)
    return service


def _build(options: Options, reactor: Any) -> "TwistdService | TwistdSupervisor":
    count = count_workers(options.settings)
    settings = replace(options.settings, workers=count)
    if count == 1:
        return TwistdService(settings, reactor)
    return TwistdSupervisor(settings, reactor, reload=options.load, on_failure=partial(_stop_failed, reactor))


def _stop_failed(reactor: Any, reason: str) -> None:
    """Stop the supervisor because its workers cannot start; twistd itself would exit with status 0."""
    complain(reason)
    # A daemon has no standard error any more.
    _log.error("the workers cannot start reason={reason}", reason=json.dumps(reason))
    atexit.register(os._exit, 1)
    reactor.stop()


def _check_port(settings: Settings) -> None:
    """
    Check that the port is free before twistd detaches from the terminal; print an error and exit if it is not.

    A daemon can report an error only to its parent process, which prints the first hundred bytes and refers to the log.
    """
    if settings.listen:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.interface, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        endpoint = endpoint_strings(settings)[0]
        die(ListenError(endpoint, describe_listen_error(endpoint, error)))


class _Twistd:
    """What twistd's service does besides: it sets the log format, unless twistd logs to syslog."""

    settings: Settings
    twistd: usage.Options | None = None
    options: Options
    """The command line, from which SIGHUP loads the settings again."""
    notifier: Notifier

    def setServiceParent(self, parent: Any) -> None:
        """Attach the service to the application, and set its log observer, which twistd reads after this call."""
        super().setServiceParent(parent)  # type: ignore[misc]
        twistd = self.twistd
        if twistd is not None and "nodaemon" in twistd and not twistd.get("syslog"):
            parent.setComponent(ILogObserver, logging.file_observer(twistd, log_settings(self.settings)))


class TwistdService(_Twistd, WebSocketService):
    """The service as twistd runs it: it also handles signals, and notifies the service manager."""

    def startService(self) -> None:
        """Start the service and the handling of signals, as described in `wsserver.process.signals`."""
        super().startService()
        handle_signals(self._reactor, self.abort, self.reload_options)
        # Not before the reactor runs: until then, a signal would end the process.
        self._reactor.callWhenRunning(self.notifier.ready)

    def stopService(self) -> Deferred[None]:
        """Notify the service manager, then stop the service."""
        self.notifier.stopping()
        return super().stopService()

    def reload_options(self) -> None:
        """Read the options again, and change to them; see `wsserver.process.reload`."""
        with self.notifier.reloading():
            reload_options(self.options.load, self.reload)


class TwistdSupervisor(_Twistd, Supervisor):
    """The supervisor as twistd runs it: it also handles signals, and notifies the service manager."""

    def startService(self) -> None:
        """Start the service and the handling of signals, as described in `wsserver.process.signals`."""
        super().startService()
        handle_signals(self._reactor, self.abort, self.reload_options)
        self.when_started.addCallback(lambda _: self.notifier.ready())

    def stopService(self) -> Deferred[None]:
        """Notify the service manager, then stop the workers."""
        self.notifier.stopping()
        return super().stopService()

    def reload_options(self) -> None:
        """Read the options again, and let the workers change to them."""
        with self.notifier.reloading():
            self.reload()


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _one_line(fallback: Hook) -> Hook:
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, WsserverError):
            complain(error)
        else:
            fallback(kind, error, trace)

    return hook
