"""
Take the screenshots of the page for operators that the docs show: `make screenshots`.

They show a real server with clients that are subscribed, echo and are refused, for a minute and a half.
"""

import json
import random
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from paths import DOCS
from peers import RawPeer, answer_to
from ports import free_port
from processes import running_server
from tokens import SECRET, token

KEY = "secret"
USERS = ("ann", "bob", "carla", "dmitri", "emma", "farid", "grace", "hiro")
CHANNELS = ("news", "chat:lobby", "chat:support", "orders:eu", "orders:us", "prices", "alerts")
SECONDS = 90

SHOTS = {
    "admin.png": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "admin-phone.png": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "is_mobile": True},
}
"""Name of the file -> options of the browser."""


def subscribe(peer: RawPeer, chance: random.Random) -> None:
    """Subscribe a Centrifuge client of a random user to random channels."""
    assert peer.handshake("/connection/websocket").status == 101
    claims = {"sub": chance.choice(USERS), "exp": int(time.time()) + 600}
    commands: list[dict[str, object]] = [{"connect": {"token": token(claims)}}]
    commands += [{"subscribe": {"channel": one}} for one in chance.sample(CHANNELS, chance.randint(1, 4))]
    for number, command in enumerate(commands, 1):
        peer.send_frame(1, json.dumps({"id": number, **command}).encode())


def work(port: int, ended: threading.Event) -> None:
    """Publish, echo and be refused, until the event is set."""
    chance = random.Random(1)
    with ExitStack() as stack:
        for _ in range(60):
            subscribe(stack.enter_context(RawPeer(port)), chance)
        echo, backend = (stack.enter_context(RawPeer(port)) for _ in range(2))
        echo.handshake("/echo")
        for turn in range(100_000):
            if ended.is_set():
                return
            for _ in range(chance.randint(5, 15 + turn % 40)):
                echo.send_frame(1, b"x" * chance.randint(10, 400))
                echo.read_message()
            body = json.dumps({"channel": chance.choice(CHANNELS), "data": {"price": turn}}).encode()
            backend.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body)
            if turn % 20 == 0:
                with RawPeer(port) as refused:
                    answer_to(refused, chance.choice(("/chat", "/ws?channel=news")), "Origin: https://app.example")
            time.sleep(0.2)


def main() -> None:
    """Write the screenshots into docs/."""
    port, ended = free_port(), threading.Event()
    flags = ("--api-key", KEY, "--token-secret", SECRET, "--channel-allow", "*", "--ping-interval", "10m")
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory), port, *flags):
        worker = threading.Thread(target=work, args=(port, ended))
        worker.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            pages = {name: browser.new_context(**options).new_page() for name, options in SHOTS.items()}
            for page in pages.values():
                page.goto(f"http://127.0.0.1:{port}/admin")
                page.get_by_label("API key").fill(KEY)
                page.keyboard.press("Enter")
                expect(page.locator("tbody tr").first).to_be_visible()
            time.sleep(SECONDS)
            for name, page in pages.items():
                page.screenshot(path=DOCS / name)
            browser.close()
        ended.set()
        worker.join()


if __name__ == "__main__":
    main()
