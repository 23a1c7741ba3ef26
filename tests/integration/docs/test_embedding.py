"""The examples of the documentation: wsserver inside an application, and a command installed beside it."""

import contextlib
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from paths import EXAMPLES
from peers import CLOSE, TEXT, RawPeer, close_payload, frame, handshake_request
from twistd_process import find_port, twistd
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from wsserver.config.settings import Settings
from wsserver.web.resource import WebSocketResource
from wsserver.wire.protocol import ServerProtocol


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Run the example application; return its two ports by name."""
    directory = tmp_path_factory.mktemp("application")
    words = ("-ny", EXAMPLES / "application.py")
    with twistd(directory, *words, SERVICE_PORT="0", SITE_PORT="0") as output:
        yield {
            "service": find_port(output, r"ws://127\.0\.0\.1:([0-9]+)/"),
            "site": find_port(output, r"Site starting on ([0-9]+)"),
        }


BOTH = pytest.mark.parametrize("where", ["service", "site"])


class ApplicationTests:
    """docs/examples/application.py, run with `twistd -ny`."""

    @BOTH
    def test_shout_replies_and_closes_on_both_ports(self, application, where):
        """The service serves one of the ports, a site of twisted.web the other."""
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")
            peer.send_frame(TEXT, "grüße".encode())
            assert peer.read_message() == "GRÜSSE"
            peer.send_frame(CLOSE, close_payload(3000, "done"))
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (3000, "done")
            assert peer.read_to_end() == b""

    @BOTH
    def test_a_kept_alive_connection_may_become_a_websocket_connection(self, application, where):
        with RawPeer(application[where]) as peer:
            for _ in range(3):
                assert peer.request("/missing").status == 404
                assert peer.request("/shout").status == 426
            peer.handshake("/shout")
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "HELLO"

    @BOTH
    def test_a_handshake_with_a_cookie_in_utf8_is_accepted(self, application, where):
        """twisted.web parses the request on one port; it must not treat 0x85, the last byte of "Å", as a line end."""
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout", "Cookie: name=" + "Å".encode().decode("latin-1"))
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "HELLO"

    @BOTH
    @pytest.mark.parametrize("size", [10, 100_000])
    def test_frames_sent_along_with_the_handshake_are_answered(self, application, where, size):
        with RawPeer(application[where]) as peer:
            peer.send(handshake_request("/shout") + frame(TEXT, b"x" * size) + frame(TEXT, b"second"))
            assert peer.read_response().status == 101
            assert [peer.read_message(), peer.read_message()] == ["X" * size, "SECOND"]
            peer.send_frame(TEXT, b"third")
            assert peer.read_message() == "THIRD"

    @BOTH
    def test_a_message_of_1_mib_is_answered(self, application, where):
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")
            peer.send_frame(TEXT, b"x" * 1024**2)
            assert peer.read_message() == "X" * 1024**2

    @BOTH
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (handshake_request("/shout", without=["Sec-WebSocket-Key"]), 400),
            (handshake_request("/shout", replace={"Sec-WebSocket-Version": "8"}), 426),
            (handshake_request("/shout", "Origin: https://evil.example"), 403),
            (handshake_request("/shout", method="POST"), 405),
            (handshake_request("/shout", version="HTTP/1.0"), 400),
            (handshake_request("/shout", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw=="), 400),
            (handshake_request("/shout", "Host: evil.example"), 400),
            (b"GET /shout HTTP/1.1\r\nHost: a\r\n\r\n", 426),
            (handshake_request("/shout", "Content-Length: 5") + b"hello", 400),
        ],
        ids=["no key", "version 8", "origin", "POST", "HTTP/1.0", "two keys", "two Hosts", "no upgrade", "a body"],
    )
    def test_both_ports_refuse_a_bad_handshake_with_the_same_status(self, application, where, request_bytes, status):
        with RawPeer(application[where]) as peer:
            peer.send(request_bytes)
            assert peer.read_response().status == status

    @BOTH
    def test_both_ports_close_with_1007_on_text_that_is_not_utf8(self, application, where):
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")
            peer.send_frame(TEXT, b"\xff")
            close = peer.read_close()
            assert close.close_code == 1007
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""

    @BOTH
    def test_both_ports_admit_a_page_of_their_own_origin(self, application, where):
        port = application[where]
        with RawPeer(port) as peer:
            host, origin = f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"
            peer.send(handshake_request("/shout", host, origin, without=["Host"]))
            assert peer.read_response().status == 101

    @BOTH
    def test_both_ports_stop_reading_from_a_client_that_does_not_read(self, application, where):
        """The server keeps serving other clients."""
        with RawPeer(application[where], receive_buffer=4096) as peer:
            peer.handshake("/shout")
            peer.socket.settimeout(1)
            sent, data = 0, frame(TEXT, b"x" * 65536)
            with pytest.raises(TimeoutError):
                while sent < 64 * 1024**2:
                    peer.socket.sendall(data)
                    sent += len(data)
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")

    def test_the_service_also_serves_the_page_and_echo(self, application):
        with RawPeer(application["service"]) as peer:
            assert peer.request("/").status == 200
            peer.handshake("/echo")
            assert peer.echoes()


@pytest.fixture(scope="module")
def dice_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Install the example with pip, start a server with it and return its port."""
    directory = tmp_path_factory.mktemp("dice")
    # A build leaves files in its source directory.
    shutil.copytree(EXAMPLES / "dice", directory / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    target = directory / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", target]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", directory / "source"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (target / "twisted" / "__init__.py").exists()
    with twistd(directory, "-n", "wsserver", "--port", "0", PYTHONPATH=str(target)) as output:
        yield find_port(output, r"ws://127\.0\.0\.1:([0-9]+)/")


class DiceTests:
    """docs/examples/dice: a command in a project of its own."""

    def test_roll_replies_with_a_number_up_to_the_sides(self, dice_port):
        with RawPeer(dice_port) as peer:
            peer.handshake("/")
            for text, pattern in (("roll", r"[1-6] of 6"), ("ROLL 20", r"(1?\d|20) of 20"), ("roll x", r"[1-6] of 6")):
                peer.send_frame(TEXT, text.encode())
                assert re.fullmatch(pattern, peer.read_message())

    def test_help_lists_roll(self, dice_port):
        with RawPeer(dice_port) as peer:
            peer.handshake("/")
            peer.send_frame(TEXT, b"help")
            assert "\nroll: roll a die" in peer.read_message()

    def test_server_json_lists_roll(self, dice_port):
        with RawPeer(dice_port) as peer:
            about = json.loads(peer.request("/server.json").body)
        assert "roll" in [command["name"] for command in about["commands"]]


class ChannelTests:
    """How an application uses the channels of its service."""

    def test_the_snippet_publishes_text_bytes_and_json(self, start_server):
        """The snippet is from docs/how-to/embedding.md."""
        server = start_server()
        page = (EXAMPLES.parent / "how-to" / "embedding.md").read_text()
        (snippet,) = re.findall(r"```python\n(# A text\..*?)```", page, re.DOTALL)
        with server.open("/ws?channel=news") as peer:
            server.ask(lambda: exec(snippet, {"service": server.service}))
            assert [peer.read_frame().payload for _ in range(3)] == [b"hello", b"\x00\x01", b'{"n": 1.10}']
        receipt = server.ask(lambda: server.service.hub.publish("news", b"x"))
        assert (receipt.position.offset, receipt.delivered) == (4, 0)


class RoomProtocol(ServerProtocol):
    """Reply with the room's name."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self.room = room

    def onMessage(self, payload, isBinary):
        self.sendMessage(self.room.encode())


class CallableEndpointTests:
    """An endpoint with constructor arguments."""

    ENDPOINT = staticmethod(functools.partial(RoomProtocol, room="attic"))

    def check(self, port):
        """Check the endpoint's reply and its message size limit."""
        with RawPeer(port) as peer:
            peer.handshake("/room")
            peer.send_frame(TEXT, b"?" * 10)
            assert peer.read_message() == "attic"
            peer.send_frame(TEXT, b"?" * 11)
            assert peer.read_close().close_code == 1009

    def test_a_service_serves_the_partial(self, start_server):
        self.check(start_server({"/room": self.ENDPOINT}, max_message_size=10).port)

    def test_a_twisted_web_resource_serves_the_partial(self, server):
        with serve_in_site(server, self.ENDPOINT) as port:
            self.check(port)


@contextlib.contextmanager
def serve_in_site(server, endpoint):
    """Serve an endpoint at `/room` in a site of `twisted.web`; return the port."""

    def listen():
        root = Resource()
        root.putChild(b"room", WebSocketResource(endpoint, Settings(max_message_size=10), reactor))
        return reactor.listenTCP(0, Site(root), interface="127.0.0.1"), root.children[b"room"]

    port, resource = server.ask(listen)
    try:
        yield port.getHost().port
    finally:
        server.ask(lambda: resource.connections.drain)
        server.ask(resource.connections.deadlines.stop)
        server.ask(port.stopListening)


class HandshakeProtocol(ServerProtocol):
    """Reply with a query parameter and a header of the opening handshake."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(f"{self.request.query['key']} {self.request.host}".encode())


class OpeningHandshakeTests:
    """The property `request` of an open connection."""

    def check(self, port):
        """Check the values that the endpoint reads from its handshake."""
        with RawPeer(port) as peer:
            peer.handshake("/room?key=value")
            peer.send_frame(TEXT, b"?")
            assert peer.read_message().startswith("['value'] ")

    def test_an_endpoint_of_a_service_reads_it(self, start_server):
        self.check(start_server({"/room": HandshakeProtocol}).port)

    def test_an_endpoint_in_a_site_of_twisted_web_reads_it(self, server):
        with serve_in_site(server, HandshakeProtocol) as port:
            self.check(port)
