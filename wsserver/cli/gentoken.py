"""`wsserver gentoken`: sign a client token, for tests and for trying things out."""

import argparse
import json
import os
from time import time
from typing import Any, Final

from wsserver.auth.jwt import Refused, Terms, verify_any
from wsserver.cli.server_options import add_secret_option, load_settings
from wsserver.config.loader import require_libraries
from wsserver.config.options import quote_values
from wsserver.config.parsers import parse_duration
from wsserver.config.settings import Settings
from wsserver.errors import SettingError

__all__ = ["add_arguments", "run"]

_TEN_YEARS: Final = 10 * 366 * 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver gentoken` to a parser."""
    parser.add_argument("--user", metavar="NAME", default="", help="the user (sub) [default: an anonymous client]")
    parser.add_argument(
        "--ttl", metavar="TIME", default="1h", help="how long the token is valid, such as 10m [default: %(default)s]"
    )
    parser.add_argument(
        "--channel", metavar="NAME", help="make a subscription token for this channel instead of a connection token"
    )
    parser.add_argument("--info", metavar="JSON", help="what presence shows of the client")
    parser.add_argument("--claims", metavar="JSON", help='an object of further claims, such as {"channels": ["news"]}')
    add_secret_option(parser, "token_secret")


def run(chosen: argparse.Namespace) -> None:
    """
    Print a token.

    Raises:
        SettingError: no secret is configured, an argument is invalid, or the server would reject the token.
    """
    print(_generate(chosen, load_settings(chosen, os.environ)), flush=True)


def _generate(chosen: argparse.Namespace, settings: Settings) -> str:
    if not settings.token_secret:
        raise SettingError(
            "token_secret", "missing; set WSSERVER_TOKEN_SECRET, or name the server's file with --config"
        )
    require_libraries(settings)
    from wsserver.auth.keys import KeyRing, encode, secret  # noqa: PLC0415 (it needs PyJWT)

    key = secret("token_secret", settings.token_secret, weak=settings.token_secret_weak)
    now = int(time())
    token = encode(_claims(chosen, settings, now), key)
    # A token that the server would reject is reported as an error, not printed.
    found = verify_any(token, KeyRing([key]), now, Terms(settings.token_audience, settings.token_issuer))
    if isinstance(found, Refused):
        raise SettingError("gentoken", f"the server would reject this token: {found.reason}")
    return token


def _claims(chosen: argparse.Namespace, settings: Settings, now: int) -> dict[str, Any]:
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
        given["info"] = _parse_json("--info", chosen.info)
    more = _parse_json("--claims", chosen.claims) if chosen.claims is not None else {}
    if not isinstance(more, dict):
        raise SettingError("--claims", f"expected a JSON object, not {quote_values([chosen.claims])}")
    return given | more


def _parse_json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SettingError(option, f"expected JSON, not {quote_values([text])}") from None
