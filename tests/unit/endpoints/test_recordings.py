"""Reading recordings: the events of a tap, and HARs as browsers export them."""

import json

import pytest

from wsserver.endpoints.recordings import Message, Recording, RecordingError, Step, read_files, read_recordings


def lines(*events):
    return "".join(json.dumps(event) + "\n" for event in events)


REQUEST = {"type": "handshake", "t": 0, "direction": "in", "line": "GET /a%20b?x=1 HTTP/1.1", "headers": []}
RESPONSE = {
    "type": "handshake",
    "t": 0.1,
    "direction": "out",
    "line": "HTTP/1.1 101 Switching Protocols",
    "headers": [["Sec-WebSocket-Protocol", "chat"]],
}


def frame(direction, t, text, **more):
    defaults = {"type": "frame", "opcode": 1, "fin": True, "message": 1, "length": len(text), "text": text}
    return {**defaults, "t": t, "direction": direction, **more}


CLOSED = {
    "type": "frame",
    "t": 1,
    "direction": "out",
    "opcode": 8,
    "fin": True,
    "message": None,
    "code": 1000,
    "reason": "",
}

CHROME = {
    "log": {
        "version": "1.2",
        "creator": {"name": "WebInspector", "version": "537.36"},
        "pages": [],
        "entries": [
            {"request": {"url": "https://example.com/"}, "response": {"status": 200, "headers": []}},
            {
                "_resourceType": "websocket",
                "startedDateTime": "2026-11-29T12:00:00.000Z",
                "request": {"url": "wss://example.com/feed?token=x", "headers": []},
                "response": {"status": 101, "headers": [{"name": "sec-websocket-protocol", "value": "v1"}]},
                "_webSocketMessages": [
                    {"type": "send", "time": 1795953600.5, "opcode": 1, "data": "hello"},
                    {"type": "receive", "time": 1795953600.75, "opcode": 1, "data": "grüße"},
                    {"type": "receive", "time": 1795953601.75, "opcode": 2, "data": "/w=="},
                ],
            },
        ],
    }
}


class TapTests:
    """The events of a tap."""

    def test_a_server_message_belongs_after_the_messages_of_the_client_before_it(self):
        text = lines(
            REQUEST,
            RESPONSE,
            frame("out", 0.3, "welcome"),
            frame("in", 1.0, "one"),
            frame("out", 1.5, "first"),
            frame("out", 2.5, "second"),
        )
        (found,) = read_recordings(text, "file")
        assert found == Recording(
            path="/a b",
            steps=(
                Step(0, 0.2, Message(False, b"welcome")),
                Step(1, 0.5, Message(False, b"first")),
                Step(1, 1.0, Message(False, b"second")),
            ),
            received=(Message(False, b"one"),),
            subprotocol="chat",
        )

    def test_fragments_are_joined_and_control_frames_left_out(self):
        text = lines(
            RESPONSE,
            frame("out", 1, "wel", fin=False),
            {"type": "frame", "t": 1, "direction": "out", "opcode": 9, "message": None, "fin": True, "length": 0},
            frame("out", 2, "come", opcode=0),
        )
        (found,) = read_recordings(text, "file")
        assert [step.message for step in found.steps] == [Message(False, b"welcome")]

    def test_a_close_of_the_server_is_a_step_and_an_answer_to_the_client_is_none(self):
        close = {"type": "frame", "opcode": 8, "message": None, "t": 1, "code": 1012, "reason": "bye"}
        (first,) = read_recordings(lines(RESPONSE, {**close, "direction": "out"}), "file")
        assert first.steps == (Step(0, 0.9, code=1012, reason="bye"),)
        (second,) = read_recordings(
            lines(RESPONSE, {**close, "direction": "in"}, {**close, "direction": "out"}), "file"
        )
        assert second.steps == ()

    def test_a_connection_that_the_server_dropped_is_dropped_again(self):
        (found,) = read_recordings(lines(RESPONSE, {"type": "tcp", "t": 1, "direction": "out"}), "file")
        assert found.steps == (Step(0, 0.9, drops=True),)

    def test_a_message_of_the_client_that_is_cut_off_matches_any(self):
        (found,) = read_recordings(lines(RESPONSE, frame("in", 1, "a", cut=5)), "file")
        assert found.received == (None,)

    @pytest.mark.parametrize(
        ("event", "problem"),
        [
            (frame("out", 1, "a", cut=5), "rec: message 1 of the server is not whole"),
            (frame("out", 1, "a", length=None), "rec: message 1 of the server is not whole"),
            ({"type": "gap", "missed": 7}, "rec: 7 events are missing"),
        ],
    )
    def test_an_incomplete_recording_is_refused_with_what_to_do(self, event, problem):
        with pytest.raises(RecordingError, match=f"^{problem}.*read the tap while the connection is open"):
            read_recordings(lines(RESPONSE, event), "rec")

    @pytest.mark.parametrize("character", ["\u2028", "\x85", "\x1c", "\u2029"])
    def test_a_message_may_contain_what_python_takes_for_a_line_break(self, character):
        text = json.dumps(RESPONSE) + "\r\n" + json.dumps(frame("out", 1, f"a{character}b"), ensure_ascii=False)
        (found,) = read_recordings(text, "file")
        assert found.steps[0].message == Message(False, f"a{character}b".encode())

    @pytest.mark.parametrize(
        ("recorded", "replayed"), [("101", 101), ("302", 302), ("503", 503), ("520", 500), ("499", 400)]
    )
    def test_an_unknown_status_is_replayed_as_the_first_one_of_its_class(self, recorded, replayed):
        (found,) = read_recordings(lines({**RESPONSE, "line": f"HTTP/1.1 {recorded} x"}), "file")
        assert found.status == replayed

    @pytest.mark.parametrize("status", ["200", "100", "-5", "999"])
    def test_a_status_that_answers_no_handshake_is_refused(self, status):
        with pytest.raises(RecordingError, match=f"^file: the server answered the handshake with {status}: expected"):
            read_recordings(lines({**RESPONSE, "line": f"HTTP/1.1 {status} x"}), "file")

    @pytest.mark.parametrize(
        "events",
        [
            "[" * 100_000,
            '{"type": "x", "a": ' + "[" * 100_000,
            lines(frame("out", float("nan"), "a")),
            lines(frame("out", float("inf"), "a")),
            lines(frame("out", 10**400, "a")),
            lines(frame("out", 0, "a")).replace('"t": 0', '"t": 1e309'),
            lines(CLOSED | {"code": 70000}),
            lines(CLOSED | {"code": "x"}),
            lines(CLOSED | {"code": -1}),
            lines(CLOSED | {"reason": None}),
            lines(CLOSED | {"reason": "\ud800"}),
            lines({**REQUEST, "line": "GET * HTTP/1.1"}),
        ],
    )
    def test_what_cannot_be_replayed_is_refused_before_a_client_connects(self, events):
        with pytest.raises(RecordingError, match=r"^file: expected the events of a tap"):
            read_recordings(lines(RESPONSE) + events, "file")


class HARTests:
    """HTTP archives."""

    def test_errors_and_control_frames_are_left_out(self):
        entry = {**CHROME["log"]["entries"][1], "comment": None}
        more = [
            {"type": "error", "time": 1795953602, "opcode": -1, "data": "Error"},
            {"type": "receive", "time": 1795953602, "opcode": 8, "data": "A+g="},
        ]
        entry["_webSocketMessages"] = [*entry["_webSocketMessages"], *more]
        (found,) = read_recordings(json.dumps({"log": {"entries": [entry]}}), "file")
        assert len(found.steps) == 2

    def test_a_file_may_begin_with_a_byte_order_mark(self, tmp_path):
        (tmp_path / "a.har").write_text(json.dumps(CHROME), "utf-8-sig")
        assert read_files([str(tmp_path / "a.har")])[0].path == "/feed"

    def test_the_messages_of_an_export_of_chrome_are_read(self):
        (found,) = read_recordings(json.dumps(CHROME, indent=2), "file")
        assert found == Recording(
            path="/feed",
            steps=(Step(1, 0.25, Message(False, "grüße".encode())), Step(1, 1.0, Message(True, b"\xff"))),
            received=(Message(False, b"hello"),),
            subprotocol="v1",
        )

    def test_a_har_without_a_websocket_is_refused(self):
        with pytest.raises(RecordingError, match="no WebSocket"):
            read_recordings(json.dumps({"log": {"entries": []}}), "file")


@pytest.mark.parametrize("text", ["", "hello", "{}", "[1]", '{"log": 1}', '{"log": {"entries": [1]}}', "1\n2\n"])
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(RecordingError, match=r"^file: expected the events of a tap \(format=jsonl\), or a HAR"):
        read_recordings(text, "file")
