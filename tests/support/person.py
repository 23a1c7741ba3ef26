"""Page objects: the controls of the server's page, found by the labels that users see."""

import re
from urllib.parse import urljoin

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

__all__ = ["CONTRASTS", "EVERYTHING", "Channel", "Complaints", "ServerPage", "overflow"]

EVERYTHING = """async (key) => {
    const source = new EventSource("/sse?channel=news");
    const event = new Promise((resolve) => { source.onmessage = (message) => resolve(message.data); });
    await new Promise((resolve, reject) => { source.onopen = resolve; source.onerror = reject; });
    const socket = new WebSocket(`wss://${location.host}/echo`);
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const echo = new Promise((resolve) => { socket.onmessage = (message) => resolve(message.data); });
    socket.send("hello");
    const body = JSON.stringify({ channel: "news", data: "published" });
    const headers = { "X-API-Key": key };
    const answer = await fetch("/api/publish", { method: "POST", headers, body });
    const found = [await echo, answer.status, await event];
    socket.close();
    source.close();
    return found;
}"""
"""JavaScript that uses an event stream, a WebSocket and the API over TLS; it returns the echo, the status of the API's
answer, and the event."""

CONTRASTS = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => [red, green, blue]
        .map((part) => part / 255)
        .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = parse(getComputedStyle(element).backgroundColor);
            if (colour.length === 3) return colour;
        }
        return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || element.matches('noscript, option, datalist')) continue;
        const [dark, light] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))]
            .sort((a, b) => a - b);
        found.push([node.data.trim().slice(0, 40), (light + 0.05) / (dark + 0.05)]);
    }
    return found;
}"""
"""JavaScript that returns [text, contrast ratio to its background] for each visible text of a page."""

_REPORT_CSP_VIOLATIONS = """
addEventListener('securitypolicyviolation', (event) =>
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`));
"""


class Complaints:
    """
    What a browser reports while a page is open: console warnings and errors, uncaught errors, and CSP violations.

    Dialogs, and requests to other hosts than this machine, count as complaints too.

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
        """Expect complaints that match a regular expression."""
        self._allowed.append(pattern)

    def forget(self) -> None:
        """Begin anew, for the next test that uses the page."""
        self._seen.clear()
        self._allowed.clear()

    def unexpected(self) -> list[str]:
        """Return the complaints that no allowed pattern matches."""
        return [line for line in self._seen if not any(re.search(pattern, line) for pattern in self._allowed)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._seen.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not re.match(r"(file:|data:|https?://(localhost|127\.0\.0\.1|\[::1\]):)", request.url):
            self._seen.append(f"request to a foreign host: {request.url}")


class ServerPage:
    """
    The server's page.

    Args:
        page: the browser page to open it in.
        origin: the origin of the server, such as `http://127.0.0.1:8080`.
        complaints: the complaints about the browser page.
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
        self.message = page.get_by_label("Message", exact=True).and_(page.locator("textarea"))
        self.send_as = page.get_by_label("Send as")
        self.send = page.get_by_role("button", name="Send", exact=True)
        self.hint = page.locator("#message-hint")
        self.commands = page.get_by_role("group", name="Commands").get_by_role("button")
        self.list = page.get_by_role("listbox", name="Messages")
        self.rows = self.list.get_by_role("option")
        self.sent = self.rows.and_(page.locator(".sent"))
        self.received = self.rows.and_(page.locator(".received"))
        self.events = self.rows.and_(page.locator(".event"))
        self.counts = page.locator("#counts")
        self.problem = page.locator("#problem")
        self.detail = page.get_by_role("complementary", name="Message")
        self.channel = Channel(page.get_by_role("group", name="Channel"), self)

    def open(self) -> None:
        """Open the page and wait until it has loaded the server's details."""
        self.page.goto(self.origin + "/")
        expect(self.page.get_by_text("Loading the commands…")).to_be_hidden()

    def websocket_url(self, path: str) -> str:
        """Return the WebSocket URL of a path on the server."""
        return urljoin(self.origin.replace("http", "ws", 1), path)

    def connect_to(self, path: str) -> None:
        """Connect to a path on the server and wait until the page shows that the connection is open."""
        self.url.fill(self.websocket_url(path))
        self.connect.click()
        self.expect_state("Open")

    def expect_state(self, word: str) -> None:
        """Wait until the page shows this state of the connection."""
        expect(self.state).to_have_text(f"Connection: {word}")

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        self.message.fill(text)
        self.message.press("Enter")

    def command(self, name: str) -> Locator:
        """Return the button of a command."""
        return self.page.get_by_role("button", name=name, exact=True)

    def read(self, row: Locator) -> Locator:
        """Open a row; return the panel that shows it whole."""
        row.click()
        return self.detail

    def show_as(self, name: str) -> None:
        """Choose how the panel shows the message: JSON, Text, Bytes."""
        self.detail.get_by_role("tab", name=name).click()


class Channel:
    """
    The channel panel of the page.

    Args:
        panel: locates the panel.
        page: the page, whose list shows the messages of the channel.
    """

    def __init__(self, panel: Locator, page: ServerPage) -> None:
        self.panel = panel
        self.name = panel.get_by_label("Name")
        self.rewind = panel.get_by_label("Begin with")
        self.subscribe = panel.get_by_role("button", name="Subscribe", exact=True)
        self.unsubscribe = panel.get_by_role("button", name="Unsubscribe", exact=True)
        self.data = panel.get_by_label("Data")
        self.key = panel.get_by_label("API key")
        self.publish = panel.get_by_role("button", name="Publish", exact=True)
        self.lines = page.rows
        self.messages = page.received

    def open(self) -> None:
        """Expand the panel; on a phone, choose the view that contains it."""
        tools = self.panel.page.get_by_role("button", name="Tools")
        if tools.is_visible():
            tools.click()
        self.panel.get_by_text("Channel", exact=True).click()
        expect(self.name).to_be_visible()

    def subscribe_to(self, name: str) -> None:
        """Subscribe to a channel and wait until the page confirms it."""
        self.name.fill(name)
        self.subscribe.click()
        expect(self.lines.last).to_contain_text(f"Subscribed to {name}")


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
