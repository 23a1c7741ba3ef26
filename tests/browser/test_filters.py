"""Chromium's EventSource with a filter in its URL receives and recovers only what matches."""

import json
from contextlib import closing
from http.client import HTTPConnection

from ports import free_port
from processes import running_server
from waiting import wait_until

KEY = "a key for tests only"

CONFIG = """
[[channel]]
pattern = "quotes"
allow_tags_filter = true
"""

LISTEN = """() => {
    window.got = { typed: [], json: [] };
    window.opened = 0;
    const json = JSON.stringify({ op: "not", nodes: [{ key: "ticker", cmp: "eq", val: "BTC" }] });
    const urls = {
        typed: "/sse?channel=quotes&filter=ticker:eq:BTC&filter=price:gt:100",
        json: `/sse?channel=quotes&filter=${encodeURIComponent(json)}`,
    };
    for (const [name, url] of Object.entries(urls)) {
        const source = new EventSource(url);
        source.onopen = () => opened++;
        source.onmessage = (event) => got[name].push(event.data);
        source.addEventListener("gap", () => got[name].push("gap"));
    }
}"""


def call(port, method, **parameters):
    """Call the HTTP API."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", f"/api/{method}", json.dumps(parameters), {"X-API-Key": KEY})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.load(response)["result"]


def publish(port, *quotes):
    """Publish quotes such as `BTC 100`, with their parts as tags."""
    for quote in quotes:
        ticker, price = quote.split()
        call(port, "publish", channel="quotes", data=quote, tags={"ticker": ticker, "price": price})


class FilterTests:
    def test_an_event_source_receives_only_what_matches_also_after_a_reconnect(self, tmp_path, open_browser_page):
        """The browser reconnects with the same URL and its last event ID, and gets no gap event."""
        port = free_port()
        config = tmp_path / "wsserver.toml"
        config.write_text(CONFIG)
        with running_server(tmp_path, port, "--api-key", KEY, "--config", str(config)):
            page, complaints = open_browser_page()
            complaints.allow("ERR_INCOMPLETE_CHUNKED_ENCODING")  # The server ends the stream.
            page.goto(f"http://127.0.0.1:{port}/")
            page.evaluate(LISTEN)
            wait_until(lambda: page.evaluate("opened") == 2, "both streams are open")

            def wait_for(typed, others):
                expected = {"typed": typed, "json": others}
                wait_until(
                    lambda: all(len(page.evaluate("got")[name]) >= len(expected[name]) for name in expected), expected
                )
                assert page.evaluate("got") == expected

            publish(port, "BTC 100", "ETH 1", "BTC 100.5", "ETH 2")
            wait_for(["BTC 100.5"], ["ETH 1", "ETH 2"])
            for client in call(port, "connections")["connections"]:
                call(port, "disconnect", user="", client=client)
            publish(port, "ETH 3", "BTC 1", "BTC 200")
            wait_until(lambda: page.evaluate("opened") == 4, "the browser has reconnected")
            publish(port, "BTC 300", "ETH 4")
            wait_for(["BTC 100.5", "BTC 200", "BTC 300"], ["ETH 1", "ETH 2", "ETH 3", "ETH 4"])
