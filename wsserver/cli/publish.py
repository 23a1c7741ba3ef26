"""`wsserver publish CHANNEL DATA`: publish over the HTTP API of a running server."""

import argparse
import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from typing import BinaryIO

from wsserver.cli.urls import DEFAULT_URL, ServerURL, parse_server_url
from wsserver.config.settings import Settings
from wsserver.errors import Refused, SettingError, Unreachable
from wsserver.jsonfields import read_json
from wsserver.wire.frames import is_utf8

__all__ = ["add_arguments", "make_body", "publish"]

MAX_DATA = 16 * 1024 * 1024
"""Most bytes that are read from standard input. The server takes far less and says how much."""

MAX_ANSWER = 1024 * 1024
"""Most bytes of an answer that are read."""

TIMEOUT = 30.0
"""Seconds without a sign of the server."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("data", metavar="DATA", help="what to publish; - takes standard input, byte for byte")
    parser.add_argument("--json", action="store_true", help="publish DATA as the JSON value that it is")
    parser.add_argument("--url", default=DEFAULT_URL, help="the server (default: %(default)s)")
    parser.add_argument(
        "--api-key", metavar="KEY", help="better in WSSERVER_API_KEY or in a file: others can read a command line"
    )
    parser.add_argument("--config", metavar="FILE", help="take api_key from the server's own TOML file")


def publish(chosen: argparse.Namespace, environ: Mapping[str, str], stdin: BinaryIO | None) -> str:
    """
    Publish.

    Args:
        chosen: the command line, parsed.
        environ: for the key.
        stdin: what `-` stands for; None where the process has none.

    Returns:
        The receipt: what the server answers, as a line of JSON.

    Raises:
        SettingError: the command line cannot be done.
        Refused: the server does not publish it.
        Unreachable: there is no server.
    """
    try:
        target = parse_server_url(chosen.url)
    except ValueError as error:
        raise SettingError("--url", f"{error}, not {chosen.url!r}") from None
    flags = {} if chosen.api_key is None else {"api_key": [chosen.api_key]}
    key = Settings.load(flags, environ, chosen.config).api_key
    if not key:
        raise SettingError("--api-key", "publishing needs the server's key, here, in WSSERVER_API_KEY or in --config")
    data = _read(stdin) if chosen.data == "-" else os.fsencode(chosen.data)
    status, answer = _post(target, key, make_body(chosen.channel, data, as_json=chosen.json))
    return _receipt(status, answer)


def _read(stdin: BinaryIO | None) -> bytes:
    if stdin is None:
        raise SettingError("-", "there is no standard input")
    data = stdin.read(MAX_DATA + 1)
    if len(data) > MAX_DATA:
        raise SettingError("-", f"over {MAX_DATA} bytes on standard input")
    return data


def make_body(channel: str, data: bytes, *, as_json: bool) -> bytes:
    """
    Write the body of a request to `/api/publish`.

    Args:
        channel: where to publish.
        data: what to; where that is shorter, or it is no UTF-8, it goes in base64.
        as_json: it is a JSON value, and is to be published as one.

    Raises:
        SettingError: it is none.
    """
    name = json.dumps(channel).encode("ascii")
    if not as_json:
        forms = []
        if is_utf8(data):
            forms.append(b'"data": %b' % json.dumps(data.decode("utf-8"), ensure_ascii=False).encode("utf-8"))
        # Bytes that spell JSON would be taken for the value, and a text is to stay a text.
        if not forms or not _is_json(data):
            forms.append(b'"b64data": "%b"' % base64.b64encode(data))
        return b'{"channel": %b, %b}' % (name, min(forms, key=len))
    try:
        read_json(data)
    except ValueError as error:
        raise SettingError("--json", f"DATA is not JSON: {error}") from None
    return b'{"channel": %b, "data": %b}' % (name, data)


def _is_json(data: bytes) -> bool:
    try:
        read_json(data)
    except ValueError:
        return False
    return True


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
            # A server that refuses the body does not read it to its end; the answer may be here already.
            if connection.sock is None:
                raise
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except OSError as error:
        raise Unreachable(target.at("http", ""), _why(error)) from None
    # After OSError: a certificate that is not trusted is both.
    except ValueError:
        raise SettingError("--api-key", "a key with a control character cannot be sent") from None
    except http.client.HTTPException as error:
        reason = f"the answer is no HTTP response ({type(error).__name__})"
        raise Unreachable(target.at("http", ""), reason) from None
    finally:
        connection.close()


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', None) or error.reason}"
    return error.strerror or str(error)


def _receipt(status: int, answer: bytes) -> str:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        value = {}
    if status == 200 and isinstance(value.get("result"), dict):
        return json.dumps(value["result"], ensure_ascii=False)
    error = value.get("error")
    told = error.get("message") if isinstance(error, dict) else answer[:200].decode("utf-8", "replace").strip()
    raise Refused(status, str(told))
