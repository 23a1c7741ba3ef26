"""T6: a second request on a connection while the first one waits for the decision on it."""

import time

import pytest
from attackers import masked
from backend import Backend
from peers import TEXT, RawPeer, handshake_request

pytestmark = pytest.mark.waits


@pytest.fixture
def backend():
    """Start a backend that takes a second to decide on a subscription."""
    backend = Backend()

    def answer(path, body):
        time.sleep(1)
        return {"result": {}}

    backend.answer = answer
    yield backend
    backend.close()


def first(channel="first"):
    return handshake_request(f"/ws?channel={channel}", "Cookie: user=first", "X-Which: first")


SECOND = handshake_request("/ws?channel=second", "Cookie: user=second", "X-Which: second")
PLAIN = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("pause", [0.0, 0.3], ids=["same packet", "later"])
@pytest.mark.parametrize("more", [SECOND, PLAIN, SECOND + SECOND], ids=["a handshake", "a request", "two handshakes"])
def test_t06_a_pending_handshake_is_decided_once(start_server, backend, figures, pause, more):
    """While the backend decides on an opening handshake, further bytes of the client are neither read nor obeyed."""
    server = start_server("--hook-subscribe", backend.url("/subscribe"))
    with RawPeer(server.port) as peer:
        if pause:
            peer.send(first())
            time.sleep(pause)
            peer.send(more)
        else:
            peer.send(first() + more)
        response = peer.read_response()
        assert response.status == 101
        # The bytes after the handshake are frames, and these are none.
        close = peer.read_close()
        assert close.close_code in (1002, 1008)
        peer.send_frame(0x8, close.payload)
        assert b"HTTP/1.1" not in peer.read_to_end()
    figures.at_most(1, len(backend.requests), "requests to the backend")
    assert [body["channel"] for _, _, body in backend.requests] == ["first"]


def test_t06_bytes_before_the_decision_are_bounded(start_server, backend, figures):
    """What a client sends before the decision stays in the kernel, beyond what the server reads at once."""
    server = start_server("--hook-subscribe", backend.url("/subscribe"))
    before = server.rss()
    peers = [RawPeer(server.port) for _ in range(20)]
    for number, peer in enumerate(peers):
        peer.socket.settimeout(0.05)
        try:
            peer.send(first(f"first{number}") + masked(TEXT, bytes(60_000)) * 200)
        except TimeoutError:
            continue
    figures.at_most(512, (server.rss() - before) / 1024 / len(peers), "memory for each connection", "KiB")
    for peer in peers:
        peer.socket.close()
