"""docs/how-to/move-from-nchan.md: with the nginx configuration of the page, clients of nchan reach their channels."""

import json
import subprocess

import pytest
from events import Events
from paths import DOCS
from peers import RawPeer
from ports import free_port
from proxies import NGINX_MAIN
from server_process import Process
from waiting import TIMEOUT, wait_until
from walkthrough import read_blocks
from websockets.sync.client import connect

from wsserver.config.settings import Settings

BLOCKS = read_blocks(DOCS / "how-to" / "move-from-nchan.md")


def block(kind: str, start: str) -> str:
    """Return the text of the page's block of this kind that begins with these characters."""
    [found] = [each.text for each in BLOCKS if each.kind == kind and each.text.startswith(start)]
    return found


@pytest.fixture
def server():
    """Start the server with the options of the page."""
    words = block("sh", "wsserver serve").replace("'", "").split()
    process = Process(*words[2:-1])
    yield process
    process.close()


@pytest.fixture
def nginx(server, tmp_path):
    """Run nginx with the configuration of the page in front of the server; yields its port."""
    port = free_port()
    site = block("nginx", "map").replace("8080", str(server.port)).replace("listen 80;", f"listen 127.0.0.1:{port};")
    file = tmp_path / "nginx.conf"
    file.write_text(NGINX_MAIN.format(folder=tmp_path, configuration=site))
    process = subprocess.Popen(["nginx", "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "nginx.pid").exists, "nginx started")
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def test_a_websocket_and_an_event_source_receive_at_their_old_url_what_the_command_publishes(server, nginx):
    command = block("sh", "curl").replace("8080", str(server.port))
    with connect(f"ws://127.0.0.1:{nginx}/sub/foo", proxy=None) as client, RawPeer(nginx) as peer:
        events = Events(peer, "/sub/foo")
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
        shown = json.loads(block("json", '{"result'))["result"]
        assert json.loads(answer)["result"].keys() == shown.keys()
        assert client.recv(TIMEOUT) == "hello"
        assert events.read() == ("message", b"hello")
    with connect(f"ws://127.0.0.1:{nginx}/sub/foo?rewind=1", proxy=None) as late:
        assert late.recv(TIMEOUT) == "hello"


@pytest.mark.kernel
def test_the_defaults_in_the_table_are_those_of_the_options():
    text = (DOCS / "how-to" / "move-from-nchan.md").read_text("utf-8")
    rows = {row.split("|")[3].strip(): row.split("|")[4].strip() for row in text.splitlines() if row.count("|") == 5}
    settings = Settings()
    assert rows["`--history-size`"] == str(settings.history_size)
    assert rows["`--history-ttl`"] == f"{settings.history_ttl:.0f} s"
    assert rows["`--ping-interval`"] == f"{settings.ping_interval:.0f} s"
    assert rows["`--compression`"] == settings.compression
    assert rows["none for a channel; `--max-connections` for a process"] == f"{settings.max_connections:,}"
