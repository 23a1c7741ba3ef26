"""The WebSocket of Chromium, which runs all cases: python chromium_all.py CHROMIUM SERVER [autobahn]."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

RUN = Path(__file__).with_name("browser_all.js").read_text("utf-8")

chromium, server, form = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium)
    page = browser.new_page()
    page.set_default_timeout(600_000)
    if form != "autobahn":
        # Our server refuses pages of other origins.
        page.goto(server.replace("ws", "http", 1) + "/conformance.html")
    page.evaluate(RUN, [server, form, "chromium"])
    browser.close()
