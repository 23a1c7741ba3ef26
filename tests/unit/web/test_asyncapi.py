"""Tests for wsserver/web/asyncapi.py: the AsyncAPI description of the WebSocket endpoints."""

import json
import subprocess

import pytest
from node import install_node_packages
from paths import DOCS, TESTS

from wsserver.config.settings import Settings
from wsserver.endpoints.faults.table import TABLE
from wsserver.endpoints.routes import HELP
from wsserver.testing import MemoryServer
from wsserver.web.asyncapi import MESSAGES, QUERIES, asyncapi_file, describe_websockets

FILE = DOCS / "reference" / "asyncapi.json"


def test_the_file_is_what_make_docs_generates():
    assert FILE.read_text("utf-8") == asyncapi_file()


def fetch(**settings):
    """Return the description that a server serves."""
    client = MemoryServer(Settings(**settings)).connect()
    client.send(b"GET /asyncapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = bytes(client.transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    return body


@pytest.mark.parametrize("faults", [False, True])
def test_the_official_parser_accepts_the_description(faults, tmp_path):
    """It recommends the latest version of AsyncAPI, which few tools support, and has nothing else to say."""
    node = install_node_packages()
    file = tmp_path / "asyncapi.json"
    file.write_bytes(fetch(faults=True, cases=True) if faults else FILE.read_bytes())
    command = ["node", str(TESTS / "support" / "parse_asyncapi.mjs"), str(node), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert [one for one in found["diagnostics"] if one["code"] != "asyncapi-latest-version"] == []
    assert found["channels"] == len(HELP) + (len(TABLE) if faults else 0)


class FaultsTests:
    """The faults of a server with `--faults`."""

    def test_describes_the_parameters_of_each_fault(self):
        described = json.loads(fetch(faults=True))
        channel = described["channels"]["faultsClose"]
        assert channel["address"] == "/faults/close"
        query = channel["bindings"]["ws"]["query"]["properties"]
        assert query["code"] == {
            "type": "integer",
            "description": "The close code.",
            "default": 1000,
            "minimum": 0,
            "maximum": 65535,
        }
        assert query["wait"]["description"].endswith("From 0s to 5m.")
        assert query["pong"] == {"$ref": "#/components/schemas/FaultParameterPong"}
        assert described["components"]["schemas"]["FaultParameterPong"]["enum"] == ["right", "none", "wrong"]
        assert described["operations"]["sendFaultsClose"]["channel"] == {"$ref": "#/channels/faultsClose"}

    def test_a_fault_in_place_of_the_response_has_no_messages(self):
        described = json.loads(fetch(faults=True))
        assert described["channels"]["faultsStatus"]["messages"] == {}
        assert "sendFaultsStatus" not in described["operations"]

    def test_a_default_of_a_common_parameter_is_that_of_the_fault(self):
        channels = json.loads(fetch(faults=True))["channels"]
        query = channels["faultsNoPong"]["bindings"]["ws"]["query"]["properties"]
        assert query["pong"]["default"] == "none"

    def test_a_server_without_faults_describes_none(self):
        assert b"/faults/" not in fetch()


def test_every_path_with_messages_or_a_query_of_its_own_exists():
    assert (MESSAGES.keys() | QUERIES.keys()) - HELP.keys() == set()


def test_describes_the_endpoints_of_an_application_and_their_prefixes():
    described = describe_websockets({"/shout": "shouts", "/rooms/": "a room", "/ro.oms": "dots"}, [])
    assert {one["address"] for one in described["channels"].values()} == {"/shout", "/rooms/{rest}", "/ro.oms"}
    assert described["channels"]["roomsPaths"]["parameters"] == {"rest": {"description": "The rest of the path."}}
    assert len(described["operations"]) == 6


def test_paths_that_differ_only_in_punctuation_have_different_names():
    assert len(describe_websockets({"/a-b": "", "/a/b": "", "/a_b": ""}, [])["channels"]) == 3


@pytest.mark.parametrize("path", ["/", "/ws", "/echo", "/connection/websocket"])
def test_a_server_serves_the_description_of_its_paths(path):
    body = fetch()
    assert path in {one["address"] for one in json.loads(body)["channels"].values()}
