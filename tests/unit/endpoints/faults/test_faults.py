"""The faults: what each of them sends, in memory, and the limits of their connections."""

import re

import pytest
from fault_bench import Bench, open_and_wait
from twisted.internet.task import Clock

from wsserver.config.settings import Settings
from wsserver.endpoints.faults import FaultProtocol, make_fault
from wsserver.endpoints.faults.output import MAX_PIECES, MAX_QUEUED, Output
from wsserver.endpoints.faults.sending import MAX_SENT
from wsserver.endpoints.faults.table import TABLE, describe
from wsserver.errors import InvalidFault
from wsserver.testing import Frame, build_frame

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


WIRE = {
    "close": b"\x88\x02\x03\xe8",
    "close?code=1006&reason=gone": b"\x88\x06\x03\xeegone",
    "close?code=0": b"\x88\x02\x00\x00",
    "close-empty": b"\x88\x00",
    "close-short": b"\x88\x01\x03",
    "close-not-utf8": b"\x88\x06\x03\xe8caf\xe9",
    "close-long": b"\x88\x7e\x00\x7e\x03\xe8" + b"x" * 124,
    "close-twice": b"\x88\x02\x03\xe8\x88\x02\x03\xe8",
    "write-after-close": b"\x88\x02\x03\xe8\x81\x04late",
    "cut?sent=6&then=wait": b"\x81\x7e\x03\xe8xx",
    "not-utf8": b"\x81\x04caf\xe9",
    "not-utf8?where=cut": b"\x81\x02\xe2\x82",
    "not-utf8?where=surrogate": b"\x81\x03\xed\xa0\x80",
    "not-utf8?where=fragments": b"\x01\x02\xe2\x82\x80\x02\x28\xa1",
    "mask": b"\x81\x85mask\x05\x04\x1f\x07\x02",
    "reserved-bit": b"\xc1\x05hello",
    "reserved-bit?bit=3": b"\x91\x05hello",
    "opcode": b"\x83\x05hello",
    "opcode?number=15": b"\x8f\x05hello",
    "length": b"\x81\x7e\x00\x05hello",
    "length?form=64": b"\x81\x7f" + bytes(7) + b"\x05hello",
    "length?form=negative": b"\x81\x7f\x80" + bytes(6) + b"\x05hello",
    "huge-length": b"\x82\x7f\x00\x00\x01" + bytes(5),
    "continuation": b"\x80\x14no message has begun",
    "continuation?kind=interleaved": b"\x01\x03one\x81\x03two",
    "unfinished": b"\x01\x17this message has no end",
    "long-control": b"\x89\x7e\x00\x7e" + b"x" * 126,
    "fragmented-control": b"\x09\x03one\x80\x03two",
    "large?size=5B": b"\x82\x05xxxxx",
    "push?size=4&count=2&rate=100": b"\x81\x041 xx\x81\x042 xx\x88\x0d\x03\xe82 of 2 sent",
    "push?size=1&count=2&rate=100&type=binary&then=echo": b"\x82\x011\x82\x012",
    "ping?rate=100&count=2&payload=x": b"\x89\x01x\x89\x01x",
    "pong?rate=100&count=2": b"\x8a\x00\x8a\x00",
    "echo?close=1012": b"\x88\x02\x03\xf4",
    "echo?not_utf8": b"\x81\x04caf\xe9",
}
"""Query of a fault -> the bytes that an open connection sends."""

ECHOES = {
    "echo": b"\x81\x05hello",
    "fragment": b"\x01\x01h\x00\x01e\x00\x01l\x00\x01l\x80\x01o",
    "fragment?fragment=3": b"\x01\x03hel\x80\x02lo",
    "echo?fragment=5": b"\x81\x05hello",
    "slow?chunk=3&pause=150ms": b"\x81\x05hell",
    "delay?delay=150ms": b"\x81\x05hello",
    "delay": b"",
    "no-write": b"",
    "no-pong": b"\x81\x05hello",
    "drop?after=1&wait=0": b"\x81\x05hello",
    "close?after=1": b"\x81\x05hello\x88\x02\x03\xe8",
    "not-utf8?after=1&delay=50ms": b"\x81\x05hello\x81\x04caf\xe9",
}
"""Query of a fault -> what follows the handshake if the client sends `hello` 110 ms later, within 200 ms."""

HEADS = {
    "wrong-accept": b"\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "http-1.0": b"HTTP/1.0 101 Switching",
    "repeated-header": b"\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "repeated-header?header=upgrade": b"\r\nUpgrade: h2c",
    "wrong-subprotocol": b"\r\nSec-WebSocket-Protocol: x-unoffered",
    "wrong-subprotocol?name=chat": b"\r\nSec-WebSocket-Protocol: chat",
    "wrong-extension": b"\r\nSec-WebSocket-Extensions: x-unoffered",
    "wrong-extension?name=permessage-deflate;%20server_max_window_bits=20": b"\r\nSec-WebSocket-Extensions: permess",
    "status": b"HTTP/1.1 503 Service Unavailable",
    "status?code=299": b"HTTP/1.1 299 Unknown",
    "status?code=429&retry_after=7": b"\r\nRetry-After: 7",
    "redirect": b"HTTP/1.1 302 Found",
    "redirect?to=/a&code=308": b"\r\nLocation: /a",
    "garbage": b"SSH-2.0",
    "endless": b"\r\nConnection: Upgrade\r\nX-Endless: xxx",
}
"""Query of a fault -> a part of the response to the handshake."""


class WireTests:
    """What each fault sends."""

    @pytest.mark.parametrize("query", WIRE)
    def test_sends_these_bytes_after_the_handshake(self, query):
        assert open_and_wait("/faults/" + query).sent == WIRE[query]

    @pytest.mark.parametrize("query", ECHOES)
    def test_answers_a_message_with_these_bytes(self, query):
        bench = Bench("/faults/" + query).wait(0.11)
        bench.client.send_text("hello")
        assert bench.wait().sent == ECHOES[query]

    @pytest.mark.parametrize("query", HEADS)
    def test_answers_the_handshake_with_these_bytes(self, query):
        bench = Bench("/faults/" + query)
        head = bench.head + b"\r\n\r\n" + bench.wait().sent
        assert HEADS[query] in head

    @pytest.mark.parametrize("header", ["accept", "upgrade", "connection"])
    def test_leaves_out_a_header(self, header):
        head = Bench(f"/faults/missing-header?header={header}").head
        names = {"accept": b"Sec-WebSocket-Accept", "upgrade": b"Upgrade", "connection": b"Connection"}
        found = [name for name in re.findall(rb"\n([\w-]+):", head) if not name.startswith(b"WSServer")]
        assert found == [name for key, name in _ordered(names) if key != header]

    def test_every_fault_is_tested(self):
        tested = {re.split(r"[?]", query)[0] for query in (*WIRE, *ECHOES, *HEADS)}
        elsewhere = {"missing-header", "wrong-pong", "no-read", "slow-read", "no-close", "reset", "corrupt-deflate"}
        elsewhere |= {"bomb", "hang", "disconnect", "slow-handshake", "late-handshake", "early-data"}
        assert tested | elsewhere == set(TABLE)
        assert not tested & elsewhere

    def test_sends_the_head_in_pieces_then_echoes(self):
        bench = Bench("/faults/slow-handshake?piece=100&every=100ms")
        assert (bench.head, len(bench.sent)) == (b"", 100)
        bench.client.send_text("hello")
        assert bench.wait(0.1).sent.endswith(b"\r\n\r\n\x81\x05hello")

    def test_sends_the_head_late(self):
        bench = Bench("/faults/late-handshake?time=2s").wait(1.9)
        assert bench.sent == b""
        assert bench.wait(0.2).sent.startswith(b"HTTP/1.1 101 ")

    def test_sends_messages_together_with_the_head(self):
        assert Bench("/faults/early-data?count=2").client.messages() == ["1 " + "x" * 14, "2 " + "x" * 14]

    def test_answers_nothing_and_waits(self):
        bench = Bench("/faults/hang").wait(10)
        assert (bench.head, bench.sent, bench.transport.lost) == (b"", b"", False)

    @pytest.mark.parametrize(("how", "aborts"), [("drop", False), ("reset", True)])
    def test_ends_the_connection_instead_of_an_answer(self, how, aborts):
        transport = Bench(f"/faults/disconnect?how={how}").transport
        assert (transport.lost, transport.aborted, transport.written) == (True, aborts, b"")

    @pytest.mark.parametrize(("name", "aborts"), [("drop", False), ("reset", True), ("cut?then=reset", True)])
    def test_drops_the_connection_without_a_close_frame(self, name, aborts):
        bench = open_and_wait(f"/faults/{name}")
        assert (bench.transport.lost, bench.transport.aborted) == (True, aborts)
        assert b"\x88" not in bench.sent

    def test_answers_pings_or_not_or_wrongly(self):
        found = []
        for query in ("echo", "no-pong", "wrong-pong", "echo?pong=none"):
            client = Bench(f"/faults/{query}").client
            client.send_frame(9, b"42")
            found.append(client.frames())
        assert found == [[Frame(10, b"42")], [], [Frame(10, b"wrong42")], []]

    def test_never_answers_a_close_frame(self):
        bench = open_and_wait("/faults/no-close", "hello")
        bench.client.send_close(1000)
        assert bench.wait(30).client.messages() == ["hello"]
        assert not bench.transport.lost

    def test_answers_no_close_frame_once_it_writes_nothing(self):
        bench = open_and_wait("/faults/no-write")
        bench.client.send_close(1000)
        assert bench.wait(30).sent == b""
        assert not bench.transport.lost

    @pytest.mark.parametrize("query", ["unfinished", "huge-length", "cut?then=wait"])
    def test_ends_the_connection_after_a_close_frame_that_it_cannot_answer(self, query):
        bench = open_and_wait(f"/faults/{query}")
        bench.transport.written.clear()
        bench.client.send_close(1000)
        assert bench.wait().sent == b""
        assert bench.transport.lost

    @pytest.mark.parametrize("query", ["unfinished?delay=1s", "huge-length?delay=1s", "cut?then=wait&delay=1s"])
    def test_sends_late_what_comes_before_the_silence(self, query):
        bench = Bench(f"/faults/{query}").wait(1)
        assert bench.sent == b""
        assert bench.wait().sent

    def test_cuts_the_message_off_after_the_delayed_bytes(self):
        bench = Bench("/faults/cut?sent=6&delay=1s").wait(1)
        assert (bench.sent, bench.transport.lost) == (b"", False)
        assert bench.wait().sent == b"\x81\x7e\x03\xe8xx"
        assert bench.transport.lost

    def test_answers_after_a_large_message_and_not_within_it(self):
        bench = Bench("/faults/large?size=1MiB&wait=0&pong=right")
        bench.transport.reading = False
        bench.wait()
        bench.client.send_text("hello")
        bench.client.send_frame(9, b"42")
        bench.transport.read_again()
        frames = bench.wait(2).client.frames()
        assert [(frame.opcode, len(frame.payload)) for frame in frames] == [(2, 1024**2), (1, 5), (10, 2)]

    def test_stops_reading(self):
        bench = open_and_wait("/faults/no-read", "hello")
        assert bench.transport.paused
        assert bench.wait(60).transport.paused

    def test_reads_at_a_rate(self):
        bench = Bench("/faults/slow-read?rate=10").wait()
        bench.client.send_text("x" * 18)
        paused = [bench.wait(0.5).transport.paused for _ in range(5)]
        assert paused == [True, True, True, False, False]

    def test_sends_a_message_that_cannot_be_inflated(self):
        assert open_and_wait("/faults/corrupt-deflate", headers=DEFLATE).sent == b"\xc1\x05" + b"\xff" * 5

    def test_sends_a_short_message_that_is_large_when_inflated(self):
        import zlib

        (frame,) = open_and_wait("/faults/bomb?inflated=1MiB", headers=DEFLATE).client.frames()
        assert (frame.rsv, len(frame.payload) < 4096) == (4, True)
        assert zlib.decompressobj(-15).decompress(frame.payload + b"\0\0\xff\xff") == b"x" * 1024**2


def _ordered(names):
    return [("upgrade", names["upgrade"]), ("connection", names["connection"]), ("accept", names["accept"])]


class CommonTests:
    """The parameters that every fault has."""

    def test_selects_an_offered_subprotocol(self):
        head = Bench("/faults/echo?subprotocol=b", {"Sec-WebSocket-Protocol": "a, b"}).head
        assert b"Sec-WebSocket-Protocol: b" in head

    def test_selects_no_subprotocol_that_was_not_offered(self):
        head = Bench("/faults/echo?subprotocol=c", {"Sec-WebSocket-Protocol": "a, b"}).head
        assert b" 101 " in head
        assert b"Sec-WebSocket-Protocol" not in head

    @pytest.mark.parametrize(
        ("compression", "server", "agreed"),
        [("on", "off", True), ("off", "on", False), ("default", "on", True), ("default", "off", False)],
    )
    def test_agrees_on_compression_for_each_url(self, compression, server, agreed):
        settings = Settings(faults=True, compression=server)
        head = Bench(f"/faults/echo?compression={compression}", DEFLATE, settings).head
        assert (b"permessage-deflate" in head) == agreed

    def test_delays_with_jitter_and_keeps_the_order(self):
        bench = Bench("/faults/echo?delay=100ms&jitter=200ms")
        for n in range(20):
            bench.client.send_text(str(n))
        assert bench.wait(0.09).client.messages() == []
        assert bench.wait(0.5).client.messages() == [str(n) for n in range(20)]

    def test_fragments_a_compressed_message(self):
        bench = Bench(
            "/faults/fragment?compression=on&fragment=2", DEFLATE, Settings(faults=True, compression_min_size=0)
        )
        bench.client.send_text("hello hello")
        frames = bench.client.frames()
        assert [frame.rsv for frame in frames] == [4] + [0] * (len(frames) - 1)
        assert len(frames) > 2

    def test_closes_after_the_delayed_frames(self):
        bench = Bench("/faults/echo?delay=1s")
        bench.client.send_text("hello")
        bench.client.send_close(1000)
        assert bench.wait(0.9).sent == b""
        assert bench.wait(0.3).sent == b"\x81\x05hello\x88\x02\x03\xe8"
        assert bench.transport.lost

    def test_ends_a_fault_with_a_timer_after_the_client_has_gone(self):
        bench = Bench("/faults/close?wait=100s")
        bench.transport.lose()
        assert bench.wait(31).clock.getDelayedCalls() == []


REFUSED = {
    "/faults/nothing": (404, "unknown fault 'nothing'; /faults lists"),
    "/faults/clsoe": (404, "unknown fault 'clsoe'; did you mean close?"),
    "/faults/a/b": (404, "unknown fault 'a/b'"),
    "/faults/close?code=70000": (400, "code='70000': expected a whole number from 0 to 65535"),
    "/faults/close?cod=1": (400, "unknown parameter 'cod'; did you mean code?"),
    "/faults/close?code=1&code=2": (400, "parameter 'code' is repeated"),
    "/faults/echo?delay=1h": (400, "delay='1h': expected a time from 0s to 1m"),
    "/faults/echo?close=1&drop=": (400, "close and drop cannot be combined"),
    "/faults/echo?drop=1": (400, "drop='1': expected no value"),
    "/faults/redirect?to=//evil.example": (400, "to='//evil.example': expected a path on this server"),
    "/faults/redirect?to=/%5cevil.example": (400, "expected a path on this server"),
    "/faults/redirect?to=/%0aSet-Cookie:a=b": (400, "expected a path on this server"),
    "/faults/redirect?to=/%0dX:%20y": (400, "expected a path on this server"),
    "/faults/redirect?to=/%09/evil.example": (400, "expected a path on this server"),
    "/faults/redirect?to=/%e2%82%ac": (400, "expected a path on this server"),
    "/faults/redirect?to=/a%5cb": (400, "expected a path on this server"),
    "/faults/redirect?to=https://evil.example": (400, "expected a path on this server"),
    "/faults/wrong-extension?name=a%0d%0aX:%20y": (400, "expected"),
    "/faults/close?reason=" + "x" * 124: (400, "expected at most 123 bytes; for longer frames see close-long"),
    "/faults/close?reason=" + "%e2%82%ac" * 42: (400, "expected at most 123 bytes"),
    "/faults/close?reason=a%0ab": (400, "none of them a control character"),
}


class RefusalTests:
    """Which URLs are refused."""

    @pytest.mark.parametrize("target", REFUSED)
    def test_names_what_is_wrong(self, target):
        bench = Bench(target)
        status, reason = REFUSED[target]
        assert bench.head.startswith(b"HTTP/1.1 %d " % status)
        assert reason in bench.sent.decode()

    @pytest.mark.parametrize("catch_all", ["on", "off"])
    def test_a_server_without_faults_names_the_option(self, catch_all):
        bench = Bench("/faults/close", settings=Settings(catch_all=catch_all))
        assert bench.head.startswith(b"HTTP/1.1 404 ")
        assert b"start it with --faults" in bench.sent

    def test_a_server_without_faults_does_not_import_them(self):
        import subprocess
        import sys

        program = (
            "import sys; from wsserver.testing import MemoryServer; MemoryServer().connect().open('/faults/close');"
            "sys.exit('wsserver.endpoints.faults' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

    def test_other_paths_are_not_changed(self):
        bench = Bench("/echo?close=1000")
        bench.client.send_text("hello")
        assert bench.wait().client.messages() == ["hello"]


class OutputTests:
    """What waits for the end of a large frame."""

    @pytest.mark.parametrize("held", [[b"x" * MAX_QUEUED], [b"x"] * MAX_PIECES])
    def test_tells_that_there_is_room_again_after_the_frame(self, held):
        written, was_full = [], []
        output = Output(written.append, lambda: was_full.append(output.is_full), Clock())
        output.begin_frame(frame := object())
        output.put(b"begin", frame)
        for data in held:
            output.put(data)
        assert (was_full[-1], output.is_full_for(frame)) == (True, False)
        output.put(b"end", frame)
        output.end_frame()
        assert (b"".join(written), was_full[-1]) == (b"begin" + b"end" + b"".join(held), False)


class LimitTests:
    """A fault connection is bounded."""

    @pytest.mark.parametrize("name", TABLE)
    @pytest.mark.parametrize("reads", [True, False])
    def test_every_fault_ends_after_the_timeout_and_leaves_nothing(self, name, reads):
        bench = Bench(f"/faults/{name}", settings=Settings(faults=True, fault_timeout=20))
        bench.transport.reading = reads
        if not bench.transport.lost:
            bench.client.send_text("hello")
        bench.wait(22, 440)
        assert bench.transport.lost
        assert bench.counters.open_faults == 0
        assert len(bench.server.service.frontend.sockets) == 0
        # The server's own timers of deadlines that were cancelled.
        bench.wait(31)
        assert bench.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("path", ["/faults/echo", "/chat"])
    def test_the_server_sends_no_pings(self, path):
        bench = Bench(path, endpoints={"/chat": make_fault("echo")}).wait(100, 100)
        assert bench.client.frames() == []

    def test_names_the_option_in_the_close_reason(self):
        bench = Bench("/faults/echo", settings=Settings(faults=True, fault_timeout=20)).wait(20.1)
        assert bench.client.close_frame() == (1008, "a fault lasts 20s (server option --fault-timeout)")
        assert bench.counters.limits["fault_timeout"] == 1

    def test_refuses_further_connections_with_503(self):
        bench = Bench("/faults/echo", settings=Settings(faults=True, max_fault_connections=1))
        second = bench.server.connect()
        assert second.open("/faults/hang").startswith(b"HTTP/1.1 503 ")
        assert b"--max-fault-connections" in second.transport.written
        assert bench.counters.limits["max_fault_connections"] == 1
        bench.transport.lose()
        assert b" 101 " in bench.server.connect().open("/faults/echo")

    def test_drops_a_connection_that_has_sent_too_much(self):
        bench = Bench("/faults/echo", settings=Settings(faults=True, max_message_size="8MiB"))
        for _ in range(9):
            if not bench.transport.lost:
                bench.client.send(build_frame(2, bytes(8 * 1024**2)))
                bench.wait(0.01)
        assert bench.transport.aborted
        assert len(bench.sent) <= MAX_SENT
        assert bench.counters.limits["fault_size"] == 1

    def test_stops_a_series_while_the_client_does_not_read(self):
        bench = Bench("/faults/large?size=32MiB")
        bench.transport.reading = False
        bench.wait()
        assert len(bench.transport.unread) < 1024**2
        bench.transport.read_again()
        bench.wait(10, 1000)
        assert len(bench.sent) > 32 * 1024**2

    @pytest.mark.parametrize(("text", "count"), [("x" * 1024, 400), ("", 1100)])
    def test_stops_reading_while_many_answers_wait(self, text, count):
        bench = Bench("/faults/delay?delay=1s")
        for _ in range(count):
            if not bench.transport.paused:
                bench.client.send_text(text)
                bench.wait(0.0001, 1)
        assert bench.transport.paused
        bench.wait(2)
        assert not bench.transport.paused

    @pytest.mark.parametrize("name", TABLE)
    def test_ends_soon_when_the_server_stops(self, name):
        bench = Bench(f"/faults/{name}").wait(0.15)
        stopped = []
        bench.server.service.stopService().addCallback(stopped.append)
        bench.wait(6, 60)
        assert bench.transport.lost
        assert stopped

    @pytest.mark.parametrize("query", ["echo?delay=60s", "fragment", "slow", "slow-read?rate=1B"])
    def test_a_flood_ends_soon_when_the_server_stops(self, query):
        """A stopping server does not wait for answers that are slow on purpose."""
        bench = Bench(f"/faults/{query}")
        for _ in range(100):
            bench.client.send(build_frame(2, b"x" * 4096) * 20)
            bench.wait(0.01, 1)
        bench.server.service.stopService()
        bench.wait(6, 60)
        assert bench.transport.lost

    def test_answers_floods_within_the_budget_of_the_server(self):
        """Each answer has 1,024 frames, so that the server would be busy for long with those of a single read."""
        bench = Bench("/faults/fragment")
        bench.client.send(build_frame(2, b"x" * 1024) * 500)
        answered = bench.transport.protocol.echoes
        assert 0 < answered < 100
        bench.wait(2)
        assert bench.transport.protocol.echoes > answered

    def test_counts_the_connections_of_each_fault(self):
        assert dict(Bench("/faults/close").counters.faults) == {"close": 1}

    def test_an_ordinary_connection_pays_nothing(self):
        bench = Bench("/echo")
        assert not isinstance(bench.transport.protocol, FaultProtocol)
        assert bench.counters.open_faults == 0


class EndpointTests:
    """`make_fault`."""

    def test_makes_an_endpoint_for_any_path(self):
        endpoint = make_fault("close", {"code": 1012, "after": 1, "wait": "0s"})
        bench = Bench("/chat", endpoints={"/chat": endpoint}, settings=Settings())
        bench.client.send_text("hello")
        assert bench.wait().client.frames() == [Frame(1, b"hello"), Frame(8, b"\x03\xf4")]

    def test_takes_the_fault_from_a_parameter(self):
        assert (
            make_fault("echo", {"close": 1012, "after": 3}).plan
            == make_fault("close", {"code": "1012", "after": "3"}).plan
        )

    @pytest.mark.parametrize(
        ("name", "parameters", "parameter"),
        [("nothing", {}, None), ("close", {"cod": 1}, "cod"), ("close", {"code": -1}, "code")],
    )
    def test_names_the_invalid_parameter(self, name, parameters, parameter):
        with pytest.raises(InvalidFault) as caught:
            make_fault(name, parameters)
        assert caught.value.parameter == parameter


class DescriptionTests:
    """The data for `/faults`."""

    def test_every_example_is_accepted(self):
        about = describe()
        examples = [example for fault in about["faults"] for example in fault["examples"]]
        for example in (*examples, *about["combinations"]):
            head = Bench(example).head
            assert b" 404 " not in head, example
            assert not head.startswith(b"HTTP/1.1 400"), example

    def test_every_default_is_in_the_bounds_that_are_shown(self):
        for fault in describe()["faults"]:
            for one in fault["parameters"]:
                if one["type"] == "integer":
                    assert one["minimum"] <= one["default"] <= one["maximum"], (fault["name"], one)
                if "choices" in one:
                    assert one["default"] in one["choices"]

    def test_the_main_parameters_are_described(self):
        close = next(one for one in describe()["faults"] if one["name"] == "close")
        assert [one["name"] for one in close["parameters"]] == ["code", "reason", "after", "wait"]
        assert close["parameters"][0] == {
            "name": "code",
            "type": "integer",
            "default": 1000,
            "description": "The close code.",
            "minimum": 0,
            "maximum": 65535,
        }
