"""What a test sees of a connection, from the events of its tap."""

from base64 import b64encode

import pytest

from wsserver.pytest_plugin import connections
from wsserver.pytest_plugin.connections import Connection, Connections, Headers


class Server:
    """Knows everything at once."""

    def sync(self):
        pass


@pytest.fixture
def connection():
    return Connection(Server(), {"number": 1, "id": "a-1", "path": "/echo", "query": {}, "headers": []})


def frame(payload, opcode=1, direction="in", *, fin=True, **more):
    payload = payload.encode() if isinstance(payload, str) else payload
    number = 1 if opcode < 8 else None
    event = {"type": "frame", "direction": direction, "opcode": opcode, "fin": fin, "message": number}
    return {**event, "payload": b64encode(payload).decode(), **more}


def test_fragments_are_joined_to_one_message_in_each_direction(connection):
    for event in (
        frame("a", fin=False),
        frame(b"\0", 2, "out", fin=False),
        frame("b", 0),
        frame(b"\1", 0, "out"),
    ):
        connection.add(event)
    assert (connection.messages, connection.sent) == (["ab"], [b"\0\1"])


def test_the_first_close_frame_of_each_side_counts(connection):
    assert (connection.close_code, connection.closed_by) == (None, "")
    connection.add(frame(b"", 8, "out", code=1012, reason="restart"))
    connection.add(frame(b"", 8, code=None, reason=""))
    connection.add(frame(b"", 8, code=1000, reason="late"))
    assert (connection.server_close_code, connection.close_code, connection.closed_by) == (1012, 1005, "server")


def test_a_connection_that_ends_without_a_close_frame_has_1006(connection):
    connection.add({"type": "end"})
    assert (connection.close_code, connection.is_open) == (1006, False)


@pytest.mark.parametrize(("limit", "value"), [("MAX_EVENTS", 3), ("MAX_PAYLOADS", 30)])
def test_beyond_a_limit_the_lists_raise_an_error_instead_of_lacking_messages(connection, monkeypatch, limit, value):
    monkeypatch.setattr(connections, limit, value)
    for _ in range(3):
        connection.add(frame("x" * 10, length=10))
    assert connection.messages == ["x" * 10] * 3
    for text in ("x" * 10, ""):
        connection.add(frame(text, length=len(text)))
    for name in ("messages", "sent", "events"):
        with pytest.raises(RuntimeError, match=f"over .*{value} "):
            getattr(connection, name)
    connection.add({"type": "end"})
    assert connection.close_code == 1006


def test_the_names_of_headers_are_compared_without_regard_to_case():
    headers = Headers([("Cookie", "a=1"), ("cookie", "b=2"), ("Host", "x")])
    assert (headers["COOKIE"], headers.get("host"), len(headers)) == ("a=1, b=2", "x", 2)
    assert [*headers] == ["cookie", "host"]


def test_a_missing_connection_is_an_error_that_says_how_to_wait():
    with pytest.raises(IndexError, match="wait_for_connection"):
        Connections([])[0]
