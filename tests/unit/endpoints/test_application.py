"""Endpoints of an application: classes, callables, exact paths and prefixes."""

import functools

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from wsserver.config.settings import Settings
from wsserver.service import WebSocketService
from wsserver.testing import MemoryServer, build_frame
from wsserver.wire.protocol import ServerProtocol


class RoomProtocol(ServerProtocol):
    """Answers each message with its arguments, its prefix and the path below it."""

    def __init__(self, room="-", *, size=0):
        super().__init__()
        self.room, self.size = room, size

    def onMessage(self, payload, isBinary):
        self.sendMessage(f"{self.room} {self.size} {self.mounted_at}:{self.subpath}".encode())


class NeedyProtocol(ServerProtocol):
    """An endpoint whose constructor requires an argument."""

    def __init__(self, room):
        super().__init__()


class OtherProtocol(RoomProtocol):
    """An endpoint of another class."""


def ask(server, path):
    client = server.connect()
    assert client.open(path).startswith(b"HTTP/1.1 101"), path
    client.send_text("?")
    (message,) = client.messages()
    return message


class PrefixTests:
    """A path with a trailing slash covers all paths below it."""

    @pytest.mark.parametrize(
        ("path", "answer"),
        [
            ("/chat", "prefix 0 /chat/:"),
            ("/chat/", "prefix 0 /chat/:"),
            ("/chat/lobby", "prefix 0 /chat/:lobby"),
            ("/chat/lobby/", "prefix 0 /chat/:lobby"),
            ("/chat/a/b?x=1", "prefix 0 /chat/:a/b"),
            ("/chat/gr%C3%BC%C3%9Fe%20b", "prefix 0 /chat/:grüße b"),
            ("/chat/vip", "exact 0 :"),
            ("/chat/vip/", "exact 0 :"),
            ("/chat/vip/x", "prefix 0 /chat/:vip/x"),
            ("/chat/long/x", "longer 0 /chat/long/:x"),
            ("/chat/long", "longer 0 /chat/long/:"),
            ("/chat/longer", "prefix 0 /chat/:longer"),
        ],
    )
    def test_an_exact_path_takes_precedence_and_then_the_longest_prefix(self, path, answer):
        endpoints = {
            "/chat/": functools.partial(RoomProtocol, "prefix"),
            "/chat/vip": functools.partial(RoomProtocol, "exact"),
            "chat/long/": functools.partial(RoomProtocol, "longer"),
        }
        assert ask(MemoryServer(Settings(catch_all="off"), endpoints=endpoints), path) == answer

    @pytest.mark.parametrize("path", ["/chat/lobby", "/chatter", "/", "/cha"])
    def test_covers_neither_paths_below_an_exact_path_nor_longer_names(self, path):
        server = MemoryServer(Settings(catch_all="on"), endpoints={"/chat": RoomProtocol, "/chatt/": RoomProtocol})
        client = server.connect()
        client.open(path)
        client.send_text("?")
        assert client.messages() == ["?"]

    def test_a_class_at_two_prefixes_gets_the_prefix_of_each_connection(self):
        server = MemoryServer(endpoints={"/a/": RoomProtocol, "/b/": RoomProtocol})
        assert [ask(server, path) for path in ("/a/x", "/b/y")] == ["- 0 /a/:x", "- 0 /b/:y"]

    def test_an_exact_path_and_the_prefix_of_the_same_name_coexist(self):
        endpoints = {"/a": functools.partial(RoomProtocol, "exact"), "/a/": functools.partial(RoomProtocol, "below")}
        server = MemoryServer(endpoints=endpoints)
        assert [ask(server, path) for path in ("/a", "/a/", "/a/b")] == ["exact 0 :", "exact 0 :", "below 0 /a/:b"]

    @pytest.mark.parametrize("path", ["/chat", "/chat/", "/chat/lobby", "/chat/a/b?c=d"])
    def test_plain_http_below_a_prefix_gets_426(self, path):
        client = MemoryServer(Settings(catch_all="off"), endpoints={"/chat/": RoomProtocol}).connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.response().startswith(b"HTTP/1.1 426 ")
        assert b"accepts WebSocket connections only" in client.transport.written

    def test_plain_http_beside_a_prefix_gets_404(self):
        client = MemoryServer(Settings(), endpoints={"/chat/": RoomProtocol}).connect()
        client.send(b"GET /chatter HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().startswith(b"HTTP/1.1 404 ")

    def test_is_listed_among_the_paths_of_the_endpoints(self):
        assert "/chat/" in MemoryServer(endpoints={"/chat/": RoomProtocol}).service.endpoints.paths


class CallableTests:
    """An endpoint may be a callable that returns a new instance for each connection."""

    @pytest.mark.parametrize(
        "endpoint",
        [
            functools.partial(RoomProtocol, room="x", size=3),
            lambda: RoomProtocol("x", size=3),
        ],
    )
    def test_passes_its_arguments_and_the_server_options_to_the_connection(self, endpoint):
        server = MemoryServer(Settings(max_message_size=10, ping_interval=7), endpoints={"/room": endpoint})
        client = server.connect()
        client.open("/room")
        client.send_text("1234567890")
        assert client.messages() == ["x 3 :"]
        server.clock.pump([1] * 8)
        assert [frame.opcode for frame in client.frames()] == [9]
        client.send_text("12345678901")
        assert client.close_frame()[0] == 1009

    def test_closes_with_1009_when_fragments_exceed_max_message_size(self):
        server = MemoryServer(Settings(max_message_size=10), endpoints={"/room": lambda: RoomProtocol("x")})
        client = server.connect()
        client.open("/room")
        client.send(build_frame(1, b"123456", fin=False) + build_frame(0, b"78901"))
        assert client.close_frame()[0] == 1009

    def test_may_return_an_instance_of_another_class_for_each_connection(self):
        made = iter([RoomProtocol("1"), OtherProtocol("2"), RoomProtocol("3")])
        server = MemoryServer(endpoints={"/room": lambda: next(made)})
        assert [ask(server, "/room") for _ in range(3)] == ["1 0 :", "2 0 :", "3 0 :"]

    def test_serves_two_servers_with_the_settings_of_each(self):
        endpoints = {"/room": functools.partial(RoomProtocol, "x")}
        small, large = (MemoryServer(Settings(max_message_size=size), endpoints=endpoints) for size in (1, 1000))
        assert ask(large, "/room") == ask(small, "/room") == "x 0 :"
        client = small.connect()
        client.open("/room")
        client.send_text("12")
        assert client.close_frame()[0] == 1009


class FailingCallableTests(TestCase):
    """A callable that fails for a connection: the client gets 500, and the error is logged with its traceback."""

    def refused(self, make, kind, text):
        server = MemoryServer(endpoints={"/room": make})
        for _ in range(2):
            client = server.connect()
            response = client.open("/room")
        assert response.startswith(b"HTTP/1.1 500 ")
        failures = self.flushLoggedErrors(kind)
        assert text in str(failures[-1].value)
        return len(failures)

    def test_answers_500_and_logs_the_error_that_it_raises(self):
        assert self.refused(lambda: {}["x"], KeyError, "x") == 2

    def test_answers_500_if_it_does_not_return_a_protocol(self):
        assert self.refused(lambda: None, TypeError, "endpoint '/room': expected an instance of ServerProtocol") == 2

    def test_answers_500_if_it_returns_the_same_instance_again(self):
        one = RoomProtocol()
        assert self.refused(lambda: one, TypeError, "expected a new instance for each connection") == 1


class ServiceTests:
    """The `service` attribute of an endpoint."""

    @pytest.mark.parametrize("how", [lambda kind: kind, functools.partial, lambda kind: lambda: kind(*())])
    def test_is_the_service_of_the_server_and_not_a_class_attribute(self, how):
        seen = []

        class Publisher(ServerProtocol):
            def onMessage(self, payload, isBinary):
                seen.append(self.service)
                self.service.hub.publish("news", payload)

        server = MemoryServer(Settings(channel_allow=("news",)), endpoints={"/publish": how(Publisher)})
        subscriber, client = server.connect(), server.connect()
        subscriber.open("/ws?channel=news")
        client.open("/publish")
        client.send_text("hello")
        server.clock.advance(0)
        assert subscriber.messages() == ["hello"]
        assert seen == [server.service]
        assert not hasattr(Publisher, "service")

    def test_is_set_before_the_handshake_is_answered(self):
        class Greeter(ServerProtocol):
            def onConnect(self, request):
                return None, {"X-Channels": str(len(self.service.hub.counts()))}

        assert b"X-Channels: 0" in MemoryServer(endpoints={"/g": Greeter}).connect().open("/g")


class InvalidEndpointTests:
    """Invalid endpoints are refused when the service is made."""

    @pytest.mark.parametrize(
        ("endpoints", "error", "problem"),
        [
            ({"/a": 5}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol, or a callable"),
            ({"/a": None}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol, or a callable"),
            ({"/a": RoomProtocol()}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol"),
            ({"/a": Factory()}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol"),
            ({"/a": dict}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol"),
            ({"/a": functools.partial(dict)}, TypeError, "endpoint '/a': expected a subclass of ServerProtocol"),
            (
                {"/a": functools.partial(RoomProtocol, x=1)},
                TypeError,
                "endpoint '/a': .*RoomProtocol.* unexpected keyword argument 'x'",
            ),
            ({"/a": NeedyProtocol}, TypeError, "missing a required argument: 'room'; functools.partial holds"),
            ({"/a": lambda room: RoomProtocol(room, size=1)}, TypeError, "missing a required argument: 'room'"),
            ({5: RoomProtocol}, TypeError, "endpoint 5: expected a path such as '/chat'"),
            ({"/a?b": RoomProtocol}, ValueError, r"endpoint '/a\?b': expected a path"),
            ({"/a//b": RoomProtocol}, ValueError, "endpoint '/a//b': expected a path"),
            ({"/a": RoomProtocol, "a": RoomProtocol}, ValueError, "endpoint 'a': the path is given twice"),
        ],
    )
    def test_raises_an_error_that_names_the_problem(self, endpoints, error, problem):
        with pytest.raises(error, match=problem):
            WebSocketService(Settings(), Clock(), endpoints=endpoints)


class OwnEndpointTests:
    """The path of an endpoint."""

    @pytest.mark.parametrize("path", ["/mine", "mine", "/mine/", "/"])
    def test_is_served_with_any_slashes_at_its_ends_and_listed_in_server_json(self, path):
        from wsserver.endpoints.echo import EchoProtocol

        server = MemoryServer(endpoints={path: EchoProtocol})
        client = server.connect()
        client.open("/" + path.strip("/"))
        client.send_text("name")
        assert client.messages() == ["name"]
        other = server.connect()
        other.send(b"GET /server.json HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'"path": "/%s"' % path.removeprefix("/").encode() in other.transport.written
