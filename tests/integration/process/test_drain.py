"""A server that is stopped while clients wait for answers."""

import threading
from collections import Counter

import pytest
from draining import ECHO, PUBLISH, drain
from http_api import KEY
from peers import CLOSE, TEXT
from waiting import wait_until


@pytest.mark.kernel
def test_answers_what_it_has_received_and_closes_500_clients_with_a_code():
    """The clients send messages until the Close frame; 500 connections are closed over 2.3 s."""
    drained = drain(500, 0.2, 1.0)
    assert drained.ended.codes == Counter({(ECHO, 1012): 250, (PUBLISH, 3001): 250})
    assert sum(drained.received.values()) > 1000
    assert drained.unanswered == 0
    assert drained.spread > 1


def test_answers_a_call_that_waits_for_the_backend_before_the_close(start_server, backend):
    """The backend answers only after the server has begun to stop."""
    asked, stopping = threading.Event(), threading.Event()

    def answer(path, body):
        asked.set()
        assert stopping.wait(30)
        return {"result": {"data": "late"}}

    backend.answer = answer
    server = start_server(hook_rpc=backend.url("/rpc"), hook_timeout=30, insecure=True)
    with server.open("/connection/websocket") as peer:
        peer.send_frame(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"slow"}}')
        assert asked.wait(30)
        server.begin_to_stop()
        stopping.set()
        texts = []
        while (found := peer.read_frame()).opcode == TEXT:
            texts.append(found.payload.decode())
        assert '"rpc":{"data":"late"}' in "".join(texts)
        assert (found.opcode, found.close_code) == (CLOSE, 3001)


def test_answers_a_request_whose_body_arrives_while_the_server_stops(start_server):
    server = start_server(api_key=KEY)
    body = b'{"channel":"a","data":1}'
    with server.open(), server.connect() as peer:
        lines = f"Host: a\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.send(f"POST /api/publish HTTP/1.1\r\n{lines}".encode() + body[:5])
        wait_until(lambda: server.count_sockets() == 2, "both accepted")
        server.begin_to_stop()
        peer.send(body[5:])
        answer = peer.read_to_end()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer


def test_ends_an_event_stream_with_its_last_chunk(start_server):
    """Proxies and clients regard a response without it as broken."""
    server = start_server()
    with server.connect() as peer:
        peer.send(b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(server.count_connections, "the stream has begun")
        server.begin_to_stop()
        answer = peer.read_to_end()
        assert b"retry: " in answer
        assert answer.endswith(b"\r\n0\r\n\r\n")
