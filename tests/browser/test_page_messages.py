"""Tests for the page's messages: how they are sent and received, and their list."""

import json
import re

import pytest
from playwright.sync_api import expect

CAPACITY = 100_000

ADD = """async ([count, text]) => {
    const { messages, list } = await import('/main.js');
    for (let number = 0; number < count; number += 1) {
        messages.add({ direction: 'received', data: `${text} ${number}` });
    }
    list.draw();
}"""
"""JavaScript that puts messages into the list without a server."""


def add(server_page, count: int, text: str = "number") -> None:
    """Put numbered messages into the list without a server."""
    server_page.page.evaluate(ADD, [count, text])


def is_at_the_bottom(rows) -> bool:
    """Return whether the newest row is in view."""
    return rows.evaluate("view => view.scrollHeight - view.scrollTop - view.clientHeight < 2")


class SendTests:
    """The user sends a message and receives the response."""

    def test_enter_sends_and_shows_both_directions_with_size_and_time(self, server_page):
        """Enter also empties the field."""
        server_page.connect_to("/echo")
        server_page.say("Grüße")
        for row, mark in ((server_page.sent, "↑sent"), (server_page.received, "↓received")):
            expect(row).to_have_text(re.compile(rf"^{mark}\d\d:\d\d:\d\d\.\d\d\dGrüße7 B$"))
        expect(server_page.message).to_have_value("")
        expect(server_page.read(server_page.received)).to_contain_text("received, text")
        expect(server_page.detail).to_contain_text("7 bytes")
        expect(server_page.counts).to_have_text("1 sent · 1 received")

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
        expect(server_page.sent).to_have_count(0)
        server_page.message.press("Enter")
        expect(server_page.received).to_contain_text("first ↵ second")
        expect(server_page.read(server_page.received).get_by_text("first\nsecond")).to_be_visible()

    def test_the_arrows_go_through_the_messages_sent_before(self, server_page):
        """The message being written is kept; the type of a message comes back with it."""
        server_page.connect_to("/echo")
        server_page.say("first")
        server_page.send_as.select_option("Hex")
        server_page.say("ff")
        server_page.send_as.select_option("Text")
        server_page.message.fill("draft")
        for key, text, kind in (
            ("ArrowUp", "ff", "hex"),
            ("ArrowUp", "first", "text"),
            ("ArrowUp", "first", "text"),
            ("ArrowDown", "ff", "hex"),
            ("ArrowDown", "draft", "text"),
            ("ArrowDown", "draft", "text"),
        ):
            server_page.message.press(key)
            expect(server_page.message).to_have_value(text)
            expect(server_page.send_as).to_have_value(kind)

    def test_keeps_at_most_100_messages_and_4_million_characters_for_the_arrows(self, server_page):
        kept = server_page.page.evaluate(
            """async () => {
                const { SentBefore } = await import('/sentbefore.js');
                return [['x', 200], ['x'.repeat(1_000_000), 20]].map(([text, count]) => {
                    const sent = new SentBefore();
                    for (let number = 0; number < count; number += 1) sent.add('text', `${text}${number}`);
                    let steps = 0;
                    while (sent.older({ type: 'text', text: '' })) steps += 1;
                    return steps;
                });
            }"""
        )
        assert kept == [100, 4]

    def test_an_arrow_inside_several_lines_moves_the_cursor(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("before")
        server_page.message.fill("first\nsecond")
        server_page.message.press("ArrowUp")
        expect(server_page.message).to_have_value("first\nsecond")
        server_page.message.press("ArrowUp")
        expect(server_page.message).to_have_value("before")

    def test_shows_which_keys_send_and_start_a_line(self, server_page):
        expect(server_page.page.get_by_text("Enter sends, Shift+Enter adds a line")).to_be_visible()

    def test_enter_sends_nothing_and_keeps_the_text_while_closed(self, server_page):
        server_page.say("too early")
        expect(server_page.message).to_have_value("too early")
        expect(server_page.hint).to_have_text("Not sent: connect first.")
        expect(server_page.rows).to_have_count(0)

    def test_each_command_has_a_button_that_the_server_answers(self, server_page):
        """The buttons are those of the commands in /server.json."""
        commands = server_page.page.request.get(server_page.origin + "/server.json").json()["commands"]
        expect(server_page.commands).to_have_text([command["name"] for command in commands])
        for number, command in enumerate(commands, 1):
            if server_page.connect.is_visible():
                server_page.connect_to("/")
            expect(server_page.command(command["name"])).to_have_attribute("title", command["help"])
            server_page.command(command["name"]).click()
            expect(server_page.sent.last).to_contain_text(command["name"])
            expect(server_page.counts).to_have_text(f"{number} sent · {number} received")
            if command["name"] == "bye":
                server_page.expect_state("Closed")

    def test_shows_messages_that_the_server_sends_by_itself(self, server_page):
        server_page.connect_to("/ticker?every=100ms&count=3")
        expect(server_page.received).to_have_count(3)
        expect(server_page.sent).to_have_count(0)

    @pytest.mark.parametrize(("kind", "typed"), [("Hex", "00ff 10 0x7F"), ("Base64", "AP8Qfw=="), ("Base64", "AP8Qfw")])
    def test_sends_and_shows_binary_messages(self, server_page, kind, typed):
        server_page.connect_to("/echo")
        server_page.send_as.select_option(kind)
        server_page.say(typed)
        for row in (server_page.sent, server_page.received):
            expect(row).to_contain_text("binary00 ff 10 7f4 B")

    def test_sends_a_file_as_bytes(self, server_page):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("File")
        server_page.send.click()
        expect(server_page.hint).to_have_text("Not sent: choose a file.")
        chosen = {"name": "a.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256)) * 4}
        server_page.page.locator("input[type=file]").set_input_files(chosen)
        server_page.send.click()
        expect(server_page.received).to_contain_text("00 01 02 03")
        expect(server_page.read(server_page.received)).to_contain_text("1,024 bytes")

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("Hex", "hello"), ("Hex", "123"), ("Hex", "0x"), ("Hex", "zz"), ("Base64", "a$b"), ("JSON", "{a:1}")],
    )
    def test_does_not_send_what_is_not_of_the_chosen_kind_and_keeps_the_text(self, server_page, kind, text):
        server_page.connect_to("/echo")
        server_page.send_as.select_option(kind)
        server_page.say(text)
        expect(server_page.hint).to_contain_text("Not sent")
        expect(server_page.message).to_have_value(text)
        expect(server_page.message).to_have_attribute("aria-invalid", "true")
        expect(server_page.sent).to_have_count(0)

    def test_sends_json_as_it_was_typed(self, server_page):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("JSON")
        server_page.say('{ "n": 1.0 }')
        expect(server_page.received).to_contain_text('{ "n": 1.0 }')

    def test_shows_how_many_bytes_the_browser_has_buffered_while_there_are_any(self, server_page):
        server_page.connect_to("/echo")
        server_page.message.fill("x" * 500_000)
        at_once = server_page.page.evaluate(
            """async () => {
                document.querySelector('#message-form').requestSubmit();
                await Promise.resolve();
                await Promise.resolve();
                return document.querySelector('#buffered').innerText;
            }"""
        )
        assert at_once == "Buffered: 500,000 bytes"
        expect(server_page.received).to_have_count(1)
        expect(server_page.page.locator("#buffered")).to_be_hidden()

    def test_repeats_once_if_start_is_pressed_again_while_the_message_is_read(self, server_page):
        """Reading a file takes time."""
        sent = server_page.page.evaluate(
            """async () => {
                const { Repeat } = await import('/repeat.js');
                const fields = { 'repeat-count': '3', 'repeat-rate': '1000' };
                for (const [id, value] of Object.entries(fields)) document.getElementById(id).value = value;
                let sent = 0;
                const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
                const repeat = new Repeat(async () => { await pause(); return 'x'; }, () => { sent += 1; }, () => 0);
                const form = document.getElementById("repeat-form");
                const press = () => form.dispatchEvent(new Event("submit", { cancelable: true }));
                press();
                press();
                while (sent < 3) await pause();
                await pause();
                press();
                repeat.stop();
                await pause();
                await pause();
                return sent;
            }"""
        )
        assert sent == 3

    def test_repeats_a_message_at_a_rate_until_it_is_stopped(self, server_page):
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Repeat…").click()
        server_page.page.get_by_label("Times").fill("40")
        server_page.page.get_by_label("per second").fill("200")
        server_page.message.fill("again")
        server_page.page.get_by_role("button", name="Start").click()
        expect(server_page.page.get_by_text("40 / 40")).to_be_visible()
        expect(server_page.counts).to_have_text("40 sent · 40 received")
        server_page.page.get_by_label("Times").fill("1000")
        server_page.page.get_by_role("button", name="Start").click()
        server_page.page.get_by_role("button", name="Stop").click()
        expect(server_page.page.get_by_role("button", name="Start")).to_be_enabled()

    def test_closes_with_a_code_and_a_reason_of_the_users_choice(self, server_page):
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Close with…").click()
        server_page.page.get_by_label("Close code").fill("4321")
        server_page.page.get_by_label("Reason").fill("enough, 再见")
        server_page.page.get_by_role("button", name="Close", exact=True).click()
        server_page.expect_state("Closed")
        expect(server_page.events.last).to_contain_text("Disconnected, code 4321")
        expect(server_page.read(server_page.events.last)).to_contain_text("Reason given: “enough, 再见”")

    def test_does_not_close_with_a_code_that_browsers_refuse(self, server_page):
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Close with…").click()
        code = server_page.page.get_by_label("Close code")
        code.fill("1011")
        code.press("Enter")
        assert (
            code.evaluate("field => field.validationMessage") == "Browsers let pages send only 1000 and 3000 to 4999."
        )
        server_page.expect_state("Open")


class DetailTests:
    """A message is shown whole."""

    def test_shows_json_as_a_tree_with_numbers_as_they_were_sent(self, server_page):
        server_page.connect_to("/echo")
        server_page.say(
            '{"big": 12345678901234567890, "one": 1.0, "list": [true, null, {"deep": "Grüße"}], "empty": []}'
        )
        detail = server_page.read(server_page.received)
        for shown in ("big: 12345678901234567890", "one: 1.0", "list: [ 3 items ]", "0: true", "1: null", "empty: []"):
            expect(detail.get_by_text(shown, exact=True).first).to_be_visible()
        expect(detail.get_by_text('deep: "Grüße"')).to_be_hidden()
        detail.get_by_text("2: { 1 item }").click()
        expect(detail.get_by_text('deep: "Grüße"')).to_be_visible()

    def test_opens_a_large_tree_in_parts(self, server_page):
        server_page.connect_to("/echo")
        server_page.say(str(list(range(1000))))
        detail = server_page.read(server_page.received)
        expect(detail.get_by_text("199: 199", exact=True)).to_be_attached()
        expect(detail.get_by_text("200: 200", exact=True)).not_to_be_attached()
        detail.get_by_role("button", name="Show 800 more").click()
        expect(detail.get_by_text("399: 399", exact=True)).to_be_attached()

    def test_shows_bytes_as_offset_hexadecimal_and_characters(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("0123456789 Grüße")
        server_page.read(server_page.received)
        server_page.show_as("Bytes")
        lines = server_page.detail.locator(".hex-line")
        expect(lines.nth(0)).to_have_text("000000  30 31 32 33 34 35 36 37  01234567")
        expect(lines.nth(1)).to_have_text("000008  38 39 20 47 72 c3 bc c3  89 Gr\u00b7\u00b7\u00b7")
        expect(lines.nth(2)).to_have_text(re.compile(r"^000010  9f 65 +\u00b7e$"))

    def test_shows_16_bytes_in_a_line_where_there_is_room(self, open_server_page):
        server_page = open_server_page(viewport={"width": 1920, "height": 1080})
        server_page.connect_to("/echo")
        server_page.say("0123456789abcdef")
        server_page.read(server_page.received)
        server_page.show_as("Bytes")
        view = server_page.detail.locator(".hex")
        expect(view.locator(".hex-line").first).to_contain_text("0123456789abcdef")
        assert view.evaluate("view => view.scrollWidth - view.clientWidth") == 0

    def test_shows_a_megabyte_of_bytes_with_few_lines_in_the_document(self, server_page):
        add(server_page, 1)
        server_page.page.evaluate(
            """async () => {
                const { messages, list } = await import('/main.js');
                messages.add({ direction: 'received', data: new Uint8Array(1_000_000).fill(7).buffer });
                list.draw();
            }"""
        )
        expect(server_page.received).to_have_count(2)
        server_page.read(server_page.received.last)
        server_page.show_as("Bytes")
        view = server_page.detail.locator(".hex")
        view.evaluate("view => { view.scrollTop = view.scrollHeight; }")
        expect(view.get_by_text("0f4230")).to_be_visible()
        assert view.locator(".hex-line").count() < 100

    def test_shows_a_long_text_in_parts_and_in_full(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("é" * 150_000)
        detail = server_page.read(server_page.received)
        expect(detail).to_contain_text("300,000 bytes")
        assert detail.locator("pre").text_content().count("é") == 100_000
        detail.get_by_role("button", name="Show the remaining 50,000 characters").click()
        assert detail.locator("pre").text_content() == "é" * 150_000

    def test_copies_a_message(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("to the clipboard")
        server_page.read(server_page.received).get_by_role("button", name="Copy").click()
        expect(server_page.detail.get_by_role("button", name="Copied")).to_be_visible()
        assert server_page.page.evaluate("navigator.clipboard.readText()") == "to the clipboard"

    def test_saves_a_binary_message_byte_for_byte(self, server_page):
        server_page.connect_to("/echo")
        server_page.send_as.select_option("Hex")
        server_page.say("00ff80")
        server_page.read(server_page.received)
        with server_page.page.expect_download() as saved:
            server_page.detail.get_by_role("button", name="Save").click()
        assert re.fullmatch(r"received-[\d-]+\.bin", saved.value.suggested_filename)
        assert saved.value.path().read_bytes() == b"\x00\xff\x80"

    @pytest.fixture
    def save(self, server_page):
        """Return a function that saves the list, and returns the name and the content of the file."""

        def save_as(form):
            server_page.page.get_by_role("button", name="Save…").click()
            with server_page.page.expect_download() as saved:
                server_page.page.get_by_role("dialog", name="Save the list").get_by_role("button", name=form).click()
            return saved.value.suggested_filename, saved.value.path().read_text("utf-8")

        return save_as

    @pytest.fixture
    def exchange(self, server_page):
        """Return a function that sends a text and a binary message, and waits for both echoes."""

        def send(text):
            server_page.connect_to("/echo")
            server_page.say(text)
            server_page.send_as.select_option("Hex")
            server_page.say("00ff80")
            expect(server_page.received).to_have_count(2)

        return send

    def test_saves_the_list_as_json_lines(self, exchange, save):
        exchange("Grüße, 世界\nsecond line")
        name, text = save("JSON lines")
        assert re.fullmatch(r"messages-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.jsonl", name)
        connecting, connected, *messages = map(json.loads, text.splitlines())
        assert connecting["direction"] == connected["direction"] == "event"
        assert connected["title"].startswith("Connected to ws://")
        times = [message.pop("time") for message in messages]
        assert times == sorted(times)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", time) for time in times)
        assert messages == [
            {"direction": "sent", "text": "Grüße, 世界\nsecond line"},
            {"direction": "received", "text": "Grüße, 世界\nsecond line"},
            {"direction": "sent", "base64": "AP+A"},
            {"direction": "received", "base64": "AP+A"},
        ]

    def test_saves_the_list_as_text_in_which_each_message_begins_with_its_time(self, exchange, save):
        exchange("one\ntwo")
        name, text = save("Text")
        assert name.endswith(".txt")
        lines = re.sub(r"(?m)^\S+Z ", "TIME ", text).splitlines()
        assert [line for line in lines if "↑" in line or "↓" in line or line == "    two"] == [
            *("TIME ↑ one", "    two", "TIME ↓ one", "    two"),
            *("TIME ↑ <00 ff 80>", "TIME ↓ <00 ff 80>"),
        ]

    def test_saves_only_what_the_filter_shows(self, server_page, save):
        add(server_page, 30_000)
        page = server_page.page
        page.get_by_role("searchbox").fill("number 2999")
        expect(page.locator("#counts")).to_have_text("11 of 30,000 shown")
        page.get_by_role("button", name="Save…").click()
        expect(page.locator("#export-count")).to_have_text("11 rows: those that the filter shows.")
        page.keyboard.press("Escape")
        _, text = save("JSON lines")
        assert [json.loads(line)["text"] for line in text.splitlines()] == [
            "number 2999",
            *(f"number {2999 * 10 + digit}" for digit in range(10)),
        ]

    def test_saves_a_long_list_in_the_order_of_the_messages(self, server_page, save):
        add(server_page, 100_000)
        _, text = save("Text")
        assert [line.rpartition(" ")[2] for line in text.splitlines()] == [str(number) for number in range(100_000)]

    def test_has_nothing_to_save_in_an_empty_list(self, server_page):
        server_page.page.get_by_role("button", name="Save…").click()
        expect(server_page.page.get_by_role("button", name="JSON lines")).to_be_disabled()

    def test_arrow_keys_go_from_message_to_message(self, server_page):
        add(server_page, 200)
        server_page.list.focus()
        server_page.page.keyboard.press("End")
        expect(server_page.detail).to_contain_text("number 199")
        server_page.page.keyboard.press("ArrowUp")
        expect(server_page.detail).to_contain_text("number 198")
        server_page.page.keyboard.press("Home")
        expect(server_page.detail).to_contain_text("number 0")
        expect(server_page.rows.first).to_have_attribute("aria-selected", "true")
        active = server_page.list.get_attribute("aria-activedescendant")
        expect(server_page.page.locator(f"#{active}")).to_contain_text("number 0")


class ListTests:
    """The list stays readable and responsive."""

    def test_an_empty_list_shows_a_hint_until_the_first_entry(self, server_page):
        hint = server_page.page.get_by_text("Nothing yet")
        expect(hint).to_be_visible()
        server_page.connect_to("/echo")
        expect(hint).to_be_hidden()

    def test_shows_an_empty_message_as_a_row(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("")
        expect(server_page.received).to_contain_text("(empty message)0 B")

    def test_a_long_message_has_one_row_with_its_full_size(self, server_page):
        server_page.connect_to("/echo")
        server_page.say("é" * 5000)
        expect(server_page.received).to_contain_text("10 kB")
        heights = server_page.rows.evaluate_all("all => all.map((row) => row.offsetHeight)")
        assert len(set(heights)) == 1

    def test_clear_removes_every_row(self, server_page):
        """Messages that arrive later are shown."""
        server_page.connect_to("/echo")
        server_page.page.get_by_role("button", name="Clear").click()
        expect(server_page.rows).to_have_count(0)
        server_page.say("fresh")
        expect(server_page.rows).to_have_count(2)

    def test_keeps_100000_messages_with_few_rows_in_the_document(self, server_page):
        """Older messages are dropped, and counted."""
        add(server_page, CAPACITY + 1234)
        expect(
            server_page.page.get_by_text("1,234 older rows dropped; the list keeps the last 100,000.")
        ).to_be_visible()
        expect(server_page.rows.last).to_contain_text(f"number {CAPACITY + 1233}")
        server_page.list.evaluate("view => { view.scrollTop = 0; }")
        expect(server_page.rows.first).to_contain_text("number 1234")
        expect(server_page.rows.first).to_have_attribute("aria-setsize", str(CAPACITY))
        assert server_page.list.locator(".message").count() < 60

    def test_a_message_in_view_stays_in_place_while_older_ones_are_dropped(self, server_page):
        add(server_page, CAPACITY)
        server_page.list.evaluate("view => { view.scrollTop = view.scrollHeight / 2; }")
        top = """view => {
            const { x, y } = view.getBoundingClientRect();
            return document.elementFromPoint(x + 20, y + 60).closest('.message').innerText;
        }"""
        expect(server_page.page.get_by_role("button", name="Latest")).to_be_visible()
        before = server_page.list.evaluate(top)
        add(server_page, 500, "later")
        expect(server_page.page.get_by_text("500 older rows dropped")).to_be_visible()
        assert server_page.list.evaluate(top) == before

    def test_drops_old_messages_by_their_size_too(self, server_page):
        kept = server_page.page.evaluate(
            """async () => {
                const { messages } = await import('/main.js');
                const data = () => new ArrayBuffer(8_000_000);
                for (let n = 0; n < 40; n += 1) messages.add({ direction: 'received', data: data() });
                return messages.end - messages.first;
            }"""
        )
        assert 30 <= kept <= 34

    def test_follows_the_newest_row_until_scrolled_up_then_counts_new_ones(self, server_page):
        """The button scrolls back to the end."""
        latest = server_page.page.locator("#latest")
        server_page.connect_to("/echo")
        add(server_page, 100)
        expect(server_page.rows.last).to_contain_text("number 99")
        assert is_at_the_bottom(server_page.list)
        expect(latest).to_be_hidden()
        server_page.list.hover()
        server_page.page.mouse.wheel(0, -600)
        expect(latest).to_have_text("Latest")
        server_page.page.wait_for_function("document.querySelector('#list').scrollTop % 1 === 0")
        position = server_page.list.evaluate("view => view.scrollTop")
        server_page.say("meanwhile")
        expect(latest).to_have_text("↓ 2 new")
        assert server_page.list.evaluate("view => view.scrollTop") == position
        latest.click()
        expect(latest).to_be_hidden()
        expect(server_page.received.last).to_contain_text("meanwhile")
        assert is_at_the_bottom(server_page.list)
        expect(server_page.list).to_be_focused()
