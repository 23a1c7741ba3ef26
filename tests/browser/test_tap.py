"""The tap in Chromium: a page sees the frames of its own WebSocket, as the wire carried them."""

import json

TAP = """
async (path) => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const secret = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const socket = new WebSocket(`ws://${location.host}${path}?tap=${secret}`);
    await new Promise((resolve) => { socket.onopen = resolve; });
    const seen = { events: [], errors: 0, secret };
    const source = new EventSource(`/tap/${secret}`);
    source.onmessage = (event) => seen.events.push(JSON.parse(event.data));
    source.onerror = () => seen.errors++;
    const answers = [];
    const answered = new Promise((resolve) => {
        socket.onmessage = (event) => answers.push(event.data) === 2 && resolve();
    });
    socket.send("grüße");
    socket.send(new Uint8Array([255, 0]));
    await answered;
    socket.close(3001, "done");
    await new Promise((resolve) => { socket.onclose = resolve; });
    // EventSource connects again after the end; the server then answers 204, and it stops.
    while (source.readyState !== EventSource.CLOSED) await new Promise((resolve) => setTimeout(resolve, 50));
    return seen;
}
"""

FETCHED = """
async (secret) => (await (await fetch(`/tap/${secret}?format=jsonl`)).text()).trim().split("\\n").map(JSON.parse)
"""


def test_a_page_sees_the_frames_of_its_own_connection_until_its_end(server_page):
    server_page.complaints.allow("204|EventSource")
    seen = server_page.page.evaluate(TAP, "/echo")
    events = seen["events"]
    assert [event["type"] for event in events[:2]] == ["handshake", "handshake"]
    assert any(name == "sec-websocket-extensions" for name, _ in events[0]["headers"])
    frames = [event for event in events if event["type"] == "frame"]
    for direction, masked in (("in", True), ("out", False)):
        first, second, last = [one for one in frames if one["direction"] == direction]
        assert [(one["opcode"], one["masked"]) for one in (first, second, last)] == [
            (1, masked),
            (2, masked),
            (8, masked),
        ]
        assert (first["text"], second["payload"]) == ("grüße", "/wA=")
        assert (last["code"], last["reason"]) == (3001, "done")
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "end"
    # A page may also fetch the events. The content is the same.
    fetched = server_page.page.evaluate(FETCHED, seen["secret"])
    assert [one["id"] for one in fetched] == [one["id"] for one in events]


def test_playwright_reads_the_har_of_a_tap(server_page, tmp_path):
    """The reader of Playwright is that of its traces, which shows archives of Chrome."""
    server_page.complaints.allow("204|EventSource")
    secret = server_page.page.evaluate(TAP, "/echo")["secret"]
    archive = server_page.page.evaluate("async (s) => (await fetch(`/tap/${s}?format=har`)).text()", secret)
    path = tmp_path / "tap.har"
    path.write_text(archive, "utf-8")
    messages = json.loads(archive)["log"]["entries"][0]["_webSocketMessages"]
    for kind in ("send", "receive"):
        assert [one["data"] for one in messages if one["type"] == kind] == ["grüße", "/wA="]
    server_page.page.route_from_har(path, url="**/nowhere", not_found="fallback")
    assert server_page.page.evaluate("async () => (await fetch('/health')).status") == 200
