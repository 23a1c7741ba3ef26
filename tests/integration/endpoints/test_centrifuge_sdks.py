"""
The official SDKs of Centrifugo, unchanged, against this server.

The first test runs with each SDK, transport and protocol; the others only with the JavaScript and the Python SDK over
WebSocket and JSON. With `--all-sdks`, every test runs with all of them.
"""

import base64
import json
import time

import pytest
from backend import Backend
from http_api import up
from pytest_twisted import blockon
from sdk import KINDS, SECRET, token
from twisted.internet.threads import deferToThread
from waiting import wait_until

QUICK = ("javascript", "python")
SENDS = pytest.mark.sdks("javascript", "java")
"""The Python SDK has no `send`."""
OPEN = {"channel_publish": ("*",), "channel_presence": ("*",)}


def pytest_generate_tests(metafunc):
    """Run each test with several SDKs; its marker `sdks` may limit them; called by pytest."""
    if "kind" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("sdks")
        every = metafunc.config.getoption("all_sdks") or metafunc.cls is ConversationTests
        kinds = KINDS if every else QUICK
        metafunc.parametrize("kind", [kind for kind in kinds if marker is None or kind.startswith(marker.args)])


@pytest.fixture
def server(start_server):
    """Start a server that permits clients everything on every channel."""
    return blockon(deferToThread(start_server, **OPEN))


@pytest.fixture
def server_without_history(start_server):
    """Start a server that permits clients everything on every channel, but keeps no history."""
    return blockon(deferToThread(lambda: start_server(history_size=0, **OPEN)))


def publish(server, channel, data, **options):
    """Publish from the process of the server, without the HTTP API."""
    return server.ask(lambda: server.service.hub.publish(channel, data, **options))


def speaks_protobuf(kind):
    """Return whether an SDK speaks Protobuf."""
    return kind == "java" or kind.endswith("protobuf")


def delivered(kind, data):
    """Return how an SDK delivers bytes that are not JSON: with JSON as text if they are, otherwise as base64."""
    encoded = base64.b64encode(data).decode()
    if speaks_protobuf(kind):
        return {"base64": encoded}
    return data.decode() if data.isascii() else encoded


class ConversationTests:
    """One client from connecting to disconnecting."""

    def test_a_client_subscribes_publishes_reads_recovers_and_leaves(self, start_server, connect, kind):
        server = start_server(token_secret=SECRET, channel_allow=("foo",), **OPEN)
        sdk = connect(server, token=token(channels=["given"], info={"name": "Ann"}))
        assert sdk.expect("subscribed", of="server")["channel"] == "given"
        first = sdk.subscribe("foo", token=token(channel="foo"), joinLeave=True)
        assert (first["recoverable"], first["wasRecovering"]) == (True, False)
        client = sdk.expect("join")["info"]["client"]
        values = [{"a": [1, None]}, "42", 42, "zwei\nZeilen, 世界", False]
        for value in values:
            assert sdk.call("publish", channel="foo", data=value) is not None
        got = [sdk.expect("publication") for _ in values]
        assert [one["data"] for one in got] == values
        assert [one["offset"] for one in got] == [1, 2, 3, 4, 5]
        assert got[0]["info"].items() >= {"user": "ann", "client": client, "connInfo": {"name": "Ann"}}.items()
        publish(server, "given", b"\xff\x00", tags={"a": "b"})
        opaque = sdk.expect("publication", of="server")
        assert (opaque["data"], opaque["tags"]["a"]) == (delivered(kind, b"\xff\x00"), "b")
        page = sdk.call("history", channel="foo", options={"limit": 2, "reverse": True})
        assert [one["data"] for one in page["publications"]] == [False, "zwei\nZeilen, 世界"]
        assert page["offset"] == 5
        assert [*sdk.call("presence", channel="foo")["clients"]] == [client]
        assert sdk.call("presenceStats", channel="foo") == {"numClients": 1, "numUsers": 1}
        assert sdk.call("rpc", method="m")["error"]["code"] == 108
        assert sdk.call("publish", channel="closed", data=1)["error"]["code"] == 103
        server.ask(lambda: server.service.management.disconnect(client=client, code=3000))
        sdk.expect("connecting", code=3000)
        publish(server, "foo", "missed")
        assert sdk.expect("subscribed", of="subscription")["recovered"] is True
        publish(server, "foo", "live")
        assert sdk.publications(2) == ["missed", "live"]
        sdk.order("unsubscribe", channel="foo")
        assert sdk.expect("unsubscribed", channel="foo")["code"] == 0
        sdk.order("disconnect")
        assert sdk.expect("disconnected")["code"] == 0
        wait_until(lambda: not server.count_connections(), "the connection closed")


class CommandTests:
    """Commands that an SDK sends to the server."""

    def test_each_client_gets_its_own_id_and_disconnects_with_code_0(self, server, start_sdk):
        one, two = (start_sdk(server) for _ in range(2))
        ids = set()
        for sdk in (one, two):
            sdk.order("connect")
            ids.add(sdk.expect("connected")["client"])
        assert len(ids) == 2
        assert "" not in ids
        one.order("disconnect")
        assert one.expect("disconnected")["code"] == 0
        wait_until(lambda: server.count_connections() == 1, "one connection closed")

    def test_texts_stay_texts_without_history(self, server_without_history, connect):
        """A text that is valid JSON stays a text; a lone surrogate or deep nesting does not end the connection."""
        sdk = connect(server_without_history)
        sdk.subscribe("foo")
        deep = [1]
        for _ in range(200):
            deep = [deep]
        values = ["42", '{"admin":true}', "null", "\ud83d", {"\udc00": "\ud83dx"}, deep]
        for value in values:
            assert sdk.call("publish", channel="foo", data=value) is not None
        assert sdk.publications(len(values)) == values

    def test_a_refused_publication_does_not_end_the_connection(self, server_without_history, connect, kind):
        """A long name; with JSON, also half a surrogate pair and deep nesting; no data, where an SDK permits it."""
        sdk = connect(server_without_history)
        sdk.subscribe("foo")
        refused = [{"channel": "f" * 256, "data": 1}]
        if not speaks_protobuf(kind):
            deep = "[" * 600 + "]" * 600
            refused += [{"channel": "foo\ud83d", "data": 1}, {"channel": "foo", "data": json.loads(deep)}]
        if not kind.startswith("python"):
            refused.append({"channel": "foo"})
        for publication in refused:
            assert sdk.call("publish", **publication)["error"]["code"] == 107
        sdk.call("publish", channel="foo", data="still connected")
        assert sdk.publications(1) == ["still connected"]

    def test_values_of_a_client_and_of_the_backend_reach_all_subscribers_unchanged(self, server, connect, kind):
        one, two = connect(server), connect(server)
        for sdk in (one, two):
            assert sdk.subscribe("foo")["recoverable"] is True
        values = [
            "hello",
            "42",
            "",
            "null",
            "zwei\nZeilen, 世界",
            42,
            -1.5,
            True,
            [],
            [1, None],
            {},
            {"a": {"b": [""]}},
        ]
        for value in values:
            assert one.call("publish", channel="foo", data=value) is not None
        publish(server, "foo", b"text of the backend")
        publish(server, "foo", b'{"of":"the backend"}', json=True, tags={"a": "b"})
        for sdk in (one, two):
            assert sdk.publications(len(values)) == values
            assert sdk.expect("publication")["data"] == delivered(kind, b"text of the backend")
            last = sdk.expect("publication")
            assert (last["data"], last["offset"]) == ({"of": "the backend"}, len(values) + 2)
            assert last["tags"] == {"a": "b"}

    def test_a_clients_publication_has_its_client_id(self, server, connect):
        sdk = connect(server)
        sdk.subscribe("foo")
        sdk.call("publish", channel="foo", data=1)
        assert sdk.expect("publication")["info"]["client"]

    def test_an_unsubscribed_client_gets_nothing_until_it_subscribes_again(self, server, connect):
        sdk = connect(server)
        sdk.subscribe("foo")
        sdk.order("unsubscribe", channel="foo")
        assert sdk.expect("unsubscribed", of="subscription")["code"] == 0
        wait_until(lambda: "foo" not in server.ask(server.service.hub.counts), "unsubscribed")
        publish(server, "foo", "nobody")
        sdk.subscribe("foo")
        publish(server, "foo", "somebody")
        # The SDKs recover from their last position, so the publication in between arrives too.
        assert sdk.publications(2) == ["nobody", "somebody"]

    def test_history_reads_a_page_since_a_position_backwards_or_the_position_only(self, server, connect):
        """A position of another epoch gets error 112."""
        sdk = connect(server)
        sdk.subscribe("foo")
        for number in range(1, 6):
            publish(server, "foo", b"%d" % number, json=True)

        def history(**options):
            return sdk.call("history", channel="foo", options=options)

        top = history()
        assert (top["publications"], top["offset"]) == ([], 5)
        assert [one["data"] for one in history(limit=-1)["publications"]] == [1, 2, 3, 4, 5]
        assert [one["data"] for one in history(limit=2)["publications"]] == [1, 2]
        since = {"offset": 2, "epoch": top["epoch"]}
        assert [one["offset"] for one in history(limit=2, since=since)["publications"]] == [3, 4]
        assert [one["data"] for one in history(limit=2, reverse=True)["publications"]] == [5, 4]
        assert history(limit=2, since={"offset": 2, "epoch": "other"})["error"]["code"] == 112

    def test_presence_lists_both_clients_and_join_leave_is_sent_on_request(self, server, connect):
        one = connect(server)
        one.subscribe("foo", joinLeave=True)
        assert one.expect("join")["info"]["client"]
        two = connect(server)
        two.subscribe("foo")
        joined = one.expect("join")["info"]["client"]
        clients = one.call("presence", channel="foo")["clients"]
        assert len(clients) == 2
        assert clients[joined]["client"] == joined
        assert one.call("presenceStats", channel="foo") == {"numClients": 2, "numUsers": 1}
        two.order("unsubscribe", channel="foo")
        assert one.expect("leave")["info"]["client"] == joined
        assert not [event for event in two.events if event["event"] in ("join", "leave")]

    def test_a_thousand_messages_of_a_client_and_the_backend_arrive_once_in_order(self, server, connect):
        one, two = connect(server), connect(server)
        for sdk in (one, two):
            sdk.subscribe("foo")
        assert one.call("batch", channel="foo", messages=list(range(500))) == 500
        for number in range(500, 1000):
            publish(server, "foo", b"%d" % number, json=True)
        for sdk in (one, two):
            assert sdk.publications(1000) == list(range(1000))

    def test_128_channels_are_accepted_and_one_more_is_code_106(self, server, connect):
        sdk = connect(server)
        for number in range(128):
            sdk.order("subscribe", channel=f"c{number}")
        for _ in range(128):
            sdk.expect("subscribed")
        publish(server, "c127", "hello")
        assert sdk.publications(1) == ["hello"]
        sdk.order("subscribe", channel="c128")
        assert sdk.expect("unsubscribed")["code"] == 106


class RefusedTests:
    """Requests that a server with minimal permissions refuses."""

    @pytest.fixture
    def server(self, start_server):
        """Start a server that permits clients as little as possible."""
        rules = {"channel_presence": ("bare",), "channel": (("open", {"history_size": 0}),)}
        return blockon(deferToThread(lambda: start_server(channel_allow=("open", "bare"), **rules)))

    def test_each_refusal_has_centrifugos_code_and_names_the_option(self, server, connect):
        """If no option would help, the refusal names the missing subscription."""
        sdk = connect(server)
        sdk.subscribe("open")
        for order, code, words in (
            ({"order": "publish", "channel": "open", "data": 1}, 103, "--channel-publish"),
            ({"order": "publish", "channel": "closed", "data": 1}, 103, "--channel-allow"),
            ({"order": "history", "channel": "open", "options": {}}, 108, "--history-size"),
            ({"order": "history", "channel": "bare", "options": {}}, 103, "subscribed"),
            ({"order": "presence", "channel": "open"}, 108, "--channel-presence"),
            ({"order": "presenceStats", "channel": "bare"}, 103, "subscribed"),
            ({"order": "rpc", "method": "m"}, 108, "--hook-rpc"),
        ):
            error = sdk.call(**order)["error"]
            assert error["code"] == code
            assert words in error["message"]

    def test_subscribing_to_a_channel_outside_channel_allow_is_code_103(self, server, connect):
        sdk = connect(server)
        sdk.order("subscribe", channel="closed")
        ended = sdk.expect("unsubscribed")
        assert ended["code"] == 103
        assert "--channel-allow" in ended["reason"]

    def test_a_token_without_token_keys_disconnects_with_3500(self, server, start_sdk):
        """The server cannot verify the token, so it does not treat it as valid."""
        sdk = start_sdk(server, token="abc.def.ghi")
        sdk.order("connect")
        assert sdk.expect("disconnected")["code"] == 3500


class BackendTests:
    """Calls and messages that a backend over HTTP answers."""

    @pytest.fixture
    def server(self, start_server, backend):
        """Start a server whose backend answers calls and messages."""
        hooks = {f"hook_{event}": backend.url(f"/{event}") for event in ("rpc", "message")}
        return blockon(deferToThread(lambda: start_server(hook_timeout=1.0, **OPEN, **hooks)))

    def test_a_call_returns_the_backends_data_its_error_or_a_temporary_error_if_it_is_slow(
        self, server, backend, connect
    ):
        sdk = connect(server)
        answers = {
            "echo": lambda body: {"result": {"data": body["data"]}},
            "nothing": lambda body: {"result": {}},
            "refuse": lambda body: {"error": {"code": 404, "message": "no such method"}},
            "lie": lambda body: {"result": {"publish": [{"channel": "", "data": 1}]}},
            "slow": lambda body: time.sleep(1.5) or {"result": {}},
        }
        backend.answer = lambda path, body: answers[body["method"]](body)
        for data in ({"a": [1, None]}, "42", 42, "ü", [], False):
            assert sdk.call("rpc", method="echo", data=data)["data"] == data
        assert sdk.call("rpc", method="nothing").get("data") is None
        assert sdk.call("rpc", method="refuse")["error"] == {"code": 404, "message": "no such method"}
        for method in ("lie", "slow"):
            assert sdk.call("rpc", method=method)["error"] == {"code": 100, "message": "the backend is unavailable"}
        assert sdk.call("rpc", method="echo", data=1)["data"] == 1

    @SENDS
    def test_calls_and_messages_reach_the_backend_in_their_order(self, server, backend, connect):
        sdk = connect(server)
        backend.answer = lambda path, body: time.sleep(0.02 * (body["data"] % 3)) or {"result": {"data": body["data"]}}
        calls = []
        for number in range(0, 30, 2):
            calls.append(sdk.order("rpc", method="m", data=number))
            calls.append(sdk.order("send", data=number + 1))
        assert [sdk.answer(call)["data"] for call in calls[::2]] == [*range(0, 30, 2)]
        wait_until(lambda: len(backend.requests) == 30, "every message reaches the backend")
        assert sorted(body["data"] for _, _, body in backend.requests) == [*range(30)]
        for path in ("/rpc", "/message"):
            numbers = [body["data"] for one, _, body in backend.requests if one == path]
            assert numbers == sorted(numbers)

    @SENDS
    def test_an_answer_publishes_and_a_message_may_be_answered_with_a_message(self, server, backend, connect):
        sdk = connect(server)
        sdk.subscribe("news")
        backend.answer = lambda path, body: {
            "result": {"data": path, "publish": [{"channel": "news", "data": body["data"]}]}
        }
        assert sdk.call("rpc", method="m", data={"by": "call"})["data"] == "/rpc"
        sdk.call("send", data={"by": "message"})
        assert sdk.publications(2) == [{"by": "call"}, {"by": "message"}]
        assert sdk.expect("message")["data"] == "/message"

    @SENDS
    def test_a_disconnect_in_the_answer_ends_the_client_or_lets_it_reconnect(self, server, backend, connect):
        """Codes below 4500 let it reconnect."""
        sdk = connect(server)
        backend.answer = lambda path, body: {"disconnect": {"code": body["data"], "reason": "as you wish"}}
        sdk.order("send", data=4000)
        sdk.expect("connecting", code=4000)
        sdk.expect("connected")
        sdk.order("rpc", method="m", data=4500)
        assert sdk.expect("disconnected")["code"] == 4500

    def test_a_dead_backend_is_a_temporary_error_and_leaves_the_client_connected(self, server, backend, connect):
        sdk = connect(server)
        port = backend.port
        backend.close()
        assert sdk.call("rpc", method="m")["error"]["code"] == 100
        again = Backend(port)
        again.answer = lambda path, body: {"result": {"data": "back"}}
        assert sdk.call("rpc", method="m")["data"] == "back"
        again.close()


class TokenTests:
    """Clients of a server that requires tokens."""

    @pytest.fixture
    def server(self, start_server):
        """Start a server that requires tokens."""
        options = {"token_secret": SECRET, "channel_presence": ("*",), "channel_allow": ("open",)}
        return blockon(deferToThread(lambda: start_server(**options)))

    def test_a_token_opens_its_channels_and_sets_the_info_of_publications(self, server, connect):
        """Subscribing to any other channel gets error 103."""
        sdk = connect(
            server, token=token(channels=["given"], caps=[{"channels": ["c"], "allow": ["sub", "pub"]}], info=[1])
        )
        assert sdk.expect("subscribed", of="server")["channel"] == "given"
        publish(server, "given", "hello")
        assert sdk.expect("publication", of="server")["data"] == "hello"
        sdk.subscribe("c")
        sdk.call("publish", channel="c", data="x")
        assert sdk.expect("publication")["info"].items() >= {"user": "ann", "connInfo": [1]}.items()
        sdk.order("subscribe", channel="closed")
        assert sdk.expect("unsubscribed")["code"] == 103

    def test_a_channel_of_the_token_is_recovered_after_a_lost_connection(self, server, connect):
        sdk = connect(server, token=token(channels=["given"]))
        sdk.expect("subscribed", of="server")
        publish(server, "given", "1")
        assert sdk.publications(1) == ["1"]

        def cut():
            for connection in list(server.service.connections.connections):
                connection.transport.abortConnection()
            server.service.hub.publish("given", "2")

        server.ask(cut)
        assert sdk.expect("subscribed", of="server")["recovered"] is True
        publish(server, "given", "3")
        assert sdk.publications(2) == ["2", "3"]

    def test_expiring_tokens_are_refreshed_without_reconnecting(self, server, start_sdk):
        sdk = start_sdk(server, asksForTokens=True)
        sdk.order("connect")
        for ttl in (2, 2, 600):
            assert sdk.expect("token wanted")["of"] == "connection"
            sdk.order("token", token=token(ttl))
        sdk.expect("connected")
        wait_until(lambda: expiries(server) > [time.time() + 500], "the last token")
        assert not [event for event in sdk.events if event["event"] == "disconnected"]
        assert len([event for event in sdk.events if event["event"] == "connecting"]) == 1

    def test_a_token_that_is_not_valid_now_is_replaced_by_a_new_one_and_the_client_connects(self, server, start_sdk):
        """Expired, not valid yet, or from a backend whose clock is ahead."""
        sdk = start_sdk(server, asksForTokens=True)
        sdk.order("connect")
        for claims in ({"ttl": -100}, {"nbf": time.time() + 60}, {"iat": time.time() + 60}, {}):
            sdk.expect("token wanted")
            sdk.order("token", token=token(**claims))
        sdk.expect("connected")

    def test_a_used_one_time_token_is_replaced_by_a_new_one(self, server, connect, start_sdk):
        used = token(once=True, jti="1")
        connect(server, token=used)
        sdk = start_sdk(server, token=used, asksForTokens=True)
        sdk.order("connect")
        sdk.expect("token wanted")
        sdk.order("token", token=token(once=True, jti="2"))
        sdk.expect("connected")

    def test_a_token_whose_expire_at_is_past_disconnects_once_with_110(self, server, start_sdk):
        """The client does not try again and again."""
        sdk = start_sdk(server, token=token(expire_at=time.time() - 60))
        sdk.order("connect")
        assert sdk.expect("disconnected")["code"] == 110
        assert len([event for event in sdk.events if event["event"] == "connecting"]) == 1

    def test_a_client_that_refreshes_with_an_expired_token_reconnects_and_requests_another(self, server, start_sdk):
        sdk = start_sdk(server, asksForTokens=True)
        sdk.order("connect")
        for ttl in (1, -100, 600):
            sdk.expect("token wanted")
            sdk.order("token", token=token(ttl))
        sdk.expect("connected")
        sdk.expect("connecting", code=3005)
        sdk.expect("connected")

    @pytest.mark.sdks("javascript", "python")
    def test_a_subscription_that_is_refreshed_with_an_expired_token_requests_another(self, server, connect):
        """The SDK does not give the subscription up; that for Java does, in version 0.4.1, after every error 109."""
        sdk = connect(server, token=token())
        sdk.order("subscribe", channel="c", options={"asksForTokens": True})
        for ttl in (1, -100, 600):
            assert sdk.expect("token wanted")["channel"] == "c"
            sdk.order("token", token=token(ttl, channel="c"))
        sdk.expect("subscribed", channel="c")
        sdk.expect("subscribing", channel="c", code=2501)
        sdk.expect("subscribed", channel="c")
        publish(server, "c", "hello")
        assert sdk.publications(1) == ["hello"]

    def test_a_client_without_a_token_is_disconnected_with_3501(self, server, start_sdk):
        """The SDK does not reconnect after this code."""
        sdk = start_sdk(server)
        sdk.order("connect")
        assert sdk.expect("disconnected")["code"] == 3501

    def test_a_subscription_token_opens_its_channel_and_is_refreshed(self, server, connect):
        sdk = connect(server, token=token())
        sdk.order("subscribe", channel="c", options={"asksForTokens": True})
        for ttl in (2, 600):
            assert sdk.expect("token wanted")["channel"] == "c"
            sdk.order("token", token=token(ttl, channel="c"))
        sdk.expect("subscribed", channel="c")
        publish(server, "c", "hello")
        assert sdk.publications(1) == ["hello"]


def expiries(server):
    """Return when the tokens of the connected clients expire."""
    return server.ask(lambda: [one.context.identity.expires_at for one in server.service.hub.clients.find()])


class HookTests:
    """A server that calls a backend."""

    @pytest.fixture
    def backend(self):
        """Start a backend."""
        backend = Backend()
        yield backend
        backend.close()

    def hooked(self, start_server, backend, *events, **settings):
        """Start a server that calls the backend for these events."""
        return start_server(**{f"hook_{event}": backend.url(f"/{event}") for event in events} | settings)

    def test_connect_sets_data_and_subscriptions_and_disconnect_reports_the_user(
        self, start_server, start_sdk, backend, kind
    ):
        server = self.hooked(start_server, backend, "connect", "disconnect")
        backend.answer = lambda path, body: {"result": {"user": "ann", "subs": {"c": {"data": [1]}}, "data": {"a": 1}}}
        sdk = start_sdk(server)
        sdk.order("connect")
        connected = sdk.expect("connected")
        assert connected["data"] == {"a": 1}
        assert sdk.expect("subscribed", of="server")["data"] == [1]
        _, _, body = backend.requests[0]
        transport = KINDS[kind].get("transports", ["websocket"])[-1]
        protocol = "protobuf" if speaks_protobuf(kind) else "json"
        assert body.items() >= {"client": connected["client"], "transport": transport, "protocol": protocol}.items()
        assert body["name"] in ("js", "python", "java")
        sdk.order("disconnect")
        wait_until(lambda: len(backend.requests) == 2, "the disconnect hook")
        path, _, report = backend.requests[1]
        assert (path, report["user"], report["client"]) == ("/disconnect", "ann", connected["client"])

    @pytest.mark.parametrize(
        ("answer", "event", "code"),
        [
            ({"error": {"code": 403, "message": "members only"}}, "disconnected", 403),
            ({"disconnect": {"code": 4501, "reason": "banned"}}, "disconnected", 4501),
            ({"oops": 1}, "error", None),
        ],
    )
    def test_a_refusal_disconnects_with_its_code_and_an_invalid_answer_is_retried(
        self, start_server, start_sdk, backend, answer, event, code
    ):
        server = self.hooked(start_server, backend, "connect")
        backend.answer = lambda path, body: answer
        sdk = start_sdk(server)
        sdk.order("connect")
        outcome = sdk.expect(event)
        if code:
            assert outcome["code"] == code
        else:
            backend.answer = lambda path, body: {"result": {}}
            sdk.expect("connected")

    def test_subscribe_opens_a_channel_with_info_and_data_or_refuses_with_its_code(
        self, start_server, connect, backend
    ):
        """A channel in --channel-allow does not need the hook."""
        server = self.hooked(start_server, backend, "subscribe", channel_allow=("open",), channel_presence=("*",))
        backend.answer = lambda path, body: (
            {"result": {"info": {"role": "x"}, "data": 7}}
            if body["channel"] == "c"
            else {"error": {"code": 403, "message": "no"}}
        )
        sdk = connect(server)
        sdk.subscribe("open")
        assert backend.requests == []
        assert sdk.subscribe("c")["data"] == 7
        (info,) = sdk.call("presence", channel="c")["clients"].values()
        assert info["chanInfo"] == {"role": "x"}
        sdk.order("subscribe", channel="d")
        assert sdk.expect("unsubscribed")["code"] == 403

    @pytest.mark.sdks("javascript")
    def test_an_answer_may_begin_a_subscription_with_the_last_publications(self, start_server, connect, backend):
        """`rewind` replaces the option of the channel; `cache_recover` is Centrifugo's name for one publication."""
        channels = [("*", {"rewind": 3})]
        server = self.hooked(start_server, backend, "connect", "subscribe", channel=channels)
        for number in range(4):
            publish(server, "one", str(number), json=True)
            publish(server, "two", str(number), json=True)
        backend.answer = lambda path, body: (
            {"result": {"user": "ann", "subs": {"one": {"cache_recover": True}, "none": {"rewind": 0}}}}
            if path == "/connect"
            else {"result": {"rewind": 2}}
        )
        sdk = connect(server)
        assert sdk.expect("subscribed", of="server", channel="one")["recovered"] is True
        assert sdk.expect("subscribed", of="server", channel="none")["wasRecovering"] is False
        assert sdk.publications(1) == [3]
        assert sdk.subscribe("two")["recovered"] is True
        assert sdk.publications(2) == [2, 3]

    def test_publish_may_replace_the_data_and_add_tags_or_refuse_with_its_message(self, start_server, connect, backend):
        server = self.hooked(start_server, backend, "publish", channel_allow=("c",))
        backend.answer = lambda path, body: (
            {"result": {"data": {"by the backend": body["data"]}, "tags": {"a": "b"}}}
            if body["data"] != "bad"
            else {"error": {"code": 1000, "message": "mind your words"}}
        )
        sdk = connect(server)
        sdk.subscribe("c")
        for value in ("text", {"n": [1]}):
            sdk.call("publish", channel="c", data=value)
            publication = sdk.expect("publication")
            assert (publication["data"], publication["tags"]) == ({"by the backend": value}, {"a": "b"})
        assert sdk.call("publish", channel="c", data="bad")["error"] == {"code": 1000, "message": "mind your words"}


class ManagementTests:
    """Methods of `Management` that list, subscribe, unsubscribe and disconnect clients."""

    def call(self, server, method, *arguments, **options):
        """Call a method that reaches every process."""
        return server.ask(lambda: getattr(server.service.management, method)(*arguments, **options))

    def test_subscribe_unsubscribe_and_disconnect_reach_the_client_by_its_id(self, server, connect):
        sdk = connect(server)
        (number,) = self.call(server, "connections").connections
        assert self.call(server, "subscribe", "c", client=number, options={"data": {"a": 1}}) == 1
        assert sdk.expect("subscribed", of="server")["channel"] == "c"
        publish(server, "c", "hello")
        assert sdk.publications(1) == ["hello"]
        assert self.call(server, "unsubscribe", "c", client=number) == 1
        assert sdk.expect("unsubscribed", of="server")["channel"] == "c"
        sdk.subscribe("d")
        assert self.call(server, "unsubscribe", "d", client=number) == 1
        assert sdk.expect("unsubscribed", of="subscription")["code"] == 2000
        assert self.call(server, "disconnect", client=number) == 1
        assert sdk.expect("disconnected")["code"] == 3503

    @pytest.mark.parametrize("code", [3000, 3011])
    def test_a_client_disconnected_with_a_code_below_3500_reconnects(self, server, connect, code):
        """It receives the code and the reason, with 3000 too."""
        sdk = connect(server)
        (number,) = self.call(server, "connections").connections
        self.call(server, "disconnect", client=number, code=code, reason="force reconnect")
        assert sdk.expect("connecting", code=code)["reason"] == "force reconnect"
        assert sdk.expect("connected")["client"] != number


class ReconnectTests:
    """The client's connection is lost, and the SDK reconnects."""

    def test_missed_publications_are_recovered_once_and_in_order(self, server, connect):
        sdk = connect(server)
        sdk.subscribe("foo")
        publish(server, "foo", "1")
        assert sdk.publications(1) == ["1"]

        def cut():
            for connection in list(server.service.connections.connections):
                connection.transport.abortConnection()
            for number in ("2", "3"):
                server.service.hub.publish("foo", number)

        server.ask(cut)
        again = sdk.expect("subscribed")
        assert (again["wasRecovering"], again["recovered"]) == (True, True)
        publish(server, "foo", "4")
        assert sdk.publications(3) == ["2", "3", "4"]

    def test_a_subscription_begins_with_the_last_publications_and_then_recovers(self, start_server, start_sdk, broker):
        """The option `rewind` of the channel. After a reconnect, the client gets what it missed and nothing twice."""
        server = up(start_server(channel=[("foo", {"rewind": 2})], **OPEN, **broker))
        for number in range(3):
            publish(server, "foo", str(number), json=True)
        sdk = start_sdk(server)
        sdk.order("connect")
        client = sdk.expect("connected")["client"]
        subscribed = sdk.subscribe("foo")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
        assert sdk.publications(2) == [1, 2]
        publish(server, "foo", "3", json=True)
        assert sdk.publications(1) == [3]
        server.ask(lambda: server.service.management.disconnect(client=client, code=3000))
        for number in range(4, 8):
            publish(server, "foo", str(number), json=True)
        assert sdk.expect("subscribed", channel="foo")["recovered"] is True
        assert sdk.publications(4) == [4, 5, 6, 7]

    @pytest.mark.sdks("javascript")
    def test_an_empty_since_delivers_the_last_publication_in_the_mode_cache(self, start_server, start_sdk, broker):
        """As with Centrifugo. After a reconnect, only the last of the missed publications arrives."""
        server = up(start_server(channel=[("foo", {"force_recovery_mode": "cache"})], **OPEN, **broker))
        for number in range(3):
            publish(server, "foo", str(number), json=True)
        sdk = start_sdk(server)
        sdk.order("connect")
        client = sdk.expect("connected")["client"]
        assert sdk.subscribe("foo", since={})["recovered"] is True
        assert sdk.publications(1) == [2]
        server.ask(lambda: server.service.management.disconnect(client=client, code=3000))
        for number in range(3, 6):
            publish(server, "foo", str(number), json=True)
        assert sdk.expect("subscribed", channel="foo")["recovered"] is True
        assert sdk.publications(1) == [5]
        publish(server, "foo", "6", json=True)
        assert sdk.publications(1) == [6]

    @pytest.mark.sdks("javascript")
    def test_a_subscription_of_the_token_begins_with_the_last_publication(self, start_server, connect, broker):
        server = up(start_server(channel=[("foo", {"rewind": 1})], token_secret=SECRET, **broker))
        for number in range(3):
            publish(server, "foo", str(number), json=True)
        sdk = connect(server, token=token(channels=["foo"]))
        assert sdk.expect("subscribed", of="server", channel="foo")["recovered"] is True
        assert sdk.publications(1) == [2]

    def test_a_restart_without_redis_is_not_recovered_and_new_publications_arrive(self, start_server, connect):
        """SDKs do not reconnect after the close code of the option, so the server does not send it to them."""
        server = start_server(drain_code=4500, **OPEN)
        port, sdk = server.port, connect(server)
        sdk.subscribe("foo")
        publish(server, "foo", "1")
        assert sdk.publications(1) == ["1"]
        server.stop()
        assert sdk.expect("connecting", code=3001)["reason"].startswith("shutdown")
        server = start_server(port=port, **OPEN)
        again = sdk.expect("subscribed")
        assert (again["wasRecovering"], again["recovered"]) == (True, False)
        publish(server, "foo", "2")
        assert sdk.publications(1) == ["2"]

    def test_a_restart_of_the_server_with_redis_is_recovered(self, start_server, connect, redis):
        server, other = (start_server(redis=redis.url, **OPEN) for _ in range(2))
        for one in (server, other):
            up(one)
        port, sdk = server.port, connect(server)
        sdk.subscribe("foo")
        publish(other, "foo", "1")
        assert sdk.publications(1) == ["1"]
        server.stop()
        publish(other, "foo", "2")
        server = start_server(port=port, redis=redis.url, **OPEN)
        again = sdk.expect("subscribed")
        assert (again["wasRecovering"], again["recovered"]) == (True, True)
        publish(other, "foo", "3")
        assert sdk.publications(2) == ["2", "3"]

    def test_a_redis_that_restarts_empty_starts_a_new_epoch_without_recovery(self, start_server, connect, redis):
        server = up(start_server(redis=redis.url, **OPEN))
        sdk = connect(server)
        first = sdk.subscribe("foo")
        publish(server, "foo", "1")
        assert sdk.publications(1) == ["1"]
        redis.kill()
        wait_until(lambda: not server.service.hub.broker.up, "the outage noticed")
        redis.start()
        up(server)
        again = sdk.expect("subscribed")
        assert (again["wasRecovering"], again["recovered"]) == (True, False)
        assert again["streamPosition"]["epoch"] != first["streamPosition"]["epoch"]
        publish(server, "foo", "2")
        assert sdk.publications(1) == ["2"]


class TwoServersTests:
    """Two servers on one Redis."""

    def test_clients_of_both_share_channels_and_one_manages_clients_of_the_other(self, start_server, connect, redis):
        servers = [up(start_server(redis=redis.url, **OPEN)) for _ in range(2)]
        one, two = (connect(server) for server in servers)
        one.subscribe("foo", joinLeave=True)
        one.expect("join")
        two.subscribe("foo")
        one.expect("join")
        for number, sdk in enumerate((one, two) * 50):
            sdk.call("publish", channel="foo", data=number)
        for sdk in (one, two):
            assert sdk.publications(100) == list(range(100))
        assert len(two.call("presence", channel="foo")["clients"]) == 2
        assert [
            publication["data"]
            for publication in two.call("history", channel="foo", options={"limit": 3})["publications"]
        ] == [0, 1, 2]
        management = servers[0].service.management
        (number,) = servers[1].service.hub.clients.find()
        assert servers[0].ask(lambda: management.unsubscribe("foo", client=number.client)) == 1
        assert two.expect("unsubscribed")["code"] == 2000
        one.expect("leave")
        assert servers[0].ask(lambda: management.disconnect(client=number.client)) == 1
        assert two.expect("disconnected")["code"] == 3503


class PlainRedisTests:
    """Messages that are published to Redis directly, as by `redis-cli publish foo hello`."""

    def test_json_arrives_as_its_value_and_other_text_and_bytes_unchanged(self, start_server, connect, redis, kind):
        """Messages published to Redis directly have no offset. With JSON, bytes that are not text arrive as base64."""
        server = up(start_server(redis=redis.url))
        sdk = connect(server)
        sdk.subscribe("foo")
        for data in (b"hello", b'{"a":1}', b"\xff\x00"):
            assert redis.publish("foo", data) == 1
        got = [sdk.expect("publication") for _ in range(3)]
        assert [one["data"] for one in got] == [delivered(kind, b"hello"), {"a": 1}, delivered(kind, b"\xff\x00")]
        if not speaks_protobuf(kind):
            assert got[2]["tags"] == {"encoding": "base64"}
        assert [one.get("offset", 0) for one in got] == [0, 0, 0]

    @pytest.mark.sdks("javascript")
    def test_a_lost_redis_subscription_sends_a_gap_message(self, start_server, connect, redis, kind):
        """Messages published to Redis directly may be missing, and recovery does not cover them."""
        server = up(start_server(redis=redis.url))
        sdk = connect(server)
        sdk.subscribe("foo")
        redis.run("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        assert sdk.expect("message")["data"] == {"event": "gap", "channel": "foo"}
