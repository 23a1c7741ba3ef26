"""Sending, receiving, and the log of it."""

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
    """Say whether the newest line is in view."""
    return log.evaluate("view => view.scrollHeight - view.scrollTop - view.clientHeight < 2")


class SendTests:
    """What a person sends, and what comes back."""

    def test_enter_sends(self, server_page):
        """Enter sends the message, empties the field and shows both directions, with size, type and time."""
        server_page.connect_to("/echo")
        server_page.say("Grüße")
        for line, mark in ((server_page.sent, "↑ sent"), (server_page.received, "↓ received")):
            expect(line).to_have_text(re.compile(rf"^\d\d:\d\d:\d\d\.\d\d\d{mark}text7 bytesGrüße$"))
        expect(server_page.message).to_have_value("")

    def test_button_sends(self, server_page):
        """The button sends as well."""
        server_page.connect_to("/echo")
        server_page.message.fill("by button")
        server_page.send.click()
        expect(server_page.received).to_contain_text("by button")

    def test_shift_enter_starts_a_line(self, server_page):
        """Shift and Enter make a new line instead of sending."""
        server_page.connect_to("/echo")
        server_page.message.fill("first")
        server_page.message.press("Shift+Enter")
        server_page.message.press_sequentially("second")
        expect(server_page.lines).to_have_count(2)
        server_page.message.press("Enter")
        expect(server_page.received.get_by_text("first\nsecond")).to_be_visible()

    def test_brings_back_the_last_message(self, server_page):
        """The up arrow in the empty field brings back the last message."""
        server_page.connect_to("/echo")
        server_page.say("once more")
        server_page.message.press("ArrowUp")
        expect(server_page.message).to_have_value("once more")

    def test_says_how_to_send(self, server_page):
        """The page says which keys do what."""
        expect(server_page.page.get_by_text("Enter sends, Shift+Enter adds a line.")).to_be_visible()

    def test_nothing_is_sent_while_closed(self, server_page):
        """Enter without a connection keeps the message."""
        server_page.say("too early")
        expect(server_page.message).to_have_value("too early")
        expect(server_page.lines).to_have_count(0)

    def test_every_command_has_a_button(self, server_page):
        """Each command that the server lists has a button that sends it, and the server answers."""
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

    def test_ticker_pushes(self, server_page):
        """Messages that the server sends on its own appear without anything being sent."""
        server_page.connect_to("/ticker?every=100ms&count=3")
        expect(server_page.received).to_have_count(3)
        expect(server_page.sent).to_have_count(0)

    def test_binary_is_shown_in_hex(self, server_page):
        """Binary messages are written and shown as hexadecimal bytes."""
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say("00ff 10 0x7F")
        expect(server_page.sent).to_contain_text("binary4 bytes00 ff 10 7f")
        expect(server_page.received).to_contain_text("binary4 bytes00 ff 10 7f")

    @pytest.mark.parametrize("text", ["hello", "123", "0x", "zz"])
    def test_bad_hex_is_explained(self, server_page, text):
        """What isn't hexadecimal isn't sent, and the page says how to write it."""
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say(text)
        expect(server_page.events.last).to_contain_text("Not sent")
        expect(server_page.message).to_have_value(text)
        expect(server_page.sent).to_have_count(0)

    def test_shows_what_is_buffered(self, server_page):
        """The page shows how many bytes the browser has not handed on yet, and that it gets back to none."""
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
    """A log that stays readable, whatever comes."""

    def test_starts_with_a_hint(self, server_page):
        """An empty log says what will be in it."""
        hint = server_page.page.get_by_text("Nothing yet.")
        expect(hint).to_be_visible()
        server_page.connect_to("/echo")
        expect(hint).to_be_hidden()

    def test_long_message_is_shortened(self, server_page):
        """A long message is shortened in view; its true size stands beside it."""
        server_page.connect_to("/echo")
        server_page.say("é" * 5000)
        expect(server_page.received).to_contain_text("10,000 bytes")
        expect(server_page.received).to_contain_text("shortened: 2,000 of 5,000 characters shown")
        assert server_page.received.text_content().count("é") == 2000

    def test_long_binary_message_is_shortened(self, server_page):
        """So is a long binary message."""
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Binary, as hex")
        server_page.say("ab" * 1500)
        expect(server_page.received).to_contain_text("shortened: 256 of 1,500 bytes shown")

    def test_empty_message_is_seen(self, server_page):
        """A message of no bytes is a line of its own."""
        server_page.connect_to("/echo")
        server_page.say("")
        expect(server_page.received).to_contain_text("0 bytes")
        expect(server_page.received).to_contain_text("empty message")

    def test_is_bounded(self, server_page):
        """After a thousand lines the oldest make room, and the page says how many did."""
        server_page.connect_to("/echo")
        before = server_page.lines.count()
        server_page.page.evaluate(FILL_AND_SEND, [1, 600])
        dropped = before + 2 * 600 - LIMIT
        expect(
            server_page.page.get_by_text(f"{dropped} older lines dropped; the log keeps the last 1000.")
        ).to_be_visible()
        expect(server_page.lines).to_have_count(LIMIT)
        expect(server_page.received.last).to_contain_text("number 600")

    def test_clear_empties_it(self, server_page):
        """Clear removes every line; what comes next is shown again."""
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Clear").click()
        expect(server_page.lines).to_have_count(0)
        server_page.say("fresh")
        expect(server_page.lines).to_have_count(2)

    def test_follows_unless_scrolled_up(self, server_page):
        """The newest line stays in view, except while somebody reads further up; Latest goes back down."""
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
