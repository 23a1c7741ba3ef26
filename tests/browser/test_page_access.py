"""Accessibility of the page: keyboard, screen reader, phone, light and dark, zoom."""

import pytest
from person import CONTRASTS, overflow
from playwright.sync_api import expect
from ports import free_port


def fill_the_list(server_page) -> None:
    """Add rows of every kind: sent, received, text, binary, successes, failures, text too wide for a phone."""
    server_page.complaints.allow("WebSocket connection to .* failed")
    server_page.connect_to("/echo")
    server_page.say("https://example.com/" + "unbroken" * 60)
    server_page.send_as.select_option("Hex")
    server_page.say("00" * 300)
    server_page.say("not hex")
    expect(server_page.received).to_have_count(2)
    server_page.disconnect.click()
    server_page.expect_state("Closed")
    server_page.url.fill(f"ws://127.0.0.1:{free_port()}/{'long' * 40}")
    server_page.connect.click()
    expect(server_page.events.last).to_contain_text("Could not connect")


class KeyboardTests:
    """A user without a mouse can use the page."""

    def test_connects_sends_and_disconnects_with_the_keyboard_alone(self, server_page):
        page = server_page.page
        page.keyboard.press("Tab")
        expect(server_page.url).to_be_focused()
        page.keyboard.press("Tab")
        expect(server_page.connect).to_be_focused()
        page.keyboard.press("Enter")
        server_page.expect_state("Open")
        expect(server_page.message).to_be_focused()
        page.keyboard.type("typed")
        page.keyboard.press("Enter")
        expect(server_page.sent).to_contain_text("typed")
        page.keyboard.press("Tab")
        expect(server_page.send).to_be_focused()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        expect(server_page.send_as).to_be_focused()
        page.keyboard.press("Shift+Tab")
        expect(server_page.list).to_be_focused()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        expect(server_page.detail.get_by_role("region", name="Content")).to_be_focused()
        server_page.url.focus()
        page.keyboard.press("Tab")
        expect(server_page.disconnect).to_be_focused()
        page.keyboard.press("Enter")
        server_page.expect_state("Closed")
        expect(server_page.connect).to_be_focused()

    def test_enter_in_the_subprotocols_connects(self, server_page):
        server_page.subprotocols.fill("chat")
        server_page.subprotocols.press("Enter")
        server_page.expect_state("Open")

    def test_tab_reaches_the_list(self, server_page):
        """The focused list can be scrolled with keys."""
        server_page.page.get_by_role("button", name="Only events").focus()
        server_page.page.keyboard.press("Tab")
        expect(server_page.list).to_be_focused()

    def test_focus_moves_to_connect_when_the_focused_button_is_disabled(self, server_page):
        server_page.connect_to("/")
        server_page.command("bye").focus()
        server_page.page.keyboard.press("Enter")
        server_page.expect_state("Closed")
        expect(server_page.connect).to_be_focused()

    def test_the_message_field_keeps_the_focus_when_the_connection_closes(self, server_page):
        server_page.connect_to("/")
        server_page.say("bye")
        server_page.expect_state("Closed")
        expect(server_page.message).to_be_focused()

    def test_every_focused_control_has_an_outline_of_2_pixels(self, server_page):
        server_page.connect_to("/")
        server_page.url.focus()
        stops = set()
        for _ in range(40):
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
        assert {"url", "message", "connect", "list", "clear", "protocols"} <= stops


class ScreenReaderTests:
    """A user without a screen can use the page."""

    def test_every_control_and_region_has_an_accessible_name(self, server_page):
        session = server_page.page.context.new_cdp_session(server_page.page)
        roles = {"button", "textbox", "combobox", "listbox", "region", "group", "form", "complementary", "checkbox"}
        names = [
            node["name"]["value"]
            for node in session.send("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"] and node["role"]["value"] in roles
        ]
        assert "" not in names
        assert {"URL", "Message", "Send as", "Connect", "Send", "Commands", "Messages", "Clear"} <= set(names)

    def test_heading_levels_skip_none(self, server_page):
        """Screen readers list the headings as a table of contents."""
        levels = server_page.page.get_by_role("heading").evaluate_all("all => all.map((one) => one.tagName)")
        assert levels == ["H1", "H2", "H3", "H2", "H2", "H2", "H2", "H2"]

    def test_announces_the_connection_and_each_received_message(self, server_page):
        server_page.connect_to("/echo")
        announced = server_page.page.locator("[aria-live=polite]")
        expect(announced).to_contain_text("Connected to")
        server_page.say("for your ears")
        expect(announced).to_have_text("received text: for your ears")

    def test_announces_300_messages_in_at_most_four_sentences(self, server_page):
        """The list itself is not a live region."""
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
        expect(server_page.counts).to_have_text("300 sent · 300 received")
        expect(server_page.page.locator("[aria-live=polite]")).to_contain_text("number 299", timeout=10_000)
        announced = server_page.page.evaluate("announced")
        assert len(announced) <= 4
        assert any("new messages and events, the last one: received text: number" in sentence for sentence in announced)
        assert server_page.list.get_attribute("aria-live") is None


class AppearanceTests:
    """The layout and the colours of the page."""

    def test_fits_a_screen_of_360_pixels_with_the_state_in_view(self, open_server_page):
        """Long messages neither widen the page nor hide the state."""
        server_page = open_server_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
        assert overflow(server_page.page) == 0
        fill_the_list(server_page)
        assert overflow(server_page.page) == 0
        assert server_page.list.evaluate("view => view.scrollWidth - view.clientWidth") == 0
        server_page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(server_page.state).to_be_in_viewport(ratio=1)

    def test_every_control_on_a_phone_is_at_least_32_pixels_high(self, open_server_page):
        server_page = open_server_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
        server_page.connect_to("/")
        heights = []
        for view in ("Messages", "Tools"):
            server_page.page.get_by_role("button", name=view).click()
            heights += server_page.page.locator("button:visible, select:visible, input:visible").evaluate_all(
                "all => all.filter((one) => one.type !== 'checkbox').map((one) => one.getBoundingClientRect().height)"
            )
        assert len(heights) > 20
        assert min(heights) >= 32

    def test_the_answer_is_in_view_on_a_phone_after_sending(self, open_server_page):
        """Nothing has to be scrolled; the field to write in stays in view too."""
        server_page = open_server_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        server_page.connect_to("/echo")
        for number in range(30):
            server_page.say(f"message {number}")
        expect(server_page.received.last).to_contain_text("message 29")
        expect(server_page.received.last).to_be_in_viewport(ratio=1)
        expect(server_page.message).to_be_in_viewport(ratio=1)

    def test_a_phone_shows_one_part_at_a_time(self, open_server_page):
        server_page = open_server_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        page = server_page.page
        expect(server_page.subprotocols).to_be_hidden()
        page.get_by_role("button", name="Tools").click()
        expect(server_page.subprotocols).to_be_visible()
        expect(server_page.list).to_be_hidden()
        server_page.connect_to("/")
        server_page.command("hello").click()
        expect(server_page.received).to_be_in_viewport(ratio=1)
        server_page.received.click()
        expect(server_page.detail).to_contain_text("received, text")
        expect(server_page.list).to_be_hidden()
        page.get_by_role("button", name="Back to the messages").click()
        expect(server_page.detail).to_be_hidden()
        expect(server_page.list).to_be_focused()

    def test_a_tablet_shows_the_list_and_the_message_together(self, open_server_page):
        server_page = open_server_page(viewport={"width": 820, "height": 1180})
        server_page.connect_to("/")
        server_page.command("hello").click()
        server_page.read(server_page.received)
        for part in (server_page.list, server_page.detail, server_page.subprotocols):
            expect(part).to_be_in_viewport(ratio=1)

    @pytest.mark.parametrize("size", [(720, 450), (640, 360)])
    def test_can_be_used_at_a_zoom_of_200_percent(self, open_server_page, size):
        """A browser that zooms lays out the page for a window of half the size."""
        server_page = open_server_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=2)
        server_page.connect_to("/echo")
        server_page.say("zoomed")
        assert overflow(server_page.page) == 0
        server_page.received.scroll_into_view_if_needed()
        expect(server_page.received).to_be_in_viewport(ratio=1)

    def test_a_theme_can_be_chosen_and_is_kept(self, server_page):
        button = server_page.page.get_by_role("button", name="Theme")
        colour = "getComputedStyle(document.body).backgroundColor"
        light = server_page.page.evaluate(colour)
        button.click()
        assert server_page.page.evaluate(colour) == light
        button.click()
        dark = server_page.page.evaluate(colour)
        assert dark != light
        server_page.page.reload()
        expect(button).to_have_attribute("title", "Theme: dark")
        assert server_page.page.evaluate(colour) == dark

    def test_nothing_moves_for_users_who_want_reduced_motion(self, open_server_page):
        server_page = open_server_page(reduced_motion="reduce")
        server_page.page.evaluate("document.querySelector('#state').dataset.state = 'CONNECTING'")
        assert server_page.page.evaluate("document.getAnimations().length") == 0

    def test_fills_a_desktop_window_where_only_the_parts_scroll(self, open_server_page):
        server_page = open_server_page(viewport={"width": 1200, "height": 780})
        fill_the_list(server_page)
        assert overflow(server_page.page) == 0
        assert server_page.page.evaluate("document.documentElement.scrollHeight - innerHeight") == 0

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_follows_the_systems_light_or_dark_scheme(self, open_server_page, scheme):
        server_page = open_server_page(color_scheme=scheme)
        brightness = server_page.page.evaluate(
            "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
        )
        assert (brightness > 200) if scheme == "light" else (brightness < 60)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_text_has_a_contrast_of_at_least_4_5_to_1(self, open_server_page, scheme):
        """This is the limit of WCAG AA. The page is checked while connected and while disconnected."""
        server_page = open_server_page(color_scheme=scheme)
        found = server_page.page.evaluate(CONTRASTS)
        server_page.connect_to("/echo")
        found += server_page.page.evaluate(CONTRASTS)
        server_page.disconnect.click()
        server_page.expect_state("Closed")
        fill_the_list(server_page)
        found += server_page.page.evaluate(CONTRASTS)
        assert len(found) > 80
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []
