"""Centrifugo's own library for backends, unchanged: every method of its two clients."""

import asyncio
import inspect

import cent
import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentTransportError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    ConnectionsRequest,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from fake_client import FakeClient, join
from http_api import KEY, api, up
from peers import wait_until
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread

from wsserver.hub.clients import ClientInfo
from wsserver.typing import ChannelName


class Plainly:
    """The asynchronous client, called as the other one: each call has a loop of its own."""

    def __init__(self, url, key):
        self._arguments = (url, key)

    def __getattr__(self, name):
        """Make a method that waits."""

        def call(request, **options):
            async def run():
                async with AsyncClient(*self._arguments) as client:
                    return await getattr(client, name)(request, **options)

            return asyncio.run(run())

        return call


@pytest.fixture
def server(broker, start_server):
    """Start a server on either broker, whose errors are Centrifugo's."""
    options = broker | {"api_key": KEY, "api_errors": "body", "channel_presence": ("room",)}
    return blockon(deferToThread(lambda: up(start_server(**options))))


@pytest.fixture(params=[Client, Plainly])
def client(request, server):
    """Make one of the two clients."""
    return request.param(f"http://127.0.0.1:{server.port}/api", KEY)


class MethodTests:
    """What the library has of Centrifugo's methods."""

    def test_publications(self, server, client):
        """Publish, broadcast, history, history_remove."""
        with server.open("/ws?channel=foo&format=json") as peer:
            result = client.publish(PublishRequest(channel="foo", data={"a": 1}, tags={"t": "x"}))
            assert (result.offset, result.delivered) == (1, 1)
            assert b'"data":{"a": 1}' in peer.read_frame().payload
        request = BroadcastRequest(channels=["foo", "bar"], data="x", idempotency_key="k", skip_history=False)
        responses = client.broadcast(request).responses
        assert [one.result.offset for one in responses] == [2, 1]
        page = client.history(HistoryRequest(channel="foo", limit=10))
        assert [one.data for one in page.publications] == [{"a": 1}, "x"]
        assert (page.publications[0].tags, page.offset, page.epoch) == ({"t": "x"}, 2, result.epoch)
        since = StreamPosition(offset=1, epoch=page.epoch)
        page = client.history(HistoryRequest(channel="foo", limit=-1, since=since, reverse=False))
        assert [one.offset for one in page.publications] == [2]
        client.history_remove(HistoryRemoveRequest(channel="foo"))
        assert client.history(HistoryRequest(channel="foo", limit=-1)).publications == []

    def test_bytes(self, client):
        """Bytes are given in base64, and come so."""
        client.publish(PublishRequest(channel="foo", data=None, b64data="/wA="))
        (publication,) = client.history(HistoryRequest(channel="foo", limit=1)).publications
        assert (publication.data, publication.b64data) == (None, "/wA=")

    def test_presence(self, server, client):
        """Presence, presence_stats."""
        info = ClientInfo("c1", "42", {"name": "Ann"})
        server.ask(lambda: server.service.hub.presence.join(ChannelName("room"), info))
        wait_until(lambda: client.presence(PresenceRequest(channel="room")).presence, "it is there")
        (found,) = client.presence(PresenceRequest(channel="room")).presence.values()
        assert (found.client, found.user, found.conn_info) == ("c1", "42", {"name": "Ann"})
        stats = client.presence_stats(PresenceStatsRequest(channel="room"))
        assert (stats.num_clients, stats.num_users) == (1, 1)

    def test_connections(self, server, client):
        """Subscribe, unsubscribe, refresh, disconnect, connections, channels, info."""
        known = join(server, FakeClient("c1", "42", ["news"]))
        found = client.connections(ConnectionsRequest(user="42", expression="")).connections
        assert (found["c1"].user, list(found["c1"].state.channels)) == ("42", ["news"])
        client.subscribe(SubscribeRequest(user="42", channel="chat", client="c1", data={"a": 1}))
        client.unsubscribe(UnsubscribeRequest(user="42", channel="news"))
        client.refresh(RefreshRequest(user="42", expire_at=2_000_000_000))
        client.disconnect(DisconnectRequest(user="42", disconnect=cent.Disconnect(code=4501, reason="go")))
        client.disconnect(DisconnectRequest(user="42", whitelist=["c1"]))
        assert known.done == [
            ("subscribe", "chat", {"data": '{"a": 1}'}),
            ("unsubscribe", "news"),
            ("refresh", 2_000_000_000),
            ("disconnect", 4501, "go"),
        ]
        with server.open("/ws?channel=foo"):
            assert client.channels(ChannelsRequest(pattern="f*")).channels["foo"].num_clients == 1
            (node,) = client.info(InfoRequest()).nodes
            assert (node.num_channels, node.num_subs) == (1, 1)

    @pytest.mark.parametrize("parallel", [None, True])
    def test_batch(self, client, parallel):
        """Batch."""
        requests = [PublishRequest(channel="foo", data=number) for number in range(3)]
        requests += [HistoryRequest(channel="foo"), InfoRequest(), HistoryRemoveRequest(channel="foo")]
        replies = client.batch(BatchRequest(requests=requests, parallel=parallel)).replies
        assert {reply.offset for reply in replies[:3]} == {1, 2, 3}
        assert len(replies[4].nodes) == 1

    def test_complete(self):
        """Nothing of the library is left out but what only Centrifugo PRO has."""
        pro = ("device", "topic", "push", "user_status", "block_user", "revoke", "invalidate")
        has = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
        rest = {name for name in has - {"close"} if not any(part in name for part in pro)}
        assert len(rest) == 14
        tried = "".join(inspect.getsource(test) for _, test in inspect.getmembers(MethodTests, inspect.isfunction))
        assert {name for name in rest if f"client.{name}(" not in tried} == set()


class ErrorTests:
    """What goes wrong reads as it does with Centrifugo."""

    def test_errors(self, client):
        """The library's own exceptions, with Centrifugo's codes."""
        for request, code in ((HistoryRequest(channel=""), 107), (PresenceRequest(channel="foo"), 108)):
            with pytest.raises(CentApiResponseError) as caught:
                getattr(client, request.api_method)(request)
            assert caught.value.code == code
        client.publish(PublishRequest(channel="foo", data=1))
        with pytest.raises(CentApiResponseError) as caught:
            client.history(HistoryRequest(channel="foo", since=StreamPosition(offset=1, epoch="other")))
        assert caught.value.code == 112
        responses = client.broadcast(BroadcastRequest(channels=["foo", ""], data=1)).responses
        assert responses[0].error is None
        assert responses[1].error.code == 107

    def test_pro(self, client):
        """A method that is not here says so."""
        with pytest.raises(CentTransportError) as caught:
            client.block_user(cent.BlockUserRequest(user="42"))
        assert caught.value.status_code == 404

    def test_key(self, server):
        """Without the right key nothing is done."""
        for make in (Client, Plainly):
            with pytest.raises(CentUnauthorizedError):
                make(f"http://127.0.0.1:{server.port}/api", "wrong").info(InfoRequest())

    def test_statuses(self, start_server):
        """With the server's default the library tells the status of an error."""
        server = start_server(api_key=KEY)
        client = Client(f"http://127.0.0.1:{server.port}/api", KEY)
        assert client.publish(PublishRequest(channel="foo", data=1)).offset == 1
        with pytest.raises(CentTransportError) as caught:
            client.history(HistoryRequest(channel=""))
        assert caught.value.status_code == 400
        assert api(server, "history", {"channel": ""})[0] == 400
