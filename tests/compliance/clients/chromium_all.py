"""The WebSocket of Chromium, which runs all cases: python chromium_all.py CHROMIUM SERVER [autobahn]."""

import sys

from playwright.sync_api import sync_playwright

RUN = """
async ([server, form]) => {
  const run = (url, isEcho) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    let last = '';
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => {
      last = event.data;
      if (isEcho) socket.send(event.data);
    };
    socket.onclose = () => resolve(last);
  });
  const count = Number(await run(`${server}/getCaseCount`, false));
  for (let number = 1; number <= count; number += 1) {
    const path = form === 'autobahn' ? `/runCase?case=${number}&agent=chromium` : `/case/${number}?agent=chromium`;
    await run(server + path, true);
  }
  await run(`${server}/updateReports?agent=chromium`, false);
}
"""

chromium, server, *form = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium)
    page = browser.new_page()
    page.set_default_timeout(600_000)
    if form != ["autobahn"]:
        # Our server refuses pages of other origins.
        page.goto(server.replace("ws", "http", 1) + "/conformance.html")
    page.evaluate(RUN, [server, form[0] if form else "own"])
    browser.close()
