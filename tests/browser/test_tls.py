"""The page, `wss://`, `/sse` and `/api` over TLS in a browser that validates the certificate chain."""

import subprocess

import pytest
from person import Complaints, ServerPage
from ports import free_port
from processes import running_server

KEY = "k" * 32

EVERYTHING = """async (key) => {
    const source = new EventSource("/sse?channel=news");
    const event = new Promise((resolve) => { source.onmessage = (message) => resolve(message.data); });
    await new Promise((resolve, reject) => { source.onopen = resolve; source.onerror = reject; });
    const socket = new WebSocket(`wss://${location.host}/echo`);
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const echo = new Promise((resolve) => { socket.onmessage = (message) => resolve(message.data); });
    socket.send("hello");
    const body = JSON.stringify({ channel: "news", data: "published" });
    const headers = { "X-API-Key": key };
    const answer = await fetch("/api/publish", { method: "POST", headers, body });
    const found = [await echo, answer.status, await event];
    socket.close();
    source.close();
    return found;
}"""


@pytest.fixture(scope="module")
def trusting(launch_chromium, authority, tmp_path_factory):
    """Start a Chromium that trusts the test's root authority; it is installed as an administrator installs one."""
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = ("-d", f"sql:{store}")
    subprocess.run(["certutil", *database, "-N", "--empty-password"], check=True)
    subprocess.run(["certutil", *database, "-A", "-t", "C,,", "-n", "test", "-i", str(authority.root)], check=True)
    return launch_chromium(env={"HOME": str(home)})


@pytest.mark.parametrize(("way", "kind"), [("options", "ECDSA"), ("ssl", "RSA")])
def test_page_websocket_events_and_api_work_over_tls(trusting, authority, tmp_path, kind, way):
    """The browser ignores no certificate error, so the server must send the intermediate certificate."""
    own, port = authority.issue(tmp_path / "issued", kind), free_port()
    listen = {
        "options": ("--tls-cert", str(own.fullchain), "--tls-key", str(own.privkey)),
        "ssl": ("--listen", f"ssl:{port}:privateKey={own.privkey}:certKey={own.fullchain}:interface=127.0.0.1"),
    }
    directory = tmp_path / "server"
    directory.mkdir()
    with running_server(directory, port, *listen[way], "--api-key", KEY):
        context = trusting.new_context()
        page = context.new_page()
        complaints = Complaints(page)
        server_page = ServerPage(page, f"https://localhost:{port}", complaints)
        server_page.open()
        server_page.connect_to("/echo")
        assert page.evaluate(EVERYTHING, KEY) == ["hello", 200, "published"]
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "http/1.1"
        context.close()
    assert complaints.unexpected() == []
    log = (directory / "server.log").read_text()
    assert f"the page is at https://127.0.0.1:{port}/ and the WebSocket at wss://127.0.0.1:{port}/" in log
    assert "tls handshake failed" not in log


def test_logs_the_alert_of_a_browser_that_does_not_trust_the_authority(chromium, authority, tmp_path):
    own, port = authority.issue(tmp_path / "issued"), free_port()
    directory = tmp_path / "server"
    directory.mkdir()
    with running_server(directory, port, "--tls-cert", str(own.fullchain), "--tls-key", str(own.privkey)):
        context = chromium.new_context()
        with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
            context.new_page().goto(f"https://localhost:{port}/")
        context.close()
    log = (directory / "server.log").read_text()
    assert 'tls handshake failed reason="the client does not trust the certificate: alert certificate unknown"' in log
