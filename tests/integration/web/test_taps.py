"""`/tap/...`: the events of a connection are what its wire carried, and only its client and the operator read them."""

import base64
import json
import re
import socket
import threading
from contextlib import suppress

import pytest
from http_api import KEY, api
from peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer, close_payload, frame, handshake_request
from waiting import wait_until
from websockets.sync.client import connect

SECRET = "0123456789abcdef" * 2


class Reader:
    """Reads a tap as JSON lines, in a thread."""

    def __init__(self, server, path, *headers, **options):
        self.peer = server.connect(**options)
        self.peer.send("\r\n".join([f"GET {path} HTTP/1.0", "Host: 127.0.0.1", *headers, "", ""]).encode())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.received = b""
        self._thread.start()

    def _read(self):
        while data := self.peer.socket.recv(65536):
            self.received += data

    @property
    def events(self):
        body = self.received.partition(b"\r\n\r\n")[2]
        return [json.loads(line) for line in body.split(b"\n")[:-1]]

    def wait_for(self, kind):
        wait_until(lambda: any(event["type"] == kind for event in self.events), f"an event {kind}")
        return self.events

    def close(self):
        with suppress(OSError):
            self.peer.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.peer.socket.close()


@pytest.fixture
def read(request):
    """Return a function that opens a reader; the readers are closed after the test."""

    def start(server, path=f"/tap/{SECRET}?format=jsonl", *headers, **options):
        reader = Reader(server, path, *headers, **options)
        request.addfinalizer(reader.close)
        return reader

    return start


def get(server, target, *headers):
    with server.connect() as peer:
        return peer.request(target, *headers)


def frames(events, direction):
    return [event for event in events if event["type"] == "frame" and event["direction"] == direction]


def payload(event):
    return event["text"].encode() if "text" in event else base64.b64decode(event["payload"])


class WireTests:
    """The events agree with the bytes that a raw peer has sent and received."""

    def test_fragments_controls_and_masks_are_shown_as_sent(self, server, read):
        sent = [
            frame(TEXT, b"hel", fin=False),
            frame(PING, b"in between"),
            frame(CONTINUATION, "lö".encode()),
            frame(BINARY, bytes(range(256)) * 300),
            frame(PONG, b"unasked"),
            frame(CLOSE, close_payload(3000, "bye")),
        ]
        with server.open(f"/echo?tap={SECRET}") as peer:
            for one in sent:
                peer.send(one)
            received = peer.read_to_end()
        events = read(server).wait_for("end")
        into, out = frames(events, "in"), frames(events, "out")
        assert [one["wire_length"] for one in into] == [len(one) for one in sent]
        assert [bytes.fromhex(one["mask"]) for one in into] == [
            one[2:6] if one[1] & 0x7F < 126 else one[-76_800 - 4 : -76_800] for one in sent
        ]
        assert [(one["opcode"], one["fin"], one["message"]) for one in into] == [
            (1, False, 1), (9, True, None), (0, True, 1), (2, True, 2), (10, True, None), (8, True, None),
        ]  # fmt: skip
        assert sum(one["wire_length"] for one in out) == len(received)
        assert [(one["opcode"], one["masked"]) for one in out] == [(10, False), (1, False), (2, False), (8, False)]
        assert (into[-1]["code"], into[-1]["reason"]) == (3000, "bye")
        assert 0 < out[0]["round_trip"] < 30
        assert events[-1]["closed_by"] == "client"
        assert events[-1]["clean"]

    @pytest.mark.parametrize("takeover", ["on", "off"])
    def test_compressed_messages_have_both_sizes(self, start_server, read, takeover):
        server = start_server(compression="on", compression_context_takeover=takeover, compression_min_size=0)
        text = "the same text again; " * 50
        with connect(f"{server.url}/echo?tap={SECRET}") as client:
            for _ in range(3):
                client.send(text)
                assert client.recv() == text
            client.send([text[:100], text[100:]])
            assert client.recv() == text
        events = read(server).wait_for("end")
        out = [one for one in frames(events, "out") if one["opcode"] == TEXT]
        assert [(one["rsv"], one["length"], one["text"]) for one in out] == [(4, len(text), text)] * 4
        assert all(one["wire_length"] < 100 for one in out)
        parts = [one for one in frames(events, "in") if one["message"] == 4]
        assert "".join(one["text"] for one in parts) == text
        assert sum(one["length"] for one in parts) == len(text)

    def test_a_message_that_violates_the_protocol_is_shown(self, server, read):
        with server.open(f"/echo?tap={SECRET}") as peer:
            peer.send(frame(3, b"reserved", masked=False, rsv=7))
            assert peer.read_frame().close_code == 1002
        events = read(server).wait_for("end")
        (bad,) = [one for one in frames(events, "in") if one["opcode"] == 3]
        assert (bad["rsv"], bad["masked"], bad["mask"]) == (7, False, None)
        assert (events[-1]["closed_by"], events[-1]["code"]) == ("server", 1002)

    def test_a_reset_is_shown(self, server, read):
        peer = server.open(f"/echo?tap={SECRET}")
        peer.send(frame(TEXT, b"hello")[:9])
        wait_until(lambda: len(server.ask(lambda: list(server.service.connections.taps._taps))) == 1, "the tap")
        peer.reset()
        events = read(server).wait_for("end")
        assert events[-1]["clean"] is False
        assert events[-1]["dropped_by"] == "client"
        assert "error" in events[-1]

    def test_works_over_tls(self, start_server, tls_listen, tls_client, read):
        server = start_server(listen=tls_listen)
        with server.open(f"/echo?tap={SECRET}", tls=tls_client) as peer:
            peer.send_frame(TEXT, b"x" * 100_000)
            assert len(peer.read_message()) == 100_000
            events = read(server, tls=tls_client).wait_for("frame")
        assert frames(events, "in")[0]["length"] == 100_000

    def test_a_tap_that_joins_works_over_tls(self, start_server, tls_listen, tls_client, read):
        server = start_server(listen=tls_listen)
        with server.connect(tls=tls_client) as peer:
            head = peer.handshake("/echo")
            path = f"/tap/{head.header('wsserver-connection-id')}?format=jsonl"
            secret = f"WSServer-Tap-Secret: {head.header('wsserver-tap-secret')}"
            reader = read(server, path, secret, tls=tls_client)
            reader.wait_for("joined")
            for size in (1, 200, 70_000):
                peer.send_frame(BINARY, b"x" * size)
                assert len(peer.read_message()) == size
            wait_until(lambda: len(frames(reader.events, "out")) == 3, "the answers")
            peer.send_frame(CLOSE, close_payload(1000))
            assert peer.read_frame().close_code == 1000
        assert [one["length"] for one in frames(reader.wait_for("end"), "in")] == [1, 200, 70_000, 2]

    def test_works_on_the_centrifuge_endpoint(self, start_server, read):
        server = start_server(insecure=True)
        reader = None
        with server.open(f"/connection/websocket?tap={SECRET}") as peer:
            reader = read(server)
            peer.send_frame(TEXT, b'{"id":1,"connect":{}}')
            peer.read_frame()
            peer.send_frame(TEXT, b'{"id":2,"subscribe":{"channel":"foo"}}')
            peer.read_frame()
            with connect(f"{server.url}/ws?channel=foo&tap={'f' * 40}") as raw:
                hub = server.service.hub
                server.ask(lambda: hub.publish("foo", b'{"n":1}'))
                assert raw.recv() == '{"n":1}'
                pushed = peer.read_frame()
            wait_until(lambda: len(frames(reader.events, "out")) == 3, "the push")
        assert payload(frames(reader.events, "out")[-1]) == pushed.payload
        events = read(server, f"/tap/{'f' * 40}?format=jsonl").wait_for("end")
        assert any(one.get("text") == '{"n":1}' for one in frames(events, "out"))

    def test_the_refusal_of_a_handshake_is_shown(self, start_server, read):
        server = start_server(api_key=KEY)
        with server.connect() as peer:
            peer.send(f"GET /ws?channel=foo&token=bad&tap={SECRET} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode())  # fmt: skip
            response = peer.read_response()
        assert response.status >= 400
        events = read(server).wait_for("end")
        assert [one["type"] for one in events][:3] == ["handshake", "handshake", "bytes"]
        assert events[1]["line"].split(" ")[1] == str(response.status)
        assert "bad" not in events[0]["line"]


class AccessTests:
    """Who may read a tap."""

    def test_another_secret_finds_nothing(self, server):
        with server.open(f"/echo?tap={SECRET}"):
            assert get(server, f"/tap/{SECRET[:-1]}0").status == 404
            short = get(server, "/tap/short")
            assert (short.status, "32 to 64 hexadecimal digits" in short.text) == (404, True)

    def test_the_secret_of_the_response_reads_its_own_connection_only(self, server, read):
        with server.connect() as peer, server.connect() as other:
            head, foreign = peer.handshake("/echo"), other.handshake("/echo")
            name, secret = head.header("wsserver-connection-id"), head.header("wsserver-tap-secret")
            assert get(server, f"/tap/{foreign.header('wsserver-connection-id')}?secret={secret}").status == 403
            assert get(server, f"/tap/{name}").status == 403
            reader = read(server, f"/tap/{name}?format=jsonl", f"WSServer-Tap-Secret: {secret}")
            reader.wait_for("joined")
            peer.send_frame(TEXT, b"hello")
            assert peer.read_message() == "hello"
            wait_until(lambda: len(frames(reader.events, "out")) == 1, "the frame")
        assert reader.wait_for("end")[-1]["dropped_by"] == "client"

    def test_the_api_key_reads_a_connection_by_its_number(self, start_server, read):
        server = start_server(api_key=KEY, tap="on")
        with server.connect() as peer:
            name = peer.handshake("/echo").header("wsserver-connection-id")
            number = name.partition("-")[2]
            assert get(server, f"/tap/{number}").status == 401
            assert get(server, f"/tap/{number}", "X-API-Key: wrong").status == 401
            read(server, f"/tap/{number}?format=jsonl", f"X-API-Key: {KEY}").wait_for("joined")
            assert get(server, "/tap/999999", f"X-API-Key: {KEY}").status == 404

    def test_with_an_admin_listener_the_key_is_for_that_port(self, start_server, read):
        server = start_server(api_key=KEY, tap="on", admin_listen=("tcp:0:interface=127.0.0.1",))
        with server.connect() as peer:
            name = peer.handshake("/echo").header("wsserver-connection-id")
            assert get(server, f"/tap/{name}", f"X-API-Key: {KEY}").status == 403
            port = server.service.ports[1].getHost().port
            with RawPeer(port) as admin:
                admin.send(f"GET /tap/{name}?follow=0 HTTP/1.0\r\nHost: a\r\nX-API-Key: {KEY}\r\n\r\n".encode())
                assert b'"joined"' in admin.read_to_end()

    def test_secrets_reach_no_log_and_no_list_of_rejects(self, start_server, log, read):
        server = start_server(api_key=KEY, tap="on")
        with server.connect() as peer:
            head = peer.handshake(f"/echo?tap={SECRET}")
            read(server).wait_for("handshake")
            get(server, "/tap/" + "e" * 32)
            get(server, "/tap/5f3a9c1e-1?secret=" + "e" * 32)
        (line,) = log.lines("wsserver.tap")
        name = head.header("wsserver-connection-id")
        assert re.fullmatch(rf"tap opened connection={name} peer=127\.0\.0\.1:\d+", line)
        secrets = (SECRET, "e" * 32, head.header("wsserver-tap-secret"))
        _, rejects = api(server, "rejects", {})
        text = repr(log.events) + json.dumps(rejects)
        assert [secret for secret in secrets if secret in text] == []
        assert "/tap/" in json.dumps(rejects)

    def test_taps_are_off_unless_only_this_machine_can_reach_the_server(self, start_server):
        server = start_server(interface="0.0.0.0")
        with server.connect() as peer:
            head = peer.handshake(f"/echo?tap={SECRET}")
            assert re.fullmatch(r"[0-9a-f]{8}-[0-9]+", head.header("wsserver-connection-id"))
            assert head.header("wsserver-tap-secret") is None
            answer = get(server, f"/tap/{SECRET}")
            assert (answer.status, "--tap" in answer.text) == (404, True)


class LimitTests:
    """Everything that a client can make a tap keep is bounded."""

    def test_at_max_taps_further_connections_have_none(self, start_server):
        server = start_server(max_taps=2)
        names = [f"{number:032x}" for number in range(3)]
        peers = [server.open(f"/echo?tap={name}") for name in names]
        assert [get(server, f"/tap/{name}?follow=0&format=har").status for name in names[2:]] == [404]
        peers[0].send_frame(CLOSE, close_payload(1000))
        assert peers[0].read_frame().close_code == 1000
        wait_until(lambda: server.count_connections() == 2, "closed")
        # The tap of the connection that has closed makes room.
        with server.open(f"/echo?tap={names[2]}"):
            assert get(server, f"/tap/{names[0]}").status == 404
        assert server.ask(lambda: server.service.connections.counters.limits["max_taps"]) == 1
        for peer in peers:
            peer.socket.close()

    def test_a_tap_has_at_most_four_readers(self, server, read):
        with server.open(f"/echo?tap={SECRET}"):
            for _ in range(4):
                read(server).wait_for("handshake")
            assert get(server, f"/tap/{SECRET}").status == 429

    def test_the_limits_do_not_keep_the_operator_away(self, start_server, read):
        server = start_server(api_key=KEY, tap="on", max_taps=1)
        with server.open(f"/echo?tap={SECRET}"), server.connect() as other:
            for _ in range(4):
                read(server).wait_for("handshake")
            name = other.handshake("/echo").header("wsserver-connection-id")
            read(server, f"/tap/{name}?format=jsonl", f"X-API-Key: {KEY}").wait_for("joined")
            number = int(name.partition("-")[2]) - 1
            read(server, f"/tap/{number}?format=jsonl", f"X-API-Key: {KEY}").wait_for("handshake")

    def test_a_reader_that_does_not_read_is_told_how_much_it_misses(self, server):
        server.shrink_send_buffers()
        body = b"\xff" * 300_000
        with server.open(f"/echo?tap={SECRET}") as peer, server.connect(receive_buffer=100_000) as reader:
            reader.send(f"GET /tap/{SECRET}?format=jsonl HTTP/1.0\r\nHost: a\r\n\r\n".encode())
            for _ in range(15):
                peer.send_frame(BINARY, body)
                assert len(peer.read_message()) == len(body)
            (tap,) = server.ask(lambda: list(server.service.connections.taps._taps))
            assert server.ask(lambda: tap.readers[0]._queued) <= 2**21
            while b'"gap"' not in reader.buffer:
                assert reader._receive()
            peer.send_frame(TEXT, b"after the gap")
            while b"after the gap" not in reader.buffer:
                assert reader._receive()

    def test_a_tap_can_be_read_again_and_an_event_source_stops_after_the_end(self, server, read):
        with server.open(f"/echo?tap={SECRET}") as peer:
            peer.send_frame(CLOSE, close_payload(1000))
            peer.read_to_end()
        last = read(server).wait_for("end")[-1]["id"]
        assert read(server).wait_for("end")[-1]["id"] == last
        assert get(server, f"/tap/{SECRET}", f"Last-Event-ID: 1-{last}").status == 204
        # The secret now belongs to another connection, whose first events the EventSource does not know.
        with server.open(f"/echo?tap={SECRET}"), server.connect() as peer:
            peer.send(f"GET /tap/{SECRET}?follow=0 HTTP/1.0\r\nHost: a\r\nLast-Event-ID: 1-{last}\r\n\r\n".encode())
            assert b"id: 2-1\n" in peer.read_to_end()

    def test_an_event_source_stops_after_the_end_of_a_connection_with_over_a_million_frames(self, server):
        with server.open(f"/echo?tap={SECRET}") as peer:
            tap = server.ask(lambda: server.service.connections.taps.find(SECRET))
            server.ask(lambda: tap.sent(b"\x8a\x00" * 1_100_000))
            peer.send_frame(CLOSE, close_payload(1000))
            peer.read_to_end()
        wait_until(lambda: tap.has_ended, "the end")
        assert get(server, f"/tap/{SECRET}", f"Last-Event-ID: {tap.serial}-{tap.last_number}").status == 204

    def test_a_late_tap_leaves_the_connection_with_its_last_reader(self, server, read):
        with server.connect() as peer:
            head = peer.handshake("/echo")
            path = f"/tap/{head.header('wsserver-connection-id')}?format=jsonl"
            reader = read(server, path, f"WSServer-Tap-Secret: {head.header('wsserver-tap-secret')}")
            reader.wait_for("joined")
            (connection,) = [one for one in server.ask(lambda: list(server.service.connections.connections))
                             if hasattr(one, "number")]  # fmt: skip
            assert server.ask(lambda: connection.transport.protocol) is not connection
            reader.peer.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: connection.transport.protocol is connection, "the tap left")
            assert peer.echoes()

    def test_the_next_reader_of_a_connection_joins_it_again(self, server, read):
        with server.connect() as peer:
            head = peer.handshake("/echo")
            path = f"/tap/{head.header('wsserver-connection-id')}?format=jsonl"
            taps = server.service.connections.taps
            for text in ("one", "two", "three"):
                reader = read(server, path, f"WSServer-Tap-Secret: {head.header('wsserver-tap-secret')}")
                reader.wait_for("joined")
                peer.send_frame(TEXT, text.encode())
                assert peer.read_message() == text
                wait_until(lambda reader=reader: len(frames(reader.events, "out")) == 1, "the echo")
                assert [one.get("text") for one in reader.events] == [None, text, text]
                reader.close()
                wait_until(lambda: server.ask(lambda: not taps._taps and not taps._forgetting), "the tap left")

    @pytest.mark.parametrize("path", ["/faults/slow?pause=20ms", "/case/framing.text-0"])
    def test_a_fault_or_a_case_within_a_frame_is_joined_after_it(self, start_server, path):
        server = start_server(faults=True, cases=True, tap="on")
        with server.connect() as peer:
            head = peer.handshake(path)
            target = f"/tap/{head.header('wsserver-connection-id')}?follow=0&format=jsonl"
            secret = f"WSServer-Tap-Secret: {head.header('wsserver-tap-secret')}"
            sent = frame(TEXT, b"hello" * 20)
            # The fault writes its answer byte by byte; the case reads a part of a frame.
            peer.send(sent if "slow" in path else sent[:-1])
            if "slow" in path:
                assert peer._read_bytes(1) == b"\x81"
            answer = get(server, target, secret)
            assert (answer.status, "within a frame that began before; retry" in answer.text) == (409, True)
            if "slow" in path:
                assert peer._read_bytes(101) == b"\x64" + b"hello" * 20
                with server.connect() as reader:
                    reader.send(f"GET {target} HTTP/1.0\r\nHost: a\r\n{secret}\r\n\r\n".encode())
                    assert b'"joined"' in reader.read_to_end()

    def test_a_tap_that_joins_within_a_frame_shows_the_next_ones(self, server, read):
        long = frame(BINARY, b"x" * 50_000)
        with server.connect() as peer:
            head = peer.handshake("/echo")
            path = f"/tap/{head.header('wsserver-connection-id')}?format=jsonl"
            peer.send(frame(TEXT, b"one") + long[:20_000])
            assert peer.read_message() == "one"
            reader = read(server, path, f"WSServer-Tap-Secret: {head.header('wsserver-tap-secret')}")
            reader.wait_for("joined")
            peer.send(long[20_000:] + frame(TEXT, b"two"))
            assert len(peer.read_message()) == 50_000
            assert peer.read_message() == "two"
            wait_until(lambda: len(frames(reader.events, "out")) == 2, "both answers")
        assert [one["text"] for one in frames(reader.events, "in")] == ["two"]

    def test_a_stopping_server_shows_the_closing_handshake(self, server, read):
        with server.open(f"/echo?tap={SECRET}") as peer:
            reader = read(server)
            reader.wait_for("handshake")
            server.begin_to_stop()
            close = peer.read_frame()
            peer.send_frame(CLOSE, close.payload)
            end = reader.wait_for("end")[-1]
        assert (end["closed_by"], end["code"], end["clean"]) == ("server", close.close_code, True)
        server.stop()


class FormatTests:
    """What clients receive."""

    def test_an_event_stream_has_the_events_with_their_ids(self, server):
        with server.open(f"/echo?tap={SECRET}"), server.connect() as peer:
            peer.send(f"GET /tap/{SECRET}?follow=0 HTTP/1.0\r\nHost: a\r\n\r\n".encode())
            head, _, body = peer.read_to_end().partition(b"\r\n\r\n")
        assert b"text/event-stream" in head
        comment, first, second, end = body.split(b"\n\n")
        assert (comment, end) == (b": tap", b"")
        assert first.startswith(b'id: 1-1\ndata: {"id":1,')
        assert second.startswith(b'id: 1-2\ndata: {"id":2,')

    @pytest.mark.parametrize(
        ("query", "text"), [("format=pcap", "format"), ("payload=-1", "payload"), ("payload=9999999", "payload")]
    )
    def test_a_wrong_parameter_is_refused_with_its_name(self, server, query, text):
        with server.open(f"/echo?tap={SECRET}"):
            answer = get(server, f"/tap/{SECRET}?{query}")
        assert (answer.status, text in answer.text) == (400, True)


class EveryPathTests:
    """The parameter `tap` is accepted on every path, and shows what each endpoint sends."""

    @pytest.mark.parametrize(
        ("target", "opcodes"),
        [
            ("/ws?tap=", [1, 8]),
            ("/ticker?every=10ms&count=1&tap=", [1, 8]),
            ("/ws?channel=foo&tap=", [8]),
            ("/faults/close?code=1012&wait=0s&tap=", [8]),
            ("/faults/opcode?number=11&wait=0s&tap=", [11]),
            ("/faults/early-data?tap=", [1]),
        ],
    )
    def test_every_endpoint_can_be_tapped(self, start_server, read, target, opcodes):
        server = start_server(faults=True)
        with server.open(f"{target}{SECRET}") as peer:
            if "ws?tap" in target:
                peer.send_frame(TEXT, b"hello")
                assert peer.read_message().startswith("Hello")
            if "ticker" not in target and "faults" not in target:
                peer.send_frame(CLOSE, close_payload(1000))
            wait_until(lambda: peer.buffer or peer._receive(), "a frame")
        events = read(server).wait_for("end")
        assert {one["opcode"] for one in frames(events, "out")} >= set(opcodes)

    def test_garbage_in_place_of_a_handshake_is_shown_as_bytes(self, start_server, read):
        server = start_server(faults=True)
        with server.connect() as peer:
            peer.send(handshake_request(f"/faults/garbage?tap={SECRET}"))
            received = peer.read_to_end()
        (shown,) = [one for one in read(server).wait_for("end") if one["type"] == "bytes"]
        assert shown["length"] == len(received)
