"""`hub.listen`: the chat server of the documentation with real clients, and outages of a real Redis."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import websockets.sync.client
from node import install_node_packages
from paths import EXAMPLES
from peers import BINARY, TEXT, RawPeer, handshake_request
from twistd_process import find_port, twistd
from waiting import TIMEOUT, wait_until

NODE_CLIENT = """
const WebSocket = require("ws");
const [url, text, count] = process.argv.slice(1);
const socket = new WebSocket(url);
const seen = [];
socket.on("open", () => { socket.send(text); });
socket.on("message", (data, isBinary) => {
  seen.push(isBinary ? "binary" : data.toString());
  if (seen.length == count) socket.close(1000);
});
socket.on("close", code => console.log(JSON.stringify({ seen, code })));
"""


def is_ready(port: int) -> bool:
    """Return whether the server answers `/ready` with 200."""
    with RawPeer(port) as peer:
        return peer.request("/ready").status == 200


@pytest.fixture
def chat(broker: dict[str, str], tmp_path: Path) -> Iterator[list[int]]:
    """Run docs/examples/chat.py; yield the ports of two servers on one Redis, or one port twice without Redis."""
    environ = {"WSSERVER_PORT": "0", "WSSERVER_REDIS": broker.get("redis", "")}
    ports = []
    with ExitStack() as stack:
        for number in range(2 if broker else 1):
            directory = tmp_path / str(number)
            directory.mkdir()
            output = stack.enter_context(twistd(directory, "-ny", EXAMPLES / "chat.py", **environ))
            ports.append(find_port(output, r"ws://127\.0\.0\.1:([0-9]+)/"))
            wait_until(lambda: is_ready(ports[-1]), "ready")
        yield [ports[0], ports[-1]]


class ChatTests:
    """docs/examples/chat.py."""

    def test_every_client_of_a_room_gets_every_message(self, chat: list[int]) -> None:
        """The clients (Node's `ws`, `websockets`, a raw peer) are on one server or two; another room gets nothing."""
        urls = [f"ws://127.0.0.1:{port}/chat" for port in chat]
        node_packages = install_node_packages()
        with (
            websockets.sync.client.connect(f"{urls[0]}/lobby") as python,
            RawPeer(chat[1]) as raw,
            RawPeer(chat[0]) as other,
        ):
            raw.handshake("/chat/lobby/")
            other.handshake("/chat/attic")
            # The room's own message arrives only if the subscription is established.
            raw.send_frame(TEXT, b"raw is here")
            assert raw.read_message() == "raw is here"
            other.send_frame(TEXT, b"alone")
            assert other.read_message() == "alone"
            python.send("grüße")
            while python.recv(TIMEOUT) != "grüße":
                pass
            assert raw.read_message() == "grüße"
            with subprocess.Popen(
                ["node", "-e", NODE_CLIENT, "--", f"{urls[1]}/lobby", "from node", "2"],
                cwd=node_packages,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as node:
                assert raw.read_message() == python.recv(TIMEOUT) == "from node"
                python.send("bye")
                found, errors = node.communicate(timeout=TIMEOUT)
            assert json.loads(found) == {"seen": ["from node", "bye"], "code": 1000}, errors
            assert raw.read_message() == python.recv(TIMEOUT) == "bye"
            other.send_frame(TEXT, b"still alone")
            assert other.read_message() == "still alone"

    def test_a_text_that_looks_like_json_is_a_text_for_a_centrifuge_client(self, chat: list[int]) -> None:
        """Otherwise a user of the chat could send the others an object."""
        with RawPeer(chat[0]) as writer, RawPeer(chat[1]) as reader:
            reader.handshake("/connection/websocket")
            reader.send_frame(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:lobby"}}')
            while '"id":2' not in (reply := reader.read_message()):
                pass
            assert '"subscribe":' in reply
            writer.handshake("/chat/lobby")
            for text in ('{"admin":true}', "42"):
                writer.send_frame(TEXT, text.encode())
                assert json.loads(reader.read_message())["push"]["pub"]["data"] == text

    @pytest.mark.parametrize("chat", ["memory"], indirect=True)
    def test_refuses_invalid_rooms_with_404_and_binary_messages_with_1003(self, chat: list[int]) -> None:
        """
        A room's name is invalid if it is empty, nested, longer than 50 characters, or has a control character.

        Plain HTTP gets 426.
        """
        for path in ("/chat", "/chat/a/b", "/chat/%01", "/chat/" + "x" * 51):
            with RawPeer(chat[0]) as peer:
                assert peer.request(path).status == 426
                peer.send(handshake_request(path))
                assert (response := peer.read_response()).status == 404
                assert b"no such room" in response.body
        with RawPeer(chat[0]) as peer:
            peer.handshake("/chat/lobby")
            peer.send_frame(BINARY, b"\xff")
            assert peer.read_close().close_code == 1003


class RewindTests:
    """`hub.listen(rewind=N)`, with both brokers."""

    def test_delivers_the_last_publications_then_new_ones(self, start_server, broker) -> None:
        server = start_server(**broker)
        hub, seen = server.service.hub, []
        wait_until(lambda: hub.broker.up, "the broker")
        for number in range(5):
            server.ask(lambda number=number: hub.publish("news", b"%d" % number))
        handle = server.ask(
            lambda: hub.listen("news", lambda _, one: seen.append((one.data, one.offset, one.rewound)), rewind=2)
        )
        server.ask(handle.when_ready)
        server.ask(lambda: hub.publish("news", b"new"))
        wait_until(lambda: len(seen) == 3, "the rewound publications and a new one")
        assert seen == [(b"3", 4, True), (b"4", 5, True), (b"new", 6, False)]
        server.ask(handle.stop)


class OutageTests:
    """`hub.listen` on a server whose Redis is down at first, and later again."""

    def test_starts_once_redis_is_up_and_resumes_with_a_gap(self, start_server, redis) -> None:
        redis.kill()
        server = start_server(redis=redis.url)
        hub, seen = server.service.hub, []

        def listen(events):
            return hub.listen("news", lambda _, one: events.append(one.data), on_gap=lambda _: events.append("gap"))

        handle = server.ask(lambda: listen(seen))
        assert not handle.is_listening
        redis.start()
        server.ask(handle.when_ready)
        redis.publish("news", b"plain")
        server.ask(lambda: hub.publish("news", b"numbered"))
        wait_until(lambda: len(seen) == 2, "both publications")
        assert sorted(seen) == [b"numbered", b"plain"]
        redis.kill()
        wait_until(lambda: not hub.broker.up, "the outage noticed")
        late_seen = []
        late = server.ask(lambda: listen(late_seen))
        assert (handle.is_listening, late.is_listening) == (True, False)
        redis.start()
        server.ask(late.when_ready)
        wait_until(lambda: "gap" in seen, "the gap callback")
        server.ask(lambda: hub.publish("news", b"after"))
        wait_until(lambda: b"after" in seen and b"after" in late_seen, "the next publication")
        assert seen[2:] == ["gap", b"after"]
        server.ask(handle.stop)
        server.ask(late.stop)
        assert server.ask(hub.counts) == {}
