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
    """Open a WebSocket; return the status and the reason of the response, which is empty if the request is accepted."""
    client = MemoryServer(Settings(channel_allow=("*",), **settings)).connect()
    status = int(client.open(target).split()[1])
    return status, client.transport.written.decode().rstrip("\n").partition("\n")[2] if status != 101 else ""


class DecisionTests:
    """`--catch-all`."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("loopback_only", [True, False])
    @pytest.mark.parametrize("redis", ["", "redis://127.0.0.1"])
    def test_on_and_off_apply_whatever_the_listeners_and_redis_are(self, mode, loopback_only, redis):
        found = decide_catch_all(Settings(catch_all=mode, redis=redis), loopback_only=loopback_only)
        assert (found.enabled, found.reason) == (mode == "on", f"--catch-all {mode}")

    def test_auto_is_on_for_a_loopback_server_without_channel_options(self):
        """A server started with no options serves the tutorials."""
        assert decide_catch_all(Settings(), loopback_only=True).enabled

    def test_auto_is_off_beyond_loopback_and_the_reason_says_so(self):
        found = decide_catch_all(Settings(), loopback_only=False)
        assert not found.enabled
        assert "other machines can reach" in found.reason

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
    def test_auto_is_off_with_a_channel_option_that_the_reason_names(self, option):
        """The refusal does not contain the option's value, which may be a secret."""
        found = decide_catch_all(Settings(**option), loopback_only=True)
        assert not found.enabled
        assert f"--{next(iter(option)).replace('_', '-')} is set" in found.reason
        assert "hush" not in found.reason


class NearestTests:
    """The nearest path to an unknown one."""

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
    def test_is_found_despite_case_slashes_segments_and_misspellings(self, path, nearest):
        """A path that resembles no known path has no nearest one."""
        assert find_nearest_path(path, KNOWN) == nearest

    def test_is_not_searched_for_a_path_longer_than_the_limit(self, monkeypatch):
        """The time of a comparison is quadratic in the length, and a path may have many kilobytes."""
        compared = []
        monkeypatch.setattr(unknown_paths, "get_close_matches", lambda path, *_, **__: compared.append(path) or [])
        for path in ("/" + "s" * (MAX_COMPARED - 1), "/" + "s" * MAX_COMPARED, "/ws" * 5000):
            assert find_nearest_path(path, KNOWN) is None
        assert compared == ["/" + "s" * (MAX_COMPARED - 1)]


class RefusalTests:
    """Responses to a request for a wrong path."""

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/WS", "no WebSocket endpoint at '/WS'; did you mean /ws?"),
            ("//ws", "no WebSocket endpoint at '//ws'; did you mean /ws?"),
            ("/app/ws", "no WebSocket endpoint at '/app/ws'; did you mean /ws?"),
            ("/chat", "no WebSocket endpoint at '/chat'; see --catch-all"),
            ("/%C3%A9%0A", "no WebSocket endpoint at '/%C3%A9%0A'; see --catch-all"),
        ],
    )
    def test_names_the_nearest_path_with_404_without_the_catch_all(self, path, reason):
        """The path is quoted as it is in the URL."""
        assert handshake(path, catch_all="off") == (404, reason)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("path", ["/connection/websockett", "/Connection/websocket", "/app/connection/websocket"])
    def test_refuses_a_misspelled_path_of_the_sdks_with_404_in_every_mode(self, mode, path):
        """An SDK would parse echoes of its commands as replies."""
        reason = f"no WebSocket endpoint at '{path}'; did you mean /connection/websocket?"
        assert handshake(path, catch_all=mode) == (404, reason)

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
        ],
    )
    def test_refuses_a_channel_at_other_paths_with_400_in_every_mode(self, mode, target):
        """The reason names the path that serves channels."""
        path = target.partition("?")[0].rstrip("/") or "/"
        assert handshake(target, catch_all=mode) == (
            400,
            f"'{path}' does not serve channels; connect to /ws?channel=NAME",
        )

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("target", ["/sse?channel=a", "/sse/?chanel=a"])
    def test_refuses_a_websocket_at_the_path_of_server_sent_events_with_400(self, mode, target):
        """The path does serve channels, but over HTTP."""
        assert handshake(target, catch_all=mode) == (
            400,
            "'/sse' sends Server-Sent Events over HTTP and accepts no WebSocket; connect to /ws?channel=NAME",
        )

    def test_refuses_a_channel_in_the_url_of_the_sdks_with_400(self):
        """The reason says how to subscribe."""
        status, reason = handshake("/connection/websocket?channel=a")
        assert (status, reason.partition(" accepts ")[2]) == (
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
    def test_accepts_channels_at_ws_and_other_parameters_elsewhere(self, mode, target):
        """At the path of the SDKs, even parameters that resemble `channel` are accepted."""
        assert handshake(target, catch_all=mode)[0] == 101

    def test_accepts_a_channel_at_an_endpoint_of_the_application(self):
        """The application's endpoint may replace a built-in endpoint at its path."""
        for path in ("/rooms", "/ws", "/echo"):
            server = MemoryServer(endpoints={path: ServerProtocol})
            assert server.connect().open(f"{path}?channel=a").startswith(b"HTTP/1.1 101 ")
        client = MemoryServer(endpoints={"/ws": ServerProtocol}).connect()
        client.open("/?channel=a")
        assert client.transport.written.endswith(b"\n'/' does not serve channels\n")

    def test_compares_only_parameter_names_about_as_long_as_channel(self, monkeypatch):
        """
        A request head of 16 KiB may contain thousands of names, or one very long name.

        Comparing either must be cheap.
        """
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
    def test_names_the_nearest_page_with_404_for_an_http_request(self, path, hint):
        """Clients such as EventSource and curl get the same help as WebSocket clients."""
        client = MemoryServer().connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.response().startswith(b"HTTP/1.1 404 ")
        assert client.transport.written.decode().endswith(f"no page at '{path}'; the nearest one is {hint}\n")
