"""Unknown WebSocket paths: the catch-all, the nearest path, and channels at paths that do not serve them."""

from difflib import SequenceMatcher

import pytest

from wsserver.config.settings import Settings
from wsserver.endpoints import unknown_paths
from wsserver.endpoints.unknown_paths import MAX_COMPARED, decide_catch_all, find_nearest_path, names_channel
from wsserver.testing import MemoryServer
from wsserver.wire.protocol import ServerProtocol

KNOWN = ["/", "/echo", "/ws", "/ticker", "/connection/websocket"]
MODES = ["on", "off"]


def handshake(target, **settings):
    """Open a WebSocket; return status and sentence of the answer, which has none if it is accepted."""
    client = MemoryServer(Settings(channel_allow=("*",), **settings)).connect()
    status = int(client.open(target).split()[1])
    return status, client.transport.written.decode().rstrip("\n").partition("\n")[2] if status != 101 else ""


class DecisionTests:
    """`--catch-all`."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("loopback_only", [True, False])
    @pytest.mark.parametrize("redis", ["", "redis://127.0.0.1"])
    def test_on_and_off_hold_whatever_else_is_set(self, mode, loopback_only, redis):
        """Neither listeners nor channels matter."""
        found = decide_catch_all(Settings(catch_all=mode, redis=redis), loopback_only=loopback_only)
        assert (found.enabled, found.reason) == (mode == "on", f"--catch-all {mode}")

    def test_auto_is_on_for_a_loopback_server_without_channel_options(self):
        """A server started with no options serves the tutorials."""
        assert decide_catch_all(Settings(), loopback_only=True).enabled

    def test_auto_is_off_beyond_loopback(self):
        """And the reason says so."""
        found = decide_catch_all(Settings(), loopback_only=False)
        assert not found.enabled
        assert "beyond loopback" in found.reason

    @pytest.mark.parametrize(
        "option",
        [
            {"redis": "redis://:hush@127.0.0.1"},
            {"api_key": "hush"},
            {"token_secret": "hush" * 8},
            {"token_public_key": "/etc/hush.pem"},
            {"token_jwks_url": "https://example.com/hush"},
            {"hook_connect": "http://127.0.0.1/hush"},
            {"hook_subscribe": "http://127.0.0.1/hush"},
            {"hook_publish": "http://127.0.0.1/hush"},
            {"hook_disconnect": "http://127.0.0.1/hush"},
        ],
        ids=lambda option: next(iter(option)),
    )
    def test_auto_is_off_where_channels_are_in_use_and_names_the_option_without_its_value(self, option):
        """No secret is in the reason."""
        found = decide_catch_all(Settings(**option), loopback_only=True)
        assert not found.enabled
        assert f"--{next(iter(option)).replace('_', '-')} is set" in found.reason
        assert "hush" not in found.reason


class NearestTests:
    """Which path a client meant."""

    @pytest.mark.parametrize(
        ("path", "nearest"),
        [
            ("/WS", "/ws"),
            ("//ws", "/ws"),
            ("/ws//", "/ws"),
            ("/app/ws", "/ws"),
            ("/ws/chat", "/ws"),
            ("/wss", "/ws"),
            ("/Echo", "/echo"),
            ("/ehco", "/echo"),
            ("/tick", "/ticker"),
            ("/connection/websockett", "/connection/websocket"),
            ("/Connection/WebSocket", "/connection/websocket"),
            ("/connection//websocket", "/connection/websocket"),
            ("/centrifugo/connection/websocket", "/connection/websocket"),
            ("/connection/uni_websocket", "/connection/websocket"),
            ("/chat", None),
            ("/websocket/server.php", None),
            ("/é", None),
            ("/", None),
            ("//", None),
        ],
    )
    def test_case_slashes_segments_and_spelling(self, path, nearest):
        """A path that resembles none has no nearest one."""
        assert find_nearest_path(path, KNOWN) == nearest

    def test_a_path_longer_than_the_limit_is_compared_with_none(self, monkeypatch):
        """Comparing is quadratic, and a path may have many kilobytes."""
        compared = []
        monkeypatch.setattr(unknown_paths, "get_close_matches", lambda path, *_, **__: compared.append(path) or [])
        for path in ("/" + "s" * (MAX_COMPARED - 1), "/" + "s" * MAX_COMPARED, "/ws" * 5000):
            assert find_nearest_path(path, KNOWN) is None
        assert compared == ["/" + "s" * (MAX_COMPARED - 1)]


class RefusalTests:
    """What a client at a wrong path gets."""

    @pytest.mark.parametrize(
        ("path", "sentence"),
        [
            ("/WS", "no WebSocket endpoint at '/WS'; did you mean /ws?"),
            ("//ws", "no WebSocket endpoint at '//ws'; did you mean /ws?"),
            ("/app/ws", "no WebSocket endpoint at '/app/ws'; did you mean /ws?"),
            ("/chat", "no WebSocket endpoint at '/chat'"),
            ("/%C3%A9%0A", "no WebSocket endpoint at '/%C3%A9%0A'"),
        ],
    )
    def test_without_the_catch_all_a_404_names_the_nearest_path(self, path, sentence):
        """The path is shown as in a URL."""
        assert handshake(path, catch_all="off") == (404, sentence)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("path", ["/connection/websockett", "/Connection/websocket", "/app/connection/websocket"])
    def test_a_misspelled_path_of_the_sdks_is_refused_in_every_mode(self, mode, path):
        """An SDK would take echoes of its commands for replies."""
        sentence = f"no WebSocket endpoint at '{path}'; did you mean /connection/websocket?"
        assert handshake(path, catch_all=mode) == (404, sentence)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "target",
        [
            "/?channel=a",
            "/?Channel=a",
            "/?chanel=a",
            "/?channels=a",
            "/?channel",
            "/echo?channel=a",
            "/echo/?channel=a",
            "/ticker?channel=a",
            "/ticker?every=1s&channel=a",
            "/connection/websockett?channel=a",
            "/WS?channel=a",
            "//ws?channel=a",
            "/app/ws?channel=a",
            "/ws/chat?channel=a",
            "/anything?chanel=a",
            "/sse?channel=a",
        ],
    )
    def test_a_channel_at_a_path_that_serves_none_is_400_in_every_mode(self, mode, target):
        """The sentence names the path that serves channels."""
        path = target.partition("?")[0].rstrip("/") or "/"
        assert handshake(target, catch_all=mode) == (
            400,
            f"'{path}' does not serve channels; connect to /ws?channel=NAME",
        )

    def test_the_endpoint_of_the_sdks_says_how_to_subscribe(self):
        """It serves channels, but not by its URL."""
        status, sentence = handshake("/connection/websocket?channel=a")
        assert (status, sentence.partition(" takes ")[2]) == (
            400,
            "no channel= in its URL; subscribe with an SDK, or connect to /ws?channel=NAME",
        )

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "target",
        [
            "/ws?channel=a",
            "/ws/?channel=a",
            "/?q=1",
            "/echo?changes=1",
            "/connection/websocket?cf_protocol_version=v2",
            "/connection/websocket?format=json&channel_id=7&chan=1",
        ],
    )
    def test_other_queries_are_accepted(self, mode, target):
        """Parameters of an SDK's URL are left alone, whatever they resemble."""
        assert handshake(target, catch_all=mode)[0] == 101

    def test_an_endpoint_of_the_application_reads_its_own_query(self):
        """Also if it takes the place of a built-in one."""
        for path in ("/rooms", "/ws", "/echo"):
            server = MemoryServer(endpoints={path: ServerProtocol})
            assert server.connect().open(f"{path}?channel=a").startswith(b"HTTP/1.1 101 ")
        client = MemoryServer(endpoints={"/ws": ServerProtocol}).connect()
        client.open("/?channel=a")
        assert client.transport.written.endswith(b"\n'/' does not serve channels\n")

    def test_only_names_about_as_long_as_channel_are_compared_in_full(self, monkeypatch):
        """A head of 16 KiB has thousands of names, or one very long one; neither costs more than its length."""
        compared = []
        ratio = SequenceMatcher.ratio
        monkeypatch.setattr(SequenceMatcher, "ratio", lambda self: compared.append(self.a) or ratio(self))
        assert not names_channel(["x" * 16_000, "channel" * 2000, *(f"x{number}" for number in range(4000))])
        assert compared == []
        assert not names_channel(["lennahc"])
        assert compared == ["lennahc"]

    @pytest.mark.parametrize(
        ("path", "hint"), [("/SSE", "/sse"), ("/app/sse", "/sse"), ("/redy", "/ready"), ("/Echo", "/echo")]
    )
    def test_a_page_that_is_not_there_names_the_nearest_path(self, path, hint):
        """EventSource and curl get the same help."""
        client = MemoryServer().connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.response().startswith(b"HTTP/1.1 404 ")
        assert client.transport.written.decode().endswith(f"no page at '{path}'; the nearest one is {hint}\n")
