"""
What each kind of subscriber receives: every source, with and without history, with each broker.

A publication is a JSON text, or bytes whose type nobody has declared. `JSON` and `BYTES` list the data of the two types
and what arrives; docs/reference/channels.md has the same table for users.
"""

import argparse
import base64
import io
import itertools
import json
import re
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from centrifuge_client import ask
from events import Events
from http_api import KEY, api, up
from peers import BINARY, TEXT
from protobuf_messages import decode_replies, encode_commands
from waiting import wait_until

from wsserver.cli.publish import add_arguments, publish
from wsserver.hub.stream import Position


class Arrives(NamedTuple):
    """What arrives, by kind of subscriber."""

    raw: bytes
    """A message in format `raw`; `Publication.as_bytes()` for a callback."""
    json: bytes
    """The field in format `json`."""
    redis: bytes
    """The items after the channel in format `redis`."""
    value: bytes
    """The fields that a Centrifuge client receives; `Publication.as_json()` for a callback."""


JSON = {
    b'"42"': Arrives(b"42", b'"data":"42"', b'"42"', b'"data":"42"'),
    b'"null"': Arrives(b"null", b'"data":"null"', b'"null"', b'"data":"null"'),
    rb'"{\"admin\":true}"': Arrives(
        b'{"admin":true}', rb'"data":"{\"admin\":true}"', rb'"{\"admin\":true}"', rb'"data":"{\"admin\":true}"'
    ),
    rb'"\"\""': Arrives(b'""', rb'"data":"\"\""', rb'"\"\""', rb'"data":"\"\""'),
    b'""': Arrives(b"", b'"data":""', b'""', b'"data":""'),
    '"grüße"'.encode(): Arrives(
        *("grüße".encode(), '"data":"grüße"'.encode(), '"grüße"'.encode(), '"data":"grüße"'.encode())
    ),
    rb'"\ud83d"': Arrives(rb'"\ud83d"', rb'"data":"\ud83d"', rb'"\"\\ud83d\""', rb'"data":"\ud83d"'),
    b"42": Arrives(b"42", b'"data":42', b'"42"', b'"data":42'),
    b"null": Arrives(b"null", b'"data":null', b'"null"', b'"data":null'),
    b'{"a": 1.10}': Arrives(b'{"a": 1.10}', b'"data":{"a": 1.10}', rb'"{\"a\": 1.10}"', b'"data":{"a": 1.10}'),
}
DEEP = b"[" * 257 + b"]" * 257
"""A JSON text with one level more than the server parses."""
BYTES = {
    b"42": Arrives(b"42", b'"data":"42"', b'"42"', b'"data":42'),
    b'"42"': Arrives(b'"42"', rb'"data":"\"42\""', rb'"\"42\""', b'"data":"42"'),
    b"null": Arrives(b"null", b'"data":"null"', b'"null"', b'"data":null'),
    b'{"a": 1.10}': Arrives(b'{"a": 1.10}', rb'"data":"{\"a\": 1.10}"', rb'"{\"a\": 1.10}"', b'"data":{"a": 1.10}'),
    b"hello": Arrives(b"hello", b'"data":"hello"', b'"hello"', b'"data":"hello"'),
    b"{1}": Arrives(b"{1}", b'"data":"{1}"', b'"{1}"', b'"data":"{1}"'),
    DEEP: Arrives(DEEP, b'"data":"%b"' % DEEP, b'"%b"' % DEEP, b'"data":"%b"' % DEEP),
    b"\xff\x00": Arrives(
        b"\xff\x00", b'"b64data":"/wA="', b'"/wA=","base64"', b'"data":"/wA=","tags":{"encoding":"base64"}'
    ),
}
TEXTS = [data for data in JSON if data[:1] == b'"' and data != rb'"\ud83d"']
"""The strings that a Python `str` can be: those that UTF-8 can encode."""
FOR_HOOKS = [data for data in JSON if data.isascii() and data not in (rb'"\ud83d"', b'{"a": 1.10}', b"null")]
"""Data that the backend writes with the same spelling; and not null, which stands for the data of the client."""

ENVELOPE = re.compile(rb'\{"channel":"foo",(.*?)(?:,"offset":\d+,"epoch":"[\w-]+")?\}', re.DOTALL)
ARRAY = re.compile(rb'\["message","foo",(.*)\]')
PUSH = re.compile(rb'\{"push":\{"channel":"foo","pub":(\{.*\})\}\}')
OBJECT = re.compile(
    rb'\{("data":.*?)(?:,"b64data":("[^"]*"))?(?:,"info":\{[^}]*\})?(?:,"offset":\d+)?(,"tags":\{[^}]*\})?\}', re.DOTALL
)


def inside(form, data):
    """Return the part of a message that depends on the data."""
    found = form.fullmatch(data)
    assert found, data
    return found[1]


def fields(written):
    """Return the fields of a publication object that depend on the data."""
    found = OBJECT.fullmatch(written)
    assert found, written
    return found[1] + (found[3] or b"")


def connect(server):
    """Open a connection of the Centrifuge protocol."""
    peer = server.open("/connection/websocket")
    ask(peer, b"connect", b"{}")
    return peer


def ask_protobuf(peer, method, **parameters):
    """Send a command of the Protobuf form; return the result."""
    peer.send_frame(BINARY, encode_commands({"id": 1, method: parameters}))
    (reply,) = decode_replies(peer.read_frame().payload)
    return reply[method]


def connect_protobuf(server):
    """Open a connection of the Centrifuge protocol in Protobuf."""
    peer = server.open("/connection/websocket?format=protobuf")
    ask_protobuf(peer, "connect")
    return peer


def split(written):
    """Return the publication objects of the field `publications` of an answer, each as its own JSON text."""
    text = written.decode()
    place, found = text.index('"publications":[') + len('"publications":['), []
    while text[place] != "]":
        end = json.JSONDecoder().raw_decode(text, place)[1]
        found.append(text[place:end].encode())
        place = end + (text[end] == ",")
    return found


class Subscribers:
    """
    A subscriber of each kind.

    Args:
        server: the server.
        epoch: the epoch of the stream from whose start they recover; empty to receive only new publications.
    """

    def __init__(self, server, epoch=""):
        self._server = server
        self._stack = ExitStack()
        opened, forms = self._stack.enter_context, ("raw", "json", "redis")
        last = f"&last_event_id={epoch}:0" if epoch else ""
        self._sockets = {form: opened(server.open(f"/ws?channel=foo&format={form}{last}")) for form in forms}
        self._events = {
            form: Events(opened(server.connect()), f"/sse?channel=foo&format={form}{last}") for form in forms
        }
        self._centrifuge = opened(connect(server))
        recover = b',"recover":true,"epoch":"%b","offset":0' % epoch.encode() if epoch else b""
        reply = ask(self._centrifuge, b"subscribe", b'{"channel":"foo"%b}' % recover)
        self._recovered = split(reply) if epoch else []
        self._protobuf = opened(connect_protobuf(server))
        since = {"recover": True, "epoch": epoch, "offset": 0} if epoch else {}
        self._recovered_protobuf = ask_protobuf(self._protobuf, "subscribe", channel="foo", **since).get(
            "publications", []
        )
        self._received = []
        self._listener = server.ask(
            lambda: server.service.hub.listen(
                "foo", lambda _, one: self._received.append(one), since=Position(0, epoch) if epoch else None
            )
        )
        wait_until(lambda: self._listener.is_listening, "listening")

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self._server.ask(self._listener.stop)
        self._stack.close()

    def read(self):
        """Read one publication from each subscriber; return what arrived, by kind of subscriber."""
        frames = {form: peer.read_frame() for form, peer in self._sockets.items()}
        events = {form: events.read() for form, events in self._events.items()}
        name, event = events["raw"]
        wait_until(lambda: self._received, "the callback called")
        one = self._received.pop(0)
        return {
            "raw": (frames["raw"].opcode, frames["raw"].payload),
            "json": inside(ENVELOPE, frames["json"].payload),
            "redis": inside(ARRAY, frames["redis"].payload),
            "SSE raw": (name, event if name == "message" else inside(ENVELOPE, event)),
            "SSE json": inside(ENVELOPE, events["json"][1]),
            "SSE redis": inside(ARRAY, events["redis"][1]),
            "Centrifuge": fields(self._recovered.pop(0) if self._recovered else self._read_push()),
            "Protobuf": self._read_protobuf(),
            "callback": (one.as_bytes(), one.as_json(), one.json, one.data),
        }

    def _read_push(self):
        return inside(PUSH, self._centrifuge.read_frame().payload)

    def _read_protobuf(self):
        if self._recovered_protobuf:
            return self._recovered_protobuf.pop(0).get("data", b"")
        (reply,) = decode_replies(self._protobuf.read_frame().payload)
        return reply["push"]["pub"].get("data", b"")


def expected(data, row, *, json):
    """Return what `Subscribers.read` must return."""
    is_utf8 = b"b64data" not in row.json
    return {
        "raw": (TEXT if is_utf8 else BINARY, row.raw),
        "json": row.json,
        "redis": row.redis,
        "SSE raw": ("message", row.raw) if is_utf8 else ("bytes", row.json),
        "SSE json": row.json,
        "SSE redis": row.redis,
        "Centrifuge": row.value,
        "Protobuf": data,
        "callback": (row.raw, row.value.removeprefix(b'"data":') if is_utf8 else None, json, data),
    }


class Sources:
    """
    A method for each way to publish.

    Args:
        server: the server.
        options: further parameters of the API, as they are written behind a parameter.
        redis: the Redis of the server; None if it has none.
    """

    def __init__(self, server, options, redis):
        self._server = server
        self._options = options
        self._redis = redis
        self._calls = 0
        self._client = connect(server)
        self._protobuf_client = connect_protobuf(server)

    def close(self):
        """Close the connections of the Centrifuge clients."""
        self._client.socket.close()
        self._protobuf_client.socket.close()

    def _call(self, method, form, data):
        self._calls += 1
        status, answer = api(self._server, method, form % (data + self._options.replace(b"N", b"%d" % self._calls)))
        assert (status, '"error"' in json.dumps(answer)) == (200, False), answer

    def _python(self, data, **options):
        if b"skip_history" in self._options:
            options["skip_history"] = True
        self._server.ask(lambda: self._server.service.hub.publish("foo", data, **options))

    # JSON texts.

    def publish(self, data):
        """Call `publish` of the API."""
        self._call("publish", b'{"channel":"foo","data":%b}', data)

    def broadcast(self, data):
        """Call `broadcast` of the API."""
        self._call("broadcast", b'{"channels":["foo"],"data":%b}', data)

    def batch(self, data):
        """Call `batch` of the API."""
        self._call("batch", b'{"commands":[{"publish":{"channel":"foo","data":%b}}]}', data)

    def client(self, data):
        """Publish with a Centrifuge client."""
        assert ask(self._client, b"publish", b'{"channel":"foo","data":%b}' % data) == b'{"id":1,"publish":{}}'

    def python_json(self, data):
        """Publish a JSON text with the Python API."""
        self._python(data, json=True)

    # Texts: `data` is the text as a JSON string.

    def python_str(self, data):
        """Publish a `str` with the Python API."""
        self._python(json.loads(data))

    def command_line(self, data):
        """Run the function behind `wsserver publish`."""
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        chosen = parser.parse_args(["--url", f"http://127.0.0.1:{self._server.port}", "foo", "-"])
        publish(chosen, {"WSSERVER_API_KEY": KEY}, io.BytesIO(json.loads(data).encode()))

    # Bytes.

    def b64data(self, data):
        """Call `publish` of the API with `b64data`."""
        self._call("publish", b'{"channel":"foo","b64data":%b}', b'"%b"' % base64.b64encode(data))

    def b64data_broadcast(self, data):
        """Call `broadcast` of the API with `b64data`."""
        self._call("broadcast", b'{"channels":["foo"],"b64data":%b}', b'"%b"' % base64.b64encode(data))

    def b64data_batch(self, data):
        """Call `batch` of the API with `b64data`."""
        command = b'{"commands":[{"publish":{"channel":"foo","b64data":%b}}]}'
        self._call("batch", command, b'"%b"' % base64.b64encode(data))

    def protobuf_client(self, data):
        """Publish with a Centrifuge client that speaks Protobuf."""
        assert ask_protobuf(self._protobuf_client, "publish", channel="foo", data=data) == {}

    def python_bytes(self, data):
        """Publish bytes with the Python API."""
        self._python(data)

    def redis_command(self, data):
        """Publish with the command `PUBLISH` of Redis."""
        assert self._redis.publish("foo", data) == 1


FOR_JSON = ("publish", "broadcast", "batch", "client", "python_json")
FOR_TEXTS = ("python_str", "command_line")
FOR_BYTES = ("b64data", "b64data_broadcast", "b64data_batch", "protobuf_client", "python_bytes", "redis_command")
CASES = [
    *((name, data, expected(data, row, json=True)) for data, row in JSON.items() for name in FOR_JSON),
    *((name, data, expected(data, JSON[data], json=True)) for data in TEXTS for name in FOR_TEXTS),
    *((name, data, expected(data, row, json=False)) for data, row in BYTES.items() for name in FOR_BYTES),
]
"""The source, the data, and what must arrive."""

MODES = {
    "history": (200, b"", ()),
    "skip_history": (200, b',"skip_history":true', ("client", "protobuf_client", "command_line")),
    "no history": (0, b"", ()),
    "no history, idempotent": (0, b',"idempotency_key":"N"', ()),
}
"""The history size, the parameters of the API, and the sources that do not have such a parameter."""


@pytest.fixture
def start(request, broker, start_server):
    """
    Return a function that starts a server for sources and one for subscribers, on one Redis; without it, one for both.

    It returns the two servers, and the Redis or None.
    """

    def start(**options):
        options = {"api_key": KEY, "ping_interval": 0.0} | broker | options
        server = up(start_server(**options))
        return server, up(start_server(**options)) if broker else server, redis

    redis = request.getfixturevalue("redis") if broker else None
    return start


def differences(name, data, got, right):
    """Return what did not arrive as it should: source, data and kind of subscriber -> what arrived."""
    return {(name, data, kind): got[kind] for kind in right if got[kind] != right[kind]}


class TypeTests:
    """The table of what arrives."""

    @pytest.mark.parametrize("mode", MODES)
    def test_data_keeps_its_type_from_every_source_to_every_subscriber(self, start, mode):
        """With a history, recovery and the history return the same again."""
        size, options, without = MODES[mode]
        publishing, subscribing, redis = start(history_size=size, channel_publish=("foo",))
        cases = [case for case in CASES if case[0] not in without and (redis or case[0] != "redis_command")]
        sources, wrong = Sources(publishing, options, redis), {}
        with Subscribers(subscribing) as subscribers:
            for name, data, right in cases:
                getattr(sources, name)(data)
                wrong |= differences(name, data, subscribers.read(), right)
        sources.close()
        assert not wrong
        stored = [case for case in cases if case[0] != "redis_command"] if mode == "history" else []
        self._check_history(subscribing, stored)

    def _check_history(self, server, stored):
        page = server.ask(lambda: server.service.hub.history("foo", limit=-1))
        assert len(page.publications) == len(stored)
        if not stored:
            return
        wrong = {}
        with Subscribers(server, page.position.epoch) as subscribers:
            for name, data, right in stored:
                wrong |= differences(name, data, subscribers.read(), right)
        with connect_protobuf(server) as peer:
            ask_protobuf(peer, "subscribe", channel="foo")
            page = ask_protobuf(peer, "history", channel="foo", limit=-1)["publications"]
        assert [one.get("data", b"") for one in page] == [data for _, data, _ in stored]
        with connect(server) as peer:
            ask(peer, b"subscribe", b'{"channel":"foo"}')
            written = split(ask(peer, b"history", b'{"channel":"foo","limit":-1}'))
        assert [fields(one) for one in written] == [right["Centrifuge"] for _, _, right in stored]
        with server.connect() as peer:
            body = b'{"channel":"foo","limit":-1}'
            answer = peer.request("/api/history", f"X-API-Key: {KEY}", method="POST", body=body).body
        for written, (_, data, right) in zip(split(answer), stored, strict=True):
            encoded = OBJECT.fullmatch(written)[2]
            if encoded is None:
                assert fields(written) == right["Centrifuge"]
            else:
                assert (fields(written), encoded) == (b'"data":null', b'"%b"' % base64.b64encode(data))
        assert not wrong

    @pytest.mark.parametrize("data", BYTES)
    def test_the_publish_hook_receives_the_data_of_a_protobuf_client(self, start, backend, data):
        """As JSON if it is JSON, else in base64. What it allows is published byte for byte."""
        publishing, subscribing, _ = start(hook_publish=backend.url())
        backend.answer = lambda path, body: {"result": {}}
        with connect_protobuf(publishing) as client, Subscribers(subscribing) as subscribers:
            assert ask_protobuf(client, "publish", channel="foo", data=data) == {}
            wrong = differences("hook", data, subscribers.read(), expected(data, BYTES[data], json=False))
        ((_, _, body),) = backend.requests
        assert body["protocol"] == "protobuf"
        if "b64data" in body:
            assert base64.b64decode(body["b64data"]) == data
        else:
            assert json.loads(data) == body["data"]
        assert not wrong

    @pytest.mark.parametrize("size", [0, 200])
    def test_data_of_a_publish_hook_keeps_its_type(self, start, backend, size):
        """The hook allows the data of the client, or replaces it, with and without the history."""
        publishing, subscribing, _ = start(history_size=size, hook_publish=backend.url())
        wrong = {}
        with connect(publishing) as client, Subscribers(subscribing) as subscribers:
            for data, replace, skip in itertools.product(FOR_HOOKS, (False, True), (False, True)):
                answer = {"skip_history": skip} | ({"data": json.loads(data)} if replace else {})
                backend.answer = lambda path, body, answer=answer: {"result": answer}
                sent = b"1" if replace else data
                assert ask(client, b"publish", b'{"channel":"foo","data":%b}' % sent) == b'{"id":1,"publish":{}}'
                wrong |= differences(f"hook {answer}", data, subscribers.read(), expected(data, JSON[data], json=True))
        assert not wrong
