"""Chromium's EventSource gets the last publications of a channel first, and does not get them again later."""

import json
from contextlib import closing
from http.client import HTTPConnection

from ports import free_port
from processes import running_server
from waiting import wait_until

KEY = "a key for tests only"

LISTEN = """() => {
    window.got = [];
    window.opened = 0;
    const source = new EventSource("/sse?channel=news&rewind=2");
    source.onopen = () => opened++;
    source.onmessage = (event) => got.push(event.data);
    for (const name of ["rewound", "gap"]) source.addEventListener(name, () => got.push(name));
}"""


def call(port, method, **parameters):
    """Call the HTTP API."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", f"/api/{method}", json.dumps(parameters), {"X-API-Key": KEY})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.load(response)["result"]


class RewindTests:
    def test_an_event_source_is_rewound_once_and_recovers_after_a_reconnect(self, tmp_path, open_browser_page):
        """The browser reconnects with the same URL, which still asks for a rewind, and with its last event ID."""
        port = free_port()
        with running_server(tmp_path, port, "--api-key", KEY):
            for text in ("one", "two", "three"):
                call(port, "publish", channel="news", data=text)
            page, complaints = open_browser_page()
            complaints.allow("ERR_INCOMPLETE_CHUNKED_ENCODING")  # The server ends the stream.
            page.goto(f"http://127.0.0.1:{port}/")
            page.evaluate(LISTEN)

            def wait_for(*expected):
                wait_until(lambda: len(page.evaluate("got")) >= len(expected), f"the events {expected}")
                assert page.evaluate("got") == list(expected)

            wait_for("two", "three", "rewound")
            call(port, "publish", channel="news", data="four")
            wait_for("two", "three", "rewound", "four")
            for client in call(port, "connections")["connections"]:
                call(port, "disconnect", user="", client=client)
            for text in ("five", "six", "seven"):
                call(port, "publish", channel="news", data=text)
            wait_until(lambda: page.evaluate("opened") == 2, "the browser has reconnected")
            wait_for("two", "three", "rewound", "four", "five", "six", "seven")
