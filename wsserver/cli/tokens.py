"""`wsserver gentoken` and `wsserver checktoken`: sign a token for tests, and check a token as the server does."""

import argparse
import base64
import json
import sys
from collections.abc import Mapping
from time import time
from typing import Any, Final, cast

from twisted.internet.interfaces import IReactorCore

from wsserver.auth.claims import Grant, Identity
from wsserver.auth.jwt import MAX_TOKEN, Refused, Terms, verify_any
from wsserver.config.parsers import parse_duration, show_duration
from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.service import tokens_of

__all__ = ["add_commands", "run"]

_TEN_YEARS: Final = 10 * 366 * 86400


def add_commands(commands: Any, words: Mapping[str, str]) -> None:
    """
    Add the two commands to a parser.

    Args:
        commands: the object that `ArgumentParser.add_subparsers` returned.
        words: command -> description.
    """
    generate = commands.add_parser("gentoken", description=words["gentoken"])
    generate.add_argument(
        "--user", metavar="NAME", default="", help="who it is for (sub); left out, nobody in particular"
    )
    generate.add_argument("--ttl", metavar="TIME", default="1h", help="how long it is valid, such as 10m [default: 1h]")
    generate.add_argument("--channel", metavar="NAME", help="make a subscription token, for this one channel")
    generate.add_argument("--info", metavar="JSON", help="what others see of the client in presence")
    generate.add_argument("--claims", metavar="JSON", help='an object with more claims, such as {"channels": ["news"]}')
    check = commands.add_parser("checktoken", description=words["checktoken"])
    check.add_argument("token", metavar="TOKEN", help="- reads it from standard input, where other users do not see it")
    for parser in (generate, check):
        parser.add_argument("--config", metavar="FILE", help="the server's file of options")
        parser.add_argument(
            "--token-secret",
            metavar="SECRET",
            help="better in the file, or in the environment as WSSERVER_TOKEN_SECRET: others see the command line",
        )


def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """
    Run one of the two commands, and print the token or what it contains.

    Args:
        chosen: the parsed command line.
        environ: the environment; options are read from it.

    Raises:
        SettingError: no key is configured, an argument or option is invalid, or the token is not valid.
    """
    flags = {} if chosen.token_secret is None else {"token_secret": [chosen.token_secret]}
    settings = Settings.load(flags, environ, chosen.config)
    if chosen.command == "gentoken":
        print(_generate(chosen, settings))
    else:
        text = sys.stdin.read(MAX_TOKEN + 2).strip() if chosen.token == "-" else chosen.token
        print(_describe(text, _check(text, settings)))


def _generate(chosen: argparse.Namespace, settings: Settings) -> str:
    if not settings.token_secret:
        raise SettingError("token_secret", "there is none to sign with; set WSSERVER_TOKEN_SECRET, or name a --config")
    # Raises a SettingError that names the extra to install if PyJWT is missing.
    tokens_of(settings, None)
    from wsserver.auth.keys import KeyRing, encode, secret  # noqa: PLC0415 (it needs PyJWT)

    now = int(time())
    try:
        ttl = int(parse_duration(chosen.ttl, 1, _TEN_YEARS))
    except ValueError as error:
        raise SettingError("--ttl", f"{error}, not {chosen.ttl!r}") from None
    claims = {
        "sub": chosen.user,
        "iat": now,
        "exp": now + ttl,
        "aud": settings.token_audience,
        "iss": settings.token_issuer,
        "channel": chosen.channel,
    }
    given = {name: value for name, value in claims.items() if value}
    if chosen.info is not None:
        given["info"] = _read("--info", chosen.info)
    more = _read("--claims", chosen.claims) if chosen.claims is not None else {}
    if not isinstance(more, dict):
        raise SettingError("--claims", "expected a JSON object")
    key = secret("token_secret", settings.token_secret)
    token = encode(given | more, key)
    # A token that the server would reject is reported as an error, not printed.
    found = verify_any(token, KeyRing([key]), now, Terms(settings.token_audience, settings.token_issuer))
    if isinstance(found, Refused):
        raise SettingError("gentoken", f"no server would take it: {found.reason}")
    return token


def _read(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SettingError(option, "expected JSON") from None


def _check(text: str, settings: Settings) -> Identity | Grant:
    from twisted.internet import reactor  # noqa: PLC0415 (importing it installs it)

    tokens, jwks = tokens_of(settings, reactor)
    if tokens is None:
        raise SettingError("checktoken", "there is no key to check with: name the server's file with --config")
    found: list[Identity | Grant | Refused] = []
    if jwks is None:
        tokens.either(text).addCallback(found.append)
    else:
        running = cast(IReactorCore, reactor)
        jwks.start()
        tokens.either(text).addCallback(found.append).addBoth(lambda _: running.callWhenRunning(running.stop))
        running.run()
    if isinstance(found[0], Refused):
        raise SettingError("checktoken", found[0].reason)
    return found[0]


def _describe(text: str, found: Identity | Grant) -> str:
    payload = text.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    kind = f"a subscription token for {found.channel!r}" if isinstance(found, Grant) else "a connection token"
    whose = f"of {found.user!r}" if found.user else "of nobody in particular"
    left = show_duration(max(0, claims["exp"] - int(time())))
    return f"{kind} {whose}, valid for another {left}\n{json.dumps(claims, indent=2)}"
