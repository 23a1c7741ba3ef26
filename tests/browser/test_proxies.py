"""Chromium and Firefox through nginx, HAProxy and Caddy with the files in `packaging`, over TLS and HTTP/2."""

import json

import pytest
from person import EVERYTHING, Complaints, ServerPage
from ports import free_port
from processes import running_server
from proxies import PROXIES

KEY = "k" * 32

SHOW_VERSION = {
    "haproxy": {"default_backend": "http-request set-header X-Client-Version %[req.ver]\n    default_backend"}
}
"""Let the proxy tell the server the HTTP version of the client."""

WHO_AM_I = """() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    socket.onopen = () => socket.send("whoami");
    socket.onmessage = (message) => { resolve(message.data); socket.close(); };
    socket.onerror = reject;
})"""


@pytest.mark.parametrize(
    ("name", "protocol"), [("nginx", "h2"), ("haproxy", "h2"), ("haproxy-tcp", "http/1.1"), ("caddy", "h2")]
)
def test_page_websocket_events_and_api_work_through_the_proxy(trusting, firefox, authority, tmp_path, name, protocol):
    issued, port = authority.issue(tmp_path / "issued"), free_port()
    folder = tmp_path / "server"
    folder.mkdir()
    listen = ("--listen", f"haproxy:tcp:{port}:interface=127.0.0.1") if name == "haproxy-tcp" else ()
    with (
        running_server(folder, port, *listen, "--api-key", KEY, "--channel-allow", "news", "--catch-all", "on"),
        PROXIES[name].running(tmp_path / name, issued, port, SHOW_VERSION.get(name)) as proxy,
    ):
        context = trusting.new_context()
        page = context.new_page()
        complaints = Complaints(page)
        server_page = ServerPage(page, f"https://localhost:{proxy.https}", complaints)
        server_page.open()
        server_page.connect_to("/echo")
        in_firefox = firefox.open_page()
        in_firefox.goto(f"https://localhost:{proxy.https}/")
        for one in (page, in_firefox):
            assert one.evaluate(EVERYTHING, KEY) == ["hello", 200, "published"]
            assert one.evaluate("() => performance.getEntriesByType('navigation')[0].nextHopProtocol") == protocol
            if name == "haproxy":
                # HAProxy speaks HTTP/2 for WebSockets, too (RFC 8441).
                assert ["x-client-version", "2.0"] in json.loads(one.evaluate(WHO_AM_I))["headers"]
        context.close()
        complained = in_firefox.complaints()
        in_firefox.close()
    assert complaints.unexpected() + complained == []
