"""
`wsserver bench URL`: measure how fast a WebSocket server answers, or delivers publications.

The load generator is written in C (`benchmarks/load.c`), so that it is not the slower one of the two. It checks every
reply. It runs in a process of its own, because it ends its process if a reply is wrong.
"""

import argparse
import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wsserver.cli.urls import Target, parse_websocket_url
from wsserver.errors import BenchFailed, InvalidChannel, SettingError, Unreachable
from wsserver.hub.names import parse_name
from wsserver.text import escape

__all__ = ["Target", "add_arguments", "command_of", "parse_target", "run", "summarize"]

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for the first connection, and for all opening handshakes."""

MAX_CONNECTIONS = 19_000
"""Maximum number of connections: a process has 20,000 file descriptors on many systems."""

_PROGRAM = "import sys; from wsserver.cli import _load; sys.exit(_load.main(*sys.argv[1:]))"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver bench` to a parser."""
    parser.add_argument("url", metavar="URL", help="a ws:// or wss:// URL whose server sends back every message")
    numbers: Sequence[tuple[str, int, int, str]] = (
        ("connections", 100, MAX_CONNECTIONS, "number of connections"),
        ("size", 64, 16 * 1024**2, "size of a message in bytes, at least 4"),
        ("in-flight", 1, 1000, "number of messages that a connection sends before it waits for a reply"),
    )
    for name, default, most, text in numbers:
        parser.add_argument(
            f"--{name}", type=_whole(4 if name == "size" else 1, most), default=default, help=f"{text} [{default}]"
        )
    parser.add_argument("--duration", type=_seconds, default=10.0, metavar="SECONDS", help="how long to measure [10]")
    parser.add_argument("--warmup", type=_seconds, default=1.0, metavar="SECONDS", help="how long to wait before [1]")
    parser.add_argument(
        "--rate",
        type=_whole(1, 10_000_000),
        metavar="N",
        help="send N messages per second in total, on schedule; a latency then counts from the time at which the "
        "message was due, so a server that stalls cannot hide it",
    )
    parser.add_argument(
        "--payload", choices=("text", "binary", "utf8"), default="text", help="utf8: Chinese and ASCII text [text]"
    )
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send a header with each handshake"
    )
    parser.add_argument("--origin", help="the Origin header of the handshakes [that of a page on the same server]")
    parser.add_argument("--subprotocol", help="the subprotocol to offer")
    parser.add_argument("--insecure", action="store_true", help="do not verify the certificate of the server")
    parser.add_argument(
        "--centrifuge",
        metavar="CHANNEL",
        help="subscribe every connection to a channel with the Centrifuge protocol (JSON), publish to it with one more "
        "connection, and measure the deliveries; --in-flight is the number of publications that are under way",
    )
    parser.add_argument("--token", help="the connection token for --centrifuge")
    parser.add_argument("--json", action="store_true", help="print the figures as a JSON object")


def _whole(least: int, most: int) -> Any:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds, over 0 and up to 86400, not {text!r}")
    return seconds


def run(chosen: argparse.Namespace) -> None:
    """
    Measure, and print the figures.

    Raises:
        SettingError: an argument is invalid, or the load generator is not installed.
        Unreachable: no connection to the server.
        BenchFailed: the server refused or closed a connection, or a reply was wrong or missing.
    """
    if importlib.util.find_spec("wsserver.cli._load") is None:
        raise SettingError(
            "bench",
            "the load generator was not compiled when wsserver was installed: it needs a C compiler and the headers of "
            "OpenSSL and zlib; install them, then install wsserver again",
        )
    target = parse_target(chosen.url)
    words = command_of(chosen, target, _find_address(target))
    # Ctrl-C reaches both processes. The load generator then prints its figures; this process waits for them.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        # -P: in a checkout, the working directory has a package of the same name, without the compiled load generator.
        words = [sys.executable, "-P", "-c", _PROGRAM, *words]
        done = subprocess.run(words, capture_output=True, check=False)  # noqa: S603 (our own program)
    finally:
        signal.signal(signal.SIGINT, before)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().removeprefix("load: ")
        raise BenchFailed(chosen.url, reason or f"the load generator ended with status {done.returncode}")
    figures = json.loads(done.stdout)
    print(json.dumps(figures) if chosen.json else summarize(chosen, figures), flush=True)


def parse_target(url: str) -> Target:
    """
    Parse a WebSocket URL (RFC 6455 section 3).

    Raises:
        SettingError: the URL is invalid.
    """
    try:
        return parse_websocket_url(url)
    except ValueError as error:
        raise SettingError("URL", f"{error}, not {url!r}") from None


def _find_address(target: Target) -> str:
    """Return the first address of the server that accepts a connection."""
    url = f"{target.host}:{target.port}"
    try:
        with socket.create_connection((target.host, target.port), CONNECT_TIMEOUT) as connection:
            return str(connection.getpeername()[0])
    except OSError as error:
        raise Unreachable(url, error.strerror or str(error)) from None


def command_of(chosen: argparse.Namespace, target: Target, address: str) -> list[str]:
    """
    Return the arguments of the load generator.

    Args:
        chosen: the parsed command line.
        target: the parts of the URL.
        address: the IP address of the server.

    Raises:
        SettingError: an argument is invalid, or does not fit another one.
    """
    mode = "fanout" if chosen.centrifuge is not None else "latency" if chosen.rate else "echo"
    words = [mode, "--port", str(target.port), "--address", address, "--host", target.host_header]
    words += ["--path", target.path, "--connections", str(chosen.connections), "--size", str(chosen.size)]
    words += ["--duration", str(chosen.duration), "--warmup", str(chosen.warmup), "--timeout", str(CONNECT_TIMEOUT)]
    words += ["--payload", chosen.payload, *_tls_words(chosen, target)]
    for header in _headers(chosen):
        words += ["--header", header]
    if chosen.rate:
        if chosen.in_flight != 1:
            raise SettingError("--in-flight", "does not fit --rate, with which messages are sent on schedule")
        words += ["--rate", str(chosen.rate)]
    else:
        words += ["--in-flight", str(chosen.in_flight)]
    return words + _centrifuge_words(chosen)


def _tls_words(chosen: argparse.Namespace, target: Target) -> list[str]:
    if not target.tls:
        return []
    return ["--tls"] if chosen.insecure else ["--tls", "--verify", target.host]


def _headers(chosen: argparse.Namespace) -> list[str]:
    headers = list(chosen.header)
    if chosen.origin is not None:
        headers.append(f"Origin: {chosen.origin}")
    if chosen.subprotocol is not None:
        headers.append(f"Sec-WebSocket-Protocol: {chosen.subprotocol}")
    for header in headers:
        name, colon, _ = header.partition(":")
        if not (name and colon and header.isascii() and header.isprintable()) or " " in name:
            raise SettingError("--header", f"expected printable ASCII such as 'Cookie: a=b', not {header!r}")
    return headers


def _centrifuge_words(chosen: argparse.Namespace) -> list[str]:
    if chosen.centrifuge is None:
        if chosen.token is not None:
            raise SettingError("--token", "needs --centrifuge; for other servers use --header")
        return []
    try:
        channel = parse_name(chosen.centrifuge)
    except InvalidChannel as error:
        raise SettingError("--centrifuge", str(error)) from None
    for option, text in (("--centrifuge", channel), ("--token", chosen.token or "")):
        if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text or " " in text:
            raise SettingError(option, "expected printable ASCII without spaces, quotation marks and backslashes")
    if chosen.rate:
        raise SettingError("--rate", "does not fit --centrifuge; use --in-flight")
    return ["--centrifuge", "--channel", channel, *(["--token", chosen.token] if chosen.token else [])]


def summarize(chosen: argparse.Namespace, figures: Mapping[str, float]) -> str:
    """
    Return the figures as lines for a person.

    Args:
        chosen: the parsed command line.
        figures: the figures that the load generator has printed.
    """
    what = "deliveries" if chosen.centrifuge is not None else "replies"
    latencies = [("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("p99.9", "p999_us"), ("longest", "max_us")]
    shown = "  ".join(f"{name} {_duration(figures[key])}" for name, key in latencies if key in figures)
    busy = figures["load_busy"]
    lines = [
        f"{escape(chosen.url)}: {chosen.connections} connections, {chosen.size} bytes, {chosen.in_flight} in flight",
        f"{what}: {figures['messages']:.0f}, all correct; {figures['rate']:.0f} per second",
        f"latency: {shown}",
        f"load generator: {busy:.0%} of a core"
        + ("; it may be the bottleneck, so the server may be faster" if busy > 0.9 else ""),
    ]
    return "\n".join(lines)


def _duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.2f} s"
