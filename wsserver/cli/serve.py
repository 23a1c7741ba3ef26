"""`wsserver serve [OPTION...]`: run the server in the foreground."""

import argparse
import gc
import sys

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver serve` to a parser: all are passed on to twistd."""
    parser.add_argument("options", nargs=argparse.REMAINDER)


def run(chosen: argparse.Namespace) -> None:
    """Run `twistd -n wsserver`, without a pid file."""
    # Importing creates a great many objects that stay: searching them for garbage takes a tenth of the time to start.
    # `makeService` turns the garbage collector on again.
    gc.disable()
    from twisted.scripts import twistd  # noqa: PLC0415 (it reads sys.argv)

    from wsserver.tap import Options  # noqa: PLC0415 (slow to import)

    Options.synopsis = "Usage: wsserver serve [options]"
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "wsserver", *chosen.options]
    twistd.run()
