"""
Console script `wsserver`: serve, publish, subscribe, gentoken, checktoken, genconfig, checkconfig, version.

Rule 1: each command imports the modules it needs only when it runs. Scripts call `publish` often, and importing the
whole server takes half a second.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from wsserver.config.genconfig import genconfig
from wsserver.config.settings import Settings
from wsserver.errors import SettingError, WsserverError
from wsserver.process.exit_signal import die_by

__all__ = ["EX_TEMPFAIL", "main"]

EX_TEMPFAIL = 75
"""Exit status for a temporary failure, after which the command can be retried (sysexits.h)."""

_PUBLISH = "publish to a channel, over the HTTP API of a running server, and print its answer"
_TOKENS = {
    "gentoken": "print a token signed with the server's --token-secret, for trying things out",
    "checktoken": "say whether a token would be taken, and what is in it",
}
_SUBSCRIBE = "print what is published to channels, a line a message, until the connection ends"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command.

    Args:
        arguments: command and arguments, without the program name; None for those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # These commands have parsers of their own, which also handle their --help.
    own = {"serve": _serve, "publish": _publish, "subscribe": _subscribe}
    if arguments and arguments[0] in own:
        own[arguments[0]](arguments[1:])
        return
    if arguments and arguments[0] in _TOKENS:
        _token_command(arguments)
        return
    from wsserver.tap import show_version  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="wsserver", description="A WebSocket server: echo, commands, a browser page.")
    parser.add_argument("--version", action="version", version=show_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve in the foreground, as `twistd -n wsserver`; takes the same options")
    commands.add_parser("publish", help=_PUBLISH)
    commands.add_parser("subscribe", help=_SUBSCRIBE)
    commands.add_parser("genconfig", help="print a TOML file with every option, explained")
    for command, text in _TOKENS.items():
        commands.add_parser(command, help=text)
    check = commands.add_parser("checkconfig", help="check a TOML file together with the environment")
    check.add_argument("file", metavar="FILE")
    commands.add_parser("version", help="print the version")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "genconfig":
            print(genconfig(), flush=True)
        elif chosen.command == "checkconfig":
            _check(chosen.file)
        else:
            print(show_version(), flush=True)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)


def _serve(arguments: Sequence[str]) -> None:
    from twisted.scripts.twistd import run  # noqa: PLC0415 (it reads sys.argv)

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "wsserver", *arguments]
    run()


def _publish(arguments: Sequence[str]) -> None:
    from wsserver.cli.publish import add_arguments, publish  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="wsserver publish", description=_PUBLISH)
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    try:
        print(publish(chosen, os.environ, sys.stdin.buffer if sys.stdin else None), flush=True)
    except WsserverError as error:
        _fail(error)
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)


def _subscribe(arguments: Sequence[str]) -> None:
    from wsserver.cli.subscribe import add_arguments, subscribe  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="wsserver subscribe", description=_SUBSCRIBE)
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

    try:
        # If standard output is closed, its descriptor number would be reused for a socket.
        if sys.stdout is None:
            raise SettingError("standard output", "there is none")
        subscribe(chosen, os.environ, sys.stdout.fileno(), sys.stderr, reactor)
    except WsserverError as error:
        _fail(error)


def _fail(error: WsserverError) -> NoReturn:
    from wsserver.tap import complain  # noqa: PLC0415

    complain(error)
    raise SystemExit(EX_TEMPFAIL if error.is_temporary else 1)


def _token_command(arguments: Sequence[str]) -> None:
    from wsserver.cli import tokens  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="wsserver")
    tokens.add_commands(parser.add_subparsers(dest="command", required=True), _TOKENS)
    chosen = parser.parse_args(arguments)
    try:
        tokens.run(chosen, os.environ)
    except WsserverError as error:
        _fail(error)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)


def _check(path: str) -> None:
    from wsserver.config.extras import require  # noqa: PLC0415
    from wsserver.listening.ports import make_listeners  # noqa: PLC0415
    from wsserver.tap import die  # noqa: PLC0415
    from wsserver.text import escape  # noqa: PLC0415

    try:
        settings = Settings.load(environ=os.environ, config=path)
        require(settings)
        # Loads the certificates, but opens no port.
        make_listeners(settings, reactor=None)
    except WsserverError as error:
        die(error)
    print(f"{escape(path)} is fine", flush=True)
