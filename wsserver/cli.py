"""The console script `wsserver`: serve, gentoken, checktoken, genconfig, checkconfig, version."""

import argparse
import os
import sys
from collections.abc import Sequence

from wsserver import tokencommands
from wsserver.errors import WsserverError
from wsserver.logs import escape
from wsserver.settings import genconfig, load
from wsserver.tap import die, show_version

__all__ = ["main"]


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
    commands.add_parser("genconfig", help="print a TOML file with every option, explained")
    tokencommands.add_commands(commands)
    check = commands.add_parser("checkconfig", help="check a TOML file together with the environment")
    check.add_argument("file", metavar="FILE")
    commands.add_parser("version", help="print the version")
    chosen = parser.parse_args(arguments)
    if chosen.command == "genconfig":
        print(genconfig())
    elif chosen.command == "checkconfig":
        _check(chosen.file)
    elif chosen.command in tokencommands.COMMANDS:
        _run_token_command(chosen)
    else:
        print(show_version())


def _serve(arguments: Sequence[str]) -> None:
    from twisted.scripts.twistd import run  # noqa: PLC0415 (it reads sys.argv)

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "wsserver", *arguments]
    run()


def _run_token_command(chosen: argparse.Namespace) -> None:
    try:
        tokencommands.run(chosen, os.environ)
    except WsserverError as error:
        die(error)


def _check(path: str) -> None:
    try:
        load(environ=os.environ, config=path)
    except WsserverError as error:
        die(error)
    print(f"{escape(path)} is fine")
