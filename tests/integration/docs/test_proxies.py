"""The official JavaScript SDK through nginx with the configuration of docs/how-to/proxies.md."""

import pytest
from http_api import up
from nginx import running_nginx
from pytest_twisted import blockon
from sdk import KINDS, running_sdk
from twisted.internet.threads import deferToThread


@pytest.fixture
def server(start_server):
    """Start a server that permits clients everything on every channel."""
    options = {"channel_allow": ("*",), "channel_publish": ("*",)}
    return blockon(deferToThread(lambda: start_server(**options)))


class NginxTests:
    """nginx passes on each message at once."""

    @pytest.mark.parametrize("buffering", ["on", "off"])
    @pytest.mark.parametrize("kind", ["javascript", "javascript-http_stream", "javascript-sse"])
    def test_a_client_connects_publishes_and_receives(self, server, tmp_path, kind, buffering):
        with (
            running_nginx(tmp_path, server.port, more=f"proxy_buffering {buffering};") as port,
            running_sdk(kind, f"ws://127.0.0.1:{port}", {}) as sdk,
        ):
            sdk.order("connect")
            assert sdk.expect("connected")["transport"] == KINDS[kind].get("transports", ["websocket"])[-1]
            sdk.subscribe("foo")
            for number in range(3):
                sdk.call("publish", channel="foo", data=number)
            assert sdk.publications(3) == [0, 1, 2]
            server.ask(lambda: server.service.hub.publish("foo", "x" * 100_000))
            assert sdk.publications(1) == ["x" * 100_000]
            sdk.order("disconnect")
            assert sdk.expect("disconnected")["code"] == 0

    @pytest.mark.parametrize("kind", ["javascript-http_stream", "javascript-sse"])
    def test_commands_reach_the_right_one_of_two_servers(self, start_server, redis, tmp_path, kind):
        """nginx sends the requests to both in turn; the servers share a Redis."""
        options = {"channel_allow": ("*",), "channel_publish": ("*",), "redis": redis.url}
        servers = [up(start_server(**options)) for _ in range(2)]
        folder = tmp_path / "nginx"
        folder.mkdir()
        with (
            running_nginx(folder, *(server.port for server in servers)) as port,
            running_sdk(kind, f"ws://127.0.0.1:{port}", {}) as sdk,
        ):
            sdk.order("connect")
            sdk.expect("connected")
            sdk.subscribe("foo")
            for number in range(10):
                sdk.call("publish", channel="foo", data=number)
            assert sdk.publications(10) == list(range(10))
            assert len([event for event in sdk.events if event["event"] == "connecting"]) <= 1
