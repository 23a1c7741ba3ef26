"""`wsserver subscribe CHANNEL...`: print what is published, a line a message, until something ends it."""

import argparse
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from wsserver.cli.client import Connection, connect
from wsserver.cli.urls import DEFAULT_URL, ServerURL, parse_server_url, query_of
from wsserver.config.options import PREFIX
from wsserver.errors import Ended, Refused, SettingError, Unreachable, WsserverError
from wsserver.hub.names import Format
from wsserver.process.exit_signal import die_by
from wsserver.text import escape
from wsserver.wire.timers import use_monotonic_clock

__all__ = ["TOKEN_VARIABLE", "add_arguments", "subscribe"]

TOKEN_VARIABLE = PREFIX + "TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("channel", metavar="CHANNEL", nargs="+")
    parser.add_argument("--count", type=_a_count, metavar="N", help="end after N messages, with status 0")
    parser.add_argument(
        "--format",
        choices=[str(each) for each in Format],
        default=str(Format.RAW),
        help="raw: as published; json: one line always, and it tells the channel; redis: as Redis tells it, in JSON "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--since",
        metavar="EPOCH:OFFSET",
        default="",
        help="begin after that publication, as --format json and the API tell it; of several channels one each, with "
        "commas between, or a dash",
    )
    parser.add_argument("--url", default=DEFAULT_URL, help="the server (default: %(default)s)")
    parser.add_argument("--token", help=f"who you are; better in {TOKEN_VARIABLE}: others can read a command line")


def _a_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text!r}")
    return int(text)


def subscribe(
    chosen: argparse.Namespace, environ: Mapping[str, str], output: int, errors: TextIO | None, reactor: Any
) -> None:
    """
    Print messages until the count is reached.

    Where a signal ends it, or nobody reads the output any more, the process ends by that signal.

    Args:
        chosen: the command line, parsed.
        environ: for the token.
        output: the file descriptor that messages go to.
        errors: where it is told that the server has begun to send; None where the process has no such place.
        reactor: is run.

    Raises:
        SettingError: the command line cannot be done.
        WsserverError: how it ended.
    """
    try:
        target = parse_server_url(chosen.url)
    except ValueError as error:
        raise SettingError("--url", f"{error}, not {chosen.url!r}") from None
    token = chosen.token or environ.get(TOKEN_VARIABLE, "")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SettingError("--token", "expected printable ASCII without spaces")
    use_monotonic_clock(reactor)
    listening = _Listening(target, chosen, output, errors, reactor)
    path = "/ws?" + query_of(chosen.channel, format=chosen.format, last_event_id=chosen.since)
    reactor.callWhenRunning(connect, target, path, token, listening, reactor)
    with _signals(listening, reactor):
        reactor.run(installSignalHandlers=False)
    if isinstance(listening.why, BrokenPipeError):
        die_by(signal.SIGPIPE)
    elif isinstance(listening.why, OSError):
        raise SettingError("standard output", listening.why.strerror or str(listening.why))
    elif isinstance(listening.why, signal.Signals):
        die_by(listening.why)
    elif listening.why is not None:
        raise listening.why


class _Listening:
    """
    A subscription whose messages are printed: an `ClientListener`.

    Args:
        target: the server.
        chosen: what is listened to, and after how many messages to end.
        output: the file descriptor that messages go to.
        errors: where words for a person go.
        reactor: is stopped at the end.
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
        # A terminal would do what control characters in a message say.
        self._escape = os.isatty(output)
        self.is_ending = False
        self.is_writing = False
        """A reader that does not read may be waited for."""
        self.why: WsserverError | OSError | signal.Signals | None = None
        """What ended it; None where the count was reached."""

    def end(self, why: OSError | signal.Signals | None) -> None:
        """Close the connection, then stop the reactor."""
        if self.is_ending:
            return
        self.is_ending, self.why = True, why
        if self._connection is None:
            self._reactor.stop()
        else:
            self._connection.sendClose(1000)

    # What the client calls: `ClientListener`.

    def opened(self, connection: Connection) -> None:
        """Tell that what is published from now on will be printed."""
        self._connection = connection
        # Where nobody reads that, messages may still be read. Without a file print would take standard output.
        if self._errors is not None:
            with suppress(OSError):
                print(f"wsserver: listening to {escape(' '.join(self._channels))}", file=self._errors, flush=True)

    def heard(self, payload: bytes) -> None:
        """Print a message."""
        if self.is_ending:
            return
        if self._one_line:
            # Only the white space of JSON can have line feeds in it.
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
        """End: the server does not let us listen."""
        self._over(Refused(status, reason))

    def lost(self, reason: str) -> None:
        """End: there is no connection."""
        self._over(Unreachable(self._target.at("ws", ""), reason))

    def closed(self, code: int, reason: str) -> None:
        """End: the server has closed, or has answered our closing."""
        self._over(Ended(code, reason))

    def _over(self, why: WsserverError) -> None:
        if not self.is_ending:
            self.is_ending, self.why = True, why
        self._reactor.stop()


def _write(output: int, data: bytes) -> None:
    # Past Python's buffers: what could not be written is not tried once more, and complained about, at the exit.
    while data:
        data = data[os.write(output, data) :]


@contextmanager
def _signals(listening: _Listening, reactor: Any) -> Iterator[None]:
    """End by SIGINT and SIGTERM: politely by the first, at once by the next, or where the output cannot be written."""

    def handle(number: int, _: object) -> None:
        if listening.is_writing or listening.is_ending:
            die_by(signal.Signals(number))
        reactor.callFromThread(listening.end, signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
