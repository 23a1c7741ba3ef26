"""What a person has in front of them: the page's controls, by the names they carry on the screen."""

import re
from urllib.parse import urljoin

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

__all__ = ["Complaints", "ServerPage"]

_REPORT_CSP_VIOLATIONS = """
addEventListener('securitypolicyviolation', (event) =>
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`));
"""


class Complaints:
    """
    Whatever a browser complains about while a page is open: the console, uncaught errors, CSP, dialogs, foreign hosts.

    Args:
        page: a page that has not been opened yet.
    """

    def __init__(self, page: Page) -> None:
        self._seen: list[str] = []
        self._allowed: list[str] = []
        page.add_init_script(_REPORT_CSP_VIOLATIONS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._seen.append(f"uncaught: {error}"))
        page.on("request", self._on_request)
        page.on("dialog", lambda dialog: (self._seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def allow(self, pattern: str) -> None:
        """Take complaints that match a regular expression for expected ones."""
        self._allowed.append(pattern)

    def unexpected(self) -> list[str]:
        """Return what nobody expected."""
        return [line for line in self._seen if not any(re.search(pattern, line) for pattern in self._allowed)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._seen.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not re.match(r"(file:|data:|https?://(localhost|127\.0\.0\.1):)", request.url):
            self._seen.append(f"request to a foreign host: {request.url}")


class ServerPage:
    """
    The page of the server.

    Args:
        page: a browser page.
        origin: of the server, as in `http://127.0.0.1:8080`.
        complaints: what the browser said about the page so far.
    """

    def __init__(self, page: Page, origin: str, complaints: Complaints) -> None:
        self.page = page
        self.origin = origin
        self.complaints = complaints
        self.state = page.get_by_role("status")
        self.url = page.get_by_label("URL", exact=True)
        self.subprotocols = page.get_by_label("Subprotocols")
        self.connect = page.get_by_role("button", name="Connect", exact=True)
        self.disconnect = page.get_by_role("button", name="Disconnect", exact=True)
        self.message = page.get_by_label("Message")
        self.send_as = page.get_by_label("Send as")
        self.send = page.get_by_role("button", name="Send", exact=True)
        self.commands = page.get_by_role("group", name="Commands").get_by_role("button")
        self.log = page.get_by_role("log")
        self.lines = self.log.get_by_role("listitem")
        self.sent = self._lines_marked("↑ sent")
        self.received = self._lines_marked("↓ received")
        self.events = self._lines_marked("• event")

    def open(self) -> None:
        """Open the page and wait until it has asked the server about itself."""
        self.page.goto(self.origin + "/")
        expect(self.page.get_by_text("Asking the server…")).to_be_hidden()

    def websocket_url(self, path: str) -> str:
        """Return the URL of a path of the server."""
        return urljoin(self.origin.replace("http", "ws", 1), path)

    def connect_to(self, path: str) -> None:
        """Connect to a path of the server and wait until the page says OPEN."""
        self.url.fill(self.websocket_url(path))
        self.connect.click()
        self.expect_state("OPEN")

    def expect_state(self, word: str) -> None:
        """Wait until the page shows a state in words."""
        expect(self.state).to_have_text(f"Connection: {word}")

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        self.message.fill(text)
        self.message.press("Enter")

    def command(self, name: str) -> Locator:
        """Find the button of a command."""
        return self.page.get_by_role("button", name=name, exact=True)

    def _lines_marked(self, mark: str) -> Locator:
        return self.lines.filter(has=self.page.get_by_text(mark, exact=True))
