"""Run the conformance cases in a browser: wsserver conformance -- python browser.py {page}"""

import sys

from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    # The path of an installed browser, such as /usr/bin/chromium; without one, Playwright uses its own.
    path = sys.argv[2] if len(sys.argv) > 2 else None
    browser = playwright.chromium.launch(executable_path=path)
    page = browser.new_page()
    page.goto(sys.argv[1])
    page.click("#run")
    page.wait_for_selector("#summary:not([hidden])", timeout=300_000)
    print(page.inner_text("#summary"))
    browser.close()
