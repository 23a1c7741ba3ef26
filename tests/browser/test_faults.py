"""What real clients report for each fault: the table in docs/reference/faults.md, and the page of the faults."""

import os
import re

import pytest
from fault_scenarios import CLIENTS, SCENARIOS, describe_versions, play_all, write_row, write_table
from paths import DOCS
from server_process import Process

from wsserver.endpoints.faults.table import TABLE

PAGE = DOCS / "reference/faults.md"
START, END = "<!-- The table of reports: written by `make fault-clients`. -->\n\n", "\n<!-- The end of the table. -->"


@pytest.fixture(scope="module")
def server():
    process = Process("--faults", "--max-fault-connections", "1000")
    yield process
    process.close()


@pytest.fixture(scope="module")
def table(chromium, firefox, server):
    """Play all scenarios with all clients; return the table of their reports."""
    pages = chromium.new_page(), firefox.open_page()
    for page in pages:
        page.goto(f"http://127.0.0.1:{server.port}/whoami")
    reports = play_all(*pages, server.port, SCENARIOS)
    # On a busy machine, a client may be too late for a fault: what differs is played once more.
    written = PAGE.read_text("utf-8").splitlines()
    differing = [one for one in SCENARIOS if write_row(reports, one["target"]) not in written]
    if differing:
        for client, again in play_all(*pages, server.port, differing).items():
            reports[client] |= again
    found = write_table(reports)
    for page in pages:
        page.close()
    if os.environ.get("FAULT_CLIENTS") == "write":
        before, _, rest = PAGE.read_text("utf-8").partition(START)
        after = rest.partition(END)[2]
        PAGE.write_text(
            f"{before}{START}{found}\n{describe_versions(chromium.version, firefox.version)}{END}{after}", "utf-8"
        )
    return found


class ClientTests:
    """The clients: websockets, aiohttp, ws, Chromium and Firefox."""

    def test_report_what_the_documentation_says(self, table):
        """If a new version of a client reports something else, `make fault-clients` writes the table again."""
        written = PAGE.read_text("utf-8").partition(START)[2].partition("\n\n")[0] + "\n"
        assert table.splitlines() == written.splitlines()

    def test_every_fault_is_played(self):
        played = {re.split("[/?]", str(one["target"]))[2] for one in SCENARIOS}
        assert played == set(TABLE)

    @pytest.mark.parametrize("client", CLIENTS)
    def test_every_client_survives_every_fault(self, table, client):
        column = CLIENTS.index(client) + 2
        reports = [line.split("|")[column].strip() for line in table.splitlines()[2:]]
        assert len(reports) == len(SCENARIOS)
        assert not [one for one in reports if not one or "does not end" in one]

    def test_the_server_logs_no_error(self, table, server):
        assert "Traceback" not in server.read_log()
        assert "failed" not in re.sub(r"reason=.*", "", server.read_log())


class PageTests:
    """`/faults` in a browser."""

    @pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
    def test_is_readable_on_a_phone_and_on_a_desktop(self, open_browser_page, server, width, scheme):
        page, _ = open_browser_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.goto(f"http://127.0.0.1:{server.port}/faults")
        assert page.locator("article h3").count() == len(TABLE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("a[href='#closing']").click()
        assert page.locator("#closing").is_visible()
        assert page.locator("#fault-close code").first.text_content() == "/faults/close"
