"""Tests for the page's messages: how they are sent and received, and their log."""

import re

import pytest
from playwright.sync_api import expect

LIMIT = 1000

FILL_AND_SEND = """([first, last]) => {
    const field = document.querySelector('textarea');
    for (let number = first; number <= last; number += 1) {
        field.value = `number ${number}`;
        field.form.requestSubmit();
    }
}"""


def is_at_the_bottom(log) -> bool:
    """Return whether the newest line is in view."""
    return log.evaluate("view => view.scrollHeight - view.scrollTop - view.clientHeight < 2")


class SendTests:
    """The user sends a message and receives the response."""

    def test_enter_sends_and_shows_both_directions_with_size_and_time(self, server_page):
        """Enter also empties the field."""
        server_page.connect_to("/echo")
        server_page.say("Grüße")
        for line, mark in ((server_page.sent, "↑ sent"), (server_page.received, "↓ received")):
            expect(line).to_have_text(re.compile(rf"^\d\d:\d\d:\d\d\.\d\d\d{mark}text7 bytesGrüße$"))
        expect(server_page.message).to_have_value("")

    def test_the_button_sends(self, server_page):
        server_page.connect_to("/echo")
        server_page.message.fill("by button")
        server_page.send.click()
        expect(server_page.received).to_contain_text("by button")

    def test_shift_enter_starts_a_new_line(self, server_page):
        server_page.connect_to("/echo")
        server_page.message.fill("first")
        server_page.message.press("Shift+Enter")
        server_page.message.press_sequentially("second")
        expect(server_page.lines).to_have_count(2)
        server_page.message.press("Enter")
        expect(server_page.received.get_by_text("first\nsecond")).to_be_visible()

    def test_the_up_arrow_in_an_empty_field_recalls_the_last_message(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("once more")
        server_page.message.press("ArrowUp")
        expect(server_page.message).to_have_value("once more")

    def test_shows_which_keys_send_and_start_a_line(self, server_page):
        expect(server_page.page.get_by_text("Enter sends, Shift+Enter adds a line.")).to_be_visible()

    def test_enter_sends_nothing_and_keeps_the_text_while_closed(self, server_page):
        server_page.say("too early")
        expect(server_page.message).to_have_value("too early")
        expect(server_page.lines).to_have_count(0)

    def test_each_command_has_a_button_that_the_server_answers(self, server_page):
        """The buttons are those of the commands in /server.json."""
        commands = server_page.page.request.get(server_page.origin + "/server.json").json()["commands"]
        expect(server_page.commands).to_have_text([command["name"] for command in commands])
        for command in commands:
            if server_page.connect.is_enabled():
                server_page.connect_to("/")
            answers = server_page.received.count()
            expect(server_page.command(command["name"])).to_have_attribute("title", command["help"])
            server_page.command(command["name"]).click()
            expect(server_page.sent.last).to_contain_text(command["name"])
            expect(server_page.received.nth(answers)).to_be_visible()
            if command["name"] == "bye":
                server_page.expect_state("CLOSED")

    def test_shows_messages_that_the_server_sends_by_itself(self, server_page):
        server_page.connect_to("/ticker?every=100ms&count=3")
        expect(server_page.received).to_have_count(3)
        expect(server_page.sent).to_have_count(0)

    def test_sends_and_shows_binary_messages_as_hex(self, server_page):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say("00ff 10 0x7F")
        expect(server_page.sent).to_contain_text("binary4 bytes00 ff 10 7f")
        expect(server_page.received).to_contain_text("binary4 bytes00 ff 10 7f")

    @pytest.mark.parametrize("text", ["hello", "123", "0x", "zz"])
    def test_does_not_send_invalid_hex_and_keeps_the_text(self, server_page, text):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say(text)
        expect(server_page.events.last).to_contain_text("Not sent")
        expect(server_page.message).to_have_value(text)
        expect(server_page.sent).to_have_count(0)

    def test_shows_how_many_bytes_the_browser_has_buffered(self, server_page):
        """The number returns to 0."""
        server_page.connect_to("/echo")
        server_page.message.fill("x" * 500_000)
        at_once = server_page.page.evaluate(
            """() => {
                document.querySelector('textarea').form.requestSubmit();
                return document.body.innerText.match(/Buffered: .*/)[0];
            }"""
        )
        assert at_once == "Buffered: 500,000 bytes"
        expect(server_page.received).to_have_count(1)
        expect(server_page.page.get_by_text("Buffered: 0 bytes")).to_be_visible()


class LogTests:
    """The log stays readable."""

    def test_an_empty_log_shows_a_hint_until_the_first_entry(self, server_page):
        hint = server_page.page.get_by_text("Nothing yet.")
        expect(hint).to_be_visible()
        server_page.connect_to("/echo")
        expect(hint).to_be_hidden()

    def test_shortens_a_long_text_and_shows_its_full_size(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("é" * 5000)
        expect(server_page.received).to_contain_text("10,000 bytes")
        expect(server_page.received).to_contain_text("shortened: 2,000 of 5,000 characters shown")
        assert server_page.received.text_content().count("é") == 2000

    def test_shortens_a_long_binary_message(self, server_page):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say("ab" * 1500)
        expect(server_page.received).to_contain_text("shortened: 256 of 1,500 bytes shown")

    def test_shows_an_empty_message_as_a_line(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("")
        expect(server_page.received).to_contain_text("0 bytes")
        expect(server_page.received).to_contain_text("empty message")

    def test_keeps_the_last_1000_lines_and_shows_how_many_it_dropped(self, server_page):
        server_page.connect_to("/echo")
        before = server_page.lines.count()
        server_page.page.evaluate(FILL_AND_SEND, [1, 600])
        dropped = before + 2 * 600 - LIMIT
        expect(
            server_page.page.get_by_text(f"{dropped} older lines dropped; the log keeps the last 1000.")
        ).to_be_visible()
        expect(server_page.lines).to_have_count(LIMIT)
        expect(server_page.received.last).to_contain_text("number 600")

    def test_clear_removes_every_line(self, server_page):
        """Messages that arrive later are shown."""
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Clear").click()
        expect(server_page.lines).to_have_count(0)
        server_page.say("fresh")
        expect(server_page.lines).to_have_count(2)

    def test_follows_the_newest_line_unless_scrolled_up(self, server_page):
        """The button Latest scrolls back to the bottom."""
        log, latest = server_page.log, server_page.page.get_by_role("button", name="Latest")
        server_page.connect_to("/echo")
        server_page.page.evaluate(FILL_AND_SEND, [1, 50])
        expect(server_page.received).to_have_count(50)
        assert is_at_the_bottom(log)
        expect(latest).to_be_hidden()
        log.hover()
        server_page.page.mouse.wheel(0, -600)
        expect(latest).to_be_visible()
        position = log.evaluate("view => view.scrollTop")
        server_page.say("meanwhile")
        expect(server_page.received).to_have_count(51)
        assert log.evaluate("view => view.scrollTop") == position
        latest.click()
        expect(latest).to_be_hidden()
        assert is_at_the_bottom(log)
        expect(log).to_be_focused()
