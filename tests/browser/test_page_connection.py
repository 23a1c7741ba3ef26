"""Connecting, disconnecting, and what the page says about it."""

import signal

import pytest
from person import ServerPage
from playwright.sync_api import expect
from ports import free_port


class ConnectTests:
    """Getting a connection."""

    def test_offers_its_own_server(self, server_page):
        """The URL of the server that sent the page is already filled in, and others can be picked."""
        expect(server_page.url).to_have_value(server_page.websocket_url("/"))
        offered = server_page.page.locator("datalist option").evaluate_all("all => all.map((option) => option.value)")
        expected = [server_page.websocket_url(path) for path in ("/", "/echo", "/ticker?every=1s&count=5")]
        assert offered[:3] == expected
        assert len(offered) == len(set(offered))

    def test_says_the_state_in_words(self, server_page):
        """The page says CLOSED, CONNECTING, OPEN, CLOSING and CLOSED again, each in turn."""
        server_page.page.evaluate(
            """() => {
                window.words = [];
                const status = document.querySelector('[role=status]');
                new MutationObserver(() => words.push(status.innerText.split(/\\s+/).pop()))
                  .observe(status, { childList: true, characterData: true, subtree: true });
            }"""
        )
        server_page.expect_state("CLOSED")
        server_page.connect.click()
        server_page.expect_state("OPEN")
        server_page.disconnect.click()
        server_page.expect_state("CLOSED")
        assert server_page.page.evaluate("words") == ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]

    def test_offers_only_what_makes_sense(self, server_page):
        """Connect can be pressed while closed, everything else while open."""
        page = server_page
        expect(page.connect).to_be_enabled()
        for control in (page.disconnect, page.send, page.command("hello")):
            expect(control).to_be_disabled()
        page.connect_to("/")
        expect(page.connect).to_be_disabled()
        for control in (page.disconnect, page.send, page.command("hello")):
            expect(control).to_be_enabled()

    def test_takes_a_path_for_a_url(self, server_page):
        """A path alone means that path of the page's own server."""
        server_page.url.fill("/echo")
        server_page.url.press("Enter")
        expect(server_page.events.last).to_contain_text(f"Connected to {server_page.websocket_url('/echo')} in")

    def test_asks_for_subprotocols(self, server_page):
        """The subprotocols typed in are asked for, and the one agreed to is shown."""
        server_page.subprotocols.fill("superchat, chat")
        server_page.connect_to("/")
        expect(server_page.events.first).to_contain_text("Requested subprotocols: superchat, chat")
        expect(server_page.events.last).to_contain_text("Subprotocol: superchat")


class CloseTests:
    """Losing a connection, on purpose or not."""

    def test_disconnects(self, server_page):
        """Disconnect closes the connection cleanly, and the log says so."""
        server_page.connect_to("/echo")
        server_page.disconnect.click()
        server_page.expect_state("CLOSED")
        expect(server_page.events.last).to_contain_text("Disconnected, code 1000")
        expect(server_page.events.last).to_contain_text("Clean")

    def test_bye_is_explained(self, server_page):
        """The command `bye` makes the server close with 1000, which the log puts into words."""
        server_page.connect_to("/")
        server_page.command("bye").click()
        server_page.expect_state("CLOSED")
        expect(server_page.events.last).to_contain_text("Closed by the server, code 1000")
        expect(server_page.events.last).to_contain_text("1000 means normal closure")
        expect(server_page.events.last).to_contain_text("Clean: both sides completed the closing handshake")

    def test_connects_again(self, server_page):
        """After a close the same page can connect again."""
        for _ in range(2):
            server_page.connect_to("/")
            server_page.command("bye").click()
            server_page.expect_state("CLOSED")
        expect(server_page.events.filter(has_text="Connected to")).to_have_count(2)

    @pytest.mark.parametrize(
        ("how", "title", "meaning"),
        [
            (signal.SIGTERM, "Closed by the server, code 1001", "1001 means going away"),
            (signal.SIGKILL, "Connection lost, code 1006", "Not clean"),
        ],
        ids=["stopped", "killed"],
    )
    def test_server_goes_away(self, open_server_page, own_server, how, title, meaning):
        """A server that stops says 1001; one that is killed says nothing, and the page tells the difference."""
        port = free_port()
        server = own_server(port)
        server_page = open_server_page(f"http://127.0.0.1:{port}")
        server_page.connect_to("/")
        server.send_signal(how)
        server_page.expect_state("CLOSED")
        expect(server_page.events.last).to_contain_text(title)
        expect(server_page.events.last).to_contain_text(meaning)


class FailureTests:
    """Not getting a connection."""

    def test_refused_connection_is_explained(self, server_page):
        """Where nobody listens, the page says that a browser cannot know why, and what to try."""
        server_page.complaints.allow(r"WebSocket connection to .* failed: .*ERR_CONNECTION_REFUSED")
        url = f"ws://127.0.0.1:{free_port()}/"
        server_page.url.fill(url)
        server_page.connect.click()
        failure = server_page.events.last
        expect(failure).to_contain_text(f"Could not connect to {url}")
        expect(failure).to_contain_text("Browsers do not tell a page why")
        expect(failure).to_contain_text(f"Open {url.replace('ws', 'http', 1)} in a new tab")
        expect(failure).to_contain_text(f"Does the server allow pages from {server_page.origin}?")
        server_page.expect_state("CLOSED")

    def test_unknown_subprotocol_is_explained(self, server_page):
        """A browser fails the connection when the server agrees to none; the page names what was asked for."""
        server_page.complaints.allow("WebSocket connection to .* failed")
        server_page.subprotocols.fill("mqtt")
        server_page.connect.click()
        expect(server_page.events.last).to_contain_text("one of the requested subprotocols (mqtt)?")

    @pytest.mark.parametrize(
        ("url", "subprotocols"), [("ws://", ""), ("ftp://localhost/", ""), ("/", "cha(t"), ("/", "chat, chat")]
    )
    def test_nonsense_is_explained(self, server_page, url, subprotocols):
        """A URL or subprotocol that no browser would try gets the browser's own words, and the page stays usable."""
        server_page.url.fill(url)
        server_page.subprotocols.fill(subprotocols)
        server_page.connect.click()
        expect(server_page.events.last).to_contain_text("The browser rejected this URL or subprotocol")
        server_page.expect_state("CLOSED")
        expect(server_page.connect).to_be_enabled()

    def test_works_without_the_lists(self, open_browser_page, server_origin):
        """When /server.json cannot be had, the page says so, connects all the same, and explains close codes less."""
        page, complaints = open_browser_page()
        complaints.allow("Failed to load resource")
        page.route("**/server.json", lambda route: route.fulfill(status=503))
        server_page = ServerPage(page, server_origin, complaints)
        server_page.open()
        expect(page.get_by_text("could not be loaded (server.json: status 503)")).to_be_visible()
        server_page.connect_to("/")
        server_page.say("bye")
        expect(server_page.events.last).to_contain_text("1000 means an unknown code")
