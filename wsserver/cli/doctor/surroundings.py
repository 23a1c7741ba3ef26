"""Steps of `wsserver doctor` over HTTP: which server this is, its health, and whether a proxy buffers event streams."""

import re
import time
import zlib
from typing import Any
from urllib.parse import quote

from wsserver.cli.doctor.exchange import Response, decode_chunks, get, parse_json, read_body, read_head, request_head
from wsserver.cli.doctor.refusals import judge, repair_token
from wsserver.cli.doctor.report import Report, Step, describe_error, failed, passed, skipped, warned
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.stream import ANSWER_TIMEOUT, Dialer, Stream

__all__ = ["check_event_stream", "check_health", "is_wsserver"]

KEYS = {"paths", "commands", "closeCodes"}
"""What `/server.json` of our server contains."""

MOVED = "--admin-listen"
"""The option that the refusals of our server name if it has moved a path to another port."""

MAX_LINE = 65536
"""Maximum size of the first line of an event stream, in bytes."""

EVENT_TIMEOUT = 5.0
"""Seconds to wait for the first event, which the server sends at once."""


def is_wsserver(dialer: Dialer, wanted: Wanted) -> bool:
    """Return whether the server is a wsserver."""
    try:
        found: Any = parse_json(get(dialer, f"{wanted.base}/server.json", {}).body)
    except OSError:
        return False
    return isinstance(found, dict) and found.keys() >= KEYS


def check_health(dialer: Dialer, wanted: Wanted, report: Report) -> None:
    """Report the step `health`: the answers of `/health` and `/ready`. Clients do not need them."""
    try:
        health, ready = (get(dialer, f"{wanted.base}{path}", {}) for path in ("/health", "/ready"))
        report.add(_explain_health(health, ready))
    except OSError as error:
        fix = "let load balancers and monitoring reach both paths"
        report.add(warned("health", f"no answer for /health and /ready: {describe_error(error)}", fix))


def _explain_health(health: Response, ready: Response) -> Step:
    if health.status == ready.status == 200:
        return passed("health", "/health and /ready answer 200")
    if MOVED in health.text + ready.text:
        return skipped("health", f"/health and /ready are on another port, because the server has {MOVED}")
    if ready.status == 503:
        return failed(
            "health", f"/ready answers 503: {ready.text}", "repair what it names; load balancers send no clients"
        )
    if {health.status, ready.status} & {401, 403, 404}:
        return skipped("health", f"/health answers {health.status} and /ready {ready.status}: they are not public here")
    finding = f"/health answers {health.status}, and /ready {ready.status}"
    return warned("health", finding, "let load balancers and monitoring reach both paths")


def check_event_stream(dialer: Dialer, wanted: Wanted) -> Step:
    """Check that the first event of `/sse` arrives at once."""
    path = f"{wanted.base}/sse?channel={quote(wanted.subscribed, safe='')}"
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", "Origin": wanted.origin} | wanted.headers
    if wanted.token:
        headers["Authorization"] = f"Bearer {wanted.token}"
    begin = time.monotonic()
    try:
        stream = dialer.dial()
    except OSError as error:
        return failed("sse", f"no connection for /sse: {describe_error(error)}", "see the steps above")
    try:
        stream.send(request_head(dialer.target, path, headers))
        response = read_head(stream, begin + EVENT_TIMEOUT)
        if response.status != 200:
            return judge(_explain_no_stream(read_body(stream, response, begin + EVENT_TIMEOUT), wanted), wanted)
        line = _first_line(stream, response, begin + EVENT_TIMEOUT)
    except TimeoutError:
        fix = (
            "add `proxy_buffering off;` to the location of nginx, or remove `proxy_ignore_headers X-Accel-Buffering;`; "
            "switch response buffering and compression off in other proxies"
        )
        return failed("sse", f"no event within {EVENT_TIMEOUT:g} s: a proxy buffers the response", fix)
    except OSError as error:
        return failed("sse", f"no event stream: {describe_error(error)}", "see the log of the proxy")
    finally:
        stream.close()
    if refused := re.match("(: )?([45][0-9]{2} .*)", line):
        finding = f"/sse refuses clients for the moment: {refused[2]}"
        return judge(failed("sse", finding, "repair what it names; see /ready, and the log of the server"), wanted)
    return passed("sse", f"the first event of /sse arrived after {(time.monotonic() - begin) * 1000:.0f} ms")


def _first_line(stream: Stream, response: Response, deadline: float) -> str:
    """Return the first line of an event stream. A temporary refusal is one with a comment, such as `: 503 REASON`."""
    kind = response.header("Content-Type")
    if not kind.startswith("text/event-stream"):
        raise OSError(f"/sse answers with Content-Type {kind!r}, not text/event-stream")
    while b"\n" not in (body := _decode(response, bytes(stream.buffer))):
        if len(stream.buffer) > MAX_LINE:
            raise OSError(f"the first line of /sse is longer than {MAX_LINE} bytes")
        stream.receive(deadline)
    return body.partition(b"\n")[0].decode("utf-8", "replace")


def _decode(response: Response, body: bytes) -> bytes:
    """Return the begin of a body without its chunks and its compression, as far as it has arrived."""
    if "chunked" in response.header("Transfer-Encoding").lower():
        body = decode_chunks(body)
    if response.header("Content-Encoding") == "gzip":
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, MAX_LINE)
        except zlib.error as error:
            raise OSError(f"the response is not valid gzip: {error}") from None
    return body


def _explain_no_stream(response: Response, wanted: Wanted) -> Step:
    reason = f"/sse answers {response.status} for channel {wanted.subscribed!r}: {response.text or response.phrase}"
    if response.status in (502, 504):
        return failed("sse", f"/sse answers {response.status}", f"let the proxy wait longer than {ANSWER_TIMEOUT:g} s")
    if response.status >= 500:
        return failed("sse", reason, "see the log of the server and of the proxy")
    if response.status == 401:
        return failed("sse", reason, repair_token(wanted)) if wanted.token else skipped("sse", f"{reason}; use --token")
    if response.status in (400, 403):
        fix = "name a channel that clients may subscribe to with --channel NAME, or permit this one: --channel-allow"
        return failed("sse", reason, fix) if wanted.channel else skipped("sse", f"{reason}; {fix}")
    return skipped("sse", reason)
