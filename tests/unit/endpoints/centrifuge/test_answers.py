"""The same answers as those of Centrifugo 6.9.1 to the same frames, except for the reason in a message."""

import pytest
from centrifuge_client import Client

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

OPEN = {
    "channel_allow": ("*",),
    "channel_publish": ("*",),
    "channel_presence": ("*",),
    "channel": (("plain", {"history_size": 0, "presence": False}),),
}
"""Clients may do everything. The channel `plain` has neither history nor presence."""


@pytest.fixture
def server():
    """Start a server."""
    return MemoryServer(Settings(**OPEN))


@pytest.fixture
def client(server):
    """Connect an anonymous client."""
    return Client(server).connected()


class FieldTests:
    """Fields that are present even if their value is zero."""

    def test_history_of_an_empty_stream_has_all_fields(self, client):
        epoch = client.request("subscribe", channel="c")["epoch"]
        empty = {"publications": [], "epoch": epoch, "offset": 0}
        assert client.request("history", channel="c") == empty
        assert client.request("history", channel="c", limit=5) == empty

    def test_the_info_of_an_anonymous_client_has_an_empty_user(self, client):
        """In presence, join and leave events, publications and history."""
        client.send({"id": 10, "subscribe": {"channel": "c", "join_leave": True}})
        client.send({"id": 11, "publish": {"channel": "c", "data": 1}})
        pushes = [one["push"] for one in client.receive() if "push" in one]
        found = client.request("presence", channel="c")["presence"]
        me = {"client": next(iter(found)), "user": ""}
        assert found == {me["client"]: me}
        assert [one["join"]["info"] for one in pushes if "join" in one] == [me]
        assert [one["pub"]["info"] for one in pushes if "pub" in one] == [me]
        assert client.request("history", channel="c", limit=1)["publications"][0]["info"] == me


class NotAvailableTests:
    """Error 108 for what the server does not keep or support."""

    @pytest.mark.parametrize("method", ["presence", "presence_stats", "history"])
    def test_presence_and_history_that_are_not_kept_are_refused_with_108_before_the_permission_is_checked(
        self, client, method
    ):
        assert client.request(method, channel="plain")["code"] == 108
        assert client.request(method, channel="c")["code"] == 103
        for channel in ("plain", "c"):
            client.request("subscribe", channel=channel)
        assert client.request(method, channel="plain")["code"] == 108
        assert "code" not in client.request(method, channel="c")

    def test_rpc_is_refused_with_108(self, client):
        """Whether the command names a method or not."""
        assert client.request("rpc", method="m", data={})["code"] == 108
        assert client.request("rpc")["code"] == 108


class RecoveryTests:
    """Recovery where no position exists."""

    @pytest.mark.parametrize("flag", [0, 2])
    @pytest.mark.parametrize("position", [{}, {"offset": 5, "epoch": "other"}])
    def test_a_recovery_without_a_history_subscribes_even_if_the_client_rejects_unrecovered_positions(
        self, client, flag, position
    ):
        """Flag 2 of an SDK with `getState`: error 112 would make it load its state and subscribe again, in a loop."""
        reply = client.request("subscribe", channel="plain", recover=True, flag=flag, **position)
        assert reply == {"was_recovering": True}

    def test_a_lost_position_is_refused_with_112_only_with_flag_2(self, client):
        lost = {"recover": True, "offset": 5, "epoch": "other"}
        assert client.request("subscribe", channel="c", flag=2, **lost)["code"] == 112
        assert client.request("subscribe", channel="c", **lost)["was_recovering"] is True


class HistoryTests:
    """The history from the newest publication to the oldest."""

    @pytest.fixture
    def history(self, client):
        """Publish three times; return a function that reads the history in reverse and returns the offsets."""
        client.request("subscribe", channel="c")
        for number in range(3):
            client.request("publish", channel="c", data=number)

        def read(**since):
            reply = client.request("history", channel="c", limit=10, reverse=True, since=since)
            assert reply.get("offset", 3) == 3
            return [one["offset"] for one in reply["publications"]] if "publications" in reply else reply["code"]

        return read

    @pytest.mark.parametrize(
        ("since", "offsets"), [(1, []), (2, [1]), (3, [2, 1]), (4, [3, 2, 1]), (5, []), (2**63, []), (0, 107)]
    )
    def test_begins_before_since_and_is_empty_beyond_the_top(self, history, since, offsets):
        assert history(offset=since) == offsets

    def test_since_without_an_offset_is_refused_with_107(self, history):
        assert history() == 107

    def test_since_in_another_stream_is_refused_with_112(self, history):
        assert history(offset=9, epoch="other") == 112


class LastPublicationTests:
    """Publications before the client leaves the channel."""

    @pytest.mark.parametrize("channel", ["c", "plain"])
    @pytest.mark.parametrize("recover", [False, True])
    def test_a_client_that_publishes_and_unsubscribes_in_one_frame_receives_its_publication(
        self, client, channel, recover
    ):
        """It does not receive the publication after its unsubscribe command."""
        client.send(
            {"id": 10, "subscribe": {"channel": channel, "recover": recover}},
            {"id": 11, "publish": {"channel": channel, "data": 1}},
            {"id": 12, "unsubscribe": {"channel": channel}},
            {"id": 13, "publish": {"channel": channel, "data": 2}},
        )
        received = [one.get("id") or one["push"]["pub"]["data"] for one in client.receive()]
        assert received == [10, 11, 1, 12, 13]

    def test_a_client_that_is_already_subscribed_receives_its_publication_too(self, client):
        for turn in range(2):
            client.request("subscribe", channel="c")
            client.send(
                {"id": 20, "publish": {"channel": "c", "data": turn}}, {"id": 21, "unsubscribe": {"channel": "c"}}
            )
            assert [one["push"]["pub"]["data"] for one in client.receive() if "push" in one] == [turn]

    @pytest.mark.parametrize("call", ["unsubscribe", "disconnect", "refresh"])
    def test_a_client_receives_what_the_backend_published_before_it_ended_the_subscription(self, server, call):
        """As in one batch of the HTTP API."""
        client = Client(server).connected()
        client.request("subscribe", channel="c")
        (me,) = server.service.hub.clients.find()
        server.service.hub.publish("c", b"last")
        arguments = {"unsubscribe": {"channel": "c"}, "refresh": {"expired": True}}.get(call, {})
        getattr(server.service.management, call)(client=me.client, **arguments)
        assert [one["push"]["pub"]["data"] for one in client.receive() if "pub" in one.get("push", {})] == ["last"]
