"""Step `idle` of `wsserver doctor`: how long a connection stays open if neither side sends a message."""

import time

from wsserver.cli.doctor.report import Step, failed, passed, warned
from wsserver.cli.doctor.stream import ConnectionEnded
from wsserver.cli.doctor.websocket import ServerClosed, WebSocket

__all__ = ["check_idle"]

KNOWN = {
    50: "the timeouts in HAProxy's example configuration",
    60: "the default of proxy_read_timeout in nginx, and that of AWS load balancers",
    100: "the limit of Cloudflare",
    230: "the limit of Azure App Service",
    350: "the limit of AWS Network Load Balancers",
}
"""Seconds -> what is known to end idle connections after this time."""

TOLERANCE = 0.03
"""How far a measured time may be from a known one, as a share of it."""


def check_idle(websocket: WebSocket, wait: float) -> Step:
    """
    Wait, and send nothing but the pongs that the server asks for.

    Args:
        websocket: a new connection.
        wait: seconds to wait.
    """
    begin = last = time.monotonic()
    messages = 0
    try:
        while True:
            count = websocket.pings
            websocket.read_frame(begin + wait)
            messages += websocket.pings == count
            last = time.monotonic()
    except TimeoutError:
        return _explain_open(websocket, begin, wait, messages)
    except ServerClosed as closed:
        finding = f"the server closed the connection after {time.monotonic() - begin:.1f} s with {closed.code}: "
        return warned("idle", finding + (closed.reason or "no reason given"), "see the log of the server")
    except ConnectionEnded as ended:
        return _explain_cut(ended.how, time.monotonic() - last, websocket)


def _explain_open(websocket: WebSocket, begin: float, wait: float, messages: int) -> Step:
    kept = f"open after {wait:g} s without a message from the client"
    if messages:
        kept += f"; {messages} messages of the server, which kept it open"
    elif websocket.pings:
        kept += f"; the server pinged first after {websocket.first_ping - begin:.1f} s, which keeps it open"
    if wait < max(KNOWN) and not (messages or websocket.pings):
        kept += "; proxies often wait 60 s: use --wait 70s"
    return passed("idle", kept)


def _explain_cut(how: str, silence: float, websocket: WebSocket) -> Step:
    known = next((text for seconds, text in KNOWN.items() if abs(silence - seconds) <= seconds * TOLERANCE), "")
    finding = (
        f"the connection was cut with {how} after {silence:.1f} s of silence, without a Close frame: "
        f"{known or 'the idle timeout of a proxy or firewall'}"
    )
    if websocket.pings:
        finding += f"; the server pinged {websocket.pings} times before"
    fix = (
        "set `proxy_read_timeout 60s;` or more in the location of nginx, and --ping-interval of the server below it; "
        f"if the timeout cannot be changed, set --ping-interval below {silence:.0f}s"
    )
    return failed("idle", finding, fix)
