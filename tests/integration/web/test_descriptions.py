"""What a running server sends is what its OpenAPI and AsyncAPI descriptions say."""

import json
import subprocess
import sys
import time

import pytest
from http_api import KEY, up
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from paths import DOCS
from tokens import SECRET, token

CALLS = {
    "publish": {"channel": "news", "data": {"n": 1}, "tags": {"lang": "en"}},
    "broadcast": {"channels": ["a", "wsserver:b"], "data": "x"},
    "subscribe": {"user": "42", "channel": "news"},
    "unsubscribe": {"user": "42", "channel": "news"},
    "refresh": {"user": "42", "expire_at": 2_000_000_000},
    "presence": {"channel": "room"},
    "presence_stats": {"channel": "room"},
    "history": {"channel": "news", "limit": -1},
    "history_remove": {"channel": "news"},
    "channels": {},
    "connections": {"limit": 1},
    "info": {},
    "rejects": {},
    "disconnect": {"user": "42"},
    "batch": {"commands": [{"publish": {"channel": "news", "data": 1}}, {"history": {"channel": ""}}]},
}
"""Method -> the parameters of a call that has a result, in the order of the calls."""


@pytest.fixture
def start(start_server):
    """Return a function that starts a server with an API key, history and presence."""
    return lambda: up(start_server(api_key=KEY, channel_presence=("room",), channel_allow=("*",), token_secret=SECRET))


def fetch(server, path):
    """Return a JSON document that needs no key."""
    with server.connect() as peer:
        response = peer.request(path)
        assert (response.status, response.header("content-type")) == (200, "application/json")
        return json.loads(response.body)


def check(schema, components, value):
    """Check a value against a schema, whose references lead to the components of a description."""
    Draft202012Validator({**schema, "components": components}).validate(value)


class OpenAPITests:
    """The HTTP API."""

    def test_the_description_is_served_without_a_key_and_differs_from_the_file_only_in_its_url(self, start):
        server = start()
        served = fetch(server, "/api/openapi.json")
        validate(served)
        file = json.loads((DOCS / "reference" / "openapi.json").read_text("utf-8"))
        assert served.pop("servers") == [{"url": "../"}]
        assert file.pop("servers") != []
        assert served == file

    def test_every_result_has_the_form_that_the_description_says(self, start):
        server = start()
        described = fetch(server, "/api/openapi.json")
        assert {f"/api/{name}" for name in CALLS} == set(described["paths"])
        ann = token({"sub": "42", "exp": int(time.time()) + 60})
        with (
            server.open(f"/ws?channel=room,news&token={ann}"),
            server.open("/connection/websocket") as client,
            server.connect() as peer,
        ):
            command = {"id": 1, "connect": {"token": ann}}
            client.send_frame(1, json.dumps(command).encode())
            client.read_message()
            client.send_frame(1, b'{"id":2,"subscribe":{"channel":"room"}}')
            client.read_message()
            with server.connect() as refused:
                refused.request("/api/info", method="POST")
            for name, parameters in CALLS.items():
                body = json.dumps(parameters).encode()
                response = peer.request(f"/api/{name}", f"X-API-Key: {KEY}", method="POST", body=body)
                answers = described["paths"][f"/api/{name}"]["post"]["responses"]
                schema = answers[str(response.status)]["content"]["application/json"]["schema"]
                check(schema, described["components"], json.loads(response.body))
                assert (name, response.status) == (name, 400 if name in ("broadcast", "batch") else 200)

    @pytest.mark.parametrize("status", ["400", "401", "404"])
    def test_every_error_has_the_form_that_the_description_says(self, start, status):
        server = start()
        described = fetch(server, "/api/openapi.json")
        path = "/api/nothing" if status == "404" else "/api/publish"
        lines = () if status == "401" else (f"X-API-Key: {KEY}",)
        with server.connect() as peer:
            response = peer.request(path, *lines, method="POST", body=b"{}")
        assert str(response.status) == status
        schema = described["paths"]["/api/publish"]["post"]["responses"][status]["content"]["application/json"][
            "schema"
        ]
        check(schema, described["components"], json.loads(response.body))

    def test_schemathesis_finds_no_answer_that_the_description_does_not_allow(self, start, tmp_path):
        """As `make fuzz-sockets` does for longer; see tests/fuzz/fuzz_bodies.py for the excluded checks."""
        origin = f"http://127.0.0.1:{start().port}"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/api/openapi.json", "--no-color"]
        command += [
            "--header",
            f"X-API-Key: {KEY}",
            "--phases",
            "fuzzing",
            "--max-examples",
            "1",
            "--seed",
            "1",
        ]
        command += ["--exclude-checks", "negative_data_rejection,positive_data_acceptance", "--no-shrink"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert "generated" in done.stdout, done.stdout + done.stderr
        assert "Failures:" not in done.stdout, done.stdout


class AsyncAPITests:
    """The WebSocket endpoints."""

    @pytest.mark.parametrize(
        ("path", "sent", "message"),
        [
            ("/", "name", "text"),
            ("/echo", "hello", "text"),
            ("/whoami", "again", "json"),
            ("/ticker?every=20ms&text=tock", None, "tick"),
            ("/ws?channel=news&format=json", None, "publication"),
            ("/connection/websocket", '{"id":1,"connect":{}}', "centrifugeReplies"),
            ("/connection/uni_websocket", '{"subs":{"news":{}}}', "centrifugePush"),
        ],
    )
    def test_a_message_has_the_form_that_the_description_says(self, start_server, path, sent, message):
        server = up(start_server(api_key=KEY, channel_allow=("*",)))
        described = fetch(server, "/asyncapi.json")
        [channel] = [one for one in described["channels"].values() if one["address"] == path.partition("?")[0]]
        assert message in channel["messages"]
        with server.open(path) as peer:
            if sent is not None:
                peer.send_frame(1, sent.encode())
            elif "channel=" in path:
                with server.connect() as backend:
                    body = b'{"channel": "news", "data": {"n": 1}}'
                    backend.request("/api/publish", f"X-API-Key: {KEY}", method="POST", body=body)
            frame = peer.read_frame()
            while frame.opcode not in (1, 2):
                frame = peer.read_frame()
            received = frame.payload.decode()
        about = described["components"]["messages"][message]
        value = json.loads(received) if received.startswith("{") else received
        check(about["payload"], described["components"], value)
