"""The official JavaScript SDK of Centrifugo in a page of a browser, as a site would use it."""

import sys
from pathlib import Path

import pytest
from processes import free_port, running_server, running_site

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from node import install_node_packages

CONNECT = """(url) => {
    window.got = [];
    window.client = new Centrifuge(url, { minReconnectDelay: 50, maxReconnectDelay: 500 });
    client.on("message", (context) => got.push(["message", context.data]));
    window.room = client.newSubscription("room", { joinLeave: true });
    for (const name of ["subscribed", "publication", "join", "leave", "unsubscribed"]) {
        room.on(name, (context) => got.push([name, context.data ?? context.recovered ?? null]));
    }
    room.subscribe();
    client.connect();
    return room.ready().then(() => true);
}"""


@pytest.fixture
def site(tmp_path):
    """Serve a page of another origin that loads the SDK; gives its origin."""
    bundle = install_node_packages() / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "centrifuge.js").write_bytes(bundle.read_bytes())
    (folder / "index.html").write_text(
        '<!doctype html><title>SDK</title><link rel="icon" href="data:,"><script src="centrifuge.js"></script>'
    )
    with running_site(folder) as origin:
        yield origin


@pytest.fixture
def start(tmp_path, site):
    """Start servers on the same port that let the page's origin in."""
    port = free_port()

    def start(number):
        folder = tmp_path / f"server-{number}"
        folder.mkdir()
        return running_server(folder, port, "--origin", site, "--channel-publish", "room", "--channel-presence", "room")

    start.url = f"ws://127.0.0.1:{port}/connection/websocket"
    return start


def of(page, kind):
    """Tell what has come of one kind."""
    return [data for name, data in page.evaluate("got") if name == kind]


class SDKTests:
    """A page that uses the SDK."""

    def test_a_conversation(self, start, site, open_browser_page):
        """Two pages: each gets what either publishes, in order; the history, and who is there."""
        with start(1):
            pages = []
            for _ in range(2):
                page, _ = open_browser_page()
                page.goto(f"{site}/index.html")
                assert page.evaluate(CONNECT, start.url)
                pages.append(page)
            one, two = pages
            one.evaluate("Promise.all([...Array(1000).keys()].map((number) => room.publish({ number })))")
            for page in pages:
                page.wait_for_function("got.filter(([name]) => name === 'publication').length === 1000")
                assert of(page, "publication") == [{"number": number} for number in range(1000)]
            history = two.evaluate("room.history({ limit: 3, reverse: true })")
            assert [publication["data"]["number"] for publication in history["publications"]] == [999, 998, 997]
            assert len(two.evaluate("room.presence()")["clients"]) == 2
            assert one.evaluate("room.presenceStats()") == {"numClients": 2, "numUsers": 1}
            assert len(of(one, "join")) == 2
            two.evaluate("room.unsubscribe()")
            one.wait_for_function("got.some(([name]) => name === 'leave')")

    def test_restart(self, start, site, open_browser_page):
        """The page is back by itself after a restart of the server, and knows that it may have missed something."""
        page, complaints = open_browser_page()
        complaints.allow("WebSocket connection to .* failed")
        with start(1):
            page.goto(f"{site}/index.html")
            assert page.evaluate(CONNECT, start.url)
            page.evaluate("room.publish('before')")
        with start(2):
            page.wait_for_function("got.filter(([name]) => name === 'subscribed').length === 2")
            assert of(page, "subscribed") == [False, False]
            page.evaluate("room.publish('after')")
            page.wait_for_function("got.filter(([name]) => name === 'publication').length === 2")
            assert of(page, "publication") == ["before", "after"]
