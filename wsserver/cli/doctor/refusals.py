"""Why a server, or a proxy before it, refuses the opening handshake, and what repairs it."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from wsserver.cli.doctor.exchange import NotHTTP, Response
from wsserver.cli.doctor.report import Step, describe_error, failed, skipped
from wsserver.cli.doctor.request import Wanted
from wsserver.cli.urls import Target

__all__ = ["explain_error", "explain_refusal", "judge", "name_proxies", "repair_token"]

SECRET_MATTERS = frozenset({"redirect", "path", "access", "token", "upgrade", "sse"})
"""Steps in which a server may refuse a client that has not sent its token or its cookie."""

NGINX_LINES = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_header;"
)
"""The lines of docs/how-to/proxies.md without which nginx removes the handshake."""

MISSING = {
    "in HTTP/1.0": "proxy_http_version 1.1;",
    "without an Upgrade header": "proxy_set_header Upgrade $http_upgrade;",
    "Connection header does not contain Upgrade": "proxy_set_header Connection $connection_header;",
}
"""Part of our server's refusal -> the line that is missing in the configuration of nginx."""

CLOUDFLARE = {
    520: "Cloudflare got an invalid answer from the server",
    521: "the server refuses connections from Cloudflare",
    522: "Cloudflare cannot connect to the server",
    523: "Cloudflare finds no route to the server",
    524: "the server did not answer Cloudflare in time",
    525: "the TLS handshake between Cloudflare and the server failed",
    526: "Cloudflare does not accept the certificate of the server",
}

HTTPS_EXPECTED = ("plain HTTP request was sent to HTTPS port", "HTTP request to an HTTPS server", "on a TLS port")
"""What nginx, Go and our server answer to plain HTTP on a TLS port."""


def explain_refusal(response: Response, wanted: Wanted, accepts_without_origin: Callable[[], bool]) -> Step:
    """
    Explain a response that is not 101.

    Args:
        response: the response.
        wanted: the request.
        accepts_without_origin: tries the same handshake without an Origin header.
    """
    for explain in (_explain_redirect, _explain_tls, _explain_access, _explain_proxy):
        step = explain(response, wanted)
        if step is not None:
            return judge(step, wanted)
    if response.status == 403:
        return judge(_explain_forbidden(response, wanted, accepts_without_origin()), wanted)
    return judge(_explain_other(response), wanted)


def judge(step: Step, wanted: Wanted) -> Step:
    """Return the step, but as a skipped one if the server may only have missed what was not sent to it."""
    if not wanted.withheld or step.step not in SECRET_MATTERS:
        return step
    return skipped(step.step, f"{step.finding}; asked without {wanted.withheld}, so repair the certificate first")


def _explain_redirect(response: Response, wanted: Wanted) -> Step | None:
    location = response.header("Location")
    if not 300 <= response.status < 400 or not location:
        return None
    finding = f"the answer is a redirect ({response.status}) to {location}"
    target = wanted.target
    try:
        place = urlsplit(location)
    except ValueError:
        return failed("redirect", f"{finding}, which is not a URL", "see the configuration of the proxy and the server")
    tls = place.scheme in ("https", "wss") or (not place.scheme and target.tls)
    url = f"ws{'s' if tls else ''}://{place.netloc or target.host_header}{place.path or '/'}"
    return failed("redirect", finding, f"connect to {url}: browsers do not follow redirects of WebSocket handshakes")


def _explain_tls(response: Response, wanted: Wanted) -> Step | None:
    body = response.body.decode("latin-1")
    if wanted.target.tls or response.status != 400 or not any(text in body for text in HTTPS_EXPECTED):
        return None
    return tls_expected(wanted.target)


def tls_expected(target: Target) -> Step:
    """Return the step for a `ws:` URL whose port speaks TLS."""
    return failed("tls", f"port {target.port} speaks TLS", f"connect to wss://{target.host_header}{target.path}")


def _explain_access(response: Response, wanted: Wanted) -> Step | None:
    reason = response.text or response.phrase
    if response.status == 401:
        what = "the token is refused" if wanted.token else "a token is required"
        finding = reason if reason.startswith(what) else f"{what}: {reason}"
        return failed("token", finding, repair_token(wanted))
    if response.status in (404, 410):
        shown = response.text or f"there is nothing at {wanted.target.path.partition('?')[0]!r}"
        fix = "correct the path of the URL, or the location of the proxy; paths of wsserver: /ws, /connection/websocket"
        return failed("path", shown, fix)
    if response.status == 429:
        return failed("limits", f"too many requests or connections: {reason}", "wait, or raise the limit that it names")
    return None


def repair_token(wanted: Wanted) -> str:
    """Return what to do if the server does not accept the client's token, or demands one."""
    if wanted.token:
        return "issue a new one (wsserver gentoken), and look at it with `wsserver checktoken`"
    return "set WSSERVER_TOKEN, or use --token TOKEN; `wsserver gentoken` issues one"


def _explain_proxy(response: Response, _: Wanted) -> Step | None:
    by = ", ".join(name_proxies(response)) or "a proxy"
    if response.status in (400, 426):
        for text, line in MISSING.items():
            if text in response.text:
                finding = f"{by} removes the WebSocket handshake: {response.text.partition(';')[0]}"
                return failed("proxy", finding, f"add `{line}` to the location of nginx; it needs `{NGINX_LINES}`")
    if response.status in CLOUDFLARE:
        return failed(
            "proxy", CLOUDFLARE[response.status], "check that the server runs, and its firewall and certificate"
        )
    if response.status == 502:
        fix = "start the server, and check the address in proxy_pass, and --interface and --port of the server"
        return failed("proxy", f"{by} cannot reach the server behind it (502)", fix)
    if response.status == 504:
        fix = "check the address in proxy_pass and the firewall between; the server did not answer in time"
        return failed("proxy", f"{by} got no answer from the server behind it (504)", fix)
    return None


def _explain_forbidden(response: Response, wanted: Wanted, accepts_without_origin: bool) -> Step:
    reason = response.text or response.phrase
    if not accepts_without_origin:
        return failed("access", f"forbidden (403): {reason}", "see the log of the server, and the rules of the proxy")
    finding = f"pages of {wanted.origin} may not connect: {reason}"
    if wanted.origin != wanted.target.origin:
        return failed("origin", finding, f"start the server with --origin {wanted.origin}")
    fix = (
        f"start the server with --origin {wanted.origin}; if a proxy is between, it has changed the Host header: add "
        "`proxy_set_header Host $http_host;` to the location of nginx"
    )
    return failed("origin", finding, fix)


def _explain_other(response: Response) -> Step:
    reason = response.text or response.phrase
    if response.status in (200, 400, 405, 426, 501, 505):
        what = "an HTML page" if response.is_page else f"{response.status} {reason}".strip()
        fix = f"if nginx is between, add `{NGINX_LINES}`; otherwise correct the path, which may serve no WebSocket"
        return failed("upgrade", f"the answer to the handshake is {what}, not 101", fix)
    if response.status == 503:
        return failed("upgrade", f"the server is not available (503): {reason}", "try again, and look at /ready")
    finding = f"the answer to the handshake is {response.status} {reason}, not 101"
    return failed("upgrade", finding, "see the log of the server and of the proxy")


def explain_error(error: OSError, target: Target, speaks_tls: Callable[[], bool]) -> Step:
    """
    Explain a handshake without an HTTP response.

    Args:
        error: what happened instead.
        target: the URL.
        speaks_tls: tries a TLS handshake on the port.
    """
    if not target.tls and (not isinstance(error, NotHTTP) or error.data[:1] in (b"\x15", b"\x16")) and speaks_tls():
        return tls_expected(target)
    if "CERTIFICATE_REQUIRED" in str(error):
        return failed(
            "tls", "the server demands a certificate of the client", "browsers seldom have one: do not demand it"
        )
    fix = f"check that port {target.port} is that of a WebSocket server or of its proxy"
    return failed("upgrade", f"no HTTP answer to the handshake: {describe_error(error)}", fix)


def name_proxies(response: Response) -> Iterator[str]:
    """Yield the proxies that a response names."""
    if response.header("CF-Ray"):
        yield "Cloudflare (CF-Ray)"
    server = response.header("Server")
    if server and server.lower() != "cloudflare":
        yield f"{server} (Server)"
    for header in ("Via", "X-Served-By", "X-Amz-Cf-Id"):
        if response.header(header):
            yield f"{header}: {response.header(header)}"
