"""The HTTP API: every method, over both brokers, and what is refused."""

import json

import pytest
from fake_client import FakeClient, join
from http_api import KEY, api, ok, up
from peers import wait_until
from pytest_twisted import blockon
from twisted.internet.defer import fail
from twisted.internet.threads import deferToThread

from wsserver.errors import NotPermitted
from wsserver.hub.clients import ClientInfo
from wsserver.typing import ChannelName


@pytest.fixture
def server(broker, start_server):
    """Start a server on either broker."""
    return blockon(deferToThread(lambda: up(start_server(api_key=KEY, channel_presence=("room",), **broker))))


class PublishTests:
    """Publications, and what is kept of them."""

    def test_position(self, server):
        """The answer tells the place in the stream, and to how many it went here."""
        with server.open("/ws?channel=foo"):
            first, second = (ok(server, "publish", {"channel": "foo", "data": {}}) for _ in range(2))
        assert (first["offset"], second["offset"], first["delivered"]) == (1, 2, 1)
        assert first["epoch"] == second["epoch"] != ""
        assert ok(server, "publish", {"channel": "foo", "data": {}, "skip_history": True}) == {"delivered": 0}

    def test_idempotency(self, server):
        """A publication that comes again with its key is answered as before, and not delivered again."""
        with server.open("/ws?channel=foo") as peer:
            body = {"channel": "foo", "data": "once", "idempotency_key": "k"}
            places = [ok(server, "publish", body)["offset"] for _ in range(3)]
            ok(server, "publish", {"channel": "foo", "data": "next"})
            assert [peer.read_frame().payload for _ in range(2)] == [b"once", b"next"]
            assert places == [1, 1, 1]

    def test_history(self, server):
        """Forwards, backwards, since a position, the position alone, all; and it can be removed."""
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

    def test_unrecoverable(self, server):
        """A position of another epoch is 416, and 112."""
        ok(server, "publish", {"channel": "foo", "data": 1})
        status, answer = api(server, "history", {"channel": "foo", "since": {"offset": 1, "epoch": "other"}})
        assert (status, answer["error"]["code"]) == (416, 112)

    def test_broadcast(self, server):
        """Each channel has a response of its own; one that is refused harms no other, and the status tells of it."""
        with server.open("/ws?channel=a,b") as peer:
            body = {"channels": ["a", "wsserver:x", 5, "b"], "data": "x", "tags": {"t": "1"}}
            status, answer = api(server, "broadcast", body)
            assert [peer.read_frame().payload for _ in range(2)] == [b"x", b"x"]
        responses = answer["result"]["responses"]
        assert status == 400
        assert [one.get("error", {}).get("code") for one in responses] == [None, 107, 107, None]
        assert responses[0]["result"]["offset"] == 1


class PresenceTests:
    """Who is on a channel."""

    def test_presence(self, server):
        """Everyone with what is known, and how many."""
        infos = [ClientInfo("c1", "42", {"name": "Ann"}), ClientInfo("c2", "42"), ClientInfo("c3", "7")]
        for info in infos:
            server.ask(lambda info=info: server.service.hub.presence.join(ChannelName("room"), info))
        wait_until(lambda: len(ok(server, "presence", {"channel": "room"})["presence"]) == 3, "they are there")
        found = ok(server, "presence", {"channel": "room"})["presence"]
        assert found["c1"] == {"client": "c1", "user": "42", "conn_info": {"name": "Ann"}}
        assert ok(server, "presence_stats", {"channel": "room"}) == {"num_clients": 3, "num_users": 2}

    def test_not_available(self, server):
        """A channel of which it is not kept says so."""
        for method in ("presence", "presence_stats"):
            status, answer = api(server, method, {"channel": "foo"})
            assert (status, answer["error"]["code"]) == (400, 108)


class ConnectionTests:
    """What is done with connections."""

    def test_connections(self, server):
        """Who is connected, all or a user's, and on what."""
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
        assert ok(server, "connections", {"user": "nobody"}) == {"connections": {}}

    def test_operations(self, server):
        """Each reaches the clients it names and no others; the answer tells how many."""
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
    def test_nobody_named(self, server, method):
        """Without a user and a client it would be everybody."""
        everyone = join(server, FakeClient("c1", "", ["news"]))
        for body in ({}, {"user": ""}, {"user": "", "client": None}):
            status, answer = api(server, method, {"channel": "news", **body})
            assert (status, answer["error"]["code"]) == (400, 107)
        assert everyone.done == []

    def test_info(self, server):
        """What is known of each process."""
        with server.open("/ws?channel=a,b"):
            (node,) = ok(server, "info", {})["nodes"]
        assert node["uid"]
        assert node["name"]
        assert (node["num_channels"], node["num_subs"]) == (2, 2)

    def test_two_processes(self, start_server, redis):
        """Two servers on one Redis answer as one."""
        one, two = (up(start_server(api_key=KEY, redis=redis.url)) for _ in range(2))
        here, there = join(one, FakeClient("c1", "42")), join(two, FakeClient("c2", "42"))
        wait_until(lambda: len(ok(one, "info", {})["nodes"]) == 2, "both are known")
        with one.open("/ws?channel=foo"), two.open("/ws?channel=foo,bar"):
            counts = {"bar": {"num_clients": 1}, "foo": {"num_clients": 2}}
            assert ok(one, "channels", {}) == {"channels": counts}
        assert {"c1", "c2"} <= set(ok(two, "connections", {})["connections"])
        assert ok(two, "disconnect", {"user": "42"}) == {"clients": 2}
        assert here.done == there.done == [("disconnect", 3503, "force disconnect")]

    def test_waits_for_no_answer_of_a_process_that_has_stopped(self, start_server, redis, log):
        """It has left, so the others need not find out by waiting."""
        one, other = (up(start_server(redis=redis.url, api_key=KEY)) for _ in range(2))
        wait_until(lambda: len(ok(one, "info", {})["nodes"]) == 2, "both are known")
        other.stop()
        assert len(ok(one, "info", {})["nodes"]) == 1
        assert log.lines("wsserver.hub") == []


class BatchTests:
    """Many commands in one request."""

    @pytest.mark.parametrize("parallel", [False, True])
    def test_batch(self, server, parallel):
        """Each has its reply, in its place; the status tells that one is wrong."""
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
    def test_many(self, server, parallel):
        """A thousand, most of them wrong, in order."""
        commands = [{"publish": {"channel": "foo", "data": 0}}, *[{"x": {}}] * 998]
        commands.append({"publish": {"channel": "foo", "data": 1}})
        _, answer = api(server, "batch", {"commands": commands, "parallel": parallel})
        assert len(answer["replies"]) == 1000
        assert sum("publish" in reply for reply in answer["replies"]) == 2
        assert answer["replies"][0]["publish"]["offset"] + answer["replies"][-1]["publish"]["offset"] == 3

    @pytest.mark.parametrize(
        "body", [{}, {"commands": []}, {"commands": {}}, {"commands": [{}] * 1001}, {"commands": [], "parallel": 1}]
    )
    def test_wrong(self, server, body):
        """No commands, or too many."""
        assert api(server, "batch", body)[0] == 400


class RefusalTests:
    """Who may call, and how."""

    @pytest.fixture
    def server(self, start_server):
        """Start a server; what is refused does not depend on the broker."""
        return blockon(deferToThread(lambda: start_server(api_key=KEY)))

    @pytest.mark.parametrize(
        "header", [f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}", f"authorization: apikey  {KEY}"]
    )
    def test_key(self, server, header):
        """The key comes in one of three headers."""
        assert api(server, "info", {}, header, key="")[0] == 200

    @pytest.mark.parametrize(
        "header",
        ["X-A: b", "X-API-Key:", f"X-API-Key: {KEY}x", f"Authorization: Basic {KEY}", "Authorization: Bearer"],
    )
    def test_no_key(self, server, header):
        """Anything else is 401, before anything is said about the call."""
        for method in ("info", "nothing"):
            status, answer = api(server, method, b"no JSON", header, key="")
            assert (status, answer["error"]["code"]) == (401, 101)

    def test_key_in_the_query(self, server):
        """A query stands in logs: no key is taken from there."""
        assert api(server, f"info?api_key={KEY}", {}, key="")[0] == 401

    def test_method(self, server):
        """Everything is a POST."""
        with server.connect() as peer:
            for method in ("GET", "PUT", "HEAD"):
                response = peer.request("/api/info", f"X-API-Key: {KEY}", method=method)
                assert (response.status, response.header("allow")) == (405, "POST")
            assert peer.request("/api/info", f"X-API-Key: {KEY}", method="POST", body=b"").status == 200

    def test_too_large(self, server):
        """More than 64 KiB are not read."""
        status = None
        with server.connect() as peer:
            head = f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: 65537\r\n\r\n"
            peer.send(head.encode())
            status = peer.read_response().status
        assert status == 413

    @pytest.mark.parametrize(
        ("method", "body"),
        [
            ("history", {"channel": "foo", "limit": "1"}),
            ("history", {"channel": "foo", "since": 1}),
            ("history", {}),
            ("publish", {"channel": "foo", "data": 1, "tags": {"a": 1}}),
            ("publish", {"channel": "foo", "data": 1, "version": 7}),
            ("publish", {"channel": "foo", "data": 1, "idempotency_key": "x" * 256}),
            ("broadcast", {"channels": ["a"] * 1001, "data": 1}),
            ("broadcast", {"channels": "a", "data": 1}),
            ("channels", {"pattern": "x" * 256}),
            ("connections", {"user": "", "expression": "true"}),
            ("disconnect", {"user": "1", "disconnect": {"code": 1000}}),
            ("disconnect", {"user": "1", "whitelist": [1]}),
            ("subscribe", {"user": "1"}),
            ("subscribe", {"user": "1", "channel": "a", "expire_at": -1}),
            ("presence", {"channel": 1}),
        ],
    )
    def test_parameters(self, server, method, body):
        """A wrong parameter is named."""
        status, answer = api(server, method, body)
        assert (status, answer["error"]["code"]) == (400, 107)
        assert ":" in answer["error"]["message"] or "no data" in answer["error"]["message"]

    def test_unknown_parameters(self, server):
        """Ignored, as Centrifugo does."""
        assert ok(server, "publish", {"channel": "foo", "data": 1, "delta": True, "new": []})["offset"] == 1

    def test_error_modes(self, server, start_server):
        """Centrifugo's way of errors in the status, and its way without."""
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
    def test_no_history(self, start_server, method):
        """A channel that keeps none says so, and gives no offsets."""
        server = start_server(api_key=KEY, history_size=0)
        assert ok(server, "publish", {"channel": "foo", "data": 1}) == {"delivered": 0}
        status, answer = api(server, method, {"channel": "foo"})
        assert (status, answer["error"]["code"]) == (400, 108)

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize(
        ("error", "status", "code"), [(RuntimeError("secret"), 500, 100), (NotPermitted("ACL says no"), 403, 103)]
    )
    def test_failures(self, start_server, log, monkeypatch, late, error, status, code):
        """What goes wrong within is told without its details, what Redis does not permit in its words."""

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
    def test_redis_away(self, start_server, redis, mode):
        """What was not stored is answered with 503 by every method, in every mode, and when to come again."""
        server = up(start_server(api_key=KEY, redis=redis.url, api_errors=mode, channel_presence=("room",)))
        redis.kill()
        wait_until(lambda: api(server, "publish", {"channel": "foo", "data": 1})[0] == 503, "noticed")
        methods = {
            "publish": {"channel": "foo", "data": 1},
            "broadcast": {"channels": ["foo"], "data": 1},
            "batch": {"commands": [{"publish": {"channel": "foo", "data": 1}}]},
            "history": {"channel": "foo"},
            "history_remove": {"channel": "foo"},
            "presence": {"channel": "room"},
            "disconnect": {"user": "42"},
            "channels": {},
            "info": {},
        }
        with server.connect() as peer:
            for method, body in methods.items():
                data = json.dumps(body).encode()
                response = peer.request(f"/api/{method}", f"X-API-Key: {KEY}", method="POST", body=data)
                assert (method, response.status, response.header("retry-after")) == (method, 503, "1")
