"""
`wsserver [OPTION...]`: run the server to try it out, and print commands to paste.

It is `wsserver serve` with three options more, unless the user sets them: `--api-key` with a random key; `--redis`, if
a Redis server answers on this machine; and `--catch-all on`, for examples that connect to paths of their own.
"""

import argparse
import gc
import ipaddress
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from wsserver.cli import serve
from wsserver.config.redis_url import parse_redis_url
from wsserver.config.settings import Settings
from wsserver.endpoints.unknown_paths import decide_catch_all

if TYPE_CHECKING:
    from twisted.logger import ILogObserver

__all__ = ["describe", "redis_answers", "run", "trial_options"]

REDIS_PORT = 6379
_REDIS_TIMEOUT = 0.5
"""Maximum seconds to wait for the Redis server of this machine."""

_CHANNEL_OPTIONS = (
    "admin_listen",
    "channel_allow",
    "token_secret",
    "token_public_key",
    "token_jwks_url",
    "hook_connect",
    "hook_subscribe",
)
"""Options with which a page may not subscribe to the channel `foo`, or the API has another address."""


def run(options: Sequence[str]) -> None:
    """
    Run the server in the foreground.

    Args:
        options: options of `wsserver serve`.
    """
    # As in `serve.run`.
    gc.disable()
    from wsserver.tap import Options  # noqa: PLC0415 (slow to import)

    Options.synopsis = "Usage: wsserver [options]"
    # Prints an error or the help, and exits, if there is reason to.
    users = _parse(options)
    found = redis_answers(REDIS_PORT)
    more = trial_options(users, redis=found and find_spec("hiredis") is not None)
    show = partial(_print, _parse([*more, *options]), made="--api-key" in more, found_redis=found)
    _when_listening(show)
    serve.run(argparse.Namespace(options=[*more, *options]))


def _parse(options: Sequence[str]) -> Settings:
    from wsserver.tap import Options  # noqa: PLC0415 (slow to import)

    parser = Options()
    parser.parseOptions(list(options))
    return parser.settings


def redis_answers(port: int) -> bool:
    """Return whether a Redis server that needs no password answers at a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_REDIS_TIMEOUT) as peer:
            peer.sendall(b"PING\r\n")
            return peer.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def trial_options(settings: Settings, *, redis: bool) -> list[str]:
    """
    Return the options that are added to those of the user.

    Args:
        settings: the options of the user.
        redis: whether the Redis server of this machine can be used.
    """
    local = _is_local(settings)
    more = ["--redis", f"redis://127.0.0.1:{REDIS_PORT}"] if redis and local and not settings.redis else []
    if not settings.api_key and not settings.api_insecure:
        more += ["--api-key", secrets.token_hex(16)]
    if settings.catch_all == "auto" and decide_catch_all(settings, loopback_only=local).enabled:
        more += ["--catch-all", "on"]
    return more


def _is_local(settings: Settings) -> bool:
    """Return whether only this machine can reach the server; False if that is known only when it listens."""
    try:
        loopback = ipaddress.ip_address(settings.interface).is_loopback
    except ValueError:
        loopback = False
    return loopback and not settings.listen and not settings.trusted_proxy


def _when_listening(then: Callable[..., None]) -> None:
    """Call a function with the server's `host:port`, and whether it serves TLS, after the server has logged them."""
    from twisted.logger import globalLogPublisher  # noqa: PLC0415 (slow to import)

    is_waiting = True

    def observe(event: dict[str, Any]) -> None:
        nonlocal is_waiting
        if is_waiting and "where" in event and "secure" in event:
            is_waiting = False
            from twisted.internet import reactor  # noqa: PLC0415 (importing the reactor installs it)

            # The line itself is written after this call.
            reactor.callWhenRunning(then, event["where"], secure=bool(event["secure"]))

    globalLogPublisher.addObserver(cast("ILogObserver", observe))


def _print(settings: Settings, where: str, *, secure: bool, made: bool, found_redis: bool) -> None:
    text = "\n".join(describe(settings, where, secure=secure, made=made, found_redis=found_redis))
    # Twisted has replaced `sys.stdout` by an object that writes to the log.
    print(f"\n{text}\n", file=sys.__stdout__, flush=True)


def describe(settings: Settings, where: str, *, secure: bool, made: bool, found_redis: bool) -> Iterator[str]:
    """
    Describe how to try the server: lines, of which the indented ones are to be pasted.

    Args:
        settings: the server's options.
        where: its `host:port`.
        secure: whether it serves TLS.
        made: whether the key of the HTTP API was made for this run. Any other key is not printed.
        found_redis: whether a Redis server answers on this machine.
    """
    tls = "s" if secure else ""
    yield f"Open http{tls}://{where}/ in a browser, or connect a WebSocket client to ws{tls}://{where}/echo."
    if not _allows_channels(settings):
        yield from _describe_echo(tls, where)
    else:
        yield "\nTo receive messages, paste this into the browser's console on that page (F12):\n"
        yield f'    new WebSocket("ws{tls}://{where}/ws?channel=foo").onmessage = event => console.log(event.data)'
        yield "\nTo send one, paste this into another terminal:\n"
        yield f"    curl {_header(settings, made=made)}-d '{_PUBLICATION}' http{tls}://{where}/api/publish"
        yield from _describe_redis(settings, found=found_redis)
    yield "\nCtrl-C stops the server."


_PUBLICATION = '{"channel": "foo", "data": "hello"}'


def _describe_echo(tls: str, where: str) -> Iterator[str]:
    yield "\nTo see an echo, paste this into the browser's console on that page (F12):\n"
    yield (
        f'    socket = new WebSocket("ws{tls}://{where}/echo"); socket.onopen = () => socket.send("hello"); '
        "socket.onmessage = event => console.log(event.data)"
    )
    yield "\nTo check the server, paste this into another terminal:\n"
    yield f"    curl http{tls}://{where}/health"


def _allows_channels(settings: Settings) -> bool:
    """Return whether a page of the server may certainly subscribe to the channel `foo`, and the API publish to it."""
    if settings.workers != 1 and not settings.redis:
        return False
    return _is_local(settings) and not any(getattr(settings, name) for name in _CHANNEL_OPTIONS)


def _header(settings: Settings, *, made: bool) -> str:
    if settings.api_insecure:
        return ""
    return f"-H 'X-API-Key: {settings.api_key if made else 'YOUR KEY'}' "


def _describe_redis(settings: Settings, *, found: bool) -> Iterator[str]:
    if not settings.redis:
        yield "\nTo send one with redis-cli, too, stop the server, and then:\n" if found else _WITHOUT_REDIS
        if found:
            yield "    pip install hiredis && wsserver"
        return
    url = parse_redis_url(settings.redis)
    if not (url.master or url.tls or url.password):
        [(host, port)] = url.hosts
        yield f"    redis-cli {_address(host, port)}publish foo hello"


_WITHOUT_REDIS = "\nTo send with `redis-cli publish foo hello`, too, start Redis on this machine, and wsserver again."


def _address(host: str, port: int) -> str:
    name = "" if host in ("127.0.0.1", "localhost") else f"-h {host} "
    return name + ("" if port == REDIS_PORT else f"-p {port} ")
