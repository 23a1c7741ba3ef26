"""The same answers as those of Centrifugo 6.9.1 to the same frames, except for the reason in a message."""

import jwt
import pytest
from centrifuge_client import Client
from twisted.internet.defer import succeed

from wsserver.config.settings import Settings
from wsserver.endpoints.centrifuge.executor import CONNECT_TIMEOUT
from wsserver.hooks.messages import Connected, Subscribed
from wsserver.testing import MemoryServer

OPEN = {
    "channel_allow": ("*",),
    "channel_publish": ("*",),
    "channel_presence": ("*",),
    "channel": (("plain", {"history_size": 0, "presence": False}),),
}
"""Clients may do everything. The channel `plain` has neither history nor presence."""


SECRET = "secret " * 6
NOW = 1_800_000_000


def token(**claims):
    """Sign a token that expires one hour after `NOW`."""
    return jwt.encode({"sub": "ann", "exp": NOW + 3600, **claims}, SECRET, "HS256")


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

    def test_a_publication_to_a_map_is_refused_with_107(self, client):
        client.request("subscribe", channel="c")
        assert client.request("publish", channel="c", data=1, type=1)["code"] == 107

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


class TokenTests:
    """Tokens that are valid at another time, and times in results."""

    @pytest.fixture
    def server(self):
        """Start a server that checks tokens, and whose clock stands half a second after `NOW`."""
        server = MemoryServer(Settings(token_secret=SECRET, **OPEN))
        authorizer = server.service.authorizer
        authorizer._now = authorizer.tokens._now = lambda: NOW + 0.5
        return server

    @pytest.fixture
    def client(self, server):
        """Connect a client with a token, which is subscribed to `c` with another token."""
        client = Client(server).connected(token=token())
        assert client.request("subscribe", channel="c", token=token(channel="c"))["expires"]
        return client

    OTHER_TIMES = pytest.mark.parametrize(
        ("claims", "code"),
        [
            ({"exp": NOW - 60}, 109),
            ({"nbf": NOW + 60}, 109),
            ({"iat": NOW + 60}, 109),
            ({"expire_at": NOW - 60}, 110),
        ],
    )
    """109: the SDK requests another token. 110: it stops, and does not connect again and again."""

    @OTHER_TIMES
    def test_connect_and_subscribe_are_refused_with_109_or_110(self, server, client, claims, code):
        assert Client(server).request("connect", token=token(**claims))["code"] == code
        assert client.request("subscribe", channel="d", token=token(channel="d", **claims))["code"] == code

    @OTHER_TIMES
    def test_a_refresh_closes_with_3005_or_is_refused_with_110(self, client, claims, code):
        """After 3005 the SDK reconnects, and requests another token."""
        if code == 110:
            assert client.request("refresh", token=token(**claims))["code"] == 110
            return
        client.send({"id": 9, "refresh": {"token": token(**claims)}})
        assert client.closed()[0] == 3005

    @OTHER_TIMES
    def test_a_sub_refresh_unsubscribes_with_2501_or_is_refused_with_110(self, client, claims, code):
        """After 2501 the SDK subscribes again, and requests another token. Its reply is ignored."""
        client.send({"id": 9, "sub_refresh": {"channel": "c", "token": token(channel="c", **claims)}})
        received = client.receive()
        if code == 110:
            assert [one["error"]["code"] for one in received] == [110]
            return
        push = {"channel": "c", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}
        assert received == [{"push": push}, {"id": 9, "sub_refresh": {}}]
        assert "code" not in client.request("subscribe", channel="c", token=token(channel="c"))

    @pytest.mark.parametrize(
        ("claims", "channels"),
        [
            ({"channels": ["a"], "subs": {"b": {}}}, {"b"}),
            ({"channels": ["a"], "subs": {}}, {"a"}),
            ({"channels": ["a"]}, {"a"}),
        ],
    )
    def test_subs_replace_channels(self, server, claims, channels):
        assert Client(server).request("connect", token=token(**claims))["subs"].keys() == channels

    @pytest.mark.parametrize("behind", ["subscribe", "connect"])
    def test_a_command_after_a_refused_connect_is_ignored(self, server, behind):
        """SDKs send `connect` and `subscribe` in one frame. After a close with 3501 they would not connect again."""
        client = Client(server)
        client.send({"id": 1, "connect": {"token": token(exp=NOW - 60)}}, {"id": 2, behind: {"channel": "c"}})
        assert [one["error"]["code"] for one in client.receive()] == [109]
        client.send({"id": 3, "connect": {"token": token()}})
        assert client.receive() == []
        client.clock.advance(CONNECT_TIMEOUT)
        assert client.closed()[0] == 3502

    def test_a_used_one_time_token_is_refused_with_109(self, server):
        """An SDK connects with the same token after a lost connection; it must request another one."""
        once = token(once=True, jti="1")
        Client(server).connected(token=once)
        assert Client(server).request("connect", token=once)["code"] == 109

    def test_a_token_can_extend_a_subscription_that_was_made_without_one(self, server, client):
        client.request("subscribe", channel="d")
        reply = client.request("sub_refresh", channel="d", token=token(channel="d"))
        assert reply == {"expires": True, "ttl": 3600}
        other = Client(server).connected(token=token(subs={"e": {}}))
        other.send({"id": 9, "sub_refresh": {"channel": "e", "token": token(channel="e")}})
        assert other.closed()[0] == 3501

    def test_ttl_is_rounded_up(self, server):
        """Until the whole second in which the token expires, as in Centrifugo."""
        client = Client(server)
        assert client.request("connect", token=token(exp=NOW + 3))["ttl"] == 3
        assert client.request("subscribe", channel="d", token=token(channel="d", exp=NOW + 3))["ttl"] == 3
        assert client.request("sub_refresh", channel="d", token=token(channel="d", exp=NOW + 4))["ttl"] == 4
        assert client.request("refresh", token=token(exp=NOW + 4))["ttl"] == 4
        assert client.request("refresh", token=token(exp=NOW + 10**10))["ttl"] == 365 * 24 * 3600
        # Within the leeway.
        assert Client(server).request("connect", token=token(exp=NOW - 3))["ttl"] == 1

    @pytest.mark.parametrize(("left", "open_"), [(-1, False), (0, False), (1, True)])
    def test_a_refresh_by_the_backend_to_a_time_in_the_past_closes_with_3005(self, server, client, left, open_):
        (me,) = server.service.hub.clients.find()
        client.receive()
        server.service.management.refresh(client=me.client, expire_at=NOW + left)
        client.turn()
        (frame,) = client.peer.frames()
        assert b"refresh" in frame.payload if open_ else frame.payload[:2] == (3005).to_bytes(2, "big")


class HookTests:
    """Answers of the backend."""

    @pytest.mark.parametrize(("expire_at", "refused"), [(NOW, True), (NOW + 1, False), (0, False)])
    def test_an_expire_at_in_the_past_is_refused_with_110(self, monkeypatch, expire_at, refused):
        """Of a connection and of a subscription; they would end at once, and the SDK would try again at once."""
        server = MemoryServer(
            Settings(hook_connect="http://backend.invalid/", hook_subscribe="http://backend.invalid/")
        )
        server.service.authorizer._now = lambda: NOW + 0.5
        answer = Connected(expire_at=expire_at)
        monkeypatch.setattr(server.service.hooks, "connect", lambda *_, **__: succeed(answer))
        assert Client(server).request("connect").get("code") == (110 if refused else None)
        answer = Connected()
        client = Client(server).connected()
        end = Subscribed(expire_at=expire_at)
        monkeypatch.setattr(server.service.hooks, "subscribe", lambda *_, **__: succeed(end))
        assert client.request("subscribe", channel="c").get("code") == (110 if refused else None)

    def test_a_subscription_whose_expire_at_is_in_the_past_is_not_made(self, server, client):
        """It would end at once, and close the connection with 3006."""
        (known,) = server.service.hub.clients.find()
        server.service.authorizer._now = lambda: NOW + 0.5
        assert known.subscribe("c", {"expire_at": NOW}) is False
        assert known.subscribe("d", {"expire_at": NOW + 1}) is True
        assert [one["push"]["channel"] for one in client.receive()] == ["d"]
