"""
Publications are delivered byte for byte: 10,000 random JSON texts, from every publisher to every subscriber.

Set VALUES_SEED in the environment to repeat a failed run.
"""

import argparse
import http.client
import io
import json
import os
import random
import re
import subprocess

import pytest
from centrifuge_client import ask
from command_line import PROGRAM, environment
from events import Events
from http_api import KEY, up
from peers import TEXT
from pytest_twisted import blockon
from twisted.internet.threads import deferToThread

from wsserver.cli.publish import add_arguments, publish

SPACES = ["", "", "", "", " ", "\n", "\t", "\r\n", "\r", "  \n "]
NUMBERS = [
    *("0", "-0", "0.0", "-0.0", "1E5", "1e+5", "1.10", "0.1e400", "1e-400", "1E400", "123456789.123456789123456789"),
    *("9007199254740993", "18446744073709551616", "-1e-0", "0E0", "1" * 400, "0." + "3" * 300),
]
PIECES = [
    *("a", "ü", "世", "\U0001f600", "\x7f", "\u2028", "\ufeff", "]", "}", ",", ":", " ", "</script>"),
    *(r"\"", r"\\", r"\/", "/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\u00fC", r"\u0000", r"\u2028"),
    *(r"\ud83d\ude00", r"\uD83D\uDE00", r"\ud83d", r"\uDE00", r"\udfff\ud800", r"\\ud83d", r"\ud83d\ud83d\ude00"),
]


class Texts:
    """
    Random JSON texts.

    Args:
        seed: the same seed gives the same texts.
    """

    def __init__(self, seed):
        self._random = random.Random(seed)

    def text(self):
        """Return a random value, occasionally one of the maximum depth or a number with thousands of digits."""
        kind = self._random.random()
        if kind < 0.002:
            depth = self._random.randrange(100, 250)
            return "[" * depth + self.value(0) + "]" * depth
        if kind < 0.003:
            return "-" + "7" * 5001
        return self.value(self._random.choice([0, 0, 1, 2, 3]))

    def value(self, depth):
        """Return a random value that is nested `depth` levels deep."""
        kind = self._random.randrange(2 if depth else 0, 5) if depth else self._random.randrange(3)
        if kind == 0:
            return self._random.choice(["true", "false", "null"])
        if kind == 1:
            return self._number()
        if kind == 2:
            return self._string()
        members = [self._spaced(self.value(depth - 1)) for _ in range(self._random.randrange(4))]
        if kind == 3:
            return "[" + (",".join(members) or self._space()) + "]"
        named = [self._spaced(self._string()) + ":" + member for member in members]
        return "{" + (",".join(named) or self._space()) + "}"

    def _number(self):
        if self._random.random() < 0.5:
            return self._random.choice(NUMBERS)
        digits = str(self._random.randrange(10 ** self._random.randrange(1, 30)))
        fraction = "." + str(self._random.randrange(1000)) + "0" * self._random.randrange(3)
        exponent = self._random.choice("eE") + self._random.choice(["", "+", "-"]) + str(self._random.randrange(400))
        return (
            self._random.choice(["", "-"]) + digits + self._random.choice(["", fraction, exponent, fraction + exponent])
        )

    def _string(self):
        return '"' + "".join(self._random.choices(PIECES, k=self._random.randrange(8))) + '"'

    def _space(self):
        return self._random.choice(SPACES)

    def _spaced(self, text):
        return self._space() + text + self._space()


# How each protocol delivers a text (docs/reference/channels.md).


def as_raw(text):
    """
    Return the data as the format `raw` delivers it.

    A JSON string that UTF-8 can encode is delivered as its characters; any other value is delivered as its JSON text.
    """
    if text[:1] == b'"':
        try:
            return json.loads(text).encode()
        except UnicodeEncodeError:
            return text
    return text


def as_lines(data):
    """Return the data as Server-Sent Events deliver it: every line end becomes a line feed."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def as_one_line(text):
    """Return the text as the Centrifuge protocol delivers it: every line feed becomes a space."""
    return text.replace(b"\n", b" ")


ENVELOPE = re.compile(rb'\{"channel":"values","data":(.*?)(?:,"offset":\d+,"epoch":"\w+")?\}', re.DOTALL)
PUSH = re.compile(
    rb'\{"push":\{"channel":"values","pub":\{"data":(.*?)(?:,"info":\{"client":"[\w-]+","user":""\})?(?:,"offset":\d+)?\}\}\}',
    re.DOTALL,
)


def inside(form, data):
    """Return the text inside an envelope."""
    found = form.fullmatch(data)
    assert found, data
    return found[1]


def publications(answer):
    """Return the JSON texts in a history answer of the API or of the Centrifuge protocol."""
    return re.findall(rb'\{"data":(.*?),"offset":\d+\}(?=[,\]])', answer, re.DOTALL)


class Subscribers:
    """One subscriber of every kind."""

    def __init__(self, server):
        self._server = server

    def __enter__(self):
        server = self._server
        self._raw = server.open("/ws?channel=values")
        self._json = server.open("/ws?channel=values&format=json")
        self._sse, self._sse_json = server.connect(), server.connect()
        self._events = Events(self._sse, "/sse?channel=values")
        self._json_events = Events(self._sse_json, "/sse?channel=values&format=json")
        self._centrifuge = server.open("/connection/websocket")
        ask(self._centrifuge, b"connect", b"{}")
        ask(self._centrifuge, b"subscribe", b'{"channel":"values"}')
        self.last_event_id = ""
        return self

    def __exit__(self, *about):
        for peer in (self._raw, self._json, self._sse, self._sse_json, self._centrifuge):
            peer.socket.close()

    def check(self, texts):
        """Read one publication per text from every subscriber and compare it with the text."""
        for text in texts:
            assert self._raw.read_frame().payload == as_raw(text)
            assert inside(ENVELOPE, self._json.read_frame().payload) == text
            assert self._events.read() == ("message", as_lines(as_raw(text)))
            assert inside(ENVELOPE, self._json_events.read()[1]) == as_lines(text)
            assert inside(PUSH, self._centrifuge.read_frame().payload) == as_one_line(text)
        self.last_event_id = self._events.last_event_id


class Publishers:
    """One method for each way to publish."""

    def __init__(self, server):
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._centrifuge = server.open("/connection/websocket")
        ask(self._centrifuge, b"connect", b"{}")

    def close(self):
        """Close the connections."""
        self._connection.close()
        self._centrifuge.socket.close()

    def _post(self, method, body):
        self._connection.request("POST", f"/api/{method}", body, {"X-API-Key": KEY})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer

    def publish(self, texts):
        """Call the method `publish` of the API once for each text."""
        for text in texts:
            self._post("publish", b'{"channel":"values","data":%b}' % text)

    def broadcast(self, texts):
        """Call the method `broadcast` of the API once for each text, with two channels."""
        for text in texts:
            self._post("broadcast", b'{"channels":["values","other"],"data": %b }' % text)

    def batch(self, texts):
        """Call the API once; every second publication skips the history."""
        more = (b"", b',"skip_history":true')
        commands = [
            b'{"publish":{"channel":"values","data":\n%b%b}}' % (text, more[number % 2])
            for number, text in enumerate(texts)
        ]
        self._post("batch", b'{"commands":[%b]}' % b",".join(commands))

    def client(self, texts):
        """Publish in one frame of the Centrifuge protocol."""
        lines = [
            b'{"id":%d,"publish":{"channel":"values","data":%b}}' % (number, as_one_line(text))
            for number, text in enumerate(texts, 2)
        ]
        self._centrifuge.send_frame(TEXT, b"\n".join(lines))
        replies = 0
        while replies < len(texts):
            for reply in self._centrifuge.read_frame().payload.split(b"\n"):
                assert json.loads(reply).get("publish") == {}, reply
                replies += 1

    def command(self, texts):
        """Call the function behind `wsserver publish --json`, with the text on standard input."""
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        chosen = parser.parse_args(["--json", "--url", f"http://127.0.0.1:{self._server.port}", "values", "-"])
        for text in texts:
            publish(chosen, {"WSSERVER_API_KEY": KEY}, io.BytesIO(text))

    def program(self, texts):
        """Run `wsserver publish --json`, with the text as an argument."""
        for text in texts:
            url = f"http://127.0.0.1:{self._server.port}"
            words = [PROGRAM, "publish", "--json", "--url", url, "--", "values", text]
            subprocess.run(words, env=environment(WSSERVER_API_KEY=KEY), check=True, capture_output=True, timeout=60)


PLAN = [("publish", 500, 50), ("broadcast", 300, 50), ("batch", 5000, 100), ("client", 3900, 100)]
PLAN += [("command", 297, 50), ("program", 3, 3)]
"""Method of `Publishers`, number of texts, and how many are published before the subscribers read."""


@pytest.fixture
def servers(broker, start_server):
    """Start one server for publishers and one for subscribers, on one Redis; without Redis, one for both."""
    # Without pings, subscribers receive only publications however long the test takes.
    options = {"api_key": KEY, "channel_publish": ("values",), "history_size": 200, "ping_interval": 0.0} | broker

    def start():
        server = up(start_server(**options))
        return server, up(start_server(**options)) if "redis" in options else server

    return blockon(deferToThread(start))


class EveryRouteTests:
    """Every publisher, every subscriber, the history and recovery."""

    def test_random_texts_arrive_byte_for_byte(self, servers):
        """Subscribers receive 10,000 texts (2,500 over Redis); history and recovery return a hundred more."""
        seed = int(os.environ.get("VALUES_SEED") or random.randrange(2**32))
        texts = Texts(seed)
        publishing, subscribing = servers
        # Over Redis each publication waits until the one before it is stored, so only a quarter is published.
        divisor = 1 if publishing is subscribing else 4
        assert sum(count for _, count, _ in PLAN) == 10_000
        try:
            publishers = Publishers(publishing)
            with Subscribers(subscribing) as subscribers:
                for way, count, size in PLAN:
                    for _ in range(0, count // divisor or 1, size):
                        some = [texts.text().encode() for _ in range(size)]
                        getattr(publishers, way)(some)
                        subscribers.check([as_one_line(text) if way == "client" else text for text in some])
                self._check_again(publishers, subscribers, texts, publishing, subscribing)
            publishers.close()
        except BaseException:
            print(f"VALUES_SEED={seed}")
            raise

    def _check_again(self, publishers, subscribers, texts, publishing, subscribing):
        position, missed = subscribers.last_event_id, [texts.text().encode() for _ in range(100)]
        publishers.publish(missed)
        with subscribing.connect() as peer:
            events = Events(peer, f"/sse?channel=values&last_event_id={position}")
            assert [events.read()[1] for _ in missed] == [as_lines(as_raw(text)) for text in missed]
        epoch, _, offset = position.encode().partition(b":")
        since = b'{"channel":"values","limit":-1,"since":{"epoch":"%b","offset":%b}}' % (epoch, offset)
        with subscribing.connect() as peer:
            answer = peer.request("/api/history", f"X-API-Key: {KEY}", method="POST", body=since)
            assert publications(answer.body) == missed
        with subscribing.open("/connection/websocket") as peer:
            ask(peer, b"connect", b"{}")
            recover = b'{"channel":"values","recover":true,"epoch":"%b","offset":%b}' % (epoch, offset)
            for method, parameters in ((b"subscribe", recover), (b"history", since)):
                found = publications(ask(peer, method, parameters))
                assert found == [as_one_line(text) for text in missed]
