"""`wsserver publish CHANNEL DATA`: publish to a channel through the HTTP API of a running server."""

import argparse
import base64
import http.client
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import BinaryIO

from wsserver.cli.server_options import add_secret_option, add_url_option, hint_for, load_settings, server_of
from wsserver.cli.urls import ServerURL
from wsserver.config.options import quote_values
from wsserver.errors import Refused, SettingError, Unreachable
from wsserver.jsonfields import read_json
from wsserver.wire.frames import is_utf8

__all__ = ["add_arguments", "make_body", "parse_tags", "publish", "run"]

MAX_DATA = 16 * 1024 * 1024
"""Maximum number of bytes read from standard input. The server accepts much less, and its error names the limit."""

MAX_ANSWER = 1024 * 1024
"""Maximum number of bytes read from a response."""

TIMEOUT = 30.0
"""Seconds to wait for the connection, and for each read from and write to it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wsserver publish` to a parser."""
    parser.add_argument("channel", metavar="CHANNEL", help="the channel to publish to")
    parser.add_argument(
        "data", metavar="DATA", help="the data to publish, as a text; - reads it from standard input, byte for byte"
    )
    parser.add_argument("--json", action="store_true", help="publish DATA as a JSON value instead of a text")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="add a tag, which subscribers can filter by; may be repeated",
    )
    add_url_option(parser)
    add_secret_option(parser, "api_key")


def run(chosen: argparse.Namespace) -> None:
    """Publish, and print the server's answer; see `publish` for the errors raised."""
    print(publish(chosen, os.environ, sys.stdin.buffer if sys.stdin else None), flush=True)


def publish(chosen: argparse.Namespace, environ: Mapping[str, str], stdin: BinaryIO | None) -> str:
    """
    Publish data to a channel.

    Args:
        chosen: the parsed command line.
        environ: the environment; options such as WSSERVER_API_KEY are read from it.
        stdin: standard input, from which the data is read if DATA is `-`; None if the process has none.

    Returns:
        The `result` of the server's response, as a line of JSON.

    Raises:
        SettingError: an argument or option is invalid, or the API key is missing.
        Refused: the server answered with an error.
        Unreachable: the connection to the server failed.
    """
    target = server_of(chosen)
    key = load_settings(chosen, environ).api_key
    if not key:
        raise SettingError("--api-key", "missing; give the server's key here, in WSSERVER_API_KEY or with --config")
    data = _read(stdin) if chosen.data == "-" else os.fsencode(chosen.data)
    status, answer = _post(target, key, make_body(chosen.channel, data, parse_tags(chosen.tag), as_json=chosen.json))
    return _receipt(status, answer, hint_for(target) if status == HTTPStatus.NOT_FOUND else "")


def _read(stdin: BinaryIO | None) -> bytes:
    if stdin is None:
        raise SettingError("-", "standard input is closed")
    data = stdin.read(MAX_DATA + 1)
    if len(data) > MAX_DATA:
        raise SettingError("-", f"standard input is longer than {MAX_DATA} bytes")
    return data


def parse_tags(pairs: Sequence[str]) -> dict[str, str]:
    """
    Parse the values of `--tag`.

    Raises:
        SettingError: a value is not a pair, or two have the same name.
    """
    tags: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise SettingError("--tag", f"expected NAME=VALUE, not {quote_values([pair])}")
        if name in tags:
            raise SettingError("--tag", f"several values for one name; a second one is {quote_values([pair])}")
        tags[name] = value
    return tags


def make_body(channel: str, data: bytes, tags: Mapping[str, str] = {}, *, as_json: bool) -> bytes:
    """
    Build the body of a request to `/api/publish`.

    Args:
        channel: the channel to publish to.
        data: the data to publish. It is sent as a string if it is UTF-8, else in base64 (`b64data`).
        tags: the publication's tags.
        as_json: publish the data as the JSON value that it contains.

    Raises:
        SettingError: `as_json` is set, but the data is not JSON.
    """
    first = b'{"channel": %b, ' % json.dumps(channel).encode("ascii")
    if tags:
        first += b'"tags": %b, ' % json.dumps(tags).encode("ascii")
    if not as_json:
        # A text always as a string: in base64, it would be bytes, which subscribers may receive in another form.
        if is_utf8(data):
            text = json.dumps(data.decode("utf-8"), ensure_ascii=False).encode("utf-8")
            return b'%b"data": %b}' % (first, text)
        return b'%b"b64data": "%b"}' % (first, base64.b64encode(data))
    try:
        read_json(data)
    except ValueError as error:
        shown = quote_values([data.decode("utf-8", "backslashreplace")])
        raise SettingError("--json", f"invalid DATA {shown}: {error}") from None
    return b'%b"data": %b}' % (first, data)


def _post(target: ServerURL, key: str, body: bytes) -> tuple[int, bytes]:
    headers: dict[str, str | bytes] = {"Content-Type": "application/json", "X-API-Key": key.encode("utf-8")}
    connection = (
        http.client.HTTPSConnection(target.host, target.port, timeout=TIMEOUT, context=ssl.create_default_context())
        if target.tls
        else http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT)
    )
    try:
        try:
            connection.request("POST", target.path + "/api/publish", body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses the request may close without reading the whole body, after it has responded.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except OSError as error:
        raise Unreachable(target.at("http", ""), _why(error)) from None
    # Handled after OSError: the error for an untrusted certificate is both an OSError and a ValueError.
    except ValueError:
        raise SettingError("--api-key", "expected a key without control characters") from None
    except http.client.HTTPException as error:
        reason = f"the response is not valid HTTP ({type(error).__name__})"
        raise Unreachable(target.at("http", ""), reason) from None
    finally:
        connection.close()


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', None) or error.reason}"
    return error.strerror or str(error)


def _receipt(status: int, answer: bytes, hint: str) -> str:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        value = {}
    if status == 200 and isinstance(value.get("result"), dict):
        return json.dumps(value["result"], ensure_ascii=False)
    error = value.get("error")
    message = error.get("message") if isinstance(error, dict) else answer[:200].decode("utf-8", "replace").strip()
    raise Refused(status, str(message) + hint)
