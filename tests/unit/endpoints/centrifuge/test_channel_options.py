"""What the options of a `[[channel]]` table permit Centrifuge clients: publish, presence, history, and events."""

import time

import jwt
import pytest
from centrifuge_client import Client

from wsserver.config.settings import Settings
from wsserver.testing import MemoryServer

SECRET = "secret " * 6
DENIED, NOT_AVAILABLE = 103, 108


def token(**claims):
    """Sign a token that expires in one hour."""
    return jwt.encode({"exp": int(time.time()) + 3600, **claims}, SECRET, "HS256")


def connect(server, user="", **claims):
    """Connect a client with a token."""
    return Client(server).connected(token=token(sub=user, **claims))


def make_server(**table):
    """Start a server whose channels all have presence and the options of a table, and are open to every client."""
    options = {"channel_allow": ("*",), "channel_presence": ("*",), "channel": (("*", table),)}
    return MemoryServer(Settings(token_secret=SECRET, **options))


def attempt(client, method):
    """Publish, or read; return the code of the error, or 0."""
    fields = {"publish": {"data": 1}, "history": {"limit": 1}}.get(method, {})
    return client.request(method, channel="a", **fields).get("code", 0)


class PermissionTests:
    """`allow_*_for_client`, `allow_*_for_subscriber` and `allow_*_for_anonymous`."""

    @pytest.mark.parametrize(
        ("table", "method", "expected"),
        [
            # The results for a client that is not subscribed, for a subscriber, and for an anonymous subscriber.
            ({}, "presence", [DENIED, 0, 0]),
            ({}, "history", [DENIED, 0, 0]),
            ({}, "publish", [DENIED, DENIED, DENIED]),
            ({"publish": True}, "publish", [0, 0, 0]),
            ({"publish": True, "allow_publish_for_anonymous": False}, "publish", [0, 0, DENIED]),
            ({"allow_publish_for_subscriber": True}, "publish", [DENIED, 0, 0]),
            ({"allow_publish_for_client": True}, "publish", [0, 0, 0]),
            (
                {"allow_publish_for_client": True, "allow_publish_for_anonymous": False},
                "publish",
                [0, 0, DENIED],
            ),
            ({"allow_presence_for_client": True}, "presence", [0, 0, 0]),
            ({"allow_presence_for_client": True}, "presence_stats", [0, 0, 0]),
            ({"allow_presence_for_client": True}, "history", [DENIED, 0, 0]),
            ({"allow_presence_for_client": True, "presence": False}, "presence", [NOT_AVAILABLE] * 3),
            ({"allow_presence_for_subscriber": False}, "presence", [DENIED, DENIED, DENIED]),
            ({"allow_presence_for_anonymous": False}, "presence", [DENIED, 0, DENIED]),
            ({"allow_history_for_client": True}, "history", [0, 0, 0]),
            ({"allow_history_for_client": True, "history_size": 0}, "history", [NOT_AVAILABLE] * 3),
            ({"allow_history_for_subscriber": False}, "history", [DENIED, DENIED, DENIED]),
            ({"allow_history_for_anonymous": False}, "history", [DENIED, 0, DENIED]),
            (
                {"allow_history_for_client": True, "allow_history_for_anonymous": False},
                "history",
                [0, 0, DENIED],
            ),
        ],
    )
    def test_the_options_decide_what_a_client_may_do(self, table, method, expected):
        server = make_server(**table)
        found = [attempt(connect(server, "42"), method)]
        for user in ("42", ""):
            client = connect(server, user)
            assert "code" not in client.request("subscribe", channel="a")
            found.append(attempt(client, method))
        assert found == expected

    def test_a_client_publishes_to_a_channel_that_it_may_not_subscribe_to(self):
        server = make_server(allow_publish_for_client=True, allow_subscribe_for_client=False)
        client = connect(server, "42")
        assert client.request("subscribe", channel="a")["code"] == DENIED
        assert attempt(client, "publish") == 0

    def test_the_rights_of_a_token_are_independent_of_the_options(self):
        server = make_server(allow_presence_for_subscriber=False, allow_history_for_subscriber=False)
        caps = [{"channels": ["a"], "allow": ["sub", "pub", "prs", "hst"]}]
        client = connect(server, "42", caps=caps)
        assert [attempt(client, method) for method in ("presence", "history", "publish")] == [0, 0, 0]

    def test_recovery_does_not_need_the_permission_to_read_the_history(self):
        server = make_server(allow_history_for_subscriber=False, publish=True)
        client = connect(server, "42")
        epoch = client.request("subscribe", channel="a")["epoch"]
        client.request("publish", channel="a", data=1)
        found = connect(server, "42").request("subscribe", channel="a", recover=True, epoch=epoch, offset=0)
        assert (found["recovered"], [one["data"] for one in found["publications"]]) == (True, [1])


class UserLimitedTests:
    """`allow_user_limited_channels`: names that list their users."""

    def subscribe(self, client, channel):
        return client.request("subscribe", channel=channel).get("code", 0)

    def test_only_the_users_that_the_name_lists_may_subscribe(self):
        server = make_server(allow_user_limited_channels=True)
        assert [self.subscribe(connect(server, user), "dialog#42,43") for user in ("42", "43", "4", "")] == [
            0,
            0,
            DENIED,
            DENIED,
        ]

    def test_a_subscription_token_permits_the_channel_to_another_user(self):
        server = make_server(allow_user_limited_channels=True)
        client = connect(server, "7")
        assert self.subscribe(client, "#42") == DENIED
        found = client.request("subscribe", channel="#42", token=token(sub="7", channel="#42"))
        assert "code" not in found


class ForcedEventTests:
    """`force_push_join_leave`: join and leave events without a request."""

    def events(self, client):
        """Return the join and leave events that a client has received: kind and user."""
        pushes = [one["push"] for one in client.receive() if "push" in one]
        return [(kind, push[kind]["info"]["user"]) for push in pushes for kind in ("join", "leave") if kind in push]

    @pytest.mark.parametrize(
        ("table", "requested", "received"),
        [
            ({}, False, False),
            ({}, True, True),
            ({"force_push_join_leave": True}, False, True),
            ({"allow_presence_for_subscriber": False}, True, False),
            ({"allow_presence_for_subscriber": False, "force_push_join_leave": True}, False, True),
            ({"allow_presence_for_client": True, "allow_presence_for_subscriber": False}, True, True),
            ({"force_push_join_leave": True, "presence": False}, True, False),
            ({"join_leave": False}, True, False),
            ({"join_leave": False, "force_push_join_leave": True}, True, False),
        ],
    )
    def test_a_subscriber_receives_events_if_they_are_forced_or_requested_and_readable(
        self, table, requested, received
    ):
        server = make_server(**table)
        client = connect(server, "ann")
        client.request("subscribe", channel="a", join_leave=requested)
        self.events(client)
        other = connect(server, "bob")
        other.request("subscribe", channel="a")
        other.request("unsubscribe", channel="a")
        assert self.events(client) == ([("join", "bob"), ("leave", "bob")] if received else [])

    def test_a_server_side_subscription_receives_forced_events(self):
        server = make_server(force_push_join_leave=True)
        client = connect(server, "ann", channels=["a"])
        self.events(client)
        connect(server, "bob", channels=["a"])
        assert self.events(client) == [("join", "bob")]

    @pytest.mark.parametrize("value", [True, False])
    @pytest.mark.parametrize("source", ["connection token", "subscription token", "api"])
    def test_a_token_or_the_api_overrides_the_option_for_a_subscription(self, source, value):
        server = make_server(force_push_join_leave=not value)
        override = {"override": {"force_push_join_leave": {"value": value}}}
        client = connect(server, "ann", subs={"a": override} if source == "connection token" else {})
        if source == "subscription token":
            assert "code" not in client.request(
                "subscribe", channel="a", token=token(sub="ann", channel="a", **override)
            )
        elif source == "api":
            server.service.management.subscribe("a", user="ann", options={"force_push_join_leave": value})
        self.events(client)
        connect(server, "bob").request("subscribe", channel="a")
        assert self.events(client) == ([("join", "bob")] if value else [])


class PersonalChannelTests:
    """`--personal-channel`: a server-side subscription for each user."""

    def make_server(self, prefix="#", **options):
        return MemoryServer(Settings(token_secret=SECRET, personal_channel=prefix, **options))

    @pytest.mark.parametrize(("prefix", "channel"), [("#", "#42"), ("user:#", "user:#42")])
    def test_a_client_with_a_user_is_subscribed_when_it_connects(self, prefix, channel):
        server = self.make_server(prefix)
        client = Client(server)
        assert list(client.request("connect", token=token(sub="42", channels=["news"]))["subs"]) == [channel, "news"]
        server.service.hub.publish(channel, "hello")
        assert [one["push"]["pub"]["data"] for one in client.receive()] == ["hello"]

    def test_an_anonymous_client_is_not_subscribed(self):
        assert "subs" not in Client(self.make_server()).request("connect", token=token())

    def test_the_options_of_the_subscription_in_the_token_apply(self):
        subs = {"#42": {"data": {"x": 1}}}
        found = Client(self.make_server()).request("connect", token=token(sub="42", subs=subs))
        assert found["subs"]["#42"]["data"] == {"x": 1}

    def test_the_subscription_continues_after_a_refresh(self):
        server = self.make_server()
        client = connect(server, "42")
        client.request("refresh", token=token(sub="42"))
        server.service.hub.publish("#42", "hello")
        assert [one["push"]["pub"]["data"] for one in client.receive()] == ["hello"]

    def test_other_users_may_not_subscribe_unless_an_option_permits_it(self):
        server = self.make_server()
        assert connect(server, "43").request("subscribe", channel="#42")["code"] == DENIED

    def test_a_user_id_that_is_too_long_for_the_name_of_a_channel_is_error_107(self):
        found = Client(self.make_server("user:#")).request("connect", token=token(sub="x" * 255))
        assert found["code"] == 107
