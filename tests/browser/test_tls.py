"""The page, `wss://`, `/sse` and `/api` over TLS in a browser that validates the certificate chain."""

import pytest
from person import EVERYTHING, Complaints, ServerPage
from pki import make_authority
from ports import free_port
from processes import running_server
from waiting import wait_until

KEY = "k" * 32


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


def test_logs_the_alerts_of_browsers_that_do_not_trust_the_authority(chromium, firefox, tmp_path):
    other = make_authority(tmp_path, "unknown")
    own, port = other.issue(tmp_path / "issued"), free_port()
    directory = tmp_path / "server"
    directory.mkdir()
    with running_server(directory, port, "--tls-cert", str(own.fullchain), "--tls-key", str(own.privkey)):
        context = chromium.new_context()
        with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
            context.new_page().goto(f"https://localhost:{port}/")
        context.close()
        page = firefox.open_page()
        with pytest.raises(Exception, match="SEC_ERROR_UNKNOWN_ISSUER"):
            page.goto(f"https://localhost:{port}/")
        page.close()
    log = (directory / "server.log").read_text()
    for alert in ("certificate unknown", "unknown ca"):
        assert f'tls handshake failed reason="the client does not trust the certificate: alert {alert}"' in log


def test_a_renewed_certificate_is_used_and_an_open_websocket_stays_open(trusting, authority, tmp_path):
    """A page that is loaded after the renewal gets the new certificate, which expires later."""
    own, port = authority.issue(tmp_path / "issued"), free_port()
    directory = tmp_path / "server"
    directory.mkdir()
    with running_server(directory, port, "--tls-cert", str(own.fullchain), "--tls-key", str(own.privkey)):
        page = trusting.new_context().new_page()
        server_page = ServerPage(page, f"https://localhost:{port}", Complaints(page))
        server_page.open()
        server_page.connect_to("/echo")
        renewed = authority.issue(tmp_path / "issued", days=15)
        expected = renewed.certificate.not_valid_after_utc.timestamp()

        def expires():
            context = trusting.new_context()
            try:
                return context.new_page().goto(f"https://localhost:{port}/").security_details()["validTo"]
            finally:
                context.close()

        wait_until(lambda: expires() == int(expected), "the new certificate")
        server_page.expect_state("Open")
