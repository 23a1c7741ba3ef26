"""`wsserver checkconfig FILE`: check a configuration file together with the environment."""

import argparse
import os

from wsserver.config.loader import require_libraries
from wsserver.config.settings import Settings
from wsserver.hooks.client import check_settings
from wsserver.listening.ports import make_listeners
from wsserver.text import escape

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver checkconfig` to a parser."""
    parser.add_argument("file", metavar="FILE", help="the configuration file to check")


def run(chosen: argparse.Namespace) -> None:
    """
    Load the settings and the certificates, without opening a port.

    Raises:
        WsserverError: an option, a certificate or an endpoint string is invalid, or a library is missing.
    """
    settings = Settings.load(environ=os.environ, config=chosen.file)
    require_libraries(settings)
    check_settings(settings)
    make_listeners(settings, reactor=None)
    print(f"{escape(chosen.file)} is valid", flush=True)
