"""The demo pages that people already have work as they are, from a web site and from a file."""

import re

import pytest
from playwright.sync_api import expect
from processes import DEMOS


class DemoTests:
    """One test for each kind of demo page; each has its URL written in it."""

    def test_echo(self, open_demo):
        """A page on ws://localhost:12345 shows what it sends back."""
        page = open_demo("1-echo.html", 12345)
        lines = page.get_by_role("listitem")
        expect(lines.filter(has_text="connected")).to_be_visible()
        page.get_by_label("Message").fill("is anybody there?")
        page.get_by_role("button", name="Send").click()
        expect(lines.last).to_have_text("server: is anybody there?")

    def test_commands(self, open_demo):
        """A page on /websocket/server.php gets an answer to each of its commands, and Quit leaves."""
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

    def test_bye(self, open_demo):
        """The last command of that page, bye, makes the server close."""
        page = open_demo("2-commands.html", 12345)
        expect(page.get_by_text("Welcome - status 1")).to_be_visible()
        page.get_by_title("Message").fill("bye")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Disconnected - status 3")).to_be_visible()

    def test_once(self, open_demo):
        """A page that connects, sends once, shows the answer and closes gets through all of it."""
        page = open_demo("3-once.html", 12345)
        expect(page.locator("p")).to_have_text(
            ["CONNECTED", "SENT: WebSocket rocks", "RESPONSE: WebSocket rocks", re.compile("DISCONNECTED 100[05]")]
        )

    def test_prefix(self, open_demo):
        """A page on ws://127.0.0.1:1234 that expects "Received: " before its own text gets it."""
        page = open_demo("4-prefix.html", 1234, "--reply-prefix", "Received: ")
        page.get_by_label("Text").fill("my own words")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Received: my own words")).to_be_visible()
        expect(page.get_by_text("as expected")).to_be_visible()

    def test_subprotocols(self, open_demo):
        """A page that asks for the subprotocols chat and superchat on /chat gets the first."""
        page = open_demo("5-subprotocols.html", 12345, "--subprotocol", "chat", "--subprotocol", "superchat")
        expect(page.get_by_text("Connected, speaking chat")).to_be_visible()
        page.get_by_label("Say").fill("anyone in here?")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("listitem")).to_have_text("anyone in here?")


class OriginTests:
    """Demo pages that nobody allowed."""

    @pytest.mark.parametrize("flags", [(), ("--origin", "https://example.com")], ids=["default", "another origin"])
    def test_file_is_refused_unless_allowed(self, own_server, open_browser_page, flags):
        """A page opened from a file gets no connection before --origin null says so."""
        own_server(12345, *flags)
        page, complaints = open_browser_page()
        complaints.allow("WebSocket connection to .* failed: .*403")
        page.goto((DEMOS / "1-echo.html").as_uri())
        expect(page.get_by_role("listitem")).to_have_text(["error", "closed"])
