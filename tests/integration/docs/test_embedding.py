"""The examples of the documentation: wsserver inside an application, and a command installed beside it."""

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
    """Run the example application; give its two ports by name."""
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
    def test_the_endpoint_answers_on_both_ports(self, application, where):
        """/shout is served by the service and by the site."""
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")
            peer.send_frame(TEXT, "grüße".encode())
            assert peer.read_message() == "GRÜSSE"
            peer.send_frame(CLOSE, close_payload(3000, "done"))
            close = peer.read_close()
            assert (close.close_code, close.close_reason) == (3000, "done")
            assert peer.read_to_end() == b""

    @BOTH
    def test_after_requests_on_the_same_connection(self, application, where):
        """A kept-alive connection may become a WebSocket connection."""
        with RawPeer(application[where]) as peer:
            for _ in range(3):
                assert peer.request("/missing").status == 404
                assert peer.request("/shout").status == 426
            peer.handshake("/shout")
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "HELLO"

    @BOTH
    def test_a_cookie_in_utf8_is_accepted(self, application, where):
        """Also where twisted.web has parsed the head: 0x85, half of "Å", ends no line."""
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout", "Cookie: name=" + "Å".encode().decode("latin-1"))
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "HELLO"

    @BOTH
    @pytest.mark.parametrize("size", [10, 100_000])
    def test_frames_together_with_the_handshake(self, application, where, size):
        """Frames that come in the same segments as the handshake reach the endpoint, also long ones."""
        with RawPeer(application[where]) as peer:
            peer.send(handshake_request("/shout") + frame(TEXT, b"x" * size) + frame(TEXT, b"second"))
            assert peer.read_response().status == 101
            assert [peer.read_message(), peer.read_message()] == ["X" * size, "SECOND"]
            peer.send_frame(TEXT, b"third")
            assert peer.read_message() == "THIRD"

    @BOTH
    def test_a_large_message(self, application, where):
        """1 MiB goes there and back."""
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
    def test_bad_handshakes_are_refused_in_the_same_way(self, application, where, request_bytes, status):
        """The rules of the handshake hold on both ports."""
        with RawPeer(application[where]) as peer:
            peer.send(request_bytes)
            assert peer.read_response().status == status

    @BOTH
    def test_protocol_errors_are_closed_in_the_same_way(self, application, where):
        """The rules of the protocol hold on both ports."""
        with RawPeer(application[where]) as peer:
            peer.handshake("/shout")
            peer.send_frame(TEXT, b"\xff")
            close = peer.read_close()
            assert close.close_code == 1007
            peer.send_frame(CLOSE, close.payload)
            assert peer.read_to_end() == b""

    @BOTH
    def test_an_own_page_may_connect(self, application, where):
        """A page of the same host and port may connect on both ports."""
        port = application[where]
        with RawPeer(port) as peer:
            host, origin = f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"
            peer.send(handshake_request("/shout", host, origin, without=["Host"]))
            assert peer.read_response().status == 101

    @BOTH
    def test_a_client_that_does_not_read_is_not_read_from(self, application, where):
        """Back-pressure holds on both ports: the server stops taking what it cannot give back."""
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

    def test_the_rest_of_the_server_is_there(self, application):
        """The service has its page, its commands and its echo."""
        with RawPeer(application["service"]) as peer:
            assert peer.request("/").status == 200
            peer.handshake("/echo")
            assert peer.echoes()


@pytest.fixture(scope="module")
def dice_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Install the example with pip, start a server beside it and give its port."""
    directory = tmp_path_factory.mktemp("dice")
    # A build leaves files beside what it builds.
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

    def test_it_answers(self, dice_port):
        """`roll` rolls, with and without a number of sides."""
        with RawPeer(dice_port) as peer:
            peer.handshake("/")
            for text, pattern in (("roll", r"[1-6] of 6"), ("ROLL 20", r"(1?\d|20) of 20"), ("roll x", r"[1-6] of 6")):
                peer.send_frame(TEXT, text.encode())
                assert re.fullmatch(pattern, peer.read_message())

    def test_it_is_in_help(self, dice_port):
        """`help` lists it."""
        with RawPeer(dice_port) as peer:
            peer.handshake("/")
            peer.send_frame(TEXT, b"help")
            assert "\nroll: rolls a die" in peer.read_message()

    def test_the_page_is_told(self, dice_port):
        """/server.json lists it."""
        with RawPeer(dice_port) as peer:
            about = json.loads(peer.request("/server.json").body)
        assert "roll" in [command["name"] for command in about["commands"]]


class ChannelTests:
    """What an application does with the channels of its service."""

    def test_publish(self, start_server):
        """As docs/how-to/embedding.md writes it."""
        server = start_server()
        page = (EXAMPLES.parent / "how-to" / "embedding.md").read_text()
        (snippet,) = re.findall(r"```python\n(# A text\.\n.*?)```", page, re.DOTALL)
        with server.open("/ws?channel=news") as peer:
            server.ask(lambda: exec(snippet, {"service": server.service}))
            assert [peer.read_frame().payload for _ in range(3)] == [b"hello", b"\x00\x01", b'{"n": 1.10}']
        receipt = server.ask(lambda: server.service.hub.publish("news", b"x"))
        assert (receipt.position.offset, receipt.delivered) == (4, 0)


class RoomProtocol(ServerProtocol):
    """Answer with the name of the room that it was made for."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self.room = room

    def onMessage(self, payload, isBinary):
        """Answer."""
        self.sendMessage(self.room.encode())


class CallableEndpointTests:
    """An endpoint with constructor arguments."""

    ENDPOINT = staticmethod(functools.partial(RoomProtocol, room="attic"))

    def check(self, port):
        """Talk to the endpoint, up to its limit on messages."""
        with RawPeer(port) as peer:
            peer.handshake("/room")
            peer.send_frame(TEXT, b"?" * 10)
            assert peer.read_message() == "attic"
            peer.send_frame(TEXT, b"?" * 11)
            assert peer.read_close().close_code == 1009

    def test_a_service_serves_it(self, start_server):
        """By a path of a service."""
        self.check(start_server({"/room": self.ENDPOINT}, max_message_size=10).port)

    def test_a_resource_serves_it(self, server):
        """In a site of twisted.web."""

        def listen():
            root = Resource()
            root.putChild(b"room", WebSocketResource(self.ENDPOINT, Settings(max_message_size=10), reactor))
            return reactor.listenTCP(0, Site(root), interface="127.0.0.1"), root.children[b"room"]

        port, resource = server.ask(listen)
        self.check(port.getHost().port)
        server.ask(lambda: resource.connections.close_all(1001, "the server is stopping"))
        server.ask(resource.connections.deadlines.stop)
        server.ask(port.stopListening)
