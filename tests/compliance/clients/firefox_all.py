"""
The WebSocket of Firefox, which runs all cases: python firefox_all.py SERVER FORM; the form is autobahn or own.

Our server has a page that runs its cases, and refuses pages of other origins.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "support"))

from firefox import running_firefox  # noqa: E402

SECONDS = 100
RUN = (HERE / "browser_all.js").read_text("utf-8").partition("\n")[2]

server, form = sys.argv[1:]
with tempfile.TemporaryDirectory() as profile, running_firefox(Path(profile)) as firefox:
    page = firefox.open_page()
    if form == "autobahn":
        page.evaluate(RUN, [server, form, "firefox"])
    else:
        page.goto(server.replace("ws", "http", 1) + "/conformance.html")
        page.fill("#agent", "firefox")
        page.click("#run")
        page.wait_for_text("#status", "All cases have been run.", timeout=SECONDS)
