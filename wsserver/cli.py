"""The console script `wsserver`: serve, publish, subscribe, genconfig, checkconfig, version."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from wsserver import publish, subscribe
from wsserver.errors import SettingError, WsserverError
from wsserver.logs import escape
from wsserver.settings import genconfig, load
from wsserver.tap import complain, die, show_version

__all__ = ["PASSES", "main"]

PASSES = 75
"""The exit status where the same command may do better later: `EX_TEMPFAIL` of sysexits.h."""


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run a command.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # All that follows belongs to twistd's parser, its --help too.
    if arguments[:1] == ["serve"]:
        _serve(arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="wsserver", description="A WebSocket server: echo, commands, a browser page.")
    parser.add_argument("--version", action="version", version=show_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve in the foreground, as `twistd -n wsserver`; takes the same options")
    words = "publish to a channel, over the HTTP API of a running server; prints its answer"
    publish.add_arguments(commands.add_parser("publish", help=words, description=words))
    words = "print what is published to channels, a line a message, until the connection ends"
    subscribe.add_arguments(commands.add_parser("subscribe", help=words, description=words))
    commands.add_parser("genconfig", help="print a TOML file with every option, explained")
    check = commands.add_parser("checkconfig", help="check a TOML file together with the environment")
    check.add_argument("file", metavar="FILE")
    commands.add_parser("version", help="print the version")
    chosen = parser.parse_args(arguments)
    if chosen.command == "publish":
        _publish(chosen)
    elif chosen.command == "subscribe":
        _subscribe(chosen)
    elif chosen.command == "genconfig":
        print(genconfig())
    elif chosen.command == "checkconfig":
        _check(chosen.file)
    else:
        print(show_version())


def _serve(arguments: Sequence[str]) -> None:
    from twisted.scripts.twistd import run  # noqa: PLC0415 (it reads sys.argv)

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "wsserver", *arguments]
    run()


def _publish(chosen: argparse.Namespace) -> None:
    try:
        print(publish.publish(chosen, os.environ, sys.stdin.buffer if sys.stdin else None), flush=True)
    except WsserverError as error:
        _fail(error)
    except KeyboardInterrupt:
        subscribe.die_by(signal.SIGINT)
    except BrokenPipeError:
        subscribe.die_by(signal.SIGPIPE)


def _subscribe(chosen: argparse.Namespace) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

    try:
        # Without one its number would soon be that of a socket.
        if sys.stdout is None:
            raise SettingError("standard output", "there is none")
        subscribe.subscribe(chosen, os.environ, sys.stdout.fileno(), sys.stderr, reactor)
    except WsserverError as error:
        _fail(error)


def _fail(error: WsserverError) -> NoReturn:
    complain(error)
    raise SystemExit(PASSES if error.passes else 1)


def _check(path: str) -> None:
    try:
        load(environ=os.environ, config=path)
    except WsserverError as error:
        die(error)
    print(f"{escape(path)} is fine")
