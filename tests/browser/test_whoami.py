"""`/whoami` in Chromium, through nginx with TLS."""

import json

from ports import free_port
from processes import running_server
from proxies import PROXIES

ASK = """() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/whoami?a=1`, ["chat"]);
    socket.onmessage = (message) => { resolve(message.data); socket.close(); };
    socket.onerror = reject;
})"""


def test_the_browser_learns_what_the_server_sees(trusting, authority, tmp_path):
    issued, port = authority.issue(tmp_path / "issued"), free_port()
    folder = tmp_path / "server"
    folder.mkdir()
    options = ("--trusted-proxy", "127.0.0.1", "--subprotocol", "chat", "--compression", "on")
    with (
        running_server(folder, port, *options),
        PROXIES["nginx"].running(tmp_path / "nginx", issued, port) as proxy,
    ):
        page = trusting.new_page()
        page.goto(f"https://localhost:{proxy.https}/whoami")
        request = json.loads(page.inner_text("body"))
        about = json.loads(page.evaluate(ASK))
        page.close()
    assert (request["method"], request["path"]) == ("GET", "/whoami")
    assert about["address"] == "127.0.0.1"
    assert about["peer"].startswith("127.0.0.1:")
    assert (about["subprotocol"], about["query"]) == ("chat", {"a": ["1"]})
    assert about["extensions_offered"] == [{"extension": "permessage-deflate", "client_max_window_bits": True}]
    assert about["extensions"][0]["extension"] == "permessage-deflate"
    assert about["round_trip_ms"] > 0
    headers = dict(about["headers"])
    assert headers["origin"] == f"https://localhost:{proxy.https}"
    assert "Chrome" in headers["user-agent"]
