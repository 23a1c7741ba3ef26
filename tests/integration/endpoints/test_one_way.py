"""Clients without an SDK: curl, and the `websockets` library."""

import json
import re
import subprocess

import pytest
from paths import DOCS
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import TIMEOUT
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PAGE = (DOCS / "reference" / "centrifuge.md").read_text("utf-8")


@pytest.fixture
def server(start_server):
    """Start a server that permits clients every channel."""
    return blockon(deferToThread(lambda: start_server(channel_allow=("*",))))


def publish(server, data):
    """Publish from the process of the server."""
    server.ask(lambda: server.service.hub.publish("news", data))


def test_the_documented_curl_command_prints_a_line_per_push(server):
    [command] = re.findall(r"```sh\n(curl .*uni_http_stream)\n", PAGE)
    command = command.replace("8080", str(server.port)).replace("curl", "exec curl --silent")
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as curl:
        assert "news" in json.loads(curl.stdout.readline())["connect"]["subs"]
        publish(server, "hello")
        assert json.loads(curl.stdout.readline())["pub"]["data"] == "hello"
        server.ask(lambda: server.service.hub.clients.find()[0].disconnect(4500, "no"))
        assert json.loads(curl.stdout.readline()) == {"disconnect": {"code": 4500, "reason": "no"}}
        assert curl.wait(TIMEOUT) == 0


def test_a_websocket_client_recovers_what_it_has_missed(server):
    """It sends the position of the last publication that it has received."""
    url = f"{server.url}/connection/uni_websocket"

    def subscribe(client, **position):
        client.send(json.dumps({"subs": {"news": position}}))
        return json.loads(client.recv(TIMEOUT))["connect"]["subs"]["news"]

    with connect(url, proxy=None) as client:
        epoch = subscribe(client)["epoch"]
        publish(server, "received")
        offset = json.loads(client.recv(TIMEOUT))["pub"]["offset"]
    publish(server, "missed")
    with connect(url, proxy=None) as client:
        found = subscribe(client, recover=True, epoch=epoch, offset=offset)
        assert found["recovered"] is True
        assert [one["data"] for one in found["publications"]] == ["missed"]
        server.ask(lambda: server.service.hub.clients.find()[0].disconnect(4000, "again"))
        assert json.loads(client.recv(TIMEOUT)) == {"disconnect": {"code": 4000, "reason": "again"}}
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(TIMEOUT)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "again")
