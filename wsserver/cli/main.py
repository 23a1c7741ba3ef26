"""
Console script `wsserver`.

Each command is a module of this package with the command's name, in which `_` stands for `-`. It is imported only when
the command runs: importing the whole server takes half a second, and scripts call `publish` often. A command module has
two functions:

    add_arguments(parser)   add the command's arguments to its parser
    run(arguments)          run the command with the parsed arguments

Without a command, `wsserver.cli.quickstart` runs the server.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from wsserver.errors import WsserverError
from wsserver.process.exit import complain, die_by

__all__ = ["EX_TEMPFAIL", "main"]

EX_TEMPFAIL = 75
"""Exit status for a temporary failure, after which the command can be retried (sysexits.h)."""

_COMMANDS = {
    "serve": "run the server in the foreground, as `twistd -n wsserver` does; takes the same options",
    "publish": "publish to a channel through the HTTP API of a running server, and print its answer",
    "subscribe": "print the publications of channels as they arrive, until the connection ends",
    "doctor": "connect to a WebSocket server as a browser does, and say what is wrong and what repairs it",
    "replay": "serve recorded connections as a mock server: those of a tap, or of a HAR",
    "conformance": "run the conformance cases with a WebSocket client, and print the verdicts",
    "bench": "measure how fast a WebSocket server answers, or delivers publications; checks every reply",
    "gentoken": "print a client token, signed with the server's --token-secret",
    "checktoken": "check a client token as the server does, and print its claims",
    "genconfig": "print a configuration file (TOML) with every option at its default, explained",
    "checkconfig": "check a configuration file together with the environment",
    "import-centrifugo": "convert a configuration of Centrifugo 6 into one of this server",
    "version": "print the version",
}

_OWN_OPTIONS = ("--help", "--version")
"""Options of the program itself; all others are those of the server."""

_EXIT_STATUS = (
    "Exit status: 0 for success, 1 for an error, 2 for an invalid command line (1 for serve), 75 for a temporary "
    "failure after which the same command can be retried. Errors are one line on standard error."
)


class _ShowVersion(argparse.Action):
    """Action of `--version`. Unlike the action of argparse, it determines the version only if the option is given."""

    def __call__(self, *_: Any) -> None:
        import_module("wsserver.cli.version").run()
        raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command.

    Args:
        arguments: command and arguments, without the program name; None for the arguments of this process.
    """
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except WsserverError as error:
        complain(error)
        raise SystemExit(EX_TEMPFAIL if error.is_temporary else 1) from None
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)


def _run(arguments: Sequence[str]) -> None:
    if not arguments or (arguments[0].startswith("--") and arguments[0] not in _OWN_OPTIONS):
        import_module("wsserver.cli.quickstart").run(arguments)
        return
    chosen, unknown = _parser(arguments[0]).parse_known_args(arguments)
    if unknown:
        # With the command's own usage line; `parse_args` would print that of the whole program.
        chosen.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    chosen.run(chosen)


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Build the parser, with the arguments of the chosen command only."""
    parser = argparse.ArgumentParser(
        prog="wsserver",
        description=(
            "A WebSocket server with channels, an HTTP API and a browser page. Without a command, the server starts, "
            "and prints what to try; options are those of serve."
        ),
        epilog=_EXIT_STATUS,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        # twistd parses the options of `serve`: NUL, which no argument contains, as prefix leaves them all to it.
        special: dict[str, Any] = {"prefix_chars": "\0", "add_help": False} if name == "serve" else {}
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXIT_STATUS, **special
        )
        command.set_defaults(parser=command)
        if name == chosen:
            module = import_module(f"wsserver.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
