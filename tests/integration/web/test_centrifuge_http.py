"""Centrifuge clients that receive an endless HTTP response, on real sockets."""

import json
import socket
from http.client import HTTPConnection, HTTPSConnection

import pytest
from waiting import TIMEOUT, wait_until

OPEN = {"channel_allow": ("*",), "channel_publish": ("*",)}
FIRST = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"foo"}}'


class Stream:
    """A client, connected and subscribed to `foo`."""

    def __init__(self, server, context=None):
        where = ("127.0.0.1", server.port)
        make = HTTPConnection if context is None else HTTPSConnection
        options = {} if context is None else {"context": context}
        self._new = lambda: make(*where, timeout=TIMEOUT, **options)
        self._connection = self._new()
        self._connection.request("POST", "/connection/http_stream", FIRST)
        self._response = self._connection.getresponse()
        self._connected = self.read()["connect"]
        assert self.read()["id"] == 2

    def read(self):
        """Read a reply or a push; None at the end of the response."""
        line = self._response.readline()
        return json.loads(line) if line else None

    def send(self, command):
        """Send a command; return the status of the response."""
        request = {name: self._connected[name] for name in ("session", "node")} | {"data": json.dumps(command)}
        connection = self._new()
        connection.request("POST", "/emulation", json.dumps(request))
        status = connection.getresponse().status
        connection.close()
        return status

    def close(self):
        """Disconnect."""
        self._response.close()
        self._connection.close()


def publish(server, data, times=1):
    """Publish from the process of the server, in turns of their own."""
    for _ in range(times):
        server.ask(lambda: server.service.hub.publish("foo", data))


def test_a_client_publishes_and_receives_over_tls(start_server, tls_listen, tls_client):
    server = start_server(listen=tls_listen, **OPEN)
    stream = Stream(server, tls_client)
    assert stream.send({"id": 3, "publish": {"channel": "foo", "data": "x" * 50_000}}) == 204
    replies = [stream.read(), stream.read()]
    assert [one["push"]["pub"]["data"] for one in replies if "push" in one] == ["x" * 50_000]
    stream.close()


def test_a_server_that_stops_sends_a_disconnect_and_ends_the_response(start_server):
    server = start_server(**OPEN)
    stream = Stream(server)
    server.begin_to_stop()
    assert stream.read()["push"]["disconnect"]["code"] == 3001
    assert stream.read() is None
    server.stop()


@pytest.mark.parametrize("policy", ["close", "drop-oldest"])
def test_a_client_that_does_not_read_has_a_bounded_queue(start_server, policy):
    """With the policy `close`, it is disconnected; otherwise it is unsubscribed, because it misses publications."""
    server = start_server(max_queued_bytes=200_000, slow=policy, **OPEN)
    server.shrink_send_buffers()
    stream = Stream(server)
    data = "x" * 50_000
    publish(server, data, 200)
    clients = server.ask(server.service.hub.clients.find)
    if policy == "close":
        assert not clients
        wait_until(lambda: server.count_sockets() == 0, "the connection is dropped")
    else:
        assert len(clients) == 1
        last = stream.read()["push"]
        while "unsubscribe" not in last:
            last = stream.read()["push"]
        assert last["unsubscribe"]["code"] == 2500
        assert stream.send({"id": 3, "unsubscribe": {"channel": "bar"}}) == 204
        assert stream.read() == {"id": 3, "unsubscribe": {}}
    stream.close()


def test_a_disconnected_client_leaves_nothing_behind(start_server):
    server = start_server(**OPEN)
    stream = Stream(server)
    stream.close()
    wait_until(lambda: server.count_sockets() == server.count_connections() == 0, "the connection is gone")
    assert not server.ask(server.service.hub.clients.find)
    assert stream.send({"id": 3, "unsubscribe": {"channel": "foo"}}) == 404


def test_a_client_that_closes_its_sending_side_gets_the_replies(start_server):
    """The command `nc -N` does this."""
    server = start_server(**OPEN)
    with server.connect() as peer:
        head = f"POST /connection/http_stream HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {len(FIRST)}\r\n\r\n"
        peer.send(head.encode() + FIRST)
        peer.socket.shutdown(socket.SHUT_WR)
        received = b""
        while data := peer.socket.recv(65_536):
            received += data
    assert [json.loads(line)["id"] for line in received.partition(b"\r\n\r\n")[2].splitlines()] == [1, 2]
