"""Steps of `wsserver doctor` over HTTP: which server this is, its health, and whether a proxy buffers event streams."""

import time
import zlib
from typing import Any
from urllib.parse import quote

from wsserver.cli.doctor.exchange import Response, decode_chunks, get, parse_json, read_head, request_head
from wsserver.cli.doctor.report import Report, Step, failed, passed, skipped, warned
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.doctor.stream import ANSWER_TIMEOUT, Dialer

__all__ = ["check_event_stream", "check_health", "is_wsserver"]

KEYS = {"paths", "commands", "closeCodes"}
"""What `/server.json` of our server contains."""

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
    """Report the step `health`: the answers of `/health` and `/ready`."""
    fix = "look at the log of the server"
    with report.catching("health", fix):
        health, ready = (get(dialer, f"{wanted.base}{path}", {}) for path in ("/health", "/ready"))
        report.add(_explain_health(health, ready))


def _explain_health(health: Response, ready: Response) -> Step:
    if health.status == ready.status == 200:
        return passed("health", "/health and /ready answer 200")
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
    path = f"{wanted.base}/sse?channel={quote(wanted.channel or 'doctor')}"
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", "Origin": wanted.origin}
    if wanted.token:
        headers["Authorization"] = f"Bearer {wanted.token}"
    begin = time.monotonic()
    try:
        stream = dialer.dial()
    except OSError as error:
        return failed("sse", f"no connection for /sse: {error}", "see the steps above")
    try:
        stream.send(request_head(dialer.target, path, headers))
        response = read_head(stream, begin + EVENT_TIMEOUT)
        if response.status != 200:
            return _explain_no_stream(response)
        while not _has_event(response, bytes(stream.buffer)):
            stream.receive(begin + EVENT_TIMEOUT)
    except TimeoutError:
        fix = (
            "add `proxy_buffering off;` to the location of nginx, or remove `proxy_ignore_headers X-Accel-Buffering;`; "
            "switch response buffering and compression off in other proxies"
        )
        return failed("sse", f"no event within {EVENT_TIMEOUT:g} s: a proxy buffers the response", fix)
    except OSError as error:
        return failed("sse", f"no event stream: {error}", "see the log of the proxy")
    finally:
        stream.close()
    return passed("sse", f"the first event of /sse arrived after {(time.monotonic() - begin) * 1000:.0f} ms")


def _has_event(response: Response, body: bytes) -> bool:
    """Return whether a body contains more than the head of its compression."""
    if "chunked" in response.header("Transfer-Encoding").lower():
        body = decode_chunks(body)
    if response.header("Content-Encoding") == "gzip":
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, 1)
        except zlib.error as error:
            raise OSError(f"the response is not valid gzip: {error}") from None
    return bool(body)


def _explain_no_stream(response: Response) -> Step:
    reason = response.text or response.phrase
    if response.status in (502, 504):
        return failed("sse", f"/sse answers {response.status}", f"let the proxy wait longer than {ANSWER_TIMEOUT:g} s")
    return skipped("sse", f"/sse answers {response.status}: {reason}")
