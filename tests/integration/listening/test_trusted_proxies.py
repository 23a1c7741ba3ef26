"""`--trusted-proxy`: the client's address behind a real nginx, and in headers of the PROXY protocol."""

import json
import socket
import ssl

import pytest
from http_api import KEY, ok
from nginx import running_nginx
from peers import TEXT, RawPeer, close_payload, handshake_request
from pki import make_authority
from waiting import wait_until
from websockets.sync.client import connect

TCP = "tcp:0:interface=127.0.0.1"
SPOOFED = "198.51.100.9"
CLIENT = "127.0.0.2"
"""The address from which the tests connect to nginx; nginx connects to the server from 127.0.0.1."""
HEADER = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"


def whoami(peer, *more):
    """Return the address that the command `whoami` reports."""
    peer.handshake("/ws", *more)
    peer.send_frame(TEXT, b"whoami")
    address = json.loads(peer.read_message())["address"]
    peer.send_frame(8, close_payload(1000))
    peer.read_close()
    return address


class NginxTests:
    """The documented configuration of nginx."""

    def test_whoami_and_the_log_show_the_client_of_nginx(self, start_server, tmp_path, log):
        """The client cannot choose its address: nginx appends the real one to what it sends."""
        server = start_server(trusted_proxy=("127.0.0.1",), catch_all="on")
        with running_nginx(tmp_path, server.port) as port:
            for headers in ({}, {"X-Forwarded-For": SPOOFED}, {"Forwarded": f"for={SPOOFED}"}):
                sock = RawPeer(port, source=CLIENT).socket
                with connect(f"ws://127.0.0.1:{port}/ws", sock=sock, additional_headers=headers) as client:
                    client.send("whoami")
                    # Without a port: nginx does not send it.
                    assert json.loads(client.recv())["address"] == CLIENT
            with RawPeer(port, source=CLIENT) as peer:
                assert peer.request("/server.json").status == 200
        lines = log.lines("wsserver.http") + log.lines("wsserver.connection")
        assert {line.rpartition("peer=")[2].split()[0] for line in lines} == {CLIENT}

    def test_without_the_option_the_address_is_that_of_nginx(self, start_server, tmp_path):
        server = start_server(catch_all="on")
        with running_nginx(tmp_path, server.port) as port, RawPeer(port) as peer:
            assert whoami(peer, f"X-Forwarded-For: {SPOOFED}").startswith("127.0.0.1:")

    @pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not trusted"])
    def test_the_backend_gets_the_address_that_the_server_has_found(self, start_server, tmp_path, backend, trusted):
        """Over WebSocket and SSE, raw and with the Centrifuge protocol, whatever the client sends."""
        server = start_server(
            trusted_proxy=("127.0.0.1",) if trusted else (), hook_connect=backend.url("/connect"), channel_allow=("a",)
        )
        forged = (f"X-Forwarded-For: {SPOOFED}", f"X-Real-IP: {SPOOFED}")
        with running_nginx(tmp_path, server.port) as port:
            for path in ("/ws?channel=a", "/connection/uni_websocket?cf_connect={}"):
                with RawPeer(port, source=CLIENT) as peer:
                    assert peer.handshake(path, *forged).status == 101
            with RawPeer(port, source=CLIENT) as peer:
                peer.send(f"GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n{forged[0]}\r\n{forged[1]}\r\n\r\n".encode())
                wait_until(lambda: len(backend.requests) == 3, "three requests to the backend")
        found = {(headers["x-forwarded-for"], headers["x-real-ip"]) for _, headers, _ in backend.requests}
        assert found == {(CLIENT, CLIENT) if trusted else ("127.0.0.1", "127.0.0.1")}

    def test_the_backend_gets_the_address_of_a_client_that_is_no_proxy(self, start_server, backend):
        server = start_server(
            trusted_proxy=("192.0.2.0/24",), hook_connect=backend.url("/connect"), channel_allow=("a",)
        )
        with RawPeer(server.port, source=CLIENT) as peer:
            assert peer.handshake("/ws?channel=a", f"X-Forwarded-For: {SPOOFED}", f"X-Real-IP: {SPOOFED}").status == 101
        [(_, headers, _)] = backend.requests
        assert (headers["x-forwarded-for"], headers["x-real-ip"]) == (CLIENT, CLIENT)

    def test_the_limits_apply_to_the_clients_of_nginx(self, start_server, tmp_path):
        """nginx itself may open any number of connections."""
        server = start_server(trusted_proxy=("127.0.0.1",), max_connections_per_address=2)
        with (
            running_nginx(tmp_path, server.port) as port,
            RawPeer(port, source=CLIENT) as first,
            RawPeer(port, source=CLIENT) as second,
        ):
            first.handshake("/echo")
            second.handshake("/echo")
            for _ in range(20):
                with RawPeer(port, source=CLIENT) as page:
                    assert page.request("/health").status == 200
            with RawPeer(port, source=CLIENT) as third:
                response = third.request("/sse?channel=a", "Accept: application/json")
                assert response.status == 429
                assert "--max-connections-per-address" in response.text
            first.reset()
            wait_until(lambda: server.count_connections() == 1, "the first gone")
            with RawPeer(port, source=CLIENT) as third:
                third.handshake("/echo")
            assert second.echoes()


class RefusedTests:
    """What the operator sees of a refused client of a trusted proxy."""

    @pytest.mark.parametrize("path", ["/echo", "/nowhere", "/ws?channel=secret"])
    def test_the_log_and_the_rejects_have_the_addresses_of_the_clients(self, start_server, log, path):
        server = start_server(trusted_proxy=("127.0.0.1",), channel_allow=("a",), api_key=KEY)
        clients = ["203.0.113.7", "203.0.113.8", "2001:db8::1", "2001:db8::2"]
        for client in clients * 2:
            with server.connect() as peer:
                peer.send(handshake_request(path, f"X-Forwarded-For: {client}", "Origin: https://other.example"))
                assert peer.read_response().status in (403, 404)
        wait_until(lambda: len(log.lines("wsserver.connection")) >= 8, "the refusals logged")
        for client, line in zip(clients * 2, log.lines("wsserver.connection"), strict=True):
            assert f"peer={client} " in line
        found = ok(server, "rejects", {})["rejects"]
        assert sorted((one["peer"], one["count"]) for one in found) == sorted((client, 2) for client in clients)


class ProxyProtocolTests:
    """Listeners with `haproxy:`."""

    def test_a_trusted_proxy_names_the_client(self, start_server):
        server = start_server(listen=(f"haproxy:{TCP}",), trusted_proxy=("127.0.0.1",), catch_all="on")
        with server.connect() as peer:
            peer.send(HEADER)
            assert whoami(peer) == "203.0.113.7:40000"

    def test_a_header_of_another_peer_closes_the_connection_and_is_logged(self, start_server, log):
        server = start_server(listen=(f"haproxy:{TCP}",), trusted_proxy=("192.0.2.0/24",))
        with server.connect() as peer:
            peer.send(HEADER + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert peer.read_to_end() == b""
        [line] = log.lines("wsserver.connection")
        assert "the PROXY protocol from a peer that no --trusted-proxy names" in line
        assert "peer=127.0.0.1:" in line

    def test_another_peer_is_closed_before_it_sends_anything(self, start_server):
        """It would hold a connection until the header is complete, without a limit per address."""
        server = start_server(listen=(f"haproxy:{TCP}",), trusted_proxy=("192.0.2.0/24",))
        with server.connect() as peer:
            assert peer.read_to_end() == b""

    def test_a_client_that_closes_before_or_during_tls_leaves_no_traceback(self, start_server, log, tmp_path):
        """Twisted's TLS protocol passes the notification of a half-closed connection back to its transport."""
        issued = make_authority(tmp_path).issue(tmp_path)
        tls = f"ssl:0:interface=127.0.0.1:privateKey={issued.privkey}:certKey={issued.fullchain}"
        server = start_server(listen=(f"haproxy:{tls}",))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for closes_early in (True, False):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            sock.sendall(HEADER)
            if not closes_early:
                sock = context.wrap_socket(sock)
                sock.sendall(handshake_request())
                assert sock.recv(99).startswith(b"HTTP/1.1 101 ")
            sock.close()
        wait_until(lambda: server.count_sockets() == 0, "every connection gone")
        assert not log.take_failures(Exception)

    def test_the_clients_of_a_proxy_are_limited_by_the_address_in_the_header(self, start_server):
        server = start_server(listen=(f"haproxy:{TCP}",), max_connections_per_address=1)
        with server.connect() as first, server.connect() as second, server.connect() as other:
            for peer, client in ((first, HEADER), (second, HEADER), (other, HEADER.replace(b".113.7", b".113.8"))):
                peer.send(client)
            first.handshake("/echo")
            assert second.request("/echo").status == 429
            other.handshake("/echo")
            assert first.echoes()

    def test_a_header_within_tls_names_the_client(self, start_server, tls_listen, tls_client):
        server = start_server(
            listen=(f"haproxy:{tls_listen[0]}",),
            trusted_proxy=("127.0.0.1",),
            catch_all="on",
            max_connections_per_address=1,
        )
        with server.connect() as first, server.connect() as second:
            for peer in (first, second):
                peer.send(HEADER)
                peer.socket = tls_client.wrap_socket(peer.socket, server_hostname="localhost")
            first.handshake("/echo")
            assert second.request("/health").status == 429
            assert first.echoes()

    @pytest.mark.parametrize("header", [b"", b"X-Forwarded-For: 198.51.100.9, 192.0.2.7\r\n"])
    def test_the_address_in_the_header_can_be_that_of_a_further_trusted_proxy(self, start_server, header):
        """A content delivery network in front of a load balancer that sends the PROXY protocol."""
        server = start_server(listen=(f"haproxy:{TCP}",), trusted_proxy=("127.0.0.1", "203.0.113.0/24"), catch_all="on")
        with server.connect() as peer:
            peer.send(HEADER)
            more = [header.decode().strip()] if header else []
            assert whoami(peer, *more) == ("192.0.2.7" if header else "203.0.113.7:40000")
