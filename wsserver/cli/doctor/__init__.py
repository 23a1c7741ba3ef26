"""`wsserver doctor URL`: connect as a browser does, and report step by step what is wrong and what repairs it."""

import argparse
import os
import re
from collections.abc import Callable
from typing import TypeVar

from wsserver.cli.doctor.examination import Examination
from wsserver.cli.doctor.report import Report
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.tls import make_context
from wsserver.cli.subscribe import TOKEN_VARIABLE
from wsserver.cli.urls import parse_websocket_url
from wsserver.config.parsers import an_origin, parse_duration
from wsserver.errors import SettingError
from wsserver.text import TOKEN, quote

__all__ = ["add_arguments", "run"]

MAX_WAIT = 3600.0
"""Maximum seconds of the step `idle`."""

Value = TypeVar("Value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver doctor` to a parser."""
    parser.add_argument("url", metavar="URL", help="a ws:, wss:, http: or https: URL with the path of the WebSocket")
    parser.add_argument("--origin", help="the origin of the page that connects [that of a page on the same server]")
    parser.add_argument(
        "--token",
        help=f"the client's token; other users can read a command line, so prefer the environment variable "
        f"{TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "--channel",
        metavar="NAME",
        help="channel to subscribe to in the steps token and sse, for a wsserver "
        "[default: the channel= of the URL, or doctor]",
    )
    parser.add_argument("--subprotocol", help="the subprotocol to offer")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send a header with each handshake"
    )
    parser.add_argument("--ca", metavar="FILE", help="trust the certificates in this file (PEM) too")
    parser.add_argument(
        "--wait",
        default="5s",
        metavar="TIME",
        help="how long to watch a silent connection, such as 70s to find a timeout of 60 s; 0 to leave it out "
        "[%(default)s]",
    )
    parser.add_argument(
        "--echo",
        action="store_true",
        help="the server sends every message back, so test a compressed one; not needed for a wsserver",
    )
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")


def run(chosen: argparse.Namespace) -> None:
    """
    Examine a server, and exit with status 1 if a step has failed.

    Raises:
        SettingError: an argument is invalid.
    """
    wanted = read_arguments(chosen)
    wait = _read("--wait", chosen.wait, lambda text: parse_duration(text, 0, MAX_WAIT))
    if chosen.ca is not None:
        make_context(chosen.ca)
    report = Report(chosen.url, wanted.token, None if chosen.json else _print)
    Examination(wanted, report, chosen.ca, wait).run()
    if chosen.json:
        _print(report.to_json())
    if report.has_failed:
        raise SystemExit(1)


def read_arguments(chosen: argparse.Namespace) -> Wanted:
    """
    Return the request that the arguments describe.

    Raises:
        SettingError: an argument is invalid.
    """
    token = chosen.token or os.environ.get(TOKEN_VARIABLE, "")
    for option, text in (("--token", token), ("--subprotocol", chosen.subprotocol or "")):
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise SettingError(option, "expected printable ASCII without spaces")
    target = _read("URL", chosen.url, lambda text: parse_websocket_url(text, pages=True))
    origin = target.origin if chosen.origin is None else _read("--origin", chosen.origin, an_origin)
    headers = dict(_read("--header", text, _a_header) for text in chosen.header)
    named = _read("--channel", chosen.channel or "", _a_channel)
    return Wanted(target, origin, token, chosen.subprotocol or "", headers, chosen.echo, named=named)


def _read(where: str, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingError(where, f"{error}, not {quote(text)}") from None


def _a_header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    if not re.fullmatch(TOKEN, name) or not (value.isascii() and value.isprintable()):
        raise ValueError("expected printable ASCII such as 'Cookie: a=b'")
    return name, value.strip()


def _a_channel(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected the name of a channel")
    return text


def _print(text: str) -> None:
    print(text, flush=True)
