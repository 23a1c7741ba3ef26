"""
Take the screenshots of the browser page that the README and the docs show: `make screenshots`.

They are taken from a real server, with fixed content, so that only a change of the page changes them.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from paths import DOCS
from ports import free_port
from processes import running_server

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
MESSAGES = (
    "hello",
    '{"type":"subscribe","symbols":["ACME","WSSE"],"depth":10}',
    "Grüße, 世界",
)


@dataclass(frozen=True)
class Shot:
    """One screenshot: the name of its file, the browser's options, and what happens before."""

    name: str
    options: dict[str, object]
    prepare: Callable[[Page], None]


def connect(page: Page) -> None:
    """Connect, let the plots show something, and send the messages."""
    page.locator("#url").fill("/ws")
    page.locator("#connect").click()
    expect(page.locator("#state")).to_have_attribute("data-state", "OPEN")
    repeat(page)
    page.locator("#clear").click()
    expect(page.locator(".message:visible")).to_have_count(0)
    for text in MESSAGES:
        send(page, text)
    page.locator("#type").select_option("hex")
    send(page, "0a 00 ff 7f 12 34 56 78")
    page.locator("#type").select_option("text")


def send(page: Page, text: str) -> None:
    """Send a message and wait for the answer."""
    answers = page.locator(".message.received:visible").count()
    page.locator("#message").fill(text)
    page.locator("#message").press("Enter")
    expect(page.locator(".message.received:visible")).to_have_count(answers + 1)


def repeat(page: Page) -> None:
    """Send messages at a changing rate."""
    page.locator("#repeat-toggle").click()
    page.locator("#message").fill("tick")
    for count, rate in ((40, 20), (120, 60), (60, 40), (100, 80)):
        page.locator("#repeat-count").fill(str(count))
        page.locator("#repeat-rate").fill(str(rate))
        page.locator("#repeat-start").click()
        expect(page.locator("#repeat-progress")).to_contain_text(f"{count} / {count}")
    page.locator("#repeat-toggle").click()


def read_json(page: Page) -> None:
    """Open the received JSON message."""
    connect(page)
    page.locator(".message.received:visible").nth(1).click()


def read_wire(page: Page) -> None:
    """Show what the server saw on the wire of a message."""
    read_json(page)
    page.locator("#tab-wire").click()


def use_fault(page: Page) -> None:
    """Connect to a fault."""
    page.evaluate("document.querySelectorAll('.panel').forEach((one) => { one.open = one.id === 'faults-panel'; })")
    page.locator("#fault").select_option("/faults/close")
    page.locator("#fault-form input[name=code]").fill("1012")
    page.locator("#fault-form button").click()
    expect(page.locator("#problem-title")).to_contain_text("1012")


def run_cases(page: Page) -> None:
    """Run the conformance cases in Chromium, and show the report."""
    page.goto(f"{page.url}conformance.html")
    page.get_by_role("button", name="Run all cases").click()
    page.get_by_role("link", name="Report with all reasons").click(timeout=180_000)


PHONE_OPTIONS = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SHOTS = (
    Shot("page", {"viewport": DESKTOP}, read_json),
    Shot("page-dark", {"viewport": DESKTOP, "color_scheme": "dark"}, read_wire),
    Shot("page-phone", PHONE_OPTIONS, connect),
    Shot("page-chinese", {"viewport": DESKTOP, "locale": "zh-CN"}, read_json),
    Shot("page-faults", {"viewport": DESKTOP}, use_fault),
    Shot("conformance-report", {"viewport": DESKTOP}, run_cases),
)


def main() -> None:
    """Write all screenshots."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with running_server(Path(directory), port, "--faults", "--cases"):
            for shot in SHOTS:
                page = chromium.new_context(**{"locale": "en-US", **shot.options}).new_page()  # type: ignore[arg-type]
                page.goto(f"http://127.0.0.1:{port}/")
                expect(page.locator("#commands button").first).to_be_attached()
                shot.prepare(page)
                # No blinking cursor, no outline of the focus, nothing under the pointer.
                page.evaluate("document.activeElement.blur()")
                page.mouse.move(0, 0)
                page.screenshot(path=DOCS / f"{shot.name}.png")
        chromium.close()


if __name__ == "__main__":
    main()
