"""Options of channels with Centrifugo's SDKs, on two servers with one Redis, and on one server without Redis."""

import pytest
from http_api import KEY, ok, up
from pytest_twisted import blockon
from sdk import KINDS, SECRET, token
from twisted.internet.threads import deferToThread

TABLES = (
    ("events", {"force_push_join_leave": True}),
    ("read", {"allow_presence_for_client": True, "allow_history_for_client": True, "allow_publish_for_client": True}),
    ("dialog*", {"allow_user_limited_channels": True}),
)


def pytest_generate_tests(metafunc):
    """Run each test with one SDK for JSON and one for Protobuf, or with all of them; called by pytest."""
    if "kind" in metafunc.fixturenames:
        every = metafunc.config.getoption("all_sdks")
        metafunc.parametrize("kind", KINDS if every else ("javascript", "python-protobuf"))


@pytest.fixture
def servers(start_server, broker):
    """Start two servers with one Redis, or one server that is used as both."""
    options = {"token_secret": SECRET, "api_key": KEY, "personal_channel": "user:#", "channel_presence": ("*",)}

    def start():
        return [up(start_server(channel=TABLES, **options, **broker)) for _ in range(2 if broker else 1)] * 2

    return blockon(deferToThread(start))


def test_events_are_forced_on_a_server_side_subscription(servers, connect, kind):
    sdk = connect(servers[0], token=token(channels=["events"]))
    assert sdk.expect("join", of="server")["info"]["user"] == "ann"
    other = connect(servers[1], token=token(sub="bob", channels=["events"]))
    assert sdk.expect("join", of="server")["info"]["user"] == "bob"
    other.order("disconnect")
    assert sdk.expect("leave", of="server")["info"]["user"] == "bob"


def test_a_client_reads_and_publishes_without_a_subscription(servers, connect, kind):
    sdk = connect(servers[0], token=token())
    connect(servers[1], token=token(sub="bob", channels=["read"]))
    sdk.call("publish", channel="read", data={"a": 1})
    assert [one["data"] for one in sdk.call("history", channel="read", options={"limit": 9})["publications"]] == [
        {"a": 1}
    ]
    assert [one["user"] for one in sdk.call("presence", channel="read")["clients"].values()] == ["bob"]
    assert sdk.call("presence", channel="events")["error"]["code"] == 103


def test_a_user_receives_what_is_published_to_the_personal_channel(servers, connect, kind):
    sdk = connect(servers[0], token=token(sub="ann"))
    assert sdk.expect("subscribed", of="server")["channel"] == "user:#ann"
    ok(servers[1], "publish", {"channel": "user:#ann", "data": "for you"})
    assert sdk.expect("publication", of="server")["data"] == "for you"


def test_only_the_users_of_a_dialog_subscribe_to_it(servers, connect, kind):
    ann, eve = connect(servers[0], token=token(sub="ann")), connect(servers[1], token=token(sub="eve"))
    ann.subscribe("dialog#ann,bob")
    eve.order("subscribe", channel="dialog#ann,bob", options={})
    assert eve.expect("unsubscribed")["code"] == 103
