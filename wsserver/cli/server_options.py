"""Arguments that several commands share: the server's URL, and the server's options that a command needs."""

import argparse
from collections.abc import Mapping

from wsserver.cli.urls import DEFAULT_URL, ServerURL, parse_server_url
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError

__all__ = ["add_secret_option", "add_url_option", "hint_for", "load_settings", "server_of"]

PATHS = ("/api/publish", "/api", "/connection/websocket", "/ws", "/sse", "/echo")
"""Paths of the server that users append to its URL by mistake."""


def add_url_option(parser: argparse.ArgumentParser) -> None:
    """Add `--url`, which `server_of` parses."""
    parser.add_argument("--url", default=DEFAULT_URL, help="URL of the server [default: %(default)s]")


def server_of(chosen: argparse.Namespace) -> ServerURL:
    """
    Return the parts of the URL that `--url` names.

    Raises:
        SettingError: the URL is invalid.
    """
    try:
        return parse_server_url(chosen.url)
    except ValueError as error:
        raise SettingError("--url", f"{error}, not {chosen.url!r}") from None


def hint_for(target: ServerURL) -> str:
    """Return what to add to a refusal if `--url` names a path of the server instead of the server."""
    path = next((path for path in PATHS if target.path.endswith(path)), None)
    return "" if path is None else f"; --url expects the URL of the server, without {path}"


def add_secret_option(parser: argparse.ArgumentParser, name: str) -> None:
    """
    Add a secret option of the server, and `--config` to read it from the server's configuration file.

    Args:
        parser: the parser of the command.
        name: the name of the option in the option table.
    """
    option = TABLE[name]
    parser.add_argument(
        option.flag,
        dest="secret",
        metavar=option.metavar,
        help=f"the server's {option.flag}; other users can read a command line, so prefer the environment variable "
        f"{option.variable} or the file",
    )
    parser.add_argument("--config", metavar="FILE", help=f"read {name} from the server's configuration file (TOML)")
    parser.set_defaults(secret_option=name)


def load_settings(chosen: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """
    Load the server's settings: the flag of `add_secret_option` overrides the environment, which overrides the file.

    Args:
        chosen: the parsed command line.
        environ: the environment.

    Raises:
        SettingError: an option is invalid, or the file cannot be read.
    """
    flags = {} if chosen.secret is None else {chosen.secret_option: [chosen.secret]}
    return Settings.load(flags, environ, chosen.config)
