"""Tests for the page's connection: how it opens, how it closes, and what the page shows."""

import signal

import pytest
from person import ServerPage
from playwright.sync_api import expect
from ports import free_port


class ConnectTests:
    """The connection opens."""

    def test_fills_in_the_url_of_its_own_server_and_suggests_paths(self, server_page):
        expect(server_page.url).to_have_value(server_page.websocket_url("/"))
        offered = server_page.page.locator("datalist option").evaluate_all("all => all.map((option) => option.value)")
        expected = [server_page.websocket_url(path) for path in ("/", "/echo", "/ticker?every=1s&count=5")]
        assert offered[:3] == expected
        assert len(offered) == len(set(offered))

    def test_shows_connecting_open_closing_and_closed_in_turn(self, server_page):
        server_page.page.evaluate(
            """() => {
                window.words = [];
                const status = document.querySelector('[role=status]');
                new MutationObserver(() => words.push(status.innerText.split(/\\s+/).pop()))
                  .observe(status, { childList: true, characterData: true, subtree: true });
            }"""
        )
        server_page.expect_state("Closed")
        server_page.connect.click()
        server_page.expect_state("Open")
        server_page.disconnect.click()
        server_page.expect_state("Closed")
        assert server_page.page.evaluate("words") == ["Connecting", "Open", "Closing", "Closed"]

    def test_enables_only_the_controls_that_apply_to_the_state(self, server_page):
        page = server_page
        expect(page.connect).to_be_enabled()
        expect(page.disconnect).to_be_hidden()
        for control in (page.send, page.command("hello")):
            expect(control).to_be_disabled()
        page.connect_to("/")
        expect(page.connect).to_be_hidden()
        for control in (page.disconnect, page.send, page.command("hello")):
            expect(control).to_be_enabled()

    def test_resolves_a_path_against_its_own_server(self, server_page):
        server_page.url.fill("/echo")
        server_page.url.press("Enter")
        expect(server_page.events.last).to_contain_text(f"Connected to {server_page.websocket_url('/echo')} in")

    def test_requests_the_subprotocols_and_shows_the_selected_one(self, server_page):
        server_page.subprotocols.fill("superchat, chat")
        server_page.connect_to("/")
        expect(server_page.events.first).to_contain_text("Requested subprotocols: superchat, chat")
        expect(server_page.events.last).to_contain_text("Subprotocol: superchat")


class KeepTests:
    """The form is kept over a reload, connections as long as the user wants."""

    def test_keeps_the_url_and_the_subprotocols_over_a_reload_of_the_tab_only(self, server_page):
        """A URL may contain a token, so only a connection that the user saves stays when the tab is closed."""
        server_page.url.fill("/echo?token=secret")
        server_page.subprotocols.fill("chat")
        server_page.page.reload()
        expect(server_page.url).to_have_value("/echo?token=secret")
        expect(server_page.subprotocols).to_have_value("chat")
        assert server_page.page.evaluate("localStorage.length") == 0

    def test_saves_a_connection_fills_it_in_and_removes_it(self, server_page):
        page = server_page.page
        server_page.url.fill("/ticker")
        server_page.subprotocols.fill("chat")
        page.get_by_label("Name of the saved connection").fill("My ticker")
        page.get_by_role("button", name="Save", exact=True).click()
        page.reload()
        server_page.url.fill("/")
        server_page.subprotocols.fill("")
        page.get_by_role("list", name="Saved connections").get_by_role(
            "button", name="My ticker /ticker · chat"
        ).click()
        expect(server_page.url).to_have_value("/ticker")
        expect(server_page.subprotocols).to_have_value("chat")
        expect(server_page.connect).to_be_focused()
        page.get_by_role("button", name="Remove My ticker").click()
        expect(page.get_by_text("None yet.")).to_be_visible()
        assert page.evaluate("localStorage.length") == 0


class ReconnectTests:
    """With the option, the page connects again after increasing delays."""

    def test_connects_again_when_the_server_closes_and_counts_down(self, server_page):
        server_page.page.get_by_label("Reconnect when the connection ends").check()
        server_page.connect_to("/")
        server_page.command("bye").click()
        expect(server_page.state).to_contain_text("Retry in 1 s")
        expect(server_page.events.filter(has_text="Connected to")).to_have_count(2)
        server_page.disconnect.click()
        server_page.expect_state("Closed")

    def test_cancel_ends_the_waiting(self, server_page):
        server_page.complaints.allow("WebSocket connection to .* failed")
        server_page.page.get_by_label("Reconnect when the connection ends").check()
        server_page.url.fill(f"ws://127.0.0.1:{free_port()}/")
        server_page.connect.click()
        expect(server_page.events.filter(has_text="Could not connect")).to_have_count(2)
        expect(server_page.state).to_contain_text("Retry in")
        server_page.page.get_by_role("button", name="Cancel").click()
        server_page.expect_state("Closed")

    def test_delays_double_up_to_thirty_seconds_with_jitter(self, server_page):
        delays = server_page.page.evaluate(
            """async () => {
                const { Reconnect } = await import('/reconnect.js');
                const delays = [];
                const waiting = new Reconnect(() => {}, (seconds) => delays.push(seconds));
                for (let failure = 0; failure < 9; failure += 1) {
                    waiting.cancel();
                    waiting.schedule();
                }
                waiting.cancel();
                return delays;
            }"""
        )
        assert len(delays) == 9
        for failure, seconds in enumerate(delays):
            longest = min(30, 0.5 * 2**failure)
            assert longest / 2 <= seconds <= longest + 1


class EnterTests:
    """Enter in the form while there is a connection."""

    def test_connects_to_another_url_that_was_typed(self, server_page):
        server_page.connect_to("/echo")
        server_page.url.fill("/ws")
        server_page.url.press("Enter")
        expect(server_page.events.last).to_contain_text(f"Connected to {server_page.websocket_url('/ws')}")
        expect(server_page.events.filter(has_text="Disconnected, code 1000")).to_have_count(1)

    def test_connects_again_for_other_subprotocols(self, server_page):
        server_page.connect_to("/echo")
        server_page.subprotocols.fill("chat")
        server_page.subprotocols.press("Enter")
        expect(server_page.events.last).to_contain_text("Subprotocol: chat")

    def test_disconnects_if_the_form_is_as_it_was(self, server_page):
        server_page.connect_to("/echo")
        server_page.url.press("Enter")
        server_page.expect_state("Closed")


class CloseTests:
    """The connection closes."""

    def test_codes_above_4000_mean_on_other_servers_what_these_say(self, server_page):
        meanings = server_page.page.evaluate(
            """async () => {
                const { explainCode, loadServer } = await import('/server.js');
                const server = await loadServer();
                const host = location.host;
                return [`ws://${host}/ws`, `ws://${host}/faults/close`, 'wss://other.example/ws']
                    .map((url) => [explainCode(server, 4001, url), explainCode(server, 1012, url)]);
            }"""
        )
        assert meanings[0][0].startswith("token expired")
        assert meanings[1][0] == meanings[2][0] == "a code private to the application"
        assert {meaning[1] for meaning in meanings} == {"service restart: the server restarts, connect again"}

    def test_disconnect_closes_with_1000_and_logs_a_clean_close(self, server_page):
        server_page.connect_to("/echo")
        server_page.disconnect.click()
        server_page.expect_state("Closed")
        expect(server_page.events.last).to_contain_text("Disconnected, code 1000")
        expect(server_page.read(server_page.events.last)).to_contain_text("Clean: both sides")
        expect(server_page.problem).to_be_hidden()

    def test_explains_the_code_1000_of_the_command_bye(self, server_page):
        server_page.connect_to("/")
        server_page.command("bye").click()
        server_page.expect_state("Closed")
        expect(server_page.events.last).to_contain_text("Closed by the server, code 1000")
        expect(server_page.events.last).to_contain_text("1000 means normal closure")
        detail = server_page.read(server_page.events.last)
        expect(detail).to_contain_text("Clean: both sides completed the closing handshake")

    def test_can_connect_again_after_a_close(self, server_page):
        for _ in range(2):
            server_page.connect_to("/")
            server_page.command("bye").click()
            server_page.expect_state("Closed")
        expect(server_page.events.filter(has_text="Connected to")).to_have_count(2)

    @pytest.mark.parametrize(
        ("how", "title", "meaning"),
        [
            (signal.SIGTERM, "Closed by the server, code 1012", "1012 means service restart"),
            (signal.SIGKILL, "Connection lost, code 1006", "Not clean"),
        ],
        ids=["stopped", "killed"],
    )
    def test_shows_1012_for_a_stopped_server_and_1006_for_a_killed_one(
        self, open_server_page, own_server, how, title, meaning
    ):
        port = free_port()
        server = own_server(port)
        server_page = open_server_page(f"http://127.0.0.1:{port}")
        # The tap ends with the server.
        server_page.complaints.allow(
            "Failed to load resource: net::ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION_REFUSED)"
        )
        server_page.connect_to("/")
        server.send_signal(how)
        server_page.expect_state("Closed")
        expect(server_page.events.last).to_contain_text(title)
        expect(server_page.problem).to_contain_text(title)
        expect(server_page.problem).to_contain_text(meaning)


class FailureTests:
    """The connection does not open."""

    def test_explains_a_refused_connection_and_lists_what_to_check(self, server_page):
        """A browser does not tell a page why a connection failed."""
        server_page.complaints.allow(r"WebSocket connection to .* failed: .*ERR_CONNECTION_REFUSED")
        url = f"ws://127.0.0.1:{free_port()}/"
        server_page.url.fill(url)
        server_page.connect.click()
        expect(server_page.events.last).to_contain_text(f"Could not connect to {url}")
        failure = server_page.problem
        expect(failure).to_contain_text(f"Could not connect to {url}")
        expect(failure).to_contain_text("Browsers do not tell a page why")
        expect(failure).to_contain_text(f"Open {url.replace('ws', 'http', 1)} in a new tab")
        expect(failure).to_contain_text(f"Does the server allow pages from {server_page.origin}?")
        server_page.expect_state("Closed")

    def test_names_the_requested_subprotocols_when_the_server_selects_none(self, server_page):
        """A browser then fails the connection."""
        server_page.complaints.allow("WebSocket connection to .* failed")
        server_page.subprotocols.fill("mqtt")
        server_page.connect.click()
        expect(server_page.problem).to_contain_text("one of the requested subprotocols (mqtt)?")

    def test_shows_the_reason_that_the_server_gives_for_a_refusal(self, server_page):
        """The page asks for the same path over HTTP, because browsers hide the response to a refused handshake."""
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource")
        server_page.url.fill("/ws?channel=" + "x" * 300)
        server_page.connect.click()
        expect(server_page.problem).to_contain_text("The server gives this reason")
        expect(server_page.problem).to_contain_text("expected at most 255")

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/ws?chanel=foo", "unknown parameter 'chanel': expected channel"),
            ("/nope?channel=foo", "no page at '/nope'"),
            ("/echo?channel=foo", "'/echo' does not serve channels"),
        ],
    )
    def test_shows_the_reason_for_a_wrong_query(self, server_with, visit, path, reason):
        server_page = visit(server_with("--catch-all", "off"))
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource")
        server_page.url.fill(path)
        server_page.connect.click()
        expect(server_page.problem).to_contain_text(reason)

    def test_shows_the_reason_from_the_list_of_refusals_if_the_user_has_an_api_key(self, server_with, visit):
        """A plain request to this path only says that it accepts WebSockets."""
        server_page = visit(server_with("--api-key", "secret"))
        server_page.complaints.allow("WebSocket connection to .* failed|Failed to load resource: .* 426")
        server_page.channel.open()
        server_page.channel.key.fill("secret")
        server_page.url.fill("/ticker?count=0")
        server_page.connect.click()
        expect(server_page.problem).to_contain_text("400: count='0'")

    def test_suggests_ws_for_wss_to_a_plain_port_and_connects_with_it(self, server_page):
        server_page.complaints.allow("WebSocket connection to .* failed")
        server_page.url.fill(server_page.websocket_url("/echo").replace("ws", "wss"))
        server_page.connect.click()
        expect(server_page.problem).to_contain_text("This port uses no TLS")
        server_page.page.get_by_role("button", name=f"Connect to {server_page.websocket_url('/echo')}").click()
        server_page.expect_state("Open")
        expect(server_page.problem).to_be_hidden()

    @pytest.mark.parametrize(
        ("url", "subprotocols"), [("ws://", ""), ("ftp://localhost/", ""), ("/", "cha(t"), ("/", "chat, chat")]
    )
    def test_reports_an_invalid_url_or_subprotocol_and_can_connect_again(self, server_page, url, subprotocols):
        server_page.url.fill(url)
        server_page.subprotocols.fill(subprotocols)
        server_page.connect.click()
        expect(server_page.events.last).to_contain_text("The browser rejected this URL or subprotocol")
        server_page.expect_state("Closed")
        expect(server_page.connect).to_be_enabled()

    def test_connects_and_says_so_if_server_json_cannot_be_loaded(self, open_browser_page, server_origin):
        """Without server.json, the page does not explain close codes."""
        page, complaints = open_browser_page()
        complaints.allow("Failed to load resource")
        page.route("**/server.json", lambda route: route.fulfill(status=503))
        server_page = ServerPage(page, server_origin, complaints)
        server_page.open()
        expect(page.get_by_text("could not be loaded (server.json: status 503)")).to_be_visible()
        server_page.connect_to("/")
        server_page.say("bye")
        expect(server_page.events.last).to_contain_text("1000 means an unknown code")
