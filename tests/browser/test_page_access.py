"""The page for everybody: keyboard, screen reader, phone, light and dark."""

import pytest
from person import CONTRASTS, overflow
from playwright.sync_api import expect
from ports import free_port


def fill_the_log(server_page) -> None:
    """Make lines of every kind: both directions, text, binary, events good and bad, something too wide for a phone."""
    server_page.complaints.allow("WebSocket connection to .* failed")
    server_page.connect_to("/echo")
    server_page.say("https://example.com/" + "unbroken" * 60)
    server_page.send_as.select_option("Binary, as hex")
    server_page.say("00" * 300)
    server_page.say("not hex")
    expect(server_page.received).to_have_count(2)
    server_page.disconnect.click()
    server_page.expect_state("CLOSED")
    server_page.url.fill(f"ws://127.0.0.1:{free_port()}/{'long' * 40}")
    server_page.connect.click()
    expect(server_page.events.last).to_contain_text("Could not connect")


class KeyboardTests:
    """Without a mouse."""

    def test_walk(self, server_page):
        """Connect, send, use a command and disconnect with the keyboard alone."""
        page = server_page.page
        page.keyboard.press("Tab")
        expect(server_page.url).to_be_focused()
        page.keyboard.press("Tab")
        expect(server_page.subprotocols).to_be_focused()
        page.keyboard.press("Tab")
        expect(server_page.connect).to_be_focused()
        page.keyboard.press("Enter")
        server_page.expect_state("OPEN")
        expect(server_page.message).to_be_focused()
        page.keyboard.type("typed")
        page.keyboard.press("Enter")
        expect(server_page.sent).to_contain_text("typed")
        page.keyboard.press("Tab")
        expect(server_page.send_as).to_be_focused()
        page.keyboard.press("Tab")
        expect(server_page.send).to_be_focused()
        page.keyboard.press("Tab")
        expect(server_page.commands.first).to_be_focused()
        page.keyboard.press("Space")
        expect(server_page.sent).to_have_count(2)
        server_page.message.focus()
        page.keyboard.press("Shift+Tab")
        expect(server_page.disconnect).to_be_focused()
        page.keyboard.press("Enter")
        server_page.expect_state("CLOSED")
        expect(server_page.connect).to_be_focused()

    def test_log_can_be_reached(self, server_page):
        """The log is a stop of the Tab key, so that it can be scrolled by keys."""
        server_page.page.get_by_role("button", name="Clear").focus()
        server_page.page.keyboard.press("Tab")
        expect(server_page.log).to_be_focused()

    def test_focus_is_never_lost(self, server_page):
        """A button that is disabled under the finger hands the focus on."""
        server_page.connect_to("/")
        server_page.command("bye").focus()
        server_page.page.keyboard.press("Enter")
        server_page.expect_state("CLOSED")
        expect(server_page.connect).to_be_focused()

    def test_typing_is_not_interrupted(self, server_page):
        """Whoever is typing keeps the focus when the connection ends."""
        server_page.connect_to("/")
        server_page.say("bye")
        server_page.expect_state("CLOSED")
        expect(server_page.message).to_be_focused()

    def test_focus_is_visible(self, server_page):
        """Every stop of the Tab key has an outline."""
        server_page.connect_to("/")
        server_page.url.focus()
        stops = set()
        for _ in range(30):
            name, style, width = server_page.page.evaluate(
                """() => {
                    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
                    const { id, innerText, tagName } = document.activeElement;
                    return [tagName === 'BODY' ? 'BODY' : id || innerText, outlineStyle, outlineWidth];
                }"""
            )
            if name == "BODY":
                break
            assert (style, width) == ("solid", "2px"), name
            stops.add(name)
            server_page.page.keyboard.press("Tab")
        assert {"url", "message", "disconnect", "log", "clear"} <= stops


class ScreenReaderTests:
    """Without a screen."""

    def test_every_control_has_a_name(self, server_page):
        """Everything that can be used or read as a region has an accessible name."""
        session = server_page.page.context.new_cdp_session(server_page.page)
        roles = {"button", "textbox", "combobox", "log", "region", "group", "form"}
        names = [
            node["name"]["value"]
            for node in session.send("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"] and node["role"]["value"] in roles
        ]
        assert "" not in names
        assert {"URL", "Message", "Send as", "Connect", "Disconnect", "Send", "Commands", "Log", "Clear"} <= set(names)

    def test_headings_are_in_order(self, server_page):
        """The headings make a table of contents."""
        levels = server_page.page.get_by_role("heading").evaluate_all("all => all.map((one) => one.tagName)")
        assert levels == ["H1", "H2", "H2", "H3", "H2", "H2"]

    def test_messages_are_announced(self, server_page):
        """A message that arrives is read out."""
        server_page.connect_to("/echo")
        announced = server_page.page.locator("[aria-live=polite]")
        expect(announced).to_contain_text("Connected to")
        server_page.say("for your ears")
        expect(announced).to_have_text("received text: for your ears")

    def test_a_flood_is_summed_up(self, server_page):
        """Hundreds of messages are announced in a sentence or two, and the log itself is never read out."""
        server_page.connect_to("/echo")
        server_page.page.evaluate(
            """async () => {
                window.announced = [];
                const region = document.querySelector('[aria-live=polite]');
                new MutationObserver(() => announced.push(region.textContent)).observe(region, { childList: true });
                const field = document.querySelector('textarea');
                for (let number = 0; number < 300; number += 1) {
                    field.value = `number ${number}`;
                    field.form.requestSubmit();
                    if (number % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
                }
            }"""
        )
        expect(server_page.received).to_have_count(300)
        expect(server_page.page.locator("[aria-live=polite]")).to_contain_text("number 299", timeout=10_000)
        announced = server_page.page.evaluate("announced")
        assert len(announced) <= 4
        assert any("new log entries, the last one: received text: number" in sentence for sentence in announced)
        expect(server_page.log).to_have_attribute("aria-live", "off")


class AppearanceTests:
    """On the screen."""

    def test_fits_a_phone(self, open_server_page):
        """At 360 pixels nothing sticks out sideways, whatever is in the log, and the state stays in view."""
        server_page = open_server_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
        assert overflow(server_page.page) == 0
        fill_the_log(server_page)
        assert overflow(server_page.page) == 0
        assert server_page.log.evaluate("view => view.scrollWidth - view.clientWidth") == 0
        server_page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(server_page.state).to_be_in_viewport(ratio=1)

    def test_controls_can_be_touched(self, open_server_page):
        """On a phone every control is at least 32 pixels high."""
        server_page = open_server_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
        heights = server_page.page.locator("button:visible, input, textarea, select").evaluate_all(
            "all => all.map((control) => control.getBoundingClientRect().height)"
        )
        assert len(heights) > 10
        assert min(heights) >= 32

    def test_fits_a_desktop(self, open_server_page):
        """On a wide screen the page fills the window and only the log scrolls."""
        server_page = open_server_page(viewport={"width": 1200, "height": 780})
        fill_the_log(server_page)
        assert overflow(server_page.page) == 0
        assert server_page.page.evaluate("document.documentElement.scrollHeight - innerHeight") == 0

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_is_light_or_dark(self, open_server_page, scheme):
        """The page follows the system's choice of light or dark."""
        server_page = open_server_page(color_scheme=scheme)
        brightness = server_page.page.evaluate(
            "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
        )
        assert (brightness > 200) if scheme == "light" else (brightness < 60)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast(self, open_server_page, scheme):
        """All text has the contrast of 4.5 to 1 that WCAG AA asks for, connected or not."""
        server_page = open_server_page(color_scheme=scheme)
        found = server_page.page.evaluate(CONTRASTS)
        server_page.connect_to("/echo")
        found += server_page.page.evaluate(CONTRASTS)
        server_page.disconnect.click()
        server_page.expect_state("CLOSED")
        fill_the_log(server_page)
        found += server_page.page.evaluate(CONTRASTS)
        assert len(found) > 80
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []
