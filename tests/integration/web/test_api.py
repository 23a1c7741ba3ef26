"""The HTTP API: every method over both brokers, and the requests that it refuses."""

import json

import pytest
from fake_client import FakeClient, join
from http_api import KEY, api, ok, up
from pytest_twisted import blockon
from twisted.internet.defer import fail
from twisted.internet.threads import deferToThread
from waiting import wait_until

from wsserver.errors import NotPermitted
from wsserver.hub.clients import ClientInfo
from wsserver.typing import ChannelName


@pytest.fixture
def server(broker, start_server):
    """Start a server on either broker."""
    return blockon(deferToThread(lambda: up(start_server(api_key=KEY, channel_presence=("room",), **broker))))


class PublishTests:
    """`publish`, `broadcast` and `history`."""

    def test_publish_returns_the_offset_the_epoch_and_the_local_deliveries(self, server):
        """With `skip_history`, the result has no position."""
        with server.open("/ws?channel=foo"):
            first, second = (ok(server, "publish", {"channel": "foo", "data": {}}) for _ in range(2))
        assert (first["offset"], second["offset"], first["delivered"]) == (1, 2, 1)
        assert first["epoch"] == second["epoch"] != ""
        assert ok(server, "publish", {"channel": "foo", "data": {}, "skip_history": True}) == {"delivered": 0}

    def test_a_repeated_idempotency_key_returns_the_first_answer_and_delivers_nothing(self, server):
        with server.open("/ws?channel=foo") as peer:
            body = {"channel": "foo", "data": "once", "idempotency_key": "k"}
            offsets = [ok(server, "publish", body)["offset"] for _ in range(3)]
            ok(server, "publish", {"channel": "foo", "data": "next"})
            assert [peer.read_frame().payload for _ in range(2)] == [b"once", b"next"]
            assert offsets == [1, 1, 1]

    def test_history_reads_forwards_backwards_since_a_position_and_can_be_removed(self, server):
        """Without a limit, `history` returns only the position of the stream."""
        for number in range(5):
            last = ok(server, "publish", {"channel": "foo", "data": number, "tags": {"n": str(number)}})
        top = {"offset": 5, "epoch": last["epoch"]}

        def read(**options):
            page = ok(server, "history", {"channel": "foo", **options})
            assert {name: page[name] for name in top} == top
            assert all(one["tags"] == {"n": str(one["data"])} for one in page["publications"])
            return [one["offset"] for one in page["publications"]]

        assert read() == []
        assert read(limit=2) == [1, 2]
        assert read(limit=-1) == [1, 2, 3, 4, 5]
        assert read(limit=2, reverse=True) == [5, 4]
        assert read(limit=-1, since={"offset": 3, "epoch": last["epoch"]}) == [4, 5]
        assert ok(server, "history_remove", {"channel": "foo"}) == {}
        assert read(limit=-1) == []

    def test_history_since_a_position_of_another_epoch_is_416_with_code_112(self, server):
        ok(server, "publish", {"channel": "foo", "data": 1})
        status, answer = api(server, "history", {"channel": "foo", "since": {"offset": 1, "epoch": "other"}})
        assert (status, answer["error"]["code"]) == (416, 112)

    def test_broadcast_answers_for_each_channel_and_is_400_if_one_is_invalid(self, server):
        """The valid channels get the publication."""
        with server.open("/ws?channel=a,b") as peer:
            body = {"channels": ["a", "wsserver:x", 5, "b"], "data": "x", "tags": {"t": "1"}}
            status, answer = api(server, "broadcast", body)
            assert [peer.read_frame().payload for _ in range(2)] == [b"x", b"x"]
        responses = answer["result"]["responses"]
        assert status == 400
        assert [one.get("error", {}).get("code") for one in responses] == [None, 107, 107, None]
        assert responses[0]["result"]["offset"] == 1


class PresenceTests:
    """`presence` and `presence_stats`."""

    def test_returns_every_client_with_its_info_and_the_numbers_of_clients_and_users(self, server):
        infos = [ClientInfo("c1", "42", {"name": "Ann"}), ClientInfo("c2", "42"), ClientInfo("c3", "7")]
        for info in infos:
            server.ask(lambda info=info: server.service.hub.presence.join(ChannelName("room"), info))
        wait_until(lambda: len(ok(server, "presence", {"channel": "room"})["presence"]) == 3, "three clients present")
        found = ok(server, "presence", {"channel": "room"})["presence"]
        assert found["c1"] == {"client": "c1", "user": "42", "conn_info": {"name": "Ann"}}
        assert ok(server, "presence_stats", {"channel": "room"}) == {"num_clients": 3, "num_users": 2}

    def test_a_channel_without_presence_is_400_with_code_108(self, server):
        for method in ("presence", "presence_stats"):
            status, answer = api(server, method, {"channel": "foo"})
            assert (status, answer["error"]["code"]) == (400, 108)


class ConnectionTests:
    """The methods that list, change and disconnect connections."""

    def test_connections_lists_all_or_those_of_a_user_a_client_or_a_pattern(self, server):
        join(server, FakeClient("c1", "42", ["news"]))
        join(server, FakeClient("c2", "7", ["chat:1"]))
        every = ok(server, "connections", {})["connections"]
        assert every["c1"] == {
            "user": "42",
            "transport": "websocket",
            "protocol": "json",
            "state": {"channels": {"news": {}}},
        }
        assert set(every) == {"c1", "c2"}
        for body in ({"user": "7"}, {"client": "c2"}, {"user": "7", "client": "c2"}, {"pattern": "chat:*"}):
            assert set(ok(server, "connections", body)["connections"]) == {"c2"}
        assert ok(server, "connections", {"user": "nobody"}) == {"connections": {}, "total": 0}

    def test_connections_returns_pages_in_the_order_of_client_ids(self, server):
        for number in range(5):
            join(server, FakeClient(f"c{number}", "42", ["news"]))
        pages, after = [], ""
        while pages == [] or after:
            found = ok(server, "connections", {"limit": 2, "after": after, "user": "42"})
            assert found["total"] == 5
            pages.append(list(found["connections"]))
            after = found.get("after", "")
        assert pages == [["c0", "c1"], ["c2", "c3"], ["c4"]]

    @pytest.mark.parametrize("text", ["C2", "ann", "chat:"])
    def test_connections_searches_client_ids_users_and_channels_in_any_case(self, server, text):
        join(server, FakeClient("c1", "bob", ["news"]))
        join(server, FakeClient("c2", "Ann", ["Chat:1"]))
        assert set(ok(server, "connections", {"search": text})["connections"]) == {"c2"}

    @pytest.mark.parametrize("limit", [-1, 1001])
    def test_connections_with_a_limit_out_of_range_is_400(self, server, limit):
        status, answer = api(server, "connections", {"limit": limit})
        assert (status, answer["error"]["message"]) == (400, f"limit: expected 0 to 1000, got {limit}")

    def test_each_method_reaches_only_the_named_clients_and_returns_their_number(self, server):
        one, two = join(server, FakeClient("c1", "42", ["news"])), join(server, FakeClient("c2", "42"))
        other = join(server, FakeClient("c3", "7", ["news"]))
        assert ok(server, "unsubscribe", {"user": "42", "channel": "news"}) == {"clients": 1}
        assert ok(server, "subscribe", {"user": "42", "channel": "chat", "info": {"a": 1}}) == {"clients": 2}
        assert ok(server, "refresh", {"user": "42", "client": "c2", "expire_at": 2_000_000_000}) == {"clients": 1}
        assert ok(server, "refresh", {"user": "42", "client": "c2", "expired": True}) == {"clients": 1}
        assert ok(server, "disconnect", {"user": "42", "whitelist": ["c2"]}) == {"clients": 1}
        end = {"code": 4000, "reason": "go"}
        assert ok(server, "disconnect", {"client": "c2", "disconnect": end}) == {"clients": 1}
        assert one.done == [
            ("unsubscribe", "news"),
            ("subscribe", "chat", {"info": {"a": 1}}),
            ("disconnect", 3503, "force disconnect"),
        ]
        assert two.done == [
            ("subscribe", "chat", {"info": {"a": 1}}),
            ("refresh", 2_000_000_000),
            ("expire",),
            ("disconnect", 4000, "go"),
        ]
        assert other.done == []

    @pytest.mark.parametrize("method", ["disconnect", "subscribe", "unsubscribe", "refresh"])
    def test_a_call_without_user_and_client_is_400_and_reaches_no_client(self, server, method):
        """Such a call would otherwise apply to every connection."""
        everyone = join(server, FakeClient("c1", "", ["news"]))
        for body in ({}, {"user": ""}, {"user": "", "client": None}):
            status, answer = api(server, method, {"channel": "news", **body})
            assert (status, answer["error"]["code"]) == (400, 107)
        assert everyone.done == []

    def test_info_returns_the_node_with_its_counts_of_channels_and_subscriptions(self, server):
        with server.open("/ws?channel=a,b"):
            (node,) = ok(server, "info", {})["nodes"]
        assert node["uid"]
        assert node["name"]
        assert (node["num_channels"], node["num_subs"]) == (2, 2)

    def test_info_returns_what_the_process_has_counted(self, server):
        with server.open("/echo") as peer:
            peer.send_frame(1, b"hello")
            assert peer.read_message() == "hello"
            (node,) = ok(server, "info", {})["nodes"]
        items = node["metrics"]["items"]
        assert items["connections"] == 1
        assert (items["messages_received_total"], items["received_bytes_total"]) == (1, 5)
        assert (items["messages_sent_total"], items["sent_bytes_total"]) == (1, 5)
        assert items["process_cpu_seconds_total"] > 0
        assert items["process_resident_memory_bytes"] > 1024**2
        assert {"sockets", "max_sockets", "send_queue_bytes", "connections_opened_total"} <= set(items)

    def test_info_counts_refusals_and_limits_by_name(self, start_server):
        server = up(start_server(api_key=KEY, max_message_size=10))
        with server.connect() as peer:
            assert peer.request("/echo").status == 426
        with server.open("/echo") as peer:
            peer.send_frame(1, b"longer than this")
            peer.read_close()
        items = ok(server, "info", {})["nodes"][0]["metrics"]["items"]
        assert items['limit_hits_total{limit="max_message_size"}'] == 1
        assert all(name.startswith("refusals_total{cause=") for name in items if "refusals" in name)

    def test_info_returns_this_process_alone_while_redis_is_unavailable(self, start_server, redis):
        server = up(start_server(api_key=KEY, redis=redis.url))
        redis.kill()
        wait_until(lambda: api(server, "channels", {})[0] == 503, "the outage noticed")
        (node,) = ok(server, "info", {})["nodes"]
        assert node["metrics"]["items"]["redis_subscriber_up"] == 0

    def test_either_server_on_one_redis_answers_for_both(self, start_server, redis):
        one, two = (up(start_server(api_key=KEY, redis=redis.url)) for _ in range(2))
        here, there = join(one, FakeClient("c1", "42")), join(two, FakeClient("c2", "42"))
        wait_until(lambda: len(ok(one, "info", {})["nodes"]) == 2, "both nodes known")
        with one.open("/ws?channel=foo"), two.open("/ws?channel=foo,bar"):
            counts = {"bar": {"num_clients": 1}, "foo": {"num_clients": 2}}
            assert ok(one, "channels", {}) == {"channels": counts}
        assert {"c1", "c2"} <= set(ok(two, "connections", {})["connections"])
        assert ok(two, "disconnect", {"user": "42"}) == {"clients": 2}
        assert here.done == there.done == [("disconnect", 3503, "force disconnect")]

    def test_info_leaves_out_a_stopped_process_without_a_log_line(self, start_server, redis, log):
        """A process that stops announces it, so the others do not wait for its answer until a timeout."""
        one, other = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        wait_until(lambda: len(ok(one, "info", {})["nodes"]) == 2, "both nodes known")
        other.stop()
        assert len(ok(one, "info", {})["nodes"]) == 1
        assert log.lines("wsserver.hub") == []


class BatchTests:
    """`batch`: many commands in one request."""

    @pytest.mark.parametrize("parallel", [False, True])
    def test_each_command_has_its_reply_and_an_unknown_one_makes_it_404(self, server, parallel):
        commands = [
            {"publish": {"channel": "foo", "data": 1}},
            {"publish": {"channel": "", "data": 1}},
            {"nothing": {}},
            {"info": None},
            {},
            "publish",
            {"publish": []},
            {"\ud800": 1},
            {"batch": {"commands": []}},
            {"history_remove": {"channel": "foo"}},
        ]
        status, answer = api(server, "batch", {"commands": commands, "parallel": parallel})
        replies = answer["replies"]
        assert status == 404
        assert replies[0]["publish"]["offset"] == 1
        assert "nodes" in replies[3]["info"]
        assert replies[9] == {"history_remove": {}}
        codes = [reply.get("error", {}).get("code") for reply in replies]
        assert codes == [None, 107, 104, None, 107, 107, 107, 107, 104, None]

    @pytest.mark.parametrize("parallel", [False, True])
    def test_a_thousand_commands_get_a_thousand_replies_in_order(self, server, parallel):
        commands = [{"publish": {"channel": "foo", "data": 0}}, *[{"x": {}}] * 998]
        commands.append({"publish": {"channel": "foo", "data": 1}})
        _, answer = api(server, "batch", {"commands": commands, "parallel": parallel})
        assert len(answer["replies"]) == 1000
        assert sum("publish" in reply for reply in answer["replies"]) == 2
        offsets = [answer["replies"][place]["publish"]["offset"] for place in (0, -1)]
        # Commands that run in parallel may be carried out in any order.
        assert (sorted(offsets) if parallel else offsets) == [1, 2]

    @pytest.mark.parametrize(
        "body", [{}, {"commands": []}, {"commands": {}}, {"commands": [{}] * 1001}, {"commands": [], "parallel": 1}]
    )
    def test_no_commands_or_more_than_1000_are_400(self, server, body):
        """Commands and options of the wrong type get 400 too."""
        assert api(server, "batch", body)[0] == 400


class RefusalTests:
    """Authentication, and the requests that the API refuses."""

    @pytest.fixture
    def server(self, start_server):
        """Start a server with the memory broker: refusals do not depend on the broker."""
        return blockon(deferToThread(lambda: start_server(api_key=KEY)))

    @pytest.mark.parametrize(
        "header", [f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}", f"authorization: apikey  {KEY}"]
    )
    def test_accepts_the_key_in_each_of_three_header_forms(self, server, header):
        assert api(server, "info", {}, header, key="")[0] == 200

    @pytest.mark.parametrize(
        ("header", "problem"),
        [
            ("X-A: b", "no API key: send"),
            ("X-API-Key:", "no API key: send"),
            (f"X-API-Key: {KEY}x", "the API key is wrong: expected the server's --api-key"),
            (f"Authorization: Bearer {KEY}x", "the API key is wrong: expected the server's --api-key"),
            (f"Authorization: Basic {KEY}", "no API key: send"),
            ("Authorization: Bearer", "no API key: send"),
        ],
    )
    def test_a_missing_or_wrong_key_is_401_whatever_the_method_and_the_body(self, server, header, problem):
        """An unauthenticated caller cannot find out which methods exist."""
        for method in ("info", "nothing"):
            status, answer = api(server, method, b"no JSON", header, key="")
            assert (status, answer["error"]["code"]) == (401, 101)
            assert answer["error"]["message"].startswith(problem)

    def test_a_key_in_the_query_is_401(self, server):
        """Queries end up in logs."""
        assert api(server, f"info?api_key={KEY}", {}, key="")[0] == 401

    def test_other_http_methods_than_post_are_405(self, server):
        """An empty POST body means no parameters."""
        with server.connect() as peer:
            for method in ("GET", "PUT", "HEAD"):
                response = peer.request("/api/info", f"X-API-Key: {KEY}", method=method)
                assert (response.status, response.header("allow")) == (405, "POST")
            assert peer.request("/api/info", f"X-API-Key: {KEY}", method="POST", body=b"").status == 200

    def test_a_body_over_64_kib_is_413_before_it_is_read(self, server):
        status = None
        with server.connect() as peer:
            head = f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: 65537\r\n\r\n"
            peer.send(head.encode())
            status = peer.read_response().status
        assert status == 413

    @pytest.mark.parametrize(
        ("method", "body", "name"),
        [
            ("history", {"channel": "foo", "limit": "1"}, "limit"),
            ("history", {"channel": "foo", "since": 1}, "since"),
            ("history", {}, "channel"),
            ("publish", {"channel": "foo", "data": 1, "tags": {"a": 1}}, "tags[...]"),
            ("publish", {"channel": "foo", "data": 1, "version": 7}, "version"),
            ("publish", {"channel": "foo", "data": 1, "idempotency_key": "x" * 256}, "idempotency_key"),
            ("broadcast", {"channels": ["a"] * 1001, "data": 1}, "channels"),
            ("broadcast", {"channels": "a", "data": 1}, "channels"),
            ("channels", {"pattern": "x" * 256}, "pattern"),
            ("connections", {"user": "", "expression": "true"}, "expression"),
            ("disconnect", {"user": "1", "disconnect": {"code": 1000}}, "disconnect.code"),
            ("disconnect", {"user": "1", "whitelist": [1]}, "whitelist[0]"),
            ("subscribe", {"user": "1"}, "channel"),
            ("subscribe", {"user": "1", "channel": "a", "expire_at": -1}, "expire_at"),
            ("presence", {"channel": 1}, "channel"),
        ],
    )
    def test_an_invalid_parameter_is_400_with_code_107_and_is_named(self, server, method, body, name):
        status, answer = api(server, method, body)
        assert (status, answer["error"]["code"]) == (400, 107)
        assert answer["error"]["message"].partition(": ")[0] == name

    def test_unknown_parameters_are_ignored_as_centrifugo_does(self, server):
        assert ok(server, "publish", {"channel": "foo", "data": 1, "delta": True, "new": []})["offset"] == 1

    def test_errors_are_in_the_status_or_with_api_errors_body_in_a_200(self, server, start_server):
        """Centrifugo's error mode header overrides --api-errors. 401 and 404 stay statuses in both modes."""
        body = {"channel": ""}
        status, answer = api(server, "history", body, "X-Centrifugo-Error-Mode: transport")
        assert (status, answer["code"]) == (400, 107)
        lenient = start_server(api_key=KEY, api_errors="body")
        status, answer = api(lenient, "history", body)
        assert (status, answer["error"]["code"]) == (200, 107)
        assert api(lenient, "history", body, "X-Centrifugo-Error-Mode: transport")[0] == 400
        assert api(lenient, "history", b"no JSON")[0] == 200
        assert api(lenient, "broadcast", {"channels": [""], "data": 1})[0] == 200
        assert api(lenient, "batch", {"commands": [{"x": {}}]})[0] == 200
        assert api(lenient, "nothing", {})[0] == 404
        assert api(lenient, "info", {}, key="wrong")[0] == 401

    @pytest.mark.parametrize("method", ["history", "history_remove"])
    def test_without_history_publish_returns_no_offset_and_history_is_code_108(self, start_server, method):
        server = start_server(api_key=KEY, history_size=0)
        assert ok(server, "publish", {"channel": "foo", "data": 1}) == {"delivered": 0}
        status, answer = api(server, method, {"channel": "foo"})
        assert (status, answer["error"]["code"]) == (400, 108)

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize(
        ("error", "status", "code"), [(RuntimeError("secret"), 500, 100), (NotPermitted("ACL says no"), 403, 103)]
    )
    def test_an_internal_error_is_500_without_details_and_a_redis_denial_403(
        self, start_server, log, monkeypatch, late, error, status, code
    ):
        """The traceback of an internal error goes to the log."""

        def broken(*arguments, **options):
            if late:
                return fail(error)
            raise error

        server = start_server(api_key=KEY, api_errors="body")
        monkeypatch.setattr(server.service.hub, "send", broken)
        found, answer = api(server, "publish", {"channel": "foo", "data": 1})
        assert (found, answer["error"]["code"]) == (status, code)
        assert "secret" not in answer["error"]["message"]
        assert len(log.take_failures(RuntimeError)) == (status == 500)

    @pytest.mark.parametrize("mode", ["status", "body"])
    def test_every_method_is_503_with_retry_after_while_redis_is_unavailable(self, start_server, redis, mode):
        """The status is 503 in both modes of --api-errors, since nothing was stored."""
        server = up(start_server(api_key=KEY, redis=redis.url, api_errors=mode, channel_presence=("room",)))
        redis.kill()
        wait_until(lambda: api(server, "publish", {"channel": "foo", "data": 1})[0] == 503, "the outage noticed")
        methods = {
            "publish": {"channel": "foo", "data": 1},
            "broadcast": {"channels": ["foo"], "data": 1},
            "batch": {"commands": [{"publish": {"channel": "foo", "data": 1}}]},
            "history": {"channel": "foo"},
            "history_remove": {"channel": "foo"},
            "presence": {"channel": "room"},
            "disconnect": {"user": "42"},
            "channels": {},
            "connections": {},
        }
        with server.connect() as peer:
            for method, body in methods.items():
                data = json.dumps(body).encode()
                response = peer.request(f"/api/{method}", f"X-API-Key: {KEY}", method="POST", body=data)
                assert (method, response.status, response.header("retry-after")) == (method, 503, "1")
