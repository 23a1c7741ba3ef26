"""Listening sockets and the connections that they accept, for every kind of listener."""

import json
import socket
import subprocess

import pytest
from backend import Backend
from peers import TEXT, RawPeer, close_payload, handshake_request
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site
from waiting import wait_until

from wsserver.config.settings import Settings
from wsserver.endpoints.echo import EchoProtocol
from wsserver.listening.ports import BACKLOG
from wsserver.web.resource import WebSocketResource
from wsserver.wire.transport import TCPTransport

TCP = "tcp:0:interface=127.0.0.1"
HEADER = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"


def read_backlog(port):
    """Return the backlog of a listening socket, as reported by the kernel."""
    host = port.getHost()
    where = ["-lx", "src", host.name.decode()] if hasattr(host, "name") else ["-lt", "sport", "=", f":{host.port}"]
    [line] = subprocess.run(["ss", "-nH", *where], capture_output=True, text=True, check=True).stdout.splitlines()
    # The columns are State, Recv-Q and Send-Q, preceded by the type for a UNIX socket.
    return int(line.split("LISTEN")[1].split()[1])


def read_nodelay(connections):
    """Return TCP_NODELAY of each connection's socket."""
    found = []
    for connection in connections:
        transport = connection.transport
        # A wrapper for TLS or for the PROXY protocol.
        while not isinstance(transport, TCPTransport):
            transport = transport.transport
        found.append(bool(transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return found


class BacklogTests:
    """The number of connections that may wait to be accepted."""

    @pytest.mark.parametrize("prefix", ["", "haproxy:"])
    @pytest.mark.parametrize("kind", ["port", TCP, "tcp6:0:interface=\\:\\:1", "tls", "unix"])
    def test_every_kind_of_listener_has_our_backlog(self, start_server, tls_listen, tmp_path, kind, prefix):
        """Twisted's default is only 50."""
        if kind == "port":
            server = start_server()
        else:
            endpoint = {"tls": tls_listen[0], "unix": f"unix:{tmp_path}/ws.sock"}.get(kind, kind)
            server = start_server(listen=(prefix + endpoint,))
        assert [read_backlog(port) for port in server.service.ports] == [BACKLOG]

    @pytest.mark.parametrize("endpoint", [f"{TCP}:backlog=50", "tcp:0:127.0.0.1:77", f"haproxy:{TCP}:backlog=9"])
    def test_a_backlog_in_the_endpoint_string_overrides_ours(self, start_server, endpoint):
        """This holds even if its value equals Twisted's default."""
        server = start_server(listen=(endpoint,))
        expected = {"5": 50, "9": 9, "7": 77}[endpoint[-1].replace("0", "5")]
        assert [read_backlog(port) for port in server.service.ports] == [expected]


class NoDelayTests:
    """TCP_NODELAY is set: a small message does not wait for the acknowledgement of the previous one."""

    @pytest.mark.parametrize("prefix", ["", "haproxy:"])
    @pytest.mark.parametrize("way", ["port", "tcp", "tls"])
    def test_is_set_on_websocket_and_http_connections_of_every_listener(
        self, start_server, tls_listen, tls_client, way, prefix
    ):
        server = (
            start_server()
            if way == "port" and not prefix
            else start_server(listen=(prefix + (tls_listen[0] if way == "tls" else TCP),))
        )
        with server.connect() as websocket, server.connect() as http:
            for peer in (websocket, http):
                peer.send(HEADER if prefix else b"")
                if way == "tls":
                    peer.socket = tls_client.wrap_socket(peer.socket, server_hostname="localhost")
            websocket.handshake("/connection/websocket")
            assert http.request("/").status == 200
            assert server.ask(lambda: read_nodelay(server.service.frontend.sockets)) == [True, True]

    def test_is_set_on_connections_of_an_application_with_its_own_site(self):
        """A `WebSocketResource` gets its connections from a listener that the application opened."""
        site_resource = Resource()
        resource = blockingCallFromThread(reactor, WebSocketResource, EchoProtocol, Settings(), reactor)
        site_resource.putChild(b"echo", resource)
        endpoint = serverFromString(reactor, TCP)
        port = blockingCallFromThread(reactor, endpoint.listen, Site(site_resource))
        try:
            with RawPeer(port.getHost().port) as peer:
                peer.handshake("/echo")
                [connection] = resource.connections.connections
                sock = connection.transport.getHandle()
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                peer.send_frame(8, close_payload(1000))
                peer.read_close()
        finally:
            blockingCallFromThread(reactor, port.stopListening)


class ProxyTests:
    """`--listen haproxy:tcp:...`: a proxy sends the address of the client whose connection it forwards."""

    @pytest.fixture
    def server(self, start_server):
        """Start a server behind a proxy."""
        return blockon(deferToThread(start_server, listen=(f"haproxy:{TCP}",)))

    @pytest.mark.parametrize(
        ("header", "address"),
        [
            (HEADER, "203.0.113.7:40000"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", "[2001:db8::7]:40000"),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff:f:f:f ffff:f::f 65535 65535\r\n", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x9c\x40\x01\xbb", "203.0.113.7:40000"),
        ],
        ids=["TCP4", "TCP6", "UNKNOWN", "UNKNOWN with addresses", "LOCAL", "AF_UNSPEC", "v2"],
    )
    def test_reports_the_address_of_the_header_in_whoami_and_the_log(self, server, log, header, address):
        """If the header has no address, the address of the connection is reported."""
        with server.connect() as peer:
            host, port = peer.socket.getsockname()
            expected = address or f"{host}:{port}"
            # The network may deliver the header in two pieces.
            peer.send(header[:7])
            peer.send(header[7:])
            peer.handshake("/ws")
            peer.send_frame(TEXT, b"whoami")
            assert json.loads(peer.read_message())["address"] == expected
            peer.send_frame(8, close_payload(1000))
            peer.read_close()
        server.stop()
        assert [f" peer={expected} " in line for line in log.lines("wsserver.connection")] == [True, True]

    def test_logs_http_requests_and_refusals_with_the_address_of_the_header(self, server, log):
        with server.connect() as peer:
            peer.send(HEADER)
            assert peer.request("/").status == 200
            peer.send(b"nonsense\r\n\r\n")
            assert peer.read_response().status == 400
        lines = [
            line for line in log.lines("wsserver.http") + log.lines("wsserver.connection") if "203.0.113.7" in line
        ]
        assert len(lines) == 2, log.lines("wsserver.http")

    def test_closes_and_logs_a_connection_without_a_header(self, server, log):
        """A request that did not come through the proxy is not served."""
        with server.connect() as peer:
            peer.send(handshake_request("/"))
            assert peer.read_to_end() == b""
        [line] = log.lines("wsserver.connection")
        assert "the connection does not start with a PROXY protocol header" in line

    def test_opens_a_stream_for_a_client_that_half_closed_before_the_hook_answered(self, start_server):
        """The proxy forwards the half-close."""
        backend = Backend()
        server = start_server(listen=(f"haproxy:{TCP}",), hook_subscribe=backend.url("/subscribe"))
        try:
            with server.connect() as peer:
                backend.answer = lambda path, body: (peer.socket.shutdown(socket.SHUT_WR), {"result": {}})[1]
                peer.send(HEADER + b"GET /sse?channel=news HTTP/1.1\r\nHost: a\r\n\r\n")
                received = peer.read_to_end()
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b": listening" in received
            wait_until(lambda: server.count_sockets() == 0, "no connection left")
        finally:
            backend.close()

    @pytest.mark.parametrize("header", [HEADER[:9], HEADER], ids=["within the header", "after it"])
    def test_leaves_no_connection_if_the_client_half_closes_before_a_request(self, server, header):
        with server.connect() as peer:
            peer.send(header)
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_sockets() == 0, "no connection left")

    def test_ends_a_websocket_whose_client_half_closes(self, server):
        """A WebSocket connection cannot be half-closed (RFC 6455 section 7.1.1)."""
        with server.connect() as peer:
            peer.send(HEADER)
            peer.handshake("/echo")
            assert peer.echoes()
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.read_to_end() == b""
        wait_until(lambda: server.count_connections() == 0, "no connection left")

    def test_is_not_treated_as_local_though_it_listens_on_loopback(self, start_server):
        """The proxy may be public, so channels need permission (403) and unknown paths are refused (404)."""
        server = start_server(listen=(f"haproxy:{TCP}",))
        with server.connect() as peer:
            peer.send(HEADER + handshake_request("/ws?channel=news"))
            assert peer.read_response().status == 403
        with server.connect() as peer:
            peer.send(HEADER + handshake_request("/unknown"))
            assert peer.read_response().status == 404
