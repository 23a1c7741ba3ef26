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
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.hub.clients import ClientInfo
from wsserver.typing import ChannelName


class BlockingAsyncClient:
    """The asynchronous client with the synchronous client's interface: each call runs an event loop."""

    def __init__(self, url, key):
        self._arguments = (url, key)

    def __getattr__(self, name):
        """Return a function that calls the method and blocks until it returns."""

        def call(request, **options):
            async def run():
                async with AsyncClient(*self._arguments) as client:
                    return await getattr(client, name)(request, **options)

            return asyncio.run(run())

        return call


@pytest.fixture
def server(broker, start_server):
    """Start a server, on either broker, that reports errors in the body as Centrifugo does."""
    options = broker | {"api_key": KEY, "api_errors": "body", "channel_presence": ("room",)}
    return blockon(deferToThread(lambda: up(start_server(**options))))


@pytest.fixture(params=[Client, BlockingAsyncClient])
def client(request, server):
    """Return each of the two clients in turn."""
    return request.param(f"http://127.0.0.1:{server.port}/api", KEY)


class MethodTests:
    """The methods of the library that the server supports."""

    def test_publish_broadcast_history_and_history_remove_work_on_one_stream(self, server, client):
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

    def test_b64data_is_published_and_returned_in_base64(self, client):
        client.publish(PublishRequest(channel="foo", data=None, b64data="/wA="))
        (publication,) = client.history(HistoryRequest(channel="foo", limit=1)).publications
        assert (publication.data, publication.b64data) == (None, "/wA=")

    def test_presence_and_presence_stats_return_the_client_and_the_counts(self, server, client):
        info = ClientInfo("c1", "42", {"name": "Ann"})
        server.ask(lambda: server.service.hub.presence.join(ChannelName("room"), info))
        wait_until(lambda: client.presence(PresenceRequest(channel="room")).presence, "the client present")
        (found,) = client.presence(PresenceRequest(channel="room")).presence.values()
        assert (found.client, found.user, found.conn_info) == ("c1", "42", {"name": "Ann"})
        stats = client.presence_stats(PresenceStatsRequest(channel="room"))
        assert (stats.num_clients, stats.num_users) == (1, 1)

    def test_connection_methods_reach_the_client_and_channels_and_info_count_it(self, server, client):
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
    def test_batch_returns_one_reply_per_request_in_order(self, client, parallel):
        requests = [PublishRequest(channel="foo", data=number) for number in range(3)]
        requests += [HistoryRequest(channel="foo"), InfoRequest(), HistoryRemoveRequest(channel="foo")]
        replies = client.batch(BatchRequest(requests=requests, parallel=parallel)).replies
        offsets = [reply.offset for reply in replies[:3]]
        # Requests that run in parallel may be carried out in any order.
        assert (sorted(offsets) if parallel else offsets) == [1, 2, 3]
        assert replies[3].publications == []
        assert len(replies[4].nodes) == 1

    def test_every_method_that_is_not_centrifugo_pro_is_called_by_a_test(self):
        pro = ("device", "topic", "push", "user_status", "block_user", "revoke", "invalidate")
        has = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
        rest = {name for name in has - {"close"} if not any(part in name for part in pro)}
        assert len(rest) == 14
        tried = "".join(inspect.getsource(test) for _, test in inspect.getmembers(MethodTests, inspect.isfunction))
        assert {name for name in rest if f"client.{name}(" not in tried} == set()


class ErrorTests:
    """The library raises the same exceptions for the server's errors as for Centrifugo's."""

    def test_raises_the_librarys_error_with_centrifugos_code(self, client):
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

    def test_a_method_of_centrifugo_pro_is_404(self, client):
        with pytest.raises(CentTransportError) as caught:
            client.block_user(cent.BlockUserRequest(user="42"))
        assert caught.value.status_code == 404

    def test_a_wrong_key_raises_cent_unauthorized_error(self, server):
        for make in (Client, BlockingAsyncClient):
            with pytest.raises(CentUnauthorizedError):
                make(f"http://127.0.0.1:{server.port}/api", "wrong").info(InfoRequest())

    def test_with_api_errors_status_the_library_raises_a_transport_error_with_400(self, start_server):
        """`status` is the default of --api-errors."""
        server = start_server(api_key=KEY)
        client = Client(f"http://127.0.0.1:{server.port}/api", KEY)
        assert client.publish(PublishRequest(channel="foo", data=1)).offset == 1
        with pytest.raises(CentTransportError) as caught:
            client.history(HistoryRequest(channel=""))
        assert caught.value.status_code == 400
        assert api(server, "history", {"channel": ""})[0] == 400
