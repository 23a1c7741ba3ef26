"""`wsserver subscribe CHANNEL...`: print the publications of channels as they arrive."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, TextIO

from wsserver.cli.client import Connection, connect
from wsserver.cli.server_options import add_url_option, hint_for, server_of
from wsserver.cli.urls import ServerURL, query_of
from wsserver.config.channel_settings import MAX_REWIND
from wsserver.config.options import PREFIX
from wsserver.endpoints.raw.request import Format
from wsserver.errors import Ended, Refused, SettingError, Unreachable, WsserverError
from wsserver.process.exit import die_by
from wsserver.text import escape
from wsserver.wire.timers import use_monotonic_clock

__all__ = ["TOKEN_VARIABLE", "add_arguments", "run", "subscribe"]

_WRONG_PATH = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
"""What the server answers if the path is not that of an endpoint with channels."""

TOKEN_VARIABLE = PREFIX + "TOKEN"
"""Name of the environment variable with the client's token."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver subscribe` to a parser."""
    parser.add_argument("channel", metavar="CHANNEL", nargs="+", help="a channel to subscribe to")
    parser.add_argument("--count", type=_a_count, metavar="N", help="exit with status 0 after N messages")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="CONDITION",
        help="receive only publications whose tags match, such as ticker:eq:BTC or price:gt:100; may be repeated, and "
        "must all match; requires allow_tags_filter for the channels",
    )
    parser.add_argument(
        "--format",
        choices=[str(each) for each in Format],
        default=str(Format.RAW),
        help="raw: the data as published, followed by a line feed; json: an object with channel, data, offset and "
        "epoch on one line; redis: an array as a Redis subscriber receives it, as JSON on one line "
        "[default: %(default)s]",
    )
    parser.add_argument(
        "--since",
        metavar="EPOCH:OFFSET",
        default="",
        help="start after this position, as --format json and the HTTP API show it; with several channels one position "
        "each, separated by commas, or - for none",
    )
    parser.add_argument(
        "--rewind",
        type=_a_rewind,
        metavar="N",
        help=f"start with the last N publications of each channel, at most {MAX_REWIND}, as far as its history has "
        "them; --format json marks them",
    )
    add_url_option(parser)
    parser.add_argument(
        "--token",
        help=f"the client's token; other users can read a command line, so prefer the environment variable "
        f"{TOKEN_VARIABLE}",
    )


def run(chosen: argparse.Namespace) -> None:
    """Subscribe, and print the messages on standard output; see `subscribe` for the errors raised."""
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

    # If standard output is closed, its descriptor number would be reused for a socket.
    if sys.stdout is None:
        raise SettingError("standard output", "is closed")
    subscribe(chosen, os.environ, sys.stdout.fileno(), sys.stderr, reactor)


def _a_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 999999999, not {text!r}")
    return int(text)


def _a_rewind(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_REWIND):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MAX_REWIND}, not {text!r}")
    return int(text)


def subscribe(
    chosen: argparse.Namespace, environ: Mapping[str, str], output: int, errors: TextIO | None, reactor: Any
) -> None:
    """
    Print messages until `--count` of them are printed, the connection ends or a signal arrives.

    If SIGINT or SIGTERM ends the subscription, the process dies by that signal; if the output is a pipe whose reader
    has closed it, by SIGPIPE.

    Args:
        chosen: the parsed command line.
        environ: the environment; the token is read from WSSERVER_TOKEN unless `--token` is given.
        output: the file descriptor to write messages to.
        errors: the stream for the line that reports the start of the subscription; None if there is no standard error.
        reactor: the reactor to run.

    Raises:
        SettingError: an argument is invalid, or the output cannot be written.
        WsserverError: the server refused or closed the subscription, or the connection failed.
    """
    target = server_of(chosen)
    token = chosen.token or environ.get(TOKEN_VARIABLE, "")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SettingError("--token", "expected printable ASCII without spaces")
    use_monotonic_clock(reactor)
    printer = _MessagePrinter(target, chosen, output, errors, reactor)
    path = "/ws?" + query_of(
        chosen.channel,
        format=chosen.format,
        last_event_id=chosen.since,
        rewind=str(chosen.rewind or ""),
        filter=chosen.filter,
    )
    reactor.callWhenRunning(connect, target, path, token, printer, reactor)
    with _signals(printer, reactor):
        reactor.run(installSignalHandlers=False)
    if isinstance(printer.why, BrokenPipeError):
        die_by(signal.SIGPIPE)
    elif isinstance(printer.why, OSError):
        raise SettingError("standard output", printer.why.strerror or str(printer.why))
    elif isinstance(printer.why, signal.Signals):
        die_by(printer.why)
    elif printer.why is not None:
        raise printer.why


class _MessagePrinter:
    """
    A `ClientListener` that prints the messages of one subscription.

    Args:
        target: the server.
        chosen: the parsed command line: channels, format and count.
        output: the file descriptor to write messages to.
        errors: the stream for status lines; None for none.
        reactor: the reactor, which is stopped at the end.
    """

    def __init__(
        self, target: ServerURL, chosen: argparse.Namespace, output: int, errors: TextIO | None, reactor: Any
    ) -> None:
        self._target = target
        self._channels: list[str] = chosen.channel
        self._left: int | None = chosen.count
        self._output = output
        self._errors = errors
        self._reactor = reactor
        self._connection: Connection | None = None
        self._one_line = chosen.format == "json"
        # A terminal would execute the control characters in a message.
        self._escape = os.isatty(output)
        self.is_ending = False
        self.is_writing = False
        """Whether a write is in progress; it blocks while the reader of the output does not read."""
        self.why: WsserverError | OSError | signal.Signals | None = None
        """Why the subscription ended; None if the count was reached."""

    def end(self, why: OSError | signal.Signals | None) -> None:
        """Close the connection, if there is one, then stop the reactor. Later calls have no effect."""
        if self.is_ending:
            return
        self.is_ending, self.why = True, why
        if self._connection is None:
            self._reactor.stop()
        else:
            self._connection.sendClose(1000)

    # The methods of `ClientListener`.

    def opened(self, connection: Connection) -> None:
        """Print a line on standard error: the subscription has started."""
        self._connection = connection
        # An unwritable error stream must not end the subscription; and with file=None, print would use standard output.
        if self._errors is not None:
            with suppress(OSError):
                print(f"wsserver: subscribed to {escape(' '.join(self._channels))}", file=self._errors, flush=True)

    def on_message(self, payload: bytes) -> None:
        """Print a message."""
        if self.is_ending:
            return
        if self._one_line:
            # In JSON, line feeds occur only in the white space between tokens: strings escape them.
            payload = payload.replace(b"\n", b" ")
        if self._escape:
            payload = escape(payload.decode("utf-8", "backslashreplace")).encode("utf-8")
        self.is_writing = True
        try:
            _write(self._output, payload + b"\n")
        except OSError as error:
            self.end(error)
        finally:
            self.is_writing = False
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.end(None)

    def refused(self, status: int, reason: str) -> None:
        """End the command with an error: the server refused the subscription."""
        why = Refused(status, reason + hint_for(self._target) * (status in _WRONG_PATH))
        if status == HTTPStatus.UNAUTHORIZED:
            why = Refused(status, f"{why.reason}; use --token or {TOKEN_VARIABLE}")
        self._finish(why)

    def lost(self, reason: str) -> None:
        """End the command with an error: the connection failed or was lost."""
        self._finish(Unreachable(self._target.at("ws", ""), reason))

    def closed(self, code: int, reason: str) -> None:
        """End the command; with an error if the server, and not this command, started the closing handshake."""
        self._finish(Ended(code, reason))

    def _finish(self, why: WsserverError) -> None:
        if not self.is_ending:
            self.is_ending, self.why = True, why
        self._reactor.stop()


def _write(output: int, data: bytes) -> None:
    # Unbuffered: at exit, Python would retry writing its buffer and report the error.
    while data:
        data = data[os.write(output, data) :]


@contextmanager
def _signals(printer: _MessagePrinter, reactor: Any) -> Iterator[None]:
    """
    Return a context manager that ends the subscription on SIGINT and SIGTERM.

    The first signal closes the connection. A second one, or one that arrives while a write blocks, kills the process.
    """

    def handle(number: int, _: object) -> None:
        if printer.is_writing or printer.is_ending:
            die_by(signal.Signals(number))
        reactor.callFromThread(printer.end, signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
