"""Existing demo pages work unchanged, from a web site and from a file."""

import re

import pytest
from playwright.sync_api import expect
from processes import DEMOS


class DemoTests:
    """One test for each kind of demo page. Each page connects to a URL that is written in it."""

    def test_a_page_on_port_12345_shows_the_echo_of_its_message(self, open_demo):
        page = open_demo("1-echo.html", 12345)
        lines = page.get_by_role("listitem")
        expect(lines.filter(has_text="connected")).to_be_visible()
        page.get_by_label("Message").fill("is anybody there?")
        page.get_by_role("button", name="Send").click()
        expect(lines.last).to_have_text("server: is anybody there?")

    def test_a_page_on_server_php_gets_an_answer_to_each_command(self, open_demo):
        """The page connects to /websocket/server.php; its button Quit disconnects."""
        page = open_demo("2-commands.html", 12345)
        expect(page.get_by_text("Welcome - status 1")).to_be_visible()
        answers = page.get_by_text("Received: ")
        for name in ("hello", "hi", "name", "age", "date", "time", "thanks"):
            before = answers.count()
            page.get_by_title("Message").fill(name)
            page.get_by_title("Message").press("Enter")
            expect(page.get_by_text(f"Sent: {name}", exact=True)).to_be_visible()
            expect(answers.nth(before)).not_to_have_text(f"Received: {name}")
        page.get_by_role("button", name="Quit").click()
        expect(page.get_by_text("Disconnected - status 3")).to_be_visible()

    def test_the_command_bye_makes_the_server_close(self, open_demo):
        page = open_demo("2-commands.html", 12345)
        expect(page.get_by_text("Welcome - status 1")).to_be_visible()
        page.get_by_title("Message").fill("bye")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Disconnected - status 3")).to_be_visible()

    def test_a_page_that_sends_one_message_shows_the_answer_and_closes(self, open_demo):
        page = open_demo("3-once.html", 12345)
        expect(page.locator("p")).to_have_text(
            ["CONNECTED", "SENT: WebSocket rocks", "RESPONSE: WebSocket rocks", re.compile("DISCONNECTED 100[05]")]
        )

    def test_a_page_gets_the_reply_prefix_that_it_expects(self, open_demo):
        """The page connects to ws://127.0.0.1:1234 and expects "Received: " before the echo."""
        page = open_demo("4-prefix.html", 1234, "--reply-prefix", "Received: ")
        page.get_by_label("Text").fill("my own words")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Received: my own words")).to_be_visible()
        expect(page.get_by_text("as expected")).to_be_visible()

    def test_a_page_that_offers_chat_and_superchat_gets_chat(self, open_demo):
        """The page connects to /chat."""
        page = open_demo("5-subprotocols.html", 12345, "--subprotocol", "chat", "--subprotocol", "superchat")
        expect(page.get_by_text("Connected, speaking chat")).to_be_visible()
        page.get_by_label("Say").fill("anyone in here?")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("listitem")).to_have_text("anyone in here?")


class OriginTests:
    """Demo pages whose origin no option allows."""

    @pytest.mark.parametrize("flags", [(), ("--origin", "https://example.com")], ids=["default", "another origin"])
    def test_a_page_from_a_file_is_refused_without_origin_null(self, own_server, open_browser_page, flags):
        own_server(12345, *flags)
        page, complaints = open_browser_page()
        complaints.allow("WebSocket connection to .* failed: .*403")
        page.goto((DEMOS / "1-echo.html").as_uri())
        expect(page.get_by_role("listitem")).to_have_text(["error", "closed"])
