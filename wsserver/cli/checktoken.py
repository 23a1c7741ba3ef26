"""`wsserver checktoken TOKEN`: check a client token as the server does."""

import argparse
import base64
import json
import os
import sys
from time import time
from typing import cast

from twisted.internet.interfaces import IReactorCore

from wsserver.auth.claims import Grant, Identity
from wsserver.auth.jwt import MAX_TOKEN, Refused
from wsserver.auth.tokens import tokens_of
from wsserver.cli.server_options import add_secret_option, load_settings
from wsserver.config.settings import Settings
from wsserver.errors import SettingError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver checktoken` to a parser."""
    parser.add_argument(
        "token", metavar="TOKEN", help="the token; - reads it from standard input, which other users cannot read"
    )
    add_secret_option(parser, "token_secret")


def run(chosen: argparse.Namespace) -> None:
    """
    Print the kind of the token, its user, how long it is valid, and its claims.

    Raises:
        SettingError: no key is configured, an option is invalid, or the token is not valid.
    """
    settings = load_settings(chosen, os.environ)
    token = sys.stdin.read(MAX_TOKEN + 2).strip() if chosen.token == "-" else chosen.token
    print(_describe(token, _check(token, settings)), flush=True)


def _check(token: str, settings: Settings) -> Identity | Grant:
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

    tokens, jwks = tokens_of(settings, reactor)
    if tokens is None:
        raise SettingError(
            "checktoken",
            "no key to check the token with: set WSSERVER_TOKEN_SECRET, or name the server's file with --config",
        )
    found: list[Identity | Grant | Refused] = []
    if jwks is None:
        tokens.either(token).addCallback(found.append)
    else:
        running = cast(IReactorCore, reactor)
        jwks.start()
        tokens.either(token).addCallback(found.append).addBoth(lambda _: running.callWhenRunning(running.stop))
        running.run()
    if isinstance(found[0], Refused):
        raise SettingError("checktoken", found[0].reason)
    return found[0]


def _describe(token: str, found: Identity | Grant) -> str:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    kind = f"subscription token for channel {found.channel!r}" if isinstance(found, Grant) else "connection token"
    user = f"user {found.user!r}" if found.user else "anonymous client"
    # Within the leeway, a token is still valid although its time is over.
    left = f"for another {max(0, int(claims['exp'] - time()))} seconds" if "exp" in claims else "without expiry"
    return f"{kind}, {user}, valid {left}\n{json.dumps(claims, indent=2)}"
