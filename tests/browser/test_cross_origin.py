"""Pages of other origins in Chromium: what the options allow them."""

import pytest
from ports import free_port

# Each returns what the page saw: "open", a status, or "blocked".
WEBSOCKET = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/ws?channel=a");
    socket.onopen = () => { resolve("open"); socket.close(); };
    socket.onerror = () => resolve("blocked");
})"""
EVENTS = """([url, withCredentials]) => new Promise((resolve) => {
    const source = new EventSource(url + "/sse?channel=a", { withCredentials });
    source.onopen = () => { resolve("open"); source.close(); };
    source.onerror = () => { resolve("blocked"); source.close(); };
})"""
FETCH = "([url, options]) => fetch(url, options).then((response) => response.status, () => 'blocked')"
KEY = {"X-API-Key": "key", "Content-Type": "application/json"}
PUBLISH = {"method": "POST", "headers": KEY, "body": '{"channel":"a","data":1}'}

SET_COOKIE = "document.cookie = 'name=Ångström; path=/'"
RECEIVE = """() => new Promise((resolve, reject) => {
    const got = [];
    const note = (text) => { got.push(text); if (got.length === 2) resolve(got.sort()); };
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/echo");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => note("socket " + event.data);
    socket.onerror = reject;
    const source = new EventSource("/sse?channel=a");
    source.onopen = () => note("events");
    source.onerror = reject;
})"""


@pytest.fixture
def open_site_page(open_browser_page, demo_site):
    """Return a function that opens a page of another origin. Requests that the browser blocks do not fail the test."""

    def open_one(site=demo_site):
        page, complaints = open_browser_page()
        complaints.allow(".*")
        page.goto(f"{site}/nothing")
        return page

    return open_one


def probe(page, url):
    """Return the result of each kind of request that a page can send to a server, by name."""
    ready, publish = f"{url}/ready", f"{url}/api/publish"
    return {
        "websocket": page.evaluate(WEBSOCKET, url),
        "events": page.evaluate(EVENTS, [url, False]),
        "events with cookies": page.evaluate(EVENTS, [url, True]),
        "ready": page.evaluate(FETCH, [ready, {}]),
        "ready with cookies": page.evaluate(FETCH, [ready, {"credentials": "include"}]),
        "ready with a token": page.evaluate(FETCH, [ready, {"headers": {"Authorization": "Bearer x"}}]),
        "publish": page.evaluate(FETCH, [publish, PUBLISH]),
        "publish with a wrong key": page.evaluate(FETCH, [publish, PUBLISH | {"headers": KEY | {"X-API-Key": "x"}}]),
    }


BLOCKED = dict.fromkeys(
    (
        "websocket",
        "events",
        "events with cookies",
        "ready",
        "ready with cookies",
        "ready with a token",
        "publish",
        "publish with a wrong key",
    ),
    "blocked",
)
MAY_CONNECT = BLOCKED | {
    "websocket": "open",
    "events": "open",
    "events with cookies": "open",
    "ready": 200,
    "ready with cookies": 200,
    "ready with a token": 200,
}
WITHOUT_COOKIES = MAY_CONNECT | {"events with cookies": "blocked", "ready with cookies": "blocked"}
MAY_CALL = {"publish": 200, "publish with a wrong key": 401}


class CrossOriginTests:
    """WebSocket, `/sse`, `/ready` and `/api` apply the same origin options."""

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            # Other machines can reach a server that listens on every address, so it does not trust a loopback page.
            (("--interface", "0.0.0.0"), BLOCKED),
            (("--interface", "0.0.0.0", "--origin", "SITE"), MAY_CONNECT),
            (("--interface", "0.0.0.0", "--api-origin", "SITE"), BLOCKED | MAY_CALL),
            (("--interface", "0.0.0.0", "--allow-any-origin-insecure"), WITHOUT_COOKIES),
            ((), MAY_CONNECT),
            (("--api-origin", "SITE"), MAY_CONNECT | MAY_CALL),
        ],
        ids=[
            "a stranger",
            "a named origin",
            "a named origin for the API",
            "any origin",
            "loopback",
            "loopback and API",
        ],
    )
    def test_chromium_gives_a_page_exactly_what_the_options_allow(
        self, open_site_page, demo_site, own_server, flags, expected
    ):
        port = free_port()
        named = [demo_site if word == "SITE" else word for word in flags]
        own_server(port, "--api-key", "key", "--channel-allow", "a", *named)
        assert probe(open_site_page(), f"http://127.0.0.1:{port}") == expected

    def test_a_page_of_a_host_named_in_the_options_may_connect_and_publish(self, chromium, demo_site, own_server):
        """The page's host, like that of any web site, is not loopback."""
        port = free_port()
        named = f"http://app.example:{demo_site.rpartition(':')[2]}"
        own_server(port, "--api-key", "key", "--channel-allow", "a", "--origin", named, "--api-origin", named)
        browser = chromium.browser_type.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP app.example 127.0.0.1"],
        )
        try:
            page = browser.new_page()
            page.goto(f"{named}/nothing")
            assert page.evaluate("location.origin") == named
            assert probe(page, f"http://127.0.0.1:{port}") == MAY_CONNECT | MAY_CALL
        finally:
            browser.close()


class CookieTests:
    """The browser sends cookies that other programs on the same host have set."""

    def test_a_cookie_in_utf8_does_not_block_page_websocket_or_events(self, open_browser_page, own_server):
        """The cookie contains the byte 0x85, which ends a line in Latin-1 text."""
        port = free_port()
        own_server(port)
        page, _ = open_browser_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate(SET_COOKIE)
        response = page.reload()
        assert response.status == 200
        assert page.evaluate("document.cookie") == "name=Ångström"
        assert page.evaluate(RECEIVE) == ["events", "socket hello"]
